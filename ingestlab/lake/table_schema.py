"""What is known of a table's columns: their types in all parts, and which of them are folders.

The manifests say it. Those that earlier versions wrote do not: there the parts' footers are read, and of the
columns that folders name the profiles tell whether they hold whole numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.models import DataFile, Manifest
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import (
    common_type,
    fit,
    holds,
    joined_types,
    parse_type,
    reading_type,
    type_text,
    types_of,
)
from ingestlab.lake.storage.ranged import Ranged

_AT_ONCE = 8  # footers that are read
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")

Types = Mapping[str, Collection[str]]  # of columns in some parts, mostly one, as text


@dataclass(frozen=True)
class Schema:
    """Columns of some parts.

    Attributes:
        types: Those that each column has, as text, in the order of their first appearance.
        folders: The columns that folders name, by the folders that there are: one, unless the table is mixed.
    """

    types: Mapping[str, tuple[str, ...]]
    folders: tuple[tuple[str, ...], ...] = ()

    @property
    def wanted(self) -> dict[str, str]:
        """Return one type for each column of new parts. Columns of nulls alone have none."""
        types = {name: common_type(map(parse_type, kinds)) for name, kinds in self.types.items()}
        return {name: type_text(kind) for name, kind in types.items() if not pa.types.is_null(kind)}

    @property
    def folder_columns(self) -> tuple[str, ...]:
        """Return the columns that some folder names."""
        return tuple(dict.fromkeys(name for names in self.folders for name in names))

    def reading(self) -> dict[str, pa.DataType]:
        """Return the types that readers see, those of folders last."""
        inside, last = self.types.keys() - {*self.folder_columns}, self.folder_columns
        names = [*(name for name in self.types if name in inside), *last]
        return {n: reading_type(map(parse_type, self.types.get(n, ("string",))), folder=n in last) for n in names}

    def joined(self, other: Schema) -> Schema:
        """Merge the columns of two schemas."""
        folders = tuple(dict.fromkeys((*self.folders, *other.folders)))
        return Schema(joined_types(self.types, other.types), folders)

    def to_json(self) -> str:
        """Write the schema as text, for Redis."""
        return json.dumps({"types": self.types, "folders": self.folders})

    @classmethod
    def from_json(cls, text: bytes | str) -> Schema:
        """Restore from :meth:`to_json`."""
        data = json.loads(text)
        return cls({n: tuple(k) for n, k in data["types"].items()}, tuple(map(tuple, data["folders"])))


def _folders_of(target: str, home: str) -> tuple[str, ...]:
    """Name the columns of a part's folders; `home` is its table's folder."""
    return tuple(step.partition("=")[0] for step in target.removeprefix(f"{home}/").split("/")[:-1])


def schema_of(
    store: Store, where: tuple[str, str], history: Sequence[Manifest], without: Collection[str] = ()
) -> Schema:
    """Collect the columns of a table's live parts.

    Args:
        store: The lake.
        where: Tenant and table.
        history: The table's manifests.
        without: Targets of parts that do not count.
    """
    home, gone = layout.table(*where), {target for m in history for target in m.replaced} | set(without)
    live = [(m, [p for p in m.parts if p.target not in gone]) for m in history]
    unknown = [part for m, parts in live if not m.types for part in parts]
    types = [m.types for m, parts in live if m.types and parts]
    folders = dict.fromkeys(_folders_of(part.target, home) for _, parts in live for part in parts)
    old = [*_of_folders(unknown, home, history), *read_types(store, unknown)]
    return Schema(joined_types(*types, *old), tuple(folders))


def of_manifest(manifest: Manifest) -> Schema:
    """Return the columns of the parts that a commit publishes."""
    home = layout.table(manifest.tenant, manifest.table)
    folders = dict.fromkeys(_folders_of(part.target, home) for part in manifest.parts)
    return Schema({name: tuple(kinds) for name, kinds in manifest.types.items()}, tuple(folders))


def types_of_owners(history: Iterable[Manifest], targets: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Collect the types of rows in some parts. Empty if one of their manifests does not know.

    Args:
        history: Commits, oldest first.
        targets: Paths of the parts.

    Returns:
        By column, each of its types, as text.
    """
    wanted = set(targets)
    owners = [m for m in history if any(part.target in wanted for part in m.parts)]
    return joined_types(*(m.types for m in owners)) if all(m.types for m in owners) else {}


def read_types(store: Store, parts: Iterable[DataFile]) -> list[dict[str, tuple[str, ...]]]:
    """Read the column types of parts from their footers.

    Args:
        store: The lake.
        parts: They are at their `target`.
    """

    def one(part: DataFile) -> dict[str, tuple[str, ...]]:
        schema = pq.read_schema(pa.PythonFile(Ranged(part.target, store)))
        return {name: (kind,) for name, kind in types_of(schema).items()}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, parts))


def exactly(schema: Schema, store: Store, parts: Sequence[DataFile]) -> dict[str, pa.DataType]:
    """Choose types for readers without changing a value: text where one would change.

    Args:
        schema: Of the parts.
        store: The lake.
        parts: Where a column has several types, the statistics in their footers say whether all values fit.
    """
    kinds = schema.reading()
    several = {n: kinds[n] for n, types in schema.types.items() if len(types) > 1 and n not in schema.folder_columns}
    doubted = {n: kind for n, kind in several.items() if not _certain(schema.types[n], kind)}
    if not doubted:
        return kinds

    def unfit(part: DataFile) -> set[str]:
        file = pq.ParquetFile(pa.PythonFile(Ranged(part.target, store)))
        return {n for n, kind in doubted.items() if n in file.schema_arrow.names and not _fits(file, n, kind)}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name in (name for names in pool.map(unfit, parts) for name in names):
            kinds[name] = kinds[name] if pa.types.is_nested(kinds[name]) else pa.string()
    return kinds


def _certain(types: Iterable[str], wide: pa.DataType) -> bool:
    """Tell whether a wider type holds every value of some types."""
    return pa.types.is_string(wide) or all(holds(wide, parse_type(kind)) for kind in types)


def _fits(file: pq.ParquetFile, name: str, kind: pa.DataType) -> bool:
    """Tell by minimum and maximum whether a part's values fit a type."""
    own = file.schema_arrow.field(name).type
    if holds(kind, own):
        return True
    place = file.schema_arrow.names.index(name)
    ends: list[Any] = []
    for group in range(file.num_row_groups):
        column = file.metadata.row_group(group).column(place)
        stats = column.statistics
        if column.path_in_schema != name or stats is None:
            return False
        if stats.has_min_max:
            ends += [stats.min, stats.max]
        elif stats.null_count != column.num_values:
            return False
    try:
        return fit(pa.chunked_array([pa.array(ends, own)]), kind) is not None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False


def _of_folders(
    parts: Sequence[DataFile], home: str, history: Sequence[Manifest]
) -> Iterator[dict[str, tuple[str, ...]]]:
    """Infer types of folder columns, for parts without types in their manifest."""
    texts: dict[str, set[str]] = {}
    for part in parts:
        for step in part.target.removeprefix(f"{home}/").split("/")[:-1]:
            name, _, value = step.partition("=")
            texts.setdefault(name, set()).add(unquote(value))
    kinds = kinds_of(history) if texts else {}
    for name, values in texts.items():
        whole = kinds.get(name, "int") == "int" and all(map(_WHOLE.fullmatch, values))
        small = whole and all(-(2**31) <= int(value) < 2**31 for value in values)
        yield {name: ("int32" if small else "int64" if whole else "string",)}


def kinds_of(history: Sequence[Manifest]) -> dict[str, str]:
    """Return the types of partition columns when last published: folders' names are text."""
    steps = {step for m in history for part in m.parts[:1] for step in part.target.split("/")[:-1]}
    names = {step.partition("=")[0] for step in steps if "=" in step}
    kinds: dict[str, str] = {}
    for profiled in (profiled for manifest in history for profiled in manifest.profile):
        kinds |= {name: profiled.columns[name]["kind"] for name in names & profiled.columns.keys()}
    return kinds


def numbered(names: Collection[str]) -> bool:
    """Tell whether all columns are named ``column_1`` and so on."""
    return "column_1" in names and set(names) == {f"column_{i}" for i in range(1, len(names) + 1)}


def clash(names: Collection[str], others: Collection[str]) -> bool:
    """Tell whether numbers stand for names in only one of two tables.

    Args:
        names: Columns of one table.
        others: Columns of the other.
    """
    return bool(names and others) and (numbered(names) or numbered(others)) and set(names) != set(others)
