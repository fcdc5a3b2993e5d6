"""The tasks of a replay: which pieces of which files are read again, and under which names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ingestlab.core.models import Partition, Piece, Wanted, digest
from ingestlab.engine.plan import Plan, Target, file_of, pack, referred
from ingestlab.engine.services import Services
from ingestlab.interfaces import pieces_of
from ingestlab.maintenance.replay.state import State


def plan_again(target: Target, uris: Sequence[str], state: State, services: Services) -> Plan:
    """Name the batch, and pack the pieces with wanted rows.

    The name is made of what goes in, and of the last commit of each source, so that it never comes twice.
    """
    last = {r.uri: m.batch for m in state.history for r in m.sources}
    inside = {"table": [target.tenant, target.table], "pipeline": [target.source.name, target.source.sha256]}
    rows = [[uri, state.known[uri].sha256, digest(state.wanted[uri]), last.get(uri)] for uri in sorted(uris)]
    batch = digest({"replay": inside, "rows": rows, **referred(target.references)})[:24]
    files = [file_of(state.known[uri]) for uri in uris]
    size = services.settings.partition_bytes
    groups = []
    for file in files:
        pieces = pieces_of(file, target.pipeline.reader, services.store, size)
        groups.append(_wanted(pieces, state.wanted[file.uri], state.known[file.uri].tally.rows_in))
    packs = pack(groups, {f.uri: f.size for f in files}, max(1, size // 4))
    partitions = tuple(Partition(number=i, pieces=p) for i, p in enumerate(packs))
    return Plan(batch=batch, target=target, files=tuple(files), partitions=partitions)


def _wanted(pieces: Sequence[Piece], rows: Sequence[int], count: int) -> tuple[Piece, ...]:
    """Pick the pieces with wanted rows, and the last one. It shows whether the reader finds `count` records."""
    stops = [*(p.first_row for p in pieces[1:]), None]
    chosen = []
    for piece, stop in zip(pieces, stops, strict=True):
        end = len(rows) if stop is None else bisect_left(rows, stop)
        inside = tuple(rows[bisect_left(rows, piece.first_row) : end])
        if inside or stop is None:
            wanted = Wanted(rows=inside, until=count if stop is None else None)
            chosen.append(piece.model_copy(update={"wanted": wanted}))
    return tuple(chosen)
