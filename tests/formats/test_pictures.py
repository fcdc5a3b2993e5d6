"""One picture, however its file stores it: to models it must be the same."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ingestlab import Images
from ingestlab.analytics.embedders.images import opened
from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.core.models import Piece
from ingestlab.lake.storage.store import LocalStore

RAMP = np.add.outer(np.arange(0, 96, 2), np.arange(0, 144, 3)).astype(np.uint8)  # 48 x 48, up to 235
RAMP[10:30, 8:20] = 255
RAMP[20:24, :] = 0
GREY = Image.fromarray(RAMP)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image) -> Image.Exif:
    exif = image.getexif()
    exif[0x0112] = 6  # to be seen, it has to be turned by 90 degrees clockwise
    return exif


def palette(image: Image.Image) -> Image.Image:
    """Colours in an order of their own, so that numbers in the file say nothing of brightness."""
    order = np.random.default_rng(0).permutation(256).astype(np.uint8)
    found = Image.fromarray(np.argsort(order).astype(np.uint8)[np.asarray(image)], "P")
    found.putpalette(np.repeat(order, 3).tobytes())
    return found


def white_is_zero() -> bytes:
    """16 bits as scanners write them, which Pillow does not turn; nor does it write them."""
    data = saved(Image.fromarray((255 - RAMP).astype(np.uint16) * 257), "TIFF")
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero, 0) for zero in (1, 0))
    assert black in data
    return data.replace(black, white)


SAME: dict[str, Callable[[], bytes]] = {
    "16 bits": lambda: saved(Image.fromarray(RAMP.astype(np.uint16) * 257)),
    "16 bits, big-endian": lambda: saved(Image.fromarray((RAMP.astype(np.uint16) * 257).astype(">u2")), "TIFF"),
    "16 bits, white is zero": white_is_zero,
    "32 bits": lambda: saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    "32 bits of 16": lambda: saved(Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF"),
    "floats to 1": lambda: saved(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"),
    "floats to 255": lambda: saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
    "palette": lambda: saved(palette(GREY)),
    "grey and alpha": lambda: saved(Image.merge("LA", (GREY, GREY.point(lambda _: 255)))),
    "RGB": lambda: saved(GREY.convert("RGB"), "BMP"),
    "RGBA": lambda: saved(GREY.convert("RGB").convert("RGBA"), "WEBP", lossless=True),
    "CMYK": lambda: saved(GREY.convert("RGB").convert("CMYK"), "TIFF"),
    "turned by EXIF": lambda: saved(GREY.rotate(90), exif=turned(GREY)),
    "turned, 16 bits": lambda: saved(Image.fromarray(np.rot90(RAMP).astype(np.uint16) * 257), exif=turned(GREY)),
    "pages": lambda: saved(GREY, "TIFF", save_all=True, append_images=[GREY.rotate(180)] * 2),
    "frames": lambda: saved(GREY, "GIF", save_all=True, append_images=[GREY.rotate(180)]),
}


@pytest.mark.parametrize("name", SAME)
def test_a_picture_is_the_same_however_it_is_stored(name):
    data = SAME[name]()
    for mode in ("L", "RGB"):
        got = np.asarray(opened(data, mode)).astype(int)
        wanted = np.asarray(GREY.convert(mode)).astype(int)
        assert np.abs(got - wanted).max() <= 1, mode
    model = load("hog", "image")
    one, two = embed_all(model, [data, saved(GREY)])
    assert float(one @ two / np.linalg.norm(one) / np.linalg.norm(two)) > 0.999


def test_colours_stay_what_they_are():
    image = Image.fromarray(COLOURS)
    for data in (saved(image, "TIFF"), saved(image.convert("CMYK"), "TIFF"), saved(image, "WEBP", lossless=True)):
        assert np.abs(np.asarray(opened(data)).astype(int) - COLOURS).max() <= 1


def test_bilevel_images_are_black_and_white():
    got = np.asarray(opened(saved(GREY.convert("1")), "L"))
    assert set(np.unique(got).tolist()) == {0, 255}


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "I;16"])
def test_what_is_transparent_is_white(mode):
    """The clear pixels are black beneath, as most programs write them."""
    clear = RAMP == 0
    alpha = Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))
    if mode == "I;16":
        data = saved(Image.fromarray(RAMP.astype(np.uint16) * 257), transparency=0)
    elif mode == "P":
        data = saved(palette(GREY), transparency=int(np.asarray(palette(GREY))[clear][0]))
    else:
        data = saved(Image.merge(mode, (*([GREY] * (len(mode) - 1)), alpha)))
    got = np.asarray(opened(data, "L"))
    assert (got[clear] == 255).all()
    assert np.abs(got[~clear].astype(int) - RAMP[~clear]).max() <= 1


def test_numbers_of_no_known_white_are_stretched():
    values = np.array([[-3.0, 1e6, np.nan]], np.float32)
    got = np.asarray(opened(saved(Image.fromarray(values), "TIFF"), "L"))
    assert got.tolist() == [[0, 255, 0]]


@pytest.mark.parametrize(("name", "pages"), [("pages", "3"), ("frames", "2"), ("RGB", None)])
def test_pages_are_told(tmp_path: Path, name, pages):
    (tmp_path / "f").write_bytes(SAME[name]())
    found = Images().read(Piece(uri="u", path="f", name="f", sha256="ab"), LocalStore(str(tmp_path)))
    assert len(found.table) == 1
    assert found.facts.get("pages") == (None if pages is None else f"{pages}, the first is read")
