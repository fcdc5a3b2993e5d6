"""What the Runs page shows, as frozen values. They are read as `ingestlab runs` and `show` read them, so all agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

import pyarrow.compute as pc

from ingestlab.analytics.lake import Table
from ingestlab.core.archive_uri import label, without_name
from ingestlab.core.errors import IngestError, TransientError
from ingestlab.core.models import OVER, Attempt, Mood, Outcome, State
from ingestlab.core.settings import Settings, load_settings
from ingestlab.engine.task.quality_gate import rule_name
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import narrowed
from ingestlab.queue.broker import reaching
from ingestlab.queue.results import STATUSES, RunResult
from ingestlab.queue.run import Run, archived_run, archived_runs, recent_runs
from ingestlab.stack.dashboard.collect import impatient_client

Kind = Literal["queued", "running", "retrying", "finished", "partly failed", "failed", "cancelled"]
KINDS: dict[State, Kind] = {
    "queued": "queued",
    "fetching": "running",
    "processing": "running",
    "committing": "running",
    "retrying": "retrying",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
}
ENDED: tuple[Kind, ...] = ("finished", "partly failed", "failed", "cancelled")
LIMITS = (100, 1000)  # runs that a list looks at: at first, and when asked for more
FILES = 200  # of a run that are listed
NAMED = 20  # files of a group of errors that are named
LINES = 500  # of a log
RULES = 12  # of which rejects are shown
FIRST = 3  # rejects of a rule
READ = 200_000  # rejects of a run that are looked at for the first ones of each rule
TEXT = 200  # characters of somebody's value
_REMEMBERED = 2000  # rows of ended runs
AWAY = "This page shows what the lake's records tell: runs that have ended."


@dataclass(frozen=True)
class Search:
    """What a list of runs is to show."""

    text: str = ""  # in the id, the first file, the pipeline, a table, what started it
    state: str = ""
    table: str = ""
    tenant: str = ""
    limit: int = LIMITS[0]

    @property
    def filtered(self) -> bool:
        """Whether it leaves out any runs."""
        return bool(self.text or self.state or self.table or self.tenant)

    @property
    def query(self) -> dict[str, str]:
        """Return it as the parameters of the page's address."""
        fields = {"q": self.text, "state": self.state, "table": self.table, "tenant": self.tenant}
        return {name: text for name, text in (*fields.items(), ("limit", str(self.limit))) if text}

    def takes(self, row: RunRow) -> bool:
        """Tell whether a run is wanted."""
        words = " ".join((row.id, row.first, row.pipeline, row.started, row.by, *row.tables)).casefold()
        return (
            all(word in words for word in self.text.casefold().split())
            and self.state in ("", row.kind)
            and (not self.table or self.table in row.tables)
            and self.tenant in ("", row.tenant)
        )


@dataclass(frozen=True)
class RunRow:
    """A run in a list."""

    id: str
    at: float  # when it began, as seconds since 1970
    kind: Kind
    state: str  # in words: "finished, 1 of 2 failed"
    mood: Mood
    share: float  # of it that is done, 0 to 1
    note: str
    started: str  # what started it
    by: str  # who; empty if nobody knows
    pipeline: str
    tables: tuple[str, ...]
    first: str  # file
    files: int
    failed: int
    rows: int
    rejected: int
    seconds: float | None  # that it took, or has taken by now
    tenant: str
    queue: str

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.kind not in ENDED


@dataclass(frozen=True)
class RunList:
    """Runs, newest first, and what there is to choose among."""

    rows: tuple[RunRow, ...]
    looked: int  # runs that were looked at
    more: bool  # whether older ones may be there
    tables: tuple[str, ...]
    tenants: tuple[str, ...]
    trouble: IngestError | None = None


@dataclass(frozen=True)
class ErrorGroup:
    """Files that failed for one reason."""

    code: str
    problem: str
    details: str  # what was expected, and what came
    fix: str
    files: int
    named: tuple[str, ...]  # the first ones


@dataclass(frozen=True)
class FileRow:
    """A file of a run."""

    uri: str
    label: str
    status: str
    rows: int
    published: int
    rejected: int
    table: str
    facts: str
    error: str


@dataclass(frozen=True)
class Reject:
    """A row that was kept aside."""

    source: str
    row: int | None
    value: str
    raw: str


@dataclass(frozen=True)
class RuleRow:
    """Rejects of a run by one rule, with the first of them."""

    rule: str
    rows: int
    first: tuple[tuple[str, Reject], ...]  # each with its table


@dataclass(frozen=True)
class RunPage:
    """All that is shown of one run."""

    row: RunRow
    groups: tuple[ErrorGroup, ...] = ()
    files: tuple[FileRow, ...] = ()
    rules: tuple[RuleRow, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    log: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    made: str = ""  # the run that its notebook made
    notebook: str = ""  # where its notebook is kept
    trouble: IngestError | None = None


class RunReader:
    """Read runs, wherever they are remembered. What ended runs look like is kept.

    Args:
        find: Gives the settings; asked each time, since a stack may have moved.
    """

    def __init__(self, find: Callable[[], Settings] = load_settings) -> None:
        self._find = find
        self._known: dict[str, tuple[object, RunRow]] = {}  # by run: the state of its jobs, and what it looked like

    def list(self, search: Search) -> RunList:
        """List the newest runs that a search takes."""
        settings = self._find()
        try:
            with reaching(settings, AWAY), impatient_client(settings) as client:
                return self._list(recent_runs(settings, search.limit, client), search)
        except IngestError as error:
            return self._list(archived_runs(settings, search.limit), search, error)

    def page(self, run: str) -> RunPage | None:
        """Read all of one run; None if nobody knows it."""
        settings = self._find()
        try:
            with reaching(settings, AWAY), impatient_client(settings) as client:
                loaded_run = Run.load(run, settings, client)
                return page_of(loaded_run, self._row(loaded_run)) if loaded_run else None
        except IngestError as error:
            archived = archived_run(run, settings)
            return page_of(archived, self._row(archived), error) if archived else None

    def notebook(self, run: str) -> bytes | None:
        """Read the page of a run's notebook; None without one."""
        page = self.page(run)
        if not page or not page.notebook:
            return None
        settings = narrowed(page.row.tenant, self._find())
        store = open_store(settings.lake_url, settings.storage_options)
        return store.read(layout.executed(page.row.id, f"{PurePosixPath(page.notebook).stem}.html"))

    def row(self, run: str) -> RunRow | None:
        """Sum up one run; None if nobody knows it.

        Raises:
            TransientError: Redis is away.
        """
        settings = self._find()
        with reaching(settings, AWAY), impatient_client(settings) as client:
            loaded_run = Run.load(run, settings, client)
            return self._row(loaded_run) if loaded_run else None

    def _list(self, runs: Iterable[Run], search: Search, trouble: IngestError | None = None) -> RunList:
        rows = sorted((self._row(run) for run in runs), key=lambda row: -row.at)
        return RunList(
            rows=tuple(row for row in rows if search.takes(row)),
            looked=len(rows),
            more=len(rows) == search.limit,
            tables=tuple(sorted({table for row in rows for table in row.tables})),
            tenants=tuple(sorted({row.tenant for row in rows})),
            trouble=trouble,
        )

    def _row(self, run: Run) -> RunRow:
        jobs = run.redis_jobs()
        seen = type(run), tuple(job and (job.status, job.began, job.ended) for job in jobs)
        known = self._known.get(run.id)
        if known and known[0] == seen:
            return known[1]
        row = row_of(run)
        if not row.active:
            self._known[run.id] = seen, row
            for oldest in tuple(self._known)[:-_REMEMBERED]:
                self._known.pop(oldest, None)
        return row


def row_of(run: Run) -> RunRow:
    """Sum up a run in a line."""
    progress, record = run.progress(), run.record
    result = _result(run) if progress.state in OVER else None
    tables = result.tables if result else ()
    return RunRow(
        id=run.id,
        at=record.at or progress.began,
        kind="partly failed" if progress.state == "finished" and progress.failed else KINDS[progress.state],
        state=progress.said,
        mood=progress.mood,
        share=progress.share,
        note=progress.note,
        started={"files": record.via, "replay": "replay of rejects", "notebook": "notebook"}[record.kind],
        by=record.by,
        pipeline="" if record.kind == "notebook" else record.pipeline or "by name",
        tables=tables or ((record.table,) if record.kind == "replay" else ()),
        first=record.first or next((outcome.uri for outcome in (result.outcomes if result else ())), "?"),
        files=progress.files,
        failed=progress.failed,
        rows=progress.rows,
        rejected=progress.rejected,
        seconds=progress.seconds(time.time()),
        tenant=record.tenant,
        queue=record.queue,
    )


def page_of(run: Run, row: RunRow, trouble: IngestError | None = None) -> RunPage:
    """Read all that is shown of a run."""
    result = _result(run)
    outcomes = result.outcomes if result else run.failures()
    kept = result.kept if result else {}
    return RunPage(
        row=row,
        groups=groups_of(outcomes),
        files=tuple(map(_file, sorted(outcomes, key=lambda o: o.status != "failed")[:FILES])),
        rules=_rules(run, result) if result else (),
        attempts=result.attempts if result else (),
        log=tuple(run.history()[:LINES]),
        facts=tuple(_facts(run, row, result)),
        made=kept.get("run", ""),
        notebook=kept.get("notebook", ""),
        trouble=trouble,
    )


def groups_of(outcomes: Iterable[Outcome]) -> tuple[ErrorGroup, ...]:
    """Group failed files by their reason, the commonest first."""
    groups: dict[tuple[str, ...], list[tuple[str, IngestError]]] = {}
    for outcome in outcomes:
        if error := outcome.exception():
            key = tuple(without_name(text, outcome.uri) for text in (error.code, *_texts(error)))
            groups.setdefault(key, []).append((outcome.uri, error))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return tuple(_group(_texts(files[0][1]) if len(files) == 1 else key[1:], files) for key, files in ordered)


def _group(texts: Sequence[str], files: Sequence[tuple[str, IngestError]]) -> ErrorGroup:
    problem, details, fix = texts
    named = tuple(uri for uri, _ in files[:NAMED])
    return ErrorGroup(files[0][1].code, problem, details, fix, len(files), named)


def _texts(error: IngestError) -> tuple[str, str, str]:
    """Give the problem, its details, and what to do."""
    return error.problem, error.reason.removeprefix(error.problem).lstrip(": "), error.fix


def _result(run: Run) -> RunResult | None:
    try:
        return run.result()
    except TransientError as error:
        if error.code != "run_not_ended":
            raise
        return None


def _file(outcome: Outcome) -> FileRow:
    error = outcome.exception()
    return FileRow(
        uri=outcome.uri,
        label=label(outcome.uri),
        status=outcome.status,
        rows=outcome.tally.rows_in,
        published=outcome.tally.out,
        rejected=outcome.tally.rejected,
        table=outcome.table,
        facts="; ".join(f"{name}: {text}" for name, text in outcome.facts.items() if name not in ("notebook", "page")),
        error=error.reason if error else "",
    )


def _facts(run: Run, row: RunRow, result: RunResult | None) -> Iterator[tuple[str, str]]:
    yield "queue", row.queue
    if row.by:
        yield "submitted by", row.by
    yield "jobs", f"{len(run.record.jobs):,}"
    if result:
        for status in STATUSES:
            if count := result.count(status):
                yield f"files {status}", f"{count:,}"
        yield "rows published", f"{result.tally.out:,}"
        yield "bytes of Parquet", f"{result.parquet_bytes:,}"
        for step, seconds in result.seconds.items():
            yield f"seconds of {step}", f"{seconds:,.2f}"


def _rules(run: Run, result: RunResult) -> tuple[RuleRow, ...]:
    """List the rules that rejected rows, with their first rejects."""
    if not result.rules:
        return ()
    store = open_store(run.settings.lake_url, run.settings.storage_options)
    first: dict[str, list[tuple[str, Reject]]] = {}
    for table in result.tables:
        for rule, reject in _rejects(Table(store, run.record.tenant, layout.rejects(table)), run.id):
            if len(first.setdefault(rule, [])) < FIRST:
                first[rule].append((table, reject))
    rules = sorted(result.rules.items(), key=lambda item: -item[1])[:RULES]
    return tuple(RuleRow(rule, rows, tuple(first.get(rule, ()))) for rule, rows in rules)


def _rejects(table: Table, run: str) -> Iterator[tuple[str, Reject]]:
    """Yield rejects of a run with their rules; a bounded number."""
    columns = ["rule", "column", "source", "row", "value", "raw"]
    batches = table.dataset().scanner(columns=columns, filter=pc.field("run") == run).to_batches()
    rows = (row for batch in batches for row in batch.to_pylist())
    for row in islice(rows, READ):
        rule = rule_name(row["column"], str(row["rule"]))
        yield rule, Reject(label(row["source"] or ""), row["row"], cut(row["value"]), cut(row["raw"]))


def cut(value: object) -> str:
    """Give a value as text of bounded length."""
    text = "" if value is None else str(value)
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
