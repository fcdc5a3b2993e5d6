"""The keys of rows: brought to comparable columns, hashed, and indexed beside each data file.

An index is a hint: it tells at which places of a data file the rows may be that have some keys, and the rows
themselves are compared. It is named by its data file, which never changes, and is built again where it is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.interfaces import Store
from ingestlab.lake.arrow_schema import decoded, is_text, plain
from ingestlab.lake.data_files import with_folders

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
_HEADER = 512  # bytes before the hashes
_ROWS = 1 << 18  # rows in memory at a time
_EMPTY = np.uint64(0x9E3779B97F4A7C15)


def kind_of_key(kind: pa.DataType) -> str | None:
    """Name what values of a type are compared as. None if they cannot be a key.

    Args:
        kind: Of a column. All files of a table must have one kind in it.
    """
    kind = plain(kind)
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        return None
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "integer"
    return "text" if is_text(kind) else str(kind)


def kind_of_order(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be put in order."""
    kind = plain(kind)
    return not (pa.types.is_nested(kind) or pa.types.is_boolean(kind) or pa.types.is_float16(kind))


def comparable(values: pa.ChunkedArray) -> pa.Array:
    """Bring a key column to whole numbers, or to bytes or text."""
    values = decoded(values)
    kind = values.type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):  # no key, but it may have to be unique
        values = pc.add(ordered(values).cast(pa.float64()), 0.0)  # -0.0 is 0.0
        values = pa.chunked_array([chunk.view(pa.int64()) for chunk in values.chunks], pa.int64())
    elif pa.types.is_boolean(kind):
        values = values.cast(pa.int8()).cast(pa.int64())
    elif pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    elif pa.types.is_large_binary(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        values = values.cast(pa.large_binary())
    else:
        values = values.cast(pa.large_string())
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def ordered(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring a column to values that can be sorted. NaN counts as null."""
    values = decoded(values)
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if pa.types.is_time(values.type) or pa.types.is_duration(values.type):
        return values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())
    return values


def hashed(columns: Sequence[pa.Array]) -> Hashes:
    """Hash the rows of :func:`comparable` columns."""
    total: Hashes | None = None
    for column in columns:
        own = _mixed(_numbers(column) if pa.types.is_integer(column.type) else _bytes_hashed(column))
        total = own if total is None else _mixed(total * np.uint64(31) + own)
    assert total is not None
    return total


def _numbers(column: pa.Array) -> Hashes:
    values: Hashes = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).view(np.uint64)
    return values


def _bytes_hashed(column: pa.Array) -> Hashes:
    """Hash texts by a sum of their bytes, weighted by place."""
    column = pc.fill_null(column, "" if pa.types.is_large_string(column.type) else b"")
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(offsets)
    result: Hashes = lengths.astype(np.uint64)
    data = column.buffers()[2]
    if not len(column) or data is None or not lengths.any():
        return result
    octets = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
    places = np.arange(len(octets), dtype=np.int64) - np.repeat(offsets[:-1] - offsets[0], lengths)
    octets += np.uint64(1)
    octets *= _powers(int(lengths.max()))[places]
    filled = lengths > 0
    result[filled] += np.add.reduceat(octets, (offsets[:-1] - offsets[0])[filled])
    return result


def _powers(size: int) -> Hashes:
    """Make an odd number for each place in a text."""
    return _mixed(np.arange(1, size + 1, dtype=np.uint64)) | np.uint64(1)


def _mixed(values: Hashes) -> Hashes:
    """Spread values over all 64 bits (splitmix64)."""
    values = values + _EMPTY
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def columns_of(opened: pq.ParquetFile, path: str, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of a data file, with folders as text.

    Args:
        opened: The file.
        path: Of the file in its table.
        names: Of the columns; one that the file lacks is null.
    """
    inside = [name for name in names if name in opened.schema_arrow.names]
    for batch in opened.iter_batches(_ROWS, columns=inside):
        yield _complete(pa.Table.from_batches([batch]), path, names)


def rows_at(opened: pq.ParquetFile, path: str, names: Sequence[str], places: Ints) -> pa.Table:
    """Read some columns of rows of a data file. Row groups without such rows are not read.

    Args:
        opened: The file.
        path: Of the file in its table.
        names: Of the columns.
        places: Of the rows, ascending.
    """
    inside = [name for name in names if name in opened.schema_arrow.names]
    pieces, start = [], 0
    for group in range(opened.num_row_groups):
        stop = start + opened.metadata.row_group(group).num_rows
        low, high = np.searchsorted(places, [start, stop])
        if low < high:
            rows = opened.read_row_group(group, columns=inside)
            pieces.append(_complete(rows.take(pa.array(places[low:high] - start)), path, names))
        start = stop
    return pa.concat_tables(pieces) if len(pieces) != 1 else pieces[0]


def _complete(rows: pa.Table, path: str, names: Sequence[str]) -> pa.Table:
    if set(names) <= set(rows.column_names):
        return rows.select(names)
    rows = with_folders(rows, path)
    for name in set(names) - set(rows.column_names):
        rows = rows.append_column(name, pa.nulls(rows.num_rows))
    return rows.select(names)


@dataclass(frozen=True)
class KeyIndex:
    """The hashes of a data file's keys, and where their rows are.

    Attributes:
        hashes: Ascending.
        places: Of the row of each hash in the file.
        ends: The least and the greatest value of the first key column; None if they are not known.
    """

    hashes: Hashes
    places: Ints
    ends: tuple[Any, Any] | None = None

    @classmethod
    def build(cls, opened: pq.ParquetFile, path: str, columns: Sequence[str]) -> KeyIndex:
        """Read the keys of a data file.

        Args:
            opened: The file.
            path: Of the file in its table.
            columns: Of the key.
        """
        hashes, ends = [np.empty(0, np.uint64)], None
        for rows in columns_of(opened, path, columns):
            keys = [comparable(rows[name]) for name in columns]
            hashes.append(hashed(keys))
            ends = wider(ends, ends_of(keys[0]))
        every = np.concatenate(hashes)
        order = np.argsort(every, kind="stable")
        return cls(every[order], order, ends)

    @classmethod
    def joined(cls, several: Sequence[KeyIndex]) -> KeyIndex:
        """Join the indexes of rows that now are in one file."""
        if len(several) == 1:
            return several[0]
        hashes = np.concatenate([index.hashes for index in several])
        order, ends = np.argsort(hashes, kind="stable"), several[0].ends
        for index in several[1:]:
            ends = wider(ends, index.ends) if ends and index.ends else None
        return cls(hashes[order], np.concatenate([index.places for index in several])[order], ends)

    def candidates(self, wanted: Hashes) -> Ints:
        """Find the places of rows that may have some keys, ascending.

        Args:
            wanted: Hashes of keys, ascending.
        """
        low = np.searchsorted(self.hashes, wanted, "left")
        count = np.searchsorted(self.hashes, wanted, "right") - low
        low, count = low[count > 0], count[count > 0]
        first = np.repeat(low - (np.cumsum(count) - count), count)
        return np.unique(self.places[first + np.arange(len(first))])

    def kept(self, keep: np.ndarray[Any, np.dtype[np.bool_]], offset: int) -> KeyIndex:
        """Give the index of the rows that stay.

        Args:
            keep: Which rows do, by place.
            offset: The new place of the first one.
        """
        stays = keep[self.places]
        return KeyIndex(self.hashes[stays], (np.cumsum(keep) - 1 + offset)[self.places[stays]], self.ends)

    def write(self, store: Store, path: str) -> None:
        """Write the index beside the lake's log."""
        header = json.dumps({"rows": len(self.hashes), "ends": self.ends}).encode()
        if len(header) > _HEADER:
            header = json.dumps({"rows": len(self.hashes), "ends": None}).encode()
        body = self.hashes.tobytes() + self.places.astype(np.uint32).tobytes()
        store.write(path, header.ljust(_HEADER) + body)

    @classmethod
    def read(cls, store: Store, path: str) -> KeyIndex | None:
        """Read an index; None if there is none that is whole."""
        try:
            data = store.read(path)
            header = json.loads(data[:_HEADER])
        except (FileNotFoundError, ValueError):
            return None
        rows, ends = int(header["rows"]), header["ends"]
        if len(data) != _HEADER + 12 * rows:
            return None
        hashes = np.frombuffer(data, np.uint64, rows, _HEADER)
        places = np.frombuffer(data, np.uint32, rows, _HEADER + 8 * rows).astype(np.int64)
        return cls(hashes, places, tuple(ends) if ends else None)

    @staticmethod
    def ends_in(store: Store, path: str) -> tuple[Any, Any] | None:
        """Read the ends alone.

        Args:
            store: The lake.
            path: Of the index.

        Returns:
            The least and the greatest value; None if they are not known.
        """
        try:
            ends = json.loads(store.read(path, 0, _HEADER))["ends"]
        except (FileNotFoundError, ValueError):
            return None
        return tuple(ends) if ends else None


def ends_of(column: pa.Array) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of a :func:`comparable` column."""
    if not len(column) or pa.types.is_large_binary(column.type):
        return None
    ends = pc.min_max(column).as_py()
    return None if ends["min"] is None else (ends["min"], ends["max"])


def wider(ends: tuple[Any, Any] | None, more: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
    """Join two ranges; None stands for no values."""
    if ends is None or more is None:
        return ends or more
    return min(ends[0], more[0]), max(ends[1], more[1])
