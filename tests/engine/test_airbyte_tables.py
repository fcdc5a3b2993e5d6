"""Streams of connectors as tables: each record once, whatever dies, and the state with the rows."""

from __future__ import annotations

import asyncio
import json
import random

import pyarrow.parquet as pq
import pytest
from support.airbyte import NUMBERS, lay_numbers
from support.lake import World

from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.log import manifests
from ingestlab.sources.airbyte import asking, source
from ingestlab.sources.airbyte.catalog import find
from ingestlab.sources.airbyte.installed import program
from ingestlab.sources.airbyte.scaffold import Draft

PIPELINE = """
from ingestlab import Airbyte, JsonLines, Pipeline
PIPELINE = Pipeline(
    source=Airbyte(connector="source-numbers", config={config!r}, streams=["numbers"], sync_mode={mode!r}),
    reader=JsonLines(columns={{"n": "int64", "square": "int64", "text": "string", "tags": "json"}}),
    {more}
)
"""


class Numbers:
    """A lake with the pipeline `numbers`, whose connector does as it is told."""

    def __init__(self, folder, redis_url):
        self.world = World(folder, redis_url)
        lay_numbers(self.world.settings)
        self.faults = folder / "faults"
        self.faults.mkdir()

    def declare(self, count, mode="incremental", pipeline="", **config):
        text = PIPELINE.format(config={"count": count, **config}, mode=mode, more=pipeline)
        (self.world.folder / "pipelines" / "numbers.py").write_text(text)

    def pull(self, run="r1"):
        request = IngestRequest(run=run, sources=(Source(uri="airbyte://numbers"),))
        [outcome] = ingest(request, self.world.context(), lambda _progress: None).outcomes
        return outcome

    def rows(self):
        folder = self.world.settings.lake_url
        files = [f for f in self.world.store.walk("tables/default/numbers") if f.endswith(".parquet")]
        return sorted(
            (row for f in files for row in pq.ParquetFile(f"{folder}/{f}").read().to_pylist()), key=lambda row: row["n"]
        )

    def next(self):
        versions = [
            r.version for m in manifests(self.world.store, "default", "numbers") for r in m.sources if r.version
        ]
        [state] = json.loads(versions[-1])["states"] if versions else [{"stream": {"stream_state": {}}}]
        return state["stream"]["stream_state"].get("next", 0)


@pytest.fixture
def lab(tmp_path, redis_url):
    return Numbers(tmp_path, redis_url)


def squares(first, last):
    return [(n, n * n, f"wörd {n}", '["a"]') for n in range(first, last)]


def values(rows):
    return [(row["n"], row["square"], row["text"], row["tags"]) for row in rows]


def test_whatever_dies_each_record_is_published_once_with_the_state(lab, monkeypatch):
    monkeypatch.setattr(source, "_PAGE", 1000)
    monkeypatch.setattr(source, "_MOST", 2500)
    at = {str(n): random.choice(["kill", "exit", "system_error"]) for n in random.sample(range(200), 3)}
    lab.declare(200, every=15, faults=at, once=str(lab.faults))
    for _ in at:
        outcome = lab.pull()
        assert (outcome.status, outcome.error["kind"]) == ("failed", "transient")
        assert (lab.rows(), lab.next()) == ([], 0)
    assert lab.pull().status == "committed"
    assert values(lab.rows()) == squares(0, 200)
    assert lab.next() == 200
    assert lab.pull("r2").status == "unchanged"
    lab.declare(230)
    assert lab.pull("r3").tally.rows_in == 30
    assert values(lab.rows()) == squares(0, 230)


def test_a_full_refresh_that_died_begins_anew_and_takes_the_place_of_the_last(lab, monkeypatch):
    monkeypatch.setattr(source, "_MOST", 2500)
    lab.declare(150, mode="full_refresh", faults={"77": "kill"}, once=str(lab.faults))
    assert lab.pull().error["code"] == "connector_failed"
    assert lab.pull().tally.rows_in == 150
    assert values(lab.rows()) == squares(0, 150)
    assert lab.pull("r2").status == "unchanged"
    lab.declare(40, mode="full_refresh")
    assert lab.pull("r3").status == "committed"
    assert values(lab.rows()) == squares(0, 40)


def test_the_state_stays_where_it_was_if_the_rows_are_refused(lab):
    lab.declare(20)
    lab.pull()
    lab.declare(30, pipeline='schema_drift="freeze",', more={"new": 1.5})
    file = lab.world.folder / "pipelines" / "numbers.py"
    file.write_text(file.read_text().replace('"tags"', '"at": "string", "tags"'))
    outcome = lab.pull("r2")
    assert outcome.error["code"] == "columns_unexpected"
    assert "new" in outcome.error["got"]
    assert lab.next() == 20
    file.write_text(file.read_text().replace("freeze", "evolve"))
    assert lab.pull("r3").tally.rows_in == 10
    assert lab.next() == 30
    assert [row["new"] for row in lab.rows() if row["n"] >= 20] == [1.5] * 10
    assert [row["n"] for row in lab.rows()] == list(range(30))


def test_a_discovered_pipeline_merges_by_its_key(lab):
    settings = lab.world.settings
    found = asyncio.run(asking.discover(program(NUMBERS, "", settings), {}, settings, print))
    text = Draft(stream=find("numbers", found, NUMBERS), connector=NUMBERS, config={"count": 25}).text()
    (lab.world.folder / "pipelines" / "numbers.py").write_text(text)
    outcome = lab.pull()
    assert (outcome.status, outcome.error) == ("committed", None)
    assert [(row["n"], row["square"]) for row in lab.rows()] == [(n, n * n) for n in range(25)]
    assert lab.rows()[0]["at"].isoformat() == "2026-01-01T00:00:00+00:00"
    force = IngestRequest(run="r2", sources=(Source(uri="airbyte://numbers"),), force=True)
    [outcome] = ingest(force, lab.world.context(), lambda _progress: None).outcomes
    assert outcome.tally.rows_in == 25
    assert [row["n"] for row in lab.rows()] == list(range(25))
