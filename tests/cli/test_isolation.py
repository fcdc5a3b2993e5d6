"""One tenant's data beside another's token: every command, call, route and page, each with what it must not show.

Whoever adds a command, a method of `Lab`, a route or a page finds its name missing here.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import typer
from support.commands import Say
from support.webhook import serving

import ingestlab
from ingestlab import Lab
from ingestlab.cli import app
from ingestlab.core.errors import IngestError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import new_token, parse, token_hash
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.audit import note
from ingestlab.lake.tenants import TenantTable
from ingestlab.queue import find_run, submit
from ingestlab.queue.arrival import schedules
from ingestlab.queue.arrival.refusals import Refused, keep, recent_refusals
from ingestlab.queue.arrival.webhook import application
from ingestlab.sinks.milvus.search import search
from ingestlab.sinks.mongodb.link import open_documents
from ingestlab.stack.dashboard.routes import routes
from ingestlab.stack.dashboard.runs import RunReader, Search
from ingestlab.stack.dashboard.tables import TableReader

MARK = "zebra"  # in the values, and in the names of files, of the tenant that must not be seen
TABLE = "vault"
PIPELINE = f"""
from ingestlab import Csv, Pipeline
import pandera.pandas as pa

class Contract(pa.DataFrameModel):
    n: int = pa.Field(le=10)

PIPELINE = Pipeline(
    reader=Csv(columns={{"n": "int64", "word": "string"}}), contract=Contract, matches=["{MARK}-*.csv"], table="{TABLE}"
)
"""


@dataclass(frozen=True)
class Theirs:
    """What the tenant `default` has, and the token of `acme`."""

    settings: Settings
    token: str
    run: str  # that has published
    queued: str
    file: Path
    schedule: str

    @property
    def held(self) -> Settings:
        """The settings of whoever has the token."""
        return Settings(**{**self.settings.model_dump(exclude={"tenant"}), "tenant_token": self.token})


@pytest.fixture
def theirs(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theirs:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/secret.py").write_text(PIPELINE)
    base = Settings(
        redis_url=redis_url,
        home=tmp_path / "home",
        pipelines=(str(tmp_path / "mine"),),
        tenants=("default", "acme"),
        executor="threads",
        audit=True,
    )
    token = new_token("acme")
    TenantTable(base).add(parse("acme", {"tokens": {"main": token_hash(token)}, "pipelines": ["none"]}))
    file = tmp_path / f"{MARK}-{secrets.token_hex(4)}.csv"
    file.write_text(f"n,word\n1,{MARK}\n99,{MARK}\n")
    published = submit(str(file), settings=base)
    (ref,) = published.record.jobs
    request = IngestRequest(run=published.id, sources=(Source(uri=file.as_uri()),))
    with Services.opened(base) as services:
        ingest(request, services, lambda _: None)
    assert ref.id
    other = tmp_path / f"{MARK}-queued.csv"
    other.write_text(f"n,word\n2,{MARK}\n")
    queued = submit(str(other), settings=base)
    made = schedules.add(schedules.Schedule(cron="0 0 * * *", folder=f"/{MARK}", tenant="default"), queued.client)
    refused = Refused(at=0, tenant="default", address=f"sqs://{MARK}", reason=MARK, tries=1, files=(MARK,), body=MARK)
    keep(refused.model_copy(update={"at": 4e9}), 1e9, queued.client)
    note("delete", "default", [MARK], base)
    for name, value in {
        "REDIS_URL": redis_url,
        "INGESTLAB_HOME": str(base.home),
        "INGESTLAB_TENANTS": "default,acme",
        "INGESTLAB_EXECUTOR": "threads",
    }.items():
        monkeypatch.setenv(name, value)
    return Theirs(base, token, published.id, queued.id, file, made.schedule.id)


NONE = "has nothing of a tenant: "
# By command: the arguments with which another tenant asks for what is not its own; or why there is nothing to ask.
COMMANDS: dict[str, list[list[str]] | str] = {
    "submit": [["submit", "nothing.csv", "--tenant", "default"], ["submit", "frame://default/vault/x.parquet"]],
    "listen": [["listen", "in", "--tenant", "default"]],
    "sync": [["sync", ".", "--tenant", "default"]],
    "webhook": NONE + "its routes are below",
    "watch": [["watch", "RUN"]],
    "show": [["show", "RUN"], ["show", "RUN", "--files"], ["show"]],
    "log": [["log", "RUN"]],
    "runs": [["runs"], ["runs", "--json"]],
    "failed": [["failed"], ["failed", "--json"]],
    "retry": [["retry", "RUN"], ["retry", "--all"]],
    "cancel": [["cancel", "QUEUED"]],
    "forget": [["forget", "RUN"]],
    "produce": NONE + "it submits as `submit` does, for the tenant of the settings",
    "new": NONE + "it reads a file of whoever calls it",
    "check": NONE + "it reads a file of whoever calls it",
    "pipelines": NONE + "pipelines are code that tenants share; an entry says which may be used",
    "notebook": NONE + "notebooks are code that tenants share; it runs for the tenant of the settings",
    "grade": NONE + "it reads a notebook of whoever calls it",
    "tables": [["tables"], ["tables", "--json"]],
    "head": [["head", TABLE], ["head", TABLE, "--tenant", "default"]],
    "rows": [["rows", TABLE, "--tenant", "default"], ["rows", "--sql", f"FROM {TABLE}"]],
    "rejects": [["rejects", TABLE], ["rejects", TABLE, "--tenant", "default"], ["rejects", "RUN"]],
    "profile": [["profile", TABLE], ["profile", TABLE, "--tenant", "default"]],
    "history": [["history", TABLE], ["history", TABLE, "--tenant", "default"]],
    "diff": [["diff", TABLE, "1"], ["diff", TABLE, "1", "--tenant", "default"]],
    "materialize": [["materialize", TABLE]],
    "search": [["search", TABLE, "x", "--tenant", "default"]],
    "replay": [["replay", TABLE], ["replay", TABLE, "--tenant", "default"]],
    "delete": [["delete", "FILE", "--yes"], ["delete", "FILE", "--yes", "--tenant", "default"]],
    "undo": [["undo", "RUN", "--yes"], ["undo", "RUN", "--yes", "--tenant", "default"]],
    "compact": [["compact", TABLE], ["compact", TABLE, "--tenant", "default"]],
    "rewrite": [["rewrite", TABLE], ["rewrite", TABLE, "--tenant", "default"]],
    "reembed": [["reembed", TABLE, "--tenant", "default"]],
    "reconcile": [["reconcile"], ["reconcile", "--tenant", "default"]],
    "audit": [["audit"], ["audit", "--tenant", "default"]],
    "schedule add": [["schedule", "add", "0 0 * * *", "sync", ".", "--tenant", "default"]],
    "schedule list": [["schedule", "list"], ["schedule", "list", "--json"]],
    "schedule remove": [["schedule", "remove", "SCHEDULE"]],
    "tenant add": [["tenant", "add", "beta"]],
    "tenant set": [["tenant", "set", "acme", "--weight", "9"]],
    "tenant list": [["tenant", "list"]],
    "tenant show": [["tenant", "show", "default"]],
    "tenant remove": [["tenant", "remove", "acme", "--yes"]],
    "tenant token": [["tenant", "token", "acme"], ["tenant", "token", "default"]],
    "airbyte install": NONE + "it installs a program",
    "airbyte list": NONE + "it lists programs",
    "airbyte check": NONE + "it asks a system outside",
    "airbyte discover": NONE + "it asks a system outside",
    "demo": NONE + "it starts a stack of its own",
    "lab": NONE + "it starts JupyterLab",
    "up": NONE + "it starts a stack",
    "down": NONE + "it stops a stack",
    "status": [["status"]],
    "doctor": NONE + "it looks at servers; of tables only those of the settings' tenant",
    "scale": NONE + "it starts processes",
    "env": NONE + "it prints settings",
    "worker": NONE + "it serves all tenants",
    "scheduler": NONE + "it serves all tenants",
    "dask-worker": NONE + "it serves all tenants",
    "init": NONE + "it makes buckets",
    "errors": NONE + "it prints the codes of errors",
}


def commands() -> set[str]:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    groups = {name: command.commands for name, command in known.items() if hasattr(command, "commands")}
    return (known.keys() - groups) | {f"{name} {inner}" for name, group in groups.items() for inner in group}


def test_every_command_has_an_entry() -> None:
    assert COMMANDS.keys() == commands()


@pytest.mark.slow("long work")
def test_no_command_shows_or_changes_what_is_anothers(
    theirs: Theirs, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGESTLAB_PIPELINES", str(theirs.settings.pipelines[0]))
    names = {"RUN": theirs.run, "QUEUED": theirs.queued, "FILE": theirs.file.as_uri(), "SCHEDULE": theirs.schedule}
    before = state(theirs)
    monkeypatch.setenv("INGESTLAB_TENANT_TOKEN", theirs.token)
    for calls in COMMANDS.values():
        for call in calls if isinstance(calls, list) else ():
            done = say(*(names.get(word, word) for word in call), code=None)
            said = done.output.replace(theirs.file.as_uri(), "")
            assert MARK not in said, call
            assert not {theirs.run, theirs.queued, TABLE} - set(map(str, done_words(call, names))) & words(said), call
            if "default" in call or set(call) & names.keys():
                assert done.exit_code, call
    monkeypatch.delenv("INGESTLAB_TENANT_TOKEN")
    assert state(theirs) == before


def done_words(call: list[str], names: dict[str, str]) -> list[str]:
    """What the caller has named itself; an error may repeat it."""
    return [word for name in call for word in re.findall(r"[\w-]+", names.get(name, name))]


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w-]+", text))


def state(theirs: Theirs) -> dict[str, Any]:
    """All that others must leave as it is."""
    client = submit(str(theirs.file), settings=theirs.settings).client
    lake = Path(theirs.settings.lake_url)
    return {
        "files": sorted(str(path) for path in lake.rglob("default/**/*") if path.is_file()),
        "schedules": [s.schedule.id for s in schedules.schedules(client)],
        "tenants": {key: client.hget("ingestlab:tenants", key) for key in client.hkeys("ingestlab:tenants")},
        "queued": find_run(theirs.queued, theirs.settings).progress().state,
    }


CALLS: dict[str, Callable[[Lab, Theirs], Any] | str] = {
    "run": lambda lab, t: lab.run(t.run),
    "runs": lambda lab, _: lab.runs(),
    "tables": lambda lab, _: lab.tables(),
    "table": lambda lab, _: lab.table(TABLE).pandas(),
    "spark": lambda lab, _: lab.spark(TABLE),
    "history": lambda lab, _: lab.history(TABLE),
    "diff": lambda lab, _: lab.diff(TABLE, 1),
    "rejects": lambda lab, _: lab.rejects(TABLE),
    "profile": lambda lab, _: lab.profile(TABLE),
    "aggregate": lambda lab, _: lab.aggregate(TABLE, "x"),
    "search": lambda lab, _: lab.search(TABLE, "x", tenant="default"),
    "documents": lambda lab, _: lab.documents(TABLE, tenant="default"),
    "replay": lambda lab, _: lab.replay(TABLE),
    "compact": lambda lab, _: lab.compact(TABLE),
    "rewrite": lambda lab, _: lab.rewrite(TABLE),
    "reembed": lambda lab, _: lab.reembed(TABLE),
    "delete": lambda lab, t: lab.delete(t.file.as_uri()),
    "undo": lambda lab, t: lab.undo(t.run),
    "sync": lambda lab, _: lab.sync(".", tenant="default"),
    "submit": lambda lab, t: lab.submit(str(t.file), tenant="default"),
    "publish": lambda lab, _: lab.publish([1], TABLE, tenant="default"),
    "ls": lambda lab, _: lab.ls(),
    "notebook": NONE + "it runs for the tenant of the settings",
    "embed": NONE + "it computes vectors of what it is given",
    "check": NONE + "it reads a file of whoever calls it",
    "new": NONE + "it reads a file of whoever calls it",
    "samples": NONE + "samples are everybody's",
    "parts": NONE + "it lists processes",
    "stop": NONE + "it stops a stack",
    "scale": NONE + "it starts processes",
    "settings": NONE + "they are the caller's",
}


def test_every_call_has_an_entry() -> None:
    assert {name for name in vars(Lab) if not name.startswith("_")} | {"settings"} == CALLS.keys()


def test_no_call_shows_or_changes_what_is_anothers(theirs: Theirs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTLAB_PIPELINES", str(theirs.settings.pipelines[0]))
    before = state(theirs)
    lab = Lab(tenant_token=theirs.token)
    assert lab.settings.tenant == "acme"
    for name, call in CALLS.items():
        if callable(call):
            try:
                given = call(lab, theirs)
            except (IngestError, ingestlab.TerminalError) as error:
                given = error
            said = str(given if not hasattr(given, "to_csv") else given.to_csv()).replace(theirs.file.as_uri(), "")
            assert MARK not in said.replace(str(theirs.file), ""), name
            assert isinstance(given, Exception) or TABLE not in said, name
    assert state(theirs) == before


ROUTES = {
    "POST /announce": "test_another_tenants_run_is_none names another tenant; here: a file below another's folder",
    "POST /sns": "takes the tenant of the token alone",
    "GET /runs/{run}": "below",
    "GET /openapi.json": NONE + "it describes the service",
    "GET /": NONE + "it describes the service",
}


def test_no_route_shows_what_is_anothers(theirs: Theirs) -> None:
    app = application(theirs.settings)
    paths = {f"{r.method} {r.resource.canonical}" for r in app.router.routes() if r.method != "HEAD" and r.resource}
    assert paths == ROUTES.keys()
    with serving(theirs.settings) as url:
        headers = {"Authorization": f"Bearer {theirs.token}"}
        for run in (theirs.run, theirs.queued):
            answer = requests.get(f"{url}/runs/{run}", headers=headers, timeout=30)
            assert (answer.status_code, MARK in answer.text) == (404, False)
        body = {"uri": theirs.file.as_uri(), "tenant": "default"}
        answer = requests.post(f"{url}/announce", json=body, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (403, "tenant_unknown")


PAGES = {r"runs", r"individual-runs", r"runs/([^/]+)", r"runs/([^/]+)/notebook", r"tables", r"tables/([^/]+)/([^/]+)"}


def test_no_page_shows_what_is_anothers(theirs: Theirs) -> None:
    assert {path for path, *_ in routes} - {r"ingest-assets/((?:colors|runs)\.css|(?:theme|runs)\.js)"} == PAGES
    held = theirs.held
    runs, tables = RunReader(lambda: held), TableReader(lambda: held)
    assert runs.list(Search()).rows == ()
    for run in (theirs.run, theirs.queued):
        assert (runs.page(run), runs.row(run), runs.notebook(run)) == (None, None, None)
    assert tables.list() == ()
    assert tables.page("default", TABLE, "preview") is None
    whole = lambda: theirs.settings  # noqa: E731 - whoever runs the system sees all
    assert {row.name for row in TableReader(whole).list()} >= {TABLE}
    assert {row.id for row in RunReader(whole).list(Search()).rows} == {theirs.run, theirs.queued}


def test_nothing_else_shows_what_is_anothers(theirs: Theirs) -> None:
    held = theirs.held
    assert recent_refusals(held) == (0, [])
    assert recent_refusals(theirs.settings)[0] == 1
    for call in (lambda: search(TABLE, "x", held, tenant="default"), lambda: open_documents(TABLE, held, "default")):
        with pytest.raises(ingestlab.TerminalError, match="for this token"):
            call()


def test_a_tenant_with_an_entry_takes_no_file_of_the_lake(theirs: Theirs) -> None:
    lake = Path(theirs.settings.lake_url)
    (file,) = list(lake.rglob(f"tables/default/{TABLE}/*.parquet"))
    for uri in (str(file), file.as_uri(), f"{lake}/../{lake.name}/{file.relative_to(lake)}"):
        with pytest.raises(ingestlab.TerminalError):
            submit(uri, tenant="acme", settings=theirs.settings)
