"""How a process that runs tasks keeps its memory."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_DASK = "65536"  # what Dask sets where nobody else has
_TRIM, _MMAP = -1, -3  # glibc's numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
KEPT = 256 << 20  # bytes that may stay free
_LARGE = 32 << 20  # bytes of a block that is got and given back by itself; the most that glibc takes


@cache
def keep_freed() -> None:
    """Let glibc keep what tasks free, for the next task.

    Dask has its workers give back all but 64 kB at once. A task that reads 32 MB then touches 90,000 fresh
    pages, which takes it a third of its time again.
    """
    if sys.platform == "linux" and os.environ.get("MALLOC_TRIM_THRESHOLD_") == _DASK:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none
            libc.mallopt(_TRIM, KEPT)
            libc.mallopt(_MMAP, _LARGE)
