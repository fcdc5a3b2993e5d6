"""Makes the pictures of docs/images: ``python docs/site/pictures.py``. A stack of its own works meanwhile.

They are of JupyterLab and of the pages of the Dask dashboard, in Debian's Chromium, while flights and digits come in.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from support.browsing import open_browser  # noqa: E402 - the tests' helpers
from support.notebook import open_lab  # noqa: E402

from ingestlab import Lab  # noqa: E402

SECONDS = 180.0
LESSON = """# A year of flights, and 1,797 digits

Producers announce files on a queue. Workers fetch them; Dask reads, cleans and checks their rows."""
CELLS = (
    "from ingestlab import Lab\n\nlab = Lab()\nlab",
    'run = lab.submit(lab.samples("flights") + lab.samples("digits"))\nrun.watch()',
    'lab.aggregate("flights", "by_carrier")',
)


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory(prefix="course-") as name, tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(name), Path(name) / ".ingestlab"
        (folder / "flights.ipynb").write_text(json.dumps(lesson()))
        (folder / "pipelines").symlink_to(ROOT / "pipelines")
        with open_lab(folder, home, "flights.ipynb", Path(scratch)) as jupyter, open_browser() as browser:
            notebook = jupyter.open(browser, "flights.ipynb")
            notebook.page.set_viewport_size({"width": 1360, "height": 850})
            lab = Lab(home)
            base = str(lab.settings.dask_dashboard).removesuffix("/status")
            ingest = browser.new_page(viewport={"width": 1180, "height": 640})
            ingest.goto(f"{base}/ingest")
            notebook.start_all()
            wait(notebook.page, lambda: any(0.4 < run["share"] < 0.9 for run in notebook.runs_shown()), "half of a run")
            notebook.page.screenshot(path=IMAGES / "jupyterlab.png")
            ingest.screenshot(path=IMAGES / "ingest.png")
            wait(notebook.page, notebook.ran, "the end of the run")
            pages(lab, base, browser.new_page(viewport={"width": 1180, "height": 760}), folder)


def pages(lab: Lab, base: str, page: Any, folder: Path) -> None:
    """Make the pictures of runs and tables."""
    (folder / "alarm-empty.csv").touch()
    run = lab.submit([*lab.samples("bts"), str(folder / "alarm-empty.csv")]).wait(SECONDS).run
    for name, path in (("runs", "runs"), ("run", f"runs/{run}"), ("tables", "tables/default/flights?view=profile")):
        page.goto(f"{base}/{path}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / f"{name}.png")


def lesson() -> dict[str, Any]:
    """Give a notebook of a text and three cells."""
    code = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": LESSON}]
    cells += [{**code, "id": f"b{n}", "source": source} for n, source in enumerate(CELLS)]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def wait(page: Any, true: Callable[[], Any], what: str) -> None:
    """Wait until something is seen.

    Raises:
        TimeoutError: It is not.
    """
    end = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(what)
        page.wait_for_timeout(50)


if __name__ == "__main__":
    main()
