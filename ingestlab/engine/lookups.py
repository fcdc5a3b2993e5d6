"""Pins the references of a pipeline for a job: which content each has now, for all tasks to see the same.

They are fetched as sources are, into the raw zone under the name of their content. What is unchanged is not
downloaded again: versions are remembered in Redis, where losing them costs one more download.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import FetchedFile, Source, SourceRecord, Tally
from ingestlab.core.settings import Settings
from ingestlab.core.signed_uri import bare
from ingestlab.engine.plan import Target, file_of
from ingestlab.engine.services import Services
from ingestlab.formats.archive import Archive
from ingestlab.formats.html import Html
from ingestlab.formats.text import Text
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sources.fetch import Failed, Unchanged, fetch

_FIX = "A relative reference is beside the pipeline's file, or below INGESTLAB_REFERENCES."


class LookupUnavailableError(TransientError):
    """A reference cannot be had now: the trouble of the files that need it, and of no others."""


def resolve(target: Target, services: Services) -> Target:
    """Give a target the references of its pipeline as they are now.

    Raises:
        LookupUnavailableError: One of them cannot be had now.
        TerminalError: One of them cannot be had at all, or the lake cannot be written.
    """
    if not target.pipeline.references:
        return target
    folder = layout.raw(target.tenant, target.source.name)
    settings, store = services.settings, services.store
    index = services.lake.index(target.tenant, layout.references(target.source.name))
    whole = _locate_all(target.pipeline, target.source, settings).values()
    uris = sorted({bare(uri, settings.secret_parameters) for uri in whole})
    known = {uri: record for uri, record in index.known(uris).items() if _there(record, store)}
    files = bring(target.pipeline, target.source, store, folder, settings, known)
    news = (_record(file, target.run) for file in files.values() if _is_news(file, known.get(file.uri)))
    index.record(news)
    return replace(target, references=files)


def bring(
    pipeline: Pipeline,
    code: PipelineSource,
    store: Store,
    folder: str,
    settings: Settings,
    known: Mapping[str, SourceRecord] | None = None,
) -> dict[str, FetchedFile]:
    """Fetch the references of a pipeline that have changed, by name.

    Args:
        pipeline: It declares them.
        code: Its text, and where it comes from.
        store: The lake.
        folder: Where the files go, relative to it.
        settings: Where relative ones are, and who may be called.
        known: What the store has, by URI.

    Raises:
        IngestError: One of them cannot be had; the text says which and why.
    """
    known = known or {}
    if not pipeline.references:
        return {}
    for name, reference in pipeline.references.items():
        if isinstance(reference.reader, Archive):
            wanted = f"one file as the reference '{name}' of pipeline '{pipeline.name}'"
            raise TerminalError(
                "The lookup table is an archive",
                expected=wanted,
                got="an Archive of several",
                fix="Unpack it; a file that is compressed will do.",
                code="reference_invalid",
            )
    whole = _locate_all(pipeline, code, settings)
    sources = [Source(uri=uri).bared(settings.secret_parameters) for uri in dict.fromkeys(whole.values())]
    uris = {name: bare(uri, settings.secret_parameters) for name, uri in whole.items()}
    pages = any(isinstance(reference.reader, Html | Text) for reference in pipeline.references.values())
    files: dict[str, FetchedFile] = {}
    errors: dict[str, IngestError] = {}
    for got in fetch(sources, store=store, folder=folder, settings=settings, known=known, pages=pages):
        if isinstance(got, Failed):
            errors[got.uri] = got.error
        elif isinstance(got, Unchanged):
            files[got.uri] = file_of(known[got.uri]).model_copy(update={"version": got.version})
        else:
            files[got.uri] = got
    if errors:
        raise _first([(name, errors[uri]) for name, uri in uris.items() if uri in errors], pipeline)
    return {name: files[uri] for name, uri in uris.items()}


def _locate_all(pipeline: Pipeline, code: PipelineSource, settings: Settings) -> dict[str, str]:
    """Give the URIs of a pipeline's references, by name."""
    return {name: locate(r.uri, code.origin, settings) for name, r in pipeline.references.items()}


def locate(uri: str, origin: str, settings: Settings) -> str:
    """Complete the URI of a reference. A relative one is beside the pipeline's file, else where the settings say.

    Args:
        uri: As it was declared.
        origin: The pipeline's file.
        settings: Their `references` is a folder or URL.
    """
    if "://" in uri:
        return uri
    beside = (Path(origin).absolute().parent / Path(uri).expanduser()).resolve()
    base = settings.reference_base
    if Path(uri).expanduser().is_absolute() or not base or beside.is_file():
        return beside.as_uri()
    return f"{base.rstrip('/')}/{uri}" if "://" in base else (Path(base).expanduser() / uri).resolve().as_uri()


def _first(errors: Sequence[tuple[str, IngestError]], pipeline: Pipeline) -> IngestError:
    """Choose the error that matters most: one that no retry resolves."""
    name, error = min(errors, key=lambda item: isinstance(item[1], TransientError))
    kind = LookupUnavailableError if isinstance(error, TransientError) else TerminalError
    fix = error.fix if "://" in pipeline.references[name].uri else f"{error.fix} {_FIX}"
    problem = f"The reference '{name}' of pipeline '{pipeline.name}' cannot be had: {error.reason}"
    return kind(problem, fix=fix, code=error.code)


def _there(record: SourceRecord, store: Store) -> bool:
    try:
        return store.size(record.raw) == record.size
    except FileNotFoundError:
        return False


def _is_news(file: FetchedFile, known: SourceRecord | None) -> bool:
    return known is None or (file.sha256, file.version) != (known.sha256, known.version)


def _record(file: FetchedFile, run: str) -> SourceRecord:
    return SourceRecord(
        uri=file.uri,
        sha256=file.sha256,
        version=file.version,
        size=file.size,
        raw=file.path,
        tally=Tally(),
        run=run,
        batch="",
    )
