"""Conditions as Milvus' boolean expressions, with every value quoted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ingestlab.core.errors import TerminalError
from ingestlab.sinks.milvus.vector_filters import Wish, wishes
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Scalar, Where

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})  # what may not stand in quotes as it is
SOURCES = 200  # URIs in one expression; more make several


def expressions(where: Where) -> Iterator[str]:
    """Write the conditions as expressions that no row fulfils twice. The empty one means every row."""
    uris = tuple(dict.fromkeys(where.sources))
    for start in range(0, len(uris), SOURCES) or (0,):
        yield expression(where.model_copy(update={"sources": uris[start : start + SOURCES]}))


def expression(where: Where) -> str:
    """Write the conditions as one expression."""
    rest = [_equals("tenant", where.tenant), _equals("table", where.table)]
    rest += [_among("sha256", where.sha256), _among("run", where.runs), _among("source", where.sources)]
    rest += [_among("pk", where.keys)]
    for name, values in (("sha256", where.not_sha256), ("run", where.not_runs)):
        rest += [f"not ({_among(name, values)})"] if values else []
    return " and ".join(filter(None, rest))


def allowed(only: Filter | None, made: Collection, *, nullable: bool) -> str:
    """Write a user's filter as an expression that can stand in brackets.

    Args:
        only: What was asked.
        made: Of which collection.
        nullable: Whether its server has null.

    Raises:
        TerminalError: A column is unknown or has no such values, or an expression would reach beyond its brackets.
    """
    if isinstance(only, str):
        _stays_inside(only)
        return only
    asked = wishes(only or {}, made)
    lost = [name for name, wish in asked.items() if wish.null and not nullable]
    if lost:
        got = "one that is older than Milvus 2.5, where an empty value stands for it"
        fix = "Ask for the values instead."
        raise TerminalError(
            "The server cannot filter for null",
            expected=f"a server that has null, for the filter on '{lost[0]}'",
            got=got,
            fix=fix,
            code="filter_invalid",
        )
    return " and ".join(_fulfils(name, wish) for name, wish in asked.items())


def both(first: str, second: str) -> str:
    """Join two expressions that must hold together. An empty one says nothing."""
    return f"({first}) and ({second})" if first and second else first or second


def literal(value: Scalar) -> str:
    """Write a value as every Milvus reads it. No text can end its own quotes."""
    if isinstance(value, str):
        return f'"{value.translate(ESCAPES)}"'
    return json.dumps(value)


def _equals(name: str, value: str | None) -> str:
    return "" if value is None else f"{name} == {literal(value)}"


def _among(name: str, values: Sequence[Scalar]) -> str:
    return f"{name} in [{', '.join(map(literal, values))}]" if values else ""


def _fulfils(name: str, wish: Wish) -> str:
    """Write `in`, which does not take booleans in every Milvus. No value at all lets nothing pass."""
    parts = [f"{name} == {literal(v)}" for v in wish.forms] + ([f"{name} is null"] if wish.null else [])
    return _any(parts) if parts else "(row < 0 and row > 0)"


def _any(parts: Sequence[str]) -> str:
    """Join conditions of which one must hold. Halves of halves: a Milvus reads some 50 levels."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_any(parts[:middle])} or {_any(parts[middle:])})"


def _stays_inside(expression: str) -> None:
    """Raise unless brackets pair up. Else `1 == 1) or (…` would leave the tenant's condition behind."""
    depth, quote, skip = 0, "", False
    for char in expression:
        if skip:
            skip = False
        elif quote:
            skip, quote = char == "\\", "" if char == quote else quote
        elif char in "\"'":
            quote = char
        else:
            depth += (char == "(") - (char == ")")
        if depth < 0:
            break
    if depth or quote or not expression.strip():
        raise TerminalError(
            "The filter cannot be read",
            expected="a filter with paired brackets and quotes",
            got=repr(expression),
            code="filter_invalid",
        )
