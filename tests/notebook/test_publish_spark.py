"""Frames of Spark become rows of tables: types, sizes and what goes wrong."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.lake import World
from support.spark import spark_or_skip

from ingestlab.analytics.lake import Lake
from ingestlab.analytics.spark import start_session
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake import layout
from ingestlab.notebook.publish import put_frame

pytestmark = [pytest.mark.spark, pytest.mark.slow("Spark")]
AT = "timestamp'2024-02-29 12:30:15.250 UTC'"
WALL = "timestamp_ntz'2024-02-29 12:30:15.250'"
DIGITS = "9" * 36 + ".99"
NOON = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000)

# By name: how Spark makes it, the type that is published, the value.
VALUES = {
    "small": ("cast(-7 as tinyint)", pa.int8(), -7),
    "big": ("9223372036854775807", pa.int64(), 2**63 - 1),
    "float": ("cast(0.5 as float)", pa.float32(), 0.5),
    "bool": ("true", pa.bool_(), True),
    "text": ("'ö'", pa.string(), "ö"),
    "bytes": ("x'ff00'", pa.binary(), b"\xff\x00"),
    "short decimal": ("cast(-1.25 as decimal(9,2))", pa.decimal128(9, 2), Decimal("-1.25")),
    "long decimal": (f"cast('{DIGITS}' as decimal(38,2))", pa.decimal128(38, 2), Decimal(DIGITS)),
    "day": ("date'1600-02-29'", pa.date32(), dt.date(1600, 2, 29)),
    "moment": (AT, pa.timestamp("us", "UTC"), NOON.replace(tzinfo=dt.UTC)),
    "end": ("timestamp'9999-12-31 00:00:00 UTC'", pa.timestamp("us", "UTC"), dt.datetime(9999, 12, 31, tzinfo=dt.UTC)),
    "long ago": ("timestamp'0001-01-01 00:00:00 UTC'", pa.timestamp("us", "UTC"), dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
    "wall clock": (WALL, pa.timestamp("us"), NOON),
    "took": ("interval '1 02:03:04.5' day to second", pa.duration("us"), dt.timedelta(1, 7384, 500_000)),
    "list": ("array(1, null, 3)", pa.list_(pa.int32()), [1, None, 3]),
    "moments": (f"array({AT})", pa.list_(pa.timestamp("us", "UTC")), [NOON.replace(tzinfo=dt.UTC)]),
    "object": (
        f"named_struct('a b', 1, 'at', {AT}, 'in', named_struct('x', array('y')))",
        pa.struct({"a b": pa.int32(), "at": pa.timestamp("us", "UTC"), "in": pa.struct({"x": pa.list_(pa.string())})}),
        {"a b": 1, "at": NOON.replace(tzinfo=dt.UTC), "in": {"x": ["y"]}},
    ),
    "map": ("map('k', date'2024-02-29')", pa.map_(pa.string(), pa.date32()), [("k", dt.date(2024, 2, 29))]),
    "nothing": ("null", pa.string(), None),  # the table's type for what has none
}  # fmt: skip


@pytest.fixture(scope="module")
def spark():
    spark_or_skip()
    session = start_session()
    session.conf.set("spark.sql.session.timeZone", "Asia/Ho_Chi_Minh")  # it must not matter
    yield session
    session.stop()


@pytest.fixture
def world(tmp_path, redis_url):
    return World(tmp_path / "a lake, 50% full", redis_url, "replace")


def bring(world, uri, run, table="answers") -> list[str]:
    request = IngestRequest(run=run, table=table, sources=(Source(uri=uri),))
    return [o.status for o in ingest(request, world.context(), lambda _: None).outcomes]


def frames(world) -> list[str]:
    return [path for path in world.store.walk(layout.frames()) if path.endswith(".parquet")]


def test_each_type_arrives_with_its_values_and_nulls(world, spark):
    made = [f"{text} AS `{name}`" for name, (text, _, _) in VALUES.items()]
    frame = spark.range(1).selectExpr("id", *made)
    nulls = frame.selectExpr("id + 1 AS id", *(f"if(id < 0, `{name}`, null) AS `{name}`" for name in VALUES))
    uri = put_frame(frame.union(nulls).repartition(2, "id"), "answers", world.settings)
    assert bring(world, uri, "r1") == ["committed"]
    found = Lake(world.settings).table("answers").arrow().sort_by("id")
    assert {name: found.schema.field(name).type for name in VALUES} == {name: v[1] for name, v in VALUES.items()}
    assert {name: found[name].to_pylist() for name in VALUES} == {name: [v[2], None] for name, v in VALUES.items()}


def test_what_spark_made_of_a_table_is_published_once(world, spark):
    bring(
        world,
        put_frame(spark.range(5).selectExpr("id AS n", "id % 2 AS odd"), "numbers", world.settings),
        "r1",
        "numbers",
    )
    frame = Lake(world.settings).table("numbers").spark().where("odd = 1").orderBy("n")
    uri = put_frame(frame, "answers", world.settings)
    assert bring(world, uri, "r2") == ["committed"]
    rows = Lake(world.settings).table("answers").arrow()
    assert rows["n"].to_pylist() == [1, 3]
    assert set(rows["_source"].to_pylist()) == {uri}
    assert put_frame(frame, "answers", world.settings) == uri
    assert bring(world, uri, "r3") == ["unchanged"]


def test_a_frame_without_rows_has_its_columns(world, spark):
    uri = put_frame(spark.range(0).selectExpr("id AS n", f"{AT} AS at"), "answers", world.settings)
    schema = pq.read_schema(world.store.full(frames(world)[0]))
    assert (schema.field("n").type, schema.field("at").type) == (pa.int64(), pa.timestamp("us", "UTC"))
    assert bring(world, uri, "r1") == ["committed"]


def test_a_frame_of_any_size_takes_the_memory_of_a_row_group(world, spark):
    rows = 4_000_000
    text = "'the same long text in each row, which takes little space in a file ' || cast(id % 7 AS string) AS text"
    put_frame(spark.range(0, rows, 1, 2).selectExpr("id AS n", text), "answers", world.settings)
    file = pq.ParquetFile(world.store.full(frames(world)[0]))
    assert file.metadata.num_rows == rows
    assert max(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)) <= 1 << 20
    first = file.read_row_group(0)
    assert first["n"].to_pylist()[:3] == [0, 1, 2]
    whole = first.nbytes / first.num_rows * rows
    assert pa.default_memory_pool().max_memory() < whole, "it has never been in memory as a whole"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        (["1 / (id - id) AS n"], "spark_failed"),
        (["id AS n", "id AS n"], "spark_failed"),
        (["interval '1' month AS n"], "spark_failed"),
    ],
    ids=["division by zero", "one name twice", "months"],
)
def test_what_spark_cannot_compute_or_write_is_said_in_a_few_lines_and_leaves_nothing(world, spark, columns, code):
    with pytest.raises(TerminalError) as raised:
        put_frame(spark.range(3).selectExpr(*columns), "answers", world.settings)
    assert raised.value.code == code
    assert len(str(raised.value)) < 1500
    assert "\tat " not in str(raised.value)
    assert frames(world) == []
    assert list(world.store.scratch().iterdir()) == []
