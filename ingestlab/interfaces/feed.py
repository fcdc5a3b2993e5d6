"""Feed: hears of files that have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to a file, as an event says. What is true now is looked up.

    Attributes:
        uri: Of the file.
        removed: Whether it was taken away.
        order: Of two notices about one file the later one has the greater text; empty where nothing tells.
    """

    uri: str
    removed: bool = False
    order: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What a feed has received at once, and is told of once.

    Attributes:
        handle: By which the feed knows it.
        notices: Of which files.
        tries: How often it has been received, this time included.
        body: Its text, for people, where it is put aside.
        problem: Why it makes no sense; then it has no notices, and is refused.
    """

    handle: str
    notices: tuple[Notice, ...]
    tries: int = 1
    body: str = ""
    problem: str = ""


class Feed(Protocol):
    """Hear of files. Made once a process, from the settings and an address; a context manager.

    Attributes:
        name: Under which status and pages show it, without secrets.
    """

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for messages, at most some seconds.

        Each comes again unless it is settled.

        Args:
            seconds: To wait.

        Raises:
            TerminalError: There is no such queue or folder, or it may not be listened to.
            TransientError: The system cannot be asked.
        """
        ...

    def settle(self, messages: Sequence[Message]) -> None:
        """Take messages off: their jobs are queued."""
        ...

    def postpone(self, message: Message, seconds: float) -> None:
        """Let a message come again.

        Args:
            message: Not to be settled yet.
            seconds: Until then, about.
        """
        ...

    def refuse(self, message: Message, reason: str) -> None:
        """Put a message aside for people to look at: it never comes again by itself.

        Args:
            message: That nothing can be done about.
            reason: What is wrong with it.
        """
        ...

    def keep(self, messages: Sequence[Message]) -> None:
        """Keep messages from others. It is called every few seconds while they are handled."""
        ...

    def waiting(self) -> int | None:
        """Count what waits to be received; None where nothing tells."""
        ...
