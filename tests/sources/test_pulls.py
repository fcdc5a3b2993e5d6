"""Pages on their way into the raw zone: what a next try goes on with."""

from __future__ import annotations

from contextlib import suppress

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.interfaces import Page
from ingestlab.lake.storage.store import LocalStore, ObjectStore
from ingestlab.sources.pulls.expiry import expire_pulls
from ingestlab.sources.pulls.spool import Spool

PLACE = "raw/default/shop/_pulls/source/pull"


@pytest.fixture(params=["disk", "objects"])
def store(request, tmp_path):
    if request.param == "disk":
        yield LocalStore(str(tmp_path / "lake"))
    else:
        yield ObjectStore(f"memory://{tmp_path.name}", {})
        fsspec.filesystem("memory").store.clear()


def page(number: int, *, resume: bool = True, last: int = 10) -> Page:
    more = {"page": number + 1} if resume and number < last else None
    return Page(b'{"n": %d}\n' % number * 3, 3, f"GET {number}", more, {"last": number})


def read(spool: Spool, folder: str = "raw/default/shop") -> bytes:
    return b"".join(spool.file_of(segment).read_bytes() for segment in spool.segments(folder))


def text(numbers) -> bytes:
    return b"".join(b'{"n": %d}\n' % n * 3 for n in numbers)


def test_a_next_try_has_the_pages_of_the_one_before(store):
    with suppress(RuntimeError), Spool(store, PLACE) as spool:
        for number in range(1, 4):
            spool.add(page(number))
        raise RuntimeError
    with Spool(store, PLACE) as spool:
        assert (spool.pages, spool.rows, spool.resume, spool.cursor) == (3, 9, {"page": 4}, {"last": 3})
        assert read(spool) == text(range(1, 4))
        assert len(spool.notes().splitlines()) == 3


def test_what_comes_at_the_end_is_all(store):
    with Spool(store, PLACE) as spool:
        spool.add(page(1, resume=False))
        spool.end()
    with Spool(store, PLACE) as spool:
        assert (spool.complete, spool.pages) == (True, 1)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    firm=st.lists(st.booleans(), min_size=12, max_size=12),
    ends=st.lists(st.integers(1, 12), max_size=4),
    sends=st.sets(st.integers(1, 12)),
)
def test_whatever_tries_end_where_each_record_comes_once(store, firm, ends, sends):
    """A source that can be resumed after some pages alone is asked from there."""
    place = f"{PLACE}-{hash((tuple(firm), tuple(ends), tuple(sends)))}"

    def run(until: int) -> bytes:
        with Spool(store, place) as spool:
            if not spool.complete:
                number = spool.resume["page"] if spool.resume else 1
                assert number == spool.pages + 1
                while number <= 12:
                    if number == until:
                        raise RuntimeError
                    spool.add(page(number, resume=firm[number - 1], last=12))
                    if number in sends:
                        spool.send()
                    number += 1
                spool.end()
            return read(spool)

    for until in ends:
        try:
            run(until)
        except RuntimeError:
            continue
    assert run(99) == text(range(1, 13))
    assert run(1) == text(range(1, 13))


def test_pages_that_nobody_comes_for_are_removed_in_time(store):
    with suppress(RuntimeError), Spool(store, PLACE) as spool:
        spool.add(page(1))
        raise RuntimeError
    assert expire_pulls(store) == []
    assert expire_pulls(store, days=-1) == [PLACE]
    assert list(store.walk("raw")) == []
