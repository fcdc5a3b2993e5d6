"""Compressed streams: several of them in one file, what may follow them, and damage wherever it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestlab.formats.common.compression import BROKEN, SIGNATURES, Compression, compression, expanding

FIRST, SECOND = (b"".join(b"%d,%d\n" % (i, i * step) for i in range(300)) for step in (7, 11))
PACK: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
KINDS = sorted(PACK)


def expand(data: bytes, kind: Compression, step: int = 1 << 20) -> bytes:
    found = b""
    with expanding(io.BytesIO(data), kind) as stream:
        while chunk := stream.read(step):
            found += chunk
    return found


def test_every_signature_is_tried():
    assert SIGNATURES.keys() == PACK.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 3, b"\0" * 70_000], ids=len)
@pytest.mark.parametrize("step", [7, 1 << 20])
def test_streams_follow_each_other_and_zeros_follow_them(kind, padding, step):
    data = PACK[kind](FIRST) + padding + PACK[kind](SECOND) + padding
    assert expand(data, kind, step) == FIRST + SECOND
    assert compression(data) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_large_streams_that_do_not_compress(kind):
    data = bytes(range(256)) * 3000 + b"".join(i.to_bytes(8, "little") for i in range(0, 10**12, 9_999_991))
    assert expand(PACK[kind](data) * 2, kind) == data * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [b"x", b"garbage and more of it", b"\0\0\0x"], ids=len)
def test_garbage_after_the_end_is_damage(kind, garbage):
    with pytest.raises(BROKEN):
        expand(PACK[kind](FIRST) + garbage, kind)


@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_is_told_wherever_it_is(kind, share):
    first, data = PACK[kind](FIRST), PACK[kind](FIRST) + PACK[kind](SECOND)
    at = max(6, int(share * len(data)))  # a file cut within its signature is not told to be compressed at all
    if at == len(first):
        assert expand(data[:at], kind) == FIRST  # nobody can tell
        return
    with pytest.raises(BROKEN):
        expand(data[:at], kind)


@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_never_ends_a_file_early(kind, share, flip):
    data = bytearray(PACK[kind](FIRST) + PACK[kind](SECOND))
    data[int(share * len(data))] ^= flip
    try:
        found = expand(bytes(data), kind) if compression(bytes(data)) == kind else None
    except BROKEN:
        return
    if kind == "zstd":  # has no checksum unless its writer adds one, so that other letters may come out
        assert found is None or len(found) >= len(FIRST + SECOND)
    else:
        assert found in (None, FIRST + SECOND)


def test_frames_that_are_to_be_skipped():
    skipped = b"\x50\x2a\x4d\x18\x05\0\0\0notes"
    data = skipped + PACK["zstd"](FIRST) + skipped + PACK["zstd"](b"") + PACK["zstd"](SECOND)
    assert expand(data, "zstd") == FIRST + SECOND
    with pytest.raises(BROKEN):
        expand(data + skipped[:-1], "zstd")
