"""Parquet, text, web pages and images: what is particular to each."""

from __future__ import annotations

import gzip
import io
import struct
import sys
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ingestlab import Html, Images, Parquet, Text
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.parquet.footer import row_groups
from ingestlab.interfaces import Bad, Format, Records
from ingestlab.lake.storage.store import LocalStore

WORDS = "The stations raised many alarms in the night, and the engineers looked for the reason of them. "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def read(folder: Path, reader: Format, data: bytes) -> Records:
    (folder / "f").write_bytes(data)
    return reader.read(Piece(uri="u", path="f", name="f", sha256="ab"), LocalStore(str(folder)))


def refused(folder: Path, reader: Format, data: bytes) -> TerminalError:
    with pytest.raises(TerminalError) as caught:
        read(folder, reader, data)
    assert caught.value.fix
    return caught.value


def parquet(columns: dict[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


# Parquet


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"compression": "zstd", "data_page_version": "2.0"}]
)
def test_the_footer_is_understood_as_pyarrow_does(folder, options):
    data = parquet({"a": range(1000), "s": ["x"] * 1000, "l": [[1, 2]] * 1000}, row_group_size=300, **options)
    (folder / "f").write_bytes(data)
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    for i, group in enumerate(row_groups("f", LocalStore(str(folder)), len(data))):
        known = metadata.row_group(i)
        first = known.column(0)
        assert group.rows == known.num_rows
        assert group.begin in (first.dictionary_page_offset, first.data_page_offset)
        assert group.memory >= known.total_byte_size


def test_a_value_that_does_not_fit_is_set_apart(folder):
    records = read(
        folder, Parquet(columns={"a": "int8", "s": "int64"}), parquet({"a": [1, 300, 3], "s": ["1", "2", "x"]})
    )
    assert records.table.to_pylist() == [{"a": 1, "s": 1}]
    assert records.bad == (Bad(1, "type", "a", "300"), Bad(2, "type", "s", "x"))
    assert records.raw([1, 2]) == {1: '{"a": 300, "s": "2"}', 2: '{"a": 3, "s": "x"}'}


@pytest.mark.parametrize(("unit", "far"), [("s", 9 * 10**14), ("ms", -9 * 10**17), ("us", 9 * 10**18)])
def test_times_out_of_range_are_set_apart(folder, unit, far):
    times = pa.array([0, far], pa.timestamp(unit))
    records = read(folder, Parquet(), parquet({"t": times, "d": pa.array([0, 2_000_000_000], pa.date32())}))
    assert records.rows.tolist() == [0]
    assert {(b.row, b.rule) for b in records.bad} == {(1, "range")}
    assert records.raw([0, 1]).keys() == {0}


def test_columns_that_are_missing_or_not_declared(folder):
    data = parquet({"a": [1], "b": [2]})
    assert "no 'c'" in refused(folder, Parquet(columns={"c": "int64"}), data).reason
    assert "also 'b'" in refused(folder, Parquet(columns={"a": "int64"}), data).reason
    dropped = read(folder, Parquet(columns={"a": "int64"}, extra_columns="drop"), data)
    assert dropped.table.to_pylist() == [{"a": 1}]


def test_dictionaries_become_plain_and_empty_files_are_told(folder):
    words = pa.array(["x", "y", "x"]).dictionary_encode()
    assert read(folder, Parquet(), parquet({"s": words})).table.schema.field("s").type == pa.string()
    empty = read(folder, Parquet(), parquet({"s": pa.array([], pa.string())}))
    assert (len(empty.table), dict(empty.facts)) == (0, {"note": "0 rows"})
    assert "none at all" in refused(folder, Parquet(), parquet({})).reason


@pytest.mark.parametrize(
    "uri",
    [
        "file:///in/day=2024-01-31/who=a%253Ab%20c/n=__HIVE_DEFAULT_PARTITION__/f.parquet",
        "s3://day=1/day=2024-01-31/who=a%3Ab c/n=__HIVE_DEFAULT_PARTITION__/f.parquet",
        "zip://who=a%3Ab c/n=__HIVE_DEFAULT_PARTITION__/f.parquet::https://host/day=2024-01-31/x.zip?day=2",
    ],
)
def test_folders_of_the_path_are_columns_when_asked(folder, uri):
    (folder / "f").write_bytes(parquet({"v": [1, 2]}))
    piece, store = Piece(uri=uri, path="f", name="f", sha256="ab"), LocalStore(str(folder))
    found = Parquet(hive=True).read(piece, store)
    assert found.table.to_pylist()[1] == {"v": 2, "day": "2024-01-31", "who": "a:b c", "n": None}
    assert found.facts["folders"] == "day, who, n"
    declared = Parquet(hive=True, columns={"day": "date32", "v": "int8", "n": "int64"}).read(piece, store)
    assert declared.table.to_pylist()[0] == {"day": date(2024, 1, 31), "v": 1, "n": None, "who": "a:b c"}
    assert Parquet().read(piece, store).table.column_names == ["v"]
    with pytest.raises(TerminalError, match="with a value of type int64: 'a:b c'"):
        Parquet(hive=True, columns={"who": "int64", "v": "int64"}).read(piece, store)
    (folder / "f").write_bytes(parquet({"day": ["x"]}))
    with pytest.raises(TerminalError, match="'day' in both"):
        Parquet(hive=True).read(piece, store)


def test_text_told_by_its_differences_is_decoded_some_rows_at_a_time(folder):
    """A few bytes for each repetition: the footer says nothing of what they grow to."""
    words = [f"{'x' * 20_000}{i % 3}" for i in range(5000)]
    data = parquet(
        {"s": words, "n": range(5000)}, use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY", "n": "PLAIN"}
    )
    assert len(data) < 200_000
    assert read(folder, Parquet(), data).table["s"].to_pylist() == words
    assert "bytes in memory" in refused(folder, Parquet(max_group_bytes=10_000_000), data).reason


@pytest.mark.parametrize(("fine", "unit"), [(1, "us"), (3, "ns")])
def test_int96_takes_the_unit_that_fits_most_of_a_file(folder, fine, unit):
    """Two times beyond the reach of nanoseconds, and some between two microseconds; all pieces take one unit."""
    data = int96([YEAR_1, YEAR_9999, *[(EPOCH, 1_000_000_001 + i) for i in range(fine)]], row_group_size=2)
    (folder / "f").write_bytes(data)
    store, file = LocalStore(str(folder)), FetchedFile(uri="u", path="f", name="f", size=len(data), sha256="ab")
    found = [Parquet().read(piece, store) for piece in Parquet().split(file, store, 8)]
    assert len(found) == 1 + (fine + 1) // 2
    assert {one.table.schema.field("t").type for one in found} == {pa.timestamp(unit)}
    bad = [b.row for one in found for b in one.bad if b.rule == "range"]
    assert bad == ([0, 1] if unit == "ns" else [2])
    declared = read(folder, Parquet(columns={"t": "timestamp[us]"}), data)
    assert (declared.rows.tolist(), {b.row for b in declared.bad}) == ([0, 1], set(range(2, 2 + fine)))


def test_int96_beyond_the_years_is_set_apart_and_never_wrapped(folder):
    found = read(folder, Parquet(), int96([(1, 0), (EPOCH, 5_000), (2**31, 0), (2**32 - 1, 0)]))
    assert found.table["t"].to_pylist() == [datetime(1970, 1, 1, 0, 0, 0, 5)]
    assert next((b.row, b.rule, b.value) for b in found.bad) == (0, "range", "-210866716800 seconds from 1970")
    assert [b.row for b in found.bad] == [0, 2, 3]


def test_int96_in_lists(folder):
    data = int96([YEAR_1, (EPOCH, 0)], nested=True)
    assert read(folder, Parquet(), data).table["t"].to_pylist() == [[datetime(1, 1, 1)], [datetime(1970, 1, 1)]]
    assert "1 others" in refused(folder, Parquet(), int96([(1, 0), (EPOCH, 0)], nested=True)).reason


EPOCH, YEAR_1, YEAR_9999 = 2_440_588, (1_721_426, 0), (5_373_484, 1_000)  # Julian days; and nanoseconds in them


def int96(times: list[tuple[int, int]], *, nested: bool = False, **options: object) -> bytes:
    """A file of Julian days and nanoseconds, which no writer here makes beyond the reach of nanoseconds."""
    some = pa.array(range(1, len(times) + 1), pa.timestamp("ns"))
    column = pa.array([[t] for t in some], pa.list_(some.type)) if nested else some
    data = parquet(
        {"t": column}, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none", **options
    )
    for i, (day, nanos) in enumerate(times, 1):
        old, new = struct.pack("<QI", i, EPOCH), struct.pack("<QI", nanos, day)
        assert data.count(old) == 1
        data = data.replace(old, new)
    return data


@pytest.mark.parametrize(
    "columns",
    [
        {"s": ["x" * 100_000] * 2000},  # a dictionary of one long text
        {"n": np.zeros(2_000_000, np.int64)},  # one run
        {"l": pa.array([[0] * 2_000_000])},  # one run in one row
    ],
)
def test_a_few_bytes_that_stand_for_very_many_are_given_up(folder, columns):
    data = parquet(columns, compression="zstd")
    assert len(data) < 200_000
    assert "bytes in memory" in refused(folder, Parquet(max_group_bytes=10_000_000), data).reason


def test_damaged_metadata_ends_no_process(folder):
    """pyarrow's own look at a damaged column's metadata would: every byte of the footer, changed in two ways."""
    data = parquet({"a": range(20), "s": [f"w{i}" for i in range(20)]}, use_dictionary=False)
    length = int.from_bytes(data[-8:-4], "little")
    outcomes = set()
    for at in range(len(data) - 8 - length, len(data)):
        for change in (1, 128):
            spoilt = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
            try:
                outcomes.add(type(read(folder, Parquet(), spoilt)))
            except TerminalError as error:
                outcomes.add(type(error))
    assert outcomes == {Records, TerminalError}


def test_a_big_file_is_read_by_ranges(folder, monkeypatch):
    monkeypatch.setattr("ingestlab.formats.parquet.file.SMALL", 100)
    data = parquet({"a": range(50_000), "s": np.arange(50_000) * 7}, row_group_size=5000, compression="none")
    (folder / "f").write_bytes(data)
    seen = []

    class Watched(LocalStore):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            found = super().read(path, start, stop)
            seen.append(len(found))
            return found

    store = Watched(str(folder))
    file = FetchedFile(uri="u", path="f", name="f", size=len(data), sha256="0")
    pieces = Parquet().split(file, store, 100_000)
    assert len(pieces) == 10
    seen.clear()
    records = Parquet().read(pieces[3], store)
    assert records.table["a"].to_pylist() == list(range(15_000, 20_000))
    assert sum(seen) < len(data) // 4


# Text


def test_a_text_has_its_first_line_for_a_title(folder):
    records = read(folder, Text(), "\n\n  Größe  \r\nmore\n".encode("cp1252"))
    (row,) = records.table.to_pylist()
    assert row == {"title": "Größe", "text": "\n\n  Größe  \r\nmore\n", "characters": 18}
    assert records.facts == {"encoding": "cp1252, a guess"}


def test_a_blank_or_too_long_text(folder):
    assert read(folder, Text(), b" \n\t\n").bad == (Bad(0, "empty", "text", None),)
    assert "at most 10 bytes" in refused(folder, Text(max_bytes=10), b"x" * 11).reason
    assert "more than 1,000 bytes" in refused(folder, Text(max_bytes=1000), gzip.compress(b"x" * 2000)).reason


# Html


def page(head: str = "", words: str = WORDS * 4) -> str:
    return (
        f'<!DOCTYPE html><html lang="de-AT"><head>{head}<title>Störung &amp; Ende</title>'
        '<meta property="article:published_time" content="2017-10-23T06:00:00Z"></head><body>'
        '<nav><a href="/home">Menu</a><a href="#top">top</a></nav>'
        f'<article><h1>Alarms</h1><p>{words}<a href=" /more ">möre</a><a href="/more">again</a></p></article>'
        "</body></html>"
    )


def test_a_page(folder):
    (row,) = read(folder, Html(), page().encode()).table.to_pylist()
    assert row["title"] == "Störung & Ende"
    assert "engineers" in row["text"]
    assert "Menu" not in row["text"]
    assert row["links"] == ["/home", "/more"]
    assert row["language"] == "de"
    assert row["published"] == date(2017, 10, 23)
    assert row["characters"] == len(row["text"])


@pytest.mark.parametrize(
    ("said", "written", "found"),
    [
        ("utf-8", "utf-8", "utf-8"),
        ("iso-8859-1", "utf-8", "utf-8"),  # a template nobody changed
        ("iso-8859-1", "cp1252", "cp1252"),
        ("utf-8", "cp1252", "cp1252, a guess"),
        ("klingon", "cp1252", "cp1252, a guess"),
        ("iso-8859-2", "iso-8859-2", "iso8859-2"),
        ("", "utf-16", "utf-16"),
    ],
)
def test_the_encoding_is_what_fits_not_what_is_said(folder, said, written, found):
    records = read(folder, Html(), page(f'<meta charset="{said}">').encode(written))
    assert records.table["title"].to_pylist() == ["Störung & Ende"]
    assert records.facts["encoding"] == found


@pytest.mark.parametrize("data", [b"<html></html>", b"<!-- x -->", b"<script>x()</script>", b"  \n", b"<div>" * 9000])
def test_a_page_without_text_is_rejected(folder, data):
    records = read(folder, Html(), data)
    assert [(b.rule, b.column) for b in records.bad] == [("empty", "text")]
    assert records.table.num_rows == 0


def test_entities_do_not_expand(folder):
    bomb = '<?xml version="1.0" encoding="latin-1"?><!DOCTYPE l [<!ENTITY a "lol">'
    bomb += "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    (row,) = read(
        folder, Html(), f"{bomb}]><html><body><p>&i; {WORDS * 3}</p></body></html>".encode()
    ).table.to_pylist()
    assert row["characters"] < 2000


def test_pages_that_would_take_an_age_are_given_up(folder):
    attributes = "<p " + " ".join(f"a{i}='>'" for i in range(20_000)) + ">x"
    assert "tags of at most" in refused(folder, Html(), attributes.encode()).reason
    assert "elements" in refused(folder, Html(max_elements=500), b"<p>x" * 600).reason
    assert "at most 100 bytes" in refused(folder, Html(max_bytes=100), page().encode()).reason


@pytest.mark.parametrize(
    ("reader", "module", "extra"), [(Html(), "lxml.html", "html"), (Images(), "PIL.Image", "images")]
)
def test_a_missing_extra_is_named(folder, monkeypatch, reader, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert f"ingestlab[{extra}]" in refused(folder, reader, page().encode()).fix


# Images


def image(kind: str, size: tuple[int, int] = (40, 20), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_is_kept_by_reference(folder, kind):
    data = image(kind)
    (row,) = read(folder, Images(), data).table.to_pylist()
    assert (row["width"], row["height"], row["format"]) == (40, 20, kind)
    assert (row["path"], row["sha256"], row["bytes"]) == ("f", "ab", len(data))
    assert row["captured"] is None


@pytest.mark.parametrize(
    ("taken", "captured"),
    [("2020:01:02 03:04:05", datetime(2020, 1, 2, 3, 4, 5)), ("0000:00:00 00:00:00", None), ("  ", None)],
)
def test_orientation_and_time_of_a_photograph(folder, taken, captured):
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    exif.get_ifd(0x8769)[0x9003] = taken
    (row,) = read(folder, Images(), image("JPEG", exif=exif)).table.to_pylist()
    assert (row["width"], row["height"]) == (20, 40)
    assert row["captured"] == captured


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_image_is_told(folder, kind):
    data = image(kind, (200, 100))
    assert "not a whole image" in refused(folder, Images(), data[: len(data) // 2]).reason


def test_an_image_bomb_is_not_decoded(folder):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    assert "at most 100,000,000 pixels" in refused(folder, Images(), buffer.getvalue()).reason
    assert refused(folder, Images(max_pixels=100), image("PNG")).got == "40 x 20"


def test_formats_that_start_programs_are_not_taken(folder):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert "none of these" in refused(folder, Images(), postscript).reason
    assert "JPEG" in refused(folder, Images(formats=["jpeg"]), image("PNG")).reason


@pytest.mark.parametrize(
    "top",
    [
        b"<script>if (a<b && c) { " + b"x = y + 1; " * 3000 + b"}</script>",
        b"<p class='a\" title=x>it's</p>" + b"<b>more</b> text " * 2000,
        b'<a href="x"" title>' + b"words = more words " * 2000 + b"</a>",
    ],
    ids=["a script", "a stray quote", "one quote too many"],
)
def test_scripts_and_stray_quotes_make_no_long_tags(folder, top):
    records = read(folder, Html(), b"<html><body>" + top + b"<p>A paragraph with words enough to be a text.</p>")
    assert "A paragraph" in records.table["text"][0].as_py()
