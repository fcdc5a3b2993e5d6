"""AWS Glue: table, columns and partitions, by which Athena, Redshift Spectrum and awswrangler find the data files.

Glue knows folders, not files. Its names are of small letters, digits and `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.sinks.catalogues.catalogue import Catalogue, Version, partition_values
from ingestlab.sinks.catalogues.sink import CatalogueSink
from ingestlab.sinks.catalogues.storage import GLUE, s3_options

Columns = list[dict[str, str]]  # each with Name and Type
TABLE, SEQUENCE = "ingestlab.table", "ingestlab.sequence"  # parameters of our tables
_AT_ONCE = 100  # partitions that Glue takes in one request
_FLAT = (
    (pat.is_boolean, "boolean"),
    (pat.is_int8, "tinyint"),
    (pat.is_int16, "smallint"),
    (pat.is_int32, "int"),
    (pat.is_int64, "bigint"),
    (pat.is_float32, "float"),
    (pat.is_float64, "double"),
    (pat.is_string, "string"),
    (pat.is_binary, "binary"),
    (pat.is_date, "date"),
    (pat.is_timestamp, "timestamp"),
)
_HIVE = "org.apache.hadoop.hive.ql.io.parquet"


class GlueSink(CatalogueSink):
    """Register tables in AWS Glue."""

    name = "glue"
    by_file = False

    def opened(self, tenant: str, table: str) -> Catalogue:
        """Open a table of a Glue database."""
        if not self.settings.lake_url.startswith("s3://"):
            problem = "AWS Glue finds tables in S3 alone"
            fix = 'Set INGESTLAB_LAKE to an s3:// URL, or leave "glue" out of publish_as.'
            raise TerminalError(problem, got=f"the lake {self.settings.lake_url}", fix=fix, code="setting_invalid")
        return GlueEntry(self.settings, self.store, tenant, table)


class GlueEntry(Catalogue):
    """A table of a Glue database."""

    def __init__(self, settings: Settings, store: Store, tenant: str, table: str) -> None:
        self._settings, self._store = settings, store
        self._home, self._title = layout.table(tenant, table), f"{tenant}/{table}"
        self._database = glue_name(settings.glue_database.format(tenant=tenant))
        self._where = {"DatabaseName": self._database}
        self._name = glue_name(table)

    @cached_property
    def _client(self) -> Any:
        import botocore.config  # noqa: PLC0415 - slow to import
        import botocore.session  # noqa: PLC0415

        settings = self._settings
        waits = {"connect_timeout": settings.connect_timeout, "read_timeout": settings.read_timeout}
        options = {**s3_options(settings, GLUE), **settings.storage_options.get("glue", {})}
        config = botocore.config.Config(retries={"total_max_attempts": 3}, **waits)
        return botocore.session.Session().create_client("glue", config=config, **options)

    @cached_property
    def _found(self) -> dict[str, Any] | None:
        try:
            table: dict[str, Any] = self._client.get_table(**self._where, Name=self._name)["Table"]
        except self._client.exceptions.EntityNotFoundException:
            return None
        owner = table.get("Parameters", {}).get(TABLE)
        if owner != self._title:
            who = f"table {owner}" if owner else "another program"
            problem = f"The Glue table {self._database}.{self._name} is that of {who}"
            fix = 'Rename one of them, or leave "glue" out of publish_as; then `ingestlab reconcile`.'
            raise TerminalError(problem, fix=fix, code="catalogue_conflict")
        place, mine = table.get("StorageDescriptor", {}).get("Location", ""), self._store.full(self._home)
        if place.rstrip("/") != mine.rstrip("/"):
            problem = f"The Glue table {self._database}.{self._name} is that of another lake"
            fix = "Name another database in INGESTLAB_GLUE_DATABASE, or drop that table; then `ingestlab reconcile`."
            raise TerminalError(problem, expected=mine, got=place, fix=fix, code="catalogue_conflict")
        return table

    def sequence(self) -> int | None:
        """Return the number that the table's parameters have. A registration that broke off has left none."""
        number = (self._found or {}).get("Parameters", {}).get(SEQUENCE)
        return None if number is None else int(number)

    def differs(self, version: Version) -> bool:
        """Compare columns and partitions."""
        if self._found is None:
            return bool(version.added)
        columns, keys = self._columns(version), self._keys(version)
        if not version.added:
            return bool(self._partitions())
        known = {(column["Name"], column["Type"]) for column in self._found["StorageDescriptor"]["Columns"]}
        lacks = {(column["Name"], column["Type"]) for column in columns} - known
        return bool(lacks) or self._found["PartitionKeys"] != keys or self._partitions().keys() != set(_values(version))

    def register(self, version: Version) -> None:
        """Bring partitions in, then say that they are there."""
        if self._found is None:
            self._create(version)
        elif version.added and self._clashes(version):
            if not version.whole:
                problem = f"Columns of table {self._title} have other types or folders than its Glue table"
                fix = f"`ingestlab rewrite {self._title.partition('/')[2]}` brings all data files to one schema."
                raise TerminalError(problem, fix=fix, code="catalogue_conflict")
            self._client.delete_table(**self._where, Name=self._name)  # keys of partitions cannot be changed
            self._create(version)
        del self._found
        table = self._found
        assert table is not None
        known = table["StorageDescriptor"]["Columns"]
        names = {column["Name"] for column in known}
        columns = [*known, *(column for column in self._columns(version) if column["Name"] not in names)]
        if table["PartitionKeys"]:
            self._change_partitions(version, columns)
        marks = table["Parameters"] | version.properties
        self._client.update_table(
            **self._where, TableInput=self._input(columns, table["PartitionKeys"], marks), SkipArchive=True
        )
        del self._found

    def _create(self, version: Version) -> None:
        try:
            self._client.get_database(Name=self._database)
        except self._client.exceptions.EntityNotFoundException:
            self._client.create_database(DatabaseInput={"Name": self._database})
        entry = self._input(self._columns(version), self._keys(version), {TABLE: self._title})
        self._client.create_table(**self._where, TableInput=entry)

    def _clashes(self, version: Version) -> bool:
        """Tell whether files cannot stand beside those that are there."""
        assert self._found is not None
        known = {column["Name"]: column["Type"] for column in self._found["StorageDescriptor"]["Columns"]}
        other = any(known.get(c["Name"], c["Type"]) != c["Type"] for c in self._columns(version))
        return other or self._found["PartitionKeys"] != self._keys(version)

    def _change_partitions(self, version: Version, columns: Columns) -> None:
        have, wanted = self._partitions(), _values(version)
        if version.whole:
            for values in have.keys() - wanted.keys():
                self._client.delete_partition(**self._where, TableName=self._name, PartitionValues=list(values))
        new = [
            {"Values": list(values), "StorageDescriptor": self._storage(columns, folder)}
            for values, folder in wanted.items()
            if values not in have
        ]
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            answer = self._client.batch_create_partition(**self._where, TableName=self._name, PartitionInputList=some)
            for error in answer.get("Errors", []):
                if error["ErrorDetail"]["ErrorCode"] != "AlreadyExistsException":
                    raise OSError(f"partition {error['PartitionValues']}: {error['ErrorDetail']}")

    def _partitions(self) -> dict[tuple[str, ...], str]:
        """Return the folders of the registered partitions, by their values."""
        pages = self._client.get_paginator("get_partitions").paginate(
            **self._where, TableName=self._name, ExcludeColumnSchema=True
        )
        found: Iterator[Mapping[str, Any]] = (partition for page in pages for partition in page["Partitions"])
        return {tuple(partition["Values"]): partition["StorageDescriptor"]["Location"] for partition in found}

    def _input(self, columns: Columns, keys: Columns, marks: Mapping[str, str]) -> dict[str, Any]:
        return {
            "Name": self._name,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet", **marks},
            "PartitionKeys": keys,
            "StorageDescriptor": self._storage(columns, self._home),
        }

    def _storage(self, columns: Columns, folder: str) -> dict[str, Any]:
        return {
            "Columns": columns,
            "Location": f"{self._store.full(folder)}/",
            "InputFormat": f"{_HIVE}.MapredParquetInputFormat",
            "OutputFormat": f"{_HIVE}.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": f"{_HIVE}.serde.ParquetHiveSerDe"},
        }

    def _columns(self, version: Version) -> Columns:
        return _described(version.columns, (name for name in version.columns if name not in version.folders))

    def _keys(self, version: Version) -> Columns:
        return _described(version.columns, version.folders)


def glue_name(text: str) -> str:
    """Return a name as Glue and Athena take it."""
    return re.sub(r"[^a-z0-9_]", "_", text.lower())


def glue_type(kind: pa.DataType) -> str:
    """Write a type as Hive does.

    Args:
        kind: As :func:`ingestlab.pipeline.catalogues.registered` gives it.
    """
    if pat.is_list(kind):
        return f"array<{glue_type(kind.value_type)}>"
    if pat.is_map(kind):
        return f"map<{glue_type(kind.key_type)},{glue_type(kind.item_type)}>"
    if pat.is_struct(kind):
        return f"struct<{','.join(f'{field.name.lower()}:{glue_type(field.type)}' for field in kind)}>"
    if pat.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return next(text for test, text in _FLAT if test(kind))


def _described(kinds: Mapping[str, pa.DataType], names: Iterable[str]) -> Columns:
    return [{"Name": name.lower(), "Type": glue_type(kinds[name])} for name in names]


def _values(version: Version) -> dict[tuple[str, ...], str]:
    """Return the folders of a version's files by their values."""
    targets = (file.target for file in version.added)
    return {tuple(partition_values(target).values()): target.rpartition("/")[0] for target in targets}
