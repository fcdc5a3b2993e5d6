"""The Dask tasks of a merge.

They find the rows that win, and rewrite data files without those that lose. Rows with one key have one hash, so a big
batch is looked through by ranges of hashes: memory holds the keys of one range. Data files stream through.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Value
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import (
    ROW_COLUMNS,
    SOURCE_COLUMNS,
    batches,
    open_part,
    row_groups,
    without_dictionary,
    write_part,
)
from ingestlab.lake.keys import Hashes, Ints, KeyIndex, columns_of, comparable, ends_of, hashed, ordered, rows_at
from ingestlab.lake.storage.store import open_store

Bools = np.ndarray[Any, np.dtype[np.bool_]]
_GROUP = 1 << 18  # rows of a row group of keys


class Keys(Value):
    """What all tasks of a merge are told.

    Attributes:
        tenant: Of the table.
        table: Its name.
        batch: In whose staging folder everything waits.
        columns: Of the key.
        latest_by: The column that tells the latest row.
        delete_if: The column that tells which rows take out their key.
        uris: The sources of the batch, in their order.
        name: Tells its files from those of other columns.
        traced: Whether to list the rows that go, for sinks with files of rows.
        lake: The lake's URL.
        options: Its storage options.
    """

    tenant: str
    table: str
    batch: str
    columns: tuple[str, ...]
    latest_by: str | None = None
    delete_if: str | None = None
    uris: tuple[str, ...] = ()
    traced: bool = False
    name: str = ""
    lake: str
    options: dict[str, dict[str, Any]]

    @property
    def names(self) -> list[str]:
        """Name the key in tables of keys."""
        return [f"key{i}" for i in range(len(self.columns))]

    def open(self) -> Store:
        """Open the lake."""
        return open_store(self.lake, self.options)

    def inside(self, part: DataFile) -> str:
        """Give the path of a data file in its table."""
        return part.target[len(layout.table(self.tenant, self.table)) + 1 :]

    def scratch(self, name: str) -> str:
        """Name a file of the merge's own."""
        return f"{layout.staging(self.batch)}/{layout.part_key(self.name)}-{name}.keys"


class Held(Value):
    """A data file, and where it is before or after publication."""

    part: DataFile
    path: str

    @property
    def published(self) -> bool:
        """Tell whether it never changes any more."""
        return self.path == self.part.target

    def open(self, store: Store) -> pq.ParquetFile:
        """Open the file."""
        return open_part(self.part.model_copy(update={"target": self.path}), store)


class Incoming(Value):
    """The latest rows of a batch in a range of hashes.

    Attributes:
        winners: The file with their keys.
        losers: The file with the places of the others, and of rows that take out their key.
        rows: How many win.
        ends: The least and the greatest value of their first key column, if known.
        files: The numbers of the staged files with rows that are not published.
    """

    winners: str
    losers: str
    rows: int
    ends: tuple[Any, Any] | None = None
    files: tuple[int, ...] = ()


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


def choose(keys: dict[str, Any], parts: list[dict[str, Any]], number: int, of: int) -> dict[str, Any]:
    """Find the latest row of each key in a batch.

    Args:
        keys: A :class:`Keys`.
        parts: The staged data files.
        number: Of the range of hashes.
        of: How many ranges there are.

    Returns:
        An :class:`Incoming`.
    """
    spec = Keys.from_dict(keys)
    store, files = spec.open(), [DataFile.from_dict(part) for part in parts]
    tables = [rows for i, part in enumerate(files) for rows in _staged_keys(spec, part, i, number, of, store)]
    rows = _together(tables, spec)
    wins = _latest(rows, spec)
    gone = rows["gone"].to_numpy()
    lost = rows.filter(pa.array(~wins | gone)).select(["file", "at"])
    lost = lost.append_column("deleted", pa.array(wins[~wins | gone]))
    winners = rows.filter(pa.array(wins)).select(["hash", *spec.names, "latest", "file", "at"]).sort_by("hash")
    done = Incoming(
        winners=spec.scratch(f"winners-{number}"),
        losers=spec.scratch(f"losers-{number}") if lost.num_rows else "",
        rows=winners.num_rows,
        ends=ends_of(winners["key0"].combine_chunks()) if winners.num_rows else None,
        files=tuple(pc.unique(lost["file"]).to_pylist()),
    )
    write_keys(winners, done.winners, store)
    if lost.num_rows:
        write_keys(lost, done.losers, store)
    return done.to_dict()


def _staged_keys(spec: Keys, part: DataFile, file: int, number: int, of: int, store: Store) -> Iterator[pa.Table]:
    """Yield keys of a staged file with what decides between equal ones."""
    names = [*spec.columns, *filter(None, (spec.latest_by, spec.delete_if)), "_source", "_row"]
    start, uris = 0, pa.array(spec.uris, pa.string())
    for rows in columns_of(Held(part=part, path=part.staged).open(store), spec.inside(part), names):
        size = rows.num_rows
        columns = [comparable(rows[name]) for name in spec.columns]
        hashes = hashed(columns)
        gone = pc.fill_null(rows[spec.delete_if].cast(pa.bool_()), False) if spec.delete_if else pa.repeat(False, size)
        table = pa.table(
            {
                "hash": pa.array(hashes),
                **dict(zip(spec.names, columns, strict=True)),
                "latest": ordered(rows[spec.latest_by]) if spec.latest_by else pa.nulls(size),
                "gone": gone,
                "place": pc.index_in(decoded(rows["_source"]), uris),
                "row": rows["_row"],
                "file": pa.repeat(file, size),
                "at": pa.array(np.arange(start, start + size)),
            }
        )
        start += size
        yield table if of == 1 else table.filter(pa.array(in_range(hashes, number, of)))


def in_range(hashes: Hashes, number: int, of: int) -> Bools:
    """Mark the hashes of one of several ranges."""
    if of == 1:
        return np.ones(len(hashes), np.bool_)
    mine: Bools = hashes // np.uint64(-(-(1 << 64) // of)) == np.uint64(number)
    return mine


def _together(tables: Sequence[pa.Table], spec: Keys) -> pa.Table:
    """Join keys of several files.

    Raises:
        TerminalError: The values of `latest_by` are of types that have no common order.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds = ", ".join(dict.fromkeys(str(table.schema.field("latest").type) for table in tables))
        raise TerminalError.wrap(
            error,
            f"The latest_by column '{spec.latest_by}' has types that cannot be compared: {kinds}",
            f"Declare its type, and bring the table to it: `ingestlab rewrite {spec.table}`.",
            code="types_conflict",
        ) from error


def _latest(rows: pa.Table, spec: Keys) -> Bools:
    """Mark the rows that win."""
    wins: Bools = np.ones(rows.num_rows, np.bool_)
    places = doubtful(rows["hash"].to_numpy())
    if len(places):
        some = rows.take(pa.array(places))
        order = _sorted(some, [*spec.names, "latest", "place", "row", "file", "at"])
        wins[places[order[:-1][~borders(some, spec.names, order)]]] = False
    return wins


def doubtful(hashes: Hashes) -> Ints:
    """Find the places of hashes that come more than once, ascending."""
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    several = (
        np.concatenate([same, [False]]) | np.concatenate([[False], same]) if len(same) else np.zeros(len(order), bool)
    )
    places: Ints = np.sort(order[several])
    return places


def _sorted(rows: pa.Table, names: Sequence[str]) -> Ints:
    """Sort rows. Those that are null in `latest` come first."""
    if pa.types.is_null(rows.schema.field("latest").type):
        names = [name for name in names if name != "latest"]
    else:
        rows = rows.append_column("known", rows["latest"].is_valid().cast(pa.int8()))
        at = names.index("latest")
        names = [*names[:at], "known", *names[at:]]
    order: Ints = pc.sort_indices(rows, [(name, "ascending") for name in names]).to_numpy()
    return order.astype(np.int64)


def borders(rows: pa.Table, names: Sequence[str], order: Ints) -> Bools:
    """Mark sorted rows whose successor has another key."""
    differs: Bools = np.zeros(len(order) - 1, np.bool_)
    for name in names:
        values = rows[name].combine_chunks().take(pa.array(order))
        differs |= pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return differs


def probe(keys: dict[str, Any], held: list[dict[str, Any]], incoming: list[dict[str, Any]]) -> list[bool]:
    """Tell which data files may hold keys of a batch.

    Args:
        keys: A :class:`Keys`.
        held: The data files, as :class:`Held`.
        incoming: The rows of the batch, as :class:`Incoming`.
    """
    spec, wanted = Keys.from_dict(keys), [Incoming.from_dict(some) for some in incoming]
    store = spec.open()
    hashes = {some.winners: _hashes(some, store) for some in wanted}
    return [_may_hold(spec, Held.from_dict(one), wanted, hashes, store) for one in held]


def _may_hold(
    spec: Keys, held: Held, wanted: Sequence[Incoming], hashes: Mapping[str, np.ndarray], store: Store
) -> bool:
    if held.published and (ends := KeyIndex.ends_in(store, _index_path(spec, held.part))):
        wanted = [some for some in wanted if some.ends is None or _overlap(some.ends, ends)]
    if not wanted:
        return False
    index = _index(spec, held, store)
    if index.ends:
        wanted = [some for some in wanted if some.ends is None or _overlap(some.ends, index.ends)]
    return any(len(index.candidates(hashes[some.winners])) for some in wanted)


def _overlap(left: tuple[Any, Any], right: tuple[Any, Any]) -> bool:
    return bool(left[0] <= right[1] and right[0] <= left[1])


def _index_path(spec: Keys, part: DataFile) -> str:
    return layout.key_index(spec.tenant, spec.table, part.target, spec.columns)


def _index(spec: Keys, held: Held, store: Store) -> KeyIndex:
    """Read the index of a data file, or build it."""
    path = _index_path(spec, held.part)
    index = KeyIndex.read(store, path) if held.published else None
    if index is None or len(index.hashes) != held.part.rows:
        index = KeyIndex.build(held.open(store), spec.inside(held.part), spec.columns)
        if held.published:
            index.write(store, path)
    return index


def candidates_in(spec: Keys, held: Held, incoming: Incoming, store: Store) -> Ints:
    """Find the places of rows that may have keys of a batch."""
    return _index(spec, held, store).candidates(_hashes(incoming, store))


def _hashes(incoming: Incoming, store: Store) -> np.ndarray:
    hashes: np.ndarray = pq.read_table(_source(incoming.winners, store), columns=["hash"])["hash"].to_numpy()
    return hashes


def take_out(
    keys: dict[str, Any], held: list[dict[str, Any]], incoming: list[dict[str, Any]], target: str
) -> dict[str, Any]:
    """Rewrite published files without superseded rows.

    Files of the same columns become one. One of which nothing goes stays.

    Args:
        keys: A :class:`Keys`.
        held: The data files, of one folder, as :class:`Held`.
        incoming: The rows of the batch, as :class:`Incoming`.
        target: What the paths of new files begin with.

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
    new = [_rewritten(spec, group, f"{target}-{i}.parquet", store) for i, (_, group) in enumerate(groups)]
    gone = [one for _, group in groups for one in group]
    losers = pa.concat_tables(late) if late else None
    name = hashlib.sha256(target.encode()).hexdigest()[:16]
    path = spec.scratch(f"late-{name}") if losers else ""
    traces = _traces(spec, [(one.opened, one.held.part, one.keep) for one in gone], f"gone-{name}", store)
    if losers:
        write_keys(losers.append_column("deleted", pa.repeat(False, losers.num_rows)), path, store)
    return Merged(
        replaced=tuple(one.held.part.target for one in gone),
        new=tuple(part for part in new if part is not None),
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
        self.held, self.opened, self.index = held, held.open(store), _index(spec, held, store)
        self.keep: Bools = np.ones(self.opened.metadata.num_rows, np.bool_)
        self.late: list[pa.Table] = []
        for some in incoming:
            places = self.index.candidates(_hashes(some, store))
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
        others = pq.read_table(_source(incoming.winners, store))
        others = others.filter(pc.is_in(others["hash"], pa.array(np.unique(hashes))))
        others = others.append_column("side", pa.repeat(1, others.num_rows)).select(mine.column_names)
        both = _together([mine, others], spec)
        order = _sorted(both, [*spec.names, "latest", "side", "at"])
        group = np.insert(np.cumsum(borders(both, spec.names, order)), 0, 0) if len(order) else order
        side = both["side"].to_numpy()[order]
        new = np.full(int(group[-1]) + 1, -1)  # where the batch's row of each key is
        new[group[side == 1]] = np.flatnonzero(side)
        beaten = (side == 0) & (np.arange(len(order)) < new[group])
        self.keep[both["at"].to_numpy()[order[beaten]]] = False
        newer = (side == 0) & (np.arange(len(order)) > new[group]) & (new[group] >= 0)
        if newer.any():
            self.late.append(both.take(pa.array(order[np.unique(new[group[newer]])])).select(["file", "at"]))


def _rewritten(spec: Keys, group: Sequence[_Rewriting], target: str, store: Store) -> DataFile | None:
    """Stage the rows that stay as one file with its index."""
    kept = [one for one in group if one.keep.any()]
    if not kept:
        return None
    part = _write_kept([(one.opened, one.keep) for one in kept], target, layout.staging(spec.batch), store)
    offsets = np.cumsum([0, *(one.keep.sum() for one in kept)])
    indexes = [one.index.kept(one.keep, int(offset)) for one, offset in zip(kept, offsets, strict=False)]
    KeyIndex.joined(indexes).write(store, _index_path(spec, part))
    return part


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
    lost = pa.concat_tables(pq.read_table(_source(path, store), filters=[("file", "=", number)]) for path in losers)
    places = lost["at"].to_numpy()
    keep: Bools = np.ones(old.rows, np.bool_)
    keep[places] = False
    superseded: Bools = np.zeros(old.rows, np.bool_)
    superseded[places[~lost["deleted"].to_numpy()]] = True  # a row that deletes may be too old to do so
    opened = Held(part=old, path=old.staged).open(store)
    sources = pa.concat_tables(columns_of(opened, spec.inside(old), ["_source"]))["_source"]
    left = None
    if keep.any():
        target = f"{old.target.removesuffix('.parquet')}-m.parquet"
        left = _write_kept([(opened, keep)], target, layout.staging(spec.batch), store)
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
    part = _write_kept([(opened, keep)], target, folder, store) if keep.any() else None
    return {"part": part.to_dict() if part else None, "gone": Counter(lost["source"].to_pylist())}


def _write_kept(files: Sequence[tuple[pq.ParquetFile, Bools]], target: str, folder: str, store: Store) -> DataFile:
    """Stage the rows of files that stay, as one file."""
    sources: set[str] = set()
    name = next(name for name in SOURCE_COLUMNS if name in files[0][0].schema_arrow.names)

    def kept() -> Iterator[pa.Table]:
        for opened, keep in files:
            start = 0
            for rows in batches(opened):
                stays = keep[start : start + rows.num_rows]
                start += rows.num_rows
                some = rows if stays.all() else rows.filter(pa.array(stays))
                sources.update(decoded(some[name]).unique().to_pylist())
                yield some

    opened = [file for file, _ in files]
    part = write_part(row_groups(kept()), opened[0].schema_arrow, target, (), folder, store, without_dictionary(opened))
    return part.model_copy(update={"sources": tuple(sorted(sources))})


def write_keys(rows: pa.Table, path: str, store: Store) -> None:
    """Write keys and places beside a batch."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=_GROUP, compression="NONE", use_dictionary=False)
    store.write(path, memoryview(sink.getvalue()))


def read_keys(path: str, store: Store) -> pa.Table:
    """Read what :func:`write_keys` has written."""
    return pq.read_table(_source(path, store))


def _source(path: str, store: Store) -> pa.BufferReader:
    return pa.BufferReader(store.read(path))
