"""What each tenant may use: found in a file or in Redis, resolved once, and kept to."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import Tenant, new_token, parse, read_file, token_hash
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.tenants import TABLE, TenantTable, entries, find, is_visible, of_token, own, settings_for

PLAIN = """
from ingestlab import Csv, Pipeline
PIPELINE = Pipeline(reader=Csv(columns={"n": "int64"}), matches=["plain-*.csv"])
"""
FILE = """
[acme]
lake = "s3://acme/lake"
allow_hosts = "*.acme.example, files.example.org"
weight = 2.5
running_jobs = 4
tasks = 16
[acme.credentials.s3]
key = "ACME_KEY"
secret = "ACME_SECRET"
[acme.tokens]
main = "{hash}"
[beta]
"""


@pytest.fixture
def base(settings: Callable[..., Settings], redis_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "pipelines").mkdir()
    for name in ("plain", "other"):
        (tmp_path / "pipelines" / f"{name}.py").write_text(PLAIN.replace("plain-", f"{name}-"))
    return settings(
        redis_url=redis_url, pipelines=(str(tmp_path / "pipelines"),), executor="threads", tenants=("default", "acme")
    )


def test_a_mere_name_leaves_the_settings_as_they_are(base: Settings) -> None:
    assert settings_for("acme", base) is base
    with pytest.raises(TerminalError, match="no tenant 'nobody'") as error:
        settings_for("nobody", base)
    assert error.value.code == "tenant_unknown"


def test_a_file_says_what_each_may_use(base: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = new_token("acme")
    file = tmp_path / "tenants.toml"
    file.write_text(FILE.replace("{hash}", token_hash(token)))
    chosen = base.model_copy(update={"tenants_file": str(file)})
    with pytest.raises(TerminalError, match="has no ACME_KEY"):
        settings_for("acme", chosen)
    monkeypatch.setenv("ACME_KEY", "k")
    monkeypatch.setenv("ACME_SECRET", "hush")
    mine = settings_for("acme", chosen)
    assert (mine.tenant, mine.tenants, mine.lake_url) == ("acme", ("acme",), "s3://acme/lake")
    assert mine.allow_hosts == ("*.acme.example", "files.example.org")
    assert mine.storage_options == {"s3": {"key": "k", "secret": "hush"}}
    assert "hush" not in repr(mine)
    assert settings_for("acme", mine) == mine  # resolving twice changes nothing
    assert settings_for("beta", mine) == settings_for("beta", chosen)  # nor does another tenant in between
    assert settings_for("default", mine) is chosen
    entry = find("acme", chosen)
    assert entry is not None
    assert (entry.weight, entry.tasks_a_job) == (2.5, 4)
    assert settings_for("beta", chosen).lake_url == base.lake_url
    assert set(entries(chosen)) == {"default", "acme", "beta"}
    file.write_text("[acme]\nweight = 1\n")  # an edit counts at once
    assert find("acme", chosen) == Tenant(name="acme")
    with pytest.raises(TerminalError, match="in the file"):
        TenantTable(chosen)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[acme", "no TOML"),
        ("acme = 1", "no entry that can be read"),
        ("[acme]\nweight = 0", "weight of tenant 'acme'"),
        ("[acme]\nwieght = 1", "wieght of tenant 'acme'"),
        ("[acme]\ntasks = 4", "tasks of tenant 'acme'"),
        ("[acme]\nrunning_jobs = 4\ntasks = 3", "tasks of tenant 'acme'"),
        ("[acme.tokens]\nmain = 'a secret, and no hash'", "tokens"),
        ("['a/b']\nweight = 1", "name"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(TerminalError, match=problem) as error:
        read_file(text, "tenants.toml")
    assert "a secret, and" not in str(error.value)


def test_the_table_in_redis_is_changed_in_parts(base: Settings) -> None:
    table = TenantTable(base)
    table.add(parse("acme", {"weight": 2, "running_jobs": 3}))
    with pytest.raises(TerminalError, match="has an entry"):
        table.add(Tenant(name="acme"))
    assert table.change("acme", weight=5.0, running_jobs=None) == Tenant(name="acme", weight=5.0)
    assert settings_for("acme", base).tenants == ("acme",)
    with pytest.raises(TerminalError, match="weight"):
        table.change("acme", weight=-1)
    table.remove("acme")
    assert find("acme", base) is None
    for missing in (lambda: table.remove("acme"), lambda: table.change("acme", weight=1.0)):
        with pytest.raises(TerminalError, match="no entry"):
            missing()


def test_a_token_is_known_by_its_hash_alone(base: Settings) -> None:
    table, token = TenantTable(base), new_token("acme")
    table.add(Tenant(name="acme"))
    assert table.change_token("acme", "main", token_hash(token))
    found = of_token(token, base)
    assert found is not None
    assert found.name == "acme"
    for wrong in ("", token[:-1], new_token("acme"), new_token("nobody"), "x" * 60):
        assert of_token(wrong, base) is None
    with redis.Redis.from_url(base.redis) as client:
        assert token.encode() not in client.hget(TABLE, "acme")  # type: ignore[operator]
    assert table.change_token("acme", "main", None)
    assert of_token(token, base) is None
    assert not table.change_token("acme", "main", None)


def test_who_has_a_token_is_that_tenant_alone(base: Settings) -> None:
    table, token = TenantTable(base), new_token("acme")
    table.add(parse("acme", {"tokens": {"main": token_hash(token)}}))
    held = Settings(**{**base.model_dump(exclude={"tenant"}), "tenant_token": token})
    assert held.tenant == "acme"  # the token says so
    assert own(held).tenant == "acme"
    assert (is_visible("acme", held), is_visible("default", held), is_visible("default", base)) == (True, False, True)
    with pytest.raises(TerminalError, match="for this token") as error:
        settings_for("default", held)
    assert error.value.code == "tenant_unknown"
    forged = held.model_copy(update={"tenant_token": new_token("acme")})
    with pytest.raises(TerminalError, match="not valid"):
        own(forged)
    assert token not in repr(held)


def test_without_redis_a_mere_name_can_still_read(base: Settings) -> None:
    away = base.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    assert settings_for("acme", away) is away
    with pytest.raises(TransientError, match="entry of tenant 'nobody'"):
        settings_for("nobody", away)


def test_a_tenant_has_a_lake_of_its_own(base: Settings, tmp_path: Path) -> None:
    home = tmp_path / "acme"
    TenantTable(base).add(parse("acme", {"lake": str(home), "pipelines": ["plain"]}))
    file = tmp_path / f"plain-{secrets.token_hex(4)}.csv"
    file.write_text("n\n1\n2\n")
    for tenant in ("default", "acme"):
        request = IngestRequest(run="r", tenant=tenant, pipeline="plain", sources=(Source(uri=str(file)),))
        with Services.opened(base) as services:
            result = ingest(request, services, lambda _: None)
        assert [outcome.status for outcome in result.outcomes] == ["committed"]
    assert Lake(base, "acme").table("plain").rows == Lake(base, "default").table("plain").rows == 2
    assert list(home.rglob("tables/acme/plain/*.parquet"))
    assert not list(Path(base.lake_url).rglob("tables/acme/*"))


def test_a_tenant_uses_its_pipelines_hosts_and_folders_alone(base: Settings, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    limits = {"pipelines": ["plain"], "allow_hosts": ["files.example.org"], "file_roots": [str(tmp_path / "in")]}
    TenantTable(base).add(parse("acme", limits))
    (tmp_path / "other-1.csv").write_text("n\n1\n")

    def code(uri: str, pipeline: str | None) -> str:
        request = IngestRequest(run="r", tenant="acme", pipeline=pipeline, sources=(Source(uri=uri),))
        with Services.opened(base) as services:
            (outcome,) = ingest(request, services, lambda _: None).outcomes
        return (outcome.error or {})["code"]

    assert code("https://elsewhere.example.org/plain-1.csv", "plain") == "address_not_allowed"
    assert code(str(tmp_path / "other-1.csv"), "plain") == "address_not_allowed"
    assert code(str(tmp_path / "in/other-1.csv"), "other") == "pipeline_unknown"
