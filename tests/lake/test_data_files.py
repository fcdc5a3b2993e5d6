"""Columns of small steps are written as differences, and come back as they were."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.lake.data_files import stage_table
from ingestlab.lake.storage.local import LocalStore

WIDTHS = [pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint32(), pa.uint64()]


def staged(tmp_path, table):
    store = LocalStore(str(tmp_path))
    (file,) = stage_table(table, "part", "table", "_staging", store)
    return pq.ParquetFile(pa.BufferReader(store.read(file.staged)))


@pytest.mark.parametrize("kind", WIDTHS, ids=str)
@given(
    start=st.integers(0, 14_000),
    steps=st.lists(st.integers(0, 9), min_size=1, max_size=50),
    jumps=st.lists(st.integers(1500, 1999), max_size=5),
    nulls=st.lists(st.integers(0, 1999), max_size=200),
)
@settings(max_examples=examples(50), deadline=None)
def test_columns_written_as_differences_are_read_as_they_were(tmp_path_factory, kind, start, steps, jumps, nulls):
    values = (start + np.resize(steps, 2000).cumsum()).tolist()
    least, greatest = (0, 2**kind.bit_width - 1) if str(kind)[0] == "u" else (-(2 ** (kind.bit_width - 1)),) * 2
    greatest = greatest if greatest > 0 else -least - 1
    for number, row in enumerate(jumps):  # differences that no integer of this width holds, beyond what was looked at
        values[row] = (least, greatest)[number % 2]
    for row in nulls:
        values[row] = None
    table = pa.table({"x": pa.array(values, kind), "_source": ["a"] * 2000, "_row": pa.array(range(2000), pa.int64())})
    assert staged(tmp_path_factory.mktemp("lake"), table).read().equals(table)


def test_times_of_a_log_take_less_room_and_no_dictionary(tmp_path):
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 86_400, 20_000))
    table = pa.table({"time": times, "level": rng.integers(0, 3, 20_000), "id": rng.integers(0, 2**40, 20_000)})
    row_group = staged(tmp_path, table.append_column("_source", [["a"] * 20_000])).metadata.row_group(0)
    encodings = {row_group.column(i).path_in_schema: row_group.column(i).encodings for i in range(3)}
    assert "DELTA_BINARY_PACKED" in encodings["time"]
    assert "DELTA_BINARY_PACKED" not in encodings["level"]
    assert "DELTA_BINARY_PACKED" not in encodings["id"]
    plain = pa.BufferOutputStream()
    pq.write_table(table.select(["time"]), plain, compression="zstd", compression_level=1)
    assert row_group.column(0).total_compressed_size < plain.tell() / 2
