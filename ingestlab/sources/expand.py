"""URIs, patterns and listings as sources, and sources as requests of a good size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ingestlab.core.access import check, shown
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings
from ingestlab.sources.records import names_records
from ingestlab.sources.registry import source_of

Uris = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def texts(uris: Uris) -> list[str]:
    """List one or several URIs.

    Args:
        uris: Text or path, or an iterable of them.

    Raises:
        TerminalError: One is neither text nor a path.
    """
    single = isinstance(uris, str | os.PathLike) or not hasattr(uris, "__iter__")
    given: list[Any] = [uris] if single else list(uris)  # type: ignore[arg-type]
    wrong = [uri for uri in given if not isinstance(uri, str | os.PathLike)]
    if wrong:
        got = shown(f"{type(wrong[0]).__name__} {wrong[0]!r}")[:200]
        problem = "Not the URI or path of a file, or a list of them"
        raise TerminalError(problem, got=got, fix="Give each as text.", code="argument_invalid")
    return [os.fspath(uri) for uri in given]


def expand(uris: Iterable[str], settings: Settings, *, glob: bool = False) -> list[Source]:
    """Turn URIs and patterns into sources, each once, in their order.

    The files of a pattern are sorted. A listing tells the size and version of a file, so that what is unchanged
    need not be opened later. A name that exists is meant by it, whatever else it would match as a pattern.

    Args:
        uris: What is announced.
        settings: What is allowed, and how storage is reached.
        glob: Take each for a pattern, though there may be a file of that name.

    Returns:
        Sources, with size and version where they were listed.

    Raises:
        TerminalError: A URI is not allowed, or a pattern matches nothing.
    """
    sources: dict[str, Source] = {}
    for uri in uris:
        for source in source_of(check(uri, settings)).discover(uri, settings, glob=glob):
            sources.setdefault(source.uri, source)
    return list(sources.values())


def pack(sources: Sequence[Source], settings: Settings) -> Iterator[list[Source]]:
    """Group sources into requests of a good size.

    A file of unknown size counts as its share of a full request; a big file gets a request of its own, and so does a
    record source.

    Args:
        sources: What is announced.
        settings: They have the most files of a request, `request_files`, and about its bytes, `request_bytes`.

    Yields:
        The sources of one request.
    """
    unknown = settings.request_bytes // settings.request_files
    group: list[Source] = []
    weight = 0
    for source in sources:
        size = settings.request_bytes if names_records(source.uri) else unknown if source.size is None else source.size
        if group and (len(group) >= settings.request_files or weight + size > settings.request_bytes):
            yield group
            group, weight = [], 0
        group.append(source)
        weight += size
    if group:
        yield group
