"""Cleaning and checking: which source rows go on, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import IngestError, TerminalError, let_pass
from ingestlab.core.extras import needed
from ingestlab.engine.task.contract import apply_contract, lost
from ingestlab.engine.task.culprits import Fault, run_or_find
from ingestlab.engine.task.frames import INDEX, Frame, Ints, some, to_arrow, to_pandas, wants_polars
from ingestlab.engine.task.quality_gate import LEFT_OUT
from ingestlab.interfaces import Reason
from ingestlab.lake import layout
from ingestlab.pipeline.catalog import blame
from ingestlab.pipeline.keys import check_columns
from ingestlab.pipeline.pipeline import Pipeline

ADDED = ("_source", INDEX)  # to every published row


@dataclass(frozen=True)
class Checked:
    """Outcome of cleaning and contract: rows to publish, and reasons by index."""

    table: pa.Table
    index: Ints
    reasons: dict[int, Reason] = field(default_factory=dict)


def check(frame: Frame, pipeline: Pipeline) -> Checked:
    """Run a pipeline's `clean` and `contract` over a frame.

    Every index of `frame` comes back either in the result's index (once or more) or in its reasons. Rows that make
    user code raise are rejected where the frame is of one file; of several, each has to be asked by itself.

    Raises:
        TerminalError: The pipeline's code fails, loses the index, or lacks a column of the contract.
    """
    given, alone = pd.Index(frame.index), len(frame.loaded) == 1
    cleaned, faults = run_or_find(len(given), lambda rows: _clean(some(frame, rows), pipeline), search=alone)
    _check_index(cleaned, given, f"clean of '{pipeline.name}'")
    reasons = dict.fromkeys(lost(given, cleaned.index), Reason(LEFT_OUT)) | _raised("clean:", faults, frame.index)
    passed = cleaned
    if pipeline.contract is not None:
        passed, broken = _keep_contract(cleaned, pipeline, search=alone)
        _check_index(passed, given, f"the contract of '{pipeline.name}'")
        reasons |= broken
    checked = _reject_null_partition_keys(Checked(*_to_arrow(passed, pipeline), reasons), pipeline.folders)
    return _reject_null_keys(checked, pipeline) if pipeline.key_columns else checked


def _keep_contract(frame: pd.DataFrame, pipeline: Pipeline, *, search: bool) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """Apply the contract, without the rows that make a check raise."""
    (passed, broken), faults = run_or_find(
        len(frame), lambda rows: apply_contract(frame if rows is None else frame.iloc[rows], pipeline), search=search
    )
    raised = _raised("", faults, frame.index.to_numpy(np.int64))
    if raised and (gone := set(raised) & set(passed.index)):  # rows that `clean` has made of one source row go together
        passed = passed[~passed.index.isin(gone)]
    return passed, broken | raised


def _raised(prefix: str, faults: Mapping[int, Fault], index: Ints) -> dict[int, Reason]:
    """Map rows that make user code raise to reasons. The exception names the rule, its text is the value."""
    return {int(index[place]): Reason(prefix + fault.rule, fault.column, fault.text) for place, fault in faults.items()}


def _reject_null_partition_keys(checked: Checked, folders: Sequence[str]) -> Checked:
    """Reject rows with null partition keys. Pandas and Dask cannot read such folders back.

    So are NaN, the empty text (null for Spark and Polars) and the text that is Hive's word for null.
    """
    table, index = checked.table, checked.index
    null_keys: dict[int, Reason] = {}
    for column in folders:
        if column in table.column_names:
            null_keys = _null_partition_keys(table[column], index, column) | null_keys
    return _without(checked, null_keys)


def _reject_null_keys(checked: Checked, pipeline: Pipeline) -> Checked:
    """Reject rows that are null in a column of the key.

    Raises:
        TerminalError: A column that the merge needs is missing, or of the wrong type.
    """
    check_columns(checked.table, pipeline)
    null_keys: dict[int, Reason] = {}
    for column in pipeline.key_columns:
        if checked.table[column].null_count:
            nulls = checked.table[column].is_null().to_numpy()
            null_keys = dict.fromkeys(checked.index[nulls].tolist(), Reason("not_nullable", column)) | null_keys
    return _without(checked, null_keys)


def _without(checked: Checked, reasons: dict[int, Reason]) -> Checked:
    """Turn rows into rejects. All copies of a source row go with it."""
    if not reasons:
        return checked
    keep = ~np.isin(checked.index, list(reasons))
    return Checked(checked.table.filter(pa.array(keep)), checked.index[keep], checked.reasons | reasons)


def _null_partition_keys(values: pa.ChunkedArray, index: Ints, column: str) -> dict[int, Reason]:
    """Find the rows with a value that can name no folder."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    reasons: dict[int, Reason] = {}
    if values.null_count or pa.types.is_floating(kind):
        nulls = values.is_null(nan_is_null=pa.types.is_floating(values.type)).to_numpy()
        reasons = dict.fromkeys(index[nulls].tolist(), Reason("not_nullable", column))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        for text in ("", layout.NULL_FOLDER):
            same = pc.equal(values, text).fill_null(False)
            reasons |= dict.fromkeys(index[same.to_numpy()].tolist(), Reason("not_nullable", column, text))
    return reasons


def _check_index(result: pd.DataFrame, given: pd.Index[int], author: str) -> None:
    """Raise TerminalError for a changed index. One without gaps would look right, so its name tells."""
    if result.index.name != INDEX:
        got = "rows that it has numbered again"
    elif unknown := lost(result.index, given):
        got = f"rows with the index {unknown[0]}, which no source row has"
    else:
        return
    raise TerminalError(
        "The frame's index was changed",
        expected=f"{author} to keep the frame's index",
        got=got,
        fix="Do not reset the index; make new rows with repeat() or explode(), and add columns with map() or join().",
        code="clean_failed",
    )


def _to_arrow(frame: pd.DataFrame, pipeline: Pipeline) -> tuple[pa.Table, Ints]:
    taken = [name for name in ADDED if name in frame.columns]
    if taken:
        raise TerminalError(
            "A column has a reserved name",
            expected=f"columns of '{pipeline.name}' beside {' and '.join(ADDED)}, which every table gets",
            got=f"a column '{taken[0]}'",
            fix="Give it another name, or drop it in clean.",
            code="columns_conflict",
        )
    try:
        return to_arrow(frame)
    except Exception as error:  # a user's frame may hold anything
        fix = "Give every column one type and a name of its own."
        raise TerminalError.wrap(
            error, f"Arrow cannot hold the frame from '{pipeline.name}'", fix, code="clean_failed"
        ) from error


def _clean(frame: Frame, pipeline: Pipeline) -> pd.DataFrame:
    if pipeline.clean is None:
        return to_pandas(frame.table, frame.index)
    try:
        if wants_polars(pipeline.clean):
            result = _clean_polars(frame, pipeline)
        else:
            result = pipeline.clean(to_pandas(frame.table, frame.index))
    except IngestError:
        raise
    except BaseException as error:  # a user's function may raise anything, and must not end the process
        let_pass(error)
        fix = "Correct it; `ingestlab check` tries it on a file."
        raise blame(error, f"clean of '{pipeline.name}' failed", fix, "clean_failed") from error
    if not isinstance(result, pd.DataFrame):
        raise TerminalError(
            "clean gave no DataFrame",
            expected=f"a DataFrame from clean of '{pipeline.name}'",
            got=type(result).__name__,
            fix="Return the frame.",
            code="clean_failed",
        )
    return result


def _clean_polars(frame: Frame, pipeline: Pipeline) -> pd.DataFrame:
    pl = needed("polars", "polars", "a pipeline that is cleaned with Polars")

    assert pipeline.clean is not None
    given = pl.from_arrow(frame.table.append_column(INDEX, pa.array(frame.index)))
    result = pipeline.clean(given)
    if not isinstance(result, pl.DataFrame):
        wanted, got = f"a polars DataFrame from clean of '{pipeline.name}'", type(result).__name__
        raise TerminalError(
            "clean gave no DataFrame",
            expected=wanted,
            got=got,
            fix="Return the frame; collect() a lazy one.",
            code="clean_failed",
        )
    if INDEX not in result.columns:
        got = f"columns {', '.join(result.columns)}"
        raise TerminalError(
            "clean dropped a column",
            expected=f"clean of '{pipeline.name}' to keep the column {INDEX}",
            got=got,
            fix="Keep it.",
            code="clean_failed",
        )
    objects = [name for name, kind in result.schema.items() if _holds_objects(kind)]
    if objects:  # Arrow would get their addresses
        wanted = f"columns of Polars' own types from clean of '{pipeline.name}'"
        raise TerminalError(
            "clean gave Python objects",
            expected=wanted,
            got=f"Python objects in '{objects[0]}'",
            fix="Make text or numbers of them.",
            code="clean_failed",
        )
    table = result.to_arrow()
    return to_pandas(table.drop_columns([INDEX]), table[INDEX].to_numpy())


def _holds_objects(kind: Any) -> bool:
    """Tell whether a Polars type holds Python objects, even nested."""
    inner = [field.dtype for field in getattr(kind, "fields", ())]
    inner += filter(None, [getattr(kind, "inner", None)])
    return bool(kind.base_type().__name__ == "Object" or any(map(_holds_objects, inner)))
