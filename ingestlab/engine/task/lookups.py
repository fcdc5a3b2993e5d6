"""The references of a pipeline in the process that works with them: read once, kept by content."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import pandas as pd
import pyarrow as pa

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.extras import needed
from ingestlab.core.models import FetchedFile
from ingestlab.core.settings import MB
from ingestlab.engine.task.frames import wants_polars
from ingestlab.interfaces import Format, Store, pieces_of
from ingestlab.pipeline.pipeline import Pipeline

MOST = 256 * MB  # of memory for all references of a process; the last one stays whatever its size

Key = tuple[str, str, str]  # hash of the pipeline, which says how it is read; name; hash of the content


class LookupCache:
    """Tables that this process has read. Those not used for longest go first.

    Attributes:
        reads: How often a table was read since the process started.
    """

    def __init__(self, most: int = MOST) -> None:
        self.reads = 0
        self._most, self._lock = most, threading.Lock()
        self._tables: OrderedDict[Key, pa.Table] = OrderedDict()

    def take(self, key: Key, read: Callable[[], pa.Table]) -> pa.Table:
        """Return the table of a key. One thread reads it, while others wait."""
        with self._lock:
            if key not in self._tables:
                self.reads += 1
                self._tables[key] = read()
            self._tables.move_to_end(key)
            table = self._tables[key]
            while len(self._tables) > 1 and sum(t.nbytes for t in self._tables.values()) > self._most:
                self._tables.popitem(last=False)
            return table


LOOKUPS = LookupCache()


def bind_lookups(pipeline: Pipeline, code: str, files: Mapping[str, FetchedFile], store: Store) -> Pipeline:
    """Bind a pipeline's reference tables to its `clean`.

    Every call gets frames of its own on the shared memory of Arrow, which nothing can change: what `clean` does
    to one is not seen by the next task.

    Args:
        pipeline: Its `clean` takes references, or not.
        code: The hash of the pipeline's text.
        files: The references in the raw zone, by name.
        store: Where they lie.

    Raises:
        TerminalError: A reference is not what its reader declares.
        TransientError: The raw zone has lost one; the next try fetches it again.
    """
    clean = pipeline.clean
    if not pipeline.references or clean is None:
        return pipeline
    tables = {
        name: LOOKUPS.take((code, name, files[name].sha256), partial(_read, reference.reader, files[name], name, store))
        for name, reference in pipeline.references.items()
    }
    make = _polars_frame if wants_polars(clean) else _frame

    @wraps(clean)
    def informed(frame: Any) -> Any:
        return clean(frame, **{name: make(table) for name, table in tables.items()})

    return replace(pipeline, clean=informed, references={})


def _read(reader: Format, file: FetchedFile, name: str, store: Store) -> pa.Table:
    """Read all records of a reference. One bad record fails it, or rows would miss their match."""
    wanted = f"a reference '{name}' that can be read ({file.name})"
    try:
        pieces = [reader.read(piece, store) for piece in pieces_of(file, reader, store, max(file.size, 1))]
    except FileNotFoundError as error:
        raise TransientError.wrap(
            error,
            f"The lookup table cannot be read: {wanted}",
            "The next try fetches it again.",
            code="lake_unavailable",
        ) from error
    except TerminalError as error:
        raise error.within(f"The lookup table cannot be used: {wanted}") from error
    for bad in (bad for records in pieces for bad in records.bad):
        got = f"record {bad.row} that breaks the rule '{bad.rule}' in column {bad.column}: {bad.value!r}"
        raise TerminalError(
            "The lookup table cannot be used",
            expected=wanted,
            got=got,
            fix="Correct the reference, or its reader in the pipeline.",
            code="reference_invalid",
        )
    return pa.concat_tables([records.table for records in pieces], promote_options="permissive").combine_chunks()


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, split_blocks=True, ignore_metadata=True)
    return frame


def _polars_frame(table: pa.Table) -> Any:
    pl = needed("polars", "polars", "a pipeline that is cleaned with Polars")

    return pl.from_arrow(table)
