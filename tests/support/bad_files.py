"""Files that no pipeline can take and requests that nobody may make, with the words that tell what is wrong."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass

SECRET = "s3cr3t-pa55"
HEADER = "id,day,word\n"
PIPELINE = """
from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(
    reader=Csv(columns={"id": "int64", "day": "string", "word": "string"}), partition_by="day", matches=["NAME-*"]
)
"""


@dataclass(frozen=True)
class Bad:
    """A file, and the words that tell what is wrong with it: in what was expected, what came, what to do."""

    path: str
    expected: str
    got: str
    fix: str
    data: bytes | None = None


def csv(rows: int, day: str = "2031-01-01") -> bytes:
    """Good rows, and one more whose id is no number."""
    return (HEADER + "".join(f"{i},{day},word {i}\n" for i in range(rows)) + f"none,{day},word\n").encode()


def noise(size: int) -> bytes:
    """About so many bytes of good rows that no compression makes smaller than half."""
    chance = random.Random(size)
    rows = (f"{i},2031-01-01,{chance.randbytes(500).hex()}\n" for i in range(size // 1000))
    return (HEADER + "".join(rows)).encode()


def bomb(size: int) -> bytes:
    """A few bytes that expand to `size`."""
    return gzip.compress(HEADER.encode() + b"0" * size, 9)


BAD = {
    "404": Bad("status/404", "Server answers", "status 404 Not Found", "Check the address"),
    "500": Bad("status/500", "Server answers", "status 500 Internal Server Error", "submit the file again later"),
    "slow": Bad("drip", "at least 1,024 bytes/s", "bytes in ", "lower INGESTLAB_MIN_SPEED"),
    "silent": Bad("silent", "bytes from", "1 s of silence after 0 bytes", "raise INGESTLAB_READ_TIMEOUT"),
    "endless": Bad("endless", "at most 16,777,216 bytes", "stopped after", "raise INGESTLAB_MAX_FILE_BYTES"),
    "length too large": Bad(
        "short/small-short.csv", "1,073 bytes", "73 bytes and then the end", "the length is wrong", csv(2)
    ),
    "length too small": Bad("long/small-long.csv", "HTTP answer from", "Bad status line", "server's owner", csv(2)),
    "empty": Bad("files/small-empty.csv", "data in small-empty.csv", "an empty file (0 bytes)", "had finished", b""),
    "an image": Bad(
        "files/small-png.csv", "text in small-png.csv", "a PNG image", "the producer", b"\x89PNG\r\n\x1a\n" + bytes(64)
    ),
    "other binary": Bad(
        "files/small-nul.csv",
        "text in small-nul.csv",
        "a NUL byte at offset 15",
        "the producer",
        b"id,day,word\n1,2\0\n",
    ),
    "truncated gzip": Bad(
        "files/small-cut.csv.gz",
        "not a whole gzip file",
        "a truncated one",
        "Fetch it again",
        gzip.compress(csv(99))[:-9],
    ),
    "gzip bomb": Bad(
        "files/small-bomb.csv.gz", "expands to more than 16,777,216 bytes", "bomb", "raise max_expan", bomb(32 << 20)
    ),
    "mixed encodings": Bad(
        "files/small-mixed.csv",
        "small-mixed.csv is not text in utf-8",
        "byte 0xE9 at offset 41, in line 3",
        "if it mixes several",
        HEADER.encode() + "1,2031-01-01,é\n".encode() + "2,2031-01-01,é\n3,2031-01-01,é\n".encode("latin-1"),
    ),
    "missing column": Bad(
        "files/small-less.csv",
        "the columns 'id', 'day', 'word'",
        "no 'word' among 'id', 'day'",
        "Correct",
        b"id,day\n1,2\n",
    ),
    "extra column": Bad(
        "files/small-more.csv",
        "only the columns",
        "also 'size'",
        "extra_columns='drop'",
        b"id,day,word,size\n1,2,w,3\n",
    ),
}

# What to ask for beside good things, and the words of the refusal: expected, got, fix.
REFUSED = {
    "unknown pipeline": ({"pipeline": "smal"}, "a pipeline in", "'smal'", "INGESTLAB_PIPELINES"),
    "unknown tenant": ({"tenant": "nobody"}, "one of the tenants default", "'nobody'", "INGESTLAB_TENANTS"),
    "unknown scheme": (
        {"uri": "gopher://host/small-a.csv"},
        "schemes http",
        "'gopher' is not allowed in gopher:",
        "INGESTLAB_SCHEMES",
    ),
    "credentials": (
        {"uri": f"http://me:{SECRET}@127.0.0.1/small-a.csv"},
        "without a user and password",
        "http://…@127.0.0.1/small-a.csv",
        "Use a signed URL",
    ),
    ".. in a URI": (
        {"uri": "http://127.0.0.1/a/../small-a.csv"},
        "a URI without '..'",
        "/a/../small",
        "Write the path",
    ),
    ".. in a URI, hidden": (
        {"uri": "http://127.0.0.1/%2e%2e/a.csv"},
        "a URI without '..'",
        "/%2e%2e/",
        "Write the path",
    ),
    ".. in a path": ({"uri": "/srv/../small-a.csv"}, "a URI without '..'", "/srv/../small-a.csv", "Write the path"),
    ".. as tenant": ({"tenant": "../other"}, "a tenant name of letters", "'../other'", "folder's name"),
    ".. as table": ({"table": "../other"}, "a table name of letters", "'../other'", "folder's name"),
    ".. as pipeline": ({"pipeline": "../small"}, "a pipeline name of letters", "'../small'", "folder's name"),
    ".. as queue": ({"queue": "../ingest"}, "a queue name of letters", "'../ingest'", "folder's name"),
    "a line end": ({"tenant": "default\n"}, "a tenant name of letters", r"'default\n'", "folder's name"),
}
