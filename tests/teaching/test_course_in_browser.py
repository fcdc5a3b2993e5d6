"""The course as a student has it: JupyterLab in a real browser, all cells run by the menu, looked at again later."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from support.browsing import chromium, screenshot
from support.notebook import JupyterLab, OpenNotebook, open_lab
from support.workers import ROOT, until

from ingestlab import stack

SECONDS = {"01_first_ingestion": 90, "06_embeddings_and_milvus": 300}  # that all cells may take on a busy machine
PICTURES = "[...document.querySelectorAll('.jp-Notebook img')].every(i => i.complete && i.naturalWidth)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """JupyterLab and a stack of its own, as `ingestlab lab` starts both, in a folder with the whole course."""
    chromium()
    folder = tmp_path_factory.mktemp("student")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(ROOT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    home = folder / ".ingestlab"
    try:
        with open_lab(folder, home, "notebooks/00_start_here.ipynb", tmp_path_factory.mktemp("jupyter")) as found:
            yield found
    finally:
        stack.stop(home)


@pytest.mark.parametrize(("said", "ends"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)])
def test_a_machine_without_chromium_skips_unless_it_must_have_one(monkeypatch, said, ends):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("INGESTLAB_BROWSER", said)
    with pytest.raises(ends, match=r"apt-get install chromium|pip install playwright"):
        chromium()


def watched(notebook: OpenNotebook) -> int:
    return sum(".watch()" in cell["source"] for cell in notebook.code())


def test_the_first_cell_shows_a_card_whose_links_lead_to_live_pages(lab, browser):
    notebook = lab.open(browser, "notebooks/00_start_here.ipynb")
    notebook.run_first()
    assert not notebook.failed()
    for link, title, sign in (
        ("Ingest", "Dask: Ingest", ".card[data-key=rows] .value"),
        ("Dask dashboard", "Dask: Status", "canvas"),
    ):
        with notebook.page.expect_popup() as opened:
            notebook.page.locator(".jp-OutputArea a", has_text=link).click()
        page = opened.value
        page.wait_for_selector(sign, timeout=30_000)
        assert page.title() == title
        assert page.url.startswith(f"{lab.base}/proxy/"), "a browser may reach nothing but the Jupyter server"
        page.close()


@pytest.mark.timeout(480)
@pytest.mark.parametrize("name", SECONDS)
def test_all_cells_run_and_what_they_show_stays(lab, browser, tmp_path, name):
    notebook = lab.open(browser, f"notebooks/{name}.ipynb")
    notebook.start_all()
    stages: set[str] = set()

    def ran() -> bool:
        stages.update(shown["stage"] for shown in notebook.runs_shown())
        return notebook.ran() or notebook.page.wait_for_timeout(100)

    until(ran, SECONDS[name], "all cells")
    screenshot(notebook.page, name, tmp_path)
    assert [said for said in notebook.failed() if "got nothing yet" not in said] == []
    assert [o["text"] for o in notebook.outputs() if o.get("name") == "stderr"] == []
    notebook.page.wait_for_function(PICTURES, timeout=20_000)
    if name.startswith("06"):  # takes long enough to be seen at work
        assert stages & {"fetching", "processing", "committing"}, stages
    as_it_ended = notebook.runs_shown()
    assert len(as_it_ended) == watched(notebook) > 1, "one display a run, updated in place"
    assert {(shown["stage"], round(shown["share"], 2)) for shown in as_it_ended} == {("finished", 1.0)}
    assert all("rows" in shown["text"] or "unchanged" in shown["text"] for shown in as_it_ended)
    outputs = notebook.outputs()
    notebook.save()
    notebook.reload()
    notebook.shows(as_it_ended)
    notebook.end_kernel()
    notebook.page.close()
    again = lab.open(browser, f"notebooks/{name}.ipynb")
    again.shows(as_it_ended)  # with the kernel gone
    assert again.outputs() == outputs
    screenshot(again.page, f"{name}-again", tmp_path)
    assert lab.troubles == []
