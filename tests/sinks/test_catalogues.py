"""One suite for every catalogue: whatever happens to a table, tools that know nothing of ingestlab read its rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from support.catalogues import PIPELINE, Published, in_glue, rows_in
from support.lake import Crash, FaultInjector
from typer.testing import CliRunner

from ingestlab.cli import app
from ingestlab.cli import stack as commands
from ingestlab.core.errors import TerminalError
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.rewrite import rewrite
from ingestlab.maintenance.undo import undo
from ingestlab.pipeline.catalogues import check_columns, registered
from ingestlab.sinks.catalogues import delta
from ingestlab.sinks.catalogues.glue import glue_type
from ingestlab.sinks.catalogues.lag import lags
from ingestlab.stack.valkey import free_port

PLAIN = PIPELINE.replace('publish_as=["CATALOGUE"],', "")


@pytest.fixture(params=["delta", "iceberg", pytest.param("glue", marks=pytest.mark.slow("Glue"))])
def world(request, tmp_path, redis_url) -> Published:
    """A lake that is published in each catalogue."""
    if request.param != "glue":
        return Published(tmp_path, redis_url, request.param)
    return in_glue(tmp_path, redis_url, request.getfixturevalue("s3"))


def test_every_tool_reads_the_rows_after_each_kind_of_commit(world):
    a = world.write("a.csv", {1: "x/y", 2: "50%", 3: "ö b", 4: "007"})
    world.ingest([a], run="r1")
    world.agree()
    b = world.write("b.csv", {5: "x/y", 6: "007"})
    world.ingest([b], run="r2")
    world.agree()
    world.ingest([world.write("a.csv", {7: "x/y"})], run="r3")  # replaces
    world.agree()
    world.merge()
    world.agree()
    assert set(world.live()) == {(5, "x/y", "X/Y"), (6, "007", "007"), (7, "x/y", "X/Y")}
    assert list(lags(world.store)) == []
    assert world.repair().clean


def test_merges_by_key_deletes_and_undone_runs_are_followed(world):
    merging = PIPELINE.replace('write_disposition="replace"', 'write_disposition="merge", key="n"')
    world.declare(merging.replace('partition_by="part",', ""))
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    world.ingest([world.write("b.csv", {2: "z", 3: "y"})], run="r2")
    assert set(world.live()) == {(1, "x", "X"), (2, "z", "Z"), (3, "y", "Y")}
    world.agree()
    undo("r2", world.context())
    assert set(world.live()) == {(1, "x", "X"), (2, "y", "Y")}
    world.agree()
    delete([world.write("a.csv", {})], world.context(), table="small")
    assert not world.live()
    world.agree()
    assert list(lags(world.store)) == []


@pytest.mark.parametrize("catalogue", ["delta", "iceberg"])
def test_earlier_versions_are_read_as_they_were(tmp_path, redis_url, catalogue, caplog):
    world = Published(tmp_path, redis_url, catalogue)
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    world.ingest([world.write("b.csv", {2: "x", 3: "y"})], run="r2")
    assert [record.message for record in caplog.records if record.name == "ingestlab"] == []
    if world.catalogue == "delta":
        counts = [world.delta(version).to_pyarrow_table().num_rows for version in (0, 1)]
        runs = [entry.get("ingestlab.run") for entry in world.delta().history()]
        assert (counts, runs) == ([1, 3], ["r2", "r1"])
    else:
        table = world.iceberg()
        counts = [table.scan(snapshot_id=s.snapshot_id).to_arrow().num_rows for s in table.metadata.snapshots]
        runs = [s.summary.additional_properties["ingestlab.run"] for s in table.metadata.snapshots]
        assert (counts, runs) == ([1, 3], ["r1", "r2"])


def test_the_folder_is_read_as_before(world):
    """What a catalogue keeps is nothing that Dask, DuckDB or pandas take for data."""
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    assert {path for path in world.store.walk("tables") if path.endswith(".parquet")} == {
        file.target for file in world.context().lake.log("default", "small").history()[0].parts
    }


def test_a_table_that_is_there_is_registered_with_its_next_commit(world):
    world.declare(PLAIN)
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    world.declare(PIPELINE)
    world.ingest([world.write("b.csv", {3: "y"})], run="r2")
    world.agree()


def test_new_columns_are_null_in_earlier_rows(world):
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    world.declare(PIPELINE.replace("df.assign(", "df.assign(extra=df['n'] * 2, "))
    world.ingest([world.write("b.csv", {2: "x"})], run="r2")
    assert set(rows_in(world.any())) == {(1, "x", "X", None), (2, "x", "X", 4)}


def test_other_types_begin_a_new_schema_once_all_files_have_them(world):
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    rewrite("small", world.context(), types={"n": "double"})
    for tool, table in world.read().items():
        assert table.schema.field("n").type == pa.float64(), tool
    world.agree()
    world.declare(PIPELINE.replace('partition_by="part",', ""))
    rewrite("small", world.context())
    assert sorted(row[:2] for row in rows_in(world.any())) == [(1, "x"), (2, "y")]
    assert list(lags(world.store)) == []


@pytest.mark.parametrize("after", [False, True])
def test_whenever_a_job_dies_the_next_one_or_reconcile_registers_all(world, after):
    """The job dies at every eleventh of its changes: the crash tests of commits visit all of them."""
    for at in range(1, 200, 11):
        uri = world.write("a.csv", {at: "x", at + 1: "y"})
        try:
            world.ingest([uri], FaultInjector(at, after=after), run=f"r{at}")
            died = False
        except Crash:
            died = True
            world.locks.client.flushdb()
            if at % 2:
                world.repair()
            else:
                world.ingest([world.write("b.csv", {1000 + at: "z"}), uri], run=f"r{at}-again")
        if world.context().lake.log("default", "small").tip():
            world.repair()
            world.agree()
        if not died:
            assert at > 11
            return
    raise AssertionError("the injector never stopped")


def unplug(world: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue does not answer: nobody listens at its address; the disk with the Delta log refuses."""

    def refuse(*_args: Any, **_options: Any) -> None:
        raise OSError(5, "Input/output error")

    if world.catalogue == "delta":
        monkeypatch.setattr("deltalake.DeltaTable.is_deltatable", refuse)
    else:
        address = f"http://127.0.0.1:{free_port()}"
        nowhere = {
            "iceberg_catalog": {"type": "rest", "uri": address},
            "storage_options": world.settings.storage_options | {"glue": {"endpoint_url": address, "region_name": "x"}},
        }
        monkeypatch.setattr(world, "settings", world.settings.model_copy(update=nowhere))


def test_while_a_catalogue_is_away_commits_stand_and_are_registered_later(world, monkeypatch):
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    with monkeypatch.context() as patched:
        unplug(world, patched)
        for n in (2, 3):
            (outcome,) = world.ingest([world.write(f"{n}.csv", {n: "x"})], run=f"r{n}").outcomes
            assert outcome.status == "committed"
        (lag,) = lags(world.store)
        assert (lag.table, lag.catalogue, lag.error.code) == ("small", world.catalogue, "catalogue_unavailable")
        assert "reconcile" in str(lag)
        patched.setattr(commands, "load_settings", lambda **_: world.settings)
        shown = CliRunner().invoke(app, ["status", "--json"])
        (told,) = json.loads(shown.stdout)["unregistered"]
        assert (told["table"], told["catalogue"], told["why"]) == ("small", world.catalogue, str(lag.error))
        report = world.repair()
        assert (report.restored, len(report.unregistered)) == ((), 1)
        assert not report.clean
    world.ingest([world.write("4.csv", {4: "x"})], run="r4")
    world.agree()
    assert list(lags(world.store)) == []
    assert world.catalogue != "delta" or len(world.delta().history()) == 4, "a version for each commit"


def test_reconcile_takes_out_and_brings_in_what_differs(world):
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    before = world.any()
    break_entry(world)
    assert rows_in(world.any()) != rows_in(before)
    assert world.repair().restored == (f"{world.catalogue}:small",)
    world.agree()
    assert world.repair().clean


def break_entry(world: Published) -> None:
    """Another program deletes rows through the catalogue."""
    if world.catalogue == "delta":
        world.delta().delete("n = 1")
    elif world.catalogue == "glue":
        where = {"DatabaseName": world.settings.glue_database, "TableName": "small"}
        world.client().delete_partition(**where, PartitionValues=["X"])
    else:
        world.iceberg().delete("part = 'X'")


def test_another_programs_table_is_left_alone_and_said(world):
    if world.catalogue == "delta":
        write_deltalake(world.store.full("tables/default/small"), pa.table({"theirs": [1]}))
    elif world.catalogue == "glue":
        name = world.settings.glue_database
        world.client().create_database(DatabaseInput={"Name": name})
        place = {"Columns": [{"Name": "theirs", "Type": "bigint"}], "Location": world.store.full("theirs")}
        world.client().create_table(DatabaseName=name, TableInput={"Name": "small", "StorageDescriptor": place})
    else:
        world.sink().opened("default", "small")._catalog.create_namespace("default")
        world.sink().opened("default", "small")._catalog.create_table(
            "default.small", pa.schema({"theirs": pa.int64()})
        )
        world.declare(PIPELINE)
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    (lag,) = lags(world.store)
    assert lag.error.code == "catalogue_conflict"
    assert "another program" in str(lag)
    assert world.theirs()
    assert len(world.repair().unregistered) == 1
    world.declare(PLAIN)
    world.ingest([world.write("b.csv", {2: "x"})], run="r2")
    assert world.repair().clean, "the table is not published any more"


def test_two_lakes_do_not_share_a_table_of_one_catalogue(world, tmp_path_factory):
    if world.catalogue == "delta":
        return  # its log is in the table's folder
    folder = tmp_path_factory.mktemp("other")
    shared = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db"}
    settings = world.settings.model_copy(update={"iceberg_catalog": shared})
    world.settings = settings
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    assert list(lags(world.store)) == []
    found = rows_in(world.any()) if world.catalogue == "glue" else None
    more = {"lake": f"{settings.lake}2", "storage_options": settings.storage_options} if world.s3 else {}
    more |= {"glue_database": settings.glue_database}
    other = Published(folder, settings.redis_url, world.catalogue, iceberg_catalog=shared, **more)
    other.ingest([other.write("a.csv", {2: "y"})], run="r1")
    (lag,) = lags(other.store)
    assert (lag.error.code, "another lake" in str(lag)) == ("catalogue_conflict", True)
    assert len(other.repair().unregistered) == 1
    assert world.repair().clean, "nothing of it was changed"
    assert found is None or rows_in(world.any()) == found


def test_two_jobs_that_register_at_once_add_each_file_once(world):
    uris = [world.write(f"{n}.csv", {n: "x", n + 100: "y"}) for n in range(4)]
    failures: list[BaseException] = []

    def job(uri: str) -> None:
        try:
            world.ingest([uri], run="r-" + uri[-5])
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=job, args=(uri,)) for uri in uris]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not failures
    assert list(lags(world.store)) == []
    world.agree()


def test_the_delta_log_is_compacted_without_parquet(tmp_path, redis_url, monkeypatch):
    monkeypatch.setattr(delta, "COMPACT", 2)
    world = Published(tmp_path, redis_url, "delta")
    for n in range(1, 6):
        world.ingest([world.write(f"{n}.csv", {n: "x"})], run=f"r{n}")
        world.agree()
    names = world.store.children("tables/default/small/_delta_log")
    assert [name for name in names if "compacted" in name] == [
        f"{0:020d}.{2:020d}.compacted.json",
        f"{0:020d}.{4:020d}.compacted.json",
    ]
    assert not [name for name in names if name.endswith(".parquet")]
    assert world.delta(1).to_pyarrow_table().num_rows == 2


def test_a_checkpoint_that_somebody_writes_stays(tmp_path, redis_url):
    world = Published(tmp_path, redis_url, "delta")
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    world.delta().create_checkpoint()
    assert world.repair().clean
    world.agree()


REFUSED = {
    "uint64": "decimal128(20, 0)",
    "uint8": "int16",
    "timestamp[ns]": "timestamp[us]",
    "time32[s]": "string",
    "duration[us]": "int64",
}


@pytest.mark.parametrize(("kind", "instead"), REFUSED.items())
def test_a_type_that_no_catalogue_holds_is_refused_when_the_pipeline_is_loaded(world, kind, instead):
    declared = PIPELINE.replace('"word": "string"', f'"word": "string", "v": "{kind}"').replace("clean=clean,", "")
    world.declare(declared.replace('partition_by="part"', 'partition_by="word"'))
    (outcome,) = world.ingest([world.write("a.csv", {1: "x"})], run="r1").outcomes
    assert outcome.error["code"] == "pipeline_invalid"
    for text in (f"{world.catalogue} cannot hold column 'v'", instead):
        assert text in str(outcome.exception())


def test_a_type_that_clean_makes_fails_its_file_before_anything_is_published(world):
    world.declare(PIPELINE.replace("df.assign(", "df.assign(extra=df['n'].astype('uint32[pyarrow]'), "))
    (outcome,) = world.ingest([world.write("a.csv", {1: "x"})], run="r1").outcomes
    assert (outcome.status, outcome.error["code"]) == ("failed", "types_conflict")
    assert "'extra' of type uint32" in str(outcome.exception())
    assert world.context().lake.log("default", "small").tip() == 0


def test_glue_wants_a_lake_in_s3(tmp_path, redis_url):
    world = Published(tmp_path, redis_url, "glue")
    (outcome,) = world.ingest([world.write("a.csv", {1: "x"})], run="r1").outcomes
    assert "AWS Glue finds tables in S3 alone" in str(outcome.exception())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.struct({"A": pa.list_(pa.int16()), "b": pa.decimal128(9, 2)}), "struct<a:array<smallint>,b:decimal(9,2)>"),
        (pa.map_(pa.string(), pa.timestamp("ms", "UTC")), "map<string,timestamp>"),
        (pa.large_list(pa.large_binary()), "array<binary>"),
    ],
)
def test_types_as_hive_writes_them(kind, text):
    assert glue_type(registered(kind)) == text


def test_under_evolve_a_table_is_registered_as_it_widens(world):
    loose = PIPELINE.replace("clean=clean,", 'schema_drift="evolve",').replace('partition_by="part",', "")
    world.declare(loose)
    world.ingest([world.write("a.csv", {1: "x"})], run="r1")
    path = world.folder / "sources/b.csv"
    path.write_text("n,word\n1.5,y\n")
    (outcome,) = world.ingest([path.as_uri()], run="r2").outcomes
    assert outcome.status == "committed"
    assert list(lags(world.store)) == []
    assert set(rows_in(world.any())) == {(1.0, "x"), (1.5, "y")}


KINDS: dict[str, Callable[[], pa.DataType]] = {
    "list": lambda: pa.list_(pa.uint8()),
    "struct": lambda: pa.struct({"a": pa.timestamp("ns")}),
    "zone": lambda: pa.timestamp("us", "Europe/Vienna"),
    "null": pa.null,
    "uuid": pa.uuid,
    "fixed": lambda: pa.list_(pa.float32(), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_inside_other_types_is_looked_at(kind):
    with pytest.raises(TerminalError, match="cannot hold column 'v'"):
        check_columns(["delta"], {"v": KINDS[kind]()}, (), "Table t")


def test_names_and_catalogues_that_cannot_be():
    with pytest.raises(TerminalError, match="takes no column 'a b'"):
        check_columns(["delta"], {"a b": pa.int64()}, (), "Table t")
    check_columns(["iceberg"], {"a b": pa.int64(), "day": pa.time32("s")}, ("day",), "Table t")
