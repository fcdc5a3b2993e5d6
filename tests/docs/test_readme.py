"""What the README says works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ingestlab
from ingestlab.analytics.lake import Table
from ingestlab.cli import app
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.notebook import Lab
from ingestlab.stack.services import variables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> str:
    found = [text for name, text in BLOCKS if name == language]
    assert found
    return "\n".join(found)


def test_the_pipeline_of_the_readme_works(tmp_path: Path) -> None:
    (example,) = (text for name, text in BLOCKS if name == "python" and "PIPELINE = " in text)
    (tmp_path / "example.py").write_text(example)
    file = tmp_path / "alarm-1.csv"
    file.write_text(
        "id,start_time,value\n1,2017-10-23 12:00:25,28.5\n2,2017-10-24 12:00:00,-61\n,2017-10-24 12:00:00,\n"
    )
    trial = try_pipeline("example", str(file), Settings(pipelines=(str(tmp_path),)))
    assert [(row["id"], str(row["day"])) for row in trial.rows.to_dict("records")] == [(1, "2017-10-23")]
    assert trial.rules == {"value:greater_than_or_equal_to": 1, "id:not_nullable": 1}


def test_the_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"(?:^\$ |\$\(|`)ingestlab ([a-z]+)", README, re.MULTILINE))
    assert named >= {"up", "doctor", "submit", "show", "tables", "check", "produce", "env", "reconcile"}
    for name in sorted(named):
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, name


def test_the_options_of_the_readme_exist() -> None:
    for line in re.findall(r"^\$ ingestlab ([a-z]+.*?)(?:  #.*)?$", README, re.MULTILINE):
        name, *rest = line.split()
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        for option in (word for word in rest if word.startswith("--")):
            assert option in shown, line


def test_the_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^\$ make (\w+)|`make (\w+)`", README, re.MULTILINE))
    for target in {a or b for a, b in targets}:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_names_of_the_readme_exist() -> None:
    code = blocks("python")
    for name in re.findall(r"^from ingestlab import (.*)$", code, re.MULTILINE):
        assert set(name.split(", ")) <= set(ingestlab.__all__)
    for method in re.findall(r"\blab\.(\w+)\(", code):
        assert hasattr(Lab, method)
    for method in re.findall(r"\.(pandas|dask|polars|duckdb|path)\b", code):
        assert hasattr(Table, method)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:INGESTLAB_|REDIS_|DASK_|QUEUE_)[A-Z_]+)`", README))))
def test_the_settings_of_the_readme_exist(name: str) -> None:
    assert name in variables() or f"\n{name}=" in (ROOT / ".env.example").read_text()


def test_the_files_of_the_readme_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", ingestlab.__all__)
def test_the_public_names_load(name: str) -> None:
    assert getattr(ingestlab, name).__name__ == name
    assert name in dir(ingestlab)


def test_other_names_are_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'ingestlab' has no attribute 'Nonsense'"):
        ingestlab.Nonsense  # noqa: B018
