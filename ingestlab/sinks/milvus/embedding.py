"""The vectors of published rows: computed in the task that publishes them, and staged as a Parquet file.

The file is outside of the batch's staging folder, and is named by what went in. A job that fails after its
models have run leaves it there, and its next try takes it as it is: no model runs twice for a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.analytics.embedders.each import Each
from ingestlab.analytics.embedders.endpoint import reach
from ingestlab.analytics.embedders.registry import embed_each, has_vector, load, made_by, says_something
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile
from ingestlab.interfaces import MAX_VALUE, Destination, Place, Reason, Rows, Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import to_parquet
from ingestlab.pipeline.embedding import FILE, Embedding
from ingestlab.sinks.milvus.fitness import TOO_LONG, joined, with_content
from ingestlab.sinks.milvus.inputs import Inputs, inputs_of
from ingestlab.sinks.milvus.reuse import MADE_BY, mark, vectors_of
from ingestlab.sinks.milvus.vector_rows import longer, primary_keys
from ingestlab.sinks.milvus.vector_values import MAX_BYTES, NAME, Collection, Column

BESIDE = "vectors"  # the name of the folder beside the table
_INPUT = b"ingestlab.input"  # in a file's metadata: digest of what was embedded
_COPY = "\x1e"  # before the number of a copy of a declared key
_FAULTS = b"ingestlab.faults"  # and of which source rows no vector was made, as JSON


@dataclass(frozen=True)
class Embedded:
    """Vectors of a part, with what goes along.

    Attributes:
        name: Of the part.
        table: The vectors and what goes with them.
        collection: The one that they are for.
        rows: How many rows they are of, or were to be of.
        faults: The source rows of which no vector can be made, and why.
        silent: The source rows of which there is nothing to make one of.
    """

    name: str
    table: pa.Table
    collection: Collection
    rows: int
    faults: Mapping[Place, Reason] = field(default_factory=dict)
    silent: Sequence[Place] = ()

    def of(self, rows: pa.Table) -> Embedded:
        """Keep the vectors of some rows."""
        if rows.num_rows == self.rows:
            return self
        places = set(zip(decoded(rows["_source"]).to_pylist(), rows["_row"].to_pylist(), strict=True))
        columns = (self.table[name].to_pylist() for name in ("source", "row"))
        keep = [place in places for place in zip(*columns, strict=True)]
        silent = [place for place in self.silent if place in places]
        return replace(self, table=self.table.filter(pa.array(keep, pa.bool_())), silent=silent)


def embed(rows: Rows, to: Destination) -> Embedded:
    """Embed the rows of a part. Vectors that an earlier try has staged are taken as they are.

    Args:
        rows: What to embed.
        to: Where the vectors go. Where it does not replace, rows of a source's new content stand beside those of its
            old one, so that their keys must not be the same.

    Raises:
        TerminalError: A column is missing, the model fails, or a value cannot go into a collection.
    """
    with reach(to.outside):
        return _embedded(rows, to)


def _embedded(rows: Rows, to: Destination) -> Embedded:
    table, embedding = rows.table, to.pipeline.embedding
    check_columns(table, embedding)
    made = made_by(embedding.model, embedding.kind, normalise=embedding.normalise)
    collection = collection_of(embedding, made, [Column.of(table.schema.field(name)) for name in embedding.payload])
    inputs = inputs_of(table, embedding, rows.pieces, rows.raw)
    columns = _columns(rows, inputs, to)
    key = _digest(columns, inputs, collection)
    vectors, faults = _staged_before(to.store, _staged(rows.name, to), key) or _made(
        columns, inputs, collection, key, rows.alive, to
    )
    silent = np.setdiff1d(inputs.wanted, inputs.rows[inputs.saying]).tolist()
    places = list(zip(decoded(table["_source"]).to_pylist(), table["_row"].to_pylist(), strict=True)) if silent else []
    reasons = {(uri, row): Reason(rule, None, value) for uri, row, rule, value in reversed(faults)}
    empty = list(dict.fromkeys(places[i] for i in silent))
    return Embedded(rows.name, vectors, collection, table.num_rows, reasons, empty)


def _staged(name: str, to: Destination) -> str:
    """Give where a file of vectors waits."""
    return f"{layout.costly(to.batch)}/{name}.part"


def _made(
    columns: pa.Table, inputs: Inputs, collection: Collection, key: bytes, alive: Callable[[], None], to: Destination
) -> tuple[pa.Table, list[tuple[str, int, str, str]]]:
    """Compute vectors beside their columns, and list inputs that have none."""
    embedding: Embedding = to.pipeline.embedding
    each = _each(columns, inputs, collection, alive, to)
    faults = [_fault(columns, i, f"embed:{fault.rule}", fault.value) for i, fault in each.faults.items()]
    if embedding.kind == "text" and "text" not in embedding.truncate:
        faults += [
            _fault(columns, i, TOO_LONG, f"{len(inputs.values[i].encode()):,} bytes of text")
            for i in longer(columns["text"], MAX_BYTES)
        ]
    known = has_vector(each.vectors)
    array = pa.FixedSizeListArray.from_arrays(pa.array(each.vectors[known].ravel()), collection.dim)
    table = columns.filter(pa.array(known)).append_column("vector", array)
    table = table.append_column(MADE_BY, pa.repeat(pa.scalar(mark(collection.fingerprint.to_dict())), len(array)))
    return table.replace_schema_metadata({_INPUT: key, _FAULTS: json.dumps(faults)}), faults


def _each(
    columns: pa.Table, inputs: Inputs, collection: Collection, alive: Callable[[], None], to: Destination
) -> Each:
    """Give each input its vector. A model is asked once for equal ones, and never for what the lake has."""
    embedding: Embedding = to.pipeline.embedding
    places = {value: at for at, value in enumerate(dict.fromkeys(inputs.values))}
    known = np.full((len(places), collection.dim), np.nan, np.float32)
    column = "text" if embedding.kind == "text" else "sha256" if embedding.source == FILE else ""
    if column and (files := _with_rows_of(columns["source"], to.previous.get(NAME, ()))):
        keyed = dict(zip(columns[column].to_pylist(), inputs.values, strict=True))
        keys = {text: places[value] for text, value in keyed.items() if says_something(value)}
        first = pc.min(columns["row"]).as_py()
        made = collection.fingerprint.to_dict()
        known[list(keys.values())] = vectors_of(list(keys), column, made, files, first, to.store, alive)
    asked = [value for value, has in zip(places, has_vector(known), strict=True) if not has]
    each = embed_each(
        load(embedding.model, embedding.kind),
        asked,
        batch=embedding.batch,
        normalise=embedding.normalise,
        directed=embedding.metric == "COSINE",
        alive=alive,
        works=len(asked) < len(places),
    )
    known[[places[value] for value in asked]] = each.vectors
    faults = {asked[at]: fault for at, fault in each.faults.items()}
    by_place = {i: faults[value] for i, value in enumerate(inputs.values) if value in faults} if faults else {}
    return Each(known[[places[value] for value in inputs.values]], by_place)


def _with_rows_of(sources: pa.ChunkedArray, files: Sequence[DataFile]) -> list[DataFile]:
    """Choose the files with rows of some sources."""
    uris = set(pc.unique(sources).to_pylist())
    return [file for file in files if not uris.isdisjoint(file.sources)]


def _fault(columns: pa.Table, at: int, rule: str, value: str) -> tuple[str, int, str, str]:
    return columns["source"][at].as_py(), columns["row"][at].as_py(), rule, value[:MAX_VALUE]


def stage(embedded: Embedded, to: Destination) -> list[DataFile]:
    """Stage vectors as a part, if there are any."""
    staged, data = _staged(embedded.name, to), as_parquet(embedded.table)
    target = f"{layout.table(to.tenant, layout.beside(to.table, BESIDE))}/{embedded.name}.parquet"
    to.store.write(staged, data)
    sources = tuple(sorted(set(embedded.table["source"].to_pylist())))
    part = DataFile(target=target, staged=staged, rows=embedded.table.num_rows, size=data.nbytes, sources=sources)
    return [part] if sources else []


def agreed(collections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Choose the collection for all parts of a batch. Differing kinds become wider.

    Args:
        collections: Those of the parts, as plain data; one at least.

    Raises:
        TerminalError: Parts were embedded by different models.
    """
    first, *others = wanted = [Collection.from_dict(collection) for collection in collections]
    for other in others:
        if not first.fingerprint.same(other.fingerprint):
            raise TerminalError(
                "Dask workers have different models",
                expected=f"one model for all parts of collection '{first.name}', {first.fingerprint}",
                got=str(other.fingerprint),
                fix="Install the same version on all Dask workers.",
                code="collection_conflict",
            )
    payload = tuple(_wider(columns) for columns in zip(*(c.payload for c in wanted), strict=True))
    return first.model_copy(update={"payload": payload}).to_dict()


def collection_of(embedding: Embedding, made: Mapping[str, Any], payload: Sequence[Column]) -> Collection:
    """Describe the collection that an embedding wants.

    Args:
        embedding: It says everything but the rest.
        made: The model's fingerprint.
        payload: The columns that go along.
    """
    return Collection(
        name=embedding.collection,
        fingerprint=made,
        payload=tuple(payload),
        metric=embedding.metric,
        index=embedding.index,
        inputs=embedding.inputs,
        truncate=embedding.truncate,
    )


def _wider(columns: Sequence[Column]) -> Column:
    kinds = {column.kind for column in columns}
    kind = columns[0].kind if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "text"
    return columns[0].model_copy(update={"kind": kind})


def check_columns(rows: pa.Table, embedding: Embedding) -> None:
    """Raise TerminalError if rows lack a column that their embedding uses."""
    missing = [name for name in embedding.columns if name not in rows.column_names]
    if missing:
        have = ", ".join(rows.column_names)
        wanted = f"the column '{missing[0]}', which the embedding uses"
        raise TerminalError(
            "The embedding lacks a column",
            expected=wanted,
            got=f"columns {have}",
            fix="Let clean make it, or correct the embedding.",
            code="column_unknown",
        )


def _columns(rows: Rows, inputs: Inputs, to: Destination) -> pa.Table:
    """Build everything of the vectors' rows but the vectors."""
    embedding: Embedding = to.pipeline.embedding
    chosen = rows.table.take(pa.array(inputs.rows))
    sources = decoded(chosen["_source"]).to_pylist()
    contents = [rows.pieces[uri].sha256 for uri in sources]
    keys = _keys(rows.table, embedding)[inputs.rows].tolist()
    if not to.replace:
        keys = [with_content(content, key) for content, key in zip(contents, keys, strict=True)]
    texts = inputs.values if embedding.kind == "text" else [None] * len(inputs.values)
    same = {"tenant": to.tenant, "table": to.table, "run": to.run}
    return pa.table(
        {
            "pk": primary_keys(to.tenant, to.table, sources, keys, inputs.chunks.tolist()),
            **{name: pa.repeat(pa.scalar(value), len(sources)) for name, value in same.items()},
            "source": pa.array(sources, pa.string()),
            "sha256": pa.array(contents, pa.string()),
            "row": chosen["_row"].cast(pa.int64()),
            "chunk": pa.array(inputs.chunks.astype(np.int64)),
            "text": pa.array(texts, pa.string()),
            **{name: chosen[name] for name in embedding.payload},
        }
    )


def _keys(rows: pa.Table, embedding: Embedding) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Tell each row from the others of its source: by declared key, or number.

    Copies that `clean` makes of a row are numbered, and so are rows with one key that are published already:
    contents of a source that were appended, and merged since.
    """
    columns = embedding.key or ("_row",)
    values = zip(*(decoded(rows[name]).to_pylist() for name in columns), strict=True)
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for place in zip(decoded(rows["_source"]).to_pylist(), map(joined, values), strict=True):
        copies = seen[place] = seen.get(place, -1) + 1
        keys.append(f"{place[1]}{_COPY if embedding.key else '.'}{copies}" if copies else place[1])
    return np.array(keys, dtype=object)


def _digest(columns: pa.Table, inputs: Inputs, collection: Collection) -> bytes:
    """Digest a model's inputs, and what goes with its answer."""
    state = hashlib.blake2b(collection.model_dump_json(exclude={"fingerprint": {"canary"}}).encode(), digest_size=20)
    for value in inputs.values:
        data = b"\0" if value is None else value if isinstance(value, bytes) else value.encode()
        state.update(b"%d:" % len(data))
        state.update(data)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, columns.schema) as writer:
        writer.write_table(columns)
    state.update(stream.getvalue())
    return state.hexdigest().encode()


def _staged_before(store: Store, staged: str, key: bytes) -> tuple[pa.Table, list[tuple[str, int, str, str]]] | None:
    """Read what an earlier try of this task has staged."""
    try:
        data = store.read(staged)
    except FileNotFoundError:
        return None
    table = pq.read_table(pa.BufferReader(data))
    metadata = table.schema.metadata or {}
    return (table, json.loads(metadata.get(_FAULTS, b"[]"))) if metadata.get(_INPUT) == key else None


def as_parquet(table: pa.Table) -> memoryview:
    """Write vectors as the bytes of a file."""
    return to_parquet(table, use_dictionary=[n for n in ("source", "sha256", MADE_BY) if n in table.column_names])
