"""Files put together from dictionaries say the same as Arrow's own, to every reader."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.analytics.aggregates.partials import make
from ingestlab.analytics.profiles.states import count_columns, profile
from ingestlab.formats.compiled import counting, loader
from ingestlab.interfaces import Dictionary, Rows
from ingestlab.lake import data_files, dictionary_pages
from ingestlab.lake.data_files import read_part, stage_table
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.thrift import decode, encode
from ingestlab.pipeline.aggregate import Aggregate
from ingestlab.sinks.aggregates import with_dictionaries

pytest.importorskip("numba")
ZSTD = {"compression": "zstd", "compression_level": 1}
ROWS = 300  # more than are described in plain Python
TEXTS = st.text(max_size=3) | st.text(max_size=40)
DRAWN = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint8(), st.integers(0, 255)),
    (pa.int16(), st.integers(-300, 300)),
    (pa.uint16(), st.integers(0, 2**16 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.uint32(), st.integers(0, 2**32 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.binary(), st.binary(max_size=20)),
    (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    (pa.date32(), st.dates()),
    (pa.timestamp("s", "UTC"), st.integers(-(2**40), 2**40)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    (pa.time64("us"), st.integers(0, 86_400_000_000 - 1)),
    (pa.duration("ms"), st.integers(-10, 10)),
    (pa.decimal128(10, 2), st.decimals(-1000, 1000, places=2, allow_nan=False)),
]


@pytest.fixture(scope="module", autouse=True)
def loaded():
    loader.warm()
    assert loader.loops(0)


def dictionaries(table: pa.Table) -> dict[str, Dictionary]:
    counted = count_columns(table, counting.count)
    return {name: Dictionary(c.values, c.places) for name, c in counted.items() if c.places}


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **ZSTD) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def drawn(kind: pa.DataType, values: list, rows: int) -> pa.Array:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    array = pa.array((values * rows)[:rows], plain)
    return array.dictionary_encode() if pa.types.is_dictionary(kind) else array


def compare(table: pa.Table) -> bool:
    """Whether pages were put together; then they are what Arrow's are."""
    made = dictionary_pages.write(table, dictionaries(table), **ZSTD)
    if made is None:
        return False
    expected = arrow(table)
    mine, theirs = (pq.ParquetFile(pa.BufferReader(data)) for data in (bytes(made), expected))
    got, want = mine.read(), theirs.read()
    assert got.schema.equals(want.schema, check_metadata=True)
    for name in table.column_names:
        assert got[name].equals(want[name]) or _same_bits(got[name], want[name])
    assert mine.metadata.num_rows == table.num_rows
    for i in range(table.num_columns):
        ours, arrows = (file.metadata.row_group(0).column(i) for file in (mine, theirs))
        assert ours.statistics == arrows.statistics
        assert ours.num_values == arrows.num_values
        assert ours.physical_type == arrows.physical_type
    return True


def _same_bits(left: pa.ChunkedArray, right: pa.ChunkedArray) -> bool:
    if not left.is_null().equals(right.is_null()):
        return False
    width = np.uint64 if left.type == pa.float64() else np.uint32
    a, b = (side.combine_chunks().fill_null(0).to_numpy().view(width) for side in (left, right))
    return np.array_equal(a, b)


@given(st.data(), st.lists(st.sampled_from(DRAWN), min_size=1, max_size=4), st.integers(ROWS, ROWS + 20))
@settings(max_examples=examples(300), deadline=None)
def test_arrow_reads_the_same(data, kinds, rows):
    columns = {}
    for i, (kind, values) in enumerate(kinds):
        some = data.draw(st.lists(st.none() | values, min_size=1, max_size=30))
        columns[f"c{i}"] = drawn(kind, some, rows)
    columns["_row"] = pa.array(range(rows), pa.int64())
    compare(pa.table(columns))


@pytest.mark.parametrize("kind", [kind for kind, _ in DRAWN], ids=str)
def test_these_types_are_put_together(kind):
    table = pa.table({"x": _sample(kind, 1000), "n": pa.array(np.arange(1000) % 3)})
    assert compare(table)


def _sample(kind: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return _sample(kind.value_type, rows).dictionary_encode()
    numbers = pa.array(([1, 5, None, 100] * rows)[:rows], pa.int32())
    if kind == pa.date32():
        return numbers.cast(kind)
    by_text = pa.types.is_decimal(kind) or not pa.types.is_primitive(kind)
    return numbers.cast(pa.string() if by_text else pa.int64()).cast(kind)


@pytest.mark.parametrize("different", [1, 2, 3, 8, 9, 255, 256, 257, 4096, 16_000])
@pytest.mark.parametrize("rows", [40_000, 40_007])
def test_places_of_any_width(different, rows):
    numbers = np.random.default_rng(different).integers(0, different, rows)
    texts = pa.array(numbers).cast(pa.string())
    valid = np.random.default_rng(1).random(rows) < 0.9
    some = pa.array(numbers, mask=~valid)
    assert compare(pa.table({"n": numbers, "spread": numbers * 1_000_003, "t": texts, "some": some}))


def test_a_column_of_many_values_leaves_the_others_their_dictionaries(monkeypatch):
    numbers = np.arange(70_000)
    table = pa.table({"few": numbers % 7, "many": numbers % 30_000})
    known, seen = dictionaries(table), []
    assert known.keys() == {"few", "many"}
    page = dictionary_pages._page
    monkeypatch.setattr(dictionary_pages, "_page", lambda *args: seen.append(args[0]) or page(*args))
    assert compare(table)
    assert [column.to_pylist()[:3] for column in seen] == [[0, 1, 2]]


def test_minus_zero_keeps_its_sign_and_nobody_looks_it_up():
    table = pa.table({"x": pa.array([0.0, -0.0, 1.0] * 200), "n": pa.array([1, 2, 3] * 200), "_source": ["a"] * 600})
    assert compare(table)


def test_other_readers_see_the_same(tmp_path):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    rows = 50_000
    numbers = np.arange(rows)
    table = pa.table(
        {
            "n": pa.array(numbers % 7, mask=numbers % 11 == 0),
            "t": pa.array((numbers % 1000).astype(str)),
            "moment": pa.array(numbers % 365 * 86_400, pa.timestamp("s", "UTC")),
            "day": pa.array((numbers % 31).astype(np.int32)).cast(pa.date32()),
            "f": pa.array(numbers % 13 / 4),
            "one": pa.array(["x"] * rows),
            "_row": numbers,
        }
    )
    path = tmp_path / "a.parquet"
    made = dictionary_pages.write(table, dictionaries(table), **ZSTD)
    assert made is not None
    path.write_bytes(made)
    other = tmp_path / "b.parquet"
    other.write_bytes(arrow(table))
    assert pl.read_parquet(path).equals(pl.read_parquet(other))
    query = "select count(*), sum(n), min(t), max(moment), sum(_row) from '{}' where n = 3 and t > '5'"
    assert duckdb.sql(query.format(path)).fetchall() == duckdb.sql(query.format(other)).fetchall()


def test_a_table_is_staged_with_them_in_folders_too(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "_MANY", 100)
    store = open_store(str(tmp_path), {})
    table = pa.table({"day": ["a"] * 300, "n": [1, 2, 3] * 100, "_source": ["u"] * 300, "_row": range(300)})
    (file,) = stage_table(table, "f", "t", "_ingestlab/s", store, ["day"], dictionaries=dictionaries(table))
    assert file.target == "t/day=a/f.parquet"
    assert read_part(store, "t", file, file.staged)["n"].to_pylist() == [1, 2, 3] * 100
    parts = table.set_column(0, "day", pa.array(["a", "b", "a"] * 100))
    files = stage_table(parts, "g", "t", "_ingestlab/s", store, ["day"], dictionaries=dictionaries(parts))
    assert sorted(read_part(store, "t", f, f.staged)["n"].to_pylist()[0] for f in files) == [1, 2]


def test_what_is_counted_beforehand_changes_no_profile():
    table = pa.table({"n": np.arange(1000) % 7, "t": (np.arange(1000) % 50).astype(str), "_source": ["u"] * 1000})
    counted = count_columns(table, counting.count)
    assert counted.keys() == {"n", "t", "_source"}
    assert profile(table, counting.count, counted) == profile(table, counting.count) == profile(table)


@given(st.recursive(
    st.tuples(st.just(6), st.integers(-(2**63), 2**63 - 1)) | st.tuples(st.just(8), st.binary(max_size=20))
    | st.tuples(st.sampled_from([1, 2]), st.none()),
    lambda inner: st.tuples(st.just(12), st.dictionaries(st.integers(1, 200), inner, max_size=4)),
    max_leaves=10,
))  # fmt: skip
@example((12, {1: (6, -1), 17: (8, b""), 200: (1, None)}))
@settings(max_examples=examples(200), deadline=None)
def test_thrift_reads_what_it_writes(field):
    struct = {3: field}
    assert decode(encode(struct)) == struct


def test_groups_are_the_same_with_and_without():
    rows = pa.table({"t": [str(n % 7) for n in range(1000)], "u": [None, "a"] * 500, "n": pa.array(range(1000))})
    aggregate = Aggregate(by=["t", "u"], measures={"rows": "count", "sum": ("n", "sum")})
    seen = Rows(name="x", table=rows, rejects=rows, pieces={}, raw=None, dictionaries=dictionaries(rows))
    coded = with_dictionaries(seen, [aggregate])
    assert [pa.types.is_dictionary(field.type) for field in coded.schema] == [True, False, False]
    assert make(coded, aggregate).equals(make(rows, aggregate))
