"""Files without header stand beside their like alone, in one task and over several."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ingestlab.core.models import Piece
from ingestlab.engine.task.frames import Loaded
from ingestlab.engine.task.nameless import apart, clash
from ingestlab.interfaces import Records

NAMED, TWO, THREE = ["id", "n"], ["column_1", "column_2"], ["column_1", "column_2", "column_3"]


def _loaded(number: int, names: list[str]) -> Loaded:
    piece = Piece(uri=f"u{number}", path="p", name="a.csv", sha256="0")
    rows = pa.table({name: ["x"] for name in names})
    return Loaded(piece, Records(rows, np.arange(1), (), lambda _: {}))


@pytest.mark.parametrize(
    ("files", "failed"),
    [
        ([NAMED, TWO], {"u1"}),
        ([TWO, NAMED], {"u0"}),
        ([TWO, THREE, TWO], {"u1"}),
        ([TWO, TWO], set()),
        ([NAMED, ["id", "column_2"]], set()),
        ([NAMED, ["other"]], set()),
    ],
)
def test_in_one_task(files: list[list[str]], failed: set[str]):
    errors = apart([_loaded(i, names) for i, names in enumerate(files)])
    assert set(errors) == failed
    assert all("header=None" in str(error) for error in errors.values())


def test_a_new_table_takes_either():
    assert not clash(TWO, [])
    assert clash(TWO, NAMED)
    assert clash(NAMED, TWO)
    assert not clash(TWO, TWO[::-1])
