"""What is live in a table after an entry of its log: folded into checkpoints, and read by parts.

A checkpoint is a Parquet file with one row for each live thing, in three sections (row groups that are read only
when they are asked for): commits and files; records of sources; profiles. A snapshot is the newest checkpoint and
the entries after it. Replaced files, records of contents that no file has any more, and profiles of files that are
gone are left out; commits of which nothing lives are too, but for the last one and the last one with a note for a sink.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.models import FORMERLY, PARQUET, DataFile, Manifest, SourceRecord
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.storage.ranged import Ranged

_SECTIONS = ("core", "sources", "profile")
_LIGHT = ("number", "item", "key", "uris", "rows", "size", "ref")  # all but the texts, which are large
_GROUPS = {"core": 1 << 10, "sources": 1 << 8, "profile": 1 << 8}  # rows of a row group
_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # of the entry
        ("item", pa.string()),  # "entry", "sources", "profile"; of a file the name of its sink
        ("key", pa.string()),  # a commit's batch, a file's target, a source's URI
        (
            "uris",
            pa.list_(pa.string()),
        ),  # of a file: its sources; of a profile: its files; of a commit: sinks with notes
        ("rows", pa.int64()),
        ("size", pa.int64()),
        ("text", pa.string()),  # all else, as JSON; of a file: where it was staged
        ("ref", pa.dictionary(pa.int32(), pa.string())),  # of a commit: its columns' types; of a source: its batch
    ]
)
_ITEMS = pa.array(["entry", "sources", "profile"])  # that are no files
_LISTS = {"sources", "profile", "replaced", "types"}


@dataclass(frozen=True)
class Snapshot:
    """The live contents of a table.

    Args:
        store: The lake.
        where: Tenant and table.
        number: Of the checkpoint; 0 if there is none.
        tail: The entries after it, oldest first.
    """

    store: Store
    where: tuple[str, str]
    number: int
    tail: Sequence[Manifest]

    def manifests(self) -> list[Manifest]:
        """Read the commits with live contents, and only these. Those of the tail are whole."""
        return [*_restored(self._section(name) for name in _SECTIONS), *self.tail]

    def latest(self) -> tuple[Manifest, ...]:
        """Read the last commits. The last one with a note for each sink is among them."""
        return self._latest

    def about(self, concerns: Callable[[str], bool]) -> list[Manifest]:
        """Read the commits with files of some sources. Those that share a profile with them come along.

        Args:
            concerns: Is given URIs.
        """
        files = self.files
        uris = {uri for uri in pc.unique(pc.list_flatten(files["uris"])).to_pylist() if concerns(uri)}
        targets = set(_with_any(files, uris)["key"].to_pylist())
        groups = self._section("profile", ("number", "uris"))
        shared = _with_any(groups, targets)["uris"].to_pylist()
        shared += [p.parts for m in self.tail for p in m.profile if not targets.isdisjoint(p.parts)]
        targets = targets.union(*shared)
        owners = files.filter(pc.is_in(files["key"], pa.array(sorted(targets), pa.string())))
        profiles = _with_any(groups, targets)
        numbers = {*owners["number"].to_pylist(), *profiles["number"].to_pylist(), *self._last()}
        return [*self._some(numbers), *self.tail]

    def outline(self, without: Collection[str] = ()) -> list[Manifest]:
        """Read commits with one file for each set of types and folders. That is enough to tell the columns.

        Args:
            without: Targets of files that do not count.
        """
        alike = _without(self._derived(_shapes), self._replaced | set(without))
        codes = self._derived(_entries)["ref"].combine_chunks()
        groups = alike.group_by(["types", "folders"], use_threads=False)
        first = groups.aggregate([("number", "first"), ("key", "first")]).to_pylist()
        if any(codes.dictionary[group["types"]].as_py() == "{}" for group in first):
            return self.manifests()  # written by a version that said nothing of types: all files are asked
        shown = {group["key_first"] for group in first}
        some = self._some({group["number_first"] for group in first} | self._last(), ("core",))
        return [
            *(m.with_files({PARQUET: (p for p in m.parts if p.target in shown)}) for m in some),
            *self.tail,
        ]

    def find(self, batch: str) -> Manifest | None:
        """Find what lives of a batch's commit. None if it is not in the checkpoint."""
        entries = self._derived(_entries)
        numbers = set(entries.filter(pc.equal(entries["key"], batch))["number"].to_pylist())
        return next(iter(self._some(numbers)), None)

    @cached_property
    def _latest(self) -> tuple[Manifest, ...]:
        return (*self._some(self._noted() if self.tail else self._last(), ("core",)), *self.tail)

    @cached_property
    def files(self) -> pa.Table:
        """The live files, oldest first: `item` (its sink), `key` (the target), `uris` (sources), `rows`, `size`."""
        tail = _files(_exploded(self.tail, "core").select(_LIGHT))
        return _without(pa.concat_tables([self._derived(_files), tail]), self._replaced)

    def parts(self, folder: str) -> tuple[DataFile, ...]:
        """Give the live files below a folder."""
        core = pa.concat_tables([self._section("core"), _exploded(self.tail, "core")])
        files = _without(_files(core), self._replaced)
        return tuple(
            DataFile(target=f["key"], staged=f["text"], rows=f["rows"], size=f["size"], sources=f["uris"] or ())
            for f in files.filter(pc.starts_with(files["key"], f"{folder}/")).to_pylist()
        )

    def records(self) -> Iterator[SourceRecord]:
        """Read the records of the sources, oldest first."""
        for text in self._section("sources")["text"]:
            yield SourceRecord.model_validate_json(text.as_py())
        yield from (record for manifest in self.tail for record in manifest.sources)

    def targets(self) -> Iterator[tuple[str, str]]:
        """Yield the sink of each live file, and its target."""
        return zip(self.files["item"].to_pylist(), self.files["key"].to_pylist(), strict=True)

    def write(self) -> None:
        """Write the checkpoint after the last entry of the tail."""
        number = self.tail[-1].sequence if self.tail else self.number
        sections = self._folded()
        groups = {name: -(-len(rows) // _GROUPS[name]) for name, rows in sections.items()}
        schema = _SCHEMA.with_metadata({"sections": json.dumps(groups), "files": "by sink"})
        buffer = pa.BufferOutputStream()
        with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
            for name, rows in sections.items():
                if len(rows):
                    writer.write_table(rows.replace_schema_metadata(schema.metadata), row_group_size=_GROUPS[name])
        self.store.write(layout.checkpoint(*self.where, number), memoryview(buffer.getvalue()))

    def _folded(self) -> dict[str, pa.Table]:
        """Make the sections of the next checkpoint."""
        profile = pa.concat_tables([self._section("profile"), _exploded(self.tail, "profile")])
        sources = pa.concat_tables([self._section("sources"), _exploded(self.tail, "sources")])
        core = pa.concat_tables([self._section("core"), _exploded(self.tail, "core")])
        files = _without(_files(core), self._replaced)
        parts = files.filter(pc.equal(files["item"], PARQUET))
        profile, sources = _believed(profile, parts), _last_records(sources, parts)
        entries = _entries(core)
        numbers = pa.chunked_array(
            [
                *(column for rows in (files, profile, sources) for column in rows["number"].chunks),
                pa.array([*_noted(core)["number_max"].to_pylist(), *entries["number"].to_pylist()[-1:]], pa.int64()),
            ]
        )
        named = pc.or_(pc.is_in(entries["number"], numbers), pc.is_in(entries["key"], sources["ref"].cast(pa.string())))
        core = pa.concat_tables([entries.filter(named), files]).sort_by("number")
        return {"core": core.unify_dictionaries(), "sources": sources, "profile": profile}

    @property
    def _replaced(self) -> set[str]:
        return {target for manifest in self.tail for target in manifest.replaced}

    def _last(self) -> set[int]:
        """Find the last entry, and the last with each sink's note."""
        return {*self._derived(_entries)["number"][-1:].to_pylist(), *self._noted()}

    def _noted(self) -> set[int]:
        return set(self._derived(_noted)["number_max"].to_pylist())

    def _some(self, numbers: Collection[int], sections: Iterable[str] = _SECTIONS) -> list[Manifest]:
        """Read what the checkpoint has of some entries."""
        if not numbers:
            return []
        wanted = pa.array(sorted(numbers), pa.int64())
        tables = [self._section(name, around=numbers) for name in sections]
        return _restored(rows.filter(pc.is_in(rows["number"], wanted)) for rows in tables)

    def _section(
        self, name: str, columns: tuple[str, ...] | None = None, around: Collection[int] | None = None
    ) -> pa.Table:
        """Read a section of the checkpoint. With `around`, at least the rows of these entries."""
        if not self.number:
            return _SCHEMA.empty_table().select(columns or _SCHEMA.names)
        checkpoint = self._opened
        return checkpoint.section(name, columns) if around is None else checkpoint.around(name, around)

    def _derived(self, make: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Make something of the core's light columns, once a checkpoint."""
        return self._opened.derived(make) if self.number else make(self._section("core", _LIGHT))

    @cached_property
    def _opened(self) -> _Checkpoint:
        path = layout.checkpoint(*self.where, self.number)
        return _checkpoint(self.store, path, self.store.size(path))  # type: ignore[arg-type]  # by identity


class _Checkpoint:
    """A checkpoint of a store; what is read whole is kept."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path
        self._metadata = pq.read_metadata(pa.PythonFile(Ranged(path, store)))
        self._counts: dict[str, int] = json.loads(self._metadata.metadata[b"sections"])
        self._named = self._metadata.metadata.get(b"files") == b"by sink"
        self._kept: dict[Any, pa.Table] = {}

    def section(self, name: str, columns: tuple[str, ...] | None) -> pa.Table:
        """Read a section, or some columns of it. Columns are kept, whole sections are not."""
        key = (name, columns)
        if key in self._kept:
            return self._kept[key]
        rows = self._read(self._groups(name), columns)
        if columns is not None:
            self._kept[key] = rows
        return rows

    def derived(self, make: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Make something of the core's light columns, and keep it."""
        if make not in self._kept:
            self._kept[make] = make(self._read(self._groups("core"), _LIGHT))
        return self._kept[make]

    def around(self, name: str, numbers: Collection[int]) -> pa.Table:
        """Read the row groups of a section that have some entries."""
        ends = ((group, self._metadata.row_group(group).column(0).statistics) for group in self._groups(name))
        return self._read([group for group, s in ends if any(s.min <= n <= s.max for n in numbers)], None)

    def _groups(self, name: str) -> range:
        start = sum(self._counts[other] for other in _SECTIONS[: _SECTIONS.index(name)])
        return range(start, start + self._counts[name])

    def _read(self, groups: Iterable[int], columns: tuple[str, ...] | None) -> pa.Table:
        source = pa.PythonFile(Ranged(self._path, self._store))
        file = pq.ParquetFile(source, metadata=self._metadata, read_dictionary=["ref"], pre_buffer=True)
        chosen = list(columns) if columns and self._named else None
        rows = file.read_row_groups(list(groups), columns=chosen, use_threads=False).replace_schema_metadata(None)
        return rows if self._named else _renamed(rows).select(columns or _SCHEMA.names)


@lru_cache(maxsize=4)
def _checkpoint(store: Store, path: str, _size: int) -> _Checkpoint:
    """Open a checkpoint, once: it never changes. The size tells a new lake of the same name apart."""
    return _Checkpoint(store, path)


def _exploded(tail: Iterable[Manifest], section: str) -> pa.Table:
    """Write entries as rows of a section."""
    rows = [row for manifest in tail for row in _rows(manifest, section)]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _rows(manifest: Manifest, section: str) -> Iterator[dict[str, Any]]:
    number = {"number": manifest.sequence}
    if section == "sources":
        for r in manifest.sources:
            yield number | {"item": "sources", "key": r.uri, "text": r.model_dump_json(), "ref": r.batch}
    elif section == "profile":
        for p in manifest.profile:
            yield number | {"item": "profile", "uris": p.parts, "text": p.model_dump_json(exclude={"parts"})}
    else:
        fields = {"key": manifest.batch, "ref": json.dumps(manifest.types), **_head(manifest)}
        yield number | {"item": "entry"} | fields
        for item, staged in manifest.sinks.items():
            for f in staged.files:
                fields = {"key": f.target, "uris": f.sources, "rows": f.rows, "size": f.size, "text": f.staged}
                yield number | {"item": item, **fields}


def _head(manifest: Manifest) -> dict[str, Any]:
    """Return what the row of a commit says of it."""
    head = manifest.model_dump_json(exclude=dict.fromkeys(_LISTS, True) | {"sinks": {"__all__": {"files"}}})
    return {"uris": [name for name, staged in manifest.sinks.items() if staged.note is not None], "text": head}


def _renamed(rows: pa.Table) -> pa.Table:
    """Translate rows that were written before sinks had names."""
    made = []
    for row in rows.to_pylist():
        head = json.loads(row["text"]) | dict.fromkeys(_LISTS - {"types"}, ()) if row["item"] == "entry" else None
        named = {"item": FORMERLY.get(row["item"], row["item"])}
        made.append(row | named | (_head(Manifest.model_validate(head)) if head else {}))
    return pa.Table.from_pylist(made, schema=_SCHEMA)


def _noted(core: pa.Table) -> pa.Table:
    """Find the last commit with a note for each sink, by number."""
    entries = _entries(core)
    lists = entries["uris"].combine_chunks()
    numbers = entries["number"].combine_chunks().take(pc.list_parent_indices(lists))
    notes = pa.table({"sink": pc.list_flatten(lists), "number": numbers})
    return notes.group_by("sink", use_threads=False).aggregate([("number", "max")])


def _files(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["item"], _ITEMS)))


def _restored(tables: Iterable[pa.Table]) -> list[Manifest]:
    """Make commits of rows, oldest first."""
    made: dict[int, dict[str, Any]] = {}
    for row in (row for rows in tables for row in rows.to_pylist()):
        number, item = row["number"], row["item"]
        if item == "entry":
            made[number] = json.loads(row["text"]) | {"sequence": number, "types": json.loads(row["ref"])}
            made[number] |= {name: [] for name in _LISTS - {"types"}}
        elif item in _LISTS:
            made[number][item].append(json.loads(row["text"]) | ({"parts": row["uris"]} if item == "profile" else {}))
        else:
            fields = {"target": row["key"], "sources": row["uris"] or (), "staged": row["text"]}
            files = made[number]["sinks"].setdefault(item, {}).setdefault("files", [])
            files.append(fields | {"rows": row["rows"], "size": row["size"]})
    return [Manifest.model_validate(made[number]) for number in sorted(made)]


def _entries(core: pa.Table) -> pa.Table:
    return core.filter(pc.equal(core["item"], "entry"))


def _shapes(core: pa.Table) -> pa.Table:
    """Give each data file a number for its types, and folder names."""
    files, entries = core.filter(pc.equal(core["item"], PARQUET)), _entries(core)
    owners = pc.index_in(files["number"], entries["number"].combine_chunks())
    types = entries["ref"].combine_chunks().indices.take(owners)
    folders = pc.replace_substring_regex(files["key"], "=[^/]*|/[^/]*$", "").dictionary_encode()
    return pa.table({"types": types, "folders": folders, "number": files["number"], "key": files["key"]})


def _without(files: pa.Table, targets: Collection[str]) -> pa.Table:
    if not targets:
        return files
    return files.filter(pc.invert(pc.is_in(files["key"], pa.array(sorted(targets), pa.string()))))


def _with_any(rows: pa.Table, wanted: Collection[str]) -> pa.Table:
    """Pick the rows with some of the URIs."""
    lists = rows["uris"].combine_chunks()
    hit = pc.is_in(pc.list_flatten(lists), pa.array(sorted(wanted), pa.string()))
    return rows.take(pc.unique(pc.list_parent_indices(lists).filter(hit)))


def _believed(profiles: pa.Table, files: pa.Table) -> pa.Table:
    """Pick the profiles with live files only. The latest one counts for a file."""
    left, kept = set(files["key"].to_pylist()), []
    for i, targets in reversed(list(enumerate(profiles["uris"].to_pylist()))):
        if left.issuperset(targets):
            left.difference_update(targets)
            kept.append(i)
    return profiles.take(pa.array(sorted(kept), pa.int64()))


def _last_records(sources: pa.Table, files: pa.Table) -> pa.Table:
    """Pick the last record of each source, and those of live contents."""
    by_uri: dict[str, list[tuple[int, int]]] = {}
    for i, (number, uri) in enumerate(zip(sources["number"].to_pylist(), sources["key"].to_pylist(), strict=True)):
        by_uri.setdefault(uri, []).append((number, i))
    several = {uri: places for uri, places in by_uri.items() if len(places) > 1}
    owners: dict[str, list[int]] = {}
    for row in _with_any(files.select(["number", "uris"]), several).to_pylist():
        for uri in row["uris"]:
            owners.setdefault(uri, []).append(row["number"])
    kept = [places[-1][1] for places in by_uri.values()]
    for uri, places in several.items():
        for (number, i), (following, _) in pairwise(places):
            if any(number <= owner < following for owner in owners.get(uri, ())):
                kept.append(i)
    return sources.take(pa.array(sorted(kept), pa.int64()))
