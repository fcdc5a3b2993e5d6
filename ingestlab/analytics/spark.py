"""Tables in Spark, and Spark's rows: files and types are those of the log, whatever Spark would find in the folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.extras import needed, quiet_pyspark
from ingestlab.lake.arrow_schema import is_text, plain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

JAVA = "Install Java 17 or later: `apt-get install openjdk-17-jre-headless` (Debian, Ubuntu), `brew install openjdk@17`"
_ROWS = 1 << 16  # read at a time of what Spark wrote
_BUFFER = 1 << 20  # bytes of a column that are read at a time
_OUR_OWN = "SPARK_LOCAL_IP"
T = TypeVar("T")

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
    session = start_session()
    names = list(columns) if columns is not None else schema.names
    if unknown := [name for name in names if name not in schema.names]:
        have = ", ".join(schema.names)
        problem = f"There is no column '{unknown[0]}', but {have}"
        fix = did_you_mean(unknown[0], schema.names, "Check the name.")
        raise TerminalError(problem, fix=fix, code="column_unknown")
    types = ", ".join(f"`{name.replace('`', '``')}` {_column(name, schema)}" for name in names)
    if not homes:
        return session.createDataFrame([], types)
    reader = session.read.schema(types)
    frames = [reader.option("basePath", _url(home)).parquet(*map(_url, files)) for home, files in homes.items()]
    return reduce(lambda left, right: left.unionByName(right), frames).select(*(f"`{name}`" for name in names))


def start_session() -> SparkSession:
    """Take the session that there is, or start one.

    With `SPARK_REMOTE` it is that of a server, else one of this machine.

    Raises:
        TerminalError: PySpark or Java is missing, or Spark does not start.
    """
    quiet_pyspark()
    builder = needed("pyspark.sql", "spark", "lab.spark()").SparkSession.builder.appName("ingestlab")
    theirs = [name for name in os.environ if name.startswith("SPARK_") and name != _OUR_OWN]
    if not theirs and "PYSPARK_SUBMIT_ARGS" not in os.environ:  # nobody has set Spark up: it is for this machine alone
        check_java()
        os.environ.setdefault(_OUR_OWN, "127.0.0.1")
        builder = builder.config("spark.ui.showConsoleProgress", "false").config("spark.log.level", "ERROR")
    return _done_by_spark("Spark does not start", JAVA, builder.getOrCreate)


def check_java() -> None:
    """Raise TerminalError if a Spark of this machine has no Java."""
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=str(Path(home, "bin")) if home else None) is None:
        got = f"nothing in JAVA_HOME ({home})" if home else ""
        raise TerminalError("Spark runs on Java, which is missing", got=got, fix=f"{JAVA}.", code="package_missing")


def read_rows(frame: DataFrame, folder: Path) -> Iterator[pa.Table]:
    """Yield the rows of a frame as Arrow tables. The first has types alone.

    A Spark of this machine writes them to files, which are read piece by piece. Those of a server are collected.

    Args:
        frame: Of any session.
        folder: Which Spark may make; the caller removes it.

    Raises:
        TerminalError: Spark cannot compute the frame, or one of its types is in no file.
    """
    problem, fix = (
        "Spark cannot compute the frame",
        "See what frame.show() says, and give each column a name of its own.",
    )
    # What Spark writes has neither zones nor durations. Its own stream of Arrow data (4.3) refuses times with a zone.
    schema = _done_by_spark(problem, fix, lambda: frame.limit(0).toArrow().schema)
    schema = pa.schema([(field.name, _nullable(field.type)) for field in schema])
    yield schema.empty_table()
    context = getattr(frame.sparkSession, "sparkContext", None)
    if context is None or not context.master.startswith("local"):
        yield _done_by_spark(problem, fix, frame.toArrow).cast(schema)
        return
    empty = [field.name for field in schema if pat.is_null(field.type)]
    typed = frame.withColumns({name: frame[f"`{name}`"].cast("tinyint") for name in empty})
    _done_by_spark(problem, fix, lambda: typed.write.parquet(f"file://{folder}"))
    for file in sorted(folder.glob("*.parquet")):
        # Read ahead, pyarrow keeps all that it has read until the file is closed.
        plainly = {"pre_buffer": False, "buffer_size": _BUFFER}
        with pq.ParquetFile(file, coerce_int96_timestamp_unit="us", **plainly) as opened:
            for batch in opened.iter_batches(_ROWS):
                yield _typed(batch, schema)


def _nullable(kind: pa.DataType) -> pa.DataType:
    """Let everything in a type be null. That nothing is holds for one frame alone."""
    if pat.is_list(kind):
        return pa.list_(_nullable(kind.value_type))
    if pat.is_map(kind):
        return pa.map_(kind.key_type, _nullable(kind.item_type))
    if pat.is_struct(kind):
        return pa.struct([(field.name, _nullable(field.type)) for field in kind])
    return kind


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.nulls(batch.num_rows) if pat.is_null(field.type) else column.cast(field.type)
        for field, column in zip(schema, batch.columns, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _done_by_spark(problem: str, fix: str, action: Callable[[], T]) -> T:
    """Do something. What Spark says of it in many lines becomes one."""
    pyspark, py4j = (needed(name, "spark", "a Spark frame") for name in ("pyspark.errors", "py4j.protocol"))
    try:
        return action()
    except (pyspark.PySparkException, py4j.Py4JError) as error:
        causes = re.findall(r"^(?:Caused by: )?[\w.$]+(?:Exception|Error): (.+)$", str(error), re.MULTILINE)
        got = causes[-1] if causes else next(iter(str(error).splitlines()), type(error).__name__)
        raise TerminalError(problem, got=got[:1000], fix=fix, code="spark_failed") from error


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
