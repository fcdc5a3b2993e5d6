"""Aggregates as small charts above their numbers.

Drawn with matplotlib rather than hvplot: a drawing is text in the notebook, the same live, stored, headless and
without a kernel; hvplot's plots need scripts that a reopened notebook no longer has, and five packages more. Lines
and letters take the colour of the theme's text.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from pandas.api import types

from ingestlab.core.extras import install_command
from ingestlab.core.plain_frame import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3f87c6", "#d8823a", "#2f9e6e", "#b5619f", "#8a8d3b")  # one a line, readable on white and on black
PANELS, BARS, ROWS = 3, 10, 10  # measures, groups and rows that are shown
WIDTH = 7.2  # inches, as much as a notebook beside the dashboard has; a wider one is shrunk, and its letters with it
_INK = "#808080"  # of lines, readable on white and on black; text, which matplotlib leaves black, takes the page's
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ingestlab",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _INK,
}


class Summary(pd.DataFrame):
    """An aggregate: a DataFrame like any other, but for the chart above it in a notebook."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame  # what is made of it is no aggregate any more

    def _repr_html_(self) -> str | None:
        plain = pd.DataFrame(self)
        with pd.option_context("display.max_rows", ROWS, "display.min_rows", ROWS):
            table = one_line(plain)
        return f"{draw(plain, list(self.attrs.get('keys', [])))}{table}"


def draw(frame: pd.DataFrame, keys: Sequence[str]) -> str:
    """Draw measures of groups as SVG. Lines over a time, else bars. Empty for none.

    Args:
        frame: One row for each group.
        keys: Its columns that name the group; the others are measures.
    """
    measures = [str(name) for name in frame.columns if name not in keys and _is_number(frame[name])][:PANELS]
    if len(frame) < 2 or not keys or not measures:
        return ""
    if find_spec("matplotlib") is None:
        return f"<p>For a chart of this: <code>{escape(install_command('charts'))}</code></p>"
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import, and of the extra `charts`
    from matplotlib.figure import Figure  # noqa: PLC0415

    time = next((name for name in keys if _is_time(frame[name])), None)
    plot = _lines if time else _bars
    with rc_context(_STYLE):
        width = min(3.6 * len(measures), WIDTH)
        figure = Figure(figsize=(width, 2.4 if time else 0.5 + 0.22 * min(BARS, len(frame))))
        axes = figure.subplots(1, len(measures), squeeze=False, sharex=bool(time))[0]
        plot(frame, [name for name in keys if name != time], time, measures, axes)
        figure.tight_layout()
        return _svg(figure)


def _lines(frame: pd.DataFrame, others: list[str], time: str | None, measures: list[str], axes: Any) -> None:
    """Give one line for each of the largest groups, over the time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - as above

    moment, first = str(time), measures[0]
    names = _names(frame, others)
    top = frame.groupby(names)[first].sum().astype(float).nlargest(len(COLOURS)).index
    for axis, measure in zip(axes, measures, strict=True):
        for name, colour in zip(top, COLOURS, strict=False):
            part = frame[names == name].sort_values(moment)
            axis.plot(_moments(part[moment]), part[measure].astype(float), color=colour, linewidth=1.3, label=name)
        _calm(axis, measure, "y")
        axis.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))  # type: ignore[no-untyped-call, unused-ignore]
        locator: Any = axis.xaxis.get_major_locator()
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call, unused-ignore]
    if others:
        axes[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), title=", ".join(others))


def _bars(frame: pd.DataFrame, others: list[str], time: str | None, measures: list[str], axes: Any) -> None:  # noqa: ARG001
    """Draw one bar for each of the largest groups."""
    values = frame.assign(**{m: frame[m].astype(float) for m in measures})
    top = values.nlargest(BARS, measures[0])[::-1]
    names = _names(top, others)
    for axis, measure in zip(axes, measures, strict=True):
        axis.barh(range(len(top)), top[measure], color=COLOURS[0], height=0.62)
        axis.set_yticks(range(len(top)), names if axis is axes[0] else [""] * len(top))
        _calm(axis, measure, "x")


def _names(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series[str]:
    """Tell what each group is called."""
    parts = [frame[key].astype("string").fillna("none").str.slice(0, 24) for key in keys]
    if not parts:
        return pd.Series("all", index=frame.index)
    names: Any = parts[0]
    return names.str.cat(parts[1:], sep=" · ") if parts[1:] else names  # type: ignore[no-any-return]


def _calm(axis: Axes, measure: str, grid: str) -> None:
    """As little ink as will do."""
    axis.set_title(measure, fontsize=9, loc="left")
    axis.spines[["top", "right", "bottom" if grid == "x" else "left"]].set_visible(False)
    axis.spines[:].set_alpha(0.4)
    axis.grid(axis=grid, color=_INK, alpha=0.12, linewidth=0.7)  # type: ignore[arg-type, unused-ignore]
    axis.set_axisbelow(True)
    (axis.xaxis if grid == "x" else axis.yaxis).set_major_formatter(lambda value, _at: _short(value))
    axis.tick_params(length=0)


def _short(value: float) -> str:
    """Give a number on an axis: ``0.5``, ``4,000``, ``20 k``, ``6 M``."""
    for least, step, unit in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= least:
            return f"{value / step:,.6g}{unit}"
    return f"{value:,.6g}"


def _svg(figure: Figure) -> str:
    """Write the drawing as SVG. Letters take the page's colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return f"<div style='fill:currentColor'>{text[text.index('<svg') :]}</div>"


def _is_number(column: pd.Series[Any]) -> bool:
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)


def _is_time(column: pd.Series[Any]) -> bool:
    if isinstance(column.dtype, pd.ArrowDtype):
        return bool(pa.types.is_temporal(column.dtype.pyarrow_dtype)) and column.dtype.kind != "m"
    return types.is_datetime64_any_dtype(column)


def _moments(column: pd.Series[Any]) -> Any:
    return pd.to_datetime(column.astype("object"))
