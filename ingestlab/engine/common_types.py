"""One schema for a batch: parts of its tasks that came out in different types are staged again, before the commit.

Each task has cast to the types that the table had when the job began. Where a column is new, tasks may differ:
whole numbers here, where all are known, and floats there. Which type it is to be is decided here, for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import PARQUET, DataFile, Receipt
from ingestlab.engine.plan import Plan
from ingestlab.engine.services import Services
from ingestlab.engine.task.conform import REWRITE, Restage, infers, is_loose, restage
from ingestlab.engine.task.nameless import apart_in
from ingestlab.lake.arrow_schema import common_type, is_text, parse_type, readable, type_text
from ingestlab.sinks.opening import filled_by

_APART = "Submit the files one after the other, or those that differ to a table of their own; or declare the column."


def unify_types(plan: Plan, receipts: Sequence[Receipt], services: Services) -> list[Receipt]:
    """Bring a batch's parts to one schema where no value changes.

    Under ``evolve`` a part that does not fit stays as it is. Else the files of its task fail, since nobody could read
    them with the others; but for objects and lists, where a reader infers its columns: they stay as they are.

    Args:
        plan: What was processed.
        receipts: Of all its tasks, in order.
        services: Stage parts again.
    """
    loose, own = is_loose(plan.target.pipeline), infers(plan.target.pipeline)
    if loose or own:
        receipts = _beside_each_other(receipts)
    wanted = _wanted(receipts, plan.target.types, as_text=loose or own)
    work = [
        (i, _restaging(part, wanted, receipt, plan.batch, loose=loose))
        for i, receipt in enumerate(receipts)
        if _differs(receipt, wanted, loose=loose)
        for part in receipt.parts
    ]
    if not work:
        return list(receipts)
    settings = services.settings
    calls = [(spec.to_dict(), settings.lake_url, settings.storage_options) for _, spec in work]
    keys = [f"unify-{plan.target.table}-{plan.batch[:8]}-{n}" for n in range(len(work))]
    answers: dict[int, dict[str, dict[str, Any]]] = {}
    for place, answer in services.cluster.map(restage, calls, keys):
        number, spec = work[place]
        answers.setdefault(number, {})[spec.part.target] = answer
    done = list(receipts)
    for number, mine in sorted(answers.items()):
        done[number] = _unified(receipts[number], mine, wanted, plan, loose=loose)
    return _restated(done, receipts, plan, services)


def _beside_each_other(receipts: Sequence[Receipt]) -> list[Receipt]:
    """Let files fail whose column names cannot stand beside the others'."""
    errors = {uri: error.to_dict() for uri, error in apart_in(receipts).items()}

    def one(receipt: Receipt) -> Receipt:
        mine = {uri: errors[uri] for uri in receipt.tallies if uri in errors}
        return Receipt(number=receipt.number, errors={**mine, **receipt.errors}) if mine else receipt

    return [one(receipt) for receipt in receipts]


def _wanted(receipts: Iterable[Receipt], known: Mapping[str, str], *, as_text: bool) -> dict[str, str]:
    """Choose each column's type: the table's, one for all tasks, the first.

    Objects and lists that are not quite as in the table have none where numbers may become text: readers show them.
    """
    kinds: dict[str, dict[str, None]] = {}
    for receipt in receipts:
        for name, kinds_of_task in receipt.types.items():
            kinds.setdefault(name, {}).update(dict.fromkeys(kinds_of_task))
    wanted = {}
    for name, several in kinds.items():
        types = [parse_type(kind) for kind in several]
        if as_text and name in known and all(map(pa.types.is_nested, types)):
            continue
        both = common_type(types)
        if is_text(both) and not (as_text and readable(types)):
            both = next((kind for kind in types if not pa.types.is_null(kind)), both)
        wanted[name] = known.get(name, type_text(both))
    return wanted


def _differs(receipt: Receipt, wanted: Mapping[str, str], *, loose: bool) -> bool:
    """Tell whether a task has other column types or lacks columns."""
    other = any(set(kinds) != {wanted[name]} for name, kinds in receipt.types.items() if name in wanted)
    return bool(receipt.parts) and (other or (not loose and not wanted.keys() <= receipt.types.keys()))


def _restaging(part: DataFile, wanted: Mapping[str, str], receipt: Receipt, batch: str, *, loose: bool) -> Restage:
    folders = {step.partition("=")[0] for step in part.target.split("/")[3:-1]}
    types = {n: kind for n, kind in wanted.items() if n not in folders and (not loose or n in receipt.types)}
    return Restage(part=part, types=types, target=f"{part.target.removesuffix('.parquet')}-t.parquet", batch=batch)


def _unified(
    receipt: Receipt, answers: Mapping[str, dict[str, Any]], wanted: Mapping[str, str], plan: Plan, *, loose: bool
) -> Receipt:
    """Give a receipt its new parts, none if one does not fit."""
    misfit = next((answer for answer in answers.values() if "misfit" in answer), None)
    if misfit is None:
        parts = tuple(DataFile.from_dict(answers[part.target]["part"]) for part in receipt.parts)
        types = {n: (kind,) for n, kind in wanted.items() if not loose or n in receipt.types}
        left = {n: kinds for n, kinds in receipt.types.items() if n not in wanted}
        return receipt.with_files({PARQUET: parts}).model_copy(update={"types": types | left})
    table, column = plan.target.table, str(misfit["misfit"])
    if loose and readable(map(parse_type, (wanted[column], *receipt.types.get(column, ())))):
        return receipt
    got = f"{', '.join(str(parse_type(kind)) for kind in receipt.types.get(column, ()))}, e.g. {misfit['value']}"
    wanted_one = f"{parse_type(wanted[column])} in column '{column}', as other files of table {table} have it"
    fix = _APART if infers(plan.target.pipeline) else REWRITE.format(table=table)
    error = TerminalError(
        "Types of files conflict", expected=wanted_one, got=got, fix=fix, code="types_conflict"
    ).to_dict()
    return Receipt(number=receipt.number, errors={**dict.fromkeys(receipt.tallies, error), **receipt.errors})


def _restated(done: list[Receipt], before: Sequence[Receipt], plan: Plan, services: Services) -> list[Receipt]:
    """Replace what sinks derived from data files that are new."""
    changed = [i for i, receipt in enumerate(done) if receipt.parts and receipt.parts != before[i].parts]
    parts = [part for i in changed for part in done[i].parts]
    where = (plan.target.tenant, plan.target.table)
    for name in filled_by(plan.target.pipeline) if parts else ():
        derived = services.lake.sinks[name].derive(plan.target.source, where, plan.batch, parts)
        for i in changed if derived else ():
            own = [file for part in done[i].parts for file in derived[part.target]]
            done[i] = done[i].with_files({name: own})
    return done
