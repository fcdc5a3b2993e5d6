"""What can be done about a run from its page, and who may: a reader who has given the dashboard's token.

A right token is answered with a session: a signed cookie that no script reads and no other site's request brings. Its
name is this process's own, since a browser gives cookies to all ports of a host. Each form holds a stamp that belongs
to the session, so that a form of another page does nothing.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tornado.web import create_signed_value, decode_signed_value

from ingestlab.core.settings import Settings
from ingestlab.lake.audit import acting
from ingestlab.queue.replays import submit_replay
from ingestlab.queue.run import find_run
from ingestlab.stack.dashboard.runs import RunRow

Action = Literal["retry", "cancel", "replay", "forget"]
BY = "the Runs page"  # who has cancelled
DAYS = 0.5  # that a session lasts
DONE: dict[str, tuple[str, str]] = {
    "retry": ("Queued again: {}.", "Nothing was queued again: no file has failed, or another run has it queued."),
    "cancel": ("Cancelled: {}. What runs ends within seconds.", "Nothing was cancelled: the run has ended."),
    "replay": ("Queued the rejects of {}.", "Nothing was queued: no rejects of this run are left."),
    "forget": ("The run is off the list. Its rows stay.", ""),
}


@dataclass(frozen=True)
class Deed:
    """Something to do about a run: a command, and where a button does it, which."""

    name: str
    command: str
    button: Action | None = None
    table: str = ""  # that is replayed


class Guard:
    """Decide who may act.

    Args:
        token: What a reader has to know; None if nobody may act.
    """

    def __init__(self, token: str | None) -> None:
        self.active = bool(token)
        self.cookie, process_key = _process()
        self._token = (token or "").encode()
        self._key = hmac.digest(process_key, self._token, "sha256")  # of another token, sessions are void

    def begin(self, typed: str) -> str | None:
        """Give a new session's cookie for a right token, else None."""
        right = self.active and hmac.compare_digest(typed.encode(), self._token)
        return create_signed_value(self._key, self.cookie, secrets.token_hex(16)).decode() if right else None

    def stamp(self, cookie: str | None) -> str:
        """Give what the forms of a session hold. Empty without a session."""
        session = decode_signed_value(self._key, self.cookie, cookie, max_age_days=DAYS) if self.active else None
        return hmac.new(self._key, b"form:" + session, hashlib.sha256).hexdigest() if session else ""

    def admits(self, cookie: str | None, stamp: str) -> bool:
        """Tell whether a form was made for this session."""
        expected = self.stamp(cookie)
        return bool(expected) and hmac.compare_digest(stamp.encode(), expected.encode())


def deeds(row: RunRow) -> list[Deed]:
    """List what can be done about a run."""
    ended, run = not row.active, row.id
    return [
        *(
            []
            if ended
            else [Deed("watch", f"ingestlab watch {run}"), Deed("cancel", f"ingestlab cancel {run}", "cancel")]
        ),
        *([Deed("retry", f"ingestlab retry {run}", "retry")] if ended and row.failed else []),
        *(
            Deed("replay", f"ingestlab replay {table} --run {run}", "replay", table)
            for table in row.tables
            if ended and row.rejected
        ),
        Deed("show", f"ingestlab show {run} --files"),
        *([Deed("forget", f"ingestlab forget {run}", "forget")] if ended else []),
    ]


def act(
    action: Action, row: RunRow, settings: Settings, *, table: str = "", reason: str = "", origin: str = ""
) -> tuple[int, str]:
    """Do something about a run.

    Args:
        action: What.
        row: The run.
        settings: Lead to its queue and lake.
        table: The table with the rejects to replay.
        reason: Why it is cancelled.
        origin: From which address, for the audit log.

    Returns:
        How many jobs or files it is about, and the run to look at then.

    Raises:
        IngestError: It cannot be done.
    """
    calls: dict[Action, Callable[[], tuple[int, str]]] = {
        "retry": lambda: (find_run(row.id, settings).retry(), row.id),
        "cancel": lambda: (find_run(row.id, settings).cancel(reason, BY), row.id),
        "replay": lambda: _replay(row, table, settings),
        "forget": lambda: _forget(row, settings),
    }
    with acting(BY, origin):
        return calls[action]()


def said(action: str, count: str) -> str:
    """Tell what was done. Empty if it is unknown."""
    if action not in DONE or not count.isdecimal():
        return ""
    some, none = DONE[action]
    unit = "file" if action == "replay" else "job"
    number = int(count[:12])
    return some.format(f"{number:,} {unit}{'' if number == 1 else 's'}") if number else none


def _replay(row: RunRow, table: str, settings: Settings) -> tuple[int, str]:
    new = submit_replay(table, run=row.id, tenant=row.tenant, settings=settings)
    return (new.record.files, new.id) if new else (0, row.id)


def _forget(row: RunRow, settings: Settings) -> tuple[int, str]:
    find_run(row.id, settings).forget()
    return 1, ""


@functools.cache
def _process() -> tuple[str, bytes]:
    """Name this process's cookie, and make its key."""
    return f"ingestlab-{secrets.token_hex(4)}", secrets.token_bytes(32)
