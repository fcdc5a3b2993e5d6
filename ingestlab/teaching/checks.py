"""What all checks share: their register, what they look at, and how they say no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import in_a_line
from ingestlab.core.models import OVER
from ingestlab.core.settings import Settings, load_settings
from ingestlab.queue import Run
from ingestlab.queue.results import RunResult

T = TypeVar("T")


class NotYet(Exception):  # noqa: N818 - it is no error: work is to be done
    """Raised for an unsolved exercise. A notebook shows the text without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"✘ {self}"]


@dataclass(frozen=True)
class Desk:
    """Context of a check beside the answer: the student's settings and lake."""

    settings: Settings

    @classmethod
    def of(cls, answer: Any) -> Self:
        """Build the context of an answer. A run knows its settings, else they are found as Lab does it."""
        return cls(answer.settings if isinstance(answer, Run) else load_settings())

    @cached_property
    def lake(self) -> Lake:
        """Open the student's tables."""
        return Lake(self.settings)


Check = Callable[[Any, Desk], str]
CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], Check]:
    """Register a check. It takes the answer and the desk, and returns praise or raises NotYet."""

    def register(check: Check) -> Check:
        CHECKS[number] = check
        return check

    return register


def expect(condition: object, text: str) -> None:
    """Raise NotYet with this text unless the condition holds."""
    if not condition:
        raise NotYet(text)


def a(answer: Any, kind: type[T] | tuple[type[T], ...], words: str) -> T:
    """Require an answer of a kind. `words` say which is meant, e.g. ``"a run, as lab.submit() gives it"``."""
    expect(isinstance(answer, kind), f"expected {words}; got {_kind(answer)}.")
    return answer  # type: ignore[no-any-return]


def a_pair(answer: Any, words: str) -> tuple[Any, Any]:
    """Split the answer into two. `words` say what they are, e.g. ``"a pair such as ('AA', 1234)"``."""
    good = isinstance(answer, tuple | list) and len(answer) == 2
    expect(good, f"expected {words}; got {_kind(answer)}.")
    return answer[0], answer[1]


def a_number(answer: Any, words: str) -> float:
    """Convert the answer to a number; numpy's count, truth values do not."""
    good = pd.api.types.is_number(answer) and not isinstance(answer, bool | np.bool_ | complex)
    expect(good, f"expected {words}, a number; got {_kind(answer)}.")
    return float(answer)


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the student's own function. Whatever it raises is said in a sentence."""
    try:
        return function(*arguments)
    except Exception as error:  # it may be any function
        name = getattr(function, "__name__", "function")
        raise NotYet(f"your {name}() fails: {in_a_line(type(error).__name__, shorten(str(error), 120))}") from error


def a_run(answer: Any) -> Run:
    """Require the answer to be a run."""
    expect(not isinstance(answer, RunResult), "that is the run's result; your answer is the run itself.")
    return a(answer, Run, "a run, as lab.submit() gives it")


def an_ended_run(answer: Any) -> RunResult:
    """Return the result of a run that has come to its end."""
    run = a_run(answer)
    state = run.progress().state
    expect(state in OVER, f"the run is still {state}; wait for it with run.watch().")
    return run.result()


def a_good_run(answer: Any) -> RunResult:
    """Return the result of a run without failed files or lost rows."""
    result = an_ended_run(answer)
    if result.failed:
        why = shorten(str(result.failed[0].exception()), 180, placeholder=" …")
        raise NotYet(f"{len(result.failed)} of its files failed: {why}")
    for outcome in result.outcomes:
        t = outcome.tally
        expect(t.balanced, f"{outcome.uri}: {t.rows_in} rows came in, {t.accepted + t.rejected} are accounted for.")
    return result


def doubled(frame: pd.DataFrame, source: str = "_source", row: str = "_row") -> int:
    """Count the source rows that are there more than once."""
    counts = Counter(zip(frame[source], frame[row], strict=True))
    return sum(n > 1 for n in counts.values())


def into(table: str, result: RunResult) -> None:
    """Raise NotYet unless all rows of a run went into this table."""
    others = sorted({o.table for o in result.outcomes} - {table})
    expect(not others, f"its rows are in the table {', '.join(others)}, and not in {table}.")


def _kind(answer: Any) -> str:
    """Describe an answer in a few words."""
    if answer is ... or answer is None:
        return "nothing yet"
    if isinstance(answer, Run):
        return "a run"
    name = type(answer).__name__
    if isinstance(answer, tuple | list) and not isinstance(answer, str):
        return f"a {name} of {len(answer)}"
    if callable(answer):
        return f"the {'class' if isinstance(answer, type) else 'function'} {getattr(answer, '__name__', name)}"
    text = repr(answer) if isinstance(answer, str | bytes | int | float | complex | bool) else ""
    return f"{name} {text}" if 0 < len(text) < 60 else f"a {name}"
