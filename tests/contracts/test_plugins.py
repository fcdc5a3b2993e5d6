"""A package of plug-ins that is installed is found by name, and its source and format serve an ingest."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest
from ingestlab.core.plugins import load, plugins
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.engine.ingest import ingest
from ingestlab.engine.scaffold.propose import propose
from ingestlab.engine.services import Services
from ingestlab.pipeline.catalog import generic
from ingestlab.queue.producer import new_run
from ingestlab.sources.expand import expand

LOG = 'level=info path="/a b" status=200\nlevel=warn path=/c\nno pairs at all\nlevel=info status=404\n'


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        pipelines=(str(tmp_path / "pipelines"),),
        redis_url=redis_url,
        schemes=("file", "sqlite"),
        executor="threads",
    )


def ingested(settings: Settings, table: str, *uris: str) -> list[str]:
    request = IngestRequest(run=new_run(), table=table, sources=tuple(expand(uris, settings)))
    with Services.opened(settings) as context:
        return [outcome.status for outcome in ingest(request, context, lambda _: None).outcomes]


def test_they_are_found_by_name_beside_the_built_in_ones():
    assert {"http", "filesystems", "frames", "records", "sqlite"} == set(plugins("sources"))
    assert list(plugins("sinks"))[-2:] == ["announcements", "documents"]
    assert {"csv", "parquet", "logfmt"} < set(plugins("formats"))
    assert load("formats", "logfmt").__name__ == "Logfmt"
    with pytest.raises(TerminalError, match=r"ingestlab\.formats"):
        load("formats", "nothing")


def test_a_source_of_another_package_is_ingested_once(settings, tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("CREATE TABLE orders (n INTEGER, word TEXT)")
        db.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"w{n}") for n in range(100)])
    uri = f"sqlite://{tmp_path}/shop.db/orders*"
    assert ingested(settings, "orders", uri) == ["committed"]
    assert ingested(settings, "orders", uri) == ["unchanged"]
    frame = Lake(settings).table("orders").pandas()
    assert sorted(frame["n"]) == list(range(100))


def test_files_in_another_packages_format_are_ingested(settings, tmp_path):
    file = tmp_path / "web.logfmt"
    file.write_text(LOG)
    assert ingested(settings, "web", str(file)) == ["committed"]
    lake = Lake(settings)
    frame = lake.table("web").pandas().sort_values("_row")
    assert frame["level"].tolist() == ["info", "warn", "info"]
    assert frame["path"].tolist()[:2] == ["/a b", "/c"]
    (reject,) = lake.rejects("web").to_dict("records")
    assert reject["rule"] == "logfmt"


def test_a_pipeline_is_proposed_and_tried_for_it(settings, tmp_path):
    file = tmp_path / "web.logfmt"
    file.write_text(LOG.replace("no pairs at all\n", "") * 20)
    assert "ingestlab_example.format" in generic("web.logfmt", "web").text
    proposal = propose(str(file), settings, name="web")
    assert "Logfmt" in proposal.text
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "web.py").write_text(proposal.text)
    assert try_pipeline("web", str(file), settings).tally.out == 60


def test_a_sink_of_another_package_has_part_in_each_commit(settings, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("n\n1\n")
    assert ingested(settings, "numbers", str(file)) == ["committed"]
    assert ingested(settings, "numbers", str(file)) == ["unchanged"]
    (announced,) = (Path(settings.lake_url) / "announced/default/numbers").iterdir()
    (part,) = json.loads(announced.read_text())["files"]
    assert part.startswith("tables/default/numbers/")
    assert (Path(settings.lake_url) / part).exists()
