"""A collection as Milvus keeps it: its fields, its index, and what it was made for."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from ingestlab.core.errors import TerminalError
from ingestlab.sinks.milvus.vector_values import BASE, Collection, Column

PROPERTY = "ingestlab"  # of the collection: what it was made for, as JSON; both Lite and full servers keep it
FORMAT = 1
PARTITIONS = 16  # that tenants are spread over
DEFAULTS: dict[str, Any] = {"text": "", "int": 0, "float": 0.0, "bool": False}  # for null, where that is not to be had
BUILD = {"HNSW": {"M": 16, "efConstruction": 200}, "AUTOINDEX": {}, "FLAT": {}}


def definition(wanted: Collection, client: Any, *, nullable: bool) -> dict[str, Any]:
    """Make the arguments of a new collection, after its name.

    Args:
        wanted: What it is for.
        client: The class that builds schemas.
        nullable: Whether the server takes null.
    """
    from pymilvus import DataType  # noqa: PLC0415 - an optional package

    kinds = {"text": DataType.VARCHAR, "int": DataType.INT64, "float": DataType.DOUBLE, "bool": DataType.BOOL}
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=f"by {wanted.fingerprint}")
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    for column in wanted.columns:
        options: dict[str, Any] = {"max_length": column.length} if column.kind == "text" else {}
        if nullable and column not in BASE:
            options["nullable"] = True
        schema.add_field(column.name, kinds[column.kind], is_partition_key=column.name == "tenant", **options)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=wanted.dim)
    note = {"format": FORMAT, "nullable": nullable, "collection": wanted.to_dict()}
    return {
        "schema": schema,
        "num_partitions": PARTITIONS,
        "consistency_level": "Strong",
        "properties": {PROPERTY: json.dumps(note)},
    }


def index(wanted: Collection, client: Any, *, lite: bool) -> Any:
    """Describe the index on the vectors, as the client takes it.

    Args:
        wanted: The collection.
        client: The class that builds indexes.
        lite: Whether it is for Milvus Lite, whose graphs lose rows where vectors are equal.
    """
    params, kind = client.prepare_index_params(), "FLAT" if lite else wanted.index
    params.add_index("vector", index_type=kind, metric_type=wanted.metric, params=BUILD[kind])
    return params


def read(described: dict[str, Any]) -> tuple[Collection, bool]:
    """Read what a collection was made for, and whether it takes null.

    Raises:
        TerminalError: It is none of ours.
    """
    try:
        note = json.loads(described.get("properties", {})[PROPERTY])
        if note["format"] == FORMAT:
            return Collection.from_dict(note["collection"]), bool(note["nullable"])
    except (KeyError, TypeError, ValueError, ValidationError):
        pass
    fields = ", ".join(f["name"] for f in described.get("fields", []))
    raise TerminalError(
        "The collection is not ingestlab's",
        expected="a collection made by ingestlab, with its model and fields on record",
        got=f"'{described.get('collection_name')}' with the fields {fields}",
        fix="Name another collection in the pipeline's embedding, or drop this one.",
        code="collection_conflict",
    )


def stand_in(column: Column) -> Any:
    """Give what stands for null on servers that have none."""
    return DEFAULTS[column.kind]
