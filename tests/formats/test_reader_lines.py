"""Raw logs: records of one line or several, by RE2 or by Python."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Lines
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.interfaces import Bad, Records
from ingestlab.lake.storage.store import LocalStore

TRACE = Lines(
    pattern=r"(?s)(?P<time>\S+ \S+) (?P<level>[A-Z]+) (?P<message>.*)",
    columns={"time": "timestamp[s]"},
    start=r"\d{4}-\d\d-\d\d ",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


def read(folder: Path, data: bytes | str, reader: Lines) -> Records:
    (folder / "f").write_bytes(data.encode() if isinstance(data, str) else data)
    return reader.read(Piece(uri="u", path="f", name="f.log", sha256="0"), LocalStore(str(folder)))


def test_records_of_several_lines(folder):
    data = (
        "left over from yesterday\n"
        "2020-01-01 00:00:00 INFO up\r\n"
        "2020-01-01 00:00:01 ERROR boom\n  at x\n\n  at y\n"
        "2020-13-01 00:00:02 WARN z\n"
    )
    records = read(folder, data, TRACE)
    assert records.table["message"].to_pylist() == ["up", "boom\n  at x\n\n  at y"]
    assert records.rows.tolist() == [1, 2]
    assert records.bad == (
        Bad(0, "pattern", None, "left over from yesterday"),
        Bad(3, "type", "time", "2020-13-01 00:00:02"),
    )
    assert records.raw([2]) == {2: "2020-01-01 00:00:01 ERROR boom\n  at x\n\n  at y"}


@pytest.mark.parametrize("preamble", ["", "one\ntwo\n"])
@pytest.mark.parametrize("start", [r"\d{4}-", r"(?=\d{4})\d{4}-"], ids=["RE2", "Python"])
def test_a_file_is_cut_before_starting_lines_only(folder, preamble, start, monkeypatch):
    reader = Lines(pattern=TRACE.pattern, start=start)
    text = preamble + "".join(f"2020-01-01 00:00:{i:02} INFO {i}\n  more\n\n  and more {i}\n" for i in range(60))
    (folder / "f").write_text(text)
    store = LocalStore(str(folder))
    file = FetchedFile(uri="u", path="f", name="f", size=len(text), sha256="0")
    monkeypatch.setattr("ingestlab.formats.common.linewise._READ", 37)  # lines and records go over the ends of blocks
    for size in (50, 200, 1000):
        pieces = reader.split(file, store, size)
        assert len(pieces) > 2
        for piece in pieces[1:]:
            assert text[piece.start :].startswith("2020-")
        messages, rows = [], []
        for piece in pieces:
            records = reader.read(piece, store)
            messages += records.table["message"].to_pylist()
            rows += [*records.rows.tolist(), *(b.row for b in records.bad)]
        assert messages == [f"{i}\n  more\n\n  and more {i}" for i in range(60)]
        assert sorted(rows) == list(range(60 + bool(preamble)))


def test_groups_that_take_no_part_and_null_values_are_null(folder):
    reader = Lines(pattern=r"(?P<a>\S+)(?: (?P<b>\d+))?", columns={"b": "int64"}, null_values=("", "-"))
    records = read(folder, "x 1\ny\n- 2\nz 3 4\n", reader)
    assert records.table.to_pylist() == [{"a": "x", "b": 1}, {"a": "y", "b": None}, {"a": None, "b": 2}]
    assert records.bad == (Bad(3, "pattern", None, "z 3 4"),)


def test_times_of_a_format_with_a_zone(folder):
    reader = Lines(
        pattern="(?P<t>.*)", columns={"t": pa.timestamp("s", "UTC")}, timestamp_format="%d/%b/%Y:%H:%M:%S %z"
    )
    lines = [
        "10/Oct/2000:13:55:36 -0700",
        "31/Feb/2017:10:00:00 +0000",
        "30/Sep/2000:29:00:00 +0000",
        "29/Feb/2000:23:00:00 -0100",
    ]
    records = read(folder, "\n".join(lines), reader)
    assert records.table["t"].to_pylist() == [
        datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC),
        datetime(2000, 3, 1, tzinfo=UTC),
    ]
    assert [b.row for b in records.bad] == [1, 2]


def test_a_type_with_a_zone_takes_text_without_for_utc(folder):
    reader = Lines(pattern="(?P<t>.*)", columns={"t": pa.timestamp("s", "UTC")})
    records = read(folder, "2020-01-01 00:00:00\n2020-01-01T00:00:00+02:00\n2020-01-01\nsoon\n", reader)
    assert [t.hour for t in records.table["t"].to_pylist()] == [0, 22, 0]
    assert [b.value for b in records.bad] == ["soon"]


def test_a_record_over_the_limit(folder):
    records = read(folder, "short\n" + "x" * 100 + "\nshort\n", Lines(max_record_bytes=50))
    assert records.rows.tolist() == [0, 2]
    assert [(b.row, b.rule) for b in records.bad] == [(1, "record_size")]


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "shift_jis", "utf-16", "utf-8-sig", "gb18030", "koi8_r"])
def test_undeclared_encodings_are_found_and_noted(folder, encoding):
    said = {
        "cp1251": "Привет, это обычный русский текст для проверки.",
        "koi8_r": "Привет, это обычный русский текст для проверки.",
        "shift_jis": "これは日本語のテキストです。",
        "gb18030": "这是一个中文文本。",
    }.get(encoding, "Größe, Straße, Übung: schön")
    records = read(folder, ("first\n" + said + "\n").encode(encoding), Lines(encoding=None))
    assert records.table["line"].to_pylist() == ["first", said]
    found = encoding.removesuffix("-sig")
    assert records.facts["encoding"] == (found if found.startswith("utf") else f"{found}, a guess")


@settings(max_examples=examples(100), derandomize=True, deadline=None)
@given(lines=st.lists(st.text(st.sampled_from("ab1 2-é\t"), max_size=9), max_size=9))
def test_re2_and_python_find_the_same(folder, lines):
    pattern = r"(?P<word>[ab]+)(?: (?P<number>\d+))?.*"
    text = "a 1\n" + "\n".join(lines)
    one = read(folder, text, Lines(pattern=pattern, columns={"number": "int8"}))
    two = read(folder, text, Lines(pattern="(?=)" + pattern, columns={"number": "int8"}))
    assert one.table.equals(two.table)
    assert one.bad == two.bad
