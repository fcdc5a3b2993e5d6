"""Decides what a job's tasks will be: pure, but for the split points that readers look up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestlab.core.access import file_name
from ingestlab.core.models import FETCHED, DataFile, FetchedFile, Partition, Piece, SourceRecord, Tally, digest
from ingestlab.interfaces import Store, pieces_of
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.pipeline.pipeline import Pipeline

SHARED = 4  # workers that a file's pieces are shared by with nobody idle


@dataclass(frozen=True, kw_only=True)
class Target:
    """The table of a batch, with name and rules."""

    run: str
    tenant: str
    table: str
    source: PipelineSource
    pipeline: Pipeline
    replace: bool  # whether the sources' earlier rows go
    references: Mapping[str, FetchedFile] = field(default_factory=dict)  # in the raw zone, by name
    types: Mapping[str, str] = field(default_factory=dict)  # of the table's columns, as text
    earlier: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # see interfaces.Destination
    previous: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)  # likewise


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that processing and committing a batch need to know."""

    batch: str
    target: Target
    files: tuple[FetchedFile, ...]
    partitions: tuple[Partition, ...]


def make_plan(
    target: Target,
    files: Sequence[FetchedFile],
    known: Mapping[str, SourceRecord],
    store: Store,
    partition_bytes: int,
    archives: Sequence[FetchedFile] = (),
) -> Plan:
    """Name the batch and cut its files into partitions of about `partition_bytes`.

    The batch is named by what goes in: the same pipeline text on the same contents gives the same names
    for all parts, however often it is tried.

    Args:
        target: The table, its pipeline and its rules.
        files: In the raw zone.
        known: What the lake has, by URI: it tells contents that come back after others apart.
        store: The lake.
        partition_bytes: Bytes of a partition, about.
        archives: Those that files came out of.
    """
    sources = (*files, *archives)
    before = {f.uri: known[f.uri].batch for f in sources if f.uri in known}
    batch = digest(
        {
            "table": [target.tenant, target.table],
            "pipeline": [target.source.name, target.source.sha256],
            "sources": sorted((f.uri, f.sha256) for f in sources),
            "before": before,
            **referred(target.references),
        }
    )[:24]
    reader = target.pipeline.reader
    pieces = [pieces_of(f, reader, store, even(f.size, partition_bytes)) for f in files]
    packed = pack(pieces, {f.uri: f.size for f in files}, max(1, partition_bytes // 4))
    partitions = tuple(Partition(number=i, pieces=p) for i, p in enumerate(packed))
    return Plan(batch=batch, target=target, files=tuple(files), partitions=partitions)


def file_of(record: SourceRecord) -> FetchedFile:
    """Give the file that the raw zone has of a source."""
    return FetchedFile(
        uri=record.uri,
        path=record.raw,
        name=file_name(record.uri),
        size=record.size,
        sha256=record.sha256,
        version=record.version,
        facts={name: record.facts[name] for name in FETCHED if name in record.facts},
    )


def emptied(uri: str, run: str, batch: str) -> SourceRecord:
    """Make the record of a source without rows: any content is new.

    Args:
        uri: Of the source.
        run: That empties it.
        batch: Of the commit.
    """
    return SourceRecord(uri=uri, sha256="", size=0, raw="", tally=Tally(), run=run, batch=batch)


def referred(references: Mapping[str, FetchedFile]) -> dict[str, Any]:
    """Give what a batch's name owes to its references, if any."""
    return {"references": {name: file.sha256 for name, file in references.items()}} if references else {}


def even(size: int, most: int) -> int:
    """Choose the bytes of a file's pieces so that workers share evenly.

    Args:
        size: Of the file, in bytes.
        most: Bytes of a piece.
    """
    count = math.ceil(size / most)
    if count > SHARED // 2:
        count = SHARED * math.ceil(count / SHARED)
    return math.ceil(size / count) if count > 1 else most


def pack(pieces: Iterable[tuple[Piece, ...]], sizes: Mapping[str, int], limit: int) -> list[tuple[Piece, ...]]:
    """Put small whole files together up to `limit` bytes. Each piece of a cut file stays alone.

    Args:
        pieces: For each file, its pieces.
        sizes: Bytes of each file, by URI.
        limit: Bytes of a pack; a quarter of a partition, so that a request of middling files still
            keeps several Dask workers busy.
    """
    packs: list[tuple[Piece, ...]] = []
    bundle: list[Piece] = []
    weight = 0
    for group in pieces:
        if len(group) > 1:
            packs.extend((piece,) for piece in group)
            continue
        size = sizes[group[0].uri]
        if bundle and weight + size > limit:
            packs.append(tuple(bundle))
            bundle, weight = [], 0
        bundle.append(group[0])
        weight += size
    return [*packs, tuple(bundle)] if bundle else packs
