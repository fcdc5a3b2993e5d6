"""Columns whose values a contract wants to be unique: they hold over the whole table, not one task."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any


def unique_columns(contract: Any) -> tuple[tuple[str, ...], ...]:
    """List the sets of columns that a contract wants to be unique.

    Args:
        contract: A pandera model or schema; None has none.
    """
    schema = _schema(contract)
    alone = [(name,) for name, column in _columns(schema).items() if column.unique]
    together = getattr(schema, "unique", None) or ()
    together = (together,) if isinstance(together, str) else tuple(together)
    return tuple(dict.fromkeys([*alone, *([together] if together else [])]))


def judged_alone(pipeline: Any) -> Any:
    """Leave out of a contract what is judged over the table.

    Args:
        pipeline: A :class:`ingestlab.pipeline.pipeline.Pipeline`.
    """
    if not unique_columns(pipeline.contract):
        return pipeline
    schema = copy.deepcopy(_schema(pipeline.contract))
    for column in _columns(schema).values():
        column.unique = False
    schema.unique = None
    return replace(pipeline, contract=schema)


def _schema(contract: Any) -> Any:
    return contract.to_schema() if isinstance(contract, type) and hasattr(contract, "to_schema") else contract


def _columns(schema: Any) -> dict[str, Any]:
    """Give the columns with names. What a pattern stands for is judged in each task."""
    columns = getattr(schema, "columns", None) or {}
    return {name: column for name, column in columns.items() if not getattr(column, "regex", False)}
