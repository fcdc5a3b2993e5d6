"""Makes tables agree with a folder: what is new or changed there is submitted, what has vanished is taken out.

Events are lost at times; a listing is not. The folder is walked a page at a time and compared with the index of each
table: of what is listed, and of what tables have, only eight bytes a file stay in memory. Names are kept of vanished
files alone, once it is sure that so many may go. What seems to have vanished is looked for in a second walk before it
is taken out, and stays where it was committed again meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ingestlab.core.access import check, shown
from ingestlab.core.archive_uri import container
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import Source, SourceRecord
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings, load_settings
from ingestlab.engine.services import Services
from ingestlab.interfaces import Listing
from ingestlab.lake.locks import source_lock
from ingestlab.lake.table import Table, tables
from ingestlab.maintenance.delete import Deleted, take_out
from ingestlab.queue.arrival.failures import failed_before
from ingestlab.queue.producer import announce, check_names
from ingestlab.sources.listing import plain_path
from ingestlab.sources.registry import source_of

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
STATES = ("new", "changed", "unchanged", "failed")  # of a listed file, as :class:`Synced` counts them
_PAGE = 1000  # files that are compared at once
_PATIENCE, _MOMENT = 60.0, 0.2  # seconds for which jobs may be replacing files, and between two tries
_RUN = 50_000  # files of one run: a first sync may find a million


@dataclass(frozen=True)
class Synced:
    """What a sync has seen and done.

    Attributes:
        folder: What was listed.
        listed: How many files are there.
        new: How many of them no table has.
        changed: How many a table has in another version.
        unchanged: How many are in their table as they are.
        failed: How many have failed for good as they are; `ingestlab retry` tries them again.
        vanished: The URIs that tables have, and the listing has not.
        runs: The ids of the runs that ingest the new and changed ones.
        deleted: What was taken out, by table; nothing if vanished files are kept.
    """

    folder: str
    listed: int
    new: int
    changed: int
    unchanged: int
    failed: int = 0
    vanished: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    deleted: tuple[Deleted, ...] = ()

    def __str__(self) -> str:
        counts = f"{self.new:,} new, {self.changed:,} changed, {self.unchanged:,} unchanged"
        failed = f", {self.failed:,} failed before" if self.failed else ""
        gone = f", {len(self.vanished):,} vanished" if self.vanished else ""
        kept = " (kept)" if self.vanished and not self.deleted else ""
        files = "1 file" if self.listed == 1 else f"{self.listed:,} files"
        return f"{self.folder}: {files}: {counts}{failed}{gone}{kept}"

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return asdict(self)


def sync(
    folder: str,
    *,
    match: str = "*",
    pipeline: str | None = None,
    table: str | None = None,
    tenant: str | None = None,
    queue: str | None = None,
    keep_vanished: bool = False,
    max_vanish_ratio: float | None = None,
    settings: Settings | None = None,
) -> Synced:
    """Make tables agree with a folder or bucket.

    New and changed files are submitted, and this returns while they are being ingested. Files that have vanished are
    taken out of tables, aggregates and vectors before it returns.

    Args:
        folder: A local folder, or the URL of a bucket or of a folder in it. All below it is meant.
        match: Pattern of the files' names, without folders; others are as if they were not there, in tables too.
        pipeline: Its name; None finds the pipeline that matches each file's name.
        table: Table for files that no pipeline matches. Vanished files are looked for in all tables.
        tenant: Whose tables.
        queue: Queue to put the requests on.
        keep_vanished: Whether rows of vanished files stay.
        max_vanish_ratio: Share of a folder's known files that may vanish at once; ``settings.max_vanish_ratio`` if
            not given. 1 lets all of them go.
        settings: As found by :func:`ingestlab.load_settings` if not given.

    Returns:
        Counts, the runs to follow, and what was taken out.

    Raises:
        TerminalError: The folder is not there or not allowed; or more has vanished than may: then all is kept.
        TransientError: A server cannot be reached, or a job is at work on a file that has vanished.
    """
    settings = settings or load_settings()
    tenant, queue = tenant or settings.tenant, queue or settings.queue
    settings = check_names(settings, pipeline, queue, tenant, table)
    walk = _Walk(folder, match, settings)
    with Services.opened(settings) as services:
        homes = indexed_tables(tenant, services)
        seen, runs, counts = _Names(), [], dict.fromkeys(STATES, 0)
        for group in _grouped(_differing(walk, homes, tenant, services, seen, counts), _RUN):
            run = announce(
                group, pipeline=pipeline, table=table, tenant=tenant, queue=queue, settings=settings, via="sync"
            )
            runs.append(run.id)
        new, changed, unchanged, failed = (counts[state] for state in STATES)
        report = Synced(walk.folder, len(seen), new, changed, unchanged, failed, (), tuple(runs))
        known, lost = _count(walk, homes, seen)
        if not lost:
            return report
        if not keep_vanished:
            _refuse_many(report, known, lost, max_vanish_ratio, settings)
        missing = list(_missing(walk, homes, seen))
        vanished = {file.name for file in missing}
        if keep_vanished:
            return replace(report, vanished=tuple(sorted(vanished)))
        vanished.difference_update(source.uri for source in walk)
        deleted = tuple(_take_out([file for file in missing if file.name in vanished], homes, services))
    return replace(report, vanished=tuple(sorted(vanished)), deleted=deleted)


class _Missing(NamedTuple):
    """Rows of a file that has vanished: a table's record of it, or of a member of an archive."""

    name: str
    table: Table
    uri: str
    batch: str


class _Walk:
    """A folder whose files can be listed, again and again."""

    def __init__(self, folder: str, match: str, settings: Settings) -> None:
        scheme = check(folder, settings)
        source = source_of(scheme)
        if not isinstance(source, Listing):
            raise TerminalError(
                f"Files of {scheme}:// cannot be listed", fix="Submit them by name.", code="argument_invalid"
            )
        self._source, self._settings, self._match = source, settings, match
        self.folder = shown(folder, settings.secret_parameters)
        self._uri = folder
        path = plain_path(folder) if traits(scheme).local else ""
        self._start = f"{Path(path).as_uri() if path else folder.rstrip('/')}/"

    def __iter__(self) -> Iterator[Source]:
        try:
            yield from (s for s in self._source.walk(self._uri, self._settings) if self._named(s.uri))
        except TerminalError as error:
            if error.code != "not_found":
                raise
            raise error.replace(problem=f"There is no folder {self.folder}") from error

    def covers(self, uri: str) -> bool:
        """Tell whether a file of this URI would be listed."""
        return uri.startswith(self._start) and self._named(uri)

    def _named(self, uri: str) -> bool:
        return self._match == "*" or fnmatchcase(uri.rpartition("/")[2], self._match)


class _Names:
    """URIs, by eight bytes of their digest: that two share them lets a vanished file stay."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._ordered = 0  # how many of them are in order

    def __len__(self) -> int:
        """Count the different ones."""
        keys = self._sorted()
        return len(keys) and 1 + int((keys[1:] != keys[:-1]).sum())

    def add(self, uri: str) -> None:
        self._keys.append(_key(uri))

    def __contains__(self, uri: str) -> bool:
        if self._ordered != len(self._keys):
            self._sorted()
        key = _key(uri)
        place = bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key

    def _sorted(self) -> np.ndarray[Any, Any]:
        """Sort the keys where they are."""
        import numpy as np  # noqa: PLC0415 - who only submits does without it

        keys = np.frombuffer(self._keys, np.uint64)
        keys.sort()
        self._ordered = len(keys)
        return keys


def _key(uri: str) -> int:
    return int.from_bytes(hashlib.blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def indexed_tables(tenant: str, services: Services) -> list[Table]:
    """List the tables of a tenant, with their indexes built.

    Args:
        tenant: Whose.
        services: The connections to use.
    """
    chosen = [table for table in tables(services.lake) if table.tenant == tenant]
    for table in chosen:
        table.index.ensure(table.log.records)
    return chosen


def _differing(
    walk: Iterable[Source],
    homes: Sequence[Table],
    tenant: str,
    services: Services,
    seen: _Names,
    counts: dict[str, int],
) -> Iterator[Source]:
    """Yield the files that are new or changed; count all."""
    for page in _grouped(walk, _PAGE):
        uris = [source.uri for source in page]
        records = [table.index.known(uris) for table in homes]
        failed = failed_before(page, tenant, services.locks.client)
        for source in page:
            seen.add(source.uri)
            live = [r[source.uri] for r in records if source.uri in r and r[source.uri].sha256]
            same = any(_same(source, record) for record in live)
            state = "unchanged" if same else "failed" if source.uri in failed else "changed" if live else "new"
            counts[state] += 1
            if state in ("new", "changed"):
                yield source


def _same(source: Source, record: SourceRecord) -> bool:
    """Tell whether a table has all of a listed file."""
    return record.whole and source.version is not None and source.version == record.version


def _count(walk: _Walk, homes: Sequence[Table], seen: _Names) -> tuple[int, int]:
    """Count known files of the folder, and those that are not listed."""
    known, lost = _Names(), _Names()
    for table in homes:
        for record in table.index.scan():
            file = container(record.uri)
            if record.sha256 and walk.covers(file):
                known.add(file)
                if file not in seen:
                    lost.add(file)
    return len(known), len(lost)


def _missing(walk: _Walk, homes: Sequence[Table], seen: _Names) -> Iterator[_Missing]:
    """Yield what tables have and the listing has not; some twice."""
    for table in homes:
        for record in table.index.scan():
            file = container(record.uri)
            if record.sha256 and walk.covers(file) and file not in seen:
                yield _Missing(file, table, record.uri, record.batch)


def _refuse_many(report: Synced, known: int, gone: int, ratio: float | None, settings: Settings) -> None:
    """Refuse an empty or much shorter listing. A disk may be missing, or a name wrong."""
    most = settings.max_vanish_ratio if ratio is None else ratio
    if most >= 1 or (report.listed and gone <= most * known):
        return
    submitted = f" What is new was submitted as {', '.join(report.runs)}." if report.runs else ""
    raise TerminalError(
        f"{gone:,} of {known:,} files that tables have of {report.folder} are not there any more; all are kept",
        expected=f"at most a share of {most:g} to vanish at once",
        got=f"{report.listed:,} files in the listing",
        fix=f"Check the folder; if they are to go, say `--max-vanish-ratio 1`, else `--keep-vanished`.{submitted}",
        code="too_many_vanished",
    )


def _take_out(missing: Iterable[_Missing], homes: Sequence[Table], services: Services) -> Iterator[Deleted]:
    """Take vanished files out of each table, each table in one commit."""
    for table in homes:
        if batches := {file.uri: file.batch for file in missing if file.table is table}:
            yield _in_turn(batches, table, services)


def _in_turn(batches: Mapping[str, str], table: Table, services: Services) -> Deleted:
    """Take sources out of a table when no job replaces its files."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return take_out(sorted(batches), table, services, unless_since=batches)
        except TransientError as error:
            locks = [source_lock(*table.where, uri) for uri in batches]
            if error.code != "busy_source" or time.monotonic() > end or any(services.locks.held(locks)):
                raise
            time.sleep(_MOMENT)


def _grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
