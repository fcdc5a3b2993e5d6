"""The producer: from URIs to a run of queued requests."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from ingestlab.core.errors import TerminalError
from ingestlab.core.messages import NotebookRequest, Request, check_queue, subjects
from ingestlab.core.models import NAME, IngestRequest, Source
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.audit import Action, note, user
from ingestlab.lake.locks import connect
from ingestlab.lake.tenants import find, settings_for
from ingestlab.pipeline.catalog import Catalog, check_syntax
from ingestlab.queue.advice import of_submission
from ingestlab.queue.broker import broker, reaching
from ingestlab.queue.limits import admit, give_back
from ingestlab.queue.results import JobRef, RunRecord, Via, described
from ingestlab.queue.run import Run
from ingestlab.sources.expand import Uris, expand, pack, texts


def submit(
    uris: Uris,
    *,
    pipeline: str | None = None,
    queue: str | None = None,
    tenant: str | None = None,
    table: str | None = None,
    force: bool = False,
    glob: bool = False,
    settings: Settings | None = None,
) -> Run:
    """Announce files to be ingested; returns at once.

    What is queued or running already is not queued again: asking for exactly that gives the run that has it.

    Args:
        uris: http(s), file paths, s3:// or any other fsspec URL, one or several; patterns where there are listings.
        pipeline: Its name; None finds the pipeline that matches each file's name.
        queue: Queue to put the requests on.
        tenant: Whose tables the rows go to.
        table: Table for files that no pipeline matches. If not given each kind of file has its own, named by what
            comes before the first digit of its name: ``rain-2024.csv`` goes to ``rain``.
        force: Whether to ingest unchanged files too, replacing their rows.
        glob: Whether names with ``*``, ``?`` or ``[`` are patterns even where there is a file of exactly that name.
        settings: As found by :func:`ingestlab.load_settings` if not given.

    Returns:
        The run to follow.

    Raises:
        TerminalError: Something asked for is not allowed or not there; nothing was queued.
        TransientError: Redis cannot be reached.

    Examples:
        >>> from ingestlab import submit
        >>> run = submit("data/alarm-*.csv", pipeline="bts_alarms")
        >>> run.wait().state
        'finished'
    """
    settings = settings or load_settings()
    queue, tenant = queue or settings.queue, tenant or settings.tenant
    settings = check_names(settings, pipeline, queue, tenant, table)
    sources = expand(texts(uris), settings, glob=glob)
    if not sources:
        raise TerminalError("No URI is given", fix="Name the files to ingest.", code="argument_invalid")
    return announce(sources, pipeline=pipeline, queue=queue, tenant=tenant, table=table, force=force, settings=settings)


def announce(
    sources: Sequence[Source],
    *,
    settings: Settings,
    pipeline: str | None = None,
    queue: str | None = None,
    tenant: str | None = None,
    table: str | None = None,
    force: bool = False,
    via: Via = "submit",
) -> Run:
    """Queue sources that are allowed and listed already. Other arguments are those of :func:`submit`.

    Args:
        sources: At least one.
        settings: Lead to the queue.
        pipeline: As of :func:`submit`, as are the others.
        queue: Likewise.
        tenant: Likewise.
        table: Likewise.
        force: Likewise.
        via: What has found them.
    """
    queue, tenant, run = queue or settings.queue, tenant or settings.tenant, new_run()
    requests = [
        IngestRequest(run=run, tenant=tenant, pipeline=pipeline, table=table or "", sources=tuple(group), force=force)
        for group in pack(sources, settings)
    ]
    record = RunRecord(
        id=run,
        queue=queue,
        tenant=tenant,
        pipeline=pipeline,
        files=len(sources),
        jobs=(),
        notes=of_submission(requests, settings),
        via=via,
    )
    return start(requests, record, settings)


def new_run() -> str:
    """Make the id of a run: when, and something that no other run has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def start(requests: Sequence[Request], record: RunRecord, settings: Settings) -> Run:
    """Queue the requests of a run. A run that has exactly these already is joined.

    Args:
        requests: One for each job.
        record: Of the run, without jobs.
        settings: Lead to the queue.
    """
    for request in requests:
        check_queue(request, record.queue, settings)
    with reaching(settings):
        client = connect(settings.redis)
        queue, tenant = broker(settings, client), find(record.tenant, settings)
        _note(requests, record, settings)
        counted = admit(requests, tenant, queue, client)
        answers: list[tuple[str, bool]] = []
        try:
            answers.extend(queue.publish(record.queue, request) for request in requests)
        finally:
            queued = {job for job, new in answers if new}
            give_back([r for r in counted if r.job_id not in queued], tenant, client)
        joined = queue.jobs([job for job, new in answers if not new])
        owners = {job.id: job.notes.get("run", record.id) for job in joined.values()}
        jobs = tuple(JobRef(id=job, run=owners.get(job, record.id)) for job, _ in answers)
        others = {ref.run for ref in jobs}
        if record.id not in others and len(others) == 1:
            same = Run.load(others.pop(), settings, client)
            if same and {j.id for j in same.record.jobs} == {j.id for j in jobs}:
                return same
        known = record.model_copy(update={"jobs": jobs, "by": user()})
        run = Run(described(known, requests[0]), settings, client)
        run.save()
    return run


def _note(requests: Sequence[Request], record: RunRecord, settings: Settings) -> None:
    """Write down who asks for a run."""
    what: Action = "submit"
    if isinstance(requests[0], NotebookRequest):
        what = "notebook"
    elif requests[0].replay:
        what = "replay"
    about = [subject for request in requests for subject in subjects(request)]
    note(what, record.tenant, about, settings, run=record.id, via=record.via, pipeline=record.pipeline or "")


def check_names(settings: Settings, pipeline: str | None, queue: str, tenant: str, table: str | None) -> Settings:
    """Refuse names that are none, an unknown tenant and an unknown pipeline.

    Args:
        settings: Know the tenants and pipelines.
        pipeline: As of :func:`submit`, as are the others.
        queue: Likewise.
        tenant: Likewise.
        table: Likewise.

    Returns:
        The settings with which to act for the tenant.

    Raises:
        TerminalError: One is refused.
    """
    for what, name in (("queue", queue), ("tenant", tenant), ("table", table or "x"), ("pipeline", pipeline or "x")):
        if not re.fullmatch(NAME, name):
            raise TerminalError(
                f"Not a {what} name of letters, digits, '.', '_' and '-': {name!r}",
                fix="It becomes a folder's name.",
                code="name_invalid",
            )
    settings = settings_for(tenant, settings)
    pipelines = Catalog.read(settings)
    if pipeline and pipelines.sources:  # a producer without pipeline files leaves the check to the worker
        check_syntax(pipelines.named(pipeline))
    return settings
