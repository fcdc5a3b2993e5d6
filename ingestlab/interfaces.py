"""The doors: what a queue, a source, a format, an executor, a sink and a store have to do.

A plug-in is one module that meets one of these Protocols, declared as an entry point of its group, e.g.
``[project.entry-points."ingestlab.sources"]``. The suites in ``tests/contracts/`` say when it is right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, Protocol, Self, runtime_checkable

from ingestlab.core import models
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.jobs import JobStatus, Listener, QueueState
from ingestlab.core.messages import Request
from ingestlab.core.models import FetchedFile, Manifest, Part, Piece, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings

if TYPE_CHECKING:  # whoever only asks a queue does without them
    import numpy as np
    import pyarrow as pa

SchemaDrift = Literal["evolve", "freeze", "discard_row", "discard_value"]


class Store(Protocol):
    """What the rest of ingestlab needs of a lake."""

    url: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file, or a range of them; raises FileNotFoundError."""
        ...

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of files in order, many at a time where the store can; None for one that is not there."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Writes a file so that its name appears only when it is whole and on disk."""
        ...

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Writes a file unless one of this name exists, as the store decides; tells whether it did."""
        ...

    def adopt(self, local: Path, path: str) -> None:
        """Moves a finished local file (from `scratch`) into the lake."""
        ...

    def move(self, source: str, target: str) -> None:
        """Gives a file another name, replacing what is there; done already is no error."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file or a folder with all in it; nothing there is no error."""
        ...

    def delete_files(self, paths: Iterable[str]) -> None:
        """Removes files, many at a time where the store can; one that is not there is no error."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def size(self, path: str) -> int:
        """Bytes in a file; raises FileNotFoundError."""
        ...

    def walk(self, folder: str) -> Iterator[str]:
        """All files below a folder, sorted; none if it does not exist."""
        ...

    def children(self, folder: str) -> list[str]:
        """The names of the files and folders right in a folder, sorted; none if it does not exist."""
        ...

    def scratch(self) -> Path:
        """A local folder for files that are being made."""
        ...

    def tidy(self, older: float) -> int:
        """Removes what is left in `scratch` of processes that died `older` seconds ago; gives the number."""
        ...

    def full(self, path: str) -> str:
        """The path as other tools take it: absolute, or a URL."""
        ...


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source is what the lake has of it.

    Attributes:
        uri: The source.
        version: What tells this version next time; other than the known one where the same bytes have a
            new ETag or time, so that whoever remembers versions can refresh what it knows.
    """

    uri: str
    version: str | None = None


class RawFile(Protocol):
    """Take in the bytes of one source on their way into the raw zone; a context manager that keeps nothing by itself.

    Each call that writes raises LakeFaultError, which a source lets pass, where the lake fails.
    """

    uri: str
    size: int  # bytes that have come
    head: bytes  # the first of them

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def expect(self, size: int | None) -> None:
        """Refuse, with TerminalError, a source that says itself that it has too many bytes."""
        ...

    def feed(self, chunk: bytes) -> bool:
        """Take bytes; True asks for :meth:`spill`. Raises TerminalError above the size limit."""
        ...

    def spill(self) -> None:
        """Write what is in memory to disk."""
        ...

    def restart(self) -> None:
        """Forget all bytes."""
        ...

    def reread(self) -> BinaryIO:
        """Open all that has come, from its beginning; nothing more may come."""
        ...

    def another(self) -> RawFile:
        """Make a place for what is unpacked from these bytes."""
        ...

    @property
    def scratch(self) -> str:
        """A local folder for temporary files."""
        ...

    @property
    def quick(self) -> bool:
        """Whether `settle` may run on an event loop: few bytes, onto a local disk."""
        ...

    def settle(
        self, version: str | None, known: SourceRecord | None, facts: Mapping[str, str] | None = None
    ) -> FetchedFile | Unchanged:
        """Give the file its place in the lake, named by its content.

        Args:
            version: What tells this version next time, e.g. an ETag, a cursor, or size and time.
            known: What the lake has of the source; of the same content, the answer is `Unchanged`.
            facts: What was learnt about the file, e.g. ``{"charset": "cp1252"}``.
        """
        ...


Fetch = Callable[[models.Source, SourceRecord | None], Awaitable[FetchedFile | Unchanged]]


class Source(Protocol):
    """Find and fetch the files behind a family of URI schemes; made once a process, without arguments.

    Attributes:
        schemes: What its URIs are like, by scheme in lower case. A scheme is served where INGESTLAB_SCHEMES names it.
    """

    schemes: ClassVar[Mapping[str, Scheme]]

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[models.Source]:
        """List what a URI or a pattern names, sorted, with size in bytes and version where a listing tells them.

        Args:
            uri: Of one of the schemes; its text has passed the access policy.
            settings: Limits, and `storage_options` by scheme.
            glob: Takes it for a pattern, though there may be a file of that name.

        Raises:
            IngestError: A pattern matches nothing, or the system cannot be asked.
        """
        ...

    def opened(
        self, open_raw: Callable[[str], RawFile], settings: Settings, *, pages: bool
    ) -> AbstractAsyncContextManager[Fetch]:
        """Open what the fetches of one request share; :class:`ingestlab.sources.blocking.BlockingSource` has it.

        Nothing is connected to before the first fetch, so that a system that is away fails its own sources alone.
        The function that it gives is called for many sources at once. It copies one file, in several attempts if
        need be, and gives the file, or `Unchanged` where the version or content is the known one; it raises
        TerminalError where no retry helps, TransientError where it may.

        Args:
            open_raw: Gives a place for the bytes of a source, by its URI.
            settings: As above.
            pages: Whether web pages are what is wanted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bad:
    """One source record that could not be read as declared."""

    row: int  # number of the record in its file, from 0; the header is not counted
    rule: str  # "columns", "type", "field_size", …
    column: str | None
    value: str | None


@dataclass(frozen=True)
class Records:
    """What a reader made of one piece.

    `table` and `rows` (int64, ascending) have equal lengths: `rows[i]` is the number in the file of the
    record in `table[i]`. A record is in `table` or in `bad`, never in both. `raw` gives the text of
    records by their numbers; where it cannot be told, the number is missing from its answer. `facts` says
    what the reader found out about the file, e.g. ``{"encoding": "cp1252", "compression": "gzip"}``.
    `discarded` counts, by column, values that were left out of records that stay.
    """

    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.int64]]
    bad: tuple[Bad, ...] = ()
    raw: Callable[[Iterable[int]], dict[int, str]] = field(default=lambda _rows: {})
    facts: Mapping[str, str] = field(default_factory=dict)
    discarded: Mapping[str, int] = field(default_factory=dict)


class Format(Protocol):
    """Make Arrow tables of the files of one format; an object of it is a pipeline's `reader`.

    A class may also have: `suffixes`, of the files that it reads where no pipeline matches, with `generic`, the text
    of the arguments that make it infer what it can; and `resources`, what one that runs a model would like of a
    Dask worker, e.g. ``{"GPU": 1}``.
    """

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cut a file between records into pieces of about `size` bytes, in order, with nothing left out.

        Raises:
            TerminalError: The file is not what was declared.
        """
        ...

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece; twice gives the same.

        Records that cannot be read are `bad`, never an error.

        Raises:
            TerminalError: The file as a whole is not what was declared.
        """
        ...


def pieces_of(file: FetchedFile, reader: Format, store: Store, size: int) -> tuple[Piece, ...]:
    """The pieces of a file, each with the charset that its server named as ``settled["charset"]``."""
    pieces = tuple(reader.split(file, store, size))
    if not file.charset:
        return pieces
    return tuple(p.model_copy(update={"settled": {"charset": file.charset, **p.settled}}) for p in pieces)


@runtime_checkable
class PackReader(Format, Protocol):
    """A reader that is faster at many small files together."""

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """For each piece, in their order: its records, or the error that `read` would raise."""
        ...


@runtime_checkable
class DriftReader(Format, Protocol):
    """A reader that knows what to do with data that its declaration does not know."""

    def drifting(self, word: SchemaDrift) -> Format:
        """The same reader under one of the four words."""
        ...


class Job(Protocol):
    """One job as its broker tells of it, at the time when it was asked for."""

    @property
    def id(self) -> str:
        """Made from its request: the same request is the same job."""
        ...

    @property
    def status(self) -> JobStatus:
        """Where it is."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """What producer and worker have noted: `run`, `tenant`, `files`, `progress`, `error`, `kept`, `result`."""
        ...

    @property
    def description(self) -> str:
        """One line for people."""
        ...

    @property
    def queued(self) -> datetime | None:
        """When it was published, in UTC."""
        ...

    @property
    def began(self) -> datetime | None:
        """When its last try began, in UTC."""
        ...

    @property
    def ended(self) -> datetime | None:
        """When its last try ended, in UTC."""
        ...

    @property
    def worker(self) -> str:
        """The name of the worker that has it, or had it last; empty if none has."""
        ...

    def request(self) -> Any:
        """What is asked, as plain data; raises UndecodableJobError."""
        ...

    def result(self) -> dict[str, Any] | None:
        """An IngestResult as plain data, once it has ended with one."""
        ...

    def traceback(self) -> str:
        """How its last try failed, in Python's words; empty if it did not."""
        ...

    def error(self) -> IngestError:
        """Why it ended without a word of ours."""
        ...


class Queue(Protocol):
    """Carry jobs from producers to workers; made with the settings and a Redis client."""

    def publish(self, queue: str, request: Request) -> tuple[str, bool]:
        """Put a request on a queue, unless the same is queued or running; gives the job's id, and whether it is new."""
        ...

    def jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        """Look up jobs by id, those that are still known."""
        ...

    def any_known(self, ids: Sequence[str]) -> bool:
        """Whether one of some jobs is still known; False for none."""
        ...

    def wait(self, ids: Iterable[str], seen: dict[str, str], seconds: float) -> list[str]:
        """Sleep until some of these jobs may have ended, or the time is over; gives those that have news.

        Args:
            ids: Of jobs that had not ended.
            seen: Kept from call to call; empty at first.
            seconds: To sleep at most.
        """
        ...

    def cancel(self, job: Any) -> bool:
        """Take a job that waits from the queue, or have its worker stop it; False if there was nothing to do."""
        ...

    def again(self, job: Any) -> None:
        """Queue a job that failed once more."""
        ...

    def names(self) -> set[str]:
        """Name all queues that were ever used."""
        ...

    def state(self, queue: str) -> QueueState:
        """Count what waits and runs on a queue, and who listens."""
        ...

    def is_needed(self, queue: str) -> bool:
        """Whether a worker would find something to do, now or later."""
        ...

    def listeners(self, queue: str) -> list[Listener]:
        """List the workers that listen on a queue."""
        ...

    def monitor(self) -> Any:
        """Open what the dashboard reads: an :class:`ingestlab.queue.monitor.Monitor`."""
        ...

    def consume(self, queues: Sequence[str]) -> int:
        """Work on queues until it is told to stop; gives the exit code of the process."""
        ...


class CostlyError(TransientError):
    """Some tasks have each cost more workers than one may.

    Attributes:
        places: Their positions among the calls.
    """

    places: tuple[int, ...] = ()


class Executor(Protocol):
    """Run one function over many calls, on whatever machines there are; made with the settings."""

    def connect(self) -> None:
        """Connect ahead of the first task; raises TransientError where there is nothing to connect to."""
        ...

    def map(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        keys: Sequence[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish.

        An error of a task is raised as it is. Tasks that have not begun are dropped when the caller leaves the
        iterator, also by JobStoppedError; a task may run twice where a worker is lost.

        Args:
            function: Importable on the workers.
            calls: Arguments that are plain data.
            keys: Names of the tasks, each once, as a dashboard shows them.
            resources: What a worker should declare to run them, e.g. ``{"GPU": 1}``; where none declares all of
                it, any worker does.

        Raises:
            CostlyError: Some calls cost more workers than a call may; the others' results have been yielded by then.
            TransientError: Workers were lost, or the scheduler was.
        """
        ...

    def close(self) -> None:
        """Disconnect, and stop what this process has started; it connects again when it is needed."""
        ...


class Live(Protocol):
    """What is live in a table after its last commit; it is read when it is asked for."""

    def latest(self) -> Sequence[Manifest]:
        """Read the last commits, oldest first; the last one that names a collection is among them."""
        ...

    def manifests(self) -> Sequence[Manifest]:
        """Read all commits of which something is live, oldest first."""
        ...


class Sink(Protocol):
    """A place that commits fill, made as ``Sink(settings, store, cluster)`` in whatever process commits or recovers.

    A commit prepares all sinks, writes its log entry, and lets all sinks finish; one that fails or dies before its
    entry is undone. Each step may come twice, from another process as well, and must then change nothing. A sink
    that a commit has nothing for does nothing. Entry points of the group ``ingestlab.sinks`` name such classes.
    """

    def prepare(self, manifest: Manifest) -> None:
        """Bring in what a commit adds, which has its intent and no log entry yet.

        Args:
            manifest: What the commit adds and replaces. Its files are staged, or published already.

        Raises:
            TransientError: The sink is away.
            TerminalError: It cannot take what is brought.
        """
        ...

    def finish(self, manifest: Manifest) -> None:
        """Take out what a commit has superseded, whose log entry is there."""
        ...

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:
        """Take back what a commit without log entry has brought in, were it only a part.

        Args:
            intent: What the commit was about to do.
            history: Reads the commits of its table, oldest first.
        """
        ...

    def shared(self, manifest: Manifest) -> str:
        """Name what a commit fills that other tables fill as well; empty if there is none.

        No commit begins while somebody makes it anew, who holds :func:`ingestlab.lake.locks.collection_lock`.
        """
        ...

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:
        """Find the sources, by URI, of which the sink does not have what the log says.

        Args:
            tenant: Whose table it is.
            table: Its name.
            live: Its commits. A sink that has nothing of the table does not read them all.
        """
        ...

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Make what the sink has of some sources what the log says; the caller holds their locks."""
        ...


class PartWriter(Protocol):
    """What a task needs of a place for rows."""

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[Part]:
        """Writes a table, one part for each combination of values of the columns `folders`."""
        ...

    def publish(self, part: Part) -> None:
        """Makes a staged part visible under its target; visible already is no error."""
        ...

    def discard(self, part: Part) -> None:
        """Removes a part, staged or published; gone already is no error."""
        ...

    def read(self, parts: Iterable[Part]) -> pa.Table:
        """The rows of published parts; columns that only some parts have are null elsewhere."""
        ...
