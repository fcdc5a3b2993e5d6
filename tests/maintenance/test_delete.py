"""Sources taken out of tables: all that they brought, once, whatever dies on the way; and they may come back."""

from __future__ import annotations

import zipfile
from collections import Counter

import pytest
from support.embedding_world import FIRST, SECOND, maker
from support.lake import Crash, FaultInjector, World

from ingestlab.analytics.aggregate_reader import AggregateReader
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.locks import source_lock
from ingestlab.lake.log import manifests
from ingestlab.maintenance.delete import delete, preview
from ingestlab.sinks.milvus.vector_values import Where
from ingestlab.sinks.milvus.vectors import open_vectors

SUMS = 'aggregates={"sums": Aggregate(by=["even"], measures={"n": ("n", "sum"), "rows": "count"})},'


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    return maker(tmp_path_factory, redis_url, monkeypatch)


def filled(make, disposition="append", **options):
    world = make(disposition, **options)
    path = world.folder / "pipelines/small.py"
    text = path.read_text().replace("import Csv,", "import Aggregate, Csv,")
    path.write_text(text.replace("    embedding=", f"    {SUMS}\n    embedding="))
    uris = [world.put(f"{name}.csv", numbers) for name, numbers in (("a", FIRST), ("b", SECOND), ("c", [31, 13]))]
    world.ingest(uris[:2])
    world.ingest(uris[2:], run="r2")
    return world, uris


def gone(world, *uris):
    """What the table must look like now: as if these sources had nothing in them."""
    for uri in uris:
        world.expected[uri] = []
    world.check(list(world.expected))
    World.check(world, list(world.expected))


def sums(world) -> dict[bool, tuple[int, int]]:
    rows = AggregateReader(world.store, world.settings, "default", "small").read("sums").to_pylist()
    return {row["even"] == "True": (row["n"], row["rows"]) for row in rows}


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_preview_counts_what_goes_and_takes_nothing(make, disposition):
    world, (a, b, _) = filled(make, disposition)
    world.put("a.csv", [41, 42])
    world.ingest([a], run="r5")
    delete(b, world.context())
    (seen,) = preview([a, b], world.context())
    (same,) = preview([a, b], world.context())
    (done,) = delete([a, b], world.context())
    assert seen == same
    assert (seen.table, seen.sources, seen.rows, seen.rejects) == (done.table, (a,), done.rows, done.rejects)
    assert preview([a, b], world.context())[0].sources == ()
    with pytest.raises(TerminalError, match=r"nowhere\.csv"):
        preview("nowhere.csv", world.context())


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_rows_rejects_vectors_and_aggregates_go_and_those_of_others_stay(make, disposition):
    world, (_, b, _) = filled(make, disposition)
    (found,) = delete(b, world.context())
    assert (found.table, found.sources) == ("small", (b,))
    assert (found.rows, found.rejects, found.others) == (3, 1, {"milvus": 3})
    gone(world, b)
    assert sums(world) == {False: (5 + 7 + 31, 3)}
    assert world.reconcile().clean
    assert manifests(world.store, "default", "small")[-1].kind == "delete"


def test_what_was_deleted_may_come_back_with_the_same_content(make):
    world, (a, b, c) = filled(make)
    delete([a, b, c], world.context())
    gone(world, a, b, c)
    assert world.db.count("words", Where()) == 0
    for name, numbers in (("a.csv", FIRST), ("b.csv", SECOND)):
        world.put(name, numbers)
    result = world.ingest([a, b], run="r5")
    assert [o.status for o in result.outcomes] == ["committed", "committed"]
    gone(world, c)
    delete(a, world.context())
    gone(world, a)


def test_both_contents_of_an_appended_source_go(make):
    world, (a, *_) = filled(make)
    world.put("a.csv", [41, 42])
    world.ingest([a], run="r5")
    (found,) = delete(a, world.context())
    assert found.rows == 4
    gone(world, a)


def test_twice_is_once(make):
    world, (a, *_) = filled(make)
    delete(a, world.context())
    (again,) = delete(a, world.context())
    assert (again.sources, again.rows) == ((), 0)
    gone(world, a)


def test_what_is_in_no_table_is_an_error_and_nothing_goes(make):
    world, uris = filled(make)
    with pytest.raises(TerminalError, match=r"nowhere\.csv"):
        delete([uris[0], "nowhere.csv"], world.context())
    with pytest.raises(TerminalError, match="of tenant default"):
        delete(uris[0], world.context(), table="other")
    with pytest.raises(TerminalError, match="tenant"):
        delete(uris[0], world.context(), tenant="physics")
    world.check(uris)


def test_paths_and_patterns_mean_what_is_published(make):
    world, (a, b, c) = filled(make)
    sources = world.folder / "sources"
    with pytest.raises(TerminalError, match="match"):
        delete(f"{world.folder}/*.csv", world.context())
    (found,) = delete([f"{sources}/[ab].csv"], world.context())
    assert found.sources == (a, b)
    gone(world, a, b)
    (found,) = delete(str(sources / "c.csv"), world.context())
    gone(world, c)


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize(("mend", "after"), [("again", False), ("again", True), ("reconcile", True), ("ingest", True)])
def test_a_crash_at_any_step_leaves_all_or_nothing(make, mend, after):
    crashes = 0
    for at in range(1, 60):
        world, (a, b, c) = filled(make)
        try:
            delete([a, c], world.context(FaultInjector(at, after=after)))
        except Crash:
            crashes += 1
        else:
            break
        if mend == "reconcile":
            world.reconcile()
            assert world.reconcile().clean
            there = world.rows("small")
            assert bool(there[a]) == bool(there[c]), f"at {at}: one went, and one stayed"
            assert world.there() == there
        if mend == "ingest":
            world.ingest([a], run="r7")
            world.ingest([c], run="r8")
            world.check([a, b, c])
        delete([a, c], world.context())
        gone(world, a, c)
        assert sums(world)[True] == (2 + 4, 2)
    assert crashes > 12


def test_a_source_at_work_is_left_alone(make):
    world, (a, b, c) = filled(make)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", a)])
        with pytest.raises(TransientError, match="is locked by another job"):
            delete([a, b], world.context())
    world.check([a, b, c])
    delete([a, b], world.context())
    gone(world, a, b)


PLAIN = """
from ingestlab import Archive, Csv, Pipeline
PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={"n": "int64"})), table="TABLE", matches=["*.zip"])
"""


def packed(world, **members):
    path = world.folder / "sources/x.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, numbers in members.items():
            file.writestr(f"{name}.csv", "n\n" + "".join(f"{n}\n" for n in numbers))
    return path.as_uri()


def numbers(world, table) -> Counter[str]:
    """Rows by member, of a table without vectors."""
    import pyarrow.parquet as pq

    found: Counter[str] = Counter()
    for path in world.store.walk(f"tables/default/{table}"):
        found.update(pq.read_table(f"{world.settings.lake_url}/{path}", partitioning=None)["_source"].to_pylist())
    return Counter({uri.split("::")[0].removeprefix("zip://"): n for uri, n in found.items()})


def unpack(world, uri, pipeline="one", run="r1"):
    request = IngestRequest(run=run, pipeline=pipeline, table="t", sources=(Source(uri=uri),))
    context = Services(world.settings, world.store, world.locks, world.context().cluster)
    return [o.status for o in ingest(request, context, lambda _: None).outcomes]


def test_an_archive_stands_for_its_members_and_a_member_for_itself_in_every_table(make):
    world = make(milvus_uri=None)  # what has no vectors needs no Milvus
    for name in ("one", "two"):
        (world.folder / f"pipelines/{name}.py").write_text(PLAIN.replace("TABLE", name))
    uri = packed(world, a=[1, 2], b=[3], c=[4])
    for name in ("one", "two"):
        unpack(world, uri, name)
    found = delete(f"zip://b.csv::{uri}", world.context())
    assert [(d.table, d.rows) for d in found] == [("one", 1), ("two", 1)]
    assert numbers(world, "one") == {"a.csv": 2, "c.csv": 1}
    (found,) = delete(uri, world.context(), table="two")
    assert (found.rows, len(found.sources)) == (3, 3)
    assert numbers(world, "two") == {}
    assert sorted(unpack(world, uri, run="r2")) == ["committed", "unchanged", "unchanged"]
    assert numbers(world, "one") == {"a.csv": 2, "b.csv": 1, "c.csv": 1}
    assert unpack(world, uri, "two", run="r3") == ["committed"] * 3
    assert numbers(world, "two") == numbers(world, "one")
    (found,) = delete(f"{world.folder}/sources/*.zip", world.context(), table="one")
    assert numbers(world, "one") == {}


def test_on_a_real_server(make, milvus_lite):
    world = make(milvus_uri=milvus_lite.url)
    world.db = open_vectors(world.settings)
    try:
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([a, b])
        delete(a, world.context())
        world.expected[a] = []
        world.check([a, b])
        assert world.reconcile().clean
    finally:
        world.db.drop("words")
        world.db.close()
