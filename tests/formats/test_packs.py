"""Small files that are read together come out as if each had been read alone."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Csv
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.lake.storage.store import LocalStore

HEADER = "n,word,when\n"
FILES = {
    "clean": HEADER + "1,a,2020-01-01\n2,b,2020-01-02\n",
    "no_end": HEADER + "3,c,2020-01-03\n4,d,2020-01-04",
    "crlf": HEADER.replace("\n", "\r\n") + "5,e,2020-01-05\r\n6,f,2020-01-06\r\n",
    "cr": HEADER.replace("\n", "\r") + "5,e,2020-01-05\r6,f,2020-01-06\r",
    "blank_lines": HEADER + "\n7,g,2020-01-07\n\n\n8,h,2020-01-08\n\n",
    "ragged": HEADER + "9,i\n10,j,2020-01-10\n11,k,2020-01-11,x\n",
    "wrong_types": HEADER + "x,l,2020-01-12\n13,m,2020-02-30\ny,n,never\n14,o,2020-01-14\n",
    "all_bad": HEADER + "x\n",
    "quoted": HEADER + '15,"p\nq",2020-01-15\n16,"r,s",2020-01-16\n',
    "open_quote": HEADER + '17,"t,2020-01-17\n18,u,2020-01-18\n',
    "other_order": "when,n,word\n2020-01-19,19,v\n",
    "bom": "\ufeff" + HEADER + "20,w,2020-01-20\n",
    "header_alone": HEADER,
    "empty": "",
    "other_columns": "a,b\n1,2\n",
    "binary": "\x00\x01",
}
READER = Csv(columns={"n": "int64", "word": "string", "when": "date32"})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LocalStore:
    folder = tmp_path_factory.mktemp("packs")
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode())
    return LocalStore(str(folder))


def shown(records):
    """All that a reader says of a piece, so that it can be compared."""
    if isinstance(records, TerminalError):
        return records.to_dict()
    numbers = sorted({*records.rows.tolist(), *(bad.row for bad in records.bad)})
    return records.table.to_pylist(), records.rows.tolist(), records.bad, records.raw(numbers)


def alone(reader, piece, store):
    try:
        return reader.read(piece, store)
    except TerminalError as error:
        return error


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=12))
def test_together_is_as_alone(store, names):
    pieces = [Piece(uri=f"u{i}", path=name, name=name, sha256="") for i, name in enumerate(names)]
    together = [shown(got) for got in READER.read_all(pieces, store)]
    assert together == [shown(alone(READER, piece, store)) for piece in pieces]


def test_the_parser_is_called_once_for_all_plain_files(store, monkeypatch):
    calls = []
    whole = Csv.read_text
    monkeypatch.setattr(Csv, "read_text", lambda self, *args: calls.append(args) or whole(self, *args))
    plain = ["clean", "no_end", "crlf", "blank_lines", "ragged", "wrong_types"]
    READER.read_all([Piece(uri=name, path=name, name=name, sha256="") for name in plain], store)
    assert len(calls) == 1


def test_inferred_types_stay_those_of_each_file(tmp_path):
    for name, text in (("a", "v\n1\n"), ("b", "v\nx\n")):
        (tmp_path / name).write_text(text)
    pieces = [Piece(uri=name, path=name, name=name, sha256="") for name in "ab"]
    first, second = Csv().read_all(pieces, LocalStore(str(tmp_path)))
    assert first.table["v"].to_pylist() == [1]
    assert second.table["v"].to_pylist() == ["x"]


def test_a_piece_of_a_big_file_keeps_its_row_numbers(tmp_path):
    (tmp_path / "big").write_text(HEADER + "1,a,2020-01-01\n" * 10 + "x,b,2020-01-02\n")
    (tmp_path / "small").write_text(FILES["clean"])
    start = len(HEADER) + 10 * len("1,a,2020-01-01\n") - len("1,a,2020-01-01\n")
    tail = Piece(uri="big", path="big", name="big", sha256="", start=start, first_row=9)
    records = READER.read_all([Piece(uri="s", path="small", name="s", sha256=""), tail], LocalStore(str(tmp_path)))[1]
    assert records.rows.tolist() == [9]
    assert [bad.row for bad in records.bad] == [10]
    assert records.raw([10]) == {10: "x,b,2020-01-02"}
