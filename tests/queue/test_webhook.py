"""Programs announce files over HTTP, each tenant with its token; errors are JSON with a code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from support.webhook import serving

from ingestlab.core.errors import TerminalError
from ingestlab.queue import find_run
from ingestlab.queue.arrival import webhook
from ingestlab.stack.valkey import free_port

OURS, THEIRS = "a-long-random-text-of-ours", "a-long-random-text-of-theirs"


@pytest.fixture
def chosen(settings, redis_url, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("n,word\n1,a\n")
    (tmp_path / "elsewhere.csv").write_text("n,word\n1,a\n")
    return settings(
        redis_url=redis_url,
        tenants=("default", "other"),
        file_roots=(str(tmp_path / "in"),),
        announce_tokens={"default": OURS, "other": THEIRS},
    )


@pytest.fixture
def url(chosen) -> Iterator[str]:
    with serving(chosen) as url:
        yield url


def call(url: str, body: Any, token: str = OURS, method: str = "POST") -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.request(method, url, data=data, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def test_an_announced_file_is_a_run_of_the_tokens_tenant(url, chosen, tmp_path):
    answer = call(f"{url}/announce", {"uri": f"{tmp_path}/in/a.csv"}, THEIRS)
    assert answer.status_code == 202
    said = answer.json()
    assert (said["files"], said["url"], answer.headers["Location"]) == (1, f"{url}/runs/{said['run']}", said["url"])
    record = find_run(said["run"], chosen).record
    assert (record.tenant, record.files, record.via) == ("other", 1, "webhook")
    state = call(said["url"], b"", THEIRS, "GET").json()
    assert (state["run"], state["state"], state["files"]) == (said["run"], "queued", 1)


def test_the_same_file_twice_is_one_run(url, tmp_path):
    runs = {call(f"{url}/announce", {"uri": [f"{tmp_path}/in/a.csv"]}).json()["run"] for _ in range(2)}
    assert len(runs) == 1


@pytest.mark.parametrize("token", ["", "wrong", OURS[:-1], OURS + "x"])
def test_without_the_right_token_nothing_is_told(url, tmp_path, token):
    answer = call(f"{url}/announce", {"uri": f"{tmp_path}/in/a.csv"}, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "http_401")
    assert "Authorization: Bearer" in answer.json()["fix"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_another_tenants_run_is_none(url, tmp_path):
    run = call(f"{url}/announce", {"uri": f"{tmp_path}/in/a.csv"}).json()
    foreign, missing = call(run["url"], b"", THEIRS, "GET"), call(f"{url}/runs/none", b"", THEIRS, "GET")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["code"] == missing.json()["code"] == "run_unknown"
    answer = call(f"{url}/announce", {"uri": f"{tmp_path}/in/a.csv", "tenant": "default"}, THEIRS)
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_unknown")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "body"),
        ({"uri": []}, 400, "uri"),
        ({"url": "x"}, 400, "uri"),
        ({"uri": "s3://b/a", "more": 1}, 400, "more"),
        ({"uri": "gopher://h/a"}, 403, "gopher"),
        ({"uri": "s3://b/a", "pipeline": "nowhere"}, 400, "nowhere"),
        ({"uri": "s3://b/a", "table": "../x"}, 400, "table"),
        (b"x" * (webhook.MOST_BYTES + 1), 413, "Large"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(url, body, status, word):
    answer = call(f"{url}/announce", body)
    assert answer.status_code == status
    assert word in answer.text


def test_local_files_are_announced_from_allowed_folders_alone(url, chosen, tmp_path):
    assert call(f"{url}/announce", {"uri": f"{tmp_path}/elsewhere.csv"}).status_code == 403
    with serving(chosen.model_copy(update={"file_roots": ()})) as open_url:
        answer = call(f"{open_url}/announce", {"uri": f"{tmp_path}/in/a.csv"})
    assert (answer.status_code, answer.json()["code"]) == (403, "address_not_allowed")


def test_without_redis_the_answer_is_to_come_again(chosen, tmp_path):
    with serving(chosen.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})) as url:
        answer = call(f"{url}/announce", {"uri": f"{tmp_path}/in/a.csv"})
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert answer.headers["Retry-After"]


def test_the_service_describes_itself(url):
    api = requests.get(f"{url}/openapi.json", timeout=30).json()
    assert set(api["paths"]) == {"/announce", "/sns", "/runs/{run}"}
    page = requests.get(url, timeout=30)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "POST <code>/announce</code>" in page.text


def test_a_service_without_tokens_does_not_start(chosen):
    with pytest.raises(TerminalError, match="no tokens"):
        webhook.application(chosen.model_copy(update={"announce_tokens": {}}))


def test_tokens_are_in_no_text_of_the_settings(chosen):
    assert OURS not in repr(chosen) + str(chosen.model_dump())
