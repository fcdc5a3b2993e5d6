"""A folder and tables agree after a sync: whatever came, changed, went, or was kept away by a fault."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import redis
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from support.embedding_world import maker
from support.lake import World
from support.selection import examples
from support.workers import PATIENCE

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.locks import rewrite_lock, source_lock
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.queue import find_run, sync
from ingestlab.queue.arrival import sync as module
from ingestlab.sinks.milvus.vector_values import Where

PACKED = """
from ingestlab import Archive, Csv, Pipeline

PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={"n": "int64", "word": "string"})))
"""


@pytest.fixture
def world(tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace", executor="threads")
    fill(world, a=[1, 2], b=[3, 13], c=[5])
    return world


def fill(world: World, **files: list[int]) -> None:
    for name, numbers in files.items():
        world.put(f"{name}.csv", numbers)
    world.ingest(list(world.expected))


def folder(world: World) -> str:
    return str(world.folder / "sources")


def call(world: World, **options):
    return sync(folder(world), settings=world.settings, **options)


def remove(world: World, name: str) -> str:
    path = world.folder / "sources" / name
    path.unlink()
    world.expected[path.as_uri()] = []
    return path.as_uri()


def counts(report) -> tuple[int, int, int, int]:
    return report.new, report.changed, report.unchanged, len(report.vanished)


def test_what_is_new_or_changed_is_submitted_and_nothing_else(world):
    world.put("b.csv", [3, 4, 5])
    (world.folder / "sources/deep/down").mkdir(parents=True)
    world.put("deep/down/d.csv", [7])
    report = call(world)
    assert (report.listed, counts(report)) == (4, (1, 1, 2, 0))
    (run,) = report.runs
    assert find_run(run, world.settings).record.files == 2


def test_a_second_sync_finds_nothing_to_do(world):
    assert counts(call(world)) == (0, 0, 3, 0)
    assert call(world).runs == ()


def test_vanished_files_leave_rows_rejects_aggregates_and_vectors(tmp_path_factory, redis_url, monkeypatch):
    world = maker(tmp_path_factory, redis_url, monkeypatch)("append")
    fill(world, a=[1, 2], b=[3, 13], c=[5])
    gone = remove(world, "b.csv")
    report = call(world)
    assert (report.vanished, counts(report)) == ((gone,), (0, 0, 2, 1))
    assert [(d.table, d.sources, d.rows) for d in report.deleted] == [("small", (gone,), 1)]
    world.check(list(world.expected))
    assert world.db.count("words", Where()) == 3
    assert reconcile(world.context().lake).clean
    assert counts(call(world)) == (0, 0, 2, 0), "what is gone is gone"


def test_vanished_files_are_kept_if_asked(world):
    remove(world, "b.csv")
    report = call(world, keep_vanished=True)
    assert (len(report.vanished), report.deleted) == (1, ())
    assert len(call(world, keep_vanished=True).vanished) == 1
    assert "(kept)" in str(report)


@pytest.mark.parametrize("left", [0, 1])
def test_a_listing_that_lost_too_much_takes_nothing_out(world, left):
    for name in ("a", "b", "c")[left:]:
        (world.folder / f"sources/{name}.csv").unlink()
    with pytest.raises(TerminalError, match=f"{3 - left} of 3 files .* are not there any more") as raised:
        call(world)
    assert (raised.value.code, raised.value.got) == ("too_many_vanished", f"{left} files in the listing")
    world.check(list(world.expected))


def test_all_may_go_if_one_says_so(world):
    for name in "abc":
        remove(world, f"{name}.csv")
    assert counts(call(world, max_vanish_ratio=1)) == (0, 0, 0, 3)
    world.check(list(world.expected))


def test_what_is_new_is_submitted_though_too_much_has_vanished(world):
    for name in "abc":
        (world.folder / f"sources/{name}.csv").unlink()
    world.put("d.csv", [1])
    with pytest.raises(TerminalError, match="submitted as"):
        call(world)


def test_a_folder_that_is_not_there_is_no_empty_one(world):
    with pytest.raises(TerminalError, match="no folder") as raised:
        sync(folder(world) + "x", settings=world.settings, max_vanish_ratio=1)
    assert raised.value.code == "not_found"
    world.check(list(world.expected))


def test_files_beside_the_folder_or_the_pattern_are_left_alone(world):
    beside = world.folder / "sources2"
    beside.mkdir()
    (beside / "x.csv").write_text("n,word\n1,w\n")
    world.expected[(beside / "x.csv").as_uri()] = [1]
    world.ingest([(beside / "x.csv").as_uri()])
    (beside / "x.csv").unlink()
    assert counts(call(world)) == (0, 0, 3, 0)
    (world.folder / "sources/a.csv").unlink()
    assert counts(call(world, match="b*.csv")) == (0, 0, 1, 0)


def test_hidden_files_are_not_announced(world):
    (world.folder / "sources/.part.csv").write_text("n,word\n1,w\n")
    (world.folder / "sources/.hidden").mkdir()
    (world.folder / "sources/.hidden/x.csv").write_text("n,word\n1,w\n")
    assert call(world).listed == 3


def test_an_archive_goes_with_its_members(world):
    (world.folder / "pipelines/packed.py").write_text(PACKED)
    path = world.folder / "sources/x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p.csv", "n,word\n1,w\n")
        archive.writestr("q.csv", "n,word\n2,w\n")
    request = IngestRequest(run="r2", pipeline="packed", table="t", sources=(Source(uri=path.as_uri()),))
    assert {o.status for o in ingest(request, world.context(), lambda _progress: None).outcomes} == {"committed"}
    assert counts(call(world)) == (0, 0, 4, 0)
    path.unlink()
    report = call(world)
    assert counts(report) == (0, 0, 3, 1)
    assert sum(d.rows for d in report.deleted) == 2


def test_a_file_that_a_job_is_at_work_on_stays_for_the_next_time(world):
    gone = remove(world, "b.csv")
    with world.locks.lease() as lease:
        lease.acquire([source_lock("default", "small", gone)])
        with pytest.raises(TransientError, match=r"b\.csv"):
            call(world)
    assert counts(call(world)) == (0, 0, 2, 1)
    world.check(list(world.expected))


def test_vanished_files_wait_while_a_job_replaces_others(world, monkeypatch):
    remove(world, "b.csv")
    tried, original = threading.Event(), module.take_out

    def take_out(*args, **options):
        try:
            return original(*args, **options)
        finally:
            tried.set()

    monkeypatch.setattr(module, "take_out", take_out)
    with ThreadPoolExecutor(1) as pool:
        with world.locks.lease() as lease:
            lease.acquire([rewrite_lock("default", "small")])
            report = pool.submit(call, world)
            assert tried.wait(PATIENCE)
        assert [d.rows for d in report.result(PATIENCE).deleted] == [1]
    world.check(list(world.expected))


def test_a_file_that_came_back_between_two_walks_stays(world, monkeypatch):
    """It is there in the second walk, and committed anew before it would be taken out."""
    path, original = world.folder / "sources/b.csv", module.take_out
    path.unlink()

    def late(uris, table, services, **options):
        world.put("b.csv", [8, 9])
        world.ingest([path.as_uri()])
        return original(uris, table, services, **options)

    monkeypatch.setattr(module, "take_out", late)
    report = call(world)
    assert [d.sources for d in report.deleted] == [()]
    world.check(list(world.expected))


@pytest.mark.slow("many folders")
@given(st.lists(st.dictionaries(st.sampled_from("abcde"), st.lists(st.integers(0, 20), max_size=3)), max_size=5))
@tries(deadline=None, max_examples=examples(25))
def test_after_a_sync_table_and_folder_are_equal(valkey, states):
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home), valkey, "replace", executor="threads")
        (world.folder / "sources").mkdir()
        for stamp, state in enumerate(states, 1):
            for name in "abcde":
                path = world.folder / f"sources/{name}.csv"
                if name in state:
                    world.put(path.name, state[name])
                    os.utime(path, (stamp, stamp))
                elif path.exists():
                    remove(world, path.name)
            report = call(world, max_vanish_ratio=1)
            assert report.listed == len(state)
            if state:
                world.ingest([path.as_uri() for path in (world.folder / "sources").iterdir()])
            world.check(list(world.expected))


# A bucket


@pytest.fixture
def objects(world, s3, bucket):
    """Puts an object, which gives its URI; the world may read the bucket."""
    world.settings = world.settings.model_copy(update={"storage_options": {"s3": s3}})
    fs = fsspec.filesystem("s3", **s3)

    def put(name: str, numbers: list[int]) -> str:
        fs.pipe(f"{bucket}/{name}", ("n,word\n" + "".join(f"{n},w{n}\n" for n in numbers)).encode())
        world.expected[f"s3://{bucket}/{name}"] = numbers
        return f"s3://{bucket}/{name}"

    return put


def test_a_bucket_that_is_not_there_is_said_to_be_none(world, objects, bucket):
    with pytest.raises(TerminalError, match="There is no folder s3://none-") as raised:
        sync(f"s3://none-{bucket}", settings=world.settings)
    assert raised.value.code == "not_found"


def test_a_bucket_and_a_table_agree(world, objects, bucket, s3):
    mine = [objects(name, [1, 2]) for name in ("in/a.csv", "in/d/b c+[1]%25#?ü.csv", "in/gone.csv")]
    objects("other/x.csv", [9])
    options = {"pipeline": "small", "settings": world.settings}
    first = sync(f"s3://{bucket}/in", **options)
    assert (first.listed, counts(first)) == (3, (3, 0, 0, 0))
    assert find_run(first.runs[0], world.settings).record.files == 3
    world.ingest(mine)
    objects("in/a.csv", [3, 4, 5])
    fsspec.filesystem("s3", **s3).rm(f"{bucket}/in/gone.csv")
    world.expected[mine[2]] = []
    second = sync(f"s3://{bucket}/in/", **options)
    assert (counts(second), second.vanished) == ((0, 1, 1, 1), (mine[2],))
    world.ingest(mine[:1])
    assert counts(sync(f"s3://{bucket}/in", **options)) == (0, 0, 2, 0)
    world.check([uri for uri in world.expected if "/other/" not in uri])


def test_an_empty_bucket_takes_nothing_out(world, objects, bucket, s3):
    there = objects("in/a.csv", [1])
    world.ingest([there])
    fsspec.filesystem("s3", **s3).rm(f"{bucket}/in/a.csv")
    with pytest.raises(TerminalError, match="1 of 1 files"):
        sync(f"s3://{bucket}/in", pipeline="small", settings=world.settings)
    world.check([there])


@pytest.mark.slow("more objects than an answer of S3 has")
def test_a_listing_of_several_pages_is_whole(world, bucket, s3, objects):
    fsspec.filesystem("s3", **s3).pipe({f"{bucket}/many/{n}.csv": b"n,word\n1,w\n" for n in range(2345)})
    report = sync(f"s3://{bucket}/many", pipeline="small", settings=world.settings)
    assert (report.listed, report.new) == (2345, 2345)


def test_a_file_that_failed_for_good_is_tried_again_when_it_has_changed(ready):
    home = ready.folder / "broken"
    home.mkdir()
    (home / "a.csv").write_text("")
    options = {"pipeline": "plain", "settings": ready.settings}
    first = sync(str(home), **options)
    assert find_run(first.runs[0], ready.settings).wait(timeout=PATIENCE).count("failed") == 1
    assert (sync(str(home), **options).failed, sync(str(home), **options).runs) == (1, ())
    (home / "a.csv").write_text("n,word\n1,a\n")
    (again,) = sync(str(home), **options).runs
    assert find_run(again, ready.settings).wait(timeout=PATIENCE).count("committed") == 1
    assert counts(sync(str(home), **options)) == (0, 0, 1, 0)


def test_workers_and_syncs_bring_a_table_to_what_the_folder_has(ready, cli):
    home = ready.folder / "mirror"
    home.mkdir()
    for name in "abcd":
        (home / f"{name}.csv").write_text(f"n,word\n{ord(name)},{name}\n")
    options = ("--pipeline", "plain", "--home", ready.settings.home, "--json")
    first = json.loads(cli("sync", home, *options, REDIS_URL=ready.settings.redis).stdout)
    assert (first["new"], first["unchanged"]) == (4, 0)
    find_run(first["runs"][0], ready.settings).wait(timeout=PATIENCE)
    (home / "a.csv").unlink()
    (home / "b.csv").write_text("n,word\n1,b\n2,b\n")
    os.utime(home / "b.csv", (time.time(), time.time()))
    second = json.loads(cli("sync", home, *options, REDIS_URL=ready.settings.redis).stdout)
    assert (second["changed"], second["unchanged"], len(second["vanished"])) == (1, 2, 1)
    find_run(second["runs"][0], ready.settings).wait(timeout=PATIENCE)
    lengths = {name: len(ready.rows((home / f"{name}.csv").as_uri())) for name in "abcd"}
    assert lengths == {"a": 0, "b": 2, "c": 1, "d": 1}
