"""Binder opens the course without installation: its files name what there is, and start what the course needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from support.workers import ROOT, environment

from ingestlab import stack
from ingestlab.core.settings import load_settings
from ingestlab.stack.jupyter import pane_url

BINDER = ROOT / ".binder"  # repo2docker reads it in place of the top folder, where the Dockerfile would come first
SHOWN = "import json, os; print(json.dumps(dict(os.environ)))"


def test_files_name_what_there_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = (BINDER / "requirements.txt").read_text()
    (constraint,) = re.findall(r"^--constraint (.+)$", requirements, re.MULTILINE)
    assert (BINDER / constraint).samefile(ROOT / "requirements.lock")
    (extras,) = re.findall(r"^--editable \.\[(.+)\]$", requirements, re.MULTILINE)
    assert {"stack", "lab", "milvus"} <= set(extras.split(",")) <= set(project["optional-dependencies"])
    runtime, _, version = (BINDER / "runtime.txt").read_text().strip().partition("-")
    assert runtime == "python"
    assert version in SpecifierSet(project["requires-python"])
    assert os.access(BINDER / "start", os.X_OK)


@pytest.mark.slow("a stack of its own")
def test_start_brings_up_the_stack_and_gives_jupyter_its_panes(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = environment(PATH=path, INGESTLAB_HOME=str(tmp_path / "home"))
    try:
        command = [BINDER / "start", sys.executable, "-c", SHOWN]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        assert stack.running(tmp_path / "home")
        variables = json.loads(done.stdout.splitlines()[-1])
        (workspace,) = Path(variables["JUPYTERLAB_WORKSPACES_DIR"]).iterdir()
        panes = json.loads(workspace.read_text())["data"]["dask-dashboard-launcher"]
        assert panes["url"] == pane_url(load_settings(home=tmp_path / "home"))
        assert panes["url"].startswith("proxy/")
    finally:
        stack.stop(tmp_path / "home")
