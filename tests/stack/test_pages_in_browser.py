"""Our pages in a browser: at two widths, in light and dark, by keyboard alone, checked by axe-core."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from support.browsing import screenshot
from support.dashboard import scheduler
from support.workers import PATIENCE, Yard, until

from ingestlab.queue import Run
from ingestlab.stack.services import environment as environment_of
from ingestlab.stack.valkey import free_port

TOKEN = "correct horse battery"
STRICT = """
from typing import Any
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

class Row(pa.DataFrameModel):
    m: Any = pa.Field(le=90)

PIPELINE = Pipeline(reader=Csv(columns={"m": "int64", "name": "string"}), contract=Row)
"""


@pytest.fixture(scope="module")
def run(yard: Yard) -> Run:
    """A run with committed files, rejects and failures."""
    yard.workers.have(2)
    yard.pipeline("seen", STRICT)
    text = "m,name\n" + "".join(f"{i},w{i}\n" for i in range(100))
    files = [yard.file(f"seen-{i}.csv", (text + f"{i},x\n").encode()) for i in range(3)]
    run = yard.submit(*files, "file:///no/such/a.csv", "file:///no/such/b.csv", pipeline="seen")
    run.wait(PATIENCE)
    return run


@pytest.fixture(scope="module")
def base(yard: Yard, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with buttons."""
    env = {**environment_of(yard.settings), "INGESTLAB_DASHBOARD_TOKEN": TOKEN}
    with scheduler(tmp_path_factory.mktemp("scheduler"), **env) as base:
        yield base


def paths(run: Run) -> dict[str, str]:
    """Each page by a name."""
    table = "tables/default/seen"
    views = {view: f"{table}?view={view}" for view in ("schema", "files", "profile")}
    return {"runs": "runs", "run": f"runs/{run.id}", "tables": "tables", "table": table, **views}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_every_page_fits_and_axe_finds_nothing(base, run, browser, tmp_path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    for name, path in {**paths(run), "ingest": "individual-ingest"}.items():
        page.goto(f"{base}/{path}")
        if name == "ingest":
            page.wait_for_selector(".card[data-key=rows] .value")
        screenshot(page, f"{name}-{width}-{scheme}", tmp_path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the screen"
        assert_accessible(page, name)
    sign_in(page, base, run)
    assert_accessible(page, "a run with buttons")
    screenshot(page, f"buttons-{width}-{scheme}", tmp_path)
    assert not troubles


def assert_accessible(page: Any, name: str) -> None:
    """Lets axe-core look at the page as it is."""
    found = Axe().run(page).response["violations"]
    assert not [(v["id"], n["target"], n["failureSummary"]) for v in found for n in v["nodes"]], name


def sign_in(page: Any, base: str, run: Run) -> None:
    """Gives the token by keyboard."""
    page.goto(f"{base}/runs/{run.id}")
    reach(page, "Buttons in place of commands")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Retry").wait_for()


def reach(page: Any, text: str) -> None:
    """Presses Tab until the focus is on what has a text; it must be seen there."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if text in page.evaluate("document.activeElement.innerText || ''"):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"the focus on {text} is seen"
            return
    raise AssertionError(f"no way to {text} by keyboard")


def test_a_run_is_found_and_tried_again_by_keyboard_alone(base, run, yard, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{base}/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("seen-0")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=seen-0"))
    reach(page, "seen-0.csv")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"Run {run.id}").wait_for()
    sign_in(page, base, run)
    reach(page, "Retry")
    page.keyboard.press("Enter")
    page.get_by_text("Queued again: 1 job.").wait_for()
    assert run.wait(PATIENCE).said == "finished, 2 of 5 failed"
    page.get_by_text("Forget …").wait_for()  # the page follows the run
    reach(page, "Forget …")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Forget this run").wait_for()


def test_the_ingest_page_says_since_when_it_is_disconnected_and_finds_the_scheduler_again(redis_url, tmp_path, browser):
    port, page = free_port(), browser.new_page()
    with scheduler(tmp_path, port, REDIS_URL=redis_url) as base:
        page.goto(f"{base}/ingest")
        page.get_by_text("live, ").wait_for()
        assert page.get_by_role("alert").count() == 0
    page.get_by_text(re.compile(r"Disconnected since \d+:\d\d:\d\d")).wait_for(timeout=PATIENCE * 1000)
    with scheduler(tmp_path, port, REDIS_URL=redis_url):
        page.get_by_text("live, ").wait_for(timeout=PATIENCE * 1000)
        until(lambda: page.get_by_role("alert").count() == 0 or page.wait_for_timeout(200), 20, "no note any more")


def test_the_pages_of_runs_say_so_too(base, run, tmp_path, yard, browser):
    port, page = free_port(), browser.new_page()
    with scheduler(tmp_path, port, **environment_of(yard.settings)) as other:
        page.goto(f"{other}/runs")
        page.get_by_role("link", name="seen-0.csv").first.wait_for()
    page.get_by_text("Disconnected since").wait_for(timeout=PATIENCE * 1000)
    with scheduler(tmp_path, port, **environment_of(yard.settings)):
        page.get_by_text("Disconnected since").wait_for(state="hidden", timeout=PATIENCE * 1000)


@pytest.mark.parametrize("width", [1280, 560])
def test_charts_count_whole_jobs_and_no_tile_is_cut(base, browser, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{base}/individual-ingest")
    page.wait_for_selector(".card[data-key=rows] .value")
    cut = "cards => cards.filter(c => c.scrollWidth > c.clientWidth).map(c => c.innerText)"
    assert page.eval_on_selector_all(".card, .card *", cut) == []
    ticks = """() => { const models = [...Bokeh.documents[0]._all_models.values()];
      const jobs = models.find((m) => m.title?.text === "Jobs");
      return [jobs.left[0].ticker.min_interval, models.filter((m) => m.type === "Legend").length,
        models.filter((m) => m.type === "Figure").every((f) => f.above.some((a) => a.type === "Legend"))]; }"""
    assert page.evaluate(ticks) == [1, 4, True]
    for window in ("10 min", "1 hour", "2 min"):
        page.get_by_role("button", name=window).click()
    screenshot(page, f"windows-{width}", tmp_path)
