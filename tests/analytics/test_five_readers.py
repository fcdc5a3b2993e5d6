"""Every type and every partition value, published, and read by pandas, Dask, Polars, DuckDB and Spark: the tables of
docs/reference/tables.md are what this finds."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from support.lake import World
from support.readers import READERS, ROOT, by_spark, plain, same
from support.spark import python_with_spark

from ingestlab.analytics.lake import Table
from ingestlab.lake.storage.store import open_store

PAGE = ROOT / "docs/reference/tables.md"
NAMES = {"pandas": "pandas", "dask": "Dask", "polars": "Polars", "duckdb": "DuckDB", "spark": "Spark"}
AT = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000)
TIME = AT.time()
AGO = dt.timedelta(days=1, milliseconds=250)

# What is published under each type; `import`s are those of its pipeline.
TYPES: dict[str, tuple[str, Sequence[Any]]] = {
    "int8, int16, int32, int64": ("pa.int64()", [-(2**63), 2**63 - 1]),
    "integers beside nulls": ("pa.int64()", [2**53 + 1, None]),
    "uint8, uint16, uint32": ("pa.uint32()", [0, 2**32 - 1]),
    "uint64": ("pa.uint64()", [0, 2**64 - 1]),
    "float16": ("pa.float16()", [0.5, -0.0]),
    "float32, float64": ("pa.float64()", [0.1, -0.0, float("inf")]),
    "bool": ("pa.bool_()", [True, False]),
    "text": ("pa.string()", ["ö", "", "NA", "007"]),
    "bytes": ("pa.binary()", [b"\xff", b""]),
    "date32": ("pa.date32()", [AT.date(), dt.date(1600, 1, 1)]),
    "timestamp[s], [ms], [us]": ("pa.timestamp('us')", [AT, dt.datetime(9999, 12, 31)]),
    "timestamp[us], any zone": ("pa.timestamp('us', 'Europe/Vienna')", [AT.replace(tzinfo=dt.UTC)]),
    "timestamp[ns]": ("pa.timestamp('ns')", [AT]),
    "timestamp[ns], any zone": ("pa.timestamp('ns', 'UTC')", [AT.replace(tzinfo=dt.UTC)]),
    "time32, time64": ("pa.time64('us')", [TIME]),
    "duration": ("pa.duration('us')", [AGO]),
    "decimal up to 38 digits": ("pa.decimal128(38, 2)", [Decimal("1.25"), Decimal("-" + "9" * 36 + ".99")]),
    "decimal of more digits": ("pa.decimal256(76, 2)", [Decimal("9" * 74 + ".99")]),
    "lists": ("pa.list_(pa.int64())", [[1, 2], []]),
    "objects": ("pa.struct({'a': pa.int64(), 'b': pa.string()})", [{"a": 1, "b": "x"}, {"a": None, "b": None}]),
    "nulls alone": ("pa.null()", [None]),
    "UUID": ("pa.uuid()", [UUID(int=7)]),
}
FOLDERS: dict[str, Any] = {
    "007": "007",
    "12D": "12D",
    "0x10": "0x10",
    "1.50": "1.50",
    "-5": "-5",
    "true": "true",
    "null": "null",
    "A/B": "A/B",
    "50%": "50%",
    "a b": "a b",
    "a=b": "a=b",
    "Österreich": "Österreich",
    "12:30": "12:30",
    "2024-02-29": "2024-02-29",
    "2024-02-29 12:30:00": "2024-02-29 12:30:00",
}
PIPELINE = """
import datetime
from decimal import Decimal
from uuid import UUID
import pandas as pd
import pyarrow as pa
from ingestlab import Csv, Pipeline

VALUES = {values!r}

def clean(df):
    chosen = pa.array([VALUES[i] for i in df["n"]], {kind})
    return df.assign(v=pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([chosen])), index=df.index))

PIPELINE = Pipeline(reader=Csv(columns={{"n": "int64"}}), clean=clean, {more})
"""


def publish(world: World, name: str, kind: str, values: Sequence[Any], more: str = "") -> str:
    """The folder of a table with these values in the column v."""
    text = PIPELINE.format(kind=kind, values=list(values), more=more)
    (world.folder / "pipelines/small.py").write_text(text.replace(" inf", " float('inf')"))
    path = world.folder / "sources" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("n\n" + "".join(f"{i}\n" for i in range(len(values))))
    before = (world.folder / "pipelines/small.py").read_text()
    (world.folder / "pipelines/small.py").write_text(
        before.replace("Pipeline(reader", f"Pipeline(table='{name}', reader")
    )
    (outcome,) = world.ingest([path.as_uri()], run=name).outcomes
    assert outcome.status == "committed", outcome.error
    return world.store.full(f"tables/default/{name}")


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of Spark: where there is none, the test ends before it publishes anything."""
    return python_with_spark()


@pytest.fixture
def types(tmp_path, redis_url) -> dict[str, str]:
    """A folder for each type."""
    world = World(tmp_path, redis_url)
    return {name: publish(world, f"t{i}", *about) for i, (name, about) in enumerate(TYPES.items())}


@pytest.fixture
def folders(tmp_path, redis_url) -> dict[str, str]:
    """A folder for each partition value."""
    world = World(tmp_path, redis_url)
    more = 'partition_by="v"'
    return {
        name: publish(world, f"f{i}", "pa.string()", [value], more) for i, (name, value) in enumerate(FOLDERS.items())
    }


def read(reader: str, folder: str) -> list[Any] | str:
    try:
        return READERS[reader](folder)
    except Exception as error:  # noqa: BLE001 - the tool's refusal, whatever it raises
        return str(error)


def by_log(folder: str) -> list[Any]:
    """What `lab.table` gives."""
    lake, _, name = folder.partition("/tables/default/")
    return Table(open_store(lake), "default", name).arrow(["v"])["v"].to_pylist()


def cell(found: list[Any] | str, wanted: Sequence[Any]) -> str:
    """What a reader sees."""
    if isinstance(found, str):
        return "refused"
    values = [plain(value) for value in found]
    if len(values) == len(wanted) and all(same(a, plain(b)) for a, b in zip(values, wanted, strict=True)):
        return "yes"
    value = next((value for value in values if value is not None), None)
    if isinstance(value, (bool, int, float)) and len(repr(value)) <= 12:
        return f"as `{value!r}`"
    return f"as {type(value).__name__}"


def rows_of(title: str) -> dict[str, dict[str, str]]:
    """The table of the page below a heading: by its first column, cells by the name of the reader."""
    text = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert text, f"{PAGE.name} has no chapter '{title}'"
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    heads = [head.strip() for head in lines[0]]
    table = [dict(zip(heads, (part.strip() for part in line), strict=True)) for line in lines[2:]]
    return {row[heads[0]].strip("`"): row for row in table}


def compare(title: str, found: Mapping[str, Mapping[str, str]]) -> None:
    said = rows_of(title)
    wrong = {name: cells for name, cells in found.items() if cells.items() - said.get(name, {}).items()}
    assert not wrong, "\n".join(f"| {name} | " + " | ".join(cells.values()) + " |" for name, cells in found.items())


def test_four_tools_read_each_type_as_the_page_says(types):
    found = {
        name: {NAMES[reader]: cell(read(reader, folder), TYPES[name][1]) for reader in READERS}
        | {"`lab.table`": cell(by_log(folder), TYPES[name][1])}
        for name, folder in types.items()
    }
    compare("Which tool reads which type", found)


def test_four_tools_read_each_partition_value_as_the_page_says(folders):
    found = {
        name: {NAMES[reader]: cell(read(reader, folder), [FOLDERS[name]]) for reader in READERS}
        for name, folder in folders.items()
    }
    compare("Which tool reads which partition value", found)


@pytest.mark.spark
@pytest.mark.slow("Spark")
def test_spark_reads_types_and_partition_values_as_the_page_says(python, types, tmp_path, redis_url):
    world = World(tmp_path / "more", redis_url)
    places = {
        name: publish(world, f"f{i}", "pa.string()", [value], 'partition_by="v"')
        for i, (name, value) in enumerate(FOLDERS.items())
    }
    answers = by_spark(python, [*types.values(), *places.values()])
    compare("Which tool reads which type", {n: {"Spark": cell(answers[f], TYPES[n][1])} for n, f in types.items()})
    found = {n: {"Spark": cell(answers[f], [FOLDERS[n]])} for n, f in places.items()}
    compare("Which tool reads which partition value", found)
