"""Names with characters of patterns, on disks and object stores: what exists under a name is meant by it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.fetching import quick, record

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import Source
from ingestlab.core.settings import STACK_FILE
from ingestlab.lake.storage.store import LocalStore
from ingestlab.sources.expand import expand
from ingestlab.sources.fetch import Unchanged
from ingestlab.sources.filesystems import FileSource
from ingestlab.sources.raw_zone import IncomingFile, RawZone
from ingestlab.stack.state import Proc

KEYS = [
    *("a[1].csv", "a1.csv", "what?.csv", "what1.csv", "a*b.csv", "aXb.csv", "[!x].csv", "y.csv"),
    *("d[1]/x.csv", "d1/x.csv", "d1/z.csv", "e?/[1].csv", "e?/1.csv", "e1/1.csv"),
    *("#1.csv", "%41.csv", "a+b.csv", "a b.csv", "a;b.csv", "ü.csv"),
]
EXPECTED = [  # what is asked for, what comes; None where nothing does
    ("a[1].csv", ["a[1].csv"]),
    ("what?.csv", ["what?.csv"]),
    ("a*b.csv", ["a*b.csv"]),
    ("[!x].csv", ["[!x].csv"]),
    ("a[2].csv", None),
    ("a[12].csv", ["a1.csv"]),
    ("wha?1.csv", ["what1.csv"]),
    ("a*.csv", ["a b.csv", "a*b.csv", "a+b.csv", "a1.csv", "a;b.csv", "aXb.csv", "a[1].csv"]),
    ("d[1]/*.csv", ["d[1]/x.csv"]),
    ("d[1]/x.csv", ["d[1]/x.csv"]),
    ("d[12]/*.csv", ["d1/x.csv", "d1/z.csv"]),
    ("d[1]/none.csv", None),
    ("e?/[1].csv", ["e?/[1].csv"]),
    ("e?/*.csv", ["e?/1.csv", "e?/[1].csv"]),
    ("#1.csv", ["#1.csv"]),
    ("%41.csv", ["%41.csv"]),
    ("a+b.csv", ["a+b.csv"]),
    ("a b.csv", ["a b.csv"]),
    ("a;b.csv", ["a;b.csv"]),
    ("ü.csv", ["ü.csv"]),
]
PATTERNS = [  # with `glob`: the same names as patterns
    ("a[1].csv", ["a1.csv"]),
    ("what?.csv", ["what1.csv", "what?.csv"]),
    ("d[1]/*.csv", ["d1/x.csv", "d1/z.csv"]),
    ("ü.csv", ["ü.csv"]),
]
CASES = [(*case, False) for case in EXPECTED] + [(*case, True) for case in PATTERNS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("names")
    for key in KEYS:
        (home / key).parent.mkdir(exist_ok=True)
        (home / key).write_text(key)
    return home


@pytest.fixture(scope="module")
def bucket(s3):
    fs = fsspec.filesystem("s3", **s3)
    fs.call_s3("create_bucket", Bucket="names")
    for key in KEYS:
        fs.call_s3("put_object", Bucket="names", Key=f"in/{key}", Body=key.encode())
    return fs


def found(uris, settings, glob):
    return [source.uri for source in expand(uris, settings, glob=glob)]


@pytest.mark.parametrize(("asked", "come", "glob"), CASES)
def test_local_names(folder, asked, come, glob):
    if come is None:
        with pytest.raises(TerminalError, match="files that match"):
            expand([f"{folder}/{asked}"], quick())
        return
    assert found([f"{folder}/{asked}"], quick(), glob) == [(folder / name).as_uri() for name in come]


@pytest.mark.parametrize(("asked", "come", "glob"), CASES)
def test_keys_of_s3(bucket, s3, asked, come, glob):
    settings, uri = quick(storage_options={"s3": s3}), f"s3://names/in/{asked}"
    if come is None:
        with pytest.raises(TerminalError, match="files that match"):
            expand([uri], settings)
        return
    assert sorted(found([uri], settings, glob)) == sorted(f"s3://names/in/{name}" for name in come)


def test_a_name_that_exists_brings_its_own_bytes(bucket, s3, tmp_path):
    from support.fetching import get

    settings, store = quick(storage_options={"s3": s3}), LocalStore(str(tmp_path))
    for key in ("a[1].csv", "what?.csv", "a*b.csv", "e?/[1].csv", "%41.csv", "#1.csv"):
        (file,) = get(expand([f"s3://names/in/{key}"], settings), store, storage_options={"s3": s3})
        assert store.read(file.path) == key.encode()


def test_what_marks_folders_is_no_file(s3):
    fs = fsspec.filesystem("s3", **s3)
    fs.call_s3("create_bucket", Bucket="marks")
    for key in ("mk/", "mk/sub/", "mk/empty.csv", "mk/had_$folder$", "mk/azure"):
        fs.call_s3("put_object", Bucket="marks", Key=key, Body=b"")
    for key in ("mk/a.csv", "mk/sub/b.csv", "mk/azure/c.csv"):
        fs.call_s3("put_object", Bucket="marks", Key=key, Body=b"x")
    settings = quick(storage_options={"s3": s3})
    files = [f"s3://marks/mk/{name}" for name in ("a.csv", "azure/c.csv", "empty.csv", "sub/b.csv")]
    assert found(["s3://marks/mk/**"], settings, glob=False) == files
    assert found(["s3://marks/mk/*"], settings, glob=False) == [files[0], files[2]]
    fs.call_s3("put_object", Bucket="marks", Key="only/", Body=b"")
    with pytest.raises(TerminalError, match="files that match"):
        expand(["s3://marks/only/**"], settings)


def test_a_pattern_in_another_filesystem(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/odd/a[1].csv", b"x")
    memory.pipe_file("/odd/a1.csv", b"y")
    try:
        assert found(["memory://odd/a[1].csv"], quick(), glob=False) == ["memory://odd/a[1].csv"]
        assert found(["memory://odd/a[1].csv"], quick(), glob=True)[0].endswith("/odd/a1.csv")
    finally:
        memory.rm("/odd", recursive=True)


def test_the_home_folder_and_relative_patterns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert found(["d[1]/*.csv"], quick(), glob=False) == [(folder / "d[1]/x.csv").as_uri()]


class Unwrapping(MemoryFileSystem):
    """As Google Cloud Storage is with objects that have a Content-Encoding: listed packed, they come unpacked."""

    protocol = ("memory", "gs")
    store: dict = {}  # noqa: RUF012 - as in its base
    packed = 100
    changed = 0

    def info(self, path, **options):
        self.changed += "late" in path
        generation = str(1 + self.changed * ("late" in path))
        told = {"contentEncoding": "gzip", "etag": f"e{generation}", "generation": generation, "size": self.packed}
        return {**super().info(path, **options), **told}


class UnwrappingSource(FileSource):
    """Files on one filesystem, whatever their scheme."""

    def __init__(self, filesystem):
        self.filesystem = filesystem

    def client(self, scheme, settings):
        return self.filesystem

    def get(self, zone, settings, source, known):
        async def one():
            async with self.opened(lambda uri: IncomingFile(zone, uri), settings, pages=False) as fetch:
                return await fetch(source, known)

        return asyncio.run(one())


@pytest.mark.parametrize("size", [300, 3 << 20])
@pytest.mark.parametrize("listed", [True, False])
def test_an_object_that_is_stored_packed_and_comes_unpacked(tmp_path, size, listed):
    data = os.urandom(size)
    fs = Unwrapping()
    fs.packed = size // 3
    fs.pipe_file("/bkt/a.csv", data)
    store = LocalStore(str(tmp_path))
    sources, here = UnwrappingSource(fs), (RawZone(store, "raw", quick()), quick())
    source = (
        Source(uri="memory://bkt/a.csv", size=size // 3, version="generation:1")
        if listed
        else Source(uri="memory://bkt/a.csv")
    )
    file = sources.get(*here, source, None)
    assert store.read(file.path) == data
    assert (file.size, file.version) == (size, "generation:1")
    assert sources.get(*here, source, record(file)) == Unchanged("memory://bkt/a.csv", "generation:1")


def test_one_that_changes_meanwhile_is_an_error(tmp_path):
    fs = Unwrapping()
    fs.pipe_file("/bkt/late.csv", b"x" * 300)
    here = RawZone(LocalStore(str(tmp_path)), "raw", quick()), quick(fetch_attempts=1)
    with pytest.raises(TransientError, match="a file that changed"):
        UnwrappingSource(fs).get(*here, Source(uri="memory://bkt/late.csv"), None)


@pytest.fixture
def own_stack(tmp_path):
    """Settings that lead to the running stack of their home: its workers see the same disks."""
    home, url = tmp_path / "home", "redis://127.0.0.1:1/0"
    home.mkdir()
    told = {"settings": {"redis_url": url}, "pids": {"supervisor": Proc.of(os.getpid()).to_dict()}}
    (home / STACK_FILE).write_text(json.dumps(told))
    return quick(home=home, redis_url=url)


def test_a_missing_file_is_refused_where_the_workers_are_on_this_machine(own_stack, tmp_path):
    (tmp_path / "alarms.csv").write_text("x")
    with pytest.raises(TerminalError, match=r"File not found: .*/alarm.csv. Did you mean 'alarms.csv'\?"):
        expand([f"{tmp_path}/alarm.csv"], own_stack)
    with pytest.raises(TerminalError, match=f"There is no folder {tmp_path}/gone"):
        expand([f"file://{tmp_path}/gone/alarm.csv"], own_stack)
    with pytest.raises(TerminalError, match="File not found"):
        expand([f"{tmp_path}/alarms.csv/x.csv"], own_stack)
    assert expand([f"{tmp_path}/alarms.csv"], own_stack)[0].size == 1


@pytest.mark.parametrize("elsewhere", [{"redis_url": "redis://127.0.0.1:2/0"}, {"home": Path("/nowhere")}])
def test_a_missing_file_is_left_to_workers_that_may_see_another_disk(own_stack, tmp_path, elsewhere):
    (source,) = expand([f"{tmp_path}/gone.csv"], own_stack.model_copy(update=elsewhere))
    assert source == Source(uri=(tmp_path / "gone.csv").as_uri())


@pytest.mark.parametrize(
    ("files", "write"),
    [
        (["a.csv", "b.csv", "c.txt"], "*.csv"),
        (["a.csv.gz", ".hidden", ".hidden2"], "*.csv.gz"),
        (["2020/a.parquet", "2021/b.parquet"], "**/*.parquet"),
        (["LICENSE"], "*"),
        ([], "*"),
    ],
)
def test_a_folder_is_refused_with_the_pattern_that_means_its_files(tmp_path, files, write):
    folder = tmp_path / "in put"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    for uri in (str(folder), f"{folder}/", folder.as_uri()):
        with pytest.raises(TerminalError) as refused:
            expand([uri], quick())
        assert str(refused.value).startswith(f"This is a folder: {folder}")
        assert f'"{folder}/{write}"' in refused.value.fix
