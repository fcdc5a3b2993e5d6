"""What there is to embed again in a table: its parts, and for each of their sources the pipeline and the content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingestlab.core.access import file_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import PARQUET, DataFile, Manifest, Piece, SourceRecord, digest
from ingestlab.core.settings import Settings
from ingestlab.lake.log import live_files
from ingestlab.lake.table import Table
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.pipeline.embedding import FILE, Embedding
from ingestlab.sinks.milvus.commit import collection_in
from ingestlab.sinks.milvus.vector_values import NAME

Origins = Mapping[str, SourceRecord]  # by URI


@dataclass(frozen=True)
class Task:
    """The sources of one pipeline in one part, with their pieces."""

    part: DataFile
    code: PipelineSource
    pieces: Mapping[str, Piece]


@dataclass(frozen=True)
class Survey:
    """A table as it is to be embedded.

    Attributes:
        table: The table.
        history: Its manifests, oldest first.
        codes: The pipelines that want vectors of its rows, as they are now; one at least.
        tasks: What to do.
        old: The parts with vectors that there are.
        kinds: Of its columns, as its profiles have them.
    """

    table: Table
    history: Sequence[Manifest]
    codes: Sequence[PipelineSource]
    tasks: Sequence[Task]
    old: Sequence[DataFile]
    kinds: Mapping[str, str]

    @property
    def embedding(self) -> Embedding:
        """Give what the first pipeline declares."""
        return embedding_of(self.codes[0])

    @property
    def batch(self) -> str:
        """Name the batch by what goes in and out. Another try has the same name."""
        inside = {"reembed": self.table.where, "code": sorted(code.sha256 for code in self.codes)}
        rows, old = [t.part.target for t in self.tasks], [p.target for p in self.old]
        return digest({**inside, "parts": rows, "old": old, "after": self.history[-1].batch})[:24]


def survey(table: Table, settings: Settings) -> Survey:
    """Look at a table and at its pipelines as they are now.

    Raises:
        TerminalError: There is no such table, none of its pipelines wants vectors, or one that did wants none now.
    """
    history = table.history()
    rows, old = tuple(live_files(history, PARQUET)), tuple(live_files(history, NAME))
    origins = _origins(history)
    names = {m.batch: m.pipeline for m in history}
    used = [names[r.batch] for part in rows for r in origins[part.target].values() if r.batch in names]
    codes = _wanting(dict.fromkeys(used or names.values()), history, table.name, Catalog.read(settings))
    if not codes:
        fix = "Declare one in its pipeline: Pipeline(embedding=Embedding(…))."
        raise TerminalError(f"No pipeline of table {table.name} has an embedding", fix=fix, code="embedding_invalid")
    tasks = [
        Task(part, codes[name], pieces)
        for part, pieces_by_name in _by_pipeline(rows, origins, names, codes)
        for name, pieces in pieces_by_name.items()
    ]
    return Survey(table, history, list(codes.values()), tasks, old, _kinds(history))


def embedding_of(code: PipelineSource) -> Embedding:
    """Give the embedding of a pipeline that has one."""
    embedding = load(code).embedding
    assert embedding is not None
    return embedding


def _wanting(
    names: Iterable[str], history: Sequence[Manifest], table: str, catalog: Catalog
) -> dict[str, PipelineSource]:
    """Find the pipelines that embed the rows they bring, by name."""
    codes = {}
    made = {m.pipeline for m in history if collection_in(m) is not None and m.kind in ("ingest", "replay")}
    for name in names:
        if name not in catalog.sources and name not in made:
            continue  # files that no pipeline took, or one that is gone and never wanted vectors
        code = catalog.named(name)
        pipeline = load(code)
        if pipeline.embedding is not None and pipeline.table == table:
            codes[name] = code
        elif name in made:
            problem = f"Pipeline '{name}', which has made vectors of table {table}, has no embedding for it any more"
            fix = "Declare one, or delete its sources: `ingestlab delete`."
            raise TerminalError(problem, fix=fix, code="embedding_invalid")
    return codes


def _origins(history: Iterable[Manifest]) -> dict[str, Origins]:
    """Map each data file to its sources' records, as of its commit.

    Where contents of a source were appended and their parts merged, the latest stands for them.
    """
    last: dict[str, SourceRecord] = {}
    origins: dict[str, Origins] = {}
    for manifest in history:
        last |= {record.uri: record for record in manifest.sources if record.sha256}
        for part in manifest.parts:
            origins[part.target] = {uri: last[uri] for uri in part.sources if uri in last}
    return origins


def _by_pipeline(
    rows: Iterable[DataFile],
    origins: Mapping[str, Origins],
    names: Mapping[str, str],
    codes: Mapping[str, PipelineSource],
) -> Iterator[tuple[DataFile, dict[str, dict[str, Piece]]]]:
    """Group the pieces of each part by pipeline. A file that is embedded as a whole is so once."""
    whole = {name for name, code in codes.items() if embedding_of(code).source == FILE}
    seen: set[tuple[str, str]] = set()
    for part in rows:
        pieces_by_name: dict[str, dict[str, Piece]] = {}
        for uri, record in origins[part.target].items():
            name, content = names.get(record.batch, ""), (uri, record.sha256)
            if name in codes and not (name in whole and content in seen):
                pieces_by_name.setdefault(name, {})[uri] = _piece(record)
                seen.add(content)
        yield part, pieces_by_name


def _piece(record: SourceRecord) -> Piece:
    return Piece(uri=record.uri, path=record.raw, name=file_name(record.uri), sha256=record.sha256)


def _kinds(history: Iterable[Manifest]) -> dict[str, str]:
    """Give the columns' kinds as last published with a value."""
    profiles = (profiled for manifest in history for profiled in manifest.profile)
    return {
        name: str(state["kind"])
        for profiled in profiles
        for name, state in profiled.columns.items()
        if state["kind"] != "null"
    }
