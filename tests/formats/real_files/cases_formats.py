"""Compressed streams, Parquet, JSON lines, archives, images: bytes that are made here, and what is in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from harness import Case, Earlier
from PIL import Image

TWO, MORE = b"id,word\n1,a\n2,b\n", b"3,c\n4,d\n"
ID_WORD = 'Csv(columns={"id": "int64", "word": "string"})'
ROWS = {"id": [1, 2, 3, 4], "word": ["a", "b", "c", "d"]}
DAMAGED = ["is not a whole", "file"]


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
    Case(
        name="parquet_list_views",
        file="b.parquet",
        data=parquet(
            {
                "x": pa.array([[1, 2], None, [3]], pa.list_view(pa.int64())),
                "y": pa.array([{"z": ["a"]}, None, {"z": []}], pa.struct([("z", pa.list_view(pa.string()))])),
            }
        ),
        rows={"x": [[1, 2], None, [3]], "y": [{"z": ["a"]}, None, {"z": []}]},
        earlier=[
            Earlier(
                file="a.parquet",
                data=parquet({"x": [[7]], "y": pa.array([{"z": ["b"]}], pa.struct([("z", pa.list_(pa.string()))]))}),
            )
        ],
    ),
]

JSON_TEXT = 'JsonLines(columns={"id": "int64", "o": "json"})'
DOCUMENT = b'[\n  {\n    "id": 1,\n    "o": {"x": 1.10}\n  },\n  {\n    "id": 2\n  }\n]\n'

JSON = [
    Case(
        name="json_text_kept",
        file="a.jsonl",
        data=b'{"id":1,"o":{"amount":12345678901234567.89,"rate":0.46153846153846153846}}\n'
        b'{"id":2,"o": {"amount":1.10 , "k":1,"k":2}}\n{"id":3,"o":"\\u00e9"}\n{"id":4,"o":null}\n',
        reader=JSON_TEXT,
        rows={
            "id": [1, 2, 3, 4],
            "o": [
                '{"amount":12345678901234567.89,"rate":0.46153846153846153846}',
                '{"amount":1.10 , "k":1,"k":2}',
                '"\\u00e9"',
                None,
            ],
        },
    ),
    Case(
        name="json_big_ids",
        file="a.jsonl",
        data=b'{"id":21602730330000060100100000358582}\n{"id":21602730330000060100100000358583}\n',
        rows={"id": ["21602730330000060100100000358582", "21602730330000060100100000358583"]},
    ),
    Case(
        name="json_uint64",
        file="a.jsonl",
        data=b'{"id":18446744073709551615}\n{"id":0}\n',
        rows={"id": [18446744073709551615, 0]},
        types={"id": "uint64"},
    ),
    Case(
        name="json_empty_beside_full",  # the same in pieces, of which one has empty objects alone
        file="a.jsonl",
        data=b'{"v":{"p":1},"l":[{"q":2}]}\n' + b'{"v":{},"l":[{}]}\n' * 5,
        rows={"v": [{"p": 1}] + [{"p": None}] * 5, "l": [[{"q": 2}]] + [[{"q": None}]] * 5},
    ),
    Case(
        name="json_minus_zero",  # which uint64 does not take, in whichever piece it is
        file="a.jsonl",
        data=b'{"id":18446744073709551615}\n' * 4 + b'{"id":-0}\n' * 2,
        rows={"id": ["18446744073709551615"] * 4 + ["-0"] * 2},
    ),
    Case(
        name="json_broken_has_no_say",  # the parser takes the third for a text
        file="a.jsonl",
        data=b'{"a":[1],"b":2}\n{"a":[],"b":3}\n{"a":","b":4}\n{"a":[2],"b":5}\n{"a":null,"b":6}\n',
        rows={"a": [[1], [], [2], None], "b": [2, 3, 5, 6]},
        rejects=[(2, "json")],
    ),
    Case(
        name="json_empty_values",
        file="a.jsonl",
        data=b'{"id":1,"meta":{},"l":[]}\n{"id":2,"meta":{}}\n',
        rows={"id": [1, 2], "meta": ["{}", "{}"], "l": [[], None]},
    ),
    Case(
        name="json_empty_records",
        file="a.jsonl",
        data=b'{}\n{"id":2}\n{ }\n',
        rows={"id": [None, 2, None]},
        types={"id": "int64"},
    ),
    Case(
        name="json_empty_records_declared",
        file="a.jsonl",
        data=b'{}\n{"id":2}\n{ }\n',
        reader='JsonLines(columns={"id": "int64"})',
        rows={"id": [None, 2, None]},
    ),
    Case(
        name="json_lists_of_nulls",
        file="a.jsonl",
        data=b'{"id":1,"items":[{"d":null},{"d":null}]}\n{"id":2,"items":[]}\n',
        rows={"id": [1, 2], "items": [[{"d": None}, {"d": None}], []]},
    ),
    Case(
        name="json_shapes_that_differ",
        file="a.jsonl",
        data=b'{"id":1,"v":{"a":1}}\n{"id":2,"v":[1]}\n{"id":3,"v":"x"}\n{"id":4,"v":1.50}\n',
        error=["one type in each column", "'v' that are objects, and arrays", "as 'json'"],
    ),
    Case(
        name="json_shapes_that_differ_declared",
        file="a.jsonl",
        data=b'{"id":1,"o":{"a":1}}\n{"id":2,"o":[1]}\n{"id":3,"o":"x"}\n{"id":4,"o":1.50}\n',
        reader=JSON_TEXT,
        rows={"id": [1, 2, 3, 4], "o": ['{"a":1}', "[1]", '"x"', "1.50"]},
    ),
    Case(
        name="json_name_twice",
        file="a.jsonl",
        data=b'{"id":1}\n{"id":2,"id":3}\n{"id":4,"\\u0069d":5}\n',
        rows={"id": [1]},
        rejects=[(1, "id:json"), (2, "id:json")],
    ),
    Case(
        name="json_name_twice_declared",
        file="a.jsonl",
        data=b'{"id":1}\n{"id":2,"o":1,"o":2}\n{"id":4,"id":4}\n{"id":5,"z":1,"z":2}\n',
        reader=JSON_TEXT,
        rows={"id": [1, 5], "o": [None, None]},
        rejects=[(1, "o:json"), (2, "id:json")],
    ),
    Case(name="json_one_blank", file="a.json", data=b" ", error=["0 records"]),
    Case(name="json_blank_lines", file="a.json", data=b"\n \n\t\n", error=["0 records"]),
    Case(
        name="json_array",
        file="a.json",
        data=b'[{"id":1,"o":"x"},{"id":2}]',
        rows={"id": [1, 2], "o": ["x", None]},
        facts={"note": "one JSON array of 2"},
    ),
    Case(
        name="json_pretty_array",
        file="a.json",
        data=DOCUMENT,
        rows={"id": [1, 2], "o": [{"x": 1.1}, None]},
    ),
    Case(
        name="json_pretty_array_declared",
        file="a.json",
        data=b"\xef\xbb\xbf" + DOCUMENT.replace(b"\n", b"\r\n"),
        reader=JSON_TEXT,
        rows={"id": [1, 2], "o": ['{"x": 1.10}', None]},
    ),
    Case(
        name="json_pretty_object",
        file="a.json",
        data=b'{\n  "id": 1,\n  "o": [\n{"id":7},\n{"id":8}\n]\n}\n',
        reader=JSON_TEXT,
        rows={"id": [1], "o": ['[ {"id":7}, {"id":8} ]']},
    ),
    Case(
        name="json_pretty_objects",
        file="a.json",
        data=b'{\n  "id": 1\n}\n{\n  "id": 2\n}\n',
        rows={"id": [1, 2]},
        facts={"note": "2 JSON objects"},
    ),
    Case(name="json_pretty_cut", file="a.json", data=DOCUMENT[:-8], error=["one JSON array", "whole"]),
    Case(
        name="json_pretty_object_cut",
        file="a.json",
        data=b'{\n  "items": [\n{"id":7},\n{"id":8}\n]\n',
        error=["JSON objects", "whole"],
    ),
    Case(name="json_array_of_numbers", file="a.json", data=b"[1, 2, 3]\n", error=["can be published"], read=False),
    Case(
        name="json_mixed_array",
        file="a.json",
        data=b'[{"id":1},\n7,\n{"id":3}]',
        rows={"id": [1, 3]},
        rejects=[(1, "json")],
    ),
    Case(
        name="json_times_keep_their_zone",
        file="a.jsonl",
        data=b'{"t":"2024-01-01T10:00:00+02:00"}\n{"t":"2024-01-01T10:00:00Z"}\n',
        rows={"t": ["2024-01-01T10:00:00+02:00", "2024-01-01T10:00:00Z"]},
    ),
    Case(
        name="json_codes_in_strings",
        file="a.jsonl",
        data=b'{"zip":"01067","v":"1.10","n":"7"}\n{"zip":"08028","v":"1.100","n":"8"}\n',
        rows={"zip": ["01067", "08028"], "v": ["1.10", "1.100"], "n": ["7", "8"]},
    ),
    Case(
        name="json_gz_document",
        file="a.json.gz",
        data=gzip.compress(DOCUMENT, mtime=0),
        rows={"id": [1, 2], "o": [{"x": 1.1}, None]},
        facts={"compression": "gzip"},
    ),
]

ARCHIVE = 'Archive(reader=Csv(columns={"id": "int64", "word": "string"}), members="sales-*.csv", column=None)'
APPLE_DOUBLE = b"\0\5\x16\7" + b"\0" * 60
FIRST_TWO = {"id": [1, 2], "word": ["a", "b"]}


def zipped(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return sink.getvalue()


def tarred(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def packed(name: str, data: bytes, **result: Any) -> Case:
    return Case(name=f"archive_{name}", file="a.bin", data=data, reader=ARCHIVE, read=False, **result)


ARCHIVES = [
    packed("of_another_case", zipped(**{"SALES-1.CSV": TWO}), rows=FIRST_TWO),
    packed("with_backslashes", zipped(**{"data\\sales-1.csv": TWO}), rows=FIRST_TWO),
    packed(
        "with_others",
        zipped(**{"sales-1.csv": TWO, "notes.txt": b"x", "sub/costs-1.csv": TWO}),
        rows=FIRST_TWO,
        facts={"archive": "2 others passed over: notes.txt, sub/costs-1.csv"},
    ),
    packed(
        "with_others_tar",
        tarred(**{"notes.txt": b"x", "sales-1.csv": TWO}),
        rows=FIRST_TWO,
        facts={"archive": "1 other"},
    ),
    packed("of_others", zipped(**{"notes.txt": b"x"}), error=["sales-*.csv", "1 others: notes.txt"]),
    packed(
        "of_a_mac",
        zipped(**{"d/": b"", "__MACOSX/._sales-1.csv": APPLE_DOUBLE, "d/.DS_Store": b"x", "d/sales-1.csv": TWO}),
        rows=FIRST_TWO,
    ),
    packed("of_a_mac_tar", tarred(**{"._sales-1.csv": APPLE_DOUBLE, "sales-1.csv": TWO}), rows=FIRST_TWO),
    packed("member_bz2", zipped(**{"sales-1.csv": bz2.compress(TWO)}), rows=FIRST_TWO),
    packed(
        "member_bz2_damaged",
        zipped(**{"sales-1.csv": bz2.compress(TWO) + bz2.compress(MORE)[:-4]}),
        error=DAMAGED,
    ),
    packed("tar_bz2_streams", bz2.compress(tarred(**{"sales-1.csv": TWO})) + b"\0" * 64, rows=FIRST_TWO),
    packed("tar_bz2_damaged", bz2.compress(tarred(**{"sales-1.csv": TWO})) + b"BZh9", error=["is not whole"]),
    packed(
        "two_tars", tarred(**{"sales-1.csv": TWO}) + tarred(**{"sales-2.csv": MORE}), error=["more data after the end"]
    ),
]


def image(kind: str, pages: int = 1, **options: Any) -> bytes:
    sink = io.BytesIO()
    some = [Image.new("RGB", (3, 2), colour) for colour in ("red", "green", "blue")[:pages]]
    some[0].save(sink, kind, **({"save_all": True, "append_images": some[1:]} if pages > 1 else {}), **options)
    return sink.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def picture(name: str, data: bytes, **result: Any) -> Case:
    code = "def clean(df): return df[['width', 'height', 'format']]"
    return Case(
        name=f"image_{name}", file="a.bin", data=data, reader="Images()", code=code, options="clean=clean", **result
    )


IMAGES = [
    picture(
        "pages",
        image("TIFF", 3),
        rows={"width": [3], "height": [2], "format": ["TIFF"]},
        facts={"pages": "3, the first is read"},
    ),
    picture("frames", image("GIF", 2), rows={"width": [3], "height": [2], "format": ["GIF"]}, facts={"pages": "2"}),
    picture("turned", image("JPEG", exif=turned()), rows={"width": [2], "height": [3], "format": ["JPEG"]}),
    picture("cut", image("PNG")[:48], error=["whole image"]),
]

CASES = [*COMPRESSED, *PARQUET, *JSON, *ARCHIVES, *IMAGES]
