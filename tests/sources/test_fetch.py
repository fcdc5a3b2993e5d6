"""Fetching from real servers and folders, well-behaved and not."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import fsspec
import pytest
from support.fetching import FOLDER, failure, get, one, quick, record
from support.servers import CHUNK, Server

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import Source
from ingestlab.core.validators import listing_version
from ingestlab.lake.storage.store import LocalStore, open_store
from ingestlab.sources.fetch import Failed, FetchedFile, Unchanged, fetch

DATA = b"id,value\n" + b"1,2\n" * 1000
BIG = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(100_000))  # 3.2 MB without a pattern


@pytest.fixture
def server():
    with Server({"a.csv": DATA, "b.csv": DATA[::-1], "big.csv": BIG, "empty.csv": b""}) as running:
        yield running


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "lake"))


# What goes well


def test_a_file_lands_under_the_hash_of_its_content(server, store):
    file = one(server.url("/files/a.csv"), store)
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert file == FetchedFile(
        uri=server.url("/files/a.csv"),
        path=f"{FOLDER}/{sha256}.csv",
        name="a.csv",
        size=len(DATA),
        sha256=sha256,
        version=f'etag:"{hashlib.md5(DATA).hexdigest()}"',
    )
    assert store.read(file.path) == DATA
    assert list(store.walk("")) == [file.path], "no temporary file is left"


def test_big_and_empty_files_and_those_without_a_length_come_whole(server, store):
    files = get([server.url(f"/files/{n}") for n in ("big.csv", "empty.csv")], store)
    assert [store.read(f.path) for f in files] == [BIG, b""]
    assert [f.size for f in files] == [len(BIG), 0]


def test_bytes_are_kept_as_they_are(server, store):
    server.files["a.csv.gz"] = gzip.compress(DATA)
    file = one(server.url("/plain/a.csv.gz?x=1"), store)
    assert store.read(file.path) == gzip.compress(DATA)
    assert file.path.endswith(".csv.gz")
    assert file.version is None
    assert server.log[0].headers["Accept-Encoding"] == "identity"


def test_many_files_come_in_order_over_few_connections(server, store):
    server.files.update({f"{i}.csv": str(i).encode() for i in range(300)})
    files = get([server.url(f"/files/{i}.csv") for i in range(300)], store)
    assert [store.read(f.path) for f in files] == [str(i).encode() for i in range(300)]
    assert len({r.peer for r in server.log}) <= quick().connections


def test_one_bad_file_does_not_stop_its_neighbours(server, store, tmp_path):
    local = tmp_path / "local.csv"
    local.write_bytes(DATA)
    uris = [
        server.url("/files/a.csv"),
        server.url("/status/404"),
        "ftp://example.org/x",
        "http://[/x",
        str(local),
        str(tmp_path / "missing.csv"),
        server.url("/short/a.csv"),
        server.url("/files/b.csv"),
    ]
    results = get(uris, store)
    assert [r.uri for r in results] == uris
    kinds = [FetchedFile, Failed, Failed, Failed, FetchedFile, Failed, Failed, FetchedFile]
    assert [type(r) for r in results] == kinds


def test_the_same_content_is_kept_once(server, store):
    server.files["same.csv"] = DATA
    first, second = get([server.url("/files/a.csv"), server.url("/plain/same.csv")], store)
    assert first.path == second.path
    before = Path(store.full(first.path)).stat().st_ino
    assert one(server.url("/files/a.csv"), store).path == first.path
    assert Path(store.full(first.path)).stat().st_ino == before, "it was not written again"
    assert list(store.walk("")) == [first.path]


def test_a_half_written_file_in_the_raw_zone_is_mended(server, store):
    file = one(server.url("/files/a.csv"), store)
    Path(store.full(file.path)).write_bytes(DATA[:10])
    assert store.read(one(server.url("/files/a.csv"), store).path) == DATA


def test_progress_counts_files_and_bytes(server, store):
    calls = []
    uris = [server.url(f"/files/{n}") for n in ("a.csv", "big.csv", "nothing.csv")]
    get(uris, store, progress=lambda *counts: calls.append(counts))
    assert calls[-1] == (3, len(DATA) + len(BIG), 0)
    assert calls == sorted(calls)


def test_progress_tells_announced_bytes_that_do_not_come(server, store):
    old, gone, new = server.url("/files/a.csv"), server.url("/status/404"), server.url("/files/big.csv")
    known = {old: record(one(old, store))}
    calls = []
    sources = [Source(uri=old, size=len(DATA)), Source(uri=gone, size=7), Source(uri=new, size=len(BIG))]
    get(sources, store, known, progress=lambda *counts: calls.append(counts))
    assert calls[-1] == (3, len(BIG), len(DATA) + 7)


def test_what_progress_raises_ends_the_fetching(server, store):
    def lost(_files, _size, _skipped):
        raise TransientError("our lock", "another's", "Wait.")

    with pytest.raises(TransientError, match="our lock"):
        get([server.url("/endless"), server.url("/silent")], store, progress=lost, read_timeout=30)
    assert list(store.walk("")) == []


# What is known


def test_an_unchanged_etag_is_not_downloaded_again(server, store):
    uri = server.url("/files/a.csv")
    known = {uri: record(one(uri, store))}
    assert one(uri, store, known) == Unchanged(uri, known[uri].version)
    assert [r.status for r in server.requests("/files/a.csv")] == [200, 304]
    server.files["a.csv"] = DATA + b"3,4\n"
    assert one(uri, store, known).size == len(DATA) + 4


def test_an_unchanged_date_is_not_downloaded_again(server, store):
    uri = server.url("/dated/a.csv")
    first = one(uri, store)
    assert first.version.startswith("modified:")
    assert one(uri, store, {uri: record(first)}) == Unchanged(uri, first.version)
    assert [r.status for r in server.requests("/dated/a.csv")] == [200, 304]


def test_the_same_bytes_with_a_new_version_are_unchanged_and_say_so(server, store):
    uri = server.url("/files/a.csv")
    known = {uri: record(one(uri, store), version='etag:"old"')}
    assert one(uri, store, known) == Unchanged(uri, f'etag:"{hashlib.md5(DATA).hexdigest()}"')
    assert server.log[-1].headers["If-None-Match"] == '"old"'
    assert server.log[-1].status == 200


def test_what_a_listing_calls_unchanged_is_not_asked_for(store):
    uri = "http://127.0.0.1:9/never-asked.csv"
    file = FetchedFile(uri=uri, path="raw/x", name="x", size=1, sha256="0" * 64, version="size:1 time:2")
    sources = [Source(uri=uri, size=1, version="size:1 time:2")] * 3
    assert get(sources, store, {uri: record(file)}) == [Unchanged(uri, "size:1 time:2")] * 3
    assert not Path(store.url).exists(), "nothing was touched"


def test_a_304_that_nobody_asked_for_is_an_error(server, store):
    assert "status 304" in failure(server.url("/status/304"), store, TerminalError)


# Bad answers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 451])
def test_a_refusal_is_final(server, store, status):
    text = failure(server.url(f"/status/{status}"), store, TerminalError)
    assert f"status {status}" in text
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [204, 206])
def test_a_success_without_a_file_is_an_error(server, store, status):
    assert f"status {status}" in failure(server.url(f"/status/{status}"), store, TerminalError)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_trouble_is_tried_again(server, store, status):
    text = failure(server.url(f"/status/{status}"), store, TransientError, fetch_attempts=3)
    assert f"status {status}" in text
    assert len(server.log) == 3


def test_trouble_that_passes_is_forgotten(server, store):
    assert store.read(one(server.url("/flaky/a.csv?fail=2"), store).path) == DATA
    assert [r.status for r in server.log] == [503, 503, 200]


def test_one_attempt_is_one_attempt(server, store):
    failure(server.url("/status/500"), store, TransientError, fetch_attempts=1)
    assert len(server.log) == 1


def test_the_server_says_when_to_come_back(server, store):
    began = time.monotonic()
    failure(server.url("/status/503?after=1"), store, TransientError, fetch_attempts=2)
    assert 1.0 <= time.monotonic() - began < 30
    assert len(server.log) == 2


def test_the_server_asks_for_too_much_patience(server, store):
    text = failure(server.url("/status/503?after=3600"), store, TransientError)
    assert "3600 s" in text
    assert len(server.log) == 1, "the job's own retries wait longer"


def test_nobody_listens(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but not listening
        text = failure(f"http://127.0.0.1:{free.getsockname()[1]}/a.csv", store, TransientError, fetch_attempts=2)
    assert "connection for" in text


def test_nobody_accepts(store):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address), socket.socket() as queued:
            queued.setblocking(False)
            queued.connect_ex(address)
            uri = f"http://127.0.0.1:{address[1]}/a.csv"
            text = failure(uri, store, TransientError, fetch_attempts=1, connect_timeout=0.3)
    assert "connection for" in text or "of silence" in text


def test_a_name_that_does_not_resolve(store):
    text = failure("http://no-such-host.invalid/a.csv", store, TransientError, fetch_attempts=1)
    assert "no-such-host.invalid" in text


def test_silence_after_the_headers(server, store):
    text = failure(server.url("/silent"), store, TransientError, fetch_attempts=1)
    assert "0.3 s of silence after 0 bytes" in text


def test_silence_before_the_headers(server, store):
    assert "0.3 s of silence" in failure(server.url("/mute"), store, TransientError, fetch_attempts=1)


def test_a_slow_drip(server, store):
    text = failure(server.url("/drip"), store, TransientError, fetch_attempts=1)
    assert "at least 1,024 bytes/s" in text


def test_a_download_that_takes_too_long_in_all(server, store):
    given = {"min_speed": 1, "fetch_timeout": 0.5}
    text = failure(server.url("/drip"), store, TransientError, **given)
    assert "within 0.5 s" in text
    assert len(server.log) == 1


def test_an_endless_body_is_stopped_at_the_limit(server, store):
    text = failure(server.url("/endless"), store, TerminalError, max_file_bytes=3 << 20)
    assert "at most 3,145,728 bytes" in text
    stopped = int(text.split("stopped after ")[1].split(" ")[0].replace(",", ""))
    assert stopped <= (3 << 20) + 8 * len(CHUNK)


def test_a_declared_terabyte_is_not_begun(server, store):
    text = failure(server.url("/huge"), store, TerminalError)
    assert "1,099,511,627,776 bytes" in text


def test_a_body_shorter_than_declared(server, store):
    text = failure(server.url("/short/a.csv"), store, TransientError, fetch_attempts=2)
    assert f"{len(DATA) + 1000:,} bytes" in text
    assert len(server.log) == 2


def test_something_that_is_not_http(server, store):
    text = failure(server.url("/garbage"), store, TransientError, fetch_attempts=2)
    assert "HTTP answer" in text


# Broken off and gone on


def test_a_broken_download_goes_on_where_it_stopped(server, store):
    assert store.read(one(server.url("/cut/big.csv"), store).path) == BIG
    first, second = server.log
    assert "Range" not in first.headers
    start = int(second.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= len(BIG) // 2
    assert second.headers["If-Range"] == f'"{hashlib.md5(BIG).hexdigest()}"'
    assert second.status == 206


def test_a_file_that_changed_meanwhile_is_downloaded_whole(server, store):
    assert store.read(one(server.url("/cut/big.csv?change=1"), store).path) == BIG[::-1]
    assert server.log[1].status == 200


def test_a_wrong_range_is_not_believed(server, store):
    file = one(server.url("/cut/big.csv?lie=1"), store)
    assert store.read(file.path) == BIG
    assert [("Range" in r.headers, r.status) for r in server.log] == [(False, 200), (True, 206), (False, 200)]


# Redirects and the guard


def test_redirects_are_followed(server, store):
    uri = server.url("/redirect?to=/redirect%3Fto=/files/a.csv")
    file = one(uri, store)
    assert (file.uri, file.sha256) == (uri, hashlib.sha256(DATA).hexdigest())


def test_redirects_without_end(server, store):
    assert "more than 5 times" in failure(server.url("/loop"), store, TerminalError)
    assert len(server.log) == 6


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("file:///etc/hostname", "an http or https URL"),
        ("s3://bucket/key", "an http or https URL"),
        ("gopher://example.org/", "one of the schemes"),
        ("http://169.254.169.254/latest", "outside 169.254.0.0/16"),
        ("http://me:secret@127.0.0.1/", "without a user"),
        ("http://127.0.0.1:x/", "which is no URL"),
        ("", "which is no URL"),
    ],
)
def test_redirects_are_guarded(server, store, target, says):
    text = failure(server.url(f"/redirect?to={target}"), store, TerminalError)
    assert says in text
    assert "redirect" in text
    assert "secret" not in text.replace(server.url(f"/redirect?to={target}"), "")


def test_a_name_that_leads_to_a_denied_network(server, store):
    uri = f"http://localhost:{server.port}/files/a.csv"
    assert isinstance(one(uri, store), FetchedFile), "the name works where its network is allowed"
    store.delete("raw")
    text = failure(uri, store, TerminalError, deny_networks="127.0.0.0/8,::1/128")
    assert "Host localhost" in text
    assert len(server.log) == 1


def test_a_redirect_to_a_host_that_is_not_allowed(server, store):
    uri = server.url(f"/redirect?to=http://localhost:{server.port}/files/a.csv")
    assert "a host that matches 127.0.0.1" in failure(uri, store, TerminalError, allow_hosts="127.0.0.1")


# Files


def test_local_files_by_path_and_by_uri(store, tmp_path):
    path = tmp_path / "a b%20.csv.gz"
    path.write_bytes(BIG)
    plain, uri = get([str(path), path.as_uri()], store)
    assert store.read(plain.path) == BIG
    assert (plain.path, plain.name, plain.size) == (uri.path, uri.name, uri.size)
    stat = path.stat()
    assert plain.version == listing_version({"size": stat.st_size, "mtime_ns": stat.st_mtime_ns})


def test_a_local_file_is_unchanged_by_its_time_or_else_by_its_content(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(DATA)
    uri = path.as_uri()
    known = {uri: record(one(uri, store))}
    assert one(uri, store, known) == Unchanged(uri, known[uri].version)
    os.utime(path, ns=(1, 1))
    assert one(uri, store, known) == Unchanged(uri, f"size:{len(DATA)} time:1")
    path.write_bytes(DATA + b"x")
    assert one(uri, store, known).size == len(DATA) + 1


def test_an_outdated_listing_of_a_local_file_does_not_matter(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(DATA)
    file = one(Source(uri=path.as_uri(), size=1, version="size:1 time:1"), store)
    assert (file.size, file.version) == (len(DATA), f"size:{len(DATA)} time:{path.stat().st_mtime_ns}")


def test_local_things_that_are_no_files(store, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "a directory" in failure(tmp_path.as_uri(), store, TerminalError)
    assert "a device, pipe or socket" in failure(str(tmp_path / "pipe"), store, TerminalError)
    assert "a device" in failure("/dev/zero", store, TerminalError)
    assert "File not found" in failure(str(tmp_path / "missing.csv"), store, TerminalError)


def test_a_local_file_above_the_limit(store, tmp_path):
    (tmp_path / "a.csv").write_bytes(DATA)
    text = failure(str(tmp_path / "a.csv"), store, TerminalError, max_file_bytes=100)
    assert f"{len(DATA):,} bytes" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_local_file_that_may_not_be_read(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(DATA)
    path.chmod(0)
    assert "PermissionError" in failure(str(path), store, TerminalError)


def test_other_filesystems(store):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/fetch-test/a.csv", DATA)
    memory.pipe_file("/fetch-test/big.csv", BIG)
    try:
        uris = [f"memory://fetch-test/{n}" for n in ("a.csv", "big.csv", "missing.csv")]
        small, big, missing = get(uris, store)
        assert store.read(small.path) == DATA
        assert store.read(big.path) == BIG
        assert isinstance(missing.error, TerminalError)
    finally:
        memory.rm("/fetch-test", recursive=True)


def test_a_listing_of_another_size_than_the_file_is_looked_up_again(store):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/fetch-test/a.csv", DATA)
    try:
        file = one(Source(uri="memory://fetch-test/a.csv", size=5, version="size:5 time:1"), store)
        assert (file.size, file.version) == (len(DATA), None)
    finally:
        memory.rm("/fetch-test", recursive=True)


def test_a_package_that_is_missing_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)
    text = failure("gs://bucket/a.csv", store, TerminalError)
    assert "ingestlab[gcs]" in text


def test_options_that_cannot_be_used(store):
    options = {"s3": {"no_such_option": 1, "client_kwargs": "no dict"}}
    assert "INGESTLAB_STORAGE_OPTIONS" in failure("s3://bucket/a.csv", store, TerminalError, storage_options=options)


# The lake


def test_a_lake_that_cannot_be_written_ends_it_all(server, tmp_path):
    (tmp_path / "lake").write_text("a file where the lake should be")
    with pytest.raises(TerminalError, match="Check the owner and mode"):
        get([server.url("/files/a.csv")], LocalStore(str(tmp_path / "lake")))


def test_a_full_disk_ends_it_all(server, tmp_path):
    class Full(LocalStore):
        """A lake whose disk is full when a file is to get its name."""

        def adopt(self, local, path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TerminalError, match="a full disk"):
        get([server.url("/files/a.csv"), server.url("/endless")], Full(str(tmp_path / "lake")))
    assert list(Full(str(tmp_path / "lake")).walk("")) == []


def test_a_disk_that_refuses_a_write_ends_it_all(server, store):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # the system refuses what lies beyond
    try:
        with pytest.raises(IngestError, match=r"room to write .* a full disk"):
            get([server.url("/files/big.csv")], store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(store.walk("")) == []


# A real S3 server


def test_s3_sources(s3, store):
    bucket = fsspec.filesystem("s3", **s3)
    bucket.mkdir("fetch-test")
    bucket.pipe_file("fetch-test/a.csv", DATA)
    bucket.pipe_file("fetch-test/big.csv", BIG * 4)
    uris = [f"s3://fetch-test/{n}" for n in ("a.csv", "big.csv", "missing.csv")] + ["s3://no-such-bucket/a.csv"]
    small, big, missing, nowhere = get(uris, store, storage_options={"s3": s3})
    assert store.read(small.path) == DATA
    assert store.read(big.path) == BIG * 4
    assert small.version == f'etag:"{hashlib.md5(DATA).hexdigest()}"'
    assert isinstance(missing.error, TerminalError)
    assert isinstance(nowhere.error, TerminalError)

    known = {small.uri: record(small)}
    assert one(small.uri, store, known, storage_options={"s3": s3}) == Unchanged(small.uri, small.version)
    bucket.pipe_file("fetch-test/a.csv", DATA[::-1])
    assert one(small.uri, store, known, storage_options={"s3": s3}).sha256 == hashlib.sha256(DATA[::-1]).hexdigest()


def test_an_s3_lake(s3, server):
    fsspec.filesystem("s3", **s3).mkdir("fetch-lake")
    lake = open_store("s3://fetch-lake/lake", {"s3": s3})
    uris = [server.url(f"/files/{n}") for n in ("a.csv", "big.csv")]
    small, big = get(uris, lake)
    assert lake.read(small.path) == DATA
    assert lake.read(big.path) == BIG
    assert get(uris, lake) == [small, big]
    assert list(lake.scratch().iterdir()) == []


def test_s3_without_credentials(store, monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    text = failure("s3://bucket/a.csv", store, TerminalError, storage_options={"s3": {"use_ssl": False}})
    assert "credentials for s3://bucket/a.csv" in text


def test_s3_without_an_answer_is_tried_again(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = {"endpoint_url": f"http://127.0.0.1:{free.getsockname()[1]}"}
        options = {
            "key": "x",
            "secret": "x",
            "client_kwargs": client,
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        text = failure("s3://bucket/a.csv", store, TransientError, storage_options={"s3": options}, fetch_attempts=1)
    assert "s3://bucket/a.csv" in text


def test_an_exception_from_a_signal_ends_the_fetch(server, store):
    """RQ ends a job that takes too long with an exception from SIGALRM: it must not be lost in an event loop."""

    def ring(_number, _frame):
        raise TimeoutError("the job's time is over")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match="the job's time"):
            fetch(
                [Source(uri=server.url("/drip"))], store=store, folder="raw", settings=quick(read_timeout=60), known={}
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 30, "before the silence that is allowed"


def test_fetching_works_where_an_event_loop_runs(server, store):
    """As in a notebook's cell."""
    server.files["a.csv"] = b"a\n1\n"

    async def cell():
        return fetch([Source(uri=server.url("/files/a.csv"))], store=store, folder="raw", settings=quick(), known={})

    (file,) = asyncio.run(cell())
    assert store.read(file.path) == b"a\n1\n"
