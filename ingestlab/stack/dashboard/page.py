"""The page as a Bokeh document: panels and charts that are brought up to date while somebody looks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    DataRange1d,
    FixedTicker,
    GlobalInlineStyleSheet,
    HoverTool,
    InlineStyleSheet,
    LayoutDOM,
    Range1d,
)
from bokeh.models.widgets import Div, RadioButtonGroup
from bokeh.plotting import figure
from distributed.dashboard.components.scheduler import BOKEH_THEME, env

from ingestlab.stack.dashboard import panels
from ingestlab.stack.dashboard.collect import Collector, Snapshot, shared

PULSE = 500  # ms between two looks at the collector, which reads Redis less often
BARS = 60
WINDOWS = {"2 min": 2, "10 min": 10, "1 hour": 60}  # seconds a bar
INK = "#808894"  # of axes: readable on white and on black, since a canvas does not know which it is on
COLORS = {"files": "#1b9aaa", "rows": "#2f81f7", "rejected": "#bf8700", "bytes": "#8250df", "waiting": INK}
PAGE_STYLE = """
html { background: var(--page); }
.navbar ul, .dropdown-content { background-color: light-dark(#eeeeee, #c9d1d9); }
@media (min-width: 801px) and (max-width: 1300px) { /* Dask's bar lies over what is beneath: its names fit one line */
  .navbar li { font-size: 15px; }
  .navbar li a { padding: 12px 8px; }
}
@media (max-width: 960px) { .navbar .pull-right { display: none; } }
.disconnected { position: fixed; inset: auto 0 0 0; z-index: 9; padding: 10px 16px; font: 14px system-ui, sans-serif;
  color: var(--ink); background: var(--alarm); border-top: 3px solid var(--red); }
.disconnected[hidden] { display: none; }
"""
SHORT = """
let i = 0, value = tick;
while (value >= 1000 && i < 4) { value /= 1000; i += 1; }
return (+value.toPrecision(3) + " " + ["", "k", "M", "G", "T"][i] + unit).trim();
"""
CARD_STYLE = (
    ":host { background: var(--card); outline: 1px solid var(--line); outline-offset: -1px; border-radius: 8px; }"
)
AGO = 'return tick ? (tick % 60 ? -tick + " s" : -tick / 60 + " min") : "now";'
BUTTONS = """
.bk-btn { font-size: 12px; padding: 3px 10px; color: var(--ink); background: transparent; border-color: var(--soft); }
.bk-btn.bk-active { color: var(--card); background: var(--blue); border-color: var(--blue); }
"""


def ingest_doc(scheduler: Any, extra: dict[str, Any], doc: Document) -> None:
    """Give the page with Dask's navigation bar around it."""
    pane_doc(scheduler, extra, doc)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)


def pane_doc(scheduler: Any, extra: dict[str, Any], doc: Document) -> None:  # noqa: ARG001 - Dask's signature
    """Give the page alone, as it stands in a pane of JupyterLab."""
    page = IngestPage(shared(), lambda: _dask(scheduler))
    doc.title = "Dask: Ingest"
    doc.theme = BOKEH_THEME
    doc.add_root(page.root)
    doc.config.notify_connection_status = False  # our own note says it, and since when
    doc.js_on_event("document_ready", CustomJS(code=f"{_asset('theme.js')}\n{_asset('ingest.js')}"))
    doc.add_periodic_callback(page.update, PULSE)


class IngestPage:
    """One reader's page.

    Args:
        collector: Where the numbers come from.
        dask: Says in a few words how the Dask workers are.
    """

    def __init__(self, collector: Collector, dask: Callable[[], str] = lambda: "") -> None:
        self._collector, self._dask = collector, dask
        self._shown: Snapshot | None = None
        self._beats = 0
        self._source = ColumnDataSource({name: [] for name in ("x", "rate", *COLORS, "running", "width")})
        self._range = Range1d(start=-BARS * WINDOWS["2 min"], end=0)
        self._ticker = FixedTicker()
        self._charts = self._make_charts()
        self._window = RadioButtonGroup(labels=list(WINDOWS), active=0, stylesheets=[BUTTONS], margin=(4, 0, 4, 0))
        self._window.on_change("active", lambda attr, old, new: self._draw())  # noqa: ARG005 - Bokeh looks at the names
        style = InlineStyleSheet(css=_asset("page.css"))
        names = (
            *("header", "notes", "cards", "queues", "jobs", "workers", "rejects"),
            *("listeners", "failures", "refused", "assumptions"),
        )
        look: Any = {"stylesheets": [style], "disable_math": True, "sizing_mode": "stretch_width", "margin": 0}
        self._divs = {name: Div(visible=False, **look) for name in names}  # an empty one takes room
        self._divs["header"].js_on_change("tags", CustomJS(code="window.ingestBeat?.()"))
        self.root = self._layout()
        self.update()

    def update(self) -> None:
        """Show what is new; take no time where nothing is. The browser is told each time that we live."""
        self._beats += 1
        self._divs["header"].tags = [self._beats]
        snapshot = self._collector.latest()
        if snapshot is self._shown:
            return
        self._shown = snapshot
        for name, div in self._divs.items():
            text = panels.cards(snapshot, self._dask()) if name == "cards" else getattr(panels, name)(snapshot)
            if div.text != text:
                div.update(text=text, visible=bool(text))
        self._draw()

    def _draw(self) -> None:
        """Give the charts the bars of the chosen window."""
        snapshot = self._shown or self._collector.latest()
        width = list(WINDOWS.values())[self._window.active or 0]
        bins = snapshot.history.binned(width, BARS)
        empty = {"rate": bins["x"] * 0, "width": bins["x"] * 0 + width * 0.8}
        self._source.data = {**{name: bins[name] for name in ("x", *COLORS, "running")}, **empty}
        span = width * BARS
        if self._range.start != -span or not self._ticker.ticks:
            self._range.start = -span
            self._ticker.ticks = [-span * quarter // 4 for quarter in range(5)]

    def _make_charts(self) -> list[Any]:
        charts = [self._chart(title, unit) for title, unit in CHARTS.items()]
        files_chart, rows_chart, bytes_chart, jobs_chart = charts
        self._bars(files_chart, "files", legend="fetched")
        self._bars(rows_chart, "rows", legend="read")
        self._bars(rows_chart, "rejected", legend="rejected")
        self._bars(bytes_chart, "bytes", legend="fetched")
        steps = {"source": self._source, "mode": "center", "line_width": 2}
        jobs_chart.step("x", "waiting", color=INK, legend_label="waiting", **steps)
        jobs_chart.step("x", "running", color=COLORS["rows"], legend_label="running", **steps)
        jobs_chart.yaxis.ticker = BasicTicker(desired_num_ticks=4, min_interval=1)  # there are no half jobs
        for chart in charts:
            (legend,) = chart.legend
            legend.update(**LEGEND)
            chart.add_layout(legend, "above")  # not on the bars
        return charts

    def _chart(self, title: str, unit: str) -> Any:
        chart: Any = figure(
            title=title,
            height=200,
            min_border_left=58,
            min_border_right=22,
            min_border_top=48,
            min_border_bottom=30,
            stylesheets=[CARD_STYLE],
            sizing_mode="stretch_width",
            x_range=self._range,
            y_range=DataRange1d(start=0, min_interval=1, range_padding=0.12),
            toolbar_location=None,
            tools=[HoverTool(mode="vline", tooltips=TOOLTIPS[unit], point_policy="follow_mouse")],
            output_backend="canvas",
        )
        chart.xaxis.ticker = self._ticker
        chart.xaxis.formatter = CustomJSTickFormatter(code=AGO)
        chart.yaxis.formatter = CustomJSTickFormatter(code=SHORT, args={"unit": "B" if unit == "bytes" else ""})
        chart.yaxis[0].ticker.desired_num_ticks = 4
        chart.title.update(text_color=INK, text_font_size="12px", text_font_style="bold", text_font=FONT)
        for axis in (chart.xaxis, chart.yaxis):
            axis.update(major_label_text_color=INK, major_label_text_font=FONT, axis_line_color=None)
            axis.update(major_tick_line_color=None, minor_tick_line_color=None)
        chart.xgrid.grid_line_color = None
        chart.ygrid.update(grid_line_color=INK, grid_line_alpha=0.25)
        chart.outline_line_color = None
        return chart

    def _bars(self, chart: Any, name: str, legend: str) -> None:
        look = {"color": COLORS[name], "line_color": None, "legend_label": legend}
        chart.vbar("x", "width", name, source=self._source, **look)

    def _layout(self) -> LayoutDOM:
        d = self._divs
        four_columns, two_columns = _columns(4, narrow=520), _columns(2, narrow=720)
        options: Any = {"sizing_mode": "stretch_width", "spacing": 10}
        return column(
            row(d["header"], self._window, **options),
            d["notes"],
            d["cards"],
            row(*self._charts, stylesheets=[four_columns], **options),
            row(d["queues"], d["jobs"], d["workers"], d["rejects"], stylesheets=[two_columns], **options),
            *(d[name] for name in ("listeners", "failures", "refused", "assumptions")),
            stylesheets=[GlobalInlineStyleSheet(css=_asset("colors.css") + PAGE_STYLE)],
            styles={"padding": "4px 6px 24px"},
            **options,
        )


FONT = "system-ui, Helvetica, Arial, sans-serif"
CHARTS = {"Files a second": "files", "Rows a second": "rows", "Bytes a second": "bytes", "Jobs": "jobs"}
TOOLTIPS = {
    "files": [("files/s", "@files{0.0}")],
    "rows": [("rows/s", "@rows{0,0}"), ("rejected/s", "@rejected{0,0}")],
    "bytes": [("bytes/s", "@bytes{0.0 bd}")],
    "jobs": [("waiting", "@waiting{0,0}"), ("running", "@running{0,0}")],
}
LEGEND = {
    "location": "left",
    "orientation": "horizontal",
    "background_fill_alpha": 0.0,
    "border_line_color": None,
    "label_text_color": INK,
    "label_text_font_size": "11px",
    "glyph_height": 12,
    "glyph_width": 12,
    "padding": 0,
    "margin": 2,
}


def _columns(many: int, narrow: int) -> InlineStyleSheet:
    """Put children side by side: so many, two on a small screen, one on a narrow one (pixels)."""
    return InlineStyleSheet(
        css=f"""
:host {{ display: grid !important; grid-template-columns: repeat({many}, minmax(0, 1fr)); align-items: stretch; }}
@media (max-width: 1150px) {{ :host {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }} }}
@media (max-width: {narrow}px) {{ :host {{ grid-template-columns: minmax(0, 1fr); }} }}
"""
    )


def _dask(scheduler: Any) -> str:
    return f"{len(scheduler.workers)} Dask"


@functools.cache
def _asset(name: str) -> str:
    return files("ingestlab.stack.dashboard").joinpath("assets", name).read_text()
