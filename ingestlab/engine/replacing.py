"""What a commit says that replaces files of a table: new ones with the same rows, or without some sources."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from ingestlab.analytics.profiles.files import reprofile
from ingestlab.core.models import PARQUET, Change, DataFile, Manifest, Profiled, Staged
from ingestlab.engine.assemble import Batch
from ingestlab.engine.services import Services
from ingestlab.engine.task.rewrite import rewrite
from ingestlab.lake.arrow_schema import joined_types
from ingestlab.lake.log import by_sink, last_note, live_parts, with_partials
from ingestlab.lake.table import Table
from ingestlab.lake.table_schema import types_of_owners
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.opening import filled_by


@dataclass(frozen=True)
class Replacement:
    """New files in place of old ones.

    Attributes:
        sinks: The new files, staged, by sink; each sink of the table is named.
        profile: The profiles of the new data files, and of others that shared one with an old file.
        replaced: The targets that go.
        types: Of the columns of the rows; none if there are no rows, or it is not known.
        old: The files that go, of whatever sink, where sources are taken out.
    """

    sinks: dict[str, Staged]
    profile: tuple[Profiled, ...]
    replaced: tuple[str, ...]
    types: dict[str, tuple[str, ...]]
    old: tuple[DataFile, ...] = ()

    def change(self, history: Sequence[Manifest], **more: Any) -> Change:
        """Make the change of its commit. `more` are other fields of :class:`Change`."""
        said = {name: getattr(self, name) for name in ("sinks", "profile", "replaced", "types")}
        by = {"pipeline": history[-1].pipeline, "code": history[-1].code}
        return Change(**(by | said | more))

    def added_to(self, batch: Batch, uris: Sequence[str]) -> Batch:
        """Let a batch replace the rows of sources."""
        unknown = self.sinks[PARQUET].files and not self.types
        return batch.model_copy(
            update={
                "sinks": self.sinks | {name: self._with(name, staged) for name, staged in batch.sinks.items()},
                "profile": (*batch.profile, *self.profile),
                "superseded": tuple(uris),
                "replaced": self.replaced,
                "types": {} if unknown else joined_types(batch.types, self.types),
            }
        )

    def _with(self, name: str, staged: Staged) -> Staged:
        """Add what is left to what a batch has for a sink."""
        left = self.sinks.get(name, Staged())
        note = left.note if staged.note is None else staged.note
        return Staged(files=(*staged.files, *left.files), note=note)


def replacement(
    new: Iterable[DataFile],
    gone: Sequence[str],
    batch: str,
    table: Table,
    code: PipelineSource | None,
    history: Sequence[Manifest],
    services: Services,
    soon: Collection[str] = (),
    past: Sequence[Manifest] = (),
) -> Replacement:
    """Say what a commit does that replaces files by new ones.

    Args:
        new: The new files, staged, of whatever sink.
        gone: The targets of the old ones.
        batch: In whose staging folder the new ones wait.
        table: Which table.
        code: Whose aggregates it has; None if that is not known, and readers are to compute them.
        history: The table's manifests.
        services: The connections to use.
        soon: Targets of files that are about to be replaced too: they need no profile.
        past: Commits of which files come back.
    """
    cluster, settings, files = services.cluster, services.settings, by_sink(new, [*past, *history])
    rows, live = files[PARQUET], list(live_parts(history))
    for name in filled_by(load(code)) if code else ():
        derived = services.lake.sinks[name].derive(code, table.where, batch, rows)
        files.setdefault(name, []).extend(chain.from_iterable(derived.values()))
    return Replacement(
        sinks={name: Staged(files=tuple(some)) for name, some in files.items()},
        profile=reprofile(rows, gone, history, live, table.folder, cluster, settings, soon),
        replaced=with_partials(gone, history),
        types=types_of_owners(history, gone) if rows else {},
    )


def without(
    uris: Collection[str],
    batch: str,
    table: Table,
    code: PipelineSource | None,
    history: Sequence[Manifest],
    services: Services,
) -> Replacement:
    """Stage what is left of a table when some sources go. The caller holds its rewrite lock.

    Args:
        uris: The sources.
        batch: In whose staging folder it waits.
        table: Which loses them.
        code: Whose aggregates the table has; None if that is not known, and readers are to compute them.
        history: The table's manifests.
        services: The connections to use.

    Returns:
        What is left; each sink gets its latest note, for it may have to take something out.
    """
    settings = services.settings
    old = [p for p in live_parts(history) if set(p.sources) & set(uris)]
    calls = [(p.to_dict(), sorted(uris), batch, settings.lake_url, settings.storage_options) for p in old]
    keys = [f"rewrite-{table.name}-{batch[:8]}-{i}" for i in range(len(old))]
    rest = [DataFile.from_dict(r) for _, r in services.cluster.map(rewrite, calls, keys) if r]
    left = replacement(rest, [p.target for p in old], batch, table, code, history, services)
    noted = {name: Staged(files=s.files, note=last_note(history, name)) for name, s in left.sinks.items()}
    return replace(left, sinks=noted, old=tuple(old))
