"""The compiled loop that counts values gives each column the state that Arrow's counts give it."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.analytics.profiles.states import profile
from ingestlab.formats.compiled import counting, loader

pytest.importorskip("numba")

ROWS = 300  # more than are described in plain Python
TEXTS = st.text(max_size=3) | st.text(max_size=40) | st.sampled_from(["", "a", "a\0", "\0", "abcdefgh", "abcdefgh\0"])
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 2.0**63, -(2.0**63), 1e300, 3.0])


def integers(bits, signed):
    least, greatest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    near = st.integers(max(least, -3), min(greatest, 5))
    return near | st.integers(least, greatest) | st.sampled_from([least, greatest])


DRAWN = [
    *((getattr(pa, f"{'' if signed else 'u'}int{bits}")(), integers(bits, signed))
      for bits in (8, 16, 32, 64) for signed in (True, False)),
    (pa.float64(), FLOATS),
    (pa.float32(), st.floats(width=32)),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.binary(), st.binary(max_size=20)),
    (pa.large_binary(), st.binary(max_size=300)),
    (pa.bool_(), st.booleans()),
    (pa.timestamp("s"), st.integers(-(2**33), 2**33)),
    (pa.timestamp("ns", "UTC"), st.integers(-(2**62), 2**62)),
    (pa.date32(), st.integers(-10_000, 10_000)),
    (pa.duration("ms"), st.integers(-10, 10)),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def loaded():
    loader.warm()
    assert loader.loops(0)


def states(column):
    table = pa.table({"x": column})
    return profile(table)["columns"]["x"], profile(table, counting.count)["columns"]["x"]


@given(st.sampled_from(DRAWN), st.data())
@settings(max_examples=examples(400), deadline=None)
def test_a_state_is_the_same_to_the_last_bit(drawn, data):
    kind, values = drawn
    some = data.draw(st.lists(values | st.none(), min_size=1, max_size=40))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    listed = [some[i] for i in rng.integers(0, len(some), ROWS)] + [None] * data.draw(st.integers(0, 3))
    array = pa.array(listed, pa.int64() if pa.types.is_temporal(kind) and kind.bit_width == 64 else kind)
    if array.type != kind:
        array = array.cast(kind)
    begin = data.draw(st.integers(0, 9))
    by_arrow, by_loop = states(array[begin:])
    assert repr(by_loop) == repr(by_arrow)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint32", "float64", "string"])
def test_many_rows_with_few_values_and_with_many(kind, many):
    rng = np.random.default_rng(1)
    values = rng.integers(-(10**8) if kind[0] != "u" else 0, 10**8, 100_000 if many else 5_000)
    values = rng.choice(values, 100_000)
    values = values / 3 if kind == "float64" else [f"number {v}" for v in values] if kind == "string" else values
    by_arrow, by_loop = states(pa.array(values, getattr(pa, kind)()))
    assert by_loop == by_arrow


@pytest.mark.parametrize("distinct", [counting._MOST, counting._MOST + 1])
def test_the_loop_gives_up_where_nearly_all_differ(distinct):
    array = pa.array(np.arange(distinct) * 10**6)
    counted = counting.count(array, None, 1)
    assert (counted is None) == (distinct > counting._MOST)


@example(["a" * 300 + "b", "a" * 300 + "c"])
@given(st.lists(st.text(min_size=9, max_size=30), min_size=1, max_size=9, unique=True))
@settings(max_examples=examples(50), deadline=None)
def test_long_texts_are_compared_and_not_their_hashes_alone(texts):
    counted = counting.count(pa.array(texts * 3), None, 1)
    assert counted.values.to_pylist() == texts
    assert counted.counts.tolist() == [3] * len(texts)
