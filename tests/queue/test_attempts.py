"""What a job has done over all attempts: the fold, against a simple model of what happens to its files."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from support.selection import examples

from ingestlab.core.archive_uri import member_uri
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestResult, Outcome, Published, Tally
from ingestlab.queue.attempts import Opened, add_progress, brought_in, close, completed, merge, progress_of, state_of
from ingestlab.queue.results import add_up

FILES = [f"file:///in/{n}.csv" for n in range(5)]
BAD = TerminalError("File is bad", code="columns_missing").to_dict()
AWAY = TransientError("Server is away", code="http_unavailable").to_dict()
NOTHING = IngestResult(run="r", job="j", outcomes=())
OPENED = Opened(began=1.0, worker="here:1")


class World:
    """A table, and a job that is tried at it. Files are edited between the attempts, and break or get well by it.

    It knows what is published by looking at the table, as nothing that is tested here does.
    """

    def __init__(self) -> None:
        self.content = dict.fromkeys(FILES, (10, 1))  # rows, and bad ones among them; None of a file that is broken
        self.table: dict[str, tuple[tuple[int, int], str]] = {}  # content, and the commit that has brought it
        self.commits = 0
        self.result = NOTHING
        self.attempts = 0

    def edit(self, file: str, content: tuple[int, int] | None) -> None:
        self.content[file] = content

    def attempt(self, until: int, *, kills: bool, tables: int) -> None:
        """Ingest as a job does: table by table, each in one commit; from some file on, the server is away.

        Args:
            until: The first files can be read.
            kills: Whether the worker dies rather than that it tells why it ends.
            tables: In so many commits.
        """
        self.attempts += 1
        outcomes: dict[str, Outcome] = {}
        batches: dict[str, Published] = {}
        whole = until >= len(FILES)
        for group in [FILES[n::tables] for n in range(tables)]:
            if any(FILES.index(file) >= until for file in group):
                break  # nothing of this table is committed
            self._table(group, outcomes, batches)
        own = IngestResult(
            run="r",
            job="j",
            outcomes=tuple(outcomes.values()),
            rules={"n:bad": sum(b.rules["n:bad"] for b in batches.values())},
            batches=batches,
        )
        if whole:
            self.result = close(OPENED, self.result, own, "finished", ended=2.0)
        elif kills:
            self.result = close(OPENED, self.result, own, "lost", AWAY)  # what it has noted after each table
        else:
            self.result = close(OPENED, self.result, completed(own, FILES, AWAY), "failed", AWAY, 2.0)

    def _table(self, group: list[str], outcomes: dict[str, Outcome], batches: dict[str, Published]) -> None:
        new = [f for f in group if self.content[f] and self.table.get(f, (None,))[0] != self.content[f]]
        if new:
            self.commits += 1
        for file in group:
            content = self.content[file]
            if content is None:
                outcomes[file] = Outcome(uri=file, status="failed", error=BAD)
                continue
            if file in new:
                self.table[file] = content, f"batch{self.commits}"
            rows, bad = content
            tally = Tally(rows_in=rows, accepted=rows - bad, rejected=bad, out=rows - bad)
            batch = self.table[file][1]
            outcomes[file] = Outcome(uri=file, status="committed", tally=tally, batch=batch)
            mine = batches.get(batch, Published(rules={"n:bad": 0}))
            batches[batch] = Published(rules={"n:bad": mine.rules["n:bad"] + bad})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("attempt"), st.integers(0, 5), st.booleans(), st.integers(1, 5)),
        st.tuples(
            st.just("edit"),
            st.sampled_from(FILES),
            st.one_of(st.none(), st.tuples(st.integers(3, 9), st.integers(0, 3))),
        ),
    ),
    max_size=12,
)


@tries(max_examples=examples(500), deadline=None)
@given(steps=steps)
def test_whatever_fails_and_is_edited_a_run_tells_what_the_table_has(steps: list[Any]) -> None:
    world = World()
    ever: set[str] = set()
    for kind, *how in steps:
        if kind == "edit":
            world.edit(*how)
            continue
        before = world.result
        world.attempt(how[0], kills=how[1], tables=how[2])
        told = {o.uri: o for o in world.result.outcomes}
        assert ever <= {uri for uri, o in told.items() if o.status == "committed"}, "what is committed stays so"
        ever |= {uri for uri, o in told.items() if o.status == "committed"}
        assert ever <= set(world.table)
        assert len(told) == len(world.result.outcomes), "each file once"
        assert len(world.result.attempts) == world.attempts
        assert len(before.attempts) < world.attempts
    if not world.attempts:
        return
    world.attempt(len(FILES), kills=False, tables=1)  # whoever looks to the end sees the table
    told = {o.uri: o for o in world.result.outcomes}
    assert set(told) == set(FILES)
    assert {uri for uri, o in told.items() if o.status == "committed"} == set(world.table)
    for uri, (rows, bad) in {uri: content for uri, (content, _) in world.table.items()}.items():
        if world.content[uri] is not None:
            assert (told[uri].tally.rows_in, told[uri].tally.rejected) == (rows, bad)
    run, shown = add_up("r", [world.result]), progress_of(world.result)
    assert (run.state, len(run.failed), run.tally.rows_in) == (shown.state, shown.failed, shown.rows)
    assert (run.tally.rejected, len(run.outcomes)) == (shown.rejected, shown.files)
    assert sum(a.counts.get("committed", 0) for a in run.attempts) >= len(world.table)


@tries(max_examples=examples(300), deadline=None)
@given(steps=steps, cut=st.integers(0, 12))
def test_attempts_may_be_added_in_any_grouping(steps: list[Any], cut: int) -> None:
    told = []
    world = World()
    for kind, *how in steps:
        if kind == "edit":
            world.edit(*how)
        else:
            before = world.result
            world.result = NOTHING  # each attempt by itself
            world.attempt(how[0], kills=how[1], tables=how[2])
            told.append(world.result)
            world.result = before
    one, two = NOTHING, NOTHING
    for result in told[:cut]:
        one = merge(one, result)
    for result in told[cut:]:
        two = merge(two, result)
    straight = NOTHING
    for result in told:
        straight = merge(straight, result)
    both = merge(one, two)
    assert {o.uri: o for o in both.outcomes} == {o.uri: o for o in straight.outcomes}
    assert both.attempts == straight.attempts


@tries(max_examples=examples(300), deadline=None)
@given(rejected=st.lists(st.tuples(st.sampled_from(FILES), st.integers(1, 9)), min_size=1, max_size=8))
def test_rules_count_the_rows_that_the_counts_count(rejected: list[tuple[str, int]]) -> None:
    """Each attempt brings in one file, in a commit of its own, in the place of what it was before."""
    result = NOTHING
    for number, (file, bad) in enumerate(rejected):
        tally = Tally(rows_in=10, accepted=10 - bad, rejected=bad)
        own = IngestResult(
            run="r",
            job="j",
            outcomes=(Outcome(uri=file, status="committed", tally=tally, batch=f"b{number}"),),
            batches={f"b{number}": Published(rules={"n:bad": bad})},
        )
        result = merge(result, own)
    assert result.rules["n:bad"] == progress_of(result).rejected


def test_a_retry_that_fails_leaves_what_was_committed() -> None:
    uris = [f"file:///in/{n}.csv" for n in range(50)]
    tally = Tally(rows_in=100, accepted=100, out=100)
    first = tuple(Outcome(uri=uri, status="committed", tally=tally, batch="b") for uri in uris[:49])
    own = NOTHING.model_copy(update={"outcomes": (*first, Outcome(uri=uris[49], status="failed", error=BAD))})
    result = close(OPENED, NOTHING, own, "finished", ended=2.0)
    result = close(OPENED, result, completed(NOTHING, uris, AWAY), "failed", AWAY, 4.0)
    assert Counter(o.status for o in result.outcomes) == {"committed": 49, "failed": 1}
    assert [a.counts for a in result.attempts] == [{"committed": 49, "failed": 1}, {"failed": 1}]
    assert [a.state for a in result.attempts] == ["finished", "failed"]
    run = add_up("r", [result])
    assert (run.state, run.tally.rows_in, run.began, run.ended) == ("finished", 4900, 1.0, 4.0)
    assert [o.error["code"] for o in run.failed] == ["http_unavailable"], "the last word on it"


def test_an_archive_that_was_opened_is_told_of_by_its_members() -> None:
    archive = "file:///in/x.zip"
    good, bad = (member_uri("zip", name, archive) for name in ("a.csv", "b.csv"))
    failed = completed(NOTHING, [archive], AWAY)
    opened = NOTHING.model_copy(
        update={
            "outcomes": (Outcome(uri=good, status="committed"), Outcome(uri=bad, status="failed", error=BAD)),
        }
    )
    damaged = opened.model_copy(
        update={"outcomes": (*opened.outcomes, Outcome(uri=archive, status="failed", error=BAD))}
    )

    def uris(*results: IngestResult) -> list[str]:
        whole = NOTHING
        for result in results:
            whole = merge(whole, result)
        return sorted(o.uri.partition("://")[0] for o in whole.outcomes)

    assert uris(failed) == ["file"]
    assert uris(failed, opened) == uris(opened, failed) == ["zip", "zip"], "it was opened"
    assert uris(opened, damaged) == uris(damaged, failed) == ["file", "zip", "zip"], "and found damaged"
    assert uris(damaged, opened) == ["zip", "zip"], "it is well again"


def test_a_cancelled_run_is_neither_finished_nor_failed() -> None:
    stopped = TerminalError("Job was cancelled by ann", code="job_stopped").to_dict()
    done = Outcome(uri="a", status="committed")
    assert state_of([done, Outcome(uri="b", status="failed", error=BAD)]) == "finished"
    assert state_of([done, Outcome(uri="b", status="failed", error=stopped)]) == "cancelled"
    assert state_of([Outcome(uri="b", status="failed", error=BAD)]) == "failed"


def test_while_a_retry_runs_its_progress_counts_what_is_there_already() -> None:
    tally = Tally(rows_in=100, accepted=90, rejected=10, out=90)
    done = Outcome(uri="a", status="committed", tally=tally, size=7)
    before = NOTHING.model_copy(update={"outcomes": (done, Outcome(uri="b", status="failed", error=BAD))})
    now = progress_of(NOTHING).model_copy(update={"state": "processing", "files": 2, "rows": 5, "rejected": 1})
    shown = add_progress(progress_of(brought_in(before)), now)
    assert (shown.state, shown.files, shown.files_done, shown.rows, shown.rejected, shown.failed) == (
        "processing",
        2,
        1,
        105,
        11,
        0,
    )
