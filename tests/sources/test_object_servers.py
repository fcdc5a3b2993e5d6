"""Sources, lakes and syncs on two servers of S3 and one of Google Storage: odd names, many objects, versions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.lake import World
from support.workers import PATIENCE

from ingestlab.core.models import FetchedFile, Source
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Listing
from ingestlab.lake.storage.store import LocalStore, ObjectStore, open_store
from ingestlab.queue import sync
from ingestlab.sources.expand import expand
from ingestlab.sources.fetch import Failed, Fetched, fetch
from ingestlab.sources.registry import source_of

SERVERS = {  # the scheme, and the fixtures of the options and of a bucket
    "ministack": ("s3", "s3", "bucket"),
    "seaweed": ("s3", "seaweed", "seaweed_bucket"),
    "fake-gcs": ("gs", "gcs", "gcs_bucket"),
}
KEYS = (
    *(
        "a[1].csv",
        "b?.csv",
        "c#d.csv",
        "e%41.csv",
        "f%.csv",
        "g+h.csv",
        "i j.csv",
        "k%2Fl.csv",
        "m*.csv",
        "n&o=p;q,r.csv",
    ),
    *("s'\"t.csv", "~u.csv", "日本 ü.csv", "d [x]/e?#%+ /f[2].csv", "v!$(w)@:x.csv"),
)


@dataclass
class Bucket:
    """A bucket of a server."""

    scheme: str
    name: str
    options: dict[str, Any]

    @property
    def fs(self) -> Any:
        return fsspec.filesystem(self.scheme, **self.options)

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=None, storage_options={self.scheme: self.options}, fetch_delay=0.01)

    @property
    def source(self) -> Listing:
        found = source_of(self.scheme)
        assert isinstance(found, Listing)
        return found

    @property
    def client(self) -> Any:
        """botocore's own client: nothing of fsspec is between."""
        import botocore.session

        options = {"endpoint_url": self.options["client_kwargs"]["endpoint_url"], "region_name": "us-east-1"}
        keys = {"aws_access_key_id": self.options["key"], "aws_secret_access_key": self.options["secret"]}
        return botocore.session.Session().create_client("s3", **options, **keys)

    def uri(self, key: str) -> str:
        return f"{self.scheme}://{self.name}/{key}"

    def put(self, key: str, data: bytes) -> str:
        if self.scheme == "s3":
            self.client.put_object(Bucket=self.name, Key=key, Body=data)
        else:
            self.fs.pipe_file(f"{self.name}/{key}", data)
        return self.uri(key)

    def walked(self, folder: str = "") -> set[str]:
        return {file.uri for file in self.source.walk(self.uri(folder), self.settings)}

    def get(self, sources: Sequence[Source], store: LocalStore, known: Any = None) -> list[Fetched]:
        return fetch(sources, store=store, folder="raw", settings=self.settings, known=known or {})


@pytest.fixture(params=["ministack", pytest.param("seaweed", marks=pytest.mark.slow("SeaweedFS")), "fake-gcs"])
def place(request: pytest.FixtureRequest) -> Bucket:
    return opened(request, request.param)


@pytest.fixture(params=["ministack", pytest.param("seaweed", marks=pytest.mark.slow("SeaweedFS"))])
def versioned(request: pytest.FixtureRequest) -> Bucket:
    found = opened(request, request.param)
    found.client.put_bucket_versioning(Bucket=found.name, VersioningConfiguration={"Status": "Enabled"})
    return found


def opened(request: pytest.FixtureRequest, server: str) -> Bucket:
    scheme, options, name = SERVERS[server]
    return Bucket(scheme, request.getfixturevalue(name), request.getfixturevalue(options))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "lake"))


# Sources


def test_odd_names_are_the_objects_that_they_name(place, store):
    uris = [place.put(key, key.encode()) for key in KEYS]
    for key, uri in zip(KEYS, uris, strict=True):
        (source,) = expand([uri], place.settings)
        assert source.uri == uri
        found = place.source.look(uri, place.settings)
        assert found is not None
        assert (found.uri, found.size) == (uri, len(key.encode()))
    for key, file in zip(KEYS, place.get([Source(uri=uri) for uri in uris], store), strict=True):
        assert isinstance(file, FetchedFile), file
        assert store.read(file.path) == key.encode()
    assert place.walked() == set(uris)
    assert place.walked("d [x]") == {place.uri("d [x]/e?#%+ /f[2].csv")}


def test_patterns_find_odd_names(place):
    uris = {place.put(key, b"x") for key in KEYS if "/" not in key}
    assert {source.uri for source in expand([place.uri("*.csv")], place.settings)} == uris


@pytest.mark.slow("other processes")
def test_what_another_process_did_a_moment_ago_is_seen(place, store):
    uri, settings = place.uri("in/a.csv"), place.settings
    place.put("in/other.csv", b"x")
    assert expand([place.uri("in/*.csv")], settings)[0].uri == place.uri("in/other.csv")
    assert place.source.look(uri, settings) is None
    assert (len(place.walked("in")), place.fs.ls(f"{place.name}/in") != []) == (1, True)
    for size in (3, 7, 0):
        code = (
            f"import fsspec; fs = fsspec.filesystem({place.scheme!r}, **{place.options!r});"
            f"fs.pipe_file('{place.name}/in/a.csv', b'x' * {size})"
        )
        code = f"from ingestlab.core.extras import prepare_gcsfs; prepare_gcsfs('gs', {place.options!r}); {code}"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
        found = place.source.look(uri, settings)
        assert found is not None
        assert found.size == size
        assert {(s.uri, s.size) for s in expand([place.uri("in/a*.csv")], settings)} == {(uri, size)}
        (file,) = place.get([Source(uri=uri)], store)
        assert isinstance(file, FetchedFile)
        assert store.read(file.path) == b"x" * size
        assert len(place.walked("in")) == 2


def test_a_version_tells_contents_apart_and_a_listing_knows_the_same(place, store):
    uri = place.put("a.csv", b"one")
    (first,) = place.get([Source(uri=uri)], store)
    assert isinstance(first, FetchedFile)
    (walked,) = place.source.walk(place.uri(""), place.settings)
    assert walked.version == first.version
    if place.scheme == "gs":
        assert str(first.version).startswith("generation:")
        place.fs.setxattrs(f"{place.name}/a.csv", content_type="text/csv")
        (walked,) = place.source.walk(place.uri(""), place.settings)
        assert walked.version == first.version, "metadata are no content"
    place.put("a.csv", b"two")
    assert place.source.look(uri, place.settings).version != first.version


@pytest.mark.slow("a thousand objects")
def test_a_folder_of_more_than_one_page(place, store):
    names = {f"many/{n:04}[{n % 7}] +.csv" for n in range(1005)}
    place.fs.pipe({f"{place.name}/{name}": b"" for name in names})
    uris = {place.uri(name) for name in names}
    assert place.walked("many") == uris
    assert {source.uri for source in expand([place.uri("many/*.csv")], place.settings)} == uris
    lake = open_store(place.uri("many"), {place.scheme: place.options})
    assert {f"many/{path}" for path in lake.walk("")} == names
    assert len(lake.children("")) == 1005
    lake.delete_files([name.partition("/")[2] for name in names])
    assert list(lake.walk("")) == []


# Versions of S3


def test_the_latest_version_is_read_unless_a_uri_names_another(versioned, store):
    uri = versioned.put("a b.csv", b"old")
    old = versioned.client.head_object(Bucket=versioned.name, Key="a b.csv")["VersionId"]
    versioned.put("a b.csv", b"newer")
    named = f"{uri}?versionId={old}"
    for where, size in ((uri, 5), (named, 3)):
        (listed,) = expand([where], versioned.settings)
        assert (listed.uri, listed.size or size) == (where, size)
        found = versioned.source.look(where, versioned.settings)
        assert found is not None
        assert (found.uri, found.size) == (where, size)
    latest, older = versioned.get([Source(uri=uri), Source(uri=named)], store)
    assert isinstance(latest, FetchedFile)
    assert isinstance(older, FetchedFile)
    assert (store.read(latest.path), store.read(older.path)) == (b"newer", b"old")
    assert versioned.walked() == {uri}, "a listing has the latest alone"


def test_a_version_that_is_none_is_not_the_latest(versioned, store):
    uri = versioned.put("a.csv", b"x")
    named = f"{uri}?versionId=00000000-0000-0000-0000-000000000000"
    (result,) = versioned.get([Source(uri=named)], store)
    assert isinstance(result, Failed), result


def test_a_deleted_object_is_gone_and_its_versions_are_not(versioned, store):
    uri = versioned.put("a.csv", b"old")
    old = versioned.client.head_object(Bucket=versioned.name, Key="a.csv")["VersionId"]
    marker = versioned.client.delete_object(Bucket=versioned.name, Key="a.csv")["VersionId"]
    assert versioned.source.look(uri, versioned.settings) is None
    assert versioned.walked() == set()
    (older,) = versioned.get([Source(uri=f"{uri}?versionId={old}")], store)
    assert isinstance(older, FetchedFile)
    versioned.client.delete_object(Bucket=versioned.name, Key="a.csv", VersionId=marker)
    assert versioned.walked() == {uri}


# Lakes


def test_a_lake_keeps_odd_names(place):
    lake = open_store(place.uri("the lake+[1]"), {place.scheme: place.options})
    assert isinstance(lake, ObjectStore)
    for key in KEYS:
        assert lake.create(key, b"1")
        assert not lake.create(key, b"2")
        lake.write(f"{key}.new", key.encode())
        lake.move(f"{key}.new", key)
        assert (lake.read(key), lake.read(key, 1, 3), lake.size(key)) == (
            key.encode(),
            key.encode()[1:3],
            len(key.encode()),
        )
    assert set(lake.walk("")) == set(KEYS)
    assert list(lake.read_files(KEYS)) == [key.encode() for key in KEYS]
    lake.delete(KEYS[0])
    lake.delete_files(KEYS[1:-1])
    assert list(lake.walk("")) == [KEYS[-1]]


# A sync


@pytest.mark.slow("long work")
def test_a_sync_of_odd_names_finds_what_is_new_changed_and_gone(place, tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace", executor="threads", storage_options={place.scheme: place.options})
    uris = [place.put(f"in/{key}", b"n,word\n1,w\n") for key in KEYS]
    world.expected = {uri: [1] for uri in uris}

    def counts() -> tuple[int, int, int, int]:
        report = sync(place.uri("in"), pipeline="small", settings=world.settings)
        return report.new, report.changed, report.unchanged, len(report.vanished)

    assert counts() == (len(KEYS), 0, 0, 0)
    world.ingest(uris)
    world.check(uris)
    assert counts() == (0, 0, len(KEYS), 0)
    place.put(f"in/{KEYS[0]}", b"n,word\n1,w\n2,w\n")
    place.fs.rm_file(f"{place.name}/in/{KEYS[1]}")
    assert counts() == (0, 1, len(KEYS) - 2, 1)
    world.expected |= {uris[1]: []}
    world.check(uris[1:])
