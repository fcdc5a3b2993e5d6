"""Columns of JSON text: the values of lines of objects, each as it came."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.pipeline import Bad
from ingestlab.readers.cutting import Ints
from ingestlab.readers.excerpts import listed, shorten
from ingestlab.readers.inference import Looks, look
from ingestlab.readers.jsonraw import values
from ingestlab.readers.jsontext import plain


@dataclass(frozen=True)
class Texts:
    """Columns of JSON text, null where there is none or `null`, and the records that have none of them."""

    columns: dict[str, pa.Array]
    bad: list[Bad]
    count: int  # records that are in the columns

    @property
    def table(self) -> pa.Table:
        """The columns; records may be there though no column is."""
        if self.columns:
            return pa.table(self.columns)
        empty = pa.RecordBatch.from_struct_array(pa.array([{}] * self.count, pa.struct([])))
        return pa.Table.from_batches([empty])


_NOTHING = Looks()


@dataclass(frozen=True, slots=True)
class JsonLooks:
    """What the values of a column of JSON text may be, all of them.

    Attributes:
        strings: Those in quotes: times or text, and never numbers.
        others: Numbers and truth values.
        nested: Whether there are objects or arrays, which stay JSON text.
    """

    strings: Looks = _NOTHING
    others: Looks = _NOTHING
    nested: bool = False

    def __or__(self, other: JsonLooks) -> JsonLooks:
        return JsonLooks(self.strings | other.strings, self.others | other.others, self.nested or other.nested)

    @property
    def type(self) -> pa.DataType:
        """The type that is chosen; null where there is no value."""
        mixed = self.strings.kinds is not None and self.others.kinds is not None
        if self.nested or mixed:
            return pa.string()
        return self.others.type if self.strings.kinds is None else self.strings.type


def json_looks(texts: pa.Array, timestamp_format: str | None) -> JsonLooks:
    """What JSON texts may be."""
    quoted, nested = (pc.match_substring_regex(texts, pattern) for pattern in ('^"', r"^[\[{]"))
    strings, others = plain_texts(texts.filter(quoted)), texts.filter(pc.invert(pc.or_(quoted, nested)))
    return JsonLooks(
        look(strings, timestamp_format, times_alone=True),
        look(others),
        bool(pc.any(nested).as_py()),
    )


def plain_texts(texts: pa.Array) -> pa.Array:
    """JSON texts, of strings what they say."""
    return pa.array([plain(text) for text in texts.to_pylist()], pa.string())


@dataclass(frozen=True)
class _Column:
    """The values of a name, and the positions of the records that have it: names may be many, and rare."""

    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def array(self, keep: Ints) -> pa.Array:
        """The values of the records that are kept."""
        places = np.full(int(keep[-1]) + 1 if keep.size else 0, -1, np.int64)
        rows = np.array(self.rows, np.int64)
        inside = rows < places.size
        places[rows[inside]] = np.flatnonzero(inside)
        places = places[keep]
        return pa.array(self.texts, pa.string()).take(pa.array(places, mask=places < 0))


def as_texts(
    text: bytes, numbers: Ints, wanted: Collection[str] | None, *, closed: Collection[str] | None = None
) -> Texts:
    """The values of lines of objects.

    Args:
        text: The lines.
        numbers: Of their records in the file.
        wanted: The names to look for; None for all.
        closed: The names that there may be; None where there may be any.
    """
    columns: dict[str, _Column] = {name: _Column() for name in wanted or ()}
    bad: list[Bad] = []
    for row, line in enumerate(line for line in text.splitlines() if line):
        try:
            found, twice = _object(line)
        except (ValueError, RecursionError) as error:
            bad.append(Bad(int(numbers[row]), "json", None, shorten(str(error))))
            continue
        twice = twice if wanted is None else twice.intersection(wanted)
        if twice:
            bad.append(Bad(int(numbers[row]), "json", min(twice), "more than once"))
        elif closed is not None and (others := [name for name in found if name not in closed]):
            bad.append(Bad(int(numbers[row]), "columns", None, shorten(f"also {listed(others)}")))
        else:
            for name, value in found.items():
                column = columns.get(name)
                if column is None and wanted is None:
                    column = columns[name] = _Column()
                if column is not None and value != "null":
                    column.rows.append(row)
                    column.texts.append(value)
    keep = np.flatnonzero(~np.isin(numbers, [b.row for b in bad]))
    return Texts({name: column.array(keep) for name, column in columns.items()}, bad, len(keep))


def _object(line: bytes) -> tuple[dict[str, str], set[str]]:
    """The values of an object by name, and the names that it has more than once."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in values(line.decode()):
        if name in found:
            twice.add(name)
        found[name] = value
    if rb"\ud" in line.lower():  # half a character may be escaped, and be no text
        "".join([*found, *map(str, map(json.loads, found.values()))]).encode()
    return found, twice
