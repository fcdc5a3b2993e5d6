"""What holds of every reader, whatever its format."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.selection import examples

import ingestlab
from ingestlab import Csv, Html, Images, JsonLines, Lines, Parquet, Text
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile, Partition, Piece
from ingestlab.engine.task.process import Job, process
from ingestlab.interfaces import Format, Records, Store
from ingestlab.lake.storage.store import LocalStore
from ingestlab.pipeline.catalog import formats, generic, load

WORDS = ["station", "alarm", "battery", "voltage", "engineer", "night", "grid"]


def number(i: int) -> int:
    return i * 7919 % 1009


def csv(rows: int) -> bytes:
    return b"n,word\n" + b"".join(b"%d,w%d\n" % (number(i), i) for i in range(rows))


def jsonlines(rows: int) -> bytes:
    return b"".join(b'{"n":%d,"word":"w%d","tags":[{"k":%d}]}\n' % (number(i), i, i) for i in range(rows))


def log(rows: int) -> bytes:
    return b"".join(b"%d w%d\n" % (number(i), i) for i in range(rows))


def traces(rows: int) -> bytes:
    return b"".join(b"%d w%d\n  at %d\n\n  at x\n" % (number(i), i, i) for i in range(rows))


def parquet(rows: int) -> bytes:
    table = pa.table({"n": [number(i) for i in range(rows)], "word": [f"w{i}" for i in range(rows)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=7)
    return buffer.getvalue()


def text(rows: int) -> bytes:
    return b"A title\n" + b"some words\n" * 30 * rows


def page(rows: int) -> bytes:
    chance = random.Random(rows)
    body = "".join(f"<p>{' '.join(chance.choices(WORDS, k=20))}. <a href='/{i}'>more</a></p>" for i in range(9 * rows))
    return f"<html lang=en><head><title>T</title></head><body><article>{body}</article></body></html>".encode()


def image(rows: int) -> bytes:
    buffer = io.BytesIO()
    size = (20, 10 * max(1, rows))
    Image.frombytes("L", size, random.Random(rows).randbytes(size[0] * size[1])).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Case:
    """A reader, and how to make a good file for it."""

    reader: Format
    make: Callable[[int], bytes]
    suffix: str
    packed: bool = True  # whether it takes gzip
    single: bool = False  # whether a file is one record


TYPED: dict[str, str | pa.DataType] = {"n": "int64", "word": "string"}
CASES = {
    "csv": Case(Csv(columns=TYPED), csv, ".csv"),
    "csv inferred": Case(Csv(encoding=None), csv, ".csv"),
    "json lines": Case(JsonLines(columns=TYPED), jsonlines, ".jsonl"),
    "json lines with text": Case(JsonLines(columns={**TYPED, "tags": "json"}, encoding=None), jsonlines, ".jsonl"),
    "json lines inferred": Case(JsonLines(), jsonlines, ".jsonl"),
    "lines": Case(Lines(pattern=r"(?P<n>\d+) (?P<word>\S+)", columns={"n": "int64"}), log, ".log"),
    "lines by Python": Case(Lines(pattern=r"(?P<n>\d+) (?P<word>(?!x)\S+)", columns=TYPED), log, ".log"),
    "lines of several": Case(
        Lines(pattern=r"(?s)(?P<n>\d+) (?P<word>.*)", start=r"\d+ ", columns={"n": "int64"}), traces, ".log"
    ),
    "lines, whole": Case(Lines(encoding=None), log, ".log"),
    "parquet": Case(Parquet(columns=TYPED), parquet, ".parquet", packed=False),
    "parquet, as it is": Case(Parquet(), parquet, ".parquet", packed=False),
    "text": Case(Text(), text, ".txt", single=True),
    "html": Case(Html(), page, ".html", single=True),
    "images": Case(Images(), image, ".png", single=True),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
SEVERAL = {name: case for name, case in CASES.items() if not case.single}
several = pytest.mark.parametrize("case", SEVERAL.values(), ids=SEVERAL)
PNG = image(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return LocalStore(str(folder))


def put(store: Store, data: bytes, name: str = "file") -> FetchedFile:
    store.write(name, data)
    return FetchedFile(uri=f"u:{name}", path=name, name=name, size=len(data), sha256="0" * 64)


def whole(file: FetchedFile) -> Piece:
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)


def read(case: Case, store: Store, data: bytes) -> Records:
    return case.reader.read(whole(put(store, data)), store)


def check(records: Records, first: int = 0) -> int:
    """The laws of Records; gives the number of the first record after them."""
    rows, broken = records.rows.tolist(), {b.row for b in records.bad}
    assert records.table.num_rows == len(rows)
    assert records.rows.dtype == np.int64
    assert rows == sorted(set(rows))
    assert not broken & set(rows)
    total = len(rows) + len(broken)
    assert broken | set(rows) == set(range(first, first + total))
    assert [b.row for b in records.bad] == sorted(b.row for b in records.bad)
    records.table.validate(full=True)
    texts = records.raw([*rows, *broken, first + total + 5, -1])
    assert set(texts) <= set(rows) | broken
    assert all(len(t.encode()) <= 4100 for t in texts.values())
    for bad in records.bad:
        assert bad.rule
        assert bad.value is None or len(bad.value) <= 300
    return first + total


def refused(case: Case, store: Store, data: bytes) -> TerminalError:
    with pytest.raises(TerminalError) as caught:
        read(case, store, data)
    error = caught.value
    assert error.problem
    assert error.code != "unknown"
    assert error.fix
    return error


@every
def test_a_reader_is_a_value(case):
    again = pickle.loads(pickle.dumps(case.reader))
    assert again == case.reader
    assert hash(again) == hash(case.reader)
    assert replace(case.reader) == case.reader
    assert len({again, case.reader}) == 1


@every
def test_a_good_file_is_read_whole_and_numbered(case, store):
    records = read(case, store, case.make(40))
    count = 1 if case.single else 40
    assert check(records) == count
    assert records.rows.tolist() == list(range(count))
    assert records.bad == ()
    if not case.single and "n" in records.table.column_names:
        assert records.table["n"].to_pylist() == [number(i) for i in range(40)]
        assert f"{number(3)}" in records.raw([3])[3]


@every
def test_reading_again_gives_the_same(case, store):
    one, two = (read(case, store, case.make(15)) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.facts == two.facts


@every
@pytest.mark.parametrize("size", [40, 100, 250, 5000])
def test_pieces_together_are_the_file(case, store, size):
    data = case.make(60)
    file = put(store, data)
    one = case.reader.read(whole(file), store)
    pieces = case.reader.split(file, store, size)
    assert pieces[0].start == 0
    assert pieces[-1].stop is None
    assert [p.stop for p in pieces[:-1]] == [p.start for p in pieces[1:]]
    assert len(pieces) > 1 or size == 5000 or case.single
    at, tables = 0, []
    for piece in pieces:
        assert piece.first_row == at
        records = case.reader.read(piece, store)
        at = check(records, at)
        tables.append(records.table)
    assert pa.concat_tables(tables).equals(one.table)
    assert at == one.table.num_rows


@every
def test_an_empty_file_is_told(case, store):
    error = refused(case, store, b"")
    assert "empty file (0 bytes)" in error.reason


@every
@pytest.mark.parametrize(
    "data",
    [PNG, PNG[:-90], b"%PDF-1.7\n" + bytes(50), b"PK\3\4" + bytes(50), b"\0\1\2", b"PAR1" + bytes(60), b"\x7fELF\2\1"],
    ids=["an image", "a cut image", "PDF", "ZIP", "zeros", "a false Parquet", "a program"],
)
def test_other_formats_are_told(case, store, data):
    if isinstance(case.reader, Images) and data == PNG:
        return
    refused(case, store, data)


@every
def test_text_in_no_encoding_is_told_or_read(case, store):
    """Bytes that are not UTF-8: rejects or refused where that is declared, read in another encoding where not."""
    data = case.make(5).replace(b"w1", b"w\xe9").replace(b"some", b"s\xf6me").replace(b"night", b"n\xe9ght")
    if getattr(case.reader, "encoding", "utf-8") is None:
        records = read(case, store, data)
        assert records.facts["encoding"] == "cp1252, a guess"
        assert any(letter in str(records.table.to_pylist()) for letter in "éö")
    elif not isinstance(case.reader, Images | Parquet):
        found = attempt(read, case, store, data)
        if isinstance(found, TerminalError):
            assert "utf-8" in found.reason
        else:
            assert {bad.rule for bad in found.bad} == {"encoding"}
            assert "�" not in str(found.table.to_pylist())


@every
def test_gzip_is_unpacked_and_noted(case, store):
    data = gzip.compress(case.make(5))
    if not case.packed:
        assert "gzip" in refused(case, store, data).reason
        return
    records = read(case, store, data)
    assert check(records) == (1 if case.single else 5)
    if not isinstance(case.reader, Images):
        assert records.facts["compression"] == "gzip"
        refused(case, store, data[:-9])


@every
def test_a_bomb_is_given_up(case, store):
    if case.packed:
        error = refused(case, store, gzip.compress(case.make(2) + b" " * (64 << 20), 1))
        assert "bomb" in error.reason or "bytes" in error.reason


@several
def test_a_file_cut_anywhere_is_told_or_read_in_part(case, store):
    data = case.make(12)
    for stop in range(1, len(data), 13):
        with suppress(TerminalError):
            check(read(case, store, data[:stop]))


@every
@settings(
    max_examples=examples(80),
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_never_gets_further_than_its_file(case, store, data):
    """Whatever is done to a good file: records that keep the laws, or one error in our words."""
    content = bytearray(case.make(6))
    tokens = [
        b"null",
        b"{",
        b"[",
        b'"',
        b"\n",
        b"\r",
        b",",
        b"\\",
        b"NaN",
        b"\xff",
        b"\0",
        b"<",
        b"&#0;",
        b"1e999",
        b"\xef\xbb\xbf",
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.integers(0, 3)):
            case 0:
                content[at:at] = data.draw(st.sampled_from(tokens) | st.binary(max_size=4))
            case 1:
                del content[at : at + data.draw(st.integers(1, 40))]
            case 2:
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case _:
                content[at:at] = content[: data.draw(st.integers(0, 60))]
    with suppress(TerminalError):
        check(read(case, store, bytes(content)))


def test_too_many_columns_are_told(store):
    names = [f"c{i}" for i in range(10_001)]
    csv_ = (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").encode()
    json_ = json.dumps(dict.fromkeys(names, 1)).encode() + b"\n"
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [1] for name in names}), buffer)
    for reader, data in ((Csv(), csv_), (JsonLines(), json_), (Parquet(), buffer.getvalue())):
        assert "10,001" in refused(Case(reader, csv, ""), store, data).reason
    with pytest.raises(TerminalError, match="10,000"):
        JsonLines(columns=dict.fromkeys(names, "int64"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Csv(encoding="utf-99"), "utf-99"),
        (lambda: JsonLines(encoding="klingon"), "klingon"),
        (lambda: JsonLines(columns={"a": "integer"}), "'integer'"),
        (lambda: JsonLines(columns={}), "none at all"),
        (lambda: JsonLines(columns={"a": pa.map_(pa.string(), pa.int8())}), "map"),
        (lambda: JsonLines(timestamp_format="%Q"), "%Q"),
        (lambda: Lines(pattern="(?P<a"), "regular expression"),
        (lambda: Lines(pattern="abc"), "no named group"),
        (lambda: Lines(pattern="(?P<a>.)", columns={"b": "int64"}), "'b'"),
        (lambda: Lines(columns={"line": pa.list_(pa.int8())}), "list"),
        (lambda: Lines(start="("), "regular expression"),
        (lambda: Lines(timestamp_format="%Y %!"), "strptime"),
        (lambda: Parquet(columns={"a": "text"}), "'text'"),
        (lambda: Text(encoding="x"), "'x'"),
        (lambda: Html(encoding="x"), "'x'"),
        (lambda: Images(formats=()), "formats"),
    ],
)
def test_a_wrong_declaration_is_told_at_once(make: Callable[[], Any], words):
    with pytest.raises(TerminalError, match=re.escape(words)):
        make()


@pytest.mark.parametrize("suffix", formats())
def test_a_file_that_no_pipeline_takes_is_read_as_its_suffix_says(suffix, store):
    source = generic(f"some{suffix}", "some")
    assert type(load(source).reader).__name__ in source.text


@every
def test_records_go_all_the_way(case, store):
    """Through cleaning and the sinks, as a Dask task does it, by the generic pipeline of the suffix."""
    source = generic("f" + case.suffix, "some")
    pipeline = replace(load(source), reader=case.reader)
    files = [put(store, case.make(k + 3), f"{k}{case.suffix}") for k in range(3)]
    job = Job(run="r", batch="b", tenant="default", table="some", pipeline=source, lake=store.url)
    part = Partition(number=0, pieces=tuple(map(whole, files)))
    receipt = process(part, job, pipeline, store, store)
    assert not receipt.errors
    assert [t.out for t in receipt.tallies.values()] == ([1, 1, 1] if case.single else [3, 4, 5])


def test_all_readers_are_public():
    for name in ("Csv", "Html", "Images", "JsonLines", "Lines", "Parquet", "Text"):
        assert name in ingestlab.__all__
        assert getattr(ingestlab, name).__name__ == name
