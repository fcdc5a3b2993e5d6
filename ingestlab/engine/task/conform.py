"""Brings what `clean` and readers make to the types of the table, where no value changes; else the drift word decides.

Under ``evolve`` a column that does not fit stays as it is, and the commit widens the table to a type that holds both;
objects, lists and bytes do so only where such a type is not text. Where a reader infers its columns it fails its file,
but for objects and lists, which may have more names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Piece, Value
from ingestlab.engine.task.nameless import check_named
from ingestlab.engine.task.validate import Checked
from ingestlab.formats.common.columns import failing
from ingestlab.interfaces import Reason, Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import (
    ADDED,
    common_type,
    fit,
    holds,
    is_text,
    joined_types,
    parse_type,
    plain,
    readable,
    same_but_for_case,
    type_text,
    types_of,
)
from ingestlab.lake.data_files import (
    MAX_FOLDERS,
    batches,
    open_part,
    row_groups,
    without_dictionary,
    write_part,
)
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.pipeline import Pipeline

REWRITE = "`ingestlab rewrite {table}` brings the table to other types; or let clean keep the old one."


def is_loose(pipeline: Pipeline) -> bool:
    """Tell whether columns may be of another type in each part."""
    return pipeline.schema_drift == "evolve"


def infers(pipeline: Pipeline) -> bool:
    """Tell whether a pipeline's reader chooses the types. Then numbers may become text, and objects vary."""
    reader = getattr(pipeline.reader, "reader", pipeline.reader)  # an archive's
    return hasattr(reader, "columns") and reader.columns is None


def wanting(pieces: Sequence[Piece], types: Mapping[str, str]) -> list[Piece]:
    """Tell readers which columns are text in the table. These keep the letters of their cells."""
    texts = {name: kind for name, kind in types.items() if is_text(parse_type(kind))}
    if not texts:
        return list(pieces)
    return [piece.model_copy(update={"settled": {"wanted": texts, **piece.settled}}) for piece in pieces]


@dataclass(frozen=True)
class Conformed:
    """Rows in their table's types, and the values discarded by column."""

    checked: Checked
    discarded: Mapping[str, int]


def conform(checked: Checked, pipeline: Pipeline, types: Mapping[str, str]) -> Conformed:
    """Bring rows to the types of their table.

    Args:
        checked: What a pipeline has made.
        pipeline: Which says what becomes of a value that does not fit.
        types: Those of the table's columns, as text; columns that it has not are as they come.

    Raises:
        TerminalError: A column is of another type, or two differ by letter case alone.
    """
    _check_names(checked.table, pipeline, types)
    table, word, loose, own = checked.table, pipeline.schema_drift, is_loose(pipeline), infers(pipeline)
    if loose or own:
        check_named(table.column_names, types, pipeline.table or "")
    discarded: dict[str, int] = {}
    drifted: dict[int, Reason] = {}
    for i, name in enumerate(table.column_names):
        old = table.column(i)
        kind = parse_type(types[name]) if name in types else plain(old.type)
        new = fit(old, kind, as_text=loose or own)
        if new is None and (loose or own):
            new = _with_more_names(old, kind)
        if new is None and word in ("discard_row", "discard_value"):
            new, wrong = _fitting(old, kind)
            if word == "discard_value":
                discarded[name] = int(wrong.sum())
            else:
                values = [str(v)[:200] for v in old.filter(pa.array(wrong)).to_pylist()]
                rows = checked.index[wrong].tolist()
                drifted = {row: Reason("drift", name, value) for row, value in zip(rows, values, strict=True)} | drifted
        if new is None and not (loose and readable((kind, old.type))):
            wanted = f"{kind} in column '{name}', as table {pipeline.table} has it"
            got = f"{plain(old.type)}, e.g. {_misfit(old, kind)}"
            fix = _fix(pipeline.table, name, old, kind) if own or loose else REWRITE.format(table=pipeline.table)
            raise TerminalError(
                "A column does not fit the table", expected=wanted, got=got, fix=fix, code="types_conflict"
            )
        if new is not None and new is not old:
            table = table.set_column(i, pa.field(name, new.type), new)
    if not loose and types:
        table = _complete(table, types)
    return Conformed(_without(replace(checked, table=table), drifted), discarded)


def _with_more_names(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Convert objects or lists to a type that holds the table's too. None if there is none."""
    wide = common_type((kind, values.type))
    return fit(values, wide) if pa.types.is_nested(wide) and holds(wide, kind) else None


def _fix(table: str, column: str, values: pa.ChunkedArray, kind: pa.DataType) -> str:
    """Suggest how a table gets a type that takes a file's column."""
    both = common_type([kind, values.type])
    if not readable((kind, values.type)):
        return 'Submit the file to a table of its own; or declare the column, e.g. as "json".'
    wide = "string" if is_text(both) or fit(values, both) is None else type_text(both)
    how = f"`ingestlab rewrite {table} --type {quote(f'{column}={wide}')}`, and submit the file again"
    return f"Submit the file to a table of its own; or bring the table to a type that holds both: {how}."


def _check_names(table: pa.Table, pipeline: Pipeline, types: Mapping[str, str]) -> None:
    """Refuse columns that differ by case alone: DuckDB and Spark take them for one."""
    alike = same_but_for_case([*table.column_names, *pipeline.folders], [*ADDED, *types])
    if alike:
        wanted = f"columns of table {pipeline.table} that differ by more than letter case"
        fix = "DuckDB and Spark take them for one. Rename one, in the reader or in clean."
        raise TerminalError(
            "Two columns are called alike",
            expected=wanted,
            got=f"'{alike[0]}' and '{alike[1]}'",
            fix=fix,
            code="columns_conflict",
        )


def _complete(table: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """Order a table's columns, and add missing ones as nulls."""
    for name, kind in types.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, parse_type(kind)))
    return table.select([*types, *(name for name in table.column_names if name not in types)])


def _fitting(values: pa.ChunkedArray, kind: pa.DataType) -> tuple[pa.ChunkedArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Convert values to a type. Those that cannot be are null, and masked."""
    wrong = np.zeros(len(values), np.bool_)
    wrong[failing(lambda low, high: fit(values.slice(low, high - low), kind) is None, 0, len(values))] = True
    known = pa.chunked_array([pa.array(values.combine_chunks().to_pylist(), values.type, mask=wrong)])
    done = fit(known, kind)
    assert done is not None
    return done, wrong


def _misfit(values: pa.ChunkedArray, kind: pa.DataType) -> str:
    """Describe the first value that is not of a type."""
    some = failing(lambda low, high: fit(values.slice(low, high - low), kind) is None, 0, min(len(values), 10_000))
    return repr(str(values[some[0]].as_py()))[:80] if some else "one far behind"


def _without(checked: Checked, reasons: Mapping[int, Reason]) -> Checked:
    """Drop rows that have a reason."""
    if not reasons:
        return checked
    keep = ~np.isin(checked.index, list(reasons))
    table = checked.table.filter(pa.array(keep))
    return Checked(table, checked.index[keep], checked.reasons | dict(reasons))


class Restage(Value):
    """Staged or published part, and the column types to give it.

    Attributes:
        part: It is at its `staged`.
        types: Its new columns in their order, but for those that every table has; those it lacks are null.
        target: Where the new part goes.
        batch: In whose staging folder it waits.
        only_new_names: Whether columns that `types` does not name stay, as they are.
    """

    part: DataFile
    types: dict[str, str]
    target: str
    batch: str


def restage(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Stage a part in other types, as a Dask task. Gives ``{"part": …}``, or ``{"misfit": column, "value": text}``."""
    spec, store = Restage.from_dict(work), open_store(lake, options)
    try:
        return {"part": _restage(spec, store).to_dict()}
    except MisfitError as error:
        return {"misfit": error.column, "value": error.value}


class MisfitError(Exception):
    """Raised where a column's value is not of its new type."""

    def __init__(self, column: str, value: str) -> None:
        super().__init__(column, value)
        self.column, self.value = column, value


def _restage(spec: Restage, store: Store) -> DataFile:
    opened = open_part(spec.part.model_copy(update={"target": spec.part.staged}), store)
    old = opened.schema_arrow
    wanted = {name: parse_type(kind) for name, kind in spec.types.items()}
    more = [field for field in old if field.name not in wanted]
    schema = pa.schema([*(pa.field(n, k) for n, k in wanted.items()), *more]).remove_metadata()
    rows = row_groups(retyped(table, schema) for table in batches(opened))
    return write_part(
        rows, schema, spec.target, spec.part.sources, layout.staging(spec.batch), store, without_dictionary([opened])
    )


def retyped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Convert a table to a schema. Raises MisfitError where a value would change."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        old = table[field.name]
        new = old if old.type == field.type else fit(old, field.type, as_text=True) or _parsed(old, field.type)
        if new is None:
            raise MisfitError(field.name, _misfit(old, field.type))
        columns.append(new)
    return pa.table(columns, schema=schema)


def _parsed(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Parse texts as values that give back the very texts. None if they do not."""
    if not is_text(texts.type):
        return None
    try:
        values = texts.cast(kind)
        same = pc.equal(values.cast(texts.type), texts)
        if pc.all(same, min_count=0).as_py() is not False:
            return values
        different = pc.unique(texts.filter(pc.invert(same))).drop_null()  # folders are named as Python writes values
        written = map(str, different.cast(kind).to_pylist()) if len(different) <= MAX_FOLDERS else ()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return None
    return values if list(written) == different.to_pylist() else None


def typed(tables: Iterable[pa.Table]) -> dict[str, tuple[str, ...]]:
    """Collect the column types of what one task publishes."""
    return joined_types(*({n: (kind,) for n, kind in types_of(t.schema).items()} for t in tables if t.num_rows))
