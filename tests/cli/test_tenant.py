"""`ingestlab tenant`: entries in Redis, and tokens that are shown once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Say


@pytest.fixture
def home(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("INGESTLAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_entries_are_added_changed_shown_and_removed(say: Say, home: Path) -> None:
    options = ["--weight", "2", "--running-jobs", "4", "--tasks", "8", "--allow-host", "*.acme.example"]
    say("tenant", "add", "acme", *options, "--credential", "s3.secret=ACME_SECRET", "--lake", "s3://acme/lake")
    assert "has an entry" in say("tenant", "add", "acme", code=1).stderr
    assert "no ACME_SECRET" in say("tenant", "show", "acme", code=1).stderr


def test_an_entry_is_shown_without_secrets(say: Say, home: Path) -> None:
    say("tenant", "add", "acme", "--weight", "2", "--running-jobs", "4", "--tasks", "8", "--pipeline", "orders*")
    token = say("tenant", "token", "acme", "--label", "nightly").stdout.strip()
    assert token.startswith("ingestlab-acme.")
    said = say("tenant", "show", "acme", "--json").stdout
    shown = json.loads(said)
    assert (shown["weight"], shown["tokens"], shown["pipelines"]) == (2.0, ["nightly"], ["orders*"])
    assert token not in said
    say("tenant", "set", "acme", "--running-jobs", "8", "--weight", "3")
    say("tenant", "set", "acme", "--tasks", "0")
    rows = {row["name"]: row for row in json.loads(say("tenant", "list", "--json").stdout)}
    assert (rows["acme"]["weight"], rows["acme"]["running_jobs"], rows["acme"]["tasks"]) == (3.0, 8, None)
    assert rows["default"]["weight"] == 1.0
    say("tenant", "token", "acme", "--label", "nightly", "--revoke")
    assert "no token 'nightly'" in say("tenant", "token", "acme", "--label", "nightly", "--revoke", code=1).stderr
    say("tenant", "remove", "acme", "--yes")
    assert "no tenant 'acme'" in say("tenant", "show", "acme", code=1).stderr


def test_a_file_is_edited_by_hand(say: Say, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "tenants.toml").write_text("[acme]\nweight = 2\n")
    monkeypatch.setenv("INGESTLAB_TENANTS_FILE", str(home / "tenants.toml"))
    assert "in the file" in say("tenant", "add", "beta", code=1).stderr
    done = say("tenant", "token", "acme")
    line = next(line for line in done.stderr.splitlines() if line.startswith("main = "))
    (home / "tenants.toml").write_text(f"[acme]\nweight = 2\n[acme.tokens]\n{line}\n")
    monkeypatch.setenv("INGESTLAB_TENANT_TOKEN", done.stdout.strip())
    assert [row["name"] for row in json.loads(say("tenant", "list", "--json").stdout)] == ["acme"]
    assert "for this token" in say("tenant", "show", "default", code=1).stderr
    assert "access_denied" in say("tenant", "add", "beta", code=1).stderr
