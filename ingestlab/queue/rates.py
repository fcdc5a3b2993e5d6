"""How much was done in each of the last seconds, from what jobs say of their progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import gt
from typing import Any

import numpy as np
import numpy.typing as npt

SPAN = 3600  # seconds that are remembered
MEASURES = ("files", "rows", "rejected", "bytes")  # counts: summed over time
LEVELS = ("waiting", "running")  # of jobs: known only for the moments at which somebody looked
KEPT = 20_000  # jobs
SAME = 0.9  # seconds: RQ notes a start twice, a moment apart; retries are further apart
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """Counts that a job has reported last. `began` tells a later run of it, which starts from nothing."""

    began: float
    at: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """The last :data:`SPAN` whole seconds, oldest first. `end` is the time at which they end."""

    end: float
    counts: Mapping[str, Floats]
    levels: Mapping[str, Floats]  # NaN where nobody looked

    def total(self, measure: str, seconds: int = SPAN) -> float:
        """Sum a measure over the last seconds.

        Args:
            measure: One of :data:`MEASURES`.
            seconds: How many.
        """
        return float(self.counts[measure][-seconds:].sum())

    def binned(self, width: int, bins: int) -> dict[str, Floats]:
        """Divide the last seconds into bins.

        Args:
            width: Seconds of a bin.
            bins: How many.

        Returns:
            Arrays of length `bins`: rates a second, mean levels, and ``x``, seconds from now to a bin's middle.

        Bins begin at multiples of their width, so that what is drawn moves and does not flicker; of the last
        one only the part that is over counts.
        """
        ahead = -int(self.end) % width
        first = SPAN + ahead - width * bins
        values_of: dict[str, Floats] = {"x": np.arange(-bins, 0, dtype=np.float64) * width + width / 2 + ahead}
        for name, values in {**self.counts, **self.levels}.items():
            known = np.concatenate([np.full(max(0, -first), np.nan), values[max(0, first) :], np.full(ahead, np.nan)])
            values_of[name] = _mean(known.reshape(bins, width))
        return values_of


class Rates:
    """A ring of seconds, and what each job has been counted with.

    The work that a job reports is spread evenly over the time since it reported last. A retry is work too:
    what it does again is counted again, since its counts begin with what was brought in before.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((len(MEASURES), SPAN))
        self._levels = np.full((len(LEVELS), SPAN), np.nan)
        self._now = 0  # the last second of the ring
        self._reports: OrderedDict[str, Report] = OrderedDict()

    def follow(self, job: str, began: float, at: float, counts: Mapping[str, int], attempt: float = 0.0) -> None:
        """Count what a job has done since its last report. The same report twice changes nothing.

        Args:
            job: Its id.
            began: When its first attempt began, in seconds since the epoch. Another one tells another run of it.
            at: When it has reported.
            counts: Over all attempts, by measure.
            attempt: When this attempt began; nothing was done between two.
        """
        values = tuple(int(counts.get(name, 0)) for name in MEASURES)
        before = self._reports.get(job)
        if before is None or abs(before.began - began) > SAME or any(map(gt, before.counts, values)):
            before = Report(began, began, (0,) * len(MEASURES))
        self.add(np.subtract(values, before.counts), max(before.at, attempt), at)
        self._reports[job] = Report(began, at, values)
        self._reports.move_to_end(job)
        if len(self._reports) > KEPT:
            self._reports.popitem(last=False)

    def add(self, work: npt.NDArray[Any], begin: float, end: float) -> None:
        """Spread work evenly over a time. What is older than the ring is left out.

        Args:
            work: Of shape (measures,).
            begin: In seconds since 1970.
            end: The same.
        """
        end = min(end, self._now + 0.999)  # another machine's clock may be ahead
        begin = min(begin, end)
        if not work.any() or end <= self._now + 1 - SPAN:
            return
        seconds = np.arange(int(max(begin, self._now + 1.0 - SPAN)), int(end) + 1)
        length = end - begin
        edges = np.clip(np.append(seconds, seconds[-1] + 1), begin, end)
        shares = np.diff(edges) / length if length > 0 else np.eye(1, len(seconds), len(seconds) - 1)[0]
        self._counts[:, seconds % SPAN] += np.outer(work, shares)

    def advance(self, now: float, waiting: int | None = None, running: int | None = None) -> None:
        """Move the ring on to `now`. The numbers of jobs are noted where they are known.

        Args:
            now: In seconds since 1970.
            waiting: Jobs that wait.
            running: Jobs that run.
        """
        second = int(now)
        passed = np.arange(max(self._now + 1, second - SPAN + 1), second + 1) % SPAN
        self._counts[:, passed], self._levels[:, passed] = 0, np.nan
        self._now = max(self._now, second)
        if waiting is not None and running is not None:
            self._levels[:, second % SPAN] = waiting, running

    def history(self) -> History:
        """Return the seconds of the ring that are over."""
        order = np.arange(self._now - SPAN, self._now) % SPAN
        counts, levels = self._counts[:, order], self._levels[:, order]
        counts[:, 0], levels[:, 0] = 0, np.nan  # the place of the second that is not over
        return History(
            end=float(self._now),
            counts=dict(zip(MEASURES, counts, strict=True)),
            levels=dict(zip(LEVELS, levels, strict=True)),
        )


def _mean(values: Floats) -> Floats:
    """Return the mean of each row's known values; NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
