"""Parquet files of the lake, in folders named by Hive's convention: staged, read, and rewritten.

What is rewritten streams through: memory holds a row group, never a file that is large.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile
from ingestlab.interfaces import Dictionary, Store
from ingestlab.lake import dictionary_pages, layout
from ingestlab.lake.storage.ranged import Ranged
from ingestlab.lake.storage.store import storage_error

MAX_FOLDERS = 1000  # that one task may write; more means the column is no partition key
MAX_FOLDER_NAME = 255  # bytes: what file systems take
ROW_GROUP = 1 << 20  # rows
BATCH = 1 << 16  # rows that are decoded at a time
GROUP_BYTES = 64 << 20  # of decoded rows that make a row group, if they are fewer than ROW_GROUP
ZSTD: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1}
_LOOKED_AT = 1024  # rows whose steps are looked at
_MUCH_LESS = 2 / 3
_SAMPLE = 1 << 12  # rows that tell whether nearly all values differ
_MOSTLY = 0.97
_WORTH = 0.9  # of its size, by which a column is compressed
_MINIBLOCK = 32  # differences that Parquet writes with as many bits each
_MANY = 1 << 15  # rows from which on pages are put together faster than Arrow writes them
_TINY = 64 << 10  # bytes of a table up to which zstd's beginning for each column takes longer than all else
_SMALL = 16 << 20  # bytes up to which a part is read in one go
SOURCE_COLUMNS = ("_source", "source")  # of tables, of rejects
ROW_COLUMNS = ("_row", "row")  # likewise


def stage_table(
    table: pa.Table,
    name: str,
    folder: str,
    staging: str,
    store: Store,
    folders: Sequence[str] = (),
    uncompressed: Collection[str] = (),
    dictionaries: Mapping[str, Dictionary] = MappingProxyType({}),
) -> list[DataFile]:
    """Stage rows: one data file for each combination of values of some columns; an empty table makes none.

    Args:
        table: The rows, with a column that names the source of each.
        name: For the files.
        folder: The folder of the table, relative to the lake.
        staging: The folder where they wait.
        store: The lake.
        folders: The columns that become folders.
        uncompressed: Columns whose texts are to be found in the file.
        dictionaries: Of columns, by name, where they are known.

    Returns:
        The files, in the order in which the values first come.

    Raises:
        TerminalError: A partition column is missing, or its values are too many or too long for folders.
    """
    if not table.num_rows:
        return []
    files = []
    for sub, rows in by_folder(table, folders):
        target = "/".join(step for step in (folder, sub, name) if step)
        known = dictionaries if rows.num_rows == table.num_rows else {}
        files.append(_stage(rows, target, staging, store, uncompressed, known))
    return files


def _stage(
    table: pa.Table,
    name: str,
    staging: str,
    store: Store,
    uncompressed: Collection[str],
    dictionaries: Mapping[str, Dictionary],
) -> DataFile:
    target = f"{name}.parquet"
    staged = staged_path(staging, target)
    bare = _with_minus_zero(table)
    stepping = _with_small_steps(table)
    known = {n: d for n, d in dictionaries.items() if n in table.column_names and n not in {*bare, *stepping}}
    how = encoding(table.schema, bare, stepping)
    whole = known and _MANY <= table.num_rows <= ROW_GROUP
    data = dictionary_pages.write(table, known, **how) if whole else None
    data = to_parquet(table, uncompressed, **how) if data is None else data
    store.write(staged, data)
    return DataFile(target=target, staged=staged, rows=table.num_rows, size=len(data), sources=_sources_of(table))


def to_parquet(table: pa.Table, uncompressed: Collection[str] = (), **how: Any) -> memoryview:
    """Write a table as Parquet to memory.

    Args:
        table: The rows. Few are compressed with snappy, since zstd takes long to begin.
        uncompressed: Columns that are not compressed.
        how: Other options of pyarrow, as :func:`encoding` gives them.
    """
    codec = dict(ZSTD) if table.nbytes > _TINY else {"compression": "snappy", "compression_level": None}
    if uncompressed:
        codecs = {name: "none" if name in uncompressed else codec["compression"] for name in table.column_names}
        levels = {name: codec["compression_level"] for name in table.column_names if name not in uncompressed}
        codec = {"compression": codecs, "compression_level": levels if codec["compression_level"] else None}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **{**how, **codec}) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
    return memoryview(sink.getvalue())


def _with_minus_zero(table: pa.Table) -> list[str]:
    """Find float columns that hold -0.0. By its bits it is the least of all integers."""
    signs = {pa.float64(): (pa.int64(), -(2**63)), pa.float32(): (pa.int32(), -(2**31))}
    names = []
    for field in table.schema:
        bits, sign = signs.get(field.type, (None, 0))
        if bits and any(pc.min(chunk.view(bits)).as_py() == sign for chunk in table[field.name].chunks):
            names.append(field.name)
    return names


def _with_small_steps(table: pa.Table) -> list[str]:
    """Find integer columns that are better written as differences.

    Those of the first rows take far less bits than places in a dictionary, as with times of a log.
    """
    names = []
    for field in table.schema if table.num_rows >= _LOOKED_AT else ():
        if not pa.types.is_integer(field.type) or field.type.bit_width == 8:
            continue
        values = table[field.name].slice(0, _LOOKED_AT).combine_chunks().drop_null().to_numpy()
        if len(values) <= _LOOKED_AT // 2 + _MINIBLOCK:
            continue
        if 0 < _steps(values) <= np.ceil(np.log2(len(np.unique(values)))) * _MUCH_LESS:
            names.append(field.name)
    return names


def encoding(schema: pa.Schema, bare: Collection[str] = (), stepping: Collection[str] = ()) -> dict[str, Any]:
    """How parts are written, as options of pyarrow.

    Args:
        schema: Their columns.
        bare: Columns that get no dictionary. Spark looks 0.0 up in it, and takes it for missing where -0.0 stands.
        stepping: Columns of integers that are written as differences.

    The numbers of source rows are nearly consecutive: as differences they take a hundredth of the room and a
    fifth of the time. All other columns are left to Arrow, which tries a dictionary first.
    """
    how = dict(ZSTD)
    rows = (field.name for field in schema if field.name in ROW_COLUMNS and pa.types.is_int64(field.type))
    numbered = list(dict.fromkeys([*rows, *stepping]))
    if not (numbered or bare) or any(pa.types.is_nested(field.type) for field in schema):
        return {**how, "use_dictionary": False} if bare else how  # inner columns have other names
    others = [name for name in schema.names if name not in {*numbered, *bare}]
    return {**how, "use_dictionary": others, "column_encoding": dict.fromkeys(numbered, "DELTA_BINARY_PACKED")}


def fast_encoding(table: pa.Table, bare: Collection[str] = ()) -> dict[str, Any]:
    """How rows are written again, as options of pyarrow.

    Columns of which nearly all values differ get no dictionary: integers and times are written as differences, and
    what does not shrink is not compressed.

    Args:
        table: The first rows.
        bare: Columns that get no dictionary anyway.
    """
    if not table.num_rows or any(pa.types.is_nested(field.type) for field in table.schema):
        return encoding(table.schema, bare)
    plain, stepping, stiff = set(bare), [], set()
    for name in table.column_names:
        values = _different(table[name])
        if values is None:
            continue
        if values.dtype.kind == "i" and _steps(values) <= values.itemsize * 8 * _MUCH_LESS:
            stepping.append(name)
            continue
        plain.add(name)
        if len(pa.Codec("zstd", 1).compress(values, asbytes=True)) > _WORTH * values.nbytes:
            stiff.add(name)
    how = encoding(table.schema, plain, stepping)
    if stiff:
        codecs = {name: "none" if name in stiff else how["compression"] for name in table.column_names}
        levels = {name: how["compression_level"] for name in table.column_names if name not in stiff}
        how |= {"compression": codecs, "compression_level": levels or None}
    return how


def _different(column: pa.ChunkedArray) -> np.ndarray[Any, Any] | None:
    """Give the first numbers of a column, if nearly all differ."""
    kind = column.type
    if not (pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    if kind.bit_width < 32:
        return None
    values = column.slice(0, _SAMPLE).combine_chunks().drop_null()
    values = values if pa.types.is_floating(kind) else values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    numbers: np.ndarray[Any, Any] = values.to_numpy()
    differ = len(numbers) >= _SAMPLE // 2 and len(np.unique(numbers)) > _MOSTLY * len(numbers)
    return numbers if differ else None


def _steps(values: np.ndarray[Any, Any]) -> float:
    """Tell how many bits a difference of neighbours takes."""
    blocks = np.diff(values.astype(np.float64))[: (len(values) - 1) // _MINIBLOCK * _MINIBLOCK]
    blocks = blocks.reshape(-1, _MINIBLOCK)
    return float(np.ceil(np.log2(blocks.max(axis=1) - blocks.min(axis=1) + 1)).mean())


def staged_path(staging: str, target: str) -> str:
    """Name the place where a part waits for its commit. It does not end in `.parquet`, which readers look for.

    Args:
        staging: Folder of the batch.
        target: Where the part goes.
    """
    return f"{staging}/{hashlib.sha256(target.encode()).hexdigest()[:32]}.part"


def open_part(part: DataFile, store: Store) -> pq.ParquetFile:
    """Open a published part.

    Args:
        part: The data file; a small one is read at once.
        store: The lake.

    Raises:
        TerminalError: It is gone.
    """
    try:
        small = part.size <= _SMALL
        source: Any = pa.BufferReader(store.read(part.target)) if small else pa.PythonFile(Ranged(part.target, store))
        return pq.ParquetFile(source)
    except FileNotFoundError:
        problem = f"Data file {Path(part.target).name} of the log is missing"
        fix = "`ingestlab reconcile` lists all that is missing."
        raise TerminalError(problem, fix=fix, code="lake_damaged") from None


def without_dictionary(opened: Iterable[pq.ParquetFile]) -> set[str]:
    """Find float columns stored without dictionary, since they hold -0.0."""
    names = set()
    for file in opened:
        floats = {field.name for field in file.schema_arrow if pa.types.is_floating(field.type)}
        for group in range(file.num_row_groups if floats else 0):
            meta = file.metadata.row_group(group)
            columns = (meta.column(i) for i in range(meta.num_columns))
            names |= {c.path_in_schema for c in columns if c.path_in_schema in floats and not c.has_dictionary_page}
    return names


def batches(opened: pq.ParquetFile, group: int | None = None) -> Iterator[pa.Table]:
    """Yield the rows of a part, some at a time.

    Args:
        opened: The file.
        group: The row group, if not all.
    """
    groups = None if group is None else [group]
    return (pa.Table.from_batches([batch]) for batch in opened.iter_batches(BATCH, groups))


def row_groups(tables: Iterable[pa.Table], most: int = ROW_GROUP) -> Iterator[pa.Table]:
    """Collect rows until they make a row group.

    Args:
        tables: The rows.
        most: Rows of a row group.
    """
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        if not table.num_rows:
            continue
        held.append(table)
        rows, size = rows + table.num_rows, size + _bytes(table)
        if rows + BATCH > most or size >= GROUP_BYTES:
            yield joined(held)
            held, rows, size = [], 0, 0
    if held:
        yield joined(held)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables to one chunk, with one dictionary a column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def write_part(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    target: str,
    sources: Iterable[str],
    staging: str,
    store: Store,
    bare: Iterable[str] = (),
) -> DataFile:
    """Stage a part, by way of a local file.

    Args:
        tables: Its row groups, in order.
        schema: Their columns.
        target: Where in the lake it goes.
        sources: The URIs that have rows in it.
        staging: The folder where it waits.
        store: The lake.
        bare: Columns that get no dictionary, as :func:`without_dictionary` names them.
    """
    staged = staged_path(staging, target)
    local = store.scratch() / uuid.uuid4().hex
    try:
        rows = _write(local, tables, schema, set(bare))
        size = local.stat().st_size
        store.adopt(local, staged)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        local.unlink(missing_ok=True)
    return DataFile(target=target, staged=staged, rows=rows, size=size, sources=tuple(sorted(sources)))


def _write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, bare: Collection[str]) -> int:
    """Write a Parquet file to disk, and count its rows."""
    rows = 0
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, **encoding(schema, bare)) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP)
                rows += table.num_rows
        file.flush()
        os.fsync(file.fileno())
    return rows


def _bytes(table: pa.Table) -> int:
    """Measure rows in bytes, without dictionaries, which many batches may share."""
    return int(sum(c.nbytes for c in table.columns if not pa.types.is_dictionary(c.type)) + 4 * table.num_rows)


def read_part(store: Store, folder: str, part: DataFile, path: str | None = None) -> pa.Table:
    """Read a part, with the columns that its folders name as text.

    Args:
        store: The lake.
        folder: That of its table.
        part: The part.
        path: Where it is, if it is not published.
    """
    table = pq.read_table(io.BytesIO(store.read(path or part.target)), partitioning=None)
    return with_folders(table, part.target[len(folder) + 1 :])


def with_folders(table: pa.Table, path: str) -> pa.Table:
    """Add the columns that the folders of a path name, as text.

    Args:
        table: The rows of a part.
        path: Of the part, as ``day=2024-05-01/a.parquet``.
    """
    for step in path.split("/")[:-1]:
        column, _, text = step.partition("=")
        value = None if text == layout.NULL_FOLDER else unquote(text)
        table = table.append_column(column, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table


def without_sources(table: pa.Table, uris: Iterable[str]) -> pa.Table:
    """Drop the rows of some sources.

    Args:
        table: Rows, with the column `_source`.
        uris: Of the sources.
    """
    return table.filter(pc.invert(_is_of(table, uris)))


def only_sources(table: pa.Table, uris: Iterable[str]) -> pa.Table:
    """Pick the rows of some sources.

    Args:
        table: Rows, with the column `_source`.
        uris: Of the sources.
    """
    return table.filter(_is_of(table, uris))


def _is_of(table: pa.Table, uris: Iterable[str]) -> pa.ChunkedArray:
    column = table[_source_column(table)].cast(pa.string())
    return pc.is_in(column, pa.array(list(uris), pa.string()))


def by_folder(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Split a table by columns, which leave it for the folder's name.

    Args:
        table: The rows.
        columns: Of the folders, the outermost first; none yields the table as it is.

    Yields:
        Folders such as ``day=2017-10-23/town=Rome``, each with its rows.

    Raises:
        TerminalError: A column is missing, or its values are too many or too long for folders.
    """
    if not columns:
        yield "", table
        return
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        have = ", ".join(table.column_names)
        problem = f"The partition_by column '{missing[0]}' is missing"
        raise TerminalError(problem, got=f"columns {have}", fix="Let clean make it.", code="column_unknown")
    keys = table.select(list(columns)).append_column("__row", pa.array(np.arange(table.num_rows)))
    groups = keys.group_by(list(columns), use_threads=False).aggregate([("__row", "list")])
    if groups.num_rows > MAX_FOLDERS:
        raise TerminalError(
            f"The rows of one task would make too many folders by partition_by {', '.join(columns)}",
            expected=f"at most {MAX_FOLDERS}",
            got=f"{groups.num_rows:,} different values",
            fix="Partition by a column with fewer values, such as a day.",
            code="partition_invalid",
        )
    rest = table.drop_columns(list(columns))
    rows = groups["__row_list"].combine_chunks()
    for i, values in enumerate(zip(*(groups[c].to_pylist() for c in columns), strict=True)):
        steps = [layout.folder(c, v) for c, v in zip(columns, values, strict=True)]
        if max(len(step.encode()) for step in steps) > MAX_FOLDER_NAME:
            raise TerminalError(
                f"A folder's name would be too long by partition_by {', '.join(columns)}",
                expected=f"at most {MAX_FOLDER_NAME} bytes",
                got=f"{max(steps, key=len)[:80]}…",
                fix="Partition by a column with shorter values, such as a day.",
                code="partition_invalid",
            )
        sub = "/".join(steps)
        yield sub, rest if groups.num_rows == 1 else rest.take(rows[i].values)


def _sources_of(table: pa.Table) -> tuple[str, ...]:
    """List the URIs that have rows in a table, sorted."""
    column = table[_source_column(table)]
    if pa.types.is_dictionary(column.type):  # not a text for each row
        column = column.unify_dictionaries()
    return tuple(sorted(column.unique().to_pylist()))


def _source_column(table: pa.Table) -> str:
    return next(c for c in SOURCE_COLUMNS if c in table.column_names)
