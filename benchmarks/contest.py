"""One file, ours and some peers in turns, in warm processes: seconds, and ratios round by round."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import rivals
from measures import Measure, check
from rivals import Lap, Process, Rival, Work
from stack import Stack, stack

from ingestlab.analytics.lake import Lake

OURS = "ingestlab"


class Known(Work, Protocol):
    """A file of which all counts are known."""

    @property
    def good(self) -> int: ...
    @property
    def rules(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class Contest:
    """What is measured.

    Attributes:
        name: Of the file, for people.
        small: A small file of the same kind, on which everyone warms up.
        work: The file.
        pipeline: Ours.
        rivals: The others; one that is slow has one round.
        target: How many times as fast as the fastest of the others ours should be.
    """

    name: str
    small: Known
    work: Known
    pipeline: str
    rivals: tuple[Rival, ...]
    target: float | None = 1.0

    @property
    def megabytes(self) -> float:
        return self.work.path.stat().st_size / 1e6


def measure(options: argparse.Namespace, home: Path, contests: Sequence[Contest]) -> Iterator[Measure]:
    """All contests, one after the other, on one stack of ours."""
    tenants = [f"c{number}-{n}" for number in range(len(contests)) for n in ("warm", *range(options.rounds))]
    with stack(home / "stack", tenants, workers=1, dask_workers=2) as running:
        for number, contest in enumerate(contests):
            yield from _measures(contest, _laps(running, contest, f"c{number}", options, home / "peers"))


def _laps(
    running: Stack, contest: Contest, tenant: str, options: argparse.Namespace, scratch: Path
) -> dict[str, list[Lap]]:
    wanted = [r for r in contest.rivals if (not options.peers or r.name in options.peers) and not r.absent()]
    laps: dict[str, list[Lap]] = {name: [] for name in (OURS, *(rival.name for rival in wanted))}
    once(running, contest.small, contest.pipeline, f"{tenant}-warm")
    with ExitStack() as opened:
        quick: dict[str, Process] = {
            rival.name: opened.enter_context(rivals.process(rival, contest.small, scratch))
            for rival in wanted
            if not rival.slow
        }
        for n in range(options.rounds):
            for name, process in quick.items():
                laps[name].append(process.run(contest.work))
            laps[OURS].append(once(running, contest.work, contest.pipeline, f"{tenant}-{n}"))
    for rival in wanted:
        if rival.slow:
            with rivals.process(rival, contest.small, scratch) as process:
                laps[rival.name].append(process.run(contest.work))
    return laps


def once(running: Stack, work: Known, pipeline: str, tenant: str) -> Lap:
    """One run of ours, all counts checked, after which the lake is as empty as before."""
    timed = running.run([work.path.as_uri()], tenant, pipeline)
    result = timed.result
    check((result.count("committed"), result.tally.out, dict(result.rules)), (1, work.good, dict(work.rules)))
    check(Lake(running.settings, tenant=tenant).table(pipeline).rows, work.good)
    running.forget(tenant)
    return Lap(timed.seconds, sum(seconds for part, seconds in timed.cpu.items() if part != "client"))


def _measures(contest: Contest, laps: Mapping[str, Sequence[Lap]]) -> Iterator[Measure]:
    for name, own in laps.items():
        value = statistics.median(lap.seconds for lap in own)
        details: dict[str, Any] = {
            "contest": contest.name,
            "who": name,
            "megabytes": round(contest.megabytes, 1),
            "rejects": sum(contest.work.rules.values()),
            **rivals.told(contest.megabytes, own),
        }
        yield Measure(f"{contest.name}, {contest.megabytes:,.0f} MB, {name}", round(value, 2), "s", details=details)
    others = [own for name, own in laps.items() if name != OURS and len(own) == len(laps[OURS])]
    if not others:
        return
    fastest = [min(own, key=lambda lap: lap.seconds) for own in zip(*others, strict=True)]
    pairs = list(zip(fastest, laps[OURS], strict=True))
    ratio = statistics.median(other.seconds / ours.seconds for other, ours in pairs)
    details = {"cpu_ratio": round(statistics.median(other.cpu / ours.cpu for other, ours in pairs), 2)}
    name = "  ours, against the fastest of them"
    yield Measure(name, round(ratio, 2), "times", contest.target, "least", details)
