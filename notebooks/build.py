"""Makes the notebooks of the course from their sources: ``python notebooks/build.py``, or ``--check``.

A source, ``src/NN_name.py``, is Python in the percent format: ``# %%`` begins a cell, ``# %% [markdown]`` a text, and
``# %% tags=["exercise"]`` an exercise with its solution in it::

    # %% tags=["exercise"]
    # solution: Ask lab.table() for its rows.
    answer = lab.table("weblogs").rows
    # end
    check("00.3", answer)

Two cells come of it. The student's has the hint, ``answer = ...`` and the check. The solution beneath is folded away
(``metadata.jupyter.source_hidden``, outputs too), and runs only where the answer is not right yet, so that later cells
find what they need. No cell has outputs; the ids of cells are places.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill, indent
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?$", re.MULTILINE)
SOLUTION = re.compile(
    r"^# solution: (?P<hint>.+)\n(?P<code>(?:.*\n)*?)# end\n(?P<check>check\((?P<name>\".+?\"), (?P<value>\w+)\))$",
    re.MULTILINE,
)
FOLDED = {"source_hidden": True, "outputs_hidden": True}
WIDTH = 88
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(source: str) -> nbformat.NotebookNode:
    """The notebook of a source's text."""
    cells = []
    for number, (kind, tags, text) in enumerate(split(source)):
        place, found = f"cell-{number:02}", SOLUTION.fullmatch(text)
        metadata: dict[str, Any] = {"tags": tags} if tags else {}
        if found:
            # unanswered, it is shown as such, and the rest of "Run All Cells" goes on
            cells.append(new_code_cell(asked(found), id=place, metadata={"tags": [*tags, "raises-exception"]}))
            hidden = {"tags": ["solution"], "jupyter": FOLDED}
            cells.append(new_code_cell(solved(found), id=f"{place}-solution", metadata=hidden))
        else:
            make = new_markdown_cell if kind == "markdown" else new_code_cell
            cells.append(make(text, id=place, metadata=metadata))
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
            if ("exercise" in tags) != bool(SOLUTION.fullmatch(text)):
                raise ValueError(f'tags=["exercise"] is for a solution with its check, and for no other cell:\n{text}')
            yield "code", tags, text


def asked(found: re.Match[str]) -> str:
    """The student's cell."""
    hint = fill(found["hint"], WIDTH, initial_indent="# Hint: ", subsequent_indent="# ", break_on_hyphens=False)
    return f"{hint}\n{found['value']} = ...\n\n{found['check']}"


def solved(found: re.Match[str]) -> str:
    """The solution's cell: what runs unless the student's answer is right."""
    if '"""' in found["code"] or "'''" in found["code"]:
        raise ValueError(f"a solution is indented, which would change a text of several lines:\n{found['code']}")
    name = found["name"].strip('"')
    title = f"# Solution of {name}: it runs only where your answer is not right yet"  # all that a folded cell shows
    return f"{title}\nif unsolved({found['name']}):\n" + indent(f"{found['code'].rstrip()}\n{found['check']}", "    ")


def targets() -> Iterator[tuple[Path, str]]:
    """The files that there must be, with their texts."""
    for path in sorted((HERE / "src").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        yield HERE / f"{path.stem}.ipynb", nbformat.writes(notebook(source)) + "\n"


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
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(HERE)} {'is stale: run python notebooks/build.py' if check else 'written'}")  # noqa: T201
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
