"""The guides to plug-ins are executed: their files are installed, their commands and their Python run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

GUIDES = sorted((Path(__file__).parents[2] / "docs/how-to").glob("add-a-*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (?:(\w+)=(\S+) )?ingestlab (.*)$", re.MULTILINE)


def install(folder: Path) -> None:
    """What pip does with the project of a guide, without a network: its metadata beside its modules."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("".join(groups))


@pytest.mark.slow("guides")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_guide_works(guide: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(guide.read_text())
    for _language, name, text in blocks:
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    install(tmp_path)
    outputs = [run(tmp_path, language, text) for language, name, text in blocks if not name]
    assert outputs, "the guide has a test"


def run(folder: Path, language: str, text: str) -> str:
    """Run a block in the folder of the guide, as a user does; gives what it prints."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("INGESTLAB_", "REDIS_"))}
    env = {**outside, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    if language == "python":
        commands = [([sys.executable, "-c", text], {})]
    else:
        commands = [
            ([sys.executable, "-m", "ingestlab", *line.split()], {name: value} if name else {})
            for name, value, line in COMMAND.findall(text)
        ]
    assert commands
    results = [
        subprocess.run(command, cwd=folder, env=env | more, capture_output=True, text=True, timeout=240, check=False)
        for command, more in commands
    ]
    for result in results:
        assert result.returncode == 0, result.stdout + result.stderr
    return "".join(result.stdout for result in results)
