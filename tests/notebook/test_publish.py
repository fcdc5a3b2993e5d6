"""Frames of every kind become rows of tables, with what holds for files."""

from __future__ import annotations

from typing import Any

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.lake import World

from ingestlab import Lab
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.engine.ingest import ingest
from ingestlab.lake import layout
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.undo import undo
from ingestlab.notebook.publish import put_frame

ROWS = {"n": [1, 2, 2000], "word": ["a", None, "c"]}


@pytest.fixture
def world(tmp_path, redis_url):
    return World(tmp_path, redis_url, "replace")


def bring(world, uri, run, table="answers", pipeline=None) -> list[str]:
    request = IngestRequest(run=run, table=table, pipeline=pipeline, sources=(Source(uri=uri),))
    return [o.status for o in ingest(request, world.context(), lambda _: None).outcomes]


def numbers(world, table="answers") -> list[int]:
    rows = Lake(world.settings).table(table).arrow()
    return sorted(rows["n"].to_pylist()) if rows.num_rows else []


MAKERS: dict[str, Any] = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "lazy polars": lambda: pl.LazyFrame(ROWS),
    "arrow": lambda: pa.table(ROWS),
    "arrow reader": lambda: pa.table(ROWS).to_reader(),
    "duckdb": lambda: duckdb.from_arrow(pa.table(ROWS)),
    "dask": lambda: dd.from_pandas(pd.DataFrame(ROWS), npartitions=2),
    "index": lambda: pd.DataFrame(ROWS).set_index("n"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_frame_is_published_once(world, kind):
    uri = put_frame(MAKERS[kind](), "answers", world.settings)
    assert bring(world, uri, "r1") == ["committed"]
    assert numbers(world) == [1, 2, 2000]
    rows = Lake(world.settings).table("answers").pandas()
    assert sorted(rows["word"].dropna()) == ["a", "c"]
    assert set(rows["_source"]) == {uri}
    again = put_frame(MAKERS[kind](), "answers", world.settings)
    assert again == uri
    assert bring(world, again, "r2") == ["unchanged"]


def test_what_a_table_gave_can_be_published_again(world):
    bring(world, put_frame(pd.DataFrame(ROWS), "answers", world.settings), "r1")
    frame = Lake(world.settings).table("answers").pandas()
    assert bring(world, put_frame(frame, "copies", world.settings), "r2", "copies") == ["committed"]
    assert numbers(world, "copies") == [1, 2, 2000]


def test_a_named_frame_replaces_by_its_pipeline_and_is_undone_and_deleted(world):
    path = world.folder / "pipelines/small.py"
    text = path.read_text().replace('Csv(columns={"n": "int64", "word": "string"})', "Parquet()")
    path.write_text(text.replace("import Csv", "import Parquet"))
    small = {"name": "today", "pipeline": "small"}
    uri = put_frame(pd.DataFrame(ROWS), "small", world.settings, **small)
    assert bring(world, uri, "r1", pipeline="small") == ["committed"]
    assert numbers(world, "small") == [1, 2]  # the contract refuses the third
    assert put_frame(pd.DataFrame({"n": [7], "word": ["x"]}), "small", world.settings, **small) == uri
    assert bring(world, uri, "r2", pipeline="small") == ["committed"]
    assert numbers(world, "small") == [7]
    undo("r2", world.context())
    assert numbers(world, "small") == [1, 2]
    delete(uri, world.context())
    assert numbers(world, "small") == []


@pytest.mark.parametrize(
    ("frame", "table", "options", "code"),
    [
        ([1, 2], "answers", {}, "argument_invalid"),
        (pd.DataFrame({"n": [1, "x", object()]}), "answers", {}, "types_conflict"),
        (pd.DataFrame(ROWS), "../x", {}, "name_invalid"),
        (pd.DataFrame(ROWS), "answers", {"name": "a/b"}, "name_invalid"),
        (pd.DataFrame(ROWS), "answers", {"pipeline": "small"}, "table_unknown"),
        (pd.DataFrame(ROWS), "answers", {"pipeline": "nothing"}, "pipeline_unknown"),
        (pd.DataFrame(ROWS), "small", {"pipeline": "small"}, "reader_invalid"),
    ],
)
def test_what_cannot_be_published_is_an_error_and_leaves_nothing(world, frame, table, options, code):
    with pytest.raises(TerminalError) as raised:
        put_frame(frame, table, world.settings, **options)
    assert raised.value.code == code
    assert list(world.store.walk(layout.frames())) == []


@pytest.mark.parametrize("uri", ["frame://default/answers/no.parquet", "frame://../../x", "frame://default/../x/y"])
def test_a_frame_that_is_not_there_fails_its_run_alone(world, uri):
    assert bring(world, uri, "r1") == ["failed"]


def test_frames_go_when_workers_have_had_time(world, monkeypatch):
    uri = put_frame(pd.DataFrame(ROWS), "answers", world.settings)
    (path,) = world.store.walk(layout.frames())
    hour = path.split("/")[2]
    world.store.move(path, path.replace(hour, "20200101-00"))
    put_frame(pd.DataFrame({"n": [1]}), "answers", world.settings)
    assert "20200101-00" not in world.store.children(layout.frames())
    assert bring(world, uri, "r1") == ["failed"]


@pytest.mark.slow("a stack of its own")
def test_a_lab_publishes(stack: Settings):
    lab = Lab(home=stack.home)
    run = lab.publish(pd.DataFrame(ROWS), "lab_answers").wait()
    assert run.state == "finished"
    assert sorted(lab.table("lab_answers").pandas()["n"]) == [1, 2, 2000]
