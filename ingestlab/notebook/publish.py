"""Publishes frames: each becomes a Parquet file in the lake, which is then ingested like any other."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.analytics.spark import read_rows
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME
from ingestlab.core.settings import Settings
from ingestlab.formats.parquet.reader import Parquet
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for
from ingestlab.pipeline.catalog import Catalog, load

KEPT = timedelta(days=3)  # for workers that have not taken a frame yet
_OWN = ("_source", "_row")  # columns that every table has of its own
_GROUP = 1 << 20  # rows that are written at once
_BYTES = 1 << 26  # likewise


def put_frame(
    frame: Any, table: str, settings: Settings, *, name: str | None = None, pipeline: str | None = None
) -> str:
    """Write a frame into the lake, for a worker to take.

    Args:
        frame: Of pandas, Polars, Arrow, DuckDB, Dask or Spark.
        table: Where its rows are to go.
        settings: Where the lake is.
        name: Of the frame as a source; by default its content names it.
        pipeline: Its pipeline; None for that which takes Parquet files for the table.

    Returns:
        Its URI.

    Raises:
        TerminalError: It is no such frame, its values have no types, or the pipeline fills another table.
    """
    settings = settings_for(settings.tenant, settings)
    _check_names(table, name)
    store = open_store(settings.lake_url, settings.storage_options)
    _expire(store)
    local = store.scratch() / uuid.uuid4().hex
    try:
        _write(frame, local)
        called = f"{name or _digest(local)}.parquet"
        _check_table(called, table, pipeline, settings)
        hour = f"{datetime.now(UTC):%Y%m%d-%H}"
        store.adopt(local, f"{layout.frames(hour)}/{settings.tenant}/{table}/{called}")
    finally:
        local.unlink(missing_ok=True)
    return f"frame://{settings.tenant}/{table}/{called}"


def _check_names(table: str, name: str | None) -> None:
    for what, text in (("table", table), ("name", name)):
        if text is not None and not re.fullmatch(NAME, text):
            expected = "letters, digits, dots, dashes and underscores, a letter or digit first"
            problem = f"Not a name for a {'table' if what == 'table' else 'frame'}: {text!r}"
            raise TerminalError(problem, expected=expected, fix="Choose another.", code="name_invalid")


def _check_table(called: str, table: str, pipeline: str | None, settings: Settings) -> None:
    """Raise TerminalError if a pipeline would bring the rows elsewhere."""
    catalog = Catalog.read(settings)
    code = catalog.named(pipeline) if pipeline else catalog.matching(called, table)
    found = load(code)
    if found.table != table:
        problem = f"Pipeline '{code.name}' fills table {found.table}, not {table}"
        fix = "Name the pipeline that fills it: lab.publish(df, table, pipeline=…)."
        raise TerminalError(problem, fix=fix, code="table_unknown")
    if not isinstance(found.reader, Parquet):
        problem = f"Pipeline '{code.name}' reads no Parquet, which frames are"
        fix = "Name one with reader=Parquet()."
        raise TerminalError(problem, got=type(found.reader).__name__, fix=fix, code="reader_invalid")


def _expire(store: Store) -> None:
    """Remove frames that workers have had time to take."""
    oldest = f"{datetime.now(UTC) - KEPT:%Y%m%d-%H}"
    for hour in store.children(layout.frames()):
        if hour < oldest:
            store.delete(layout.frames(hour))


def _write(frame: Any, path: Path) -> None:
    """Write a frame as Parquet, alike each time. Columns that every table has of its own are left out."""
    folder = path.with_name(f"{path.name}.spark")
    try:
        groups = _groups(_tables(frame, folder))
        first = next(groups)
        with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
            for table in chain([first], groups):
                writer.write_table(table, row_group_size=_GROUP)
    except (pa.ArrowException, ValueError, TypeError) as error:
        problem = "The frame cannot be written as Parquet"
        fix = "Give each column one type and a name of its own."
        raise TerminalError.wrap(error, problem, fix, code="types_conflict") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Gather small tables into row groups. The first one's types are those of all."""
    schema, gathered = None, []
    for table in tables:
        own = [name for name in _OWN if name in table.column_names]
        rows = table.drop_columns(own).replace_schema_metadata(None)
        schema = schema or rows.schema
        gathered.append(rows.cast(schema))
        if sum(map(len, gathered)) >= _GROUP or sum(rows.nbytes for rows in gathered) >= _BYTES:
            yield pa.concat_tables(gathered).combine_chunks()
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()


def _tables(frame: Any, folder: Path) -> Iterator[pa.Table]:
    """Yield the rows of a frame as Arrow tables: of a frame of Dask or Spark piece by piece."""
    if hasattr(frame, "npartitions") and hasattr(frame, "partitions"):
        for i in range(frame.npartitions):
            yield from _tables(frame.partitions[i].compute(), folder)
    elif hasattr(frame, "toArrow"):  # Spark
        yield from read_rows(frame, folder)
    else:
        yield _table(frame)


def _table(frame: Any) -> pa.Table:
    if hasattr(frame, "collect") and not hasattr(frame, "__arrow_c_stream__"):  # a lazy frame of Polars
        frame = frame.collect()
    if isinstance(frame, pd.DataFrame):
        named = any(name is not None for name in frame.index.names)
        return pa.Table.from_pandas(frame.reset_index() if named else frame, preserve_index=False)
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    got = f"{type(frame).__module__}.{type(frame).__qualname__}"
    expected = "a frame of pandas, Polars, Arrow, DuckDB, Dask or Spark"
    fix = "Make one of it, e.g. pandas.DataFrame(rows)."
    raise TerminalError("This is no frame", expected=expected, got=got, fix=fix, code="argument_invalid")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]
