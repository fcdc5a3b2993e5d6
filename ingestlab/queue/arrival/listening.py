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
from itertools import chain
from typing import NamedTuple

from ingestlab.core.access import check, shown
from ingestlab.core.archive_uri import container, joined
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings
from ingestlab.engine.services import Services
from ingestlab.interfaces import Feed, Listing, Message, Notice
from ingestlab.lake.source_index import folders_of
from ingestlab.lake.table import Table
from ingestlab.maintenance.delete import take_out
from ingestlab.queue.arrival.refusals import Refused, keep
from ingestlab.queue.arrival.status import Heard, Heartbeat, status_of
from ingestlab.queue.arrival.sync import indexed_tables, sync
from ingestlab.queue.broker import reaching
from ingestlab.queue.producer import announce
from ingestlab.sources.registry import source_of

log = logging.getLogger("ingestlab.queue.arrival")

WAIT = 20.0  # seconds for which a listener waits for messages: what SQS allows at most
PAUSE = 5.0  # seconds after an outage; after a refusal, such as of a permission, at first
_LONGEST = 300.0  # seconds between two tries at what is refused
_SOON = 60.0  # seconds after which a sync is tried again that an outage has ended
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
        TerminalError: It cannot be listened there. What is refused later, such as by a permission that is taken away,
            is tried again.
    """
    heard, settings, refusals, worked = Heard(), services.settings, 0, False
    status = status_of(feed, settings, target.tenant or settings.tenant, target.pipeline, folders)
    with Heartbeat(status, feed, heard, services.locks.client) as heart:
        while not stop.is_set():
            before = heard.answer
            try:
                with _outages(feed, settings, heart, stop), feed:
                    if not refusals:  # else only a whole round shows that nothing is refused any more
                        before = heard.answer = time.time()
                        heart.soon()
                    _attend(feed, services, target, stop, folders, heart)
            except TerminalError as error:
                if heard.answer != before:
                    refusals, worked = 0, True
                elif not worked:  # whoever has started it is there to see it
                    raise
                _sit_out(error, min(_LONGEST, PAUSE * 2**refusals), feed, heart, stop)
                refusals += 1
    return heard


def _attend(
    feed: Feed, services: Services, target: Target, stop: threading.Event, folders: Sequence[str], heart: Heartbeat
) -> None:
    """Take in messages of an open feed until told to stop."""
    settings, heard = services.settings, heart.heard
    due, wait = 0.0, min(WAIT, settings.sync_seconds)
    while not stop.is_set():
        with _outages(feed, settings, heart, stop):
            if folders and time.monotonic() >= due:
                every = settings.sync_seconds
                due = time.monotonic() + (every if _sync(folders, settings, target, heard) else min(every, _SOON))
            messages = feed.receive(wait)
            if messages:
                heard.event = time.time()
                with _kept(feed, messages):
                    _handle(messages, feed, services, target, heard)
            heard.answer = time.time()


@contextmanager
def _outages(feed: Feed, settings: Settings, heart: Heartbeat, stop: threading.Event) -> Iterator[None]:
    """Sit out an outage of the feed or of Redis: a listener lives on, and tries again."""
    try:
        with reaching(settings):
            yield
    except TransientError as error:
        _sit_out(error, PAUSE, feed, heart, stop)


def _sit_out(error: IngestError, seconds: float, feed: Feed, heart: Heartbeat, stop: threading.Event) -> None:
    """Show an error, and wait before the next try."""
    log.warning("%s: %s (tried again in %g s)", feed.name, error, seconds)
    heart.heard.failed(error)
    heart.soon()
    stop.wait(seconds)


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
        problem = _first_problem(message, looks, troubles, services)
        if problem is None:
            settled.append(message)
        elif isinstance(problem, TerminalError) or message.tries >= TRIES:
            _refuse(message, str(problem), feed, services, target, heard)
        else:
            feed.postpone(message, min(900.0, 5.0 * 2**message.tries))
            heard.postponed += 1
    feed.settle(settled)


def _refuse(message: Message, reason: str, feed: Feed, services: Services, target: Target, heard: Heard) -> None:
    """Put a message aside, and keep it for people to see."""
    settings = services.settings
    feed.refuse(message, reason)
    heard.refused += 1
    refused = Refused(
        at=time.time(),
        tenant=target.tenant or settings.tenant,
        address=feed.name,
        reason=reason,
        tries=message.tries,
        files=tuple(shown(notice.uri, settings.secret_parameters) for notice in message.notices),
        body=message.body,
    )
    keep(refused, settings.failure_ttl, services.locks.client)


def _sync(folders: Sequence[str], settings: Settings, target: Target, heard: Heard) -> bool:
    """Catch up with what no event has told. A folder that cannot be synced does not end the listening.

    Returns:
        Whether it is to be tried again at the usual time, and not soon.
    """
    said, well = [], True
    for folder in folders:
        try:
            said.append(str(sync(folder, settings=settings, **vars(target))))
            log.info("%s", said[-1])
        except IngestError as error:
            said.append(f"{shown(folder, settings.secret_parameters)}: {error}")
            log.warning("%s", error)
            well = well and not isinstance(error, TransientError)
    heard.synced, heard.sync = time.time(), "; ".join(said)
    return well


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
        announce(sources, settings=settings, via="listener", **vars(target))
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
    index = table.index
    known = index.known(sorted(gone))
    packed = index.known([joined(head, uri) for uri, archive in known.items() for head in archive.members])
    inside = index.below(gone - known.keys())
    return sorted({record.uri for record in chain(known.values(), packed.values(), inside) if record.sha256})


def _places(uri: str) -> Iterator[str]:
    """Yield a source's file, and all folders that it is in."""
    file = container(uri)
    return chain((file,), folders_of(file))


def _first_problem(
    message: Message, looks: dict[str, _Look], troubles: dict[str, IngestError], services: Services
) -> IngestError | None:
    """Tell why a message is not done with; None if it is."""
    if message.problem:
        return TerminalError(message.problem, fix="Send events of files alone.", code="argument_invalid")
    return next((p for p in (_problem(n, looks, troubles, services) for n in message.notices) if p), None)


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
