"""JupyterLab as people have it: started by ``ingestlab lab``, seen in a browser, its notebooks run by its menu."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest

from ingestlab.stack import jupyter
from support.workers import environment, until

TOKEN = "tok"
NOTEBOOK = "window.jupyterapp.shell.currentWidget"
READY = f"""path => window.jupyterapp && {NOTEBOOK}?.context?.isReady && {NOTEBOOK}.context.path === path
    && {NOTEBOOK}.sessionContext?.session?.kernel"""
AT_REST = f"{NOTEBOOK}.sessionContext.session?.kernel?.status === 'idle'"
NEVER_RUN = f"""{NOTEBOOK}.model.toJSON().cells
    .filter(cell => cell.cell_type === 'code' && cell.source.length && !cell.execution_count).length"""

DISPLAYS = f"""{NOTEBOOK}.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes('.watch()'))
    .flatMap(cell => [...cell.node.querySelectorAll('.jp-RenderedHTMLCommon')])
    .map(node => [node, node.querySelector("div[style*='height: 6px'], div[style*='height:6px']")])
    .filter(([node, bar]) => bar)
    .map(([node, bar]) => ({{
        text: node.textContent,
        stage: node.querySelector('b').textContent,
        share: bar.firstElementChild.getBoundingClientRect().width / bar.getBoundingClientRect().width,
    }}))"""


@dataclass
class JupyterLab:
    """A running JupyterLab.

    Attributes:
        base: Its address.
        troubles: What went wrong in the pages that were opened.
    """

    base: str
    troubles: list[str] = field(default_factory=list)

    def address(self, notebook: str) -> str:
        """What a browser is sent to for a notebook, with the dashboard beside it."""
        return f"{self.base}/lab/workspaces/{jupyter.WORKSPACE}/tree/{notebook}?token={TOKEN}"

    def open(self, browser: Any, notebook: str) -> OpenNotebook:
        """Opens a notebook in a page of its own."""
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.goto(self.address(notebook))
        return OpenNotebook(page, notebook).ready()


@dataclass(frozen=True)
class OpenNotebook:
    """A notebook in a page of JupyterLab."""

    page: Any
    path: str

    def ready(self) -> Self:
        """Waits until the notebook is there, and its kernel too."""
        self.page.wait_for_function(READY, arg=self.path, timeout=60_000)
        self.page.wait_for_function(AT_REST, timeout=60_000)
        return self

    def start_all(self) -> None:
        """Run > Run All Cells."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def run_first(self) -> None:
        """Clicks on the first cell with code, presses Shift+Enter, and waits until it has run."""
        self.page.locator(".jp-Notebook:visible .jp-CodeCell .cm-content").first.click()
        self.page.keyboard.press("Shift+Enter")
        until(lambda: self.code()[0]["execution_count"] or self.page.wait_for_timeout(100), 60, "the first cell")
        self.page.wait_for_function(AT_REST, timeout=20_000)

    def ran(self) -> bool:
        """Whether nothing is left to be run."""
        return any("got nothing yet" not in said for said in self.failed()) or self.page.evaluate(
            f"!({NEVER_RUN}) && {AT_REST}"
        )

    def runs_shown(self) -> list[dict[str, Any]]:
        """What the displays of runs that are watched look like: their text, their stage, how full their bars are."""
        return self.page.evaluate(DISPLAYS)

    def shows(self, runs: list[dict[str, Any]]) -> None:
        """Waits until the page has drawn its cells; then the displays must be these."""
        until(lambda: len(self.runs_shown()) >= len(runs) or self.page.wait_for_timeout(100), 30, "displays")
        assert self.runs_shown() == runs

    def failed(self) -> list[str]:
        """The errors among the outputs."""
        return [f"{o['ename']}: {o['evalue']}" for o in self.outputs() if o["output_type"] == "error"]

    def outputs(self) -> list[dict[str, Any]]:
        """All outputs, as they would be saved now."""
        return [output for cell in self.code() for output in cell["outputs"]]

    def texts(self) -> list[str]:
        """The outputs that are no errors and no displays of something else, as text."""
        plain = [output.get("data", {}).get("text/plain", "") for output in self.outputs()]
        return ["".join(text) for text in plain]

    def code(self) -> list[dict[str, Any]]:
        """The cells with code."""
        cells = self.page.evaluate(f"{NOTEBOOK}.model.toJSON().cells")
        return [cell for cell in cells if cell["cell_type"] == "code"]

    def save(self) -> None:
        """Saves the notebook, as Ctrl+S does."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function(f"!{NOTEBOOK}.model.dirty", timeout=20_000)

    def reload(self) -> None:
        """Reloads the page."""
        self.page.reload()
        self.ready()

    def end_kernel(self) -> None:
        """Ends the kernel for good, so that whoever opens the notebook next gets another one."""
        self.page.evaluate(f"{NOTEBOOK}.sessionContext.shutdown()")
        self.page.wait_for_function(f"!{NOTEBOOK}.sessionContext.session")


@contextmanager
def open_lab(
    folder: Path, home: Path, notebook: str, scratch: Path, end: signal.Signals = signal.SIGTERM
) -> Iterator[JupyterLab]:
    """JupyterLab as `ingestlab lab NOTEBOOK` starts it in a folder, which brings the stack up if it is not.

    Args:
        folder: What JupyterLab shows.
        home: The stack's.
        notebook: Below the folder; without a name the command chooses.
        scratch: For its log, and instead of the settings of whoever runs the tests.
        end: The signal that ends it, and the stack that it has started.
    """
    if find_spec("dask_labextension") is None:  # to import it takes an event loop
        pytest.skip("the extra `lab` is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    expose = "--LabApp.expose_app_in_browser=True"
    env = environment(JUPYTER_RUNTIME_DIR=str(scratch / "runtime"), JUPYTER_CONFIG_DIR=str(scratch / "config"))
    command = [
        sys.executable,
        "-m",
        "ingestlab",
        "lab",
        *filter(None, [notebook]),
        "--home",
        str(home),
        *options,
        expose,
    ]
    with (scratch / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    lab = JupyterLab(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, (scratch / "lab.log").read_text()
        try:
            with urllib.request.urlopen(f"{lab.base}/api/status?token={TOKEN}", timeout=5) as answer:
                return bool(json.load(answer)["started"])
        except OSError:
            return False

    try:
        until(answers, 60, "JupyterLab")
        yield lab
    finally:
        process.send_signal(end)
        assert process.wait(timeout=60) == 0, (scratch / "lab.log").read_text()
