"""Rows that can have no vector are rejects, with their neighbours published; no vector is ever another row's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from support.embedding_world import maker

from ingestlab.analytics.embedders.base import Loaded, ModelError
from ingestlab.analytics.embedders.each import embed_each
from ingestlab.analytics.embedders.registry import embed_all, has_vector
from ingestlab.core.errors import CollectionError, TerminalError
from ingestlab.core.models import Again, IngestRequest, Source
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.engine.task.replay import read_rejects
from ingestlab.lake.log import live_files, manifests
from ingestlab.maintenance.replay.replay import replay
from ingestlab.pipeline.embedding import Embedding
from ingestlab.sinks.milvus.fitness import joined, misfits
from ingestlab.sinks.milvus.vector_values import Where

PIPELINE = """
from ingestlab import Csv, Embedding, Pipeline, Split
import numpy as np

def model(texts):
    if any("raise" in text for text in texts):
        raise ValueError("cannot read this")
    found = np.array([[len(text), 1, 2] for text in texts], dtype="float64")
    for i, text in enumerate(texts):
        for word, vector in (("nan", [1, np.nan, 1]), ("inf", [1, np.inf, 1]), ("zero", [0, 0, 0])):
            if word in text:
                found[i] = vector
    return found

CLEAN
PIPELINE = Pipeline(
    reader=Csv(columns={"id": "string", "n": "int64", "word": "string"}),
    OPTIONS
    embedding=Embedding(source="word", model=model, collection="words", payload=["n"], EMBEDDING),
)
"""


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    make = maker(tmp_path_factory, redis_url, monkeypatch)

    def made(embedding: str = "", options: str = "", clean: str = "", **settings):
        world = make(**settings)

        def edit(embedding: str = "", options: str = "", clean: str = "") -> None:
            text = PIPELINE.replace("EMBEDDING", embedding).replace("OPTIONS", options).replace("CLEAN", clean)
            (world.folder / "pipelines/small.py").write_text(text)

        world.edit = edit
        edit(embedding, options, clean)
        return world

    return made


def put(world, name: str, *rows: str) -> str:
    """A source with lines of id, n and word."""
    path = world.folder / "sources" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["id,n,word", *rows]) + "\n")
    world.expected.setdefault(path.as_uri(), Counter())
    return path.as_uri()


def rejects(world) -> list[tuple[int, str, str]]:
    """Row, rule and value of each reject."""
    parts = list(live_files(manifests(world.store, "default", "small"), "rejects"))
    found = [row for part in parts for row in read_rejects(world.store, part.target).to_pylist()]
    assert all(row["raw"] for row in found)
    return sorted((row["row"], row["rule"], row["value"]) for row in found)


def searchable(world, column: str = "row") -> list[object]:
    return sorted(world.db.fetch("words", Where(tenant="default", table="small"), [column])[column].to_pylist())


def same(world, uri: str) -> None:
    """Published rows, their vectors in the lake and those in the store are the same rows."""
    there = Counter(world.db.fetch("words", Where(sources=(uri,)), ["row"])["row"].to_pylist())
    assert there == world.rows("small")[uri] == world.rows("small__vectors")[uri]


@pytest.mark.parametrize(
    ("word", "rule", "value"),
    [
        ("a nan", "embed:nan", "'a nan'"),
        ("inf inite", "embed:infinity", "'inf inite'"),
        ("zero", "embed:zero", "'zero'"),
        ("raise it", "embed:ValueError", "cannot read this: 'raise it'"),
    ],
)
def test_a_row_of_which_no_vector_can_be_made_is_a_reject_and_its_neighbours_are_published(make, word, rule, value):
    world = make(options='aggregates={"sums": Aggregate(by="id", measures={"total": ("n", "sum")})},')
    path = world.folder / "pipelines/small.py"
    path.write_text(path.read_text().replace("import Csv", "import Aggregate, Csv"))
    uri = put(world, "a.csv", *(f"x,{i},{word if i == 50 else f'w{i}'}" for i in range(100)))
    result = world.ingest([uri])
    (outcome,) = result.outcomes
    assert not outcome.error
    assert (outcome.tally.accepted, outcome.tally.rejected, outcome.tally.out) == (99, 1, 99)
    assert result.rules == {rule: 1}
    assert rejects(world) == [(50, rule, value)]
    assert searchable(world) == [i for i in range(100) if i != 50]
    same(world, uri)
    (manifest,) = manifests(world.store, "default", "small")
    (states,) = manifest.files("aggregates")
    assert read_rejects(world.store, states.target).column("sum(n)").to_pylist() == [4950 - 50]


def test_rows_without_text_are_published_counted_and_named(make):
    world = make()
    uri = put(world, "a.csv", "a,1,hello", 'b,2,""', "c,3,", "d,4,   ", "e,5,there")
    result = world.ingest([uri])
    (outcome,) = result.outcomes
    assert (outcome.tally.accepted, outcome.tally.rejected) == (5, 0)
    assert result.rules == {"embedding:no text": 3}
    assert outcome.facts["no vector"] == "rows 1, 2, 3 (no text)"
    assert searchable(world) == [0, 4]


def test_more_rows_without_text_than_one_can_read_are_counted(make):
    world = make()
    uri = put(world, "a.csv", *(f"a,{i}," for i in range(1500)), "b,1,word")
    (outcome,) = world.ingest([uri]).outcomes
    assert outcome.facts["no vector"] == "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,490 more (no text)"


def test_a_file_of_which_too_many_rows_have_no_vector_fails_by_its_gate(make):
    world = make(options="max_reject_ratio=0.3,")
    good, bad = put(world, "a.csv", "a,1,x", "b,2,a nan", "c,3,y", "d,4,z"), put(world, "b.csv", "a,1,a nan", "b,2,x")
    first, second = world.ingest([good, bad]).outcomes
    assert (first.status, second.status) == ("committed", "failed")
    assert "1 embed:nan" in second.error["got"]
    assert searchable(world) == [0, 2, 3]
    same(world, good)
    assert not world.rows("small")[bad]


def test_a_retry_takes_staged_vectors_and_knows_the_rejects_again(make):
    world = make()
    uri = put(world, "a.csv", "a,1,x", "b,2,a nan", "c,3,y")
    down = world.db.count
    world.db.count = lambda *_: 0
    with pytest.raises(Exception, match="2 vectors of this batch"):
        world.ingest([uri])
    world.db.count = down
    result = world.ingest([uri])
    assert result.rules == {"embed:nan": 1}
    assert rejects(world) == [(1, "embed:nan", "'a nan'")]
    same(world, uri)


# Keys


KEYED = 'key="id"'


def test_a_key_that_comes_again_in_a_file_is_a_reject_that_says_where_the_first_one_is(make):
    world = make(KEYED)
    uri = put(world, "a.csv", "a,1,one", "b,2,two", "a,3,three", "c,4,four", "a,5,five")
    result = world.ingest([uri])
    assert result.rules == {"vector:key": 2}
    assert rejects(world) == [(2, "vector:key", "'a', which row 0 has"), (4, "vector:key", "'a', which row 0 has")]
    assert searchable(world, "text") == ["four", "one", "two"]
    same(world, uri)


def test_a_key_that_is_null_is_a_reject(make):
    world = make('key=["id", "n"]')
    uri = put(world, "a.csv", "a,1,one", ",2,two", ",2,three", ",4,four")
    world.ingest([uri])
    assert rejects(world) == [(i, "vector:key", "none in 'id'") for i in (1, 2, 3)]
    same(world, uri)


def test_a_key_that_is_too_long_is_a_reject(make):
    world = make(KEYED)
    uri = put(world, "a.csv", f"{'k' * 65_535},1,one", f"{'k' * 65_536},2,two", f"{'é' * 32_768},3,three")
    world.ingest([uri])
    assert rejects(world) == [(i, "vector:key", "65,536 bytes in 'id'") for i in (1, 2)]
    same(world, uri)


def test_files_of_one_table_may_have_the_same_keys_each_with_its_vector(make):
    world = make(KEYED)
    a, b = put(world, "a.csv", "k,1,one"), put(world, "b.csv", "k,2,two")
    world.ingest([a])
    world.ingest([b], run="r2")
    c, d = put(world, "c.csv", "k,3,three"), put(world, "d.csv", "k,4,four")
    world.ingest([c, d], run="r3")
    assert searchable(world, "text") == ["four", "one", "three", "two"]


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_the_new_content_of_a_file_may_have_its_old_keys_and_overwrites_no_row_that_stays(make, disposition):
    world = make(KEYED, options=f'write_disposition="{disposition}",')
    uri = put(world, "a.csv", "k,1,one", "l,2,two")
    world.ingest([uri])
    put(world, "a.csv", "k,3,three")
    world.ingest([uri], run="r2")
    stays = ["one", "three", "two"] if disposition == "append" else ["three"]
    assert searchable(world, "text") == stays
    same(world, uri)
    world.ingest([uri], run="r3", force=True)
    assert searchable(world, "text") == ["three"]


def test_a_double_key_stays_a_reject_when_it_is_replayed_and_passes_when_it_is_none_any_more(make):
    world = make(KEYED)
    uri = put(world, "a.csv", "a,1,one", "a,2,two", "b,3,three")
    world.ingest([uri])

    def again(run: str, rule: str | None = None) -> None:
        request = IngestRequest(run=run, table="small", sources=(Source(uri=uri),), replay=Again(rule=rule))
        replay(request, world.context(), lambda _progress: None)

    again("r2", "vector:key")
    assert rejects(world) == [(1, "vector:key", "'a', which a published row of this file has")]
    assert searchable(world, "text") == ["one", "three"]
    world.edit('key="n"')
    again("r3")
    assert rejects(world) == []
    same(world, uri)


def test_rows_that_clean_makes_of_one_record_are_rejected_together(make):
    world = make(KEYED, clean='def clean(df): return df.assign(id=df["id"].str.split("+")).explode("id")\n',
                 options="clean=clean,")  # fmt: skip
    uri = put(world, "a.csv", "a+b,1,one", "c+b,2,two", "c+d,3,three", "e+e,4,four")
    result = world.ingest([uri])
    assert rejects(world) == [
        (1, "vector:key", "'b', which row 0 has"),
        (3, "vector:key", "'e', of several rows that clean makes of this one"),
    ]
    assert (result.outcomes[0].tally.accepted, result.outcomes[0].tally.out) == (2, 4)
    same(world, uri)


def test_a_key_that_comes_again_in_another_piece_of_its_file_fails_the_file(make):
    world = make(KEYED, partition_bytes=1024)
    rows = [f"k{i},{i},word {i}" for i in range(200)]
    good, bad = put(world, "a.csv", *rows), put(world, "b.csv", *rows[:155], "k3,99,again", *rows[155:])
    first, second = world.ingest([good, bad]).outcomes
    assert (first.status, second.status) == ("committed", "failed")
    assert "row 3 and row 155" in second.error["got"]
    assert not world.rows("small")[bad]
    same(world, good)
    assert len(searchable(world)) == 200


def test_no_commit_writes_one_vector_over_another(make, monkeypatch):
    world = make()
    uri = put(world, "a.csv", "a,1,one", "b,2,two")
    monkeypatch.setattr("ingestlab.sinks.milvus.embedding.joined", lambda _key: "same")
    monkeypatch.setattr("ingestlab.sinks.milvus.embedding._keys", lambda rows, _: np.array(["same"] * rows.num_rows))
    (outcome,) = world.ingest([uri]).outcomes
    assert outcome.status == "failed"
    assert outcome.error["type"] == CollectionError.__name__
    assert not world.rows("small")[uri]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a\x1fb", "c"), ("a", "b\x1fc")),
        (("a\\", "b"), ("a", "\\b")),
        (("a\\u", "b"), ("a\x1f", "b")),
        (("",), ("'",)),
    ],
)
def test_different_keys_are_different_texts(one, other):
    assert joined(one) != joined(other)


def table(**columns) -> pa.Table:
    count = len(next(iter(columns.values())))
    return pa.table({**columns, "_source": ["u"] * count, "_row": pa.array(range(count), pa.int64())})


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (pa.array([1.0, float("nan"), 2.0, float("nan")]), [1, 3]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), [2]),
        (pa.array([1, None, 1], pa.uint64()), [1, 2]),
        (pa.array(["", "", "x"]), [1]),
        (pa.array([True, False, True]), [2]),
        (pa.array([0.1, 0.1 + 1e-18, 0.2]), [1]),
    ],
)
def test_keys_of_any_type_are_looked_at(values, rows):
    assert sorted(row for _, row in misfits(table(id=values), Embedding(source="id", key="id"))) == rows


def test_a_trial_shows_the_rejects_and_leaves_nothing_beside_the_file(make):
    world = make(KEYED)
    put(world, "a.csv", "a,1,one", "a,2,two", "b,3,a nan", "c,4,")
    folder = world.folder / "sources"
    trial = try_pipeline("small", (folder / "a.csv").as_uri(), world.settings)
    assert trial.rules == {"vector:key": 1, "embed:nan": 1, "embedding:no text": 1}
    assert [path.name for path in folder.rglob("*")] == ["a.csv"]


# Payload


def test_payload_and_texts_that_no_field_holds_are_rejects_unless_they_may_be_cut(make):
    world = make()
    long = "é" * 33_000
    uri = put(world, "a.csv", "a,1,short", f"b,2,{long}", f"c,3,{'e' * 65_535}")
    world.ingest([uri])
    assert rejects(world) == [(1, "vector:too long", "66,000 bytes of text")]
    same(world, uri)
    world.edit('truncate="text"')
    world.ingest([uri], run="r2", force=True)
    assert rejects(world) == []
    texts = dict(zip(*world.db.fetch("words", Where(), ["row", "text"]).to_pydict().values(), strict=True))
    assert texts == {0: "short", 1: "é" * 32_767, 2: "e" * 65_535}


def test_payload_is_counted_in_bytes_as_milvus_counts_and_numbers_must_fit():
    long = "é" * 32_768
    rows = table(word=["x", long, "e" * 65_535], big=pa.array([1, 2**63, 2**63 - 1], pa.uint64()))
    found = misfits(rows, Embedding(source="word", payload=["word", "big"]))
    assert {row: (why.rule, why.value) for (_, row), why in found.items()} == {
        1: ("vector:too large", "9223372036854775808 in 'big'")
    }
    found = misfits(rows, Embedding(source="word", payload="word"))
    assert {row: (why.rule, why.value) for (_, row), why in found.items()} == {
        1: ("vector:too long", "65,536 bytes in 'word'")
    }
    assert not misfits(rows, Embedding(source="word", payload="word", truncate="word"))


def test_only_payload_and_the_text_can_be_cut():
    with pytest.raises(TerminalError, match=r"'text' or columns of its payload as Embedding\.truncate; got 'id'"):
        Embedding(source="word", key="id", payload="n", truncate=["text", "id"])


# Models


def loaded(run, batch: int = 4) -> Loaded:
    return Loaded("mine", "1", 2, "text", batch, run)


def test_a_model_is_asked_few_times_for_the_one_input_that_it_cannot_take():
    calls = []

    def run(texts):
        calls.append(len(texts))
        if "bad" in texts:
            raise KeyError("no such word")
        return [[1, len(text)] for text in texts]

    each = embed_each(loaded(run, batch=64), [f"w{i}" for i in range(63)] + ["bad"])
    assert {place: fault.rule for place, fault in each.faults.items()} == {63: "KeyError"}
    assert each.faults[63].value == "'no such word': 'bad'"
    assert has_vector(each.vectors).sum() == 63
    assert len(calls) == 1 + 2 * 6


def test_inputs_are_not_blamed_for_another_one_of_their_batch():
    def run(texts):
        return np.full((len(texts), 2), np.nan if "bad" in texts else 1.0)

    each = embed_each(loaded(run, batch=8), ["a", "bb", "bad", "cccc"])
    assert {place: fault.rule for place, fault in each.faults.items()} == {2: "nan"}
    assert has_vector(each.vectors).tolist() == [True, True, False, True]


def test_a_broken_model_is_given_up_soon():
    calls = []

    def run(texts):
        calls.append(texts)
        raise ValueError("broken")

    with pytest.raises(TerminalError, match="ValueError: broken"):
        embed_each(loaded(run, batch=64), [f"w{i}" for i in range(10_000)])
    assert len(calls) < 40


def test_a_model_that_cannot_take_most_of_many_is_broken_too():
    def run(texts):
        if any(not text.endswith("7") for text in texts):
            raise ValueError("sevens only")
        return [[1, 2] for _ in texts]

    with pytest.raises(TerminalError, match="sevens only"):
        embed_each(loaded(run), ["7", *(f"w{i}" for i in range(1000))])


def test_vectors_of_another_shape_are_no_inputs_fault():
    with pytest.raises(ModelError):
        embed_each(loaded(lambda texts: np.ones((len(texts), 2 if "odd" not in texts else 3))), ["a", "odd", "b"])


@pytest.mark.parametrize(
    ("vector", "normalise", "directed", "rule"),
    [
        ([0, 0], True, True, "zero"),
        ([0, 0], True, False, "zero"),
        ([0, 0], False, True, "zero"),
        ([0, 0], False, False, None),
        ([1e-30, 1e-30], True, True, None),
        ([1e-30, 1e-30], False, True, "zero"),
        ([1e30, 1e30], True, True, None),
        ([1e30, 1e30], False, True, "infinity"),
        ([1e39, 1], True, True, "infinity"),
        ([np.nan, np.inf], False, False, "nan"),
        ([-0.0, 0.0], True, True, "zero"),
    ],
)
def test_what_a_metric_cannot_take_is_told(vector, normalise, directed, rule):
    each = embed_each(loaded(lambda texts: [vector] * len(texts)), ["a"], normalise=normalise, directed=directed)
    assert [fault.rule for fault in each.faults.values()] == ([rule] if rule else [])
    assert has_vector(each.vectors).tolist() == [rule is None]
    if normalise and rule is None:
        assert each.vectors[0] == pytest.approx([0.5**0.5, 0.5**0.5])


def test_a_question_of_which_a_model_makes_no_number_is_refused():
    with pytest.raises(TerminalError, match="2 finite numbers from 'mine'; got nan for 'a'"):
        embed_all(loaded(lambda texts: [[np.nan, 1]] * len(texts)), ["a"])


@pytest.mark.parametrize("column", [pa.array([b"a"]), pa.array([["a"]]), pa.array([{"a": 1}])])
def test_columns_that_hold_no_text_are_refused(column):
    from ingestlab.sinks.milvus.inputs import inputs_of

    with pytest.raises(TerminalError, match="a column of texts as the embedding's source; got 'word' of type"):
        inputs_of(table(word=column), Embedding(source="word"), {}, None)
