"""The commands of tenants: ``ingestlab tenant add``, ``set``, ``list``, ``show``, ``remove`` and ``token``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingestlab.cli.common import Home, Json, Yes, confirm, out
from ingestlab.cli.tables import table
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from ingestlab.core.tenants import Tenant

tenant = typer.Typer(
    help="Say what each tenant may use: lake, sources, tokens, share and limits.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="Its name.")]
Lake = Annotated[str | None, typer.Option(help="Root of its own lake; '' for the shared one.")]
Credentials = Annotated[
    list[str] | None,
    typer.Option(metavar="PROTOCOL.OPTION=VARIABLE", help="Of its own lake: the environment variable that has it."),
]
Hosts = Annotated[list[str] | None, typer.Option("--allow-host", help="Hosts that its files may come from.")]
Roots = Annotated[list[str] | None, typer.Option("--file-root", help="Folders that its files may come from.")]
Pipelines = Annotated[list[str] | None, typer.Option("--pipeline", help="Pipelines that it may use, as patterns.")]
Weight = Annotated[float | None, typer.Option(help="Its share of the workers beside others; 1 if not given.")]
Queued = Annotated[int | None, typer.Option("--queued-jobs", help="Jobs that wait or run, at most; 0: no limit.")]
Running = Annotated[int | None, typer.Option("--running-jobs", help="Jobs at once, at most; 0: no limit.")]
Bytes = Annotated[int | None, typer.Option("--bytes-a-day", help="Bytes announced a day, at most; 0: no limit.")]
Files = Annotated[int | None, typer.Option("--files-a-day", help="Files announced a day, at most; 0: no limit.")]
Tasks = Annotated[int | None, typer.Option("--tasks", help="Tasks on Dask at once, at most; 0: no limit.")]
Vectors = Annotated[int | None, typer.Option("--vectors", help="Vectors of its tables, at most; 0: no limit.")]
_COUNTS = ("queued_jobs", "running_jobs", "bytes_a_day", "files_a_day", "tasks", "vectors")


@tenant.command()
def add(
    name: Name,
    lake: Lake = None,
    credential: Credentials = None,
    allow_host: Hosts = None,
    file_root: Roots = None,
    pipeline: Pipelines = None,
    weight: Weight = None,
    queued_jobs: Queued = None,
    running_jobs: Running = None,
    bytes_a_day: Bytes = None,
    files_a_day: Files = None,
    tasks: Tasks = None,
    vectors: Vectors = None,
    home: Home = None,
) -> None:
    """Add a tenant. What is not given is as the settings say, without a limit."""
    from ingestlab.core.tenants import parse  # noqa: PLC0415 - slow to import: --help must not wait for it

    given = dict(locals())
    entry = parse(name, {key: value for key, value in _changes(given).items() if value is not None})
    _table(home).add(entry)
    out.print(f"Added tenant {name}. `ingestlab tenant token {name}` makes a token.")


@tenant.command("set")
def set_(
    name: Name,
    lake: Lake = None,
    credential: Credentials = None,
    allow_host: Hosts = None,
    file_root: Roots = None,
    pipeline: Pipelines = None,
    weight: Weight = None,
    queued_jobs: Queued = None,
    running_jobs: Running = None,
    bytes_a_day: Bytes = None,
    files_a_day: Files = None,
    tasks: Tasks = None,
    vectors: Vectors = None,
    home: Home = None,
) -> None:
    """Change what is given, and nothing else. It counts from the tenant's next request on."""
    given = dict(locals())
    _print(_table(home).change(name, **_changes(given)), as_json=False)


@tenant.command("list")
def list_(as_json: Json = False, home: Home = None) -> None:
    """List tenants: those with an entry, and mere names of the settings."""
    from ingestlab.lake.tenants import entries, own  # noqa: PLC0415 - likewise

    with _reaching(home) as settings:
        mine = own(settings)
        known = entries(mine)
        if mine.tenant_token:
            known = {mine.tenant: known[mine.tenant]}
    if as_json:
        out.print_json(json.dumps([_shown(entry) for entry in known.values()]))
        return
    headings = ("tenant", "weight", "tokens", "running", "queued", "lake")
    rows = [
        (
            *(e.name, f"{e.weight:g}", str(len(e.tokens))),
            *(_count(e.running_jobs), _count(e.queued_jobs), e.lake or "shared"),
        )
        for e in known.values()
    ]
    out.print(table(headings, rows, right=headings[1:5], leaves_out=("lake", "queued")))


@tenant.command()
def show(name: Name, as_json: Json = False, home: Home = None) -> None:
    """Show what a tenant may use. Of its tokens only the labels are known."""
    from ingestlab.core.tenants import Tenant  # noqa: PLC0415 - likewise
    from ingestlab.lake.tenants import find, settings_for  # noqa: PLC0415

    with _reaching(home) as settings:
        settings_for(name, settings)
        _print(find(name, settings) or Tenant(name=name), as_json=as_json)


@tenant.command()
def remove(name: Name, yes: Yes = False, home: Home = None) -> None:
    """Forget a tenant's entry with its tokens. Its tables stay."""
    entries = _table(home)
    entries.get(name)
    confirm(f"Forget tenant {name} and its tokens?", yes=yes)
    entries.remove(name)
    out.print(f"Forgot tenant {name}. Its tables stay in the lake.")


@tenant.command()
def token(
    name: Name,
    label: Annotated[str, typer.Option(help="By which the token can be told from others, and revoked.")] = "main",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the token of this label back.")] = False,
    home: Home = None,
) -> None:
    """Make a token of a tenant, or revoke one. It is shown once: only its hash is kept."""
    from ingestlab.core.tenants import new_token, token_hash  # noqa: PLC0415 - likewise
    from ingestlab.lake.tenants import TenantTable, find  # noqa: PLC0415

    with _reaching(home) as settings:
        _check_operator(settings)
        entry = find(name, settings)
        if entry is None:
            fix = f"`ingestlab tenant add {name}` makes one."
            raise TerminalError(f"There is no entry of a tenant '{name}'", fix=fix, code="tenant_unknown")
        new = "" if revoke else new_token(name)
        if settings.tenants_file:
            _tell_file(settings.tenants_file, name, label, new)
        else:
            entries = TenantTable(settings)
            if not entries.change_token(name, label, token_hash(new) if new else None):
                problem, fix = f"Tenant '{name}' has no token '{label}'", f"`ingestlab tenant show {name}` lists them."
                raise TerminalError(problem, fix=fix, code="argument_invalid")
            if revoke:
                out.print(f"Revoked token {label} of tenant {name}.")
    if new:
        print(f"Token {label} of tenant {name}, shown this once:", file=sys.stderr)
        print(new)


def _tell_file(file: str, name: str, label: str, new: str) -> None:
    from ingestlab.core.tenants import token_hash  # noqa: PLC0415 - likewise

    if not new:
        problem, fix = f"Tenants are in the file {file}", f"Take '{label}' out of [{name}.tokens] there."
        raise TerminalError(problem, fix=fix, code="argument_invalid")
    print(f'Write this into {file}, below [{name}.tokens]:\n{label} = "{token_hash(new)}"', file=sys.stderr)


@contextmanager
def _reaching(home: Path | None) -> Iterator[Settings]:
    """Load the settings, and translate errors of Redis."""
    from ingestlab.queue.broker import reaching  # noqa: PLC0415 - slow to import: --help must not wait for it

    settings = load_settings(home=home)
    with reaching(settings):
        yield settings


def _table(home: Path | None) -> Any:
    from ingestlab.lake.tenants import TenantTable  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    _check_operator(settings)
    return TenantTable(settings)


def _check_operator(settings: Settings) -> None:
    if settings.tenant_token:
        fix = "Unset INGESTLAB_TENANT_TOKEN, where you run the system."
        raise TerminalError("The holder of a tenant's token cannot change tenants", fix=fix, code="access_denied")


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Translate the options that were given. None takes a limit back."""
    changes: dict[str, Any] = {n: given[n] or None for n in _COUNTS if given[n] is not None}
    names = {"lake": "lake", "allow_host": "allow_hosts", "file_root": "file_roots", "pipeline": "pipelines"}
    changes |= {field: given[option] for option, field in names.items() if given[option] is not None}
    if given["weight"] is not None:
        changes["weight"] = given["weight"]
    if given["credential"]:
        changes["credentials"] = _credentials(given["credential"])
    return changes


def _credentials(texts: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, variable = text.partition("=")
        protocol, dot, option = place.partition(".")
        if not (equals and dot and protocol and option and variable):
            raise typer.BadParameter("a credential is written as s3.secret=ACME_S3_SECRET")
        found.setdefault(protocol, {})[option] = variable
    return found


def _shown(entry: Tenant) -> dict[str, Any]:
    """Give what may be shown of an entry: neither options, which may be secret, nor hashes."""
    data: dict[str, Any] = entry.model_dump(mode="json", exclude={"options", "tokens"})
    return {**data, "tokens": sorted(entry.tokens), "options": sorted(entry.options)}


def _print(entry: Tenant, *, as_json: bool) -> None:
    data = _shown(entry)
    if as_json:
        out.print_json(json.dumps(data))
        return
    rows = [(key.replace("_", " "), _text(value)) for key, value in data.items() if value not in (None, "", [], {})]
    out.print(table(("tenant", entry.name), [row for row in rows if row[0] != "name"], folds=(entry.name,)))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{p}.{o}=${v}" for p, options in value.items() for o, v in options.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}" if value != str(value) else value


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
