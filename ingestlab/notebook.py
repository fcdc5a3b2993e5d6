"""What people use in JupyterLab: a Lab to work with, and runs that show themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ingestlab import stack
from ingestlab.datasets import ensure_samples
from ingestlab.errors import IngestError, TerminalError
from ingestlab.jobs import Run, find_run, recent_runs, submit
from ingestlab.jobs.replays import submit_replay
from ingestlab.jobs.results import RunResult
from ingestlab.lake import Lake, Table
from ingestlab.ledger import Ledger, connect
from ingestlab.members import label
from ingestlab.models import Progress
from ingestlab.profiles.report import TableProfile
from ingestlab.settings import MB, load_settings
from ingestlab.trial import Trial, try_pipeline

if TYPE_CHECKING:
    from ingestlab.compact import Compacted

_BAR = 24  # characters


class Lab:
    """The way into ingestlab from a notebook.

    Connects to the servers that the settings name, else to the embedded stack that runs in the home folder,
    else starts one there; that one goes on when the kernel ends, until :meth:`stop` or ``ingestlab down``.

    Args:
        home: Home folder of the embedded stack; ``INGESTLAB_HOME``, or ``.ingestlab``.
        **overrides: Settings that beat the environment's, e.g. ``tenant="physics"``.
    """

    def __init__(self, home: str | Path | None = None, **overrides: Any) -> None:
        settings = load_settings(home=home, **overrides)
        if not (settings.redis_url or settings.redis_host):
            settings = stack.start(settings)
        self.settings = settings
        self._lake = Lake(settings)

    def submit(self, uris: str | Iterable[str], **options: Any) -> LabRun:
        """Announces files on the queue; takes what :func:`ingestlab.submit` takes, and returns at once."""
        return LabRun.of(submit(uris, settings=self.settings, **options))

    def run(self, run: str) -> LabRun:
        """Re-attaches to a run by its id, wherever it was started."""
        return LabRun.of(find_run(run, self.settings))

    def runs(self, limit: int = 20) -> pd.DataFrame:
        """The latest runs, newest first."""
        found = [(run.id, run.progress()) for run in recent_runs(self.settings, limit)]
        return pd.DataFrame([{"run": run, **progress.to_dict()} for run, progress in found])

    def tables(self) -> pd.DataFrame:
        """The published tables."""
        rows = [{"table": t.name, "rows": t.rows, "parts": len(t.parts), "bytes": t.bytes} for t in self._lake.tables()]
        return pd.DataFrame(rows, columns=["table", "rows", "parts", "bytes"])

    def table(self, name: str) -> Table:
        """One table: ``.pandas()``, ``.dask()``, ``.polars()``, ``.duckdb()``, ``.path``."""
        return self._lake.table(name)

    def rejects(self, table: str, *, run: str | None = None, rule: str | None = None) -> pd.DataFrame:
        """The rows that were kept aside, each with its reason and its raw text."""
        return self._lake.rejects(table, run=run, rule=rule)

    def profile(self, table: str, run: str | None = None) -> TableProfile:
        """What a table's columns look like, and how the last run differs from those before: shows itself."""
        return self._lake.profile(table, run)

    def aggregate(self, table: str, name: str) -> pd.DataFrame:
        """An aggregate of a table, up to date: keys and measures, one row for each group."""
        return self._lake.aggregate(table, name)

    def replay(self, table: str, **options: Any) -> LabRun | None:
        """Feeds rejects through the mended pipeline again; takes `rule`, `run`, `queue`; None if there are none."""
        found = submit_replay(table, settings=self.settings, **options)
        return LabRun.of(found) if found else None

    def compact(self, table: str, *, target_mb: int = 256, sort: Sequence[str] = ()) -> Compacted:
        """Merges the small parts of a table and of its rejects, while ingestion goes on."""
        from ingestlab.compact import compact  # noqa: PLC0415 - slow to import, for this alone
        from ingestlab.ingest import Context  # noqa: PLC0415

        settings = self.settings
        context = Context.create(settings, Ledger(connect(settings.redis), settings.lake_url, settings.lock_ttl))
        with closing(context.cluster):
            return compact(table, context, target=target_mb * MB, sort=sort)

    def check(self, pipeline: str, uri: str) -> Trial:
        """Tries a pipeline on a sample of a file, in this kernel."""
        return try_pipeline(pipeline, uri, self.settings)

    def samples(self, folder: str) -> list[str]:
        """URIs of the sample files of one kind, ``"bts"`` or ``"flights"``, on the embedded file server."""
        base = self.settings.samples
        if not base:
            raise TerminalError("the embedded stack's file server", "no address of one", "Run `ingestlab up`.")
        files = ensure_samples(self.settings.home / "samples") / folder
        return [f"{base.rstrip('/')}/{folder}/{file.name}" for file in sorted(files.glob("*.csv"))]

    def stop(self) -> None:
        """Stops the embedded stack of this home; what is queued and published stays."""
        stack.stop(self.settings.home)

    def _facts(self) -> dict[str, str]:
        return {
            "Redis": self.settings.redis_shown,
            "Dask": self.settings.dask_scheduler or "in each worker",
            "Dashboard": self.settings.dask_dashboard or "",
            "Queue": self.settings.queue,
            "Lake": self.settings.lake_url,
        }

    def __repr__(self) -> str:
        facts = "\n".join(f"  {name:<10}{value}" for name, value in self._facts().items() if value)
        return f"ingestlab\n{facts}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{_linked(value)}</td></tr>"
            for name, value in self._facts().items()
            if value
        )
        return f"<table><caption style='text-align:left'><b>ingestlab</b></caption>{rows}</table>"


class LabRun(Run):
    """A run that shows itself in a notebook."""

    @classmethod
    def of(cls, run: Run) -> LabRun:
        """The same run, with a face."""
        return cls(run.record, run.settings, run.client)

    def watch(self, timeout: float | None = None) -> LabRun:
        """Shows the progress in one place until the run has ended; interrupting it does not hurt the run."""
        show = _display()
        try:
            self.wait(timeout, show)
        except KeyboardInterrupt:
            show(self.progress().model_copy(update={"note": "no longer watched; the run goes on"}))
        return self

    @property
    def files(self) -> pd.DataFrame:
        """How each file ended."""
        return pd.DataFrame([_file_row(self.result(), i) for i in range(len(self.result().outcomes))])

    def __repr__(self) -> str:
        return f"run {self.id}: {_plain(self.progress())}"

    def _repr_html_(self) -> str:
        return f"<code>{escape(self.id)}</code> {_html(self.progress())}"


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
        "error": str(error) if error else None,
        "uri": o.uri,
    }


def _display() -> Callable[[Progress], None]:
    """Something to show progress with: one output that is updated in place; nothing outside IPython."""
    try:
        from IPython.core.getipython import get_ipython  # noqa: PLC0415 - only notebooks have it
        from IPython.display import display  # noqa: PLC0415
    except ImportError:
        return lambda _progress: None
    if get_ipython() is None:  # type: ignore[no-untyped-call, unused-ignore]
        return lambda _progress: None
    handle = display({"text/plain": "queued"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def show(progress: Progress) -> None:
        handle.update({"text/plain": _plain(progress), "text/html": _html(progress)}, raw=True)

    return show


def _plain(p: Progress) -> str:
    text = f"{p.state} {p.files_done}/{p.files} files, {p.rows:,} rows, {p.rejected:,} rejected"
    return text + (f", {p.failed} failed" if p.failed else "") + (f"; {p.note}" if p.note else "")


def _html(p: Progress) -> str:
    done = _BAR * p.files_done // max(1, p.files)
    bar = f"<code>{'█' * done}{'░' * (_BAR - done)}</code>"
    return f"{bar} <b>{p.state}</b> {escape(_plain(p).removeprefix(p.state))}"


def _linked(value: str) -> str:
    text = escape(value)
    return f"<a href='{text}' target='_blank'>{text}</a>" if value.startswith("http") else f"<code>{text}</code>"
