"""Notebooks as files: where a job finds one, and how values are put into it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings

NotebookNode = Any  # of nbformat, which the extra `lab` has
PARAMETERS, INJECTED = "parameters", "injected-parameters"


def find(name: str, settings: Settings) -> Path:
    """Give the notebook of this name, which a job may run: it lies in a notebooks folder, and no link leads out of it.

    Args:
        name: Its path below a notebooks folder.
        settings: Whose `notebooks` are looked through.

    Raises:
        TerminalError: There is none.
    """
    folders = roots(settings)
    for folder in folders:
        path = (folder / name).resolve()
        if path.is_file():
            if path.is_relative_to(folder):
                return path
            fix = "Copy it there: no job follows a link out of the folder."
            raise TerminalError(f"Notebook '{name}' is a link out of {folder}", fix=fix, code="notebook_not_found")
    raise _none(name, folders)


def name_of(path: str | Path, settings: Settings) -> str:
    """Tell what a job calls a notebook: its path below a notebooks folder.

    A producer that has no such folder leaves the check to the worker.

    Args:
        path: Its path, from here or below a notebooks folder.
        settings: Whose `notebooks` are looked through.

    Raises:
        TerminalError: It lies in none of the folders.
    """
    given, folders = Path(path).expanduser(), roots(settings)
    for folder in folders:
        for candidate in (given, folder / given):
            real = candidate.resolve()
            if real.is_file() and real.is_relative_to(folder):
                return real.relative_to(folder).as_posix()
    if folders or given.is_absolute():
        raise _none(str(path), folders)
    return given.as_posix()


def roots(settings: Settings) -> list[Path]:
    """Give the notebooks folders that are there."""
    folders = (Path(folder).expanduser().resolve() for folder in settings.notebooks)
    return [folder for folder in folders if folder.is_dir()]


def _none(name: str, folders: list[Path]) -> TerminalError:
    known = [path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*.ipynb")]
    where = ", ".join(map(str, folders)) or "any notebooks folder, since there is none"
    fix = did_you_mean(name, known, "Put it there, or add its folder to INGESTLAB_NOTEBOOKS.")
    return TerminalError(f"There is no notebook '{name}' in {where}", fix=fix, code="notebook_not_found")


def read(path: Path) -> NotebookNode:
    """Give a notebook from its file.

    Raises:
        TerminalError: It is not there, or it is no notebook.
    """
    nbformat = needed("nbformat", "lab", "notebooks")
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise TerminalError(f"Notebook not found: {path}", fix="Check the path.", code="notebook_not_found") from None
    except nbformat.reader.NotJSONError:
        raise TerminalError(
            f"Not a notebook, since not JSON: {path}", fix="Check the path.", code="notebook_invalid"
        ) from None


def with_parameters(notebook: NotebookNode, values: Mapping[str, Any]) -> NotebookNode:
    """Insert a cell that assigns the values after the defaults.

    Raises:
        TerminalError: No cell is tagged ``parameters`` or several are, or a name is not assigned in it.
    """
    from nbformat.v4 import new_code_cell  # noqa: PLC0415 - the extra `lab` has it

    cells = [c for c in notebook.cells if INJECTED not in c.metadata.get("tags", [])]
    places = [i for i, cell in enumerate(cells) if PARAMETERS in cell.metadata.get("tags", [])]
    if len(places) > 1:  # the later ones would assign their defaults over what was given
        got = " and ".join(_told(1 + notebook.cells.index(cells[i]), cells[i].source) for i in places)
        fix = "Put all defaults into one, or untag the others."
        raise TerminalError("Several cells have the tag 'parameters'", got=got, fix=fix, code="notebook_invalid")
    if values:
        if not places:
            fix = "Tag the cell that assigns the defaults."
            raise TerminalError("No cell has the tag 'parameters'", fix=fix, code="notebook_invalid")
        names = _assigned(cells[places[0]].source)
        for name in values:
            if name not in names:
                problem = f"'{name}' is not a parameter of the notebook ({', '.join(names)})"
                raise TerminalError(problem, fix="Check its name.", code="notebook_invalid")
        lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        cell = new_code_cell(f"# given\n{lines}", id=INJECTED, metadata={"tags": [INJECTED]})
        cells.insert(places[0] + 1, cell)
    notebook.cells = cells
    return notebook


def _told(number: int, code: str) -> str:
    """Give a cell as people find it: by its number from the top, and how it begins."""
    first = next((line.strip() for line in code.splitlines() if line.strip()), "empty")
    return f"cell {number} ({first[:60]})"


def _assigned(code: str) -> list[str]:
    """Give the names that a cell assigns: ``uri = ""``, ``uri: str = ""``."""
    try:
        body = ast.parse(code).body
    except SyntaxError as error:
        fix = "It is for plain assignments; magics go into another cell."
        raise TerminalError.wrap(
            error, "The cell with the tag 'parameters' is not Python", fix, code="notebook_invalid"
        ) from None
    nodes = [t for n in body for t in (n.targets if isinstance(n, ast.Assign) else [getattr(n, "target", None)])]
    return [node.id for node in nodes if isinstance(node, ast.Name)]
