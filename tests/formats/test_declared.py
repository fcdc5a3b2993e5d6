"""The law of declared values: a published value gives back its cell, up to the canonical forms of reference/text.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Csv
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import Piece
from ingestlab.formats.common.nulls import KNOWN
from ingestlab.lake.storage.store import LocalStore

TYPES = {
    "int8": pa.int8(),
    "int64": pa.int64(),
    "uint16": pa.uint16(),
    "float64": pa.float64(),
    "decimal": pa.decimal128(6, 2),
    "string": pa.string(),
    "date": pa.date32(),
    "time": pa.timestamp("ms"),
    "bool": pa.bool_(),
}
MEANINGS: dict[str, Callable[[str], Any]] = {
    "float64": float,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "time": datetime.fromisoformat,
    "bool": lambda text: text.lower() in ("true", "1"),
}
cells = st.one_of(
    st.text("0123456789-+.eExXabfN ", max_size=12),
    st.integers(-(2**65), 2**65).map(str),
    st.integers(0, 2**64).map(hex),
    st.floats(allow_nan=False).map(repr),
    st.decimals(-(10**5), 10**5, places=3, allow_nan=False).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from([*KNOWN, "true", "FALSE", "0", "1", "-0", "1e400", "inf"]),
)


def meant(cell: str, kind: str) -> Any:
    """What Python says that a cell means."""
    text = cell.strip()
    if "int" in kind:
        return int(text, 16 if text[:2].lower() == "0x" else 10)
    return MEANINGS[kind](text) if kind in MEANINGS else cell


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", TYPES)
@given(st.lists(cells, min_size=1, max_size=6))
def test_a_published_value_is_what_the_cell_says(tmp_path: Path, kind: str, column: list[str]) -> None:
    (tmp_path / "f").write_text("n,v\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(column)))
    reader = Csv(columns={"n": "int64", "v": TYPES[kind]})
    piece = Piece(uri="u", path="f", name="f", sha256="0")
    records = attempt(reader.read, piece, LocalStore(str(tmp_path)))
    assert not isinstance(records, TerminalError)
    marks = ("",) if kind == "string" else KNOWN
    for row, value in zip(records.rows.tolist(), records.table["v"].to_pylist(), strict=True):
        cell = column[row]
        assert (value is None) == (cell in marks)
        if value is not None:
            wanted = meant(cell, kind)
            assert value == wanted or (isinstance(value, float) and math.isnan(value) and math.isnan(wanted)), cell
    assert len(records.rows) + len({bad.row for bad in records.bad}) == len(column)
