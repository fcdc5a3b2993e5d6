"""Makes the notebooks of the course from their sources: ``python notebooks/build.py``, or ``--check``.

A source, ``src/NN_name.py``, is Python in the percent format: ``# %%`` begins a cell, ``# %% [markdown]`` a text, and
``# %% tags=["exercise"]`` an exercise with its solution in it::

    # %% tags=["exercise"]
    # solution: Ask lab.table() for its rows.
    answer = lab.table("weblogs").rows
    # end
    check("00.3", answer)

Two notebooks come of it: ``NN_name.ipynb`` with the solutions, and ``exercises/NN_name.ipynb``, in which each of them
is ``raise NotImplementedError("Ask lab.table() for its rows.")``. Neither has outputs; the ids of cells are places.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?$", re.MULTILINE)
SOLUTION = re.compile(r"^# solution: (?P<hint>.+)\n(?P<code>(?:.*\n)*?)# end$", re.MULTILINE)
LINK = re.compile(r"(\]\()(?!https?:|#|[^)/]*\.ipynb\))")  # of a text, to what lies elsewhere than the notebooks
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(source: str, *, exercises: bool) -> nbformat.NotebookNode:
    """A notebook of a source's text: the one that asks if `exercises`, else the one with the solutions."""
    cells = []
    for number, (kind, tags, text) in enumerate(split(source)):
        common = {"id": f"cell-{number:02}", "metadata": {"tags": tags} if tags else {}}
        if kind == "markdown":
            cells.append(new_markdown_cell(LINK.sub(r"\1../", text) if exercises else text, **common))
        else:
            cells.append(new_code_cell(SOLUTION.sub(asked if exercises else solved, text), **common))
    return new_notebook(cells=cells, metadata=METADATA)


def split(source: str) -> Iterator[tuple[str, list[str], str]]:
    """The cells of a source: kind, tags, text."""
    marks = list(CELL.finditer(source))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        text = source[mark.end() : after.start() if after else None].strip("\n")
        tags = json.loads(mark["tags"] or "[]")
        if mark["kind"]:
            yield "markdown", tags, re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        else:
            if ("exercise" in tags) != bool(SOLUTION.search(text)):
                raise ValueError(f'a cell with tags=["exercise"] has a solution, and no other cell:\n{text}')
            yield "code", tags, text


def asked(found: re.Match[str]) -> str:
    """What stands in for a solution."""
    return f"raise NotImplementedError({json.dumps(found['hint'], ensure_ascii=False)})  # your code goes here"


def solved(found: re.Match[str]) -> str:
    """The solution, under its hint."""
    return f"# {found['hint']}\n{found['code'].rstrip()}"


def targets() -> Iterator[tuple[Path, str]]:
    """The files that there must be, with their texts."""
    for path in sorted((HERE / "src").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = f"{path.stem}.ipynb"
        yield HERE / name, nbformat.writes(notebook(source, exercises=False)) + "\n"
        if SOLUTION.search(source):
            yield HERE / "exercises" / name, nbformat.writes(notebook(source, exercises=True)) + "\n"


def stale() -> dict[Path, str]:
    """What is not as its source says: the file, and its text as it should be."""
    return {path: text for path, text in targets() if not path.exists() or path.read_text(encoding="utf-8") != text}


def main() -> int:
    """Writes what is stale, or only names it."""
    parser = argparse.ArgumentParser(description="Makes the notebooks of the course from notebooks/src.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is stale")
    check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(HERE)} {'is stale: run python notebooks/build.py' if check else 'written'}")  # noqa: T201
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
