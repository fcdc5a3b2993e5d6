"""`lab.spark`: a Spark frame has the rows and types of the log. Spark is in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from support.lake import World
from support.readers import ROOT
from support.spark import python_with_spark

from ingestlab.analytics.spark import check_java, open_frame, spark_type
from ingestlab.core.errors import TerminalError

READ = ROOT / "tests/support/read_with_spark.py"
PIPELINE = """
from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "COUNT", "at": "timestamp[us]", "code": "string"}),
    partition_by="code",
    write_disposition="replace",
    MORE
)
"""
LOOSE = 'PIPELINE = __import__("ingestlab").Pipeline(reader=__import__("ingestlab").Csv(), schema_drift="evolve")'


def take(world: World, table: str, name: str, text: str, run: str) -> None:
    path = world.folder / "sources" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (outcome,) = world.ingest([path.as_uri()], run=run).outcomes
    assert outcome.status == "committed", outcome.error


@pytest.mark.spark
@pytest.mark.slow("Spark")
def test_a_frame_has_the_rows_and_types_of_the_log(tmp_path, redis_url):
    python, world = python_with_spark(), World(tmp_path, redis_url)
    pipeline = world.folder / "pipelines/small.py"
    pipeline.write_text(PIPELINE.replace("COUNT", "int64").replace("MORE", 'table="good"'))
    rows = "n,at,code\n1,2024-02-29 12:30:00,007\n2,2024-02-29 12:31:00,7\n3,,12D\n4,,A/B\n5,,ö\n"
    take(world, "good", "a.csv", rows, "r1")
    take(world, "good", "a.csv", rows.replace("\n1,", "\n10,"), "r2")
    (Path(world.store.full("tables/default/good")) / "code=7/not-ours.parquet").write_bytes(b"another program's")
    pipeline.write_text(PIPELINE.replace("COUNT", "time32[s]").replace("MORE", 'table="clock"'))
    take(world, "clock", "c.csv", "n,at,code\n12:30:00,,x\n", "r3")
    pipeline.write_text(LOOSE.replace("reader=", 'table="loose", reader='))
    take(world, "loose", "d.csv", "n\n1\n", "r4")
    take(world, "loose", "e.csv", "n\n1.5\n", "r5")
    command = [python, str(READ), str(world.settings.home), "good", "good@r1", "clock", "loose"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    codes = ["007", "7", "12D", "A/B", "ö"]
    for state, numbers in (("good", ["10", "2", "3", "4", "5"]), ("good@r1", ["1", "2", "3", "4", "5"])):
        assert [(row["n"], row["code"]) for row in found[state]] == list(zip(numbers, codes, strict=True))
    assert [row["at"] for row in found["good"]][:3] == ["2024-02-29 12:30:00", "2024-02-29 12:31:00", "None"]
    assert "Spark cannot read column 'n' of type time32[ms]" in found["clock"]
    assert [row["n"] for row in found["loose"]] == ["1.0", "1.5"]  # the earlier file was widened


def test_java_that_is_missing_is_named_with_its_command(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(TerminalError, match=r"Java, which is missing.*/nowhere.*apt-get install openjdk"):
        check_java()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.uint8(), "smallint"),
        (pa.uint64(), "decimal(20,0)"),
        (pa.timestamp("ms", "Europe/Vienna"), "timestamp"),
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.struct({"a b": pa.list_(pa.decimal128(9, 2))}), "struct<`a b`:array<decimal(9,2)>>"),
        (pa.map_(pa.string(), pa.date32()), "map<string,date>"),
        *((kind, None) for kind in (pa.timestamp("ns"), pa.time64("us"), pa.duration("us"), pa.float16())),
        (pa.struct({"a": pa.decimal256(50, 2)}), None),
    ],
)
def test_types_as_spark_writes_them(kind, text):
    assert spark_type(kind) == text


def test_without_pyspark_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    with pytest.raises(TerminalError, match=r"ingestlab\[spark\]"):
        open_frame({}, pa.schema({"n": pa.int64()}), None)
