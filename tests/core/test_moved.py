"""Names that modules had once: queued jobs, notebooks and scripts still find them."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from rq.utils import import_attribute
from support.workers import PATIENCE, ROOT, environment

from ingestlab._moved import MOVED
from ingestlab.queue.rq.serializer import WORKER_CLASS


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_same_module(old: str) -> None:
    module = import_module(old)
    assert module is import_module(MOVED[old])
    assert module.__spec__ is not None
    assert module.__name__ == module.__spec__.name == MOVED[old]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ingestlab.datasets.flights", "ingestlab.stack.samples.flights"),
        ("ingestlab.readers.lines", "ingestlab.formats.lines"),
    ],
)
def test_a_module_of_a_package_that_moved_is_found(old: str, new: str) -> None:
    assert import_module(old) is import_module(new)


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks/src").glob("*.py")), ids=lambda path: path.stem)
def test_what_the_notebooks_import_is_there(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ingestlab"):
            module = import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == [], node.module


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("ingestlab.datasets.no_such_set")


def test_the_worker_class_of_older_environments_is_found() -> None:
    found = import_attribute(WORKER_CLASS)
    assert found.__name__ == WORKER_CLASS.rpartition(".")[2]
    assert found is getattr(import_module(found.__module__), found.__name__)


def test_the_worker_runs_under_its_old_name(tmp_path) -> None:
    command = [sys.executable, "-m", "ingestlab.worker", "ingest"]
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "set REDIS_URL" in done.stderr, "it looks for its Redis, and there is none"
