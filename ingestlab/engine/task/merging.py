"""The Dask tasks that rewrite data files without the rows that lose.

Data files stream through, a row group at a time. Row groups of which nothing goes are copied as they are encoded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.models import DataFile, Value
from ingestlab.engine.task.row_keys import (
    Bools,
    Held,
    Incoming,
    Keys,
    borders,
    in_order,
    index_of,
    index_path,
    read_keys,
    together,
    winning_hashes,
    write_keys,
)
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import ROW_COLUMNS, SOURCE_COLUMNS, batches, row_groups, without_dictionary
from ingestlab.lake.keys import Ints, KeyIndex, columns_of, comparable, hashed, ordered, rows_at
from ingestlab.lake.splice import Encoded, SplicedPart

_GROUP_ROWS = 1 << 17  # of a row group that is written: what another commit leaves alone is copied
_WORTH = 1 << 15  # rows of a row group that is copied; smaller ones become one


class Merged(Value):
    """What has become of some published files.

    Attributes:
        replaced: The targets of those that go.
        new: The files in place of them.
        removed: How many rows have gone.
        losers: The file with the places of rows of the batch that are older than published ones; empty if none are.
        files: The numbers of the staged files that these are in.
        gone: The file with the places of the rows that have gone; empty if they are not traced.
        sources: The sources of these.
    """

    replaced: tuple[str, ...] = ()
    new: tuple[DataFile, ...] = ()
    removed: int = 0
    losers: str = ""
    files: tuple[int, ...] = ()
    gone: str = ""
    sources: tuple[str, ...] = ()


class Left(Value):
    """What is left of a staged file.

    Attributes:
        part: The new file; None if no row is left.
        superseded: How many rows have lost.
        deleted: How many rows took out their key.
        gone: The rows that have gone, by source.
        traces: The file with their places; empty if they are not traced.
    """

    part: DataFile | None
    superseded: int
    deleted: int
    gone: dict[str, int]
    traces: str = ""


def take_out(
    keys: dict[str, Any], held: list[dict[str, Any]], incoming: list[dict[str, Any]], target: str, size: int
) -> dict[str, Any]:
    """Rewrite published files without superseded rows.

    Files of the same columns become one, or several of about one size. One of which nothing goes stays.

    Args:
        keys: A :class:`Keys`.
        held: The data files, of one folder, as :class:`Held`.
        incoming: The rows of the batch, as :class:`Incoming`.
        target: What the paths of new files begin with.
        size: Bytes that a new file has at most, about.

    Returns:
        A :class:`Merged`.
    """
    spec, files = Keys.from_dict(keys), [Held.from_dict(one) for one in held]
    store, wanted = spec.open(), [Incoming.from_dict(some) for some in incoming]
    groups: list[tuple[pa.Schema, list[_Rewriting]]] = []
    late: list[pa.Table] = []
    for file in files:
        one = _Rewriting(spec, file, wanted, store)
        late += one.late
        if one.keep.all():
            continue
        schema = one.opened.schema_arrow
        group = next((group for known, group in groups if known.equals(schema)), None)
        if group is None:
            groups.append((schema, group := []))
        group.append(one)
    new = [_rewritten(spec, group, f"{target}-{i}", size, store) for i, (_, group) in enumerate(groups)]
    gone = [one for _, group in groups for one in group]
    losers = pa.concat_tables(late) if late else None
    name = hashlib.sha256(target.encode()).hexdigest()[:16]
    path = spec.scratch(f"late-{name}") if losers else ""
    traces = _traces(spec, [(one.opened, one.held.part, one.keep) for one in gone], f"gone-{name}", store)
    if losers:
        write_keys(losers.append_column("deleted", pa.repeat(False, losers.num_rows)), path, store)
    return Merged(
        replaced=tuple(one.held.part.target for one in gone),
        new=tuple(part for parts in new for part in parts),
        removed=sum(int((~one.keep).sum()) for one in gone),
        losers=path,
        files=tuple(sorted(pc.unique(losers["file"]).to_pylist())) if losers else (),
        gone=traces,
        sources=tuple(sorted({uri for one in gone for uri in one.held.part.sources})) if traces else (),
    ).to_dict()


class _Rewriting:
    """A data file that may lose rows.

    Attributes:
        keep: The rows that stay.
        late: Places of rows of the batch that are older than rows of this file.
    """

    def __init__(self, spec: Keys, held: Held, incoming: Iterable[Incoming], store: Store) -> None:
        self.held, self.opened, self.index = held, held.open(store), index_of(spec, held, store)
        self.keep: Bools = np.ones(self.opened.metadata.num_rows, np.bool_)
        self.late: list[pa.Table] = []
        for some in incoming:
            places = self.index.candidates(winning_hashes(some, store))
            if len(places):
                self._compare(spec, places, some, store)

    def _compare(self, spec: Keys, places: Ints, incoming: Incoming, store: Store) -> None:
        """Compare candidate rows with those of the batch, by key."""
        names = [*spec.columns, *filter(None, (spec.latest_by,))]
        rows = rows_at(self.opened, spec.inside(self.held.part), names, places)
        columns = [comparable(rows[name]) for name in spec.columns]
        hashes = hashed(columns)
        mine = pa.table(
            {
                **dict(zip(spec.names, columns, strict=True)),
                "latest": ordered(rows[spec.latest_by]) if spec.latest_by else pa.nulls(len(places)),
                "side": pa.repeat(0, len(places)),
                "file": pa.repeat(-1, len(places)),
                "at": pa.array(places),
            }
        )
        others = read_keys(incoming.winners, store)
        others = others.filter(pc.is_in(others["hash"], pa.array(np.unique(hashes))))
        others = others.append_column("side", pa.repeat(1, others.num_rows)).select(mine.column_names)
        both = together([mine, others], spec)
        order = in_order(both, [*spec.names, "latest", "side", "at"])
        group = np.insert(np.cumsum(borders(both, spec.names, order)), 0, 0) if len(order) else order
        side = both["side"].to_numpy()[order]
        new = np.full(int(group[-1]) + 1, -1)  # where the batch's row of each key is
        new[group[side == 1]] = np.flatnonzero(side)
        beaten = (side == 0) & (np.arange(len(order)) < new[group])
        self.keep[both["at"].to_numpy()[order[beaten]]] = False
        newer = (side == 0) & (np.arange(len(order)) > new[group]) & (new[group] >= 0)
        if newer.any():
            self.late.append(both.take(pa.array(order[np.unique(new[group[newer]])])).select(["file", "at"]))


def _rewritten(spec: Keys, group: Sequence[_Rewriting], target: str, size: int, store: Store) -> list[DataFile]:
    """Stage the rows that stay, with their indexes."""
    kept = [one for one in group if one.keep.any()]
    if not kept:
        return []
    files = -(-sum(one.held.part.size for one in kept) // size)
    parts = _write_kept(
        [_Kept(one.held, one.opened, one.keep) for one in kept], target, layout.staging(spec.batch), store, files
    )
    if len(parts) == 1:
        offsets = np.cumsum([0, *(one.keep.sum() for one in kept)])
        indexes = [one.index.kept(one.keep, int(offset)) for one, offset in zip(kept, offsets, strict=False)]
        KeyIndex.joined(indexes).write(store, index_path(spec, parts[0]))
    for part in parts if len(parts) > 1 else ():
        opened = Held(part=part, path=part.staged).open(store)
        KeyIndex.build(opened, spec.inside(part), spec.columns).write(store, index_path(spec, part))
    return parts


def drop(keys: dict[str, Any], part: dict[str, Any], number: int, losers: list[str]) -> dict[str, Any]:
    """Rewrite a staged file without its losing rows.

    Args:
        keys: A :class:`Keys`.
        part: The staged file.
        number: Of the file in its batch.
        losers: Files with the places of such rows.

    Returns:
        A :class:`Left`.
    """
    spec, old = Keys.from_dict(keys), DataFile.from_dict(part)
    store = spec.open()
    lost = pa.concat_tables(read_keys(path, store, [("file", "=", number)]) for path in losers)
    places = lost["at"].to_numpy()
    keep: Bools = np.ones(old.rows, np.bool_)
    keep[places] = False
    superseded: Bools = np.zeros(old.rows, np.bool_)
    superseded[places[~lost["deleted"].to_numpy()]] = True  # a row that deletes may be too old to do so
    held = Held(part=old, path=old.staged)
    opened = held.open(store)
    sources = pa.concat_tables(columns_of(opened, spec.inside(old), ["_source"]))["_source"]
    left = None
    if keep.any():
        target = f"{old.target.removesuffix('.parquet')}-m"
        (left,) = _write_kept([_Kept(held, opened, keep)], target, layout.staging(spec.batch), store)
    return Left(
        part=left,
        superseded=int(superseded.sum()),
        deleted=int((~keep & ~superseded).sum()),
        gone=Counter(decoded(sources.filter(pa.array(~keep))).to_pylist()),
        traces=_traces(spec, [(opened, old, keep)], f"traces-{number}", store),
    ).to_dict()


def _traces(spec: Keys, files: Iterable[tuple[pq.ParquetFile, DataFile, Bools]], name: str, store: Store) -> str:
    """List the rows that do not stay, by source, number and key. Gives the path, empty if nobody asks."""
    if not spec.traced:
        return ""
    names = [*spec.columns, "_source", "_row"]
    tables = [
        _placed(spec, rows_at(opened, spec.inside(part), names, np.flatnonzero(~keep)), "_source", "_row")
        for opened, part, keep in files
    ]
    if not tables:
        return ""
    write_keys(pa.concat_tables(tables), spec.scratch(name), store)
    return spec.scratch(name)


def _placed(spec: Keys, rows: pa.Table, source: str, row: str) -> pa.Table:
    """Give what tells a row from all others."""
    columns = [comparable(rows[name]) for name in (source, row, *spec.columns)]
    return pa.table(columns, names=["source", "row", *spec.names])


def strip(
    keys: dict[str, Any], held: dict[str, Any], traces: list[str], target: str, folder: str
) -> dict[str, Any] | None:
    """Rewrite a file of rows without those that go.

    Args:
        keys: A :class:`Keys`. Rows are told by its columns, if any, and by source and number.
        held: The file, as :class:`Held`.
        traces: Files with the rows that go.
        target: Where the new file is published.
        folder: Where it waits.

    Returns:
        ``{"part": …, "gone": {uri: rows}}`` with the new file, None if no row is left; None if nothing goes.
    """
    spec, file = Keys.from_dict(keys), Held.from_dict(held)
    store = spec.open()
    told = ["source", "row", *spec.names]
    gone = pa.concat_tables(read_keys(path, store).select(told) for path in traces)
    opened = file.open(store)
    source, row = (next(n for n in some if n in opened.schema_arrow.names) for some in (SOURCE_COLUMNS, ROW_COLUMNS))
    rows = pa.concat_tables(columns_of(opened, "", [source, row, *spec.columns]))
    placed = _placed(spec, rows, source, row).append_column("at", pa.array(np.arange(rows.num_rows)))
    lost = placed.join(gone, told, join_type="left semi")
    if not lost.num_rows:
        return None
    keep: Bools = np.ones(rows.num_rows, np.bool_)
    keep[lost["at"].to_numpy()] = False
    stem = target.removesuffix(".parquet")
    part = _write_kept([_Kept(file, opened, keep)], stem, folder, store)[0] if keep.any() else None
    return {"part": part.to_dict() if part else None, "gone": Counter(lost["source"].to_pylist())}


class _Kept(NamedTuple):
    """A data file, and which of its rows stay."""

    held: Held
    opened: pq.ParquetFile
    keep: Bools


class _Copied(NamedTuple):
    """A row group of which all rows stay."""

    file: _Kept
    encoded: Encoded
    group: int

    def sources(self, name: str) -> list[str]:
        """List the URIs that have rows in it."""
        return _uris(self.file.opened.read_row_group(self.group, columns=[name])[name])


class _Changed(NamedTuple):
    """A row group of which rows go, or of few rows."""

    file: _Kept
    group: int
    keep: Bools

    def rows(self) -> Iterator[pa.Table]:
        """Yield the rows that stay."""
        start = 0
        for rows in batches(self.file.opened, self.group):
            stays = self.keep[start : start + rows.num_rows]
            start += rows.num_rows
            yield rows if stays.all() else rows.filter(pa.array(stays))


def _write_kept(files: Sequence[_Kept], target: str, folder: str, store: Store, several: int = 1) -> list[DataFile]:
    """Stage the rows that stay, in one or several files."""
    opened = [file.opened for file in files]
    schema, bare = opened[0].schema_arrow, without_dictionary(opened)
    name = next(name for name in SOURCE_COLUMNS if name in schema.names)
    most = -(-sum(int(file.keep.sum()) for file in files) // several)
    parts: list[DataFile] = []
    template = Encoded.of(schema.empty_table())
    segments = _segments([piece for file in files for piece in _pieces(file, template, store)])
    segment = next(segments, None)
    while segment is not None:
        number = f"-{len(parts)}" if several > 1 else ""
        with SplicedPart(schema, f"{target}{number}.parquet", folder, store, bare) as part:
            while segment is not None and (part.rows < most or len(parts) == several - 1):
                if isinstance(segment, _Copied):
                    part.copy(segment.encoded, segment.group, segment.sources(name))
                else:
                    part.write(segment, _uris(segment[name]))
                segment = next(segments, None)
            parts.append(part.close())
    return parts


def _uris(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_dictionary(column.type):  # not a text for each row
        column = column.unify_dictionaries()
    uris: list[str] = column.unique().to_pylist()
    return uris


def _segments(pieces: Iterable[_Copied | _Changed]) -> Iterator[_Copied | pa.Table]:
    """Yield row groups to copy, and those of the rows between them."""
    for _, several in groupby(pieces, type):
        some = list(several)
        yield from (piece for piece in some if isinstance(piece, _Copied))
        changed = (rows for piece in some if isinstance(piece, _Changed) for rows in piece.rows())
        yield from row_groups(changed, _GROUP_ROWS)


def _pieces(file: _Kept, template: Encoded, store: Store) -> Iterator[_Copied | _Changed]:
    """Take a file apart. Row groups are copied where all of many rows stay."""
    sizes = [file.opened.metadata.row_group(i).num_rows for i in range(file.opened.num_row_groups)]
    keeps = np.split(file.keep, np.cumsum(sizes)[:-1])
    whole = [len(keep) >= _WORTH and bool(keep.all()) for keep in keeps]
    encoded = file.held.encoded(store) if any(whole) else None
    fits = encoded is not None and encoded.fits(template)
    for group, (keep, stays) in enumerate(zip(keeps, whole, strict=True)):
        yield _Copied(file, encoded, group) if encoded and fits and stays else _Changed(file, group, keep)
