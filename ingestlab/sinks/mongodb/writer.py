"""What a task does for the documents of its rows: it encodes them, and stages what came out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.interfaces import Destination, Place, Reason, Rows, Writer, Written
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import ADDED, decoded
from ingestlab.lake.data_files import stage_table
from ingestlab.pipeline.documents import Documents
from ingestlab.sinks.mongodb.link import NAME
from ingestlab.sinks.mongodb.values import ABOUT, ID, LARGEST, TOO_LARGE, Column, columns_of, field_name, key_of

STAGED = pa.schema(
    [
        ("source", pa.string()),
        ("row", pa.int64()),
        ("_batch", pa.string()),
        ("_id", pa.binary()),  # BSON, as the document: the same bytes in the lake and in the collection
        ("_document", pa.large_binary()),
    ]
)  # and the columns of the key by which a table is merged


class DocumentsWriter(Writer):
    """Encode the rows of a task as documents, and stage them."""

    def __init__(self, destination: Destination) -> None:
        super().__init__(destination)
        self._encoded: dict[str, pa.Table] = {}

    def refuse(self, rows: Rows) -> dict[Place, Reason]:
        """Encode rows, and find those that no document can hold.

        Raises:
            TerminalError: A column cannot be a field, or a key.
        """
        faults: dict[Place, Reason] = {}
        made = [encode(table, self.to, faults) for table in self._tables(rows)]
        self._encoded[rows.name] = pa.concat_tables(made or [STAGED.empty_table()])
        return faults

    def stage(self, rows: Rows) -> Written:
        """Write a file with the documents of the rows."""
        to, table = self.to, self._encoded.pop(rows.name, None)
        if table is None:
            return Written()
        places = set(_places(rows.table))
        staged = zip(table["source"].to_pylist(), table["row"].to_pylist(), strict=True)
        table = table.filter(pa.array([place in places for place in staged], pa.bool_()))
        home, staging = layout.table(to.tenant, layout.beside(to.table, NAME)), layout.staging(to.batch)
        return Written(stage_table(table, rows.name, home, staging, to.store), note=note_of(to.pipeline.documents))

    def _tables(self, rows: Rows) -> Iterator[pa.Table]:
        """Yield what becomes documents: the rows, or the records that they were made of."""
        if not self.to.pipeline.documents.raw:
            yield rows.table
            return
        published = set(_places(rows.table))
        for uri in dict.fromkeys(decoded(rows.table["_source"]).to_pylist()):
            records = self.to.pipeline.reader.read(rows.pieces[uri], rows.raw)
            rows.alive()
            table = records.table.drop_columns([name for name in ADDED if name in records.table.column_names])
            table = table.append_column("_source", pa.repeat(uri, len(table))).append_column(
                "_row", pa.array(records.rows)
            )
            yield table.filter(pa.array([place in published for place in _places(table)], pa.bool_()))


def note_of(documents: Documents) -> dict[str, Any]:
    """Say in a commit where documents go, and what their keys are."""
    return {"collection": documents.collection, "database": documents.database, "key": list(documents.key)}


def encode(table: pa.Table, to: Destination, faults: dict[Place, Reason]) -> pa.Table:
    """Make documents of rows, in the form in which they are staged.

    Args:
        table: The rows, with `_source` and `_row`.
        to: Where they go.
        faults: Takes the rows that no document can hold.

    Returns:
        What :data:`STAGED` says.

    Raises:
        TerminalError: A column cannot be a field, or a key.
    """
    bson = needed("bson", "mongodb", "MongoDB")
    documents: Documents = to.pipeline.documents
    places = _places(table)
    keys = _keys(table, documents.key) if documents.key else []
    fields = columns_of(table.drop_columns([*ADDED, *((ID,) if documents.key == (ID,) else ())]))
    for column in [*fields, *keys]:
        faults |= {places[i]: reason for i, reason in column.faults.items()}
    copies: Counter[Place] = Counter()
    made, at = [], []
    for i, place in enumerate(places):
        if place in faults:
            continue
        key = _joined(documents.key, [column.values[i] for column in keys]) if keys else _made(place, copies[place], to)
        copies[place] += 1
        about = {"table": to.table, "source": place[0], "row": place[1], "batch": to.batch, "run": to.run}
        document = {ID: key, **{column.name: column.values[i] for column in fields}, ABOUT: about}
        data = bson.encode(document)
        if len(data) > LARGEST:
            faults[place] = Reason(TOO_LARGE, None, f"{len(data):,} bytes")
            continue
        made.append((*place, to.batch, bson.encode({ID: key}), data))
        at.append(i)
    columns = zip(*made, strict=True) if made else [()] * len(STAGED)
    staged = pa.table(
        [pa.array(values, kind) for values, kind in zip(columns, STAGED.types, strict=True)], schema=STAGED
    )
    for name in to.pipeline.key_columns:
        staged = staged.append_column(name, decoded(table[name].take(pa.array(at, pa.int64()))))
    return staged


def _keys(table: pa.Table, names: Sequence[str]) -> list[Column]:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise TerminalError(
            "A column of the documents' key is missing",
            expected=f"the column '{missing[0]}'",
            got=f"columns {', '.join(table.column_names)}",
            fix="Let clean make it, or correct Documents.key.",
            code="column_unknown",
        )
    return [key_of(name, table[name]) for name in names]


def _joined(names: Sequence[str], values: Sequence[Any]) -> Any:
    """Make an `_id` of a key: its value, or a document of several."""
    return values[0] if len(values) == 1 else dict(zip(map(field_name, names), values, strict=True))


def _made(place: Place, copy: int, to: Destination) -> str:
    """Make an `_id` of a source row: the same in every run, and in every content of a source that replaces its own.

    Where contents stand beside each other, the batch tells them apart; copies that `clean` makes are numbered.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (to.tenant, to.table, place[0], "" if to.replace else to.batch, str(place[1]), str(copy)):
        data = part.encode()
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()


def _places(table: pa.Table) -> list[Place]:
    return list(zip(decoded(table["_source"]).to_pylist(), table["_row"].to_pylist(), strict=True))
