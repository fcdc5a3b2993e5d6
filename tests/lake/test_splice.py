"""Row groups that are copied hold what they held, for every reader."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.lake import splice
from ingestlab.lake.data_files import encoding, fast_encoding
from ingestlab.lake.splice import Encoded, SplicedPart
from ingestlab.lake.storage.local import LocalStore

SOURCES = pa.array(["file:///a", "file:///b"])


def rows_of(count: int, seed: int = 0) -> pa.Table:
    """Make rows of many types, with nulls."""
    random = np.random.default_rng(seed)
    some = pa.array(random.random(count) < 0.2)

    def column(values, kind=None):
        return pa.array(values, kind, mask=some.to_numpy(zero_copy_only=False))

    return pa.table(
        {
            "id": pa.array(random.permutation(count)),
            "wide": pa.array(random.integers(-(2**63), 2**63 - 1, count)),
            "small": column(random.integers(0, 5, count).astype(np.int8), pa.int8()),
            "text": column(np.array([f"t{i % 7}" for i in range(count)], object), pa.string()),
            "price": column(np.where(random.random(count) < 0.1, -0.0, random.random(count)), pa.float64()),
            "at": column(random.integers(0, 10**15, count).astype("datetime64[us]"), pa.timestamp("us")),
            "zoned": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * count, pa.timestamp("ms", "UTC")),
            "day": pa.array([date(2024, 1, 1 + i % 28) for i in range(count)]),
            "money": pa.array([Decimal(i) / 100 for i in range(count)], pa.decimal128(12, 2)),
            "bytes": column(np.array([bytes([i % 256]) for i in range(count)], object), pa.binary()),
            "nothing": pa.nulls(count),
            "flag": column(random.random(count) < 0.5, pa.bool_()),
            "_source": pa.DictionaryArray.from_arrays(pa.array(random.integers(0, 2, count), pa.int32()), SOURCES),
            "_row": pa.array(np.arange(count)),
        }
    )


def encoded(table: pa.Table, size: int, **how) -> tuple[Encoded, pq.ParquetFile]:
    """Write a table in row groups of a size."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, **(how or encoding(table.schema))) as writer:
        writer.write_table(table, row_group_size=size)
    data = sink.getvalue()
    return Encoded(lambda start, stop: data[start:stop], len(data)), pq.ParquetFile(pa.BufferReader(data))


def spliced(tmp_path, schema, steps):
    store = LocalStore(str(tmp_path))
    with SplicedPart(schema, "tables/t/x.parquet", "staging", store) as part:
        for step in steps:
            step(part)
        done = part.close()
    assert done.size == store.size(done.staged)
    return done, store.full(done.staged)


@settings(max_examples=examples(20), deadline=None)
@given(sizes=st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=1, max_size=4), group=st.integers(10, 70))
def test_copied_and_written_row_groups_are_one_file(tmp_path_factory, sizes, group):
    tmp_path, wanted, steps = tmp_path_factory.mktemp("splice"), [], []
    for seed, (copied, size) in enumerate(sizes):
        table = rows_of(size, seed)
        wanted.append(table)
        if copied:
            source, opened = encoded(table, group, **({} if seed % 2 else {"compression": "snappy"}))
            numbers = range(opened.num_row_groups)
            steps += [lambda part, n=n, source=source: part.copy(source, n, ["file:///a"]) for n in numbers]
        else:
            steps.append(lambda part, table=table: part.write(table, ["file:///b"]))
    done, path = spliced(tmp_path, wanted[0].schema, steps)
    expected = pa.concat_tables(wanted).unify_dictionaries()
    got = pq.read_table(path)
    assert got.schema.equals(expected.schema)
    assert got.cast(expected.schema).equals(expected)
    assert done.rows == expected.num_rows == pq.ParquetFile(path).metadata.num_rows
    kinds = {copied for copied, _ in sizes}
    assert done.sources == tuple(uri for kind, uri in ((True, "file:///a"), (False, "file:///b")) if kind in kinds)


def test_other_readers_read_it_too(tmp_path):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    table = rows_of(9000)
    source, _ = encoded(table, 4000)
    steps = [
        lambda part: part.copy(source, 1, []),
        lambda part: part.write(table.slice(0, 4000), []),
        lambda part: part.copy(source, 2, []),
    ]
    _, path = spliced(tmp_path, table.schema, steps)
    order = ["id", "wide", "text", "price", "at", "money", "flag", "_source", "_row"]
    expected = pa.concat_tables([table.slice(4000, 4000), table.slice(0, 4000), table.slice(8000)]).select(order)
    expected = expected.set_column(7, "_source", expected["_source"].cast(pa.string()))
    columns = ", ".join(f'"{name}"' for name in order)
    with duckdb.connect() as db:
        by_duckdb = db.sql(f"SELECT {columns} FROM read_parquet('{path}')").to_arrow_table()
        chosen = db.execute(f"SELECT count(*) FROM read_parquet('{path}') WHERE id < 100").fetchall()
    assert by_duckdb.cast(expected.schema).equals(expected)
    by_polars = polars.read_parquet(path, columns=order).to_arrow()
    assert by_polars.cast(expected.schema).equals(expected)
    assert chosen == [(100,)]  # by the statistics of the row groups


def test_files_of_other_columns_do_not_fit():
    one, two = rows_of(5), rows_of(5).drop_columns(["flag"])
    assert encoded(one, 5)[0].fits(Encoded.of(one.schema.empty_table()))
    assert not encoded(two, 5)[0].fits(Encoded.of(one.schema.empty_table()))


def test_an_aborted_file_leaves_nothing(tmp_path):
    store = LocalStore(str(tmp_path))
    table = rows_of(5)
    with SplicedPart(table.schema, "tables/t/x.parquet", "staging", store) as part:
        part.write(table, [])
    assert not list(store.scratch().iterdir())


def test_large_ranges_are_copied_in_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(splice, "_COPIED", 100)
    table = rows_of(500)
    source, _ = encoded(table, 500)
    _, path = spliced(tmp_path, table.schema, [lambda part: part.copy(source, 0, [])])
    assert pq.read_table(path).equals(table)


def test_nearly_unique_numbers_are_written_as_differences_or_plain():
    how = fast_encoding(rows_of(9000))
    assert {"id", "_row"} <= how["column_encoding"].keys()
    assert not {"id", "_row", "wide"} & set(how["use_dictionary"])
    assert {"text", "day", "_source"} <= set(how["use_dictionary"])
    assert how["compression"]["wide"] == "none"
