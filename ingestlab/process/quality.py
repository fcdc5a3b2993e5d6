"""Cleaning and checking: which source rows go on, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestlab.catalog import blame
from ingestlab.errors import IngestError, TerminalError
from ingestlab.pipeline import Pipeline
from ingestlab.process.contract import Reason, apply_contract, lost
from ingestlab.process.frames import INDEX, Frame, Ints, to_arrow, to_pandas, wants_polars
from ingestlab.process.gate import LEFT_OUT

ADDED = ("_source", INDEX)  # to every published row


@dataclass(frozen=True)
class Checked:
    """What cleaning and the contract made of a frame: rows to publish, and reasons by index."""

    table: pa.Table
    index: Ints
    reasons: dict[int, Reason] = field(default_factory=dict)


def check(frame: Frame, pipeline: Pipeline) -> Checked:
    """Runs a pipeline's `clean` and `contract` over a frame.

    Every index of `frame` comes back either in the result's index (once or more) or in its reasons.

    Raises:
        TerminalError: The pipeline's code fails, loses the index, or lacks a column of the contract.
    """
    given = pd.Index(frame.index)
    cleaned = _clean(frame, pipeline)
    _check_index(cleaned, given, f"clean of '{pipeline.name}'")
    reasons = dict.fromkeys(lost(given, cleaned.index), Reason(LEFT_OUT))
    passed = cleaned
    if pipeline.contract is not None:
        passed, broken = apply_contract(cleaned, pipeline)
        _check_index(passed, given, f"the contract of '{pipeline.name}'")
        reasons |= broken
    return _without_homeless(Checked(*_to_arrow(passed, pipeline), reasons), pipeline.folders)


def _without_homeless(checked: Checked, folders: Sequence[str]) -> Checked:
    """Rejects rows that are null where a folder's name is wanted: pandas and Dask cannot read a folder for null."""
    table, index = checked.table, checked.index
    homeless: dict[int, Reason] = {}
    for column in folders:
        if column in table.column_names and table[column].null_count:
            nulls = index[table[column].is_null().to_numpy()]
            homeless = dict.fromkeys(nulls.tolist(), Reason("not_nullable", column)) | homeless
    if not homeless:
        return checked
    keep = ~np.isin(index, list(homeless))
    return Checked(table.filter(pa.array(keep)), index[keep], checked.reasons | homeless)


def _check_index(result: pd.DataFrame, given: pd.Index[int], author: str) -> None:
    """A new index without gaps would look right, and give rows to the wrong source rows: its name tells it apart."""
    if result.index.name != INDEX:
        got = "rows that it has numbered anew"
    elif unknown := lost(result.index, given):
        got = f"rows with the index {unknown[0]}, which no source row has"
    else:
        return
    raise TerminalError(
        f"{author} to keep the frame's index",
        got,
        "Do not reset the index; make new rows with repeat() or explode(), and add columns with map() or join().",
    )


def _to_arrow(frame: pd.DataFrame, pipeline: Pipeline) -> tuple[pa.Table, Ints]:
    taken = [name for name in ADDED if name in frame.columns]
    if taken:
        raise TerminalError(
            f"columns of '{pipeline.name}' beside {' and '.join(ADDED)}, which every table gets",
            f"a column '{taken[0]}'",
            "Give it another name, or drop it in clean.",
        )
    try:
        return to_arrow(frame)
    except Exception as error:  # a user's frame may hold anything
        fix = "Give every column one type and a name of its own."
        raise TerminalError.wrap(error, f"a frame from '{pipeline.name}' that Arrow can hold", fix) from error


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
    except (Exception, SystemExit) as error:  # a user's function may raise anything, and must not end the process
        fix = "Mend it; `ingestlab check` tries it on a file."
        raise blame(error, f"clean of '{pipeline.name}' to run", fix) from error
    if not isinstance(result, pd.DataFrame):
        raise TerminalError(f"a DataFrame from clean of '{pipeline.name}'", type(result).__name__, "Return the frame.")
    return result


def _clean_polars(frame: Frame, pipeline: Pipeline) -> pd.DataFrame:
    import polars as pl  # noqa: PLC0415 - only pipelines that ask for it pay for it

    assert pipeline.clean is not None
    given = pl.from_arrow(frame.table.append_column(INDEX, pa.array(frame.index)))
    result = pipeline.clean(given)
    if not isinstance(result, pl.DataFrame):
        wanted, got = f"a polars DataFrame from clean of '{pipeline.name}'", type(result).__name__
        raise TerminalError(wanted, got, "Return the frame; collect() a lazy one.")
    if INDEX not in result.columns:
        got = f"columns {', '.join(result.columns)}"
        raise TerminalError(f"clean of '{pipeline.name}' to keep the column {INDEX}", got, "Keep it.")
    table = result.to_arrow()
    return to_pandas(table.drop_columns([INDEX]), table[INDEX].to_numpy())
