"""The types that are chosen where none is declared: each gives back every text, whole, cut or among many files."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Sequence
from decimal import Decimal
from itertools import product

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.inference import choose, look, named, type_of
from ingestlab.formats.csv.reader import NULLS, Csv
from ingestlab.formats.json.reader import JsonLines
from ingestlab.interfaces import Records
from ingestlab.lake.storage.store import LocalStore

DIGITS = st.text("0123456789", min_size=1, max_size=60)
SIGNED = st.builds(str.__add__, st.sampled_from(["", "", "-", "+"]), DIGITS)
WHOLE = st.integers(-(10**22), 10**22).map(str)
SHORT = st.integers(-999, 999).map(str)
POINTED = st.builds("{}.{}".format, SHORT, st.text("0123456789", min_size=1, max_size=20))
PRICES = st.decimals(0, 10_000, places=2).map(str)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
EXPONENTS = st.builds("{}{}{}".format, SHORT, st.sampled_from(["e", "E", "e+", "e-"]), st.integers(0, 20))
DAYS = st.dates().map(str)
ZONES = st.sampled_from(["", "", "Z", "+00:00", "+02:00", "-0330"])
TIMES = st.builds(lambda t, mark, zone: t.isoformat(mark) + zone, st.datetimes(), st.sampled_from("T "), ZONES)
WORDS = st.sampled_from(
    [
        "true",
        "false",
        "True",
        "FALSE",
        "yes",
        "NA",
        "nan",
        "inf",
        "-inf",
        "0x1F",
        "1_000",
        "1,5",
        ".5",
        "5.",
        "-0",
        "-0.0",
        "12:30:00",
        "31/12/19",
        "2020-01",
        "2020-02-30",
        "2020-01-01T24:00:00",
        "0000-01-01",
        " 5",
        "5 ",
        "007",
        "",
    ]
)
LETTERS = st.text(string.ascii_letters + string.digits + " äß日-+.,", max_size=8)
KINDS = (SIGNED, WHOLE, SHORT, POINTED, PRICES, FLOATS, EXPONENTS, DAYS, TIMES, WORDS, LETTERS)
CELLS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).flatmap(
    lambda kinds: st.lists(st.one_of(*kinds), min_size=1, max_size=30)
)


def canonical(value: object, cells: Sequence[str]) -> set[str]:
    """The texts that a value may have been, in a way that docs/reference/types.md allows for the whole column."""
    if isinstance(value, bool):
        word = str(value)
        return {word, word.lower(), word.upper()}
    if isinstance(value, float):
        return floats(value, cells)
    if isinstance(value, dt.datetime):
        plain = value.replace(tzinfo=None)
        return {str(plain)} if value.tzinfo is None else {f"{plain} UTC"}
    return {str(value)}


def floats(value: float, cells: Sequence[str]) -> set[str]:
    """As Python writes it, or without its exponent; with the column's decimals; bare where it is whole."""
    short = positional(value)
    decimals = {len(c.partition(".")[2]) for c in cells if "." in c and "e" not in c}
    padded = {short + "0" * (n - len(short.partition(".")[2])) for n in decimals if len(decimals) == 1}
    bare = {short.removesuffix(".0")}
    return {repr(value), short} | padded | bare


def positional(value: float) -> str:
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"


def normal(cell: str) -> str:
    """A time as its value is told: what its letters are beside the instant does not matter."""
    try:
        time = dt.datetime.fromisoformat(cell)
    except ValueError:
        return cell
    if len(cell) <= len("2020-01-01"):
        return cell
    return f"{time.astimezone(dt.UTC).replace(tzinfo=None)} UTC" if time.tzinfo else str(time)


def check(cells: Sequence[str], values: Sequence[object], kind: pa.DataType) -> None:
    for cell, value in zip(cells, values, strict=True):
        if value is None:
            assert cell in NULLS
            assert cell == "" or not pa.types.is_string(kind) or all(c in NULLS for c in cells)
            continue
        known = canonical(value, [c for c in cells if c not in NULLS])
        told = normal(cell) if isinstance(value, dt.datetime) else cell
        assert told in known, (cell, value, kind)


def csv(cells: Sequence[str]) -> bytes:
    return ("v,w\n" + "".join(f'"{cell}",x\n' for cell in cells)).encode()


def read(folder: str, data: bytes, size: int, name: str = "a.csv") -> list[Records]:
    store = LocalStore(folder)
    store.write(name, data)
    file = FetchedFile(uri=f"file:///{name}", path=name, name=name, size=len(data), sha256="")
    return [Csv().read(piece, store) for piece in Csv().split(file, store, size)]


@settings(deadline=None, max_examples=examples(300))
@given(cells=CELLS, size=st.integers(16, 200))
def test_every_published_value_gives_back_its_cell(tmp_path_factory, cells: list[str], size: int) -> None:
    folder = str(tmp_path_factory.getbasetemp() / "law")
    (whole,) = read(folder, csv(cells), 1 << 20)
    check(cells, whole.table["v"].to_pylist(), whole.table.schema.field("v").type)
    pieces = read(folder, csv(cells), size)
    assert {str(p.table.schema) for p in pieces} == {str(whole.table.schema)}
    assert {p.facts["types"] for p in pieces} == {whole.facts["types"]}
    assert pa.concat_tables([p.table for p in pieces]).equals(whole.table)


NUMBERS = st.one_of(st.integers(-(10**40), 10**40).map(str), SHORT, POINTED, FLOATS)


@settings(deadline=None, max_examples=examples(100))
@given(cells=st.lists(st.one_of(NUMBERS, st.just("null")), min_size=1, max_size=20), size=st.integers(16, 200))
def test_no_number_of_json_loses_a_digit(tmp_path_factory, cells: list[str], size: int) -> None:
    store = LocalStore(str(tmp_path_factory.getbasetemp() / "json"))
    data = "".join(f'{{"v":{cell},"w":"x"}}\n' for cell in cells).encode()
    store.write("a.jsonl", data)
    file = FetchedFile(uri="a", path="a.jsonl", name="a.jsonl", size=len(data), sha256="")
    (whole,) = (JsonLines().read(piece, store) for piece in JsonLines().split(file, store, 1 << 20))
    for cell, value in zip(cells, whole.table["v"].to_pylist(), strict=True):
        if isinstance(value, float):
            assert Decimal(repr(value)) == Decimal(cell)
        else:
            assert (value is None and cell == "null") or str(value) == cell
    pieces = [JsonLines().read(piece, store) for piece in JsonLines().split(file, store, size)]
    assert {str(p.table.schema) for p in pieces} == {str(whole.table.schema)}
    assert pa.concat_tables([p.table for p in pieces]).equals(whole.table)


@settings(deadline=None, max_examples=examples(100))
@given(files=st.lists(CELLS, min_size=2, max_size=4))
def test_a_file_is_read_alike_whatever_comes_with_it(tmp_path_factory, files: list[list[str]]) -> None:
    folder = str(tmp_path_factory.getbasetemp() / "packs")
    store = LocalStore(folder)
    pieces = []
    for i, cells in enumerate(files):
        store.write(f"{i}.csv", csv(cells))
        pieces.append(Piece(uri=f"{i}", path=f"{i}.csv", name=f"{i}.csv", sha256=""))
    for cells, found in zip(files, Csv().read_all(pieces, store), strict=True):
        assert isinstance(found, Records)
        check(cells, found.table["v"].to_pylist(), found.table.schema.field("v").type)


@settings(deadline=None, max_examples=examples(300))
@given(cells=st.lists(st.one_of(*KINDS), min_size=1, max_size=200), at=st.integers(0, 200))
def test_what_is_known_of_two_halves_is_what_is_known_of_both(cells: list[str], at: int) -> None:
    halves = [pa.array(half, pa.string()) for half in (cells[:at], cells[at:])]
    assert (look(halves[0]) | look(halves[1])).type == choose(pa.array(cells, pa.string()))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2"], "int64"),
        (["9223372036854775807"], "int64"),
        (["9223372036854775808", "1"], "uint64"),
        (["18446744073709551616"], "string"),
        (["9223372036854775808", "-1"], "string"),
        (["9007199254740993", "0.5"], "string"),
        (["1", "2.5"], "float64"),
        (["1", "1.0"], "string"),
        (["1", "2.50"], "float64"),
        (["12.70", "19.95", "3.00"], "float64"),
        (["1.10", "1.100"], "string"),
        (["1.10", "1.1"], "string"),
        (["0.30000000000000004"], "float64"),
        (["0.46153846153846153846"], "string"),
        (["1e-05", "0.5"], "float64"),
        (["1e-05", "0.00001"], "string"),
        (["1e5"], "string"),
        (["12E5", "1.5"], "string"),
        (["001", "2"], "string"),
        (["+43123"], "string"),
        (["0x10"], "string"),
        (["-0"], "string"),
        (["inf", "1.5"], "string"),
        (["true", "false"], "bool"),
        (["true", "False"], "string"),
        (["0", "1"], "int64"),
        (["2020-01-01"], "date32"),
        (["2020-02-30"], "string"),
        (["2020-01-01", "2020-01-01 12:00:00"], "string"),
        (["2020-01-01 12:00:00.5", "2020-01-01 12:00:00"], "timestamp[us]"),
        (["2020-01-01T12:00"], "timestamp[us]"),
        (["2020-01-01T12:00:00Z"], "timestamp[us, tz=UTC]"),
        (["2020-01-01T12:00:00+02:00"], "timestamp[us, tz=UTC]"),
        (["2020-01-01T12:00:00+02:00", "2020-01-01T12:00:00+01:00"], "string"),
        (["2020-01-01T12:00:00Z", "2020-01-01T12:00:00"], "string"),
        (["2020-01-01 12:00:00.1234567"], "string"),
        (["12:30:00"], "string"),
        ([], "null"),
    ],
)
def test_the_rules(cells: list[str], kind: str) -> None:
    assert named(choose(pa.array(cells, pa.string()))) == kind
    assert type_of(kind) == choose(pa.array(cells, pa.string()))


@pytest.mark.parametrize("late", ["2.5", "x", "12345678901234567890"])
@pytest.mark.parametrize(
    "reader", [Csv(columns={"n": "int64"}), JsonLines(columns={"n": "int64"})], ids=["csv", "json"]
)
def test_a_column_that_evolves_has_one_type_in_a_file(tmp_path, reader, late: str) -> None:
    if isinstance(reader, Csv):
        data = "n,new\n" + "".join(f"{i},{i}\n" for i in range(50)) + f"{late},{late}\n"
    else:
        told = late if late.replace(".", "").isdigit() else f'"{late}"'
        data = "".join(f'{{"n":{i},"new":{i}}}\n' for i in range(50)) + f'{{"n":{told},"new":{told}}}\n'
    store, evolving = LocalStore(str(tmp_path)), reader.drifting("evolve")
    store.write("a", data.encode())
    file = FetchedFile(uri="a", path="a", name="a", size=len(data), sha256="")
    (whole,) = (evolving.read(piece, store) for piece in evolving.split(file, store, 1 << 20))
    pieces = [evolving.read(piece, store) for piece in evolving.split(file, store, 60)]
    assert len(pieces) > 3
    assert {str(p.table.schema) for p in pieces} == {str(whole.table.schema)}
    assert pa.concat_tables([p.table for p in pieces]).equals(whole.table)
    assert [str(v) for v in whole.table["n"].to_pylist()[-1:]] == [late]


def test_an_answer_does_not_hang_on_the_order() -> None:
    for cells in product(["1", "2.50", "x", "2020-01-01", "true"], repeat=2):
        assert choose(pa.array(cells)) == choose(pa.array(cells[::-1]))
