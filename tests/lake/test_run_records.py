"""The records of runs: found newest first, kept for a time, and those of earlier versions read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from ingestlab.lake.run_records import RunRecords
from ingestlab.lake.storage.store import LocalStore, open_store


class Watched(LocalStore):
    """A lake that notes which folders are listed."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.listed: list[str] = []

    def children(self, folder: str) -> list[str]:
        self.listed.append(folder)
        return super().children(folder)


def named(at: datetime, number: int = 0) -> str:
    return f"{at:%Y%m%d-%H%M%S}-{number:06x}"


def old(store, run: str, job: str, record: dict) -> None:
    """A record as versions before 0.2 wrote it."""
    store.write(f"_ingestlab/runs/{run}/{job}.json", json.dumps(record).encode())


@pytest.mark.parametrize("run", ["20261128-101112-abcdef", "nightly"])
def test_a_record_is_read_by_run_and_job(tmp_path, run):
    records = RunRecords(open_store(str(tmp_path)))
    assert (records.read(run, "j1"), records.read_run(run)) == (None, [])
    records.write(run, "j2", {"n": 2})
    records.write(run, "j1", {"n": 1})
    assert records.read(run, "j1") == {"n": 1}
    assert records.read(run, "j3") is None
    assert records.read_run(run) == [{"n": 1}, {"n": 2}]
    assert list(records.newest()) == [run]
    records.delete(run)
    records.delete("never-there")
    assert list(records.newest()) == []


def test_records_of_earlier_versions_are_read_and_listed_and_expire(tmp_path):
    store = open_store(str(tmp_path))
    records, run = RunRecords(store), "20251128-101112-abcdef"
    old(store, run, "j", {"n": 1})
    assert (records.read(run, "j"), records.read_run(run), list(records.newest())) == ({"n": 1}, [{"n": 1}], [run])
    records.expire(days=30)
    assert list(store.walk("")) == []


def test_the_newest_runs_are_found_without_a_look_at_the_others(tmp_path):
    store = Watched(str(tmp_path))
    records, now = RunRecords(store), datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
    runs = [named(now - timedelta(minutes=10 * n), n) for n in range(60)]
    for run in runs:
        records.write(run, "j", {})
    assert list(islice(records.newest(), 5)) == runs[:5]
    assert len(store.listed) == 3, store.listed
    assert list(records.newest()) == runs


def test_what_is_older_than_the_retention_goes_by_the_hour(tmp_path):
    store = open_store(str(tmp_path))
    records, now = RunRecords(store), datetime.now(UTC)
    young, gone = named(now - timedelta(days=1)), named(now - timedelta(days=3))
    for run in (young, gone, "nightly"):
        records.write(run, "j", {})
    records.expire()
    assert set(records.newest()) == {young, gone, "nightly"}
    records.expire(days=2)
    assert set(records.newest()) == {young, "nightly"}
