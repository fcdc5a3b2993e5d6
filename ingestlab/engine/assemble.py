"""A processed batch: the receipts of its tasks added up, and every row accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from ingestlab.analytics.profiles import files as profiling
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Change, FetchedFile, Receipt, SourceRecord, Staged, Tally
from ingestlab.engine.plan import Plan
from ingestlab.engine.task import quality_gate as gate
from ingestlab.engine.task.conform import infers, is_loose
from ingestlab.engine.task.nameless import apart_in
from ingestlab.engine.task.sinks import put_together
from ingestlab.interfaces import Sink
from ingestlab.lake.arrow_schema import joined_types


class Batch(Change):
    """A processed batch: what goes in, and what fell out."""

    errors: dict[str, dict[str, str]] = Field(default_factory=dict)  # by URI, of the files that failed


def assemble(plan: Plan, receipts: Sequence[Receipt], sinks: Mapping[str, Sink]) -> Batch:
    """Add up the receipts of a batch, without the failed files.

    Args:
        plan: What was processed.
        receipts: Of all its tasks, in order.
        sinks: Those of the lake, by name.

    Raises:
        TerminalError: The counts do not add up, so rows were lost or doubled on the way.
    """
    names, pipeline = {f.uri: f.name for f in plan.files}, plan.target.pipeline
    errors = gate.judged(receipts, names, pipeline.max_reject_ratio, pipeline.name)
    errors |= {uri: error for receipt in receipts for uri, error in receipt.errors.items()}
    if is_loose(pipeline) or infers(pipeline):
        left = [r for r in receipts if not _all_failed(r, errors)]
        errors |= {uri: error.to_dict() for uri, error in apart_in(left).items()}
    sound = [r for r in receipts if not _all_failed(r, errors)]
    tallies: dict[str, Tally] = {}
    rules: dict[str, int] = {}
    for receipt in sound:
        for uri, tally in receipt.tallies.items():
            tallies[uri] = tallies.get(uri, Tally()) + tally
        for rule, count in receipt.rules.items():
            rules[rule] = rules.get(rule, 0) + count
    target = plan.target
    batch = Batch(
        pipeline=target.source.name,
        code=target.source.sha256,
        references=dict(target.references),
        sources=tuple(_record(f, tallies[f.uri], _facts(f, sound), plan) for f in plan.files if f.uri in tallies),
        sinks=joined(sound, sinks),
        profile=profiling.of_receipts(sound),
        rules=rules,
        errors=errors,
        types=joined_types(*(r.types for r in sound)),
    )
    _check_counts(batch)
    return batch


def joined(receipts: Sequence[Receipt], sinks: Mapping[str, Sink]) -> dict[str, Staged]:
    """Put together what tasks have staged, sink by sink."""
    groups: dict[str, list[Staged]] = {}
    for receipt in receipts:
        for name, staged in receipt.sinks.items():
            groups.setdefault(name, []).append(staged)
    return {name: put_together(several, sinks[name]) for name, several in groups.items()}


def _all_failed(receipt: Receipt, errors: Mapping[str, dict[str, str]]) -> bool:
    """Tell whether a task worked only for files that failed."""
    return not set(receipt.tallies) - set(errors)


def _facts(file: FetchedFile, receipts: Sequence[Receipt]) -> dict[str, str]:
    """Collect the facts of a file. Those of its pieces may differ."""
    values_by_name: dict[str, dict[str, None]] = {}
    for receipt in receipts:
        for name, value in receipt.facts.get(file.uri, {}).items():
            values_by_name.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in values_by_name.items()}


def _record(file: FetchedFile, tally: Tally, facts: dict[str, str], plan: Plan) -> SourceRecord:
    return SourceRecord(
        uri=file.uri,
        sha256=file.sha256,
        version=file.version,
        size=file.size,
        raw=file.path,
        tally=tally,
        run=plan.target.run,
        batch=plan.batch,
        facts={**file.facts, **facts},
    )


def _check_counts(batch: Batch) -> None:
    total = sum((r.tally for r in batch.sources), Tally())
    parts, rejects = sum(p.rows for p in batch.parts), sum(p.rows for p in batch.rejects)
    lost = [r.uri for r in batch.sources if not r.tally.balanced]
    if lost or parts != total.out or rejects != total.rejected:
        raise TerminalError(
            "Rows are unaccounted for",
            expected="every source row published or rejected once",
            got=f"{total.rows_in} rows in, {total.accepted} accepted, {total.rejected} rejected; "
            f"{parts} rows in parts for {total.out}, {rejects} in rejects; first file: {(lost or ['-'])[0]}",
            fix="Nothing was published. This is a fault in ingestlab or its storage: please report it.",
            code="inconsistent",
        )
