"""Compressed streams, Parquet, JSON lines, archives: bytes that are made here, and what is in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from harness import Case

TWO, MORE = b"id,word\n1,a\n2,b\n", b"3,c\n4,d\n"
ID_WORD = 'Csv(columns={"id": "int64", "word": "string"})'
ROWS = {"id": [1, 2, 3, 4], "word": ["a", "b", "c", "d"]}
DAMAGED = ["to be a whole", "file"]


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def int96(*times: tuple[int, int]) -> bytes:
    """A Parquet file of Julian days and nanoseconds in them, beyond what a writer here can make."""
    epoch = 2_440_588
    some = pa.array(range(1, len(times) + 1), pa.timestamp("ns"))
    data = parquet({"t": some}, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none")
    for i, (day, nanos) in enumerate(times, 1):
        data = data.replace(struct.pack("<QI", i, epoch), struct.pack("<QI", nanos, day))
    return data


PACKED = {"gz": lambda data: gzip.compress(data, mtime=0), "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}

COMPRESSED = [
    *(
        Case(name=f"{kind}_members", file=f"a.csv.{kind}", data=pack(TWO) + pack(MORE), reader=ID_WORD, rows=ROWS)
        for kind, pack in PACKED.items()
    ),
    *(
        Case(
            name=f"{kind}_padded", file=f"a.csv.{kind}", data=pack(TWO + MORE) + b"\0" * 512, reader=ID_WORD, rows=ROWS
        )
        for kind, pack in PACKED.items()
    ),
    *(
        Case(
            name=f"{kind}_second_damaged",
            file=f"a.csv.{kind}",
            data=pack(TWO) + pack(MORE)[:3] + b"\xff" + pack(MORE)[4:],
            reader=ID_WORD,
            error=DAMAGED,
        )
        for kind, pack in PACKED.items()
    ),
    *(
        Case(name=f"{kind}_cut", file=f"a.csv.{kind}", data=pack(TWO) + pack(MORE)[:-3], reader=ID_WORD, error=DAMAGED)
        for kind, pack in PACKED.items()
    ),
    *(
        Case(name=f"{kind}_garbage", file=f"a.csv.{kind}", data=pack(TWO) + b"id,word\n", reader=ID_WORD, error=DAMAGED)
        for kind, pack in PACKED.items()
    ),
]

PARQUET = [
    Case(
        name="int96_far",
        file="a.parquet",
        data=int96((5_373_484, 7_200_000_000_000), (2_305_448, 0), (2_459_375, 123_456_000), (1_721_426, 0)),
        rows={
            "t": [
                datetime(9999, 12, 31, 2),
                datetime(1600, 1, 1),
                datetime(2021, 6, 9, 0, 0, 0, 123_456),
                datetime(1, 1, 1),
            ]
        },
        types={"t": "timestamp[us]"},
    ),
    Case(
        name="int96_beyond",
        file="a.parquet",
        data=int96((5_373_485, 0), (2_440_588, 0), (1_721_425, 0), (2**32 - 1, 0)),
        rows={"t": [datetime(1970, 1, 1)]},
        rejects=[(0, "t:range"), (2, "t:range"), (3, "t:range")],
    ),
    Case(
        name="delta_text",
        file="a.parquet",
        data=parquet(
            {"s": ["ab", None, "abc", "b"], "b": [b"x", b"xy", None, b""]},
            use_dictionary=False,
            column_encoding={"s": "DELTA_BYTE_ARRAY", "b": "DELTA_LENGTH_BYTE_ARRAY"},
        ),
        rows={"s": ["ab", None, "abc", "b"], "b": [b"x", b"xy", None, b""]},
    ),
    Case(
        name="delta_numbers",
        file="a.parquet",
        data=parquet(
            {"i": [1, 2**62, None], "f": [1.5, None, -0.25]},
            use_dictionary=False,
            column_encoding={"i": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT"},
        ),
        rows={"i": [1, 2**62, None], "f": [1.5, None, -0.25]},
    ),
    Case(
        name="parquet_no_rows",
        file="a.parquet",
        data=parquet({"s": pa.array([], pa.string())}),
        reader="Parquet()",
        rows={},
        facts={"note": "0 rows"},
        read=False,  # of a table without parts no columns are known
    ),
    Case(
        name="parquet_required_in_struct",
        file="a.parquet",
        data=parquet({"x": pa.array([{"a": 1}, None], pa.struct([pa.field("a", pa.int64(), nullable=False)]))}),
        rows={"x": [{"a": 1}, None]},
        types={"x": "struct<a: int64>"},
    ),
    *(
        Case(
            name=f"parquet_{str(kind).split('(')[0]}",
            file="a.parquet",
            data=parquet({"d": pa.array([Decimal("1.10"), None, Decimal("-99.99")], kind)}),
            rows={"d": [Decimal("1.10"), None, Decimal("-99.99")]},
        )
        for kind in (pa.decimal32(5, 2), pa.decimal64(12, 2), pa.decimal128(38, 2), pa.decimal256(76, 2))
    ),
    Case(
        name="parquet_nested_nulls",
        file="a.parquet",
        data=parquet({"x": pa.array([[None], []], pa.list_(pa.null())), "y": pa.array([{"d": None}, None])}),
        rows={"x": [[None], []], "y": [{"d": None}, None]},
        types={"y": "struct<d: string>"},
    ),
]

CASES = [*COMPRESSED, *PARQUET]
