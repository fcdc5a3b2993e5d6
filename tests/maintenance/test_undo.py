"""Runs undone: the table is as if they had not been, whatever dies on the way, and what they replaced is back."""

from __future__ import annotations

import zipfile

import pytest
from support.embedding_world import FIRST, SECOND, maker
from support.lake import Crash, FaultInjector, World
from support.replay import Mendable, filled

from ingestlab.analytics.aggregate_reader import AggregateReader
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.locks import source_lock
from ingestlab.lake.log import TransactionLog
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.history import read_history
from ingestlab.maintenance.rewrite import rewrite
from ingestlab.maintenance.undo import preview, undo

SUMS = 'aggregates={"sums": Aggregate(by=["even"], measures={"n": ("n", "sum"), "rows": "count"})},'


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    def made(disposition="replace", **options):
        world = maker(tmp_path_factory, redis_url, monkeypatch)(disposition, **options)
        path = world.folder / "pipelines/small.py"
        text = path.read_text().replace("import Csv,", "import Aggregate, Csv,")
        path.write_text(text.replace("    embedding=", f"    {SUMS}\n    embedding="))
        return world

    return made


def put(world, run, **files) -> list[str]:
    uris = [world.put(f"{name}.csv", numbers) for name, numbers in files.items()]
    world.ingest(uris, run=run)
    return uris


def check(world, **files) -> None:
    """The laws of the lake, for a table with these contents alone."""
    for uri in world.expected:
        world.expected[uri] = []
    uris = {name: (world.folder / "sources" / f"{name}.csv").as_uri() for name in files}
    for name, numbers in files.items():
        world.expected[uris[name]] = numbers
    world.check(list(world.expected))
    World.check(world, list(world.expected))
    passed = [n for numbers in files.values() for n in numbers if world.passes(n)]
    sums = AggregateReader(world.store, world.settings, "default", "small").read("sums").to_pylist()
    assert {row["even"]: row["n"] for row in sums} == {
        str(even): sum(n for n in passed if (n % 2 == 0) is even) for even in {n % 2 == 0 for n in passed}
    }
    assert world.reconcile().clean


@pytest.mark.parametrize("disposition", ["append", "replace"])
@pytest.mark.parametrize("merged", [False, True])
def test_what_a_run_published_goes_and_what_it_replaced_comes_back(make, disposition, merged):
    world = make(disposition)
    a, b = put(world, "r1", a=FIRST, b=SECOND)
    put(world, "r2", b=[41, 2001, 42], c=[51, 13])
    if merged:
        compact("small", world.context())
    seen = preview("r2", world.context())
    assert seen == preview("r2", world.context())
    done = undo("r2", world.context())
    assert seen == done
    replaced = disposition == "replace"
    moved = replaced or merged
    assert (done[0].removed, done[0].restored) == ((3 if replaced or not merged else 6), 3 if moved else 0)
    check(world, a=FIRST, b=SECOND)
    found = read_history("small", world.store, world.settings).commits
    assert (found[0].kind, found[0].removed, found[0].added) == ("undo", done[0].removed, done[0].restored)
    assert [c.undone_by for c in found if c.run == "r2"] == [found[0].run]
    assert [o.status for o in world.ingest([b], run="r3").outcomes] == ["committed"]  # it has other content now
    world.put("b.csv", SECOND)
    assert a in world.expected


def test_the_index_knows_what_came_back_and_not_what_went(make):
    world = make()
    a, b = put(world, "r1", a=FIRST, b=SECOND)
    put(world, "r2", b=[41], c=[51])
    undo("r2", world.context())
    world.put("b.csv", SECOND)
    statuses = [o.status for o in world.ingest([a, b, world.put("c.csv", [51])], run="r3").outcomes]
    assert sorted(statuses) == ["committed", "unchanged", "unchanged"]
    check(world, a=FIRST, b=SECOND, c=[51])


def test_the_record_of_a_source_is_the_one_before(make):
    """With its version: sources of records keep their cursor there."""
    world = make()
    put(world, "r1", a=FIRST)
    before = records(world)
    put(world, "r2", a=[41], b=[51])
    changed = records(world)
    (uri,) = before
    assert changed[uri].version != before[uri].version
    undo("r2", world.context())
    again = records(world)
    unlike = {"batch": ""}  # the undo's own
    assert again[uri].model_copy(update=unlike) == before[uri].model_copy(update=unlike)
    (new,) = again.keys() - before.keys()
    assert (again[new].version, again[new].sha256) == (None, "")
    index = world.context().table("default", "small").index
    assert index.known([uri])[uri].version == before[uri].version


def records(world):
    return {record.uri: record for record in TransactionLog(world.store, "default", "small").snapshot().records()}


def test_twice_is_once_and_an_undo_is_undone(make):
    world = make()
    put(world, "r1", a=FIRST, b=SECOND)
    put(world, "r2", b=[41, 42], c=[51])
    undo("r2", world.context())
    (again,) = undo("r2", world.context())
    assert (again.sources, "undone already" in str(again)) == ((), True)
    first = TransactionLog(world.store, "default", "small").history()[-1].run
    undo(first, world.context())
    check(world, a=FIRST, b=[41, 42], c=[51])
    undo("r2", world.context())
    check(world, a=FIRST, b=SECOND)


def test_a_deletion_is_undone(make):
    world = make()
    a, b = put(world, "r1", a=FIRST, b=SECOND)
    delete([a, b], world.context())
    run = TransactionLog(world.store, "default", "small").history()[-1].run
    assert undo(run, world.context())[0].restored == 5
    check(world, a=FIRST, b=SECOND)
    assert [o.status for o in world.ingest([a, b], run="r2").outcomes] == ["unchanged", "unchanged"]


def test_a_later_change_goes_first(make):
    world = make()
    put(world, "r1", a=FIRST)
    put(world, "r2", a=[41], b=[51])
    put(world, "r3", a=[42])
    for call in (preview, undo):
        with pytest.raises(TerminalError, match=r"r3.*a\.csv.*ingestlab undo r3") as raised:
            call("r2", world.context())
        assert raised.value.code == "later_changes"
    check(world, a=[42], b=[51])
    undo("r3", world.context())
    check(world, a=[41], b=[51])
    undo("r2", world.context())
    check(world, a=FIRST)


def test_jobs_of_a_run_with_others_between_them(make):
    world = make()
    put(world, "r1", a=FIRST, b=SECOND)
    put(world, "r2", a=[41])
    put(world, "r3", b=[61], c=[62])
    put(world, "r2", b=[51], d=[52])
    undo("r2", world.context())
    check(world, a=FIRST, b=[61], c=[62])


def test_what_is_not_kept_is_an_error_and_nothing_changes(make):
    world = make(history_days=0)
    put(world, "r1", a=FIRST, b=SECOND)
    put(world, "r2", b=[41])
    put(world, "r3", c=[51])
    with pytest.raises(TerminalError, match=r"no longer kept.*--force") as raised:
        undo("r2", world.context())
    assert raised.value.code == "history_gone"
    undo("r3", world.context())
    check(world, a=FIRST, b=[41])


def test_runs_without_rows_and_unknown_ones_are_errors(make):
    world = make()
    put(world, "r1", a=FIRST)
    put(world, "r2", b=SECOND)
    compact("small", world.context())
    run = TransactionLog(world.store, "default", "small").history()[-1].run
    with pytest.raises(TerminalError, match="changed no rows"):
        undo(run, world.context())
    with pytest.raises(TerminalError, match="has a commit of run 'r9'"):
        undo("r9", world.context())
    with pytest.raises(TerminalError, match="tenant"):
        undo("r1", world.context(), tenant="physics")


def test_a_rewritten_table_takes_nothing_back_that_does_not_fit(make):
    world = make()
    put(world, "r1", a=FIRST)
    put(world, "r2", a=[41])
    put(world, "r3", b=[51])
    rewrite("small", world.context(), types={"n": "double", "even": "string"})
    with pytest.raises(TerminalError, match="other types, folders or vectors"):
        undo("r2", world.context())
    undo("r3", world.context())
    assert world.rows("small")[world.put("a.csv", [41])].total() == 1


def test_a_busy_source_is_left_alone(make):
    world = make()
    a, _ = put(world, "r1", a=FIRST, b=SECOND)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", a)])
        with pytest.raises(TransientError, match="is locked by another job"):
            undo("r1", world.context())
    check(world, a=FIRST, b=SECOND)


def test_a_replay_is_undone_and_done_again(tmp_path, redis_url):
    world = filled(Mendable(tmp_path, redis_url))
    before = world.counts()
    world.mend(limit=2000)
    world.replay()
    (done,) = undo("again", world.context())
    assert (done.restored - done.removed, done.rejects_restored - done.rejects_removed) == (-3, 3)
    assert world.counts() == before
    world.mend()
    world.check_all()
    world.mend(limit=2000)
    world.replay(run="third")
    world.check_all()


PACKED = """
from ingestlab import Archive, Csv, Pipeline
PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={"n": "int64"})), table="packed", write_disposition="replace")
"""


def test_an_archive_is_known_by_what_came_back(make):
    world = make(milvus_uri=None)
    (world.folder / "pipelines/packed.py").write_text(PACKED)
    path = world.folder / "sources/x.zip"
    path.parent.mkdir(exist_ok=True)

    def unpack(run, **members):
        with zipfile.ZipFile(path, "w") as file:
            for name, numbers in members.items():
                file.writestr(zipfile.ZipInfo(f"{name}.csv"), "n\n" + "".join(f"{n}\n" for n in numbers))
        request = IngestRequest(run=run, pipeline="packed", sources=(Source(uri=path.as_uri()),))
        return sorted(o.status for o in ingest(request, world.context(), lambda _: None).outcomes)

    def rows():
        return sorted(Lake(world.settings).table("packed").pandas()["n"].tolist())

    assert unpack("r1", a=[1, 2], b=[3]) == ["committed", "committed"]
    assert unpack("r2", a=[4], c=[5]) == ["committed", "committed"]
    assert rows() == [4, 5]
    undo("r2", world.context())
    assert rows() == [1, 2, 3]
    assert unpack("r3", a=[1, 2], b=[3]) == ["unchanged", "unchanged"]
    assert unpack("r4", a=[4], c=[5]) == ["committed", "committed"]
    assert rows() == [4, 5]


KEYED = """
from ingestlab import Csv, Pipeline
PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}), key=["n"], write_disposition="merge", table="keyed"
)
"""


def test_rows_that_a_merge_replaced_come_back(make):
    world = make(milvus_uri=None)
    (world.folder / "pipelines/keyed.py").write_text(KEYED)

    def merge(run, name, text):
        path = world.folder / f"sources/{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("n,word\n" + text)
        request = IngestRequest(run=run, pipeline="keyed", sources=(Source(uri=path.as_uri()),))
        assert [o.status for o in ingest(request, world.context(), lambda _: None).outcomes] == ["committed"]

    def rows():
        frame = Lake(world.settings).table("keyed").pandas(["n", "word"])
        return sorted(map(tuple, frame.to_numpy().tolist()))

    merge("r1", "a", "1,a\n2,a\n")
    merge("r2", "b", "2,b\n3,b\n")
    merge("r3", "c", "3,c\n4,c\n")
    assert rows() == [(1, "a"), (2, "b"), (3, "c"), (4, "c")]
    with pytest.raises(TerminalError, match="ingestlab undo r3"):
        undo("r2", world.context())
    compact("keyed", world.context())
    undo("r3", world.context())
    assert rows() == [(1, "a"), (2, "b"), (3, "b")]
    undo("r2", world.context())
    assert rows() == [(1, "a"), (2, "a")]
    merge("r4", "c", "3,c\n1,c\n")
    assert rows() == [(1, "c"), (2, "a"), (3, "c")]


PLAIN = """
from ingestlab import Csv, Pipeline
PIPELINE = Pipeline(reader=Csv(columns={"n": "int64"}), table="TABLE", write_disposition="replace")
"""


def two_tables(make):
    world = make(milvus_uri=None)
    (world.folder / "sources").mkdir(exist_ok=True)
    for name in ("one", "two"):
        (world.folder / f"pipelines/{name}.py").write_text(PLAIN.replace("TABLE", name))
    return world


def ingest_both(world, run, *numbers) -> None:
    path = world.folder / "sources/x.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in numbers))
    for name in ("one", "two"):
        request = IngestRequest(run=run, pipeline=name, sources=(Source(uri=path.as_uri()),))
        assert [o.status for o in ingest(request, world.context(), lambda _: None).outcomes] == ["committed"]


def both(world) -> list[list[int]]:
    return [sorted(Lake(world.settings).table(name).pandas()["n"].tolist()) for name in ("one", "two")]


def test_all_tables_of_a_run_or_none(make):
    world = two_tables(make)
    ingest_both(world, "r1", 1, 2)
    ingest_both(world, "r2", 3)
    assert [report.table for report in undo("r2", world.context())] == ["one", "two"]
    assert both(world) == [[1, 2], [1, 2]]


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("way", ["again", "reconcile"])
def test_a_crash_between_tables_leaves_all_or_none(make, way, after):
    crashes = 0
    for at in range(1, 80):
        world = two_tables(make)
        ingest_both(world, "r1", 1, 2)
        ingest_both(world, "r2", 3)
        try:
            undo("r2", world.context(FaultInjector(at, after=after)))
        except Crash:
            crashes += 1
        else:
            break
        if way == "reconcile":
            world.reconcile()
            assert world.reconcile().clean
            assert both(world) in ([[1, 2], [1, 2]], [[3], [3]])
        undo("r2", world.context())
        assert both(world) == [[1, 2], [1, 2]]
        assert world.reconcile().clean
    assert crashes > 15


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize(("way", "after"), [("again", False), ("again", True), ("reconcile", True), ("ingest", True)])
def test_a_crash_at_any_step_leaves_all_or_nothing(make, way, after):
    crashes = 0
    for at in range(1, 90):
        world = make()
        put(world, "r1", a=FIRST, b=SECOND)
        put(world, "r2", b=[41, 2001], c=[51])
        try:
            undo("r2", world.context(FaultInjector(at, after=after)))
        except Crash:
            crashes += 1
        else:
            break
        if way == "reconcile":
            world.reconcile()
            assert world.reconcile().clean
            there = world.rows("small")
            assert bool(there[world.put("c.csv", [51])]) == (sum(there[world.put("b.csv", [41, 2001])].values()) == 1)
        if way == "ingest":
            world.ingest([world.put("d.csv", [61])], run="r3")
            world.ingest([world.put("c.csv", [51])], run="r2")
            undo("r3", world.context())
        undo("r2", world.context())
        check(world, a=FIRST, b=SECOND)
    assert crashes > 20
