"""Values that a contract wants to be unique are so over the whole table, whoever brings the second one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, World
from support.selection import examples

from ingestlab.analytics.aggregate_reader import AggregateReader
from ingestlab.core.models import Again, IngestRequest, Source
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.replay.replay import replay

PIPELINE = """
from ingestlab import Aggregate, Csv, Pipeline
import pandera.pandas as pa

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    contract=CONTRACT,
    max_reject_ratio=1,
    write_disposition="DISPOSITION",
    aggregates={"sums": Aggregate(by=["word"], measures={"rows": "count"})},
)
"""
ONE = 'pa.DataFrameSchema({"n": pa.Column(unique=True, nullable=True)})'
PAIR = 'pa.DataFrameSchema({"n": pa.Column(nullable=True)}, unique=["n", "word"])'


class UniqueWorld(World):
    """A world whose numbers are unique, with what must be in its table and its rejects."""

    def __init__(self, folder, redis_url, disposition="replace", contract=ONE, **more):
        super().__init__(folder, redis_url, disposition, **more)
        text = PIPELINE.replace("CONTRACT", contract).replace("DISPOSITION", disposition)
        (folder / "pipelines/small.py").write_text(text)
        self.there: dict[str, dict[int, int]] = {}
        self.doubles: dict[str, dict[int, int]] = {}
        self.contents: dict[str, list[int]] = {}

    def bring(self, name, numbers, run, faults=None):
        uri = self.put(name, numbers)
        result = self.ingest([uri], faults, run=run)
        if self.contents.get(uri) != numbers:
            self.forget(uri)
            self.contents[uri] = numbers
            self.add(uri, dict(enumerate(numbers)))
        return result

    def add(self, uri, rows):
        taken = {n for some in self.there.values() for n in some.values()}
        mine, others = self.there.setdefault(uri, {}), self.doubles.setdefault(uri, {})
        for row, n in rows.items():
            (others if n in taken else mine)[row] = n
            taken.add(n)

    def forget(self, uri):
        for known in (self.there, self.doubles, self.contents):
            known.pop(uri, None)

    def again(self, uri, run, faults=None):
        request = IngestRequest(run=run, table="small", sources=(Source(uri=uri),), replay=Again())
        replay(request, self.context(faults), lambda _progress: None)
        self.add(uri, self.doubles.pop(uri, {}))

    def check_unique(self):
        published, rejected = self.rows("small"), self.rows("small__rejects")
        for uri in self.expected:
            assert sorted(published[uri].elements()) == sorted(self.there.get(uri, {})), uri
            assert sorted(rejected[uri].elements()) == sorted(self.doubles.get(uri, {})), uri

    def rejects(self):
        return pq.read_table(f"{self.store.url}/tables/default/small__rejects").to_pylist()


@pytest.fixture
def make(tmp_path_factory, redis_url):
    return lambda **options: UniqueWorld(tmp_path_factory.mktemp("unique"), redis_url, **options)


def test_the_second_row_is_rejected_and_says_where_the_first_is(make):
    world = make()
    world.bring("a.csv", [1, 2, 1], "r1")
    result = world.bring("b.csv", [3, 2], "r2")
    world.check_unique()
    assert result.rules == {"n:unique": 1}
    assert (result.outcomes[0].tally.accepted, result.outcomes[0].tally.rejected) == (1, 1)
    by_source = {reject["source"][-5:]: reject for reject in world.rejects()}
    uri = (world.folder / "sources/a.csv").as_uri()
    assert by_source["b.csv"]["value"] == f"2 (first in {uri}, row 1)"
    assert by_source["a.csv"]["value"] == f"1 (first in {uri}, row 0)"
    assert (by_source["b.csv"]["rule"], by_source["b.csv"]["raw"]) == ("unique", "2,w2")
    rows = AggregateReader(world.store, world.settings, "default", "small").read("sums").to_pylist()
    assert {row["word"]: row["rows"] for row in rows} == {"w1": 1, "w2": 1, "w3": 1}
    assert reconcile(world.context().lake).clean


def test_rows_of_one_file_are_compared_across_its_tasks(make):
    world = make()
    world.settings = world.settings.model_copy(update={"partition_bytes": 40})
    world.bring("a.csv", [*range(100, 140), 100, 139, 7], "r1")
    world.check_unique()
    assert len(world.doubles[(world.folder / "sources/a.csv").as_uri()]) == 2


def test_nulls_are_no_values_and_several_columns_count_together(make):
    world = make(contract=PAIR, disposition="append")
    path = world.folder / "sources/a.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("n,word\n1,a\n1,b\n1,a\n,a\n,a\n")
    result = world.ingest([path.as_uri()])
    assert result.rules == {"n, word:unique": 1}
    assert result.outcomes[0].tally.out == 4


def test_of_two_jobs_at_once_the_later_commit_sees_the_first(make):
    world = make()
    uris = [world.put(f"{name}.csv", [*range(20), 100 + ord(name)]) for name in "abc"]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda uri: world.ingest([uri], run=f"r-{uri[-5]}"), uris))
    assert sorted(r.outcomes[0].tally.rejected for r in results) == [0, 20, 20]
    assert sum(counter.total() for counter in world.rows("small").values()) == 23


names = st.sampled_from(["a.csv", "b.csv", "c.csv"])
steps = st.one_of(
    st.tuples(st.just("bring"), names, st.lists(st.integers(0, 6), min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["delete", "again"]), names, st.none()),
)
crashes = st.one_of(st.none(), st.tuples(st.integers(1, 25), st.booleans()))


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(steps, crashes), min_size=1, max_size=6), size=st.sampled_from([16, 1 << 20]))
def test_any_story_leaves_each_value_once(make, story, size):
    world = make()
    world.settings = world.settings.model_copy(update={"partition_bytes": size})
    for i, ((what, name, numbers), crash) in enumerate(story):
        uri = (world.folder / "sources" / name).as_uri()
        for faults in (FaultInjector(crash[0], after=crash[1]), None) if crash else (None,):
            try:
                if what == "bring":
                    world.bring(name, numbers, f"r{i}", faults)
                elif uri in world.contents and what == "delete":
                    delete(uri, world.context(faults))
                    world.forget(uri)
                elif uri in world.contents:
                    world.again(uri, f"r{i}", faults)
                break
            except Crash:
                continue
    reconcile(world.context().lake)
    world.check_unique()
