"""Messages that come by HTTP, as a feed: what becomes of a message is the answer to its request."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Self

from ingestlab.core.settings import Settings
from ingestlab.engine.services import Services
from ingestlab.interfaces import Message, Notice
from ingestlab.queue.arrival.listening import Target, listen

log = logging.getLogger("ingestlab.queue.arrival")

MOST = 1000  # messages that wait; more are told to come again
_GROUP = 100  # messages become one request
_PAUSE = 5.0  # seconds after a listener has failed


class Verdict(NamedTuple):
    """What becomes of a message.

    Attributes:
        status: That of HTTP: 200 if its jobs are queued, 503 if it has to come again, 400 if it never should.
        reason: Why it is not 200.
    """

    status: int
    reason: str = ""


class Inbox:
    """Take messages of requests; see :class:`ingestlab.interfaces.Feed`.

    Each is answered once. Whoever no longer waits for the answer sends it again, so it is left out.

    Args:
        name: Under which status and pages show it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: dict[str, Future[Verdict]] = {}
        self._taken: set[str] = set()
        self._numbers = itertools.count()

    def put(self, notices: tuple[Notice, ...], body: str, problem: str = "") -> Future[Verdict]:
        """Put a message in.

        Args:
            notices: What it tells of.
            body: Its text.
            problem: Why it makes no sense.

        Returns:
            What becomes of it. It is left out if this is cancelled before its turn.
        """
        answer: Future[Verdict] = Future()
        if self._queue.qsize() >= MOST:
            answer.set_result(Verdict(503, f"{MOST:,} messages wait already"))
            return answer
        message = Message(str(next(self._numbers)), notices, 1, body, problem)
        self._answers[message.handle] = answer
        self._queue.put(message)
        return answer

    def close(self) -> None:
        """Wake the listener, for the last time."""
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._give_back()

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for messages."""
        self._give_back()  # what a listener took and could not handle
        messages: list[Message] = []
        try:
            while len(messages) < _GROUP and (message := self._queue.get(not messages, seconds)):
                if self._answers[message.handle].set_running_or_notify_cancel():
                    self._taken.add(message.handle)
                    messages.append(message)
                else:
                    del self._answers[message.handle]
        except queue.Empty:
            pass
        return messages

    def settle(self, messages: Sequence[Message]) -> None:
        """Answer that all is well."""
        for message in messages:
            self._answer(message.handle, Verdict(200))

    def postpone(self, message: Message, seconds: float) -> None:  # noqa: ARG002 - the sender decides when
        """Answer that the message has to come again."""
        self._answer(message.handle, Verdict(503, "A file is not there yet, or a server is away"))

    def refuse(self, message: Message, reason: str) -> None:
        """Answer that the message must not come again."""
        log.warning("%s: a message is refused: %s", self.name, reason)
        self._answer(message.handle, Verdict(400, reason))

    def keep(self, messages: Sequence[Message]) -> None:
        """Do nothing: nobody else has these messages."""

    def waiting(self) -> int | None:
        """Count the messages that wait."""
        return self._queue.qsize()

    def _give_back(self) -> None:
        for handle in list(self._taken):
            self._answer(handle, Verdict(503, "The message could not be handled"))

    def _answer(self, handle: str, verdict: Verdict) -> None:
        self._taken.discard(handle)
        self._answers.pop(handle).set_result(verdict)


class Listener:
    """Handle the messages of an inbox in a thread.

    Args:
        inbox: Whose messages.
        settings: Lead to the queue and the lake.
        target: Where the files go.
    """

    def __init__(self, inbox: Inbox, settings: Settings, target: Target) -> None:
        self.inbox, self._settings, self._target = inbox, settings, target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=inbox.name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread when it has handled what it has taken.

        Args:
            timeout: Seconds to wait for it.
        """
        self._stop.set()
        self.inbox.close()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Services.opened(self._settings) as services:
                    listen(self.inbox, services, self._target, self._stop)
            except Exception:  # the next message may fare better
                log.exception("%s", self.inbox.name)
                self._stop.wait(_PAUSE)
