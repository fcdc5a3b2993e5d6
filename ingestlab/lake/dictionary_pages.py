"""Parquet files whose columns come as dictionaries: pages are put together, where Arrow would look for values again.

Arrow writes the different values of each column, padded with nulls, and thereby the schema, the dictionary pages and
the statistics. Behind each of these goes a page of places, which whoever counted the values has packed as Parquet
wants them. Columns without a dictionary are written by Arrow, and their pages moved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.interfaces import Dictionary
from ingestlab.lake.thrift import I32, I64, LIST, STRUCT, Items, Struct, decode, encode, varint

_MAGIC = b"PAR1"
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_RLE, _RLE_DICTIONARY = 3, 8
_ONE_OF_EACH = [(_DICTIONARY_PAGE, 1), (_DATA_PAGE, 1)]
_SAMPLE = 1 << 14  # bytes that tell whether places become fewer by compression
_WORTH = 0.95
_MOST = 1 << 14  # values, which Arrow writes in one page
# Fields of Parquet's structs
_ROWS, _GROUPS = 3, 4  # of a file
_COLUMNS, _GROUP_SIZE, _GROUP_ROWS, _GROUP_COMPRESSED = 1, 2, 3, 6
_META = 3  # of a column chunk
_VALUES, _SIZE, _COMPRESSED, _DATA, _DICTIONARY, _STATISTICS, _PAGES, _SIZES = 5, 6, 7, 9, 11, 12, 13, 16
_NULLS = 3  # of statistics


class _Chunk(NamedTuple):
    """A column in a file."""

    meta: dict[int, tuple[int, Any]]
    pages: list[memoryview | bytes]


def write(table: pa.Table, dictionaries: Mapping[str, Dictionary], **how: Any) -> memoryview | None:
    """Write a table as one row group.

    Args:
        table: The rows.
        dictionaries: Of some columns, by name.
        how: Other options of pyarrow.

    Returns:
        The file; None where none of the dictionaries is of use.
    """
    if any(pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType) for field in table.schema):
        return None
    chosen = {name: d for name, d in dictionaries.items() if _pays(table, name, d)}
    if not chosen:
        return None
    codecs = {name: how["compression"] if _shrinks(d) else "none" for name, d in chosen.items()}
    values = _File(_values_of(table.schema, chosen), {"compression_level": None, "compression": codecs})
    coded = {}
    for name, dictionary in chosen.items():
        if chunk := _with_places(values, table, name, dictionary, codecs[name]):
            coded[name] = chunk
    others = [name for name in table.column_names if name not in coded]
    rest = _File(table.select(others), _limited(how, others)) if others else None
    return _joined(values.footer, table, [coded.get(name) or rest.chunk(name) for name in table.column_names])  # type: ignore[union-attr]


def _pays(table: pa.Table, name: str, dictionary: Dictionary) -> bool:
    field, rows = table.schema.field(name), table.num_rows
    few = 0 < len(dictionary.values) <= min(rows // 2, _MOST)
    return field.nullable and few and not pa.types.is_boolean(field.type)


def _shrinks(dictionary: Dictionary) -> bool:
    sample = dictionary.places.packed[:_SAMPLE]
    return len(pa.Codec("zstd", 1).compress(sample, asbytes=True)) < _WORTH * len(sample)


def _values_of(schema: pa.Schema, dictionaries: Mapping[str, Dictionary]) -> pa.Table:
    """Put the values of all columns beside each other."""
    rows = max(len(dictionary.values) for dictionary in dictionaries.values())
    columns = []
    for field in schema:
        if dictionary := dictionaries.get(field.name):
            values = dictionary.values
            if pa.types.is_dictionary(field.type):
                values = values.dictionary_encode()
            values = values.cast(field.type)
            columns.append(pa.concat_arrays([values, pa.nulls(rows - len(values), field.type)]))
        else:
            columns.append(pa.nulls(rows, field.type))
    return pa.table(columns, schema=schema)


def _with_places(values: _File, table: pa.Table, name: str, dictionary: Dictionary, codec: str) -> _Chunk | None:
    """Put the page of places behind a column's values. None where Arrow has written these otherwise."""
    meta, (pages,) = values.chunk(name)
    counts = [(page[1][1], page[3][1]) for page in meta[_PAGES][1].values]
    if counts != _ONE_OF_EACH or _DICTIONARY not in meta:
        return None
    head = bytes(pages[: meta[_DATA][1] - meta[_DICTIONARY][1]])
    header = decode(head)
    if header[7][1][1][1] != len(dictionary.values):
        return None
    page, size = _page(table[name], dictionary, codec)
    size += len(head) - header[3][1] + header[2][1]
    at = meta[_DICTIONARY][1]
    new = {
        **meta,
        _VALUES: (I64, table.num_rows),
        _SIZE: (I64, size),
        _COMPRESSED: (I64, len(head) + len(page)),
        _DATA: (I64, at + len(head)),
    }
    if _STATISTICS in new:
        statistics = {**new[_STATISTICS][1], _NULLS: (I64, table[name].null_count)}
        new[_STATISTICS] = STRUCT, statistics
    return _Chunk(new, [head, page])


def _page(column: pa.ChunkedArray, dictionary: Dictionary, codec: str) -> tuple[bytes, int]:
    """Write a page of places, and tell its size without compression."""
    rows, valid = len(column), len(column) - column.null_count
    if valid == rows:
        levels = varint(rows << 1) + b"\1"
    else:
        bits = np.packbits(column.is_valid().to_numpy(), bitorder="little").tobytes()
        levels = varint(len(bits) << 1 | 1) + bits
    if len(dictionary.values) == 1:
        places: bytes | memoryview = varint(valid << 1) + b"\0"
    else:
        places = varint(-(-valid // 8) << 1 | 1) + bytes(dictionary.places.packed)
    body = b"".join([len(levels).to_bytes(4, "little"), levels, bytes([dictionary.places.width]), places])
    packed = body if codec == "none" else pa.Codec(codec, 1).compress(body, asbytes=True)
    data = {1: (I32, rows), 2: (I32, _RLE_DICTIONARY), 3: (I32, _RLE), 4: (I32, _RLE)}
    header = encode({1: (I32, _DATA_PAGE), 2: (I32, len(body)), 3: (I32, len(packed)), 5: (STRUCT, data)})
    return header + packed, len(header) + len(body)


class _File:
    """A file of one row group, written by Arrow to memory."""

    def __init__(self, table: pa.Table, how: Mapping[str, Any]) -> None:
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, table.schema, **how) as writer:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._data = memoryview(sink.getvalue())
        size = int.from_bytes(self._data[-8:-4], "little")
        self.footer: Struct = decode(bytes(self._data[-8 - size : -8]))
        (group,) = self.footer[_GROUPS][1].values
        self._columns = dict(zip(table.column_names, group[_COLUMNS][1].values, strict=True))

    def chunk(self, name: str) -> _Chunk:
        """Return a column with its pages."""
        meta = dict(self._columns[name][_META][1])
        begin = meta[_DICTIONARY if _DICTIONARY in meta else _DATA][1]
        return _Chunk(meta, [self._data[begin : begin + meta[_COMPRESSED][1]]])


def _limited(how: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Limit options to some columns."""
    limits = {**how}
    for option, value in how.items():
        if isinstance(value, Mapping):
            limits[option] = {name: of for name, of in value.items() if name in names}
        elif isinstance(value, list):
            limits[option] = [name for name in value if name in names]
    return limits


def _joined(footer: Struct, table: pa.Table, chunks: list[_Chunk]) -> memoryview:
    """Put columns together to a file."""
    out: list[bytes | memoryview] = [_MAGIC]
    columns: list[Struct] = []
    at = len(_MAGIC)
    for meta, pages in chunks:
        begin = meta[_DICTIONARY if _DICTIONARY in meta else _DATA][1]
        moved = {field: (I64, meta[field][1] - begin + at) for field in (_DATA, _DICTIONARY) if field in meta}
        meta.pop(_SIZES, None)
        columns.append({2: (I64, 0), _META: (STRUCT, {**meta, **moved})})
        out += pages
        at += sum(map(len, pages))
    metas = [column[_META][1] for column in columns]
    group = {
        _COLUMNS: (LIST, Items(STRUCT, columns)),
        _GROUP_SIZE: (I64, sum(meta[_SIZE][1] for meta in metas)),
        _GROUP_ROWS: (I64, table.num_rows),
        5: (I64, len(_MAGIC)),
        _GROUP_COMPRESSED: (I64, sum(meta[_COMPRESSED][1] for meta in metas)),
    }
    new = encode({**footer, _ROWS: (I64, table.num_rows), _GROUPS: (LIST, Items(STRUCT, [group]))})
    return memoryview(b"".join([*out, new, len(new).to_bytes(4, "little"), _MAGIC]))
