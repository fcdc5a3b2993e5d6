"""Lines of JSON read with the compiled loop and without it, to compare."""

from __future__ import annotations

from unittest.mock import patch

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.formats.json import reader as module
from ingestlab.formats.json.fast import take
from support.csv_ways import bits

READ_LINES = module.JsonLines.read_lines


def check(self: module.JsonLines, lined, piece):
    """Check that both make the same of a piece; return what the loop's way makes of it."""
    with patch.object(module, "take", lambda *_: None):
        old = _outcome(self, lined, piece)
    new = _outcome(self, lined, piece)
    assert new == old
    return READ_LINES(self, lined, piece)


def taken(reader: module.JsonLines, lined):
    """What the loop takes of some lines."""
    return take(lined.data, lined.spans, reader._shape, reader.timestamp_format, reader.max_record_bytes)


def _outcome(self: module.JsonLines, lined, piece):
    try:
        found = READ_LINES(self, lined, piece)
    except (TerminalError, pa.ArrowException) as error:
        return type(error), str(error)
    found.table.validate(full=True)
    columns = [bits(column.combine_chunks()) for column in found.table.columns]
    nulls = [column.null_count for column in found.table.columns]
    return found.table.schema, columns, nulls, found.rows.tolist(), found.bad, found.facts
