"""The notebooks run from top to bottom, headless, as a student would do them: one after the other, on one stack."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from typer.testing import CliRunner

from ingestlab import Lab, TerminalError, stack
from ingestlab.cli import app
from ingestlab.driver import execute, with_parameters
from ingestlab.errors import TransientError
from ingestlab.settings import load_settings
from ingestlab.teaching import NotYet, check, start_worker

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOURCES = sorted((FOLDER / "src").glob("*.py"))

sys.path.insert(0, str(FOLDER))
import build  # noqa: E402 - the tool lies beside the notebooks


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    """A home for the stack that the first notebook starts, and a copy of the pipelines, which students add to."""
    home = tmp_path_factory.mktemp("course") / "home"
    pipelines = shutil.copytree(ROOT / "pipelines", home.parent / "pipelines")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDIS_URL", "REDIS_HOST", "INGESTLAB_REDIS_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("INGESTLAB_HOME", str(home))
        patch.setenv("INGESTLAB_PIPELINES", str(pipelines))
        yield home
    stack.stop(home)


def is_exercise(cell) -> bool:
    return "exercise" in cell.metadata.get("tags", [])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_waits_for_the_student_at_its_exercises_alone(path: Path, home: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    empty = FOLDER / "exercises" / path.name
    asked = nbformat.read(empty, as_version=4).cells if empty.exists() else notebook.cells
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}})
    with client.setup_kernel():
        for number, (cell, question) in enumerate(zip(notebook.cells, asked, strict=True)):
            if is_exercise(cell):
                with pytest.raises(CellExecutionError) as stopped:
                    client.execute_cell(question, number)
                assert stopped.value.ename == "NotImplementedError"
                assert len(stopped.value.evalue) > 20, "a hint"
            if cell.cell_type == "code":
                client.execute_cell(cell, number)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert any("text/html" in o.get("data", {}) for o in outputs)
    answered = [o for cell in notebook.cells if is_exercise(cell) for o in cell.outputs if "✔" in o.get("text", "")]
    assert len(answered) == sum(is_exercise(cell) for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_notebooks_are_as_their_sources_say() -> None:
    assert not build.stale(), "run python notebooks/build.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_forms_differ_in_exercises_alone(path: Path) -> None:
    source = path.read_text()
    solved, asked = (build.notebook(source, exercises=flag).cells for flag in (False, True))
    assert [cell.id for cell in solved] == [cell.id for cell in asked]
    for one, other in zip(solved, asked, strict=True):
        assert ("NotImplementedError" in other.source) == is_exercise(one)
        assert one.source == other.source or is_exercise(one) or one.cell_type == "markdown"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for folder, flag in ((FOLDER, False), (FOLDER / "exercises", True)):
        for cell in build.notebook(path.read_text(), exercises=flag).cells:
            links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", cell.source) if cell.cell_type == "markdown" else []
            assert all((folder / link).exists() for link in links), links


def wrong_answers(lab: Lab) -> list[tuple[str, object, str]]:
    """Exercise, an answer that a student may give, and what is said of it."""
    missing = lab.submit("/nowhere/alarm-1.csv").watch()
    weblogs = lab.submit(lab.samples("weblogs")[:2]).watch()
    rejects, flights = lab.rejects("bts_alarms"), lab.table("flights").rows
    return [
        ("00.1", 17, "17 is not what Redis says"),
        ("00.1", "two", "a number; got str 'two'"),
        ("00.2", None, "got nothing yet"),
        ("00.2", missing, "1 of its files failed: expected the file"),
        ("00.2", weblogs, "it is about 2"),
        ("00.3", 1, "1 rows is not what the table has now"),
        ("01.1", lab.submit(lab.samples("bts")[0]).watch(), "the first file again"),
        ("01.2", rejects["rule"], "your answer cannot be used|these are no rules"),
        ("01.2", rejects["rule"].value_counts(ascending=True), "commonest rule should come first"),
        ("01.2", rejects["rule"].value_counts().head(2), "you have 2"),
        ("01.3", "id,station_id,alarm_id", "that is the header"),
        ("01.3", "1,2,3", "no reject has this line"),
        ("02.1", weblogs, "2 files fit in one request"),
        ("02.2", [weblogs, missing], "has published nothing into bts_alarms"),
        ("02.3", weblogs, "not the run with the file that came late"),
        ("03.1", 5, "give the function itself"),
        ("03.1", lambda df: df.assign(duration_s=0.0), "'duration_s' should be 30, nothing, 120"),
        ("03.1", lambda df: df.reset_index(drop=True), "the index is .0, 1, 2."),
        ("03.1", lambda df: df, "the column 'duration_s' is missing"),
        ("03.1", lambda df: df.pop("start_time") is None or df, "it changes the frame"),
        ("03.2", None, "it gives None if there was nothing to replay"),
        ("04.1", ("HA", 10), "another one flew more"),
        ("04.1", ("UA", flights), "Have you added all of its groups"),
        ("04.2", (lambda values: values, lambda states: np.concatenate(states).std()), "not the data"),
        ("04.2", (np.std, np.mean), "numpy says"),
        ("04.3", ([1, 2], [3]), "make them equally long"),
        ("04.3", ([1, 2], [3, 4]), "and so is the mean of the medians"),
        ("05.1", 2, "Group by both columns"),
        ("05.2", lab.submit(lab.samples("bts")).watch(), "no file had changed"),
        ("05.3", 7, "7 is not what lies in the folder"),
        ("07.1", (lab.submit(lab.samples("bts")[0], force=True).watch(), 1e9), "too fast"),
        ("07.2", weblogs, "it made|did nothing"),
        ("07.3", ("/nowhere", 1.0), "there is no file"),
        ("08.1", weblogs, "expected what lab.check"),
        ("08.2", weblogs, "the rows are in the table weblogs"),
        ("08.3", pd.DataFrame({"origin": ["JFK"]}), "these columns are missing: hours"),
    ]


@pytest.mark.timeout(180)
def test_checks_say_what_is_wrong(home: Path) -> None:
    for exercise, answer, text in wrong_answers(Lab()):
        with pytest.raises(NotYet, match=f"^{exercise}: .*(?:{text})") as said:
            check(exercise, answer)
        assert len(str(said.value)) < 300
        assert said.value._render_traceback_() == [f"✘ {said.value}"]


def test_a_worker_that_finds_no_redis_says_so_and_is_gone(home: Path) -> None:
    before = psutil.Process().children()
    with pytest.raises(TransientError, match=r"a Redis server at redis://127\.0\.0\.1:1/0.*ingestlab up"):
        start_worker("night", redis_url="redis://127.0.0.1:1/0")
    assert set(psutil.Process().children()) <= set(before)


def test_exercises_that_do_not_exist_are_named() -> None:
    with pytest.raises(TerminalError, match=r"00\.1, 00\.2, 00\.3.*'00\.9'"):
        check("00.9", 1)
    with pytest.raises(TerminalError, match="'99'"):
        check("99", 1)


@pytest.mark.timeout(180)
def test_a_notebook_with_parameters_is_kept_beside_its_run(home: Path) -> None:
    uri = Lab().samples("bts")[3]
    words = ["-p", "uri", uri, "-p", "pipeline", "bts_alarms", "-p", "force=true", "--json"]
    done = CliRunner().invoke(app, ["notebook", str(FOLDER / "run_pipeline.ipynb"), *words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    result = Lab().run(told["run"]).result()
    assert [(o.uri, o.status) for o in result.outcomes] == [(uri, "committed")]
    kept = nbformat.read(told["notebook"], as_version=4)
    (given,) = (cell.source for cell in kept.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert given == f"# given\nuri = {uri!r}\npipeline = 'bts_alarms'\nforce = True"
    assert told["run"] in Path(told["notebook"]).parts
    assert f"run {told['run']}" in Path(told["page"]).read_text()


@pytest.mark.timeout(180)
def test_a_notebook_that_fails_is_kept_too(home: Path) -> None:
    done = execute(FOLDER / "run_pipeline.ipynb", {"uri": "/nowhere/alarm-1.csv"}, load_settings())
    assert done.error.startswith("RuntimeError: 1 of 1 files failed, first: expected the file")
    assert "RuntimeError" in Path(done.page).read_text()


def test_parameters_that_a_notebook_does_not_have_are_refused() -> None:
    notebook = build.notebook((FOLDER / "src" / "run_pipeline.py").read_text(), exercises=False)
    with pytest.raises(TerminalError, match=r"\(uri, pipeline, queue, table, force\); got 'urii'"):
        with_parameters(notebook, {"urii": "x"})
    twice = with_parameters(with_parameters(notebook, {"uri": "a"}), {"uri": "b"})
    assert [cell.source for cell in twice.cells if cell.source.startswith("# given")] == ["# given\nuri = 'b'"]
    with pytest.raises(TerminalError, match="tag 'parameters'; got none"):
        with_parameters(nbformat.v4.new_notebook(), {"uri": "a"})
    with pytest.raises(TerminalError, match="nothing at"):
        execute(FOLDER / "none.ipynb", {}, load_settings())
