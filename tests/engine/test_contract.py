"""The screen before the contract: it may only save pandera work, never change what pandera says."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow  # noqa: ICN001 - pandera has the short name here, as in pipelines
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Csv, Pipeline
from ingestlab.core.errors import TerminalError
from ingestlab.engine.task import contract
from ingestlab.engine.task.fast_checks import screen
from ingestlab.engine.task.frames import filtered, to_arrow

START = datetime(2020, 1, 1)
TEXTS = ["", "a", "bb", "é", "ccc"]
KINDS = {
    "int16": (pyarrow.int16(), st.integers(-3, 3)),
    "int64": (pyarrow.int64(), st.integers(-3, 3) | st.sampled_from([2**62, -(2**62), 2**53 + 1])),
    "double": (pyarrow.float64(), st.floats(-3, 3) | st.sampled_from([float("nan"), float("inf")])),
    "text": (pyarrow.string(), st.sampled_from(TEXTS)),
    "time": (pyarrow.timestamp("s"), st.integers(0, 5).map(lambda n: START + timedelta(days=n))),
    "flag": (pyarrow.bool_(), st.booleans()),
    "coded": (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), st.sampled_from(TEXTS)),
}
NUMBERS = st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from([2**62, 2.0**53])
TIMES = st.integers(0, 5).map(lambda n: pd.Timestamp(START) + pd.Timedelta(days=n))


def checks_of(kind: str) -> st.SearchStrategy[pa.Check]:
    bounds = {"text": st.sampled_from(TEXTS), "coded": st.sampled_from(TEXTS), "time": TIMES, "flag": st.booleans()}
    bound = bounds.get(kind, NUMBERS)
    plain = [
        st.builds(make, bound)
        for make in (pa.Check.eq, pa.Check.ne, pa.Check.gt, pa.Check.ge, pa.Check.lt, pa.Check.le)
    ]
    sets = st.lists(bound, min_size=1, max_size=3)
    found = [*plain, st.builds(pa.Check.isin, sets), st.builds(pa.Check.notin, sets)]
    ends = st.tuples(bound, bound).filter(lambda pair: pair[0] < pair[1])
    found.append(
        st.builds(lambda pair, low, high: pa.Check.in_range(*pair, low, high), ends, st.booleans(), st.booleans())
    )
    if kind == "text":
        sizes = st.integers(0, 2)
        found += [
            st.builds(lambda low: pa.Check.str_length(min_value=low), sizes),
            st.builds(lambda low, more: pa.Check.str_length(low, low + more), sizes, sizes),
            st.builds(lambda size: pa.Check.str_length(exact_value=size), sizes),
            st.just(pa.Check.str_startswith("b")),
        ]
    own = st.sampled_from(
        [
            pa.Check(lambda s: ~s.duplicated(), name="first_of_its_kind"),
            pa.Check(lambda s: s.notna(), name="there"),
            pa.Check(lambda x: x != TEXTS[1], element_wise=True, name="no_a"),
        ]
    )
    return st.one_of(*found, own)


@st.composite
def cases(draw: st.DrawFn) -> tuple[pd.DataFrame, pa.DataFrameSchema]:
    size = draw(st.integers(1, 6))
    columns, frame = {}, {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(sorted(KINDS)))
        arrow, values = KINDS[kind]
        column = draw(st.lists(values | st.none(), min_size=size, max_size=size))
        frame[name] = pd.array(pyarrow.array(column, arrow), dtype=pd.ArrowDtype(arrow))
        columns[name] = pa.Column(
            None,
            checks=draw(st.lists(checks_of(kind), max_size=3)),
            nullable=draw(st.booleans()),
            unique=draw(st.sampled_from([False, False, True])),
        )
    return pd.DataFrame(frame, index=pd.RangeIndex(10, 10 + size, name="_row")), pa.DataFrameSchema(columns)


def outcome(frame: pd.DataFrame, schema: pa.DataFrameSchema):
    try:
        kept, reasons = contract.apply_contract(frame, Pipeline(reader=Csv(), contract=schema).named("p"))
    except TerminalError as error:
        return "refused", error.expected
    return kept.index.tolist(), {i: (r.rule, r.column, plain(r.value)) for i, r in reasons.items()}


def plain(value: str | None) -> str | None:
    """A number for what is one: where columns of several types fail, pandera shows 5 as 5.0, and NaN as nothing."""
    try:
        return None if value in (None, "nan") else str(float(value))
    except ValueError:
        return value


@settings(max_examples=examples(120), deadline=None)
@given(cases())
def test_screening_changes_nothing(case):
    frame, schema = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "screen", lambda _frame, _schema: None)
        slow = outcome(frame, schema)
    assume(slow[0] != "refused")  # pandera cannot put failures of some types below each other
    assert outcome(frame, schema) == slow


def flights(dep_time, distance):
    arrow = pyarrow.table({"dep_time": pyarrow.array(dep_time, "int16"), "distance": pyarrow.array(distance, "int16")})
    return arrow.to_pandas(types_mapper=pd.ArrowDtype)


RULES = pa.DataFrameSchema({"dep_time": pa.Column(), "distance": pa.Column(None, pa.Check.gt(0), nullable=True)})


def test_plain_rules_are_told_without_pandera():
    found = screen(flights([1, None, 3, 4], [5, 6, 0, None]), RULES)
    assert not found.rest_has_a_say
    assert [(f.column, f.rule, f.rows.tolist()) for f in found.findings] == [
        ("dep_time", "not_nullable", [1]),
        ("distance", "greater_than(0)", [2]),
    ]


def test_a_missing_column_is_refused_although_all_its_rules_are_screened():
    with pytest.raises(TerminalError, match="distance"):
        contract.apply_contract(flights([1], [1])[["dep_time"]], Pipeline(reader=Csv(), contract=RULES).named("p"))


def test_each_row_fails_the_first_rule_in_the_order_of_the_contract():
    late = pa.DataFrameSchema(
        {
            "b": pa.Column(None, pa.Check(lambda s: s < 0, name="own"), nullable=True),
            "a": pa.Column(None, [pa.Check.gt(0), pa.Check.lt(-1)]),
        }
    )
    frame = pd.DataFrame({"a": [5, -5, None], "b": [-1, 1, -1]}, dtype="int64[pyarrow]")
    _, reasons = contract.apply_contract(frame, Pipeline(reader=Csv(), contract=late).named("p"))
    assert {i: (r.column, r.rule) for i, r in reasons.items()} == {
        0: ("a", "less_than"),
        1: ("b", "own"),
        2: ("a", "not_nullable"),
    }


def test_a_check_that_compares_rows_is_asked_again_without_the_rows_that_failed_another():
    """The second row is the first of its kind once the one before it is gone."""
    schema = pa.DataFrameSchema(
        {
            "a": pa.Column(None, pa.Check(lambda s: s == s.max(), name="greatest")),
            "b": pa.Column(None, pa.Check.gt(0)),
        }
    )
    frame = pd.DataFrame({"a": [9, 9, 7], "b": [0, 1, 1]}, dtype="int64[pyarrow]")
    kept, reasons = contract.apply_contract(frame, Pipeline(reader=Csv(), contract=schema).named("p"))
    assert kept.index.tolist() == [1]
    assert reasons[0].rule == "greater_than"
    assert reasons[2].rule == "greatest"


@pytest.mark.parametrize(
    "schema",
    [
        pa.DataFrameSchema({"a": pa.Column(float, coerce=True)}),
        pa.DataFrameSchema({"a": pa.Column()}, checks=pa.Check(lambda f: f["a"] > 0)),
        pa.DataFrameSchema({"a": pa.Column()}, unique=["a"]),
        pa.DataFrameSchema({"a": pa.Column()}, strict="filter"),
        pa.DataFrameSchema({"a": pa.Column(default=1)}),
        pa.DataFrameSchema({"a.*": pa.Column(regex=True)}),
    ],
)
def test_a_contract_that_does_more_than_check_columns_is_pandera_s_alone(schema):
    assert screen(pd.DataFrame({"a": [1, 2]}, dtype="int64[pyarrow]"), schema) is None


def test_columns_that_are_not_on_arrow_are_pandera_s():
    frame = pd.DataFrame({"a": np.array([1.0, np.nan])})
    found = screen(frame, pa.DataFrameSchema({"a": pa.Column(None, pa.Check.gt(0))}))
    assert found.rest_has_a_say
    assert len(found.rest.checks) == 1


def test_a_failure_that_names_no_row_rejects_none():
    """pandera counts nulls as duplicates of each other, and then shows none of them."""
    schema = pa.DataFrameSchema({"a": pa.Column(None, nullable=True, unique=True)})
    frame = pd.DataFrame({"a": [None, None, 1]}, dtype="int64[pyarrow]")
    kept, reasons = contract.apply_contract(frame, Pipeline(reader=Csv(), contract=schema).named("p"))
    assert len(kept) == 3
    assert not reasons


@given(st.data(), st.lists(st.booleans(), max_size=20))
def test_filtered_frames_are_what_pandas_makes_of_a_mask(data, keep):
    size = {"min_size": len(keep), "max_size": len(keep)}
    columns = {
        name: pd.arrays.ArrowExtensionArray(pyarrow.array(data.draw(st.lists(values | st.none(), **size)), kind))
        for name, (kind, values) in KINDS.items()
    }
    texts = pd.array(["x"] * len(keep), dtype="str")
    others = {"own": np.arange(len(keep)), "string": texts.astype("string[pyarrow]"), 7: pd.Categorical(texts)}
    frame = pd.DataFrame({**columns, "str": texts, **others})
    frame.index = pd.Index(data.draw(st.lists(st.integers(0, 3), **size)), name="_row", dtype="int64")
    mask = np.array(keep, bool)
    pd.testing.assert_frame_equal(filtered(frame, mask), frame[mask])
    twice = frame[["text", "text", "own"]]
    pd.testing.assert_frame_equal(filtered(twice, mask), twice[mask])


def test_columns_of_arrow_leave_a_frame_without_a_look_at_their_values(monkeypatch):
    columns = {name: pyarrow.chunked_array([pyarrow.array([None], kind)]) for name, (kind, _) in KINDS.items()}
    held = {name: pd.arrays.ArrowExtensionArray(column) for name, column in columns.items()}
    frame = pd.DataFrame({"own": [7], **held, "text too": pd.array(["x"], "str")}, copy=False)
    copied = pd.arrays.ArrowExtensionArray.to_numpy

    def to_numpy(array, *args, **options):
        assert not isinstance(array.dtype, pd.ArrowDtype), "strings of pandas alone become objects"
        return copied(array, *args, **options)

    monkeypatch.setattr(pd.arrays.ArrowExtensionArray, "to_numpy", to_numpy)
    table, _ = to_arrow(frame)
    assert table.column_names == ["own", *KINDS, "text too"]
    for name, column in columns.items():
        theirs, ours = table[name].chunk(0).buffers(), column.chunk(0).buffers()
        assert table[name].type == column.type
        assert [b and b.address for b in theirs] == [b and b.address for b in ours]
