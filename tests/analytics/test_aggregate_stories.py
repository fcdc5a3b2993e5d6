"""Aggregates after any story: what is merged is what the published rows say, and each part has its states."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.aggregates import ALL, BY_KIND, Tally
from support.direct import compare
from support.lake import Crash, FaultInjector
from support.selection import examples
from typer.testing import CliRunner

from ingestlab import TerminalError, TransientError
from ingestlab.analytics import aggregate_reader as summaries
from ingestlab.cli import app
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.lake import layout
from ingestlab.lake.commit import resolve
from ingestlab.lake.log import live_partials, live_parts, load_manifest, manifests
from ingestlab.maintenance.reconcile import reconcile

FIRST = [1, 2, 13, 4, 5000, 3700]
SECOND = [7, 8, 9, 13, 2000, 10]


@pytest.fixture
def world(tmp_path, redis_url):
    return Tally(tmp_path, redis_url)


def test_each_part_has_its_states_and_they_say_what_the_rows_say(world):
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris)
    world.check(uris)
    assert len(world.state_files()) == 4  # two folders, two aggregates


def test_the_aggregate_is_a_frame_with_the_measures_as_columns(world):
    world.ingest([world.put("a.csv", FIRST), world.put("b.csv", SECOND)])
    frame = world.lake.aggregate("small", "all")
    assert frame.to_dict("records") == [{"rows": 7, "sum": 41, "words": 7}]
    by_kind = world.lake.aggregate("small", "by_kind")
    assert by_kind.columns[:3].tolist() == ["kind", "even", "at_hour"]
    rows = world.lake.table("small").pandas()
    wanted = rows.assign(at_hour=rows["at"].dt.floor("h")).groupby(["kind", "even", "at_hour"], dropna=False)["n"].sum()
    pd.testing.assert_series_equal(by_kind["sum"], wanted.reset_index(drop=True), check_names=False, check_dtype=False)


def test_states_are_read_and_rows_are_not(world, monkeypatch):
    world.ingest([world.put("a.csv", FIRST)])

    def never(*args):
        raise AssertionError(args)

    monkeypatch.setattr(summaries, "from_part", never)
    assert world.lake.aggregate("small", "all")["rows"].tolist() == [3]


def test_states_are_no_rows_of_the_table(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    assert len(world.lake.table("small").parts) == 2
    assert len(pd.read_parquet(world.lake.table("small").path)) == 3
    assert [t.name for t in world.lake.tables()] == ["small"]
    assert world.lake.table("small").rows == 3


def test_replace_computes_the_states_of_what_is_left_anew(tmp_path, redis_url):
    world = Tally(tmp_path, redis_url, "replace")
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    world.ingest([a, b])
    before = world.state_files()
    world.put("a.csv", [100, 101])
    world.ingest([a], run="r2")
    world.check([a, b])
    assert not set(before) & set(world.state_files())


def test_force_counts_nothing_twice(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.ingest([uri], run="r2", force=True)
    world.check([uri])


def test_compaction_keeps_the_answers_and_makes_few_files(world):
    uris = [world.put(f"{i}.csv", [i, i + 1, 13]) for i in range(6)]
    for i, uri in enumerate(uris):
        world.ingest([uri], run=f"r{i}")
    world.compact()
    world.check(uris)
    assert len(world.state_files()) == 4


def test_rejects_that_pass_at_last_are_counted(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.mend(limit=4000)
    world.replay()
    world.check([uri])
    assert world.lake.aggregate("small", "all")["rows"].tolist() == [4]


def test_a_table_of_which_all_rows_were_rejected_has_no_groups(world):
    world.ingest([world.put("a.csv", [13, 5000])])
    frame = world.lake.aggregate("small", "by_kind")
    assert len(frame) == 0
    assert "sum" in frame


def steps(world, work, at, after):
    try:
        work(FaultInjector(at, after=after))
    except Crash:
        return True
    return False


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["append", "replace", "compact"])
def test_a_crash_at_any_step_leaves_the_answers_right(tmp_path_factory, redis_url, kind, after):
    crashes = 0
    for at in range(1, 80):
        world = Tally(tmp_path_factory.mktemp("w"), redis_url, "append" if kind == "compact" else kind)
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([a, b], run="r0")
        if kind == "compact":
            uris = [a, b, world.put("c.csv", [1, 2, 3])]
            world.ingest([uris[2]], run="r1")
            crashed = steps(world, world.compact, at, after)
        else:
            uris = [a, b, world.put("c.csv", [1, 2, 3])] if kind == "append" else [a, b]
            world.put("a.csv", [21, 22, 13, 23]) if kind == "replace" else None
            wanted = uris if kind == "append" else [a]
            crashed = steps(world, lambda faults, w=world, u=wanted: w.ingest(u, faults), at, after)
        if not crashed:
            break
        crashes += 1
        if at % 2:
            reconcile(world.context().lake)
        world.check_answers()  # as it lies there, with its intent or without
        world.ingest(uris)
        reconcile(world.context().lake)
        world.check(uris)
    assert crashes > 10


def test_a_commit_that_is_rolled_back_takes_its_states_with_it(tmp_path_factory, redis_url):
    ends = set()
    for at in range(1, 40):
        world = Tally(tmp_path_factory.mktemp("w"), redis_url)
        if not steps(world, lambda faults, w=world: w.ingest([w.put("a.csv", FIRST)], faults), at, after=True):
            break
        for path in list(world.store.walk(layout.intents())):
            resolve(load_manifest(world.store, path), world.context().lake)
        history = manifests(world.store, "default", "small")
        named = {p.target for p in (*live_parts(history), *live_partials(history))}
        assert set(world.store.walk("tables")) == named
        ends.add(len(named))
    assert ends == {0, 7}  # two parts with two states each, and the rejects


ACTS = st.one_of(
    st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from([1, 2, 13, 999, 1000, 7, 600]), min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["compact", "force", "change", "replay"]), st.none()),
)


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    disposition=st.sampled_from(["append", "replace"]),
    story=st.lists(st.tuples(ACTS, st.one_of(st.none(), st.integers(1, 20)), st.booleans()), min_size=1, max_size=7),
)
def test_any_story_ends_with_the_right_answers(tmp_path_factory, redis_url, disposition, story):
    world = Tally(tmp_path_factory.mktemp("story"), redis_url, disposition)
    world.ingest([world.put("a.csv", FIRST)], run="first")
    for i, ((what, numbers), at, after) in enumerate(story):
        faults = FaultInjector(at, after=after) if at else None
        try:
            if what == "compact":
                world.compact(faults)
            elif what == "replay":
                world.mend(limit=2000)
                world.replay(faults, run=f"r{i}")
            elif what == "force":
                world.ingest(sorted(world.expected), faults, run=f"r{i}", force=True)
            elif what == "change":
                world.declare((BY_KIND + ALL).replace('("n", "sum")', '("n", "mean")'))
            else:
                world.ingest([world.put(f"{what}.csv", numbers)], faults, run=f"r{i}")
        except Crash:
            continue
        world.check_answers()
    world.ingest(sorted(world.expected), run="last")
    reconcile(world.context().lake)
    world.check_answers()
    history = manifests(world.store, "default", "small")
    named = {p.target for p in (*live_parts(history), *live_partials(history))}
    assert set(world.store.walk("tables")) == named


# ---- what was published before an aggregate was declared


def test_an_aggregate_that_comes_later_is_right_at_once(world, monkeypatch):
    world.declare("")
    world.ingest([world.put("a.csv", FIRST)])
    world.declare(BY_KIND + ALL)
    world.ingest([world.put("b.csv", SECOND)], run="r2")
    assert len(world.parts_without_states()) == 4
    world.check_answers()
    world.compact()
    assert world.parts_without_states() == []
    world.check_answers()


def test_a_changed_declaration_is_not_answered_from_old_states(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.declare('"all": Aggregate(by="kind", measures={"sum": ("x", "sum"), "n": ("n", "max")}),')
    assert len(world.parts_without_states()) == 2
    world.check_answers()


def test_measures_with_new_names_need_no_new_states(world):
    world.ingest([world.put("a.csv", FIRST)])
    world.declare(ALL.replace('"rows":', '"n":'))
    assert world.parts_without_states() == []
    assert world.lake.aggregate("small", "all")["n"].tolist() == [3]


@pytest.mark.parametrize("text", ["", "raise ValueError"], ids=["gone", "broken"])
def test_without_its_pipeline_an_aggregate_is_that_of_its_states(world, text):
    world.ingest([world.put("a.csv", FIRST)])
    file = world.folder / "pipelines" / "small.py"
    file.write_text(text) if text else file.unlink()
    assert world.lake.aggregates("small") == ["all", "by_kind"]
    assert world.lake.aggregate("small", "all")["sum"].tolist() == [7]


def test_lost_states_are_computed_from_the_rows(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    for path in world.state_files():
        world.store.delete(path)
    world.check_answers()
    assert reconcile(world.context().lake).missing == ()


def test_earlier_parts_of_another_type_are_told_when_they_are_read(world):
    world.declare("")
    world.ingest([world.put("a.csv", FIRST)])
    world.declare('"words": Aggregate(measures={"s": ("word", "sum")}),')
    with pytest.raises(TerminalError, match="numbers in 'word'"):
        world.lake.aggregate("small", "words")
    world.ingest([world.put("b.csv", SECOND)], run="r2", force=True)
    world.compact()


# ---- what goes wrong


def test_a_file_without_the_column_of_an_aggregate_fails(world):
    world.declare('"a": Aggregate(by="colour", measures={"n": "count"}),')
    (outcome,) = world.ingest([world.put("a.csv", FIRST)]).outcomes
    assert "the column 'colour', which the aggregate 'a' is of" in str(outcome.exception())
    assert list(world.store.walk("tables")) == []


def test_check_finds_a_wrong_aggregate(world):
    world.declare('"a": Aggregate(measures={"n": ("word", "sum")}),')
    uri = world.put("a.csv", FIRST)
    with pytest.raises(TerminalError, match="numbers in 'word'"):
        try_pipeline("small", uri, world.settings)
    world.declare(ALL)
    assert try_pipeline("small", uri, world.settings).tally.out == 3
    assert world.state_files() == []


def test_an_unknown_aggregate_is_told_which_there_are(world):
    world.ingest([world.put("a.csv", FIRST)])
    with pytest.raises(TerminalError, match=r"an aggregate of table small \(all, by_kind\); got 'nothing'"):
        world.lake.aggregate("small", "nothing")
    with pytest.raises(TerminalError, match="of tenant default"):
        world.lake.aggregate("large", "all")
    world.declare("")
    with pytest.raises(TerminalError, match=r"\(all, by_kind\); got 'nothing'"):
        world.lake.aggregate("small", "nothing")


def test_a_part_that_goes_while_it_is_read_is_looked_up_again(world, monkeypatch):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.declare(ALL + '"later": Aggregate(by="kind", measures={"n": "count"}),')
    history = summaries.manifests
    calls = []

    def slow(*args):
        found = history(*args)
        calls.append(len(found))
        if len(calls) == 1:
            world.compact()
            world.ingest([uri], run="r2", force=True)
        return found

    monkeypatch.setattr(summaries, "manifests", slow)
    assert world.lake.aggregate("small", "later")["n"].sum() == 3
    assert len(calls) == 2


def test_parts_that_are_missing_for_good_are_told(world):
    world.ingest([world.put("a.csv", FIRST)])
    for path in list(world.store.walk("tables")):
        world.store.delete(path)
    with pytest.raises(TransientError, match="reconcile"):
        world.lake.aggregate("small", "all")


# ---- for other tools


def materialize(world: Tally, *args: str) -> list[str]:
    env = {
        "INGESTLAB_LAKE": world.settings.lake_url,
        "INGESTLAB_PIPELINES": str(world.folder / "pipelines"),
        "COLUMNS": "300",
    }
    result = CliRunner().invoke(app, ["materialize", "small", *args, "--home", str(world.folder / "home")], env=env)
    assert result.exit_code == 0, result.output
    return result.stdout.split()


def test_materialize_writes_plain_parquet_into_the_lake(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    (path,) = materialize(world, "by_kind")
    assert path == world.store.full("aggregates/default/small/by_kind.parquet")
    compare(pq.read_table(path), world.lake.table("small").arrow(), world.aggregates["by_kind"])
    assert reconcile(world.context().lake).clean
    world.ingest([world.put("b.csv", SECOND)], run="r2")
    assert materialize(world)[1] == path
    compare(pq.read_table(path), world.lake.table("small").arrow(), world.aggregates["by_kind"])


def test_materialize_writes_where_it_is_told(world, tmp_path):
    world.ingest([world.put("a.csv", FIRST)])
    assert materialize(world, "all", "--to", str(tmp_path / "x" / "a.parquet")) == [str(tmp_path / "x" / "a.parquet")]
    there = materialize(world, "--to", str(tmp_path / "x"))
    assert there == [str(tmp_path / "x" / name) for name in ("all.parquet", "by_kind.parquet")]
    assert materialize(world, "all", "--to", f"file://{tmp_path}/x/b.parquet") == [f"{tmp_path}/x/b.parquet"]
    assert materialize(world, "all", "--to", "memory://some/c.parquet") == ["memory://some/c.parquet"]
    names = [p.name for p in (tmp_path / "x").iterdir()]
    assert sorted(names) == ["a.parquet", "all.parquet", "b.parquet", "by_kind.parquet"]
    assert pa.parquet.read_table(tmp_path / "x" / "a.parquet").to_pylist() == [{"rows": 3, "sum": 7, "words": 3}]


def test_materialize_that_cannot_write_leaves_nothing(world, tmp_path):
    world.ingest([world.put("a.csv", FIRST)])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(TerminalError, match="Cannot write"):
        world.lake.materialize("small", "all", str(tmp_path / "taken"))
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]
