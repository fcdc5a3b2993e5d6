"""The profile of a table as people see it: as frames, in a notebook, in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from ingestlab.analytics.profiles.drift import Drift, drifts, share, top_of
from ingestlab.analytics.profiles.few import State
from ingestlab.analytics.profiles.html import render
from ingestlab.analytics.profiles.kinds import TIMES, Kind, to_text, to_value
from ingestlab.analytics.profiles.merging import deviation, distinct, mean, merge
from ingestlab.analytics.profiles.states import Profile

SHOWN = 20  # runs that are plotted


@dataclass(frozen=True)
class RunProfile:
    """Profile of what one run has published, whatever has become of it."""

    run: str
    at: str  # of its last commit: ISO 8601, UTC
    profile: Profile


@dataclass(frozen=True)
class TableProfile:
    """Profile of a table's rows, and how the last run differs.

    Rows, nulls, min, max and mean are exact; `distinct` is up to 24, and then an estimate with a standard error
    of 4.6 %; the counts of the commonest values are right to a 25th of the column, mostly far better.

    Attributes:
        table: Its name.
        now: The profile of the rows that are there.
        runs: What each run has published, oldest first. These are compared as they were published: rows that
            have been replaced since are still in the run that they came with, and in no other.
        read: How many parts had to be read, because no manifest has a profile of them.
    """

    table: str
    now: Profile
    runs: tuple[RunProfile, ...]
    read: int = 0

    @property
    def last(self) -> RunProfile:
        """Return the run that is compared with all before it."""
        return self.runs[-1]

    @cached_property
    def earlier(self) -> Profile:
        """Merge what all runs before the last have published."""
        return merge(run.profile for run in self.runs[:-1])

    @cached_property
    def drift(self) -> dict[str, Drift]:
        """Measure each column of the last run against earlier ones. Empty without earlier rows."""
        return drifts(self.earlier, self.last.profile) if self.runs else {}

    @property
    def moved(self) -> list[str]:
        """List the columns that have moved, the farthest first."""
        drifts = sorted(self.drift.items(), key=lambda item: -item[1].score)
        return [name for name, drift in drifts if drift.moved]

    def frame(self) -> pd.DataFrame:
        """Tabulate each column: its measures now, and how far the last run has moved."""
        rows = []
        for name, state in self.now["columns"].items():
            drift = self.drift.get(name, Drift())
            measures = _measures(state, self.now["rows"])
            rows.append({"column": name, **measures, "drift": drift.score, "moved": drift.moved, "what": drift.what})
        return pd.DataFrame(rows, columns=["column", *_MEASURES, "drift", "moved", "what"])

    def compare(self) -> pd.DataFrame:
        """Tabulate each column's measures, earlier and last, those that moved most first."""
        rows = []
        for name, drift in sorted(self.drift.items(), key=lambda item: -item[1].score):
            sides = {"earlier": self.earlier, "last": self.last.profile}
            measures = {s: {"rows": p["rows"], **_measures(_state(p, name), p["rows"])} for s, p in sides.items()}
            both = {f"{m}_{side}": measures[side][m] for m in ("rows", *_MEASURES) for side in sides}
            rows.append({"column": name, **both, "drift": drift.score, "moved": drift.moved, "what": drift.what})
        return pd.DataFrame(rows)

    def history(self, column: str) -> list[float | None]:
        """List a number for each of the last 20 runs: the mean, else the share of the commonest value."""
        now = self.now["columns"][column]
        return [_pulse(_state(run.profile, column), now) for run in self.runs[-SHOWN:]]

    def __repr__(self) -> str:
        moved = f"; moved: {', '.join(self.moved)}" if self.moved else ""
        return f"<TableProfile {self.table}: {self.now['rows']:,} rows, {len(self.now['columns'])} columns{moved}>"

    def _repr_html_(self) -> str:
        return render(self)


_MEASURES = ("kind", "nulls", "null_share", "distinct", "min", "max", "mean", "std", "top")


def _top_text(state: State, most: int = 3) -> str:
    """Write the commonest values and their shares in one line."""
    return ", ".join(f"{to_text(v, state['kind'])} {share(n, state['count'])}" for v, n in top_of(state)[:most])


def _state(profile: Profile, column: str) -> State:
    return profile["columns"].get(column) or {"kind": "null", "count": 0}


def _measures(state: State, rows: int) -> dict[str, Any]:
    kind: Kind = state["kind"]
    nulls = rows - state["count"]
    return {
        "kind": kind,
        "nulls": nulls,
        "null_share": nulls / rows if rows else 0.0,
        "distinct": distinct(state) if kind not in ("other", "null") else None,
        "min": to_value(state.get("min"), kind),
        "max": to_value(state.get("max"), kind),
        "mean": to_value(mean(state), kind),
        "std": to_value(deviation(state), "duration" if kind in TIMES else kind),
        "top": _top_text(state),
    }


def _pulse(state: State, now: State) -> float | None:
    if not state["count"] or state["kind"] != now["kind"]:
        return None
    middle = mean(state)
    if middle is not None:
        return float(middle)
    common = top_of(now)[:1]
    return dict(top_of(state)).get(common[0][0], 0) / state["count"] if common else None
