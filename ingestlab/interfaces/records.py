"""RecordSource: pulls the records of a system that has no files; a pipeline declares it as its `source`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from ingestlab.core.settings import Settings

Position = Mapping[str, Any]  # plain data, JSON-ready, without secrets


@dataclass(frozen=True, slots=True)
class Page:
    """Records that came together.

    Attributes:
        lines: The records as JSON lines: UTF-8, one object a line, each ended by a line feed. Numbers are written as
            they came.
        rows: How many there are.
        request: What was asked for them, without secrets: ``GET https://host/orders?page=3``.
        resume: From where the rest of the pull goes on. None where it cannot be taken up right after this page, and
            after the last one: a retry then goes on after the last page that has it, or begins anew, and the pages
            since come again in place of these. A pull is complete when its pages end, not by this.
        cursor: Up to where all records have come, this page's among them: what the commit of all pages so far may
            remember. None where it is what it was before.
    """

    lines: bytes
    rows: int
    request: str
    resume: Position | None = None
    cursor: Position | None = None


@dataclass(frozen=True, slots=True)
class Pull:
    """What is asked of a source.

    Attributes:
        name: Of the pipeline.
        run: In which run.
        settings: Limits, and who may be called.
        cursor: What the last commit remembers. None at the first time, or where everything is to come again.
        resume: Of the last page that the lake has of this pull. None at its beginning.
        window: What of it is wanted, ``{"from": "2026-01-01", "to": "2026-02-01"}``; empty for all.
        tell: Takes a line for the log of the run.
    """

    name: str
    run: str
    settings: Settings
    cursor: Position | None = None
    resume: Position | None = None
    window: Mapping[str, str] | None = None
    tell: Callable[[str], None] = print


class RecordSource(Protocol):
    """Pull records page by page. A frozen value, made where a pipeline declares it, which may be pickled.

    Attributes:
        scheme: Of its URIs: the pipeline ``orders`` is submitted as ``<scheme>://orders``.
    """

    scheme: ClassVar[str]

    @property
    def incremental(self) -> bool:
        """Tell whether a pull brings what is new since the cursor.

        Its rows come beside those that there are. Otherwise a pull brings everything, in place of the rows of the
        pull before.
        """
        ...

    def check(self, name: str) -> None:
        """Refuse, with TerminalError, what was declared wrongly. Asks nobody.

        Args:
            name: Of the pipeline.
        """
        ...

    def pages(self, pull: Pull) -> AsyncIterator[Page]:
        """Yield the pages that are missing, in order.

        Closed early, it lets go of everything.

        Args:
            pull: What is asked. The same pull from the same `resume` brings the same records again, as far as the
                system allows.

        Raises:
            TerminalError: No retry helps: the credentials are wrong, the answer is of another shape.
            TransientError: One may: the system is away. The pages so far stay.
        """
        ...


@runtime_checkable
class Divisible(RecordSource, Protocol):
    """A source whose pull can be divided among tasks of the cluster."""

    async def divide(self, pull: Pull, parts: int) -> Sequence[Pull]:
        """Divide a pull into some that together bring its records, each once.

        Args:
            pull: What is asked.
            parts: About how many there should be.

        Returns:
            Pulls in order, with windows of their own; `cursor` of a page of the last one is that of the whole.
        """
        ...
