"""Small tables that `clean` looks things up in: pinned for a job by content, read once a process, crash-safe."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, Inline, World
from support.selection import examples
from support.servers import Server
from support.workers import PATIENCE

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import Again, IngestRequest, IngestResult, Source
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.engine.ingest import ingest
from ingestlab.engine.lookups import locate
from ingestlab.engine.services import Services
from ingestlab.engine.task.lookups import LOOKUPS, LookupCache
from ingestlab.executors.dask import Cluster
from ingestlab.lake.log import manifests
from ingestlab.lake.storage.store import open_store
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.replay.replay import replay
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.queue import submit
from ingestlab.queue.run import RunResult
from ingestlab.stack.samples.flights import TABLES, flight_references

PIPELINE = """
from ingestlab import Csv, Pipeline, Reference
import pandera.pandas as pa

def clean(df, names):
    joined = df.join(names.set_index("n"), on="n").assign(even=df["n"] // 2 * 2 == df["n"])
    names["name"] = "spoilt"  # it is the task's own
    return joined

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    references={"names": Reference("NAMES", Csv(columns={"n": "int64", "name": "string"}))},
    clean=clean,
    contract=pa.DataFrameSchema({"name": pa.Column()}),
    partition_by="even",
    write_disposition="DISPOSITION",
)
"""
FIRST = [1, 2, 3, 4, 50]
SECOND = [2, 3, 50, 60]


class Looking(World):
    """A world whose pipeline publishes the numbers that a reference names."""

    def __init__(self, folder: Path, redis_url: str, disposition: str = "append", uri: str = "names.csv") -> None:
        super().__init__(folder, redis_url, disposition, fetch_attempts=1)
        text = PIPELINE.replace("DISPOSITION", disposition).replace("NAMES", uri)
        (folder / "pipelines/small.py").write_text(text)

    def names(self, numbers: Sequence[int]) -> None:
        """Names these numbers and no others from now on."""
        (self.folder / "pipelines/names.csv").write_bytes(named(numbers))
        self.passes = lambda n: n in numbers

    def replay(self, uris: Sequence[str], faults: FaultInjector | None = None, run: str = "again") -> IngestResult:
        request = IngestRequest(run=run, table="small", sources=tuple(Source(uri=u) for u in uris), replay=Again())
        return replay(request, self.context(faults), lambda _progress: None)  # type: ignore[arg-type]


def named(numbers: Sequence[int]) -> bytes:
    return b"n,name\n" + b"".join(b"%d,name-%d\n" % (n, n) for n in numbers)


def failure(result: IngestResult) -> IngestError:
    (outcome,) = result.outcomes
    error = outcome.exception()
    assert error is not None, outcome
    return error


@pytest.fixture
def world(tmp_path, redis_url):
    made = Looking(tmp_path, redis_url)
    made.names([1, 2, 3, 4])
    return made


# What is looked up


def test_rows_are_joined_and_what_is_not_found_is_rejected(world):
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    result = world.ingest(uris)
    assert result.rules == {"name:not_nullable": 3}
    world.check(uris)
    rows = Lake(world.settings).table("small").pandas(["n", "name"])
    assert sorted(zip(rows["n"], rows["name"], strict=True)) == [(n, f"name-{n}") for n in (1, 2, 2, 3, 3, 4)]


def test_the_manifest_says_which_content_was_looked_up(world):
    world.ingest([world.put("a.csv", FIRST)])
    (manifest,) = manifests(world.store, "default", "small")
    names = manifest.references["names"]
    assert names.uri == (world.folder / "pipelines/names.csv").as_uri()
    assert world.store.read(names.path) == named([1, 2, 3, 4])
    assert names.sha256 in names.path


def test_a_changed_reference_is_for_new_sources_and_leaves_the_others_as_they_are(world):
    a, b = world.put("a.csv", FIRST), world.put("b.csv", FIRST)
    world.ingest([a])
    world.names([50])
    assert world.ingest([a, b], run="r2").outcomes[0].status == "unchanged"
    rows = world.rows("small")
    assert (sorted(rows[a]), sorted(rows[b])) == ([0, 1, 2, 3], [4])
    first, second = manifests(world.store, "default", "small")
    assert first.references["names"].sha256 != second.references["names"].sha256


def test_force_looks_everything_up_again(world):
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris)
    world.names([2, 50])
    world.ingest(uris, run="r2", force=True)
    world.check(uris)


def test_the_reference_is_part_of_the_batch_so_that_no_part_of_another_comes_under_its_name(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    batches = {m.batch for m in manifests(world.store, "default", "small")}
    for place in ("tables", "_ingestlab"):
        world.store.delete(place)
    world.redis.flushdb()
    world.names([50])
    world.ingest([uri])
    assert not batches & {m.batch for m in manifests(world.store, "default", "small")}
    world.check([uri])


# How it comes


def test_what_is_unchanged_is_not_downloaded_again(tmp_path, redis_url):
    with Server({"names.csv": named([1, 2])}) as server:
        world = Looking(tmp_path, redis_url, uri=server.url("files/names.csv"))
        for name in "abc":
            assert world.ingest([world.put(f"{name}.csv", [1, 2, 3])], run=name).outcomes[0].status == "committed"
        assert [r.status for r in server.requests("/files/names.csv")] == [200, 304, 304]
        world.ingest([(world.folder / "sources/a.csv").as_uri()], run="d")
        assert len(server.requests("/files/names.csv")) == 3, "asked for no new source"
        server.files["names.csv"] = named([3])
        world.ingest([world.put("d.csv", [1, 2, 3])], run="e")
        assert server.requests("/files/names.csv")[-1].status == 200


@pytest.mark.parametrize("lost", ["raw", "redis"])
def test_what_is_lost_is_downloaded_again(world, lost):
    world.ingest([world.put("a.csv", FIRST)])
    if lost == "raw":
        world.store.delete("raw")
    else:
        world.redis.flushdb()
    b = world.put("b.csv", SECOND)
    assert world.ingest([b], run="r2").outcomes[0].status == "committed"
    assert all(world.store.exists(f.path) for f in manifests(world.store, "default", "small")[-1].references.values())
    world.check([b])


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://host/a.csv", "https://host/a.csv"),
        ("/data/a.csv", "file:///data/a.csv"),
        ("there.csv", "file:///HERE/pipelines/there.csv"),
        ("../up.csv", "file:///HERE/up.csv"),
        ("a.csv", "s3://bucket/tables/a.csv"),
        ("sub/a.csv", "s3://bucket/tables/sub/a.csv"),
    ],
)
def test_a_relative_reference_is_beside_its_pipeline_or_where_the_settings_say(tmp_path, uri, expected):
    (tmp_path / "pipelines").mkdir()
    for there in ("pipelines/there.csv", "up.csv"):
        (tmp_path / there).touch()
    found = Settings(_env_file=None, references="s3://bucket/tables/")
    wanted = expected.replace("/HERE", str(tmp_path.resolve()))
    assert locate(uri, str(tmp_path / "pipelines/p.py"), found) == wanted


def test_the_stack_serves_references_unless_another_place_is_named(tmp_path):
    assert Settings(_env_file=None, samples="http://host:1/").reference_base == "http://host:1/references"
    assert Settings(_env_file=None, samples="http://host:1/", references="x").reference_base == "x"
    origin = str(tmp_path / "pipelines/p.py")
    beside = (tmp_path / "pipelines/a.csv").resolve().as_uri()
    assert locate("a.csv", origin, Settings(_env_file=None)) == beside


# What goes wrong


def test_a_reference_that_is_missing_fails_the_files_that_need_it_and_no_others(world):
    (world.folder / "pipelines/names.csv").unlink()
    plain = "from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv(), matches=['plain*'])\n"
    (world.folder / "pipelines/plain.py").write_text(plain)
    small = world.folder / "pipelines/small.py"
    small.write_text(small.read_text().replace("    clean=clean", "    matches=['a*'], clean=clean"))
    uris = [world.put("a.csv", FIRST), world.put("plain.csv", FIRST)]
    request = IngestRequest(run="r", table="t", sources=tuple(Source(uri=u) for u in uris))
    context = world.context()
    result = ingest(request, context, lambda _progress: None)
    assert [o.status for o in result.outcomes] == ["failed", "committed"]
    text = str(result.outcomes[0].exception())
    for word in ("reference 'names' of pipeline 'small'", "names.csv", "File not found", "INGESTLAB_REFERENCES"):
        assert word in text
    world.names(FIRST)
    assert world.ingest(uris[:1]).outcomes[0].status == "committed"
    assert sorted(world.rows("small")[uris[0]].elements()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"n,name\n1,one\ntwo,two\n", ["'type'", "column n", "'two'"]),
        (b"n,label\n1,one\n", ["column", "label"]),
        (b"", ["empty"]),
        (b"PK\x03\x04" + bytes(50), []),
    ],
    ids=["a bad record", "another column", "empty", "another format"],
)
def test_a_reference_that_cannot_be_read_fails_the_files_with_a_clear_text(world, content, words):
    (world.folder / "pipelines/names.csv").write_bytes(content)
    uri = world.put("a.csv", FIRST)
    error = failure(world.ingest([uri]))
    assert isinstance(error, TerminalError)
    for word in ("reference 'names'", *words):
        assert word in str(error)
    assert list(world.store.walk("tables")) == []
    world.names([1, 2])
    world.ingest([uri], run="r2")
    world.check([uri])


def test_an_archive_is_no_reference(world):
    path = world.folder / "pipelines/small.py"
    text = path.read_text().replace("import Csv", "import Archive, Csv")
    path.write_text(
        text.replace('Reference("names.csv", Csv(', 'Reference("names.csv", Archive(reader=Csv(').replace(
            "}))},", "})))},"
        )
    )
    uri = world.put("a.csv", FIRST)
    assert "one file as the reference 'names'" in str(failure(world.ingest([uri])))


def test_a_server_that_is_away_is_worth_another_try(tmp_path, redis_url):
    with Server({}) as server:
        away = server.url("status/503")
        world = Looking(tmp_path, redis_url, uri=away)
        error = failure(world.ingest([world.put("a.csv", FIRST)]))
    assert (error.kind, "503" in str(error)) == ("transient", True)


@pytest.mark.parametrize("order", [("ages", "names"), ("names", "ages")])
def test_of_two_errors_the_one_counts_that_no_retry_mends(tmp_path, redis_url, order):
    with Server({}) as server:
        world = Looking(tmp_path, redis_url, uri=server.url("status/503"))
        found = {"ages": 'Reference("none.csv", Csv())', "names": f"Reference({server.url('status/503')!r}, Csv())"}
        references = ", ".join(f"{name!r}: {found[name]}" for name in order)
        (world.folder / "pipelines/small.py").write_text(
            "from ingestlab import Csv, Pipeline, Reference\n"
            "def clean(df, names, ages): ...\n"
            f"PIPELINE = Pipeline(reader=Csv(), clean=clean, references={{{references}}})\n"
        )
        error = failure(world.ingest([world.put("a.csv", FIRST)]))
    assert (error.kind, "'ages'" in str(error)) == ("terminal", True)


def test_a_reference_is_guarded_as_a_source_is(tmp_path, redis_url):
    world = Looking(tmp_path, redis_url, uri="http://169.254.1.1/names.csv")
    error = failure(world.ingest([world.put("a.csv", FIRST)]))
    assert (error.kind, "169.254" in str(error)) == ("terminal", True)


def test_a_raw_zone_that_loses_a_reference_while_the_job_runs_makes_it_try_again(world):
    class Forgetful(Inline):
        def map(self, *args):
            file = next(p for p in world.store.walk("raw") if b"name-1" in world.store.read(p))
            world.store.delete(file)
            return super().map(*args)

    uri = world.put("a.csv", [*FIRST, 7])
    world.names([1, 7])  # a content that this process has not on its shelf
    request = IngestRequest(run="r1", pipeline="small", table="t", sources=(Source(uri=uri),))
    context = Services(world.settings, world.store, world.locks, Forgetful())
    with pytest.raises(IngestError, match="next try fetches it again") as caught:
        ingest(request, context, lambda _progress: None)
    assert caught.value.kind == "transient"
    world.ingest([uri])
    world.check([uri])


@pytest.mark.parametrize(
    ("clean", "references", "words"),
    [
        ("def clean(df, names): ...", "{}", "reference 'names'"),
        ("def clean(df, names, ages): ...", "{'names': R}", "reference 'ages'"),
        ("def clean(df): ...", "{'names': R}", "to take the reference 'names'"),
        ("clean = None", "{'names': R}", "no clean"),
        ("def clean(df, names, /): ...", "{'names': R}", "to take the reference 'names'"),
        ("def clean(df, names): ...", "{'names': 'names.csv'}", "a Reference as 'names'"),
        ("def clean(df, names): ...", "{'names': Reference('', Csv())}", "empty"),
        ("def clean(df, names): ...", "{'names': Reference('x.csv')}", "reader"),
    ],
)
def test_references_and_parameters_must_match_when_the_pipeline_is_loaded(clean, references, words):
    text = (
        f"from ingestlab import Csv, Pipeline, Reference\nR = Reference('names.csv', Csv())\n{clean}\n"
        f"PIPELINE = Pipeline(reader=Csv(), clean=clean, references={references})\n"
    )
    with pytest.raises(TerminalError, match=words):
        load(PipelineSource(name="p", origin="p.py", text=text))


@pytest.mark.parametrize(
    "clean", ["def clean(df, limit=3): ...", "def clean(df, *rest): ...", "def clean(df, **more): ...", "clean = list"]
)
def test_parameters_that_need_nothing_are_no_references(clean):
    text = f"from ingestlab import Csv, Pipeline\n{clean}\nPIPELINE = Pipeline(reader=Csv(), clean=clean)\n"
    load(PipelineSource(name="p", origin="p.py", text=text))


# Crashes


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile"])
@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_crash_at_any_step_and_a_reference_that_changes_then(tmp_path_factory, redis_url, after, mend, disposition):
    """Each source ends with the one content or the other, never with rows of both."""
    crashes, ends = 0, set()
    for at in range(1, 60):
        world = Looking(tmp_path_factory.mktemp("w"), redis_url, disposition)
        world.names([1, 2, 3])
        uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
        try:
            world.ingest(uris, FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        before = world.passes
        world.names([4, 50])
        if mend == "reconcile":
            reconcile(world.context().lake)
        world.ingest(uris)
        reconcile(world.context().lake)  # a batch that died before its intent has another name now
        committed = manifests(world.store, "default", "small")
        assert len(committed) == 1
        names = world.store.read(committed[0].references["names"].path)
        ends.add(names)
        if names == named([1, 2, 3]):
            world.passes = before
        world.check(uris)
    assert crashes > 8
    assert ends == {named([1, 2, 3]), named([4, 50])}


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.lists(st.sampled_from([1, 2, 3, 50]), min_size=1, max_size=5),
            st.sets(st.sampled_from([1, 2, 3, 50]), min_size=1),
            st.one_of(st.none(), st.integers(1, 18)),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_story_of_sources_references_and_crashes_ends_as_asked_for_last(tmp_path_factory, redis_url, story):
    world = Looking(tmp_path_factory.mktemp("story"), redis_url, "replace")
    for i, (name, numbers, names, at, after) in enumerate(story):
        world.names(sorted(names | {2}))  # a file of rejects alone would fail
        uri = world.put(f"{name}.csv", [2, *numbers])
        try:
            world.ingest([uri], FaultInjector(at, after=after) if at else None, run=f"r{i}")
        except Crash:
            continue
    world.ingest(sorted(world.expected), run="last", force=True)
    reconcile(world.context().lake)
    world.check(sorted(world.expected))


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_replay_looks_rejects_up_in_the_mended_reference_whatever_dies(tmp_path_factory, redis_url, after):
    crashes = 0
    for at in range(1, 60):
        world = Looking(tmp_path_factory.mktemp("w"), redis_url)
        world.names([1, 2])
        uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
        world.ingest(uris)
        world.names([1, 2, 3, 50])
        try:
            world.replay(uris, FaultInjector(at, after=after))
        except Crash:
            crashes += 1
            world.replay(uris)
        world.check(uris)
        if at > crashes:
            break
    assert crashes > 8
    last = manifests(world.store, "default", "small")[-1]
    assert (last.kind, world.store.read(last.references["names"].path)) == ("replay", named([1, 2, 3, 50]))


def test_replay_without_its_reference_changes_nothing(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    (world.folder / "pipelines/names.csv").unlink()
    assert "reference 'names'" in str(failure(world.replay([uri])))
    world.check([uri])


# In memory


def test_a_shelf_reads_once_however_many_threads_ask():
    shelf, table = LookupCache(), pa.table({"n": [1, 2]})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shelf.take(("p", "names", "1"), lambda: table), range(100)))
    assert shelf.reads == 1
    assert all(f is table for f in found)


def test_a_shelf_that_is_full_lets_the_one_go_that_was_used_longest_ago():
    table = pa.table({"n": list(range(1000))})  # 8,000 bytes
    shelf = LookupCache(most=20_000)
    for content in ("1", "2", "1", "3", "1"):
        shelf.take(("p", "names", content), lambda: table)
    assert shelf.reads == 3
    shelf.take(("p", "names", "2"), lambda: table)
    assert shelf.reads == 4


def test_a_reference_larger_than_the_shelf_is_kept_until_another_comes():
    shelf = LookupCache(most=1)
    for _ in range(3):
        shelf.take(("p", "names", "1"), lambda: pa.table({"n": [1]}))
    assert shelf.reads == 1


def test_what_clean_does_to_a_reference_is_not_seen_by_the_next_task(world):
    before = LOOKUPS.reads
    uris = [world.put(f"{name}.csv", FIRST) for name in "ab"]
    for uri in uris:  # each a job; the reference is spoilt in the first
        world.ingest([uri])
    world.check(uris)
    assert LOOKUPS.reads <= before + 1, "kept from job to job"
    assert set(Lake(world.settings).table("small").pandas(["name"])["name"]) == {f"name-{n}" for n in (1, 2, 3, 4)}


def test_an_edited_reader_reads_the_same_content_anew(world):
    world.ingest([world.put("a.csv", FIRST)])
    path = world.folder / "pipelines/small.py"
    path.write_text(path.read_text().replace('"name": "string"', '"name": "large_string"'))
    before = LOOKUPS.reads
    world.ingest([world.put("b.csv", FIRST)], run="r2")
    assert LOOKUPS.reads == before + 1


def test_a_polars_clean_gets_polars_frames(world):
    pytest.importorskip("polars")
    text = (world.folder / "pipelines/small.py").read_text()
    begin, end = text.index("def clean"), text.index("PIPELINE =")
    clean = (
        "import polars as pl\n"
        "def clean(df: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:\n"
        "    return df.join(names, on='n', how='left').with_columns(even=pl.col('n') % 2 == 0)\n\n"
    )
    (world.folder / "pipelines/small.py").write_text(text[:begin] + clean + text[end:])
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.check([uri])


def test_check_tries_a_pipeline_with_its_references(world):
    uri = world.put("a.csv", FIRST)
    trial = try_pipeline("small", uri, world.settings)
    assert (trial.tally.accepted, trial.rules) == (4, {"name:not_nullable": 1})
    (world.folder / "pipelines/names.csv").unlink()
    with pytest.raises(TerminalError, match="reference 'names'"):
        try_pipeline("small", uri, world.settings)


def reads(client: Client) -> dict[str, int]:
    """How often each worker of a cluster has read a reference; the function travels by its text."""

    def count() -> int:
        from ingestlab.engine.task.lookups import LOOKUPS

        return LOOKUPS.reads

    return client.run(count)


@pytest.mark.slow("long work")
def test_each_dask_worker_reads_a_reference_once_for_all_tasks(tmp_path, redis_url, stack):
    """On the stack's cluster, whose workers are processes: many partitions, two jobs, one read a process."""
    world = Looking(tmp_path, redis_url)
    world.settings = world.settings.model_copy(update={"dask_scheduler": stack.dask_scheduler, "partition_bytes": 1024})
    world.names(range(0, 4000, 3))
    cluster = Cluster(world.settings)
    context = Services(world.settings, world.store, world.locks, cluster)
    with Client(stack.dask_scheduler) as client:
        before = reads(client)
        uris = [world.put(f"{name}.csv", range(4000)) for name in "ab"]
        parts = []
        for i, uri in enumerate(uris):
            request = IngestRequest(run=f"r{i}", pipeline="small", table="t", sources=(Source(uri=uri),))
            result = ingest(request, context, lambda progress: parts.append(progress.partitions))
            assert result.outcomes[0].status == "committed", result.outcomes
        after = reads(client)
    cluster.close()
    assert max(parts) > 30
    assert len(before) == 2
    assert {after[w] - before[w] for w in after} == {1}
    world.check(uris)


# The pipeline


def test_the_tables_of_the_flights_are_copied_as_they_are(tmp_path):
    files = flight_references(tmp_path / "references")
    assert [f.name for f in files] == list(TABLES)
    assert [f.read_bytes().count(b"\n") for f in files] == [17, 1459, 3323, 26116]


def expected(folder: Path, months: Sequence[int]) -> pd.DataFrame:
    """The flights of some months by plain pandas, with why each is rejected."""
    flights = pd.concat(pd.read_csv(folder / f"flights/flights-2013-{m:02}.csv") for m in months)
    weather = pd.read_csv(folder / "references/weather.csv").drop(columns=["year", "month", "day", "hour"])
    airports = pd.read_csv(folder / "references/airports.csv")
    flights = flights.merge(weather, how="left", on=["origin", "time_hour"])
    reason = pd.Series("", index=flights.index)
    reason[flights["temp"].isna()] = "temp:not_nullable"
    reason[~flights["dest"].isin(airports["faa"])] = "dest_name:not_nullable"
    return flights.assign(reason=reason)


@pytest.fixture(scope="module")
def february(stack: Settings) -> tuple[RunResult, pd.DataFrame]:
    """How the stack ingested a month, and what plain pandas makes of it."""
    uri = f"{stack.samples.rstrip('/')}/flights/flights-2013-02.csv"
    result = submit([uri], pipeline="flights_weather", settings=stack).wait(PATIENCE)
    assert result.count("committed") == 1, result.outcomes
    return result, expected(stack.home / "samples", [2])


def test_flights_with_their_weather_come_out_of_the_stack(stack, february):
    result, flights = february
    bad, good = flights[flights["reason"] != ""], flights[flights["reason"] == ""]
    assert result.rules == bad["reason"].value_counts().to_dict()
    assert set(result.rules) == {"dest_name:not_nullable", "temp:not_nullable"}
    rows = Lake(stack).table("flights_weather").pandas(["_row", "temp", "dest_name"]).set_index("_row").sort_index()
    assert rows.index.tolist() == good.index.tolist()
    assert rows["temp"].astype(float).tolist() == good["temp"].tolist()


def test_its_manifest_names_the_samples_that_the_stack_serves(stack, february):
    (manifest,) = manifests(open_store(stack.lake_url), "default", "flights_weather")
    base = f"{stack.samples.rstrip('/')}/references"
    assert {name: f.uri for name, f in manifest.references.items()} == {
        name: f"{base}/{name}.csv" for name in ("weather", "airports")
    }


def test_its_aggregate_counts_what_pandas_counts(stack, february):
    _, flights = february
    good = flights[flights["reason"] == ""]
    kind = pd.Series("fair", index=good.index)
    kind[good["wind_speed"] >= 25] = "wind"
    kind[good["precip"] > 0] = "rain"
    kind[good["visib"] < 2] = "fog"
    wanted = good.assign(weather=kind, cancelled=good["dep_time"].isna()).groupby(["origin", "weather"])
    found = Lake(stack).aggregate("flights_weather", "by_weather").set_index(["origin", "weather"]).sort_index()
    assert found["flights"].to_dict() == wanted.size().to_dict()
    assert found["cancelled"].to_dict() == wanted["cancelled"].sum().to_dict()
    assert found["mean_delay"].astype(float).to_dict() == pytest.approx(wanted["dep_delay"].mean().to_dict())
