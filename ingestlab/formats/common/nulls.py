"""Which texts stand for no value, column by column.

In text only the empty field does, unless more is said: NA is a country, and Null a name. In columns of other types the
usual markers do, since they could not be a value there anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.excerpts import listed

KNOWN = ("", "NA", "N/A", "NULL", "null", "NaN", "nan")
EMPTY = ("",)

NullValues = Sequence[str] | Mapping[str, Sequence[str]] | None  # for all columns, or by column; None: by type
Marks = tuple[str, ...]


def checked(said: NullValues, columns: Mapping[str, object] | None) -> NullValues:
    """Check `null_values`, and make them immutable.

    Raises:
        TerminalError: It is one text in place of several, or of columns that are not declared.
    """
    if said is None:
        return None
    if isinstance(said, str):
        problem = "Not null_values as a list of texts"
        raise TerminalError(problem, got=repr(said), fix=f"Write [{said!r}].", code="reader_invalid")
    if not isinstance(said, Mapping):
        return tuple(said)
    unknown = [] if columns is None else [name for name in said if name not in columns]
    if unknown:
        got = f"{listed(unknown)} among its null_values"
        problem = f"Not null_values of declared columns ({listed(columns or ())})"
        raise TerminalError(problem, got=got, fix="Declare them.", code="reader_invalid")
    for name, marks in said.items():
        if isinstance(marks, str):
            problem = f"Not null_values of {name!r} as a list of texts"
            raise TerminalError(problem, got=repr(marks), fix=f"Write [{marks!r}].", code="reader_invalid")
    return {name: tuple(marks) for name, marks in said.items()}


def marks_of(said: NullValues, column: str, kind: pa.DataType, default: Marks | None = None) -> Marks:
    """Return the texts that stand for no value in a column.

    Args:
        said: What the reader was told.
        column: The column's name.
        kind: Its type.
        default: Where nothing is said of it; None for what its type asks for.
    """
    marks = said.get(column) if isinstance(said, Mapping) else said
    if marks is not None:
        return tuple(marks)
    return default if default is not None else EMPTY if textual(kind) else KNOWN


def textual(kind: pa.DataType) -> bool:
    """Tell whether values of a type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def marks_in(texts: pa.Array, marks: Marks) -> frozenset[str]:
    """Find the markers that occur, the empty text apart."""
    named = pa.array([mark for mark in marks if mark], pa.string())
    return frozenset(pc.unique(texts.filter(pc.is_in(texts, named))).to_pylist())


def nulled(texts: pa.Array, marks: Marks) -> pa.Array:
    """Replace texts that stand for no value by null."""
    if not marks:
        return texts
    if marks == EMPTY and pa.types.is_string(texts.type) and not texts.null_count:
        return _without_empty(texts)
    none = pc.is_in(texts, pa.array(marks, pa.string()))
    return pc.if_else(none, pa.scalar(None, texts.type), texts) if pc.any(none).as_py() else texts


def _without_empty(texts: pa.Array) -> pa.Array:
    """Replace empty texts by null. It costs a look at where each begins."""
    _, places, data = texts.buffers()
    if not len(texts) or places is None:
        return texts
    ends = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    valid = ends[1:] != ends[:-1]
    if valid.all():
        return texts
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(texts.type, len(texts), [bits, pa.py_buffer(ends), data])
