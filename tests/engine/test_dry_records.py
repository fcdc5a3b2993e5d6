"""`ingestlab check` of a pipeline with a source, and backfills."""

from __future__ import annotations

import pytest
from support.api import ApiServer

from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.engine.dry_run import source_of, try_records
from ingestlab.sources.expand import expand, pack
from ingestlab.sources.records import RecordUri, windows

PIPELINE = """
from ingestlab import JsonLines, Pipeline, Rest
from ingestlab.sources.rest import PageNumber

PIPELINE = Pipeline(
    source=Rest(base_url="URL", endpoint="page", paginator=PageNumber(total="total"), data_selector="data"),
    reader=JsonLines(columns={"id": "int64"}),
)
"""


@pytest.fixture
def pipelines(tmp_path, settings):
    with ApiServer([{"id": n} for n in range(25)]) as api:
        (tmp_path / "shop.py").write_text(PIPELINE.replace("URL", api.url))
        (tmp_path / "files.py").write_text("from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv())\n")
        yield api, settings(pipelines=(str(tmp_path),), fetch_delay=0.01, fetch_attempts=1)


def test_check_shows_the_first_page(pipelines, cli, tmp_path):
    api, settings = pipelines
    assert [source_of(name, settings) for name in ("shop", "rest://shop", "files", "a.csv")] == [
        "rest://shop",
        "rest://shop",
        "",
        "",
    ]
    trial = try_records("rest://shop", settings)
    assert (trial.tally.rows_in, list(trial.rows["id"]), trial.whole) == (10, list(range(10)), False)
    assert sum(api.asked.values()) == 1
    done = cli("check", "shop", INGESTLAB_PIPELINES=str(tmp_path))
    assert (done.returncode, "10 rows in, 10 accepted" in done.stdout) == (0, True), done.stdout
    api.fault(0, "html")
    with pytest.raises(IngestError, match="no JSON"):
        try_records("rest://shop", settings)
    with pytest.raises(TerminalError, match="no source"):
        try_records("rest://files", settings)


def test_a_span_is_cut_into_windows_that_are_jobs_of_their_own(settings):
    days = windows("rest://shop", "2026-01-30", "2026-02-02", "1d")
    assert days == [
        "rest://shop?from=2026-01-30&to=2026-01-31",
        "rest://shop?from=2026-01-31&to=2026-02-01",
        "rest://shop?from=2026-02-01&to=2026-02-02",
    ]
    assert windows("rest://shop", "2026-01-31", "2026-04-30", "1mo") == [
        "rest://shop?from=2026-01-31&to=2026-02-28",
        "rest://shop?from=2026-02-28&to=2026-03-31",
        "rest://shop?from=2026-03-31&to=2026-04-30",
    ]
    assert windows("rest://shop", "2026-01-01T00:00:00Z", "2026-01-01T09:00:00Z", "6h")[1] == (
        "rest://shop?from=2026-01-01T06:00:00+00:00&to=2026-01-01T09:00:00+00:00"
    )
    assert [len(group) for group in pack(expand(days, settings()), settings())] == [1, 1, 1]
    for span in (("2026-01-02", "2026-01-01", "1d"), ("soon", "later", "1d"), ("2026-01-01", "2026-01-02", "0d")):
        with pytest.raises(TerminalError, match="windows"):
            windows("rest://shop", *span)


@pytest.mark.parametrize(
    "uri", ["rest://", "rest://a/b", "rest://shop?day=1", "rest://shop?from=", "rest://shop?from=1&from=2"]
)
def test_what_is_no_uri_of_a_source_is_refused(uri):
    with pytest.raises(TerminalError) as caught:
        RecordUri.parse(uri)
    assert caught.value.code == "uri_invalid"
