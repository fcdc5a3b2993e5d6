"""What becomes of events: a file that is there is submitted, one that is gone is taken out of its tables.

An event says where to look, not what is true: events come twice, late, and in any order. So each file that is named is
looked at, and what is found decides. Only a file that was announced and is not there needs the events' order: a later
one may have taken it away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ingestlab.core.access import check, shown
from ingestlab.core.archive_uri import container
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings
from ingestlab.engine.services import Services
from ingestlab.interfaces import Feed, Listing, Message, Notice
from ingestlab.lake.table import Table
from ingestlab.maintenance.delete import take_out
from ingestlab.queue.arrival.sync import indexed_tables, sync
from ingestlab.queue.producer import announce
from ingestlab.sources.registry import source_of

log = logging.getLogger("ingestlab.queue.arrival")

WAIT = 20.0  # seconds for which a listener waits for messages: what SQS allows at most
KEEP_EVERY = 10.0  # seconds between two signs of life to whoever lends the messages
LOOKS = 16  # files that are looked at at once
TRIES = 8  # of a message whose file is not there; then it is put aside
_REMEMBERED = 14 * 24 * 3600  # seconds for which a removal is remembered: as long as SQS keeps a message


@dataclass(frozen=True)
class Target:
    """Where announced files go, as for :func:`ingestlab.submit`."""

    pipeline: str | None = None
    tenant: str | None = None
    table: str | None = None
    queue: str | None = None


@dataclass
class Heard:
    """What a listener has done since it began."""

    submitted: int = 0  # files
    removed: int = 0
    postponed: int = 0  # messages
    refused: int = 0


class _Look(NamedTuple):
    """What was found of a file: as it is, that it is gone, or why it cannot be told."""

    source: Source | None = None
    error: IngestError | None = None


def listen(feed: Feed, services: Services, target: Target, stop: threading.Event, folders: Sequence[str] = ()) -> Heard:
    """Take in messages until told to stop. A message is settled when its jobs are queued.

    Args:
        feed: Where they come from.
        services: The connections to use.
        target: Where the files go.
        stop: Ends it, after the messages that are at hand.
        folders: That are synced at the beginning, when nothing is lost any more, and then every `sync_seconds`.

    Raises:
        TerminalError: It cannot be listened there.
    """
    heard, due, wait = Heard(), 0.0, min(WAIT, services.settings.sync_seconds)
    with feed:
        while not stop.is_set():
            try:
                if folders and time.monotonic() >= due:
                    due = time.monotonic() + services.settings.sync_seconds
                    _sync(folders, services.settings, target)
                if messages := feed.receive(wait):
                    with _kept(feed, messages):
                        _handle(messages, feed, services, target, heard)
            except TransientError as error:
                log.warning("%s: %s", feed.name, error)
                stop.wait(5)
    return heard


def _handle(messages: Sequence[Message], feed: Feed, services: Services, target: Target, heard: Heard) -> None:
    """Do what a group of messages calls for, and settle each."""
    uris = sorted({notice.uri for message in messages for notice in message.notices})
    looks = _looks(uris, services.settings)
    troubles = _submit([look.source for look in looks.values() if look.source], services.settings, target, heard)
    gone = {n.uri for m in messages for n in m.notices if n.removed and _gone(looks[n.uri])}
    troubles |= _remove(gone, services, target, heard)
    _remember([n for m in messages for n in m.notices if n.uri in gone], services)
    settled = []
    for message in messages:
        problem = next((p for p in (_problem(n, looks, troubles, services) for n in message.notices) if p), None)
        if problem is None:
            settled.append(message)
        elif isinstance(problem, TerminalError) or message.tries >= TRIES:
            feed.refuse(message, str(problem))
            heard.refused += 1
        else:
            feed.postpone(message, min(900.0, 5.0 * 2**message.tries))
            heard.postponed += 1
    feed.settle(settled)


def _sync(folders: Sequence[str], settings: Settings, target: Target) -> None:
    """Catch up with what no event has told. A folder that cannot be synced does not end the listening."""
    for folder in folders:
        try:
            log.info("%s", sync(folder, settings=settings, **vars(target)))
        except IngestError as error:
            log.warning("%s", error)


def _looks(uris: Sequence[str], settings: Settings) -> dict[str, _Look]:
    with ThreadPoolExecutor(LOOKS) as pool:
        return dict(zip(uris, pool.map(lambda uri: _look(uri, settings), uris), strict=True))


def _look(uri: str, settings: Settings) -> _Look:
    try:
        source = source_of(check(uri, settings))
        if not isinstance(source, Listing):
            (found,) = source.discover(uri, settings)
            return _Look(found)
        return _Look(source.look(uri, settings))
    except IngestError as error:
        return _Look(error=error)


def _gone(look: _Look) -> bool:
    return look.source is None and look.error is None


def _submit(sources: Sequence[Source], settings: Settings, target: Target, heard: Heard) -> dict[str, IngestError]:
    """Queue files. Gives, by URI, why one could not be."""
    if not sources:
        return {}
    try:
        announce(sources, settings=settings, **vars(target))
    except IngestError as error:
        return dict.fromkeys((source.uri for source in sources), error)
    heard.submitted += len(sources)
    return {}


def _remove(gone: set[str], services: Services, target: Target, heard: Heard) -> dict[str, IngestError]:
    """Take files out of their tables. Gives, by URI, why one could not be."""
    troubles: dict[str, IngestError] = {}
    if not gone:
        return troubles
    tenant = target.tenant or services.settings.tenant
    for table in indexed_tables(tenant, services):
        members = _below(gone, table)
        if not members:
            continue
        try:
            heard.removed += len(take_out(members, table, services).sources)
        except IngestError as error:
            troubles |= dict.fromkeys(gone.intersection(at for member in members for at in _places(member)), error)
    return troubles


def _below(gone: set[str], table: Table) -> list[str]:
    """List what a table has of what is gone."""
    known = table.index.known(sorted(gone))
    files = {uri for uri, record in known.items() if record.sha256 and not record.members}
    others = gone - files  # archives, folders, and what no table ever had
    inside = (
        {r.uri for r in table.index.scan() if r.sha256 and not others.isdisjoint(_places(r.uri))} if others else set()
    )
    return sorted(files | inside)


def _places(uri: str) -> Iterator[str]:
    """Yield a source's file, and all folders that it is in."""
    place = container(uri)
    while place:
        yield place
        place = place.rpartition("/")[0]


def _problem(
    notice: Notice, looks: dict[str, _Look], troubles: dict[str, IngestError], services: Services
) -> IngestError | None:
    """Tell why a notice is not done with; None if it is."""
    look = looks[notice.uri]
    if error := look.error or troubles.get(notice.uri):
        return error
    if look.source or notice.removed or _outdated(notice, services):
        return None
    return TransientError(
        f"{shown(notice.uri)} was announced and is not there",
        fix="Announce a file when it is there.",
        code="source_unavailable",
    )


def _remember(notices: Sequence[Notice], services: Services) -> None:
    """Remember removals. An older event about the same file is outdated."""
    for notice in notices:
        if notice.removed and notice.order and notice.order > _removed_at(notice.uri, services):
            services.locks.client.set(_key(notice.uri, services), notice.order, ex=_REMEMBERED)


def _outdated(notice: Notice, services: Services) -> bool:
    return bool(notice.order) and notice.order < _removed_at(notice.uri, services)


def _removed_at(uri: str, services: Services) -> str:
    value = services.locks.client.get(_key(uri, services))
    return value.decode() if isinstance(value, bytes) else ""


def _key(uri: str, services: Services) -> str:
    return f"{services.locks.prefix}removed:{uri}"


@contextmanager
def _kept(feed: Feed, messages: Sequence[Message]) -> Iterator[None]:
    """Keep messages from other listeners while they are being handled."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(KEEP_EVERY):
            try:
                feed.keep(messages)
            except IngestError as error:
                log.warning("%s: %s", feed.name, error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
