"""What a job makes of a record source: its pull is one container, and the files with its pages are the members.

The container's record has the cursor as its version, so that it changes in the log entry that publishes the rows.
Everything of a pull is committed or nothing: half of it with the cursor behind it would lose the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ingestlab.core.archive_uri import container, joined
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import FetchedFile, IngestRequest, Source, SourceRecord, Tally
from ingestlab.engine.archives import Contents
from ingestlab.engine.assemble import Batch
from ingestlab.engine.dividing import pull_divided
from ingestlab.engine.plan import Target, emptied
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.lake.source_index import SourceIndex
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sources.archives.unpack import Unpacked
from ingestlab.sources.pulls.notes import Pulled
from ingestlab.sources.pulls.pulling import Order, pull, read_index
from ingestlab.sources.records import RecordUri, names_records

Known = Mapping[str, SourceRecord]


def one_by_one(sources: Sequence[Source]) -> list[list[Source]]:
    """Group sources as they are committed: each record source alone, all files together."""
    alone = [[source] for source in sources if names_records(source.uri)]
    files = [source for source in sources if not names_records(source.uri)]
    return [*alone, *([files] if files else [])]


def check_source(pipeline: Pipeline, uri: str) -> None:
    """Refuse a pipeline without the source that a URI names.

    Args:
        pipeline: That the URI names.
        uri: Of a record source.

    Raises:
        TerminalError: It has none, or one of another scheme.
    """
    wanted, source = RecordUri.parse(uri), pipeline.source
    if source is None or source.scheme != wanted.scheme:
        got = "none" if source is None else f"{type(source).__name__}, whose URIs begin with {source.scheme}://"
        raise TerminalError(
            f"Pipeline '{pipeline.name}' has no source for {wanted.scheme}://",
            expected=f"a source that is submitted as {wanted}",
            got=got,
            fix="Check the URI, or declare the source in the pipeline.",
            code="pipeline_invalid",
        )


def replaces(pipeline: Pipeline, uri: str) -> bool:
    """Tell whether a pull replaces the earlier rows of its source."""
    return not _goes_on(pipeline, uri) and pipeline.write_disposition != "merge"


def _goes_on(pipeline: Pipeline, uri: str) -> bool:
    """Tell whether a pull brings what is new since the one before. A window brings all that is in it."""
    assert pipeline.source is not None
    return pipeline.source.incremental and not RecordUri.parse(uri).window


def download_records(
    source: Source,
    known: Known,
    target: Target,
    request: IngestRequest,
    services: Services,
    progress: ProgressTracker,
) -> list[FetchedFile]:
    """Pull what is new of a record source.

    If there is nothing, it is unchanged or has failed.

    Args:
        source: Names the pipeline, and perhaps a window.
        known: What the lake has of it.
        target: The table that it is for.
        request: Whether to take everything from its beginning.
        services: The connections to use.
        progress: Is told of the pages.

    Returns:
        The pull as one file, whose members are in its index.
    """
    uri, before = source.uri, known.get(source.uri)
    table = services.table(target.tenant, target.table)
    if before and before.run == request.run and before.whole and before.sha256:  # an earlier try has committed it
        services.store.delete(layout.pulls(target.tenant, target.source.name, uri))
        progress.unchanged([with_tally(before, table.index)], target)
        progress.committed_before(table.log.find(before.batch))
        return []
    order = _order(source, before, target, request, services, progress)
    again = not _goes_on(target.pipeline, uri) and not request.force
    same = before if again and before and before.whole else None
    try:
        pulled = pull_divided(order, target, services, progress.pulled)
        pulled = pulled or pull(order, services.store, progress.pulled, same)
        _check_some(pulled, before, target)
    except IngestError as error:
        progress.failed({uri: error.to_dict()})
        return []
    if not pulled.rows or (same and same.sha256 == pulled.sha256):
        services.store.delete(layout.pulls(target.tenant, target.source.name, uri))
        record = with_tally(before, table.index) if before else emptied(uri, request.run, "")
        progress.unchanged([record.model_copy(update={"run": ""})], target)
        return []
    version = None if pulled.cursor is None else json.dumps(pulled.cursor, ensure_ascii=False)
    facts = {"pulled": f"{pulled.pages:,} pages"}
    return [
        FetchedFile(
            uri=uri,
            path=order.index,
            name=uri,
            size=pulled.size,
            sha256=pulled.sha256,
            version=version,
            facts=facts,
        )
    ]


def _order(
    source: Source,
    before: SourceRecord | None,
    target: Target,
    request: IngestRequest,
    services: Services,
    progress: ProgressTracker,
) -> Order:
    assert target.pipeline.source is not None
    goes_on = _goes_on(target.pipeline, source.uri) and not request.force
    return Order(
        source=target.pipeline.source,
        uri=source.uri,
        tenant=target.tenant,
        pipeline=target.source.name,
        code=target.source.sha256,
        run=request.run,
        cursor=cursor_of(before) if goes_on else None,
        settings=services.settings,
        tell=progress.tell,
    )


def cursor_of(record: SourceRecord | None) -> dict[str, Any] | None:
    """Read the cursor that the last commit of a source remembers."""
    return None if record is None or not record.version else dict(json.loads(record.version))


def _check_some(pulled: Pulled, before: SourceRecord | None, target: Target) -> None:
    """Refuse a source that has no records any more: its rows would all be replaced by none."""
    if target.replace and before and before.sha256 and not pulled.rows:
        problem, fix = (
            f"{pulled.uri} has no records any more",
            "If that is right, `ingestlab delete` takes its rows out.",
        )
        raise TerminalError(problem, expected="some, as at the last pull", got="none", fix=fix, code="no_rows")


def open_pull(file: FetchedFile, known: Known, target: Target, services: Services) -> Contents:
    """Give the files with the pages of a pull.

    Args:
        file: The pull.
        known: What the lake has of its source.
        target: Of the pull.
        services: Have the lake.
    """
    members = read_index(file.path, services.store).members(target.source.name)
    return Contents(list(members.values()), dict(known), (), [Unpacked(file, dict(members), None, dict(file.facts))])


def earlier(files: Iterable[FetchedFile], known: Known) -> list[str]:
    """Give the URIs whose rows may go for those of some files: of a pull those of the pull before, too."""
    uris = [file.uri for file in files]
    return [*uris, *(joined(head, u) for u in uris if names_records(u) and u in known for head in known[u].members)]


def check_complete(batch: Batch, contents: Contents) -> Batch:
    """Let a pull fail where a part of it does.

    Raises:
        TerminalError: That of the part.
    """
    pulls = {archive.file.uri for archive in contents.archives if names_records(archive.file.uri)}
    for uri, error in batch.errors.items():
        if container(uri) in pulls:
            raise IngestError.from_dict(error).within(container(uri))
    return batch


def forget_pulls(contents: Contents, target: Target, services: Services) -> None:
    """Remove the waiting pages of sources that are committed."""
    for archive in contents.archives:
        if names_records(archive.file.uri):
            services.store.delete(layout.pulls(target.tenant, target.source.name, archive.file.uri))


def with_tally(record: SourceRecord, index: SourceIndex) -> SourceRecord:
    """Give a source's record the counts of its files.

    Args:
        record: Of a record source.
        index: Of its table.
    """
    members = index.known([joined(head, record.uri) for head in record.members]).values()
    return record.model_copy(update={"tally": sum((member.tally for member in members), Tally())})
