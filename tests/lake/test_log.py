"""The log of a table: one entry a number, whoever believes what; and nothing is lost or doubled by it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.lake import Inline, World

from ingestlab.core.errors import BusySourceError, IngestError, LostLeaseError
from ingestlab.core.models import DataFile, IngestRequest, Manifest, Source, SourceRecord, Tally
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.log import TransactionLog, manifests
from ingestlab.lake.storage.store import LocalStore, open_store
from ingestlab.maintenance.reconcile import reconcile


def record(uri: str, batch: str) -> SourceRecord:
    return SourceRecord(uri=uri, sha256=batch, size=1, raw="raw/x", tally=Tally(), run="r", batch=batch)


def commit_of(batch: str, *uris: str, **other: Any) -> Manifest:
    target = f"tables/default/t/{batch}.parquet"
    made = {
        "run": "r",
        "tenant": "default",
        "table": "t",
        "pipeline": "p",
        "code": "c",
        "committed_at": "2026-01-01T00:00:00.000+00:00",
        "owner": batch,
        "sources": tuple(record(uri, batch) for uri in uris),
        "parts": (DataFile(target=target, staged="s", rows=1, size=1, sources=uris),),
        **other,
    }
    return Manifest(batch=batch, **made)


@pytest.fixture
def log(tmp_path) -> TransactionLog:
    return TransactionLog(open_store(str(tmp_path / "lake")), "default", "t")


def test_entries_have_the_numbers_that_follow(log):
    assert (log.tip(), log.history(), log.find("a")) == (0, [], None)
    made = [log.append(commit_of(batch, batch), log.tip()) for batch in ("a", "b", "c")]
    assert [m.sequence for m in made] == [1, 2, 3]
    assert log.history() == made
    assert log.tip() == 3
    assert (log.find("b"), log.find("b", after=1), log.find("b", after=2)) == (made[1], made[1], None)


def test_a_commit_that_has_not_seen_others_goes_behind_them(log):
    for batch in ("a", "b"):
        log.append(commit_of(batch, batch), log.tip())
    assert log.append(commit_of("c", "c"), base=0).sequence == 3


def test_the_answer_to_a_put_may_be_lost(log):
    made = log.append(commit_of("a", "a"), 0)
    assert log.append(commit_of("a", "a"), 0) == made
    assert log.tip() == 1


@pytest.mark.parametrize(
    ("mine", "error"),
    [
        (commit_of("a", "x", owner="another job"), LostLeaseError),
        (commit_of("b", "u"), LostLeaseError),
        (commit_of("b", "zip://m.csv::u"), LostLeaseError),
        (commit_of("b", replaced=("old",)), LostLeaseError),
        (commit_of("b", kind="reembed", collection={"name": "c"}), BusySourceError),
    ],
    ids=["batch", "source", "archive", "replaced", "collection"],
)
def test_a_commit_that_another_excludes_is_refused(log, mine, error):
    log.append(commit_of("a", "u", replaced=("old",), collection={"name": "c"}), 0)
    with pytest.raises(error, match="entry 1"):
        log.append(mine, 0)
    assert log.tip() == 1
    assert log.append(mine, 0, decided=True).sequence == 2


def test_a_disk_without_links_creates_a_name_once_too(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr("os.link", none)
    store = LocalStore(str(tmp_path))
    assert [store.create("a/b", data) for data in (b"1", b"2")] == [True, False]
    assert store.read("a/b") == b"1"


@pytest.mark.parametrize("kind", ["local", "memory", "s3", "gs"])
@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_of_two_that_believe_they_hold_the_lock_one_commits(tmp_path, redis_url, request, kind, disposition):
    """The first falls asleep between the last look at its locks and its log entry, for longer than they last."""
    options: dict[str, Any] = {}
    if kind == "memory":
        options = {"lake": f"memory://{tmp_path.name}-{disposition}/lake"}
    elif kind != "local":
        names = ("bucket", "s3") if kind == "s3" else ("gcs_bucket", "gcs")
        bucket, access = map(request.getfixturevalue, names)
        options = {"lake": f"{kind}://{bucket}/lake", "storage_options": {kind: access}}
    world = World(tmp_path, redis_url, disposition, **options)
    uri, other = world.put("a.csv", [1, 2, 13]), world.put("b.csv", [3, 4])
    world.ingest([uri, other], run="r0")
    world.put("a.csv", [5, 6, 7, 2000])
    asleep, wake = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    class Sleeping:
        """A store in which the first new entry waits until it is told."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def create(self, path: str, data: bytes) -> bool:
            if not asleep.is_set():
                asleep.set()
                assert wake.wait(60)
            return world.store.create(path, data)

    def sleeper() -> None:
        context = Services(world.settings, Sleeping(), world.locks, Inline())  # type: ignore[arg-type]
        asked = IngestRequest(run="r1", pipeline="small", table="t", sources=(Source(uri=uri),))
        try:
            ingest(asked, context, lambda _progress: None)
        except IngestError as error:
            errors.append(error)

    thread = threading.Thread(target=sleeper)
    thread.start()
    try:
        assert asleep.wait(60)
        for key in world.locks.client.scan_iter("*lock:*"):
            world.locks.client.delete(key)  # as if they had run out
        world.put("a.csv", [8, 9])
        assert world.ingest([uri], run="r2").outcomes[0].status == "committed"
    finally:
        wake.set()
        thread.join(60)
    assert [type(error) for error in errors] == [LostLeaseError]
    reconcile(world.context().lake)
    assert [m.run for m in manifests(world.store, "default", "small")] == ["r0", "r2"]
    if disposition == "replace":
        world.check([uri, other])
    else:
        assert world.rows("small")[uri].total() == 2 + 2, "what was there, and what the second has added"
    assert reconcile(world.context().lake).clean
