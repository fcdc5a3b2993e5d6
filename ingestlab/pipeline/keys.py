"""What a pipeline may say of keys, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.interfaces import DriftReader
from ingestlab.lake.arrow_schema import ADDED, parse_type
from ingestlab.lake.keys import kind_of_key, kind_of_order
from ingestlab.pipeline.uniqueness import unique_columns

_NO_KEY = "Write the column as text, an integer, a decimal, a date or a time, e.g. by astype in clean."


def check_keys(pipeline: Any, dispositions: Any) -> None:
    """Check how a pipeline wants its rows merged.

    Args:
        pipeline: A :class:`ingestlab.pipeline.pipeline.Pipeline` with its name.
        dispositions: The literal type of `write_disposition`.

    Raises:
        TerminalError: It does not say what it needs, or names columns that cannot serve.
    """
    name, key = pipeline.name, pipeline.key_columns
    options = {"key": key, "latest_by": pipeline.latest_by, "delete_if": pipeline.delete_if}
    if pipeline.write_disposition not in get_args(dispositions):
        wanted = f"one of {', '.join(get_args(dispositions))} in pipeline '{name}'"
        raise _invalid(
            "write_disposition is unknown", wanted, repr(pipeline.write_disposition), 'E.g. write_disposition="merge".'
        )
    if pipeline.write_disposition != "merge":
        if used := next((option for option, value in options.items() if value), None):
            fix = 'Add write_disposition="merge", or leave it out. For unique values write unique=True in the contract.'
            raise _invalid(f"{used} is for tables that are merged", f"no {used} in pipeline '{name}'", used, fix)
        return
    if not key:
        wanted = f"a key in pipeline '{name}', by which its rows are merged"
        raise _invalid("The key is missing", wanted, "none", 'Name its columns: key=["id"].')
    _check_names(options, pipeline.folders, name)
    if unique := unique_columns(pipeline.contract):
        wanted = f"a contract without unique columns in pipeline '{name}', whose key is unique already"
        fix = "Leave unique out of the contract."
        raise _invalid("The contract of a merged table wants unique values", wanted, ", ".join(unique[0]), fix)
    if pipeline.embedding is not None:
        _check_embedding(pipeline)
    if pipeline.documents is not None:
        _check_documents(pipeline)
    columns = getattr(pipeline.reader, "columns", None)
    if pipeline.clean is None and isinstance(columns, Mapping) and isinstance(pipeline.reader, DriftReader):
        for column in used_columns(pipeline):  # with `clean`, nobody knows yet what the rows will have
            _check_declared(column, columns, pipeline)


def used_columns(pipeline: Any) -> tuple[str, ...]:
    """List the columns that a merge uses, the key first."""
    return (*pipeline.key_columns, *filter(None, (pipeline.latest_by, pipeline.delete_if)))


def check_columns(table: pa.Table, pipeline: Any) -> None:
    """Check that rows have comparable columns to merge by.

    Args:
        table: The rows.
        pipeline: A :class:`ingestlab.pipeline.pipeline.Pipeline` with a key.

    Raises:
        TerminalError: A column is missing, or of the wrong type.
    """
    for column in used_columns(pipeline):
        if column not in table.column_names:
            raise _missing(column, table.column_names, pipeline)
        _check_type(column, table.schema.field(column).type, pipeline)


def _missing(column: str, there: Iterable[str], pipeline: Any) -> TerminalError:
    problem = f"The {_role(column, pipeline)} column '{column}' is missing"
    wanted, fix = f"it in the rows of pipeline '{pipeline.name}'", "Let clean make it, or correct the pipeline."
    return TerminalError(problem, expected=wanted, got=f"columns {', '.join(there)}", fix=fix, code="column_unknown")


def _check_names(options: Mapping[str, Any], folders: Sequence[str], name: str) -> None:
    """Check the names of all columns that a merge uses."""
    key, latest_by, delete_if = options["key"], options["latest_by"], options["delete_if"]
    for option, column in (*(("key", column) for column in key), ("latest_by", latest_by), ("delete_if", delete_if)):
        if column is not None and (not isinstance(column, str) or not column or column in ADDED):
            wanted = f"names of the table's own columns as {option} of pipeline '{name}'"
            raise _invalid(f"{option} is no column", wanted, repr(column), f'E.g. {option}="name".')
        if option != "key" and column in folders:
            fix = "Name another column: the name of a folder is text. Clean can copy the column."
            raise _invalid(f"{option} is a column of partition_by", f"another in pipeline '{name}'", repr(column), fix)
    if len({*key, latest_by, delete_if} - {None}) < len(key) + (latest_by is not None) + (delete_if is not None):
        wanted = f"different columns as key, latest_by and delete_if of pipeline '{name}'"
        raise _invalid("A column is named twice", wanted, ", ".join(key), "Name each once.")


def _check_embedding(pipeline: Any) -> None:
    """Check that vectors can be told apart by the key."""
    if lost := [column for column in pipeline.key_columns if column not in pipeline.embedding.payload]:
        wanted = f"the columns of the key in the payload of pipeline '{pipeline.name}'"
        fix = f"Write Embedding(..., payload={[*pipeline.embedding.payload, *lost]})."
        raise _invalid("The embedding lacks the key", wanted, f"no '{lost[0]}'", fix)
    _check_apart(pipeline, "an embedding")


def _check_documents(pipeline: Any) -> None:
    """Check that documents can be told apart by the key."""
    if pipeline.documents.raw:
        wanted = f"documents of rows in pipeline '{pipeline.name}', whose rows are merged"
        raise _invalid("Raw records cannot be merged", wanted, "raw=True", "Leave it out.")
    if taken := {"source", "row", "_id", "_batch", "_document"}.intersection(pipeline.key_columns):
        wanted = f"another name for the key of pipeline '{pipeline.name}', which has documents"
        raise _invalid("The key's name is taken", wanted, repr(min(taken)), "Rename the column in clean.")
    _check_apart(pipeline, "documents")


def _check_apart(pipeline: Any, what: str) -> None:
    """Check that no column of the key names folders."""
    if inside := [column for column in pipeline.key_columns if column in pipeline.folders]:
        wanted = f"no key in partition_by of pipeline '{pipeline.name}', which has {what}"
        fix = "Partition by another column, e.g. a copy that clean makes."
        raise _invalid("A column of the key is one of partition_by", wanted, repr(inside[0]), fix)


def _check_declared(column: str, columns: Mapping[str, Any], pipeline: Any) -> None:
    """Check a column against what the reader declares."""
    if column not in columns:
        if pipeline.schema_drift != "evolve":  # else it may come with the file
            raise _missing(column, columns, pipeline)
        return
    with suppress(ValueError):  # a reader may have names of types that are its own
        _check_type(column, parse_type(str(columns[column])), pipeline)


def _check_type(column: str, kind: pa.DataType, pipeline: Any) -> None:
    role, name = _role(column, pipeline), pipeline.name
    if pa.types.is_null(kind):
        return
    if role == "key" and kind_of_key(kind) is None:
        exact = "a number that may be rounded, or NaN, is no key" if pa.types.is_floating(kind) else "it has parts"
        raise _invalid(
            f"The key column '{column}' cannot be compared",
            f"a column of single, exact values as key of pipeline '{name}'",
            f"{kind}: {exact}",
            _NO_KEY,
        )
    if role == "latest_by" and not kind_of_order(kind):
        wanted = f"numbers, times or texts as latest_by of pipeline '{name}'"
        raise _invalid(f"The latest_by column '{column}' has no order", wanted, str(kind), "Name another column.")
    if role == "delete_if" and not pa.types.is_boolean(kind):
        fix = f'Let clean make it, e.g. df.assign({column}=df["op"] == "D").'
        wanted = f"a column of true and false as delete_if of pipeline '{name}'"
        raise _invalid(f"The delete_if column '{column}' is not boolean", wanted, str(kind), fix)


def _role(column: str, pipeline: Any) -> str:
    return "key" if column in pipeline.key_columns else "latest_by" if column == pipeline.latest_by else "delete_if"


def _invalid(problem: str, expected: str, got: str, fix: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="pipeline_invalid")
