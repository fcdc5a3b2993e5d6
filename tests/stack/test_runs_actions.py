"""Buttons of the Runs page: who may press them, and what they do to real runs."""

from __future__ import annotations

import http.cookiejar
import itertools
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from support.dashboard import scheduler
from support.workers import PATIENCE, Yard, until

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import load_settings
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.queue import find_run
from ingestlab.stack.dashboard.actions import Guard
from ingestlab.stack.services import environment as environment_of

TOKEN = "correct horse battery"
NUMBERS = itertools.count()
STRICT = """
from typing import Any
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

class Row(pa.DataFrameModel):
    m: Any = pa.Field(le={limit})

PIPELINE = Pipeline(reader=Csv(columns={{"m": "int64"}}), contract=Row)
"""
HELD = """
import time
from pathlib import Path
from ingestlab import Csv, Pipeline

def clean(frame):
    folder = Path({folder!r})
    (folder / "began-clean").touch()
    while not (folder / "open").exists():
        time.sleep(0.05)
    return frame

PIPELINE = Pipeline(reader=Csv(columns={{"n": "int64", "word": "string"}}), clean=clean)
"""


class Reader:
    """Somebody with a browser, as far as cookies and forms go."""

    def __init__(self, base: str) -> None:
        self.base, self.cookies = base, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        return self._open(urllib.request.Request(f"{self.base}/{path}"))[1]

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> tuple[int, str]:
        data = urlencode(fields).encode()
        return self._open(urllib.request.Request(f"{self.base}/{path}", data, headers or {}))

    def press(self, run: str, do: str, **fields: str) -> tuple[int, str]:
        """Presses a button that the run's page has."""
        page = self.get(f"runs/{run}")
        assert f'value="{do}"' in page, f"there is a button {do}"
        return self.post(f"runs/{run}", do=do, stamp=self.stamp(page), **fields)

    def stamp(self, page: str) -> str:
        return re.findall(r'name="stamp" value="([0-9a-f]{64})"', page)[0]

    def _open(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def dashboard(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler's dashboard with buttons, over the yard's queue and lake."""
    env = {**environment_of(yard.settings), "INGESTLAB_DASHBOARD_TOKEN": TOKEN}
    with scheduler(tmp_path_factory.mktemp("scheduler"), **env) as base:
        yield base


@pytest.fixture
def reader(dashboard: str, ready: Yard) -> Reader:
    """A reader who has given the token."""
    reader = Reader(dashboard)
    run = ready.submit(ready.file(f"first-{next(NUMBERS)}.csv"))
    assert reader.post(f"runs/{run.id}", do="sign-in", token=TOKEN)[0] == 200
    return reader


# --- who may ---------------------------------------------------------------------------------------------------------


def test_a_session_belongs_to_a_token_and_a_stamp_to_a_session():
    guard, other = Guard(TOKEN), Guard(TOKEN + "!")
    assert guard.begin("wrong") is None
    assert Guard(None).begin("") is None
    mine, yours = guard.begin(TOKEN), guard.begin(TOKEN)
    assert guard.admits(mine, guard.stamp(mine))
    assert not guard.admits(mine, guard.stamp(yours)), "a stamp of another session"
    assert not guard.admits(mine, "")
    assert not guard.admits("", guard.stamp(mine))
    assert other.stamp(mine) == "", "the token has changed"
    assert not other.admits(mine, "")
    assert not Guard(None).admits("", "")


@pytest.mark.slow("long work")
def test_without_the_setting_there_are_commands_alone(ready, stack, tmp_path):
    with scheduler(tmp_path, **environment_of(ready.settings)) as base:
        run = ready.submit(ready.file(f"plain-{next(NUMBERS)}.csv"))
        run.wait(PATIENCE)
        reader = Reader(base)
        page = reader.get(f"runs/{run.id}")
        assert f"ingestlab forget {run.id}" in page
        assert 'method="post"' not in page
        for fields in ({"do": "sign-in", "token": ""}, {"do": "forget", "stamp": ""}):
            assert reader.post(f"runs/{run.id}", **fields)[0] == 403
        assert find_run(run.id, ready.settings).id == run.id


def test_who_has_no_session_or_no_stamp_of_it_does_nothing(reader, dashboard, ready):
    run = ready.submit(ready.file(f"kept-{next(NUMBERS)}.csv"))
    run.wait(PATIENCE)
    stranger = Reader(dashboard)
    page = stranger.get(f"runs/{run.id}")
    assert 'value="sign-in"' in page
    assert 'value="forget"' not in page
    assert TOKEN not in page
    stamp = reader.stamp(reader.get(f"runs/{run.id}"))
    assert stranger.post(f"runs/{run.id}", do="forget", stamp=stamp)[0] == 403, "a stamp alone"
    assert reader.post(f"runs/{run.id}", do="forget")[0] == 403, "a cookie alone, as another site's form would bring"
    other = {"Sec-Fetch-Site": "same-site"}
    assert reader.post(f"runs/{run.id}", other, do="forget", stamp=stamp)[0] == 403, "another port of this host"
    assert stranger.post(f"runs/{run.id}", do="sign-in", token="x" * 20)[0] == 403
    assert find_run(run.id, ready.settings).progress().state == "finished"
    (cookie,) = reader.cookies
    assert cookie.path == "/runs"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"
    assert reader.press(run.id, "sign-out")[0] == 200
    assert 'value="forget"' not in reader.get(f"runs/{run.id}")


def test_a_short_token_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("INGESTLAB_DASHBOARD_TOKEN", "hunter2")
    with pytest.raises(TerminalError, match=r"dashboard_token.*16 characters") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


# --- what they do ----------------------------------------------------------------------------------------------------


@pytest.mark.slow("long work")
def test_cancel_ends_what_runs_within_seconds_and_leaves_no_lock_and_no_staging(reader, ready):
    folder = ready.folder / "gates" / f"held-{next(NUMBERS)}"
    folder.mkdir(parents=True)
    ready.pipeline("held", HELD.format(folder=str(folder)))
    uri = ready.file(f"{folder.name}.csv")
    run = ready.submit(uri, pipeline="held")
    until((folder / "began-clean").exists, 60, "a task at work")
    began = time.monotonic()
    status, page = reader.press(run.id, "cancel", reason="wrong <b>file</b>")
    assert status == 200
    assert "Cancelled: 1 job." in page
    result = run.wait(PATIENCE)
    assert time.monotonic() - began < 40, "some 3 s on an idle machine; the task itself waits on"
    assert result.state == "cancelled"
    page = reader.get(f"runs/{run.id}")
    assert "Job was cancelled by the Runs page: wrong &lt;b&gt;file&lt;/b&gt;" in page
    assert not list(ready.client.scan_iter("ingestlab:*:lock:*")), "no lock is left"
    store = open_store(ready.settings.lake_url)
    (folder / "open").touch()
    until(lambda: not store.children(layout.stagings()), 20, "no staging is left")
    assert run.cancel() == 0
    status, page = reader.press(run.id, "retry")
    assert "Queued again: 1 job." in page
    assert run.wait(PATIENCE).state == "finished"
    assert sum(ready.rows(uri, "held").values()) == 100, "each row once"


def test_a_button_that_comes_too_late_says_so(reader, ready):
    run = ready.submit(ready.file(f"late-{next(NUMBERS)}.csv"))
    run.wait(PATIENCE)
    stamp = reader.stamp(reader.get(f"runs/{run.id}"))
    assert "the run has ended" in reader.post(f"runs/{run.id}", do="cancel", stamp=stamp)[1]
    assert "Nothing was queued again" in reader.post(f"runs/{run.id}", do="retry", stamp=stamp)[1]
    status, page = reader.post(f"runs/{run.id}", do="replay", stamp=stamp, table="../../x")
    assert status == 409, page
    assert reader.post(f"runs/{run.id}", do="drop", stamp=stamp)[0] == 400
    assert reader.post("runs/20200101-000000-abcdef", do="forget", stamp=stamp)[0] == 404


def test_replay_leads_to_the_run_that_it_makes(reader, ready):
    name = f"strict{next(NUMBERS)}"
    ready.pipeline(name, STRICT.format(limit=5))
    run = ready.submit(ready.file(f"{name}.csv", b"m\n1\n9\n"), pipeline=name)
    assert run.wait(PATIENCE).rules == {"m:less_than_or_equal_to": 1}
    ready.pipeline(name, STRICT.format(limit=10))
    status, page = reader.press(run.id, "replay", table=name)
    assert status == 200
    assert "Queued the rejects of 1 file." in page
    (again,) = re.findall(r"<h1>Run ([^<]+)</h1>", page)
    assert again != run.id
    assert find_run(again, ready.settings).wait(PATIENCE).state == "finished"
    assert "none of them is among the rejects now" in reader.get(f"runs/{run.id}").lower()


def test_forget_takes_a_run_off_the_list(reader, ready):
    run = ready.submit(ready.file(f"gone-{next(NUMBERS)}.csv"))
    run.wait(PATIENCE)
    status, page = reader.press(run.id, "forget")
    assert status == 200
    assert "The run is off the list" in page
    assert run.id not in page
    with pytest.raises(TerminalError, match="not the id of a run"):
        find_run(run.id, ready.settings)
