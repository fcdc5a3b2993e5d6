"""Log lines in logfmt: ``level=info status=200 path="/a b"`` is a record with three columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from ingestlab.core.models import FetchedFile, Piece
from ingestlab.interfaces import Bad, Records, Store


@dataclass(frozen=True)
class Logfmt:
    """Read ``key=value`` pairs as columns of text.

    Attributes:
        columns: Those to read; None for all that the file has, in the order of their names.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".logfmt",)  # read so where no pipeline matches

    columns: tuple[str, ...] | None = None

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Leave each file whole: these logs are small."""
        return [Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)]

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one file; a line that is no list of pairs is a bad record."""
        lines = [line for line in store.read(piece.path).decode("utf-8", "replace").splitlines() if line.strip()]
        rows: list[int] = []
        records: list[dict[str, str]] = []
        bad: list[Bad] = []
        for number, line in enumerate(lines):
            try:
                records.append(dict(pair.split("=", 1) for pair in shlex.split(line)))
                rows.append(number)
            except ValueError:  # a quote that is not closed, or a word without "="
                bad.append(Bad(number, "logfmt", None, line[:200]))
        names = self.columns or sorted({name for record in records for name in record})
        table = pa.table({name: pa.array([r.get(name) for r in records], pa.string()) for name in names})
        raw = dict(enumerate(line[:4000] for line in lines))
        return Records(table, np.array(rows, np.int64), tuple(bad), lambda of: {n: raw[n] for n in of if n in raw})
