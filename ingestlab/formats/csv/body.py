"""The records of a piece of delimited text, as bytes: where they are, and some of them without the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.formats.common.dialects import Dialect, fields
from ingestlab.formats.common.excerpts import excerpts
from ingestlab.formats.common.quoting import scan, translated


@dataclass(frozen=True)
class Body:
    """The records of a piece, without the header: `data[begin:end]`.

    Attributes:
        data: The text.
        begin: Where the first record begins.
        end: Where the last one ends.
        dialect: How it is written.
        names: How many fields a record should have; 0 if that is not known.
        header: The text of the header line, which is no record wherever it comes again; empty for none.
    """

    data: bytes
    begin: int
    end: int
    dialect: Dialect
    names: int = 0
    header: bytes = b""

    @cached_property
    def spans(self) -> Spans:
        """Locate the records in `data`, when first asked for."""
        return scan(self.data, self.dialect, self.begin, self.end, self.names)

    @property
    def quoted(self) -> bool:
        """Tell whether there is any quote."""
        return self.dialect.quote is not None and self.data.find(self.dialect.quote.encode(), self.begin, self.end) >= 0

    @cached_property
    def damaged(self) -> dict[int, str]:
        """Map the records kept from the parser to the rules they break."""
        return dict.fromkeys(self.spans.broken, "quote") if self.quoted or not self.dialect.plain else {}

    @cached_property
    def repeats(self) -> dict[int, str]:
        """Map the records that repeat the header to the rule ``header``."""
        return dict.fromkeys(self._repeats(), "header") if self.header else {}

    @property
    def parsable(self) -> memoryview | bytes:
        """Return the records as pyarrow's parser takes them."""
        part = memoryview(self.data)[self.begin : self.end]
        return part if self.dialect.plain else translated(bytes(part), self.dialect, self.names)

    def without(self, numbers: Ints) -> Body:
        """Cut out some records, given by ascending numbers."""
        if not numbers.size:
            return self
        begins = [self.begin, *self.spans.ends[numbers].tolist()]
        ends = [*self.spans.starts[numbers].tolist(), self.end]
        pairs = zip(begins, ends, strict=True)
        data = b"".join([self.data[begin:end] for begin, end in pairs if begin < end])
        return replace(self, data=data, begin=0, end=len(data))

    def only(self, numbers: Ints) -> Body:
        """Keep only some records, given by ascending numbers."""
        pairs = zip(*(places[numbers].tolist() for places in self.spans[:2]), strict=True)
        data = b"".join([self.data[start:end] for start, end in pairs])
        return replace(self, data=data, begin=0, end=len(data))

    def with_repeats(self, numbers: Iterable[int]) -> Body:
        """Return the same records, with those that repeat the header known."""
        body = replace(self)
        body.__dict__["repeats"] = dict.fromkeys(numbers, "header")
        return body

    def texts(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return the source texts of records without line ends. The longest are cut."""
        return excerpts(self.data, self.spans, numbers)

    def _places(self, text: bytes) -> Iterator[int]:
        at = self.data.find(text, self.begin, self.end)
        while at >= 0:
            yield at
            at = self.data.find(text, at + max(1, len(text) - 1), self.end)

    def _holding(self, places: Iterable[int]) -> list[int]:
        """Find the records that hold some places."""
        wanted = np.fromiter(places, np.int64)
        if not wanted.size:
            return []
        numbers = np.searchsorted(self.spans.ends, wanted, side="right")
        return np.unique(numbers[numbers < len(self.spans.ends)]).tolist()  # type: ignore[no-any-return]

    def _repeats(self) -> list[int]:
        """Find the records that spell the header, in whichever quotes."""
        starts = {at + 1 for text in self._spelled for at in self._places(self._mark + text)}
        if self.data.startswith(self._spelled, self.begin, self.end):
            starts.add(self.begin)
        return self.repeating(np.array(self._holding(sorted(starts)), np.int64))

    def repeating(self, numbers: Ints) -> list[int]:
        """Return records that spell the header and follow a usual line end."""
        names, (starts, ends, _) = fields(self.header, self.dialect), self.spans
        most = len(self.header) + 2 * len(names) + len(b"\r\n")
        short = numbers[ends[numbers] - starts[numbers] <= most].tolist() if self.header else []
        return [
            number
            for number in short
            if self.data.startswith(self._spelled, start := int(starts[number]))
            if start == self.begin or self.data.startswith(self._mark, start - 1)
            if fields(self.data[start : int(ends[number])].rstrip(b"\r\n"), self.dialect) == names
        ]

    @cached_property
    def _spelled(self) -> tuple[bytes, ...]:
        """Return how a header may begin."""
        first, *more = fields(self.header, self.dialect)
        after = self.dialect.delimiter.encode() if more else b""
        quote = (self.dialect.quote or "").encode()
        return tuple({quotes + first + quotes + after for quotes in (b"", *([quote] if self.quoted else []))})

    @cached_property
    def _mark(self) -> bytes:
        return b"\n" if self.data.find(b"\n", self.begin, self.end) >= 0 else b"\r"
