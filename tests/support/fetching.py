"""Fetching into a lake's raw zone with settings under which nothing takes long."""

from __future__ import annotations

from ingestlab.core.models import Source, SourceRecord, Tally
from ingestlab.core.settings import Settings
from ingestlab.sources.fetch import Failed, FetchedFile, fetch

FOLDER = "raw/default/demo"


def quick(**given) -> Settings:
    """Settings under which nothing takes long."""
    times = {"fetch_delay": 0.01, "connect_timeout": 2.0, "read_timeout": 0.3, "fetch_timeout": 10.0}
    return Settings(_env_file=None, **{**times, **given})


def get(uris, store, known=None, progress=None, **given):
    """Fetches sources into the folder."""
    sources = [u if isinstance(u, Source) else Source(uri=u) for u in uris]
    return fetch(sources, store=store, folder=FOLDER, settings=quick(**given), known=known or {}, progress=progress)


def one(uri, store, known=None, **given):
    """Fetches one source."""
    return get([uri], store, known, **given)[0]


def failure(uri, store, kind, **given):
    """The error of a source that must fail; its text has all three parts and nothing is left in the lake."""
    result = one(uri, store, **given)
    assert isinstance(result, Failed), result
    assert type(result.error).kind == kind.kind
    assert isinstance(result.error, kind)
    assert result.error.problem
    assert result.error.code != "unknown"
    assert result.error.fix
    assert list(store.walk("")) == []
    return str(result.error)


def record(file: FetchedFile, **changes) -> SourceRecord:
    """What the log of commits keeps of a file."""
    kept = {"uri": file.uri, "sha256": file.sha256, "version": file.version, "size": file.size, "raw": file.path}
    return SourceRecord(**{**kept, **changes}, tally=Tally(), run="r", batch="b")
