"""What the README and the pages of docs/ say works."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

import ingestlab
from ingestlab.analytics.lake import Table
from ingestlab.cli import GROUPS, app
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.notebook import Lab
from ingestlab.stack.services import variables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
TEXT = "\n".join(PAGES.values())
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(text, id=str(path.relative_to(ROOT)))
    for path in (ROOT / "README.md", ROOT / "docs/tutorials/first-pipeline.md")
    for name, text in BLOCK.findall(PAGES[path])
    if name == "python" and "PIPELINE = " in text
]


def blocks(language: str) -> str:
    texts = [text for name, text in BLOCK.findall(TEXT) if name == language]
    assert texts
    return "\n".join(texts)


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    assert len(README.split()) <= 900
    (console, *_) = (text for name, text in BLOCK.findall(README) if name == "console")
    assert re.findall(r"^\$ make (\w+)", console, re.MULTILINE) == ["demo", "test"]
    assert "make test\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_pipeline_of_the_readme_works(example: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(example)
    file = tmp_path / "alarm-1.csv"
    file.write_text(
        "id,start_time,value\n1,2017-10-23 12:00:25,28.5\n2,2017-10-24 12:00:00,-61\n,2017-10-24 12:00:00,\n"
    )
    trial = try_pipeline("example", str(file), Settings(pipelines=(str(tmp_path),)))
    assert [(row["id"], str(row["day"])) for row in trial.rows.to_dict("records")] == [(1, "2017-10-23")]
    assert trial.rules == {"value:greater_than_or_equal_to": 1, "id:not_nullable": 1}


@cache
def help_of(*command: str) -> str:
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, command
    return shown.stdout


def test_the_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"(?:^\$ |\$\(|`)ingestlab ([a-z]+)", TEXT, re.MULTILINE))
    assert named >= {"up", "doctor", "submit", "show", "tables", "check", "produce", "env", "reconcile"}
    for name in sorted(named):
        assert help_of(name)


def test_the_options_of_the_readme_exist() -> None:
    for line in re.findall(r"^\$ ingestlab ([a-z]+.*?)(?:  #.*)?$", TEXT, re.MULTILINE):
        name, *rest = line.split()
        command = (name, rest[0]) if name in {"schedule", "airbyte", "tenant"} else (name,)
        for option in (word for word in rest if word.startswith("--")):
            assert option in help_of(*command), line


def test_the_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^\$ make (\w+)|`make (\w+)`", TEXT, re.MULTILINE))
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


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:INGESTLAB_|REDIS_|DASK_|QUEUE_)[A-Z_]+)`", TEXT))))
def test_the_settings_of_the_readme_exist(name: str) -> None:
    assert name in variables() or f"\n{name}=" in (ROOT / ".env.example").read_text()


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_the_pages_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), f"{target}#{anchor}"


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    site = (ROOT / "docs/site/mkdocs.yml").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        assert f" {path.relative_to(ROOT / 'docs').as_posix()}\n" in site


@pytest.mark.parametrize("name", ingestlab.__all__)
def test_the_public_names_load(name: str) -> None:
    assert getattr(ingestlab, name).__name__ == name
    assert name in dir(ingestlab)


def test_other_names_are_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'ingestlab' has no attribute 'Nonsense'"):
        ingestlab.Nonsense  # noqa: B018


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = spec_from_file_location("hooks", ROOT / "docs/site/hooks.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_the_command_line_is_made_of_the_commands(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown((ROOT / "docs/reference/cli.md").read_text())
    commands = typer.main.get_command(app).commands
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(GROUPS)
    groups = {name: command.commands for name, command in commands.items() if hasattr(command, "commands")}
    assert groups.keys() == {"schedule", "airbyte", "tenant"}
    names = [*(commands.keys() - groups), *(f"{name} {inner}" for name, group in groups.items() for inner in group)]
    assert sorted(re.findall(r"^### `(.*)`$", page, re.MULTILINE)) == sorted(names)
    for option in commands["submit"].params:
        assert f"`{option.opts[-1]}" in page or option.param_type_name == "argument"
    assert "| `URI` | " in page


def test_the_page_on_settings_is_made_of_the_settings(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown((ROOT / "docs/reference/settings.md").read_text())
    for name in Settings.model_fields:
        (line,) = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert line.split("|")[-2].strip().endswith("."), f"{name} says what it means"
    assert "| `queue` | `INGESTLAB_QUEUE`, `QUEUE_NAME` | `ingest` |" in page
