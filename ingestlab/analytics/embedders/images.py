"""Bytes of image files to pixels, by Pillow, and pieces of images back to bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed

MAX_PIXELS = 100_000_000  # of one image, before anything is decoded; readers.Images has the same
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")

_WHITES = (1, 255, 65_535)  # what may stand for white in images of numbers
_PHOTOMETRIC = 262  # TIFF's tag that says what zero is: 0 for white
_JPEG = b"\xff\xd8\xff"
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def opened(data: bytes, mode: Literal["RGB", "L"] = "RGB") -> Any:
    """Open an image in RGB or grey, upright, on white where transparent.

    However a file stores a picture (16 bits, floats, a palette, CMYK), it becomes the same one: the rules are in
    docs/reference/formats.md. Of several pages or frames it is the first.

    Args:
        data: The bytes of an image file.
        mode: ``"RGB"``, or ``"L"`` for grey.

    Returns:
        A Pillow image.

    Raises:
        TerminalError: It is damaged, no image, or too large; or the extra ``images`` is not installed.
    """
    pillow = needed("PIL.Image", "images", "images")
    turned = needed("PIL.ImageOps", "images", "images").exif_transpose
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on sizes, which are checked here, and on EXIF
            with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image)
                return _opaque(_in_bytes(turned(image), pillow, darkest=_darkest(image)), pillow).convert(mode)
    except TerminalError:
        raise
    except Exception as error:  # decoders meet damage in many ways
        fix = "Check it with the reader Images, which rejects damaged files."
        raise TerminalError.wrap(
            error, f"Not a whole image ({', '.join(FORMATS)})", fix, code="image_invalid"
        ) from error


def _check_size(image: Any) -> None:
    if image.width * image.height > MAX_PIXELS:
        got = f"{image.width:,} x {image.height:,}"
        raise TerminalError(
            "The image is too large",
            expected=f"an image of at most {MAX_PIXELS:,} pixels",
            got=got,
            fix="Make it smaller first.",
            code="limit_exceeded",
        )


def _darkest(image: Any) -> bool:
    """Tell whether large numbers are black. Pillow turns only those of 8 bits."""
    return bool(image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0)


def _in_bytes(image: Any, pillow: Any, *, darkest: bool) -> Any:
    """Convert an image to 8 bits a channel. Pillow itself would cut brighter values off."""
    if image.mode == "LAB":
        profiles = needed("PIL.ImageCms", "images", "images")
        return profiles.profileToProfile(
            image, profiles.createProfile("LAB"), profiles.createProfile("sRGB"), outputMode="RGB"
        )
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    low, high = min(0.0, values.min()), values.max()
    if image.mode.startswith("I;16"):
        white = float(_WHITES[-1])
    else:  # nobody says what is white
        white = next((w for w in _WHITES if low == 0 and high <= w and (w > 1 or image.mode == "F")), high)
    grey = np.rint((values - low) * (255 / ((white - low) or 1)))
    grey = 255 - grey if darkest else grey
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = 255
    return pillow.fromarray(grey.astype(np.uint8))


def _opaque(image: Any, pillow: Any) -> Any:
    if not image.has_transparency_data:
        return image
    white = pillow.new("RGBA", image.size, "white")
    return pillow.alpha_composite(white, image.convert("RGBA"))


def pixels(images: Sequence[bytes], size: int, mode: Literal["RGB", "L"] = "RGB") -> np.ndarray[Any, Any]:
    """Stretch images to squares: float32 from 0 to 1, of shape (n, size, size, 3). Grey ones have no last axis."""
    smooth = needed("PIL.Image", "images", "images").Resampling.BICUBIC
    squares = [np.asarray(opened(data, mode).resize((size, size), smooth), dtype=np.float32) for data in images]
    return np.stack(squares) / np.float32(255)


def crop(data: bytes, box: Box) -> bytes:
    """Cut a piece of an image, at least a pixel in size. See :func:`crops`."""
    return crops(data, [box])[0]


def crops(data: bytes, boxes: Sequence[Box], longest: int | None = None) -> list[bytes]:
    """Cut pieces of an image, which is decoded once. JPEG stays JPEG; others become PNG, which loses nothing.

    Args:
        data: The bytes of its file.
        boxes: Where the pieces are; what lies outside of the image is left out.
        longest: Pixels of a piece's longer side; larger pieces are made smaller, None leaves them.

    Raises:
        TerminalError: The image cannot be decoded.
    """
    image = opened(data)
    form = {"format": "JPEG", "quality": 90} if data.startswith(_JPEG) else {"format": "PNG", "compress_level": 1}
    pieces = []
    for box in boxes:
        piece, buffer = image.crop(_within(box, image.size)), io.BytesIO()
        if longest is not None:
            piece.thumbnail((longest, longest))
        piece.save(buffer, **form)
        pieces.append(buffer.getvalue())
    return pieces


def _within(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Clip a box to the image's size, keeping at least one pixel."""
    left, top = (min(max(int(at), 0), most - 1) for at, most in zip(box[:2], size, strict=True))
    right, bottom = (
        min(max(round(at), low + 1), most) for at, low, most in zip(box[2:], (left, top), size, strict=True)
    )
    return left, top, right, bottom
