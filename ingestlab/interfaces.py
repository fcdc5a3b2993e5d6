"""The doors: what a queue, a source, a format, an executor, a sink and a store have to do.

A plug-in is one module that meets one of these Protocols, declared as an entry point of its group, e.g.
``[project.entry-points."ingestlab.sources"]``. The suites in ``tests/contracts/`` say when it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import JsonValue

from ingestlab.core import models
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.jobs import BrokerFinding, Job, JobEnding, JobNotes, Listener, QueueSnapshot, QueueState, TryEnd
from ingestlab.core.messages import Request
from ingestlab.core.models import DataFile, FetchedFile, Manifest, Piece, SourceRecord, Staged
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
        """Read a file, or a range of its bytes.

        Args:
            path: Of the file.
            start: First byte.
            stop: The byte after the last one; None for the end. What is beyond the end is left out.

        Raises:
            FileNotFoundError: There is no such file.
            TransientError: The store cannot be reached.
        """
        ...

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """Read files in order, many at a time. A missing one is None."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file. Its name appears when it is whole and on disk.

        Args:
            path: Of the file.
            data: All of its bytes.
        """
        ...

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Write a file unless its name is taken, as the store decides: two writers at once make one file.

        Args:
            path: Of the file.
            data: All of its bytes.

        Returns:
            Whether it was written.

        Raises:
            TransientError: The store cannot be reached. It may have written the file.
            StorageError: The lake cannot be written.
        """
        ...

    def adopt(self, local: Path, path: str) -> None:
        """Move a finished local file (from `scratch`) into the lake.

        Args:
            local: Where the file is now.
            path: Where it goes.
        """
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file, replacing the target. Done already is no error.

        Args:
            source: Its path.
            target: Its new path.

        Raises:
            FileNotFoundError: There is neither of them.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with its contents. A missing one is no error."""
        ...

    def delete_files(self, paths: Iterable[str]) -> None:
        """Remove files, many at a time. A missing one is no error."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a file of this name."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file in bytes; raises FileNotFoundError."""
        ...

    def walk(self, folder: str) -> Iterator[str]:
        """List all files below a folder, sorted. A missing folder has none."""
        ...

    def children(self, folder: str) -> list[str]:
        """List the names in a folder, sorted. A missing folder has none."""
        ...

    def scratch(self) -> Path:
        """Return a local folder for unfinished files."""
        ...

    def tidy(self, older: float) -> int:
        """Remove files of `scratch` older than `older` seconds; gives their number."""
        ...

    def full(self, path: str) -> str:
        """Return the path as other tools take it: absolute, or a URL."""
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
    """Take in the bytes of one source for the raw zone. A context manager that keeps nothing by itself.

    Each call that writes raises LakeFaultError, which a source lets pass, where the lake fails.
    """

    uri: str
    size: int  # bytes that have come
    head: bytes  # the first of them

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def expect(self, size: int | None) -> None:
        """Refuse, with TerminalError, a source that announces too many bytes."""
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
        """Tell whether `settle` may run on an event loop: few bytes, onto a local disk."""
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
    """Find and fetch the files behind a family of URI schemes. Made once a process, without arguments.

    Attributes:
        schemes: What its URIs are like, by scheme in lower case. A scheme is served where INGESTLAB_SCHEMES names it.
    """

    schemes: ClassVar[Mapping[str, Scheme]]

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[models.Source]:
        """List the files of a URI or a pattern, sorted. Size and version are given where a listing has them.

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


@runtime_checkable
class Listing(Source, Protocol):
    """A source whose files can be listed, however many there are: `ingestlab sync` needs it."""

    def look(self, uri: str, settings: Settings) -> models.Source | None:
        """Look at one file; None if there is none of this name.

        Args:
            uri: As a walk gives it.
            settings: As below.

        Raises:
            TerminalError: It is no file, or may not be seen.
            TransientError: The system cannot be asked.
        """
        ...

    def walk(self, uri: str, settings: Settings) -> Iterator[models.Source]:
        """Yield all files below a folder, each once, in any order.

        Few of them are in memory at a time. Size and version are given where the listing has them, and are those
        that a fetch would find.

        Args:
            uri: Of the folder or bucket; its text has passed the access policy.
            settings: Limits, and `storage_options` by scheme.

        Raises:
            TerminalError: There is no such folder.
            TransientError: The system cannot be asked, be it in the middle.
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
    """Make Arrow tables of the files of one format. An object of it is a pipeline's `reader`.

    A class may also have: `suffixes`, of the files that it reads where no pipeline matches, with `generic`, the text
    of the arguments that make it infer what it can; and `resources`, what one that runs a model would like of a
    Dask worker, e.g. ``{"GPU": 1}``.
    """

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cut a file between records into pieces, in order, complete.

        Args:
            file: In the raw zone.
            store: Where it is.
            size: Bytes of a piece, about.

        Raises:
            TerminalError: The file is not what was declared.
        """
        ...

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece; twice gives the same.

        Records that cannot be read are `bad`, never an error.

        Args:
            piece: What :meth:`split` made.
            store: Where its file is.

        Returns:
            Its records, and those that cannot be read.

        Raises:
            TerminalError: The file as a whole is not what was declared.
        """
        ...


def pieces_of(file: FetchedFile, reader: Format, store: Store, size: int) -> tuple[Piece, ...]:
    """Split a file. Each piece has the charset that its server named, as ``settled["charset"]``.

    Args:
        file: In the raw zone.
        reader: Splits it.
        store: Where it is.
        size: Bytes of a piece, about.
    """
    pieces = tuple(reader.split(file, store, size))
    if not file.charset:
        return pieces
    return tuple(p.model_copy(update={"settled": {"charset": file.charset, **p.settled}}) for p in pieces)


class LateError(Exception):
    """All of a file decides how it is cut."""


@runtime_checkable
class EarlyReader(Format, Protocol):
    """A reader that cuts a file while it is still being copied."""

    def split_early(self, file: FetchedFile, store: Store, size: int) -> Iterator[Piece]:
        """Yield the pieces of `split`, as early as each is known.

        Args:
            file: Its size is known; what is read of it may take time to come.
            store: Where it is.
            size: Bytes of a piece, about.

        Raises:
            LateError: The file's beginning does not tell, and the pieces that came are of no use.
        """
        ...


@runtime_checkable
class PackReader(Format, Protocol):
    """A reader that is faster at many small files together."""

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """For each piece, in their order: its records, or the error that `read` would raise.

        Args:
            pieces: Of one or several files.
            store: Where these are.
        """
        ...


@runtime_checkable
class DriftReader(Format, Protocol):
    """A reader that handles data beyond its declaration."""

    def drifting(self, word: SchemaDrift) -> Format:
        """Return the same reader under one of the four words."""
        ...


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to a file, as an event says. What is true now is looked up.

    Attributes:
        uri: Of the file.
        removed: Whether it was taken away.
        order: Of two notices about one file the later one has the greater text; empty where nothing tells.
    """

    uri: str
    removed: bool = False
    order: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What a feed has received at once, and is told of once.

    Attributes:
        handle: By which the feed knows it.
        notices: Of which files.
        tries: How often it has been received, this time included.
        body: Its text, for people, where it is put aside.
    """

    handle: str
    notices: tuple[Notice, ...]
    tries: int = 1
    body: str = ""


class Feed(Protocol):
    """Hear of files. Made once a process, from the settings and an address; a context manager.

    Attributes:
        name: Under which status and pages show it, without secrets.
    """

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for messages, at most some seconds.

        Each comes again unless it is settled. What makes no sense is refused here, by itself.

        Args:
            seconds: To wait.

        Raises:
            TerminalError: There is no such queue or folder, or it may not be listened to.
            TransientError: The system cannot be asked.
        """
        ...

    def settle(self, messages: Sequence[Message]) -> None:
        """Take messages off: their jobs are queued."""
        ...

    def postpone(self, message: Message, seconds: float) -> None:
        """Let a message come again.

        Args:
            message: Not to be settled yet.
            seconds: Until then, about.
        """
        ...

    def refuse(self, message: Message, reason: str) -> None:
        """Put a message aside for people to look at: it never comes again by itself.

        Args:
            message: That nothing can be done about.
            reason: What is wrong with it.
        """
        ...

    def keep(self, messages: Sequence[Message]) -> None:
        """Keep messages from others. It is called every few seconds while they are handled."""
        ...

    def waiting(self) -> int | None:
        """Count what waits to be received; None where nothing tells."""
        ...


class Delivery(Protocol):
    """One try of a job, given to the handler by a broker. While it lasts the broker keeps others off the job."""

    @property
    def id(self) -> str:
        """The job's."""
        ...

    @property
    def queue(self) -> str:
        """The name of the queue that it came from."""
        ...

    @property
    def retry_after(self) -> float | None:
        """Seconds to the next try after a transient failure. None if this is the last."""
        ...

    @property
    def notes(self) -> JobNotes:
        """The notes on the job, of this try and earlier ones."""
        ...

    def note(self, notes: JobNotes) -> None:
        """Note facts of the job in Redis, visible at once. Other facts stay."""
        ...

    def stopped(self) -> str | None:
        """Give what :meth:`Queue.cancel` was told since this try began.

        None if it was not called.
        """
        ...


Handler = Callable[[JsonValue, Delivery], TryEnd]
"""Does what a message asks; raises nothing but what ends the process.

The message is plain data, as :meth:`ingestlab.core.messages.Request.to_dict` makes it, or whatever a foreign producer
has sent in its place. The broker carries the answer out.
"""


class Monitor(Protocol):
    """Tell the dashboard of queues, jobs and workers, in few round trips.

    Each call raises redis.RedisError where the broker does not answer.
    """

    def names(self) -> tuple[list[str], list[str]]:
        """Name all queues, and the keys of all workers."""
        ...

    def queues(self, names: Sequence[str], last: int) -> list[QueueSnapshot]:
        """Read queues, with at most `last` ended jobs of each kind.

        Args:
            names: Of the queues.
            last: How many of each kind.
        """
        ...

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """List the registered workers, except those that ended on this machine."""
        ...

    def tenants(self, queues: Iterable[QueueSnapshot]) -> dict[str, Counter[str]]:
        """Count waiting jobs by queue and tenant."""
        ...


class Queue(Protocol):
    """Carry jobs from producers to workers. Made with the settings and a Redis client."""

    def publish(self, queue: str, request: Request, notes: JobNotes | None = None) -> tuple[str, bool]:
        """Put a request on a queue, unless it is queued or running. Gives the job's id, and whether it is new.

        Args:
            queue: Its name.
            request: What is asked.
            notes: What is known of the job from before it was forgotten.
        """
        ...

    def consume(self, queues: Sequence[str], handler: Handler) -> int:
        """Handle jobs, one at a time, until the process is stopped.

        The job of a process that dies is handled by another one within half a minute.

        Args:
            queues: Names, the most urgent first.
            handler: Does the jobs.

        Returns:
            The exit code of the process.
        """
        ...

    def jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        """Look up jobs by id, those that are still known."""
        ...

    def request(self, job: str) -> Request:
        """Read what a job is asked. Raises UndecodableJobError, also for an unknown one."""
        ...

    def ending(self, job: str) -> JobEnding:
        """Read how the last try of a job ended. Empty if it has not."""
        ...

    def wait(self, ids: Iterable[str], seen: dict[str, str], seconds: float) -> list[str]:
        """Sleep until some of these jobs may have ended, or a timeout. Gives those with news.

        Args:
            ids: Of jobs that had not ended.
            seen: Kept from call to call; empty at first.
            seconds: To sleep at most.
        """
        ...

    def cancel(self, job: str, why: str = "") -> bool:
        """Remove a waiting job, or have its worker stop it. False if there was nothing to do.

        Args:
            job: Its id.
            why: Who wishes so, and for which reason; a note of the job.
        """
        ...

    def again(self, job: str) -> None:
        """Queue a failed job once more. An unknown one is left alone."""
        ...

    def names(self) -> set[str]:
        """Name all queues that were ever used."""
        ...

    def state(self, queue: str) -> QueueState:
        """Count what waits and runs on a queue, and who listens."""
        ...

    def is_needed(self, queue: str) -> bool:
        """Tell whether a worker would find something to do, now or later."""
        ...

    def listeners(self, queue: str) -> list[Listener]:
        """List the workers that listen on a queue."""
        ...

    def monitor(self) -> Monitor:
        """Open what the dashboard reads."""
        ...


@runtime_checkable
class Examined(Protocol):
    """A queue that examines its broker for `ingestlab doctor`."""

    def examine(self) -> Iterable[BrokerFinding]:
        """Tell whether the broker answers, and what is wrong with it. Raises nothing for a broker that is away."""
        ...


class RateLimiter(Protocol):
    """Pace what workers ask of a server together."""

    def reserve(self, name: str, amount: float, rate: float, patience: float) -> float:
        """Take from a bucket, and tell how long to wait first.

        Args:
            name: Of the bucket.
            amount: What to take.
            rate: What comes a second; 0 sets no limit.
            patience: Seconds to wait at most.

        Returns:
            Seconds.

        Raises:
            TransientError: The wait would be longer, and nothing is taken; or the bucket is away.
        """
        ...

    def pause(self, name: str, seconds: float) -> None:
        """Let nobody take from a bucket for some seconds.

        Args:
            name: Of the bucket.
            seconds: From now on.
        """
        ...


class CostlyError(TransientError):
    """Some tasks have each cost more workers than one may.

    Attributes:
        places: Their positions among the calls.
    """

    places: tuple[int, ...] = ()


class Executor(Protocol):
    """Run one function over many calls. Made with the settings."""

    def connect(self) -> None:
        """Connect ahead of the first task; raises TransientError without a cluster."""
        ...

    def is_local(self) -> bool:
        """Tell whether tasks see at once what is written here."""
        ...

    def map(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        keys: Iterable[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish.

        An error of a task is raised as it is. Tasks that have not begun are dropped when the caller leaves the
        iterator, also by JobStoppedError; a task may run twice where a worker is lost.

        Args:
            function: Importable on the workers.
            calls: Arguments that are plain data. They may come one by one, while earlier ones run; an error of
                theirs is raised.
            keys: Names of the tasks, each once, as a dashboard shows them.
            resources: What a worker should declare to run them, e.g. ``{"GPU": 1}``; where none declares all of
                it, any worker does.

        Raises:
            CostlyError: Some calls cost more workers than a call may; the others' results have been yielded by then.
            TransientError: Workers were lost, or the scheduler was.
        """
        ...

    def close(self) -> None:
        """Disconnect, and stop what this process has started. It connects again when it is needed."""
        ...


class Live(Protocol):
    """The live contents of a table, read on demand."""

    def latest(self) -> Sequence[Manifest]:
        """Read the last commits, oldest first. The last one with a note for each sink is among them."""
        ...

    def manifests(self) -> Sequence[Manifest]:
        """Read all commits of which something is live, oldest first."""
        ...


MAX_VALUE = 200  # characters of an offending value that a reject keeps
Place = tuple[str, int]  # a source row: the URI of its source, and its number in the file


@dataclass(frozen=True, slots=True)
class Reason:
    """Reason why a source row does not go on."""

    rule: str
    column: str | None = None
    value: str | None = None


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The commit that a task stages for, as sinks see it.

    Attributes:
        run: In which run.
        batch: Names the commit.
        tenant: The tenant of the table.
        table: Its name.
        pipeline: What the table's author declares, a :class:`ingestlab.pipeline.pipeline.Pipeline`.
        store: The lake, in which sinks stage.
        replace: Whether the earlier rows of the same sources go.
        earlier: By sink, files with rows of the same sources beside which the new ones are to stand, if any.
        previous: By sink that `reuses` them, the published files with rows of the same sources.
        outside: Settings for what asks servers, see :meth:`ingestlab.core.settings.Settings.outside`.
    """

    run: str
    batch: str
    tenant: str
    table: str
    pipeline: Any
    store: Store
    replace: bool = False
    earlier: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    previous: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    outside: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, work: Any, pipeline: Any, store: Store, **more: Any) -> Self:
        """Tell sinks where the work of a task goes.

        Args:
            work: What the task is told, with `run`, `batch`, `tenant`, `table`, `previous` and `outside`.
            pipeline: What the table's author declares.
            store: The lake.
            **more: Other fields.
        """
        shared = {name: getattr(work, name) for name in ("run", "batch", "tenant", "table", "previous", "outside")}
        return cls(pipeline=pipeline, store=store, **shared, **more)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a task has made of some pieces.

    Attributes:
        name: For files that are made of it; the same whenever the task runs, and of no other task.
        table: The rows to publish, with the columns `_source` and `_row`.
        rejects: The rows to keep aside, with the columns of :data:`ingestlab.lake.arrow_schema.REJECTS`.
        pieces: What they were read from, by URI.
        raw: Where the files of the pieces are, by their `path`.
        alive: To be called now and then by what takes long; raises once the task has taken too long.
        staged: What the sinks before this one have staged of it, by name.
    """

    name: str
    table: pa.Table
    rejects: pa.Table
    pieces: Mapping[str, Piece]
    raw: Store
    alive: Callable[[], None] = lambda: None
    staged: Mapping[str, Staged] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What a writer has staged of some rows.

    Attributes:
        files: In the lake, each under its `staged` name; a commit moves them, and names them in the log.
        note: Plain data for the commit; :meth:`Sink.agree` makes one of several.
        rules: Rows that are published though the sink has nothing of them, counted by rule.
        facts: What is to be known of a source, by URI.
    """

    files: Sequence[DataFile] = ()
    note: dict[str, Any] | None = None
    rules: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Writer(Protocol):
    """The part of a sink in a task on a worker: one for each task, by :meth:`Sink.writer`.

    What is inherited refuses nothing and stages nothing.
    """

    to: Destination

    def __init__(self, destination: Destination) -> None:
        self.to = destination

    def refuse(self, rows: Rows) -> Mapping[Place, Reason]:  # noqa: ARG002 - for those who refuse
        """Find the source rows that the sink cannot take: they become rejects.

        Asked before anything is staged, and again without the files that have failed for it.

        Raises:
            TerminalError: It can take none of the rows. Each file is then asked for by itself.
        """
        return {}

    def stage(self, rows: Rows) -> Written:  # noqa: ARG002 - for those who stage
        """Write what a commit needs of some rows, unseen. Twice is as once.

        Raises:
            TerminalError: It cannot, and the files of the task fail.
        """
        return Written()


class Sink(Protocol):
    """A place that commits fill. Made as ``Sink(settings, store, cluster)`` in whatever process commits or recovers.

    Tasks stage on the workers, by the writer that the class gives. A commit then prepares the sinks that it names,
    writes its log entry, and lets them finish; one that fails or dies before its entry is undone. Each step may come
    twice, from another process as well, and must then change nothing. What is inherited does nothing. Entry points
    of the group ``ingestlab.sinks`` name such classes.

    A commit names the sinks that its table's pipeline fills, and says in ``manifest.sinks[name]`` what there is for
    each: files, which are staged or published already, and a note.

    Attributes:
        reuses: Whether its writer looks into what is published of the sources that it gets again.
    """

    reuses: ClassVar[bool] = False

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None: ...

    @classmethod
    def takes(cls, pipeline: Any) -> bool:  # noqa: ARG003 - for those who choose
        """Tell whether the tables of a :class:`ingestlab.pipeline.pipeline.Pipeline` fill this sink."""
        return True

    @classmethod
    def writer(cls, destination: Destination) -> Writer:
        """Make what stages the rows of a task, on the worker."""
        return _Nothing(destination)

    @classmethod
    def agree(cls, notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one note of those of several tasks; one at least.

        Raises:
            TerminalError: They contradict each other.
        """
        return notes[-1]

    @classmethod
    def shared_by(cls, pipeline: Any) -> str:  # noqa: ARG003 - for those who share
        """Name what a pipeline's table shares with others; empty if nothing.

        No commit begins while somebody rebuilds it, under :func:`ingestlab.lake.locks.shared_lock`.
        """
        return ""

    def shared(self, manifest: Manifest) -> str:  # noqa: ARG002 - for those who share
        """Name what a commit shares with other tables; empty if nothing."""
        return ""

    def check(self, code: Any, history: Callable[[], Sequence[Manifest]]) -> None:
        """Check that the sink can take what a pipeline declares. Asked before any row is read.

        Args:
            code: The pipeline's text, a :class:`ingestlab.pipeline.catalog.PipelineSource`.
            history: Reads the commits of its table, oldest first.

        Raises:
            TransientError: The sink is away.
            TerminalError: It cannot take it.
        """

    def clashes(self, code: Any, staged: Mapping[str, Sequence[DataFile]]) -> Mapping[str, TerminalError]:  # noqa: ARG002
        """Find files, by URI, with pieces that exclude each other. Each piece can be brought in by itself.

        Args:
            code: The pipeline's text.
            staged: For each file that was cut, by URI, what was staged of its pieces.
        """
        return {}

    def prepare(self, manifest: Manifest) -> None:
        """Bring in what a commit adds. It has an intent and no log entry yet.

        Raises:
            TransientError: The sink is away.
            TerminalError: It cannot take what is brought.
        """

    def finish(self, manifest: Manifest) -> None:
        """Take out what a commit with a log entry has superseded."""

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:
        """Take back all or part of a commit without log entry.

        Args:
            intent: What the commit was about to do.
            history: Reads the commits of its table, oldest first.
        """

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:  # noqa: ARG002
        """Find the sources, by URI, on which sink and log differ.

        Args:
            tenant: The tenant of the table.
            table: Its name.
            live: Its commits. A sink that has nothing of the table does not read them all.
        """
        return ()

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Bring what the sink has of sources in line with the log. The caller holds their locks.

        Args:
            tenant: The tenant of the table.
            table: Its name.
            uris: Of the sources.
            live: Its commits.
        """


@runtime_checkable
class Rebuilding(Protocol):
    """A sink that rebuilds its contents beside those in use."""

    def rebuild(self, lake: Any, tenant: str, table: str, patience: float) -> Any:
        """Rebuild it as the table's pipelines want it, and switch at once.

        Args:
            lake: Where the table is, a :class:`ingestlab.lake.lake.Lake`.
            tenant: The tenant of the table.
            table: Its name.
            patience: Seconds to wait for other jobs that write the table.

        Returns:
            What is to be told of it, with a text for people.
        """
        ...


class _Nothing(Writer):
    """Stage nothing."""
