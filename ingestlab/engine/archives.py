"""What a job makes of archives: files of their own that share a fetch, a lock, and a record of what is in them.

A commit writes the record of an archive beside those of its members. The record says whether all of them are
committed; only then is the archive unchanged as long as its bytes are. A member whose rows went, since its
archive no longer has it, gets a record without content, so that it is new when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingestlab.core.archive_uri import container, head_of, joined
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, SourceRecord, Tally
from ingestlab.core.signed_uri import bare
from ingestlab.engine.assemble import Batch
from ingestlab.engine.plan import Plan, Target, emptied
from ingestlab.engine.progress import ProgressTracker
from ingestlab.formats.archive import Archive
from ingestlab.interfaces import Store
from ingestlab.lake.log import live_parts, manifests
from ingestlab.lake.source_index import SourceIndex
from ingestlab.sources.archives.unpack import Unpacked, unpack
from ingestlab.sources.raw_zone import RawZone

Known = dict[str, SourceRecord]


@dataclass(frozen=True)
class Contents:
    """The files that a job has to process.

    Attributes:
        files: Those that are new or changed; the members of archives instead of the archives.
        known: What the lake has, by URI; of archives and of all their members.
        same: The records of members that are unchanged.
        archives: The archives, if `files` came out of some.
    """

    files: Sequence[FetchedFile]
    known: Known
    same: Sequence[SourceRecord] = ()
    archives: Sequence[Unpacked] = ()

    @property
    def packed(self) -> list[FetchedFile]:
        """Give the archives as files."""
        return [archive.file for archive in self.archives]


def open_archives(
    files: Sequence[FetchedFile],
    target: Target,
    known: Known,
    only_run: str | None,
    zone: RawZone,
    index: SourceIndex,
    progress: ProgressTracker,
) -> Contents:
    """Take members out of archives, if the pipeline reads such. Those that failed have failed in `progress`.

    Args:
        files: What was fetched.
        target: Whose reader decides.
        known: What the lake has of the files, by URI.
        only_run: None, or the only run whose commits count as known content.
        zone: Where the members go.
        index: Knows the members.
        progress: Is told of them.
    """
    reader = target.pipeline.reader
    if not isinstance(reader, Archive):
        return Contents(files, known)
    archives, fresh, same = [], [], []
    for file in files:
        archive = unpack(file, reader, zone.store, zone)
        archives.append(archive)
        mine = index.known(list(archive.members)) if archive.members else {}
        known = {**known, **mine}
        if archive.members:
            progress.expanded(file.uri, list(archive.members))
        errors = {uri: m for uri, m in archive.members.items() if isinstance(m, TerminalError)}
        errors |= {file.uri: archive.trouble} if archive.trouble else {}
        progress.failed({uri: error.to_dict() for uri, error in errors.items()})
        for uri, member in archive.members.items():
            if isinstance(member, FetchedFile):
                there = uri in mine and mine[uri].sha256 == member.sha256 and only_run in (None, mine[uri].run)
                (same.append(mine[uri]) if there else fresh.append(member))
    return Contents(fresh, known, same, archives)


def with_members(records: Sequence[SourceRecord], index: SourceIndex, progress: ProgressTracker) -> list[SourceRecord]:
    """Give the records of unchanged sources, of archives those of their members."""
    unchanged: list[SourceRecord] = []
    for record in records:
        uris = [joined(head, record.uri) for head in record.members]
        if uris:
            progress.expanded(record.uri, uris)
            known = index.known(uris)
            unchanged += [known[uri] for uri in uris]
        else:
            unchanged.append(record)
    return unchanged


def recorded(batch: Batch, contents: Contents, plan: Plan, store: Store) -> Batch:
    """Add to a batch what is new of its archives."""
    gone = _gone(contents, plan.target, store)
    committed = {r.uri for r in (*batch.sources, *contents.same)}
    records = list(batch.sources)
    for archive in contents.archives:
        uri = archive.file.uri
        new = _record(archive, [u for u in archive.members if u in committed], plan)
        left = [emptied(u, plan.target.run, plan.batch) for u in gone if bare(container(u)) == uri]
        before = contents.known.get(uri)
        if left or any(r.uri in archive.members for r in batch.sources) or (new.whole and _differ(new, before)):
            records += [new, *left]
    return batch.model_copy(update={"sources": tuple(records)})


def _gone(contents: Contents, target: Target, store: Store) -> list[str]:
    """Find published members that their archives, read to the end, lack now."""
    there = {archive.file.uri: archive.members for archive in contents.archives if not archive.trouble}
    if not target.replace or not there.keys() & contents.known.keys():
        return []
    parts = live_parts(manifests(store, target.tenant, target.table))
    uris = sorted({uri for part in parts for uri in part.sources})
    homes = {u: bare(container(u)) for u in uris if container(u) != u}
    return [u for u, home in homes.items() if bare(u) not in there.get(home, (bare(u),))]


def _record(archive: Unpacked, committed: Iterable[str], plan: Plan) -> SourceRecord:
    members = tuple(head_of(uri) for uri in committed)
    return SourceRecord(
        uri=archive.file.uri,
        sha256=archive.file.sha256,
        version=archive.file.version,
        size=archive.file.size,
        raw=archive.file.path,
        tally=Tally(),
        run=plan.target.run,
        batch=plan.batch,
        facts=archive.facts,
        members=members,
        whole=not archive.trouble and len(members) == len(archive.members),
    )


def _differ(new: SourceRecord, old: SourceRecord | None) -> bool:
    return old is None or (new.sha256, new.members, new.whole) != (old.sha256, old.members, old.whole)
