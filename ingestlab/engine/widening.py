"""One type for each column of a table: what does not fit beside the others is widened in the commit that brings it.

Where a batch has a column in another type than the table, the data files of the narrower type are written anew in
one that holds both, in the same transaction. So readers that know nothing of ingestlab see one type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa

from ingestlab.core.errors import TerminalError, unaccounted
from ingestlab.core.models import PARQUET, Change, DataFile, Staged, digest
from ingestlab.engine.merging import PATIENCE, with_derived
from ingestlab.engine.plan import Plan, Target
from ingestlab.engine.replacing import Replacement, replacement
from ingestlab.engine.services import Services
from ingestlab.engine.task.widening import Widening, widen
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import ADDED, is_text, joined_types, parse_type, type_text
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Table, Transaction
from ingestlab.lake.table_schema import Schema, exactly, read_types, schema_of

AnyChange = TypeVar("AnyChange", bound=Change)


def one_type(
    change: AnyChange, target: Target | None, batch: str, transaction: Transaction, services: Services
) -> AnyChange:
    """Give each column one type in all data files of a table.

    Args:
        change: What is to be committed.
        target: Of the rows; None if no pipeline is known, and readers are to compute aggregates.
        batch: In whose staging folder the files wait.
        transaction: Of the table.
        services: The connections to use.

    Raises:
        BusySourceError: Another job has replaced data files of the table for a minute.
        TerminalError: No type holds the values of both.
    """
    table, known = transaction.table, transaction.table.schema
    several = differing(joined_types(known.types, change.types), known.folder_columns) if change.parts else []
    changed = target is not None and any(known.wanted.get(name) != target.types.get(name) for name in several)
    if not several or changed:  # since the job began: its commit is refused, and the next try may fit
        return change
    transaction.replaces_parts(PATIENCE)
    history = table.log.snapshot().manifests()
    gone = {*change.replaced}
    live = [part for part in live_parts(history) if _is_of(part, table) and part.target not in gone]
    known = schema_of(table.store, table.where, history, gone)
    own = change.types or joined_types(*read_types(table.store, map(_staged, change.parts)))
    both = known.joined(Schema(dict(own)))
    if not differing(both.types, both.folder_columns):  # what differed is replaced
        return change
    files = [*((part, part.target) for part in live), *((part, part.staged) for part in change.parts)]
    wanted, new = widened(both, files, batch, table, services)
    published = {part.target for part in live}
    replaced = {path: part for path, part in new.items() if path in published}
    staged = {path: part for path, part in new.items() if path not in published}
    code = target.source if target else None
    done = replacement(replaced.values(), [*replaced], batch, table, code, history, services, soon=gone)
    if target:
        plan = Plan(batch=batch, target=target, files=(), partitions=())
        change = change.model_copy(update={"sinks": with_derived(change, {**staged}, plan, services)})
    else:
        change = change.with_files({PARQUET: [new.get(part.target, part) for part in change.parts]})
    both_types = {n: (wanted.get(n, kinds[0]),) if n in wanted else kinds for n, kinds in both.types.items()}
    mine = {*own, *done.types}
    widened_change: AnyChange = change.model_copy(
        update={
            "sinks": _with(change.sinks, done),
            "replaced": (*change.replaced, *done.replaced),
            "profile": (*(p for p in change.profile if staged.keys().isdisjoint(p.parts)), *done.profile),
            "types": {name: kinds for name, kinds in both_types.items() if name in mine},
        }
    )
    return widened_change


def widened(
    schema: Schema, files: Sequence[tuple[DataFile, str]], batch: str, table: Table, services: Services
) -> tuple[dict[str, str], dict[str, DataFile]]:
    """Stage data files with other types again, in one type a column.

    Args:
        schema: The columns of all files.
        files: Each with the path where it is.
        batch: In whose staging folder the new ones wait.
        table: Which table.
        services: The connections to use.

    Returns:
        The types of the columns that had several, and the new file for each old target.

    Raises:
        TerminalError: A value fits no type that also holds the others.
    """
    several = differing(schema.types, schema.folder_columns)
    here = [part.model_copy(update={"target": path}) for part, path in files]
    shown = exactly(Schema({n: schema.types[n] for n in several}, schema.folders), table.store, here)
    wanted = {name: type_text(shown[name]) for name in several}
    while True:
        answers = _run(wanted, files, batch, table, services)
        misfit = next((answer for answer in answers if "misfit" in answer), None)
        if misfit is None:
            break
        column = str(misfit["misfit"])
        kind = parse_type(wanted[column])
        if is_text(kind) or pa.types.is_nested(kind):
            raise TerminalError(
                f"No type holds all values of column '{column}' of table {table.name}",
                expected=", ".join(schema.types[column]),
                got=f"e.g. {misfit['value']}",
                fix="Submit the file to a table of its own, or declare the column.",
                code="types_conflict",
            )
        wanted[column] = "string"
    new = {
        part.target: DataFile.from_dict(answer["part"])
        for (part, _), answer in zip(files, answers, strict=True)
        if answer
    }
    before, after = sum(part.rows for part, _ in files if part.target in new), sum(p.rows for p in new.values())
    if before != after:
        raise unaccounted("Widened data files have another number of rows", f"{before:,}", f"{after:,}")
    return wanted, new


def differing(types: Mapping[str, Collection[str]], folders: Collection[str]) -> list[str]:
    """List the columns of files that have several types.

    Args:
        types: By column.
        folders: Names of columns that are in no file.
    """
    return [name for name, kinds in types.items() if len({*kinds}) > 1 and name not in folders and name not in ADDED]


def _run(
    wanted: Mapping[str, str], files: Sequence[tuple[DataFile, str]], batch: str, table: Table, services: Services
) -> list[dict[str, dict[str, object]]]:
    """Widen each file in a task."""
    settings, name = services.settings, digest(dict(wanted))[:12]
    work = [
        Widening(part=part, path=path, types=dict(wanted), target=_target(part, batch, name), batch=batch)
        for part, path in files
    ]
    calls = [(one.to_dict(), settings.lake_url, settings.storage_options) for one in work]
    keys = [f"widen-{table.name}-{batch[:8]}-{name}-{i}" for i in range(len(calls))]
    answers = dict(services.cluster.map(widen, calls, keys))
    return [answers[i] for i in range(len(calls))]


def _target(part: DataFile, batch: str, name: str) -> str:
    """Name the new file: alike for every try."""
    folder, _, old = part.target.rpartition("/")
    return f"{folder}/{batch}-w{digest([old, name])[:12]}.parquet"


def _staged(part: DataFile) -> DataFile:
    return part.model_copy(update={"target": part.staged})


def _is_of(part: DataFile, table: Table) -> bool:
    return part.target.startswith(f"{layout.table(*table.where)}/")


def _with(sinks: Mapping[str, Staged], more: Replacement) -> dict[str, Staged]:
    """Add the files of a replacement."""
    both = dict(sinks)
    for name, staged in more.sinks.items():
        before = both.get(name, Staged())
        both[name] = Staged(files=(*before.files, *staged.files), note=before.note)
    assert PARQUET in both
    return both
