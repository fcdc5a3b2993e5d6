"""Which profile belongs to which parts: kept in manifests, good as long as all of its parts live.

A task profiles the rows that it publishes, so a manifest has a profile for each task, or for some tasks
together where there are many. A commit that replaces parts profiles what is left of them anew, and with them
the parts that shared a profile with them: rows cannot be taken out of a profile. A reader believes the profiles
whose parts all live, and reads the parts that none covers, such as those of older versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ingestlab.analytics.profiles.counting import Counted, Counter
from ingestlab.analytics.profiles.kinds import parse
from ingestlab.analytics.profiles.merging import merge
from ingestlab.analytics.profiles.states import Profile, profile
from ingestlab.core.models import DataFile, Manifest, Profiled, Receipt, Value
from ingestlab.interfaces import Executor, Store
from ingestlab.lake.data_files import with_folders
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.table_schema import kinds_of

if TYPE_CHECKING:
    from ingestlab.core.settings import Settings

MAX_STATES = 1_000  # of columns, in one manifest: about 600 kB


class Work(Value):
    """Work of one task: a part at `path`, which will be `name` in its table."""

    path: str
    name: str
    kinds: dict[str, str] = Field(default_factory=dict)  # of the columns that its folders name, where they are known


def of_receipts(receipts: Iterable[Receipt]) -> tuple[Profiled, ...]:
    """Collect profiles for a manifest: of each task, or merged where there are many."""
    whole = (r for r in receipts if r.parts and r.profile)
    return _folded([Profiled(parts=tuple(p.target for p in r.parts), **r.profile) for r in whole])


def of_tables(tables: Sequence[pa.Table], counter: Counter, counted: Sequence[Mapping[str, Counted]]) -> Profile:
    """Profile what one task publishes.

    Args:
        tables: Of its files.
        counter: What counts values faster than Arrow.
        counted: What is counted already, of each.
    """
    profiles = [profile(table, counter, known) for table, known in zip(tables, counted, strict=True)]
    return profiles[0] if len(profiles) == 1 else merge(profiles)


def reprofile(
    parts: Iterable[DataFile],
    replaced: Collection[str],
    history: Sequence[Manifest],
    live: Iterable[DataFile],
    home: str,
    cluster: Executor,
    settings: Settings,
    soon: Collection[str] = (),
) -> tuple[Profiled, ...]:
    """Compute the profiles that a commit needs because it replaces parts.

    Args:
        parts: Staged parts that hold rows of earlier ones.
        replaced: Targets of those.
        history: The table's manifests before this commit.
        live: The parts that these name and that no later one has replaced.
        home: The table's folder.
        cluster: Where to do it.
        settings: Where the lake is.
        soon: Targets of parts that are about to be replaced too: it is not worth it for them.
    """
    gone = set(replaced)
    shared = {t for p in believed(history, live) if gone & set(p.parts) for t in p.parts} - gone - set(soon)
    where = {p.target: p.staged for p in parts} | {target: target for target in sorted(shared)}
    kinds = kinds_of(history)
    work = [Work(path=path, name=target.removeprefix(f"{home}/"), kinds=kinds) for target, path in where.items()]
    calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
    keys = [f"profile-{path}" for path in where.values()]
    done = dict(cluster.map(_profile_part, calls, keys))
    return _folded([Profiled(parts=(target,), anew=True, **done[i]) for i, target in enumerate(where)])


def _profile_part(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> Profile:
    """Profile a part from its rows, as a Dask task."""
    spec = Work.from_dict(work)
    return profile_of(open_store(lake, options), spec.path, spec.name, spec.kinds)


def profile_of(store: Store, path: str, name: str, kinds: Mapping[str, Any]) -> Profile:
    """Profile a part, a row group at a time.

    Args:
        store: The lake.
        path: Where the part lies.
        name: Its path in its table: the folders name the partition columns.
        kinds: What those columns hold, by :func:`kinds_of`; else they are integers if they look so, or text.
    """
    file = pq.ParquetFile(pa.BufferReader(store.read(path)))
    groups = (file.read_row_group(i) for i in range(file.num_row_groups))
    return merge(profile(typed_folders(rows, name, kinds)) for rows in groups)


def believed(history: Sequence[Manifest], live: Iterable[DataFile]) -> Iterator[Profiled]:
    """Yield the profiles of live parts alone, the latest of each part."""
    left = {part.target for part in live}
    for manifest in reversed(history):
        for profiled in manifest.profile:
            if left.issuperset(profiled.parts):
                left.difference_update(profiled.parts)
                yield profiled


def typed_folders(rows: pa.Table, name: str, kinds: Mapping[str, Any]) -> pa.Table:
    """Add the columns that the folders of `name` stand for; see :func:`profile_of`.

    Args:
        rows: Of a part.
        name: The path of the part in its table.
        kinds: What the columns hold, by :func:`kinds_of`.
    """
    table = with_folders(rows, name)
    for column in table.column_names[rows.num_columns :]:
        values = table[column].combine_chunks()
        try:
            parsed = parse(values, kinds.get(column))
        except pa.ArrowInvalid:  # once the column was of another kind
            parsed = values
        table = table.set_column(table.column_names.index(column), column, parsed)
    return table


def _folded(profiles: Sequence[Profiled]) -> tuple[Profiled, ...]:
    """Merge neighbours, so that there are at most 1,000 column states."""
    room = max(1, MAX_STATES // max((len(p.columns) for p in profiles), default=1))
    size = -(-len(profiles) // room)
    if size <= 1:
        return tuple(profiles)
    groups = [profiles[i : i + size] for i in range(0, len(profiles), size)]
    targets = [tuple(target for p in group for target in p.parts) for group in groups]
    return tuple(
        Profiled(parts=parts, anew=group[0].anew, **merge(p.profile for p in group))
        for group, parts in zip(groups, targets, strict=True)
    )
