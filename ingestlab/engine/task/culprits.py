"""Which rows make code of others fail: found by halves, in a bounded number of calls.

Where all is well this costs nothing: the code is called once, with all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from ingestlab.core.errors import IngestError, TerminalError, let_pass, words_of
from ingestlab.engine.task.frames import Ints

T = TypeVar("T")
PROBES = 4  # rows that are tried one by one first: where all of them fail, the code is broken, not the rows
CALLS, ROWS_A_CALL = 500, 20  # calls in one search at most: some, and one more for every so many rows
CALLS_AMID = 100  # of these, with nearly all rows
LONGEST = 200  # characters of an exception's text that are kept


@dataclass(frozen=True)
class Fault:
    """Failure of foreign code.

    Attributes:
        rule: The name of the exception; before it that of the check, where one has raised it.
        text: Its words.
        column: Whose check it was.
    """

    rule: str
    text: str | None = None
    column: str | None = None

    @classmethod
    def of(cls, error: BaseException, rule: str = "", column: str | None = None) -> Fault:
        """Describe an exception as it was raised."""
        text = words_of(error)[:LONGEST] or None
        return cls(f"{rule}{type(error).__name__}", text, column)


class RaisedError(Exception):
    """Cause of a TerminalError where foreign code has raised something."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.rule}: {fault.text}")
        self.fault = fault


class NoRowError(Exception):
    """Raised where no rows can be blamed; the text says why."""


Work = Callable[[], object]
Trial = Callable[[Work, int, int], Fault | None]  # some work, on how many rows it is, and of how many
TRIAL: ContextVar[Trial | None] = ContextVar("trial", default=None)  # None: code is called in this process


def run_or_find(size: int, work: Callable[[Ints | None], T], *, search: bool = True) -> tuple[T, dict[int, Fault]]:
    """Work on rows. If it raises, find the bad rows, and work on the others.

    Args:
        size: How many rows there are.
        work: Takes the places of the rows that it is about, ascending; None for all. What other people's code
            raises in it comes as a TerminalError with that as its cause.
        search: Whether to look for rows at all, or to let the error be that of all.

    Returns:
        What `work` gave, and the faults of the rows that it was not given.

    Raises:
        TerminalError: It fails whatever the rows are, or for too many of them.
    """
    try:
        return _with_all(size, work), {}
    except TerminalError as error:
        if not search or size == 0 or fault_of(error) is None:
            raise
        first = error
    try:
        trial = TRIAL.get() or (lambda task, *_: in_place(task))
        faults = bisect_rows(size, lambda at: trial(lambda: work(at), len(at), size), fault_of(first))
    except NoRowError as why:
        raise first.replace(got=f"{first.got}; {why}") from first.__cause__
    rest = np.setdiff1d(np.arange(size, dtype=np.int64), np.fromiter(faults, np.int64, len(faults)))
    return work(rest), faults


def _with_all(size: int, work: Callable[[Ints | None], T]) -> T:
    """Work on all rows. It is tried elsewhere first where it may end this process."""
    trial = TRIAL.get()
    if trial is not None and (fault := trial(lambda: work(None), size, size)):
        got = f"{fault.rule}: {fault.text}"
        fix = "Correct it; if it only takes long, set INGESTLAB_TASK_TIMEOUT and INGESTLAB_ROW_TIMEOUT higher."
        raise TerminalError(
            "The pipeline's code failed",
            expected="code of the pipeline to work on its rows",
            got=got,
            fix=fix,
            code="clean_failed",
        ) from RaisedError(fault)
    return work(None)


def fault_of(error: TerminalError) -> Fault | None:
    """Return the fault of foreign code that caused an error, if any."""
    cause = error.__cause__
    if isinstance(cause, RaisedError):
        return cause.fault
    return None if cause is None or isinstance(cause, IngestError) else Fault.of(cause)


def bisect_rows(size: int, fails: Callable[[Ints], Fault | None], first: Fault | None = None) -> dict[int, Fault]:
    """Find the rows that make something fail, each with its own fault.

    Args:
        size: How many rows; all of them together are known to fail.
        fails: Tries it with the rows at some places, ascending; None if it works.
        first: How all of them fail together.

    Raises:
        NoRowError: Each row that was tried fails; or none does, but some together; or too many do.
    """
    search = _Search(fails, CALLS + size // ROWS_A_CALL)
    probes = np.unique(np.linspace(0, size - 1, min(size, PROBES)).astype(np.int64)).tolist()
    if all(search.look(place, place + 1) for place in probes):
        raise NoRowError("every row that was tried by itself fails" if size > 1 else "it is the only row")
    faults = search.within(0, size)
    if TRIAL.get():  # each further call may cost its deadline
        return faults
    return search.amid_others(size, sure=first is None or {fault.rule for fault in faults.values()} == {first.rule})


State = Literal["fails", "must fail", "unknown"]


class _Span(NamedTuple):
    start: int
    stop: int
    state: State


class _Search:
    """Search for bad rows. What was tried is remembered for single rows."""

    def __init__(self, fails: Callable[[Ints], Fault | None], calls: int) -> None:
        self._fails, self._left = fails, calls
        self._single: dict[int, Fault | None] = {}
        self.faults: dict[int, Fault] = {}

    def look(self, start: int, stop: int) -> Fault | None:
        """Try the rows of a span together."""
        alone = stop - start == 1
        if alone and start in self._single:
            return self._single[start]
        if self._left <= 0:
            rows = f"{len(self.faults):,} of the first {start:,} rows fail" if self.faults else "many rows fail"
            raise NoRowError(f"{rows}, too many to be looked for one by one")
        fault = self._ask(np.arange(start, stop, dtype=np.int64))
        if alone:
            self._single[start] = fault
        return fault

    def _ask(self, places: Ints) -> Fault | None:
        self._left -= 1
        return self._fails(places)

    def within(self, start: int, stop: int) -> dict[int, Fault]:
        """Find the bad rows of a failing span. The first come first, so that a bounded search knows how many."""
        spans = [_Span(start, stop, "fails")]
        while spans:
            span = spans.pop()
            if span.stop - span.start == 1:
                self._judge(span)
            elif span.state != "unknown" or self.look(span.start, span.stop):
                middle = (span.start + span.stop) // 2
                left = self.look(span.start, middle)
                spans.append(_Span(middle, span.stop, "unknown" if left else "must fail"))
                spans += [_Span(span.start, middle, "fails")] if left else []
        if not self.faults:
            raise NoRowError("no row fails by itself, but some together")
        return self.faults

    def amid_others(self, size: int, *, sure: bool) -> dict[int, Fault]:
        """Keep the rows that fail beside all good ones, too. The others only miss what the rest of the file has.

        All are tried, by halves, and the innocent join the good ones; where it is rather sure that there are none,
        only if one of a few is innocent.
        """
        good, places = np.setdiff1d(np.arange(size), list(self.faults)), sorted(self.faults)
        few = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, PROBES).astype(np.int64))]
        self._left = min(self._left, CALLS_AMID)
        if self._left < len(few) or (sure and all(self._ask(_and(good, [place])) for place in few)):
            return self.faults
        before, most = 0, len(self.faults)
        while before != len(good):  # one that has joined may be what another needs
            before, groups = len(good), [sorted(self.faults)]
            while groups:
                group = groups.pop()
                if self._left <= 0 and len(self.faults) == most:
                    return self.faults
                if self._left <= 0:
                    raise NoRowError(f"rows such as {group[0]:,} fail only without others, too many to be told apart")
                fault = self._ask(_and(good, group))
                middle = len(group) // 2
                if fault is None:
                    good = _and(good, group)
                    self.faults = {place: old for place, old in self.faults.items() if place not in group}
                elif middle:
                    groups += [group[middle:], group[:middle]]
                else:
                    self.faults[group[0]] = fault
        return self.faults

    def _judge(self, span: _Span) -> None:
        fault = self.look(span.start, span.stop)
        if fault:
            self.faults[span.start] = fault
        elif span.state == "must fail":
            raise NoRowError(f"row {span.start:,} of those read fails only together with others")


def _and(places: Ints, more: Sequence[int]) -> Ints:
    return np.union1d(places, np.array(more, np.int64))


def in_place(work: Work) -> Fault | None:
    """Try some work in this process; None if it succeeds."""
    try:
        work()
    except TerminalError as error:
        return fault_of(error) or Fault.of(error)
    except BaseException as error:  # noqa: BLE001 - code of others may raise anything
        let_pass(error)
        return Fault.of(error)
    return None
