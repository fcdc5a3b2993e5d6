"""The notebooks run from top to bottom, headless, as a student would do them: one after the other, on one stack."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from support.spark import spark_or_skip
from support.wrong_answers import STRANGE, WRONG
from typer.testing import CliRunner

from ingestlab import Lab, TerminalError, stack
from ingestlab.cli import app
from ingestlab.core.errors import TransientError
from ingestlab.core.settings import load_settings
from ingestlab.notebook.runner import execute, with_parameters
from ingestlab.teaching import check, start_worker
from ingestlab.teaching.grading import grade

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOURCES = sorted((FOLDER / "src").glob("*.py"))

# What VS Code shows of an output: the first of these that is there. Its reader of notebooks sorts by the first order
# (orderOfMimeTypes, without vendors' types), its editor by the second (NOTEBOOK_DISPLAY_ORDER).
VS_CODE = (
    (
        *("text/html", "application/javascript", "image/gif", "text/latex", "text/markdown"),
        *("image/png", "image/svg+xml", "image/jpeg", "application/json", "text/plain"),
    ),
    (
        *("application/json", "application/javascript", "text/html", "image/svg+xml", "text/latex"),
        *("text/markdown", "image/png", "image/jpeg", "text/plain"),
    ),
)
READABLE = {"text/html", "text/markdown", "text/plain", "image/png", "image/svg+xml"}
CHECKS_OF = {chapter: {exercise for exercise, _, _ in wrong} for chapter, wrong in WRONG.items()}

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


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def is_exercise(cell: NotebookNode) -> bool:
    return has_tag(cell, "exercise")


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


def lesson(path: Path) -> object:
    """A notebook as a parameter of tests."""
    spark = (pytest.mark.spark, pytest.mark.timeout(600)) if path.stem.endswith("_spark") else ()
    return pytest.param(path, id=path.stem, marks=(pytest.mark.slow("lessons"), *spark))


@pytest.fixture(scope="module", params=[lesson(path) for path in NOTEBOOKS])
def student(request: pytest.FixtureRequest, home: Path):
    """A student who begins a notebook."""
    if request.param.stem.endswith("_spark"):
        spark_or_skip()
    notebook = nbformat.read(request.param, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}})
    with client.setup_kernel():
        yield Student(request.param, client)


def test_notebook_runs_to_its_end_with_unanswered_exercises(student: Student) -> None:
    for number, cell in enumerate(student.cells):
        if cell.cell_type == "code":
            student.client.execute_cell(cell, number)
        if is_exercise(cell):
            assert "got nothing yet" in cell.outputs[-1].evalue
            assert re.match(r"# Hint: .{20}", cell.source), "a hint"
        elif has_tag(cell, "solution"):
            assert cell.metadata.jupyter == build.FOLDED
            assert "✔" in "".join(o.text for o in cell.outputs if o.output_type == "stream")
    assert sum(map(is_exercise, student.cells)) >= 2
    outputs = [o for cell in student.cells for o in cell.get("outputs", [])]
    assert any("text/html" in o.get("data", {}) for o in outputs)
    assert [o for o in outputs if not vs_code_shows(o)] == []


def vs_code_shows(output: NotebookNode) -> bool:
    """Whether VS Code, without extensions, shows something that people can read."""
    if "data" not in output:
        return output.output_type in ("stream", "error")
    first = {next((kind for kind in order if kind in output.data), "") for order in VS_CODE}
    texts = [output.data[kind] for kind in first if kind.startswith("text/")]
    odd = any("<script" in text or " object at 0x" in text or not text.strip() for text in texts)
    return first <= READABLE and output.data.keys() <= set(VS_CODE[0]) and not odd


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


def test_cells_may_be_run_twice_and_a_students_own_answers_are_kept(student: Student, tmp_path: Path) -> None:
    handed_in = student.client.nb = nbformat.read(student.path, as_version=4)
    for number, (cell, after) in enumerate(zip(handed_in.cells, [*handed_in.cells[1:], None], strict=True)):
        if is_exercise(cell):
            title, _, answer = after.source.split("\n", 2)
            assert title.startswith("# Solution of ")
            cell.source = dedent(answer)
        if cell.cell_type == "code":
            for _ in range(2 if is_exercise(cell) else 1):
                student.client.execute_cell(cell, number)
        assert not (has_tag(cell, "solution") and cell.outputs), "the answer was right"
    nbformat.write(handed_in, tmp_path / "one.ipynb")
    grades = grade(tmp_path)
    assert [one.exercise for one in grades] == sorted(CHECKS_OF[student.path.stem[:2]])
    assert {(one.state, one.as_given) for one in grades} == {("solved", True)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_notebooks_are_as_their_sources_say() -> None:
    assert not build.stale(), "run python notebooks/build.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in build.notebook(path.read_text()).cells:
        links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", cell.source) if cell.cell_type == "markdown" else []
        assert all((FOLDER / link).exists() for link in links), links


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_code_fits_its_column_and_imports_public_names_alone(path: Path) -> None:
    for cell in build.notebook(path.read_text()).cells:
        if cell.cell_type == "code":
            assert [line for line in cell.source.splitlines() if len(line) > build.WIDTH] == []
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ingestlab"):
                    assert node.module in ("ingestlab", "ingestlab.teaching")
                    assert {name.name for name in node.names} <= set(import_module(node.module).__all__)


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


@pytest.mark.slow("notebook jobs")
def test_a_notebook_that_fails_is_kept_too(home: Path) -> None:
    done = execute(FOLDER / "run_pipeline.ipynb", {"uri": "/nowhere/alarm-1.csv"}, load_settings())
    assert done.error.startswith("File not found: /nowhere/alarm-1.csv")
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
    notebook = build.notebook((FOLDER / "src" / "run_pipeline.py").read_text())
    with pytest.raises(TerminalError, match=r"'urii' is not .* \(uri, pipeline, queue, table, force\)"):
        with_parameters(notebook, {"urii": "x"})
    twice = with_parameters(with_parameters(notebook, {"uri": "a"}), {"uri": "b"})
    assert [cell.source for cell in twice.cells if cell.source.startswith("# given")] == ["# given\nuri = 'b'"]
    with pytest.raises(TerminalError, match="No cell has the tag 'parameters'"):
        with_parameters(nbformat.v4.new_notebook(), {"uri": "a"})
    with pytest.raises(TerminalError, match="Notebook not found"):
        execute(FOLDER / "none.ipynb", {}, load_settings())
