"""What tests of commands share: a way to run one, a queue, a lake, and a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from support.commands import ALARMS, PIPELINES, Say
from support.lake import World
from typer.testing import CliRunner

from ingestlab.cli import app


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command in this process, in the test's folder, with the project's pipelines: ``say("tables")``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("INGESTLAB_PIPELINES", str(PIPELINES))

    def run(*args: str | Path, code: int | None = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=answer)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code in (None, result.exit_code), result.output
        return result

    return run


@pytest.fixture
def queue(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Redis with a queue on which nobody works."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("QUEUE_NAME", "quiet")
    return redis_url


@pytest.fixture
def world(tmp_path: Path, queue: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """A lake with a table `small`, of three published rows and two rejects; the settings lead to it."""
    made = World(tmp_path, queue)
    monkeypatch.setenv("INGESTLAB_HOME", str(made.settings.home))
    made.ingest([made.put("a.csv", [1, 2, 13, 4, 5000])])
    return made


@pytest.fixture
def alarms(tmp_path: Path) -> Path:
    file = tmp_path / "alarm-2017-10-23-12-vn.csv"
    file.write_text(ALARMS)
    return file
