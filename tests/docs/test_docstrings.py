"""Docstrings begin with a short sentence, in the rooms that have come so far."""

import ast
import re
from pathlib import Path

import pytest

import ingestlab

PACKAGE = Path(ingestlab.__file__).parent
ROOMS = [
    "analytics",
    "cli",
    "core",
    "engine",
    "executors",
    "formats",
    "lake",
    "maintenance",
    "pipeline",
    "queue",
    "sinks",
    "stack",
    "teaching",
]
OTHERS = {"analytics/profiles/html.py"}  # not there yet
WORDS = 12


def first_sentences(path: Path) -> dict[str, str]:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    lines = {f"{path.name}:{n.lineno} {n.name}": (ast.get_docstring(n) or "").split("\n")[0] for n in nodes}
    return {place: re.split(r"(?<=[^.A-Z][.:!])\s", line)[0] for place, line in lines.items()}


FILES = sorted(p for room in ROOMS for p in (PACKAGE / room).rglob("*.py") if str(p.relative_to(PACKAGE)) not in OTHERS)
FILES += [PACKAGE / "interfaces.py"]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_docstring_begins_with_a_short_sentence(path: Path) -> None:
    long = [f"{place}: {text}" for place, text in first_sentences(path).items() if len(text.split()) > WORDS]
    assert not long


def test_the_measure_sees_long_sentences(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('def f():\n    """Short. ' + "long " * 20 + '."""\ndef g():\n    """' + "long " * 20 + '."""\n')
    assert [len(text.split()) > WORDS for text in first_sentences(file).values()] == [False, True]
