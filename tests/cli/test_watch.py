"""What the terminal shows of a run: its own clock, and a bar that moves by work."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import Say

from ingestlab.cli import show
from ingestlab.core.models import Progress
from ingestlab.core.settings import Settings


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns without colours."""
    text = io.StringIO()
    monkeypatch.setattr(show, "out", Console(file=text, force_terminal=True, width=80, no_color=True))
    return text


def frames(screen: io.StringIO) -> list[str]:
    """The lines that were drawn."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()


def test_the_clock_is_the_runs_own(screen: io.StringIO) -> None:
    now = time.time()
    with show.watching(2) as watch:
        watch(Progress(state="processing", files=2, began=now - 125, share=0.6, partitions=4, partitions_done=2))
    line = next(line for line in frames(screen) if line.startswith("processing"))
    assert re.search(r"60%, 2 min [5-9] s, about 1 min 2[3-7] s left", line)


def test_the_clock_stops_at_the_end_of_the_run(screen: io.StringIO) -> None:
    with show.watching(2) as watch:
        watch(
            Progress(state="finished", files=2, files_done=2, failed=1, rows=300, share=1.0, began=1e9, ended=1e9 + 12)
        )
    lines = frames(screen)
    assert any(re.fullmatch(r"finished, 1 of 2 failed ━+ 100%, 12 s *", line) for line in lines)
    assert any(line.strip() == "2/2 files, 300 rows (25/s), 1 failed" for line in lines)


def test_the_bar_moves_by_work_and_never_back(screen: io.StringIO) -> None:
    now = time.time()
    with show.watching(8) as watch:
        watch(Progress(state="processing", files=8, files_done=8, began=now, share=0.5))
        watch(Progress(state="retrying", files=8, files_done=0, began=now, share=0.0))
    shares = [int(found[1]) for line in frames(screen) if (found := re.search(r"(\d+)%", line))]
    assert set(shares) == {50}


def test_nothing_is_cut_in_80_columns(screen: io.StringIO) -> None:
    long = Progress(
        state="committing",
        files=123_456,
        files_done=123_455,
        bytes=12_345_678_901,
        partitions=23_456,
        partitions_done=23_455,
        rows=1_234_567_890,
        rejected=12_345_678,
        failed=12_345,
        share=0.955,
        began=time.time() - 40_000,
    )
    with show.watching(2) as watch:
        watch(long)
    text = " ".join("\n".join(frames(screen)).split())
    assert "…" not in text
    for number in ("23,455/23,456 partitions", "123,455/123,456 files", "1,234,567,890 rows", "12,345,678 rejected"):
        assert number in text
    assert max(map(len, frames(screen))) <= 80


def test_a_run_that_has_ended_tells_how_long_it_took(say: Say, stack: Settings, alarms: Path) -> None:
    home = ("--home", stack.home)
    done = json.loads(say("submit", alarms, "--table", "timed", "--force", "--wait", "--json", *home).stdout)
    took = f"time: {show.duration(done['ended'] - done['began'])}"
    assert took in say("show", done["run"], *home).stdout.splitlines()
    assert took in say("watch", done["run"], *home).stdout.splitlines()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (7500, "2 h 5 min")],
)
def test_seconds_are_written_for_people(seconds: float, said: str) -> None:
    assert show.duration(seconds) == said
