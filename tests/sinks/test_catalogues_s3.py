"""Catalogues of tables in an object store, AWS Glue among them."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from s3fs import S3FileSystem
from support.catalogues import PIPELINE, Published, in_glue, rows_in

from ingestlab.sinks.catalogues.lag import lags
from ingestlab.sinks.catalogues.storage import DELTA, ICEBERG, s3_options

READ = Path(__file__).parents[1] / "support/read_with_awswrangler.py"


@pytest.mark.parametrize("catalogue", ["delta", "iceberg"])
def test_on_an_object_store(tmp_path, redis_url, s3, catalogue):
    bucket = f"catalogues-{uuid.uuid4().hex}"
    S3FileSystem(**s3).call_s3("create_bucket", Bucket=bucket)
    sqlite = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db"}
    lake = {"lake": f"s3://{bucket}/lake", "storage_options": {"s3": s3}, "iceberg_catalog": sqlite}
    world = Published(tmp_path, redis_url, catalogue, **lake)
    world.ingest([world.write("a.csv", {1: "x/y", 2: "50%", 3: "ö b"})], run="r1")
    world.ingest([world.write("a.csv", {4: "x/y"}), world.write("b.csv", {5: "ö b"})], run="r2")
    assert [str(lag) for lag in lags(world.store)] == []
    if catalogue == "delta":
        options = s3_options(world.settings, DELTA) | {"aws_allow_http": "true"}
        table = DeltaTable(f"s3://{bucket}/lake/tables/default/small", storage_options=options)
        found = table.to_pyarrow_table()
    else:
        catalog = load_catalog("ingestlab", **sqlite, **s3_options(world.settings, ICEBERG))
        found = catalog.load_table("default.small").scan().to_arrow()
    assert rows_in(found) == Counter([(4, "x/y", "X/Y"), (5, "ö b", "Ö B")])


def test_an_object_store_needs_a_catalogue_of_iceberg(tmp_path, redis_url, s3):
    bucket = f"catalogues-{uuid.uuid4().hex}"
    S3FileSystem(**s3).call_s3("create_bucket", Bucket=bucket)
    world = Published(tmp_path, redis_url, "iceberg", lake=f"s3://{bucket}", storage_options={"s3": s3})
    (outcome,) = world.ingest([world.write("a.csv", {1: "x"})], run="r1").outcomes
    assert outcome.error["code"] == "setting_missing"
    assert "INGESTLAB_ICEBERG_CATALOG" in str(outcome.exception())


def test_glue_knows_the_folders_of_all_rows(tmp_path, redis_url, s3):
    world = in_glue(tmp_path, redis_url, s3)
    world.ingest([world.write("a.csv", {1: "x/y", 2: "50%", 3: "007"})], run="r1")
    world.ingest([world.write("a.csv", {4: "x/y"})], run="r2")
    world.agree()
    assert list(lags(world.store)) == []
    found = world.client().get_partitions(DatabaseName=world.settings.glue_database, TableName="small")["Partitions"]
    places = {tuple(partition["Values"]): partition["StorageDescriptor"]["Location"] for partition in found}
    assert places == {("X/Y",): f"{world.store.full('tables/default/small')}/part=X%2FY/"}


def test_names_in_glue_are_small_letters_and_two_tables_do_not_share_one(tmp_path, redis_url, s3):
    world = in_glue(tmp_path, redis_url, s3)
    for table in ("Small.Table", "small-table"):
        world.declare(PIPELINE.replace("publish_as", f'table="{table}", publish_as'))
        world.ingest([world.write(f"{table}.csv", {1: "x"})], run="r")
    (lag,) = lags(world.store)
    assert (lag.table, lag.error.code) == ("small-table", "catalogue_conflict")
    assert "is that of table default/Small.Table" in str(lag)
    names = [t["Name"] for t in world.client().get_tables(DatabaseName=world.settings.glue_database)["TableList"]]
    assert names == ["small_table"]


@pytest.mark.slow("awswrangler")
def test_awswrangler_finds_table_columns_and_partitions(tmp_path, redis_url, s3):
    """awswrangler 3.17 wants pyarrow < 26, so it has an environment of its own."""
    python = os.environ.get("AWSWRANGLER_PYTHON")
    if not python:
        pytest.skip("AWSWRANGLER_PYTHON names no Python with awswrangler")
    world = in_glue(tmp_path, redis_url, s3)
    world.ingest([world.write("a.csv", {1: "x", 2: "y"})], run="r1")
    world.ingest([world.write("b.csv", {3: "x/y", 4: "007", 5: "ö 50%"})], run="r2")
    server = s3["client_kwargs"]["endpoint_url"]
    env = os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [python, str(READ), server, world.settings.glue_database, "small"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["types"] == {"n": "bigint", "word": "string", "_source": "string", "_row": "bigint", "part": "string"}
    assert sorted(found["partitions"]) == [["007"], ["X"], ["X/Y"], ["Y"], ["Ö 50%"]]
    live = Counter((n, word, quote(part, safe=" Ö")) for n, word, part in world.live())
    assert Counter(map(tuple, found["rows"])) == live, "it reads values from the folders' names, as they are"
    assert Counter(map(tuple, found["only x"])) == Counter(row for row in world.live() if row[2] == "X")
