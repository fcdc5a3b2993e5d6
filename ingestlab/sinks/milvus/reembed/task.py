"""The vectors of published rows, made again from the lake: what `ingestlab reembed` runs on Dask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from ingestlab.analytics.profiles.files import typed_folders
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Piece, Staged, Value
from ingestlab.interfaces import Destination, Rows
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import open_part
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.pipeline.embedding import FILE, Embedding
from ingestlab.sinks.milvus.embedding import Embedded, agreed, embed, stage
from ingestlab.sinks.milvus.vector_rows import TYPES
from ingestlab.sinks.milvus.wanted import KINDS


class Work(Value):
    """Work of one task: the vectors of some sources' rows in one part.

    Args:
        number: Of the task, in its batch.
        part: The published part.
        tenant: Whose table it is.
        table: Its name.
        run: Which run makes the vectors.
        batch: Under which name.
        pipeline: Which says what to make.
        pieces: What the rows were read from, by URI; other sources' rows are left out.
        kinds: Of the table's columns, as profiles have them: for those that folders name, or that the part lacks.
        previous: By the sink's name, the files of vectors that there are of the table.
        outside: Settings for a model that a server runs.
    """

    number: int
    part: DataFile
    tenant: str
    table: str
    run: str
    batch: str
    pipeline: PipelineSource
    pieces: dict[str, Piece]
    kinds: dict[str, str] = Field(default_factory=dict)
    previous: dict[str, tuple[DataFile, ...]] = Field(default_factory=dict)
    outside: dict[str, Any] = Field(default_factory=dict)


def reembed(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Embed published rows, as a Dask task. It takes a :class:`Work` and gives a :class:`Staged`, as plain dicts.

    Memory holds a row group at a time. Each makes a file of vectors; those of an earlier try are taken as they are.

    Raises:
        TerminalError: The part is gone, a column or a file in the raw zone is missing, or the model fails.
    """
    spec, store = Work.from_dict(work), open_store(lake, options)
    pipeline = load(spec.pipeline)
    assert pipeline.embedding is not None
    to = Destination.of(spec, pipeline, store, replace=pipeline.write_disposition == "replace")
    notes, vectors = [], []
    for i, rows in enumerate(_groups(open_part(spec.part, store), pipeline.embedding)):
        chosen = _rows(rows, spec, pipeline.embedding)
        if chosen.num_rows:
            name = f"{spec.batch}-{spec.number:05d}-{i}"
            some = Rows(name=name, table=chosen, rejects=chosen[:0], pieces=spec.pieces, raw=store)
            try:
                embedded = embed(some, to)
            except FileNotFoundError as error:
                wanted = f"the files of {spec.part.target} in the raw zone, from which their vectors are made"
                raise TerminalError.wrap(
                    error,
                    f"Rows cannot be embedded again: {wanted}",
                    "Ingest them again, with --force, or delete them.",
                    code="lake_damaged",
                ) from error
            _refuse(embedded, spec.part.target)
            notes.append(embedded.collection.to_dict())
            vectors += stage(embedded, to)
    return Staged(files=tuple(vectors), note=agreed(notes) if notes else None).to_dict()


def _refuse(embedded: Embedded, part: str) -> None:
    """Raise TerminalError for a published row that can have no vector. Zeros alone say nothing of it."""
    for (uri, row), why in embedded.faults.items():
        if why.rule != "embed:zero":
            wanted, got = f"a vector of every row of {part}", f"{why.rule} for row {row} of {uri}: {why.value}"
            raise TerminalError(
                "The model cannot embed all rows",
                expected=wanted,
                got=got,
                fix="Correct the model, or let clean empty such texts and ingest it again.",
                code="model_failed",
            )


def _groups(opened: pq.ParquetFile, embedding: Embedding) -> Iterator[pa.Table]:
    """Read the needed columns by row group. All at once where a file's first row must be found."""
    wanted = ("_source", "_row", *embedding.columns)
    columns = [name for name in dict.fromkeys(wanted) if name in opened.schema_arrow.names]
    if embedding.source == FILE:
        yield opened.read(columns)
        return
    for i in range(opened.num_row_groups):
        yield opened.read_row_group(i, columns)


def _rows(rows: pa.Table, spec: Work, embedding: Embedding) -> pa.Table:
    """Select rows of the wanted sources. Columns of folders are added, and null ones of other parts."""
    rows = rows.filter(pc.is_in(decoded(rows["_source"]), pa.array(list(spec.pieces), pa.string())))
    path = spec.part.target.removeprefix(f"{layout.table(spec.tenant, spec.table)}/")
    rows = typed_folders(rows, path, spec.kinds)
    for name in embedding.columns:
        if name not in rows.column_names and name in spec.kinds:
            kind = TYPES[KINDS.get(spec.kinds[name], "text")]
            rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
    return rows
