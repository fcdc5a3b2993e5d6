"""The way into ingestlab from a notebook."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pandas as pd

from ingestlab import stack
from ingestlab.analytics.lake import Lake
from ingestlab.analytics.profiles.report import TableProfile
from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.models import Progress
from ingestlab.core.plain_frame import PlainFrame
from ingestlab.core.schemes import traits
from ingestlab.core.settings import MB, Settings, load_settings
from ingestlab.engine.dry_run import Trial, try_pipeline
from ingestlab.lake.locks import connect
from ingestlab.lake.past import AsOf
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for
from ingestlab.notebook import card, page
from ingestlab.notebook.charts import Summary
from ingestlab.notebook.run import LabRun
from ingestlab.notebook.stopwatch import stopwatch
from ingestlab.notebook.tables import LabTable
from ingestlab.queue import find_run, recent_runs, submit
from ingestlab.queue.broker import broker, reaching
from ingestlab.queue.replays import submit_replay
from ingestlab.sinks.milvus.search import search
from ingestlab.sinks.milvus.search_result import SearchResult
from ingestlab.sinks.milvus.vector_values import Filter
from ingestlab.sources.expand import Uris, expand
from ingestlab.stack.samples import ensure_samples
from ingestlab.stack.state import home_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ingestlab.maintenance.compact import Compacted
    from ingestlab.maintenance.delete import Deleted
    from ingestlab.maintenance.diff import Diff
    from ingestlab.maintenance.rewrite import Rewritten
    from ingestlab.maintenance.undo import Undone
    from ingestlab.queue import Synced
    from ingestlab.sinks.milvus.reembed.reembed import Reembedded

_FIRST = ("run", "at", "state", "files", "rows", "rejected", "failed")  # columns of the list of runs that fit a screen
_SILENT = logging.NullHandler()


class Lab:
    """The way into ingestlab from a notebook.

    Connects to the servers that the settings name, else to the embedded stack that runs in the home folder,
    else starts one there; that one goes on when the kernel ends, until :meth:`stop` or ``ingestlab down``.

    Args:
        home: Home folder of the embedded stack; ``INGESTLAB_HOME``, or ``.ingestlab``.
        **overrides: Settings that beat the environment's, e.g. ``tenant="physics"``.

    Examples:
        >>> from ingestlab import Lab
        >>> lab = Lab()
        >>> lab.submit("data/alarm-*.csv").wait().state
        'finished'
        >>> lab.table("bts_alarms").pandas()["station_id"].nunique() > 1
        True
    """

    def __init__(self, home: str | Path | None = None, **overrides: Any) -> None:
        settings = load_settings(home=home, **overrides)
        if not (settings.redis_url or settings.redis_host):
            settings = _started(settings)
        self.settings = settings = settings_for(settings.tenant, settings)
        self._lake = Lake(settings)
        logging.getLogger("stamina").addHandler(_SILENT)  # what is tried again by itself is no news in a notebook
        for scheme, options in settings.storage_options.items():  # so that pandas, too, reads what a cell names
            fsspec.config.conf.setdefault(scheme, {}).update(options)
        scheme, remote, _ = settings.lake_url.partition("://")
        if remote:  # a listing that is kept names no part of the next commit, which other processes make
            fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False

    def submit(self, uris: Uris, **options: Any) -> LabRun:
        """Announce files on the queue, and return at once.

        Args:
            uris: A URI or several; patterns as ``"data/*.csv"``.
            **options: What else :func:`ingestlab.submit` takes.
        """
        return LabRun.of(submit(uris, settings=self.settings, **options))

    def publish(
        self, frame: Any, table: str, *, name: str | None = None, pipeline: str | None = None, **options: Any
    ) -> LabRun:
        """Publish the rows of a frame as a table, like a file. Return at once.

        The same frame twice is *unchanged*. It has a URI in `_source`, by which it is deleted, and a run to undo.

        Args:
            frame: Of pandas, Polars, Arrow, DuckDB, Dask, or Spark (on this machine's memory).
            table: The table; its own columns `_source` and `_row` are left out of the frame.
            name: A name for the frame, for pipelines that replace what a source brought before; by default its
                content names it, and its rows are added.
            pipeline: A pipeline of the table, with its contract; without it the columns are taken as they are.
            **options: What else :func:`ingestlab.submit` takes.

        Raises:
            TerminalError: It is no frame, or the pipeline fills another table.
        """
        from ingestlab.notebook.publish import put_frame  # noqa: PLC0415 - for this alone

        uri = put_frame(frame, table, self.settings, name=name, pipeline=pipeline)
        return self.submit(uri, table=table, pipeline=pipeline, **options)

    def notebook(self, notebook: str | Path, /, **parameters: Any) -> LabRun:
        """Have a worker run a notebook and keep it. Return at once.

        ``run.result().kept`` says where it is kept, and which run it has made.

        Args:
            notebook: One of the notebooks folder, by its path there or from here.
            **parameters: Plain values for the names that its cell of parameters assigns.

        Raises:
            TerminalError: There is no such notebook, or it has no such parameter.
        """
        from ingestlab.notebook.runner import submit_notebook  # noqa: PLC0415 - slow to import, for this alone

        return LabRun.of(submit_notebook(notebook, parameters, settings=self.settings))

    def run(self, run: str | None = None) -> LabRun:
        """Re-attach to a run, wherever it was started: a notebook whose kernel is gone, a terminal, a schedule.

        Args:
            run: Its id; the latest run if not given.
        """
        if run is not None:
            return LabRun.of(find_run(run, self.settings))
        latest = recent_runs(self.settings, 1)
        if not latest:
            raise TerminalError("There is no run yet", fix="lab.submit() starts one.", code="run_unknown")
        return LabRun.of(latest[0])

    def runs(self, limit: int = 20) -> pd.DataFrame:
        """List the latest runs, newest first. ``lab.run(id)`` takes one up again.

        Args:
            limit: How many at most.
        """
        states = [(run.record, run.progress()) for run in recent_runs(self.settings, limit)]
        rows = [
            {"run": r.id, "at": pd.Timestamp(int(r.at), unit="s"), "queue": r.queue, "pipeline": r.pipeline}
            | p.to_dict()
            for r, p in states
        ]
        more = [name for name in ("queue", "pipeline", *Progress.model_fields) if name not in (*_FIRST, "failures")]
        return PlainFrame(rows, columns=[*_FIRST, *more])

    def tables(self) -> pd.DataFrame:
        """List the published tables."""
        rows = [{"table": t.name, "rows": t.rows, "parts": len(t.parts), "bytes": t.bytes} for t in self._lake.tables()]
        return PlainFrame(rows, columns=["table", "rows", "parts", "bytes"])

    def table(self, name: str, as_of: AsOf | None = None) -> LabTable:
        """Open a table: ``.pandas()``, ``.dask()``, ``.polars()``, ``.duckdb()``, ``.path``.

        Args:
            name: Of the table.
            as_of: An earlier state: a run, whose last commit is in it; a time (without zone a local one), or a number
                of ``lab.history(name)``. ``.path`` stays the folder of now.

        Raises:
            TerminalError: There is no such table, or its state is no longer kept.
        """
        return LabTable.of(self._lake.table(name, as_of))

    def spark(self, name: str, columns: Sequence[str] | None = None, as_of: AsOf | None = None) -> DataFrame:
        """Open a table as a Spark frame: files and types by the log. ``.toArrow()`` brings results back.

        The session is the one that there is, else that of the server in ``SPARK_REMOTE``, else a local one.

        Args:
            name: Of the table.
            columns: Names, in this order; None for all.
            as_of: An earlier state, as for :meth:`table`.

        Raises:
            TerminalError: There is no such table or column, PySpark is missing, or Spark cannot read a column.
        """
        return self._lake.table(name, as_of).spark(columns)

    def history(self, table: str, limit: int = 20) -> pd.DataFrame:
        """List the commits of a table, newest first: what each changed, and until when it can be read or undone.

        Args:
            table: Its name.
            limit: How many at most.
        """
        from ingestlab.maintenance.history import read_history  # noqa: PLC0415 - slow to import, for this alone

        self._lake.table(table)  # names those there are, if it is none of them
        store = open_store(self.settings.lake_url, self.settings.storage_options)
        return read_history(table, store, self.settings, limit=limit).frame()

    @stopwatch("lab.diff()")
    def diff(
        self, table: str, old: AsOf, new: AsOf | None = None, *, key: Sequence[str] = (), limit: int = 1000
    ) -> Diff:
        """Compare two states of a table: rows that came, went or changed.

        Args:
            table: Its name.
            old: The earlier state, as `as_of` of :meth:`table`.
            new: The later one; now if not given.
            key: Columns that tell rows apart; the pipeline's `key` if not given. Without any, no row counts as changed.
            limit: How many rows of each kind are given.
        """
        from ingestlab.maintenance.diff import diff  # noqa: PLC0415 - slow to import, for this alone

        return diff(table, old, new, self.settings, key=key, limit=limit)

    @stopwatch("lab.rejects()")
    def rejects(self, table: str, *, run: str | None = None, rule: str | None = None) -> pd.DataFrame:
        """Read the rejected rows, each with its reason and its raw text.

        Args:
            table: Its name.
            run: Only those of this run.
            rule: Only those of this rule, e.g. ``type``.
        """
        return self._lake.rejects(table, run=run, rule=rule)

    @stopwatch("lab.profile()")
    def profile(self, table: str, run: str | None = None) -> TableProfile:
        """Profile a table: its columns, and how the last run differs from earlier ones.

        Args:
            table: Its name.
            run: The run to compare; None for the last one.
        """
        return self._lake.profile(table, run)

    @stopwatch("lab.aggregate()")
    def aggregate(self, table: str, name: str) -> pd.DataFrame:
        """Read an aggregate, up to date: keys and measures, a row a group, with a chart.

        Args:
            table: Its name.
            name: Of the aggregate.
        """
        frame = self._lake.aggregate(table, name)
        summary = Summary(frame)
        summary.attrs = frame.attrs
        return summary

    @stopwatch("lab.search()")
    def search(
        self,
        collection: str,
        query: Any,
        limit: int = 10,
        filter: Filter | None = None,  # noqa: A002 - what everyone calls it
        tenant: str | None = None,
        distinct: str | None = None,
    ) -> SearchResult:
        """Search a collection for the rows nearest to a text or image. Images are shown.

        Args:
            collection: Its name: the table's, if the pipeline's embedding gives no other.
            query: A text, or an image (bytes, a ``pathlib.Path``, or one of Pillow's); or a list of these.
            limit: How many rows.
            filter: Values that columns must have, ``{"status": [404, 500], "name": None}`` (None is null), or Milvus's
                own, ``"status >= 400"``.
            tenant: Whose rows; the Lab's own tenant if not given.
            distinct: A column, e.g. ``"text"``: of rows with one value only the best is shown, and how many there are.
        """
        return search(collection, query, self.settings, limit=limit, only=filter, distinct=distinct, tenant=tenant)

    def documents(self, table: str, tenant: str | None = None) -> Any:
        """Give the collection of a table's documents, as pymongo has it.

        Args:
            table: Its name.
            tenant: Whose; the Lab's own tenant if not given.
        """
        from ingestlab.sinks.mongodb.link import open_documents  # noqa: PLC0415 - for this alone

        return open_documents(table, self.settings, tenant or self.settings.tenant)

    @stopwatch("lab.embed()")
    def embed(self, texts: Sequence[str], model: str = "wordllama") -> np.ndarray[Any, np.dtype[np.float32]]:
        """Embed texts in this kernel, without a collection.

        Args:
            texts: What to embed.
            model: Its name, as in :class:`ingestlab.Embedding`.

        Returns:
            float32 of shape (n, dim), each row one unit long.
        """
        from ingestlab.analytics.embedders.registry import embed_all, load  # noqa: PLC0415 - for this alone

        return embed_all(load(model), texts)

    def replay(self, table: str, **options: Any) -> LabRun | None:
        """Feed rejects through the corrected pipeline again.

        Args:
            table: Its name.
            **options: `rule` and `run` choose rejects; `queue` names another queue.

        Returns:
            The run that does it; None without rejects to replay.
        """
        self._lake.table(table)  # names those there are, if it is none of them
        run = submit_replay(table, settings=self.settings, **options)
        return LabRun.of(run) if run else None

    @stopwatch("lab.compact()")
    def compact(self, table: str, *, target_mb: int = 256, sort: Sequence[str] = ()) -> Compacted:
        """Merge small parts of a table and of its rejects. Ingestion goes on.

        Args:
            table: Its name.
            target_mb: Megabytes of a merged part, about.
            sort: Columns to sort the merged rows by.
        """
        from ingestlab.engine.services import Services  # noqa: PLC0415
        from ingestlab.maintenance.compact import compact  # noqa: PLC0415 - slow to import, for this alone

        with reaching(self.settings), Services.opened(self.settings) as services:
            return compact(table, services, target=target_mb * MB, sort=sort)

    @stopwatch("lab.rewrite()")
    def rewrite(self, table: str, types: Mapping[str, str] | None = None) -> Rewritten:
        """Rewrite a table in one schema and the folders of its pipeline.

        Args:
            table: Its name.
            types: Arrow types that columns are to have, e.g. ``{"v": "double"}``.
        """
        from ingestlab.engine.services import Services  # noqa: PLC0415 - slow to import, for this alone
        from ingestlab.maintenance.rewrite import rewrite  # noqa: PLC0415

        with reaching(self.settings), Services.opened(self.settings) as services:
            return rewrite(table, services, types=types)

    @stopwatch("lab.reembed()")
    def reembed(self, table: str) -> Reembedded:
        """Embed a table again as its pipeline says now. Searches then find these vectors.

        Takes as long as the model does; meanwhile the old ones are found, and files for the table wait their turn.

        Args:
            table: Its name.
        """
        from ingestlab.engine.services import Services  # noqa: PLC0415 - slow to import, for this alone
        from ingestlab.maintenance.reembed import reembed  # noqa: PLC0415

        with reaching(self.settings), Services.opened(self.settings) as services:
            report: Reembedded = reembed(table, services)
            return report

    @stopwatch("lab.delete()")
    def delete(self, uris: str | Iterable[str], table: str | None = None) -> list[Deleted]:
        """Take files out of a table, or of all tables: their rows, rejects, aggregates and vectors.

        Args:
            uris: URIs as ``_source`` has them, paths or patterns; an archive's means its members.
            table: Its name.
        """
        from ingestlab.engine.services import Services  # noqa: PLC0415
        from ingestlab.maintenance.delete import delete  # noqa: PLC0415 - slow to import, for this alone

        with reaching(self.settings), Services.opened(self.settings) as services:
            return delete(uris, services, table=table)

    @stopwatch("lab.undo()")
    def undo(self, run: str) -> list[Undone]:
        """Undo a run in all its tables: what it replaced comes back.

        Args:
            run: Its id, as `lab.history` has it; also that of a deletion, or of an undo.
        """
        from ingestlab.engine.services import Services  # noqa: PLC0415
        from ingestlab.maintenance.undo import undo  # noqa: PLC0415 - slow to import, for this alone

        with reaching(self.settings), Services.opened(self.settings) as services:
            return undo(run, services)

    @stopwatch("lab.sync()")
    def sync(self, folder: str | Path, **options: Any) -> Synced:
        """Make tables agree with a folder or bucket: submit what is new or changed, take out what has vanished.

        Args:
            folder: All below it is meant.
            **options: What else :func:`ingestlab.queue.sync` takes.

        Returns:
            Counts, and the ids of the runs that go on.
        """
        from ingestlab.queue import sync  # noqa: PLC0415 - slow to import, for this alone

        return sync(str(folder), settings=self.settings, **options)

    def ls(self, *words: str) -> list[str]:
        """List files in the lake: those with one of the words in their names, or all.

        Args:
            *words: Parts of a name.
        """
        store = open_store(self.settings.lake_url, self.settings.storage_options)
        names = [name for name in store.walk("") if not words or any(word in name for word in words)]
        if not self.settings.tenant_token:
            return names
        mine = [("raw", self.settings.tenant), ("tables", self.settings.tenant)]
        return [name for name in names if tuple(name.split("/")[:2]) in mine]

    @stopwatch("lab.check()")
    def check(self, pipeline: str, uri: str) -> Trial:
        """Try a pipeline on a sample of files, in this kernel.

        Args:
            pipeline: Its name, or the path of its file.
            uri: Of the file, or a pattern.
        """
        return try_pipeline(pipeline, uri, self.settings)

    @stopwatch("lab.new()")
    def new(self, name: str, source: str, *, force: bool = False) -> Path:
        """Write a pipeline from sample files, as ``ingestlab new`` does.

        Args:
            name: The pipeline's name.
            source: A file of its kind: a path or any URI; or a pattern, of which some files are looked at.
            force: Whether to replace a pipeline of that name.

        Returns:
            The pipeline's file.
        """
        from ingestlab.engine.scaffold.propose import propose, write  # noqa: PLC0415 - slow to import, for this alone

        return write(propose(source, self.settings, name), self.settings, force=force)

    def samples(self, folder: str) -> list[str]:
        """List sample files of one kind: on the embedded server, or where `ingestlab init` put them.

        Args:
            folder: ``"bts"``, ``"flights"``, ``"weblogs"``, ``"pages"``, ``"documents"``, ``"digits"`` or
                ``"references"``.
        """
        base = self.settings.samples
        if not base:
            raise TerminalError(
                "There is no address of the embedded stack's file server",
                fix="Run `ingestlab up`.",
                code="stack_not_running",
            )
        if not traits(base.partition("://")[0]).host:
            return [source.uri for source in expand([f"{base.rstrip('/')}/{folder}/*"], self.settings)]
        files = ensure_samples(self.settings.home / "samples", folder) / folder
        if not files.is_dir():
            known = sorted(path.name for path in files.parent.iterdir() if path.is_dir())
            raise TerminalError(
                f"There are no samples '{folder}'",
                expected=f"a kind of samples ({', '.join(known)})",
                got=f"'{folder}'",
                fix=did_you_mean(folder, known, ""),
                code="argument_invalid",
            )
        return [f"{base.rstrip('/')}/{folder}/{file.name}" for file in sorted(files.iterdir())]

    def parts(self) -> PlainFrame:
        """List the embedded stack's processes, or your own servers and workers."""
        state = stack.running(home_of(self.settings))
        if state is not None and state.serves(self.settings):
            return PlainFrame([{"part": name, "where": f"process {proc.pid}"} for name, proc in state.pids.items()])
        s = self.settings
        servers = {
            "redis": s.redis_shown,
            "dask": s.dask_scheduler,
            "milvus": s.milvus_shown,
            "mongodb": s.mongodb_shown,
        }
        servers["lake"] = s.lake_url
        rows = [{"part": name, "where": where} for name, where in servers.items() if where]
        with reaching(s), connect(s.redis) as client:
            listeners = broker(s, client).listeners(s.queue)
        rows += [{"part": f"worker {w.name}", "where": f"{w.host}, process {w.pid}"} for w in listeners]
        return PlainFrame(rows)

    def stop(self) -> None:
        """Stop the embedded stack of this home. What is queued and published stays."""
        stack.stop(self.settings.home)

    def scale(self, workers: int | None = None, dask_workers: int | None = None) -> Lab:
        """Scale the embedded stack, and wait until new workers are ready.

        Args:
            workers: RQ workers: how many jobs run at once. One that has to go finishes its job first.
            dask_workers: Processes of the Dask cluster: how many partitions are worked on at once.

        Raises:
            TerminalError: So many are not to be had, or the servers are not those of the embedded stack.
        """
        state = stack.running(home_of(self.settings))
        if state is not None and not state.serves(self.settings):
            fix = "Start more of `ingestlab worker` and `dask worker` on your machines."
            raise TerminalError(
                "The workers are not the embedded stack's",
                expected="the embedded stack",
                got=f"a server of your own, {self.settings.redis_shown}",
                fix=fix,
                code="argument_invalid",
            )
        stack.scale(self.settings.home, workers=workers, dask_workers=dask_workers)
        return self

    def __repr__(self) -> str:
        return card.look(self.settings).plain()

    def _repr_html_(self) -> str:
        return card.look(self.settings).html()

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, str]:
        seen = card.look(self.settings)  # once for both forms
        return page.bundle(seen.html(), seen.plain())


def _started(settings: Settings) -> Settings:
    """Start the embedded stack, or find the running one. Its start takes some seconds, and shows itself."""
    with stopwatch("The start of the stack") as tell:
        return stack.start(settings, tell=tell)
