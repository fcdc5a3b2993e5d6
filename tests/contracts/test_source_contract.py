"""What every source does: one suite for http, local disks, S3 and another package's."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
import pytest
from support.fetching import record
from support.servers import Server

from ingestlab.core.access import shown
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import FetchedFile, Source
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Listing
from ingestlab.lake.storage.store import LocalStore
from ingestlab.sources.expand import expand
from ingestlab.sources.fetch import Failed, Fetched, Unchanged, fetch
from ingestlab.sources.registry import source_of

Rows = list[dict[str, Any]]
ROWS: Rows = [{"n": n, "word": f"wörd {n}"} for n in range(50)]


def encoded(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@dataclass
class Place:
    """Somewhere that files, or tables of the same rows, can be put."""

    base: str
    write: Callable[[str, Rows], None]
    lists: bool = True  # whether patterns can be asked for
    options: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, rows: Rows = ROWS) -> str:
        self.write(name, rows)
        return self.uri(name)

    def uri(self, name: str) -> str:
        return f"{self.base}/{name}.jsonl"

    def settings(self, **more: Any) -> Settings:
        quick = {"fetch_delay": 0.01, "fetch_attempts": 2, "schemes": (self.base.partition("://")[0],)}
        return Settings(_env_file=None, storage_options=self.options, **{**quick, **more})


OBJECTS = {  # the scheme, and the fixtures of a bucket and of its options
    "s3": ("s3", "bucket", "s3"),
    "seaweed": ("s3", "seaweed_bucket", "seaweed"),
    "gs": ("gs", "gcs_bucket", "gcs"),
}


SLOW = pytest.param("seaweed", marks=pytest.mark.slow("SeaweedFS"))


@pytest.fixture(params=["http", "file", "s3", SLOW, "gs", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = request.param
    if kind == "http":
        files: dict[str, bytes] = {}
        with Server(files) as server:
            yield Place(server.url("files"), lambda n, rows: files.update({f"{n}.jsonl": encoded(rows)}), lists=False)
    elif kind in OBJECTS:
        scheme, *names = OBJECTS[kind]
        bucket, options = map(request.getfixturevalue, names)
        fs = fsspec.filesystem(scheme, **options)
        write = lambda n, rows: fs.pipe(f"{bucket}/in/{n}.jsonl", encoded(rows))  # noqa: E731
        yield Place(f"{scheme}://{bucket}/in", write, options={scheme: options})
    elif kind == "sqlite":
        yield Place(f"sqlite://{tmp_path}/shop.db", lambda n, rows: write_table(tmp_path / "shop.db", n, rows))
    else:
        folder = tmp_path / "in"
        folder.mkdir()
        yield Place(folder.as_uri(), lambda n, rows: (folder / f"{n}.jsonl").write_bytes(encoded(rows)))


def write_table(file: Path, name: str, rows: Rows) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f'DROP TABLE IF EXISTS "{name}"')
        db.execute(f'CREATE TABLE "{name}" (n INTEGER, word TEXT)')
        db.executemany(f'INSERT INTO "{name}" VALUES (:n, :word)', rows)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "lake"))


def get(sources: list[Source], store: LocalStore, place: Place, known: Any = (), **more: Any) -> list[Fetched]:
    records = {f.uri: record(f) for f in known}
    return fetch(sources, store=store, folder="raw", settings=place.settings(**more), known=records)


def test_its_schemes_are_known(place):
    scheme = place.base.partition("://")[0]
    assert traits(scheme).known
    assert source_of(scheme).schemes[scheme] == traits(scheme)


def test_a_uri_names_one_file(place):
    uri = place.put("a")
    (source,) = expand([uri], place.settings())
    assert source.uri == uri
    assert source.size in (None, len(encoded(ROWS)))


def test_a_pattern_names_files_in_order(place):
    if not place.lists:
        pytest.skip("its servers have no listings")
    uris = [place.put(name) for name in ("b2", "a1", "b1")]
    sources = expand([place.uri("*")], place.settings())
    assert [source.uri for source in sources] == sorted(uris)
    assert expand([place.uri("*")], place.settings()) == sources
    assert [source.uri for source in expand([place.uri("b*")], place.settings())] == [uris[2], uris[0]]
    with pytest.raises(TerminalError) as caught:
        expand([place.uri("x*")], place.settings())
    assert caught.value.fix


def listing(place: Place) -> Listing:
    source = source_of(place.base.partition("://")[0])
    if not isinstance(source, Listing):
        pytest.skip("it lists no folders")
    return source


def test_a_folder_is_walked_to_its_last_file(place):
    source = listing(place)
    names = ("a", "deep/b", "deep/er/c", "odd [x] +&%41 ü")
    if place.base.startswith("file:"):
        (Path(unquote(place.base[7:])) / "deep/er").mkdir(parents=True)
    uris = {place.put(name) if "odd" not in name else odd(place, name) for name in names}
    for folder in (place.base, f"{place.base}/"):
        assert {file.uri for file in source.walk(folder, place.settings())} == uris


def odd(place: Place, name: str) -> str:
    place.put(name)
    return f"{place.base}/{quote(name)}.jsonl" if place.base.startswith("file:") else place.uri(name)


def test_a_walk_knows_the_versions_that_a_fetch_finds(place, store):
    source = listing(place)
    (file,) = get([Source(uri=place.put("a"))], store, place)
    (walked,) = source.walk(place.base, place.settings())
    assert (walked.uri, walked.size, walked.version) == (file.uri, file.size, file.version)


@pytest.mark.slow("a thousand objects")
def test_a_walk_goes_over_more_than_one_page(place):
    source = listing(place)
    if place.base.startswith("file:"):
        pytest.skip("a disk has no pages")
    uris = {place.put(f"p{n}", []) for n in range(1005)}
    assert {file.uri for file in source.walk(place.base, place.settings())} == uris


def test_a_folder_that_is_not_there_has_nothing(place):
    source = listing(place)
    with suppress(TerminalError):
        assert list(source.walk(f"{place.base}x", place.settings())) == []


def test_what_is_fetched_is_the_file_byte_for_byte(place, store):
    sources = expand([place.put("a"), place.put("b", ROWS[:3])], place.settings())
    moved: list[tuple[int, int]] = []
    files = fetch(
        sources,
        store=store,
        folder="raw",
        settings=place.settings(),
        known={},
        progress=lambda files, size, _skipped: moved.append((files, size)),
    )
    for file, rows in zip(files, (ROWS, ROWS[:3]), strict=True):
        assert isinstance(file, FetchedFile)
        assert store.read(file.path) == encoded(rows)
        assert file.sha256 == hashlib.sha256(encoded(rows)).hexdigest()
        assert (file.size, file.name) == (len(encoded(rows)), file.uri.rpartition("/")[2])
    assert moved[-1] == (2, len(encoded(ROWS)) + len(encoded(ROWS[:3])))


def test_what_is_known_is_unchanged_until_it_changes(place, store):
    uri = place.put("a")
    (file,) = get(expand([uri], place.settings()), store, place)
    assert isinstance(get(expand([uri], place.settings()), store, place, [file])[0], Unchanged)
    place.put("a", ROWS[1:])
    (changed,) = get(expand([uri], place.settings()), store, place, [file])
    assert isinstance(changed, FetchedFile)
    assert store.read(changed.path) == encoded(ROWS[1:])


def test_an_empty_file_is_a_file(place, store):
    (file,) = get(expand([place.put("a", [])], place.settings()), store, place)
    assert isinstance(file, FetchedFile)
    assert (file.size, store.read(file.path)) == (0, b"")


def test_what_is_not_there_fails_alone_and_for_good(place, store):
    here, gone = Source(uri=place.put("a")), Source(uri=place.uri("gone"))
    first, second = get([gone, here], store, place)
    assert isinstance(first, Failed)
    assert isinstance(first.error, TerminalError)
    assert str(first.error)
    assert first.error.fix
    assert isinstance(second, FetchedFile)
    assert len(list(store.walk("raw"))) == 1


def test_what_is_too_big_is_refused_and_leaves_nothing(place, store):
    (result,) = get([Source(uri=place.put("a"))], store, place, max_file_bytes=100)
    assert isinstance(result, Failed)
    assert "INGESTLAB_MAX_FILE_BYTES" in result.error.fix
    assert list(store.walk("")) == []


def test_a_scheme_that_the_settings_leave_out_is_refused(place, store):
    uri, settings = place.put("a"), place.settings(schemes=("gopher",))
    with pytest.raises(TerminalError, match="INGESTLAB_SCHEMES"):
        expand([uri], settings)
    (result,) = get([Source(uri=uri)], store, place, schemes=("gopher",))
    assert isinstance(result, Failed)
    assert isinstance(result.error, IngestError)


def test_many_are_fetched_at_once(place, store):
    sources = [Source(uri=place.put(f"f{n}", ROWS[: n + 1])) for n in range(24)]
    files = get(sources, store, place, connections=8)
    assert [file.uri for file in files] == [source.uri for source in sources]
    assert [store.read(file.path) for file in files] == [encoded(ROWS[: n + 1]) for n in range(24)]


def test_a_uri_that_is_shown_is_itself_without_secrets(place):
    assert shown(place.uri("a")) == place.uri("a")
