"""Finds rows by meaning: words or a picture in, the nearest rows of a collection out.

What is asked is embedded by the model that made the collection, in this process, which loads it when it is first
needed. A tenant finds its own rows only.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestlab.analytics.embedders.endpoint import reach
from ingestlab.analytics.embedders.registry import Embedder, Vectors, embed_all, has_vector, made_by
from ingestlab.analytics.embedders.registry import load as load_model
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for
from ingestlab.pipeline.catalog import Catalog, load
from ingestlab.pipeline.embedding import Embedding, Kind, Model, spell
from ingestlab.sinks.milvus.commit import connected
from ingestlab.sinks.milvus.exact import EXACT
from ingestlab.sinks.milvus.search_result import Gallery, SearchResult
from ingestlab.sinks.milvus.vector_rows import TYPES, absent
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Fingerprint, Hit, Where

MOST = 16_384  # hits of one question, in any Milvus
TAKEN = frozenset({"query", "score", "rows"})  # columns of hits that are no fields
AT_ONCE = 1_000  # hits in one answer, each with up to 64 KB of text, of which servers send 256 MB


def search(
    collection: str,
    query: Any,
    settings: Settings,
    *,
    limit: int = 10,
    only: Filter | None = None,
    distinct: str | None = None,
    tenant: str | None = None,
) -> SearchResult:
    """Find the rows of a collection nearest to one or several questions.

    Args:
        collection: Its name.
        query: A text, or an image: its bytes, the path of its file as a ``pathlib.Path``, or one of Pillow's. A list
            of these asks all of them; then the column ``query`` says which, from 0.
        settings: Where Milvus is, and the pipelines.
        limit: How many rows for each question, at most 16,384.
        only: Values that columns must have, ``{"year": [2020, 2021], "name": None}``, or one of Milvus's boolean
            expressions. Values may be those of a frame that a search gave; a missing one means null.
        distinct: A column, ``"text"`` for one: of rows with one value only the best is found, and the column ``rows``
            says how many there are.
        tenant: Whose rows; the settings' own tenant if not given.

    Returns:
        A row for each hit, the best first: ``score``, the payload, ``text`` (where texts were embedded), ``source``
        and ``row``, and ``chunk`` where texts were split. A payload column of one of these names has a ``_`` after it.

    Raises:
        TerminalError: There is no Milvus, no such collection, its model cannot be had, or it takes something else
            than what is asked.
        TransientError: Milvus is away.
    """
    tenant = tenant or settings.tenant
    settings = settings_for(tenant, settings)
    _check_limit(limit)
    store = connected(settings)
    if (made := store.describe(collection)) is None:
        raise absent(collection, store.names())
    many = isinstance(query, list | tuple)
    with reach(settings.outside()):
        embedder = _model_of(made, settings)
        vectors = _vectors(list(query) if many else [query], made, embedder)
    step, answers, where = max(1, AT_ONCE // limit), [], Where(tenant=tenant)
    if only is not None and not isinstance(only, str):
        names = {_shown(column.name): column.name for column in made.payload}
        only = {names.get(name, name): values for name, values in only.items()}
    column = _column(distinct, made, embedder.kind)
    lake = open_store(settings.lake_url, settings.storage_options)
    exact = EXACT.open(lake, tenant, made) if store.compares_all else None
    for start in range(0, len(vectors), step):
        some = vectors[start : start + step]
        exact_hits = exact.search(some, limit, only, column) if exact else None
        answers += store.search(collection, some, limit, where, only, column) if exact_hits is None else exact_hits
    frame = _frame(answers, made, embedder.kind, many=many, counted=bool(column))
    if embedder.kind == "text":
        return SearchResult.of(frame, None)
    tables = tuple(sorted({str(values["table"]) for hits in answers for _, _, values, _ in hits}))
    return SearchResult.of(frame, Gallery(lake, tenant, tables))


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST:
        raise TerminalError(
            "The limit is out of range",
            expected=f"a limit from 1 to {MOST:,}",
            got=f"{limit}",
            fix="Give another.",
            code="argument_invalid",
        )


def _model_of(made: Collection, settings: Settings) -> Embedder:
    """Load a collection's model, as a pipeline declares it or by name.

    Raises:
        TerminalError: It cannot be had here, or is not what it was.
    """
    others: list[str] = []
    broken: list[TerminalError] = []
    for model, kind in _candidates(made, settings, broken):
        try:
            own = Fingerprint.from_dict(made_by(model, kind, normalise=made.fingerprint.normalised))
        except TerminalError as error:
            broken.append(error)
            continue
        if made.fingerprint.same(own):
            return load_model(model, kind)
        others.append(str(own))
    if broken and not others:
        raise broken[0]
    got = f"{others[0]}, with other vectors" if others else "no pipeline that embeds into it"
    fix = "Search where its pipeline's file is, or run `ingestlab reembed TABLE` if the model has changed."
    raise TerminalError(
        "The model is not the one that made the vectors",
        expected=f"the model of collection '{made.name}', {made.fingerprint}",
        got=got,
        fix=fix,
        code="collection_conflict",
    )


def _candidates(made: Collection, settings: Settings, broken: list[TerminalError]) -> Iterator[tuple[Model, Kind]]:
    """Yield likely models of a collection, the likeliest first. None of another scheme is loaded."""
    scheme = made.fingerprint.model.partition("?")[0].partition(":")[0]
    for embedding in _declared(settings, broken):
        named = embedding.model if isinstance(embedding.model, str) else None
        if embedding.collection == made.name and (named is None or spell(named).scheme == scheme):
            yield embedding.model, embedding.kind
    for name in (made.fingerprint.model, scheme):
        try:
            spell(name)
        except TerminalError:
            continue  # a function, or the name says more than the spelling
        yield name, "text"
        return


def _declared(settings: Settings, broken: list[TerminalError]) -> Iterator[Embedding]:
    """Yield the pipelines' embeddings. Those that do not load go to `broken`."""
    for source in Catalog.read(settings).sources.values():
        try:
            embedding = load(source).embedding
        except TerminalError as error:
            broken.append(error)
            continue
        if embedding:
            yield embedding


def _vectors(queries: list[Any], made: Collection, embedder: Embedder) -> Vectors:
    """Embed questions as vectors of shape (n, dim)."""
    values = [_value(query, embedder.kind, made.name) for query in queries]
    vectors = embed_all(embedder, values, normalise=made.fingerprint.normalised)
    if not (known := has_vector(vectors)).all():
        which = queries[int(np.argmin(known))]
        got = repr(which)[:200] if isinstance(which, str) else "an image of one colour, or an empty one"
        raise TerminalError(
            "The query has no vector",
            expected=f"something that the model {made.fingerprint.model} makes a vector of",
            got=got,
            fix="Say more.",
            code="argument_invalid",
        )
    return vectors


def _value(query: Any, kind: Kind, name: str) -> str | bytes:
    """Convert a question to its model's input."""
    if kind == "text":
        if isinstance(query, str):
            return query
        raise TerminalError(
            "The query is no text",
            expected=f"a text to search collection '{name}' by",
            got=type(query).__name__,
            fix="It holds texts.",
            code="argument_invalid",
        )
    if isinstance(query, bytes | bytearray | memoryview):
        return bytes(query)
    if isinstance(query, os.PathLike):
        try:
            return Path(query).read_bytes()
        except OSError as error:
            raise TerminalError.wrap(
                error, f"There is no image file at {query}", "Check the path.", code="not_found"
            ) from error
    if hasattr(query, "save"):
        buffer = io.BytesIO()
        query.save(buffer, "PNG")
        return buffer.getvalue()
    fix = "It holds images: give the bytes of one, the pathlib.Path of its file, or a Pillow image."
    raise TerminalError(
        "The query is no image",
        expected=f"an image to search collection '{name}' by",
        got=f"{type(query).__name__} {query!r:.100}",
        fix=fix,
        code="argument_invalid",
    )


def _column(distinct: str | None, made: Collection, kind: Kind) -> str:
    """Give the field of a column whose values are found once.

    Raises:
        TerminalError: Hits have no such column.
    """
    columns = {_shown(name): name for name in _fields(made, kind)}
    if distinct is None or distinct in columns:
        return columns[distinct] if distinct else ""
    raise TerminalError(
        "Hits have no such column",
        expected=f"one of the columns {', '.join(columns)} as distinct",
        got=repr(distinct),
        code="argument_invalid",
    )


def _fields(made: Collection, kind: Kind) -> list[str]:
    """List the fields that hits have, as they are shown."""
    standard_fields = ["text", "source", "row", "chunk"] if kind == "text" else ["source", "row"]
    return [*(column.name for column in made.payload), *standard_fields]


def _frame(
    answers: Sequence[Sequence[Hit]], made: Collection, kind: Kind, *, many: bool, counted: bool
) -> pd.DataFrame:
    """Build a frame of hits on Arrow memory."""
    rows = [(number, hit) for number, hits in enumerate(answers) for hit in hits]
    columns: dict[str, pa.Array] = {"query": pa.array([n for n, _ in rows], pa.int64())} if many else {}
    columns["score"] = pa.array([hit.score for _, hit in rows], pa.float64())
    if counted:
        columns["rows"] = pa.array([hit.rows for _, hit in rows], pa.int64())
    kinds = {column.name: column.kind for column in made.columns}
    for name in _fields(made, kind):
        column = pa.array([values[name] for _, (_, _, values, _) in rows], TYPES[kinds[name]])
        columns[_shown(name)] = column
    frame: pd.DataFrame = pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _shown(name: str) -> str:
    """Name a payload column among hits."""
    return f"{name}_" if name in TAKEN else name
