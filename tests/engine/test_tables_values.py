"""Values that tables must keep, and that profiles and aggregates must bear."""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.analytics.aggregates.answers import answer
from ingestlab.analytics.aggregates.partials import concat, make, merge
from ingestlab.analytics.profiles.states import profile
from ingestlab.core.models import Piece
from ingestlab.engine.task.frames import Loaded, families
from ingestlab.engine.task.merge import Merge
from ingestlab.engine.task.merge import merge as merge_parts
from ingestlab.engine.task.patterns import ask_alike
from ingestlab.interfaces import Records
from ingestlab.lake import layout
from ingestlab.lake.data_files import stage_table
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.aggregate import Aggregate

OF_V = Aggregate(measures={"sum": ("v", "sum"), "mean": ("v", "mean"), "n": ("v", "count"), "top": ("v", "max")})


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([[inf, -inf, 1.0], [5.0, 7.0]], nan),
        ([[5.0], [inf], [-inf]], nan),
        ([[inf, 1.0], [2.0]], inf),
        ([[nan, 1.0], [2.0]], 3.0),
        ([[None, -inf], [2.0]], -inf),
        ([[nan], [None]], 0.0),
    ],
)
def test_sums_of_parts_are_what_pandas_makes_of_all_rows(parts: list[list[float | None]], total: float) -> None:
    states = concat([make(pa.table({"v": pa.array(part, pa.float64())}), OF_V) for part in parts])
    (row,) = answer(merge(states, OF_V), OF_V).to_pylist()
    with np.errstate(invalid="ignore"):
        expected = np.nansum([0.0, *(v for part in parts for v in part if v is not None)])
    assert row["sum"] == pytest.approx(total, nan_ok=True) == pytest.approx(float(expected), nan_ok=True)
    assert (isnan(row["mean"]) if row["n"] else row["mean"] is None) == (isnan(total) or not row["n"])


@pytest.mark.parametrize(
    "kind",
    ["decimal32", "decimal64", "month_day_nano_interval", "list_view", "binary_view", "fixed_size_binary", "map"],
)
def test_a_profile_fails_no_file(kind: str) -> None:
    made = {
        "decimal32": pa.array([Decimal("1.25"), None], pa.decimal32(5, 2)),
        "decimal64": pa.array([Decimal("1.25"), None], pa.decimal64(12, 2)),
        "month_day_nano_interval": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
        "list_view": pa.array([[1], None], pa.list_view(pa.int64())),
        "binary_view": pa.array([b"x", None], pa.binary_view()),
        "fixed_size_binary": pa.array([b"xy", None], pa.binary(2)),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    }[kind]
    found = profile(pa.table({"v": made, "n": [1, 2]}))
    assert (found["columns"]["v"]["count"], found["columns"]["n"]["max"]) == (1, 2)
    assert found["columns"]["v"].get("max") == ("1.25" if kind.startswith("decimal") else None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Österreich", "c=Österreich"),
        ("日本 🎈", "c=日本 🎈"),
        ("Ö/A=%", "c=Ö%2FA%3D%25"),
        ("12:30", "c=12%3A30"),
        (None, "c=__HIVE_DEFAULT_PARTITION__"),
    ],
)
def test_folders_quote_ascii_alone(text: str | None, name: str) -> None:
    assert layout.folder("c", text) == name


def loaded(values: pa.Array) -> Loaded:
    piece = Piece(uri="file:///a", path="a", name="a", sha256="")
    return Loaded(piece, Records(pa.table({"v": values}), np.arange(len(values))))


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (pa.decimal128(5, 2), pa.float64(), False),
        (pa.decimal128(5, 2), pa.decimal128(7, 2), True),
        (pa.decimal128(5, 2), pa.decimal128(5, 4), True),
        (pa.int64(), pa.float64(), False),
        (pa.int32(), pa.int64(), True),
        (pa.uint64(), pa.int64(), False),
        (pa.null(), pa.decimal128(5, 2), True),
        (pa.float32(), pa.float64(), True),
        (pa.string(), pa.int64(), False),
    ],
)
def test_files_are_cleaned_together_only_where_no_value_changes(
    one: pa.DataType, other: pa.DataType, together: bool
) -> None:
    assert len(families([loaded(pa.array([None], one)), loaded(pa.array([None], other))])) == 2 - together


@pytest.mark.parametrize(("values", "dictionary"), [([0.0, 1.0, 1.0], True), ([-0.0, 1.0, 1.0], False)])
def test_minus_zero_stands_in_no_dictionary_also_after_merges(
    tmp_path: Path, values: list[float], dictionary: bool
) -> None:
    store = open_store(str(tmp_path))
    source = pa.array(["u"] * 3).dictionary_encode()
    parts = [
        stage_table(
            pa.table({"v": v, "s": ["x"] * 3, "_source": source, "_row": [0, 1, 2]}),
            name,
            "tables/d/t",
            "staging",
            store,
        )[0]
        for name, v in (("a", values), ("b", [2.0] * 3))
    ]
    for part in parts:
        store.move(part.staged, part.target)
    (merged,) = merge_parts(Merge(batch="m", number=0, parts=tuple(parts)).to_dict(), str(tmp_path), {})
    for path in (parts[0].target, merged["part"]["staged"]):
        row_group = pq.ParquetFile(tmp_path / path).metadata.row_group(0)
        by_name = {row_group.column(i).path_in_schema: row_group.column(i) for i in range(4)}
        assert by_name["v"].has_dictionary_page == dictionary
        assert by_name["s"].has_dictionary_page
        assert by_name["v"].statistics.max == 2.0 or by_name["v"].statistics.min <= 0.0


@settings(max_examples=examples(300))
@given(
    st.lists(st.text(alphabet="aB1 _-.\n\té٣", max_size=5) | st.none(), max_size=6),
    st.lists(
        st.sampled_from([*"aB1_-.^$|", "[aB]", "[^a]", "\\d", "\\w+", "(a|B)", "a*", "B?", "{1}", "\\.", "\\s"]),
        max_size=4,
    ),
    st.sampled_from(["str_matches", "str_contains"]),
)
def test_patterns_mean_what_python_means_whoever_is_asked(texts: list[str | None], pieces: list[str], how: str) -> None:
    pattern = "".join(pieces)
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    find = compiled.match if how == "str_matches" else compiled.search
    values = pa.chunked_array([pa.array(texts, pa.string())])
    expected = [None if text is None else find(text) is not None for text in texts]
    assert ask_alike(values, how, pattern=pattern).to_pylist() == expected
