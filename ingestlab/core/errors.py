"""The errors that ingestlab raises: each with a code, each worth a retry or not.

A text begins with the problem, then says what was expected, what came, and what to do. The parts stay apart through
pickle (Dask) and JSON (RQ, the log, run records), so that every screen can show them its own way.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, ParamSpec, Self, TypeVar

from ingestlab.core.error_codes import CODES as CODES  # noqa: PLC0414 - ingestlab.errors.CODES is public
from ingestlab.core.error_codes import Code

Kind = Literal["transient", "terminal"]
UNFORESEEN = "The log of the Dask worker has the whole traceback."
log = logging.getLogger("ingestlab")
P = ParamSpec("P")
T = TypeVar("T")


class IngestError(Exception):
    """Base of everything that ingestlab raises on purpose.

    Args:
        problem: What is wrong, as a clause without a full stop, e.g. ``"File not found: data/a.csv"``.
        old: The form of version 0.1, ``TerminalError(expected, got, fix)``, which has no problem.
        expected: What should have been there, e.g. ``"the columns id, value"``; empty if the problem says so.
        got: What was there instead, e.g. ``"id alone"``; empty if the problem says so.
        fix: What the reader can do about it; empty if there is nothing to do.
        code: What programs group by, a key of :data:`CODES`; the default is the class's.

    Example:
        >>> print(TerminalError("Columns missing in a.csv", expected="id, value", got="id", code="columns_missing"))
        Columns missing in a.csv: expected id, value; got id
    """

    kind: Kind = "terminal"
    code: Code = "unknown"

    def __init__(
        self, problem: str, *old: str, expected: str = "", got: str = "", fix: str = "", code: Code | None = None
    ) -> None:
        super().__init__(problem, *old)
        if old:
            problem, expected, got, fix = "", problem, old[0], (*old[1:], fix)[0]
        self.problem, self.expected, self.got, self.fix = problem, expected, got, fix
        self.code = code or type(self).code

    def __str__(self) -> str:
        return ". ".join(text for text in (self.reason, self.fix) if text)

    @property
    def reason(self) -> str:
        """Return the text without the advice."""
        said = [f"expected {self.expected}"] if self.expected else []
        if self.got:
            said.append(f"got {self.got}" if said else self.got)
        return ": ".join(text for text in (self.problem, "; ".join(said)) if text)

    @property
    def _texts(self) -> dict[str, str]:
        return {"problem": self.problem, "expected": self.expected, "got": self.got, "fix": self.fix}

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the lines of a terminal, and no way through our code; ``%tb`` shows no more."""
        return [f"{name:>8}  {text}" for name, text in (*self.lines(), ("code", self.code))]

    def lines(self) -> list[tuple[str, str]]:
        """Return the parts that are there, each with its label, for screens."""
        return [("do" if name == "fix" else name, text) for name, text in self._texts.items() if text]

    def to_dict(self) -> dict[str, str]:
        """Return the error as a plain dict, for messages between processes."""
        return {"type": type(self).__name__, "kind": self.kind, "code": self.code, **self._texts}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> IngestError:
        """Return the error that :meth:`to_dict` described, of any version.

        Args:
            data: An unknown type comes back as its kind, an unknown or missing code as the class's.
        """
        base = TransientError if data.get("kind") == "transient" else TerminalError
        kind = _TYPES.get(str(data.get("type")), base)
        code = data.get("code")
        texts = {name: str(data.get(name) or "") for name in ("problem", "expected", "got", "fix")}
        return kind(**texts, code=code if code in CODES else None)

    @classmethod
    def wrap(cls, error: BaseException, problem: str, fix: str = "", *, code: Code | None = None) -> Self:
        """Translate an exception; its text becomes `got`.

        Args:
            error: The exception.
            problem: What could not be done.
            fix: What to do about it.
            code: Instead of the code of the class.
        """
        text = in_a_line(type(error).__name__, words_of(error).removesuffix("."))
        return cls(problem, got=text[:2000], fix=fix, code=code)

    def replace(self, **texts: str) -> Self:
        """Return a copy with other texts, e.g. ``error.replace(fix="Try again.")``.

        Args:
            **texts: The new ones, by the names of the attributes.
        """
        return type(self)(**(self._texts | texts), code=self.code)

    def within(self, where: str) -> Self:
        """Return a copy whose problem begins with where it arose, e.g. ``"Pipeline 'sales' does not load"``.

        Args:
            where: Begins the text, without a colon.
        """
        return self.replace(problem=": ".join(text for text in (where, self.problem) if text))


class TransientError(IngestError):
    """The same request may succeed later: network, busy source, lost Dask worker, storage hiccup."""

    kind: Kind = "transient"


class TerminalError(IngestError):
    """The same request will fail again: bad file, bad pipeline, forbidden URI. Never retried."""


class BusySourceError(TransientError):
    """Another job holds the lock of a source. This one waits its turn."""

    code: Code = "busy_source"


class LostLeaseError(TransientError):
    """The job no longer holds its locks, so it must not publish."""

    code: Code = "lease_lost"


class UndecodableJobError(TerminalError):
    """A message on the queue is no ingest request in JSON."""

    code: Code = "job_invalid"


class QualityError(TerminalError):
    """More of a file's rows are rejected than its pipeline allows."""

    code: Code = "quality_gate"


class StorageError(TerminalError):
    """The lake cannot be written: no file's fault, and it stays so until someone acts."""

    code: Code = "lake_unwritable"


class CollectionError(TerminalError):
    """A collection does not have the model or fields of a pipeline."""

    code: Code = "collection_conflict"


class StackError(TerminalError):
    """The embedded stack, or a service of it, did not start."""

    code: Code = "service_failed"


class JobStoppedError(BaseException):
    """End the job of a thread, in whatever code it is: only the job's own end may catch it.

    Args:
        error: Why the job ends.
    """

    def __init__(self, error: TerminalError) -> None:
        super().__init__(error)
        self.error = error


_TYPES: dict[str, type[IngestError]] = {
    kind.__name__: kind for base in (TransientError, TerminalError) for kind in (base, *base.__subclasses__())
}


def no_table(table: str, tenant: str) -> TerminalError:
    """Return the error for a table that a tenant does not have.

    Args:
        table: Its name.
        tenant: Who does not have it.
    """
    problem = f"There is no table '{table}' of tenant {tenant}"
    return TerminalError(problem, fix="`ingestlab tables` lists them.", code="table_unknown")


def unaccounted(problem: str, expected: str, got: str) -> TerminalError:
    """Return the error for lost or doubled rows, none of them published.

    Args:
        problem: What does not add up.
        expected: What should have been counted.
        got: What was counted.
    """
    fix = "Nothing was published. This is a fault in ingestlab or its storage: please report it."
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="inconsistent")


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Write advice on an unknown name: the known one most like it comes first.

    Args:
        name: As it was given.
        known: The names that there are.
        otherwise: What helps in any case.
    """
    folded = {name.casefold(): name for name in known}
    near = get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return f"Did you mean '{folded[near[0]]}'? {otherwise}" if near else otherwise


def attempt(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | TerminalError:
    """Do the work on one of many files. Its error ends it alone.

    The result stands in the file's place among the others', as a plug-in that reads many at once gives them.

    Args:
        work: A function.
        *args: Its arguments.
        **named: Its arguments by name.

    Returns:
        Its result, or the error that is the file's own fault.

    Raises:
        IngestError: One that is not: a TransientError, or a StorageError.
    """
    try:
        return work(*args, **named)
    except StorageError:
        raise
    except TerminalError as error:
        return error


def attempt_all(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | TerminalError:
    """Do the same, and blame the file for unforeseen errors, too.

    Args:
        work: Called with the other arguments.
        *args: For the call.
        **named: For the call.
    """
    try:
        return attempt(work, *args, **named)
    except IngestError:
        raise
    except BaseException as error:  # libraries raise what they like
        if of_the_system(error):
            raise
        log.exception("an error that nobody has foreseen")
        return TerminalError.wrap(error, "File cannot be processed", UNFORESEEN, code="unforeseen")


def of_the_system(error: BaseException) -> bool:
    """Tell whether an error is the machine's, not a file's. Arrow's own OSErrors have no number."""
    let_pass(error)
    return isinstance(error, OSError) and error.errno is not None


def words_of(error: BaseException) -> str:
    """Return the text of an exception, in one line of valid UTF-8."""
    try:
        text = str(error)
    except Exception as inner:  # noqa: BLE001 - its own __str__ is other people's code, too
        text = f"(no text: {type(inner).__name__})"
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def in_a_line(name: str, text: str) -> str:
    """Write an exception as one line.

    The name of a class of ours is left out: it tells a user nothing.

    Args:
        name: Of its class; its module may come before it.
        text: Its words.
    """
    return text if name.rpartition(".")[2] in {IngestError.__name__, *_TYPES} else f"{name}: {text}"


def let_pass(error: BaseException) -> None:
    """Raise an error that foreign code did not raise itself: a stop of the job, Ctrl-C.

    Whoever calls such code catches everything, since libraries raise more than Exception (a Rust panic, `exit()`),
    and asks this first.
    """
    here = threading.current_thread() is threading.main_thread()  # which both come to, and no other
    if isinstance(error, JobStoppedError) and here:
        raise error
    if isinstance(error, KeyboardInterrupt) and here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
