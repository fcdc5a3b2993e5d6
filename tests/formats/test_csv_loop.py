"""The compiled loop and pyarrow's parser make the same of every text: they are run side by side."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.csv_ways import check
from support.selection import examples
from support.workers import until

from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.nulls import EMPTY, KNOWN, textual
from ingestlab.formats.compiled import columns, loader
from ingestlab.formats.csv import fast, parsing
from ingestlab.formats.csv.arrow import Layout
from ingestlab.formats.csv.body import Body

pytest.importorskip("numba")

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TIMES = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")]
KINDS = [
    *INTEGERS, pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.date32(), *TIMES,
]  # fmt: skip
FORMATS = [
    None,
    "%d/%m/%Y %H:%M:%S",
    "%Y-%m-%d",
    "%Y%m%d%H%M%S",
    "%d.%m.%Y",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S%z",
]
ODD = [
    "", "NA", "nan", "NaN", "null", "N/A", "-", "+", ".", "-.", " ", " 1", "1 ", "+5", "-0", "007", "-007", "0x10",
    "0xff", "0xFFFFFFFFFFFFFFFF", "1e5", "1E-5", "1e", "1e+", "1.", ".5", "-.5e-3", "1e400", "1e-400", "inf",
    "-Infinity", "1_0", "127", "128", "-128", "-129", "255", "256", "32767", "32768", "-32769", "65535", "65536",
    "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615",
    "18446744073709551616", "00000000000000000000000001", "12345678", "123456789", "1234567890123456789", "true",
    "True", "TRUE", "tRUE", "false", "False", "FALSE", "1", "0", "yes", "t", "trues", "2020-02-29", "2021-02-29",
    "1900-02-29", "2000-02-29", "2020-13-01", "2020-00-10", "2020-01-00", "2020-01-32", "0000-01-01", "0001-01-01",
    "9999-12-31", "2020-1-1", "20200101", "2020-01-01T", "2020-01-01T10", "2020-01-01T10:20", "2020-01-01 10:20",
    "2020-01-01T10:20:30", "2020-01-01t10:20:30", "2020-01-01 10:20:30", "2020-01-01T24:00:00",
    "2020-01-01T23:60:00", "2020-01-01T23:59:60", "2020-01-01T10:20:30Z", "2020-01-01 10:20Z", "2020-01-01Z",
    "2020-01-01T10:20:30+00:00", "2020-01-01T10:20:30-0500", "2020-01-01T10:20:30.", "2020-01-01T10:20:30.1",
    "2020-01-01T10:20:30.123", "2020-01-01T10:20:30.1234", "2020-01-01T10:20:30.123456Z",
    "2020-01-01T10:20:30.123456789", "2020-01-01T10:20:30.1234567890", "1677-09-21T00:12:43", "1678-01-01 00:00:00",
    "2262-04-11T23:47:17", "31/02/2020 10:00:00", "29/02/2020 23:59:59", "1/2/2020 1:2:3", "01/02/0000 00:00:00",
    "01/02/19 10:00:00", "20200229235959", "20210229235959", "29.02.2020", "2020-01-01T10:20:30.5", "0.1",
    "3.4028236e38", "1.4e-45", "16777217", "0.30000000000000004", "9007199254740993",
    "123456789012345678901234567890", "5e-324", "2.2250738585072011e-308", "1.7976931348623157e308",
    "1.7976931348623159e308", "8.5e37", "1.17549435e-38", "é", "٣", "日本", "1\u00a0",
]  # fmt: skip


def _digits(kind: pa.DataType) -> st.SearchStrategy[str]:
    """Texts that are mostly values of a type."""
    if pa.types.is_integer(kind):
        low, high = (-(1 << kind.bit_width - 1), (1 << kind.bit_width - 1) - 1)
        return st.integers(*((low, high) if pa.types.is_signed_integer(kind) else (0, 2 * high + 1))).map(str)
    if pa.types.is_floating(kind):
        bits = st.integers(0, (1 << 64) - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0])
        return st.one_of(
            bits.map(repr),
            st.floats(width=32).map(repr),
            st.builds("{}.{}".format, st.integers(-99999, 99999), st.integers(0, 10**9)),
            st.builds("{}e{}".format, st.integers(0, 10**19), st.integers(-330, 310)),
        )
    if pa.types.is_boolean(kind):
        return st.sampled_from(["true", "false", "True", "FALSE", "0", "1"])
    if textual(kind):
        return st.text("abcdefghijklmnop é日-0", max_size=40)
    if pa.types.is_date(kind):
        return st.dates().map(str)
    zone = "Z" if kind.tz else ""
    return st.builds(
        lambda time, mark, digits: (
            time.isoformat(mark, "seconds") + (f".{time.microsecond:06d}"[: digits + 1] if digits else "") + zone
        ),
        st.datetimes(),
        st.sampled_from("T "),
        st.sampled_from([0, 0, 0, 1, 3, 6]),
    )


def _formatted(timestamp_format: str) -> st.SearchStrategy[str]:
    return st.datetimes().map(lambda time: time.strftime(timestamp_format))


@st.composite
def texts(draw):
    """A text, how it is laid out, and what surrounds it."""
    delimiter = draw(st.sampled_from(",,,;\t| ^"))
    quote = draw(st.sampled_from(['"', '"', '"', "'", None]))
    timestamp_format = draw(st.sampled_from([None, None, *FORMATS]))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    names = [draw(st.sampled_from(["c{}", "{}"])).format(i) for i in range(len(kinds))]
    quoted = [f"{quote}{name}{quote}" if quote else name for name in names]
    marks = st.sampled_from(
        [(), EMPTY, KNOWN, KNOWN, ("", "NA"), ("-1", "0", ""), ("-", "true", "2020-01-01"), ("é", "a b")]
    )
    wanted = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    types = {name: kinds[names.index(name)] for name in wanted}
    one = draw(marks)
    nulls = {name: (draw(marks) if draw(st.booleans()) else one) for name in wanted}
    good = [_digits(kind) for kind in kinds]
    if timestamp_format:
        good = [
            _formatted(timestamp_format) if pa.types.is_timestamp(k) else g for k, g in zip(kinds, good, strict=True)
        ]
    oddity = draw(st.sampled_from([0, 0, 5, 20]))  # in a hundred
    quoting = draw(st.sampled_from([0, 0, 30, 100])) if quote else 0
    dice = st.integers(0, 99)
    records = []
    for _ in range(draw(st.integers(0, 12))):
        fields = []
        for value in good:
            text = draw(st.sampled_from(ODD)) if draw(dice) < oddity else draw(value)
            if draw(dice) < quoting:
                inner = draw(st.sampled_from(["", "", "", delimiter, (quote or "") * 2, "\n", quote or ""]))
                text = f"{quote}{text}{inner}{quote}"
            fields.append(text)
        if draw(dice) < oddity:
            fields = draw(st.sampled_from([fields[:-1], [*fields, "1"], [""], names, quoted, [quote or "x", *fields]]))
        records.append(delimiter.join(fields))
    ends = draw(st.sampled_from([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r", "\n\n", "\r\r\n"]]))
    text = "".join(record + draw(st.sampled_from(ends)) for record in records)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    dialect = Dialect(delimiter, quote)
    layout = Layout(tuple(names), types, dialect, nulls, timestamp_format)
    before, after = draw(st.sampled_from([0, 0, 3, 40])), draw(st.sampled_from([0, 0, 5, 40]))
    header = delimiter.join(draw(st.sampled_from([[], names, quoted]))).encode()
    data = b"7" * before + text.encode() + b"7" * after
    return Body(data, before, len(data) - after, dialect, len(names), header), layout


def one_column(kind: pa.DataType, values, marks=KNOWN, timestamp_format=None) -> tuple[Body, Layout]:
    """A file with one value a line, and a second column that is not wanted."""
    data = "".join(f"{value},x\n" for value in values).encode()
    layout = Layout(("a", "b"), {"a": kind}, Dialect(), {"a": marks}, timestamp_format)
    return Body(data, 0, len(data), Dialect(), 2, b"a,b"), layout


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(texts(), st.sampled_from([32 << 10, 20, 64, 200]), st.sampled_from([64 << 10, 1, 30]))
def test_any_text_comes_out_the_same(case, indexed, heap):
    body, layout = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_INDEXED", indexed)
        patch.setattr(columns, "_HEAP", heap)
        check(body, layout)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.text('01-.,,;""\n\n\r aTe:é', max_size=80),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from([(), EMPTY, KNOWN]),
    st.sampled_from(['"', None]),
)
def test_any_heap_of_characters_comes_out_the_same(text, kinds, marks, quote):
    names = tuple(f"c{i}" for i in range(len(kinds)))
    data, dialect = text.encode(), Dialect(quote=quote)
    check(
        Body(data, 0, len(data), dialect, len(names), b"0"),
        Layout(names, dict(zip(names, kinds, strict=True)), dialect, dict.fromkeys(names, marks)),
    )


@pytest.mark.slow("long work")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_odd_value_comes_out_the_same(kind):
    for value in ODD:
        check(*one_column(kind, [value]))
    for marks in (KNOWN, ("-1", "0", "true", "")):
        check(*one_column(kind, [f'"{value}"' for value in ODD], marks))


@pytest.mark.parametrize("kind", TIMES, ids=str)
@pytest.mark.parametrize("timestamp_format", FORMATS[1:])
def test_every_odd_time_of_a_format_comes_out_the_same(kind, timestamp_format):
    check(*one_column(kind, ODD, timestamp_format=timestamp_format))


PLAIN = [
    *((kind, ["0", "-7" if pa.types.is_signed_integer(kind) else "7", "127", "007", ""]) for kind in INTEGERS),
    (pa.int64(), ["9223372036854775807", "-9223372036854775808", "1234567890123456789", "123456789", "NA"]),
    (pa.uint64(), ["9223372036854775808", "9999999999999999999"]),
    (pa.float64(), ["1", "-0.0", "1.5", ".5", "5.", "1e5", "-2.5E-7", "0.1", "0.30000000000000004", "6.02214076e+23"]),
    (pa.float64(), ["1.7976931348623157e308", "2.2250738585072014e-308", "12345678.12345678", "0.000012345678901234"]),
    (pa.float32(), ["0.1", "-1.5", "3.4e37", "1.0000001", "NaN"]),
    (pa.bool_(), ["true", "True", "TRUE", "false", "False", "FALSE", "0", "1", ""]),
    (pa.string(), ["", "a", "NA", "with blanks", "é日本", "12345678", "1234567812345678", "12345678123456781"]),
    (pa.large_string(), ["", "a", "x" * 1000]),
    (pa.date32(), ["0001-01-01", "1900-02-28", "2000-02-29", "2024-02-29", "9999-12-31", "null"]),
    (pa.timestamp("s"), ["2024-02-29", "2024-02-29 10:20", "2024-02-29T10:20:30", ""]),
    (pa.timestamp("ms"), ["2024-02-29 10:20:30.1", "2024-02-29 10:20:30.123"]),
    (pa.timestamp("ns"), ["1678-01-01", "2261-12-31 23:59:59.999999999"]),
    (pa.timestamp("us", "Europe/Berlin"), ["2024-02-29T10:20:30Z", "2024-02-29 10:20Z", "2024-02-29 10:20:30.5Z"]),
]


@pytest.mark.parametrize(("kind", "values"), PLAIN, ids=str)
def test_plain_values_are_not_left_to_pyarrow(kind, values):
    for written in (values, [f'"{value}"' for value in values]):
        taken = check(*one_column(kind, written))
        assert taken is not None
        assert not taken.left.size


@pytest.mark.parametrize(
    ("timestamp_format", "value"),
    [
        ("%d/%m/%Y %H:%M:%S", "29/02/2024 23:59:59"),
        ("%Y%m%d", "20240229"),
        ("%d.%m.%Y %R", "29.02.2024 23:59"),
        ("%F %T", "2024-02-29 23:59:59"),
        ("%Y-%m-%dT%H:%M:%S.%f", "2024-02-29T23:59:59.5"),
    ],
)
def test_plain_times_of_a_format_are_not_left_to_pyarrow(timestamp_format, value):
    taken = check(*one_column(pa.timestamp("us"), [value, "", "NA"], timestamp_format=timestamp_format))
    assert taken is not None
    assert not taken.left.size


def test_floats_are_those_of_python_to_the_last_bit():
    rng = np.random.default_rng(7)
    numbers = rng.integers(0, 1 << 64, 20_000, np.uint64).view(np.float64)
    numbers = [*numbers[np.isfinite(numbers)].tolist(), *rng.normal(0, 100, 20_000).tolist()]
    halves = [
        f"{m}e{e}" for m, e in zip(rng.integers(1 << 52, 1 << 63, 5000), rng.integers(-40, 40, 5000), strict=True)
    ]
    written = [*map(repr, numbers), *(f"{number:.3f}" for number in numbers[-5000:]), *halves]
    taken = check(*one_column(pa.float64(), written))
    assert taken is not None
    assert taken.left.size < len(written) / 500  # those below the least normal one
    read = taken.table["a"].to_numpy()
    assert np.array_equal(read.view(np.int64), np.array([float(written[i]) for i in taken.kept]).view(np.int64))


def test_halves_between_two_float32s_round_as_the_text_says():
    middle = [np.float32(x) for x in (1.5, 0.1, 1e10, 3e-20)]
    exact = [(float(x) + float(np.nextafter(x, np.float32(np.inf)))) / 2 for x in middle]
    written = (
        [f"{number:.40f}"[:18] for number in exact] + [repr(number) for number in exact] + ["16777217", "16777219"]
    )
    check(*one_column(pa.float32(), written))


def records(count: int, odd: dict[int, str]) -> Body:
    """So many records of a number and a text, some replaced."""
    data = "".join(odd.get(i, f"{i},text {i},{i / 8}") + "\n" for i in range(count)).encode()
    return Body(data, 0, len(data), Dialect(), 3, b"a,b,c")


THREE = Layout(
    ("a", "b", "c"), {"c": pa.float64(), "b": pa.string(), "a": pa.int32()}, Dialect(), {"a": KNOWN, "b": EMPTY}
)


@pytest.mark.parametrize(
    ("odd", "left"),
    [
        ({3: '3,"say ""no""",1'}, 1),
        ({3: '3,"two\nlines",1', 9: "9,,"}, 2),
        ({3: "3,x", 4: "4,x,1,2", 5: "five,x,1", 6: "6,x,one"}, 4),
        ({0: " 0,x,1", 999: "2147483648,x,1"}, 2),
        ({5: "a,b,c", 7: "a,b,c"}, 2),
        (dict.fromkeys(range(0, 1000, 4), "x,x,x"), 250),
    ],
    ids=["quotes", "lines", "bad", "ends", "headers", "many"],
)
def test_records_that_are_left_come_back_in_their_places(odd, left):
    taken = check(records(1000, odd), THREE)
    assert taken is not None
    assert taken.left.tolist() == sorted(odd)
    assert taken.left.size == left


@pytest.mark.parametrize(
    "odd",
    [{i: f'{i},"x""y",1' for i in range(900)}, {7: '7,5" pipe,1'}, {7: '7,"x"y,1'}, {999: '999,"x'}],
    ids=["all", "inner", "after", "open"],
)
def test_a_body_is_left_where_that_is_safer(odd):
    assert check(records(1000, odd), THREE) is None


def test_a_header_that_passes_for_a_record_is_one_until_another_fails():
    for odd in ({5: "1,2,3"}, {5: "1,2,3", 9: "nine,x,1"}):
        body = replace(records(20, odd), header=b"1,2,3")
        check(body, THREE)
        check(body, replace(THREE, types=dict.fromkeys("abc", pa.string())))


@pytest.mark.parametrize(
    "layout",
    [
        replace(THREE, types={"a": pa.decimal128(10, 2)}),
        replace(THREE, types={"a": pa.time32("s")}),
        replace(THREE, types={"a": pa.timestamp("s")}, timestamp_format="%d %b %Y"),
        replace(THREE, types={"a": pa.timestamp("s", "UTC")}, timestamp_format="%Y-%m-%d %H:%M:%S%z"),
        replace(THREE, dialect=Dialect(comment="#")),
    ],
)
def test_what_the_loop_does_not_know_is_left(layout):
    loader.warm()
    assert fast.take(replace(records(10, {}), dialect=layout.dialect), layout) is None


def test_without_numba_pyarrow_reads_all(monkeypatch):
    monkeypatch.setattr(loader, "_loaded", None)
    monkeypatch.setattr(loader, "PACKAGES", ("no-such-package",))
    assert not loader.installed()
    loader.warm()
    assert fast.take(records(10, {}), THREE) is None
    assert parsing.parse(records(10, {}), THREE).total == 10


def test_a_loop_that_cannot_be_compiled_is_done_without(monkeypatch, caplog):
    monkeypatch.setattr(loader, "_loaded", None)
    monkeypatch.setattr(loader, "name", lambda: "another")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    loader.warm()
    assert fast.take(records(10, {}), THREE) is None
    assert "could not be compiled" in caplog.text


def test_a_process_that_nobody_warmed_loads_the_loop_after_a_while(monkeypatch):
    loader.warm()  # it is compiled before
    monkeypatch.setattr(loader, "_loaded", None)
    monkeypatch.setattr(loader, "_read_slowly", 0)
    monkeypatch.setattr(loader, "_MUCH", 2000)
    for _ in range(5):
        parsing.parse(records(50, {}), THREE)
    until(lambda: loader._loaded is not None, 20, "the loop")


def test_it_is_compiled_once_and_kept_where_nobody_else_writes(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(loader, "__file__", str(folder / "loader.py"))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__").chmod(0o777)
    assert loader._folder() == tmp_path / "ingestlab"
    assert (tmp_path / "ingestlab").stat().st_mode & 0o077 == 0
