"""The quality gate: a file of which too much is rejected fails as a whole, and nothing of it is published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import PIPELINE, Crash, FaultInjector, World
from support.selection import examples

from ingestlab import TerminalError
from ingestlab.core.errors import QualityError
from ingestlab.core.models import Faults, IngestResult
from ingestlab.maintenance.reconcile import reconcile

GOOD, BAD = [1, 2, 3, 13, 4, 6, 7, 8], [13, 1, 5000, 5000, 6000, 2]  # one of eight rejected; four of six
MOST = 0.25


class Gated(World):
    """A world whose pipeline lets a quarter of a file's rows be rejected."""

    def __init__(self, folder: Path, redis_url: str, most: float = MOST, cut: int | None = None, **more: str) -> None:
        super().__init__(folder, redis_url, **more)
        if cut is not None:  # far below what settings allow
            self.settings = self.settings.model_copy(update={"partition_bytes": cut})
        self.write(most, more.get("disposition", "append"))

    def write(self, most: float | None, disposition: str = "append", **changes: str) -> None:
        text = PIPELINE.replace("max_reject_ratio=1", f"max_reject_ratio={most!r}")
        text = text.replace("DISPOSITION", disposition)
        for old, new in changes.items():
            text = text.replace(old, new)
        (self.folder / "pipelines/small.py").write_text(text)

    def fails(self, numbers: list[int], most: float = MOST) -> bool:
        return sum(n == 13 or n >= 1000 for n in numbers) / len(numbers) > most

    def check_gated(self, uris: list[str]) -> None:
        """The laws of every world for the files that pass; of the others nothing is there."""
        self.check([u for u in uris if not self.fails(self.expected[u])])
        for uri in (u for u in uris if self.fails(self.expected[u])):
            assert self.rows("small")[uri] == self.rows("small__rejects")[uri] == Counter()


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> Gated:
    return Gated(tmp_path, redis_url)


def error_of(result: IngestResult, place: int) -> QualityError:
    error = result.outcomes[place].exception()
    assert isinstance(error, QualityError), result.outcomes
    return error


def test_a_bad_file_fails_and_its_neighbours_are_committed(world: Gated) -> None:
    uris = [world.put("a.csv", GOOD), world.put("bad.csv", BAD), world.put("c.csv", [1, 2])]
    result = world.ingest(uris)
    assert [o.status for o in result.outcomes] == ["committed", "failed", "committed"]
    world.check_gated(uris)
    assert result.rules == {"clean": 1}
    error = error_of(result, 1)
    assert error.expected == "at most 25 % of the rows of bad.csv rejected (max_reject_ratio of 'small')"
    assert error.got == (
        "66.67 % (4 of 6): 3 n:less_than, 1 clean; commonest bad values: '5000' in n (2), '6000' in n (1)"
    )


def test_the_same_file_fails_again_in_the_same_words(world: Gated) -> None:
    bad, good = world.put("bad.csv", BAD), world.put("a.csv", GOOD)
    asked = {"r1": [bad], "r2": [bad, good], "r3": [bad]}
    first, second, third = (world.ingest(uris, run=run) for run, uris in asked.items())
    assert first.outcomes[0].error == second.outcomes[0].error == third.outcomes[0].error is not None
    world.check_gated([bad, good])
    assert [p for p in world.store.walk("raw") if "tmp" not in p], "its raw file stays"


def test_a_file_that_was_mended_or_a_pipeline_that_is_looser_lets_it_in(world: Gated) -> None:
    a, b = world.put("a.csv", BAD), world.put("b.csv", BAD)
    assert [o.status for o in world.ingest([a, b]).outcomes] == ["failed", "failed"]
    world.put("a.csv", GOOD)
    assert [o.status for o in world.ingest([a, b], run="r2").outcomes] == ["committed", "failed"]
    world.write(0.9)
    assert [o.status for o in world.ingest([a, b], run="r3").outcomes] == ["unchanged", "committed"]
    world.check([a, b])


def test_a_version_that_fails_leaves_the_published_one_alone(tmp_path: Path, redis_url: str) -> None:
    world = Gated(tmp_path, redis_url, disposition="replace")
    uri = world.put("a.csv", GOOD)
    world.ingest([uri])
    world.put("a.csv", BAD)
    assert world.ingest([uri], run="r2").outcomes[0].status == "failed"
    world.expected[uri] = GOOD
    world.check([uri])


def test_a_file_at_the_limit_passes(world: Gated) -> None:
    uri = world.put("a.csv", [13, 1, 2, 3])
    assert world.ingest([uri]).outcomes[0].status == "committed"
    world.check([uri])


@pytest.mark.parametrize(("most", "numbers"), [(1, [13, 13, 2000]), (None, [13, 2000, 1]), (None, [13, 13])])
def test_without_a_gate_every_file_passes_of_which_something_is_left_or_was_left_out(world: Gated, most, numbers):
    world.write(most, **{'even=df["n"] // 2 * 2 == df["n"]': 'even=lambda left: left["n"] // 2 * 2 == left["n"]'})
    uri = world.put("a.csv", numbers)
    (outcome,) = world.ingest([uri]).outcomes
    assert outcome.status == "committed", outcome.exception()
    world.check([uri])


@pytest.mark.parametrize("partition_bytes", [30, 1 << 20], ids=["cut", "whole"])
def test_a_file_whose_rows_are_all_rejected_fails_and_its_neighbours_do_not(world: Gated, partition_bytes: int):
    world.write(None)
    world.settings = world.settings.model_copy(update={"partition_bytes": partition_bytes})
    bad, good = world.put("bad.csv", [5000 + n for n in range(19)] + [13]), world.put("good.csv", [*range(10), 13])
    failed, committed = world.ingest([bad, good]).outcomes
    assert (failed.status, committed.status) == ("failed", "committed")
    error = failed.exception()
    assert error.expected == "a row of bad.csv that can be published"
    assert error.got.startswith("100 % (20 of 20): 19 n:less_than, 1 clean; commonest bad values: ")
    world.check_gated([bad, good])


def test_rows_of_a_bad_file_reject_none_of_its_neighbours(world: Gated) -> None:
    """A check that compares rows must not hold those against a file that are not published after all."""
    world.write(MOST, **{"checks=pa.Check.lt(1000)": "checks=pa.Check.lt(1000), unique=True"})
    bad, good = world.put("bad.csv", [5000, 6000, 1]), world.put("good.csv", [1, 2, 3, 4])
    result = world.ingest([bad, good])
    assert [o.status for o in result.outcomes] == ["failed", "committed"]
    assert result.outcomes[1].tally.rejected == 0
    world.check_gated([bad, good])


@pytest.mark.parametrize("most", [-0.1, 1.1, 5])
def test_a_share_that_is_none_is_refused(world: Gated, most: float) -> None:
    world.write(most)
    result = world.ingest([world.put("a.csv", GOOD)])
    error = result.outcomes[0].exception()
    assert isinstance(error, TerminalError)
    assert "max_reject_ratio" in error.expected


def test_a_cut_file_is_judged_by_all_its_pieces(tmp_path: Path, redis_url: str) -> None:
    """Its first pieces are perfect: what is bad comes at the end, and is too much only in all."""
    world = Gated(tmp_path, redis_url, cut=2000)
    bad, good = world.put("bad.csv", [1] * 700 + [5000] * 300), world.put("good.csv", [1] * 800 + [5000] * 200)
    result = world.ingest([bad, good])
    assert [o.status for o in result.outcomes] == ["failed", "committed"]
    world.check_gated([bad, good])
    assert error_of(result, 0).got == ("30 % (300 of 1,000): 300 n:less_than; commonest bad values: '5000' in n (300)")
    assert result.rules == {"n:less_than": 200}


def test_a_cut_file_fails_in_the_words_of_a_whole_one(tmp_path_factory, redis_url: str) -> None:
    said = []
    for cut in (None, 2000):
        world = Gated(tmp_path_factory.mktemp("w"), redis_url, cut=cut)
        result = world.ingest([world.put("a.csv", [1] * 500 + [*range(1000, 1030)] * 9 + [13] * 40)])
        said.append(error_of(result, 0).to_dict())
    assert said[0] == said[1]


def test_faults_add_up() -> None:
    one, two = Faults(rules={"a": 1}, values={"x": 2}), Faults(rules={"a": 2, "b": 1})
    assert one + two == Faults(rules={"a": 3, "b": 1}, values={"x": 2})


NUMBERS = st.lists(st.sampled_from([1, 2, 13, 999, 1000]), min_size=1, max_size=120)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(NUMBERS, min_size=1, max_size=4), cut=st.one_of(st.none(), st.integers(20, 300)))
def test_a_file_is_published_wholly_or_not_at_all(tmp_path_factory, redis_url, files, cut) -> None:
    world = Gated(tmp_path_factory.mktemp("w"), redis_url, cut=cut)
    uris = [world.put(f"{i}.csv", numbers) for i, numbers in enumerate(files)]
    result = world.ingest(uris, run="r1")
    statuses = ["failed" if world.fails(world.expected[u]) else "committed" for u in uris]
    assert [o.status for o in result.outcomes] == statuses
    world.check_gated(uris)
    for outcome in result.outcomes:
        assert outcome.tally.balanced


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("cut", [None, 40], ids=["packed", "cut"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_step_lets_nothing_of_a_bad_file_through(tmp_path_factory, redis_url, after, cut) -> None:
    crashes = 0
    for at in range(1, 60):
        world = Gated(tmp_path_factory.mktemp("w"), redis_url, cut=cut)
        uris = [world.put("a.csv", GOOD), world.put("bad.csv", BAD * 3)]
        try:
            world.ingest(uris, FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if at % 2:
            reconcile(world.context().lake)
        result = world.ingest(uris)
        assert [o.status for o in result.outcomes] == ["committed", "failed"]
        world.check_gated(uris)
    assert crashes > 8
