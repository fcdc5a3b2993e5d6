"""Formats of which each file is one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.linewise import whole_file
from ingestlab.interfaces import Bad, Records, Store


class OneRecord:
    """Leave files whole."""

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:  # noqa: ARG002 - one record
        """Keep a file whole."""
        return [whole_file(file)]


def one_record(row: Mapping[str, Any], schema: pa.Schema, raw: str, facts: Mapping[str, str]) -> Records:
    """Make the one record of a file.

    Args:
        row: Its values by column.
        schema: The columns.
        raw: Its text, or what describes it.
        facts: What was found out about the file.
    """
    return Records(pa.Table.from_pylist([row], schema=schema), np.zeros(1, np.int64), (), lambda _: {0: raw}, facts)


def without_text(schema: pa.Schema, value: str | None, raw: str, facts: Mapping[str, str]) -> Records:
    """Reject the one record of a file by the rule ``empty``."""
    bad = (Bad(0, "empty", "text", value),)
    return Records(schema.empty_table(), np.empty(0, np.int64), bad, lambda _: {0: raw}, facts)
