"""A Parquet file, opened with care: it may be damaged, encrypted, too large to be held, or no such file at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common.bytes import binary
from ingestlab.formats.common.columns import MAX_COLUMNS, plain_type
from ingestlab.formats.common.compression import compression
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.nulls import textual
from ingestlab.formats.parquet.footer import WIDTH, Group, row_groups
from ingestlab.interfaces import Store
from ingestlab.lake.storage.ranged import Ranged

SMALL = 64 << 20  # bytes up to which a file is read in one go
_FEWEST = 64  # rows that are decoded at a time, at least
_BROKEN = (pa.ArrowException, OSError, ValueError, EOFError)  # what Arrow raises on damage


@dataclass(frozen=True)
class Opened:
    """Open Parquet file and its row groups."""

    file: pq.ParquetFile
    groups: Sequence[Group]
    source: Any

    @property
    def names(self) -> list[str]:
        """List its columns."""
        names: list[str] = self.file.schema_arrow.names
        return names

    def in_unit(self, unit: str) -> pq.ParquetFile:
        """Open the file again with its INT96 times in a unit."""
        return _open(self.source, self.file.metadata, (), unit)

    def read(self, numbers: Sequence[int], names: Sequence[str] | None, most: int) -> pa.Table:
        """Read some row groups, decoding at most `most` bytes at a time.

        Text that is told by how it differs from the text before may grow far beyond what the footer says: a few
        bytes for each repetition of a long one.
        """
        some = [self.groups[i] for i in numbers]
        rows, longest = sum(g.rows for g in some), max((g.longest for g in some), default=0)
        if rows * longest <= most:
            return self.file.read_row_groups(list(numbers), columns=names, use_threads=False)
        tables, size, step = [], 0, max(_FEWEST, most // longest)
        for batch in self.file.iter_batches(step, row_groups=list(numbers), columns=names, use_threads=False):
            tables.append(plain(pa.Table.from_batches([batch])))
            size += tables[-1].nbytes
            if size > most:  # the caller says what is wrong with it
                break
        return pa.concat_tables(tables)


@contextmanager
def opened(piece: Piece, store: Store) -> Iterator[Opened]:
    """Open a Parquet file. Whatever Arrow finds wrong with it meanwhile is the file's fault."""
    size = store.size(piece.path)
    head = store.read(piece.path, 0, min(size, 512))
    _check_head(head, piece.name)
    source: Any = (
        pa.BufferReader(store.read(piece.path)) if size <= SMALL else pa.PythonFile(Ranged(piece.path, store), "r")
    )
    try:
        with _open(source) as file:
            groups = row_groups(piece.path, store, size)
            yield Opened(_encoded(file, source, groups), groups, source)
    except (FileNotFoundError, TerminalError):
        raise
    except _BROKEN as error:
        encrypted = "encrypt" in str(error).lower() or "decrypt" in str(error).lower()
        fix = "Have it written without encryption." if encrypted else "Fetch it again from its producer."
        raise TerminalError.wrap(
            error, f"{piece.name} is not a whole, plain Parquet file", fix, code="bad_file"
        ) from error


def _open(
    source: Any, metadata: pq.FileMetaData | None = None, text: Sequence[str] = (), unit: str = "us"
) -> pq.ParquetFile:
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=list(text),
        coerce_int96_timestamp_unit=unit,
        pre_buffer=True,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )


def plain_size(column: pa.ChunkedArray) -> int:
    """Measure a column in bytes once its dictionaries are written out."""
    size = 0
    for chunk in column.chunks:
        kind = chunk.type.value_type if pa.types.is_dictionary(chunk.type) else None
        if kind is None:
            size += chunk.nbytes
        elif textual(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            lengths = pc.binary_length(chunk.dictionary)
            times: Ints = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(lengths))
            size += int(np.dot(times, lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)))
        else:
            size += len(chunk) * WIDTH
    return size


def plain(table: pa.Table) -> pa.Table:
    """Write out a table's text, and simplify its types."""
    for place, field in enumerate(table.schema):
        if _has_views(field.type):  # Arrow's own cast of these loses values
            chunks = [pa.array(chunk.to_pylist(), plain_type(field.type)) for chunk in table[place].chunks]
            table = table.set_column(place, field.name, pa.chunked_array(chunks, plain_type(field.type)))
    return table.cast(pa.schema([pa.field(field.name, plain_type(field.type)) for field in table.schema]))


def _has_views(kind: pa.DataType) -> bool:
    """Tell whether there are list views in a type."""
    inner = [kind.field(i).type for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)) or any(map(_has_views, inner))


def _encoded(file: pq.ParquetFile, source: Any, groups: Sequence[Group]) -> pq.ParquetFile:
    """Read text that is stored as a dictionary as one.

    A long text that is repeated costs no more.

    Arrow cannot make a dictionary of text that is told by its differences.
    """
    delta = {name for group in groups for name in group.delta}
    text = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
    text = [name for name in text if name not in delta]
    if not text or file.metadata.num_columns > MAX_COLUMNS:
        return file
    return _open(source, file.metadata, text)


def _check_head(head: bytes, name: str) -> None:
    if head.startswith(b"PAR1"):
        return
    if head.startswith(b"PARE"):
        problem, fix = f"{name} is not plain Parquet: an encrypted footer", "Have it written without encryption."
        raise TerminalError(problem, fix=fix, code="bad_file")
    if not head:
        problem, fix = f"There is no data in {name}", "See whether the producer had finished it."
        raise TerminalError(problem, got="an empty file (0 bytes)", fix=fix, code="bad_file")
    got = binary(head) or (f"a {kind} file" if (kind := compression(head)) else f"{head[:4]!r}")
    problem, fix = f"Not a Parquet file in {name} (it begins with PAR1)", "See what the producer sent."
    raise TerminalError(problem, got=got, fix=fix, code="wrong_format")
