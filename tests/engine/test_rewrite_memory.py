"""Parts are rewritten and merged piece by piece: the same rows, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile
from ingestlab.engine.task.merge import Merge, merge
from ingestlab.engine.task.rewrite import rewrite
from ingestlab.interfaces import Store
from ingestlab.lake import data_files
from ingestlab.lake.storage.store import open_store

ROWS, GROUP = 600_000, 1 << 15
SIZE = ROWS * 8 * 4  # bytes of the numbers below


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """A lake in which row groups of parts that are written are small, and parts are never read as a whole."""
    monkeypatch.setattr(data_files, "BATCH", 1 << 14)
    monkeypatch.setattr(data_files, "GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(data_files, "_SMALL", 1 << 10)
    return open_store(str(tmp_path / "lake"))


def put(store: Store, target: str, rows: int = ROWS, uris: tuple[str, ...] = ("a", "b", "c")) -> DataFile:
    """A published part with rows of these sources in turn."""
    numbers = np.arange(rows)
    sources = pa.array(np.array(uris)[numbers % len(uris)]).dictionary_encode()
    columns = {f"n{i}": np.random.default_rng(i).integers(0, 1 << 60, rows) for i in range(3)}
    table = pa.table({"_source": sources, "_row": numbers, **columns})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=GROUP)
    store.write(target, buffer.getvalue())
    return DataFile(target=target, staged="", rows=rows, size=buffer.tell(), sources=uris)


def load(store: Store, path: str) -> pa.Table:
    """All rows of a file of the lake."""
    return pq.read_table(io.BytesIO(store.read(path)), partitioning=None)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fails where Arrow takes more memory than this."""
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        yield
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < size, f"{pool.max_memory():,} bytes"


def test_rows_are_taken_out_of_a_large_part_in_bounded_memory(store):
    part = put(store, "tables/t/day=1/p.parquet")
    before = load(store, part.target)
    with at_most(SIZE // 3):
        done = rewrite(part.to_dict(), ["b"], "batch", store.url, {})
    assert done is not None
    new = DataFile.from_dict(done)
    assert new.target.startswith("tables/t/day=1/batch-r")
    assert (new.sources, new.rows, new.size) == (("a", "c"), ROWS * 2 // 3, store.size(new.staged))
    wanted = before.filter(pa.array(np.arange(ROWS) % 3 != 1))
    after = load(store, new.staged)
    assert after.schema.equals(before.schema)
    assert after.equals(wanted.unify_dictionaries()) or after.to_pydict() == wanted.to_pydict()
    assert load(store, part.target).equals(before), "the old part stays until the commit"
    assert list(store.scratch().iterdir()) == []


def test_nothing_is_staged_where_nothing_is_left(store):
    part = put(store, "tables/t/p.parquet", 100)
    assert rewrite(part.to_dict(), ["a", "b", "c", "d"], "batch", store.url, {}) is None
    false = part.model_copy(update={"sources": ("a", "b", "c", "x")})  # a manifest that names a source too many
    assert rewrite(false.to_dict(), ["a", "b", "c"], "batch", store.url, {}) is None
    assert list(store.walk("")) == [part.target]


def test_a_merge_of_large_parts_takes_bounded_memory(store):
    both = (put(store, "tables/t/p.parquet"), put(store, "tables/t/q.parquet", uris=("d",)))
    with at_most(SIZE // 3):
        (merged,) = merge(Merge(batch="batch", number=0, parts=both).to_dict(), store.url, {})
    new = DataFile.from_dict(merged["part"])
    assert (new.rows, new.sources) == (2 * ROWS, ("a", "b", "c", "d"))


def test_a_part_that_is_gone_is_said_by_name(store):
    part = put(store, "tables/t/p.parquet", 100)
    store.delete(part.target)
    with pytest.raises(TerminalError, match=r"p\.parquet"):
        rewrite(part.to_dict(), ["a"], "batch", store.url, {})


def test_a_disk_that_fails_leaves_no_scratch_file(store, monkeypatch):
    part = put(store, "tables/t/p.parquet", 100)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TerminalError, match="full disk"):
        rewrite(part.to_dict(), ["a"], "batch", store.url, {})
    assert list(store.scratch().iterdir()) == []
