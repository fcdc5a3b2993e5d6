"""Takes sources out of a table: what is left of the parts that hold their rows, staged for a commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ingestlab.analytics.aggregates.files import recompute_partials
from ingestlab.analytics.profiles.files import reprofile
from ingestlab.core.models import AGGREGATES, PARQUET, Manifest, Part, Profiled, Staged
from ingestlab.engine.assemble import Batch
from ingestlab.engine.services import Services
from ingestlab.engine.task.rewrite import rewrite
from ingestlab.lake.arrow_schema import joined_types
from ingestlab.lake.log import by_sink, last_note, live_parts, with_partials
from ingestlab.lake.table import Table
from ingestlab.lake.table_schema import types_of_owners
from ingestlab.pipeline.catalog import PipelineSource, load


@dataclass(frozen=True)
class Left:
    """What is left of a table without some sources.

    Attributes:
        old: These files, of whatever sink.
        sinks: What is left of them, staged, by sink; each of the table is named, with its latest note.
        profile: The profiles of what is left.
        replaced: The targets that go.
        types: Of the columns of the rows; none if that is not known.
    """

    old: tuple[Part, ...]
    sinks: dict[str, Staged]
    profile: tuple[Profiled, ...]
    replaced: tuple[str, ...]
    types: dict[str, tuple[str, ...]]

    def added_to(self, batch: Batch, uris: Sequence[str]) -> Batch:
        """Let a batch replace the rows of sources."""
        return batch.model_copy(
            update={
                "sinks": self.sinks | {name: self._with(name, staged) for name, staged in batch.sinks.items()},
                "profile": (*batch.profile, *self.profile),
                "superseded": tuple(uris),
                "replaced": self.replaced,
                "types": self._types(batch),
            }
        )

    def _with(self, name: str, staged: Staged) -> Staged:
        """Add what is left to what a batch has for a sink."""
        left = self.sinks.get(name, Staged())
        note = left.note if staged.note is None else staged.note
        return Staged(files=(*staged.files, *left.files), note=note)

    def _types(self, batch: Batch) -> dict[str, tuple[str, ...]]:
        rows = self.sinks[PARQUET].files
        if rows and not self.types:
            return {}
        return joined_types(batch.types, self.types if rows else {})


def without(
    uris: Collection[str],
    batch: str,
    table: Table,
    code: PipelineSource | None,
    history: Sequence[Manifest],
    services: Services,
) -> Left:
    """Stage what is left of a table when some sources go. The caller holds its rewrite lock.

    Args:
        uris: The sources.
        batch: In whose staging folder it waits.
        table: Which loses them.
        code: Whose aggregates the table has; None if that is not known, and readers are to compute them.
        history: The table's manifests.
        services: The connections to use.
    """
    cluster, settings = services.cluster, services.settings
    live = list(live_parts(history))
    old = [p for p in live if set(p.sources) & set(uris)]
    calls = [(p.to_dict(), sorted(uris), batch, settings.lake_url, settings.storage_options) for p in old]
    keys = [f"rewrite-{table.name}-{batch[:8]}-{i}" for i in range(len(old))]
    rest = [Part.from_dict(r) for _, r in cluster.map(rewrite, calls, keys) if r]
    left = by_sink(rest, history)
    rows, gone = left.get(PARQUET, []), [p.target for p in old]
    left[PARQUET] = rows
    if code and load(code).aggregates:
        left[AGGREGATES] = recompute_partials(rows, batch, table.where, code, cluster, settings)
    return Left(
        old=tuple(old),
        sinks={name: Staged(files=tuple(files), note=last_note(history, name)) for name, files in left.items()},
        profile=reprofile(rows, gone, history, live, table.folder, cluster, settings),
        replaced=with_partials(gone, history),
        types=types_of_owners(history, gone),
    )
