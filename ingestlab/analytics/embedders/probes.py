"""One text and one image that never change: what a model makes of them tells whether it is still the same."""

from __future__ import annotations

import struct
import zlib
from types import MappingProxyType

import numpy as np

TEXT = "The canary sings in the mine: 42 stations, one alarm, and no silence."
SIZE = 64  # pixels, of the image's sides


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _image() -> bytes:
    """Draw a disc on a slope of colours. Written out so that no library's release can change a bit of it."""
    y, x = np.mgrid[:SIZE, :SIZE]
    pixels = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    pixels[(x - 40) ** 2 + (y - 24) ** 2 < 200] = (250, 240, 30)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each begins with its filter: none
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")
    )


PROBES = MappingProxyType({"text": TEXT, "image": _image()})
