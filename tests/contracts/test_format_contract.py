"""What every format does: one suite for the nine of the package and another package's."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ingestlab import Archive, Csv, Html, Images, JsonLines, Lines, Objects, Parquet, Text
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile
from ingestlab.core.plugins import load, plugins
from ingestlab.interfaces import DriftReader, Format, PackReader, Records, pieces_of
from ingestlab.lake.storage.store import LocalStore
from ingestlab.pipeline.catalog import formats, generic
from ingestlab.pipeline.catalog import load as load_pipeline


def csv(rows: int) -> bytes:
    return b"n,word\n" + b"".join(b"%d,w%d\n" % (n, n) for n in range(rows))


def jsonl(rows: int) -> bytes:
    return b"".join(json.dumps({"n": n, "word": f"w{n}"}).encode() + b"\n" for n in range(rows))


def parquet(rows: int) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"n": pa.array(range(rows), pa.int64()), "word": [f"w{n}" for n in range(rows)]})
    pq.write_table(table, buffer, row_group_size=7)
    return buffer.getvalue()


def picture(rows: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 16 * rows), 255).save(buffer, "PNG")
    return buffer.getvalue()


def find_stripes(images: list[bytes]) -> list[list[Any]]:
    """One object for every sixteen lines of a picture."""
    heights = [Image.open(io.BytesIO(image)).height for image in images]
    return [[("stripe", 0.9, (0, top, 64, top + 16)) for top in range(0, height, 16)] for height in heights]


def logfmt() -> Format:
    return load("formats", "logfmt")()


@dataclass(frozen=True)
class Case:
    """A format, how to make it, and a file with so many records."""

    name: str
    make: Callable[[], Any]
    data: Callable[[int], bytes]
    file: str
    single: bool = False  # whether a file is one record
    uri: str = "file:///{}"
    broken: bytes | None = b"\x00\xff\x00\xfe" * 64  # what it refuses as a whole; None if it refuses nothing

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("csv", lambda: Csv(columns={"n": "int64", "word": "string"}), csv, "a.csv"),
    Case("json", lambda: JsonLines(columns={"n": "int64", "word": "string"}), jsonl, "a.jsonl"),
    Case("parquet", Parquet, parquet, "a.parquet"),
    Case(
        "lines",
        lambda: Lines(pattern=r"(?P<n>\d+) (?P<word>\w+)"),
        lambda rows: csv(rows)[7:].replace(b",", b" "),
        "a.log",
    ),
    Case("text", Text, lambda rows: b"A title\n" + b"words\n" * rows, "a.txt", single=True),
    Case(
        "html",
        Html,
        lambda rows: b"<html><body><article><h1>T</h1>" + b"<p>Some words of a page.</p>" * rows,
        "a.html",
        single=True,
    ),
    Case("images", Images, picture, "a.png", single=True),
    Case("objects", lambda: Objects(model=find_stripes), picture, "b.png"),
    Case(
        "archive",
        lambda: Archive(reader=Csv(columns={"n": "int64", "word": "string"})),
        csv,
        "m.csv",
        uri="zip://{}::file:///x.zip",
    ),
    Case(
        "logfmt",
        logfmt,
        lambda rows: b"".join(b"n=%d word=w%d\n" % (n, n) for n in range(rows)),
        "a.logfmt",
        broken=None,
    ),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def put(case: Case, store: LocalStore, data: bytes, name: str = "") -> FetchedFile:
    name = name or case.file
    store.write(name, data)
    return FetchedFile(uri=case.uri.format(name), path=name, name=name, size=len(data), sha256="0" * 64)


def read(case: Case, store: LocalStore, data: bytes, size: int = 1 << 20) -> list[Records]:
    reader: Format = case.make()
    file = put(case, store, data)
    return [reader.read(piece, store) for piece in pieces_of(file, reader, store, size)]


def numbers(pieces: list[Records]) -> list[int]:
    """The numbers of all records; each of them is a row or bad, once."""
    found: list[int] = []
    for records in pieces:
        records.table.validate(full=True)
        assert records.table.num_rows == len(records.rows)
        assert records.rows.dtype == np.int64
        found += [*records.rows.tolist(), *(bad.row for bad in records.bad)]
    assert len(found) == len(set(found))
    return sorted(found)


def test_every_format_of_the_package_has_a_case():
    assert {case.name for case in CASES} == set(plugins("formats"))


def test_it_is_found_by_its_name(case):
    assert type(case.make()) is load("formats", case.name)


def test_it_is_a_value_that_travels(case):
    reader = case.make()
    if case.name != "objects":  # whose model is a function of this very process
        assert pickle.loads(pickle.dumps(reader)) == reader
    assert case.make() == reader


def test_a_file_that_no_pipeline_takes_is_read_by_it(case):
    for suffix in getattr(load("formats", case.name), "suffixes", ()):
        assert formats()[suffix] is load("formats", case.name)
        assert type(load_pipeline(generic(f"some{suffix}", "some")).reader) is load("formats", case.name)


def test_every_record_is_read_once_and_numbered(case, store):
    pieces = read(case, store, case.data(30))
    assert numbers(pieces) == list(range(1 if case.single else 30))
    assert all(not records.bad for records in pieces)


@pytest.mark.parametrize("size", [40, 100, 5000])
def test_pieces_together_are_the_file(case, store, size):
    whole, pieces = read(case, store, case.data(30)), read(case, store, case.data(30), size)
    assert numbers(pieces) == numbers(whole)
    assert pa.concat_tables([r.table for r in pieces]).equals(pa.concat_tables([r.table for r in whole]))


def test_reading_again_gives_the_same(case, store):
    first, second = read(case, store, case.data(12)), read(case, store, case.data(12))
    assert [r.table.to_pylist() for r in first] == [r.table.to_pylist() for r in second]
    assert [r.rows.tolist() for r in first] == [r.rows.tolist() for r in second]
    assert [r.bad for r in first] == [r.bad for r in second]


def test_the_raw_text_is_of_records_that_there_are(case, store):
    for records in read(case, store, case.data(5)):
        texts = records.raw([0, 1, 2, 3, 4, 10_000, -1])
        assert set(texts) <= set(numbers([records]))
        assert all(isinstance(text, str) for text in texts.values())


def test_what_is_no_such_file_is_refused_or_rejected(case, store):
    if case.broken is None:
        assert all(records.bad or not len(records.table) for records in read(case, store, b"no pairs\n"))
        return
    with pytest.raises(TerminalError) as caught:
        read(case, store, case.broken)
    assert str(caught.value)
    assert caught.value.fix


def test_pieces_go_to_other_machines_as_plain_data(case, store):
    reader = case.make()
    for piece in pieces_of(put(case, store, case.data(9)), reader, store, 60):
        assert type(piece).from_dict(json.loads(json.dumps(piece.to_dict()))) == piece


def test_files_read_together_are_as_files_read_alone(case, store):
    reader = case.make()
    if not isinstance(reader, PackReader):
        pytest.skip("it reads files one by one")
    files = [put(case, store, case.data(n + 1), f"{n}-{case.file}") for n in range(3)]
    files.append(put(case, store, case.broken or b"", f"broken-{case.file}"))
    pieces = [piece for file in files for piece in pieces_of(file, reader, store, 1 << 20)]
    for piece, together in zip(pieces, reader.read_all(pieces, store), strict=True):
        alone = attempt(reader.read, piece, store)
        if isinstance(alone, Records):
            assert isinstance(together, Records)
            assert together.table.equals(alone.table)
            assert together.rows.tolist() == alone.rows.tolist()
        else:
            assert str(together) == str(alone)


def test_drift_words_make_another_of_its_kind(case):
    reader = case.make()
    if not isinstance(reader, DriftReader):
        pytest.skip("its columns are its own")
    assert type(reader.drifting("evolve")) is type(reader)
