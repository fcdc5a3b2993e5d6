"""Takes sources out of a table: what is left of the parts that hold their rows, staged for a commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ingestlab.analytics.aggregates.files import restate_all
from ingestlab.analytics.profiles.files import reprofile
from ingestlab.core.models import Manifest, Part, Profiled
from ingestlab.engine.assemble import Batch
from ingestlab.engine.services import Services
from ingestlab.engine.task.rewrite import rewrite
from ingestlab.lake.arrow_schema import joined_types
from ingestlab.lake.log import live_parts, sorted_out, with_states
from ingestlab.lake.table import Table
from ingestlab.lake.table_schema import types_of_owners
from ingestlab.pipeline.catalog import PipelineSource


@dataclass(frozen=True)
class Left:
    """What a commit needs that replaces all parts with rows of some sources.

    Attributes:
        old: These parts: of rows, rejects and vectors.
        rows: Staged, what is left of the rows.
        rejects: Of the rejects.
        vectors: Of the vectors.
        states: The partial aggregates of the rows.
        profile: Their profiles.
        replaced: The targets that go.
        types: Of the columns of the rows; none if that is not known.
    """

    old: tuple[Part, ...]
    rows: tuple[Part, ...]
    rejects: tuple[Part, ...]
    vectors: tuple[Part, ...]
    states: tuple[Part, ...]
    profile: tuple[Profiled, ...]
    replaced: tuple[str, ...]
    types: dict[str, tuple[str, ...]]

    def added_to(self, batch: Batch, uris: Sequence[str]) -> Batch:
        """A batch that replaces the rows of sources, with what is left of the parts they were in."""
        return batch.model_copy(
            update={
                "parts": (*batch.parts, *self.rows),
                "states": (*batch.states, *self.states),
                "profile": (*batch.profile, *self.profile),
                "rejects": (*batch.rejects, *self.rejects),
                "vectors": (*batch.vectors, *self.vectors),
                "superseded": tuple(uris),
                "replaced": self.replaced,
                "types": self._types(batch),
            }
        )

    def _types(self, batch: Batch) -> dict[str, tuple[str, ...]]:
        if self.rows and not self.types:
            return {}
        return joined_types(batch.types, self.types if self.rows else {})


def without(
    uris: Collection[str],
    batch: str,
    table: Table,
    code: PipelineSource | None,
    history: Sequence[Manifest],
    services: Services,
) -> Left:
    """Stages what is left of a table when some sources go, one Dask task a part. The caller holds its rewrite lock.

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
    found = [Part.from_dict(r) for _, r in cluster.map(rewrite, calls, keys) if r]
    rows, rejects, vectors = sorted_out(found, *table.where)
    gone = [p.target for p in old]
    return Left(
        old=tuple(old),
        rows=tuple(rows),
        rejects=tuple(rejects),
        vectors=tuple(vectors),
        states=tuple(restate_all(rows, batch, table.where, code, cluster, settings)) if code else (),
        profile=reprofile(rows, gone, history, live, table.folder, cluster, settings),
        replaced=with_states(gone, history),
        types=types_of_owners(history, gone),
    )
