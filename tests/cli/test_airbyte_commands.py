"""The commands of connectors: what they say on 80 columns, and the pipelines that they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.airbyte import NUMBERS, lay_numbers
from support.commands import Say
from test_width import faults

from ingestlab.core.settings import Settings
from ingestlab.pipeline.catalog import Catalog, load


@pytest.fixture
def home(tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the connector of whole numbers; commands find it."""
    settings = Settings(_env_file=None, home=tmp_path / "home")
    lay_numbers(settings)
    monkeypatch.setenv("INGESTLAB_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "80")
    return settings.home


def config(folder: Path, **values: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(values))
    return file


def test_connectors_are_listed(home: Path, say: Say) -> None:
    shown = say("airbyte", "list").stdout
    assert shown.split() == ["connector", "version", "python", "installed", NUMBERS, "1.0", "3", "2026-01-01"]
    [one] = json.loads(say("airbyte", "list", "--json").stdout)
    assert (one["connector"], one["version"]) == (NUMBERS, "1.0")
    none = say("airbyte", "list", "--home", home / "other").stderr
    assert none.endswith("Install one with: ingestlab airbyte install source-faker\n")


def test_a_configuration_is_checked_and_no_secret_shown(home: Path, say: Say, tmp_path: Path) -> None:
    assert say("airbyte", "check", NUMBERS).stdout == "source-numbers 1.0 can connect.\n"
    wrong = say("airbyte", "check", NUMBERS, "--config", config(tmp_path, key="wrong"), code=1).stderr
    assert [line.split(maxsplit=1) for line in wrong.splitlines()] == [
        ["problem", "source-numbers cannot connect"],
        ["got", "the key *** is ***"],
        ["do", "Correct its config; its documentation helps."],
        ["code", "connector_refuses"],
    ]
    for text, content in {"no JSON": "{", "is no JSON object": "[]"}.items():
        (tmp_path / "config.json").write_text(content)
        assert text in say("airbyte", "check", NUMBERS, "--config", tmp_path / "config.json", code=1).stderr
    assert "No such file" in say("airbyte", "check", NUMBERS, "--config", tmp_path / "none.json", code=1).stderr
    assert "airbyte install source-none" in say("airbyte", "check", "source-none", code=1).stderr


def test_streams_are_listed_and_become_pipelines(
    home: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("airbyte", "discover", NUMBERS, "--config", config(tmp_path, count=5, key="hunter22"))
    shown = say(*asked).stdout
    assert faults(shown) == []
    assert " a.twice " in shown
    assert [one["name"] for one in json.loads(say(*asked, "--streams", "open,plain", "--json").stdout)] == [
        "open",
        "plain",
    ]
    done = say(*asked, "--streams", "numbers, b.twice", "--to", tmp_path / "made")
    assert done.stdout.splitlines() == [
        f"Wrote {tmp_path}/made/numbers.py: incremental, 5 columns.",
        f"Wrote {tmp_path}/made/b_twice.py: full_refresh, 5 columns.",
        "Look at them, then: ingestlab submit airbyte://numbers",
    ]
    assert done.stderr == "note: secrets are not written: set SOURCE_NUMBERS_KEY where the workers run\n"
    catalog = Catalog.read(Settings(_env_file=None, pipelines=(str(tmp_path / "made"),)))
    numbers, twice = load(catalog.named("numbers")), load(catalog.named("b_twice"))
    assert (numbers.write_disposition, numbers.key_columns, numbers.latest_by) == ("merge", ("n",), None)
    assert numbers.source.config == {"count": 5, "key": {"env": "SOURCE_NUMBERS_KEY"}}
    assert (numbers.source.incremental, twice.source.incremental) == (True, False)
    assert "hunter22" not in f"{catalog.named('numbers').text}{numbers!r}"
    assert "exists already" in say(*asked, "--streams", "numbers", "--to", tmp_path / "made", code=1).stderr
    say(*asked, "--streams", "numbers", "--to", tmp_path / "made", "--force")
    assert "Did you mean 'numbers'?" in say(*asked, "--streams", "number", code=1).stderr


@pytest.mark.parametrize("command", ["install", "list", "check", "discover", ""])
def test_help_fits(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert faults(say("airbyte", *filter(None, [command]), "--help").stdout) == []


def test_what_cannot_be_installed_leaves_nothing(home: Path, say: Say, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    done = say("airbyte", "install", "source-broken", "--package", broken, code=1)
    assert "The connector source-broken cannot be installed" in done.stderr
    assert sorted(path.name for path in (home / "airbyte").iterdir()) == [f"{NUMBERS}.00000000", f"{NUMBERS}.json"]
    assert "Not the name of a connector" in say("airbyte", "install", "no/connector", code=1).stderr
