"""What a table's profile shows of each column in a notebook; the template draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ingestlab.analytics.profiles.drift import Drift, share, top_of
from ingestlab.analytics.profiles.few import State
from ingestlab.analytics.profiles.kinds import TIMES, to_text
from ingestlab.analytics.profiles.merging import deviation, distinct, mean
from ingestlab.analytics.profiles.states import Profile
from ingestlab.core.templates import render as fill

_VALUES = 4  # of the commonest that are plotted
_RARE = 0.01  # of the rows: such a value is not
_WIDTH, _HEIGHT, _MARGIN = 90, 26, 4  # pixels of the line over the runs


class Report(Protocol):
    """What is shown of a table's profile."""

    @property
    def table(self) -> str: ...
    @property
    def now(self) -> Profile: ...
    @property
    def runs(self) -> Sequence[Any]: ...
    @property
    def last(self) -> Any: ...
    @property
    def earlier(self) -> Profile: ...
    @property
    def drift(self) -> Mapping[str, Drift]: ...
    @property
    def moved(self) -> list[str]: ...
    def history(self, column: str) -> list[float | None]: ...


def render(seen: Report) -> str:
    """Draw the whole profile as one HTML table."""
    return fill("analytics/profiles/templates/profile.html", seen=seen, columns=columns(seen))


def columns(seen: Report) -> list[dict[str, Any]]:
    """Give what is shown of each column, as text and numbers."""
    return [_column(seen, name, state) for name, state in seen.now["columns"].items()]


def _column(seen: Report, name: str, state: State) -> dict[str, Any]:
    """The cells of a column's row, as text and numbers."""
    kind, rows = state["kind"], seen.now["rows"]
    nulls, spread = rows - state["count"], deviation(state)
    last, old = (p["columns"].get(name) for p in (seen.last.profile, seen.earlier)) if seen.drift else (None, None)
    notes = [f"{state[key]:,} {key}" for key in ("nan", "inf") if key in state]
    if "short" in state:
        notes.append(f"{state['short']:,} … {state['long']:,} {'bytes' if kind == 'bytes' else 'characters'}")
    latest = last if last and last["count"] else state
    return {
        "name": _short(name, 40),
        "kind": kind,
        "nulls": share(nulls, rows) if nulls else "0",
        "null_share": nulls / rows if nulls else 0,
        "distinct": "" if kind in ("other", "null") else f"{'≈ ' if 'hll' in state else ''}{distinct(state):,}",
        "ends": [_short(to_text(state[end], kind), 28) for end in ("min", "max") if end in state],
        "notes": notes,
        "mean": to_text(mean(state), kind),
        "deviation": to_text(spread, "duration" if kind in TIMES else "float"),
        "top": _top(latest, old),
        "has_values": top_of(latest) or "hll" in latest,
        "plot": _plot(seen.history(name)),
        "drift": seen.drift.get(name),
        "moved": name in seen.moved,
    }


def _top(state: State, old: State | None) -> list[tuple[str, str, float, float | None]]:
    """The commonest values: each with its share as text and number, and the share that it had in the earlier runs."""
    before = dict(top_of(old)) if old and old["count"] else {}
    rows = []
    for value, count in top_of(state)[:_VALUES]:
        if count >= _RARE * state["count"]:
            part = min(1.0, count / state["count"])
            earlier = min(1.0, before.get(value, 0) / old["count"]) if before and old else None
            rows.append((_short(to_text(value, state["kind"]), 22), share(part, 1), part, earlier))
    return rows


def _plot(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Place the numbers of runs as points in pixels. Gaps where a run has none; None without a line."""
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return None
    low, high = min(known), max(known)
    step, top = (_WIDTH - 2 * _MARGIN) / (len(values) - 1), _HEIGHT - _MARGIN
    heights = [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in values]
    points = [
        (_MARGIN + i * step, top - (top - _MARGIN) * height) for i, height in enumerate(heights) if height is not None
    ]
    return {"low": low, "high": high, "points": points}


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
