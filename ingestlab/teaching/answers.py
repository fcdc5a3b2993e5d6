"""Answers to exercises are checked, and which were right is remembered."""

from __future__ import annotations

from importlib import import_module
from textwrap import shorten
from typing import Any

from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.teaching.checks import CHECKS, Desk, NotYet

CHAPTERS = tuple(f"{number:02}" for number in range(12))
_SOLVED: set[str] = set()  # exercises whose last answer was right


def check(exercise: str, answer: Any) -> None:
    """Check whether an exercise is solved.

    Args:
        exercise: Its number, e.g. ``"02.1"``.
        answer: What the exercise asks for.

    Raises:
        NotYet: It is not solved; the text says what is missing.
        TerminalError: There is no such exercise.
    """
    _SOLVED.discard(exercise)
    chapter = str(exercise).partition(".")[0]
    if chapter in CHAPTERS:
        import_module(f"{__package__}.chapter{chapter}")
    if exercise not in CHECKS:
        have = ", ".join(sorted(CHECKS)) or f"chapters {CHAPTERS[0]} to {CHAPTERS[-1]}"
        raise TerminalError(
            "There is no such exercise",
            expected=f"the number of an exercise ({have})",
            got=repr(exercise),
            fix="It stands above the exercise.",
            code="argument_invalid",
        )
    if answer is ...:
        raise NotYet(f"{exercise}: got nothing yet; put your answer in place of the three dots.")
    try:
        praise = CHECKS[exercise](answer, Desk.of(answer))
    except NotYet as error:
        raise NotYet(f"{exercise}: {error}") from None
    except IngestError:
        raise  # the stack is away, or there is no such table yet: it says what to do
    except Exception as error:  # an answer may be anything
        why = shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")
        raise NotYet(f"{exercise}: this cannot be used as an answer ({why}). What is asked for?") from error
    _SOLVED.add(exercise)
    print(f"{exercise} ✔ {praise}")  # noqa: T201 - a notebook shows it


def unsolved(exercise: str) -> bool:
    """Tell whether the last answer to an exercise was not right."""
    return exercise not in _SOLVED
