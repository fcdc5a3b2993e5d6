"""A small lake that is published in catalogues, and how their own tools read it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyiceberg.catalog import Catalog, load_catalog
from s3fs import S3FileSystem

from ingestlab.analytics.lake import Table
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.reconcile import Report, reconcile
from support.lake import World

PIPELINE = """
from ingestlab import Csv, Pipeline

def clean(df):
    return df.assign(part=df["word"].str.upper())

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    clean=clean,
    partition_by="part",
    write_disposition="replace",
    publish_as=["CATALOGUE"],
)
"""
HIVE = {"bigint": pa.int64(), "string": pa.string(), "double": pa.float64()}


class Published(World):
    """A lake whose table `small` is in a catalogue."""

    def __init__(self, folder: Path, redis_url: str, catalogue: str, **settings: Any) -> None:
        super().__init__(folder, redis_url, **settings)
        self.catalogue = catalogue
        self.s3 = settings.get("storage_options", {}).get("s3", {})
        self.declare(PIPELINE)

    def declare(self, text: str) -> None:
        """Writes the pipeline."""
        (self.folder / "pipelines/small.py").write_text(text.replace("CATALOGUE", self.catalogue))

    def write(self, name: str, rows: Mapping[int, str]) -> str:
        """Writes a source file of numbers and words."""
        path = self.folder / "sources" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("n,word\n" + "".join(f"{n},{word}\n" for n, word in rows.items()))
        return path.as_uri()

    def repair(self) -> Report:
        """Runs `reconcile`."""
        return reconcile(self.context().lake)

    def merge(self) -> None:
        """Runs `compact`."""
        compact("small", self.context())

    def sink(self) -> Any:
        """The catalogue's sink."""
        return self.context().lake.sinks[self.catalogue]

    def live(self) -> Counter[tuple[Any, ...]]:
        """Rows of the live data files by the log: number, word, folder."""
        return rows_in(Table(self.store, "default", "small").arrow())

    def client(self) -> Any:
        """Glue, as another program asks it."""
        return self.sink().opened("default", "small")._client

    def glue(self) -> pa.Table:
        """The table as Athena finds it: the files in the folders that Glue names, with the types that it names."""
        where = {"DatabaseName": self.settings.glue_database}
        entry = self.client().get_table(**where, Name="small")["Table"]
        place = entry["StorageDescriptor"]
        columns, keys = (
            {c["Name"]: HIVE[c["Type"]] for c in some} for some in (place["Columns"], entry["PartitionKeys"])
        )
        found = self.client().get_partitions(**where, TableName="small")["Partitions"]
        folders = {p["StorageDescriptor"]["Location"]: p["Values"] for p in found} if keys else {place["Location"]: []}
        tables = [pa.schema({**columns, **keys}).empty_table()]
        files = S3FileSystem(**self.s3, use_listings_cache=False)
        for folder, values in folders.items():
            for path in files.find(folder):
                table = pq.ParquetFile(files.open(path)).read()
                read = {name: pa.nulls(len(table), kind) for name, kind in columns.items()}
                read |= {name: table[name].cast(columns[name]) for name in table.column_names}
                for (name, kind), value in zip(keys.items(), values, strict=True):
                    read[name] = pa.repeat(pa.scalar(value).cast(kind), len(table))
                tables.append(pa.table(read).select(tables[0].column_names))
        return pa.concat_tables(tables)

    def delta(self, version: int | None = None) -> DeltaTable:
        """The table as deltalake opens it."""
        return DeltaTable(self.store.full("tables/default/small"), version=version)

    def catalog(self) -> Catalog:
        """The catalogue of Iceberg beside the lake."""
        folder = Path(self.store.full("iceberg"))
        folder.mkdir(exist_ok=True)
        return load_catalog("ingestlab", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())

    def iceberg(self) -> Any:
        """The table as pyiceberg opens it."""
        return self.catalog().load_table("default.small")

    def read(self) -> dict[str, pa.Table]:
        """The table as each tool reads it from the catalogue."""
        if self.catalogue == "glue":
            return {"glue": self.glue()}
        if self.catalogue == "iceberg":
            table = self.iceberg()
            found = {"pyiceberg": table.scan().to_arrow(), "polars": pl.scan_iceberg(table).collect().to_arrow()}
        else:
            opened = self.delta()
            scanned = pl.scan_delta(self.store.full("tables/default/small")).collect()
            found = {"deltalake": opened.to_pyarrow_table(), "polars": scanned.to_arrow()}
        first = next(iter(found.values()))  # noqa: F841 - DuckDB finds it by its name
        return found | {"duckdb": duckdb.sql("FROM first").to_arrow_table()}

    def any(self) -> pa.Table:
        """The table as one tool reads it from the catalogue."""
        return next(iter(self.read().values()))

    def theirs(self) -> bool:
        """Whether the entry is that of another program still: its only column is `theirs`."""
        if self.catalogue != "glue":
            return self.any().column_names == ["theirs"]
        entry = self.client().get_table(DatabaseName=self.settings.glue_database, Name="small")["Table"]
        return [column["Name"] for column in entry["StorageDescriptor"]["Columns"]] == ["theirs"]

    def agree(self) -> None:
        """Every tool reads the live rows from the catalogue."""
        wanted = self.live()
        for tool, table in self.read().items():
            assert rows_in(table) == wanted, tool


def in_glue(folder: Path, redis_url: str, s3: dict[str, Any]) -> Published:
    """A lake in S3 whose table is in Glue, in a database of its own."""
    name = f"catalogues{uuid.uuid4().hex}"
    S3FileSystem(**s3).call_s3("create_bucket", Bucket=name)
    options = {"s3": s3, "glue": {"endpoint_url": s3["client_kwargs"]["endpoint_url"], "region_name": "us-east-1"}}
    lake = {"lake": f"s3://{name}/lake", "storage_options": options, "glue_database": name}
    return Published(folder, redis_url, "glue", **lake)


def rows_in(table: pa.Table) -> Counter[tuple[Any, ...]]:
    """Rows of a table without their order; columns by name."""
    names = [name for name in ("n", "word", "part", "extra") if name in table.column_names]
    return Counter(tuple(row[name] for name in names) for row in table.select(names).to_pylist())
