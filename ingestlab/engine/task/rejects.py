"""The rejects: source rows that are not published, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.engine.task.frames import Frame, Loaded
from ingestlab.engine.task.validate import Checked
from ingestlab.interfaces import Bad, Reason
from ingestlab.lake.arrow_schema import REJECTS

Rejected = tuple[Loaded, list[int], Sequence[Reason | Bad]]  # a piece, the numbers of its rows, and why each


def rejected(frame: Frame, checked: Checked, table: str, run: str) -> pa.Table:
    """Build the rejects of a frame: rows that were unreadable or did not pass."""
    groups: list[Rejected] = []
    for one in frame.loaded:
        if one.broken:
            rows = sorted(one.broken)
            groups.append((one, rows, [one.broken[row] for row in rows]))
    if checked.reasons:
        index = np.array(sorted(checked.reasons), dtype=np.int64)
        for one, some, offset in frame.split(index):
            groups.append((one, (some - offset).tolist(), [checked.reasons[i] for i in some.tolist()]))
    return kept_aside(groups, table, run)


def kept_aside(groups: Sequence[Rejected], table: str, run: str) -> pa.Table:
    """Build rejects from row numbers of several pieces, and their reasons."""
    columns: dict[str, list[Any]] = {name: [] for name in REJECTS.names}
    for one, rows, reasons in groups:
        raw, size = one.records.raw(rows), len(rows)
        columns["table"] += [table] * size
        columns["run"] += [run] * size
        columns["source"] += [one.piece.uri] * size
        columns["sha256"] += [one.piece.sha256] * size
        columns["row"] += rows
        columns["rule"] += [why.rule for why in reasons]
        columns["column"] += [why.column for why in reasons]
        columns["value"] += [why.value for why in reasons]
        columns["raw"] += map(raw.get, rows)
    return pa.table(columns, REJECTS)
