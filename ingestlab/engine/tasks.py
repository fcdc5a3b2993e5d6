"""The tasks of a batch on Dask, and what becomes of files whose task fails as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestlab.core.models import Partition, Receipt
from ingestlab.core.settings import Settings
from ingestlab.engine.plan import SHARED, Plan
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.task.isolated import run_apart, scattered
from ingestlab.engine.task.process import Job, run_each
from ingestlab.interfaces import CostlyError, Executor
from ingestlab.sinks.opening import filled_by

log = logging.getLogger("ingestlab")
Task = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]  # partition and job to receipt
TINY, MOST_TOGETHER = 256 << 10, 16  # bytes and number of partitions that share a task


def job_of(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Give the settings of all tasks of a batch, as plain data."""
    target = plan.target
    return Job(
        run=target.run,
        batch=plan.batch,
        tenant=target.tenant,
        table=target.table,
        pipeline=target.source,
        lake=settings.lake_url,
        storage_options=settings.storage_options,
        references=dict(target.references),
        types=dict(target.types),
        replace=target.replace,
        row_timeout=settings.row_timeout,
        task_timeout=settings.task_timeout,
        sinks=filled_by(target.pipeline),
        earlier=dict(target.earlier),
        previous=dict(target.previous),
        outside=settings.outside() if target.pipeline.asks_servers else {},
    ).to_dict()


def key_of(plan: Plan, name: str) -> str:
    """Name a task on the cluster.

    Args:
        plan: Of its batch.
        name: Of the task in it.
    """
    return f"{plan.target.table}-{plan.target.run}-{plan.batch[:8]}-{name}"


def together(parts: Sequence[Partition], sizes: Mapping[str, int]) -> list[list[Partition]]:
    """Group tiny partitions into tasks, where there are very many.

    Their rows are not joined; but what Dask does for a task is half of what a tiny partition takes.

    Args:
        parts: The partitions.
        sizes: Bytes of each file, by URI.
    """
    most = min(MOST_TOGETHER, len(parts) // (SHARED * SHARED))
    groups: list[list[Partition]] = []
    weight = 0
    for part in parts:
        size = sum((sizes[p.uri] if p.stop is None else p.stop) - p.start for p in part.pieces)
        if groups and len(groups[-1]) < most and weight + size <= TINY:
            groups[-1].append(part)
            weight += size
        else:
            groups.append([part])
            weight = size
    return groups


@dataclass
class Tasks:
    """The tasks of one batch.

    Files whose task failed in a way that nobody has foreseen are tried once more, each by itself; those whose task
    took too long or cost workers, in processes that may die of them. So one file fails alone.

    Args:
        plan: What is to be done.
        cluster: Where.
        progress: Is told of every receipt.
        task: What is done, importable on the workers.
        job: What all tasks are told.
    """

    plan: Plan
    cluster: Executor
    progress: ProgressTracker
    task: Task
    job: Mapping[str, Any]
    receipts: list[Receipt] = field(default_factory=list)

    def run(self, early: Iterable[Receipt] = ()) -> list[Receipt]:
        """Run all tasks and give the receipts, in order.

        Args:
            early: Those that are there already, or come from elsewhere.
        """
        self.progress.planned(len(self.plan.partitions))
        for receipt in early:
            self._take(receipt)
        done = {receipt.number for receipt in self.receipts}
        again, costly = self._run([part for part in self.plan.partitions if part.number not in done])
        alone = [piece for part in again for piece in scattered(part)]
        self.progress.planned(len(alone) + len(costly))
        more, others = self._run(alone)
        assert not more  # the error of one file is its own
        self._run_apart([*costly, *others])
        return sorted(self.receipts, key=lambda receipt: receipt.number)

    def _run(self, parts: Sequence[Partition]) -> tuple[list[Partition], list[Partition]]:
        """Run all partitions. Give those to try alone, and those that cost workers."""
        again: list[Partition] = []
        costly: list[Partition] = []
        groups = together(parts, {file.uri: file.size for file in self.plan.files})
        calls = [(self.task, [part.to_dict() for part in group], dict(self.job)) for group in groups]
        try:
            names = [str(group[0].number) for group in groups]
            for place, answers in self._map(run_each, calls, names):
                for part, answer in zip(groups[place], answers, strict=True):
                    receipt = Receipt.from_dict(answer)
                    if receipt.shared:
                        again.append(part)
                    else:
                        self._take(receipt)
        except CostlyError as error:
            log.warning("files of %s tasks are tried apart: %s", len(error.places), error)
            costly = [part for place in error.places for part in groups[place]]
        return again, costly

    def _run_apart(self, parts: Sequence[Partition]) -> None:
        name = f"{self.task.__module__}:{self.task.__qualname__}"
        calls = [(name, part.to_dict(), dict(self.job)) for part in parts]
        for _, receipts in self._map(run_apart, calls, [f"{part.number}-apart" for part in parts]):
            for receipt in receipts:
                self._take(Receipt.from_dict(receipt))

    def _map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> Iterator[tuple[int, Any]]:
        if calls:
            keys = [key_of(self.plan, name) for name in names]
            yield from self.cluster.map(function, calls, keys, self.plan.target.pipeline.resources)

    def _take(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        self.progress.processed(receipt)
