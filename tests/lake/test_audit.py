"""The audit log: an entry before each deed, with who, what, when and from where; nothing is ever written again."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from support.webhook import serving

from ingestlab.core.errors import IngestError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import new_token, parse, token_hash
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.audit import MOST_SUBJECTS, Entry, acting, entries, note
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import TenantTable
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.undo import undo
from ingestlab.queue import submit

PIPELINE = 'from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv(columns={"n": "int64"}))\n'


@pytest.fixture
def base(settings: Callable[..., Settings], redis_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/plain.py").write_text(PIPELINE)
    pipelines = (str(tmp_path / "pipelines"),)
    names = ("default", "acme")
    return settings(redis_url=redis_url, pipelines=pipelines, executor="threads", tenants=names, audit=True)


def log(settings: Settings, tenant: str | None = None) -> list[Entry]:
    store = open_store(settings.lake_url, settings.storage_options)
    return list(entries(store, datetime.now(UTC) - timedelta(minutes=5), tenant))


def test_each_deed_is_noted(base: Settings, tmp_path: Path) -> None:
    file = tmp_path / f"{secrets.token_hex(4)}.csv"
    file.write_text("n\n1\n")
    run = submit([str(file), "https://example.org/a.csv?X-Amz-Signature=hush"], pipeline="plain", settings=base)
    run.cancel("a mistake")
    request = IngestRequest(run="r1", pipeline="plain", sources=(Source(uri=str(file)),))
    with Services.opened(base) as services:
        ingest(request, services, lambda _: None)
        undo("r1", services)
        ingest(request.model_copy(update={"run": "r2"}), services, lambda _: None)
        delete(str(file), services)
    TenantTable(base).add(parse("acme", {"weight": 2}))
    found = log(base)
    assert [e.action for e in found] == ["submit", "cancel", "undo", "delete", "tenant"]
    submitted, cancelled, undone, deleted, changed = found
    assert submitted.subjects == (file.as_uri(), "https://example.org/a.csv")
    assert (submitted.count, submitted.details["run"], submitted.tenant) == (2, run.id, "default")
    assert (cancelled.subjects, cancelled.details["reason"]) == ((run.id,), "a mistake")
    assert (undone.subjects, deleted.subjects) == (("r1",), (str(file),))
    assert (changed.tenant, changed.subjects) == ("acme", ("add",))
    assert all("@" in e.who and e.origin for e in found)
    assert "hush" not in "".join(path.read_text() for path in Path(base.lake_url).rglob("audit/**/*.jsonl"))
    assert [e.action for e in log(base, "acme")] == ["tenant"]


def test_who_cannot_write_it_down_does_nothing(base: Settings, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("n\n1\n")
    Path(base.lake_url).mkdir(parents=True)
    Path(base.lake_url, "_ingestlab").write_text("in the way")
    with pytest.raises((IngestError, OSError)):
        submit(str(file), pipeline="plain", settings=base)
    off = base.model_copy(update={"audit": False})
    submit(str(file), pipeline="plain", settings=off)


def test_entries_of_many_at_once_are_all_there(base: Settings) -> None:
    def write(number: int) -> None:
        with acting(f"person {number}", "10.0.0.1"):
            for _ in range(10):
                note("delete", "acme", [str(n) for n in range(MOST_SUBJECTS + 5)], base)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = log(base)
    assert len(found) == 40
    assert {(e.who, e.origin) for e in found} == {(f"person {n}", "10.0.0.1") for n in range(4)}
    assert {(len(e.subjects), e.count) for e in found} == {(MOST_SUBJECTS, MOST_SUBJECTS + 5)}
    assert sorted(e.at for e in found) == [e.at for e in found]


def test_the_webhook_names_the_token_and_the_address(base: Settings, tmp_path: Path) -> None:
    token = new_token("acme")
    limits = {"tokens": {"main": token_hash(token)}, "file_roots": [str(tmp_path / "in")]}
    TenantTable(base).add(parse("acme", limits))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("n\n1\n")
    with serving(base) as url:
        headers = {"Authorization": f"Bearer {token}"}
        body = {"uri": str(tmp_path / "in/a.csv"), "pipeline": "plain"}
        assert requests.post(f"{url}/announce", json=body, headers=headers, timeout=30).status_code == 202
        outside = {**body, "uri": str(tmp_path / "pipelines/plain.py")}
        assert requests.post(f"{url}/announce", json=outside, headers=headers, timeout=30).status_code == 403
        wrong = {"Authorization": f"Bearer {new_token('acme')}"}
        assert requests.post(f"{url}/announce", json=body, headers=wrong, timeout=30).status_code == 401
    (entry,) = [e for e in log(base) if e.action == "submit"]
    assert (entry.who, entry.origin, entry.tenant, entry.details["via"]) == (
        "token of acme",
        "127.0.0.1",
        "acme",
        "webhook",
    )
