"""Measures of groups: what they say of nulls, NaN, nothing, zones and decimals; and that merging changes nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.direct import compare
from support.selection import examples

from ingestlab import Aggregate, Csv, Pipeline, TerminalError
from ingestlab.analytics.aggregates.answers import answer, no_rows
from ingestlab.analytics.aggregates.partials import concat, make, merge

SOURCE = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1], pa.int32()), ["b.csv", "a.csv"])
ORIGIN = {"_source": SOURCE, "_row": pa.array([0, 0, 1, 1])}


def of(table: pa.Table, aggregate: Aggregate, cuts: tuple[int, ...] = ()) -> pa.Table:
    """The aggregate of a table that was published in parts, cut at these rows."""
    edges = [0, *sorted(cuts), table.num_rows]
    parts = [table.slice(a, b - a) for a, b in pairwise(edges)]
    return answer(merge(concat([make(part, aggregate) for part in parts if part.num_rows]), aggregate), aggregate)


def one(values: Any, *measure: Any, kind: pa.DataType | None = None) -> Any:
    """A measure of one column, in one group: the same of the whole and of parts."""
    table = pa.table({"x": pa.array(values, kind) if isinstance(values, list) else values})
    aggregate = Aggregate(measures={"m": ("x", *measure)})
    answers = [of(table, aggregate, cuts)["m"].to_pylist() for cuts in [(), *((i,) for i in range(1, len(values)))]]
    close = isinstance(answers[0][0], float)
    assert all(a == (pytest.approx(answers[0], rel=1e-12) if close else answers[0]) for a in answers), answers
    return answers[0][0]


# ---- each measure, by hand

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2, None, 4], pa.int16(), {"count": 3, "sum": 7, "mean": 7 / 3, "min": 1, "max": 4, "distinct": 3}),
        ([1.5, NAN, None, 0.5], pa.float64(), {"count": 2, "sum": 2.0, "mean": 1.0, "std": 0.5**0.5, "min": 0.5}),
        ([NAN, 0.25], pa.float16(), {"count": 1, "sum": 0.25, "max": 0.25, "distinct": 1, "median": 0.25}),
        ([True, False, None, True], pa.bool_(), {"count": 3, "sum": 2, "mean": 2 / 3, "max": True, "distinct": 2}),
        (["b", "a", None, ""], pa.string(), {"count": 3, "min": "", "max": "b", "distinct": 3}),
        ([7], pa.int64(), {"sum": 7, "mean": 7, "std": None, "median": 7, "min": 7, "max": 7, "distinct": 1}),
        ([None, None], pa.float64(), {"count": 0, "sum": 0, "mean": None, "std": None, "min": None, "median": None}),
        ([None, None], pa.string(), {"count": 0, "min": None, "max": None, "distinct": 0}),
        ([None, None], pa.null(), {"count": 0, "sum": 0, "mean": None, "std": None, "max": None, "median": None}),
        ([dt.date(2020, 1, 2), dt.date(2019, 1, 1)], pa.date32(), {"min": dt.date(2019, 1, 1), "distinct": 2}),
        ([1, 5, None], pa.duration("s"), {"min": dt.timedelta(seconds=1), "max": dt.timedelta(seconds=5)}),
        ([float("inf"), 1.0], pa.float64(), {"sum": float("inf"), "mean": float("inf"), "max": float("inf")}),
    ],
)
def test_what_measures_say(values: list[Any], kind: pa.DataType, expected: dict[str, Any]) -> None:
    for name, wanted in expected.items():
        assert one(values, name, kind=kind) == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), name


def test_sums_of_whole_numbers_are_exact_at_any_size() -> None:
    assert one([2**53 + 1, 1, -(2**53)], "sum") == 2
    assert one([2**62, 2**62, 2**62], "sum") == 3 * 2**62
    assert one([2**64 - 1, 2**64 - 1], "sum", kind=pa.uint64()) == 2**65 - 2
    assert one([-(2**63), -(2**63)], "sum") == -(2**64)
    table = pa.table({"k": ["a", "b", "b"], "x": [1, 2**62, 2**62]})
    result = of(table, Aggregate(by="k", measures={"s": ("x", "sum")}))
    assert result["s"].type == pa.decimal128(38, 0)
    assert of(table.slice(0, 2), Aggregate(by="k", measures={"s": ("x", "sum")}))["s"].type == pa.int64()


def test_decimals_stay_decimals() -> None:
    values = pa.array([Decimal("0.10"), Decimal("0.20"), None, Decimal("99999999.99")], pa.decimal128(10, 2))
    assert one(values, "sum") == Decimal("100000000.29")
    assert one(values, "max") == Decimal("99999999.99")
    assert one(values, "mean") == pytest.approx(100000000.29 / 3)
    assert one(values, "median") == pytest.approx(0.2)
    assert one(values, "distinct") == 3


def test_a_decimal_sum_of_more_than_38_digits_is_an_error_and_not_a_wrong_number() -> None:
    values = pa.array([Decimal("9" * 38)] * 2, pa.decimal128(38, 0))
    with pytest.raises(TerminalError, match="more than 38 digits"):
        of(pa.table({"x": values}), Aggregate(measures={"s": ("x", "sum")}))
    with pytest.raises(TerminalError, match="more than 38 digits"):
        of(pa.table({"x": values}), Aggregate(measures={"s": ("x", "sum")}), (1,))


def test_sums_and_deviations_of_floats_keep_their_digits() -> None:
    far = np.random.default_rng(1).normal(1e9, 1e-3, 10_000)
    table = pa.table({"x": far})
    aggregate = Aggregate(measures={"std": ("x", "std"), "mean": ("x", "mean")})
    for cuts in ((), (1, 17, 5000), tuple(range(1, 10_000, 97))):
        (row,) = of(table, aggregate, cuts).to_pylist()
        assert row["std"] == pytest.approx(float(np.std(far - 1e9, ddof=1)), rel=1e-4)
        assert row["mean"] == pytest.approx(float(1e9 + np.mean(far - 1e9)), rel=1e-15)


def test_first_and_last_pass_over_missing_values_and_times() -> None:
    table = pa.table({"x": [None, "b", "c", "d"], "t": pa.array([1, 2, 3, None], pa.timestamp("s")), **ORIGIN})
    aggregate = Aggregate(measures={"first": ("x", "first", "t"), "last": ("x", "last", "t")})
    for cuts in ((), (1,), (2,), (1, 2, 3)):
        assert of(table, aggregate, cuts).to_pylist() == [{"first": "b", "last": "c"}]


def test_rows_of_the_same_time_are_in_the_order_of_source_and_row() -> None:
    table = pa.table({"x": ["b0", "a0", "b1", "a1"], "t": [5, 5, 5, 5], **ORIGIN})
    aggregate = Aggregate(measures={"first": ("x", "first", "t"), "last": ("x", "last", "t")})
    for cuts in ((), (1,), (2,), (1, 2, 3)):
        assert of(table, aggregate, cuts).to_pylist() == [{"first": "a0", "last": "b1"}]


def test_first_of_nothing_is_null() -> None:
    table = pa.table({"x": ["a", None, None, None], "t": pa.nulls(4), **ORIGIN})
    assert of(table, Aggregate(measures={"f": ("x", "first", "t")})).to_pylist() == [{"f": None}]


# ---- keys


def test_missing_is_a_group_of_its_own_and_comes_last() -> None:
    table = pa.table({"k": [None, 1.0, NAN, 0.0, -0.0]})
    assert of(table, Aggregate(by="k", measures={"n": "count"}), (1, 4)).to_pylist() == [
        {"k": 0.0, "n": 2},
        {"k": 1.0, "n": 1},
        {"k": None, "n": 2},
    ]


def test_a_column_that_is_always_null_is_one_group() -> None:
    table = pa.table({"k": pa.nulls(3), "t": pa.nulls(3)})
    aggregate = Aggregate(by=["k", "t:hour"], measures={"n": "count"})
    assert of(table, aggregate, (1,)).to_pylist() == [{"k": None, "t_hour": None, "n": 3}]


def test_without_keys_all_rows_are_one_group_and_no_rows_are_none() -> None:
    table = pa.table({"x": [1, 2]})
    aggregate = Aggregate(measures={"n": "count"})
    assert of(table, aggregate, (1,)).to_pylist() == [{"n": 2}]
    assert no_rows(aggregate).num_rows == 0


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("second", "2020-05-06 07:08:09"),
        ("minute", "2020-05-06 07:08:00"),
        ("hour", "2020-05-06 07:00:00"),
        ("day", "2020-05-06 00:00:00"),
        ("week", "2020-05-04 00:00:00"),
        ("month", "2020-05-01 00:00:00"),
        ("quarter", "2020-04-01 00:00:00"),
        ("year", "2020-01-01 00:00:00"),
    ],
)
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_times_are_cut_down_in_their_own_zone(unit: str, expected: str, zone: str | None) -> None:
    where = ZoneInfo(zone) if zone else None
    clock = pa.array([dt.datetime(2020, 5, 6, 7, 8, 9, 123456)])
    table = pa.table({"t": pc.assume_timezone(clock, zone) if zone else clock})
    (row,) = of(table, Aggregate(by=[f"t:{unit}"], measures={"n": "count"})).to_pylist()
    assert row[f"t_{unit}"] == dt.datetime.fromisoformat(expected).replace(tzinfo=where)


def test_the_hour_that_comes_twice_a_year_is_two_hours() -> None:
    utc = pa.array([dt.datetime(2020, 10, 25, h, 30) for h in range(3)], pa.timestamp("s", "UTC"))
    table = pa.table({"t": utc.cast(pa.timestamp("s", "Europe/Vienna"))})
    result = of(table, Aggregate(by=["t:hour"], measures={"n": "count"}))
    assert result["n"].to_pylist() == [1, 1, 1]
    assert [t.astimezone(dt.UTC).hour for t in result["t_hour"].to_pylist()] == [0, 1, 2]
    day = of(table, Aggregate(by=["t:day"], measures={"n": "count"})).to_pylist()
    assert day == [{"t_day": dt.datetime(2020, 10, 25, tzinfo=ZoneInfo("Europe/Vienna")), "n": 3}]


def test_dates_are_cut_down_to_months() -> None:
    table = pa.table({"d": [dt.date(2020, 5, 6), dt.date(1969, 12, 31)]})
    result = of(table, Aggregate(by=["d:month"], measures={"n": "count"}))
    assert result["d_month"].to_pylist() == [dt.date(1969, 12, 1), dt.date(2020, 5, 1)]


def test_keys_may_be_of_many_values() -> None:
    n = 3000
    columns = {name: pa.array(np.random.default_rng(i).permutation(n)) for i, name in enumerate("abcde")}
    result = of(pa.table(columns), Aggregate(by=list("abcde"), measures={"n": "count"}), (1000,))
    assert result["n"].to_pylist() == [1] * n


# ---- parts of different kinds


def test_types_that_differ_between_parts_are_widened_or_become_text() -> None:
    aggregate = Aggregate(by="k", measures={"s": ("x", "sum"), "d": ("x", "distinct"), "max": ("x", "max")})

    def total(*tables: pa.Table) -> list[dict[str, Any]]:
        return answer(merge(concat([make(t, aggregate) for t in tables]), aggregate), aggregate).to_pylist()

    whole = pa.table({"k": [1], "x": pa.array([2], pa.int8())})
    assert total(whole, pa.table({"k": [1.0], "x": [2.0]})) == [{"k": 1, "s": 4.0, "d": 1, "max": 2}]
    assert total(whole, pa.table({"k": ["1"], "x": pa.nulls(1)})) == [{"k": "1", "s": 2, "d": 1, "max": 2}]
    cents = pa.table({"k": [1], "x": pa.array([Decimal("0.25")], pa.decimal128(5, 2))})
    assert total(whole, cents)[0]["s"] == Decimal("2.25")
    assert total(whole, pa.table({"k": [1]})) == [{"k": 1, "s": 2, "d": 1, "max": 2}]


def test_equal_times_of_different_units_are_one_value() -> None:
    at = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    aggregate = Aggregate(measures={"d": ("t", "distinct")})
    kinds = [pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Asia/Tokyo")]
    states = concat([make(pa.table({"t": pa.array([at], kind)}), aggregate) for kind in kinds])
    assert answer(merge(states, aggregate), aggregate)["d"].to_pylist() == [1]


def test_states_can_be_merged_again() -> None:
    table = pa.table({"k": [1, 1, 2, 1], "x": [1.0, 2.0, 3.0, 4.0], "t": [1, 2, 3, 4], **ORIGIN})
    aggregate = Aggregate(by="k", measures=EVERYTHING)
    parts = [make(table.slice(i, 1), aggregate) for i in range(4)]
    twice = merge(concat([merge(concat(parts[:2]), aggregate), merge(concat(parts[2:]), aggregate)]), aggregate)
    compare(answer(twice, aggregate), table, aggregate)


# ---- sketches


def test_estimates_of_large_groups_keep_their_error() -> None:
    n = 60_000
    x = np.random.default_rng(3).permutation(n)
    table = pa.table({"x": x, "s": pa.array(x).cast(pa.string())})
    aggregate = Aggregate(
        measures={
            "d": ("s", "distinct"),
            "q10": ("x", "quantile", 0.1),
            "q50": ("x", "median"),
            "max": ("x", "quantile", 1),
        }
    )
    for cuts in ((), tuple(range(0, n, 7000))):
        compare(of(table, aggregate, cuts), table, aggregate)


def test_what_is_in_many_parts_is_counted_once() -> None:
    table = pa.table({"x": ["a", "b", "c"] * 100})
    result = of(table, Aggregate(measures={"d": ("x", "distinct")}), tuple(range(1, 300)))
    assert result["d"].to_pylist() == [3]


# ---- any table, cut anywhere

EVERYTHING: dict[str, Any] = {
    "rows": "count",
    **{kind: ("x", kind) for kind in ("count", "sum", "mean", "min", "max", "std", "distinct", "median")},
    "q9": ("x", "quantile", 0.9),
    "first": ("x", "first", "t"),
    "last": ("x", "last", "t"),
}
NUMBERS = st.one_of(
    st.tuples(st.just(pa.int64()), st.lists(st.none() | st.integers(-(2**62), 2**62), min_size=1, max_size=20)),
    st.tuples(st.just(pa.int8()), st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=20)),
    st.tuples(
        st.just(pa.float64()), st.lists(st.none() | st.just(NAN) | st.floats(-1e6, 1e6), min_size=1, max_size=20)
    ),
    st.tuples(
        st.just(pa.decimal128(12, 3)),
        st.lists(st.none() | st.decimals(-(10**6), 10**6, places=3), min_size=1, max_size=20),
    ),
)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), numbers=NUMBERS)
def test_any_table_cut_anywhere_gives_what_pandas_says(
    data: st.DataObject, numbers: tuple[pa.DataType, list[Any]]
) -> None:
    kind, values = numbers
    n = len(values)
    some = st.lists(st.sampled_from(["a", "b", None]), min_size=n, max_size=n)
    times = st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n)
    table = pa.table(
        {
            "k": pa.array(data.draw(some), pa.string()).dictionary_encode(),
            "x": pa.array(values, kind),
            "t": pa.array(data.draw(times), pa.timestamp("ms")),
            "_source": pa.array(data.draw(st.lists(st.sampled_from("uv"), min_size=n, max_size=n))),
            "_row": pa.array(range(n)),
        }
    )
    cuts = data.draw(st.lists(st.integers(1, n), max_size=4))
    aggregate = Aggregate(by=["k"], measures=EVERYTHING)
    compare(of(table, aggregate, tuple(cuts)), table, aggregate)


# ---- declarations


@pytest.mark.parametrize(
    ("by", "measures", "words"),
    [
        ([], {}, "at least one measure"),
        (["a"], {"a": "count"}, "'a' twice"),
        (["a:hour", "a_hour"], {"n": "count"}, "'a_hour' twice"),
        (["rows()"], {"n": "count"}, r"'rows\(\)' twice"),
        (["a:hours"], {"n": "count"}, "column:unit"),
        ([":hour"], {"n": "count"}, "column:unit"),
        ([], {"n": "sum"}, "measure 'n'"),
        ([], {"n": ("x", "average")}, "average"),
        ([], {"n": ("x", "quantile")}, "quantile"),
        ([], {"n": ("x", "quantile", 90)}, "90"),
        ([], {"n": ("x", "first")}, "first"),
        ([], {"n": ("x", "first", "")}, "first"),
        ([], {"n": ("", "sum")}, "measure 'n'"),
        ([], {"n": 3}, "measure 'n'"),
    ],
)
def test_a_wrong_declaration_is_told_at_once(by: list[str], measures: dict[str, Any], words: str) -> None:
    with pytest.raises(TerminalError, match=words):
        Aggregate(by=by, measures=measures)


@pytest.mark.parametrize(
    ("name", "aggregate", "words"),
    [
        ("rejects", Aggregate(measures={"n": "count"}), "not 'rejects'"),
        ("by__x", Aggregate(measures={"n": "count"}), "single '_'"),
        ("By", Aggregate(measures={"n": "count"}), "small letters"),
        ("a", {"n": "count"}, "an Aggregate"),
        ("a", Aggregate(by="day:month", measures={"n": "count"}), "partition_by"),
        ("a", Aggregate(measures={"n": ("day", "max")}), "partition_by"),
        ("a", Aggregate(measures={"n": ("x", "last", "day")}), "partition_by"),
    ],
)
def test_a_pipeline_with_a_wrong_aggregate_does_not_load(name: str, aggregate: Any, words: str) -> None:
    pipeline = Pipeline(reader=Csv(), partition_by="day", aggregates={name: aggregate})
    with pytest.raises(TerminalError, match=words):
        pipeline.named("p")
    Pipeline(reader=Csv(), partition_by="day", aggregates={"a": Aggregate(by="day", measures={"n": "count"})}).named(
        "p"
    )


def test_the_code_is_that_of_the_states_not_of_the_names() -> None:
    first = Aggregate(by="a", measures={"x": ("v", "mean"), "n": ("v", "count")})
    assert first.code == Aggregate(by=["a"], measures={"s": ("v", "sum"), "m": ("v", "mean")}).code
    others = [Aggregate(by="b", measures=first.measures), Aggregate(by="a", measures={"x": ("v", "std")})]
    assert len({first.code, *(other.code for other in others)}) == 3
    assert Aggregate.from_dict(first.to_dict()) == Aggregate(by=("a",), measures=first.measures)


@pytest.mark.parametrize(
    ("table", "aggregate", "words"),
    [
        ({"x": ["a"]}, Aggregate(measures={"s": ("x", "sum")}), r"numbers in 'x', for sum\(x\); got string"),
        ({"x": ["a"]}, Aggregate(measures={"s": ("x", "median")}), "numbers in 'x'"),
        ({"x": [[1]]}, Aggregate(measures={"s": ("x", "max")}), "values in 'x'"),
        ({"x": [[1]]}, Aggregate(measures={"s": ("x", "distinct")}), "values in 'x'"),
        ({"x": [[1]]}, Aggregate(by="x", measures={"n": "count"}), "single values in 'x'"),
        ({"x": [1]}, Aggregate(by="x:hour", measures={"n": "count"}), "times in 'x', to cut down to the hour"),
        ({"x": [1], "t": ["a"]}, Aggregate(measures={"f": ("x", "first", "t")}), "times or numbers in 't'"),
    ],
)
def test_a_column_of_the_wrong_type_is_told(table: dict[str, Any], aggregate: Aggregate, words: str) -> None:
    with pytest.raises(TerminalError, match=words):
        make(pa.table(table), aggregate)
