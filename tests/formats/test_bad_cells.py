"""A cell that is hopeless by its looks is one that pyarrow refuses."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.csv.arrow import Layout, convert
from ingestlab.formats.csv.bad_cells import bad_cells, wrong_by_looks
from ingestlab.formats.csv.body import Body

KINDS = [
    pa.int8(), pa.int16(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(9, 2),
    pa.bool_(), pa.date32(), pa.timestamp("ms"),
]  # fmt: skip
NUMBERS = st.integers(-(1 << 65), 1 << 65).map(str)
TEXTS = st.one_of(st.text("0123456789-+.eExXaFinN ", max_size=8), NUMBERS, NUMBERS.map("0{}".format), st.just("-0"))


def refused(text: str, kind: pa.DataType) -> bool:
    data = f"{text},\n".encode()
    try:
        convert(Body(data, 0, len(data), Dialect(), 2), Layout(("a", "b"), {"a": kind}, Dialect()))
    except pa.ArrowInvalid:
        return True
    return False


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from(KINDS))
@example(["127", "128", "-128", "-129", "0x7f", "0x80", "0000000128", "0000000000000000000000000127"], pa.int8())
@example(["9223372036854775807", "9223372036854775808", "-9223372036854775808", "1" * 5000], pa.int64())
@example(["1.", ".5", "1.e5", "+1e-5", ".", "1e", "INFINITY", "-inf", "nan", " 1 "], pa.float64())
def test_what_looks_wrong_is_refused_and_what_is_refused_is_found(texts, kind):
    layout = Layout(("a", "b"), {"a": kind}, Dialect())
    data = "".join(f"{text},\n" for text in texts).encode()
    table = pa.table({"a": pa.chunked_array([pa.array(texts, pa.string())])})
    wrong = [i for i, text in enumerate(texts) if refused(text, kind)]
    assert set(wrong_by_looks(table, layout).tolist()) <= set(wrong)
    assert [i for i, _, _ in bad_cells(Body(data, 0, len(data), Dialect(), 2), layout, table)] == wrong


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (pa.int16(), ["abc", "x1", "--1", "1-1", "32768", "-32769", "1.5", ""]),
        (pa.uint8(), ["-1", "-0", "256", "fa"]),
        (pa.float64(), ["1.2.3", "1-2", "--1", "e5", "1e5e5"]),
    ],
    ids=str,
)
def test_usual_faults_need_no_question(kind, texts):
    table = pa.table({"a": pa.chunked_array([pa.array(texts, pa.string())])})
    assert len(wrong_by_looks(table, Layout(("a",), {"a": kind}, Dialect()))) == len(texts)
