"""The errors that ingestlab raises, in two kinds: worth a retry, or not.

An error says three things: what was expected, what came, and what to do. It keeps them apart through
pickle (Dask) and JSON (RQ, manifests, run records), so that every screen can show them its own way.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Literal, ParamSpec, Self, TypeVar

Kind = Literal["transient", "terminal"]
UNFORESEEN = "The log of the Dask worker has the whole traceback."
log = logging.getLogger("ingestlab")
P = ParamSpec("P")
T = TypeVar("T")


class IngestError(Exception):
    """Base of everything that ingestlab raises on purpose.

    Args:
        expected: What should have been there, e.g. ``"a CSV with the columns id, value"``.
        got: What was there instead, e.g. ``"no column 'value'"``.
        fix: What the reader can do about it; empty if there is nothing to do.
    """

    kind: Kind = "terminal"

    def __init__(self, expected: str, got: str, fix: str = "") -> None:
        super().__init__(expected, got, fix)
        self.expected, self.got, self.fix = expected, got, fix

    def __str__(self) -> str:
        text = f"expected {self.expected}; got {self.got}"
        return f"{text}. {self.fix}" if self.fix else text

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: three lines rather than the way through our code; ``%tb`` shows no more either."""
        lines = [("expected", self.expected), ("got", self.got), ("do", self.fix)]
        return [f"{type(self).__name__}", *(f"{name:>8}  {text}" for name, text in lines if text)]

    def to_dict(self) -> dict[str, str]:
        """The error as a plain dict, for messages between processes."""
        return {
            "type": type(self).__name__,
            "kind": self.kind,
            "expected": self.expected,
            "got": self.got,
            "fix": self.fix,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> IngestError:
        """The error that :meth:`to_dict` described; an unknown type comes back as its kind."""
        base = TransientError if data.get("kind") == "transient" else TerminalError
        found = _TYPES.get(str(data.get("type")), base)
        return found(str(data["expected"]), str(data["got"]), str(data.get("fix", "")))

    @classmethod
    def wrap(cls, error: BaseException, expected: str, fix: str = "") -> Self:
        """Puts a foreign exception in our words; its type and text become `got`."""
        text = words_of(error).removesuffix(".")
        return cls(expected, f"{type(error).__name__}: {text}"[:2000], fix)


class TransientError(IngestError):
    """The same request may succeed later: network, busy source, lost Dask worker, storage hiccup."""

    kind: Kind = "transient"


class TerminalError(IngestError):
    """The same request will fail again: bad file, bad pipeline, forbidden URI. Never retried."""


class BusySourceError(TransientError):
    """Another job holds the lock of a source; this one waits its turn."""


class LostLeaseError(TransientError):
    """The job no longer holds its locks, so it must not publish."""


class UndecodableJobError(TerminalError):
    """A message on the queue that is not an ingest request in JSON."""


class QualityError(TerminalError):
    """More of a file's rows are rejected than its pipeline allows."""


class StorageError(TerminalError):
    """The lake cannot be written: no file's fault, and it stays so until someone acts."""


class CollectionError(TerminalError):
    """A collection holds vectors of another model, or other fields, than a pipeline wants."""


class StackError(TerminalError):
    """The embedded stack, or a part of it, is not there or did not start."""


class JobStoppedError(BaseException):
    """Ends the job that a thread is at, in whatever code it is: only the job's own end may catch it.

    Args:
        expected: As of an error.
        got: Likewise.
        fix: Likewise.
    """

    def __init__(self, expected: str, got: str, fix: str = "") -> None:
        super().__init__(expected, got, fix)
        self.error = TerminalError(expected, got, fix)


_CLASSES = (
    TransientError,
    TerminalError,
    BusySourceError,
    LostLeaseError,
    UndecodableJobError,
    QualityError,
    StorageError,
    CollectionError,
    StackError,
)
_TYPES: dict[str, type[IngestError]] = {c.__name__: c for c in _CLASSES}


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """What to do about a name that nobody knows: the known one that is most like it comes first.

    Args:
        name: As it was given.
        known: The names that there are.
        otherwise: What helps in any case.
    """
    folded = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return f"Did you mean '{folded[near[0]]}'? {otherwise}" if near else otherwise


def attempt(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | TerminalError:
    """What the work on one file gives, or the error if that is the file's own fault; all others are raised."""
    try:
        return work(*args, **named)
    except StorageError:
        raise
    except TerminalError as error:
        return error


def attempt_all(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | TerminalError:
    """As :func:`attempt`, and what nobody has foreseen is the file's fault, too."""
    try:
        return attempt(work, *args, **named)
    except IngestError:
        raise
    except BaseException as error:  # libraries raise what they like
        if of_the_system(error):
            raise
        log.exception("an error that nobody has foreseen")
        return TerminalError.wrap(error, "a file that can be worked on", UNFORESEEN)


def of_the_system(error: BaseException) -> bool:
    """Whether an error is the machine's, and no file's: a disk, a network; Arrow's own OSErrors have no number."""
    let_pass(error)
    return isinstance(error, OSError) and error.errno is not None


def words_of(error: BaseException) -> str:
    """The text of an exception in one line, such as UTF-8 can hold; other people's exceptions may have none."""
    try:
        text = str(error)
    except Exception as inner:  # noqa: BLE001 - its own __str__ is other people's code, too
        text = f"(no text: {type(inner).__name__})"
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def let_pass(error: BaseException) -> None:
    """Raises what other people's code has not raised itself: the wish that the job be stopped, and Ctrl-C.

    Whoever calls such code catches everything, since libraries raise more than Exception (a Rust panic, `exit()`),
    and asks this first.
    """
    here = threading.current_thread() is threading.main_thread()  # which both come to, and no other
    if isinstance(error, JobStoppedError) and here:
        raise error
    if isinstance(error, KeyboardInterrupt) and here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
