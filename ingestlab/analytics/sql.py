"""SQL over the tables of a lake: DuckDB reads their files, and sees nothing else of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from ingestlab.core.errors import TerminalError, did_you_mean, words_of
from ingestlab.core.extras import needed
from ingestlab.lake import layout

if TYPE_CHECKING:
    from ingestlab.analytics.lake import Lake, Table

_CLOSED = {
    "enable_external_access": "false",  # neither files nor the network, in whatever the query says
    "python_enable_replacements": "false",  # nor variables of this process
    "autoinstall_known_extensions": "false",
    "lock_configuration": "true",
}


def query(lake: Lake, sql: str) -> pa.RecordBatchReader:
    """Run a query over tables of a lake; ``<table>__rejects`` is one too.

    Args:
        lake: Whose tables the query may name.
        sql: One SELECT in DuckDB's dialect.

    Returns:
        The rows, read as they are asked for.

    Raises:
        TerminalError: DuckDB is not installed, or the query does not run.
    """
    duckdb = needed("duckdb", "duckdb", "SQL over tables")
    tables = _tables(lake, sql)
    connection = duckdb.connect(config=_CLOSED)
    try:
        for table in tables:
            connection.register(table.name, table.dataset())
        relation = connection.sql(sql)
        if relation is None:
            raise TerminalError("The query has no rows", fix="Write one SELECT.", code="argument_invalid")
        reader = pa.RecordBatchReader.from_stream(relation)
    except duckdb.Error as error:
        raise _explained(error, lake) from error
    return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, lake))


def _batches(reader: pa.RecordBatchReader, lake: Lake) -> Iterator[pa.RecordBatch]:
    """Yield what a query gives. It fails here where a value does not do."""
    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        raise _explained(error, lake) from error


def _tables(lake: Lake, sql: str) -> list[Table]:
    """List the tables that a query may mean: those whose names are somewhere in it."""
    text = sql.lower()
    named = [table for table in lake.tables() if table.name.lower() in text]
    return named + [lake.rejects_table(t.name) for t in named if layout.rejects(t.name).lower() in text]


def _explained(error: Exception, lake: Lake) -> TerminalError:
    """Translate an error of DuckDB, which knows no other tables."""
    text = re.sub(r" Did you mean .*?\?", "", words_of(error))
    fix = "`ingestlab tables` lists the tables; names with other signs than letters, digits and _ take double quotes."
    if unknown := re.search(r"Table with name (.+) does not exist", text):
        fix = did_you_mean(unknown[1], [table.name for table in lake.tables()], fix)
    return TerminalError("The query does not run", got=text, fix=fix, code="argument_invalid")
