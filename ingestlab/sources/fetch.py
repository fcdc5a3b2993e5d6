"""Fetch the sources of a request into the raw zone: the lake's copy of what came, byte for byte.

What is known to be unchanged is not read at all; the rest is fetched many at a time. One bad file never
stops its neighbours, but a lake that cannot be written ends it all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

from ingestlab.core import access
from ingestlab.core.errors import IngestError
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, Store, Unchanged
from ingestlab.sources.apart import run_apart
from ingestlab.sources.arriving import Arriving
from ingestlab.sources.raw_zone import IncomingFile, LakeFaultError, RawZone
from ingestlab.sources.registry import source_of

__all__ = ["Failed", "Fetched", "FetchedFile", "Unchanged", "fetch"]

_TICK = 0.1  # seconds between two reports of progress


@dataclass(frozen=True, slots=True)
class Failed:
    """A source that could not be had, and why."""

    uri: str
    error: IngestError


Fetched = FetchedFile | Unchanged | Failed


def fetch(
    sources: Sequence[Source],
    *,
    store: Store,
    folder: str,
    settings: Settings,
    known: Mapping[str, SourceRecord],
    progress: Callable[[int, int, int], None] | None = None,
    failed: Callable[[Failed], None] | None = None,
    pages: bool = False,
    arriving: Arriving | None = None,
) -> list[Fetched]:
    """Bring changed sources into the raw zone.

    Args:
        sources: What to fetch.
        store: The lake.
        folder: Where the files go, relative to the lake, e.g. ``raw/default/bts_alarms``. A file is named
            by the sha256 of its content and keeps its suffixes.
        settings: Limits, times, and who may be called.
        known: What the lake has, by URI; leave it empty to fetch everything.
        progress: Called ten times a second and at the end with files done, bytes received, and announced bytes of
            files that need no fetching or cannot be had, all so far; what it raises ends the fetching.
        failed: Called likewise, as soon as it is known that a source cannot be fetched.
        pages: Whether web pages are what is wanted; if not, they are refused where another file was announced.
        arriving: Is told what can be read already, if there is one source alone.

    Returns:
        For each source, in their order: a file, or that it is unchanged, or its error.

    Raises:
        IngestError: The lake failed; no file is lost or half-written.
    """
    results: list[Fetched | None] = [_as_listed(source, known) for source in sources]
    meter = _Meter(progress)
    for source, result in zip(sources, results, strict=True):
        if result is not None:
            meter.done(source, result)
    todo = [i for i, result in enumerate(results) if result is None]
    if todo:
        zone, single = RawZone(store, folder, settings), arriving if len(sources) == 1 else None
        workers = _Workers(zone, settings, meter, failed, pages=pages, arriving=single)
        try:
            run_apart(workers.work(sources, known, results, todo))
        except LakeFaultError as fault:
            raise fault.error from fault
    meter.report()
    return [result for result in results if result is not None]


def _as_listed(source: Source, known: Mapping[str, SourceRecord]) -> Unchanged | None:
    """Compare the announced version with the known one, without I/O."""
    if source.version is None:
        return None
    record = known.get(source.uri)
    return Unchanged(source.uri, source.version) if record and record.version == source.version else None


class _Meter:
    """Count files and bytes, and report them now and then."""

    def __init__(self, progress: Callable[[int, int, int], None] | None) -> None:
        self._progress, self._files, self._bytes, self._skipped = progress, 0, 0, 0
        self._lock = threading.Lock()

    def done(self, source: Source, result: Fetched) -> None:
        self._files += 1
        if not isinstance(result, FetchedFile):
            self._skipped += source.size or 0

    def received(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def report(self) -> None:
        if self._progress:
            self._progress(self._files, self._bytes, self._skipped)

    async def tick(self) -> None:
        """Report until cancelled: no source is blamed for the callback's errors."""
        while True:
            await asyncio.sleep(_TICK)
            self.report()


class _Workers:
    """Workers, one a connection; each takes the next source."""

    def __init__(
        self,
        zone: RawZone,
        settings: Settings,
        meter: _Meter,
        failed: Callable[[Failed], None] | None,
        *,
        pages: bool,
        arriving: Arriving | None,
    ) -> None:
        self._zone, self._settings, self._meter, self._pages, self._arriving = zone, settings, meter, pages, arriving
        self._failed = failed or (lambda _source: None)
        self._open: dict[str, Fetch] = {}  # by scheme

    async def work(
        self,
        sources: Sequence[Source],
        known: Mapping[str, SourceRecord],
        results: list[Fetched | None],
        todo: Sequence[int],
    ) -> None:
        """Fill the gaps in `results`, at the places in `todo`."""
        count = min(self._settings.connections, len(todo))
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count, thread_name_prefix="fetch"))
        queue = iter(todo)

        async def worker(places: Iterator[int]) -> None:
            for place in places:
                source = sources[place]
                result = results[place] = await self._fetch(source, known.get(source.uri))
                self._meter.done(source, result)
                if isinstance(result, Failed):
                    self._failed(result)

        try:
            async with AsyncExitStack() as opened, asyncio.TaskGroup() as group:
                await self._open_all({access.scheme_of(sources[place].uri) for place in todo}, opened)
                workers = [group.create_task(worker(queue)) for _ in range(count)]
                ticker = group.create_task(self._meter.tick())
                await asyncio.wait(workers)
                ticker.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _open_all(self, schemes: Iterable[str], opened: AsyncExitStack) -> None:
        """Open each source that is asked for anything, once."""
        serving = {scheme: source_of(scheme) for scheme in schemes}
        fetches = {
            source: await opened.enter_async_context(source.opened(self._open_raw, self._settings, pages=self._pages))
            for source in set(serving.values())
        }
        self._open = {scheme: fetches[source] for scheme, source in serving.items()}

    def _open_raw(self, uri: str) -> IncomingFile:
        return IncomingFile(self._zone, uri, self._meter.received, self._arriving)

    async def _fetch(self, source: Source, known: SourceRecord | None) -> Fetched:
        try:
            scheme = access.check(source.uri, self._settings)
            return await self._open[scheme](source, known)
        except IngestError as error:
            return Failed(source.uri, error)
