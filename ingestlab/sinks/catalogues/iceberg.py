"""Apache Iceberg: the data files of a table in a catalogue of pyiceberg, with metadata beside the lake's tables.

The values of partition columns are in folders, not in the files: Iceberg keeps them with each file. Columns are found
by name, since the files know nothing of Iceberg's field numbers.
"""

from __future__ import annotations

import json
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.models import DataFile
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.pipeline.catalogues import registered
from ingestlab.sinks.catalogues.catalogue import Catalogue, Version, full_url, partition_values
from ingestlab.sinks.catalogues.sink import CatalogueSink
from ingestlab.sinks.catalogues.storage import ICEBERG, s3_options

if TYPE_CHECKING:
    from pyiceberg.table import Table

USER = 'publish_as="iceberg"'
SEQUENCE = "ingestlab.sequence"
_NO_RETRY = {"commit.retry.num-retries": "0"}  # pyiceberg's own would add the same files once more


class IcebergSink(CatalogueSink):
    """Register tables as Iceberg tables."""

    name = "iceberg"

    def opened(self, tenant: str, table: str) -> Catalogue:
        """Open a table of the catalogue."""
        return IcebergEntry(self.settings, self.store, tenant, table)


class IcebergEntry(Catalogue):
    """A table of an Iceberg catalogue: ``<tenant>.<table>``."""

    def __init__(self, settings: Settings, store: Store, tenant: str, table: str) -> None:
        needed("pyiceberg.catalog", "iceberg", USER)
        self._properties = _catalog_properties(settings, store)
        self._store, self._where, self._identifier = store, (tenant, table), (tenant, table)
        self._shared = bool(settings.iceberg_catalog)  # so that other lakes may have tables in it

    @cached_property
    def _catalog(self) -> Any:
        uri = self._properties.get("uri", "")
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return _catalog(json.dumps(self._properties))

    @cached_property
    def _found(self) -> Table | None:
        errors = needed("pyiceberg.exceptions", "iceberg", USER)
        try:
            opened: Table = self._catalog.load_table(self._identifier)
        except errors.NoSuchTableError:
            return None
        return opened

    @property
    def _table(self) -> Table:
        assert self._found is not None
        return self._found

    def sequence(self) -> int | None:
        """Return the number that the table's properties have."""
        if self._found is None:
            return None
        if SEQUENCE not in self._table.properties:
            problem = f"The Iceberg catalogue has another program's table {'.'.join(self._identifier)}"
            fix = 'Rename it, or leave "iceberg" out of publish_as; then `ingestlab reconcile`.'
            raise TerminalError(problem, fix=fix, code="catalogue_conflict")
        place, mine = self._table.location().rstrip("/"), full_url(self._store, layout.iceberg(*self._where))
        if self._shared and place != mine.rstrip("/"):
            problem = f"The Iceberg catalogue has the table {'.'.join(self._identifier)} of another lake"
            fix = 'Name another catalogue, or take "iceberg" out of publish_as; then `ingestlab reconcile`.'
            raise TerminalError(problem, expected=f"metadata in {mine}", got=place, fix=fix, code="catalogue_conflict")
        return int(self._table.properties[SEQUENCE])

    def differs(self, version: Version) -> bool:
        """Compare the data files."""
        return self._files().keys() != {file.target for file in version.added}

    def register(self, version: Version) -> None:
        """Add a snapshot; new columns come with it."""
        if self._found is None:
            self._create(version)
        elif self._differs(version):
            if not version.whole and set(self._files()) - version.removed:
                problem = f"Columns of table {self._where[1]} have other types or folders than its Iceberg table"
                fix = f"`ingestlab rewrite {self._where[1]}` brings all data files to one schema."
                raise TerminalError(problem, fix=fix, code="catalogue_conflict")
            self._catalog.drop_table(self._identifier)  # its types cannot be changed
            self._create(version)
        else:
            self._change(version)
        del self._found

    def _create(self, version: Version) -> None:
        self._catalog.create_namespace_if_not_exists(self._where[0])
        location = full_url(self._store, layout.iceberg(*self._where))
        transaction = self._catalog.create_table_transaction(self._identifier, version.schema, location)
        with transaction.update_spec() as spec:
            for name in version.folders:
                spec.add_identity(name)
        self._fill(transaction, version, {})
        transaction.commit_transaction()

    def _change(self, version: Version) -> None:
        files = self._files() if version.whole or version.removed else {}
        with self._table.transaction() as transaction:
            if set(version.columns) - set(self._table.schema().column_names):
                with transaction.update_schema() as update:
                    update.union_by_name(version.schema)
            self._fill(transaction, version, files)

    def _fill(self, transaction: Any, version: Version, files: dict[str, Any]) -> None:
        """Add and remove files in one snapshot, and mark what is registered."""
        mapping = needed("pyiceberg.table.name_mapping", "iceberg", USER)
        metadata = transaction.table_metadata
        names = mapping.create_mapping_from_schema(metadata.schema()).model_dump_json()
        marks = {"schema.name-mapping.default": names, **_NO_RETRY, **version.properties}
        transaction.set_properties(**marks)
        wanted = {file.target for file in version.added}
        removed = set(files) - wanted if version.whole else set(files) & version.removed
        added = [self._data_file(f, metadata) for f in version.added if f.target not in files]
        snapshot = transaction.update_snapshot(snapshot_properties=version.properties)
        if added or removed:
            with snapshot.overwrite() if removed else snapshot.fast_append() as update:
                for target in sorted(removed):
                    update.delete_data_file(files[target])
                for file in added:
                    update.append_data_file(file)

    def _differs(self, version: Version) -> bool:
        """Tell whether files cannot stand beside those that are there."""
        if not version.added:
            return False
        known = {field.name: _iceberg_type(field.type) for field in self._table.schema().as_arrow()}
        other = any(known.get(name, kind) != kind for name, kind in _iceberg_types(version).items())
        return other or [field.name for field in self._table.spec().fields] != list(version.folders)

    def _files(self) -> dict[str, Any]:
        """Return the files of the current snapshot by target."""
        if self._found is None:
            return {}
        start = len(full_url(self._store, ""))
        return {task.file.file_path[start:]: task.file for task in self._table.scan().plan_files()}

    def _data_file(self, file: DataFile, metadata: Any) -> Any:
        manifest = needed("pyiceberg.manifest", "iceberg", USER)
        values, schema = partition_values(file.target), metadata.schema()
        record = needed("pyiceberg.typedef", "iceberg", USER).Record(
            *(_value(values[field.name], schema.find_type(field.source_id)) for field in metadata.spec().fields)
        )
        statistics = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts")
        bounds: dict[str, Any] = {name: {} for name in (*statistics, "lower_bounds", "upper_bounds")}
        unknown = dict.fromkeys(("key_metadata", "split_offsets", "equality_ids", "sort_order_id"))
        return manifest.DataFile.from_args(
            content=manifest.DataFileContent.DATA,
            file_path=full_url(self._store, file.target),
            file_format=manifest.FileFormat.PARQUET,
            partition=record,
            record_count=file.rows,
            file_size_in_bytes=file.size,
            spec_id=metadata.default_spec_id,
            **bounds,
            **unknown,
        )


@lru_cache(maxsize=8)
def _catalog(properties: str) -> Any:
    """Open a catalogue, once a process: it keeps connections."""
    load: Any = needed("pyiceberg.catalog", "iceberg", USER).load_catalog
    return load("ingestlab", **json.loads(properties))


def _catalog_properties(settings: Settings, store: Store) -> dict[str, str]:
    """Return the properties of the catalogue. Beside a local lake there is a default."""
    place = {"warehouse": full_url(store, layout.iceberg()), **s3_options(settings, ICEBERG)}
    if settings.iceberg_catalog:
        return place | settings.iceberg_catalog
    if "://" in settings.lake_url:
        problem = "No Iceberg catalogue is named, and a lake in an object store needs one"
        fix = 'Set INGESTLAB_ICEBERG_CATALOG, e.g. {"type": "sql", "uri": "postgresql+psycopg2://…"}.'
        raise TerminalError(problem, fix=fix, code="setting_missing")
    return place | {"type": "sql", "uri": f"sqlite:///{store.full(layout.iceberg())}/catalog.db"}


def _iceberg_types(version: Version) -> dict[str, pa.DataType]:
    return {name: _iceberg_type(kind) for name, kind in version.columns.items()}


def _iceberg_type(kind: pa.DataType) -> pa.DataType:
    """Return a type as Iceberg gives it back: whole numbers have 32 bits at least."""
    small = pa.types.is_integer(kind) and kind.bit_width < 32
    return pa.int32() if small else registered(kind)


def _value(text: str, kind: Any) -> Any:
    """Read a partition value from its text."""
    return int(text) if str(kind) in {"int", "long"} else text
