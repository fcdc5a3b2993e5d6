"""The benchmark measures what it says: peers do all of the work, and a wrong count ends it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import flightfiles
import report
import rivals
from measures import Measure
from rich.console import Console

from ingestlab import load_settings
from ingestlab.engine.dry_run import try_pipeline

PEERS = [rival for rival in (rivals.LIMIT, *rivals.RIVALS) if rival.name in ("limit", "DuckDB", "Polars")]


@pytest.fixture(scope="module")
def year(tmp_path_factory) -> flightfiles.Flights:
    return flightfiles.flights(tmp_path_factory.mktemp("cache"), 1)


@pytest.mark.slow("benchmarks")
@pytest.mark.parametrize("rival", PEERS, ids=lambda rival: rival.name)
def test_a_peer_comes_to_the_same_rows_and_groups(rival, year, tmp_path):
    if absent := rival.absent():
        pytest.skip(f"not installed: {absent}")
    with rivals.process(rival, year, tmp_path) as process:
        assert process.run(year).seconds > 0
        false = replace(year, truth=replace(year.truth, rows=year.truth.rows + 1))
        with pytest.raises(SystemExit, match=rf"wrong counts: expected \('{rival.name}'"):
            process.run(false)


def test_our_pipeline_comes_to_the_same_rows_and_rejects(year):
    settings = load_settings(pipelines=(str(rivals.PEERS.parent / "pipelines"),))
    tried = try_pipeline("flights_big", year.path.as_uri(), settings, sample=year.size)
    assert (len(tried.rows), tried.rules) == (year.truth.rows - year.truth.bad, year.truth.rules)
    groups = tried.rows.groupby(["carrier", "origin", "month"]).agg({"year": "size", "distance": "sum"})
    miles = {(carrier, origin, int(month)): int(m) for (carrier, origin, month), m in groups["distance"].items()}
    assert miles == {key: found[1] for key, found in year.truth.groups.items()}


def test_a_peer_that_is_not_installed_is_named():
    rival = replace(rivals.LIMIT, needs=("pyarrow", "no_such_package"), programs=("no-such-program",))
    assert rival.absent() == "no_such_package, no-such-program"


def test_numbers_are_shown_and_kept(tmp_path):
    found = [
        Measure("fast", 1.25, "times", 1.3),
        Measure("slow", 1.25, "times", 1.3, "most", {"cpu_ratio": 2}),
        Measure("absent", None, "s", details={"absent": "not installed: x"}),
        Measure("ours", 4.0, "s", details={"stages": {"fetching": 1.0, "processing": 3.0}, "steps": {"read": 4.0}}),
    ]
    machine = {"cores": 2, "load_before": [0.1], "new_file_us": 50, "synced_file_us": 900}
    console = Console(width=120, record=True, file=(tmp_path / "shown").open("w"))
    report.show(found, machine, console)
    text = console.export_text()
    for words in ("1.25 times ≥ 1.3 missed", "1.25 times ≤ 1.3 met", "not installed: x", "fetching 1.00 25%"):
        assert words in " ".join(text.split())
    kept = json.loads(report.keep(found, report.argparse.Namespace(rounds=1), machine, tmp_path).read_text())
    assert [m["met"] for m in kept["measures"]] == [False, True, None, None]
