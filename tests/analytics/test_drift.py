"""Schema drift: what becomes of data that a declaration does not know, in each of the four words and formats."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import World
from support.selection import examples

from ingestlab import Csv, JsonLines, Lines, Parquet, Pipeline, TerminalError
from ingestlab.analytics.lake import Lake
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.interfaces import Format, Records
from ingestlab.lake.log import manifests
from ingestlab.lake.storage.store import open_store

WORDS = ("evolve", "discard_row", "discard_value")
Rows = Sequence[dict[str, Any]]
SOME = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def csv(rows: Rows) -> bytes:
    table = pa.Table.from_pylist(list(rows), schema=pa.schema({n: pa.string() for n in _names(rows)}))
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps({n: _guessed(v) for n, v in row.items()}).encode() + b"\n" for row in rows)


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema({n: pa.string() for n in _names(rows)})), sink)
    return sink.getvalue()


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _guessed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


FORMATS: dict[str, tuple[Callable[..., Any], Callable[[Rows], bytes]]] = {
    "csv": (Csv, csv),
    "jsonl": (JsonLines, jsonl),
    "parquet": (Parquet, parquet),
}


class Shelf:
    """Raw files in a folder, and a reader's view of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, open_store(str(folder))

    def put(self, data: bytes, name: str = "a") -> FetchedFile:
        (self.folder / name).write_bytes(data)
        return FetchedFile(uri=f"file:///{name}", path=name, name=name, size=len(data), sha256="0" * 64)

    def read(self, reader: Format, data: bytes, word: str | None = None) -> Records:
        file = self.put(data)
        pipeline = Pipeline(reader=reader, schema_drift=word).named("p")  # type: ignore[arg-type]
        return pipeline.reader.read(Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256), self.store)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


DRIFTED = [
    {"n": "1", "word": "x", "new": "7"},
    {"n": "2.5", "word": "y", "new": None},
    {"n": "3", "word": "z", "new": "8"},
    {"n": "4", "word": "w", "new": None},
]
COLUMNS = {"n": "int64", "word": "string"}


@pytest.mark.parametrize("kind", FORMATS)
def test_evolve_adds_columns_and_widens_types(shelf: Shelf, kind: str) -> None:
    reader, write = FORMATS[kind]
    done = shelf.read(reader(columns=COLUMNS), write(DRIFTED), "evolve")
    new: list[Any] = ["7", None, "8", None] if kind == "parquet" else [7, None, 8, None]  # whose types are its own
    assert done.table.to_pydict() == {"n": [1.0, 2.5, 3.0, 4.0], "word": ["x", "y", "z", "w"], "new": new}
    assert done.table.schema.field("n").type == pa.float64()
    assert (done.bad, dict(done.discarded)) == ((), {})


@pytest.mark.parametrize("kind", FORMATS)
def test_discard_row_rejects_what_is_not_declared(shelf: Shelf, kind: str) -> None:
    reader, write = FORMATS[kind]
    done = shelf.read(reader(columns=COLUMNS), write(DRIFTED), "discard_row")
    assert done.table.to_pydict() == {"n": [4], "word": ["w"]}
    assert done.rows.tolist() == [3]
    assert [(b.row, b.rule, b.column, b.value) for b in done.bad] == [
        (0, "drift", "new", "7"),
        (1, "drift", "n", "2.5"),
        (2, "drift", "new", "8"),
    ]
    assert set(done.raw([0, 1])) == {0, 1}


@pytest.mark.parametrize("kind", FORMATS)
def test_discard_value_empties_and_counts(shelf: Shelf, kind: str) -> None:
    reader, write = FORMATS[kind]
    done = shelf.read(reader(columns=COLUMNS), write(DRIFTED), "discard_value")
    assert done.table.to_pydict() == {"n": [1, None, 3, 4], "word": ["x", "y", "z", "w"]}
    assert done.table.schema.field("n").type == pa.int64()
    assert dict(done.discarded) == {"n": 1, "new": 2}
    assert done.bad == ()


@pytest.mark.parametrize("kind", FORMATS)
def test_freeze_fails_the_file(shelf: Shelf, kind: str) -> None:
    reader, write = FORMATS[kind]
    with pytest.raises(TerminalError, match="also 'new'"):
        shelf.read(reader(columns=COLUMNS, extra_columns="drop"), write(DRIFTED), "freeze")
    known = [{n: row[n] for n in COLUMNS} for row in DRIFTED]
    done = shelf.read(reader(columns=COLUMNS), write(known), "freeze")
    assert [(b.row, b.rule) for b in done.bad] == [(1, "type")]


@pytest.mark.parametrize("word", [*WORDS, "freeze", None])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_column_fails_the_file_unless_it_is_optional(shelf: Shelf, kind: str, word: str | None) -> None:
    reader, write = FORMATS[kind]
    data = write([{"n": "1"}, {"n": "2"}])
    with pytest.raises(TerminalError, match="no 'word'"):
        shelf.read(reader(columns=COLUMNS), data, word)
    done = shelf.read(reader(columns={"word": "string", "n": "int64"}, optional=["word"]), data, word)
    assert done.table.to_pydict() == {"word": [None, None], "n": [1, 2]}
    assert done.table.schema.types == [pa.string(), pa.int64()]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_without_any_declared_column_fails_even_if_all_are_optional(shelf: Shelf, kind: str) -> None:
    reader, write = FORMATS[kind]
    with pytest.raises(TerminalError, match="no 'n'"):
        shelf.read(reader(columns=COLUMNS, optional=["n", "word"]), write([{"other": "1"}]), "evolve")


@pytest.mark.parametrize(
    ("declared", "values", "becomes"),
    [
        ("int8", ["1", "300"], pa.int64()),
        ("int32", ["1", "2.5"], pa.float64()),
        ("int64", ["1", "x"], pa.string()),
        ("int64", ["9007199254740993", "2.5"], pa.string()),  # as a float it would lose its last digit
        ("uint8", ["1", "18446744073709551615"], pa.uint64()),
        ("uint8", ["1", "-1"], pa.int64()),
        ("float64", ["1.5", "x"], pa.string()),
        ("date32", ["2020-01-01", "2020-01-01 10:00:00"], pa.timestamp("s")),
        ("date32", ["2020-01-01", "soon"], pa.string()),
        ("timestamp[s]", ["2020-01-01 10:00:00", "2020-01-01 10:00:00.125"], pa.timestamp("us")),
        ("bool", ["true", "maybe"], pa.string()),
    ],
)
def test_a_column_becomes_of_the_narrowest_wider_type(shelf: Shelf, declared: str, values: list[str], becomes) -> None:
    done = shelf.read(Csv(columns={"n": declared}), csv([{"n": v} for v in values]), "evolve")
    assert done.table.schema.field("n").type == becomes
    assert not done.bad
    if becomes == pa.string():
        assert done.table["n"].to_pylist() == values


@pytest.mark.parametrize(
    ("values", "becomes"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, None], pa.bool_()),
        (["a", "b"], pa.string()),
        ([1, "a", {"k": [1]}], pa.string()),
        ([None, None], None),
    ],
)
def test_new_names_in_json_get_simple_types_or_are_text(shelf: Shelf, values: list[Any], becomes) -> None:
    data = b"".join(json.dumps({"n": 1, "new": v}).encode() + b"\n" for v in values)
    done = shelf.read(JsonLines(columns={"n": "int64"}), data, "evolve")
    if becomes is not None:
        assert done.table.schema.field("new").type == becomes
    assert len(done.table) == len(values)
    if becomes == pa.string():
        expected = [v if isinstance(v, str) else json.dumps(v) for v in values]
        assert done.table["new"].to_pylist() == expected


def test_nested_names_are_not_unknown(shelf: Shelf) -> None:
    data = b'{"n": 1, "s": {"inner": 2}}\n'
    reader = JsonLines(columns={"n": "int64", "s": "json"})
    assert shelf.read(reader, data, "freeze").table.to_pydict() == {"n": [1], "s": ['{"inner": 2}']}


def test_bad_times_and_numbers_of_one_json_record_are_both_discarded(shelf: Shelf) -> None:
    """The reader looks at times only where the numbers are right: a second look must find the others."""
    rows = [{"n": "x", "t": "never"}, {"n": 1, "t": "later"}, {"n": 2, "t": "2020-01-01"}]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    done = shelf.read(JsonLines(columns={"n": "int64", "t": "timestamp[s]"}), data, "discard_value")
    assert done.table["n"].to_pylist() == [None, 1, 2]
    assert done.table["t"].null_count == 2
    assert dict(done.discarded) == {"n": 1, "t": 2}


def test_records_that_are_broken_stay_broken_under_every_word(shelf: Shelf) -> None:
    data = b"n,word,new\n1,x,\n2,y\n3,z,,\nbad,w,5\n"
    for word in WORDS:
        done = shelf.read(Csv(columns=COLUMNS), data, word)
        assert [b.row for b in done.bad if b.rule == "columns"] == [1, 2]
        assert len(done.rows) + len({b.row for b in done.bad}) == 4


def test_a_long_value_in_a_column_that_is_dropped_does_no_harm(shelf: Shelf) -> None:
    data = b"n,new\n1," + b"x" * 5000 + b"\n"
    reader = Csv(columns={"n": "int64"}, max_field_bytes=1000)
    assert shelf.read(reader, data, "discard_value").table.to_pydict() == {"n": [1]}
    assert [b.rule for b in shelf.read(reader, data, "evolve").bad] == ["field_size"]


def test_words_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TerminalError, match="declared columns"):
        Pipeline(reader=Csv(), schema_drift="freeze").named("p")
    with pytest.raises(TerminalError, match="a reader that knows schema_drift"):
        Pipeline(reader=Lines(encoding=None), schema_drift="evolve").named("p")
    with pytest.raises(TerminalError, match="one of evolve, freeze"):
        Pipeline(reader=Csv(), schema_drift="thaw").named("p")  # type: ignore[arg-type]
    with pytest.raises(TerminalError, match="optional columns among those declared"):
        Csv(columns=COLUMNS, optional=["wrod"])
    assert Pipeline(reader=Csv(), schema_drift="evolve").named("p").reader == Csv(drift="evolve")


CELL = st.sampled_from([None, "1", "-7", "2.5", "x", "2020-01-01", "true", "007", 'a "b", c', "two\nlines"])
ROWS = st.lists(st.fixed_dictionaries({"n": CELL, "word": CELL, "t": CELL, "new": CELL}), min_size=1, max_size=12)
TYPES = {"n": "int64", "word": "string", "t": "timestamp[s]"}


@SOME
@given(rows=ROWS, kind=st.sampled_from(sorted(FORMATS)), word=st.sampled_from(WORDS))
def test_every_row_goes_on_or_is_rejected_whatever_the_word(tmp_path: Path, rows: Rows, kind: str, word: str) -> None:
    reader, write = FORMATS[kind]
    done = Shelf(tmp_path).read(reader(columns=TYPES), write(rows), word)
    bad = {b.row for b in done.bad}
    assert sorted([*done.rows.tolist(), *bad]) == list(range(len(rows)))
    assert not bad or word == "discard_row"
    assert len(done.rows) == len(done.table)
    if word == "evolve":
        assert all(column.null_count == _nulls(rows, name, kind) for name, column in _columns(done))
    else:
        assert done.table.column_names == list(TYPES)
    if word == "discard_value":
        lost = sum(column.null_count - _nulls(rows, name, kind) for name, column in _columns(done))
        kept = {name: count for name, count in done.discarded.items() if name != "new"}
        assert lost == sum(kept.values())
        assert done.discarded.get("new", 0) == len(rows) - _nulls(rows, "new", kind)
    if word == "discard_row":
        assert dict(done.discarded) == {}
        assert all(rows[i]["new"] is None for i in done.rows)


def _columns(done: Records) -> list[tuple[str, pa.ChunkedArray]]:
    return list(zip(done.table.column_names, done.table.columns, strict=True))


def _nulls(rows: Rows, name: str, kind: str) -> int:
    return sum(row.get(name) is None for row in rows)


@SOME
@given(files=st.lists(ROWS, min_size=2, max_size=4), word=st.sampled_from(WORDS))
def test_a_small_file_drifts_alone_as_among_others(tmp_path: Path, files: list[Rows], word: str) -> None:
    shelf = Shelf(tmp_path)
    reader: Any = Pipeline(reader=Csv(columns=TYPES), schema_drift=word).named("p").reader  # type: ignore[arg-type]
    put = [shelf.put(csv(rows), f"{i}.csv") for i, rows in enumerate(files)]
    pieces = [Piece(uri=f.uri, path=f.path, name=f.name, sha256=f.sha256) for f in put]
    for piece, joint in zip(pieces, reader.read_all(pieces, shelf.store), strict=True):
        alone = reader.read(piece, shelf.store)
        assert joint.table.equals(alone.table)
        assert (joint.rows.tolist(), joint.bad, joint.discarded) == (alone.rows.tolist(), alone.bad, alone.discarded)


# End to end


PIPELINE = """
from ingestlab import Csv, Pipeline
PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}, encoding=None), schema_drift="WORD")
"""


def drifting_world(folder: Path, redis_url: str, word: str) -> World:
    world = World(folder, redis_url)
    (folder / "pipelines/small.py").write_text(PIPELINE.replace("WORD", word))
    return world


def put(world: World, name: str, data: bytes) -> str:
    path = world.folder / "sources" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path.as_uri()


def test_the_lake_shows_the_files_of_all_ages_as_one_table(tmp_path: Path, redis_url: str) -> None:
    world = drifting_world(tmp_path, redis_url, "evolve")
    contents = {"a.csv": b"n,word\n1,x\n", "b.csv": b"n,word,size\n2,y,7\n", "c.csv": b"size,n,word\n7.5,3.5,z\n"}
    uris = [put(world, name, data) for name, data in contents.items()]
    assert {o.status for o in world.ingest(uris[:2], run="r1").outcomes} == {"committed"}
    assert {o.status for o in world.ingest(uris[2:], run="r2").outcomes} == {"committed"}
    table = Lake(world.settings).table("small").arrow(["n", "word", "size"])
    rows = sorted(table.to_pylist(), key=lambda row: row["n"])
    assert rows == [
        {"n": 1.0, "word": "x", "size": None},
        {"n": 2.0, "word": "y", "size": 7.0},
        {"n": 3.5, "word": "z", "size": 7.5},
    ]


def test_discarded_values_are_counted_beside_the_rejects(tmp_path: Path, redis_url: str) -> None:
    world = drifting_world(tmp_path, redis_url, "discard_value")
    uris = [put(world, f"{i}.csv", b"n,word,size\n1,x,7\nbad,y,\n3\n") for i in range(2)]
    result = world.ingest(uris)
    assert result.rules == {"columns": 2, "n:discarded": 2, "size:discarded": 2}
    assert [(o.tally.rows_in, o.tally.accepted, o.tally.rejected) for o in result.outcomes] == [(3, 2, 1)] * 2
    assert manifests(world.store, "default", "small")[0].rules == result.rules


def test_what_a_reader_found_out_is_kept_with_the_source(tmp_path: Path, redis_url: str) -> None:
    world = drifting_world(tmp_path, redis_url, "evolve")
    text = "n,word\n" + "".join(f"{i},Käse größer Überfluß\n" for i in range(9))
    uris = [put(world, "a.csv", text.encode("cp1252")), put(world, "b.csv.gz", gzip.compress(text.encode()))]
    expected = [{"encoding": "cp1252, a guess"}, {"encoding": "utf-8", "compression": "gzip"}]
    assert [o.facts for o in world.ingest(uris).outcomes] == expected
    assert [o.facts for o in world.ingest(uris, run="r2").outcomes] == expected, "unchanged files keep their facts"


def test_the_facts_of_a_cut_file_are_those_of_its_pieces(tmp_path: Path, redis_url: str) -> None:
    world = drifting_world(tmp_path, redis_url, "evolve")
    world.settings = world.settings.model_copy(update={"partition_bytes": 400})
    lines = ["n,word", *(f"{i},plain words" for i in range(60)), *(f"{i},Käse größer Überfluß" for i in range(40))]
    uri = put(world, "a.csv", "\n".join(lines).encode("cp1252"))
    (outcome,) = world.ingest([uri]).outcomes
    assert outcome.tally.out == 100
    assert outcome.facts == {"encoding": "cp1252, a guess"}
