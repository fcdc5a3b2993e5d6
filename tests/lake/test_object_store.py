"""Lakes and sources on servers of S3 and of Google Cloud Storage, and the contract that every store keeps."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.lake import Crash, FaultInjector, World
from support.workers import CONTENT, PATIENCE, PLAIN, Workers, environment

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.engine.services import Services
from ingestlab.interfaces import Store
from ingestlab.lake.storage.store import open_store
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.queue import submit
from ingestlab.stack.services import environment as environment_of
from ingestlab.stack.valkey import free_port

# What every store does


OBJECTS = {  # the scheme, and the fixtures of a bucket and of its options
    "s3": ("s3", "bucket", "s3"),
    "seaweed": ("s3", "seaweed_bucket", "seaweed"),
    "gs": ("gs", "gcs_bucket", "gcs"),
}
SLOW = pytest.mark.slow("SeaweedFS")
SERVERS = ["s3", pytest.param("seaweed", marks=SLOW), "gs"]


def server(request: pytest.FixtureRequest, kind: str) -> tuple[str, str, dict[str, Any]]:
    """The scheme, a bucket and the options of a server."""
    scheme, bucket, options = OBJECTS[kind]
    return scheme, request.getfixturevalue(bucket), request.getfixturevalue(options)


@pytest.fixture(params=["local", "memory", *SERVERS])
def store(request, tmp_path) -> Store:
    """One store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "lake"))
    if request.param == "memory":
        return open_store(f"memory://{secrets.token_hex(4)}/lake")
    scheme, name, options = server(request, request.param)
    return open_store(f"{scheme}://{name}/lake", {scheme: options})


class TestStore:
    """The contract of `Store`."""

    def test_what_is_written_is_read_whole_and_in_ranges(self, store):
        data = bytes(range(256)) * 4
        store.write("a/b.bin", memoryview(data))
        assert store.read("a/b.bin") == data
        for start, stop in ((0, 1), (0, 1024), (10, 20), (1000, 1024), (1023, 1024), (5, None), (0, None)):
            assert store.read("a/b.bin", start, stop) == data[start:stop], (start, stop)
        assert store.size("a/b.bin") == len(data)

    @pytest.mark.parametrize(("start", "stop"), [(7, 7), (0, 0), (100, 200), (100, None), (5, 200)])
    def test_ranges_that_are_empty_or_reach_beyond_the_end(self, store, start, stop):
        store.write("a", b"0123456789")
        assert store.read("a", start, stop) == b"0123456789"[start:stop]

    def test_a_file_is_replaced_and_seen_at_once(self, store):
        store.write("a", b"1")
        assert (store.exists("a"), store.size("a"), list(store.walk(""))) == (True, 1, ["a"])
        store.write("a", b"22")
        assert (store.read("a"), store.size("a")) == (b"22", 2)
        store.write("empty", b"")
        assert (store.read("empty"), store.size("empty"), store.exists("empty")) == (b"", 0, True)

    def test_what_is_not_there(self, store):
        assert not store.exists("x")
        assert list(store.walk("x")) == []
        store.delete("x")
        for look in (store.read, store.size):
            with pytest.raises(FileNotFoundError):
                look("x/y")
        with pytest.raises(FileNotFoundError):
            store.read("x", 1, 2)
        with pytest.raises(FileNotFoundError):
            store.move("x", "y")
        store.write("folder/a", b"")
        assert not store.exists("folder"), "a folder is no file"

    def test_a_name_is_created_once(self, store):
        made = [store.create("a/b/1", data) for data in (b"first", memoryview(b"second"), b"first")]
        assert made == [True, False, False]
        assert store.read("a/b/1") == b"first"
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda i: store.create("a/b/2", str(i).encode()), range(8)))
        assert made.count(True) == 1 or store.url.startswith("memory://")  # whose open(…, "xb") is no atomic step
        assert store.read("a/b/2") == str(made.index(True)).encode() or store.url.startswith("memory://")
        assert list(store.walk("a")) == ["a/b/1", "a/b/2"]

    def test_the_children_of_a_folder(self, store):
        for path in ("t/b", "t/a/c", "t/a/d/e", "tt/f"):
            store.write(path, b"x")
        assert [store.children(folder) for folder in ("t", "t/a", "t/b", "u")] == [["a", "b"], ["c", "d"], [], []]

    def test_many_files_are_read_in_order_and_one_that_is_gone_is_none(self, store):
        names = [f"a/{i}" for i in (3, 1, 2)]
        for name in names:
            store.write(name, name.encode())
        assert list(store.read_files([*names, "a/4", "b/1"])) == [*(n.encode() for n in names), None, None]
        assert list(store.read_files([])) == []

    def test_a_move_may_be_repeated(self, store):
        store.write("from/a", b"new")
        store.write("to/a", b"old")
        for _ in range(2):
            store.move("from/a", "to/a")
            assert (store.read("to/a"), store.exists("from/a")) == (b"new", False)

    def test_a_walk_finds_what_lies_below_and_not_beside(self, store):
        for path in ("t/b", "t/a/c", "t__rejects/d", "t/a b=%20/e ü.parquet", "u"):
            store.write(path, b"x")
        assert list(store.walk("t")) == sorted(["t/b", "t/a/c", "t/a b=%20/e ü.parquet"])
        assert list(store.walk("")) == sorted(["t/b", "t/a/c", "t__rejects/d", "t/a b=%20/e ü.parquet", "u"])

    def test_a_deletion_takes_a_file_or_a_folder_and_no_neighbour(self, store):
        for path in ("t/a", "t/deep/b", "t/deep/c", "t/deeper", "tt"):
            store.write(path, b"x")
        store.delete("t/a")
        store.delete("t/deep")
        assert list(store.walk("")) == ["t/deeper", "tt"]
        for _ in range(2):
            store.delete("t")
        assert list(store.walk("")) == ["tt"]

    def test_a_finished_file_is_adopted(self, store):
        local = store.scratch() / "made"
        local.write_bytes(b"made")
        store.adopt(local, "raw/x.csv")
        assert store.read("raw/x.csv") == b"made"
        assert not local.exists()
        assert list(store.walk("raw")) == ["raw/x.csv"]

    def test_another_process_is_believed_more_than_a_cache(self, store):
        """A second store object stands for the other process: it shares no cache with the first."""
        remote = store.url.startswith(("s3://", "gs://"))
        options = store.fs.storage_options | {"skip_instance_cache": True} if remote else {}
        other = type(store)(store.url, options) if hasattr(store, "fs") else type(store)(store.url)
        store.write("t/a", b"1")
        assert (list(store.walk("t")), store.size("t/a"), store.exists("t/b")) == (["t/a"], 1, False)
        other.write("t/a", b"333")
        other.write("t/b", b"2")
        assert (store.size("t/a"), store.exists("t/b"), store.read("t/a")) == (3, True, b"333")
        assert list(store.walk("t")) == ["t/a", "t/b"]
        other.delete("t/a")
        assert (store.exists("t/a"), list(store.walk("t"))) == (False, ["t/b"])

    def test_other_tools_find_a_file_under_its_full_name(self, store):
        store.write("t/a.txt", b"x")
        options = dict(store.fs.storage_options) if hasattr(store, "fs") else {}
        with fsspec.open(store.full("t/a.txt"), "rb", **options) as file:
            assert file.read() == b"x"


def test_a_store_that_does_not_answer_may_do_so_later(monkeypatch):
    address = f"http://127.0.0.1:{free_port()}"
    options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": address}}
    options["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 0.2}
    away = open_store("s3://bucket/lake", {"s3": options})
    monkeypatch.setattr(away.fs, "retries", 1)
    calls: list[Callable[[], Any]] = [
        lambda: away.write("a", b"x"),
        lambda: away.read("a"),
        lambda: away.exists("a"),
        lambda: away.size("a"),
        lambda: list(away.walk("a")),
        lambda: away.move("a", "b"),
        lambda: away.delete("a"),
        lambda: away.delete_files(["a"]),
        lambda: list(away.read_files(["a"])),
    ]
    for call in calls:
        with pytest.raises(TransientError, match="Cannot reach"):
            call()


@pytest.mark.parametrize("kind", ["s3", "gs"])  # SeaweedFS makes it
def test_a_bucket_that_is_not_there_stays_so(request, kind):
    scheme, _, options = server(request, kind)
    options = {scheme: options}
    with pytest.raises(TerminalError, match="bucket"):
        open_store(f"{scheme}://no-such-bucket/lake", options).write("a", b"x")


@pytest.mark.parametrize("named", ["option", "variable"])
def test_an_emulator_of_gcs_is_spoken_to_by_http_alone(gcs, gcs_bucket, named):
    """In a process of its own: gcsfs chooses its client when it is imported."""
    options = gcs if named == "option" else {"token": "anon", "project": "test"}
    url = {"STORAGE_EMULATOR_HOST": gcs["endpoint_url"]} if named == "variable" else {}
    code = f"""
from ingestlab.lake.storage.store import open_store
store = open_store("gs://{gcs_bucket}/lake", {{"gs": {options!r}}})
print(store.create("a", b"1"), store.create("a", b"2"), type(store.fs).__name__)
"""
    environ = {**environment(), **url}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.split() == ["True", "False", "GCSFileSystem"], done.stderr


# A lake on S3, through real workers


def content(name: str) -> bytes:
    """A file like no other."""
    return b"n,word\n" + b"".join(b"%d,%s%d\n" % (i, name.encode(), i) for i in range(100))


@pytest.fixture
def lake(s3, bucket, settings, redis_url, stack, tmp_path) -> Settings:
    """Settings of a lake in a bucket, with the stack's Dask workers."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/plain.py").write_text(PLAIN)
    (tmp_path / "pipelines/latest.py").write_text(PLAIN.replace(", matches", ', write_disposition="replace", matches'))
    return settings(
        redis_url=redis_url,
        dask_scheduler=stack.dask_scheduler,
        pipelines=(str(tmp_path / "pipelines"),),
        lake=f"s3://{bucket}/lake",
        storage_options={"s3": s3},
        beat=0.5,
        retry_delays=(),
    )


def test_sources_and_lake_on_s3_from_a_glob_to_a_frame(lake, s3, bucket, tmp_path):
    source = fsspec.filesystem("s3", **s3)
    for name in ("a", "b", "c"):
        source.pipe_file(f"{bucket}/in/{name}.csv", content(name))
    source.pipe_file(f"{bucket}/in/other.txt", b"x")
    pattern = f"s3://{bucket}/in/*.csv"
    with Workers(lake, tmp_path) as workers:
        workers.have(1)
        first = submit(pattern, pipeline="latest", settings=lake)
        result = first.wait(PATIENCE)
        assert [o.uri for o in result.outcomes] == [f"s3://{bucket}/in/{n}.csv" for n in "abc"]
        assert result.count("committed") == 3, result.failed

        for name in ("a", "b", "c"):  # the same versions, but nothing left to download: the listing must do
            source.pipe_file(f"{bucket}/in/{name}.csv", content(name))
        again = submit(pattern, pipeline="latest", settings=lake)
        source.rm(f"{bucket}/in/a.csv")
        assert again.wait(PATIENCE).count("unchanged") == 3

        source.pipe_file(f"{bucket}/in/b.csv", b"n,word\n7,new\n")
        assert submit(pattern, pipeline="latest", settings=lake).wait(PATIENCE).count("committed") == 1

    table = Lake(lake).table("latest")
    assert table.path == f"s3://{bucket}/lake/tables/default/latest"
    assert (table.rows, len(table.pandas())) == (201, 201)
    assert table.pandas(["word"], where=None)["word"].value_counts()["new"] == 1
    by_dask = table.dask().compute(scheduler="sync")
    assert sorted(by_dask["word"]) == sorted(table.pandas()["word"])
    stranger = pd.read_parquet(table.path, storage_options=s3)
    assert len(stranger) == 201
    assert not stranger.duplicated(["_source", "_row"]).any()
    assert set(stranger["_source"]) == {f"s3://{bucket}/in/{n}.csv" for n in "abc"}
    with Services.opened(lake) as services:
        assert reconcile(services.lake).clean


@pytest.mark.slow("long work")
def test_credentials_may_come_from_the_environment_alone(lake, s3, bucket, tmp_path):
    plain = lake.model_copy(update={"storage_options": {}})
    environ = {
        **environment(),
        **environment_of(plain),
        "AWS_ACCESS_KEY_ID": s3["key"],
        "AWS_SECRET_ACCESS_KEY": s3["secret"],
        "AWS_ENDPOINT_URL": s3["client_kwargs"]["endpoint_url"],
        "DASK_SCHEDULER_ADDRESS": "",  # the stack's Dask workers do not have them
    }
    environ.pop("INGESTLAB_DASK_SCHEDULER")
    (tmp_path / "a.csv").write_bytes(CONTENT)
    run = submit(f"{tmp_path}/a.csv", pipeline="plain", settings=plain)
    command = [sys.executable, "-m", "rq.cli", "worker", "-b", plain.queue, "--url", plain.redis]
    environ["RQ_WORKER_CLASS"] = "ingestlab.worker.IngestWorker"
    subprocess.run(command, env=environ, capture_output=True, timeout=PATIENCE, check=False)
    assert run.wait(1).count("committed") == 1
    show = [sys.executable, "-m", "ingestlab", "tables", "--json"]
    done = subprocess.run(show, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert [t["rows"] for t in json.loads(done.stdout)] == [100]


# Crashes

FIRST, SECOND = [1, 2, 13, 4, 5000], [7, 8, 9, 13, 2000, 10]


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_crash_at_any_step_of_a_replacement(tmp_path_factory, redis_url, request, kind, after):
    scheme, bucket, options = server(request, kind)
    crashes = 0
    for at in range(1 + after, 60, 3):  # every third step: tests of the local lake take them all
        place = {"lake": f"{scheme}://{bucket}/{at}", "storage_options": {scheme: options}}
        world = World(tmp_path_factory.mktemp("w"), redis_url, "replace", **place)
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([a, b], run="r0")
        world.put("a.csv", [21, 22, 13, 23, 4000, 24])
        try:
            world.ingest([a], FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if at % 2:
            reconcile(world.context().lake)
        world.ingest([a])
        world.check([a, b])
    assert crashes > 3


@pytest.mark.parametrize("kind", SERVERS)
def test_parquet_is_what_the_manifest_says(tmp_path, redis_url, request, kind):
    scheme, bucket, options = server(request, kind)
    world = World(tmp_path, redis_url, lake=f"{scheme}://{bucket}/lake", storage_options={scheme: options})
    world.ingest([world.put("a.csv", FIRST)])
    table = Lake(world.settings).table("small")
    for part in table.parts:
        with fsspec.open(f"{scheme}://{bucket}/lake/{part.target}", "rb", **options) as file:
            assert pq.ParquetFile(file).metadata.num_rows == part.rows
        assert world.store.size(part.target) == part.size
    assert Path(part.target).suffix == ".parquet"
