"""What a user declares of a small table beside the data, in which `clean` looks things up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestlab.core.errors import TerminalError

if TYPE_CHECKING:
    from ingestlab.interfaces import Format


@dataclass(frozen=True)
class Reference:
    """Small table, e.g. of airports, that `clean` gets beside its frame.

    A job looks once which content the table has now, and all of its tasks see that one. Each process that works
    on them reads it once, and keeps it in memory.

    Attributes:
        uri: Where the table is: anything that could be submitted. A relative one is beside the pipeline's file,
            or if there is none, below ``INGESTLAB_REFERENCES``.
        reader: Its format, e.g. ``Csv(columns={...})``, any but `Archive`. A record that it cannot read fails the
            files of the job.

    Examples:
        >>> from ingestlab import Csv, Reference
        >>> Reference("airports.csv", Csv(columns={"faa": "string"})).uri
        'airports.csv'
    """

    uri: str
    reader: Format


def check_references(references: Mapping[str, Reference], clean: Callable[..., Any] | None, pipeline: str) -> None:
    """Check that a pipeline's references match the parameters of its `clean`.

    Raises:
        TerminalError: A parameter has no reference, or a reference no parameter.
    """
    for name, reference in references.items():
        if not isinstance(reference, Reference):
            raise _invalid(
                "Not a Reference",
                f"a Reference as '{name}' in references of pipeline '{pipeline}'",
                type(reference).__name__,
                "Write Reference('airports.csv', Csv(...)).",
            )
        if not reference.uri:
            raise _invalid(
                "The reference has no address",
                f"the path or URI of the reference '{name}' of pipeline '{pipeline}'",
                "an empty text",
                "Say where it is.",
            )
    taken, needed, any_name = _parameters(clean)
    for name in needed:
        if name not in references:
            raise _invalid(
                f"clean takes '{name}', which is no reference",
                f"a reference '{name}', which clean of '{pipeline}' takes beside the frame",
                _listed(references),
                f"Add '{name}' to references, or drop the parameter.",
            )
    for name in references:
        if name not in taken and not any_name:
            wanted = f"clean of '{pipeline}' to take the reference '{name}'"
            got = f"the further parameters {_listed(taken)}" if clean else "no clean"
            raise _invalid(
                f"clean does not take the reference '{name}'",
                wanted,
                got,
                f"Write clean(df, {name}), or drop the reference.",
            )


def _invalid(problem: str, expected: str, got: str, fix: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="reference_invalid")


def _parameters(clean: Callable[..., Any] | None) -> tuple[list[str], list[str], bool]:
    """List parameters beside the frame, required ones, and whether any is taken."""
    try:
        parameters = list(inspect.signature(clean).parameters.values())[1:] if clean else []
    except (TypeError, ValueError):  # not callable, which shows when it is called; or a built-in that tells nothing
        return [], [], True
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in named], [p.name for p in needed], any(p.kind is p.VAR_KEYWORD for p in parameters)


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, Mapping | list) and names else "none"
