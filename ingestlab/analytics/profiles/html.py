"""A table's profile as one HTML table with small plots: inline SVG, nothing to load, light and dark alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

from ingestlab.analytics.profiles.drift import Drift, share, top_of
from ingestlab.analytics.profiles.kinds import TIMES, to_text
from ingestlab.analytics.profiles.merging import deviation, distinct, mean
from ingestlab.analytics.profiles.states import Profile, State

_ACCENT, _WARN = "#2a78b5", "#c2410c"
_VALUES = 4  # of the commonest that are plotted
_RARE = 0.01  # of the rows: such a value is not
_LEFT = "text-align:left;vertical-align:top;padding:4px 10px"
_RIGHT = "text-align:right;vertical-align:top;padding:4px 10px;font-variant-numeric:tabular-nums"
_SMALL = "font-size:85%;opacity:.75"


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
    """The whole profile."""
    heads = ("column", "nulls", "distinct", "min … max", "mean ± std", "commonest values", "runs", "drift")
    head = "".join(f"<th style='{_LEFT}'>{name}</th>" for name in heads)
    body = "".join(_row(seen, name, state) for name, state in seen.now["columns"].items())
    omitted = seen.now["omitted"]
    more = f"<p style='{_SMALL}'>{omitted:,} more columns have no profile</p>" if omitted else ""
    return f"<div>{_title(seen)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"


def bars(state: State, old: State | None) -> str:
    """The commonest values as bars, each above a paler one of the earlier runs; none if all are rare."""
    before = dict(top_of(old)) if old and old["count"] else {}
    common = [(value, count) for value, count in top_of(state)[:_VALUES] if count >= _RARE * state["count"]]
    lines = []
    for i, (value, count) in enumerate(common):
        y, part = 17 * i, min(1.0, count / state["count"])
        text = escape(_short(to_text(value, state["kind"]), 22))
        lines.append(f"<text x='0' y='{y + 11}' font-size='11' fill='currentColor'>{text}</text>")
        lines.append(_bar(135, y + 2, part, 7 if before else 10, _ACCENT, 1))
        if before and old:
            lines.append(_bar(135, y + 10, min(1.0, before.get(value, 0) / old["count"]), 4, "currentColor", 0.35))
        lines.append(f"<text x='220' y='{y + 11}' font-size='11' fill='currentColor'>{share(part, 1)}</text>")
    if not common:
        return f"<span style='{_SMALL}'>none above 1%</span>" if top_of(state) or "hll" in state else ""
    return f"<svg width='260' height='{17 * len(common)}'>{''.join(lines)}</svg>"


def line(values: Sequence[float | None], *, width: int = 90, height: int = 26) -> str:
    """Numbers of several runs as a line, the last one with a dot; gaps where a run has none."""
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    step = (width - 8) / (len(values) - 1)
    points = [
        (4 + i * step, height - 4 - (height - 8) * ((v - low) / (high - low) if high > low else 0.5))
        for i, v in enumerate(values)
        if v is not None
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f"<svg width='{width}' height='{height}'><title>{low:.6g} … {high:.6g}</title>"
        f"<polyline points='{path}' fill='none' stroke='currentColor' stroke-opacity='.6' stroke-width='1.3'/>"
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.6' fill='{_ACCENT}'/></svg>"
    )


def _title(seen: Report) -> str:
    title = f"<b>{escape(seen.table)}</b>: {seen.now['rows']:,} rows, {len(seen.now['columns']):,} columns"
    if not seen.runs:
        return f"<p>{title}</p>"
    last, others = seen.last, len(seen.runs) - 1
    runs = f"{others:,} earlier run{'' if others == 1 else 's'}, {seen.earlier['rows']:,} rows (pale)"
    when = escape(last.at[:16].replace("T", " "))
    text = f"last run <code>{escape(last.run)}</code>, {when} UTC: {last.profile['rows']:,} rows"
    moved = f"; <b style='color:{_WARN}'>moved: {escape(', '.join(seen.moved))}</b>" if seen.moved else ""
    return f"<p>{title}<br/><span style='{_SMALL}'>{text}; {runs if others else 'no earlier run'}</span>{moved}</p>"


def _row(seen: Report, name: str, state: State) -> str:
    rows = seen.now["rows"]
    last, old = (_of(p, name) for p in (seen.last.profile, seen.earlier)) if seen.drift else (None, None)
    cells = [
        (_LEFT, f"<b>{escape(_short(name, 40))}</b><br/><span style='{_SMALL}'>{state['kind']}</span>"),
        (_RIGHT, _nulls(rows - state["count"], rows)),
        (_RIGHT, _distinct(state)),
        (_LEFT, _ends(state)),
        (_RIGHT, _middle(state)),
        (_LEFT, bars(last if last and last["count"] else state, old)),
        (_LEFT, line(seen.history(name))),
        (_LEFT, _drift(seen.drift.get(name))),
    ]
    mark = f" style='border-left:3px solid {_WARN}'" if name in seen.moved else ""
    return f"<tr{mark}>{''.join(f'<td style={chr(34)}{style}{chr(34)}>{cell}</td>' for style, cell in cells)}</tr>"


def _of(profile: Profile, name: str) -> State | None:
    found: State | None = profile["columns"].get(name)
    return found


def _nulls(nulls: int, rows: int) -> str:
    if not nulls:
        return "0"
    plot = f"<svg width='60' height='8'>{_bar(0, 1, nulls / rows, 6, _WARN, 1, 60)}</svg>"
    return f"{share(nulls, rows)}<br/>{plot}"


def _distinct(state: State) -> str:
    if state["kind"] in ("other", "null"):
        return ""
    return f"{'≈ ' if 'hll' in state else ''}{distinct(state):,}"


def _ends(state: State) -> str:
    kind = state["kind"]
    ends = [escape(_short(to_text(state[name], kind), 28)) for name in ("min", "max") if name in state]
    notes = [f"{state[name]:,} {name}" for name in ("nan", "inf") if name in state]
    if "short" in state:
        notes.append(f"{state['short']:,} … {state['long']:,} {'bytes' if kind == 'bytes' else 'characters'}")
    return "<br/>… ".join(ends) + "".join(f"<br/><span style='{_SMALL}'>{note}</span>" for note in notes)


def _middle(state: State) -> str:
    kind, spread = state["kind"], deviation(state)
    middle = to_text(mean(state), kind)
    off = to_text(spread, "duration" if kind in TIMES else "float")
    return escape(middle) + (f"<br/><span style='{_SMALL}'>± {escape(off)}</span>" if off else "")


def _drift(drift: Drift | None) -> str:
    if drift is None:
        return ""
    if not drift.moved:
        return f"<span style='{_SMALL}'>{drift.score:.2f}</span>"
    return f"<b style='color:{_WARN}'>{drift.score:.2f}</b><br/><span style='{_SMALL}'>{escape(drift.what)}</span>"


def _bar(x: int, y: int, part: float, height: int, colour: str, opacity: float, full: int = 80) -> str:
    width = max(1.0, part * full) if part else 0
    return f"<rect x='{x}' y='{y}' width='{width:.1f}' height='{height}' fill='{colour}' fill-opacity='{opacity}'/>"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
