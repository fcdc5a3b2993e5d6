"""Columns of JSON text: the values of lines of objects, each as it came."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.json.raw import values
from ingestlab.interfaces import Bad


@dataclass(frozen=True)
class Texts:
    """Columns of JSON text, null where there is none, and bad records."""

    columns: dict[str, pa.Array]
    bad: list[Bad]


@dataclass(frozen=True)
class _Column:
    """Values of a name, and the records that have it. Names may be many, and rare."""

    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def array(self, keep: Ints) -> pa.Array:
        """Return the values of the records that are kept."""
        places = np.full(int(keep[-1]) + 1 if keep.size else 0, -1, np.int64)
        rows = np.array(self.rows, np.int64)
        inside = rows < places.size
        places[rows[inside]] = np.flatnonzero(inside)
        places = places[keep]
        return pa.array(self.texts, pa.string()).take(pa.array(places, mask=places < 0))


def as_texts(text: bytes, numbers: Ints, wanted: Collection[str], *, closed: Collection[str] | None = None) -> Texts:
    """Extract the values of lines of objects as JSON text.

    Args:
        text: The lines.
        numbers: Of their records in the file.
        wanted: The names to look for.
        closed: The names that there may be; None where there may be any.
    """
    columns: dict[str, _Column] = {name: _Column() for name in wanted}
    bad: list[Bad] = []
    for row, line in enumerate(line for line in text.splitlines() if line):
        try:
            found, twice = _object(line)
        except (ValueError, RecursionError) as error:
            bad.append(Bad(int(numbers[row]), "json", None, shorten(str(error))))
            continue
        if twice := twice.intersection(wanted):
            bad.append(Bad(int(numbers[row]), "json", min(twice), "more than once"))
        elif closed is not None and (others := [name for name in found if name not in closed]):
            bad.append(Bad(int(numbers[row]), "columns", None, shorten(f"also {listed(others)}")))
        else:
            for name, column in columns.items():
                if (value := found.get(name, "null")) != "null":
                    column.rows.append(row)
                    column.texts.append(value)
    keep = np.flatnonzero(~np.isin(numbers, [b.row for b in bad]))
    return Texts({name: column.array(keep) for name, column in columns.items()}, bad)


def _object(line: bytes) -> tuple[dict[str, str], set[str]]:
    """Return the values of an object by name, and its repeated names."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in values(line.decode()):
        if name in found:
            twice.add(name)
        found[name] = value
    if rb"\ud" in line.lower():  # half a character may be escaped, and be no text
        "".join([*found, *map(str, map(json.loads, found.values()))]).encode()
    return found, twice
