"""The contract: which rows break it, and which of its rules each breaks first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ingestlab.errors import TerminalError
from ingestlab.pipeline import Pipeline
from ingestlab.process.screen import Question, Screened, screen

MAX_VALUE = 200  # characters of an offending value that a reject keeps
_ROOM = 1_000  # checks of one column
_RULE = ("schema_context", "column", "check_number")  # what tells the rules in pandera's failures apart


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a source row does not go on."""

    rule: str
    column: str | None = None
    value: str | None = None


def apply_contract(frame: pd.DataFrame, pipeline: Pipeline) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """The rows that keep a pipeline's contract, and for the others the first rule that each breaks.

    Raises:
        TerminalError: The contract cannot be applied, or what it fails is no row.
    """
    ask = _Asker(pipeline)
    screened = screen(frame, ask.whole.schema) if ask.whole else None
    if screened is not None:
        with suppress(TerminalError):  # pandera alone knows how it fails on the whole frame
            return _only_suspects(frame, ask, screened)
    return _until_kept(frame, ask, ask.whole)


def _only_suspects(frame: pd.DataFrame, ask: _Asker, screened: Screened) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """The same, with pandera asked about few rows where that is enough."""
    found = ask(frame, screened.rest)[1] if screened.rest_has_a_say else []
    if screened.suspects.any():
        found += ask(frame[screened.suspects], screened.asked)[1]
    reasons = _reasons(found)
    kept = _without(frame, reasons)
    if reasons and screened.rest_compares_rows:
        kept, more = _until_kept(kept, ask, screened.rest)
        reasons |= more
    return kept, reasons


def _until_kept(frame: pd.DataFrame, ask: _Asker, question: Question | None) -> tuple[pd.DataFrame, dict[int, Reason]]:
    """Asks again without the rows that failed: a check that looks at several rows may fail others now."""
    reasons: dict[int, Reason] = {}
    passed, found = ask(frame, question)
    while found:
        reasons |= _reasons(found)
        frame = _without(frame, reasons)
        passed, found = ask(frame, question)
    return passed, reasons | dict.fromkeys(lost(frame.index, passed.index), Reason("contract"))


def lost(before: pd.Index[int], after: pd.Index[int]) -> list[int]:
    """The indexes that are gone, in order; far faster than numpy's functions on sets."""
    gone: list[int] = before[~before.isin(after)].unique().tolist()
    return gone


def _without(frame: pd.DataFrame, reasons: dict[int, Reason]) -> pd.DataFrame:
    return frame[~frame.index.isin(list(reasons))] if reasons else frame


class _Asker:
    """Asks pandera which rows of a frame fail some checks of a pipeline's contract."""

    def __init__(self, pipeline: Pipeline) -> None:
        from pandera.pandas import DataFrameModel, DataFrameSchema  # noqa: PLC0415 - slow, and not all have a contract

        contract = pipeline.contract
        if isinstance(contract, type) and issubclass(contract, DataFrameModel):
            contract = contract.to_schema()
        self._contract = contract
        self._wanted = f"a frame that the contract of '{pipeline.name}' can check"
        self.whole: Question | None = None
        if isinstance(contract, DataFrameSchema):
            self.whole = Question(contract, {n: tuple(range(len(c.checks))) for n, c in contract.columns.items()})
            self._places = {name: i for i, name in enumerate(contract.columns)}

    def __call__(self, frame: pd.DataFrame, question: Question | None) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
        """What the contract makes of a frame, and if rows fail: which, and why, as one frame in a list."""
        from pandera.errors import SchemaErrors  # noqa: PLC0415 - likewise

        contract = question.schema if question else self._contract
        try:
            return contract.validate(frame, lazy=True), []
        except SchemaErrors as error:
            failures = error.failure_cases
        except Exception as error:  # a user's contract may raise anything
            raise TerminalError.wrap(error, self._wanted, "Mend the contract.") from error
        of_no_row = failures[~failures["index"].isin(frame.index)]
        if len(of_no_row):
            first = of_no_row.iloc[0]
            got = f"{first['check']} failed for {first['failure_case']!r}"
            raise TerminalError(self._wanted, got, "Mend clean or the contract.")
        if failures.empty:  # as for nulls that are no `unique` values: it names no row, so none is to go
            return frame, []
        cases = failures["failure_case"].astype(object)  # of one type, so that all kinds of values fit below each other
        return frame, [failures.assign(failure_case=cases, rank=self._ranks(failures, question))]

    def _ranks(self, failures: pd.DataFrame, question: Question | None) -> list[int]:
        """The places of the failures' rules among all rules of the contract: those of the frame, then by column."""
        if question is None:
            return [0] * len(failures)
        rules = list(zip(*(failures[name].tolist() for name in _RULE), strict=True))
        known = {rule: self._rank(rule, question.numbers) for rule in set(rules)}
        return [known[rule] for rule in rules]

    def _rank(self, rule: tuple[Any, ...], numbers: Mapping[str, Sequence[int]]) -> int:
        context, column, check = rule
        if context != "Column":
            return -1
        return self._places[column] * _ROOM + (0 if pd.isna(check) else numbers[column][int(check)] + 1)


def _reasons(found: Sequence[pd.DataFrame]) -> dict[int, Reason]:
    """For each row that fails, the first rule that it breaks."""
    if not found:
        return {}
    failures = found[0] if len(found) == 1 else pd.concat(found)
    first = failures.sort_values("rank", kind="stable").drop_duplicates("index")
    columns, checks = first["column"].tolist(), first["check"].tolist()
    names = {name: None if name is None or pd.isna(name) else str(name) for name in set(columns)}
    rules = {check: _rule(str(check)) for check in set(checks)}
    cases = zip(first["failure_case"].tolist(), first["failure_case"].isna().tolist(), strict=True)
    shown = [None if empty else str(case)[:MAX_VALUE] for case, empty in cases]
    return {
        index: Reason(rules[check], names[column], value)
        for index, check, column, value in zip(first["index"].tolist(), checks, columns, shown, strict=True)
    }


def _rule(check: str) -> str:
    """The name of a check without its arguments: ``in_range(0, 100)`` is ``in_range``."""
    return check.split("(", 1)[0]
