"""Masked columns: what a reader gives is masked before anything else sees it.

`clean`, contract, sinks, rejects, profiles, logs and errors are behind the reader, so that its class is the place: a
masked reader is one of the same class, whose records come out masked.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.interfaces import Bad, Format, Records, Store
from ingestlab.lake import layout

Mask = Literal["hash", "drop"]
SALT_BYTES = 32
HASH_CHARACTERS = 32  # 128 bits, in hexadecimal
_HIDDEN = "not shown: the pipeline masks columns"
_salts: dict[str, bytes] = {}  # by their places
_inside = threading.local()  # a reader may read by another of its methods


def check_mask(mask: Mapping[str, str], reader: Format, name: str) -> None:
    """Refuse a mask that is none; raises TerminalError.

    Args:
        mask: As declared.
        reader: Of the pipeline.
        name: Of the pipeline.
    """
    declared = getattr(reader, "columns", None)
    for column, how in mask.items():
        if how not in get_args(Mask):
            wanted = f"'hash' or 'drop' for column '{column}' in the mask of pipeline '{name}'"
            raise TerminalError("The mask cannot be used", expected=wanted, got=repr(how), code="pipeline_invalid")
        if isinstance(declared, Mapping) and declared and column not in declared:
            problem, fix = f"The mask of pipeline '{name}' names no declared column", "Check its spelling."
            raise TerminalError(problem, got=repr(column), fix=fix, code="pipeline_invalid")


def masked(reader: Format, mask: Mapping[str, str]) -> Format:
    """Give a reader of the same class whose records are masked.

    Args:
        reader: Of a pipeline.
        mask: By column; nothing of it leaves the reader as it is.
    """
    if not mask:
        return reader
    made: Any = _class_of(_plain(type(reader)), tuple(sorted(mask.items())))
    copied = object.__new__(made)
    for field, value in vars(reader).items():
        object.__setattr__(copied, field, value)
    return cast("Format", copied)


def is_masked(reader: Format) -> bool:
    """Tell whether a reader masks its records."""
    return hasattr(type(reader), "_masks")


def _plain(kind: type) -> type:
    return kind.__mro__[1] if hasattr(kind, "_masks") else kind


@cache
def _class_of(kind: type, mask: tuple[tuple[str, str], ...]) -> type:
    masks = dict(mask)

    def read(self: Any, piece: Piece, store: Store) -> Records:
        """Read one piece, masked."""
        with _Outermost() as outermost:
            try:
                records = kind.read(self, piece, store)  # type: ignore[attr-defined]
            except TerminalError as error:
                raise _hidden(error) from None
        return _mask(records, masks, _tenant(piece), store) if outermost else records

    def split(self: Any, *args: Any) -> Any:
        """Cut a file. What an error quotes of it is not shown."""
        try:
            return kind.split(self, *args)  # type: ignore[attr-defined]
        except TerminalError as error:
            raise _hidden(error) from None

    def read_all(self: Any, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """Read pieces, masked."""
        with _Outermost() as outermost:
            found = kind.read_all(self, pieces, store)  # type: ignore[attr-defined]
        if not outermost:
            return cast("list[Records | TerminalError]", found)
        pairs = zip(pieces, found, strict=True)
        return [
            _hidden(r) if isinstance(r, TerminalError) else _mask(r, masks, _tenant(piece), store) for piece, r in pairs
        ]

    methods = {"_masks": masks, "read": read, "split": split, "__module__": kind.__module__}
    if hasattr(kind, "read_all"):
        methods["read_all"] = read_all
    return type(kind.__name__, (kind,), {**methods, "__qualname__": kind.__qualname__})


class _Outermost:
    """Tells whether this thread is in no other masked call."""

    def __enter__(self) -> bool:
        self._before = getattr(_inside, "depth", 0)
        _inside.depth = self._before + 1
        return self._before == 0

    def __exit__(self, *error: object) -> None:
        _inside.depth = self._before


def _hidden(error: TerminalError) -> TerminalError:
    """Hide what an error quotes of a file."""
    return error.replace(got=_HIDDEN) if error.got else error


def _mask(records: Records, masks: Mapping[str, str], tenant: str, store: Store) -> Records:
    table = records.table
    if missing := [name for name in masks if name not in table.column_names]:
        problem = f"A column of the mask is not in the file: {missing[0]}"
        raise TerminalError(problem, fix="Check the spelling of the mask, or the file.", code="columns_missing")
    for name, how in masks.items():
        at = table.column_names.index(name)
        if how == "drop":
            table = table.remove_column(at)
        else:
            table = table.set_column(at, name, _hashed(table.column(at), _salt(store, tenant)))
    bad = tuple(Bad(b.row, b.rule, b.column, _shown(b, masks)) for b in records.bad)
    return replace(records, table=table, bad=bad, raw=lambda _rows: {})  # the text has all columns


def _shown(bad: Bad, masks: Mapping[str, str]) -> str | None:
    return None if bad.column is None or bad.column in masks else bad.value


def _hashed(column: pa.ChunkedArray, salt: bytes) -> pa.ChunkedArray:
    """Hash values as texts, each distinct one once. Null stays null."""
    if pa.types.is_nested(column.type):
        raise TerminalError("A nested column cannot be hashed", fix="Drop it.", code="pipeline_invalid")
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = pc.dictionary_encode(encoded)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts = [_digest(value, salt) for value in encoded.dictionary.to_pylist()]
    values = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string()))
    return pa.chunked_array([values.cast(pa.string())])


def _digest(value: Any, salt: bytes) -> str | None:
    if value is None:
        return None
    data = value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
    return hmac.new(salt, data, "sha256").hexdigest()[:HASH_CHARACTERS]


def _tenant(piece: Piece) -> str:
    """Read from its place in the raw zone whose a piece is."""
    parts = piece.path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == layout.raw() else ""


def _salt(store: Store, tenant: str) -> bytes:
    """Read a tenant's salt, or make it: of two that do so at once, the store takes one."""
    place = layout.salt(tenant)
    full = store.full(place)
    if full not in _salts:
        if not store.exists(place):
            store.create(place, secrets.token_bytes(SALT_BYTES))
        _salts[full] = store.read(place)
    return _salts[full]
