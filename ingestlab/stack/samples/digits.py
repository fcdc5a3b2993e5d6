"""The 1,797 handwritten digits that scikit-learn brings, as PNG files: real data, scanned at 8 x 8 pixels."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from ingestlab.stack.samples.packages import folder_of

SIDE = 8  # pixels
INK = 16  # the value of a pixel that is all ink; 0 is paper


@dataclass(frozen=True, slots=True)
class DigitSet:
    """Files that were written for the pipeline ``digits``.

    Attributes:
        folder: Where the files lie.
        files: One file a digit, in order; its name ends in what the digit is: ``digit-0042-7.png`` is a seven.
    """

    folder: Path
    files: tuple[Path, ...]


def digit_files(folder: Path | str, files: int | None = None) -> DigitSet:
    """Write each digit as a grey PNG of 8 x 8 pixels.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
        files: How many, from the first on; all if not given.

    Raises:
        TerminalError: The package scikit-learn is not installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with gzip.open(_source(), "rt") as lines:
        for number, line in enumerate(lines):
            if number == files:
                break
            *ink, label = (int(float(value)) for value in line.split(","))
            written.append(folder / f"digit-{number:04}-{label}.png")
            written[-1].write_bytes(_png(bytes(255 - value * 255 // INK for value in ink)))
    return DigitSet(folder, tuple(written))


def _png(grey: bytes) -> bytes:
    """Write a square of grey pixels as a PNG file. No library is needed for so little."""
    rows = b"".join(b"\0" + grey[at : at + SIDE] for at in range(0, len(grey), SIDE))  # each begins with its filter
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)  # 8 bits, grey
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _source() -> Path:
    return folder_of("sklearn", "scikit-learn", "images", "digits") / "datasets" / "data" / "digits.csv.gz"
