"""What the pages of tables show, as frozen values: read from the lake alone, so they need no Redis."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from ingestlab.analytics.lake import Table
from ingestlab.analytics.profile_reader import read_profile
from ingestlab.analytics.profiles import html
from ingestlab.core.errors import TransientError
from ingestlab.core.models import NAME
from ingestlab.core.settings import Settings, load_settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog, tables_of
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import is_visible, narrowed, own
from ingestlab.stack.dashboard.runs import cut

View = Literal["preview", "schema", "files", "profile"]
LISTED = 500  # tables
ROWS = 20  # of a preview
COLUMNS = 60  # likewise
FILES = 200  # that are listed
_TRIES = 3  # to read a table before a commit replaces its files
BESIDE = {"rejects": layout.rejects(""), "vectors": layout.beside("", "vectors")}


@dataclass(frozen=True)
class TableRow:
    """A table in a list."""

    tenant: str
    name: str
    rows: int
    files: int
    bytes: int
    rejects: int  # rows that are kept aside now
    at: float  # of the last commit, as seconds since 1970
    run: str  # that has made it
    beside: tuple[tuple[str, str], ...]  # what belongs to it: "rejects", and the name under which it is read


@dataclass(frozen=True)
class Cell:
    """A value of a preview."""

    text: str
    null: bool
    number: bool


@dataclass(frozen=True)
class TablePage:
    """A table, in one of its views."""

    row: TableRow
    view: View
    columns: tuple[tuple[str, str], ...] = ()  # with types
    hidden: int = 0  # columns that the preview leaves out
    preview: tuple[tuple[Cell, ...], ...] = ()
    files: tuple[tuple[str, int, int, int], ...] = ()  # path, rows, bytes, sources
    profile: Any = None  # a TableProfile
    measures: tuple[dict[str, Any], ...] = field(default=())  # of its columns


class TableReader:
    """Read tables from the lake.

    Args:
        find: Gives the settings; asked each time, since a stack may have moved.
    """

    def __init__(self, find: Callable[[], Settings] = load_settings) -> None:
        self._find = find

    def list(self) -> tuple[TableRow, ...]:
        """List the tables of all tenants."""
        store = self._store()
        settings = own(self._find())
        mine = [(tenant, name) for tenant, name in tables_of(store) if is_visible(tenant, settings)]
        rows = (_row(store, tenant, name) for tenant, name in mine[:LISTED])
        return tuple(row for row in rows if row)

    def page(self, tenant: str, name: str, view: View) -> TablePage | None:
        """Read a view of a table. None if there is none.

        Raises:
            TransientError: Its files are replaced as fast as they are looked up.
        """
        if not (re.fullmatch(NAME, tenant) and re.fullmatch(NAME, name)):
            return None
        if not is_visible(tenant, own(self._find())):
            return None
        store = self._store(tenant)
        for _ in range(_TRIES):
            row = _row(store, tenant, name)
            try:
                return _VIEWS[view](store, row) if row else None
            except FileNotFoundError:  # a commit has replaced it
                continue
        raise TransientError(f"Table {name} kept changing while it was being read", fix="Try again.", code="lake_busy")

    def _store(self, tenant: str = "") -> Store:
        """Open the shared lake, or that of a tenant."""
        settings = own(self._find())
        if tenant:
            settings = narrowed(tenant, settings)
        return open_store(settings.lake_url, settings.storage_options)


def _row(store: Store, tenant: str, name: str) -> TableRow | None:
    """Sum up a table, or what lies beside one."""
    base = next((name.removesuffix(end) for end in BESIDE.values() if name.endswith(end)), name)
    snapshot = TransactionLog(store, tenant, base).snapshot()
    if not snapshot.number and not snapshot.tail:
        return None
    last = max(snapshot.latest(), key=lambda manifest: manifest.committed_at, default=None)
    mine = _files(snapshot.files, tenant, name)
    others = {kind: base + end for kind, end in BESIDE.items() if len(_files(snapshot.files, tenant, base + end))}
    return TableRow(
        tenant=tenant,
        name=name,
        rows=_sum(mine, "rows"),
        files=len(mine),
        bytes=_sum(mine, "size"),
        rejects=_sum(_files(snapshot.files, tenant, layout.rejects(base)), "rows"),
        at=datetime.fromisoformat(last.committed_at).timestamp() if last else 0.0,
        run=last.run if last else "",
        beside=tuple((kind, other) for kind, other in others.items() if other != name),
    )


def _files(files: pa.Table, tenant: str, name: str) -> pa.Table:
    return files.filter(pc.starts_with(files["key"], f"{layout.table(tenant, name)}/"))


def _sum(files: pa.Table, column: str) -> int:
    return pc.sum(files[column]).as_py() or 0


def _preview(store: Store, row: TableRow) -> TablePage:
    """Read the first rows, from as few files as hold them."""
    dataset = Table(store, row.tenant, row.name).dataset()
    names = dataset.schema.names[:COLUMNS]
    few = {"batch_size": ROWS, "batch_readahead": 1, "fragment_readahead": 1}
    rows = dataset.scanner(columns=names, **few).head(ROWS)
    cells = [[_cell(value, kind) for value in rows[name].to_pylist()] for name, kind in _typed(rows.schema)]
    columns = tuple((name, str(kind)) for name, kind in _typed(rows.schema))
    hidden = len(dataset.schema.names) - len(names)
    return TablePage(row, "preview", columns, hidden, tuple(zip(*cells, strict=True)))


def _schema(store: Store, row: TableRow) -> TablePage:
    columns = _typed(Table(store, row.tenant, row.name).dataset().schema)
    return TablePage(row, "schema", tuple((name, str(kind)) for name, kind in columns))


def _data_files(store: Store, row: TableRow) -> TablePage:
    parts = Table(store, row.tenant, row.name).parts
    folder = f"{layout.table(row.tenant, row.name)}/"
    files = tuple((p.target.removeprefix(folder), p.rows, p.size, len(p.sources)) for p in parts[-FILES:][::-1])
    return TablePage(row, "files", files=files)


def _profile(store: Store, row: TableRow) -> TablePage:
    if row.name.endswith(tuple(BESIDE.values())):
        return TablePage(row, "profile")
    profile = read_profile(store, row.tenant, row.name)
    return TablePage(row, "profile", profile=profile, measures=tuple(html.columns(profile)))


_VIEWS: dict[View, Callable[[Store, TableRow], TablePage]] = {
    "preview": _preview,
    "schema": _schema,
    "files": _data_files,
    "profile": _profile,
}


def _typed(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """List columns with their types, those of a dictionary's values."""
    pairs = zip(schema.names, schema.types, strict=True)
    return [(name, kind.value_type if kinds.is_dictionary(kind) else kind) for name, kind in pairs]


def _cell(value: object, kind: pa.DataType) -> Cell:
    number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else cut(value)
    return Cell(text, value is None, number)
