"""Images: one record a file, what they are and where they lie; the bytes stay in the raw zone unless asked for.

Pillow reads them. It is an extra, ``ingestlab[images]``, and loaded when the first image is read.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.models import Piece
from ingestlab.formats.common.bytes import Limits, binary, capped, check_size, load
from ingestlab.formats.common.single import OneRecord, one_record
from ingestlab.interfaces import Records, Store

SCHEMA = pa.schema(
    [
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("captured", pa.timestamp("s")),
        ("name", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
    ]
)
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")  # no EPS: reading that starts a program
_ORIENTATION, _EXIF, _TAKEN = 0x0112, 0x8769, 0x9003
_TURNED = (5, 6, 7, 8)  # orientations that lie on their side
_TIME = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Opened:
    """Image as its file has it. The facts are `width`, `height`, `format`, `mode` and `captured`."""

    data: bytes
    facts: dict[str, Any]
    pages: int = 1  # of a TIFF, or frames of an animation

    @property
    def page_facts(self) -> dict[str, str]:
        """Say that only the first of several pages is read."""
        return {"pages": f"{self.pages:,}, the first is read"} if self.pages > 1 else {}


@dataclass(frozen=True, kw_only=True)
class Images(OneRecord):
    """Read each image as one record.

    Columns: ``width`` and ``height`` in pixels, as it is meant to be seen (EXIF orientation applied), ``format``,
    ``mode`` (Pillow's, e.g. ``RGB``), ``captured`` (the camera's clock, no zone; null where it does not say),
    ``name`` of the file, ``path`` in the lake, ``sha256`` and ``bytes``. Every image is decoded, so that damage shows.
    Of a TIFF of several pages, or an animation, the first is read, and the fact ``pages`` says how many there are.

    Attributes:
        formats: Pillow's names of the formats taken.
        max_pixels: Most pixels, checked before anything is decoded.
        max_bytes: Longest file.
        content: Whether the bytes of the file come along, in a column ``content``, e.g. for `clean` to look at the
            pixels. They are published with the row, unless `clean` drops the column.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp")
    formats: Sequence[str] = FORMATS
    max_pixels: int = 100_000_000
    max_bytes: int = 256 << 20
    content: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", tuple(name.upper() for name in self.formats))
        if not self.formats:
            raise TerminalError("No formats of images are given", fix=f"E.g. {FORMATS}.", code="reader_invalid")

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one image.

        Raises:
            TerminalError: It is empty, no image of these formats, truncated, damaged, or too large; or the
                extra ``images`` is not installed.
        """
        image = self.open(piece, store)
        facts = {**image.facts, "name": piece.name, "path": piece.path, "sha256": piece.sha256}
        row, schema = {**facts, "bytes": len(image.data), "content": image.data}, SCHEMA
        if self.content:
            schema = SCHEMA.append(pa.field("content", pa.binary()))
        text = f"{row['format']} {row['width']}x{row['height']}, {len(image.data):,} bytes"
        return one_record(row, schema, text, image.page_facts)

    def open(self, piece: Piece, store: Store) -> Opened:
        """Decode an image. Returns its bytes, and the columns that describe it.

        Args:
            piece: A whole file.
            store: The lake.

        Raises:
            TerminalError: What :meth:`read` raises.
        """
        check_size(store.size(piece.path), piece.name, self.max_bytes)
        data = load(piece, store, capped(Limits(), self.max_bytes))
        return Opened(data, *self._look(data, piece))

    def _look(self, data: bytes, piece: Piece) -> tuple[dict[str, Any], int]:
        pillow = needed("PIL.Image", "images", "Images")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on sizes, which are checked here, and on EXIF, which may be null
                with pillow.open(io.BytesIO(data), formats=self.formats) as image:
                    self._check_pixels(image.width, image.height, piece)
                    exif = image.getexif()
                    image.load()
                    facts = _facts(image, exif)
                    return facts, getattr(image, "n_frames", 1)
        except TerminalError:
            raise
        except pillow.UnidentifiedImageError:
            problem = f"Not an image ({', '.join(self.formats)}) in {piece.name}"
            got, fix = binary(data[:512]) or "none of these", "See what the producer sent."
            raise TerminalError(problem, got=got, fix=fix, code="image_invalid") from None
        except pillow.DecompressionBombError as error:
            problem = f"{piece.name} is too large: at most {self.max_pixels:,} pixels"
            raise TerminalError.wrap(error, problem, _MORE, code="limit_exceeded") from error
        except Exception as error:  # decoders meet damage in many ways
            problem, fix = f"{piece.name} is not a whole image ({', '.join(self.formats)})", "Fetch it again."
            raise TerminalError.wrap(error, problem, fix, code="image_invalid") from error

    def _check_pixels(self, width: int, height: int, piece: Piece) -> None:
        if width * height > self.max_pixels:
            problem, expected = f"{piece.name} is too large", f"at most {self.max_pixels:,} pixels"
            got = f"{width:,} x {height:,}"
            raise TerminalError(problem, expected=expected, got=got, fix=_MORE, code="limit_exceeded")


_MORE = "Raise the reader's max_pixels if the image is meant."


def _facts(image: Any, exif: Any) -> dict[str, Any]:
    width, height = image.size
    if exif.get(_ORIENTATION) in _TURNED:
        width, height = height, width
    return {
        "width": width,
        "height": height,
        "format": image.format,
        "mode": image.mode,
        "captured": _time(exif.get_ifd(_EXIF).get(_TAKEN)),
    }


def _time(value: Any) -> datetime | None:
    """Parse EXIF's way of writing a time. Cameras without a clock write zeros or blanks."""
    if not isinstance(value, str) or not (match := _TIME.match(value)):
        return None
    try:
        return datetime.strptime(match[0], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - the camera knows no zone
    except ValueError:
        return None
