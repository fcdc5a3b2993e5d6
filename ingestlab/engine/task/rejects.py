"""The rejects: source rows that are not published, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.core.models import REJECTS as REJECTED
from ingestlab.core.models import Receipt
from ingestlab.engine.task.frames import Frame, Loaded
from ingestlab.engine.task.validate import Checked
from ingestlab.interfaces import Bad, Reason, Store
from ingestlab.lake.arrow_schema import REJECTS

Rejected = tuple[Loaded, list[int], Sequence[Reason | Bad]]  # a piece, the numbers of its rows, and why each


def rejected(frame: Frame, checked: Checked, table: str, run: str) -> pa.Table:
    """Build the rejects of a frame: rows that were unreadable or did not pass."""
    groups: list[Rejected] = []
    for reading in frame.loaded:
        if reading.broken:
            rows = sorted(reading.broken)
            groups.append((reading, rows, [reading.broken[row] for row in rows]))
    if checked.reasons:
        index = np.array(sorted(checked.reasons), dtype=np.int64)
        for reading, some, offset in frame.split(index):
            groups.append((reading, (some - offset).tolist(), [checked.reasons[i] for i in some.tolist()]))
    return kept_aside(groups, table, run)


def kept_aside(groups: Sequence[Rejected], table: str, run: str) -> pa.Table:
    """Build rejects from row numbers of several pieces, and their reasons."""
    own: dict[str, list[Any]] = {name: [] for name in ("row", "rule", "column", "value", "raw")}
    for reading, rows, reasons in groups:
        raw = reading.records.raw(rows)
        own["row"] += rows
        own["rule"] += [why.rule for why in reasons]
        own["column"] += [why.column for why in reasons]
        own["value"] += [why.value for why in reasons]
        own["raw"] += map(raw.get, rows)
    size, group = len(own["row"]), np.repeat(np.arange(len(groups)), [len(rows) for _, rows, _ in groups])
    shared = {
        "table": pa.repeat(table, size),
        "run": pa.repeat(run, size),
        "source": pa.array([reading.piece.uri for reading, _, _ in groups], pa.string()).take(pa.array(group)),
        "sha256": pa.array([reading.piece.sha256 for reading, _, _ in groups], pa.string()).take(pa.array(group)),
    }
    return pa.table({name: {**shared, **own}[name] for name in REJECTS.names}, REJECTS)


def with_content(receipt: Receipt, stand_in: str, sha256: str, store: Store) -> None:
    """Name the content in rejects that were staged without.

    Args:
        receipt: Of a task of one file.
        stand_in: What they have in its place, as long as a name and found nowhere else.
        sha256: The name of its content.
        store: Where the rejects wait. Their column `sha256` is not compressed.
    """
    for file in receipt.sinks[REJECTED].files if REJECTED in receipt.sinks else ():
        store.write(file.staged, store.read(file.staged).replace(stand_in.encode(), sha256.encode()))
