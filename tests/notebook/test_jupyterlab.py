"""JupyterLab as ``ingestlab lab`` opens it: a notebook, and the dashboard beside it, with nothing to set by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from support.browsing import chromium, screenshot
from support.notebook import NOTEBOOK as CURRENT
from support.notebook import JupyterLab, open_lab
from support.workers import PATIENCE, until
from typer.testing import CliRunner

from ingestlab.cli import app
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.queue import submit
from ingestlab.stack import jupyter, running

WHERE = {
    "cell_type": "code",
    "id": "b",
    "metadata": {},
    "execution_count": None,
    "outputs": [],
    "source": "import shutil\nprint(shutil.which('ingestlab'))",
}
NOTEBOOK = {
    "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A lesson"}, WHERE],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def test_a_workspace_that_somebody_arranged_is_kept_but_for_the_address(settings):
    found = settings(dask_dashboard="http://127.0.0.1:1234/status")
    env = jupyter.prepare(found, "a.ipynb")
    (file,) = Path(env["JUPYTERLAB_WORKSPACES_DIR"]).iterdir()
    arranged = json.loads(file.read_text())
    assert arranged["data"]["dask-dashboard-launcher"]["url"] == "proxy/1234"
    arranged["data"]["mine"] = 1
    file.write_text(json.dumps(arranged))
    jupyter.prepare(found.model_copy(update={"dask_dashboard": "https://dask.example.org/status"}), "b.ipynb")
    after = json.loads(file.read_text())["data"]
    assert after["dask-dashboard-launcher"]["url"] == "https://dask.example.org"
    assert after["mine"] == 1
    file.write_text("{}")
    with pytest.raises(TerminalError, match="Delete the file"):
        jupyter.prepare(found, "a.ipynb")


def test_the_panes_of_a_scheduler_elsewhere_go_through_the_server_where_it_passes_them_on(settings):
    found = settings(dask_dashboard="http://scheduler:8787/status", proxied_hosts=("scheduler",))
    assert jupyter.pane_url(found) == "proxy/scheduler:8787"
    env = jupyter.prepare(found, "a.ipynb")
    folder = Path(env["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0])
    told = json.loads((folder / "jupyter_server_config.json").read_text())
    assert set(told["ServerProxy"]["host_allowlist"]) == {"localhost", "127.0.0.1", "::1", "scheduler"}


def test_jupyterlab_looks_for_the_workspace_where_it_is(settings):
    handler = pytest.importorskip("jupyterlab_server.workspaces_handler", reason="the extra `lab` is not installed")
    env = jupyter.prepare(settings(dask_dashboard="http://127.0.0.1:1234/status"), "a.ipynb")
    manager = handler.WorkspacesManager(env["JUPYTERLAB_WORKSPACES_DIR"])
    assert manager.load(jupyter.WORKSPACE)["data"]["notebook:a.ipynb"]["data"]["path"] == "a.ipynb"


def test_settings_of_ones_own_stay_on_the_path(settings, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/etc/mine")
    env = jupyter.prepare(settings(), "a.ipynb")
    assert env["JUPYTER_CONFIG_PATH"].split(os.pathsep)[1:] == ["/etc/mine"]


@pytest.fixture
def lab(stack: Settings, tmp_path: Path) -> Iterator[JupyterLab]:
    """JupyterLab as `ingestlab lab` opens it, in a folder with one notebook."""
    chromium()
    (tmp_path / "lesson.ipynb").write_text(json.dumps(NOTEBOOK))
    with open_lab(tmp_path, stack.home, "lesson.ipynb", tmp_path) as found:
        yield found


def test_the_notebook_and_the_live_dashboard_are_side_by_side(lab, stack, tmp_path, browser):
    page = lab.open(browser, "lesson.ipynb").page
    titles = "[...jupyterapp.shell.widgets('main')].map(w => w.title.label)"
    wanted = ["lesson.ipynb", *chain.from_iterable(jupyter.PANES)]
    until(lambda: page.evaluate(titles) == wanted or page.wait_for_timeout(200), 30, "a notebook and its panes")
    page.get_by_role("tab", name="Ingest").click()  # another test of this stack may have left Runs in front
    pane = page.frame_locator("iframe[src*='individual-ingest']")
    files = pane.locator(".card[data-key=files] .more")
    files.wait_for(timeout=120_000)
    before = files.inner_text()
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    assert submit(str(tmp_path / "a.csv"), table="beside", settings=stack).wait(PATIENCE).count("committed") == 1
    until(lambda: files.inner_text() != before or page.wait_for_timeout(200), 20, "a number that moves in the pane")
    assert page.frame_locator("iframe[src*='individual-task-stream']").locator("canvas").count()
    screenshot(page, "jupyterlab", tmp_path)
    page.get_by_role("tab", name="Runs").click()
    runs = page.frame_locator("iframe[src*='individual-runs']")
    runs.get_by_role("link", name="a.csv").first.click()
    runs.get_by_role("heading", name="Run ").wait_for(timeout=120_000)
    page.evaluate("jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    colour = "getComputedStyle(document.body).getPropertyValue('--jp-layout-color1').trim()"
    for frame in ("individual-runs", "individual-ingest"):
        root = page.locator(f"iframe[src*='{frame}']").element_handle().content_frame()
        look = "getComputedStyle(document.documentElement).getPropertyValue('--card').trim()"
        until(
            lambda root=root, look=look: root.evaluate(look) == page.evaluate(colour),
            20,
            f"JupyterLab's colours in {frame}",
        )
    screenshot(page, "jupyterlab-dark", tmp_path)


def test_a_notebook_is_not_changed_by_being_opened_and_finds_the_command_line(lab, stack, tmp_path, browser):
    notebook = lab.open(browser, "lesson.ipynb")
    notebook.page.wait_for_function(f"{CURRENT}.model.getMetadata('language_info').version", timeout=20_000)
    assert not notebook.page.evaluate(f"{CURRENT}.model.dirty")
    notebook.run_first()
    here = str(Path(sys.executable).parent / "ingestlab")
    assert notebook.outputs()[0]["text"].strip() == here
    notebook.page.evaluate("window.jupyterapp.commands.execute('terminal:create-new')")
    notebook.page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached", timeout=120_000)
    where = tmp_path / "where.txt"

    def answered() -> bool:
        notebook.page.keyboard.type("command -v ingestlab > where.txt\n")
        notebook.page.wait_for_timeout(500)
        return where.exists() and bool(where.read_text())

    until(answered, 30, "an answer of the terminal")
    assert where.read_text().strip() == here


@pytest.mark.slow("in a browser")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_what_it_has_started_ends_with_it_and_what_ran_goes_on(stack, tmp_path, end):
    own, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir()
    for home, log in ((own, "Ctrl-C stops both"), (stack.home, "the stack goes on until `ingestlab down`")):
        with open_lab(tmp_path, home, "", scratch, end):
            assert running(home)
        said = (scratch / "lab.log").read_text()
        assert log in said.splitlines()[1]
        assert not any(" I " in line[:4] for line in said.splitlines()), "chatter"
    assert running(own) is None
    assert running(stack.home)
    assert (tmp_path / "first_pipeline.ipynb").exists()


def test_a_folder_that_is_not_the_course_gets_a_first_pipeline_that_runs(tmp_path, browser):
    (tmp_path / "work").mkdir()
    with open_lab(tmp_path / "work", tmp_path / "home", "", tmp_path) as found:
        notebook = found.open(browser, "first_pipeline.ipynb")
        notebook.start_all()
        until(lambda: notebook.ran() or notebook.page.wait_for_timeout(200), 180, "the end of all cells")
        assert notebook.failed() == []
        (before, after) = (text for text in notebook.texts() if "columns" in text and "start_time:type" in text)
        screenshot(notebook.page, "first_pipeline", tmp_path)
    assert re.search(r"value:in_range +12", before)
    assert "value:in_range" not in after
    assert running(tmp_path / "home") is None


def test_a_notebook_that_is_not_there_is_answered_with_the_likeliest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lesson.ipynb").write_text("{}")
    done = CliRunner().invoke(app, ["lab", "lessn.ipynb"])
    assert done.exit_code == 1
    assert "Did you mean 'lesson.ipynb'?" in done.stderr


def test_the_first_notebook_is_written_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = jupyter.first_pipeline()
    assert json.loads(path.read_text())["cells"][0]["source"].startswith("# Your first pipeline")
    path.write_text("mine")
    assert jupyter.first_pipeline().read_text() == "mine"
