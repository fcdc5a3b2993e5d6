"""The states of published parts: a small Parquet file for each part and aggregate, staged with the part.

Its name is made of the part's and of the aggregate's code, so that a reader can tell which parts lack states
of the aggregate as it is declared now, and computes those from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.analytics.aggregates.partials import make
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import DataFile, Value
from ingestlab.interfaces import Executor, Store
from ingestlab.lake import layout
from ingestlab.lake.data_files import by_folder, staged_path, to_parquet, with_folders
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.aggregate import Aggregate
from ingestlab.pipeline.catalog import PipelineSource, load

if TYPE_CHECKING:
    from ingestlab.core.settings import Settings

_DECLARED = b"ingestlab.aggregate"  # in a file's metadata: the declaration, as JSON


class Work(Value):
    """Work of one task: the partial aggregates of an existing part."""

    part: DataFile
    batch: str
    tenant: str
    table: str
    pipeline: PipelineSource


def stage_partials(
    name: str,
    aggregate: Aggregate,
    part: DataFile,
    partials: pa.Table,
    where: tuple[str, str],
    batch: str,
    store: Store,
) -> DataFile:
    """Stage the partial aggregates of one data file.

    Args:
        name: Of the aggregate.
        aggregate: Its declaration.
        part: The data file.
        partials: The partial aggregates of its rows.
        where: Tenant and table.
        batch: In whose staging folder they wait.
        store: The lake.
    """
    target = layout.partials_file(*where, name, aggregate.code, part.target)
    staged = staged_path(layout.staging(batch), target)
    table = partials.replace_schema_metadata({_DECLARED: json.dumps(aggregate.to_dict()).encode()})
    data = to_parquet(table, use_dictionary=False, write_statistics=False)
    store.write(staged, data)
    return DataFile(target=target, staged=staged, rows=table.num_rows, size=len(data))


def compute(
    rows: pa.Table, parts: Iterable[DataFile], aggregates: Mapping[str, Aggregate], folders: Sequence[str]
) -> list[tuple[str, Aggregate, DataFile, pa.Table]]:
    """Compute partial aggregates of parts that were just staged, from their rows.

    Args:
        rows: The rows of all of them.
        parts: One for each combination of values of the columns `folders`.
        aggregates: By name.
        folders: The pipeline's `partition_by`.

    Raises:
        TerminalError: An aggregate names a column that there is not, or one of the wrong type.
    """
    homes = {_folders_of(part, len(folders)): part for part in parts}
    partials = []
    for name, aggregate in aggregates.items() if homes else ():
        _check_columns(rows, name, aggregate)
        for sub, piece in by_folder(make(rows, aggregate, folders), folders):
            states = _ordered(with_folders(piece, f"{sub}/"), aggregate)
            partials.append((name, aggregate, homes[sub], states))
    return partials


def recompute(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compute and stage a staged part's partial aggregates, as a Dask task.

    The rows may be older than the declaration, and have a column of a type that it cannot be of. Then the part
    has no states of that aggregate, and whoever reads it is told.
    """
    spec, store = Work.from_dict(work), open_store(lake, options)
    where = (spec.tenant, spec.table)
    home = layout.table(spec.tenant, spec.table)
    done = []
    for name, aggregate in load(spec.pipeline).aggregates.items():
        states = attempt(from_part, store, spec.part.staged, spec.part.target[len(home) + 1 :], aggregate)
        if not isinstance(states, TerminalError):
            done.append(stage_partials(name, aggregate, spec.part, states, where, spec.batch, store).to_dict())
    return done


def recompute_partials(
    parts: Sequence[DataFile],
    batch: str,
    where: tuple[str, str],
    code: PipelineSource,
    cluster: Executor,
    settings: Settings,
) -> dict[str, list[DataFile]]:
    """Compute partial aggregates of staged parts, one task a part.

    Args:
        parts: Staged data files.
        batch: In whose staging folder they wait.
        where: Tenant and table.
        code: The pipeline that declares the aggregates.
        cluster: Runs the tasks.
        settings: Say where the lake is.

    Returns:
        Of each part, by its target, of each aggregate, its staged partial aggregates.
    """
    if not load(code).aggregates:
        return {}
    work = [Work(part=p, batch=batch, tenant=where[0], table=where[1], pipeline=code) for p in parts]
    calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
    keys = [f"recompute-{where[1]}-{batch[:8]}-{i}" for i in range(len(work))]
    done = cluster.map(recompute, calls, keys)
    return {parts[place].target: [DataFile.from_dict(p) for p in files] for place, files in done}


def from_part(store: Store, path: str, home: str, aggregate: Aggregate) -> pa.Table:
    """Compute the partial aggregates of a part from its rows.

    Args:
        store: The lake.
        path: Where the part lies.
        home: Where it lies in its table, or will: its folders name the partition columns.
        aggregate: What to compute; columns that the part lacks are null.
    """
    file = pq.ParquetFile(pa.BufferReader(store.read(path)))
    have = [name for name in aggregate.columns if name in file.schema_arrow.names]
    rows = with_folders(file.read(have), home)
    return _ordered(make(rows, aggregate), aggregate)


def declaration(table: pa.Table) -> Aggregate:
    """Read the aggregate as it was declared when these partials were written."""
    return Aggregate.from_dict(json.loads(table.schema.metadata[_DECLARED]))


def _check_columns(rows: pa.Table, name: str, aggregate: Aggregate) -> None:
    missing = [c for c in aggregate.columns if c not in rows.column_names]
    if missing:
        have = ", ".join(rows.column_names)
        wanted = f"the column '{missing[0]}', which the aggregate '{name}' is of"
        raise TerminalError(
            f"Aggregate '{name}' lacks a column",
            expected=wanted,
            got=f"columns {have}",
            fix="Let clean make it, or correct the aggregate.",
            code="column_unknown",
        )


def _folders_of(part: DataFile, depth: int) -> str:
    """Return the folders below its table in which a part lies."""
    steps = part.target.split("/")[:-1]
    return "/".join(steps[len(steps) - depth :])


def _ordered(states: pa.Table, aggregate: Aggregate) -> pa.Table:
    """Select the keys, then the partials, without other folders."""
    keys = [key.name for key in aggregate.keys]
    rest = [name for name in states.column_names if name not in keys and "(" in name]
    return states.select([*keys, *rest])
