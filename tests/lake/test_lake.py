"""Reading tables: every tool finds the same rows, and only those that a manifest names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.lake import Inline, World

from ingestlab.analytics.lake import Lake, Table
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.maintenance.reconcile import reconcile

DAYS = """
from ingestlab import Csv, Pipeline

def clean(df):
    return df.assign(day=df["at"].dt.date, tens=df["n"] // 10)

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "at": "timestamp[ms]", "word": "string"}),
    clean=clean,
    partition_by=["day", "tens"],
    write_disposition="replace",
)
"""
FILES = {
    "a.csv": "n,at,word\n1,2017-10-23 01:00:00,one\n12,2017-10-23 02:00:00,\nx,2017-10-23 03:00:00,bad\n",
    "b.csv": 'n,at,word\n3,2017-10-24 01:00:00,"a, ""b"""\n4,,null day\n',
}
ROWS = [(1, "one", "2017-10-23", 0), (3, 'a, "b"', "2017-10-24", 0), (12, None, "2017-10-23", 1)]


class Shop(World):
    """A world whose pipelines and files a test writes itself."""

    def pipeline(self, name: str, text: str) -> None:
        (self.folder / "pipelines" / f"{name}.py").write_text(text)

    def take(
        self,
        files: Mapping[str, str],
        *,
        pipeline: str | None = None,
        table: str = "t",
        run: str = "r1",
        tenant: str = "default",
    ) -> IngestResult:
        """Writes files, and ingests them as one request."""
        folder = self.folder / "sources"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        sources = tuple(Source(uri=(folder / name).as_uri()) for name in files)
        request = IngestRequest(run=run, pipeline=pipeline, table=table, tenant=tenant, sources=sources)
        context = Services(self.settings, self.store, self.locks, Inline())  # type: ignore[arg-type]
        result = ingest(request, context, lambda _progress: None)
        assert {o.status for o in result.outcomes} == {"committed"}, result.outcomes
        return result

    def table(self, name: str = "t") -> Table:
        return Lake(self.settings).table(name)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    return Shop(tmp_path, redis_url)


@pytest.fixture
def days(shop: Shop) -> Table:
    """A table in folders of days and tens."""
    shop.pipeline("days", DAYS)
    shop.take(FILES, pipeline="days")
    return shop.table("days")


def rows(frame: pd.DataFrame, columns: Iterable[str] = ("n", "word", "day", "tens")) -> list[tuple[Any, ...]]:
    """A frame of any kind as plain rows, partition columns as text and number."""
    plain = frame[list(columns)].astype(object)
    plain = plain.where(plain.notna(), None)
    if "day" in plain:
        plain["day"] = plain["day"].map(lambda day: str(day)[:10])
    if "tens" in plain:
        plain["tens"] = plain["tens"].map(int)
    return sorted(plain.itertuples(index=False, name=None))


READERS: dict[str, Callable[[Table], pd.DataFrame]] = {
    "pandas": lambda t: t.pandas(),
    "arrow": lambda t: t.arrow().to_pandas(),
    "dask": lambda t: t.dask().compute(),
    "polars": lambda t: t.polars().to_pandas(),
    "duckdb": lambda t: t.duckdb().df(),
    "pd.read_parquet": lambda t: pd.read_parquet(t.path),
    "pd.read_parquet on Arrow": lambda t: pd.read_parquet(t.path, dtype_backend="pyarrow"),
    "dd.read_parquet": lambda t: dd.read_parquet(t.path).compute(),
    "pl.read_parquet": lambda t: pl.read_parquet(t.path).to_pandas(),
    "pl.scan_parquet": lambda t: pl.scan_parquet(t.path).collect().to_pandas(),
    "pq.read_table": lambda t: pq.read_table(t.path).to_pandas(),
    "duckdb's read_parquet": lambda t: import_module("duckdb").sql(f"FROM '{t.path}/**/*.parquet'").df(),
}
OWN = [name for name in ("pandas", "arrow", "dask", "polars", "duckdb") if name != "duckdb" or find_spec("duckdb")]


@pytest.mark.parametrize("reader", READERS)
def test_every_tool_reads_the_same_rows(days: Table, reader: str) -> None:
    if "duckdb" in reader:
        pytest.importorskip("duckdb")
    frame = READERS[reader](days)
    assert rows(frame) == ROWS
    where = sorted((str(source)[-5:], int(row)) for source, row in zip(frame["_source"], frame["_row"], strict=True))
    assert where == [("a.csv", 0), ("a.csv", 1), ("b.csv", 0)]


def test_partition_columns_are_whole_numbers_as_published_or_text(days: Table) -> None:
    schema = days.dataset().schema
    assert (schema.field("day").type, schema.field("tens").type) == (pa.string(), pa.int64())
    assert str(days.dask().dtypes["tens"]) == str(days.pandas().dtypes["tens"]) == "int64[pyarrow]"


def test_columns_and_conditions_are_pushed_down_to_the_files(days: Table) -> None:
    assert days.pandas(["n"]).columns.tolist() == ["n"]
    assert rows(days.pandas(where=pc.field("n") > 2)) == ROWS[1:]
    assert days.arrow(["word"], pc.field("day") == "2017-10-24").to_pylist() == [{"word": 'a, "b"'}]
    gone = next(p for p in days.parts if "tens=1" in p.target)
    days._store.delete(gone.target)
    assert rows(days.pandas(where=pc.field("tens") == 0)) == ROWS[:2], "a part that cannot match is not opened"


def test_a_row_without_a_folder_is_a_reject(days: Table, shop: Shop) -> None:
    """A folder for null is what neither pandas nor Dask can read."""
    (reject,) = Lake(shop.settings).rejects("days", rule="not_nullable").to_dict("records")
    assert [reject[name] for name in ("row", "column", "raw")] == [1, "day", "4,,null day"]


def test_facts_about_a_table(days: Table, shop: Shop) -> None:
    assert days.rows == 3
    assert days.bytes == sum(p.stat().st_size for p in Path(days.path).rglob("*.parquet"))
    assert repr(days) == f"<Table days: 3 rows in 3 parts, {days.bytes:,} bytes>"
    assert [t.name for t in Lake(shop.settings).tables()] == ["days"]
    assert [m.run for m in days.manifests] == ["r1"]


def test_replaced_parts_are_not_read(days: Table, shop: Shop) -> None:
    shop.take({"a.csv": "n,at,word\n5,2017-10-23 01:00:00,five\n"}, pipeline="days", run="r2")
    assert [row[0] for row in rows(shop.table("days").pandas())] == [3, 5]
    assert [row[0] for row in rows(pd.read_parquet(days.path))] == [3, 5]
    assert Lake(shop.settings).rejects("days")["source"].map(lambda uri: uri[-5:]).tolist() == ["b.csv"]


def test_a_file_that_no_manifest_names_is_not_read(days: Table, shop: Shop) -> None:
    """Such as one that a commit has published but not yet finished."""
    part = Path(shop.store.full(days.parts[0].target))
    part.with_name("stray.parquet").write_bytes(part.read_bytes())
    assert rows(shop.table("days").pandas()) == ROWS
    assert len(reconcile(shop.context().lake).orphans) == 1


def test_rejects_are_found_by_run_and_rule(shop: Shop) -> None:
    shop.take({"a.csv": "n,word\n13,x\n5000,y\nz,z\n1,ok\n"}, pipeline="small", run="r1")
    shop.take({"b.csv": "n,word\n13,x\n1,ok\n"}, pipeline="small", run="r2")
    lake = Lake(shop.settings)

    def found(**filters: str) -> list[tuple[str, int, str]]:
        frame = lake.rejects("small", **filters)
        return sorted(zip(frame["run"], frame["row"], frame["rule"], strict=True))

    assert found() == [("r1", 0, "clean"), ("r1", 1, "less_than"), ("r1", 2, "type"), ("r2", 0, "clean")]
    assert found(run="r2") == [("r2", 0, "clean")]
    assert found(rule="clean") == [("r1", 0, "clean"), ("r2", 0, "clean")]
    assert found(run="r1", rule="clean") == [("r1", 0, "clean")]
    assert found(run="r9") == []
    assert lake.table("small__rejects").rows == 4


def test_a_table_without_rejects_has_an_empty_frame_of_them(shop: Shop) -> None:
    shop.take({"a.csv": "n,word\n1,x\n"}, pipeline="small")
    rejects = Lake(shop.settings).rejects("small")
    assert len(rejects) == 0
    assert rejects["rule"].value_counts().to_dict() == {}


@pytest.mark.parametrize("name", ["nothing", "", "../days", "days/", "days__rejects__rejects"])
def test_an_unknown_table_is_told_which_there_are(days: Table, shop: Shop, name: str) -> None:
    for ask in (Lake(shop.settings).table, Lake(shop.settings).rejects):
        with pytest.raises(TerminalError, match=r"a table of tenant default \(days\); got '"):
            ask(name)


def test_an_empty_lake_has_no_tables(shop: Shop) -> None:
    assert Lake(shop.settings).tables() == []
    with pytest.raises(TerminalError, match="none yet"):
        shop.table()


def test_a_table_of_which_all_rows_were_rejected_is_empty(shop: Shop) -> None:
    shop.take({"a.csv": "n,word\n13,x\n"}, pipeline="small")
    table = shop.table("small")
    assert table.rows == len(table.pandas()) == len(table.dask().compute()) == len(table.polars()) == 0
    assert table.pandas().columns.tolist() == ["_source", "_row"]
    assert table.pandas(["_row"], pc.field("_row") > 0).empty
    if "duckdb" in OWN:
        assert table.duckdb().fetchall() == []


def test_parts_with_different_columns_and_numbers_are_read_together(shop: Shop) -> None:
    shop.take({"b.csv": "y,n\nz,1.5\n"})
    shop.take({"a.csv": "n,x\n1,2\n"}, run="r2")
    expected = [(1.0, 2, None), (1.5, None, "z")]
    for read in OWN:
        assert rows(READERS[read](shop.table()), ("n", "x", "y")) == expected, read
    assert rows(shop.table().pandas(["y"], pc.field("n") > 1), ["y"]) == [("z",)]


def test_parts_whose_types_have_nothing_in_common_are_read_as_text(shop: Shop) -> None:
    shop.take({"a.csv": "n,x\n1,2\n", "b.csv": "n,x\ntext,3\n", "c.csv": "n,x\ntrue,4\n"})
    shop.take({"d.csv": "n,x\n,5\n"}, run="r2")
    for read in OWN:
        found = rows(READERS[read](shop.table()), ("x", "n"))
        assert found == [(2, "1"), (3, "text"), (4, "true"), (5, None)], read


def test_tenants_do_not_see_each_other(shop: Shop) -> None:
    shop.settings = shop.settings.model_copy(update={"tenants": ("default", "acme")})
    shop.take({"a.csv": "n,word\n1,x\n13,x\n"}, pipeline="small")
    shop.take({"a.csv": "n,word\n2,x\n"}, pipeline="small", tenant="acme", run="r2")
    ours, theirs = Lake(shop.settings), Lake(shop.settings, "acme")
    assert ours.table("small").pandas()["n"].tolist() == [1]
    assert theirs.table("small").pandas()["n"].tolist() == [2]
    assert (len(ours.rejects("small")), len(theirs.rejects("small"))) == (1, 0)
    shop.take({"b.csv": "n\n1\n"}, table="private", tenant="acme", run="r3")
    with pytest.raises(TerminalError, match=r"a table of tenant default \(small\); got 'private'"):
        ours.table("private")
    with pytest.raises(TerminalError, match="'evil': expected one of the tenants default, acme"):
        Lake(shop.settings, "evil")
