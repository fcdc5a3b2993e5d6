"""JupyterLab as ``ingestlab lab`` opens it: a notebook, and the dashboard beside it, with nothing to set by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browsing import chromium, screenshot
from support.notebook import JupyterLab, open_lab
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.queue import submit
from ingestlab.stack import jupyter

NOTEBOOK = {
    "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A lesson"}],
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
    wanted = ["lesson.ipynb", *jupyter.PANES]
    until(lambda: page.evaluate(titles) == wanted or page.wait_for_timeout(200), 30, "a notebook and three panes")
    pane = page.frame_locator("iframe[src*='individual-ingest']")
    files = pane.locator(".card[data-key=files] .more")
    files.wait_for(timeout=30_000)
    before = files.inner_text()
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    assert submit(str(tmp_path / "a.csv"), table="beside", settings=stack).wait(PATIENCE).count("committed") == 1
    until(lambda: files.inner_text() != before or page.wait_for_timeout(200), 20, "a number that moves in the pane")
    assert page.frame_locator("iframe[src*='individual-task-stream']").locator("canvas").count()
    screenshot(page, "jupyterlab", tmp_path)
