"""Sink: a place that commits fill; entry points of `ingestlab.sinks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Manifest, Piece, Staged
from ingestlab.core.settings import Settings
from ingestlab.interfaces.executor import Executor
from ingestlab.interfaces.store import Store

if TYPE_CHECKING:  # whoever only asks a queue does without them
    import pyarrow as pa


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


class Places(NamedTuple):
    """Which of some values each row has that is not null.

    Attributes:
        width: Bits of a place.
        packed: The places, the lowest bits first, filled up to eight rows.
        numbers: The places as an array of numbers, where it was kept: of texts none of which is null.
    """

    width: int
    packed: memoryview
    numbers: Any = None


@dataclass(frozen=True, slots=True)
class Dictionary:
    """The different values of a column, and which each row has.

    Attributes:
        values: The different values, none of them null; times may be whole numbers.
        places: Which of them each row has.
    """

    values: pa.Array
    places: Places


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
        dictionaries: Of columns of few values, by name, where the task has made them.
    """

    name: str
    table: pa.Table
    rejects: pa.Table
    pieces: Mapping[str, Piece]
    raw: Store
    alive: Callable[[], None] = lambda: None
    staged: Mapping[str, Staged] = field(default_factory=dict)
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)


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

    def refuse(self, rows: Rows) -> Mapping[Place, Reason]:
        """Find the source rows that the sink cannot take: they become rejects.

        Asked before anything is staged, and again without the files that have failed for it.

        Raises:
            TerminalError: It can take none of the rows. Each file is then asked for by itself.
        """
        return {}

    def stage(self, rows: Rows) -> Written:
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
        by_row: Whether its files have the columns `source` and `row` and those of the key. A merge takes the rows out
            of them that it takes out of the table. `finish` compares the files that go with those that come.
    """

    reuses: ClassVar[bool] = False
    by_row: ClassVar[bool] = False

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None: ...

    @classmethod
    def takes(cls, pipeline: Any) -> bool:
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
    def shared_by(cls, pipeline: Any) -> str:
        """Name what a pipeline's table shares with others; empty if nothing.

        No commit begins while somebody rebuilds it, under :func:`ingestlab.lake.locks.shared_lock`.
        """
        return ""

    def shared(self, manifest: Manifest) -> str:
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

    def clashes(self, code: Any, staged: Mapping[str, Sequence[DataFile]]) -> Mapping[str, TerminalError]:
        """Find files, by URI, with pieces that exclude each other. Each piece can be brought in by itself.

        Args:
            code: The pipeline's text.
            staged: For each file that was cut, by URI, what was staged of its pieces.
        """
        return {}

    def derive(
        self,
        code: Any,
        where: tuple[str, str],
        batch: str,
        files: Sequence[DataFile],
    ) -> Mapping[str, Sequence[DataFile]]:
        """Stage what the sink has of rewritten data files.

        No writer has seen them: they were made of other data files.

        Args:
            code: The pipeline's text.
            where: Tenant and table.
            batch: In whose staging folder all of it waits.
            files: The data files, staged.

        Returns:
            By the target of the data file. It goes when its data file is replaced if
            :func:`ingestlab.lake.layout.partials_file` has named it.
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

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:
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
