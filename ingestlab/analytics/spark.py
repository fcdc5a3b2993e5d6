"""Tables in Spark: files and types are those of the log, whatever Spark would find in the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pat

from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.extras import needed
from ingestlab.lake.arrow_schema import is_text, plain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_FLAT = (
    (pat.is_boolean, "boolean"),
    (pat.is_int8, "tinyint"),
    (lambda kind: pat.is_int16(kind) or pat.is_uint8(kind), "smallint"),
    (lambda kind: pat.is_int32(kind) or pat.is_uint16(kind), "int"),
    (lambda kind: pat.is_int64(kind) or pat.is_uint32(kind), "bigint"),
    (pat.is_uint64, "decimal(20,0)"),
    (pat.is_float32, "float"),
    (pat.is_float64, "double"),
    (pat.is_date, "date"),
    (is_text, "string"),
    (lambda kind: pat.is_binary(kind) or pat.is_large_binary(kind), "binary"),
)


def open_frame(homes: Mapping[str, Sequence[str]], schema: pa.Schema, columns: Sequence[str] | None) -> DataFrame:
    """Open Parquet files as a Spark frame.

    Args:
        homes: Full paths of files, by that of the folder in which columns' folders begin.
        schema: Of all files, the columns of folders among them.
        columns: Names, in this order; None for all.

    Raises:
        TerminalError: PySpark is missing, or Spark has no type for a column.
    """
    spark = needed("pyspark.sql", "spark", "lab.spark()")
    names = list(columns) if columns is not None else schema.names
    if unknown := [name for name in names if name not in schema.names]:
        have = ", ".join(schema.names)
        problem = f"There is no column '{unknown[0]}', but {have}"
        fix = did_you_mean(unknown[0], schema.names, "Check the name.")
        raise TerminalError(problem, fix=fix, code="column_unknown")
    # With `SPARK_REMOTE` this is the session of a server, else one of this process; one that is there already is taken.
    session = spark.SparkSession.builder.appName("ingestlab").getOrCreate()
    types = ", ".join(f"`{name.replace('`', '``')}` {_column(name, schema)}" for name in names)
    if not homes:
        return session.createDataFrame([], types)
    reader = session.read.schema(types)
    frames = [reader.option("basePath", _url(home)).parquet(*map(_url, files)) for home, files in homes.items()]
    return reduce(lambda left, right: left.unionByName(right), frames).select(*(f"`{name}`" for name in names))


def _url(path: str) -> str:
    """Return an address as Hadoop has it."""
    return f"s3a://{path.removeprefix('s3://')}" if path.startswith("s3://") else path


def _column(name: str, schema: pa.Schema) -> str:
    text = spark_type(schema.field(name).type)
    if text is None:
        problem = f"Spark cannot read column '{name}' of type {schema.field(name).type}"
        fix = "Leave it out: lab.spark(table, columns=[…]); or bring it to another type with `ingestlab rewrite`."
        raise TerminalError(problem, fix=fix, code="types_conflict")
    return text


def spark_type(kind: pa.DataType) -> str | None:
    """Write a type as Spark's SQL does, or None."""
    kind = plain(kind)
    if pat.is_timestamp(kind):
        return None if kind.unit == "ns" else "timestamp" if kind.tz else "timestamp_ntz"
    if pat.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})" if kind.precision <= 38 else None
    if pat.is_list(kind) or pat.is_large_list(kind):
        return _with("array<{}>", kind.value_type)
    if pat.is_map(kind):
        return _with("map<{},{}>", kind.key_type, kind.item_type)
    if pat.is_struct(kind):
        names = [field.name.replace("`", "``") for field in kind]
        return _with("struct<" + ",".join(f"`{name}`:{{}}" for name in names) + ">", *(field.type for field in kind))
    return next((text for test, text in _FLAT if test(kind)), None)


def _with(text: str, *kinds: pa.DataType) -> str | None:
    """Put types into the text of one that has them inside."""
    parts = [spark_type(kind) for kind in kinds]
    return None if None in parts else text.format(*parts)
