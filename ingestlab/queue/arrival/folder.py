"""Listens to a folder on this machine: a file is taken when it has come to rest."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, Self

from ingestlab.core.access import check
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Message, Notice
from ingestlab.sources.listing import plain_path
from ingestlab.sources.walking import walk_local

log = logging.getLogger("ingestlab.queue.arrival")

_AGAIN = 5.0  # seconds after which a file comes again that nobody has settled
_STEP = 200  # milliseconds between two looks at files that are being written


class FolderFeed:
    """Notice new, changed and vanished files; see :class:`ingestlab.interfaces.Feed`.

    A file rests when it was last written `rest` seconds ago: one that is moved in is taken at once. What changes later
    is announced again. What happens while nobody listens is found by a sync.

    Args:
        address: The folder, as a path or file URI.
        settings: Say which folders are allowed.
    """

    def __init__(self, address: str, settings: Settings) -> None:
        check(address, settings)
        self._folder = plain_path(address)
        self.name = Path(self._folder).as_uri()
        self._rest = settings.rest_seconds
        self._looked: dict[str, _Look] = {}  # files that are not at rest
        self._later: dict[str, tuple[float, Message]] = {}  # what is not settled, and when it comes again; inf: is out
        self._stop, self._number = threading.Event(), 0  # of the folder, not of its name
        self._changes: Generator[set[tuple[Any, str]], None, None]

    def __enter__(self) -> Self:
        watchfiles = needed("watchfiles", "listen", "listening to folders")
        with self._readable():
            self._watch(watchfiles)
        return self

    def _watch(self, watchfiles: Any) -> None:
        """Begin to watch, and note what is there and not at rest."""
        self._stop, self._number = threading.Event(), os.stat(self._folder).st_ino
        self._changes = watchfiles.watch(
            self._folder,
            watch_filter=None,
            stop_event=self._stop,
            debounce=200,
            step=50,
            rust_timeout=_STEP,
            yield_on_timeout=True,
        )
        self._note(next(self._changes))  # from now on nothing is lost
        young = time.time() - self._rest - 1
        for path, status in walk_local(self._folder):
            if status.st_mtime > young:  # an older one is found by the sync that comes first
                self._looked[path] = _Look()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Tell that the folder is not there, or not for us.

        Raises:
            TerminalError: So it is.
        """
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            problem, fix = f"There is no folder {self._folder}", "Make it, or name another."
            raise TerminalError(problem, fix=fix, code="not_found") from error
        except OSError as error:
            problem = f"The folder {self._folder} cannot be read"
            fix = "Let the listener read it, and all folders in it."
            raise TerminalError.wrap(error, problem, fix, code="access_denied") from error

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._changes.close()

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for files that have come to rest, or have gone."""
        with self._readable():
            return self._receive(time.monotonic() + seconds)

    def _receive(self, until: float) -> Sequence[Message]:
        for path, (due, message) in self._later.items():
            if due == inf:  # whoever had it has met with an error
                self._later[path] = (time.monotonic() + _AGAIN, message)
        while True:
            if os.stat(self._folder).st_ino != self._number:
                raise FileNotFoundError  # another one has its name, and is to be watched in its place
            self._note(next(self._changes))
            if messages := list(self._rested()):
                self._later.update((message.handle, (inf, message)) for message in messages)
                return messages
            if time.monotonic() >= until:
                return []

    def settle(self, messages: Sequence[Message]) -> None:
        """Forget what was announced."""
        for message in messages:
            self._later.pop(message.handle, None)

    def postpone(self, message: Message, seconds: float) -> None:
        """Announce a file again after some time."""
        self._later[message.handle] = (time.monotonic() + seconds, message)

    def refuse(self, message: Message, reason: str) -> None:
        """Leave a file alone until it changes, or a sync finds it."""
        log.warning("%s: %s is left alone: %s", self.name, message.handle, reason)
        self._later.pop(message.handle, None)

    def keep(self, messages: Sequence[Message]) -> None:
        """Do nothing: nobody else has these files."""

    def waiting(self) -> int | None:
        """Count files that are being written, or come again."""
        return len(self._looked) + len(self._later)

    def _note(self, changes: Iterable[tuple[Any, str]]) -> None:
        """Note what has changed. A folder that was moved in comes without its files."""
        for _change, path in changes:
            if any(part.startswith(".") for part in Path(path).relative_to(self._folder).parts):
                continue
            inside = [name for name, _ in walk_local(path)] if os.path.isdir(path) else [path]
            self._looked.update((name, _Look()) for name in inside)

    def _rested(self) -> Iterator[Message]:
        """Yield files that can be taken, and those that have gone."""
        for due, message in list(self._later.values()):
            if time.monotonic() >= due:
                yield replace(message, tries=message.tries + 1)
        for path, before in list(self._looked.items()):
            try:
                stat = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                del self._looked[path]
                yield Message(path, (Notice(Path(path).as_uri(), removed=True),))
                continue
            look = _Look(stat.st_size, stat.st_mtime_ns, before.since)
            if look[:2] != before[:2]:
                look = look._replace(since=time.monotonic())
            aged = time.time() - stat.st_mtime >= self._rest
            if aged or time.monotonic() - look.since >= self._rest:  # the latter where clocks differ
                del self._looked[path]
                yield Message(path, (Notice(Path(path).as_uri()),))
            else:
                self._looked[path] = look


class _Look(NamedTuple):
    """How a file was last seen, and since when it is so."""

    size: int = -1
    mtime_ns: int = -1
    since: float = 0.0
