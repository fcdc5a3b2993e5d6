"""How a run looks while it goes on and when it has ended: one display, updated in place.

What was shown last is what the notebook keeps, so each state says all that a reader without a kernel needs.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from textwrap import shorten

from ingestlab.core.archive_uri import label
from ingestlab.core.models import FIRST_FAILURES, OVER, Outcome, Progress
from ingestlab.core.templates import render
from ingestlab.notebook import page
from ingestlab.queue.advice import of_result
from ingestlab.queue.results import RunResult

_TELLING = ("retrying", "processing")  # states whose note says more
_WINDOW = 5.0  # seconds over which a rate is taken
_RULES = 4
_LONGEST = 300  # characters of an error


@dataclass(frozen=True)
class View:
    """What is shown of a run at one moment.

    Attributes:
        run: Its id.
        progress: Where it is.
        seconds: How long it takes, or took, from its first attempt on; None before that.
        rate: Rows per second; None if nothing is known of it.
        left: Seconds that it may take from here; None likewise.
        result: How it ended; None if it has not.
        note: What else is to be said.
        known: Whether anything is known of it.
        notes: What whoever has submitted it should know.
    """

    run: str
    progress: Progress
    seconds: float | None = None
    rate: float | None = None
    left: float | None = None
    result: RunResult | None = None
    note: str = ""
    known: bool = True
    notes: tuple[str, ...] = ()

    def plain(self) -> str:
        """As text: one line, and one for each thing that went wrong."""
        p = self.progress
        parts = [f"{p.files_done:,}/{page.many(p.files, 'file')}", *self._counts(), *self._times()]
        errors = [f"  ✗ {label(o.uri)}: {o.exception()}" for o in self._failures()]
        first = ", ".join([p.said, *parts]) if self.known else "not known"
        return "\n".join([f"run {self.run}: {first}", *errors, *(f"  {n}" for n in self._notes())])

    def html(self) -> str:
        """As HTML."""
        p = self.progress
        every = page.many(p.files, "file")
        return render(
            "notebook/templates/run.html",
            view=self,
            over=OVER,
            files=every if p.state in OVER else f"{p.files_done:,} of {every}",
            counts=self._counts(),
            times=self._times(),
            failures=[_failure(outcome) for outcome in self._failures()],
            notes=self._notes(),
        )

    def _failures(self) -> tuple[Outcome, ...]:
        """Give the first of the files that have failed."""
        return (self.result.failed if self.result else self.progress.failures)[:FIRST_FAILURES]

    def _counts(self) -> list[str]:
        p = self.progress
        texts = [
            page.size(p.bytes) if p.bytes else "",
            page.many(p.rows, "row") + (f", {self.rate:,.0f}/s" if self.rate else "") if p.rows else "",
            f"{p.rejected:,} rejected" if p.rejected else "",
            f"{p.failed:,} failed" if p.failed else "",
            f"{self.result.count('unchanged'):,} unchanged" if self.result and self.result.count("unchanged") else "",
        ]
        return [text for text in texts if text]

    def _times(self) -> list[str]:
        left = f"about {page.duration(max(1.0, self.left))} left" if self.left is not None else ""
        return [text for text in (_elapsed(self.seconds), left) if text]

    def _notes(self) -> list[str]:
        p, again = self.progress, "It is tried again by itself."  # the error is told with its file
        notes = [again if p.state == "retrying" and p.failures else p.note] if p.state in _TELLING else []
        failed = len(self.result.failed) if self.result else self.progress.failed
        if (more := failed - len(self._failures())) > 0:
            notes.append(f"and {page.many(more, 'more failed file')}{': run.files' if self.result else ''}")
        if self.result:
            notes += _ending(self.result)
        return [note for note in (*notes, *self.notes, self.note) if note]


class Watcher:
    """Is told of a run's progress, and shows it in one place.

    Args:
        run: Its id.
        starving: Says what is missing, while nothing happens; empty if nothing is.
        notes: What whoever has submitted it should know.
    """

    def __init__(self, run: str, starving: Callable[[], str] = lambda: "", notes: tuple[str, ...] = ()) -> None:
        self._starving = starving
        self._asked = time.monotonic()
        self._past: deque[tuple[float, Progress]] = deque()
        self._view = View(run, Progress(), notes=notes)
        self._screen = _screen(self._view)

    def __call__(self, progress: Progress) -> None:
        """Show where the run is now."""
        now = time.monotonic()
        progress = progress.model_copy(update={"share": max(progress.share, self._view.progress.share)})
        self._past.append((now, progress))
        while len(self._past) > 2 and now - self._past[1][0] >= _WINDOW:
            self._past.popleft()
        if progress.state == "queued" and now - self._asked > 2:
            self._asked, note = now, self._starving()
        else:
            note = self._view.note if progress.state == "queued" else ""
        seconds = progress.seconds(time.time())
        rate, left = self._speed(progress, seconds or 0.0)
        self.show(replace(self._view, progress=progress, seconds=seconds, rate=rate, left=left, note=note))

    def end(self, result: RunResult) -> None:
        """Show how it ended."""
        seconds = result.ended - result.began if result.began else None
        rows = self._view.progress.rows
        rate = rows / seconds if seconds and seconds > 0.5 and rows else None
        self.show(replace(self._view, result=result, seconds=seconds, rate=rate, left=None, note=""), last=True)

    def leave(self, note: str) -> None:
        """Show that nobody looks any more, and why."""
        self.show(replace(self._view, left=None, rate=None, note=note, known=bool(self._past)), last=True)

    def show(self, view: View, *, last: bool = False) -> None:
        """Put a view on the screen."""
        self._view = view
        self._screen(view, last)

    def _speed(self, now: Progress, seconds: float) -> tuple[float | None, float | None]:
        """Estimate the current rows per second, and the seconds left."""
        (then, before), (here, _) = self._past[0], self._past[-1]
        rate = (now.rows - before.rows) / (here - then) if here - then > 0.5 and now.rows > before.rows else None
        moving = now.state not in ("queued", "retrying", *OVER) and 0.05 < now.share < 1
        return rate, seconds * (1 - now.share) / now.share if moving and seconds > 1 else None


def _screen(first: View) -> Callable[[View, bool], None]:
    """Tell where views are shown: a display of the notebook, a line of the terminal, or nowhere."""
    if page.shell() is not None:
        handle = page.show(first.html(), "queued")
        return lambda view, _last: handle.update(page.bundle(view.html(), view.plain()), raw=True)
    if not sys.stdout.isatty():
        return lambda _view, _last: None

    def write(view: View, last: bool) -> None:  # noqa: FBT001
        text = view.plain()
        sys.stdout.write("\r\x1b[2K" + (text + "\n" if last else text.splitlines()[0][:118]))
        sys.stdout.flush()

    return write


def _elapsed(seconds: float | None) -> str:
    """Tell what has passed: tenths tell short runs apart."""
    if seconds is None:
        return ""
    return f"{max(0.1, seconds):.1f} s" if seconds < 9.95 else page.duration(seconds)


def _failure(outcome: Outcome) -> tuple[str, str, str]:
    """Give the file, why it failed, and what to do."""
    error = outcome.exception()
    why = shorten(error.reason, _LONGEST, placeholder=" …") if error else ""
    return label(outcome.uri), why, error.fix if error else ""


def _ending(result: RunResult) -> list[str]:
    """Tell what is worth knowing of a run that has ended."""
    rules = sorted(result.rules.items(), key=lambda item: -item[1])
    notes = []
    if codes := result.by_code:
        notes.append("failed by " + ", ".join(f"{code} {len(outcomes):,}" for code, outcomes in codes.items()))
    if rules:
        more = ", …" if len(rules) > _RULES else ""
        notes.append("rejected by " + ", ".join(f"{rule} {n:,}" for rule, n in islice(rules, _RULES)) + more)
    notes += of_result(result, "notebook")
    if tables := [table for table in result.tables if table]:
        notes.append(f"in {'table' if len(tables) == 1 else 'tables'} {', '.join(tables)}")
    notes += [f"its {name}: {where}" for name, where in result.kept.items()]
    return notes
