"""The Dask tasks that find the rows of a batch that win, and the data files that may hold their keys.

Rows with one key have one hash, so a big batch is looked through by ranges of hashes: memory holds the keys of one
range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from ingestlab.lake.data_files import open_part
from ingestlab.lake.keys import Hashes, Ints, KeyIndex, columns_of, comparable, ends_of, hashed, ordered
from ingestlab.lake.splice import Encoded
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

    def encoded(self, store: Store) -> Encoded:
        """Open the file to copy row groups of it."""
        return Encoded(lambda start, stop: store.read(self.path, start, stop), self.part.size)


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
    rows = together(tables, spec)
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


def together(tables: Sequence[pa.Table], spec: Keys) -> pa.Table:
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
        order = in_order(some, [*spec.names, "latest", "place", "row", "file", "at"])
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


def in_order(rows: pa.Table, names: Sequence[str]) -> Ints:
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
    hashes = {some.winners: winning_hashes(some, store) for some in wanted}
    return [_may_hold(spec, Held.from_dict(one), wanted, hashes, store) for one in held]


def _may_hold(spec: Keys, held: Held, wanted: Sequence[Incoming], hashes: Mapping[str, Hashes], store: Store) -> bool:
    if held.published and (ends := KeyIndex.ends_in(store, index_path(spec, held.part))):
        wanted = [some for some in wanted if some.ends is None or _overlap(some.ends, ends)]
    if not wanted:
        return False
    index = index_of(spec, held, store)
    if index.ends:
        wanted = [some for some in wanted if some.ends is None or _overlap(some.ends, index.ends)]
    return any(len(index.candidates(hashes[some.winners])) for some in wanted)


def _overlap(left: tuple[Any, Any], right: tuple[Any, Any]) -> bool:
    return bool(left[0] <= right[1] and right[0] <= left[1])


def index_path(spec: Keys, part: DataFile) -> str:
    """Name the key index of a data file.

    Args:
        spec: Has the key.
        part: The data file.
    """
    return layout.key_index(spec.tenant, spec.table, part.target, spec.columns)


def index_of(spec: Keys, held: Held, store: Store) -> KeyIndex:
    """Read the index of a data file, or build it."""
    path = index_path(spec, held.part)
    index = KeyIndex.read(store, path) if held.published else None
    if index is None or len(index.hashes) != held.part.rows:
        index = KeyIndex.build(held.open(store), spec.inside(held.part), spec.columns)
        if held.published:
            index.write(store, path)
    return index


def candidates_in(spec: Keys, held: Held, incoming: Incoming, store: Store) -> Ints:
    """Find the places of rows that may have keys of a batch."""
    return index_of(spec, held, store).candidates(winning_hashes(incoming, store))


def winning_hashes(incoming: Incoming, store: Store) -> Hashes:
    """Read the hashes of the keys of a batch.

    Args:
        incoming: The rows of the batch.
        store: The lake.
    """
    hashes: Hashes = pq.read_table(_source(incoming.winners, store), columns=["hash"])["hash"].to_numpy()
    return hashes


def write_keys(rows: pa.Table, path: str, store: Store) -> None:
    """Write keys and places beside a batch."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=_GROUP, compression="NONE", use_dictionary=False)
    store.write(path, memoryview(sink.getvalue()))


def read_keys(path: str, store: Store, filters: Any = None) -> pa.Table:
    """Read what :func:`write_keys` has written.

    Args:
        path: Of the file.
        store: The lake.
        filters: Those of pyarrow.
    """
    return pq.read_table(_source(path, store), filters=filters)


def _source(path: str, store: Store) -> pa.BufferReader:
    return pa.BufferReader(store.read(path))
