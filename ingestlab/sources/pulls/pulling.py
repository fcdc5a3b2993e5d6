"""Pull the records of a source, page by page, and give them to the raw zone as files."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import SourceRecord, digest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Position, Pull, RecordSource, Store
from ingestlab.lake import layout
from ingestlab.sources.apart import run_apart
from ingestlab.sources.pulls.notes import Pulled, plain
from ingestlab.sources.pulls.spool import Spool
from ingestlab.sources.raw_zone import LakeFaultError
from ingestlab.sources.records import RecordUri

_TICK = 0.1  # seconds between two reports of progress
_SEND_SECONDS, _SEND_BYTES = 0.5, 4 << 20  # after which pages are copied to an object store
Watch = Callable[[int, int, int], None]
log = logging.getLogger("ingestlab.sources.pulls")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be pulled, for which run.

    Attributes:
        source: Who is asked.
        uri: Of the source.
        tenant: Whose records they are.
        pipeline: That declares the source.
        code: The sha256 of its text.
        run: In which run. Its next try goes on where this one ends.
        cursor: What the last commit remembers.
        part: The window of a part, where the pull is divided.
        settings: Limits, and who may be called.
        tell: Takes a line for the log of the run.
    """

    source: RecordSource
    uri: str
    tenant: str
    pipeline: str
    code: str
    run: str
    cursor: Position | None
    part: Mapping[str, str] | None = None
    settings: Settings = field(repr=False)
    tell: Callable[[str], None] = log.info

    @property
    def id(self) -> str:
        """Name the pull: the same pages belong to the same."""
        return digest([self.uri, self.code, self.run, plain(self.cursor), *([dict(self.part)] if self.part else [])])[
            :16
        ]

    @property
    def folder(self) -> str:
        """The folder of finished files."""
        return layout.raw(self.tenant, self.pipeline)

    @property
    def place(self) -> str:
        """The folder of pages that wait."""
        return f"{layout.pulls(self.tenant, self.pipeline, self.uri)}/{self.id}"

    @property
    def index(self) -> str:
        """The file that tells of all pages, once they have come."""
        return f"{self.folder}/{self.id}.pages.jsonl"

    def pull(self, resume: dict[str, Any] | None) -> Pull:
        """Make what the source is asked.

        Args:
            resume: Of the last page that there is.
        """
        return Pull(
            name=self.pipeline,
            run=self.run,
            settings=self.settings,
            cursor=self.cursor,
            resume=resume,
            window={**RecordUri.parse(self.uri).window, **(self.part or {})} or None,
            tell=self.tell,
        )


def pull(order: Order, store: Store, watch: Watch, known: SourceRecord | None = None) -> Pulled:
    """Bring the records of a source into the raw zone.

    Args:
        order: What to pull.
        store: The lake.
        watch: Called ten times a second with pages, records and bytes so far.
        known: What the lake has of the source, if all its records come again: of the same content, nothing is kept.

    Returns:
        What has come. Its files are in the raw zone, unless the content is known or there are no records.

    Raises:
        IngestError: The source or the lake failed. The pages so far stay for the next try.
    """
    try:
        if (before := _finished(order, store)) is not None:
            return before
        return run_apart(_pull(order, store, watch, known))
    except LakeFaultError as fault:
        raise fault.error from fault


def read_index(path: str, store: Store) -> Pulled:
    """Read what came of a pull.

    Args:
        path: Of its index.
        store: The lake.
    """
    return Pulled.model_validate_json(store.read(path).partition(b"\n")[0])


def _finished(order: Order, store: Store) -> Pulled | None:
    """Find what an earlier try has pulled. Files that still wait get their names."""
    try:
        done = read_index(order.index, store)
        for segment in done.segments:
            try:
                there = store.size(segment.path) == segment.size
            except FileNotFoundError:
                there = False
            if not there:
                store.move(segment.spooled or segment.path, segment.path)
    except FileNotFoundError:
        return None
    return done


async def _pull(order: Order, store: Store, watch: Watch, known: SourceRecord | None) -> Pulled:
    with Spool(store, order.place) as spool:
        report = _Report(spool, watch)
        try:
            async with asyncio.TaskGroup() as group:
                ticker = group.create_task(report.tick())
                await _fill(spool, order)
                ticker.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        watch(spool.pages, spool.rows, spool.size)
        done = Pulled(
            uri=order.uri,
            pull=order.id,
            pages=spool.pages,
            rows=spool.rows,
            size=spool.size,
            cursor=spool.cursor,
            segments=spool.segments(order.folder),
        )
        if done.rows and not (known and known.sha256 == done.sha256):
            _publish(done, spool, order, store)
        return done


async def _fill(spool: Spool, order: Order) -> None:
    """Take in the pages that are missing."""
    if spool.complete:
        return
    if spool.pages:
        order.tell(f"{order.uri}: goes on after page {spool.pages:,}, which an earlier try has got")
    settings, sent = order.settings, time.monotonic()
    async with aclosing(order.source.pages(order.pull(spool.resume))) as pages:  # type: ignore[type-var]
        async for page in pages:
            spool.add(page)
            if spool.pages > settings.max_pull_pages or spool.size > settings.max_file_bytes:
                raise _endless(spool, order)
            if spool.unsent_bytes and (spool.unsent_bytes > _SEND_BYTES or time.monotonic() - sent > _SEND_SECONDS):
                await asyncio.to_thread(spool.send)
                sent = time.monotonic()
    spool.end()


def _publish(done: Pulled, spool: Spool, order: Order, store: Store) -> None:
    """Give the files their names. The index comes first: it tells a next try where they are."""
    try:
        store.write(order.index, done.model_dump_json().encode() + b"\n" + spool.notes())
        for segment in done.segments:
            store.adopt(spool.file_of(segment), segment.path)
    except IngestError as error:
        raise LakeFaultError(error) from error


class _Report:
    """Tell how far a pull is, also while its source is silent."""

    def __init__(self, spool: Spool, watch: Watch) -> None:
        self._spool, self._watch = spool, watch

    async def tick(self) -> None:
        """Report until cancelled."""
        while True:
            self._watch(self._spool.pages, self._spool.rows, self._spool.size)
            await asyncio.sleep(_TICK)


def _endless(spool: Spool, order: Order) -> TerminalError:
    most = f"at most {order.settings.max_pull_pages:,} pages and {order.settings.max_file_bytes:,} bytes"
    return TerminalError(
        f"{order.uri} does not end",
        expected=most,
        got=f"more: stopped after {spool.pages:,} pages, {spool.rows:,} records and {spool.size:,} bytes",
        fix="Ask for windows of it, or raise INGESTLAB_MAX_PULL_PAGES or INGESTLAB_MAX_FILE_BYTES.",
        code="limit_exceeded",
    )
