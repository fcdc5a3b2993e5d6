"""Cutting CSV: records are found as pyarrow finds them, and no cut changes what is read."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common import cutting, linewise
from ingestlab.formats.common.cutting import Cut, Scanner, SuspectError, cut
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.quoting import scan
from ingestlab.formats.csv import parsing
from ingestlab.formats.csv.headers import first_record
from ingestlab.formats.csv.reader import Csv
from ingestlab.interfaces import Records, Store
from ingestlab.lake.storage.store import open_store

CHAOS = st.text(alphabet='a",\n\r', max_size=60)
CELLS = st.text(alphabet='aé7 ",;\n\r', max_size=8)
ENDS = st.sampled_from(["\n", "\r\n"])


@pytest.fixture(scope="module")
def store() -> Generator[Store, None, None]:
    with tempfile.TemporaryDirectory() as folder:
        yield open_store(folder)


def put(store: Store, data: bytes, name: str = "t.csv") -> FetchedFile:
    path = Path(store.full(f"raw/{name}"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return FetchedFile(uri=f"u:{name}", path=f"raw/{name}", name=name, size=len(data), sha256="0" * 64)


def whole(file: FetchedFile) -> Piece:
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)


def merged(parts: list[Records]) -> tuple[list[dict[str, Any]], list[int], list[Any], dict[int, str]]:
    """Everything that a reader says, in one value that can be compared."""
    rows = np.concatenate([p.rows for p in parts]).tolist()
    bad = [b for p in parts for b in p.bad]
    raw = {i: t for p in parts for i, t in p.raw([*p.rows.tolist(), *(b.row for b in p.bad)]).items()}
    return pa.concat_tables([p.table for p in parts]).to_pylist(), rows, bad, raw


@contextmanager
def small_steps(step: int) -> Generator[None, None, None]:
    """Lets scanner and cutter see a few bytes at a time, so that all their seams are tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_STEP", step)
        patch.setattr(linewise, "_READ", step * 2)
        yield


def machine(text: str) -> list[tuple[int, int]]:
    """The records of a text, by the plainest state machine: the truth that the scanner is held to."""
    records, start, i, inside, field_start = [], 0, 0, False, True
    while i < len(text):
        c, after = text[i], text[i + 1 : i + 2]
        if inside:
            if c == '"' and after == '"':
                i += 1
            elif c == '"':
                inside = False
        elif c in "\r\n":
            end = i + (2 if c == "\r" and after == "\n" else 1)
            if i > start:
                records.append((start, end))
            start, i, field_start = end, end, True
            continue
        elif c == '"' and field_start:
            inside = True
        field_start = not inside and c == ","
        i += 1
    if start < len(text):
        records.append((start, len(text)))
    return records


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[bytes, list[list[str]], Dialect]:
    """A valid file of two columns: its bytes, its records and its dialect."""
    delimiter, end = draw(st.sampled_from(",;\t")), draw(ENDS)
    rows = draw(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=12))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    lines = [f"{draw(st.sampled_from(['a', chr(34) + 'a' + chr(34)]))}{delimiter}b"]
    for row in rows:
        always = draw(st.booleans())
        quoted = ['"' + c.replace('"', '""') + '"' for c in row]
        plain = not always and not any(set(c) & set(f'"{delimiter}\r\n') for c in row)
        lines.append(delimiter.join(row if plain else quoted) + end * draw(st.integers(0, 2)))
    last = draw(st.sampled_from(["", end]))
    return (bom + end.join(lines) + last).encode(), rows, Dialect(delimiter)


@settings(max_examples=examples(300), deadline=None)
@given(data=CHAOS, step=st.integers(1, 9))
def test_scanner_agrees_with_a_plain_state_machine_on_any_bytes_in_any_blocks(data: str, step: int) -> None:
    with small_steps(step):
        scanner = Scanner(Dialect())
        parts = [*cutting._scan_blocks(scanner, [data.encode()])]
    found = [(int(a), int(b)) for p in parts for a, b in zip(p.starts, p.ends, strict=True)]
    assert found == machine(data)


@settings(max_examples=examples(150), deadline=None)
@given(file=csv_files(), size=st.integers(1, 80), step=st.integers(1, 20))
def test_any_cut_of_a_valid_file_gives_the_rows_that_were_written(
    store: Store, file: tuple[bytes, list[list[str]], Dialect], size: int, step: int
) -> None:
    data, rows, dialect = file
    reader = Csv(columns={"a": "string", "b": "string"}, delimiter=dialect.delimiter, null_values=("never",))
    fetched = put(store, data)
    with small_steps(step):
        pieces = reader.split(fetched, store, size)
        parts = [reader.read(piece, store) for piece in pieces]
    table, numbers, bad, raw = merged(parts)
    assert [[r["a"], r["b"]] for r in table] == rows
    assert numbers == list(range(len(rows)))
    assert not bad
    assert len(raw) == len(rows)
    assert b"".join(store.read(p.path, p.start, p.stop) for p in pieces) == data
    assert all(p.rows.size for p in parts), "a piece without records"


@settings(max_examples=examples(250), deadline=None)
@given(data=CHAOS, size=st.integers(1, 40), step=st.integers(1, 20))
@example(data='a"\r"\r""', size=1, step=1)  # an escaped pair is the last thing in an unclosed field
@example(data="a\r", size=1, step=1)  # a lone CR ends the file
def test_any_cut_of_any_bytes_reads_like_the_whole(store: Store, data: str, size: int, step: int) -> None:
    """Stray and unclosed quotes, ragged rows, lone CRs and values of wrong type included."""
    reader = Csv(columns={"a": "string", "b": "int64"}, null_values=("",))
    file = put(store, ("a,b\na,\n" + data).encode())
    with small_steps(step):
        pieces = reader.split(file, store, size)
        cut_up = merged([reader.read(piece, store) for piece in pieces])
    assert cut_up == merged([reader.read(whole(file), store)])
    table, rows, bad, raw = cut_up
    numbers = {*rows, *(b.row for b in bad)}
    assert numbers == set(range(len(numbers))), "a record is lost, or counted twice"
    assert not set(rows) & {b.row for b in bad}
    assert set(raw) == numbers
    assert len(table) == len(rows)


def attempt_cuts(data: bytes, places: Sequence[int]) -> list[Cut] | None:
    try:
        return list(cut([data], Dialect(), 0, places))
    except SuspectError:
        return None


@settings(max_examples=examples(400), deadline=None)
@given(data=st.text(alphabet='ab,"\n\r', max_size=200), size=st.integers(5, 60), step=st.integers(1, 12))
@example(data="a\nb\n\nc\nd", size=50, step=2)  # a blank line between two blocks
def test_counted_blocks_are_cut_as_those_that_are_looked_through(data: str, size: int, step: int) -> None:
    counted, whole = [], Scanner.count

    def told(scanner: Scanner, block: memoryview) -> int | None:
        counted.append(whole(scanner, block))
        return counted[-1]

    with small_steps(step), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scanner, "count", told)
        places = range(size, len(data.encode()), size)
        quick = attempt_cuts(data.encode(), places)
        patch.setattr(Scanner, "count", lambda *_: None)
        assert quick == attempt_cuts(data.encode(), places)
    event("counted" if any(number is not None for number in counted) else "looked through")


@settings(max_examples=examples(60), deadline=None)
@given(data=CHAOS, block=st.integers(1, 30))
def test_a_body_too_large_for_one_call_reads_like_the_whole(store: Store, data: str, block: int) -> None:
    reader = Csv(columns={"a": "string", "b": "int64"}, null_values=("",))
    file = put(store, ("a,b\na,\n" + data).encode())
    at_once = merged([reader.read(whole(file), store)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "MAX_BLOCK", block)
        assert merged([reader.read(whole(file), store)]) == at_once


def test_pieces_are_about_as_large_as_asked_and_equal(store: Store) -> None:
    line = b"10167721,2017-10-23 12:00:25,31.5\n"
    file = put(store, b"id,start,value\n" + line * 10_000)
    pieces = Csv().split(file, store, 50_000)
    sizes = [(p.stop or file.size) - p.start for p in pieces]
    assert len(pieces) == 7
    assert max(sizes) - min(sizes) < 2 * len(line)
    for piece in pieces[1:]:
        assert piece.first_row == (piece.start - len(b"id,start,value\n")) // len(line)


@pytest.mark.parametrize("size", [100_000, 66_667])
def test_a_file_up_to_half_again_as_large_as_asked_stays_whole(store: Store, size: int) -> None:
    file = put(store, b"a\n" + b"1\n" * 49_999)
    assert Csv().split(file, store, size) == [whole(file)]


def test_a_record_longer_than_many_pieces_is_not_cut(store: Store) -> None:
    file = put(store, b'a,b\n1,"' + b"x\n" * 5_000 + b'"\n2,y\n')
    pieces = Csv().split(file, store, 100)
    assert [p.first_row for p in pieces] == [0, 1]
    assert store.read(file.path, pieces[1].start) == b"2,y\n"


def test_compressed_and_binary_files_and_utf16_stay_whole(store: Store) -> None:
    for data in (b"\x1f\x8b\x08" + b"x\n" * 500, b"\x89PNG\r\n\x1a\n" + b"x\n" * 500):
        file = put(store, data)
        assert Csv().split(file, store, 10) == [whole(file)]
    file = put(store, "a,b\n1,2\n3,4\n5,6\n".encode("utf-16"))
    assert Csv(encoding="utf-16").split(file, store, 4) == [whole(file)]


@pytest.mark.slow("long work")
def test_a_header_longer_than_the_first_read_is_found_for_later_pieces(store: Store) -> None:
    names = [f"column_{i:06d}" for i in range(8_000)]
    row = ",".join("1" * len(names))
    file = put(store, "\n".join([",".join(names), row, row, row, ""]).encode())
    reader = Csv()
    pieces = reader.split(file, store, 16_000)
    assert len(pieces) > 1
    last = reader.read(pieces[-1], store)
    assert last.table.column_names == names
    assert last.rows.tolist() == [2]


def test_quotes_mean_nothing_where_the_dialect_has_none() -> None:
    assert scan(b'a,"b\nc"\n', Dialect(quote=None)).ends.tolist() == [5, 8]


def test_an_unclosed_quote_costs_its_own_line_only() -> None:
    spans = scan(b'1,"x\n2,y\n3,z', Dialect())
    assert spans.ends.tolist() == [5, 9, 12]
    assert spans.broken == (0,)


@settings(max_examples=examples(200), deadline=None)
@given(data=CHAOS)
def test_whatever_is_broken_no_record_is_lost(data: str) -> None:
    spans = scan(data.encode(), Dialect())
    assert list(spans.broken) == sorted({*spans.broken} & {*range(len(spans.starts))})
    texts = [data[a:b] for a, b in zip(spans.starts, spans.ends, strict=True)]
    assert "".join(texts).replace("\n", "").replace("\r", "") == data.replace("\n", "").replace("\r", "")


def test_first_record_skips_blank_lines_and_keeps_quoted_line_ends() -> None:
    head = b'\r\n\n"a\nb",c\r\n1,2\n'
    start, stop, following = first_record(head, Dialect())
    assert head[start:stop] == b'"a\nb",c'
    assert head[following:] == b"1,2\n"


def test_cut_holds_one_block_at_a_time() -> None:
    """The cutter must not gather the blocks of a file of any size."""
    held: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(50):
            held.append(number)
            yield hashlib.sha256(str(number).encode()).hexdigest().encode() + b"\n"

    when = {c.records: held[-1] for c in cut(blocks(), Dialect(), 0, range(650, 50 * 65, 650))}
    assert held == list(range(50))
    assert when == {10: 10, 20: 20, 30: 30, 40: 40}  # told as soon as a record follows
