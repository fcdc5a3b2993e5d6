"""The audit log: who has asked for what, when and from where, as JSON lines in the lake.

Each entry is a file that is created and never written again, in a folder for its hour. It is written before what it
tells of is done, so that nothing is done that it does not tell of.
"""

from __future__ import annotations

import getpass
import json
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from ingestlab.core.access import shown
from ingestlab.core.models import Value
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout

Action = Literal["submit", "replay", "notebook", "retry", "cancel", "forget", "delete", "undo", "tenant"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_SUBJECTS = 100  # that an entry names; it counts all
_HOUR = "%Y-%m-%dT%H"


class Entry(Value):
    """One entry of the audit log.

    Attributes:
        at: When, in ISO 8601 and UTC.
        who: User and host of the process that asked, or whose token it was.
        origin: From where: an address, or the host.
        tenant: Whose data it is about.
        action: What was asked.
        subjects: What it is about: URIs without secrets, runs, or what was changed.
        count: How many there are.
        details: More about it.
    """

    at: str
    who: str
    origin: str
    tenant: str
    action: Action
    subjects: tuple[str, ...] = ()
    count: int = 0
    details: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it


class _Actor(Value):
    who: str
    origin: str


_actor: ContextVar[_Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting(who: str, origin: str) -> Iterator[None]:
    """Name who asks for what is done inside.

    Args:
        who: A person, or whose token it was.
        origin: From where.
    """
    before = _actor.set(_Actor(who=who, origin=origin))
    try:
        yield
    finally:
        _actor.reset(before)


def note(
    action: Action, tenant: str, subjects: Sequence[str], settings: Settings, store: Store | None = None, **details: str
) -> None:
    """Write an entry, if the settings ask for it.

    Args:
        action: What is about to be done.
        tenant: Whose data it is about.
        subjects: What it is about.
        settings: Name the lake, and what is secret in URIs.
        store: The lake, where it is open.
        **details: More about it; no secrets.

    Raises:
        IngestError: The lake cannot be written; then nothing is to be done.
    """
    if not settings.audit:
        return
    now, actor = datetime.now(UTC), _actor.get() or _Actor(who=user(), origin=socket.gethostname())
    texts = tuple(shown(text, settings.secret_parameters) for text in subjects[:MOST_SUBJECTS])
    entry = Entry(
        at=now.isoformat(timespec="milliseconds"),
        who=actor.who,
        origin=actor.origin,
        tenant=tenant,
        action=action,
        subjects=texts,
        count=len(subjects),
        details={name: text for name, text in details.items() if text},
    )
    from ingestlab.lake.storage.store import open_store  # noqa: PLC0415 - slow to import, and mostly not needed

    lake = store or open_store(settings.lake_url, settings.storage_options)
    name = f"{now:%M%S%f}-{secrets.token_hex(8)}.jsonl"
    lake.create(f"{layout.audit(now.strftime(_HOUR))}/{name}", json.dumps(entry.to_dict()).encode() + b"\n")


def entries(store: Store, since: datetime, tenant: str | None = None) -> Iterator[Entry]:
    """Read the entries of a lake, the earliest first.

    Args:
        store: The lake.
        since: Of then, and later.
        tenant: Only those about its data; None for all.
    """
    first = (since - timedelta(hours=1)).strftime(_HOUR)
    for hour in store.children(layout.audit()):
        if hour < first:
            continue
        for path in store.walk(layout.audit(hour)):
            for line in store.read(path).splitlines():
                entry = Entry.from_dict(json.loads(line))
                if datetime.fromisoformat(entry.at) >= since and tenant in (None, entry.tenant):
                    yield entry


def user() -> str:
    """Name the user of this process and its host."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container may have none but a number
        return socket.gethostname()
