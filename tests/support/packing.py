"""Archives for tests, packed as a producer would, or as nobody should."""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence

MEMBERS = {"a.csv": b"n\n1\n2\n", "sub/b.csv": b"n\nx\n3\n", "readme.txt": b"hello"}
Names = Mapping[str, bytes] | Sequence[tuple[str, bytes]]


def zipped(members: Names, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            with warnings.catch_warnings(action="ignore"):  # of names that come twice
                archive.writestr(zipfile.ZipInfo(name), data, method)
    return sink.getvalue()


def tarred(members: Names, **links: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(f"{name}.csv")
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return sink.getvalue()


PACKERS: dict[str, Callable[[Names], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tgz": lambda members: gzip.compress(tarred(members), mtime=0),
}


def damaged(data: bytes, content: bytes) -> bytes:
    """An archive in which the bytes of one member, stored as they are, have changed."""
    at = data.index(content) + len(content) // 2
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def encrypted() -> bytes:
    data = bytearray(zipped({"a.csv": b"n\n1\n"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    return bytes(data)
