"""Airbyte: one stream of a connector as the records of a pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import MB
from ingestlab.interfaces.records import Page, Position, Pull
from ingestlab.sources.airbyte import asking
from ingestlab.sources.airbyte.catalog import Stream, SyncMode, find
from ingestlab.sources.airbyte.config import concealing, filled
from ingestlab.sources.airbyte.installed import Program, program, split
from ingestlab.sources.airbyte.messages import Listener, RecordCutter, parse
from ingestlab.sources.airbyte.process import Running, files, running

_PAGE = MB  # bytes after which a page ends at the next state
_LONG = 5.0  # seconds, likewise
_MOST = 16 * MB  # bytes after which one ends without a state


@dataclass(frozen=True, kw_only=True)
class Airbyte:
    """Pull one stream of an Airbyte connector, by the Airbyte protocol.

    The connector runs as a process of its own: in an environment that ``ingestlab airbyte install`` makes, or in a
    container. ``ingestlab airbyte discover`` writes pipelines with the columns, keys and sync modes of streams.

    Attributes:
        connector: Its name, ``"source-faker"``; with a version, ``"source-faker==7.2.1"``, no other may be installed.
        image: In place of `connector`: the image of a container, ``"airbyte/source-postgres:3.6.0"``.
        config: What the connector is told. ``{"env": "SHOP_KEY"}`` in place of a value is taken from the environment
            of the worker.
        streams: The one stream that becomes the table, in a list. ``"public.users"`` names its namespace, too.
        sync_mode: ``"full_refresh"``: each pull brings all records, in place of those of the pull before.
            ``"incremental"``: it brings what is new or changed, which comes beside the rows that there are, or is
            merged with them by the pipeline's `key`.
        cursor_field: The field that tells what is new, for a stream whose connector leaves that open.

    Examples:
        >>> from ingestlab import Airbyte
        >>> source = Airbyte(connector="source-faker", config={"count": 100}, streams=["users"])
        >>> source.incremental
        False
    """

    scheme: ClassVar[str] = "airbyte"
    connector: str = ""
    image: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    streams: Sequence[str] = ()
    sync_mode: SyncMode = "full_refresh"
    cursor_field: str = ""

    @property
    def incremental(self) -> bool:
        """Tell whether a pull brings what is new alone."""
        return self.sync_mode == "incremental"

    @property
    def _name(self) -> str:
        """Return what errors and cursors call the connector."""
        return self.image.rpartition("/")[2].partition(":")[0] or split(self.connector)[0]

    @property
    def _stream(self) -> str:
        return self.streams if isinstance(self.streams, str) else self.streams[0]

    def check(self, name: str) -> None:
        """Refuse what was declared wrongly. Asks nobody.

        Args:
            name: Of the pipeline.

        Raises:
            TerminalError: It was.
        """
        where = f"the Airbyte source of pipeline '{name}'"
        if bool(self.connector) == bool(self.image):
            raise _refused(where, "either `connector` or `image`", "both" if self.image else "neither")
        if self.connector:
            split(self.connector)
        if self.sync_mode not in get_args(SyncMode):
            raise _refused(where, f"one of {', '.join(get_args(SyncMode))} as `sync_mode`", repr(self.sync_mode))
        names = [self.streams] if isinstance(self.streams, str) else list(self.streams)
        if len(names) != 1 or not all(isinstance(stream, str) and stream for stream in names):
            shown = ",".join(map(str, names)) or "users,orders"
            advice = (
                f"One pipeline is one table: `ingestlab airbyte discover {self.connector or '--image ' + self.image}"
            )
            fix = f"{advice} --config config.json --streams {shown} --to pipelines/` writes one for each."
            raise _refused(where, "one stream in `streams`", f"{len(names)}", fix)
        try:
            json.dumps(dict(self.config), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _refused(where, "values of JSON in `config`", str(error)) from None

    async def pages(self, pull: Pull) -> AsyncIterator[Page]:
        """Yield the records of the stream. A page ends at a state of the connector, or where it is large.

        Args:
            pull: What is asked.

        Raises:
            TerminalError: The connector is not there, refuses, or does not speak the protocol.
            TransientError: It died, hangs, or could not reach its system.
        """
        if pull.window:
            problem, fix = "A connector of Airbyte has no windows", f"Submit airbyte://{pull.name} alone."
            raise TerminalError(problem, got=", ".join(pull.window), fix=fix, code="uri_invalid")
        begin = program(self.connector, self.image, pull.settings)
        full = filled(self.config)
        listener = Listener(begin.connector, pull.tell, concealing(self.config, full))
        found = await asking.discover(begin, self.config, pull.settings, _nowhere)
        stream = find(self._stream, found, begin.connector)
        contents: dict[str, Any] = {"config": full, "catalog": stream.configured(self.sync_mode, self.cursor_field)}
        known = (pull.resume or pull.cursor) if self.incremental else None
        states = _States(self._name, stream)
        if known is not None:
            contents["state"] = states.restored(known)
        with files(contents) as paths:
            async with running(begin, "read", paths, pull.settings) as connector:
                reading = _Reading(begin, stream, listener, states if self.incremental else None, known)
                async for page in reading.pages(connector):
                    yield page
        error = listener.failure(connector.ending.code, connector.ending.stderr)
        if error is not None:
            raise error
        for page in reading.last():
            yield page


def _nowhere(_text: str) -> None:
    """Tell nobody: of a pull, what `read` says is enough."""


class _Reading:
    """The messages of `read`, as pages."""

    def __init__(
        self, begin: Program, stream: Stream, listener: Listener, states: _States | None, known: Position | None
    ) -> None:
        self._cutter = RecordCutter(begin.connector, stream.name, stream.namespace or None)
        self._listener, self._states = listener, states
        self._request = f"{begin}: read {stream.label}, {'full_refresh' if states is None else 'incremental'}"
        self._records: list[bytes] = []
        self._size, self._since = 0, time.monotonic()
        self._position: Position | None = None  # up to where the records of this page have come
        self._before = known  # the position of the page before

    async def pages(self, connector: Running) -> AsyncIterator[Page]:
        """Yield all pages but the last, while the connector writes."""
        async for lines in connector.lines():
            for line in lines:
                data = self._data(line)
                if data is not None:
                    if self._full():
                        yield self._page()
                    self._keep(data)
        if connector.ending.code == 0 and (data := self._data(connector.ending.rest)) is not None:
            self._keep(data)

    def last(self) -> Iterable[Page]:
        """Return the last page, where there is one."""
        news = self._position is not None and self._position != self._before
        return [replace(self._page(), resume=None)] if self._records or news else []

    def _data(self, line: bytes) -> bytes | None:
        """Take a line. Returns the data of a record, and None for anything else."""
        data = self._cutter.cut(line)
        if data is None:
            message = parse(line)
            if message is None:
                self._listener.noise(line)
                return None
            data = self._cutter.whole(message, line)
            if data is None:
                self._hear(message)
        return data

    def _hear(self, message: Mapping[str, Any]) -> None:
        self._listener.hear(message)
        if message["type"] == "STATE" and self._states is not None:
            self._states.take(message.get("state"))
            self._position = self._states.position()

    def _full(self) -> bool:
        """Tell whether the page is to end before the next record."""
        if self._position is None or not self._records:
            return self._size >= _MOST
        return self._size >= _PAGE or time.monotonic() - self._since > _LONG

    def _keep(self, data: bytes) -> None:
        self._listener.spoke = True
        self._records.append(data)
        self._size += len(data) + 1
        self._position = None

    def _page(self) -> Page:
        lines = b"".join([b"\n".join(self._records), b"\n" if self._records else b""])
        page = Page(lines, len(self._records), self._request, self._position, self._position)
        self._records, self._size, self._since = [], 0, time.monotonic()
        self._before = self._position or self._before
        return page


class _States:
    """What the connector remembers of where it is: its last state, as the protocol has it."""

    def __init__(self, connector: str, stream: Stream) -> None:
        self._connector, self._stream = connector, stream
        self._states: dict[Any, Mapping[str, Any]] = {}

    def take(self, state: Any) -> None:
        """Take a message of type STATE, and forget what it replaces.

        Raises:
            TerminalError: It is of no kind that the protocol knows.
        """
        kind = (state.get("type") or "LEGACY") if isinstance(state, dict) else None
        if kind == "STREAM" and isinstance(state.get("stream"), dict):
            named = state["stream"].get("stream_descriptor") or {}
            self._states = {name: one for name, one in self._states.items() if isinstance(name, tuple)}
            self._states[named.get("namespace"), named.get("name")] = {"type": kind, "stream": state["stream"]}
        elif kind == "GLOBAL" and isinstance(state.get("global"), dict):
            self._states = {"": {"type": kind, "global": state["global"]}}
        elif kind == "LEGACY" and isinstance(state.get("data"), dict):
            self._states = {"": {"type": kind, "data": state["data"]}}
        else:
            problem, wanted = f"{self._connector} sent a state of an unknown kind", "STREAM, GLOBAL or LEGACY"
            raise TerminalError(problem, expected=wanted, got=str(kind), code="connector_invalid")

    def position(self) -> Position:
        """Return what a commit is to remember."""
        return {"airbyte": self._connector, "stream": self._stream.label, "states": [*self._states.values()]}

    def restored(self, known: Position) -> Any:
        """Make the state that the connector takes of what a commit remembers.

        Raises:
            TerminalError: It is that of another source.
        """
        theirs = (known.get("airbyte"), known.get("stream"))
        ours = (self._connector, self._stream.label)
        states = known.get("states")
        if theirs != ours or not isinstance(states, list) or not all(isinstance(state, dict) for state in states):
            other = " ".join(str(word) for word in theirs if word) or ", ".join(map(str, known)) or "nothing"
            problem = "The table remembers the state of another source"
            fix = "Undo the change of the pipeline, or begin anew: delete the source's rows, then submit it."
            raise TerminalError(problem, expected=" ".join(ours), got=other, fix=fix, code="cursor_invalid")
        for state in states:
            self.take(state)
        legacy = [state["data"] for state in states if (state.get("type") or "LEGACY") == "LEGACY"]
        return legacy[0] if legacy else states


def _refused(where: str, expected: str, got: str, fix: str = "Correct the pipeline.") -> TerminalError:
    problem = f"{where[0].upper()}{where[1:]} is not declared well"
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="pipeline_invalid")
