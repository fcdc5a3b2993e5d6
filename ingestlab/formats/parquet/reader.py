"""Parquet: read by row groups, typed as declared, and only where its metadata says that it fits into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.columns import (
    MAX_COLUMNS,
    cast,
    check_extra,
    check_optional,
    check_width,
    convert_columns,
    declared,
    hash_of,
    set_apart,
    types_in,
)
from ingestlab.formats.common.cutting import Cut, Ints
from ingestlab.formats.common.drift import apply_drift, looks, refuses, under_drift, with_missing
from ingestlab.formats.common.excerpts import excerpt
from ingestlab.formats.common.linewise import cut_at, whole_file
from ingestlab.formats.parquet.file import Opened, opened, plain, plain_size
from ingestlab.formats.parquet.footer import row_groups
from ingestlab.formats.parquet.hive import folder_values, with_folders
from ingestlab.formats.parquet.int96 import FIRST, LAST, Unit, choose_units, int96_columns, with_int96
from ingestlab.interfaces import Bad, Records, SchemaDrift, Store

INT96 = "int96"  # what `split` settles: the units of such columns
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "day": 1 / 86_400}  # nanoseconds do not reach so far


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Read Parquet files, cut between row groups.

    Records with a value that does not fit the declared type, e.g. a number too large, are set apart as
    :class:`~ingestlab.pipeline.pipeline.Bad` with the rule ``type``.

    Attributes:
        columns: Name to Arrow type, as in :class:`~ingestlab.formats.csv.reader.Csv`; the file's values are cast where
            its types differ. None takes all columns as they are.
        optional: Declared columns that a file may lack; they are null in it.
        extra_columns: What to do with columns that are in the file but not declared, if the pipeline's
            `schema_drift` does not say it.
        drift: What the pipeline's `schema_drift` says; set by the pipeline.
        hive: Whether folders in the source's path such as ``day=2024-01-31/`` are columns: of the type that `columns`
            has for them, else of text.
        max_columns: Most columns in a file.
        max_group_bytes: What the row groups of one piece may take in memory: a few bytes of Parquet can stand
            for a great many.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    columns: Mapping[str, str | pa.DataType] | None = None
    optional: Sequence[str] = ()
    extra_columns: Literal["fail", "drop"] = "fail"
    drift: SchemaDrift | None = None
    hive: bool = False
    max_columns: int = MAX_COLUMNS
    max_group_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.columns is not None:
            types = declared(self.columns, lambda kind: not pa.types.is_null(kind), "Parquet")
            object.__setattr__(self, "columns", types)
            check_optional(self.optional, types)
        object.__setattr__(self, "optional", tuple(self.optional))

    def __hash__(self) -> int:
        return hash_of(self)

    def drifting(self, word: SchemaDrift) -> Parquet:
        """Return a copy under a pipeline's `schema_drift`."""
        return under_drift(self, word)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cut a file into pieces of about `size` bytes in memory. Row numbers are exact.

        A piece's `start` and `stop` are bytes of the file: the row groups that begin there are its own. A
        file that cannot be opened stays whole, and `read` says why.
        """
        whole = whole_file(file)
        if file.size <= size // 8:
            return [whole]
        try:
            groups = row_groups(file.path, store, file.size)
        except (ValueError, TerminalError):
            return [whole]
        cuts: list[Cut] = []
        weight = rows = 0
        for group in groups:
            if weight and weight + group.memory > size and group.begin > (cuts[-1].offset if cuts else 0):
                cuts.append(Cut(group.begin, rows))
                weight = 0
            weight += group.memory
            rows += group.rows
        if not cuts or any(a.begin >= b.begin for a, b in pairwise(groups)):
            return [whole]
        return list(cut_at(whole.model_copy(update={"settled": {**whole.settled, **self._settle(whole, store)}}), cuts))

    def _settle(self, file: Piece, store: Store) -> dict[str, Any]:
        """Decide what all pieces of a file have to agree on."""
        try:
            with opened(file, store) as source:
                names = int96_columns(source.file)
                if self.columns is not None and not looks(self.drift):
                    names = [name for name in names if name in self.columns]
                return {INT96: self._units(source, names)} if names else {}
        except TerminalError:  # `read` says why
            return {}

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece.

        Raises:
            TerminalError: It is no Parquet file, damaged, encrypted, without rows, too large for memory, or
                has other columns than declared.
        """
        if self.hive and (folders := folder_values(piece.uri)):
            return self._with_folders(folders, piece, store)
        with opened(piece, store) as source:
            if not source.names:
                problem, fix = f"There are no columns in {piece.name}", "See what the producer left out."
                raise TerminalError(problem, got="none at all", fix=fix, code="no_rows")
            check_width(source.names, piece.name, self.max_columns)
            if self.columns is not None:
                drop = not refuses(self.drift, self.extra_columns)
                check_extra(source.names, self.columns, piece.name, drop=drop, optional=self.optional)
            table, bad = self._table(source, piece)
        facts = {} if sum(group.rows for group in source.groups) else {"note": "0 rows"}
        return replace(self._settled(table, bad, piece), facts=facts)

    def _with_folders(self, folders: dict[str, str | None], piece: Piece, store: Store) -> Records:
        """Read a file in folders that say values of columns."""
        own = {name: kind for name, kind in self._types.items() if name not in folders}
        reader = replace(
            self, hive=False, columns=own or None, optional=[name for name in self.optional if name not in folders]
        )
        records = with_folders(reader.read(piece, store), folders, self._types, piece)
        order = [*self._types, *(name for name in records.table.column_names if name not in self._types)]
        names = [name for name in order if name in records.table.column_names]
        return replace(records, table=records.table.select(names))

    @property
    def _types(self) -> dict[str, pa.DataType]:
        return types_in(self.columns)

    def _settled(self, table: pa.Table, wrong: list[Bad], piece: Piece) -> Records:
        """Convert a table as declared, and apply its schema drift."""
        raw = partial(_raw, table, piece.first_row)
        numbers = np.arange(piece.first_row, piece.first_row + table.num_rows, dtype=np.int64)
        records = set_apart(Records(table, numbers, raw=raw), [*wrong, *_out_of_range(table, numbers)])
        types = self._types

        def loosely(loose: AbstractSet[str]) -> Records:
            strict = {name: kind for name, kind in types.items() if name not in loose}
            done, kept, more = convert_columns(records.table, strict, records.rows)
            ordered = tuple(sorted([*records.bad, *more], key=lambda b: b.row))
            return Records(with_missing(done, types) if self.optional else done, kept, ordered, raw)

        unknown = [name for name in table.column_names if self.columns is not None and name not in self.columns]
        try:
            return apply_drift(loosely(frozenset()), self.drift, types, unknown, loosely, _cast)
        except pa.ArrowException as error:
            problem, fix = f"Types in {piece.name} cannot become those declared", "Correct the reader's columns."
            raise TerminalError.wrap(error, problem, fix, code="types_conflict") from error

    def _table(self, source: Opened, piece: Piece) -> tuple[pa.Table, list[Bad]]:
        groups = source.groups
        own = [
            i
            for i, group in enumerate(groups)
            if (piece.start <= group.begin or not piece.start) and (piece.stop is None or group.begin < piece.stop)
        ]
        self._check_memory(sum(groups[i].memory for i in own), piece)
        names = None if self.columns is None else [name for name in self.columns if name in source.names]
        if names is not None and looks(self.drift):
            names += [name for name in source.names if name not in names]
        table = source.read(own, names, self.max_group_bytes)
        self._check_memory(sum(plain_size(column) for column in table.columns), piece)
        if table.num_rows != sum(groups[i].rows for i in own):
            raise ValueError(f"{table.num_rows:,} rows where the footer says otherwise")
        table.validate(full=True)  # damage may hide in offsets and in text that is no UTF-8
        table = plain(table if names is None else table.select(names)).replace_schema_metadata(None)
        old = [name for name in int96_columns(source.file) if name in table.column_names]
        if not old:
            return table, []
        units = piece.settled.get(INT96) or self._units(source, old)
        units = {name: units[name] for name in old}
        return with_int96(table, source.in_unit, own, units, piece.first_row)

    def _units(self, source: Opened, names: Sequence[str]) -> dict[str, Unit]:
        """Choose the unit of each INT96 column: declared, or fitting most times."""
        kinds = {name: (self.columns or {}).get(name) for name in names}
        said: dict[str, Unit] = {n: "ns" if k.unit == "ns" else "us" for n, k in kinds.items() if _is_time(k)}
        rest = [name for name in names if name not in said]
        return {**said, **choose_units(source.in_unit, rest, range(len(source.groups)))}

    def _check_memory(self, size: int, piece: Piece) -> None:
        if size > self.max_group_bytes:
            raise TerminalError(
                f"Row groups of {piece.name} are too large",
                expected=f"at most {self.max_group_bytes:,} bytes in memory",
                got=f"about {size:,} bytes",
                code="limit_exceeded",
                fix="Write smaller row groups, or raise the reader's max_group_bytes.",
            )


def _raw(table: pa.Table, first: int, rows: Iterable[int]) -> dict[int, str]:
    """Return records as JSON, since Parquet has no text of its own."""
    texts = {}
    for number in map(int, rows):
        if 0 <= number - first < table.num_rows:
            with suppress(OverflowError, ValueError):  # a time that Python cannot tell
                (row,) = table.slice(number - first, 1).to_pylist()
                texts[number] = excerpt(json.dumps(row, default=str, ensure_ascii=False).encode())
    return texts


def _out_of_range(table: pa.Table, rows: Ints) -> Iterator[Bad]:
    """Find times before the year 1 or after 9999."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        scale = _PER_SECOND.get(_unit(column.type))
        if scale is None:
            continue
        ticks = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32()).cast(pa.int64())
        odd = pc.or_(pc.less(ticks, int(FIRST * scale)), pc.greater(ticks, int(LAST * scale)))
        for i in pc.indices_nonzero(pc.fill_null(odd, fill_value=False)).to_pylist():
            yield Bad(int(rows[i]), "range", name, str(ticks[i].as_py()))


def _cast(values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    return values if kind is None else cast(values, kind)


def _is_time(kind: str | pa.DataType | None) -> TypeGuard[pa.TimestampType]:
    return isinstance(kind, pa.DataType) and pa.types.is_timestamp(kind)


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date32(kind):
        return "day"
    return "ms" if pa.types.is_date64(kind) else kind.unit if pa.types.is_timestamp(kind) else ""
