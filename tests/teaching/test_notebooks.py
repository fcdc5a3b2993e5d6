"""The notebooks run from top to bottom, headless, as a student would do them: one after the other, on one stack."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from support.wrong_answers import STRANGE, WRONG
from typer.testing import CliRunner

from ingestlab import Lab, TerminalError, stack
from ingestlab.cli import app
from ingestlab.core.errors import TransientError
from ingestlab.core.settings import load_settings
from ingestlab.notebook.runner import execute, with_parameters
from ingestlab.teaching import check, start_worker

ROOT = Path(__file__).parents[2]
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


@dataclass
class Student:
    """A student with a notebook and its kernel."""

    path: Path
    client: NotebookClient

    @property
    def cells(self) -> list[NotebookNode]:
        return self.client.nb.cells

    def types(self, code: str) -> CellExecutionError | None:
        """Runs a cell at the end; gives what it raised."""
        self.cells.append(nbformat.v4.new_code_cell(code))
        try:
            self.client.execute_cell(self.cells[-1], len(self.cells) - 1)
        except CellExecutionError as error:
            return error
        return None


@pytest.fixture(
    scope="module",
    params=[pytest.param(path, id=path.stem, marks=pytest.mark.slow("lessons")) for path in NOTEBOOKS],
)
def student(request: pytest.FixtureRequest, home: Path):
    """A student who begins a notebook."""
    notebook = nbformat.read(request.param, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}})
    with client.setup_kernel():
        yield Student(request.param, client)


def test_notebook_runs_and_waits_for_the_student_at_its_exercises_alone(student: Student) -> None:
    empty, cells = FOLDER / "exercises" / student.path.name, list(student.cells)
    asked = nbformat.read(empty, as_version=4).cells if empty.exists() else cells
    for number, (cell, question) in enumerate(zip(cells, asked, strict=True)):
        if is_exercise(cell):
            with pytest.raises(CellExecutionError) as stopped:
                student.client.execute_cell(question, number)
            assert stopped.value.ename == "NotImplementedError"
            assert len(stopped.value.evalue) > 20, "a hint"
        if cell.cell_type == "code":
            student.client.execute_cell(cell, number)
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    assert any("text/html" in o.get("data", {}) for o in outputs)
    answered = [o for cell in cells if is_exercise(cell) for o in cell.outputs if "✔" in o.get("text", "")]
    assert len(answered) == sum(is_exercise(cell) for cell in cells)


def test_wrong_answers_are_told_what_is_wrong(student: Student) -> None:
    unclear = []
    assert student.types("import numpy as np\nimport pandas as pd") is None
    for exercise, answer, text in WRONG[student.path.stem[:2]]:
        error = student.types(f"check({exercise!r}, {answer})")
        said = error.evalue if error else "✔"
        if not re.search(f"^{exercise}: .*(?:{text})", said) or len(said) > 300:
            unclear.append((exercise, answer, said))
        elif student.cells[-1].outputs[-1]["traceback"] != [f"✘ {said}"]:
            unclear.append((exercise, answer, "a way through our code"))
    assert unclear == []


def test_an_answer_may_be_anything(student: Student) -> None:
    chapter = student.path.stem[:2]
    exercises = sorted({exercise for exercise, _, _ in WRONG[chapter]})
    assert len(exercises) >= 2
    error = student.types(f"""
import numpy, pandas
from ingestlab.teaching import NotYet
for exercise in {exercises}:
    for strange in [{STRANGE}]:
        try:
            check(exercise, strange)
        except NotYet as error:
            assert 10 < len(str(error)) < 300, str(error)
            assert "cannot be used" not in str(error) or not isinstance(strange, (str, int, type(None))), str(error)
        else:
            assert False, (exercise, strange)
""")
    assert error is None, error


def test_cells_may_be_run_twice_and_the_notebook_again_from_its_top(student: Student) -> None:
    for number, cell in enumerate(nbformat.read(student.path, as_version=4).cells):
        if cell.cell_type == "code":
            for _ in range(2 if is_exercise(cell) else 1):
                student.client.execute_cell(cell, number)


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


@pytest.mark.slow("notebook jobs")
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


def test_a_notebook_that_fails_is_kept_too(home: Path) -> None:
    done = execute(FOLDER / "run_pipeline.ipynb", {"uri": "/nowhere/alarm-1.csv"}, load_settings())
    assert done.error.startswith("TerminalError: File not found")
    gone = Lab().samples("bts")[0].replace("alarm-", "alarm-gone-")
    done = execute(FOLDER / "run_pipeline.ipynb", {"uri": gone}, load_settings())
    assert done.error.startswith("RuntimeError: 1 of 1 files failed, first: ")
    assert "RuntimeError" in Path(done.page).read_text()


@pytest.mark.parametrize("given", [{"x": 9}, {}], ids=["with", "without"])
def test_two_cells_of_parameters_are_refused_by_name(given: dict[str, int], tmp_path: Path) -> None:
    new = nbformat.v4.new_code_cell
    tags = {"tags": ["parameters"]}
    cells = [
        nbformat.v4.new_markdown_cell("# Two"),
        new("x = 1", metadata=tags),
        new("x"),
        new("\nx = 2", metadata=tags),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "two.ipynb")
    with pytest.raises(TerminalError, match=r"Several cells .*'parameters': cell 2 \(x = 1\) and cell 4 \(x = 2\)"):
        execute(tmp_path / "two.ipynb", given, load_settings())


def test_parameters_that_a_notebook_does_not_have_are_refused() -> None:
    notebook = build.notebook((FOLDER / "src" / "run_pipeline.py").read_text(), exercises=False)
    with pytest.raises(TerminalError, match=r"'urii' is not .* \(uri, pipeline, queue, table, force\)"):
        with_parameters(notebook, {"urii": "x"})
    twice = with_parameters(with_parameters(notebook, {"uri": "a"}), {"uri": "b"})
    assert [cell.source for cell in twice.cells if cell.source.startswith("# given")] == ["# given\nuri = 'b'"]
    with pytest.raises(TerminalError, match="No cell has the tag 'parameters'"):
        with_parameters(nbformat.v4.new_notebook(), {"uri": "a"})
    with pytest.raises(TerminalError, match="Notebook not found"):
        execute(FOLDER / "none.ipynb", {}, load_settings())
