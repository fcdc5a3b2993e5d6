"""Cleaning and checking: which source rows go on, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestlab.errors import IngestError, TerminalError
from ingestlab.pipeline import Pipeline
from ingestlab.process.frames import Frame, Ints, to_arrow, to_pandas, wants_polars

MAX_VALUE = 200  # characters of an offending value that a reject keeps


@dataclass(frozen=True)
class Reason:
    """Why a source row does not go on."""

    rule: str
    column: str | None = None
    value: str | None = None


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
    cleaned = _clean(frame, pipeline)
    unknown = cleaned.index.difference(pd.Index(frame.index))
    if len(unknown):
        raise TerminalError(
            f"clean of '{pipeline.name}' to keep the frame's index",
            f"rows with the index {unknown[0]!r}, which no source row has",
            "Do not reset the index; make new rows with repeat() or explode().",
        )
    kept = cleaned.index.to_numpy(dtype=np.int64)
    reasons = {int(i): Reason("clean") for i in np.setdiff1d(frame.index, kept)}
    if pipeline.contract is None:
        return Checked(*to_arrow(cleaned), reasons)
    passed, broken = _apply_contract(cleaned, pipeline)
    return Checked(*to_arrow(passed), reasons | broken)


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
    except Exception as error:  # a user's function may raise anything
        fix = "Mend it; `ingestlab check` tries it on a file."
        raise TerminalError.wrap(error, f"clean of '{pipeline.name}' to run", fix) from error
    if not isinstance(result, pd.DataFrame):
        raise TerminalError(f"a DataFrame from clean of '{pipeline.name}'", type(result).__name__, "Return the frame.")
    return result


def _clean_polars(frame: Frame, pipeline: Pipeline) -> pd.DataFrame:
    import polars as pl  # noqa: PLC0415 - only pipelines that ask for it pay for it

    assert pipeline.clean is not None
    given = pl.from_arrow(frame.table.append_column("_row", pa.array(frame.index)))
    result: Any = pipeline.clean(given)
    if "_row" not in result.columns:
        got = f"columns {', '.join(result.columns)}"
        raise TerminalError(f"clean of '{pipeline.name}' to keep the column _row", got, "Keep it.")
    table = result.to_arrow()
    return to_pandas(table.drop_columns(["_row"]), table["_row"].to_numpy())


def _apply_contract(frame: pd.DataFrame, pipeline: Pipeline) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """The rows that keep the contract, and for the others the first rule that each breaks."""
    from pandera.errors import SchemaErrors  # noqa: PLC0415 - slow to import, and not every pipeline has one

    contract = pipeline.contract
    try:
        return contract.validate(frame, lazy=True), {}
    except SchemaErrors as error:
        failures = error.failure_cases
    by_row = failures[failures["index"].notna()]
    if len(by_row) < len(failures):
        first = failures[failures["index"].isna()].iloc[0]
        raise TerminalError(
            f"a frame that the contract of '{pipeline.name}' can check",
            f"{first['check']} failed for {first['failure_case']!r}",
            "Mend clean or the contract.",
        )
    reasons = dict(_reasons(by_row))
    rest = frame[~frame.index.isin(list(reasons))]
    return contract.validate(rest, lazy=True), reasons


def _reasons(failures: pd.DataFrame) -> Iterator[tuple[int, Reason]]:
    first = failures.drop_duplicates("index")
    for index, column, rule, value in zip(
        first["index"], first["column"], first["check"], first["failure_case"], strict=True
    ):
        name = None if column is None or pd.isna(column) else str(column)
        shown = None if pd.isna(value) else str(value)[:MAX_VALUE]
        yield int(index), Reason(_rule(str(rule)), name, shown)


def _rule(check: str) -> str:
    """The name of a check without its arguments: ``in_range(0, 100)`` is ``in_range``."""
    return check.split("(", 1)[0]
