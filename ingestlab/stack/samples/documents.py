"""What the Python packages installed here say of themselves, as JSON lines: some two hundred real documents.

Which they are depends on the environment. The questions below are about packages that ingestlab itself needs, so
that a search can be judged wherever it runs.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

# What somebody might ask, and the package that is the answer. They were written before they were measured; of 20
# others, by which the pipeline's settings were chosen, wordllama had 13 and MiniLM 16 among the first five: those asked
# in words that the descriptions do not use, or had several good answers.
QUESTIONS: Mapping[str, str] = MappingProxyType(
    {
        "talk to a redis server": "redis",
        "draw interactive plots in the browser": "bokeh",
        "check that the columns of a dataframe hold what they should": "pandera",
        "show a progress bar for a loop": "tqdm",
        "shortest paths in a graph": "networkx",
        "write log records as JSON": "python-json-logger",
        "fill in HTML templates": "jinja2",
        "how much memory do processes use": "psutil",
        "colour the syntax of source code": "pygments",
        "train a classifier": "scikit-learn",
        "names of colours as hex codes": "webcolors",
        "parse XML from people one does not trust": "defusedxml",
        "hash passwords": "argon2-cffi",
        "understand dates such as 'two weeks ago'": "dateparser",
        "move files to the trash instead of deleting them": "send2trash",
        "when does a cron job run next": "croniter",
        "split long texts into chunks": "semantic-text-splitter",
        "keep two processes from writing to one file at once": "filelock",
        "run SQL queries on files without a server": "duckdb",
        "arrays with many dimensions": "numpy",
    }
)


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """Files that were written for the pipeline ``documents``.

    Attributes:
        folder: Where the files lie.
        files: One file for each first letter, so that a new package changes one file.
        rows: Packages in all of them.
    """

    folder: Path
    files: tuple[Path, ...]
    rows: int


def document_files(folder: Path | str) -> DocumentSet:
    """Write ``packages-a.jsonl``, … with the metadata of installed packages.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    packages: dict[str, Distribution] = {}
    for package in distributions():
        if package.metadata["Name"]:  # what a broken installation leaves has none
            name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()  # as registries compare names
            packages.setdefault(name, package)  # the first is the one that is imported
    letters: dict[str, list[str]] = defaultdict(list)
    for name in sorted(packages):
        letters[name[0]].append(json.dumps(_record(name, packages[name])) + "\n")
    paths = {letter: folder / f"packages-{letter}.jsonl" for letter in letters}
    for letter, path in paths.items():
        path.write_text("".join(letters[letter]), encoding="utf-8", newline="\n")
    return DocumentSet(folder, tuple(paths.values()), len(packages))


def _record(name: str, package: Distribution) -> dict[str, Any]:
    about = cast("Message", package.metadata)  # which it is, whatever its type says
    kind = (about.get("Description-Content-Type") or "").partition(";")[0].strip()
    return {
        "name": name,
        "version": package.version,
        "summary": about.get("Summary"),
        "keywords": about.get("Keywords"),
        "type": kind or None,
        "description": about.get("Description") or about.get_payload() or None,
    }
