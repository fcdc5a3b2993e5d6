"""One part in other types and other folders: what `rewrite` runs on Dask.

Memory holds a row group, as where parts are merged; each makes parts of its own.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ingestlab.core.models import DataFile, Value
from ingestlab.engine.task.conform import MisfitError, retyped
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import ADDED, parse_type
from ingestlab.lake.data_files import batches, open_part, row_groups, stage_table, with_folders
from ingestlab.lake.storage.store import open_store


class Refold(Value):
    """Published part, and its new form.

    Attributes:
        part: It.
        types: Those of all columns, in their order; columns that it lacks are null.
        folders: The columns that become folders.
        home: The folder of its table.
        batch: In whose staging folder the new parts wait.
        number: Of the task.
    """

    part: DataFile
    types: dict[str, str]
    folders: tuple[str, ...]
    home: str
    batch: str
    number: int


class Refolded(Value):
    """Staged parts, or a column and its value that does not fit."""

    parts: tuple[DataFile, ...] = ()
    misfit: str = ""
    value: str = ""


def refold(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Write a part in other types and folders, as a Dask task. Takes and gives plain dicts.

    Args:
        work: A :class:`Refold`.
        lake: URL of the lake.
        options: How to open it, by scheme.

    Returns:
        A :class:`Refolded`.
    """
    spec = Refold.from_dict(work)
    try:
        return _refold(spec, open_store(lake, options)).to_dict()
    except MisfitError as error:
        return Refolded(misfit=error.column, value=error.value).to_dict()


def _refold(spec: Refold, store: Store) -> Refolded:
    home = spec.part.target.removeprefix(f"{spec.home}/")
    opened = open_part(spec.part, store)
    kinds = {name: parse_type(kind) for name, kind in spec.types.items()}
    added = [opened.schema_arrow.field(name) for name in ADDED]
    schema = pa.schema([*(pa.field(name, kind) for name, kind in kinds.items()), *added]).remove_metadata()
    staging = layout.staging(spec.batch)
    name = f"{spec.batch}-{spec.number:05d}"
    parts: list[DataFile] = []
    for i, rows in enumerate(row_groups(batches(opened))):
        table = retyped(with_folders(rows, home), schema)
        parts += stage_table(table, f"{name}-{i}", spec.home, staging, store, spec.folders)
    return Refolded(parts=tuple(parts))
