"""Plain text: one record a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from ingestlab.core.models import Piece
from ingestlab.formats.common.bytes import Limits, capped, check_size, load_text
from ingestlab.formats.common.excerpts import MAX_RAW
from ingestlab.formats.common.linewise import check_encoding
from ingestlab.formats.common.single import OneRecord, one_record, without_text
from ingestlab.interfaces import Records, Store

SCHEMA = pa.schema([("title", pa.string()), ("text", pa.string()), ("characters", pa.int64())])
_TITLE = 200  # characters


@dataclass(frozen=True, kw_only=True)
class Text(OneRecord):
    """Read each file as one record.

    Columns: ``title`` (its first line that is not empty), ``text``, ``characters``.

    A file of white space alone is a :class:`~ingestlab.pipeline.pipeline.Bad` record with the rule ``empty``.

    Attributes:
        encoding: Any text encoding that Python knows; None to have it detected.
        max_bytes: Longest file.
        limits: How far a compressed file may grow.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    encoding: str | None = None
    max_bytes: int = 64 << 20
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one file.

        Raises:
            TerminalError: It is empty, damaged, binary, too long, or not in the declared encoding.
        """
        check_size(store.size(piece.path), piece.name, self.max_bytes)
        data, facts, damage = load_text(piece, store, self.encoding, capped(self.limits, self.max_bytes))
        if damage is not None:
            facts["note"] = damage.note(data)
        text = data.decode()
        if not text.strip():
            return without_text(SCHEMA, None, text[: MAX_RAW // 4], facts)
        title = text.lstrip().split("\n", 1)[0].strip()[:_TITLE]
        row = {"title": title, "text": text, "characters": len(text)}
        return one_record(row, SCHEMA, text[: MAX_RAW // 4], facts)
