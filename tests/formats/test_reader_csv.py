"""Reading CSV: what is right comes out typed and numbered, what is wrong is set apart with its reason."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common import excerpts
from ingestlab.formats.common.bytes import Limits, load
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.csv import arrow as arrowcsv
from ingestlab.formats.csv import bad_cells as badcells
from ingestlab.formats.csv import parsing
from ingestlab.formats.csv.body import Body
from ingestlab.formats.csv.reader import Csv
from ingestlab.interfaces import Bad, Records, Store
from ingestlab.lake.storage.store import open_store

ALARMS = Csv(
    columns={
        "id": "int64",
        "station_id": "int64",
        "start_time": "timestamp[s]",
        "end_time": "timestamp[s]",
        "value": "float64",
    },
    null_values=("", "999999"),
)
HEADER = b"id,station_id,start_time,end_time,value\n"
LINE = b"10167721,1161114059,2017-10-23 12:00:25,2017-10-23 12:00:26,31.5\n"
AB = Csv(columns={"a": "int64", "b": "string"})

Write = Callable[..., Piece]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(data: bytes, name: str = "t.csv") -> Piece:
        (tmp_path / name).write_bytes(data)
        return Piece(uri=f"u:{name}", path=name, name=name, sha256="0" * 64)

    return write_file


def failure(reader: Csv, piece: Piece, store: Store) -> TerminalError:
    with pytest.raises(TerminalError) as caught:
        reader.read(piece, store)
    error = caught.value
    assert error.problem
    assert error.code != "unknown"
    assert error.fix
    return error


# What is right


def test_a_file_of_the_declared_shape(store: Store, write: Write) -> None:
    records = ALARMS.read(write(HEADER + LINE + LINE.replace(b"31.5", b"999999")), store)
    assert records.table.schema.types == [pa.int64(), pa.int64(), pa.timestamp("s"), pa.timestamp("s"), pa.float64()]
    assert records.table["value"].to_pylist() == [31.5, None]
    assert records.table["start_time"][0].as_py() == datetime(2017, 10, 23, 12, 0, 25)
    assert records.rows.dtype == "int64"
    assert records.rows.tolist() == [0, 1]
    assert records.bad == ()
    assert records.raw([1, 7]) == {1: LINE.replace(b"31.5", b"999999").decode().strip()}


def test_the_table_has_the_declared_order_whatever_the_file_has(store: Store, write: Write) -> None:
    records = AB.read(write(b"b,a\nx,1\n"), store)
    assert records.table.to_pylist() == [{"a": 1, "b": "x"}]
    assert records.table.column_names == ["a", "b"]


def test_blank_lines_are_not_counted(store: Store, write: Write) -> None:
    records = AB.read(write(b"\n\r\na,b\n\n1,x\n\n\n2\n3,y\n\n"), store)
    assert records.rows.tolist() == [0, 2]
    assert records.bad == (Bad(1, "columns", None, "1 fields, expected 2"),)
    assert records.raw([0, 1, 2]) == {0: "1,x", 1: "2", 2: "3,y"}


def test_byte_order_mark_tabs_and_crlf(store: Store, write: Write) -> None:
    reader = Csv(columns={"a": "int64", "b": "string"}, delimiter="\t")
    records = reader.read(write(b'\xef\xbb\xbf"a"\tb\r\n1\tx,y\r\n'), store)
    assert records.table.to_pylist() == [{"a": 1, "b": "x,y"}]
    assert records.raw([0]) == {0: "1\tx,y"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "gb18030"])
def test_other_encodings(store: Store, write: Write, encoding: str) -> None:
    reader = Csv(columns={"name": "string"}, encoding=encoding)
    assert reader.read(write("name\nü\n".encode(encoding)), store).table["name"].to_pylist() == ["ü"]


def test_types_are_inferred_where_none_are_declared(store: Store, write: Write) -> None:
    records = Csv().read(write(b"n,x,t,e\n1,1.5,2017-10-23,\n2,,2017-10-24,NA\n"), store)
    assert records.table.schema.types == [pa.int64(), pa.float64(), pa.date32(), pa.string()]
    assert records.table["e"].null_count == 2


def test_a_timestamp_format(store: Store, write: Write) -> None:
    reader = Csv(columns={"t": "timestamp[s]"}, timestamp_format="%d/%m/%Y %H:%M")
    records = reader.read(write(b"t\n23/10/2017 12:00\n2017-10-23\n24/10/2017 00:30\n"), store)
    assert records.table["t"].to_pylist() == [datetime(2017, 10, 23, 12), datetime(2017, 10, 24, 0, 30)]
    assert records.bad == (Bad(1, "type", "t", "2017-10-23"),)


@pytest.mark.parametrize("data", [b"a,b", b"a,b\r\n\r\n\n"])
def test_a_header_alone_is_no_rows_and_a_note(store: Store, write: Write, data: bytes) -> None:
    records = AB.read(write(data), store)
    assert records.table.schema == pa.schema({"a": pa.int64(), "b": pa.string()})
    assert records.table.num_rows == 0
    assert records.facts["note"] == "a header alone: no records"


def test_a_name_that_comes_twice_is_numbered_and_the_declared_columns_are_read(store: Store, write: Write) -> None:
    records = AB.read(write(b"a,b,a\n1,2,3\n"), store)
    assert records.table.to_pylist() == [{"a": 1, "b": "2"}]
    assert records.facts["names"] == "a again: a_2"
    wanted = Csv(columns={"a": "int64", "a_2": "int64"}, extra_columns="drop")
    assert wanted.read(write(b"a,b,a\n1,2,3\n"), store).table.to_pylist() == [{"a": 1, "a_2": 3}]


def test_extra_columns_can_be_dropped(store: Store, write: Write) -> None:
    reader = Csv(columns={"a": "int64"}, extra_columns="drop")
    records = reader.read(write(b"x,a,y\noops,1,2\n,2,\nu,v,w\n"), store)
    assert records.table.to_pylist() == [{"a": 1}, {"a": 2}]
    assert records.bad == (Bad(2, "type", "a", "v"),)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compression_is_told_by_the_bytes_and_members_may_follow_each_other(
    store: Store, write: Write, pack: Callable[[bytes], bytes]
) -> None:
    records = AB.read(write(pack(b"a,b\n1,x\n") + pack(b"2,y\n"), "plain.csv"), store)
    assert records.table["a"].to_pylist() == [1, 2]
    assert records.raw([1]) == {1: "2,y"}


def test_readers_are_values() -> None:
    again = Csv(columns={"a": pa.int64(), "b": "string"})
    assert again == AB
    assert hash(again) == hash(AB)
    assert pickle.loads(pickle.dumps(AB)) == AB
    assert Csv(columns={"a": "int64"}) != Csv(columns={"a": "int32"})


# What is wrong in single records


def test_every_bad_record_is_set_apart_with_its_reason_and_its_text(store: Store, write: Write) -> None:
    lines = [LINE] * 8
    lines[1] = b"x1,1161114059,2017-10-23 12:00:25,not a time,1\n"
    lines[3] = b"1,2,3\n"
    lines[4] = LINE.replace(b"31.5", b"31.5,more,and more")
    lines[6] = LINE.replace(b"31.5", b"31;5")
    records = ALARMS.read(write(HEADER + b"".join(lines)), store)
    assert records.rows.tolist() == [0, 2, 5, 7]
    assert records.bad == (
        Bad(1, "type", "id", "x1"),
        Bad(1, "type", "end_time", "not a time"),
        Bad(3, "columns", None, "3 fields, expected 5"),
        Bad(4, "columns", None, "7 fields, expected 5"),
        Bad(6, "type", "value", "31;5"),
    )
    assert records.raw(b.row for b in records.bad) == {i: lines[i].decode().strip() for i in (1, 3, 4, 6)}


def test_rows_of_a_later_piece_are_numbered_in_the_file(store: Store, write: Write) -> None:
    data = b"a,b\n1,x\nzwei,y\n3\n4,z\n"
    start = data.index(b"zwei")
    piece = write(data).model_copy(update={"start": start, "first_row": 1})
    records = AB.read(piece, store)
    assert records.rows.tolist() == [3]
    assert [(b.row, b.rule) for b in records.bad] == [(1, "type"), (2, "columns")]
    assert records.raw([0, 1, 2, 3]) == {1: "zwei,y", 2: "3", 3: "4,z"}


def test_all_records_bad_is_not_a_bad_file(store: Store, write: Write) -> None:
    records = AB.read(write(b"a,b\nx,1\ny,2\n"), store)
    assert records.table.num_rows == 0
    assert records.table.schema == pa.schema({"a": pa.int64(), "b": pa.string()})
    assert [b.row for b in records.bad] == [0, 1]


def test_a_quote_that_never_closes_costs_one_line(store: Store, write: Write) -> None:
    records = AB.read(write(b'a,b\n1,5" pipe\n2,"open\n3,y\nfour,z\n5,q\n'), store)
    assert records.table.to_pylist() == [{"a": 1, "b": '5" pipe'}, {"a": 3, "b": "y"}, {"a": 5, "b": "q"}]
    assert records.bad == (Bad(1, "quote", None, '2,"open'), Bad(3, "type", "a", "four"))
    assert records.rows.tolist() == [0, 2, 4]


def test_a_field_of_ten_megabytes_costs_its_own_row(store: Store, write: Write) -> None:
    huge = b"x" * (10 << 20)
    for field, bad in (
        (b"2," + huge, Bad(1, "field_size", "b", "x" * 256 + "…")),
        (huge + b",x", Bad(1, "type", "a", "x" * 256 + "…")),
        (b'2,"' + huge.replace(b"xx", b"\n,") + b'"', Bad(1, "field_size", "b", "\n," * 128 + "…")),
        (b"2,x," + huge, Bad(1, "columns", None, "3 fields, expected 2")),
    ):
        records = AB.read(write(b"a,b\n1,x\n" + field + b"\n3,y\n"), store)
        assert records.table["a"].to_pylist() == [1, 3]
        assert records.rows.tolist() == [0, 2]
        assert records.bad == (bad,)
        raw = records.raw([1])[1]
        assert raw.endswith("…")
        assert len(raw.encode()) == excerpts.MAX_RAW + len("…".encode())


def test_the_raw_text_is_not_cut_within_a_character(store: Store, write: Write) -> None:
    records = AB.read(write(b"a,b\n1," + "é".encode() * 5_000 + b"\n"), store)
    assert records.raw([0])[0] == "1," + "é" * 2047 + "…"


CELL = st.one_of(
    st.sampled_from(["1", "-7", " 2", "2\t", "0x1F", "+1", "1.5", "1e400", "nan", "inf", "", "NA", " ", "9" * 30]),
    st.sampled_from(["2017-10-23", " 2017-10-23", "2017-10-23 12:00:25", "2017-10-23T12:00Z", "true", "TRUE", "tRue"]),
    st.text(alphabet='0123456789-+.eExX "é,\n', max_size=6),
)
KINDS = ["int64", "uint8", "float64", "float32", "bool", "timestamp[s]", "timestamp[us]", "date32", "string"]
KIND = st.sampled_from([*map(pa.type_for_alias, KINDS), pa.decimal128(9, 2), pa.timestamp("s", "UTC"), pa.time32("s")])


@settings(max_examples=examples(120), deadline=None)
@given(
    cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=40), kinds=st.tuples(KIND, KIND), trusted=st.booleans()
)
def test_the_bad_cells_are_those_that_pyarrow_refuses_one_by_one(
    cells: list[tuple[str, str]], kinds: tuple[pa.DataType, pa.DataType], trusted: bool
) -> None:
    """For any type and text; also where a pyarrow does not say which record it failed on."""
    layout = arrowcsv.Layout(
        ("a", "b"), dict(zip("ab", kinds, strict=True)), Dialect(), dict.fromkeys("ab", ("", "NA"))
    )

    def parsed(rows: list[tuple[str, str]]) -> parsing.Parsed:
        text = "".join(",".join('"' + c.replace('"', '""') + '"' for c in row) + "\n" for row in rows).encode()
        return parsing.parse(Body(text, 0, len(text), Dialect()), layout)

    def good(cell: str, kind: pa.DataType) -> bool:
        text = ('"' + cell.replace('"', '""') + '"\n').encode()
        one = arrowcsv.Layout(("a",), {"a": kind}, Dialect(), {"a": ("", "NA")})
        try:
            arrowcsv.convert(Body(text, 0, len(text), Dialect()), one)
        except pa.ArrowInvalid:
            return False
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(badcells, "_CHUNK", 8)
        if not trusted:
            patch.setattr(badcells, "_names_rows", lambda: False)
        result = parsed(cells)
    wrong = {(i, "ab"[j]) for i, row in enumerate(cells) for j in (0, 1) if not good(row[j], kinds[j])}
    assert {(b.row, b.column) for b in result.bad} == wrong
    clean = [i for i in range(len(cells)) if i not in {i for i, _ in wrong}]
    assert result.kept.tolist() == clean
    if clean:
        alone = parsed([cells[i] for i in clean])
        assert not alone.bad
        assert str(result.table.to_pylist()) == str(alone.table.to_pylist())  # as text: NaN is not NaN


def test_this_pyarrow_names_the_record_that_it_fails_on() -> None:
    """Else finding bad records is right but slow."""
    assert badcells._names_rows()


def test_many_bad_records_are_found_in_seconds(store: Store, write: Write) -> None:
    """2% of 100,000 records, half of them such that only the parser can tell; without bisection: minutes."""
    lines = [LINE] * 100_000
    for i in range(0, 100_000, 50):
        lines[i] = LINE.replace(b"31.5", b"oops" if i % 100 else b"3.1.5")
    piece = write(HEADER + b"".join(lines))
    began = time.process_time()
    records = ALARMS.read(piece, store)
    assert time.process_time() - began < 15
    assert [b.row for b in records.bad] == list(range(0, 100_000, 50))
    assert records.table.num_rows == 98_000
    assert pc.all(pc.equal(records.table["value"], 31.5)).as_py()


# What is wrong with a whole file


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "an empty file (0 bytes)"),
        (gzip.compress(b""), "an empty file (0 bytes)"),
        (b"\n\n", "no 'a', 'b' among "),
        (b"a,c\n1,2\n", "no 'b' among 'a', 'c'"),
        (b"a,b,c,d\n1,2,3,4\n", "also 'c', 'd'"),
        (b"\x89PNG\r\n\x1a\n\0\0", "what looks like a PNG image"),
        (b"PK\x03\x04rest", "what looks like a ZIP archive (or an Excel or Word file)"),
        (b"%PDF-1.7\n", "what looks like a PDF document"),
        (b"\x7fELF\x02", "what looks like an ELF program"),
        (gzip.compress(b"\x7fELF\x02"), "what looks like an ELF program"),
        (b"a,b\n1,\x00\n", "what looks like binary data (a NUL byte at offset 6)"),
        ("a,b\n1,x\n".encode("utf-16"), "what looks like text in UTF-16"),
        (b"a,b\n1,\xc3\xa9\n2,\xe9\n3,\xe9\n", "byte 0xE9 at offset 11, in line 3 (invalid continuation byte)"),
        (b"a,b\n1,\xc3", "byte 0xC3 at offset 6, in line 2 (unexpected end of data)"),
    ],
)
def test_bad_files_say_what_came(store: Store, write: Write, data: bytes, got: str) -> None:
    error = failure(AB, write(data), store)
    assert got in error.reason
    assert "t.csv" in error.reason


def test_missing_columns_hint_at_another_delimiter(store: Store, write: Write) -> None:
    assert failure(AB, write(b"a;b\n1;x\n"), store).fix == "The delimiter may be ';': Csv(delimiter=';')."


def test_an_encoding_error_in_a_later_piece_counts_from_the_file_s_begin(store: Store, write: Write) -> None:
    piece = write(b"a,b\n1,x\n2,\xe9\n3,\xe9\n").model_copy(update={"start": 8, "first_row": 1})
    assert "byte 0xE9 at offset 10" in failure(AB, piece, store).reason


def test_utf16_is_recommended_where_it_was_sent(store: Store, write: Write) -> None:
    assert "utf-16" in failure(AB, write("a,b\n1,x\n".encode("utf-16")), store).fix


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_truncated_archives(store: Store, write: Write, pack: Callable[[bytes], bytes]) -> None:
    data = pack(HEADER + b"".join(b"%d,1,2017-10-23,2017-10-23,%d\n" % (i, i * i) for i in range(5_000)))
    error = failure(ALARMS, write(data[: len(data) // 2], "t.csv.gz"), store)
    assert "a truncated one, after " in error.reason
    assert "not a whole" in error.reason
    assert "Fetch it again" in error.fix


def test_a_damaged_gzip(store: Store, write: Write) -> None:
    data = bytearray(gzip.compress(HEADER + LINE * 1_000))
    data[-6] ^= 0xFF  # the checksum
    error = failure(ALARMS, write(bytes(data), "t.csv.zst"), store)
    assert error.problem == "t.csv.zst is not a whole gzip file"
    assert "a damaged one" in error.reason
    assert "Its name says zstd" in error.fix


def test_a_gzip_bomb_is_given_up_long_before_it_is_expanded(store: Store, write: Write) -> None:
    bomb = gzip.compress(b"0" * (64 << 20), 9)
    error = failure(AB, write(bomb), store)
    assert "decompression bomb" in error.reason
    assert "expands to more than 16,777,216 bytes" in error.reason
    assert "max_expansion" in error.fix


def test_limits_of_expansion_are_the_reader_s_own(store: Store, write: Write) -> None:
    piece = write(gzip.compress(b"a,b\n" + b"1,x\n" * 100_000))
    assert load(piece, store, Limits(max_expansion=1)), "below the floor no ratio is too high"
    with pytest.raises(TerminalError, match="more than 1,000 bytes"):
        load(piece, store, Limits(max_expanded_bytes=1000))
    assert "bomb" in failure(Csv(limits=Limits(max_expansion=10, floor=1024)), piece, store).reason


# What is wrong with a declaration


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ({"columns": {"a": "integer"}}, "'integer'"),
        ({"columns": {"a": pa.list_(pa.int64())}}, "list<"),
        ({"columns": {}}, "none at all"),
        ({"delimiter": "||"}, "'||'"),
        ({"delimiter": "\n"}, r"'\n'"),
        ({"quote": ","}, "','"),
        ({"encoding": "utf-9"}, "'utf-9'"),
        ({"columns": {"a": 5}}, "5"),
    ],
)
def test_a_wrong_declaration_fails_where_it_is_made(wrong: dict[str, Any], got: str) -> None:
    with pytest.raises(TerminalError) as caught:
        Csv(**wrong)
    assert got in caught.value.reason


def test_records_hold_what_the_protocol_promises(store: Store, write: Write) -> None:
    records = ALARMS.read(write(HEADER + LINE * 3 + b"bad\n"), store)
    assert isinstance(records, Records)
    assert len(records.rows) == records.table.num_rows
    assert not set(records.rows.tolist()) & {b.row for b in records.bad}
