"""The frozen values that vector stores and their users share."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from ingestlab.core.errors import CollectionError, TerminalError
from ingestlab.core.models import Value

Kind = Literal["text", "int", "float", "bool"]
Metric = Literal["COSINE", "IP", "L2"]
Index = Literal["HNSW", "AUTOINDEX"]
Scalar = str | int | float | bool
Filter = str | Mapping[str, Any]  # an expression of Milvus; or by column a value, or several: see vector_filters

NAME = "milvus"  # of the sink
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]{0,199}$"  # what Milvus takes as the name of a collection or field
MAX_BYTES = 65_535  # of one text, in any Milvus
CANARY_TOLERANCE = 1e-3  # by which the same model differs between machines


class Column(Value):
    """One scalar field of a collection. Times are text in UTC, in the order of time.

    Args:
        name: Its name, the same as the table's column.
        kind: Its type.
        length: The most UTF-8 bytes that it holds, for text.
    """

    name: str = Field(pattern=IDENTIFIER)
    kind: Kind = "text"
    length: int = Field(default=MAX_BYTES, ge=1, le=MAX_BYTES)

    @classmethod
    def of(cls, field: pa.Field) -> Column:
        """Make the column for an Arrow field. Raises TerminalError for lists, structs and bytes."""
        kind = _kind(field.type)
        if kind is None or not re.match(IDENTIFIER, field.name) or field.name in RESERVED:
            raise TerminalError(
                "A payload column cannot be stored",
                expected="payload columns of text, numbers, booleans or times, with plain names of their own",
                got=f"'{field.name}' of type {field.type}",
                fix=f"Rename or convert it in clean; taken are: {', '.join(sorted(RESERVED))}.",
                code="embedding_invalid",
            )
        return cls(name=field.name, kind=kind)


# In every collection: who made a row, from what. These identify rows, so they are never cut.
BASE = (
    Column(name="tenant", length=200),
    Column(name="table", length=200),
    Column(name="source", length=MAX_BYTES),
    Column(name="run", length=200),
    Column(name="sha256", length=64),  # of the source's content
    Column(name="row", kind="int"),
    Column(name="chunk", kind="int"),
)
RESERVED = frozenset({"pk", "vector", "text", *(column.name for column in BASE)})


class Fingerprint(Value):
    """The model that made vectors. A vector of a fixed input tells it from its namesakes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    version: str = ""
    dim: int = Field(ge=2, le=32_768)
    normalised: bool = True
    canary: tuple[float, ...] = ()

    def __str__(self) -> str:
        plain = "" if self.normalised else ", not normalised"
        return f"{self.model} {self.version} ({self.dim}-d{plain})".replace("  ", " ")

    def same(self, other: Fingerprint) -> bool:
        """Tell whether both make the same vectors, as far as known."""
        if (self.model, self.version, self.dim, self.normalised) != (
            other.model,
            other.version,
            other.dim,
            other.normalised,
        ):
            return False
        if not self.canary or not other.canary:
            return True
        return bool(np.allclose(self.canary, other.canary, rtol=0, atol=CANARY_TOLERANCE))


class Collection(Value):
    """A collection as a pipeline wants it.

    Args:
        name: What users call it.
        fingerprint: The model and its canary; the plain dict of an embedder will do.
        payload: Columns of the table that go along.
        metric: How near is told.
        index: How near is found.
        text: The most UTF-8 bytes of the text that is kept beside its vector.
        inputs: What of a row the model was given, in words.
        replaces: Of one that was made again, the target whose place it takes, or ``"-"``.
        truncate: Columns whose texts are cut where they are longer than their fields.
    """

    name: str = Field(pattern=IDENTIFIER)
    fingerprint: Fingerprint
    payload: tuple[Column, ...] = ()
    metric: Metric = "COSINE"
    index: Index = "HNSW"
    text: int = Field(default=MAX_BYTES, ge=1, le=MAX_BYTES)
    inputs: str = ""
    replaces: str = ""
    truncate: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """Give the length of its vectors."""
        return self.fingerprint.dim

    @property
    def columns(self) -> tuple[Column, ...]:
        """List all its scalar fields but the primary key."""
        return (*BASE, Column(name="text", length=self.text), *self.payload)

    def target(self) -> str:
        """Name the real collection: the same for the same model and fields. The canary's noise does not count."""
        made = self.model_dump(mode="json", exclude={"name": True, "fingerprint": {"canary"}, "truncate": True})
        return f"{self.name}__{hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:8]}"

    def targets(self) -> Iterator[str]:
        """Yield the names that its target may have. Further ones are for namesakes with another canary."""
        first = self.target()
        return itertools.chain([first], (f"{first}_{n}" for n in itertools.count(2)))

    def check(self, wanted: Collection) -> None:
        """Raise CollectionError unless this existing one serves what is wanted."""
        fix = "Run `ingestlab reembed TABLE` to make its vectors again, or name another collection in the pipeline."
        if self.name != wanted.name:
            raise CollectionError(
                "The vectors are in another collection",
                expected=f"the collection '{self.name}', where the vectors are",
                got=f"'{wanted.name}'",
                fix=fix,
            )
        if not self.fingerprint.same(wanted.fingerprint):
            model, wanted_model = str(self.fingerprint), str(wanted.fingerprint)
            same_name = f"{wanted_model}, of the same name but with another canary vector"
            raise CollectionError(
                "The collection has vectors of another model",
                expected=f"the model that made the vectors of collection '{self.name}', {model}",
                got=same_name if model == wanted_model else wanted_model,
                fix=fix,
            )
        if self.inputs and wanted.inputs and self.inputs != wanted.inputs:
            raise CollectionError(
                "The collection has vectors of something else",
                expected=f"what collection '{self.name}' has vectors of, {self.inputs}",
                got=wanted.inputs,
                fix=fix,
            )
        fields, wanted_fields = _fields(self), _fields(wanted)
        if fields != wanted_fields:
            raise CollectionError(
                "The collection has other fields",
                expected=f"the fields of collection '{self.name}', {fields}",
                got=wanted_fields,
                fix=fix,
            )


class Where(Value):
    """Which rows are meant: all conditions hold together, and those left out hold for every row.

    Args:
        tenant: Whose rows.
        table: Of which table.
        sources: From one of these URIs.
        sha256: Whose source had one of these contents.
        not_sha256: Whose source had none of these contents.
        runs: Written by one of these runs.
        not_runs: Written by none of these runs.
        keys: With one of these primary keys.
    """

    tenant: str | None = None
    table: str | None = None
    sources: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    not_sha256: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    not_runs: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def must_choose(self) -> None:
        """Raise TerminalError if no condition is given."""
        if self == Where():
            raise TerminalError(
                "There is no condition on what to delete",
                fix="To remove a whole collection, drop it.",
                code="argument_invalid",
            )


class Hit(NamedTuple):
    """One row that a search found. `values` has its scalar fields, `pk` among them; it stands for so many `rows`."""

    pk: str
    score: float
    values: dict[str, Any]
    rows: int = 1


def named_by(target: str) -> str:
    """Give the collection's name of a target. What is no target of ours stays."""
    return re.sub(r"__[0-9a-f]{8}(_\d+)?\Z", "", target)


def _kind(kind: pa.DataType) -> Kind | None:
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float"
    types = pa.types
    plain = (types.is_string, types.is_large_string, types.is_string_view, types.is_temporal, types.is_null)
    return "text" if any(test(kind) for test in plain) else None


def _fields(collection: Collection) -> str:
    payload = [f"{c.name} {c.kind}" for c in collection.payload]  # how long they may be is looked at value by value
    return f"{', '.join(payload) or 'no payload'}, {collection.metric} by {collection.index}"
