"""Frames that a notebook publishes: they wait in the lake until a worker takes them, like any file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME, FetchedFile, Source, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import RawFile, Unchanged
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.sources.blocking import BlockingSource
from ingestlab.sources.raw_zone import BUFFER

_SCHEME = "frame://"


def check_frame(uri: str, tenant: str) -> None:
    """Keep a tenant from the frames of others.

    Args:
        uri: Of any source.
        tenant: Who asks for it.

    Raises:
        TerminalError: It is a frame of another tenant.
    """
    if uri.lower().startswith(_SCHEME) and uri[len(_SCHEME) :].split("/", maxsplit=1)[0] != tenant:
        problem = f"The frame is no longer in the lake: {uri}"  # as if there were none
        raise TerminalError(problem, fix="Publish it again: lab.publish(df, table).", code="not_found")


class FrameSource(BlockingSource):
    """Take frames from where `lab.publish` has put them."""

    schemes: ClassVar[Mapping[str, Scheme]] = {"frame": Scheme()}

    def client(self, scheme: str, settings: Settings) -> Any:  # noqa: ARG002 - there is one
        """Open the lake."""
        return open_store(settings.lake_url, settings.storage_options)

    def copy(
        self,
        source: Source,
        known: SourceRecord | None,
        raw: RawFile,
        client: Any,
        settings: Settings,  # noqa: ARG002
    ) -> FetchedFile | Unchanged:
        """Copy a frame into the raw zone."""
        path = _place(source.uri, client)
        size = client.size(path)
        raw.expect(size)
        for start in range(0, size, BUFFER):
            if raw.feed(client.read(path, start, min(size, start + BUFFER))):
                raw.spill()
        return raw.settle(None, known)


def _place(uri: str, store: Any) -> str:
    """Find a frame, which is in the folder of its hour."""
    steps = uri.removeprefix(_SCHEME).split("/")
    if len(steps) == 3 and all(re.fullmatch(NAME, step) for step in steps):  # tenant, table, name
        for hour in reversed(store.children(layout.frames())):
            if store.exists(path := f"{layout.frames(hour)}/{'/'.join(steps)}"):
                return str(path)
    problem = f"The frame is no longer in the lake: {uri}"
    raise TerminalError(problem, fix="Publish it again: lab.publish(df, table).", code="not_found")
