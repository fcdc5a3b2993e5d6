"""A Parquet file, opened with care: it may be damaged, encrypted, too large to be held, or no such file at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.errors import TerminalError
from ingestlab.models import Piece
from ingestlab.readers.bytes import binary
from ingestlab.readers.columns import MAX_COLUMNS
from ingestlab.readers.compression import compression
from ingestlab.readers.cutting import Ints
from ingestlab.readers.footer import WIDTH
from ingestlab.storage import Store
from ingestlab.storage.ranged import Ranged

SMALL = 64 << 20  # bytes up to which a file is read in one go
_BROKEN = (pa.ArrowException, OSError, ValueError, EOFError)  # what Arrow raises on damage


@contextmanager
def opened(piece: Piece, store: Store) -> Iterator[pq.ParquetFile]:
    """A Parquet file; whatever Arrow finds wrong with it while it is open is the file's fault."""
    size = store.size(piece.path)
    head = store.read(piece.path, 0, min(size, 512))
    _check_head(head, piece.name)
    source: Any = (
        pa.BufferReader(store.read(piece.path)) if size <= SMALL else pa.PythonFile(Ranged(piece.path, store), "r")
    )
    try:
        with pq.ParquetFile(
            source, pre_buffer=True, page_checksum_verification=True, arrow_extensions_enabled=False
        ) as file:
            yield _encoded(file, source)
    except (FileNotFoundError, TerminalError):
        raise
    except _BROKEN as error:
        encrypted = "encrypt" in str(error).lower() or "decrypt" in str(error).lower()
        fix = "Have it written without encryption." if encrypted else "Fetch it again from its producer."
        raise TerminalError.wrap(error, f"{piece.name} to be a whole, plain Parquet file", fix) from error


def plain_size(column: pa.ChunkedArray) -> int:
    """Bytes of a column once its dictionaries are written out."""
    return sum(_chunk_size(chunk) for chunk in column.chunks)


def _chunk_size(chunk: pa.Array) -> int:
    if not pa.types.is_dictionary(chunk.type):
        return int(chunk.nbytes)
    lengths = pc.binary_length(chunk.dictionary) if _textual(chunk.type.value_type) else None
    if lengths is None:
        return len(chunk) * WIDTH
    times: Ints = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(lengths))
    return int(np.dot(times, lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)))


def _textual(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def plain(table: pa.Table) -> pa.Table:
    """The table with its text written out; types that are dictionaries by declaration become plain too."""
    fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))


def _encoded(file: pq.ParquetFile, source: Any) -> pq.ParquetFile:
    """The same file, with text that is stored as a dictionary read as one: a long text repeated costs no more."""
    text = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
    if not text or file.metadata.num_columns > MAX_COLUMNS:
        return file
    return pq.ParquetFile(
        source,
        metadata=file.metadata,
        read_dictionary=text,
        pre_buffer=True,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )


def _check_head(head: bytes, name: str) -> None:
    if head.startswith(b"PAR1"):
        return
    if head.startswith(b"PARE"):
        raise TerminalError(f"plain Parquet in {name}", "an encrypted footer", "Have it written without encryption.")
    if not head:
        raise TerminalError(f"data in {name}", "an empty file (0 bytes)", "See whether the producer had finished it.")
    got = binary(head) or (f"a {kind} file" if (kind := compression(head)) else f"{head[:4]!r}")
    raise TerminalError(f"a Parquet file in {name} (it begins with PAR1)", got, "See what the producer sent.")
