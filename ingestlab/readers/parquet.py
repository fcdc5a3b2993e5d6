"""Parquet: read by row groups, typed as declared, and only where its metadata says that it fits into memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.errors import TerminalError
from ingestlab.models import FetchedFile, Piece
from ingestlab.pipeline import Bad, Records, SchemaDrift
from ingestlab.readers.bytes import binary, compression
from ingestlab.readers.columns import (
    MAX_COLUMNS,
    cast,
    check_extra,
    check_optional,
    check_width,
    convert_columns,
    declared,
)
from ingestlab.readers.cutting import Ints
from ingestlab.readers.drift import looks, refuses, settle, told, with_missing
from ingestlab.readers.footer import WIDTH, Group, row_groups
from ingestlab.readers.linewise import whole
from ingestlab.readers.parsing import excerpt
from ingestlab.storage import Store

_SMALL = 64 << 20  # bytes up to which a file is read in one go
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # seconds from 1970 to the years that Python and pandas know
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "day": 1 / 86_400}  # nanoseconds do not reach so far
_BROKEN = (pa.ArrowException, OSError, ValueError, EOFError)  # what Arrow raises on damage


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Reads Parquet files, cut between row groups.

    Records with a value that does not fit the declared type, e.g. a number too large, are set apart as
    :class:`~ingestlab.pipeline.Bad` with the rule ``type``.

    Attributes:
        columns: Name to Arrow type, as in :class:`~ingestlab.readers.csv.Csv`; the file's values are cast where
            its types differ. None takes all columns as they are.
        optional: Declared columns that a file may lack; they are null in it.
        extra_columns: What to do with columns that are in the file but not declared, if the pipeline's
            `schema_drift` does not say it.
        drift: What the pipeline's `schema_drift` says; set by the pipeline.
        max_columns: Most columns in a file.
        max_group_bytes: What the row groups of one piece may take in memory: a few bytes of Parquet can stand
            for a great many.
    """

    columns: Mapping[str, str | pa.DataType] | None = None
    optional: Sequence[str] = ()
    extra_columns: Literal["fail", "drop"] = "fail"
    drift: SchemaDrift | None = None
    max_columns: int = MAX_COLUMNS
    max_group_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.columns is not None:
            types = declared(self.columns, lambda kind: not pa.types.is_null(kind), "Parquet")
            object.__setattr__(self, "columns", types)
            check_optional(self.optional, types)
        object.__setattr__(self, "optional", tuple(self.optional))

    def __hash__(self) -> int:
        columns = None if self.columns is None else tuple(self.columns.items())
        return hash((columns, self.extra_columns, self.max_columns, self.max_group_bytes))

    def drifting(self, word: SchemaDrift) -> Parquet:
        """The same reader under a pipeline's `schema_drift`."""
        return told(self, word)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cuts a file between row groups into pieces of about `size` bytes in memory, with exact row numbers.

        A piece's `start` and `stop` are bytes of the file: the row groups that begin there are its own. A
        file that cannot be opened stays whole, and `read` says why.
        """
        one = whole(file)
        if file.size <= size // 8:
            return [one]
        try:
            groups = row_groups(file.path, store, file.size)
        except (ValueError, TerminalError):
            return [one]
        pieces, weight, rows = [one], 0, 0
        for group in groups:
            if weight and weight + group.memory > size and group.begin > pieces[-1].start:
                pieces[-1] = pieces[-1].model_copy(update={"stop": group.begin})
                pieces.append(one.model_copy(update={"start": group.begin, "first_row": rows}))
                weight = 0
            weight += group.memory
            rows += group.rows
        ordered = all(a.begin < b.begin for a, b in pairwise(groups))
        return pieces if ordered else [one]

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads one piece.

        Raises:
            TerminalError: It is no Parquet file, damaged, encrypted, without rows, too large for memory, or
                has other columns than declared.
        """
        with _opened(piece, store) as source:
            names = source.schema_arrow.names
            check_width(names, piece.name, self.max_columns)
            if self.columns is not None:
                drop = not refuses(self.drift, self.extra_columns)
                check_extra(names, self.columns, piece.name, drop=drop, optional=self.optional)
            table = self._table(source, piece, row_groups(piece.path, store, store.size(piece.path)))
        if not table.num_rows and not piece.start:
            raise TerminalError(f"rows in {piece.name}", "none (0 rows)", "See what the producer left out.")
        rows = np.arange(piece.first_row, piece.first_row + table.num_rows, dtype=np.int64)
        raw = _Raw(table, piece.first_row)
        table, rows, bad = _in_range(table, rows)
        types = {n: kind for n, kind in (self.columns or {}).items() if isinstance(kind, pa.DataType)}

        def loosely(loose: AbstractSet[str]) -> Records:
            strict = {name: kind for name, kind in types.items() if name not in loose}
            done, kept, more = convert_columns(table, strict, rows)
            ordered = tuple(sorted(bad + more, key=lambda b: b.row))
            return Records(with_missing(done, types) if self.optional else done, kept, ordered, raw)

        unknown = [name for name in table.column_names if self.columns is not None and name not in self.columns]
        try:
            return settle(loosely(frozenset()), self.drift, types, unknown, loosely, _cast)
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            wanted = f"types in {piece.name} that can become those declared"
            raise TerminalError.wrap(error, wanted, "Correct the reader's columns.") from error

    def _table(self, source: pq.ParquetFile, piece: Piece, groups: Sequence[Group]) -> pa.Table:
        own = [
            i
            for i, group in enumerate(groups)
            if (piece.start <= group.begin or not piece.start) and (piece.stop is None or group.begin < piece.stop)
        ]
        self._check_memory(sum(groups[i].memory for i in own), piece)
        present = source.schema_arrow.names
        names = None if self.columns is None else [name for name in self.columns if name in present]
        if names is not None and looks(self.drift):
            names += [name for name in present if name not in names]
        table = source.read_row_groups(own, columns=names, use_threads=False)
        if table.num_rows != sum(groups[i].rows for i in own):
            raise ValueError(f"{table.num_rows:,} rows where the footer says otherwise")
        table.validate(full=True)  # damage may hide in offsets and in text that is no UTF-8
        self._check_memory(sum(_plain_size(column) for column in table.columns), piece)
        return _plain(table if names is None else table.select(names)).replace_schema_metadata(None)

    def _check_memory(self, size: int, piece: Piece) -> None:
        if size > self.max_group_bytes:
            raise TerminalError(
                f"row groups of {piece.name} that take at most {self.max_group_bytes:,} bytes in memory",
                f"about {size:,} bytes",
                "Write smaller row groups, or raise the reader's max_group_bytes.",
            )


@dataclass(frozen=True)
class _Raw:
    """Records as JSON text, by their numbers: Parquet has no text of its own."""

    table: pa.Table
    first: int

    def __call__(self, rows: Iterable[int]) -> dict[int, str]:
        found = {}
        for number in map(int, rows):
            if 0 <= number - self.first < self.table.num_rows:
                with suppress(OverflowError, ValueError):  # a time that Python cannot tell
                    (row,) = self.table.slice(number - self.first, 1).to_pylist()
                    found[number] = excerpt(json.dumps(row, default=str, ensure_ascii=False).encode())
        return found


class _Ranged(io.RawIOBase):
    """A file of a store, read by ranges."""

    def __init__(self, path: str, store: Store) -> None:
        self._path, self._store = path, store
        self._at, self._size = 0, store.size(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        data = self._store.read(self._path, self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data


@contextmanager
def _opened(piece: Piece, store: Store) -> Iterator[pq.ParquetFile]:
    """A Parquet file; whatever Arrow finds wrong with it while it is open is the file's fault."""
    size = store.size(piece.path)
    head = store.read(piece.path, 0, min(size, 512))
    _check_head(head, piece.name)
    source: Any = (
        pa.BufferReader(store.read(piece.path)) if size <= _SMALL else pa.PythonFile(_Ranged(piece.path, store), "r")
    )
    try:
        with pq.ParquetFile(
            source, pre_buffer=True, page_checksum_verification=True, arrow_extensions_enabled=False
        ) as file:
            yield _encoded(file, source)
    except (FileNotFoundError, TerminalError):
        raise
    except _BROKEN as error:
        encrypted = "encrypt" in str(error).lower() or "decrypt" in str(error).lower()
        fix = "Have it written without encryption." if encrypted else "Fetch it again from its producer."
        raise TerminalError.wrap(error, f"{piece.name} to be a whole, plain Parquet file", fix) from error


def _encoded(file: pq.ParquetFile, source: Any) -> pq.ParquetFile:
    """The same file, with text that is stored as a dictionary read as one: a long text repeated costs no more."""
    text = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
    if not text or file.metadata.num_columns > MAX_COLUMNS:
        return file
    return pq.ParquetFile(
        source,
        metadata=file.metadata,
        read_dictionary=text,
        pre_buffer=True,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )


def _check_head(head: bytes, name: str) -> None:
    if head.startswith(b"PAR1"):
        return
    if head.startswith(b"PARE"):
        raise TerminalError(f"plain Parquet in {name}", "an encrypted footer", "Have it written without encryption.")
    if not head:
        raise TerminalError(f"data in {name}", "an empty file (0 bytes)", "See whether the producer had finished it.")
    got = binary(head) or (f"a {kind} file" if (kind := compression(head)) else f"{head[:4]!r}")
    raise TerminalError(f"a Parquet file in {name} (it begins with PAR1)", got, "See what the producer sent.")


def _in_range(table: pa.Table, rows: Ints) -> tuple[pa.Table, Ints, list[Bad]]:
    """Sets apart the records with times before the year 1 or after 9999, which hardly any tool can take."""
    bad: list[Bad] = []
    wrong = np.zeros(table.num_rows, bool)
    for name, column in zip(table.column_names, table.columns, strict=True):
        scale = _PER_SECOND.get(_unit(column.type))
        if scale is None:
            continue
        ticks = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32()).cast(pa.int64())
        odd = pc.or_(pc.less(ticks, int(_FIRST * scale)), pc.greater(ticks, int(_LAST * scale)))
        for i in pc.indices_nonzero(pc.fill_null(odd, fill_value=False)).to_pylist():
            bad.append(Bad(int(rows[i]), "range", name, str(ticks[i].as_py())))
            wrong[i] = True
    return (table.filter(pa.array(~wrong)), rows[~wrong], bad) if bad else (table, rows, bad)


def _cast(values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    return values if kind is None else cast(values, kind)


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date32(kind):
        return "day"
    return "ms" if pa.types.is_date64(kind) else kind.unit if pa.types.is_timestamp(kind) else ""


def _plain_size(column: pa.ChunkedArray) -> int:
    """Bytes of a column once its dictionaries are written out."""
    return sum(_chunk_size(chunk) for chunk in column.chunks)


def _chunk_size(chunk: pa.Array) -> int:
    if not pa.types.is_dictionary(chunk.type):
        return int(chunk.nbytes)
    lengths = pc.binary_length(chunk.dictionary) if _textual(chunk.type.value_type) else None
    if lengths is None:
        return len(chunk) * WIDTH
    times: Ints = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(lengths))
    return int(np.dot(times, lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)))


def _textual(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _plain(table: pa.Table) -> pa.Table:
    """The table with its text written out; types that are dictionaries by declaration become plain too."""
    fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))
