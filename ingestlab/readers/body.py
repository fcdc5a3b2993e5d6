"""The records of a piece of delimited text, as bytes: where they are, and some of them without the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ingestlab.readers.cutting import Dialect, Ints, Spans, scan
from ingestlab.readers.excerpts import excerpts


@dataclass(frozen=True)
class Body:
    """The records of a piece, without the header: `data[begin:end]`."""

    data: bytes
    begin: int
    end: int
    dialect: Dialect

    @cached_property
    def spans(self) -> Spans:
        """Where the records are in `data`; found when first asked for."""
        return scan(self.data, self.dialect, self.begin, self.end)

    @property
    def quoted(self) -> bool:
        """Whether there is any quote."""
        return self.dialect.quote is not None and self.data.find(self.dialect.quote.encode(), self.begin, self.end) >= 0

    def without(self, numbers: Ints) -> Body:
        """The body with some records (ascending numbers) cut out."""
        if not numbers.size:
            return self
        view = memoryview(self.data)
        begins = [self.begin, *self.spans.ends[numbers].tolist()]
        ends = [*self.spans.starts[numbers].tolist(), self.end]
        data = b"".join([view[a:b] for a, b in zip(begins, ends, strict=True)])
        return Body(data, 0, len(data), self.dialect)

    def only(self, numbers: Ints) -> Body:
        """The body of some records (ascending numbers)."""
        view, (starts, ends, _) = memoryview(self.data), self.spans
        data = b"".join([view[starts[i] : ends[i]] for i in numbers.tolist()])
        return Body(data, 0, len(data), self.dialect)

    def texts(self, numbers: Iterable[int]) -> dict[int, str]:
        """The source text of records, without their line ends; the longest are cut."""
        return excerpts(self.data, self.spans, numbers)
