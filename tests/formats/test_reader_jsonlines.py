"""JSON Lines: what JSON allows, what Arrow's parser allows beyond it, and what becomes of each."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import JsonLines
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.cutting import Cut
from ingestlab.formats.json.documents import as_lines, cut_document
from ingestlab.interfaces import Bad, Records
from ingestlab.lake.storage.store import LocalStore

READER = JsonLines(columns={"a": "int64", "b": "string"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


def read(folder: Path, data: bytes | str, reader: JsonLines = READER) -> Records:
    (folder / "f").write_bytes(data.encode() if isinstance(data, str) else data)
    return reader.read(Piece(uri="u", path="f", name="f.jsonl", sha256="0"), LocalStore(str(folder)))


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("null", Bad(1, "json", None, "null, expected an object")),
        ("5", Bad(1, "json", None, "a number, expected an object")),
        ("[1]", Bad(1, "json", None, "an array, expected an object")),
        ('"x"', Bad(1, "json", None, "a string, expected an object")),
        ("   ", Bad(1, "json", None, "Expecting value: line 1 column 1 (char 0)")),
        ('{"a":NaN}', Bad(1, "json", None, "NaN is no JSON")),
        ('{"z":[-Infinity]}', Bad(1, "json", None, "-Infinity is no JSON")),
        ('{"z":1e999}', Bad(1, "json", None, "the number 1e999 is too large")),
        ('{"a":1,"a":2}', Bad(1, "json", "a", "more than once")),
        ('{"a":1}{"a":2}', Bad(1, "json", None, "Extra data: line 1 column 8 (char 7)")),
        ('{"a":1} {"a":2}', Bad(1, "json", None, "Extra data: line 1 column 9 (char 8)")),
        ('{"a":"1"}', Bad(1, "type", "a", "1")),
        ('{"a":1.0}', Bad(1, "type", "a", "1.0")),
        ('{"a":9223372036854775808}', Bad(1, "type", "a", "9223372036854775808")),
        ('{"b":7}', Bad(1, "type", "b", "7")),
        ('{"b":{"c":1}}', Bad(1, "type", "b", '{"c":1}')),
        ('{"z":' + "[" * 64 + "]" * 64 + "}", Bad(1, "json", None, "nested 65 deep, at most 64")),
    ],
)
def test_a_broken_line_is_set_apart_from_its_neighbours(folder, line, bad):
    records = read(folder, f'{{"a":0}}\n{line}\n{{"a":2,"b":"NaN [[["}}\n')
    assert records.bad == (bad,)
    assert records.rows.tolist() == [0, 2]
    assert records.table.to_pylist() == [{"a": 0, "b": None}, {"a": 2, "b": "NaN [[["}]
    assert records.raw([1]) == {1: line}


def test_nesting_up_to_the_limit_is_read(folder):
    line = '{"z":' + "[" * 63 + "]" * 63 + ',"a":1}'
    assert read(folder, line).table["a"].to_pylist() == [1]
    many = json.dumps({"a": 1, "z": [[] for _ in range(500)], "b": '[{"' * 99})
    assert read(folder, many).rows.tolist() == [0]


def test_very_deep_nesting_ends_no_process(folder):
    bad = read(folder, '{"z":' + "[" * 200_000 + "]" * 200_000 + '}\n{"a":1}\n', JsonLines()).bad
    assert [b.value for b in bad] == ["nested 200,001 deep, at most 64"]


def test_a_cut_last_line_and_a_lone_surrogate(folder):
    records = read(folder, '{"a":1}\n{"b":"\\ud800"}\n{"a":2,"b":"x')
    assert [(b.row, b.rule) for b in records.bad] == [(1, "json"), (2, "json")]


def test_empty_lines_byte_order_mark_and_line_ends(folder):
    records = read(folder, b'\xef\xbb\xbf\n{"a":1}\r\n\r\n\n{"a":2}\r{"a":3}')
    assert records.table["a"].to_pylist() == [1, 2, 3]
    assert records.rows.tolist() == [0, 1, 2]


def test_a_record_over_the_limit(folder):
    reader = JsonLines(columns={"a": "int64"}, max_record_bytes=50)
    records = read(folder, '{"a":1}\n{"a":2,"z":"' + "x" * 50 + '"}\n', reader)
    assert [(b.row, b.rule) for b in records.bad] == [(1, "record_size")]


def test_every_bad_value_of_a_record_is_told(folder):
    records = read(folder, '{"a":"x","b":1}\n')
    assert records.bad == (Bad(0, "type", "a", "x"), Bad(0, "type", "b", "1"))


def test_types(folder):
    reader = JsonLines(
        columns={
            "t": pa.timestamp("ms", "UTC"),
            "d": "date32",
            "c": "time32[s]",
            "x": pa.decimal128(6, 2),
            "l": pa.list_(pa.struct([("k", pa.int8())])),
            "o": "json",
            "f": "float32",
            "q": "bool",
        }
    )
    lines = [
        {
            "t": "2020-01-01T00:00:00.5+01:00",
            "d": "2020-02-29",
            "c": "12:00:01",
            "l": [{"k": 1}],
            "o": {"é": [1, None]},
        },
        {"t": "2020-01-01T00:00:00", "x": 1.25, "o": "x", "f": 1, "q": True, "more": {}},
        {"d": "2020-02-30"},
        {"d": "10000-01-01"},
        {"l": [{"k": 300}]},
        {"c": "25:00:00"},
    ]
    records = read(folder, "\n".join(map(json.dumps, lines)), reader)
    one, two = records.table.to_pylist()
    assert one["t"] == datetime(2019, 12, 31, 23, 0, 0, 500_000, tzinfo=UTC)
    assert two["t"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert one["d"] == date(2020, 2, 29)
    assert str(one["c"]) == "12:00:01"
    assert two["x"] == Decimal("1.25")
    assert one["l"] == [{"k": 1}]
    assert [one["o"], two["o"]] == [r'{"\u00e9": [1, null]}', '"x"']
    assert (two["f"], two["q"]) == (1.0, True)
    assert [(b.row, b.column) for b in records.bad] == [(2, "d"), (3, "d"), (4, "l"), (5, "c")]
    assert records.table.column_names == list(reader.columns or {})


def test_a_time_format_knows_no_31st_of_february(folder):
    reader = JsonLines(columns={"t": "timestamp[s]"}, timestamp_format="%d/%m/%Y %H:%M")
    records = read(folder, '{"t":"31/01/2020 10:30"}\n{"t":"31/02/2020 10:30"}\n{"t":"29/02/2020 00:00"}\n', reader)
    assert records.table["t"].to_pylist() == [datetime(2020, 1, 31, 10, 30), datetime(2020, 2, 29)]
    assert records.bad == (Bad(1, "type", "t", "31/02/2020 10:30"),)


@pytest.mark.parametrize("more", [{}, {"x": "json"}])
def test_names_that_are_not_declared_can_be_rejected(folder, more):
    reader = JsonLines(columns={"a": "int64", **more}, extra_columns="reject")
    records = read(folder, '{"a":1}\n{"a":2,"z":1}\n{"a":3}\n', reader)
    assert records.rows.tolist() == [0, 2]
    assert records.bad == (Bad(1, "columns", None, "also 'z'"),)


@pytest.mark.parametrize(
    ("data", "rows", "note"),
    [
        ('[{"a":1},\n{"a":2}]', [1, 2], "one JSON array of 2"),
        ('\ufeff\n[ {"a":1 , "b":"x"} ]\n\n', [1], "one JSON array of 1"),
        ("[\n]", [], "one JSON array of 0"),
        ('{\n  "a": 1\n}\n', [1], "one JSON object"),
        ('{ "a":\r1 }\r{\r"a": 2}', [1, 2], "2 JSON objects"),
        ('{"b": "x",\n "a": 3}\n{"a": 4}\n', [3, 4], "2 JSON objects"),
    ],
)
def test_a_json_document_is_read_as_its_records(folder, data, rows, note):
    found = read(folder, data)
    assert (found.table["a"].to_pylist(), found.facts["note"]) == (rows, note)
    assert found.rows.tolist() == list(range(len(rows)))


@pytest.mark.parametrize(
    "data",
    [
        '[{"a":1},\n{"a":2}',
        '[\n{"a":1}\n{"a":2}\n]',
        '{"items": [\n{"a":1},\n{"a":2}\n]',
        '{\n"a": 1,\n',
        "[" * 100_000 + "\n",
    ],
)
def test_a_json_document_that_is_not_whole_is_refused(folder, data):
    """Its inner lines look like records, and are none."""
    with pytest.raises(TerminalError, match="is not whole") as caught:
        read(folder, data)
    assert "jq -c" in caught.value.fix


@pytest.mark.parametrize("first", ['{"a":1', '{"a":1,', "{", '{"a":"x'])
def test_a_first_line_that_is_cut_off_is_one_bad_record(folder, first):
    found = read(folder, first + '\n{"a":2}\n{"a":3}\n')
    assert (found.table["a"].to_pylist(), [b.row for b in found.bad]) == ([2, 3], [0])


def cut(folder: Path, data: bytes, size: int, reader: JsonLines = READER) -> tuple[list[Piece], list[Records]]:
    """Gives the pieces of a file, and what is read of each."""
    (folder / "f").write_bytes(data)
    store = LocalStore(str(folder))
    pieces = reader.split(FetchedFile(uri="u", path="f", name="f", size=len(data), sha256="0"), store, size)
    return pieces, [reader.read(piece, store) for piece in pieces]


@pytest.mark.parametrize(
    ("written", "note"),
    [
        ("[%s]", "one JSON array of 1,000"),
        ("\ufeff \n[\n %s\n]\n", "one JSON array of 1,000"),
        ("%s", "1,000 JSON objects"),
    ],
    ids=["array", "spaced array", "objects"],
)
@pytest.mark.parametrize("between", [",\n", ",", "  ,\r\n\t"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_is_cut_as_lines_are(folder, written, note, between, indent):
    rows = [{"a": i, "b": 'x]},{"\\"' + "\\" * (i % 3)} for i in range(1000)]
    texts = [json.dumps(row, indent=indent) for row in rows]
    texts[700], texts[800] = '{"a": "wrong", "b": "y"}', '{"a": NaN}'
    between = between if "[" in written else between.replace(",", "")
    if written == "%s" and "\n" in between and indent is None:
        note = ""  # these are lines
    data = (written % between.join(texts)).encode()
    pieces, found = cut(folder, data, len(data) // 5)
    assert len(pieces) == 5
    good = [row for i, row in enumerate(rows) if i not in (700, 800)]
    assert [row for one in found for row in one.table.to_pylist()] == good
    assert [row for one in found for row in one.rows.tolist()] == [row["a"] for row in good]
    bad = [(b.row, b.rule, one.raw([b.row])[b.row].strip()) for one in found for b in one.bad]
    assert bad == [(700, "type", texts[700]), (800, "json", texts[800])]
    assert {one.facts.get("note", "") for one in found} == {note}


def test_objects_that_follow_each_other_in_one_line_are_records(folder):
    rows = [{"a": 1, "b": None}, {"a": 2, "b": None}, {"a": None, "b": "}{"}]
    assert read(folder, '{"a":1}{"a":2} {"b":"}{"}').table.to_pylist() == rows


def test_a_line_end_inside_a_string_makes_a_bad_record(folder):
    found = read(folder, '[{"b":"x\ny"},\n{"b":"z"}]')
    assert (found.table["b"].to_pylist(), [(b.row, b.rule) for b in found.bad]) == (["z"], [(0, "json")])


@pytest.mark.parametrize(
    "data",
    [
        *('[{"a":1},]', '[{"a":1},,{"a":2}]', '[{"a":1}]]', '[{"a":1}] 2', '[{"a":"]', "[\\"),
        *('{"a":\n1}\n{"a":2}}', '{"a":\n1}\nx', '{"a":1}{"a":2'),
    ],
)
def test_what_is_left_over_makes_a_document_a_broken_one(folder, data):
    with pytest.raises(TerminalError, match="is not whole"):
        read(folder, data)


def test_a_big_document_that_is_not_whole_says_so(folder):
    with pytest.raises(TerminalError, match="its last bracket is not closed") as caught:
        cut(folder, b"[" + b",\n".join(b'{"a":%d}' % i for i in range(1000)), 1000)
    assert caught.value.code == "bad_file"


@pytest.mark.parametrize(
    ("data", "fix"),
    [
        ('{"data": [{"a":1},{"a":2}]}', "jq -c '.data[]' f > fl"),
        ('{"at": "now", "the rows": [\n' + '{"a":1},\n' * 200 + "{}]}", "jq -c '.[\"the rows\"][]' f > fl"),
        ('{"n": 1, "data": [' + '{"a":1},' * 300_000 + "{}]}", "jq -c '.data[]' f > fl"),
    ],
    ids=["one name", "many", "large"],
)
@pytest.mark.parametrize("size", [1 << 30, 1 << 19])
def test_records_below_a_name_are_refused_with_what_to_write(folder, data, fix, size):
    with pytest.raises(TerminalError, match="its records are in the array") as caught:
        cut(folder, data.encode(), size, JsonLines(max_record_bytes=1 << 20))
    assert fix in caught.value.fix


def test_an_object_with_a_list_of_its_own_is_a_record(folder):
    assert read(folder, '{"id": 1, "items": [{"n":1},{"n":2}]}', JsonLines()).table.num_rows == 1
    found = read(folder, '{"data": [{"a":1}]}', JsonLines(columns={"data": "json"}))
    assert found.table["data"].to_pylist() == ['[{"a":1}]']


TEXTS = st.text(alphabet='"\\{}[],:a \n\tü', max_size=6)
FIELDS = st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS | st.integers(0, 3), max_size=2), max_size=2)
BLANKS = st.text(alphabet=" \n\t\r", max_size=3)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=8), st.sampled_from(["array", "objects"]), st.data())
def test_the_elements_are_those_that_python_finds(rows, layout, data):
    indents = st.sampled_from([None, 1])
    texts = [data.draw(BLANKS) + json.dumps(row, indent=data.draw(indents)) + data.draw(BLANKS) for row in rows]
    text = f"[{','.join(texts)}]" if layout == "array" else "".join(texts)
    step, raw = data.draw(st.integers(1, 40)), text.encode()
    blocks = [raw[i : i + step] for i in range(0, len(raw), step)]
    cutting = cut_document(blocks, layout, data.draw(st.integers(1, 60)), "f")
    assert cutting.records == len(rows)
    found = []
    stops = [*(place.offset for place in cutting.cuts), None]
    for place, stop in zip([Cut(0, 0), *cutting.cuts], stops, strict=True):
        assert place.records == len(found)
        lines = as_lines(raw[place.offset : stop], layout, "f", begun=place.offset > 0, last=stop is None)
        found += [json.loads(line) for line in lines.split(b"\n") if line]
    assert found == rows


def test_an_elements_line_ends_become_blanks(folder):
    found = read(folder, '[{"a":1,"o":{"k":\n1.10,"k":2}},\n{"o":\t[ ]}]', JsonLines(columns={"o": "json"}))
    assert found.table["o"].to_pylist() == ['{"k": 1.10,"k":2}', "[ ]"]


def test_types_are_chosen_once_for_all_pieces(folder):
    lines = [f'{{"a":{i}}}' for i in range(400)] + ['{"a":0.5,"late":"0007"}']
    data = "\n".join(lines).encode()
    (folder / "f").write_bytes(data)
    store, reader = LocalStore(str(folder)), JsonLines()
    pieces = reader.split(FetchedFile(uri="u", path="f", name="f", size=len(data), sha256="0"), store, len(data) // 3)
    found = [reader.read(piece, store) for piece in pieces]
    assert len(found) == 3
    assert {str(one.table.schema) for one in found} == {"a: double\nlate: string"}


def test_objects_without_any_name_make_no_table(folder):
    with pytest.raises(TerminalError, match="empty objects alone"):
        read(folder, "{}\n{}\n", JsonLines())
    assert read(folder, "{}\n{}\n").table.to_pylist() == [{"a": None, "b": None}] * 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_every_value_is_kept_to_the_letter(folder, value, spaced):
    text = json.dumps(
        value, ensure_ascii=spaced, separators=None if spaced else (",", ":"), indent=1 if spaced else None
    )
    text = text.replace("\n", "\t")
    try:
        text.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a character is a bad record
    found = read(folder, f'{{"n":"x", "o" : {text} , "p":0}}\n', JsonLines(columns={"o": "json"}))
    assert (found.table["o"].to_pylist(), found.bad) == ([None if value is None else text], ())


def test_inferred_types_that_do_not_fit_are_told(folder):
    with pytest.raises(TerminalError, match="Declare the columns"):
        read(folder, '{"a":1}\n{"a":"x"}\n', JsonLines())


def test_ever_new_names_do_not_fill_the_memory(folder):
    lines = "".join(f'{{"c{i}":1}}\n' for i in range(20_000))
    with pytest.raises(TerminalError, match="20,000 names"):
        read(folder, lines, JsonLines())


def test_blocks_are_joined(folder, monkeypatch):
    lines = [f'{{"a":{i}}}' if i % 7 else "oops" for i in range(500)]
    whole = read(folder, "\n".join(lines))
    monkeypatch.setattr("ingestlab.formats.common.linewise.BLOCK", 100)
    parts = read(folder, "\n".join(lines))
    assert parts.table.equals(whole.table)
    assert parts.bad == whole.bad
    assert parts.rows.tolist() == whole.rows.tolist()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "z", "é"]), VALUES, max_size=4)
JUNK = st.sampled_from(["null", "{", '{"a":1', "[]", '{"a":1}{}', '{"a":01}', "{'a':1}", '{"a":1,}', '{"a":Infinity}'])


@settings(max_examples=examples(150), derandomize=True, deadline=None)
@given(lines=st.lists(OBJECTS | JUNK, min_size=2, max_size=12))
def test_the_records_are_those_that_python_finds(folder, lines):
    """Row by row, the judgement hangs on the record alone, and agrees with Python's parser."""
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    texts[:0] = ['{"a":0}']  # else a lone bracket looks like a document
    records = read(folder, "\n".join(texts))

    def fits(line: str | dict[str, object]) -> bool:
        if isinstance(line, str):
            return False
        a, b = line.get("a"), line.get("b")
        good = a is None or (type(a) is int and -(2**63) <= a < 2**63)
        return good and (b is None or isinstance(b, str))

    good = [0, *(i for i, line in enumerate(lines, 1) if fits(line))]
    assert records.rows.tolist() == good
    expected = [json.loads(texts[i]) for i in good]
    assert records.table.to_pylist() == [{"a": e.get("a"), "b": e.get("b")} for e in expected]


def test_many_bad_lines_take_no_age(folder):
    lines = "".join(f'{{"a":"x{i}"}}\n' for i in range(3000))
    records = read(folder, '{"a":1}\n' + lines)
    assert len(records.bad) == 3000
