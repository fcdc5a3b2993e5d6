"""One big file, from CSV to checked Parquet and groups: ours, the peers, and the limit, round by round."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rivals
from flightfiles import Flights, flights, groups_of
from measures import Measure, check
from receipts import Receipts, receipts
from rivals import LIMIT, Lap, Process, Rival
from stack import Stack, Timed, stack

from ingestlab.analytics.lake import Lake

PIPELINE, AGGREGATE = "flights_big", "by_carrier"
FASTER, NEAR = 1.3, 1.35  # than the fastest of BAR, and times the limit
WORK = 1.15  # times the processor time of Polars
BAR = ("DuckDB", "Polars")
OURS = "ingestlab"
WARM, WARM_COPIES = "warm", 4  # enough for every Dask worker to have some of it


@dataclass(frozen=True)
class Ours:
    """One round of ours: what it took, and the seconds of its tasks by step."""

    timed: Timed
    steps: Mapping[str, float]
    tasks: int

    @property
    def lap(self) -> Lap:
        return Lap(self.timed.seconds, sum(s for part, s in self.timed.cpu.items() if part != "client"))


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """All that is measured on the big file."""
    small, big = flights(options.cache, WARM_COPIES), flights(options.cache, options.copies)
    wanted = {rival: rival.absent() for rival in rivals.chosen(options.peers)}
    here = tuple(rival for rival, absent in wanted.items() if not absent)
    with ExitStack() as opened:
        tenants = [WARM, *(f"big-{n}" for n in range(options.rounds))]
        running = opened.enter_context(stack(home / "stack", tenants, workers=1, dask_workers=2))
        counts = opened.enter_context(receipts(running.settings))
        warm_up(running, small, counts)
        open_ = lambda rival: opened.enter_context(rivals.process(rival, small, home / "peers"))  # noqa: E731
        quick = {rival: open_(rival) for rival in (LIMIT, *here) if not rival.slow}
        ours, laps = _rounds(running, big, counts, quick, options.rounds)
    for rival in here:
        if rival.slow:  # its process, idle, would be in the way of the others
            with rivals.process(rival, small, home / "peers") as process:
                laps[rival.name] = [process.run(big)]
    yield from _measures(big, wanted, laps, ours)


def warm_up(running: Stack, small: Flights, counts: Receipts | None = None) -> None:
    """Lets every process do its imports and open its connections."""
    once(running, small, WARM, counts)


def once(running: Stack, file: Flights, tenant: str, counts: Receipts | None = None, pipeline: str = PIPELINE) -> Ours:
    """One run of ours, all counts checked, after which the lake is as empty as before."""
    if counts:
        counts.take()
    timed = running.run([file.path.as_uri()], tenant, pipeline)
    tasks, steps = counts.take() if counts else (0, {})
    _check(running, file, tenant, timed, pipeline)
    running.forget(tenant)
    return Ours(timed, steps, tasks)


def _rounds(
    running: Stack, big: Flights, counts: Receipts, processes: Mapping[Rival, Process], rounds: int
) -> tuple[list[Ours], dict[str, list[Lap]]]:
    """Everybody in turn, round after round, so that a busy minute of the machine hits all alike."""
    ours: list[Ours] = []
    laps: dict[str, list[Lap]] = {OURS: [], **{rival.name: [] for rival in processes}}
    for n in range(rounds):
        for rival, process in processes.items():
            laps[rival.name].append(process.run(big))
        ours.append(once(running, big, f"big-{n}", counts))
        laps[OURS].append(ours[-1].lap)
    return ours, laps


def _check(running: Stack, file: Flights, tenant: str, timed: Timed, pipeline: str) -> None:
    truth, result, lake = file.truth, timed.result, Lake(running.settings, tenant=tenant)
    check((result.count("committed"), result.tally.rows_in), (1, truth.rows))
    check(lake.table(pipeline).rows, result.tally.out)
    if pipeline == PIPELINE:
        check((result.tally.out, result.tally.rejected), (truth.rows - truth.bad, truth.bad))
        check(dict(result.rules), dict(truth.rules))
        check(groups_of(lake.aggregate(pipeline, AGGREGATE)), dict(truth.groups))


def _measures(
    big: Flights, wanted: Mapping[Rival, str], laps: Mapping[str, Sequence[Lap]], ours: Sequence[Ours]
) -> Iterator[Measure]:
    what, megabytes = f"{big.megabytes:,.0f} MB", big.megabytes
    middle = sorted(ours, key=lambda run: run.timed.seconds)[len(ours) // 2]
    stages = middle.timed.result.seconds
    rest = {"rest": round(middle.timed.seconds - sum(stages.values()), 4)}  # on the queue, cutting the file
    parts = {"stages": stages | rest, "steps": dict(middle.steps), "tasks": middle.tasks}
    others = {"others": round(statistics.mean(run.timed.others for run in ours), 2)}
    by_part = {part: round(seconds, 2) for part, seconds in middle.timed.cpu.items()}
    yield _seconds(OURS, megabytes, laps[OURS], {**parts, **others, "cpu_by_part": by_part})
    for rival, absent in wanted.items():
        if absent:
            yield Measure(f"{what}, {rival.name}", None, "s", details={"absent": f"not installed: {absent}"})
        else:
            yield _seconds(rival.name, megabytes, laps[rival.name], {"does": rival.does})
    yield _seconds(LIMIT.name, megabytes, laps[LIMIT.name], {"does": LIMIT.does})
    yield from _ratios(laps)


def _seconds(name: str, megabytes: float, laps: Sequence[Lap], more: Mapping[str, Any]) -> Measure:
    details = {"contender": name, **rivals.told(megabytes, laps), **more}
    value = round(statistics.median(lap.seconds for lap in laps), 2)
    return Measure(f"{megabytes:,.0f} MB, {name}", value, "s", details=details)


def _ratios(laps: Mapping[str, Sequence[Lap]]) -> Iterator[Measure]:
    """Ours against the bars: the median over the rounds, of the ratios within each round."""
    fastest = [min(same, key=lambda lap: lap.seconds) for same in zip(*(laps[n] for n in BAR if n in laps))]  # noqa: B905
    if fastest:
        name = f"  ours, against the faster of {' and '.join(n for n in BAR if n in laps)}"
        yield _ratio(name, fastest, laps[OURS], FASTER, "least")
    if "Polars" in laps:
        ratios = [ours.cpu / polars.cpu for ours, polars in zip(laps[OURS], laps["Polars"], strict=True)]
        value = round(statistics.median(ratios), 2)
        yield Measure("  processor time, against that of Polars", value, "times", WORK, "most")
    yield _ratio("  ours, against the limit", laps[OURS], laps[LIMIT.name], NEAR, "most")


def _ratio(name: str, first: Sequence[Lap], other: Sequence[Lap], target: float, bound: Any) -> Measure:
    pairs = list(zip(first, other, strict=True))
    value = statistics.median(a.seconds / b.seconds for a, b in pairs)
    details = {"cpu_ratio": round(statistics.median(a.cpu / b.cpu for a, b in pairs), 2)}
    return Measure(name, round(value, 2), "times", target, bound, details)
