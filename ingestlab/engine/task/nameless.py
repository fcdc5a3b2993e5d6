"""Columns that have numbers for names, since their file has none: they stand beside their like alone.

What is in a table of ``id`` and ``name`` under ``column_1`` and ``column_2`` is nothing that anybody asks for. Nor
can ``Day`` stand beside ``day``, of another file of the same job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Receipt
from ingestlab.engine.task.frames import Loaded
from ingestlab.lake.arrow_schema import same_but_for_case
from ingestlab.lake.table_schema import clash, numbered

_FIX = "Write header=None and the table's names as `columns` in a pipeline; or name another table."


def check_named(names: Collection[str], known: Collection[str], table: str) -> None:
    """Raise TerminalError for columns that a table must not have."""
    if clash(names, known):
        raise _refusal(f"columns of table {table} ({_shown(known)})", names)


def apart(loaded: Sequence[Loaded]) -> dict[str, TerminalError]:
    """Find pieces that must not share a table, by URI."""
    return _apart((reading.piece.uri, reading.records.table.column_names) for reading in loaded)


def apart_in(receipts: Iterable[Receipt]) -> dict[str, TerminalError]:
    """Find files of several tasks that must not share a table."""
    return _apart((uri, tuple(receipt.types)) for receipt in receipts for uri in receipt.tallies)


def _apart(names_by_uri: Iterable[tuple[str, Collection[str]]]) -> dict[str, TerminalError]:
    every = [(uri, names) for uri, names in names_by_uri if names]
    return _other_case(every) | _without_names(every)


def _other_case(every: Sequence[tuple[str, Collection[str]]]) -> dict[str, TerminalError]:
    """Refuse files with names that differ by case from earlier ones."""
    known: dict[str, None] = {}
    errors = {}
    for uri, names in every:
        if known.keys() >= set(names):
            continue
        if alike := same_but_for_case(names, known):
            wanted = "columns that differ by more than letter case from those of other files of the table"
            fix = "DuckDB and Spark take them for one. Rename one, in the reader or in clean."
            errors[uri] = TerminalError(
                "Two columns are called alike",
                expected=wanted,
                got=f"'{alike[0]}' and '{alike[1]}'",
                fix=fix,
                code="columns_conflict",
            )
        else:
            known.update(dict.fromkeys(names))
    return errors


def _without_names(every: Sequence[tuple[str, Collection[str]]]) -> dict[str, TerminalError]:
    if not any(numbered(names) for _, names in every):
        return {}
    kept = next((names for _, names in every if not numbered(names)), every[0][1])
    with_header = f"columns as other files of the table have them ({_shown(kept)})"
    return {uri: _refusal(with_header, names) for uri, names in every if clash(names, kept)}


def _refusal(wanted: str, names: Collection[str]) -> TerminalError:
    return TerminalError(
        "The names of columns do not fit the table",
        expected=wanted,
        got=f"{_shown(names)}{' in a file without header' * numbered(names)}",
        fix=_FIX,
        code="columns_conflict",
    )


def _shown(names: Collection[str]) -> str:
    some = list(names)
    return ", ".join(some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")
