"""All data files of a table have one type in each column, after every commit, whatever comes and dies."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, World
from support.selection import examples

from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.engine import ingest as stage
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo

PIPELINE = """
from ingestlab import Aggregate, JsonLines, Pipeline
PIPELINE = Pipeline(reader=JsonLines(), write_disposition="DISPOSITION", schema_drift="evolve", MORE)
"""
SUMS = 'aggregates={"by": Aggregate(by="id", measures={"n": "count"})}'
FOLDER = {
    "pandas": pd.read_parquet,
    "dask": lambda path: dd.read_parquet(path).compute(),
    "polars": lambda path: pl.read_parquet(path).to_pandas(),
    "duckdb": lambda path: duckdb.sql(f"FROM '{path}/**/*.parquet'").df(),
}
KINDS = {
    "whole": [7, 8],
    "large": [2**53 + 1],
    "half": [0.5, 2.0],
    "text": ["x", "7"],
    "flag": [True],
    "none": [None],
    "object": [{"a": 1}],
    "wider": [{"a": 2, "b": "x"}],
}


class Drifting(World):
    """A table that widens, and what must be in it."""

    def __init__(self, folder, redis_url, disposition="replace", more=SUMS):
        super().__init__(folder, redis_url)
        text = PIPELINE.replace("DISPOSITION", disposition).replace("MORE", more)
        (folder / "pipelines/small.py").write_text(text)
        self.content: dict[str, list[Any]] = {}

    def file(self, name: str, values: list[Any]) -> str:
        path = self.folder / "sources" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps({"id": i, "v": value}) + "\n" for i, value in enumerate(values)))
        return path.as_uri()

    def take(self, name: str, values: list[Any], run: str, faults: FaultInjector | None = None) -> str:
        (outcome,) = self.ingest([self.file(name, values)], faults, run=run).outcomes
        if outcome.status != "failed":
            self.content[name] = values
        return outcome.status

    @property
    def path(self) -> str:
        return f"{self.store.url}/{layout.table('default', 'small')}"

    def check_one_type(self) -> None:
        """No two files differ in the type of a column, and the values are those that came."""
        files = [p for p in self.store.walk(layout.table("default", "small")) if p.endswith(".parquet")]
        tables = [pq.ParquetFile(pa.BufferReader(self.store.read(path))).read() for path in files]
        kinds: dict[str, set[str]] = {}
        for table in tables:
            for field in table.schema:
                kinds.setdefault(field.name, set()).add(str(field.type))
        assert all(len(several) == 1 for several in kinds.values()), kinds
        found = Counter(plain(value) for table in tables for value in table["v"].to_pylist())
        assert found == Counter(plain(value) for values in self.content.values() for value in values)
        said = TransactionLog(self.store, "default", "small").snapshot()
        assert sum(part.rows for part in said.parts(layout.table("default", "small"))) == found.total()


def plain(value: Any) -> str:
    """Give values that mean the same one text."""
    if isinstance(value, dict):
        return str(sorted((name, plain(inner)) for name, inner in value.items() if inner is not None))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return str(Decimal(str(value)).normalize())
    except InvalidOperation:
        return str(value)


@pytest.fixture
def make(tmp_path_factory, redis_url):
    return lambda *args: Drifting(tmp_path_factory.mktemp("drift"), redis_url, *args)


@pytest.mark.parametrize(
    ("first", "second", "wide"),
    [
        ("whole", "half", "double"),
        ("whole", "text", "string"),
        ("half", "large", "string"),
        ("flag", "whole", "string"),
        ("none", "whole", "string"),
        ("object", "wider", "struct<a: int64, b: string>"),
    ],
)
def test_older_files_are_widened_in_the_commit_that_needs_it(make, first, second, wide):
    world = make()
    for i, kind in enumerate((first, first, second, first)):
        assert world.take(f"{i}.jsonl", KINDS[kind], run=f"r{i}") == "committed"
        world.check_one_type()
    file = next(p for p in world.store.walk(layout.table("default", "small")) if p.endswith(".parquet"))
    assert str(pq.read_schema(world.store.full(file)).field("v").type) == wide
    frames = {name: read(world.path) for name, read in FOLDER.items()}
    assert {len(frame) for frame in frames.values()} == {sum(map(len, world.content.values()))}
    if not wide.startswith("struct"):
        expected = sorted(plain(value) for values in world.content.values() for value in values)
        for name, frame in frames.items():
            values = frame["v"].tolist()
            assert sorted(plain(None if pd.isna(value) else value) for value in values) == expected, name


def test_files_that_fit_are_left_alone(make):
    world = make()
    world.take("a.jsonl", [0.5], run="r1")
    before = set(world.store.walk(layout.table("default", "small")))
    world.take("b.jsonl", [7], run="r2")
    assert before < set(world.store.walk(layout.table("default", "small")))
    world.check_one_type()


def test_what_no_type_holds_fails_and_changes_nothing(make):
    world = make()
    world.take("a.jsonl", [{"a": 1}], run="r1")
    assert world.take("b.jsonl", [7], run="r2") == "failed"
    world.check_one_type()


def test_undone_rows_come_back_in_the_types_of_now(make):
    world = make()
    world.take("a.jsonl", [1, 2], run="r1")
    world.take("a.jsonl", [3], run="r2")
    world.take("b.jsonl", ["x"], run="r3")
    undo("r2", world.context())
    world.content["a.jsonl"] = [1, 2]
    world.check_one_type()
    undo("r3", world.context())
    del world.content["b.jsonl"]
    world.check_one_type()


def test_a_job_that_saw_other_types_begins_again(make, monkeypatch):
    """Another one widens the table while this one works."""
    world, real = make(), stage.process_all
    world.take("a.jsonl", [1], run="r1")

    def slowly(*args, **options):
        monkeypatch.setattr(stage, "process_all", real)
        done = real(*args, **options)
        world.take("b.jsonl", ["x"], run="r2")
        return done

    monkeypatch.setattr(stage, "process_all", slowly)
    with pytest.raises(BusySourceError, match="have changed since the job began"):
        world.take("c.jsonl", [7], run="r3")
    world.take("c.jsonl", [7], run="r3")
    world.check_one_type()


names = st.sampled_from(["a.jsonl", "b.jsonl", "c.jsonl"])
crashes = st.one_of(st.none(), st.tuples(st.integers(1, 30), st.booleans()))
steps = st.one_of(
    st.tuples(st.just("take"), names, st.sampled_from([k for k in KINDS if k not in ("object", "wider")]), crashes),
    st.tuples(st.sampled_from(["delete", "compact", "undo"]), names, st.just(""), crashes),
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=2, max_size=6), more=st.sampled_from([SUMS, 'partition_by="id"']))
def test_any_story_leaves_one_type(make, story, more):
    world, before = make("replace", more), {}
    for i, (what, name, kind, crash) in enumerate(story):
        faults = FaultInjector(crash[0], after=crash[1]) if crash else None
        try:
            _tell(world, what, name, kind, f"r{i}", faults, before)
        except Crash:
            _tell(world, what, name, kind, f"r{i}", None, before)
        if i == len(story) - 1:
            reconcile(world.context().lake)
        if world.content:
            world.check_one_type()


def _tell(world, what, name, kind, run, faults, before):
    if what == "take":
        old = dict(world.content)
        world.take(name, KINDS[kind], run, faults)
        before[run] = (name, old.get(name))
    elif what == "compact" and before:
        compact("small", world.context(faults))
    elif what == "delete" and name in world.content:
        delete((world.folder / "sources" / name).as_uri(), world.context(faults))
        world.content.pop(name, None)
    elif what == "undo" and before:
        _undo(world, faults, before)


def _undo(world, faults, before):
    """Undo the last ingestion, if nothing has changed its source since."""
    run, (name, old) = list(before.items())[-1]
    try:
        undo(run, world.context(faults))
    except TerminalError as error:
        if error.code not in ("later_changes", "run_unknown", "argument_invalid"):
            raise
        return
    before.pop(run)
    world.content.pop(name, None)
    if old is not None:
        world.content[name] = old
