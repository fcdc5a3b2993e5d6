"""HTML: no template lets a name in as markup; those of profiles and of the Ingest page are tried where they are."""

from __future__ import annotations

import pytest

from ingestlab.core.models import Outcome, Progress
from ingestlab.core.settings import Settings
from ingestlab.core.templates import macro, render
from ingestlab.notebook.card import Card
from ingestlab.notebook.progress import View
from ingestlab.queue.arrival.status import ListenerStatus
from ingestlab.queue.results import RunResult

EVIL = "<script>alert('x')</script>&\""


def result() -> RunResult:
    outcome = Outcome(uri=EVIL, status="committed", table=EVIL, facts={"notebook": EVIL})
    counts = {"tally": {}, "rules": {EVIL: 3}, "parquet_bytes": 1, "tables": (EVIL,), "seconds": {}}
    return RunResult.model_validate({"run": EVIL, "state": "finished", "outcomes": (outcome,), **counts})


def card() -> Card:
    settings = Settings(redis_url="redis://h:1/0", dask_scheduler=EVIL, lake=f"memory://{EVIL}", tenant=EVIL)
    about = {"name": EVIL, "host": EVIL, "pid": 1, "address": EVIL, "tenant": EVIL, "since": 1, "beat": 1, "every": 5}
    heard = (ListenerStatus.model_validate(about),)
    return Card(settings, True, None, 1, None, None, f"http://{EVIL}", f"http://{EVIL}/ingest", heard)


def table() -> str:
    columns = [(EVIL, EVIL)] * 2
    shown = {"name": EVIL, "path": EVIL}
    return render("notebook/templates/table.html", table=shown, size=EVIL, columns=columns, more=2, last=EVIL)


def folder() -> str:
    entries = [{"name": EVIL, "kind": "file"}, {"name": EVIL, "kind": "folder"}]
    return render("stack/templates/folder.html", path=EVIL, entries=entries)


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(lambda: result()._repr_html_(), id="result"),
        pytest.param(lambda: card().html(), id="card"),
        pytest.param(table, id="table"),
        pytest.param(folder, id="folder"),
        pytest.param(lambda: View(EVIL, Progress(files=1), note=EVIL).html(), id="run"),
        pytest.param(lambda: View(EVIL, Progress(state="retrying", note=EVIL), seconds=1).html(), id="retrying"),
        pytest.param(lambda: View(EVIL, Progress(state="finished", files=1), result=result()).html(), id="finished"),
        pytest.param(lambda: macro("stack/dashboard/templates/panels.html", "plural", count=2, what=EVIL), id="macro"),
    ],
)
def test_no_name_becomes_markup(html):
    text = html()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
