"""What has happened to a request so far: feeds the progress, and becomes the result."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from ingestlab.core.access import shown
from ingestlab.core.archive_uri import container
from ingestlab.core.errors import (
    BusySourceError,
    IngestError,
    LostLeaseError,
    TerminalError,
    TransientError,
    of_the_system,
)
from ingestlab.core.models import (
    FIRST_FAILURES,
    IngestRequest,
    IngestResult,
    Manifest,
    Outcome,
    Progress,
    Published,
    Receipt,
    Source,
    SourceRecord,
    State,
    Status,
    Tally,
)
from ingestlab.engine.lookups import LookupUnavailableError
from ingestlab.engine.plan import Target
from ingestlab.sources.records import names_records

MOST_LINES, LONGEST_LINE = 40, 500  # of what sources tell, and characters of each
TRACEBACK = "run.log() and the worker's log have the whole traceback."
log = logging.getLogger("ingestlab")


class ProgressTracker:
    """Collect the outcomes of a request, and report its progress."""

    def __init__(self, request: IngestRequest, report: Callable[[Progress], None]) -> None:
        self._request, self._report, self._job = request, report, request.job_id
        self._progress = self._before = Progress(files=len(request.sources))
        self._outcomes: dict[str, Outcome] = {}
        self._failing: dict[str, Outcome] = {}  # the outcomes that are failures, and those that will be
        self._members: dict[str, tuple[str, ...]] = {}  # of archives
        self._batches: dict[str, Published] = {}
        self._seconds: dict[str, float] = {}
        sizes = [source.size for source in request.sources]
        self._announced = 0 if None in sizes else sum(size or 0 for size in sizes)  # bytes, where listings told all
        self._skipped = self._skipped_before = 0  # of these, bytes that need not come
        self._tables: set[str] = set()
        self._stage: tuple[State, float] | None = None
        self._unforeseen: Exception | None = None
        self._told: list[str] = []

    @contextmanager
    def failures_of(self, sources: Sequence[Source]) -> Iterator[None]:
        """Turn errors of a table into failures of its sources. Other tables go on.

        Raises:
            TransientError: The whole job has to begin again: it lost its turn, or a server is away and no table of
                it is committed yet.
        """
        try:
            yield
        except (BusySourceError, LostLeaseError):
            raise
        except TransientError as error:
            if not (self.has_committed or isinstance(error, LookupUnavailableError)):
                raise
            self.unwritten(sources, error)
        except TerminalError as error:
            self.unwritten(sources, error)
        except Exception as error:
            if of_the_system(error) or _of_redis(error):
                raise
            log.exception("an error that nobody has foreseen")
            self._unforeseen = error
            self.unwritten(sources, TerminalError.wrap(error, "Job failed", TRACEBACK, code="unforeseen"))
        finally:
            self._leave()

    def enter(self, state: State) -> None:
        """Report the state of the job, and time it."""
        self._leave()
        self._stage = (state, time.perf_counter())
        self._before, self._skipped_before = self._progress, self._skipped
        self._tell(state=state, share=0.0, note="")

    def _leave(self) -> None:
        if self._stage is not None:
            state, began = self._stage
            self._seconds[state] = self._seconds.get(state, 0.0) + time.perf_counter() - began
            self._stage = None

    def fetched(self, files: int, size: int, skipped: int = 0) -> None:
        """Report files done and bytes received so far, within this stage.

        Args:
            files: Done, whether well or not.
            size: Bytes received.
            skipped: Announced bytes of files that are done and did not come.
        """
        self._skipped = self._skipped_before + skipped
        done, received = self._before.files_done + files, self._before.bytes + size
        expected = self._announced - self._skipped
        share = received / expected if expected > 0 else done / max(1, self._progress.files)
        self._tell(files_done=done, bytes=received, share=min(1.0, share))

    def pulled(self, pages: int, rows: int, size: int) -> None:
        """Report how far the pull of records is.

        Args:
            pages: That have come.
            rows: Records in them.
            size: Their bytes.
        """
        note = f"{pages:,} page{'s'[: pages != 1]}, {rows:,} record{'s'[: rows != 1]}"
        self._tell(bytes=self._before.bytes + size, note=note)

    def tell(self, line: str) -> None:
        """Take a line for the log of the run.

        The first and the last ones are kept.

        Args:
            line: Without secrets.
        """
        log.info("%s", line)
        self._told.append(" ".join(line.split())[:LONGEST_LINE])
        del self._told[MOST_LINES // 2 : -MOST_LINES // 2]

    def expanded(self, archive: str, members: Sequence[str]) -> None:
        """Let an archive's members stand for it, unless it is bad.

        Args:
            archive: Its URI.
            members: Their URIs.
        """
        self._members[archive] = tuple(members)
        self._tell(files=len(self._expected()), files_done=self._progress.files_done + len(members) - 1)

    def planned(self, partitions: int) -> None:
        """Report how many tasks a batch has."""
        self._tell(partitions=self._progress.partitions + partitions)

    def processed(self, receipt: Receipt) -> None:
        """Report a task that has ended."""
        total = sum(receipt.tallies.values(), Tally())
        self.failing(receipt.errors)
        self._tell(
            partitions_done=self._progress.partitions_done + 1,
            rows=self._progress.rows + total.rows_in,
            rejected=self._progress.rejected + total.rejected,
        )

    def unchanged(self, records: Sequence[SourceRecord], target: Target) -> None:
        """Report sources that the lake has. What an earlier try of this run committed counts as committed.

        Args:
            records: What the lake knows of the sources.
            target: The table that has them.
        """
        for r in records:
            mine = r.run == self._request.run
            self._done(r, "committed" if mine else "unchanged", target.table, target.source.name)

    def failing(self, errors: Mapping[str, dict[str, str]]) -> None:
        """Report files that fail unless something else is said before the end."""
        self._failing.update(_failed(errors))
        if errors:
            self._tell()

    def failed(self, errors: Mapping[str, dict[str, str]]) -> None:
        """Report failed files, by URI."""
        self._outcomes.update(_failed(errors))
        self._failing.update(_failed(errors))
        if errors:
            self._tell(files=len(self._expected()))

    def unwritten(self, sources: Sequence[Source], error: IngestError) -> None:
        """Report the sources of a table that could not be written. Known ends stay.

        Args:
            sources: All those of the table.
            error: Why it could not be written.
        """
        files = (uri for s in sources for uri in self._members.get(s.uri, (s.uri,)))
        self.failed({uri: error.to_dict() for uri in files if uri not in self._outcomes})

    def committed(self, manifest: Manifest) -> None:
        """Report a batch that is published."""
        for record in counted(manifest.sources):
            if record.uri not in self._members:
                self._done(record, "committed", manifest.table, manifest.pipeline)
        self.committed_before(manifest)

    def committed_before(self, manifest: Manifest | None) -> None:
        """Add what a commit of this run has published, now or earlier."""
        if manifest and manifest.batch not in self._batches:
            size = sum(p.size for p in manifest.parts)
            self._batches[manifest.batch] = Published(rules=manifest.rules, parquet_bytes=size)

    def ended(self, outcome: Outcome, uri: str) -> None:
        """Report how a source has ended, where its record does not tell.

        Args:
            outcome: How.
            uri: Of the source.
        """
        self._tables.add(outcome.table)
        self._failing.pop(uri, None)
        self._outcomes[uri] = outcome

    @property
    def has_committed(self) -> bool:
        """Tell whether anything is published."""
        return any(outcome.status == "committed" for outcome in self._outcomes.values())

    def so_far(self) -> IngestResult:
        """Give the outcomes that are known so far."""
        return self._result([uri for uri in self._expected() if uri in self._outcomes])

    def result(self) -> IngestResult:
        """Give the end of the request; every source must have its outcome.

        Raises:
            Exception: What nobody has foreseen has happened, and to all sources: the job is told of with its traceback.
        """
        result = self._result(self._expected())
        if self._unforeseen and all(o.error and o.error["code"] == "unforeseen" for o in result.outcomes):
            raise self._unforeseen
        return result

    def _result(self, uris: Sequence[str]) -> IngestResult:
        self._leave()
        return IngestResult(
            run=self._request.run,
            job=self._job,
            outcomes=tuple(self._outcomes[uri] for uri in uris),
            rules=dict(sum((Counter(b.rules) for b in self._batches.values()), Counter[str]())),
            parquet_bytes=sum(b.parquet_bytes for b in self._batches.values()),
            batches=dict(self._batches),
            tables=tuple(sorted(self._tables)),
            seconds={k: round(v, 4) for k, v in self._seconds.items()},
            told=tuple(self._told),
        )

    def _expected(self) -> list[str]:
        """List what must have an outcome: sources, and the members of archives."""
        uris: list[str] = []
        for source in self._request.sources:
            members = self._members.get(source.uri)
            own = members is None or source.uri in self._outcomes
            uris += [*(members or ()), *([source.uri] if own else [])]
        return uris

    def _done(self, r: SourceRecord, status: Status, table: str, pipeline: str) -> None:
        self._tables.add(table)
        self._failing.pop(r.uri, None)
        self._outcomes[r.uri] = Outcome.model_construct(
            uri=r.uri,
            status=status,
            tally=r.tally,
            size=r.size,
            table=table,
            pipeline=pipeline,
            batch=r.batch,
            facts=r.facts,
        )

    def _tell(self, **changes: object) -> None:
        first = tuple(islice(self._failing.values(), FIRST_FAILURES))
        self._progress = self._progress.model_copy(update={"failed": len(self._failing), "failures": first, **changes})
        self._report(self._progress)


def _of_redis(error: Exception) -> bool:
    """Tell whether Redis does not answer. Only `lake` and `queue` know its client."""
    return type(error).__module__.partition(".")[0] == "redis"


def _failed(errors: Mapping[str, dict[str, str]]) -> dict[str, Outcome]:
    named = ((_outer(uri), error) for uri, error in errors.items())
    return {uri: Outcome(uri=shown(uri), status="failed", error=error) for uri, error in named}


def _outer(uri: str) -> str:
    """Return what a source's outcome is told of: the record source for the files with its pages."""
    return outer if names_records(outer := container(uri)) else uri


def counted(records: Iterable[SourceRecord]) -> Iterator[SourceRecord]:
    """Yield the records of a commit that have outcomes. One of a record source counts the rows of its files."""
    inside: dict[str, Tally] = {}
    rest: list[SourceRecord] = []
    for record in records:
        outer = _outer(record.uri)
        if outer == record.uri:
            rest.append(record)
        else:
            inside[outer] = inside.get(outer, Tally()) + record.tally
    return (r.model_copy(update={"tally": inside[r.uri]}) if r.uri in inside else r for r in rest)
