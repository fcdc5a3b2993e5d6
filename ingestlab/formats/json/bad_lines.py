"""Finds the records that pyarrow's JSON parser refuses, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.columns import failing
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.common.linewise import LINES, without
from ingestlab.formats.common.quoting import scan
from ingestlab.formats.json.arrow import Shape, read_objects, refused
from ingestlab.formats.json.text import dumps, loads, misfits, repeated
from ingestlab.interfaces import Bad

_CHUNK = 256  # records that are looked at together once the parser has refused one of them

_ANY = Shape(None)
Judge = Callable[[bytes, int, Shape], list[Bad]]  # of a line and its number


def sift(text: bytes, numbers: Ints, shape: Shape) -> tuple[bytes, Ints, list[Bad]]:
    """Set apart the records that the parser refuses.

    Those plainly wrong come first, since asking the parser is slow.

    Args:
        text: The records, one a line.
        numbers: Their numbers in the file.
        shape: What is wanted of them.

    Returns:
        The text and the numbers of the others, and what is wrong with these.
    """
    text, numbers, bad = _sift(text, numbers, shape, _CHUNK, _plainly_wrong)
    text, numbers, more = _sift(text, numbers, shape, 1, _reasons)
    return text, numbers, bad + more


def unbroken(text: bytes, numbers: Ints) -> tuple[bytes, Ints, list[Bad]]:
    """Set apart what is no JSON, looking at each record.

    Where types are inferred the parser may take the beginning of a broken record for a value of another type, and
    say that rather than where it breaks off.
    """
    spans = scan(text, LINES, 0, len(text))
    lines = enumerate(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True))
    judged = {
        i: wrong for i, (start, end) in lines if (wrong := _plainly_wrong(text[start:end], int(numbers[i]), _ANY))
    }
    cut = np.array(list(judged), np.int64)
    return without(text, spans, cut), np.delete(numbers, cut), [bad for wrong in judged.values() for bad in wrong]


def _sift(text: bytes, numbers: Ints, shape: Shape, step: int, judge: Judge) -> tuple[bytes, Ints, list[Bad]]:
    """Judge the runs of `step` records that the parser refuses."""
    spans, count = scan(text, LINES, 0, len(text)), len(numbers)

    def fails(low: int, high: int) -> bool:
        first, last = low * step, min(high * step, count)
        try:
            read_objects(text[spans.starts[first] : spans.ends[last - 1]], last - first, shape)
        except pa.ArrowInvalid as error:
            return shape.columns is not None or "changed from" not in str(error)
        return False

    runs = failing(fails, 0, -(-count // step))
    places = (i for run in runs for i in range(run * step, min((run + 1) * step, count)))
    judged = {i: judge(text[spans.starts[i] : spans.ends[i]], int(numbers[i]), shape) for i in places}
    cut = np.array([i for i, bads in judged.items() if bads], np.int64)
    return without(text, spans, cut), np.delete(numbers, cut), [bad for bads in judged.values() for bad in bads]


def _plainly_wrong(line: bytes, row: int, shape: Shape) -> list[Bad]:
    """List what the parser would refuse for sure. There may be more."""
    try:
        record = loads(line)
    except ValueError as error:
        return [Bad(row, "json", None, shorten(str(error)))]
    wrong = misfits(record, shape.parsed or {})
    return [Bad(row, "type", name, shorten(dumps(record[name], quote=False) or "null")) for name in wrong]


def _reasons(line: bytes, row: int, shape: Shape) -> list[Bad]:
    """List what is wrong with a refused record; at least one thing."""
    try:
        record = loads(line)
    except ValueError as error:
        return [Bad(row, "json", None, shorten(str(error)))]
    if said := refused(line, {}):
        return [Bad(row, "json", None, shorten(said))]
    types = shape.parsed or {}
    twice = sorted(repeated(line) & set(shape.parsed or record))
    if twice:
        return [Bad(row, "json", twice[0], "more than once")]
    wrong = [n for n, kind in types.items() if n in record and refused(line, {n: kind})]
    if wrong:
        return [Bad(row, "type", name, shorten(dumps(record[name], quote=False) or "null")) for name in wrong]
    if shape.columns is not None and (extra := [n for n in record if n not in shape.columns]):
        return [Bad(row, "columns", None, shorten(f"also {listed(extra)}"))]
    said = refused(line, shape.parsed, shape.unexpected)
    return [Bad(row, "json", None, shorten(said or "not one object"))]
