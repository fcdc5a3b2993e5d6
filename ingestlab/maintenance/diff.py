"""Compares two states of a table: what `ingestlab diff` shows.

Data files that both states have are passed over. The rows of the others are cut by a hash into pieces that fit into
memory, by way of temporary files if they are many, and the pieces are compared one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.types as kinds
from pydantic_core import to_json

from ingestlab.analytics.lake import Lake, Table
from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.settings import Settings
from ingestlab.lake.arrow_schema import common_type, plain
from ingestlab.lake.past import AsOf

ROWS = 1 << 19  # of a piece, about
BYTES = 64 << 20  # of the files of a piece, about
MOST = 256  # pieces
_OWN = ("_source", "_row")  # columns by which the same row may differ
_SAID = ("key", "came", "went", "changed")
_COUNT, _KEY = "__count", "__key"
Change = Literal["came", "went", "before", "after"]  # the last two are of a row that has changed


@dataclass
class Diff:
    """How a state of a table differs from an earlier one.

    Attributes:
        table: Its name.
        old: The earlier state, as it was asked for.
        new: The later one; None for that of now.
        key: The columns that tell rows apart; without them no row counts as changed.
        came: How many rows only the later state has.
        went: How many only the earlier one has.
        changed: How many have the key of one in the other state, and other values.
        rows: The first of them, each with what it is in the column `change`.
    """

    table: str
    old: str
    new: str | None
    key: tuple[str, ...] = ()
    came: int = 0
    went: int = 0
    changed: int = 0
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def more(self) -> bool:
        """Tell whether there are rows beside those that are given."""
        return len(self.rows) < self.came + self.went + 2 * self.changed

    def to_json(self) -> str:
        """Write the counts and the rows as JSON."""
        rows = self.rows.astype(object).where(self.rows.notna(), None).to_dict("records")
        return _json({name: getattr(self, name) for name in ("table", "old", "new", *_SAID)} | {"rows": rows})

    def __str__(self) -> str:
        changed = f", {self.changed:,} changed by {', '.join(self.key)}" if self.key else ""
        return f"{self.table}: {self.came:,} row{'s'[: self.came != 1]} came, {self.went:,} went{changed}"

    def __repr__(self) -> str:
        return f"{self}\n{self.rows}" if len(self.rows) else str(self)


def diff(
    table: str,
    old: AsOf,
    new: AsOf | None,
    settings: Settings,
    *,
    tenant: str | None = None,
    key: Sequence[str] = (),
    limit: int = 20,
) -> Diff:
    """Compare two states of a table, without the columns `_source` and `_row`.

    Args:
        table: Its name.
        old: The earlier state: a run, a time or the number of a commit.
        new: The later one; None for that of now.
        settings: Where the lake is.
        tenant: The tenant of the table.
        key: Columns that tell rows apart; without them those of the pipeline's `key`, if it has one.
        limit: How many rows of each kind are given.

    Raises:
        TerminalError: There is no such table, state or column.
    """
    lake = Lake(settings, tenant)
    states = lake.table(table, old), lake.table(table, new)
    columns = _columns(states)
    found = Diff(table, str(old), None if new is None else str(new), tuple(key) or _key_of(states[1]))
    for name in found.key if columns else ():  # no data file in both: nothing tells which columns there are
        if name not in columns:
            fix = did_you_mean(name, columns, "Name one of these.")
            problem = f"Table {table} has no column '{name}', but {', '.join(columns)}"
            raise TerminalError(problem, fix=fix, code="column_unknown")
    sample: list[dict[str, Any]] = []
    for piece in _pieces(states, columns, found.key or tuple(columns)):
        _compare(piece, found, sample, limit)
    sample.sort(key=lambda row: _order(row, found.key))
    found.rows = pd.DataFrame(sample, columns=["change", *columns])
    return found


def _order(row: dict[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
    """Put the two states of a changed row side by side."""
    if row["change"] in ("came", "went"):
        return (row["change"],)
    return ("~", *(str(row[name]) for name in key), row["change"] != "before")


def _key_of(state: Table) -> tuple[str, ...]:
    """Return the columns by which a commit merged rows last."""
    return next((m.key for m in reversed(state.manifests) if m.key), ())


def _columns(states: Iterable[Table]) -> dict[str, pa.DataType]:
    """Return the columns of both states, in types for both."""
    types: dict[str, list[pa.DataType]] = {}
    for state in states:
        for column in state.dataset().schema:
            if column.name not in _OWN:
                types.setdefault(column.name, []).append(plain(column.type))
    return {name: common_type(both) for name, both in types.items()}


def _pieces(states: tuple[Table, Table], columns: dict[str, pa.DataType], by: tuple[str, ...]) -> Iterator[pa.Table]:
    """Yield the rows of files that only one state has, by pieces: earlier ones count -1, later ones 1."""
    names = [{part.target for part in state.parts} for state in states]
    both = names[0] & names[1]
    only = [[part for part in state.parts if part.target not in both] for state in states]
    parts = [part for some in only for part in some]
    sets = [(state.dataset_of(some), count) for state, some, count in zip(states, only, (-1, 1), strict=True) if some]
    batches = (_aligned(batch, columns, count) for data, count in sets for batch in _batches(data))
    number = min(MOST, max(-(-sum(p.rows for p in parts) // ROWS), -(-sum(p.size for p in parts) // BYTES)))
    if number <= 1:
        tables = list(batches)
        yield from [pa.concat_tables(tables)] if tables else []
        return
    with tempfile.TemporaryDirectory(prefix="ingestlab-diff-") as folder:
        paths = [Path(folder, f"{i}.arrow") for i in range(number)]
        _spill(batches, paths, by)
        for path in paths:
            if path.exists():
                with pa.ipc.open_stream(path) as reader:
                    yield reader.read_all()
                path.unlink()


def _batches(data: ds.Dataset) -> Iterator[pa.RecordBatch]:
    names = [name for name in data.schema.names if name not in _OWN]
    return (batch for batch in data.scanner(columns=names).to_batches() if batch.num_rows)


def _spill(tables: Iterable[pa.Table], paths: Sequence[Path], by: tuple[str, ...]) -> None:
    """Write rows to the file that their hash names."""
    with ExitStack() as stack:
        writers: dict[int, Any] = {}
        for table in tables:
            places = _hashes(table, by) % len(paths)
            for place in np.unique(places).tolist():
                if place not in writers:
                    writers[place] = stack.enter_context(pa.ipc.new_stream(paths[place], table.schema))
                writers[place].write_table(table.filter(pa.array(places == place)))


def _aligned(batch: pa.RecordBatch, columns: dict[str, pa.DataType], count: int) -> pa.Table:
    """Give rows the columns of both states, as Arrow can group them."""
    made = {
        name: _plain(batch.column(name), kind) if name in batch.schema.names else _plain(pa.nulls(len(batch)), kind)
        for name, kind in columns.items()
    }
    return pa.table({**made, _COUNT: pa.array(np.full(len(batch), count, dtype=np.int64))})


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert values to a type. Those of lists and objects become JSON."""
    if kinds.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        values = column.to_pylist()
        return pa.array([None if value is None else _json(value) for value in values], pa.string())
    decoded = column.cast(column.type.value_type) if kinds.is_dictionary(column.type) else column
    return decoded.cast(kind)


def _json(value: Any) -> str:
    return to_json(value, inf_nan_mode="strings", bytes_mode="hex", fallback=str).decode()


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write values as text, null as its own."""
    if any(is_so(column.type) for is_so in (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary)):
        column = pa.chunked_array([pa.array([v if v is None else v.hex() for v in column.to_pylist()], pa.string())])
    return pc.fill_null(column.cast(pa.string()), "\0")


def _hashes(table: pa.Table, by: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Hash rows by columns, alike in every process."""
    hashes = (pd.util.hash_array(_texts(table[name]).to_numpy()) for name in by)
    step: Callable[[Any, Any], Any] = lambda left, right: left * np.uint64(31) + right  # noqa: E731
    return np.asarray(reduce(step, hashes), dtype=np.uint64)


def _compare(piece: pa.Table, found: Diff, sample: list[dict[str, Any]], limit: int) -> None:
    """Count what differs in a piece, and take samples."""
    names = [name for name in piece.column_names if name != _COUNT]
    groups = piece.group_by(names, use_threads=False).aggregate([(_COUNT, "sum")])
    groups = groups.rename_columns([*names, _COUNT])
    rows = groups.filter(pc.not_equal(groups[_COUNT], 0))
    if not rows.num_rows:
        return
    if not found.key:
        counts = rows[_COUNT].to_numpy()
        found.came += int(counts[counts > 0].sum())
        found.went -= int(counts[counts < 0].sum())
        _sample(rows, "came", "went", sample, limit)
        return
    rows = rows.append_column(_KEY, pc.binary_join_element_wise(*(_texts(rows[n]) for n in found.key), "\x1f"))
    came = pc.max_element_wise(rows[_COUNT], 0)
    keys = rows.append_column("came", came).append_column("went", pc.subtract(came, rows[_COUNT]))
    totals = keys.group_by(_KEY, use_threads=False).aggregate([("came", "sum"), ("went", "sum")])
    both = pc.min_element_wise(totals["came_sum"], totals["went_sum"])
    changed = pc.sum(both).as_py()
    found.changed += changed
    found.came += pc.sum(totals["came_sum"]).as_py() - changed
    found.went += pc.sum(totals["went_sum"]).as_py() - changed
    in_both = pc.is_in(rows[_KEY], totals.filter(pc.greater(both, 0))[_KEY].combine_chunks())
    _sample(rows.filter(pc.invert(in_both)), "came", "went", sample, limit)
    _sample(rows.filter(in_both).sort_by(_KEY), "after", "before", sample, limit)


def _sample(rows: pa.Table, plus: Change, minus: Change, sample: list[dict[str, Any]], limit: int) -> None:
    """Take the first rows, if there are fewer by now."""
    for change, chosen in ((plus, pc.greater(rows[_COUNT], 0)), (minus, pc.less(rows[_COUNT], 0))):
        left = limit - sum(row["change"] == change for row in sample)
        for row in rows.filter(chosen).slice(0, max(0, left)).to_pylist():
            count = min(abs(row.pop(_COUNT)), left)
            row.pop(_KEY, None)
            sample.extend({"change": change, **row} for _ in range(count))
            left -= count
