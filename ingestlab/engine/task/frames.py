"""The pieces of a partition as one frame, and the way back from its index to source rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestlab.core.models import Piece
from ingestlab.interfaces import Bad, Records
from ingestlab.lake.arrow_schema import common_schema

INDEX = "_row"  # the name of a frame's index while users' code has it
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Loaded:
    """Piece and what its reader made of it."""

    piece: Piece
    records: Records

    @cached_property
    def broken(self) -> dict[int, Bad]:
        """Map unreadable records to the first fault of each."""
        return {bad.row: bad for bad in reversed(self.records.bad)}

    @property
    def count(self) -> int:
        """Count all records of the piece, readable or not."""
        return len(self.records.rows) + len(self.broken)

    @property
    def span(self) -> int:
        """Count rows from the piece's first to its last that matters."""
        if self.piece.wanted is None:
            return self.count
        return self.piece.wanted.rows[-1] - self.piece.first_row + 1


@dataclass(frozen=True)
class Frame:
    """Readable records of several pieces.

    `index[i]` stands for the record in `table[i]`: its row number in the file if there is one piece, else
    its number within the partition. `starts[k]` is the index of the first record of piece `k`.
    """

    loaded: tuple[Loaded, ...]
    table: pa.Table
    index: Ints
    starts: Ints

    @property
    def offsets(self) -> Ints:
        """Return by piece what to subtract from indexes for row numbers."""
        return self.starts - np.array([reading.piece.first_row for reading in self.loaded], dtype=np.int64)

    def pieces_of(self, index: Ints) -> Ints:
        """Return the piece number of each index."""
        if len(self.starts) == 1:
            return np.zeros(len(index), np.int64)
        return np.searchsorted(self.starts, index, side="right").astype(np.int64) - 1

    def split(self, index: Ints) -> Iterator[tuple[Loaded, Ints, int]]:
        """Yield each piece with its share of the indexes, and its offset."""
        numbers = self.pieces_of(index)
        for k in np.unique(numbers):
            yield self.loaded[k], index[numbers == k], int(self.offsets[k])


def join(loaded: Sequence[Loaded]) -> Frame:
    """Concatenate pieces. A column that only some have is null in the others."""
    spans = [reading.span for reading in loaded]
    base = loaded[0].piece.first_row if len(loaded) == 1 else 0
    starts = base + np.concatenate(([0], np.cumsum(spans[:-1]))).astype(np.int64)
    index = [
        reading.records.rows - reading.piece.first_row + start for reading, start in zip(loaded, starts, strict=True)
    ]
    table = pa.concat_tables([reading.records.table for reading in loaded], promote_options="permissive")
    if len(loaded) > 1:  # these are small; every function called on a column costs something for each chunk
        table = table.combine_chunks()
    return Frame(tuple(loaded), table, np.concatenate(index), starts)


def families(loaded: Sequence[Loaded]) -> list[list[Loaded]]:
    """Group pieces by columns that go together. No value may change: nobody's decimals become a neighbour's floats."""
    groups: list[tuple[pa.Schema, list[Loaded]]] = []
    for reading in loaded:
        schema = reading.records.table.schema
        for i, (family_schema, members) in enumerate(groups):
            if both := family_schema if schema == family_schema else common_schema(family_schema, schema):
                groups[i] = (both, [*members, reading])
                break
        else:
            groups.append((schema, [reading]))
    return [members for _, members in groups]


def some(frame: Frame, rows: Ints | None) -> Frame:
    """Take the records at some places; None for all."""
    return frame if rows is None else replace(frame, table=frame.table.take(pa.array(rows)), index=frame.index[rows])


def distinct(index: Ints) -> Ints:
    """Return each index once, ascending. They mostly are so already."""
    if (np.diff(index) > 0).all():
        return index
    ordered = np.sort(index)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def to_pandas(table: pa.Table, index: Ints) -> pd.DataFrame:
    """Build a pandas frame on Arrow memory, with the given index."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, split_blocks=True, ignore_metadata=True)
    frame.index = pd.Index(index, name=INDEX)
    return frame


def filtered(frame: pd.DataFrame, keep: Bools) -> pd.DataFrame:
    """Filter rows by a mask. Arrow takes a quarter of the time of pandas."""
    if not frame.columns.is_unique:
        return frame[keep]
    mask = pa.array(keep)
    columns = {
        name: pd.arrays.ArrowExtensionArray(pa.chunked_array(series.array.__arrow_array__()).filter(mask))
        if isinstance(series.dtype, pd.ArrowDtype)
        else series.array[keep]
        for name, series in frame.items()
    }
    rest = pd.DataFrame(columns, index=frame.index[keep], copy=False)
    rest.columns = frame.columns
    return rest


def to_arrow(frame: pd.DataFrame) -> tuple[pa.Table, Ints]:
    """Convert back to a table without its index, and the index."""
    return _table_of(frame), frame.index.to_numpy(dtype=np.int64)


def _table_of(frame: pd.DataFrame) -> pa.Table:
    """Take Arrow's columns as they are, and convert the others. Pyarrow would look at each for long."""
    names = list(frame.columns)
    if not names or not frame.columns.is_unique or not all(type(name) is str for name in names):
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    arrays = map(frame._mgr.iget_values, range(len(names)))  # noqa: SLF001 - no Series for each
    held = {
        name: values.__arrow_array__()
        for name, values in zip(names, arrays, strict=True)
        if isinstance(values, pd.arrays.ArrowExtensionArray) and isinstance(values.dtype, pd.ArrowDtype)
    }
    if others := [name for name in names if name not in held]:
        table = pa.Table.from_pandas(frame[others], preserve_index=False)
        held |= dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({name: held[name] for name in names})


def wants_polars(clean: Callable[[Any], Any]) -> bool:
    """Tell whether a function's first argument is annotated as a Polars frame."""
    notes = [str(n) for name, n in getattr(clean, "__annotations__", {}).items() if name != "return"]
    return any("polars" in note or note.startswith("pl.") for note in notes)
