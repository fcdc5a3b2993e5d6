"""URIs of record sources: ``rest://orders`` is what the pipeline `orders` declares as its `source`.

``rest://orders?from=2026-01-01&to=2026-02-01`` is a window of it: a source of its own, with rows of its own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import ClassVar, NoReturn
from urllib.parse import quote, unquote

from ingestlab.core import models, schemes
from ingestlab.core.access import scheme_of
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, RawFile

BOUNDS = ("from", "to")  # of a window
_PLAIN = ":+,. "  # what stays as it is in a bound


@dataclass(frozen=True, slots=True)
class RecordUri:
    """What a URI of a record source says.

    Attributes:
        scheme: Of the source, ``rest``.
        pipeline: That declares it.
        window: The part of the records that is meant, ``{"from": …, "to": …}``; empty for all.
    """

    scheme: str
    pipeline: str
    window: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        bounds = "&".join(f"{name}={quote(self.window[name], safe=_PLAIN)}" for name in BOUNDS if name in self.window)
        return f"{self.scheme}://{self.pipeline}{'?' * bool(bounds)}{bounds}"

    @classmethod
    def parse(cls, uri: str) -> RecordUri:
        """Read a URI.

        Raises:
            TerminalError: It is none.
        """
        scheme, _, rest = uri.partition("://")
        name, mark, query = rest.partition("?")
        pairs = [pair.partition("=") for pair in query.split("&")] if mark else []
        window = {key: unquote(value) for key, _, value in pairs}
        sound = len(window) == len(pairs) and all(key in BOUNDS and value for key, value in window.items())
        if not re.fullmatch(NAME, name) or not sound:
            problem, form = f"Not the URI of a record source: {uri}", f"{scheme}://PIPELINE?from=…&to=…"
            fix = "Name the pipeline that declares the source; `from` and `to` may be left out."
            raise TerminalError(problem, expected=form, fix=fix, code="uri_invalid")
        return cls(scheme.lower(), name, window)


class RecordUris:
    """Serve the schemes of record sources; see :class:`ingestlab.interfaces.Source`.

    Another package that brings a record source declares a subclass with its scheme as an entry point of
    ``ingestlab.sources``.
    """

    schemes: ClassVar[Mapping[str, Scheme]] = {"rest": Scheme(), "airbyte": Scheme(), "mongo": Scheme()}

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[models.Source]:  # noqa: ARG002
        """Name the source. It is pulled by a worker."""
        return [models.Source(uri=str(RecordUri.parse(uri)))]

    @asynccontextmanager
    async def opened(
        self,
        open_raw: Callable[[str], RawFile],  # noqa: ARG002
        settings: Settings,  # noqa: ARG002
        *,
        pages: bool,  # noqa: ARG002
    ) -> AsyncIterator[Fetch]:
        """Refuse each: it is no file."""

        async def refuse(source: models.Source, _known: SourceRecord | None) -> NoReturn:
            fix = "Submit it alone; a lookup table is a file."
            raise TerminalError(f"{source.uri} names records, and no file", fix=fix, code="uri_invalid")

        yield refuse


def names_records(uri: str) -> bool:
    """Tell whether a URI is that of a record source."""
    return isinstance(schemes.source(scheme_of(uri)), RecordUris)


def windows(uri: str, first: str, last: str, step: str) -> list[str]:
    """Cut a span of a record source into windows.

    Args:
        uri: Of the source, ``rest://orders``.
        first: The first day or moment, ``2026-01-01``.
        last: That after the last one.
        step: The length of a window: ``6h``, ``1d``, ``1w``, ``1mo`` or ``1y``.

    Returns:
        Their URIs, in order.

    Raises:
        TerminalError: It is no record source, or no such span.

    Examples:
        >>> from ingestlab.sources.records import windows
        >>> windows("rest://orders", "2026-01-01", "2026-03-01", "1mo")[1]
        'rest://orders?from=2026-02-01&to=2026-03-01'
    """
    where, match = RecordUri.parse(uri), re.fullmatch(r"([1-9]\d*)(h|d|w|mo|y)", step)
    try:
        begin, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
        sound = match is not None and begin < end and not where.window
    except (ValueError, TypeError):  # the latter: one has a zone alone
        sound = False
    if not sound or match is None:
        raise TerminalError(
            f"Not a span of windows of {uri}",
            expected="from an earlier to a later day, by a step such as 6h, 1d, 1w, 1mo or 1y",
            got=f"from {first} to {last} by {step}",
            fix="E.g. --from 2026-01-01 --to 2026-03-01 --step 1d.",
            code="argument_invalid",
        )
    bounds, count, unit = [begin], int(match[1]), match[2]
    while bounds[-1] < end:
        bounds.append(min(end, _after(begin, count * len(bounds), unit)))
    short = unit != "h" and len(first) == len(last) == len("2026-01-01")
    texts = [bound.date().isoformat() if short else bound.isoformat() for bound in bounds]
    return [str(replace(where, window={"from": low, "to": high})) for low, high in pairwise(texts)]


def _after(begin: datetime, count: int, unit: str) -> datetime:
    """Go on by some units. Short months end on their last day."""
    if unit in ("h", "d", "w"):
        return begin + timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[unit]: count})
    month = begin.month - 1 + count * (12 if unit == "y" else 1)
    first = begin.replace(day=1, year=begin.year + month // 12, month=month % 12 + 1)
    following = (first + timedelta(days=31)).replace(day=1)
    return first.replace(day=min(begin.day, (following - timedelta(days=1)).day))
