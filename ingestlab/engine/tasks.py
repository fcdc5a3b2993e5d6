"""The tasks of a batch on Dask, and what becomes of files whose task fails as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestlab.core.models import Partition, Receipt
from ingestlab.core.settings import Settings
from ingestlab.engine.plan import Plan
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.task.isolated import run_apart, scattered
from ingestlab.engine.task.process import Job
from ingestlab.interfaces import CostlyError, Executor
from ingestlab.sinks.opening import filled_by

log = logging.getLogger("ingestlab")
Task = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]  # partition and job to receipt


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
    ).to_dict()


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

    def run(self) -> list[Receipt]:
        """Run all tasks and give the receipts, in order."""
        again, costly = self._run(self.plan.partitions)
        more, others = self._run([one for part in again for one in scattered(part)])
        assert not more  # the error of one file is its own
        self._run_apart([*costly, *others])
        return sorted(self.receipts, key=lambda receipt: receipt.number)

    def _run(self, parts: Sequence[Partition]) -> tuple[list[Partition], list[Partition]]:
        """Run a task for each partition. Give those to try alone, and those that cost workers."""
        again: list[Partition] = []
        costly: list[Partition] = []
        calls = [(part.to_dict(), dict(self.job)) for part in parts]
        try:
            for place, answer in self._map(self.task, calls, [str(part.number) for part in parts]):
                receipt = Receipt.from_dict(answer)
                if receipt.shared:
                    again.append(parts[place])
                else:
                    self._take(receipt)
        except CostlyError as error:
            log.warning("files of %s tasks are tried apart: %s", len(error.places), error)
            costly = [parts[place] for place in error.places]
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
        if not calls:
            return
        target = self.plan.target
        keys = [f"{target.table}-{target.run}-{self.plan.batch[:8]}-{name}" for name in names]
        self.progress.planned(len(calls))
        yield from self.cluster.map(function, calls, keys, target.pipeline.resources)

    def _take(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        self.progress.processed(receipt)
