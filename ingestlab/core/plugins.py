"""Plug-ins by name: the package's own, and those that other packages declare as entry points."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from ingestlab.core.errors import TerminalError

Kind = Literal["queues", "sources", "formats", "sinks"]

_ROOMS = {"queues": "queue"}  # where the package is not called as its plug-ins are


@cache
def installed() -> Any:  # of a type that Python 3.12 has renamed
    """Scan what the installed packages declare, once a process: that takes tens of milliseconds."""
    return entry_points()


@cache
def plugins(kind: Kind) -> dict[str, EntryPoint]:
    """Find the plug-ins of a kind, by name; none is imported yet.

    The package's own are the `BUILT_IN` of its room; those of other packages are in the entry-point group
    ``ingestlab.<kind>``, and one of the same name takes the place of a built-in one.
    """
    group = f"ingestlab.{kind}"
    own = import_module(f"ingestlab.{_ROOMS.get(kind, kind)}").BUILT_IN
    built_in = {name: EntryPoint(name, target, group) for name, target in own.items()}
    return built_in | {point.name: point for point in sorted(installed().select(group=group))}


@cache
def load(kind: Kind, name: str) -> Any:
    """Import a plug-in by its name.

    Args:
        kind: What plugs in, as ``"sources"``.
        name: Of the entry point.

    Returns:
        What its entry point names: for each kind a class, which its maker calls.

    Raises:
        TerminalError: There is none of this name, or it cannot be imported.
    """
    known = plugins(kind)
    if name not in known:
        fix = f"Check the spelling, or install the package that declares it as an entry point of ingestlab.{kind}."
        problem, have = f"There is no plug-in '{name}' in ingestlab.{kind}", f"one of {', '.join(known)}"
        raise TerminalError(problem, expected=have, fix=fix, code="setting_invalid")
    try:
        return known[name].load()
    except Exception as error:  # a plug-in is anybody's code
        fix = "Reinstall the package that it is from, or remove it."
        problem = f"Plug-in '{name}' of ingestlab.{kind} does not load"
        raise TerminalError.wrap(error, problem, fix, code="package_missing") from error
