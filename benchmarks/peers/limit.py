"""The limit: pyarrow parses the same bytes and writes them as Parquet, in two processes that share them evenly.

Nothing is cleaned, checked or grouped. The file is cut beforehand; each process has every other block of 32 MB.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from itertools import pairwise
from multiprocessing.connection import Connection

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from common import COLUMNS, LEVEL, Done, serve
from pandas_pyarrow import OPTIONS

BLOCK = 32 << 20
READ = pyarrow.csv.ReadOptions(column_names=list(COLUMNS), use_threads=False)


@cache
def helper() -> Connection:
    """The second process."""
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=_help, args=(theirs,), daemon=True).start()
    return ours


def work(csv: str, out: str) -> Done:
    spans = list(pairwise(_cuts(csv)))
    helper().send((csv, out, spans[1::2]))
    _do(csv, out, spans[::2])
    helper().recv()
    return Done(out)


def _help(asked: Connection) -> None:
    while True:
        asked.send(_do(*asked.recv()))


def _do(csv: str, out: str, spans: list[tuple[int, int]]) -> None:
    with open(csv, "rb", buffering=0) as file:  # noqa: PTH123
        for start, stop in spans:
            data = pa.BufferReader(os.pread(file.fileno(), stop - start, start))
            table = pyarrow.csv.read_csv(data, read_options=READ, convert_options=OPTIONS)
            pq.write_table(table, f"{out}/{start}.parquet", compression="zstd", compression_level=LEVEL)


def _cuts(csv: str) -> list[int]:
    """Where blocks of equal sizes begin, after whole lines; the last is the file's end."""
    size = os.path.getsize(csv)  # noqa: PTH202
    step = -(-size // max(2, round(size / BLOCK / 2) * 2))  # an even number of blocks
    with open(csv, "rb") as file:  # noqa: PTH123
        file.readline()
        cuts = [file.tell()]
        for at in range(step, size, step):
            file.seek(at)
            file.readline()
            cuts.append(file.tell())
    return [*cuts, size]


if __name__ == "__main__":
    serve(work)
