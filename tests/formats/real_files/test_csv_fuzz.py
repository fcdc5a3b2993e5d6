"""Whatever the table and however it is written: what is published is what Python's csv reads, or it is refused."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.csv.reader import Csv
from ingestlab.interfaces import Records, Store
from ingestlab.lake.storage.store import open_store

CELLS = st.one_of(
    st.text(alphabet="aé7 .,;|\t\"'\\\n#-", max_size=6),
    st.sampled_from(["", "x", "Anna", "007", "12E5", "2026-01-31", "1,50", "NA", "=", "a b", "0.10"]),
)
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "quotechar": st.sampled_from(['"', '"', "'"]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)


@pytest.fixture(scope="module")
def store() -> Generator[Store, None, None]:
    with tempfile.TemporaryDirectory() as folder:
        yield open_store(folder)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A table of texts with names above."""
    width = draw(st.integers(1, 4))
    names = draw(
        st.lists(st.sampled_from(["id", "name", "a b", "x", "x", "", 'q"q', "n,m"]), min_size=width, max_size=width)
    )
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8))
    return [names, *rows]


def written(table: list[list[str]], dialect: dict[str, Any]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, **dialect).writerows(table)
    return out.getvalue().encode()


def texts(parts: list[Records]) -> tuple[dict[int, list[str]], set[int], set[int]]:
    """The rows published, as text and by number; all numbers that a row or reject has; and the rejects."""
    rows = {
        int(number): ["" if value is None else value for value in row.values()]
        for part in parts
        for number, row in zip(part.rows, part.table.to_pylist(), strict=True)
    }
    bad = {b.row for part in parts for b in part.bad}
    return rows, {*rows} | bad, bad


def read(reader: Csv, file: FetchedFile, store: Store, size: int) -> list[Records]:
    """What the inferred path reads, before types are chosen: those have laws of their own."""
    pieces = reader.split(file, store, size) if size else [_whole(file)]
    return [reader.read_text(reader.open_text(piece, store), piece) for piece in pieces]


def _whole(file: FetchedFile) -> Piece:
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)


def put(store: Store, data: bytes, name: str) -> FetchedFile:
    Path(store.full(name)).write_bytes(data)
    return FetchedFile(uri=f"u:{name}", path=name, name=name, size=len(data), sha256="0" * 64)


@settings(max_examples=examples(300), deadline=None)
@given(table=tables(), dialect=DIALECTS, size=st.integers(0, 60))
def test_told_how_it_is_written_every_cell_is_python_s(
    store: Store, table: list[list[str]], dialect: dict[str, Any], size: int
) -> None:
    data = written(table, dialect)
    reader = Csv(delimiter=dialect["delimiter"], quote=dialect["quotechar"], header=0, null_values=())
    try:
        rows, numbers, bad = texts(read(reader, put(store, data, "told.csv"), store, size))
    except TerminalError:
        return
    said = [row for row in csv.reader(io.StringIO(data.decode(), newline=""), **dialect) if row][1:]
    assert numbers == set(range(len(said))), "a record is lost, or counted twice"
    for number, row in rows.items():
        assert row == said[number]
    assert all(said[number] == table[0] for number in bad), "only the header again is rejected"


@settings(max_examples=examples(400), deadline=None)
@given(table=tables(), dialect=DIALECTS, size=st.integers(0, 60))
def test_told_nothing_every_cell_is_python_s_or_it_is_refused(
    store: Store, table: list[list[str]], dialect: dict[str, Any], size: int
) -> None:
    data = written(table, dialect)
    file = put(store, data, "found.csv")
    reader = Csv(delimiter=None, null_values=())
    try:
        parts = read(reader, file, store, size)
    except TerminalError:
        return
    facts = dict(parts[0].facts)
    assert all(dict(part.facts) == facts for part in parts), "facts are the file's"
    rows, numbers, _ = texts(parts)
    assert numbers == set(range(len(numbers)))
    found = reader.open_text(_whole(file), store).body.dialect
    said = {
        "delimiter": found.delimiter,
        "quotechar": found.quote or '"',
        "quoting": csv.QUOTE_MINIMAL if found.quote else csv.QUOTE_NONE,
        "escapechar": found.escape,
        "skipinitialspace": found.initial_space,
    }
    raw = {number: text for part in parts for number, text in part.raw(part.rows).items()}
    for number, row in rows.items():
        (alone,) = csv.reader(io.StringIO(raw[number], newline=""), **said)
        assert row == alone[: len(row)]
        assert not any(alone[len(row) :])
    guessed = found.escape or found.initial_space or "skipped" in facts
    if not guessed and (found.delimiter, found.quote) == (dialect["delimiter"], dialect["quotechar"]):
        lines = [row for row in csv.reader(io.StringIO(data.decode(), newline=""), **dialect) if row]
        assert {number: lines[number + 1][: len(row)] for number, row in rows.items()} == rows
