"""The commands of Airbyte's connectors: ``ingestlab airbyte install``, ``list``, ``check`` and ``discover``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli.common import Home, Json, err, many, out, show_notes
from ingestlab.cli.tables import Fitting
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:
    from ingestlab.sources.airbyte.catalog import Stream
    from ingestlab.sources.airbyte.installed import Program

airbyte = typer.Typer(
    help="Install connectors of Airbyte, and write pipelines for their streams.", no_args_is_help=True
)
Connector = Annotated[str, typer.Argument(metavar="CONNECTOR", help="source-NAME, or the image of a container.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Its configuration, JSON; none is an empty one.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the connector's log.")]


@airbyte.command()
def install(
    connector: Annotated[str, typer.Argument(metavar="CONNECTOR", help="source-NAME, or source-NAME==VERSION.")],
    package: Annotated[
        str, typer.Option(metavar="PACKAGE", help="What pip installs in place of airbyte-source-NAME: a path, a wheel.")
    ] = "",
    python: Annotated[str, typer.Option(metavar="PYTHON", help="Version or path of the Python that it needs.")] = "",
    home: Home = None,
) -> None:
    """Install a connector from PyPI, in an environment of its own."""
    from ingestlab.sources.airbyte import installed  # noqa: PLC0415 - slow to import: --help must not wait for it

    found = installed.install(connector, load_settings(home=home), package=package, python=python)
    out.print(f"Installed {found.connector} {found.version}, on Python {found.python}.")
    out.print(f"See its streams with: ingestlab airbyte discover {found.connector} --config config.json")


@airbyte.command("list")
def list_(as_json: Json = False, home: Home = None) -> None:
    """List the connectors that are installed."""
    from ingestlab.sources.airbyte import installed  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    found = installed.installed(settings)
    if as_json:
        keys = ("connector", "version", "package", "python", "at")
        out.print_json(json.dumps([{key: getattr(one, key) for key in keys} for one in found]))
    elif found:
        rows = [(one.connector, one.version, one.python, one.at[:10]) for one in found]
        out.print(Fitting(("connector", "version", "python", "installed"), rows, leaves_out=("installed", "python")))
    else:
        err.print(f"No connector is installed in {installed.home(settings)}.")
        err.print("Install one with: ingestlab airbyte install source-faker")


@airbyte.command()
def check(connector: Connector, config: Config = None, verbose: Verbose = False, home: Home = None) -> None:
    """Ask a connector whether it can connect with a configuration."""
    from ingestlab.sources.airbyte import asking  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    found = _program(connector, home)
    asyncio.run(asking.check(found, _config(config), settings, _teller(verbose=verbose)))
    out.print(f"{found} can connect.")


@airbyte.command()
def discover(
    connector: Connector,
    config: Config = None,
    streams: Annotated[
        str, typer.Option(metavar="NAMES", help="Those that are wanted, with commas between; all by default.")
    ] = "",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write a pipeline for each into this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pipelines of their names.")] = False,
    verbose: Verbose = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the streams of a connector, or write a pipeline for each."""
    from ingestlab.sources.airbyte import asking  # noqa: PLC0415 - likewise
    from ingestlab.sources.airbyte.catalog import find  # noqa: PLC0415 - likewise

    settings, known = load_settings(home=home), _config(config)
    found, tell = _program(connector, home), _teller(verbose=verbose)
    there = asyncio.run(asking.discover(found, known, settings, tell))
    names = [name.strip() for name in streams.split(",") if name.strip()]
    wanted = [find(name, there, found.connector) for name in names] or there
    if to is not None:
        specification = asyncio.run(asking.specification(found, settings, tell))
        _write(wanted, connector, found, known, specification, to, force=force)
    elif as_json:
        out.print_json(json.dumps([stream.described for stream in wanted]))
    else:
        _show(wanted)


def _show(streams: Sequence[Stream]) -> None:
    from ingestlab.sources.airbyte.columns import columns_of  # noqa: PLC0415 - likewise

    headings = ("stream", "columns", "key", "sync modes")
    rows = [
        (
            stream.label,
            f"{len(columns_of(stream.schema)):,}",
            ", ".join(".".join(path) for path in stream.key),
            ", ".join(stream.modes),
        )
        for stream in streams
    ]
    out.print(Fitting(headings, rows, right=("columns",), folds=("sync modes", "key"), leaves_out=("columns",)))


def _write(
    streams: Sequence[Stream],
    connector: str,
    program: Program,
    config: dict[str, Any],
    specification: Any,
    folder: Path,
    *,
    force: bool,
) -> None:
    """Write a pipeline for each stream."""
    from ingestlab.sources.airbyte.scaffold import Draft, without_secrets, write  # noqa: PLC0415 - likewise

    safe, variables = without_secrets(config, specification, program.connector)
    named = {"image": connector} if program.image else {"connector": connector}
    drafts = [Draft(stream=stream, config=safe, **named) for stream in streams]
    files = [write(draft, folder, force=force) for draft in drafts]
    for draft, file in zip(drafts, files, strict=True):
        out.print(f"Wrote {file}: {draft.mode}, {many(len(draft.stream.schema.get('properties') or ()), 'column')}.")
    if variables:
        show_notes([f"secrets are not written: set {', '.join(variables)} where the workers run"])
    out.print(f"Look at {'it' if len(files) == 1 else 'them'}, then: ingestlab submit airbyte://{drafts[0].name}")


def _program(connector: str, home: Path | None) -> Program:
    """Find a connector by its name. What has a slash is an image."""
    from ingestlab.sources.airbyte import installed  # noqa: PLC0415 - likewise

    image = connector if "/" in connector else ""
    return installed.program("" if image else connector, image, load_settings(home=home))


def _config(file: Path | None) -> dict[str, Any]:
    """Read a configuration."""
    if file is None:
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # A text of its own: the decoder's would show the place, and a secret beside it.
        got = error.strerror if isinstance(error, OSError) else "no JSON"
        problem, fix = f"The configuration {file} cannot be read", 'A JSON object, such as {"count": 100}.'
        raise TerminalError(problem, got=str(got), fix=fix, code="argument_invalid") from None
    if not isinstance(config, dict):
        problem, wanted = f"The configuration {file} is no JSON object", '{"name": value, …}'
        raise TerminalError(problem, expected=wanted, got=type(config).__name__, code="argument_invalid")
    return config


def _teller(*, verbose: bool) -> Any:
    """Return what takes the lines of a connector's log."""

    def tell(line: str) -> None:
        if verbose:
            err.print(Text(line, style="dim"))

    return tell
