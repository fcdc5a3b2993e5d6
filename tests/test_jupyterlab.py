"""JupyterLab as ``ingestlab lab`` opens it: a notebook, and the dashboard beside it, with nothing to set by hand."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import screenshot
from yard import environment, until

from ingestlab.errors import TerminalError
from ingestlab.jobs import submit
from ingestlab.settings import Settings
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
def lab(stack: Settings, tmp_path: Path) -> Iterator[str]:
    """JupyterLab as `ingestlab lab` opens it; gives the address that it would open."""
    if find_spec("dask_labextension") is None:  # to import it takes an event loop
        pytest.skip("the extra `lab` is not installed")
    (tmp_path / "lesson.ipynb").write_text(json.dumps(NOTEBOOK))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=tok"]
    expose = "--LabApp.expose_app_in_browser=True"
    env = environment(JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"), JUPYTER_CONFIG_DIR=str(tmp_path / "config"))
    command = [sys.executable, "-m", "ingestlab", "lab", "lesson.ipynb", "--home", str(stack.home), *options, expose]
    with (tmp_path / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "lab.log").read_text()
        try:
            return bool(urllib.request.urlopen(f"{base}/api/status?token=tok", timeout=5))
        except OSError:
            return False

    try:
        until(answers, 60, "JupyterLab")
        yield f"{base}/lab/workspaces/{jupyter.WORKSPACE}/tree/lesson.ipynb?token=tok"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def test_the_notebook_and_the_live_dashboard_are_side_by_side(lab, stack, tmp_path, browser):
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(lab)
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady", timeout=60_000)
    titles = "[...jupyterapp.shell.widgets('main')].map(w => w.title.label)"
    wanted = ["lesson.ipynb", *jupyter.PANES]
    until(lambda: page.evaluate(titles) == wanted or page.wait_for_timeout(200), 30, "a notebook and three panes")
    pane = page.frame_locator("iframe[src*='individual-ingest']")
    files = pane.locator(".card[data-key=files] .more")
    files.wait_for(timeout=30_000)
    before = files.inner_text()
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    assert submit(str(tmp_path / "a.csv"), table="beside", settings=stack).wait(60).count("committed") == 1
    until(lambda: files.inner_text() != before or page.wait_for_timeout(200), 20, "a number that moves in the pane")
    assert page.frame_locator("iframe[src*='individual-task-stream']").locator("canvas").count()
    screenshot(page, "jupyterlab", tmp_path)
