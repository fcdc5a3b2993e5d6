"""Commands that take something away: they show what would go, and ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Say
from support.lake import World

SHIPPED = Path(__file__).parent.parent.parent / "pipelines"


@pytest.fixture
def lasts(say: Say, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its pipelines are where the settings look."""
    monkeypatch.setenv("INGESTLAB_PIPELINES", world.settings.pipelines[0])
    return world


def left(say: Say) -> int:
    return json.loads(say("tables", "--json").stdout)[0]["rows"]


def test_what_would_go_is_shown_and_kept_unless_somebody_says_yes(say: Say, lasts: World) -> None:
    uri = lasts.put("b.csv", [7, 8])
    lasts.ingest([uri])
    shown = ["small: 2 rows, 0 rejects of 1 source", f"  {uri}"]
    assert say("delete", uri, "--dry-run").stdout.splitlines() == shown
    for answer in ("n\n", "", "\n"):
        refused = say("delete", uri, code=1, answer=answer)
        assert refused.stdout.splitlines()[:2] == shown
        assert "Delete 2 rows and 0 rejects? [y/N]" in refused.stderr
        assert "--yes" in refused.stderr
    assert left(say) == 5
    assert say("delete", uri, answer="y\n").stdout.splitlines()[-1] == "small: 2 rows, 0 rejects of 1 source deleted"
    assert left(say) == 3
    assert say("delete", uri).stdout == "small: 0 rows, 0 rejects of 0 sources\n", "there is nothing to ask"


def test_json_has_no_words_in_it(say: Say, lasts: World) -> None:
    every = lasts.folder / "sources/*.csv"
    (seen,) = json.loads(say("delete", every, "--dry-run", "--json").stdout)
    assert (seen["table"], seen["rows"], seen["rejects"]) == ("small", 3, 2)
    assert say("delete", every, "--json", code=1, answer="").stdout.strip() == ""
    (done,) = json.loads(say("delete", every, "--json", "--yes").stdout)
    assert (done["rows"], done["sources"]) == (3, seen["sources"])


def test_a_demonstration_removes_no_folder_of_others(tmp_path, cli):
    mine = tmp_path / "work"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    got = cli("demo", "--home", mine, INGESTLAB_PIPELINES=str(SHIPPED))
    assert got.returncode == 1
    assert "has other things in it" in got.stderr
    assert (mine / "thesis.txt").read_text() == "years"
