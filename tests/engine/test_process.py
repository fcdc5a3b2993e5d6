"""The task that Dask runs: every source row comes out published or rejected, whatever a file or a pipeline does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.errors import IngestError
from ingestlab.core.models import DataFile, FetchedFile, Partition, Piece, Receipt, Tally
from ingestlab.engine.task import process
from ingestlab.engine.task.rejects import REJECTS
from ingestlab.lake import layout
from ingestlab.lake.data_files import MAX_FOLDERS, read_part
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import PipelineSource, load

HEADER = "n,word\n"
MESSY = """
import pandas as pd
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

def clean(df):
    df = df[~df["n"].eq(13).fillna(False)]
    return df.loc[df.index.repeat(df["n"].eq(7).fillna(False).astype("int64") + 1)]

Small = pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(1000)), "word": pa.Column(nullable=True)})

READER = Csv(columns={"n": "int64", "word": "string"})
PIPELINE = Pipeline(reader=READER, clean=clean, contract=Small, max_reject_ratio=1)
"""
START = """
import pandas as pd
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

READER = Csv(columns={"n": "int64", "word": "string"})
"""
# The record's text; how often it is published; else the rule and column by which it is rejected.
KINDS: Sequence[tuple[str, int, tuple[str, str | None] | None]] = (
    ("1,one", 1, None),
    ("-5,", 1, None),
    ("999,NA", 1, None),
    ('2,"a ""quoted"", word"', 1, None),
    ('3,"two\nlines"', 1, None),
    ("7,seven", 2, None),
    ("13,unlucky", 0, ("clean", None)),
    ("1000,large", 0, ("less_than", "n")),
    ("x,bad", 0, ("type", "n")),
    (",null", 0, ("not_nullable", "n")),
    ("1,too,many", 0, ("columns", None)),
    ("few", 0, ("columns", None)),
)


def _as_wide_as_the_header(records: Sequence[tuple[str, int, tuple[str, str | None] | None]]) -> bool:
    """Whether enough records are: a header that nearly none fits fails its file."""
    return sum(fault == ("columns", None) for _, _, fault in records) <= len(records) / 2


RECORDS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=12).filter(_as_wide_as_the_header)
MANY = st.lists(st.sampled_from(KINDS), min_size=1, max_size=40).filter(_as_wide_as_the_header)
SOME = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Done(NamedTuple):
    """What the task made of some pieces."""

    receipt: Receipt
    table: pa.Table
    rejects: pa.Table

    @property
    def published(self) -> Counter[tuple[str, int]]:
        """How often each source row was published."""
        return Counter(zip(self.table["_source"].to_pylist(), self.table["_row"].to_pylist(), strict=True))

    @property
    def rejected(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The reject of each source row."""
        rows = {(r["source"], r["row"]): r for r in self.rejects.to_pylist()}
        assert len(rows) == self.rejects.num_rows, "a source row is rejected once"
        return rows

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The published rows in the order of their sources."""
        return sorted(self.table.to_pylist(), key=lambda r: (r["_source"], r["_row"], str(r)))


class Bench:
    """A lake in a folder, and the task on it."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(str(folder))
        self.folder = folder
        (folder / "raw").mkdir(parents=True, exist_ok=True)

    def put(self, files: Mapping[str, str | bytes]) -> list[Piece]:
        """Writes raw files; gives each as one piece."""
        pieces = []
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (self.folder / "raw" / name).write_bytes(data)
            pieces.append(Piece(uri=f"file:///{name}", path=f"raw/{name}", name=name, sha256=name.ljust(64, "0")))
        return pieces

    def job(self, text: str) -> process.Job:
        source = PipelineSource(name="p", origin="p.py", text=text)
        return process.Job(run="r", batch="b", tenant="default", table="p", pipeline=source, lake=self.store.url)

    def process(self, pieces: Sequence[Piece], text: str) -> Done:
        job, partition = self.job(text), Partition(number=0, pieces=tuple(pieces))
        receipt = process.process(partition, job, load(job.pipeline), self.store, self.store)
        nothing = pa.table({"_source": pa.array([], pa.string()), "_row": pa.array([], pa.int64())})
        table, rejects = self.read(receipt.parts, "p"), self.read(receipt.rejects, "p__rejects")
        return Done(receipt, nothing if table is None else table, REJECTS.empty_table() if rejects is None else rejects)

    def read(self, parts: Sequence[DataFile], name: str) -> pa.Table | None:
        """The rows of staged parts."""
        tables = [read_part(self.store, f"tables/default/{name}", part, part.staged) for part in parts]
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    def run(self, text: str, **files: str) -> Done:
        """Files as one partition; ``a="1,x\\n"`` is a.csv without its header."""
        return self.process(self.put({f"{name}.csv": HEADER + rows for name, rows in files.items()}), text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def content(records: Sequence[tuple[str, int, Any]]) -> str:
    return HEADER + "".join(f"{text}\n" for text, _, _ in records)


def error_of(done: Done, name: str = "a") -> str:
    """The error of a file that failed; nothing of it is published or rejected."""
    uri = f"file:///{name}.csv"
    assert uri not in done.receipt.tallies
    assert not [key for key in (*done.published, *done.rejected) if key[0] == uri]
    return str(IngestError.from_dict(done.receipt.errors[uri]))


@SOME
@given(files=st.lists(RECORDS, min_size=1, max_size=4))
def test_every_source_row_is_published_or_rejected_with_its_reason(tmp_path: Path, files: list[Any]) -> None:
    bench = Bench(tmp_path)
    done = bench.process(bench.put({f"{i}.csv": content(records) for i, records in enumerate(files)}), MESSY)
    numbered = [(i, row, kind) for i, records in enumerate(files) for row, kind in enumerate(records)]
    everything = [((f"file:///{i}.csv", row), *kind) for i, row, kind in numbered]
    assert done.published == Counter({key: times for key, _, times, _ in everything if times})
    assert {key: (r["rule"], r["column"], r["raw"]) for key, r in done.rejected.items()} == {
        key: (*why, text) for key, text, _, why in everything if why
    }
    for i, records in enumerate(files):
        out = sum(times for _, times, _ in records)
        accepted = sum(times > 0 for _, times, _ in records)
        expected = Tally(rows_in=len(records), accepted=accepted, rejected=len(records) - accepted, out=out)
        assert done.receipt.tallies[f"file:///{i}.csv"] == expected
        assert expected.balanced


@SOME
@given(files=st.lists(RECORDS, min_size=2, max_size=4))
def test_a_file_gives_the_same_alone_as_among_others(tmp_path: Path, files: list[Any]) -> None:
    bench = Bench(tmp_path)
    pieces = bench.put({f"{i}.csv": content(records) for i, records in enumerate(files)})
    together = bench.process(pieces, MESSY)
    alone = [bench.process([piece], MESSY) for piece in pieces]
    assert together.rows == [row for one in alone for row in one.rows]
    assert together.rejected == {key: row for one in alone for key, row in one.rejected.items()}
    assert together.receipt.tallies == {uri: t for one in alone for uri, t in one.receipt.tallies.items()}
    assert together.receipt.rules == dict(sum((Counter(one.receipt.rules) for one in alone), Counter()))


@SOME
@given(records=MANY, size=st.integers(8, 200))
def test_the_pieces_of_a_file_give_the_same_as_the_whole(tmp_path: Path, records: list[Any], size: int) -> None:
    bench = Bench(tmp_path)
    data = content(records).encode()
    (whole,) = bench.put({"a.csv": data})
    file = FetchedFile(uri=whole.uri, path=whole.path, name=whole.name, size=len(data), sha256=whole.sha256)
    pieces = load(bench.job(MESSY).pipeline).reader.split(file, bench.store, size)
    longest = max(len(line) for line in data.splitlines(keepends=True))
    assert len(pieces) > 1 or len(data) <= 2 * size + longest, "there is a record end to cut at"
    at_once, parts = bench.process([whole], MESSY), [bench.process([piece], MESSY) for piece in pieces]
    assert [row for one in parts for row in one.rows] == at_once.rows
    assert {key: row for one in parts for key, row in one.rejected.items()} == at_once.rejected
    total = sum((t for one in parts for t in one.receipt.tallies.values()), Tally())
    assert total == at_once.receipt.tallies[whole.uri]


ZONED = """
from datetime import datetime, timedelta, timezone
import pandas as pd, pandera.pandas, pyarrow as pa
from ingestlab import Csv, Pipeline

def clean(df):
    noon = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    column = pa.array([noon] * len(df), pa.timestamp("s", "UTC"))
    return df.assign(at=pd.Series(column.to_pandas(), index=df.index))

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), clean=clean)
"""


def test_times_with_zones_are_not_shifted_by_what_pandera_does_on_import(bench: Bench) -> None:
    done = bench.run(ZONED, a="1,one\n")
    (row,) = done.rows
    assert row["at"].hour == 7


def test_a_reject_tells_all_that_is_known_of_its_row(bench: Bench) -> None:
    done = bench.run(MESSY, a='1,one\n5000,"very, ""large"""\n')
    (reject,) = done.rejects.to_pylist()
    assert reject == {
        "table": "p",
        "run": "r",
        "source": "file:///a.csv",
        "sha256": "a.csv".ljust(64, "0"),
        "row": 1,
        "rule": "less_than",
        "column": "n",
        "value": "5000",
        "raw": '5000,"very, ""large"""',
    }
    assert done.rejects.schema == REJECTS


def test_a_record_with_several_faults_is_one_reject(bench: Bench) -> None:
    text = START + (
        'READER = Csv(columns={"n": "int64", "word": "int64"})\n'
        'Both = pa.DataFrameSchema({c: pa.Column(checks=pa.Check.lt(9)) for c in ("n", "word")})\n'
        "PIPELINE = Pipeline(reader=READER, contract=Both)"
    )
    done = bench.run(text, a="x,y\n10,11\n1,2\n")
    assert [(key[1], r["column"], r["value"]) for key, r in sorted(done.rejected.items())] == [
        (0, "n", "x"),
        (1, "n", "10"),
    ]
    assert done.receipt.tallies["file:///a.csv"] == Tally(rows_in=3, accepted=1, rejected=2, out=1)
    assert done.receipt.rules == {"n:type": 1, "n:less_than": 1}


def test_a_source_row_of_which_one_copy_is_bad_is_rejected_as_a_whole(bench: Bench) -> None:
    text = START + (
        "def clean(df):\n"
        "    df = df.assign(word=df['word'].astype(object).str.split('|')).explode('word')\n"
        "    return df.assign(word=df['word'].astype('string[pyarrow]'))\n"
        "Short = pa.DataFrameSchema({'word': pa.Column(checks=pa.Check.str_length(max_value=2))})\n"
        "PIPELINE = Pipeline(reader=READER, clean=clean, contract=Short)"
    )
    done = bench.run(text, a="1,a|b\n2,c|long|d\n3,e\n")
    assert done.published == {("file:///a.csv", 0): 2, ("file:///a.csv", 2): 1}
    assert [(r["row"], r["value"], r["raw"]) for r in done.rejects.to_pylist()] == [(1, "long", "2,c|long|d")]
    assert done.receipt.tallies["file:///a.csv"] == Tally(rows_in=3, accepted=2, rejected=1, out=3)


def test_rows_keep_their_numbers_when_clean_sorts_them(bench: Bench) -> None:
    text = START + "PIPELINE = Pipeline(reader=READER, clean=lambda df: df.sort_values('n', ascending=False))"
    done = bench.run(text, a="1,x\n3,y\n", b="2,z\n")
    assert [(r["n"], r["_source"][-5:], r["_row"]) for r in done.table.to_pylist()] == [
        (3, "a.csv", 1),
        (2, "b.csv", 0),
        (1, "a.csv", 0),
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return df[df['n'] > 1].reset_index(drop=True)", "keep the frame's index"),
        ("return df.reset_index(drop=True)", "keep the frame's index"),
        ("return df.set_index(df.index + 100)", "index 100, which no source row has"),
        ("return df.set_index('word')", "keep the frame's index"),
        ("return df.merge(pd.DataFrame({'n': [1, 2], 'm': [3, 4]}))", "keep the frame's index"),
        ("return None", "got NoneType"),
        ("return df['n']", "got Series"),
        ("return df['m']", "failed: KeyError: 'm'"),
        ("return 1 / 0", "failed: ZeroDivisionError: division by zero, in p.py, line 8"),
        ("exit()", "failed: SystemExit"),
        ("return df.assign(bad=[{1}, 2])", "Arrow cannot hold"),
        ("return pd.concat([df, df], axis=1)", "Duplicate column names"),
        ("return df.assign(bad=[1j, 2j])", "Arrow cannot hold"),
        ("return df.assign(_row=1)", "_row"),
        ("return df.assign(_source='x')", "_source"),
    ],
)
def test_a_clean_that_does_what_it_must_not_fails_its_file(bench: Bench, body: str, says: str) -> None:
    text = START + f"def clean(df):\n    {body}\nPIPELINE = Pipeline(reader=READER, clean=clean)"
    done = bench.run(text, a="1,x\n2,y\n")
    assert says in error_of(done)


def test_columns_that_parquet_cannot_hold_fail_the_file(bench: Bench) -> None:
    text = START + "PIPELINE = Pipeline(reader=READER, clean=lambda df: df.assign(bad=[{}] * len(df)))"
    (piece,) = bench.put({"a.csv": HEADER + "1,x\n"})
    plain = process.run(Partition(number=0, pieces=(piece,)).to_dict(), bench.job(text).to_dict())
    assert "Parquet cannot hold the columns" in plain["errors"]["file:///a.csv"]["problem"]
    assert plain["sinks"] == {}


def test_only_the_file_that_clean_fails_for_fails(bench: Bench) -> None:
    text = START + (
        "def clean(df):\n"
        "    if df['n'].eq(666).any():\n"
        "        raise ValueError('the number of the beast')\n"
        "    return df\n"
        "PIPELINE = Pipeline(reader=READER, clean=clean)"
    )
    done = bench.run(text, a="1,x\nbad,x\n", b="666,y\n", c="2,z\n3,z\n")
    assert "the number of the beast" in error_of(done, "b")
    assert done.published.keys() == {("file:///a.csv", 0), ("file:///c.csv", 0), ("file:///c.csv", 1)}
    assert done.rejected.keys() == {("file:///a.csv", 1)}
    assert done.receipt.tallies.keys() == {"file:///a.csv", "file:///c.csv"}


def test_only_the_file_that_cannot_be_read_fails(bench: Bench) -> None:
    pieces = bench.put({"a.csv": HEADER + "1,x\n", "b.csv": "other,columns\n1,2\n", "c.csv": b"\x00\x01\x02" * 50})
    done = bench.process(pieces, MESSY)
    assert done.published == {("file:///a.csv", 0): 1}
    assert "no 'n'" in error_of(done, "b")
    assert done.receipt.errors.keys() == {"file:///b.csv", "file:///c.csv"}


def test_when_all_files_fail_nothing_is_written(bench: Bench) -> None:
    done = bench.process(bench.put({"a.csv": "", "b.csv": "other,columns\n"}), MESSY)
    assert done.receipt.errors.keys() == {"file:///a.csv", "file:///b.csv"}
    assert done.receipt.parts == done.receipt.rejects == ()


def test_files_whose_rows_are_all_rejected_are_no_failures_where_they_may_be(bench: Bench) -> None:
    done = bench.run(MESSY, a="13,x\n13,y\n", b="x,x\n")
    assert not done.receipt.errors
    assert done.receipt.parts == ()
    assert done.receipt.rules == {"clean": 2, "n:type": 1}


def test_inferred_columns_may_differ_from_file_to_file(bench: Bench) -> None:
    text = "from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv())"
    done = bench.process(bench.put({"a.csv": "n,x\n1,2\n", "b.csv": "n,y\n1.5,z\n"}), text)
    assert [(r["n"], r["x"], r["y"]) for r in done.rows] == [(1, 2, None), (1.5, None, "z")]


def test_files_whose_inferred_types_do_not_fit_together_are_parts_of_their_own(bench: Bench) -> None:
    text = "from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv())"
    pieces = bench.put({"a.csv": "n\n1\n", "b.csv": "n\ntext\n", "c.csv": "n\n2\n"})
    job, partition = bench.job(text), Partition(number=0, pieces=tuple(pieces))
    receipt = process.process(partition, job, load(job.pipeline), bench.store, bench.store)
    assert not receipt.errors
    numbers = [bench.read([part], "p")["n"].to_pylist() for part in receipt.parts]
    assert numbers == [[1, 2], ["text"]]
    assert {uri: t.out for uri, t in receipt.tallies.items()} == dict.fromkeys((p.uri for p in pieces), 1)


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        ("pa.DataFrameSchema({'m': pa.Column()})", "column_in_dataframe failed for 'm'"),
        ("pa.DataFrameSchema(checks=pa.Check(lambda df: df['n'].sum() > 100, name='total'))", "total failed"),
        ("pa.DataFrameSchema({'n': pa.Column(checks=pa.Check(lambda s: 1 / 0, name='broken'))})", "ZeroDivisionError"),
        ("pa.DataFrameSchema({'n': pa.Column(checks=pa.Check(lambda s: exit(), name='leaving'))})", "SystemExit"),
        ("pa.DataFrameSchema({'n': pa.Column('int32')})", "int32"),
        ("42", "contract of 'p'"),
    ],
)
def test_a_contract_that_cannot_be_checked_row_by_row_fails_the_file(bench: Bench, contract: str, says: str) -> None:
    done = bench.run(START + f"PIPELINE = Pipeline(reader=READER, contract={contract})", a="1,x\n2,y\n")
    assert says in error_of(done)


def test_a_check_of_the_whole_row_rejects_rows(bench: Bench) -> None:
    text = START + (
        "Row = pa.DataFrameSchema(checks=pa.Check(lambda df: df['n'] < df['word'].str.len(), name='fits'))\n"
        "PIPELINE = Pipeline(reader=READER, contract=Row)"
    )
    done = bench.run(text, a="1,xx\n2,y\n", b="3,xxx\n3,xxxx\n")
    assert done.published.keys() == {("file:///a.csv", 0), ("file:///b.csv", 1)}
    assert [(key, r["rule"]) for key, r in done.rejected.items()] == [
        (("file:///a.csv", 1), "fits"),
        (("file:///b.csv", 0), "fits"),
    ]


def test_a_contract_may_change_types_and_rejects_what_it_cannot_change(bench: Bench) -> None:
    text = START + (
        "Number = pa.DataFrameSchema({'word': pa.Column('float64', coerce=True)})\n"
        "PIPELINE = Pipeline(reader=READER, contract=Number)"
    )
    done = bench.run(text, a="1,1.5\n2,text\n3,4\n")
    assert [(r["word"], r["_row"]) for r in done.rows] == [(1.5, 0), (4.0, 2)]
    assert [(r["row"], r["rule"], r["column"]) for r in done.rejects.to_pylist()] == [(1, "coerce_dtype", "word")]


def test_a_contract_that_drops_rows_itself_has_them_rejected(bench: Bench) -> None:
    text = START + (
        "Small = pa.DataFrameSchema({'n': pa.Column(checks=pa.Check.lt(9))}, drop_invalid_rows=True)\n"
        "PIPELINE = Pipeline(reader=READER, contract=Small)"
    )
    done = bench.run(text, a="1,x\n10,y\n", b="11,z\n2,z\n")
    assert {(key, r["rule"]) for key, r in done.rejected.items()} == {
        (("file:///a.csv", 1), "contract"),
        (("file:///b.csv", 0), "contract"),
    }
    assert all(tally.balanced for tally in done.receipt.tallies.values())


POLARS = """
from __future__ import annotations
import polars as pl
from ingestlab import Csv, Pipeline

def clean(df: pl.DataFrame) -> pl.DataFrame:
    BODY

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), clean=clean)
"""


@pytest.mark.parametrize("future", [True, False], ids=["annotated by text", "annotated by type"])
def test_a_clean_for_polars_gets_a_polars_frame(bench: Bench, future: bool) -> None:
    body = 'return df.filter(pl.col("n") != 13).with_columns(double=pl.col("n") * 2)'
    text = POLARS.replace("BODY", body).replace("from __future__", "from __future__" if future else "# from __future__")
    done = bench.run(text, a="13,x\n2,y\n", b="3,z\n")
    assert [(r["double"], r["_source"][-5:], r["_row"]) for r in done.rows] == [(4, "a.csv", 1), (6, "b.csv", 0)]
    assert done.rejected[("file:///a.csv", 0)]["rule"] == "clean"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('return df.drop("_row")', "keep the column _row"),
        ("return df.lazy()", "polars DataFrame"),
        ("return None", "polars DataFrame"),
        ("return df.to_pandas()", "polars DataFrame"),
        ('return df.select(pl.col("missing"))', "ColumnNotFoundError"),
        ("return df.with_columns(_row=pl.lit(None, pl.Int64))", "which no source row has"),
    ],
)
def test_a_clean_for_polars_that_does_what_it_must_not_fails_its_file(bench: Bench, body: str, says: str) -> None:
    assert says in error_of(bench.run(POLARS.replace("BODY", body), a="1,x\n"))


def test_rows_go_to_the_folders_of_their_values(bench: Bench) -> None:
    text = START + 'PIPELINE = Pipeline(reader=READER, partition_by=["word", "n"])'
    done = bench.run(text, a="1,x\n2,y\n", b="1,x\n1,\n")
    assert {part.target: (part.rows, part.sources) for part in done.receipt.parts} == {
        "tables/default/p/word=x/n=1/b-00000.parquet": (2, ("file:///a.csv", "file:///b.csv")),
        "tables/default/p/word=y/n=2/b-00000.parquet": (1, ("file:///a.csv",)),
    }
    (reject,) = done.rejects.to_pylist()
    assert [reject[c] for c in ("row", "rule", "column", "raw")] == [1, "not_nullable", "word", "1,"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("n", f"too many folders by partition_by n: expected at most {MAX_FOLDERS}"),
        ("m", "The partition_by column 'm' is missing"),
        ("word", "A folder's name would be too long by partition_by word: expected at most 255 bytes"),
    ],
)
def test_a_partition_column_that_cannot_be_one_fails_the_files(bench: Bench, column: str, says: str) -> None:
    text = START + f"PIPELINE = Pipeline(reader=READER, partition_by='{column}')"
    done = bench.run(text, a="".join(f"{n},{'x' * 300}\n" for n in range(MAX_FOLDERS + 1)), b="1,x\n")
    assert says in error_of(done, "a")
    assert says in error_of(done, "b")


def test_the_same_partition_twice_is_the_same_files_byte_for_byte(bench: Bench) -> None:
    """A Dask worker that is lost in the middle leaves files that its successor writes again."""
    text = MESSY.replace("contract=Small", "contract=Small, partition_by='word'")
    pieces = bench.put({f"{i}.csv": content([*KINDS, *KINDS[:5]]) for i in range(3)})
    partition, job = Partition(number=4, pieces=tuple(pieces)).to_dict(), bench.job(text).to_dict()

    def staged() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in (bench.folder / layout.staging("b")).iterdir()}

    first, files = process.run(partition, job), staged()
    second = process.run(partition, job)
    assert staged() == files
    assert len(files) == sum(len(staged["files"]) for staged in first["sinks"].values()) > 4
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}


def test_a_receipt_is_plain_data(bench: Bench) -> None:
    pieces = bench.put({"a.csv": content(KINDS), "b.csv": ""})
    plain = process.run(Partition(number=0, pieces=tuple(pieces)).to_dict(), bench.job(MESSY).to_dict())
    assert json.loads(json.dumps(plain)) == plain
    receipt = Receipt.from_dict(plain)
    assert receipt.tallies["file:///a.csv"].rows_in == len(KINDS)
    assert receipt.errors.keys() == {"file:///b.csv"}
    assert set(receipt.seconds) == {"read", "check", "parquet", "rejects", "profile"}
