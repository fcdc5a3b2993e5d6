"""Grades: which exercises are solved in students' notebooks, read from the outputs that they have saved.

Nothing is run: a student's code stays on the student's machine. Whoever edits the outputs of a notebook can write
anything, so this is for courses, not for exams.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingestlab.core.errors import TerminalError, in_a_line

State = Literal["solved", "wrong", "open", "unreadable"]
_CHECK = re.compile(r"""check\(\s*["'](\d\d\.\d+)["']""")
_UNANSWERED = "got nothing yet"


@dataclass(frozen=True)
class Grade:
    """One exercise of one notebook.

    Attributes:
        file: The notebook, below the folder that was graded.
        exercise: Its number; empty if the notebook cannot be read.
        state: ``open`` was not run, or has no answer; ``wrong`` was refused by its check, or raised something else.
        as_given: Whether the answer is the solution that the notebook itself has.
        text: What the notebook showed.
    """

    file: str
    exercise: str
    state: State
    as_given: bool
    text: str


def grade(folder: Path | str) -> list[Grade]:
    """Read the exercises of all notebooks below a folder.

    Args:
        folder: Saved notebooks of the course, in any folders below it.

    Raises:
        TerminalError: There is no notebook.
    """
    root = Path(folder).expanduser()
    paths = [p for p in sorted(root.rglob("*.ipynb")) if not any(n.startswith(".") for n in p.relative_to(root).parts)]
    if not paths:
        fix = "Name the folder with the notebooks that students have handed in."
        raise TerminalError("No notebook to grade", got=str(root), fix=fix, code="argument_invalid")
    return [graded for path in paths for graded in _grades(path, path.relative_to(root).as_posix())]


def _grades(path: Path, file: str) -> Iterator[Grade]:
    try:
        cells = json.loads(path.read_bytes())["cells"]
        exercises = [
            (cell, after) for cell, after in zip(cells, [*cells[1:], {}], strict=True) if _has_tag(cell, "exercise")
        ]
        grades = [_grade(file, cell, after) for cell, after in exercises]
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # one bad file is no reason to grade nobody
        grades = [Grade(file, "", "unreadable", as_given=False, text=f"{type(error).__name__}: {error}")]
    yield from (graded for graded in grades if graded.exercise or graded.state == "unreadable")


def _grade(file: str, cell: Mapping[str, Any], after: Mapping[str, Any]) -> Grade:
    source = _text(cell["source"])
    name = _CHECK.search(source)
    exercise = name[1] if name else ""
    outputs = cell.get("outputs", [])
    printed = "".join(_text(output["text"]) for output in outputs if output["output_type"] == "stream")
    errors = [output for output in outputs if output["output_type"] == "error"]
    state: State = "open"
    text = ""
    if errors:
        ename, evalue = errors[-1]["ename"], errors[-1]["evalue"]
        text = evalue if ename == "NotYet" else in_a_line(ename, evalue)
        state = "open" if _UNANSWERED in text else "wrong"
    elif (praise := f"{exercise} ✔") in printed:
        state, text = "solved", printed[printed.index(praise) :].strip()
    given = _has_tag(after, "solution") and _code(source) == _code(_text(after["source"]))
    return Grade(file, exercise, state, as_given=given, text=text)


def _code(source: str) -> str | None:
    """Give the code without comments, or its `if`'s body. None: no Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    if len(body) == 1 and isinstance(body[0], ast.If):
        body = body[0].body
    return "\n".join(map(ast.unparse, body))


def _has_tag(cell: Mapping[str, Any], tag: str) -> bool:
    return tag in cell.get("metadata", {}).get("tags", [])


def _text(lines: str | Iterable[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
