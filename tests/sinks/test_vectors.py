"""Vectors are published with their rows, exactly once, through any crash; the lake can always make them again."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.embedding_world import FIRST, SECOND, crash_then, maker
from support.lake import PIPELINE as PLAIN
from support.selection import examples

from ingestlab.core.errors import TransientError
from ingestlab.core.models import Again, IngestRequest, Source
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.replay.replay import replay
from ingestlab.sinks.milvus.vector_values import Where


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    return maker(tmp_path_factory, redis_url, monkeypatch)


def test_rows_get_vectors_and_rejects_get_none(make):
    world = make()
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    world.ingest([a, b])
    world.check([a, b])
    assert world.there()[a] == Counter([0, 2])
    assert world.embedded() == Counter(["w5", "w7", "w1", "w2", "w4"])


def test_unchanged_sources_keep_their_vectors_and_run_no_model(make):
    world = make()
    uris = [world.put("a.csv", FIRST)]
    world.ingest(uris)
    world.ingest(uris, run="r2")
    world.check(uris)
    assert max(world.embedded().values()) == 1


def test_replaced_content_has_no_vectors_left(make):
    world = make("replace")
    a, b = world.put("a.csv", SECOND), world.put("b.csv", FIRST)
    world.ingest([a, b])
    world.put("a.csv", FIRST)
    world.ingest([a], run="r2")
    world.check([a, b])
    assert world.there()[a] == Counter([0, 2])


def test_append_keeps_the_vectors_of_both_contents(make):
    world = make()
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.put("a.csv", SECOND)
    world.ingest([uri], run="r2")
    assert world.there()[uri] == world.rows("small")[uri] == world.rows("small__vectors")[uri]


def test_force_makes_them_anew(make):
    world = make()
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.ingest([uri], run="r2", force=True)
    world.check([uri])
    assert set(world.db.fetch("words", Where(), ["run"])["run"].to_pylist()) == {"r2"}


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile", "neighbour"])
@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_crash_at_any_step_leaves_every_row_with_one_vector(make, after, mend, disposition):
    crashes = 0
    for at in range(1, 80):
        world = make(disposition)
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([world.put("old.csv", [3, 4, 1234]), *([a] if disposition == "replace" else [])], run="r0")
        if disposition == "replace":
            world.put("a.csv", [21, 22, 13, 23, 4000, 24])
        if not crash_then(world, [a, b], at, after):
            break
        crashes += 1
        if mend == "reconcile":
            world.reconcile()
        if mend == "neighbour":
            world.ingest([b], run="r2")
        world.ingest([a, b])
        world.reconcile() if mend == "neighbour" else None  # the dead batch will never come again
        world.check([a, b, (world.folder / "sources/old.csv").as_uri()])
    assert crashes > 12


def test_a_commit_that_is_tried_again_runs_no_model_twice(make):
    for at in range(1, 80):
        world = make()
        uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
        if not crash_then(world, uris, at, after=True):
            break
        staged = bool(world.embedded()) and any(world.store.walk("_ingestlab/embedded"))
        world.ingest(uris)
        world.check(uris)
        assert not staged or max(world.embedded().values()) == 1, f"after change {at}"
    assert at > 8


def test_after_reconcile_alone_no_vector_of_an_uncommitted_source_is_left(make):
    for at in range(1, 80):
        world = make()
        uri = world.put("a.csv", FIRST)
        if not crash_then(world, [uri], at, after=True):
            break
        world.reconcile()
        assert world.there()[uri] == world.rows("small")[uri]
        assert world.reconcile().clean


def test_a_store_that_lost_its_rows_is_filled_from_the_lake_without_a_model(make):
    world = make()
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris)
    world.db.drop("words")
    ran = world.embedded()
    assert world.reconcile().restored == tuple(sorted(uris))
    world.check(uris)
    assert world.embedded() == ran


def test_a_store_that_does_not_take_all_fails_the_run_and_leaves_nothing(make, monkeypatch):
    world = make()
    uri = world.put("a.csv", FIRST)
    monkeypatch.setattr(world.db, "count", lambda *_: 1)
    with pytest.raises(TransientError, match="2 vectors"):
        world.ingest([uri])
    monkeypatch.undo()
    assert not world.rows("small")[uri]
    assert world.db.count("words", Where()) == 0


def test_another_model_is_refused_with_both_names_and_nothing_is_lost(make):
    world = make()
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    world.ingest([a])
    world.edit(VERSION=2)
    ran = world.embedded()
    (outcome,) = world.ingest([b], run="r2").outcomes
    assert outcome.status == "failed"
    assert "collection 'words', function:model (3-d)" in outcome.error["expected"]
    assert "function:model (3-d)" in outcome.error["got"]
    assert "`ingestlab reembed" in outcome.error["fix"]
    assert world.embedded() == ran, "no model runs over rows that have no place to go"
    assert world.reconcile().clean
    world.check([a])
    world.edit(VERSION=1)
    world.ingest([b], run="r3")
    world.check([a, b])


def test_replayed_rejects_get_their_vectors(make):
    world = make()
    uri = world.put("a.csv", SECOND)
    world.ingest([uri])
    text = (world.folder / "pipelines/small.py").read_text().replace("lt(1000)", "lt(5000)")
    (world.folder / "pipelines/small.py").write_text(text)
    request = IngestRequest(run="r2", table="small", sources=(Source(uri=uri),), replay=Again())
    replay(request, world.context(), lambda _progress: None)
    world.check([uri])
    assert world.there()[uri] == Counter([0, 1, 2, 3])


def test_compaction_merges_their_files_and_leaves_the_store_alone(make):
    world = make()
    uris = [world.put(f"{n}.csv", [n, n + 1]) for n in range(4)]
    for n, uri in enumerate(uris):
        world.ingest([uri], run=f"r{n}")
    compact("small", world.context())
    world.check(uris)
    assert len([p for p in world.store.walk("tables/default/small__vectors") if p.endswith(".parquet")]) == 1
    world.put("0.csv", [7])
    world.edit(DISPOSITION="replace")
    world.ingest(uris[:1], run="r9")
    world.check(uris)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.lists(st.sampled_from([1, 2, 3, 13, 2000]), min_size=1, max_size=4),
            st.integers(0, 30),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_happens_each_row_has_one_vector_in_the_end(make, story):
    world = make("replace")
    uris = set()
    for n, (name, numbers, at, after) in enumerate(story):
        uri = world.put(f"{name}.csv", numbers)
        uris.add(uri)
        if at and crash_then(world, [uri], at, after, run=f"r{n}"):
            world.ingest([uri], run=f"r{n}")
        else:
            world.ingest([uri], run=f"r{n}")
    world.reconcile()
    world.check(sorted(uris))


def test_a_model_that_fails_on_one_row_does_not_lose_the_others(make):
    world = make()
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    text = (world.folder / "pipelines/small.py").read_text()
    bad = text.replace(
        "    return np.array(", "    if 'w2' in texts:\n        raise ValueError('no twos')\n    return np.array("
    )
    (world.folder / "pipelines/small.py").write_text(bad)
    result = world.ingest([a, b])
    assert [o.status for o in result.outcomes] == ["committed", "committed"]
    assert result.rules == {"clean": 1, "n:less_than": 1, "embed:ValueError": 1}
    world.check([a, b])
    assert world.there()[b] == Counter([0, 3])


def test_a_model_that_fails_on_all_rows_of_a_file_fails_that_file_alone(make):
    world = make()
    a, b = world.put("a.csv", FIRST), world.put("b.csv", [1, 2, 4])
    text = (world.folder / "pipelines/small.py").read_text()
    bad = "    if not {'w1', 'w2', 'w4'}.isdisjoint(texts):\n        raise ValueError('no')\n    return np.array("
    (world.folder / "pipelines/small.py").write_text(text.replace("    return np.array(", bad))
    world.ingest([b])
    result = world.ingest([a, b], run="r2")
    assert [o.status for o in result.outcomes] == ["committed", "failed"]
    assert "3 embed:ValueError" in str(result.outcomes[1].error)
    world.check([a])


def test_no_vector_store_is_a_clear_error_before_anything_is_processed(make, monkeypatch):
    world = make()
    monkeypatch.undo()
    object.__setattr__(world.settings, "milvus_uri", None)
    (outcome,) = world.ingest([world.put("a.csv", FIRST)]).outcomes
    assert "MILVUS_URI" in outcome.error["expected"]
    assert not world.embedded()
    assert list(world.store.walk("tables")) == []


def test_vectors_go_with_their_rows_when_a_pipeline_embeds_no_more(make, monkeypatch):
    world = make("replace")
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    world.ingest([a, b])
    (world.folder / "pipelines/small.py").write_text(PLAIN.replace("DISPOSITION", "replace"))
    world.put("a.csv", [6])
    world.ingest([a], run="r2")
    assert (world.there()[a].total(), world.there()[b].total()) == (0, 3)
    assert (world.rows("small__vectors")[a].total(), world.rows("small__vectors")[b].total()) == (0, 3)
    monkeypatch.undo()
    object.__setattr__(world.settings, "milvus_uri", None)  # the server has gone as well
    world.put("b.csv", [8])
    (outcome,) = world.ingest([b], run="r3").outcomes
    assert outcome.status == "committed"
    assert world.rows("small__vectors")[b].total() == 0
