"""Plans: names that depend on contents and code alone, and packs that lose nothing."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestlab.core.models import FetchedFile, IngestRequest, Partition, Piece, Source, SourceRecord, Tally
from ingestlab.engine.plan import SHARED, Plan, Target, even, make_plan, pack
from ingestlab.engine.tasks import MOST_TOGETHER, TINY, together
from ingestlab.interfaces import Store
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import PipelineSource, load

TEXT = 'from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv(columns={"n": "int64"}))\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def target(text: str = TEXT, **changes: Any) -> Target:
    source = PipelineSource(name="p", origin="p.py", text=text)
    facts = {"run": "r1", "tenant": "default", "table": "t", "replace": False, **changes}
    return Target(source=source, pipeline=load(source), **facts)


def file(store: Store, name: str, rows: int = 1, first: int = 0) -> FetchedFile:
    """A fetched file of some numbers; its hash stands for its contents."""
    data = b"n\n" + b"".join(b"%d\n" % n for n in range(first, first + rows))
    store.write(f"raw/{name}", data)
    return FetchedFile(uri=f"file:///{name}", path=f"raw/{name}", name=name, size=len(data), sha256=f"{first}+{rows}")


def record(file: FetchedFile, batch: str) -> SourceRecord:
    return SourceRecord(
        uri=file.uri, sha256=file.sha256, size=file.size, raw=file.path, tally=Tally(), run="r0", batch=batch
    )


def plan(
    store: Store, *files: FetchedFile, known: tuple[SourceRecord, ...] = (), size: int = 1 << 20, **changes: Any
) -> Plan:
    return make_plan(target(**changes), files, {r.uri: r for r in known}, store, size)


def test_the_same_contents_and_code_have_the_same_names_whoever_asks(store: Store) -> None:
    a, b = file(store, "a.csv"), file(store, "b.csv", 2)
    one = plan(store, a, b)
    assert plan(store, a, b, run="r2").batch == one.batch
    assert plan(store, b, a).batch == one.batch
    moved = dataclasses.replace(target(), source=PipelineSource(name="p", origin="/elsewhere/p.py", text=TEXT))
    assert make_plan(moved, [a, b], {}, store, 1 << 20).batch == one.batch
    assert plan(store, a, b, run="r2").partitions == one.partitions


def test_other_contents_code_table_or_tenant_have_other_names(store: Store) -> None:
    a, b = file(store, "a.csv"), file(store, "b.csv", 2)
    plans = [
        plan(store, a),
        plan(store, b),
        plan(store, a, b),
        plan(store, a, text=TEXT + "# edited\n"),
        plan(store, a, table="u"),
        plan(store, a, tenant="x"),
        plan(store, file(store, "a.csv", 3)),
    ]
    assert len({p.batch for p in plans}) == len(plans)


def test_contents_that_come_back_are_a_new_batch(store: Store) -> None:
    """Else the parts of the third commit would have the names of the first one's."""
    first = file(store, "a.csv", 1)
    one = plan(store, first)
    second = file(store, "a.csv", 2)
    two = plan(store, second, known=(record(first, one.batch),))
    three = plan(store, first, known=(record(second, two.batch),))
    assert len({one.batch, two.batch, three.batch}) == 3
    assert plan(store, first, known=(record(second, two.batch),)).batch == three.batch


def test_what_is_known_of_other_files_does_not_matter(store: Store) -> None:
    a, b = file(store, "a.csv"), file(store, "b.csv")
    assert plan(store, a, known=(record(b, "b0"),)).batch == plan(store, a).batch


def test_a_source_that_is_named_twice_is_one() -> None:
    """Anyone may put a request on the queue; its rows would be published twice."""
    first, again, other = Source(uri="a", size=1), Source(uri="a"), Source(uri="b")
    request = IngestRequest(run="r", table="t", sources=(first, other, again))
    assert request.sources == (first, other)
    assert IngestRequest.decode({"run": "r", "table": "t", "sources": [{"uri": "a"}] * 3}).sources == (again,)


def test_a_big_file_is_cut_and_small_ones_share_a_task(store: Store) -> None:
    big, small = file(store, "big.csv", 3000), [file(store, f"{i}.csv") for i in range(10)]
    made = plan(store, *small[:5], big, *small[5:], size=4096)
    assert [p.number for p in made.partitions] == list(range(len(made.partitions)))
    cut = [p.pieces for p in made.partitions if p.pieces[0].uri == big.uri]
    assert len(cut) > 2
    assert all(len(pieces) == 1 for pieces in cut)
    assert cut[0][0].first_row == 0
    assert [p.stop for (p,) in cut[:-1]] == [p.start for (p,) in cut[1:]]
    rest = [piece.uri for p in made.partitions for piece in p.pieces if piece.uri != big.uri]
    assert rest == [f.uri for f in small]
    assert len(made.partitions) == len(cut) + 1


def piece(number: int, start: int = 0) -> Piece:
    return Piece(uri=str(number), path=str(number), name=str(number), sha256="0", start=start)


@given(
    files=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 3)), max_size=30),
    limit=st.integers(1, 120),
)
def test_packs_keep_all_pieces_their_order_and_the_limit(files: list[tuple[int, int]], limit: int) -> None:
    groups = [tuple(piece(i, start) for start in range(count)) for i, (_, count) in enumerate(files)]
    sizes = {str(i): size for i, (size, _) in enumerate(files)}
    packs = pack(groups, sizes, limit)
    for whole in (True, False):
        wanted = [p for group in groups for p in group if (len(group) == 1) == whole]
        assert [p for one in packs for p in one if (p.uri in {w.uri for w in wanted})] == wanted
    cut = {group[0].uri for group in groups if len(group) > 1}
    for one in packs:
        assert one
        assert len(one) == 1 or not cut & {p.uri for p in one}, "a piece of a cut file stays alone"
        assert len(one) == 1 or sum(sizes[p.uri] for p in one) <= limit
    small = [one for one in packs if one[0].uri not in cut]
    for left, right in pairwise(small):
        assert sum(sizes[p.uri] for p in left) + sizes[right[0].uri] > limit, "no pack ends before it must"


@given(st.integers(0, 10**10), st.integers(1, 10**9))
def test_pieces_are_alike_and_no_larger_than_they_may_be(size: int, most: int) -> None:
    piece = even(size, most)
    assert 1 <= piece <= most
    count = math.ceil(size / piece)
    if size > most:
        assert count * piece - size < count  # the last is as large as the others, but for what cannot be shared


@given(st.integers(10**6, 10**9), st.integers(3, 50))
def test_many_pieces_are_so_many_that_nobody_is_idle(size: int, count: int) -> None:
    assert math.ceil(size / even(size, math.ceil(size / count))) % SHARED == 0


@given(st.lists(st.integers(0, TINY), max_size=600))
def test_tiny_partitions_share_tasks_in_their_order_where_workers_have_enough(sizes: list[int]) -> None:
    known = {str(i): size for i, size in enumerate(sizes)}
    pieces = [Piece(uri=uri, path="p", name="n", sha256="") for uri in known]
    parts = [Partition(number=i, pieces=(piece,)) for i, piece in enumerate(pieces)]
    groups = together(parts, known)
    assert [part for group in groups for part in group] == parts
    assert all(len(group) <= MOST_TOGETHER for group in groups)
    assert len(groups) >= min(len(parts), SHARED * SHARED)
    assert all(len(group) == 1 or sum(sizes[part.number] for part in group) <= TINY for group in groups)
