"""The contract: which rows break it, and which of its rules each breaks first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ingestlab.core.errors import TerminalError, let_pass
from ingestlab.engine.task.culprits import Fault, RaisedError
from ingestlab.engine.task.fast_checks import NOT_NULL, Question, Screened, failures_of, rule_of, screen
from ingestlab.engine.task.frames import Bools, Ints, filtered
from ingestlab.engine.task.patterns import pythonic
from ingestlab.interfaces import MAX_VALUE, Reason
from ingestlab.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from pandera.errors import SchemaErrors

_ROOM = 1_000  # checks of one column
_SPARSE = 8  # times as many places as numbers, in a table of them


@dataclass(frozen=True)
class Verdict:
    """Rows that break one rule, by index, with the bad values. `rank` is the rule's place in the contract."""

    rank: int
    rule: str
    column: str | None
    index: list[int]
    shown: list[str | None] | None  # None: all are null


def apply_contract(frame: pd.DataFrame, pipeline: Pipeline) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """Split rows into those that keep the contract, and reasons for others. Each has the first rule that it breaks.

    Raises:
        TerminalError: The contract cannot be applied, or what it fails is no row.
    """
    ask = _Asker(pipeline)
    screened = screen(frame, ask.whole.schema) if ask.whole else None
    if screened is not None:
        with suppress(TerminalError):  # pandera alone knows how it fails on the whole
            return _screened(frame, ask, screened)
    return _until_kept(frame, ask, ask.whole)


def _screened(frame: pd.DataFrame, ask: _Asker, screened: Screened) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """Apply the contract where pandera has to judge some rules at most."""
    verdicts = ask(frame, screened.rest)[1] if screened.rest_has_a_say else []
    for finding in screened.findings:
        shown = None if finding.number == NOT_NULL else _shown(frame[finding.column].iloc[finding.rows])
        rank, index = ask.rank(finding.column, finding.number), frame.index[finding.rows].tolist()
        verdicts.append(Verdict(rank, _rule(finding.rule), finding.column, index, shown))
    reasons = _reasons(verdicts)
    kept = _without(frame, reasons)
    if reasons and screened.rest_compares_rows:
        kept, more = _until_kept(kept, ask, screened.rest)
        reasons |= more
    return kept, reasons


def _until_kept(frame: pd.DataFrame, ask: _Asker, question: Question | None) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """Ask again without the failed rows. A check that looks at several rows may fail others now."""
    reasons: dict[int, Reason] = {}
    passed, verdicts = ask(frame, question)
    while verdicts:
        reasons |= _reasons(verdicts)
        frame = _without(frame, reasons)
        passed, verdicts = ask(frame, question)
    return passed, reasons | dict.fromkeys(lost(frame.index, passed.index), Reason("contract"))


def lost(before: pd.Index[int], after: pd.Index[int]) -> list[int]:
    """List the missing indexes, in order. This is far faster than numpy's functions on sets."""
    if before.equals(after):
        return []
    if len(before) and len(after) and before.dtype == after.dtype == np.int64:
        gone = before[~_among(before.to_numpy(), after.to_numpy())]
    else:
        gone = before[~before.isin(after)]
    missing: list[int] = gone.unique().tolist()
    return missing


def _among(some: Ints, numbers: Ints) -> Bools:
    """Tell which numbers are among others. They are looked up in a table where that is not too long."""
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > _SPARSE * (len(some) + len(numbers)):
        return np.isin(some, numbers)
    there = np.zeros(high - low + 1, np.bool_)
    there[numbers - low] = True
    inside: Bools = (some >= low) & (some <= high)
    inside &= there[np.where(inside, some, low) - low]
    return inside


def _without(frame: pd.DataFrame, reasons: Mapping[int, Reason]) -> pd.DataFrame:
    """Drop rows by index. They are looked up in a table, since the indexes of a task are near each other."""
    if not reasons:
        return frame
    index = frame.index.to_numpy(np.int64)
    low, gone = int(index.min()), np.fromiter(reasons, np.int64, len(reasons))
    keep = np.ones(int(index.max()) - low + 1, np.bool_)
    keep[gone - low] = False
    return filtered(frame, keep[index - low])


class _Asker:
    """Client of pandera for some checks of a pipeline's contract."""

    def __init__(self, pipeline: Pipeline) -> None:
        from pandera.pandas import DataFrameModel, DataFrameSchema  # noqa: PLC0415 - slow, and not all have a contract

        contract = pipeline.contract
        if isinstance(contract, type) and issubclass(contract, DataFrameModel):
            contract = contract.to_schema()
        if isinstance(contract, DataFrameSchema):
            contract = pythonic(contract)
        self._contract = contract
        self._wanted = f"a frame that the contract of '{pipeline.name}' can check"
        self.whole: Question | None = None
        if isinstance(contract, DataFrameSchema):
            self.whole = Question(contract, {n: tuple(range(len(c.checks))) for n, c in contract.columns.items()})
            self._places = {name: i for i, name in enumerate(contract.columns)}

    def rank(self, column: Any, number: int) -> int:
        """Return the place of a column's rule in the contract."""
        return self._places[column] * _ROOM + number + 1

    def __call__(self, frame: pd.DataFrame, question: Question | None) -> tuple[pd.DataFrame, list[Verdict]]:
        """Validate a frame, and list which rows fail which rules."""
        from pandera.errors import SchemaErrors  # noqa: PLC0415 - likewise

        if question and question.only_checks and (verdicts := self._one_by_one(frame, question)) is not None:
            return frame, verdicts
        contract = question.schema if question else self._contract
        try:
            return contract.validate(frame, lazy=True), []
        except SchemaErrors as error:
            failures = error.failure_cases
            raised = _raised_by(error)
        except BaseException as error:  # noqa: BLE001 - a user's contract may raise anything, and must not end the process
            let_pass(error)
            cause = RaisedError(Fault.of(error, "check:"))
            failure = TerminalError.wrap(error, "The contract raised", "Correct the contract.", code="contract_failed")
            raise failure.replace(expected=self._wanted) from cause
        of_no_row = failures[~failures["index"].isin(frame.index)]
        if len(of_no_row):
            first = of_no_row.iloc[0]
            got = f"{first['check']} failed for {first['failure_case']!r}"
            raise TerminalError(
                "The contract cannot be checked",
                expected=self._wanted,
                got=got,
                fix="Correct clean or the contract.",
                code="contract_failed",
            ) from raised
        # No failures at all, as for nulls that are no `unique` values, name no row that could go.
        return frame, list(self._verdicts(failures, question))

    def _one_by_one(self, frame: pd.DataFrame, question: Question) -> list[Verdict] | None:
        """Run each check by itself: pandera's report on many failures takes longer.

        None where anything but a check's own answer would count.
        """
        verdicts = []
        for name, column in question.schema.columns.items():
            if name not in frame or column.dtype is not None or column.unique:
                return None
            series = frame[name]
            if not column.nullable and series.isna().any():
                return None
            for number, check in zip(question.numbers[name], column.checks, strict=True):
                failing = failures_of(series, check)
                if failing is None:
                    return None
                if len(failing):
                    rank, rule = self.rank(name, number), _rule(rule_of(check))
                    verdicts.append(Verdict(rank, rule, name, failing.index.tolist(), _shown(failing)))
        return verdicts

    def _verdicts(self, failures: pd.DataFrame, question: Question | None) -> Iterator[Verdict]:
        """Yield verdicts in the contract's order, after those on the whole frame."""
        for _, group in failures.groupby(["check", "column"], sort=False, dropna=False):
            first = group.iloc[0]
            column, check = first["column"], first["check_number"]
            rank = -1
            if question and first["schema_context"] == "Column":
                rank = self.rank(column, NOT_NULL if pd.isna(check) else question.numbers[column][int(check)])
            name = None if column is None or pd.isna(column) else str(column)
            index = [int(i) for i in group["index"].tolist()]
            yield Verdict(rank, _rule(str(first["check"])), name, index, _shown(group["failure_case"]))


def _raised_by(errors: SchemaErrors) -> RaisedError | None:
    """Return the first exception that a check has raised. Pandera keeps its text alone, `Name(text)`."""
    from pandera.errors import SchemaErrorReason  # noqa: PLC0415 - slow, and not all have a contract
    from pandera.pandas import Column  # noqa: PLC0415 - likewise

    for error in errors.schema_errors:
        if error.reason_code is SchemaErrorReason.CHECK_ERROR:
            name, _, text = str(error.failure_cases).strip("'\"").partition("(")
            column = getattr(error.schema, "name", None) if isinstance(error.schema, Column) else None
            rule = f"check:{_rule(rule_of(error.check))}:{name}"
            return RaisedError(Fault(rule, text.removesuffix(")").strip("'\"")[:MAX_VALUE] or None, column))
    return None


def _reasons(verdicts: Sequence[Verdict]) -> dict[int, Reason]:
    """Map each failing row to the first rule that it breaks."""
    reasons: dict[int, Reason] = {}
    order = sorted(range(len(verdicts)), key=lambda i: (verdicts[i].rank, i), reverse=True)
    for verdict in (verdicts[i] for i in order):
        if verdict.shown is None:
            reasons |= dict.fromkeys(verdict.index, Reason(verdict.rule, verdict.column))
        else:
            reasons |= zip(
                verdict.index, map(Reason, repeat(verdict.rule), repeat(verdict.column), verdict.shown), strict=False
            )
    return reasons


def _shown(values: pd.Series[Any]) -> list[str | None]:
    empty = values.isna().tolist()
    return [None if no else str(value)[:MAX_VALUE] for value, no in zip(values.tolist(), empty, strict=True)]


def _rule(check: str) -> str:
    """Name a check without its arguments: ``in_range(0, 100)`` is ``in_range``."""
    return check.split("(", 1)[0]
