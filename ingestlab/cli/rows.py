"""The commands that show rows: `rows`, `rejects` and `head`. A terminal gets a few, a pipe all of them as CSV."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, many, out
from ingestlab.cli.tables import frame_table
from ingestlab.core.archive_uri import label
from ingestlab.core.errors import TerminalError, TransientError, did_you_mean
from ingestlab.core.settings import Settings, load_settings

if TYPE_CHECKING:  # slow to import: who calls a function here has it already
    import pyarrow as pa

    from ingestlab.analytics.lake import Lake
    from ingestlab.queue import Run

_FEW = 20  # rows that a terminal gets
_SHOWN = ("row", "rule", "column", "value", "raw", "source")  # of a reject, in a terminal
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help=f"How many; {_FEW} in a terminal, else all.", show_default="")
]
Tenant = Annotated[str | None, typer.Option(help="Whose table it is.")]
State = Annotated[
    str | None,
    typer.Option("--as-of", metavar="RUN|TIME|NUMBER", help="An earlier state, of those that `history` lists."),
]


def rows(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", autocompletion=complete.tables, help="The table.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option(metavar="QUERY", help="A SELECT over any tables, in DuckDB's dialect.")
    ] = None,
    limit: Limit = None,
    as_of: State = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the rows of a table, or of a query. In a pipe or a file they are CSV, all of them."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - slow to import: --help must not wait for it

    if (table is None) == (sql is None):
        raise typer.BadParameter('Name a table, or say --sql "SELECT …".')
    if sql is not None and as_of is not None:
        raise typer.BadParameter("--as-of is for the rows of one table; a query reads the state of now.")
    lake = Lake(load_settings(home=home), tenant)
    if sql is not None:
        from ingestlab.analytics.sql import query  # noqa: PLC0415

        _print_rows(query(lake, sql), limit, as_json=as_json)
    elif table is not None:
        opened = lake.table(table, as_of)
        title = f"{table}: {many(opened.rows, 'row')}"
        _print_rows(opened.dataset().scanner().to_reader(), limit, as_json=as_json, title=title)


def rejects(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE|RUN", autocompletion=complete.tables_and_runs, help="Whose; else the latest run's."
        ),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(autocompletion=complete.rules, help="Only those of this rule, e.g. value:less_than.")
    ] = None,
    limit: Limit = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the rejects of a table or a run: how many by rule, and the first rows with their reasons."""
    from ingestlab.analytics.lake import Lake, only_rejects  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    places = _places(name, Lake(settings, tenant), settings)
    readers = [
        lake.rejects_table(table).dataset().scanner(filter=only_rejects(run, rule)).to_reader()
        for lake, table, run in places
    ]
    reader = _joined(readers)
    if as_json or not out.is_terminal:
        _print_rows(reader, limit, as_json=as_json)
        return
    counts: dict[str, int] = {}
    for lake, table, run in places:
        for broken, count in lake.rules(table, run).items():
            if rule in (None, broken, broken.rpartition(":")[2]):
                counts[broken] = counts.get(broken, 0) + count
    out.print(f"{name or 'latest run'}: {many(sum(counts.values()), 'reject')}")
    for broken, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        out.print(f"  {count:>8,}  {broken}")
    if counts:
        _print_rows(reader, limit, columns=_SHOWN)
        out.print(f"When their pipeline is mended: ingestlab replay {places[0][1]}")


def head(
    name: Annotated[
        str, typer.Argument(metavar="FILE|TABLE", autocompletion=complete.tables, help="A path, any URI, or a table.")
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 10,
    as_of: State = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the first rows of a file or a table."""
    if "://" not in name and not Path(name).expanduser().exists() and "/" not in name:
        rows(name, limit=limit, as_of=as_of, tenant=tenant, as_json=as_json, home=home)
        return
    if as_of is not None:
        raise typer.BadParameter("--as-of is for tables: a file has one state.")
    import pyarrow as pa  # noqa: PLC0415 - likewise

    trial = _read(name, load_settings(home=home))
    frame = trial.rows.drop(columns=["_source", "_row"], errors="ignore").head(limit)
    content = pa.Table.from_pandas(frame, preserve_index=False)
    _print_rows(content.to_reader(), limit, as_json=as_json, title="" if as_json else label(name))
    if trial.tally.rejected and not as_json and out.is_terminal:
        out.print(Text(f"{many(trial.tally.rejected, 'record')} before or after these cannot be read.", style="yellow"))


def _read(uri: str, settings: Settings) -> Any:
    from ingestlab.engine.dry_run import read_rows  # noqa: PLC0415 - likewise
    from ingestlab.engine.scaffold.propose import propose  # noqa: PLC0415

    try:
        return read_rows(uri, settings)
    except TerminalError as error:
        if error.code != "pipeline_unknown":
            raise
        return propose(uri, settings).trial  # by its look


def _places(name: str | None, lake: Lake, settings: Settings) -> list[tuple[Lake, str, str | None]]:
    """List the tables of which rejects are meant, with their runs."""
    from ingestlab.analytics.lake import Lake as AnyLake  # noqa: PLC0415 - likewise
    from ingestlab.cli.jobs import find  # noqa: PLC0415

    names = [table.name for table in lake.tables()]
    if name in names:
        return [(lake, name, None)]
    try:
        run = find(name, settings)
    except (TerminalError, TransientError) as error:
        if name is None or (isinstance(error, TerminalError) and error.code != "run_unknown"):
            raise
        fix = did_you_mean(name, names, "`ingestlab tables` and `ingestlab runs` list them.")
        raise TerminalError(f"There is no table and no run '{name}'", fix=fix, code="table_unknown") from error
    lake = AnyLake(settings, run.record.tenant)
    return [
        (lake, table, of) for table in _tables_of(run) for of in sorted({run.id, *(j.run for j in run.record.jobs)})
    ]


def _tables_of(run: Run) -> list[str]:
    return sorted({o.table for o in run.result().outcomes if o.status == "committed" and o.table})


def _joined(readers: list[pa.RecordBatchReader]) -> pa.RecordBatchReader:
    """Read several, all with the columns of rejects, one after the other."""
    import pyarrow as pa  # noqa: PLC0415 - likewise

    from ingestlab.lake.arrow_schema import REJECTS  # noqa: PLC0415

    batches = (batch.select(REJECTS.names).cast(REJECTS) for batch in chain.from_iterable(readers))
    return pa.RecordBatchReader.from_batches(REJECTS, batches)


def _print_rows(
    reader: pa.RecordBatchReader,
    limit: int | None,
    *,
    as_json: bool = False,
    title: str = "",
    columns: Iterable[str] = (),
) -> None:
    """Print rows as JSON, a table or CSV."""
    import pandas as pd  # noqa: PLC0415 - likewise

    if as_json or not out.is_terminal:
        (_json if as_json else _csv)(reader.schema, _first(reader, limit))
        return
    most = limit or _FEW
    import pyarrow as pa  # noqa: PLC0415

    content = pa.Table.from_batches(_first(reader, most + 1), reader.schema)
    frame = content.select([*columns] or content.column_names).to_pandas(types_mapper=pd.ArrowDtype)
    if "source" in columns:
        frame["source"] = [label(uri) for uri in frame["source"]]
    out.print(frame_table(frame, title, most))
    if len(frame) > most:
        out.print(Text(" and more: --limit shows them; a pipe or a file gets all, as CSV", "dim"))


def _first(batches: Iterable[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """Yield batches up to so many rows; None for all."""
    left = limit
    try:
        for batch in batches:
            yield batch if left is None else batch.slice(0, left)
            left = None if left is None else left - min(left, len(batch))
            if left == 0:
                return
    except FileNotFoundError as error:
        problem = "A commit has replaced files of the table while they were read"
        raise TransientError.wrap(error, problem, "Try again.", code="lake_busy") from error


def _json(_schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print a JSON array, a row in each line."""
    lines = (_encoded({k: _number(v) for k, v in row.items()}) for batch in batches for row in batch.to_pylist())
    before = "[\n"
    for line in lines:
        sys.stdout.write(before + line)
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print CSV. Lists and objects are JSON in it."""
    import pyarrow as pa  # noqa: PLC0415 - likewise
    import pyarrow.csv as pc  # noqa: PLC0415

    sys.stdout.flush()
    text = [_as_text(kind) for kind in schema.types]
    new = pa.schema([(n, pa.string() if t else k) for n, k, t in zip(schema.names, schema.types, text, strict=True)])
    with pc.CSVWriter(sys.stdout.buffer, new) as writer:
        for batch in batches:
            columns = [
                pa.array([None if v is None else _word(v) for v in column.to_pylist()], pa.string()) if t else column
                for column, t in zip(batch.columns, text, strict=True)
            ]
            writer.write(pa.record_batch(columns, schema=new))


def _as_text(kind: pa.DataType) -> bool:
    """Tell whether Arrow may write no CSV of a type."""
    import pyarrow.types as kinds  # noqa: PLC0415 - likewise

    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    easy = (kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_temporal, kinds.is_null)
    return not (kinds.is_string(plain) or kinds.is_large_string(plain) or any(is_so(plain) for is_so in easy))


def _number(value: Any) -> Any:
    """Make a whole number of a decimal without places: DuckDB's sums are such."""
    return int(value) if isinstance(value, Decimal) and value.as_tuple().exponent == 0 else value


def _word(value: Any) -> str:
    return value if isinstance(value, str) else _encoded(value)


def _encoded(value: Any) -> str:
    from pydantic_core import to_json  # noqa: PLC0415 - likewise

    return to_json(value, inf_nan_mode="null", bytes_mode="hex", fallback=str).decode()
