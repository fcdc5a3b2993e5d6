"""The compiled loop and pyarrow's parser make the same of every line of JSON: they are run side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from formats.test_csv_loop import FORMATS, INTEGERS, KINDS, ODD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.json_ways import check, taken
from support.selection import examples

from ingestlab import JsonLines
from ingestlab.core.models import Piece
from ingestlab.formats.common.cutting import plain_scan
from ingestlab.formats.common.linewise import LINES, Lined
from ingestlab.formats.compiled import loader

pytest.importorskip("numba")

PIECE = Piece(uri="u:a.jsonl", path="raw/a.jsonl", name="a.jsonl", sha256="0" * 64, first_row=7)
NUMBERS = [
    *("0", "-0", "1", "-1", "12", "007", "-01", "1.5", "-0.0", "1.", ".5", "1e3", "1E+05", "1e-3", "1e", "2e400"),
    *("5e-324", "1.7976931348623157e308", "0.1", "123456789012345678901", "9007199254740993", "-", "+1", "0x1", "1_0"),
    *("127", "128", "-129", "255", "65536", "2147483648", "9223372036854775808", "-9223372036854775808", "16777217"),
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "null",
        "True",
        "nul",
        "{}",
        "[]",
        '{"x": [1, "}"]}',
        '[{"a": 1}]',
    ),
]
VALUES = [*NUMBERS, *(json.dumps(text) for text in ODD), *(json.dumps(text, ensure_ascii=False) for text in ODD)]
TEXTS = [
    r'"\u0061"',
    r'"a\n"',
    '"tab\there"',
    '"',
    '"open',
    '"é日"',
    '"a" "b"',
    '"{\\"a\\": 1}"',
    '""',
    "'a'",
    '"a\x00b"',
]
NAMES = ["a", "b", "c", "longer name, indeed", "é", "x"]
SHORT = JsonLines(columns={"a": "int64", "b": "string", "c": "float64"})


def lined(data: bytes) -> Lined:
    return Lined(data, plain_scan(data, LINES), {}, {})


def both(reader: JsonLines, data: bytes):
    """Read some lines in both ways; return what the loop took of them."""
    loader.warm()
    lines = lined(data)
    check(reader, lines, PIECE)
    return taken(reader, lines)


blanks = st.sampled_from(["", "", "", " ", "\t", "  "])
values = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(TEXTS),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text('abc é日 0"\\\n', max_size=30).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.datetimes().map(lambda time: f'"{time.isoformat()}"'),
)


@st.composite
def records(draw) -> str:
    """A line that is mostly one object, with its names mostly in order."""
    names = draw(st.one_of(st.just(NAMES), st.lists(st.sampled_from(NAMES), max_size=5)))
    members = [f'{draw(blanks)}"{name}"{draw(blanks)}:{draw(blanks)}{draw(values)}{draw(blanks)}' for name in names]
    return draw(blanks) + "{" + ",".join(members) + draw(st.sampled_from(["}", "}", "}", "} ", "}x", ",}", ""]))


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=5, max_size=5),
    st.lists(records(), min_size=1, max_size=12),
    st.sampled_from(FORMATS),
    st.sampled_from(["drop", "reject"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_lines_of_all_kinds(kinds, lines, form, extra, end):
    reader = JsonLines(columns=dict(zip(NAMES, kinds, strict=False)), timestamp_format=form, extra_columns=extra)
    both(reader, end.join(lines).encode() + end.encode())


ALL = [*INTEGERS, *(kind for kind in KINDS if kind not in INTEGERS)]


def readers_of(kind: object) -> list[JsonLines]:
    forms = FORMATS if kind == pa.timestamp("us") else [None]
    return [JsonLines(columns={"a": kind}, timestamp_format=form) for form in forms]


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_odd_values_among_plain_ones(kind):
    plain = [b'{"a": null}\n'] * 20  # where most lines are odd the loop gives up
    lines = [line for value in VALUES for line in (*plain, b'{"a": %s}\n' % value.encode())]
    for reader in readers_of(kind):
        both(reader, b"".join(lines))


@pytest.mark.slow("all examples")
@pytest.mark.parametrize("kind", ALL, ids=str)
def test_each_odd_value_of_each_type_alone(kind):
    for reader in readers_of(kind):
        for value in VALUES:
            both(reader, b'{"a": %s}\n' % value.encode())


def test_plain_records_are_all_taken():
    lines = [{"a": n, "b": f"text {n}" * (n % 7), "c": n / 3} for n in range(2000)]
    found = both(SHORT, "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert found is not None
    assert (found.table.num_rows, found.left.size) == (2000, 0)
    assert found.table.to_pylist() == lines


@pytest.mark.parametrize(
    ("line", "took"),
    [
        ('{"c":1.5,"a":1,"b":"x"}', True),
        ('{"b":"x"}', True),
        ("{}", True),
        ('{"a":null,"b":null,"c":null}', True),
        ('{"a":1,"more":"text","less":[1]}', False),
        ('{"a":1,"more":"text","less":-1.5,"none":null,"yes":true,"no":false}', True),
        ('{"a":1,"more":1.5e3}', False),
        (r'{"a":1,"b":"\u0061"}', False),
        (r'{"\u0061":1}', False),
        ('{"a":1,"a":2}', False),
        ('{"a":"1"}', False),
        ('{"a":1.0}', False),
        ('{"a":1}{"a":2}', False),
        ("null", False),
    ],
)
def test_what_is_plain(line, took):
    many = [f'{{"a":{n},"b":"b","c":0.5}}' for n in range(20)]
    found = both(SHORT, "\n".join([*many, line, *many]).encode())
    assert found is not None
    assert found.left.tolist() == ([] if took else [20])


def test_a_record_that_is_too_long_is_left():
    reader = replace(SHORT, max_record_bytes=40)
    found = both(reader, b'{"a":1}\n{"a":2,"b":"%s"}\n{"a":3}' % (b"x" * 40))
    assert found is not None
    assert found.left.tolist() == [1]


def test_where_most_are_left_the_loop_gives_up():
    assert both(SHORT, b'{"a":"1"}\n' * 2000) is None
    found = both(SHORT, (b'{"a":1}\n' * 9 + b'{"a":"1"}\n') * 2000)
    assert found is not None
    assert found.left.size == 2000


def test_texts_may_take_all_of_the_room():
    lines = [json.dumps({"a": n, "b": "é" * (n * 50)}, ensure_ascii=False) for n in range(300)]
    found = both(SHORT, ("\n".join(lines) + "\n").encode())
    assert found is not None
    assert found.left.size == 0


@pytest.mark.parametrize("columns", [{"a": "json"}, {"a": "list<item: int64>"}, {"a": pa.decimal128(10, 2)}])
def test_what_the_loop_does_not_know_is_left(columns):
    kinds = {name: pa.list_(pa.int64()) if str(kind).startswith("list") else kind for name, kind in columns.items()}
    assert both(JsonLines(columns=kinds), b'{"a":1}\n') is None
