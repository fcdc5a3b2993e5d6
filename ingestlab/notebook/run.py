"""A run as people have it in a notebook."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from ingestlab.analytics.lake import Lake
from ingestlab.core.archive_uri import label
from ingestlab.core.errors import IngestError, TransientError
from ingestlab.core.models import OVER, Progress
from ingestlab.core.plain_frame import PlainFrame
from ingestlab.core.settings import Settings
from ingestlab.notebook import page
from ingestlab.notebook.progress import View, Watcher
from ingestlab.queue import Run
from ingestlab.queue.broker import reaching
from ingestlab.queue.listeners import queues
from ingestlab.queue.results import RunResult


class Log(str):
    """Lines that are shown as lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class LabRun(Run):
    """A run that shows itself in a notebook."""

    _watched: int | None = None  # the number of the cell that shows it already

    @classmethod
    def of(cls, run: Run) -> LabRun:
        """Give the same run, with a face."""
        return cls(run.record, run.settings, run.client)

    def watch(self, timeout: float | None = None) -> LabRun:
        """Show the progress in one place until the run has ended.

        It may be interrupted, which the run does not notice, and be called again, from another notebook too.

        Args:
            timeout: Seconds after which to look no more; None looks for as long as it takes.

        Raises:
            TransientError: The time is over, or Redis does not answer; the run goes on.
        """
        here = page.shell()
        self._watched = here.execution_count if here else None
        watcher = Watcher(self.id, lambda: starving(self.settings, self.record.queue), self.record.notes)
        again = f'lab.run("{self.id}").watch() looks again'
        try:
            watcher.end(self.wait(timeout, watcher))
        except KeyboardInterrupt:
            watcher.leave(f"No longer watched; the run goes on. {again}.")
        except TransientError as error:
            watcher.leave(f"No longer watched: {error.reason}. {again}.")
            raise
        return self

    @property
    def files(self) -> pd.DataFrame:
        """How each file ended."""
        result = self.result()
        return PlainFrame([_file_row(result, i) for i in range(len(result.outcomes))])

    @property
    def jobs(self) -> pd.DataFrame:
        """List the run's jobs, each with its last worker."""
        with reaching(self.settings):
            known = list(self._jobs())
        rows = [
            {"job": ref.id, "status": job.status if job else None, "worker": job.worker if job else None}
            for ref, job in known
        ]
        return PlainFrame(rows, columns=["job", "status", "worker"])

    def rejects(self, rule: str | None = None) -> pd.DataFrame:
        """Read this run's rejected rows, each with table, reason and raw text.

        Args:
            rule: Only those that broke this one.

        Raises:
            TransientError: The run has not ended yet.
        """
        lake = Lake(self.settings, self.record.tenant)
        runs = sorted({self.id, *(ref.run for ref in self.record.jobs)})
        tables = sorted({o.table for o in self.result().outcomes if o.status == "committed" and o.table})
        frames = [lake.rejects(table, run=run, rule=rule).assign(table=table) for table in tables for run in runs]
        full = [frame for frame in frames if len(frame)] or frames[:1]
        if not full:
            return pd.DataFrame(columns=["table", "run", "rule", "column", "value", "raw"])
        rows = pd.concat(full, ignore_index=True)
        return rows[["table", *(name for name in rows.columns if name != "table")]]

    def log(self) -> Log:
        """Tell what has happened, job by job: when queued, begun and done, by whom, and what failed."""
        return Log("\n".join([f"run {self.id}", *self.history()]))

    def __repr__(self) -> str:
        return self._view().plain()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _ipython_display_(self) -> None:
        """Show the run, unless `watch` does so in this very cell."""
        here = page.shell()
        if here is None:
            print(repr(self))  # noqa: T201 - as IPython in a terminal would
        elif here.execution_count != self._watched:
            view = self._view()
            page.show(view.html(), view.plain())

    def _view(self) -> View:
        """Give the run at this moment; what is shown must not raise."""
        try:
            progress = self.progress()
            result = self.result() if progress.state in OVER else None
        except IngestError as error:
            return View(self.id, Progress(files=self.record.files), note=str(error), known=False)
        again = f'lab.run("{self.id}").watch() follows it' if result is None else ""
        seconds = progress.seconds(time.time())
        return View(self.id, progress, seconds=seconds, result=result, note=again, notes=self.record.notes)


def starving(settings: Settings, queue: str) -> str:
    """Explain why nobody starts a queued job. Empty if a worker listens.

    Args:
        settings: Lead to the queues.
        queue: Its name.
    """
    states = queues(settings.model_copy(update={"queue": queue}))
    if not states or states[0].workers:
        return ""
    if queue == settings.notebook_queue:
        cure = f"the embedded stack starts one by itself; beside other servers run `ingestlab worker {queue}`."
    else:
        cure = f"start one with lab.scale(workers=2), or `ingestlab worker {queue}`."
    return f"No worker listens on the queue {queue}: {cure}"


def _file_row(result: RunResult, i: int) -> dict[str, Any]:
    o = result.outcomes[i]
    error: IngestError | None = o.exception()
    return {
        "file": label(o.uri),
        "status": o.status,
        "table": o.table,
        "rows": o.tally.rows_in,
        "published": o.tally.out,
        "rejected": o.tally.rejected,
        "encoding": o.facts.get("encoding"),
        "compression": o.facts.get("compression"),
        "assumed": o.assumed or None,
        "error": str(error) if error else None,
        "uri": o.uri,
    }
