"""What people see in a notebook beside the dashboard: short lines that do not break, links, axes that can be read."""

from __future__ import annotations

import re
import time

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.servers import Server
from support.workers import PATIENCE, ROOT

from ingestlab.core.models import Progress
from ingestlab.core.plain_frame import PlainFrame, one_line
from ingestlab.core.settings import Settings
from ingestlab.notebook import Lab, LabTable
from ingestlab.notebook.charts import draw
from ingestlab.notebook.progress import View
from ingestlab.stack.dashboard.collect import Collector
from ingestlab.stack.dashboard.page import IngestPage


def test_the_card_leads_to_the_ingest_page(stack):
    lab = Lab(home=stack.home)
    page = stack.dask_dashboard.replace("/status", "/ingest")
    assert f"href='{page}'" in lab._repr_html_()
    assert page in repr(lab)


def test_the_card_of_a_scheduler_without_the_page_does_not(settings, redis_url):
    with Server({"individual-plots.json": b'{"Individual Workers": "/individual-workers"}'}) as plain:
        lab = Lab(home=settings().home, redis_url=redis_url, dask_dashboard=plain.url("/files/status"))
        for form in (repr(lab), lab._repr_html_()):
            assert "/files/status" in form
            assert "/files/ingest" not in form
        assert plain.requests("/files/individual-plots.json"), "it was asked"


def test_rows_of_a_listing_are_not_broken():
    listing = PlainFrame({"file": ["alarm-2017-10-23-00.csv"], "error": [None]})
    assert listing._repr_html_().count("<td style='white-space:nowrap'>") == 2
    assert type(listing[["file"]]) is pd.DataFrame, "what is made of it is for its maker to show"
    assert listing._repr_html_() == one_line(pd.DataFrame(listing))
    with pd.option_context("display.notebook_repr_html", False):
        assert listing._repr_html_() is None


def test_the_list_of_runs_begins_with_what_one_looks_for(ready):
    run = ready.submit(ready.file("listed.csv"))
    run.wait(PATIENCE)
    runs = Lab(home=ready.settings.home, redis_url=ready.settings.redis).runs()
    assert list(runs.columns[:7]) == ["run", "at", "state", "files", "rows", "rejected", "failed"]
    assert {"queue", "pipeline", "bytes", "partitions", "note"} < set(runs.columns)
    listed = runs.set_index("run").loc[run.id]
    assert (listed["state"], listed["rows"], listed["at"].microsecond) == ("finished", 100, 0)
    assert abs(listed["at"].timestamp() - time.time()) < 3600
    assert "nowrap" in runs._repr_html_()


@pytest.mark.parametrize(("seconds", "said"), [(0.003, "0.1 s"), (3.42, "3.4 s"), (42.4, "42 s"), (130, "2 min")])
def test_how_long_a_run_has_taken_is_said_in_few_digits(seconds, said):
    view = View("r", Progress(state="finished", files=1, files_done=1), seconds=seconds)
    assert f" {said}" in view.plain()
    assert f">{said}<" in view.html()


def test_the_rate_stands_beside_the_rows():
    view = View("r", Progress(state="processing", files=3, files_done=1, rows=5000), seconds=2, rate=2512.6)
    assert "1 of 3 files · 5,000 rows, 2,513/s" in view.html()
    assert "5,000 rows, 2,513/s" in view.plain()


def test_a_tables_columns_are_short_words_in_lines_that_fit(tmp_path, monkeypatch):
    fields = [(f"quite_a_long_name_{n}", pa.large_string()) for n in range(20)]
    schema = pa.schema([("_source", pa.dictionary(pa.int32(), pa.string())), ("list", pa.list_(pa.int8())), *fields])
    monkeypatch.setattr(LabTable, "dataset", lambda _: ds.dataset(schema.empty_table()))
    monkeypatch.setattr(LabTable, "_size", lambda _: "no rows")
    monkeypatch.setattr(LabTable, "_last", lambda _: "none")
    table = LabTable.__new__(LabTable)
    table.name = "wide"
    lines = repr(table).splitlines()
    assert lines[1].startswith("  _source string, list list<")
    assert max(map(len, lines)) <= 88
    assert "and 10 more" in lines[-2]
    assert "large_" not in repr(table)


def test_large_numbers_on_axes_are_short():
    frame = pd.DataFrame({"carrier": list("abc"), "miles": [6_000_000, 2_000_000, 10], "share": [0.5, 0.25, 0.1]})
    drawn = draw(frame, ["carrier"])
    assert ">2 M<" in drawn
    assert "1e6" not in drawn
    assert ">0.2<" in drawn


@pytest.mark.parametrize("picture", re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / "README.md").read_text()))
def test_pictures_of_the_readme_are_small_and_told_in_words(picture):
    words, path = picture
    assert len(words.split()) > 8
    assert (ROOT / path).stat().st_size < 150_000


def test_the_ingest_page_keeps_no_room_for_notes_that_are_not_there(redis_url):
    collector = Collector(lambda: Settings(redis_url=redis_url, queue="quiet"))
    page = IngestPage(collector)
    assert not page._divs["notes"].visible, "before the first look"
    collector.look()
    page.update()
    assert page._divs["notes"].visible, "nothing was ingested yet, which it says"
    assert page._divs["cards"].visible
