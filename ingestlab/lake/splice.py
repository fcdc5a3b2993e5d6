"""Parquet files put together from row groups: those that stay as they are get copied as they are encoded."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.lake.data_files import encoding, fast_encoding, staged_path
from ingestlab.lake.storage.store import storage_error
from ingestlab.lake.thrift import I64, LIST, STRUCT, Items, Struct, decode, encode

_MAGIC = b"PAR1"
_TAIL = 8  # bytes behind a footer: its size, and the magic
_COPIED = 8 << 20  # bytes in memory at a time
# Fields of Parquet's structs
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4  # of a file
_COLUMNS, _BYTES, _GROUP_ROWS, _SORTED, _AT, _COMPRESSED = 1, 2, 3, 4, 5, 6  # of a row group
_META = 3  # of a column chunk
_SIZE, _DATA, _DICTIONARY = 7, 9, 11
_ELSEWHERE = (10, 14, 15)  # offsets of what is not copied: an index page, a Bloom filter and its size


class Encoded:
    """A Parquet file whose row groups can be copied.

    Args:
        read: Gives the bytes from one place to another.
        size: Of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes | memoryview], size: int) -> None:
        self.read = read
        tail = bytes(read(size - _TAIL, size))
        self.footer: Struct = decode(bytes(read(size - _TAIL - int.from_bytes(tail[:4], "little"), size - _TAIL)))

    @classmethod
    def of(cls, table: pa.Table, **how: Any) -> Encoded:
        """Encode rows as one row group, in memory.

        Args:
            table: The rows; without any there is no group.
            how: Options of pyarrow.
        """
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, table.schema, **how) as writer:
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)
        data = memoryview(sink.getvalue())
        return cls(lambda start, stop: data[start:stop], len(data))

    @property
    def groups(self) -> list[Struct]:
        """List the row groups."""
        return list(self.footer[_GROUPS][1].values)

    def fits(self, other: Encoded) -> bool:
        """Tell whether row groups of both can be in one file.

        Args:
            other: The other file.
        """
        return bool(self.footer[_SCHEMA] == other.footer[_SCHEMA])


class SplicedPart:
    """A data file that is staged row group by row group.

    Args:
        schema: Its columns.
        target: Where in the lake it goes.
        staging: The folder where it waits.
        store: The lake.
        bare: Columns that get no dictionary, as :func:`ingestlab.lake.data_files.without_dictionary` names them.
    """

    def __init__(self, schema: pa.Schema, target: str, staging: str, store: Store, bare: Collection[str] = ()) -> None:
        self.rows = 0
        self._schema, self._target, self._staging, self._store, self._bare = schema, target, staging, store, set(bare)
        self._how: dict[str, Any] | None = None  # the first rows tell
        self._empty = Encoded.of(schema.empty_table(), **encoding(schema, bare))
        self._groups: list[Struct] = []
        self._sources: set[str] = set()
        self._at = len(_MAGIC)
        self._local = store.scratch() / uuid.uuid4().hex
        try:
            self._file = self._local.open("wb")
            self._file.write(_MAGIC)
        except OSError as error:
            raise storage_error(error, target) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._local.unlink(missing_ok=True)

    def write(self, table: pa.Table, sources: Iterable[str]) -> None:
        """Add rows as a row group.

        Args:
            table: The rows.
            sources: The URIs that have rows in it.
        """
        if self._how is None:
            self._how = fast_encoding(table, self._bare)
        table = table if table.schema.equals(self._schema) else table.cast(self._schema)
        self.copy(Encoded.of(table, **self._how), 0, sources)

    def copy(self, source: Encoded, number: int, sources: Iterable[str]) -> None:
        """Add a row group of another file.

        Args:
            source: The file.
            number: Of the row group in it.
            sources: The URIs that have rows in it.
        """
        group = source.groups[number]
        columns = [column[_META][1] for column in group[_COLUMNS][1].values]
        begin, moved = self._at, []
        places = [_place(meta) for meta in columns]
        for meta, (start, _) in zip(columns, places, strict=True):
            kept = {field: value for field, value in meta.items() if field not in _ELSEWHERE}
            here = {f: (I64, self._at + meta[f][1] - start) for f in (_DATA, _DICTIONARY) if meta.get(f, (0, 0))[1]}
            moved.append({2: (I64, 0), _META: (STRUCT, {**kept, **here})})
            self._at += meta[_SIZE][1]
        self._carry(source, places)
        kept = {field: group[field] for field in (_BYTES, _GROUP_ROWS, _SORTED) if field in group}
        offsets = {_AT: (I64, begin), _COMPRESSED: (I64, self._at - begin)}
        self._groups.append({_COLUMNS: (LIST, Items(STRUCT, moved)), **kept, **offsets})
        self.rows += group[_GROUP_ROWS][1]
        self._sources.update(sources)

    def close(self) -> DataFile:
        """Write the footer, and stage the file."""
        staged = staged_path(self._staging, self._target)
        footer = {**self._empty.footer, _ROWS: (I64, self.rows), _GROUPS: (LIST, Items(STRUCT, self._groups))}
        data = encode(footer)
        try:
            self._file.write(data + len(data).to_bytes(4, "little") + _MAGIC)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.adopt(self._local, staged)
        except OSError as error:
            raise storage_error(error, self._target) from error
        size = self._at + len(data) + _TAIL
        return DataFile(
            target=self._target, staged=staged, rows=self.rows, size=size, sources=tuple(sorted(self._sources))
        )

    def _carry(self, source: Encoded, places: list[tuple[int, int]]) -> None:
        """Write the bytes of columns one behind the other."""
        borders = [0, *(i for i, (one, two) in enumerate(pairwise(places), 1) if one[1] != two[0]), len(places)]
        try:
            for first, last in pairwise(borders):
                start, stop = places[first][0], places[last - 1][1]
                for at in range(start, stop, _COPIED):
                    self._file.write(source.read(at, min(at + _COPIED, stop)))
        except OSError as error:
            raise storage_error(error, self._target) from error


def _place(meta: Struct) -> tuple[int, int]:
    """Tell where the pages of a column begin and end."""
    dictionary = meta[_DICTIONARY][1] if _DICTIONARY in meta else 0
    begin = min(dictionary, meta[_DATA][1]) if dictionary else meta[_DATA][1]
    return begin, begin + meta[_SIZE][1]
