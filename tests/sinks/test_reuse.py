"""A text is embedded once by a model, however often its source comes again; and every vector is its text's own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.embedding_world import FIRST, crash_then, maker
from support.selection import examples

from ingestlab.core.models import Again, DataFile, IngestRequest, Source
from ingestlab.lake.storage.store import open_store
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reembed import reembed
from ingestlab.maintenance.replay.replay import replay
from ingestlab.sinks.milvus import reuse
from ingestlab.sinks.milvus.embedding import as_parquet


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    return maker(tmp_path_factory, redis_url, monkeypatch)


def edit(world, old: str, new: str) -> None:
    path = world.folder / "pipelines/small.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def versioned(world, version: str = "1") -> None:
    edit(world, "Small = pa", f"model.version = {version!r}\n\nSmall = pa")


def asked(world) -> Counter[str]:
    """Which texts the model has been given since the last call."""
    texts = world.embedded()
    world.counter.unlink(missing_ok=True)
    return texts


def assert_right(world, version: int = 1) -> None:
    """Every vector of the lake is what the model makes of its text."""
    files = [p for p in world.store.walk("tables/default/small__vectors") if p.endswith(".parquet")]
    for path in files:
        table = pq.read_table(pa.BufferReader(world.store.read(path)))
        for text, vector in zip(table["text"].to_pylist(), table["vector"].to_pylist(), strict=True):
            truth = np.array([len(text), 1 + sum(map(ord, text)) % 97, version], "float32")
            np.testing.assert_allclose(vector, truth / np.linalg.norm(truth), atol=1e-6)


@pytest.mark.parametrize("rows", [2_000, pytest.param(100_000, marks=pytest.mark.slow("a large file"))])
@pytest.mark.parametrize("disposition", ["replace", "append"])
def test_one_changed_row_embeds_one_text(make, rows, disposition):
    world = make(disposition, partition_bytes=max(4096, rows * 3))  # several tasks
    edit(world, "lt(1000)", "lt(10**9)")
    numbers = list(range(1_000, 1_000 + rows))
    uri = world.put("a.csv", numbers)
    world.ingest([uri])
    assert sum(asked(world).values()) == rows
    numbers[rows // 3] = 7
    world.put("a.csv", numbers)
    world.ingest([uri], run="r2")
    assert asked(world) == {"w7": 1}
    assert_right(world)
    if disposition == "replace":
        world.check([uri])


def test_rows_that_move_and_repeat_keep_their_vectors(make):
    world = make("replace", partition_bytes=1024)
    uri = world.put("a.csv", list(range(100, 700)))
    world.ingest([uri])
    asked(world)
    world.put("a.csv", [*range(699, 99, -1), 1, 1, *[150] * 50])
    world.ingest([uri], run="r2")
    assert set(asked(world)) == {"w1"}
    world.check([uri])
    assert_right(world)


def test_equal_texts_of_a_task_are_embedded_once(make):
    world = make()
    uri = world.put("a.csv", [5, 7, 5, 5, 7])
    world.ingest([uri])
    world.check([uri])
    assert asked(world) == {"w5": 1, "w7": 1}
    assert_right(world)


def test_vectors_that_were_merged_are_found(make):
    world = make("replace")
    uris = [world.put(f"{n}.csv", [n, n + 1]) for n in range(1, 5)]
    for n, uri in enumerate(uris):
        world.ingest([uri], run=f"r{n}")
    compact("small", world.context())
    asked(world)
    world.put("2.csv", [2, 3, 9])
    world.ingest([uris[1]], run="r9")
    assert asked(world) == {"w9": 1}
    world.check(uris)
    assert_right(world)


def test_force_asks_the_model_again(make):
    world = make()
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    asked(world)
    world.ingest([uri], run="r2", force=True)
    assert asked(world) == {"w5": 1, "w7": 1}


def test_what_was_deleted_is_embedded_again(make):
    world = make()
    uris = [world.put("a.csv", FIRST), world.put("b.csv", [5, 8])]
    world.ingest(uris)
    delete([uris[0]], world.context(), table="small")
    asked(world)
    world.ingest([uris[0]], run="r2")
    assert asked(world) == {"w5": 1, "w7": 1}
    world.check(uris)
    assert_right(world)


def test_another_model_takes_nothing_over(make):
    world = make("replace")
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    asked(world)
    world.edit(DISPOSITION="replace", VERSION=2)
    reembed("small", world.context(), patience=1)
    assert asked(world) == {"w5": 1, "w7": 1}
    world.put("a.csv", [5, 7, 8])
    world.ingest([uri], run="r2")
    assert asked(world) == {"w8": 1}
    assert_right(world, version=2)


def test_a_collection_made_again_for_other_payload_asks_a_model_with_a_version_nothing(make):
    world = make()
    versioned(world)
    uris = [world.put("a.csv", FIRST), world.put("b.csv", [1, 2])]
    world.ingest(uris)
    asked(world)
    edit(world, 'payload=["n"]', 'payload=["n", "word"]')
    reembed("small", world.context(), patience=1)
    assert not asked(world)
    assert_right(world)
    edit(world, "model.version = '1'", "model.version = '2'")
    reembed("small", world.context(), patience=1)
    assert len(asked(world)) == 4


def test_who_reembeds_with_a_model_without_a_version_means_it(make):
    world = make()
    world.ingest([world.put("a.csv", FIRST)])
    asked(world)
    reembed("small", world.context(), patience=1)
    assert asked(world) == {"w5": 1, "w7": 1}


def test_a_replayed_reject_embeds_itself_alone(make):
    world = make()
    uri = world.put("a.csv", [5, 2000, 7])
    world.ingest([uri])
    asked(world)
    edit(world, "lt(1000)", "lt(5000)")
    request = IngestRequest(run="r2", table="small", sources=(Source(uri=uri),), replay=Again())
    replay(request, world.context(), lambda _progress: None)
    assert asked(world) == {"w2000": 1}
    world.check([uri])
    assert_right(world)


def test_a_new_text_that_the_model_refuses_is_a_reject_beside_what_is_known(make):
    world = make("replace")
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    edit(world, "    return np.array(", "    if 'w8' in texts:\n        raise ValueError('no')\n    return np.array(")
    world.put("a.csv", [5, 8, 7])
    result = world.ingest([uri], run="r2")
    assert (result.outcomes[0].status, result.rules) == ("committed", {"embed:ValueError": 1})
    assert world.there()[uri] == Counter([0, 2])


STEPS = st.tuples(
    st.sampled_from(["put", "put", "put", "compact", "delete", "reembed"]),
    st.sampled_from("ab"),
    st.lists(st.sampled_from([1, 2, 3, 13, 2000]), min_size=1, max_size=6),
    st.integers(0, 30),
    st.booleans(),
)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=2, max_size=7))
def test_whatever_happens_each_vector_is_its_texts_own(make, story):
    world = make("replace")
    uris = set()
    for n, (step, name, numbers, at, after) in enumerate(story):
        if step == "put":
            before = dict(world.expected)
            uri = world.put(f"{name}.csv", numbers)
            if at:
                crash_then(world, [uri], at, after, run=f"r{n}")
            outcome = world.ingest([uri], run=f"r{n}").outcomes[0]
            assert (outcome.status == "failed") is not any(map(world.passes, numbers)), "all bad: nothing is published"
            if outcome.status == "failed":
                world.expected = before
            else:
                uris.add(uri)
        elif step == "compact" and uris:
            compact("small", world.context())
        elif step == "delete" and uris:
            gone = min(uris)
            delete([gone], world.context(), table="small")
            uris.discard(gone)
            del world.expected[gone]
        elif step == "reembed" and uris and any(c.total() for c in world.rows("small").values()):
            reembed("small", world.context(), patience=1)
    world.reconcile()
    world.check(sorted(uris))
    assert_right(world)


# Files as others have left them


MADE = {"model": "m", "version": "1", "dim": 2, "normalised": True, "canary": [0.6, 0.8]}


def stored(store, name: str, texts: list[str], **columns) -> DataFile:
    """Write a file of vectors, each of which holds its place."""
    vectors = pa.array([[float(i + 1), 1.0] for i in range(len(texts))], pa.list_(pa.float32(), 2))
    table = pa.table({"source": ["a"] * len(texts), "row": range(len(texts)), "text": texts, "vector": vectors})
    for column, values in columns.items():
        table = table.append_column(column, pa.array(values))
    data = as_parquet(table)
    store.write(name, data)
    return DataFile(target=name, staged=name, rows=len(texts), size=len(data), sources=("a",))


def known(store, keys: list[str], files: list[DataFile]) -> list[float | None]:
    vectors = reuse.vectors_of(keys, "text", MADE, files, 0, store)
    return [None if np.isnan(x) else float(x) for x in vectors[:, 0]]


def test_only_rows_of_the_same_model_count(tmp_path):
    store = open_store(str(tmp_path))
    mine, near = reuse.mark(MADE), reuse.mark({**MADE, "canary": [0.6004, 0.8]})
    other, canary = reuse.mark({**MADE, "version": "2"}), reuse.mark({**MADE, "canary": [0.8, 0.6]})
    file = stored(store, "f", list("abcdef"), _model=[mine, other, near, canary, None, mine])
    assert known(store, list("fedcbax"), [file]) == [6, None, None, 3, None, 1, None]


def test_files_of_earlier_versions_and_those_that_are_gone_are_passed_over(tmp_path):
    store = open_store(str(tmp_path))
    old = stored(store, "old", ["a"])
    gone = DataFile(target="gone", staged="gone", rows=1, size=1, sources=("a",))
    good = stored(store, "good", ["x", "a"], _model=[reuse.mark(MADE)] * 2)
    assert known(store, ["a"], [old, gone, good]) == [2]
    assert known(store, ["a"], [old, gone]) == [None]


def test_no_more_rows_are_in_memory_than_some(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    monkeypatch.setattr(reuse, "_ROWS", 3)
    texts = [f"t{i}" for i in range(20)]
    file = stored(store, "f", texts, _model=[reuse.mark(MADE)] * 20)
    assert known(store, ["t19", "t0", "no", "t7", "t8"], [file]) == [20, 1, None, 8, 9]
