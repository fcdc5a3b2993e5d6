"""`ingestlab audit` reads what is noted in the shared lake, and in those of tenants with their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Say

from ingestlab.core.settings import Settings
from ingestlab.core.tenants import parse
from ingestlab.lake.audit import note
from ingestlab.lake.tenants import TenantTable


def test_the_command_reads_it(say: Say, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = Settings(redis_url=redis_url, home=tmp_path / "home", tenants=("default", "acme"), audit=True)
    monkeypatch.setenv("REDIS_URL", base.redis)
    monkeypatch.setenv("INGESTLAB_LAKE", base.lake_url)
    monkeypatch.setenv("INGESTLAB_TENANTS", "default,acme")
    assert "INGESTLAB_AUDIT is not set" in say("audit").stdout
    TenantTable(base).add(parse("acme", {"lake": str(tmp_path / "acme")}))
    note("delete", "default", ["s3://b/a.csv", "s3://b/b.csv", "s3://b/c.csv"], base)
    own = base.model_copy(update={"lake": str(tmp_path / "acme")})
    note("undo", "acme", ["r1"], own)
    rows = json.loads(say("audit", "--json").stdout)
    assert [row["action"] for row in rows] == ["tenant", "delete", "undo"]
    assert [row["action"] for row in json.loads(say("audit", "--tenant", "acme", "--json").stdout)] == ["undo"]
    assert "1 more" in say("audit", "--action", "delete").stdout
    assert json.loads(say("audit", "--since", "2020-01-01", "--action", "retry", "--json").stdout) == []
    assert say("audit", "--since", "soon", code=2)
