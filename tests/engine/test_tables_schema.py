"""One schema a table: what is cast, what is refused, and how a table is brought to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import dask.dataframe as dd
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.lake import Crash, FaultInjector, World

from ingestlab.analytics.lake import Lake, Table
from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.core.models import IngestRequest, IngestResult, Source, Staged
from ingestlab.engine.ingest import ingest
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog, live_parts, manifests
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.rewrite import Rewritten, rewrite
from ingestlab.notebook.tables import LabTable

CARRIERS = 'Csv(columns={"carrier": "string", "v": "int64"})'


class Shop(World):
    """A world in which a test edits its pipeline."""

    def pipeline(self, reader: str, more: str = "", code: str = "") -> None:
        text = f"from ingestlab import *\n{code}\nPIPELINE = Pipeline(reader={reader}, {more})\n"
        (self.folder / "pipelines" / "p.py").write_text(text)

    def take(self, files: Mapping[str, str], *, pipeline: str | None = "p", table: str = "p") -> IngestResult:
        """Ingests some files as one request."""
        folder = self.folder / "sources"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        sources = tuple(Source(uri=(folder / name).as_uri()) for name in files)
        run = f"r{len(list(folder.iterdir()))}"
        request = IngestRequest(run=run, pipeline=pipeline, table=table, sources=sources)
        return ingest(request, self.context(), lambda _progress: None)

    def good(self, files: Mapping[str, str], **options: Any) -> None:
        result = self.take(files, **options)
        assert {o.status for o in result.outcomes} == {"committed"}, result.outcomes

    def refused(self, files: Mapping[str, str], **options: Any) -> str:
        """The error of files that all fail; nothing of them is published."""
        before = self.table().rows
        result = self.take(files, **options)
        assert {o.status for o in result.outcomes} == {"failed"}, result.outcomes
        assert self.table().rows == before
        return str(result.outcomes[0].exception())

    def table(self, name: str = "p") -> Table:
        return Lake(self.settings).table(name)

    def rewrite(self, types: Mapping[str, str] | None = None, faults: FaultInjector | None = None) -> Rewritten:
        return rewrite("p", self.context(faults), types=types)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    return Shop(tmp_path, redis_url)


READERS: dict[str, Callable[[Table], pd.DataFrame]] = {
    "pandas": lambda t: t.pandas(),
    "dask": lambda t: t.dask().compute(),
    "polars": lambda t: t.polars().to_pandas(),
    "duckdb": lambda t: t.duckdb().df(),
}
FOLDER: dict[str, Callable[[Table], pd.DataFrame]] = {
    "pandas": lambda t: pd.read_parquet(t.path),
    "dask": lambda t: dd.read_parquet(t.path).compute(),
    "polars": lambda t: pl.read_parquet(t.path).to_pandas(),
    "duckdb": lambda t: __import__("duckdb").sql(f"FROM '{t.path}/**/*.parquet'").df(),
}


def values(frame: pd.DataFrame, column: str) -> list[Any]:
    return sorted(None if pd.isna(v) else v for v in frame[column].tolist())


@pytest.mark.parametrize(
    "texts", [["007", "7"], ["01067", "1067"], ["0x10", "16"], ["-01", "-1"], ["1.0", "1"], ["7", "8"], ["12:30", "Ö"]]
)
def test_partition_text_is_text_for_every_reader(shop: Shop, texts: list[str]) -> None:
    groups = 'aggregates={"by_carrier": Aggregate(by="carrier", measures={"n": "count"})}'
    shop.pipeline(CARRIERS, f'partition_by="carrier", {groups}')
    shop.good({"a.csv": "carrier,v\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts))})
    for name, read in READERS.items():
        assert values(read(shop.table()), "carrier") == sorted(texts), name
    assert shop.table().pandas(where=pc.field("carrier") == texts[0])["v"].tolist() == [0]
    found = Lake(shop.settings).aggregate("p", "by_carrier")
    assert dict(zip(found["carrier"], found["n"], strict=True)) == dict.fromkeys(texts, 1)
    written = pq.read_table(Lake(shop.settings).materialize("p", "by_carrier"))
    assert sorted(written["carrier"].to_pylist()) == sorted(texts)


def test_a_table_in_a_notebook_reads_and_shows_itself(shop: Shop) -> None:
    shop.pipeline(CARRIERS, 'partition_by="carrier"')
    shop.good({"a.csv": "carrier,v\n007,1\n"})
    table = LabTable.of(shop.table())
    assert table.pandas()["carrier"].tolist() == ["007"]
    assert "carrier string" in repr(table)


@pytest.mark.parametrize("number", [7, 5_000_000_000, -3])
def test_whole_numbers_in_folders_stay_what_they_were(shop: Shop, number: int) -> None:
    shop.pipeline('Csv(columns={"n": "int64", "v": "int64"})', 'partition_by="n"')
    shop.good({"a.csv": f"n,v\n{number},1\n"})
    assert shop.table().dataset().schema.field("n").type == pa.int64()
    assert shop.table().pandas(where=pc.field("n") == number)["v"].tolist() == [1]


DAYS = 'def clean(df): return df.assign(day=df["t"].dt.date)'
TIMES = 'Csv(columns={"id": "int64", "t": "timestamp[s]"})'
EARLY, LATE = "id,t\n1,2020-01-01 00:00:00\n2,2020-01-02 00:00:00\n", "id,t\n3,2020-01-01 00:00:00\n"


@pytest.mark.parametrize(("before", "after"), [("", 'partition_by="day"'), ('partition_by="day"', "")])
def test_other_folders_are_refused_and_rewritten(shop: Shop, before: str, after: str) -> None:
    shop.pipeline(TIMES, f"clean=clean, {before}", DAYS)
    shop.good({"a.csv": EARLY})
    shop.pipeline(TIMES, f"clean=clean, {after}", DAYS)
    assert "ingestlab rewrite p" in shop.refused({"b.csv": LATE})
    done = shop.rewrite()
    assert (done.rows, done.folders) == (2, ("day",) if after else ())
    shop.good({"b.csv": LATE})
    for name, read in {**READERS, **FOLDER}.items():
        frame = read(shop.table())
        assert sorted(frame["id"].tolist()) == [1, 2, 3], name
        assert sorted({str(day)[:10] for day in frame["day"]}) == ["2020-01-01", "2020-01-02"], name
    assert shop.rewrite().before == 0
    assert reconcile(shop.context().lake).clean


@pytest.mark.parametrize(
    ("before", "after", "first", "second", "says"),
    [
        ("int64", "string", "7", "007", "int64 in column 'v'"),
        ("string", "int64", "007", "7", "string in column 'v'"),
        ("int64", "float64", "9007199254740993", "1.5", "int64 in column 'v'"),
        ("timestamp[s]", "date32", "2020-01-01 10:00:00", "2020-01-01", None),
        ("date32", "timestamp[s]", "2020-01-01", "2020-01-01 10:00:00", "date32"),
        ("int64", "float64", "7", "8.0", None),
        ("float64", "int64", "7.5", "8", None),
        ("float64", "int64", "7.5", "9007199254740993", "double in column 'v'"),
        ("bool", "int64", "true", "1", "bool in column 'v'"),
        ("timestamp[ms]", "timestamp[us]", "2020-01-01 10:00:00.001", "2020-01-01 10:00:00.000002", "timestamp[ms]"),
        ("timestamp[us]", "timestamp[ms]", "2020-01-01 10:00:00.000002", "2020-01-01 10:00:00.001", None),
        ("int32", "int64", "7", "5000000000", "int32 in column 'v'"),
        ("int64", "int32", "5000000000", "7", None),
        ("decimal128(9, 2)", "float64", "1.25", "1.5", None),
        ("decimal128(9, 2)", "float64", "1.25", "1.125", "decimal128(9, 2) in column 'v'"),
    ],
)
def test_another_type_is_cast_where_no_value_changes_or_refused(
    shop: Shop, before: str, after: str, first: str, second: str, says: str | None
) -> None:
    shop.pipeline(f'Csv(columns={{"id": "int64", "v": {_type(before)}}})', code="import pyarrow as pa")
    shop.good({"a.csv": f"id,v\n1,{first}\n"})
    kind = shop.table().dataset().schema.field("v").type
    shop.pipeline(f'Csv(columns={{"id": "int64", "v": {_type(after)}}})', code="import pyarrow as pa")
    if says is None:
        shop.good({"b.csv": f"id,v\n2,{second}\n"})
        schemas = {pq.read_schema(f"{shop.settings.lake_url}/{p.target}").field("v").type for p in shop.table().parts}
        assert schemas == {kind}
        for name, read in FOLDER.items():
            assert sorted(read(shop.table())["id"].tolist()) == [1, 2], name
        return
    error = shop.refused({"b.csv": f"id,v\n2,{second}\n"})
    assert says in error
    assert "ingestlab rewrite p" in error


def _type(name: str) -> str:
    return "pa.decimal128(9, 2)" if name.startswith("decimal") else repr(name)


def test_a_rewritten_table_takes_what_was_refused(shop: Shop) -> None:
    shop.pipeline('Csv(columns={"id": "int64", "v": "int64"})')
    shop.good({"a.csv": "id,v\n1,7\n"})
    shop.pipeline('Csv(columns={"id": "int64", "v": "float64"})')
    shop.refused({"b.csv": "id,v\n2,1.5\n"})
    assert shop.rewrite().types == {"id": "int64", "v": "double"}
    shop.good({"b.csv": "id,v\n2,1.5\n"})
    for name, read in {**READERS, **FOLDER}.items():
        assert values(read(shop.table()), "v") == [1.5, 7.0], name


def folders_of(shop: Shop) -> list[str]:
    return sorted(
        part.target.split("/")[3] for part in live_parts(manifests(shop.store, "default", "p")) if "=" in part.target
    )


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("bool", ["True", "False"]),
        ("float64", ["1.0", "2.5"]),
        ("date32", ["2024-01-01", "2024-01-02"]),
        ("timestamp[s]", ["2024-01-01 00:00:00", "2024-01-02 10:00:00"]),
    ],
)
def test_folders_of_any_type_stay_when_another_column_is_rewritten(shop: Shop, kind: str, keys: list[str]) -> None:
    shop.pipeline(f'Csv(columns={{"k": "{kind}", "v": "int64"}})', 'partition_by="k"')
    shop.good({"a.csv": "k,v\n" + "".join(f"{key},{i}\n" for i, key in enumerate(keys))})
    before = folders_of(shop)
    assert shop.rewrite({"v": "double"}).rows == 2
    assert folders_of(shop) == before
    assert sorted(shop.table().pandas()["v"].tolist()) == [0.0, 1.0]


def test_types_can_be_asked_for(shop: Shop) -> None:
    shop.pipeline('Csv(columns={"id": "int64", "v": "int64"})')
    shop.good({"a.csv": "id,v\n1,9007199254740993\n"})
    with pytest.raises(TerminalError, match="9007199254740993"):
        shop.rewrite({"v": "double"})
    with pytest.raises(TerminalError, match="has no column 'w'"):
        shop.rewrite({"w": "double"})
    with pytest.raises(TerminalError, match="an Arrow type"):
        shop.rewrite({"v": "number"})
    shop.rewrite({"v": "string"})
    assert shop.table().pandas()["v"].tolist() == ["9007199254740993"]
    shop.rewrite({"v": "int64"})
    assert shop.table().pandas()["v"].tolist() == [9007199254740993]


@pytest.mark.parametrize("drift", ["", 'schema_drift="freeze"'])
def test_what_clean_makes_has_the_types_of_the_table(shop: Shop, drift: str) -> None:
    code = 'def clean(df): return df.assign(n=df["k"].map({"a": 1, "b": 2}), f=df["k"].map({"a": True}))'
    shop.pipeline('Csv(columns={"k": "string"})', f"clean=clean, {drift}", code)
    shop.good({"a.csv": "k\na\nb\n"})
    shop.good({"b.csv": "k\na\nz\n"})
    shop.good({"c.csv": "k\nz\ny\n"})
    for name, read in {**READERS, **FOLDER}.items():
        assert len(read(shop.table())) == 6, name
    schemas = {pq.read_schema(f"{shop.settings.lake_url}/{p.target}").remove_metadata() for p in shop.table().parts}
    assert len(schemas) == 1


def test_tasks_of_one_batch_end_with_one_schema(shop: Shop) -> None:
    code = 'def clean(df): return df.assign(n=df["k"].map({"a": 1, "b": 2}))'
    sums = 'aggregates={"all": Aggregate(measures={"n": ("n", "sum")})}'
    shop.pipeline('Csv(columns={"k": "string"})', f"clean=clean, {sums}", code)
    shop.settings = shop.settings.model_copy(update={"partition_bytes": 16})
    shop.good({"a.csv": "k\nz\n", "b.csv": "k\na\nz\n", "c.csv": "k\nb\nb\n"})
    schemas = {pq.read_schema(f"{shop.settings.lake_url}/{p.target}").remove_metadata() for p in shop.table().parts}
    assert len(shop.table().parts) == 3
    assert [str(schema.field("n").type) for schema in schemas] == ["double"]
    assert Lake(shop.settings).aggregate("p", "all")["n"].tolist() == [5.0]
    assert reconcile(shop.context().lake).clean


def test_in_one_batch_the_first_type_counts_where_nothing_holds_both(shop: Shop) -> None:
    code = 'def clean(df): return df.assign(n=df["k"].astype(object) if df["k"].iloc[0] == "x" else 1)'
    shop.pipeline('Csv(columns={"k": "string"})', "clean=clean", code)
    shop.settings = shop.settings.model_copy(update={"partition_bytes": 8})
    result = shop.take({"a.csv": "k\na\n", "b.csv": "k\nx\n"})
    assert [o.status for o in result.outcomes] == ["committed", "failed"]
    assert "as other files of table p have it" in str(result.outcomes[1].exception())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("9007199254740993", "1.5", ["1.5", "9007199254740993"]),
        ("7", "1.5", [1.5, 7.0]),
        ("7", "x", ["7", "x"]),
        ("x", "7", ["7", "x"]),
        ("1.5", "9007199254740993", ["1.5", "9007199254740993"]),
        ("true", "7", ["7", "true"]),
    ],
)
def test_parts_of_several_types_are_read_without_loss(shop: Shop, first: str, second: str, expected: list[Any]) -> None:
    shop.pipeline(
        "Csv()",
        'schema_drift="evolve", aggregates={"by": Aggregate(by="v", measures={"n": "count", "top": ("v", "max")})}',
    )
    shop.good({"a.csv": f"id,v\n1,{first}\n"})
    shop.good({"b.csv": f"id,v\n2,{second}\n"})
    for name, read in {**READERS, **FOLDER}.items():
        assert values(read(shop.table()), "v") == expected, name
    assert sorted(Lake(shop.settings).aggregate("p", "by")["v"].tolist()) == expected
    shop.rewrite()
    for name, read in {**READERS, **FOLDER}.items():
        assert values(read(shop.table()), "v") == expected, name


GENERIC: list[tuple[str, str, str, str, list[Any]]] = [
    ("csv", "7", "0.5", "double", [0.5, 7.0]),
    ("csv", "7", "x", "string", ["7", "x"]),
    ("csv", "true", "7", "string", ["7", "true"]),
    ("csv", "7", "007", "string", ["007", "7"]),
    ("csv", "1.5", "9007199254740993", "string", ["1.5", "9007199254740993"]),
    ("jsonl", "7", "0.5", "double", [0.5, 7.0]),
    ("jsonl", "7", '"x"', "string", ["7", "x"]),
]


def row(kind: str, number: int, value: str) -> str:
    return f"id,v\n{number},{value}\n" if kind == "csv" else f'{{"id": {number}, "v": {value}}}\n'


@pytest.mark.parametrize(("kind", "first", "second", "wide", "expected"), GENERIC)
def test_without_declared_columns_a_table_has_one_type(
    shop: Shop, kind: str, first: str, second: str, wide: str, expected: list[Any]
) -> None:
    shop.good({f"a.{kind}": row(kind, 1, first)}, pipeline=None)
    error = shop.refused({f"b.{kind}": row(kind, 2, second)}, pipeline=None)
    assert "in column 'v'" in error
    assert f"ingestlab rewrite p --type {quote(f'v={wide}')}" in error
    shop.rewrite({"v": wide})
    shop.good({f"b.{kind}": row(kind, 2, second)}, pipeline=None)
    for name, read in {**READERS, **FOLDER}.items():
        assert values(read(shop.table()), "v") == expected, name


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize(
    ("kind", "first", "second", "wide", "expected"), [g for g in GENERIC if g[2] != "9007199254740993"]
)
def test_without_declared_columns_files_of_one_job_are_widened(
    shop: Shop, size: int, kind: str, first: str, second: str, wide: str, expected: list[Any]
) -> None:
    shop.settings = shop.settings.model_copy(update={"partition_bytes": size})
    shop.good({f"a.{kind}": row(kind, 1, first), f"b.{kind}": row(kind, 2, second)}, pipeline=None)
    for name, read in {**READERS, **FOLDER}.items():
        assert values(read(shop.table()), "v") == expected, name


def test_one_file_that_does_not_fit_fails_alone(shop: Shop) -> None:
    shop.good({"a.csv": "id,v\n1,7\n"}, pipeline=None)
    files = {"b.csv": "id,v\n2,8\n", "c.csv": "id,v\n3,0.5\n", "d.csv": "id,v\n4,9.0\n", "e.csv": "id\n5\n"}
    result = shop.take(files, pipeline=None)
    assert [o.status for o in result.outcomes] == ["committed", "failed", "committed", "committed"]
    for name, read in {**READERS, **FOLDER}.items():
        frame = read(shop.table())
        assert sorted(frame["id"].tolist()) == [1, 2, 4, 5], name
        assert sorted(frame["v"].dropna().tolist()) == [7, 8, 9], name


@pytest.mark.parametrize("size", [1, 10**6])
def test_files_of_one_job_whose_names_differ_by_case_are_not_all_refused(shop: Shop, size: int) -> None:
    shop.settings = shop.settings.model_copy(update={"partition_bytes": size})
    files = {"a.csv": "id,Day\n1,x\n", "b.csv": "id,day\n2,y\n", "c.csv": "id,Day,w\n3,z,1\n"}
    result = shop.take(files, pipeline=None)
    assert [o.status for o in result.outcomes] == ["committed", "failed", "committed"]
    assert "'Day' and 'day'" in str(result.outcomes[1].exception())


def test_files_of_one_job_that_nothing_holds_together_say_so(shop: Shop) -> None:
    files = {"a.jsonl": '{"id": 1, "v": {"a": 1}}\n', "b.jsonl": '{"id": 2, "v": 3}\n'}
    result = shop.take(files, pipeline=None)
    assert {o.status for o in result.outcomes} == {"failed"}
    assert "struct<a: int64> in column 'v'" in str(result.outcomes[0].exception())
    assert "one after the other" in str(result.outcomes[0].exception())


@pytest.mark.parametrize("how", ["no pipeline", "evolve"])
def test_objects_and_lists_may_have_more_names(shop: Shop, how: str) -> None:
    options: dict[str, Any] = {"pipeline": None} if how == "no pipeline" else {}
    shop.pipeline("JsonLines()", 'schema_drift="evolve"')
    shop.good({"a.jsonl": '{"id": 1, "o": {"a": 1.5}, "l": []}\n'}, **options)
    shop.good({"b.jsonl": '{"id": 2, "o": {"a": 1, "b": 2}, "l": ["x"]}\n'}, **options)
    shop.settings = shop.settings.model_copy(update={"partition_bytes": 1})
    both = {"c.jsonl": '{"id": 3, "o": {"c": 1}}\n', "d.jsonl": '{"id": 4, "o": {"d": 2}, "n": {"x": 0.5}}\n'}
    shop.good({**both, "e.jsonl": '{"id": 5, "n": {"x": 1}}\n'}, **options)
    for line in ('"id": 6, "o": 7', '"id": 6, "o": {"a": "x"}', '"id": 6, "l": [{"x": 1}]', '"id": {"x": 1}'):
        assert "as table p has it" in shop.refused({"f.jsonl": f"{{{line}}}\n"}, **options), line
    for name, read in {n: READERS[n] for n in ("pandas", "polars", "duckdb")}.items():
        found = {r["id"]: r for r in read(shop.table()).to_dict("records")}
        assert sorted(found) == [1, 2, 3, 4, 5], name
        assert [found[n]["o"]["a"] for n in (1, 2)] == [1.5, 1.0], name
        assert [found[n]["n"]["x"] for n in (4, 5)] == [0.5, 1.0], name
        assert list(found[2]["l"]) == ["x"], name
    assert reconcile(shop.context().lake).clean


def test_two_undeclared_jobs_in_a_new_table_agree(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other job commits while this one works."""
    import ingestlab.engine.ingest as stage

    real = stage.process_all

    def slowly(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(stage, "process_all", real)
        found = real(*args, **options)
        shop.good({"b.csv": "id,v\n2,0.5\n"}, pipeline=None)
        return found

    monkeypatch.setattr(stage, "process_all", slowly)
    with pytest.raises(BusySourceError, match="have changed since the job began"):
        shop.take({"a.csv": "id,v\n1,7\n"}, pipeline=None)
    shop.good({"a.csv": "id,v\n1,7\n"}, pipeline=None)
    for name, read in FOLDER.items():
        assert values(read(shop.table()), "v") == [0.5, 7.0], name


@pytest.mark.parametrize(
    ("word", "rows", "rules"),
    [("discard_row", [1, 3], {"n:drift": 1}), ("discard_value", [1, 2, 3], {"n:discarded": 1})],
)
def test_the_drift_word_says_what_becomes_of_values_that_clean_makes(
    shop: Shop, word: str, rows: list[int], rules: dict[str, int]
) -> None:
    for name, made, text in (("a.csv", 'df["k"]', "1,2\n"), ("b.csv", 'df["k"] / 2', "3,2\n2,3\n")):
        code = f"def clean(df): return df.assign(n={made})"
        shop.pipeline('Csv(columns={"id": "int64", "k": "int64"})', f'clean=clean, schema_drift="{word}"', code)
        result = shop.take({name: f"id,k\n{text}"})
        assert result.outcomes[0].status == "committed"
    assert sorted(shop.table().pandas()["id"].tolist()) == rows
    assert result.rules == rules


@pytest.mark.parametrize(
    ("header", "options"),
    [("ID,id", ""), ("Day,day", ""), ("_SOURCE,x", ""), ("_Row,x", "")],
)
def test_columns_that_differ_by_case_alone_are_refused(shop: Shop, header: str, options: str) -> None:
    shop.pipeline('Csv(columns={"id": "int64"})')
    shop.good({"z.csv": "id\n1\n"})
    assert "letter case" in shop.refused({"a.csv": f"{header}\n1,2\n"}, pipeline=None)


def test_case_is_compared_with_the_table_and_with_folders(shop: Shop) -> None:
    shop.pipeline('Csv(columns={"id": "int64", "Day": "string"})')
    shop.good({"a.csv": "id,Day\n1,Mon\n"})
    shop.pipeline('Csv(columns={"id": "int64", "day": "string"})')
    assert "'Day' and 'day'" in shop.refused({"b.csv": "id,day\n1,Mon\n"})
    shop.pipeline('Csv(columns={"id": "int64", "Day": "string"})', 'table="q", partition_by="day", clean=clean', CASED)
    result = shop.take({"c.csv": "id,Day\n1,Mon\n"})
    assert "letter case" in str(result.outcomes[0].exception())


CASED = 'def clean(df): return df.assign(day="2020-01-01")'


def test_two_jobs_in_a_new_table_agree_or_one_begins_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other job commits while this one works."""
    shop.pipeline('Csv(columns={"id": "int64", "v": "int64"})')
    other = Shop.take
    import ingestlab.engine.ingest as stage

    real, done = stage.process_all, []

    def slowly(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        if not done:
            done.append(1)
            shop.pipeline('Csv(columns={"id": "int64", "v": "string"})')
            other(shop, {"b.csv": "id,v\n2,007\n"})
        return found

    monkeypatch.setattr(stage, "process_all", slowly)
    with pytest.raises(BusySourceError, match="have changed since the job began"):
        shop.take({"a.csv": "id,v\n1,7\n"})
    assert shop.table().pandas()["v"].tolist() == ["007"]
    assert reconcile(shop.context().lake).clean
    shop.pipeline('Csv(columns={"id": "int64", "v": "int64"})')
    assert "string in column 'v'" in shop.refused({"a.csv": "id,v\n1,7\n"})


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_step_of_a_rewriting_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, after: bool
) -> None:
    step, burnt = 0, True
    while burnt:
        step += 1
        shop = Shop(tmp_path_factory.mktemp("rewrite"), redis_url)
        shop.pipeline(TIMES, "clean=clean", DAYS)
        shop.good({"a.csv": EARLY, "b.csv": LATE})
        shop.pipeline(TIMES, 'clean=clean, partition_by="day"', DAYS)
        faults = FaultInjector(step, after=after)
        try:
            shop.rewrite(faults=faults)
            burnt = False
        except Crash:
            reconcile(shop.context().lake)
        assert sorted(shop.table().pandas()["id"].tolist()) == [1, 2, 3], step
        shop.rewrite()
        assert {p.target.split("/")[-2] for p in shop.table().parts} == {"day=2020-01-01", "day=2020-01-02"}
        assert sorted(shop.table().pandas()["id"].tolist()) == [1, 2, 3], step
        assert reconcile(shop.context().lake).clean, step
    assert step > 5


def test_tables_of_earlier_versions_are_read_and_rewritten(shop: Shop) -> None:
    """Their manifests say nothing of types, and their parts may lie in folders and beside them."""
    shop.pipeline(TIMES, "clean=clean", DAYS)
    shop.good({"a.csv": EARLY})
    _forget(shop)
    shop.pipeline(TIMES, 'clean=clean, partition_by="day", table="q"', DAYS)
    shop.good({"b.csv": LATE})
    _mix(shop)
    for name, read in READERS.items():
        frame = read(shop.table())
        assert sorted(zip(frame["id"], frame["day"], strict=True)) == [
            (1, "2020-01-01"),
            (2, "2020-01-02"),
            (3, "2020-01-01"),
        ], name
    shop.pipeline(TIMES, 'clean=clean, partition_by="day"', DAYS)
    shop.rewrite()
    for name, read in {**READERS, **FOLDER}.items():
        assert sorted(read(shop.table())["id"].tolist()) == [1, 2, 3], name


def _forget(shop: Shop, table: str = "p") -> None:
    for manifest in manifests(shop.store, "default", table):
        body = manifest.model_copy(update={"types": {}}).model_dump_json().encode()
        shop.store.write(layout.entry("default", table, manifest.sequence), body)
    shop.context().lake.index("default", table).forget_schema()


def _mix(shop: Shop) -> None:
    """Moves the table q into p."""
    for manifest in manifests(shop.store, "default", "q"):
        parts = []
        for part in manifest.parts:
            target = part.target.replace("/q/", "/p/")
            shop.store.move(part.target, target)
            parts.append(part.model_copy(update={"target": target}))
        changed = {"types": {}, "table": "p", "sinks": {"parquet": Staged(files=tuple(parts))}, "profile": ()}
        log = TransactionLog(shop.store, "default", "p")
        log.append(manifest.model_copy(update=changed), log.tip())
