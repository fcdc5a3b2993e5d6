"""The commands around pipelines and the lake: pipelines, check, tables, reconcile."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, out
from ingestlab.cli.jobs import Tenant
from ingestlab.cli.scaffold import show_proposal
from ingestlab.cli.show import counting
from ingestlab.cli.tables import frame_table, side_by_side, table
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:
    from ingestlab.engine.services import Services


def pipelines(home: Home = None, as_json: Json = False) -> None:
    """List the pipelines, with the file names that they take."""
    from ingestlab.pipeline.catalog import Catalog, load  # noqa: PLC0415 - slow to import: --help must not wait for it

    rows = []
    for name, source in Catalog.read(load_settings(home=home)).sources.items():
        try:
            pipeline = load(source)
            rows.append((name, ", ".join(pipeline.matches), pipeline.table, pipeline.description))
        except TerminalError as error:
            rows.append((name, "", "", f"does not load: {error.reason}"))
    headings = ("pipeline", "matches", "table", "description")
    if as_json:
        out.print_json(json.dumps([dict(zip(headings, row, strict=True)) for row in rows]))
    else:
        none = "No pipelines found; INGESTLAB_PIPELINES names the folders to look in."
        folds, leaves_out = ("matches", "description"), ("table", "description")
        out.print(table(headings, rows, folds=folds, leaves_out=leaves_out) if rows else none)


def check(
    pipeline: Annotated[
        str,
        typer.Argument(
            autocompletion=complete.pipelines, help="The pipeline to try; left out, one is proposed for the file."
        ),
    ],
    file: Annotated[
        str | None,
        typer.Argument(help="To try it on: a path, a URI, a pattern in quotes. Pipelines with a `source` need none."),
    ] = None,
    rows: Annotated[int, typer.Option(help="How many rows to show.")] = 8,
    home: Home = None,
) -> None:
    """Try a pipeline on a sample of files, or on its source.

    Clean rows and rejects are shown side by side.
    """
    from ingestlab.engine.dry_run import source_of, try_pipeline, try_records  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    if file is not None:
        trial = try_pipeline(pipeline, file, settings)
    elif uri := source_of(pipeline, settings):
        trial = try_records(uri, settings)
    else:
        show_proposal(pipeline, rows, home)
        return
    t = trial.tally
    good = frame_table(trial.rows.drop(columns="_source", errors="ignore"), f"{t.out:,} clean rows", rows)
    shown = trial.rejects[["row", "rule", "column", "value", "raw"]] if len(trial.rejects) else trial.rejects
    bad = frame_table(shown, f"{t.rejected:,} rejects", rows)
    out.print(side_by_side(good, bad))
    reasons = ", ".join(f"{count:,} {rule}" for rule, count in trial.rules.items())
    part = "" if trial.whole else ", of a sample: there is more"
    counts = f"{t.rows_in:,} rows in, {t.accepted:,} accepted, {t.rejected:,} rejected{part}"
    out.print(f"{counts}: {reasons}" if reasons else counts)


def _whole_lake(services: Services, tenant: str | None) -> Services:
    """Give the services of the lake that is meant: the shared one, or a tenant's own."""
    if tenant is None and not services.settings.tenant_token:
        return services
    own = services.of(tenant or services.settings.tenant)
    if own.settings.lake_url == services.settings.lake_url:
        name = own.settings.tenant if tenant is None else tenant
        problem, fix = f"Tenant '{name}' has no lake of its own", "Whoever runs the system reconciles the shared one."
        raise TerminalError(problem, fix=fix, code="argument_invalid")
    return own


def tables(home: Home = None, as_json: Json = False) -> None:
    """List the published tables, and catalogues that lack commits of theirs."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - likewise
    from ingestlab.lake.storage.store import open_store  # noqa: PLC0415
    from ingestlab.lake.tenants import settings_for  # noqa: PLC0415
    from ingestlab.sinks.catalogues.lag import lags  # noqa: PLC0415

    settings = load_settings(home=home)
    settings = settings_for(settings.tenant, settings)
    lake, behind = Lake(settings), list(lags(open_store(settings.lake_url, settings.storage_options), settings.tenant))
    rows = [(t.name, t.rows, len(t.parts), t.bytes, t.path) for t in lake.tables()]
    headings = ("table", "rows", "parts", "bytes", "path")
    if as_json:
        late = {name: {lag.catalogue: str(lag.error) for lag in behind if lag.table == name} for name, *_ in rows}
        found = [dict(zip(headings, row, strict=True)) | {"unregistered": late[row[0]]} for row in rows]
        out.print_json(json.dumps(found))
    elif rows:
        texts = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows]
        out.print(table(headings, texts, right=headings[1:4], leaves_out=("path", "parts", "bytes")))
        for lag in behind:
            out.print(Text(f"! {lag}", style="yellow"))
    else:
        out.print("No tables yet. `ingestlab submit` makes one.")


def reconcile(tenant: Tenant = None, home: Home = None, as_json: Json = False) -> None:
    """Compare the lake with its manifests, and repair what crashes left. The exit code is 1 if parts are missing."""
    from ingestlab.engine.services import Services  # noqa: PLC0415 - likewise
    from ingestlab.maintenance.reconcile import reconcile as repair  # noqa: PLC0415

    settings = load_settings(home=home)
    with Services.opened(settings) as services, counting("tables") as watch:
        report = repair(_whole_lake(services, tenant).lake, watch)
    if as_json:
        out.print_json(json.dumps(asdict(report)))
    elif report.clean:
        out.print("The lake is in order: every part has its manifest, every manifest its parts.")
    for name, lines in asdict(report).items():
        for line in () if as_json else lines:
            out.print(Text(f"{name:>12}  {line}", style="red" if name == "missing" else ""))
    raise typer.Exit(1 if report.missing else 0)
