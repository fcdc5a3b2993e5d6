"""A pull that tasks of the cluster share: each pulls a part, and the parts become one pull in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingestlab.core.settings import OUTSIDE, Settings
from ingestlab.engine.plan import Target
from ingestlab.engine.services import Services
from ingestlab.engine.task.pull import PartOfPull, order_of, run
from ingestlab.interfaces import Divisible, Store
from ingestlab.sources.apart import run_apart
from ingestlab.sources.pulls.notes import Note, Pulled, Segment
from ingestlab.sources.pulls.pulling import Order

PARTS = 64  # at most: as many for any cluster, so that the same records make the same files
_SETTINGS = {*OUTSIDE, "mongodb_uri", "mongodb_timeout", "max_pull_pages", "max_file_bytes"}
Part = dict[str, str]  # the window of a part


def pull_divided(
    order: Order, target: Target, services: Services, watch: Callable[[int, int, int], None]
) -> Pulled | None:
    """Pull a source by tasks of the cluster.

    Args:
        order: What to pull.
        target: The table that it is for.
        services: The connections to use.
        watch: Called with pages, records and bytes so far.

    Returns:
        What has come; None where the source, or the pull, is not divided.

    Raises:
        IngestError: The source, the lake or the cluster failed. The pages so far stay for the next try.
    """
    settings, store = services.settings, services.store
    if settings.executor == "threads" or not settings.dask_scheduler or not isinstance(order.source, Divisible):
        return None
    if store.exists(order.index) or len(windows := _windows(order, order.source, store)) < 2:
        return None
    order.tell(f"{order.uri}: pulled in {len(windows)} parts")
    parts = [_part(order, target, window) for window in windows]
    done: dict[int, Pulled] = {}
    outside = settings.model_dump(mode="json", include=_SETTINGS)
    calls = [(part.to_dict(), settings.lake_url, settings.storage_options, outside) for part in parts]
    keys = [f"{target.table}-{order.run}-{order.id}-pull-{number}" for number in range(len(parts))]
    for number, answer in services.cluster.map(run, calls, keys):
        done[number] = Pulled.from_dict(answer)
        watch(*(sum(counts) for counts in zip(*((p.pages, p.rows, p.size) for p in done.values()), strict=True)))
    return _joined([done[number] for number in range(len(parts))], parts, order, settings, store)


def _windows(order: Order, source: Divisible, store: Store) -> list[Part]:
    """Give the windows of the parts: those of an earlier try, whose pages they name."""
    path = f"{order.place}.parts.json"
    if not store.exists(path):
        pulls = run_apart(_divided(source, order))
        store.write(path, json.dumps([dict(pull.window or {}) for pull in pulls]).encode())
    windows: list[Part] = json.loads(store.read(path))
    return windows


async def _divided(source: Divisible, order: Order) -> Sequence[Any]:
    return await source.divide(order.pull(None), PARTS)


def _part(order: Order, target: Target, window: Mapping[str, str]) -> PartOfPull:
    return PartOfPull(
        uri=order.uri,
        tenant=order.tenant,
        pipeline=target.source,
        run=order.run,
        cursor=None if order.cursor is None else dict(order.cursor),
        part=dict(window),
    )


def _joined(
    done: Sequence[Pulled], parts: Sequence[PartOfPull], order: Order, settings: Settings, store: Store
) -> Pulled:
    """Write the index of all parts, in place of one each."""
    pages, files, notes, segments = 0, 0, list[bytes](), list[Segment]()
    indexes = [order_of(part, settings).index for part in parts]
    for pulled, index in zip(done, indexes, strict=True):
        for segment in pulled.segments:
            segments.append(segment.model_copy(update={"first": segment.first + pages, "last": segment.last + pages}))
        if pulled.rows:
            for line in store.read(index).splitlines()[1:]:
                note = Note.model_validate_json(line)
                moved = {"page": note.page + pages, "segment": note.segment + files}
                notes.append(note.model_copy(update=moved).model_dump_json().encode() + b"\n")
        pages, files = pages + pulled.pages, files + len(pulled.segments)
    whole = Pulled(
        uri=order.uri,
        pull=order.id,
        pages=pages,
        rows=sum(pulled.rows for pulled in done),
        size=sum(pulled.size for pulled in done),
        cursor=next((pulled.cursor for pulled in reversed(done) if pulled.cursor is not None), None),
        segments=tuple(segments),
    )
    if whole.rows:
        store.write(order.index, whole.model_dump_json().encode() + b"\n" + b"".join(notes))
        store.delete_files(indexes)
    return whole
