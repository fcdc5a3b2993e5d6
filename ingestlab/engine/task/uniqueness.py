"""The Dask tasks that hold a batch against `unique` of its contract, over the whole table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.models import DataFile, Partition, Piece, Value
from ingestlab.engine.task.job import Job
from ingestlab.engine.task.process import read_pieces
from ingestlab.engine.task.rejects import kept_aside
from ingestlab.engine.task.row_keys import (
    Held,
    Incoming,
    Keys,
    borders,
    candidates_in,
    doubtful,
    in_range,
    read_keys,
    write_keys,
)
from ingestlab.interfaces import Reason, Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import stage_table
from ingestlab.lake.keys import columns_of, comparable, ends_of, hashed, rows_at
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import load

RULE = "unique"
_SHOWN = 60  # characters of a value that a reject names


class Doubles(Value):
    """Rows of a batch whose values are others' already.

    Attributes:
        path: The file with their places, each with the first row; empty if there are none.
        sources: The URIs that they are of.
    """

    path: str = ""
    sources: tuple[str, ...] = ()


def first_rows(
    keys: dict[str, Any], parts: list[dict[str, Any]], before: list[str], number: int, of: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the first row of each value in a batch. Rows that are null in a column are left out.

    Args:
        keys: A :class:`Keys`.
        parts: The staged data files.
        before: Files with rows that are rejected already.
        number: Of the range of hashes.
        of: How many ranges there are.

    Returns:
        An :class:`Incoming`, and :class:`Doubles` within the batch.
    """
    spec = Keys.from_dict(keys)
    store, files = spec.open(), [DataFile.from_dict(part) for part in parts]
    tables = [rows for i, part in enumerate(files) for rows in _rows(spec, part, i, store)]
    rows = pa.concat_tables(tables).combine_chunks()
    rows = rows.filter(pa.array(in_range(rows["hash"].to_numpy(), number, of)))
    if before:
        gone = pa.concat_tables(read_keys(path, store).select(["source", "row"]) for path in before)
        rows = rows.join(gone, ["source", "row"], join_type="left anti").combine_chunks()
    first, doubles = _first(rows, spec)
    winners = rows.filter(pa.array(first)).sort_by("hash")
    incoming = Incoming(
        winners=spec.scratch(f"first-{number}"),
        losers="",
        rows=winners.num_rows,
        ends=ends_of(winners["key0"].combine_chunks()) if winners.num_rows else None,
    )
    write_keys(winners, incoming.winners, store)
    return incoming.to_dict(), _kept(doubles, spec.scratch(f"doubles-{number}"), store).to_dict()


def _rows(spec: Keys, part: DataFile, file: int, store: Store) -> Iterable[pa.Table]:
    """Yield the keys of a staged file, with where they are."""
    names, start = [*spec.columns, "_source", "_row"], 0
    for rows in columns_of(Held(part=part, path=part.staged).open(store), spec.inside(part), names):
        columns = [comparable(rows[name]) for name in spec.columns]
        source = decoded(rows["_source"]).cast(pa.large_string())
        places = {
            "source": source,
            "row": rows["_row"],
            "place": pc.index_in(source, pa.array(spec.uris, pa.large_string())),
            "file": pa.repeat(file, rows.num_rows),
            "at": pa.array(np.arange(start, start + rows.num_rows)),
        }
        start += rows.num_rows
        table = pa.table({"hash": pa.array(hashed(columns)), **dict(zip(spec.names, columns, strict=True)), **places})
        yield table.drop_null()


def _first(rows: pa.Table, spec: Keys) -> tuple[np.ndarray, pa.Table]:
    """Mark the first row of each value, and list the others."""
    first = np.ones(rows.num_rows, np.bool_)
    at = doubtful(rows["hash"].to_numpy())
    some = rows.take(pa.array(at))
    order = pc.sort_indices(some, [(n, "ascending") for n in (*spec.names, "place", "row", "file", "at")]).to_numpy()
    new = np.insert(borders(some, spec.names, order), 0, True) if len(order) else np.empty(0, np.bool_)
    leader = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))] if len(order) else order
    first[at[order[~new]]] = False
    return first, _pairs(some.take(pa.array(order[~new])), some.take(pa.array(leader[~new])), spec)


def _pairs(doubles: pa.Table, firsts: pa.Table, spec: Keys) -> pa.Table:
    """List rows with their values, and where these are first."""
    values = [doubles[name].cast(pa.string()) for name in spec.names]
    return pa.table(
        {
            "source": doubles["source"].cast(pa.large_string()),
            "row": doubles["row"],
            "value": pc.binary_join_element_wise(*values, ", ") if len(values) > 1 else values[0],
            "first_source": firsts["source"].cast(pa.large_string()),
            "first_row": firsts["row"],
        }
    )


def _kept(doubles: pa.Table, path: str, store: Store) -> Doubles:
    """Write doubles down, if there are any."""
    if not doubles.num_rows:
        return Doubles()
    write_keys(doubles, path, store)
    return Doubles(path=path, sources=tuple(sorted(pc.unique(doubles["source"]).to_pylist())))


def published_doubles(
    keys: dict[str, Any], held: list[dict[str, Any]], incoming: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    """Find the rows of a batch whose values are published already.

    Args:
        keys: A :class:`Keys`.
        held: The data files that may hold such values, as :class:`Held`.
        incoming: The first row of each value of the batch, as :class:`Incoming`.
        name: For the file that tells them.

    Returns:
        :class:`Doubles`.
    """
    spec, wanted = Keys.from_dict(keys), [Incoming.from_dict(some) for some in incoming]
    store = spec.open()
    tables = [pairs for one in held for pairs in _published(spec, Held.from_dict(one), wanted, store)]
    doubles = pa.concat_tables(tables) if tables else pa.table({})
    return _kept(doubles, spec.scratch(name), store).to_dict()


def _published(spec: Keys, held: Held, incoming: Sequence[Incoming], store: Store) -> Iterable[pa.Table]:
    """Yield the doubles of one data file's rows."""
    for some in incoming:
        places = candidates_in(spec, held, some, store)
        if not len(places):
            continue
        rows = rows_at(held.open(store), spec.inside(held.part), [*spec.columns, "_source", "_row"], places)
        columns = [comparable(rows[name]) for name in spec.columns]
        there = pa.table(
            [*columns, decoded(rows["_source"]).cast(pa.large_string()), rows["_row"]],
            names=[*spec.names, "first_source", "first_row"],
        )
        there = there.group_by(spec.names, use_threads=False).aggregate(
            [("first_source", "first"), ("first_row", "first")]
        )
        new = read_keys(some.winners, store)
        new = new.filter(pc.is_in(new["hash"], pa.array(np.unique(hashed(columns))))).drop_columns(["hash"])
        both = new.join(there, spec.names, join_type="inner", use_threads=False)
        if both.num_rows:
            firsts = pa.table({"source": both["first_source_first"], "row": both["first_row_first"]})
            yield _pairs(both, firsts, spec)


def reject(
    job: dict[str, Any], partition: dict[str, Any], ends: list[int | None], rules: list[list[str]], number: int
) -> dict[str, Any]:
    """Stage the rejects of doubles in the pieces of a partition.

    Args:
        job: What all tasks of the batch are told.
        partition: The pieces with some.
        ends: The number of the row after each piece; None for the last piece of a file.
        rules: For each file with doubles its path, and the columns that are to be unique.
        number: Of the partition.

    Returns:
        ``{"files": …, "rejected": {uri: rows}, "rules": {name: rows}}``.

    Raises:
        TerminalError: A file cannot be read again.
    """
    spec, work = Job.from_dict(job), Partition.from_dict(partition)
    store = open_store(spec.lake, spec.storage_options)
    reasons = _reasons(work.pieces, ends, rules, store)
    loaded, errors = read_pieces([piece for piece in work.pieces if reasons[piece.uri]], load(spec.pipeline), store)
    if errors:
        raise next(iter(errors.values()))
    groups = [
        (one, sorted(reasons[one.piece.uri]), [why for _, why in sorted(reasons[one.piece.uri].items())])
        for one in loaded
    ]
    rejects = kept_aside(groups, spec.table, spec.run)
    home = layout.table(spec.tenant, layout.rejects(spec.table))
    files = stage_table(rejects, f"{spec.batch}-u{number:05d}", home, layout.staging(spec.batch), store)
    counts = rejects.group_by(["column"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return {
        "files": [file.to_dict() for file in files],
        "rejected": {uri: len(rows) for uri, rows in reasons.items() if rows},
        "rules": {f"{count['column']}:{RULE}": count["count_all"] for count in counts},
    }


def _reasons(
    pieces: Sequence[Piece], ends: Sequence[int | None], rules: Sequence[Sequence[str]], store: Store
) -> dict[str, dict[int, Reason]]:
    """Map each double of some pieces to its first reason."""
    reasons: dict[str, dict[int, Reason]] = {piece.uri: {} for piece in pieces}
    for path, columns in rules:
        doubles = read_keys(path, store)
        for piece, end in zip(pieces, ends, strict=True):
            mine = pc.and_(pc.equal(doubles["source"], piece.uri), pc.greater_equal(doubles["row"], piece.first_row))
            if end is not None:
                mine = pc.and_(mine, pc.less(doubles["row"], end))
            for double in doubles.filter(mine).to_pylist():
                first = f"first in {double['first_source']}, row {double['first_row']}"
                why = Reason(RULE, columns, f"{double['value'][:_SHOWN]} ({first})")
                reasons[piece.uri].setdefault(double["row"], why)
    return reasons
