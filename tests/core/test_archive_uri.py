"""Members of archives on their way through a job: each with its own end, exactly once, whatever dies."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.lake import Crash, FaultInjector, Faulty, World
from support.packing import PACKERS, damaged, tarred, zipped
from support.selection import examples

from ingestlab.analytics.lake import Lake
from ingestlab.cli.show import files_table
from ingestlab.core.archive_uri import head_of, member_name, member_uri
from ingestlab.core.errors import BusySourceError, StorageError
from ingestlab.core.models import Again, IngestRequest, IngestResult, Manifest, Source, Tally
from ingestlab.engine.ingest import ingest
from ingestlab.lake import layout
from ingestlab.lake.locks import source_lock
from ingestlab.lake.log import manifests
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.replay.replay import replay
from ingestlab.queue.attempts import progress_of
from ingestlab.queue.replays import with_rejects
from ingestlab.queue.run import RunResult

FIRST = {"a.csv": [1, 2, 13], "b/c.csv": [3, 5000], "d.csv": [7]}
NEXT = {"a.csv": [1, 2, 13], "b/c.csv": [4, 13, 6000, 8], "e.csv": [9, 13]}  # a as it was, d gone, e new
CSV = 'Csv(columns={"n": "int64", "word": "string"})'


class Packed(World):
    """A world whose source files are archives."""

    def __init__(self, folder: Path, redis_url: str, disposition: str = "append", kind: str = "zip") -> None:
        super().__init__(folder, redis_url, disposition)
        self.kind = kind
        self.edit(CSV, f'Archive(reader={CSV}, members="*.csv")')
        self.edit("import Csv", "import Archive, Csv")

    def edit(self, old: str, new: str) -> None:
        path = Path(self.settings.pipelines[0]) / "small.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def uri(self, archive: str, name: str) -> str:
        kind = "zip" if self.kind == "zip" else "tar"
        return member_uri(kind, name, (self.folder / "sources" / archive).as_uri())

    def pack(self, members: Mapping[str, Sequence[int] | bytes], archive: str = "x.zip") -> str:
        """Writes an archive; remembers what must become of its members, and that no others have rows."""
        files = {name: v if isinstance(v, bytes) else text(v) for name, v in members.items()}
        uri = self.send(PACKERS[self.kind](files), archive)
        for old in [u for u in self.expected if u.endswith(f"::{uri}")]:
            self.expected[old] = []
        self.expected |= {self.uri(archive, n): list(v) for n, v in members.items() if not isinstance(v, bytes)}
        return uri

    def send(self, data: bytes, archive: str = "x.zip") -> str:
        path = self.folder / "sources" / archive
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path.as_uri()

    def ingest(self, *args: object, **options: object) -> IngestResult:
        try:
            return super().ingest(*args, **options)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:  # of the tasks that fetch
            raise group.exceptions[0] from None

    def check_all(self) -> None:
        self.check(sorted(self.expected))

    def replay(self, faults: FaultInjector | None = None) -> IngestResult:
        found = with_rejects(manifests(self.store, "default", "small"))
        sources = tuple(Source(uri=r.uri) for r in found)
        request = IngestRequest(run="again", table="small", sources=sources, replay=Again())
        return replay(request, self.context(faults), lambda _progress: None)


def text(numbers: Sequence[int]) -> bytes:
    return b"n,word\n" + b"".join(b"%d,w%d\n" % (n, n) for n in numbers)


def ends(result: IngestResult) -> dict[str, str]:
    return {member_name(o.uri) or o.uri.rsplit("/", 1)[-1]: o.status for o in result.outcomes}


@pytest.fixture(autouse=True)
def files_that_arrive_are_steps_too(monkeypatch):
    monkeypatch.setattr(Faulty, "CHANGES", Faulty.CHANGES | {"adopt"})


@pytest.fixture(params=["zip", "tgz"])
def world(request, tmp_path, redis_url):
    return Packed(tmp_path, redis_url, "replace", request.param)


@pytest.fixture
def appending(tmp_path, redis_url):
    return Packed(tmp_path, redis_url)


def crash_then(world: World, uris: Sequence[str], at: int, *, after: bool) -> bool:
    try:
        world.ingest(uris, FaultInjector(at, after=after))
    except Crash:
        return True
    return False


# Outcomes


def test_each_member_has_its_own_outcome_rows_and_rejects(world):
    result = world.ingest([world.pack(FIRST)])
    assert ends(result) == dict.fromkeys(FIRST, "committed")
    assert [(o.tally.rows_in, o.tally.rejected) for o in result.outcomes] == [(3, 1), (2, 1), (1, 0)]
    world.check_all()
    rows = Lake(world.settings).table("small").pandas()
    assert set(rows["_source"]) == {world.uri("x.zip", name) for name in FIRST}
    assert set(rows["member"]) == set(FIRST)
    rejects = Lake(world.settings).rejects("small")
    assert set(zip(rejects["source"], rejects["row"], strict=True)) == {
        (world.uri("x.zip", "a.csv"), 2),
        (world.uri("x.zip", "b/c.csv"), 1),
    }
    assert rejects["sha256"].nunique() == 2


def test_an_archive_that_is_unchanged_is_not_opened(world, monkeypatch):
    uri = world.pack(FIRST)
    world.ingest([uri])
    monkeypatch.setattr("ingestlab.engine.archives.unpack", lambda *_: pytest.fail("opened"))
    result = world.ingest([uri], run="r2")
    assert ends(result) == dict.fromkeys(FIRST, "unchanged")
    assert [o.tally.rows_in for o in result.outcomes] == [3, 2, 1]
    (world.folder / "sources/x.zip").touch()  # the same bytes at another time
    assert ends(world.ingest([uri], run="r3")) == dict.fromkeys(FIRST, "unchanged")
    world.check_all()


def test_of_a_changed_archive_only_changed_members_are_processed(world):
    world.ingest([world.pack(FIRST)])
    result = world.ingest([world.pack(NEXT)], run="r2")
    assert ends(result) == {"a.csv": "unchanged", "b/c.csv": "committed", "e.csv": "committed"}
    last = manifests(world.store, "default", "small")[-1]
    assert sum(r.tally.rows_in for r in last.sources) == 6
    world.check_all()
    assert ends(world.ingest([world.pack(NEXT)], run="r3")) == dict.fromkeys(NEXT, "unchanged")


def test_an_archive_packed_anew_publishes_nothing_and_is_known_afterwards(appending, monkeypatch):
    appending.ingest([appending.pack(FIRST)])
    uri = appending.pack({"readme.txt": b"more", **FIRST})
    assert ends(appending.ingest([uri], run="r2")) == dict.fromkeys(FIRST, "unchanged")
    monkeypatch.setattr("ingestlab.engine.archives.unpack", lambda *_: pytest.fail("opened"))
    assert ends(appending.ingest([uri], run="r3")) == dict.fromkeys(FIRST, "unchanged")
    appending.check_all()


def test_replace_takes_away_what_is_gone_and_brings_it_back(world):
    for i, members in enumerate((FIRST, {"d.csv": [7]}, FIRST, {"d.csv": [7]}, NEXT, FIRST)):
        assert "failed" not in ends(world.ingest([world.pack(members)], run=f"r{i}")).values()
        world.check_all()


def test_append_keeps_what_is_gone_and_does_not_double_it(appending):
    for i, members in enumerate((FIRST, {"d.csv": [7]}, FIRST)):
        appending.ingest([appending.pack(members)], run=f"r{i}")
    assert {member_name(u): n.total() for u, n in appending.rows("small").items()} == {
        "a.csv": 2,
        "b/c.csv": 1,
        "d.csv": 1,
    }


def test_force_ingests_all_members_again_and_doubles_nothing(appending):
    uri = appending.pack(FIRST)
    appending.ingest([uri])
    assert ends(appending.ingest([uri], run="r2", force=True)) == dict.fromkeys(FIRST, "committed")
    appending.check_all()


def test_archives_and_their_neighbours_in_one_request(world):
    one, two, bad = world.pack(FIRST), world.pack(NEXT, "y.zip"), world.send(b"no archive", "z.zip")
    result = world.ingest([one, bad, two])
    assert [o.status for o in result.outcomes] == ["committed"] * 3 + ["failed"] + ["committed"] * 3
    world.check_all()


# Failures


def test_a_bad_member_fails_alone_and_is_tried_again(world):
    uri = world.pack({**FIRST, "bad.csv": b"other\n1\n"})
    assert ends(world.ingest([uri])) == {**dict.fromkeys(FIRST, "committed"), "bad.csv": "failed"}
    world.check_all()
    before = manifests(world.store, "default", "small")
    assert ends(world.ingest([uri], run="r2")) == {**dict.fromkeys(FIRST, "unchanged"), "bad.csv": "failed"}
    assert manifests(world.store, "default", "small") == before
    mended = {**FIRST, "bad.csv": [1, 13]}
    assert ends(world.ingest([world.pack(mended)], run="r3"))["bad.csv"] == "committed"
    assert ends(world.ingest([uri], run="r4")) == dict.fromkeys(mended, "unchanged")
    world.check_all()


def test_a_member_over_the_quality_gate_keeps_its_earlier_rows(world):
    world.edit("max_reject_ratio=1", "max_reject_ratio=0.6")
    world.ingest([world.pack(FIRST)])
    uri = world.pack({**FIRST, "b/c.csv": [13, 5000, 6000]})
    assert ends(world.ingest([uri], run="r2"))["b/c.csv"] == "failed"
    world.expected[world.uri("x.zip", "b/c.csv")] = FIRST["b/c.csv"]
    world.check_all()
    world.edit("=0.6", "=1")
    assert ends(world.ingest([uri], run="r3"))["b/c.csv"] == "committed"
    world.expected[world.uri("x.zip", "b/c.csv")] = [13, 5000, 6000]
    world.check_all()


def test_a_damaged_member_of_a_zip_loses_no_neighbour(tmp_path, redis_url):
    world = Packed(tmp_path, redis_url)
    world.pack({"a.csv": FIRST["a.csv"], "d.csv": FIRST["d.csv"]})
    files = {name: text(numbers) for name, numbers in FIRST.items()}
    uri = world.send(damaged(zipped(files, 0), files["b/c.csv"]))
    assert ends(world.ingest([uri])) == {"a.csv": "committed", "b/c.csv": "failed", "d.csv": "committed"}
    world.check_all()


def test_a_tar_that_is_cut_off_commits_what_was_whole_and_removes_nothing(tmp_path, redis_url):
    world = Packed(tmp_path, redis_url, "replace", "tar")
    world.ingest([world.pack(FIRST)])
    changed = {"a.csv": [5, 13], "b/c.csv": [6]}
    uri = world.send(tarred({name: text(numbers) for name, numbers in changed.items()})[:1100])
    result = world.ingest([uri], run="r2")
    assert ends(result) == {"a.csv": "committed", "x.zip": "failed"}
    assert "truncated" in result.outcomes[1].error["got"]
    world.expected[world.uri("x.zip", "a.csv")] = [5, 13]
    world.check_all()
    assert ends(world.ingest([world.pack(changed)], run="r3")) == {"a.csv": "unchanged", "b/c.csv": "committed"}
    world.check_all()


def test_a_lake_that_cannot_be_written_fails_all_members(appending, monkeypatch):
    def full(*_: object) -> None:
        raise StorageError("room", "none", "make some")

    uri = appending.pack(FIRST)
    monkeypatch.setattr("ingestlab.lake.table.commit_together", full)
    assert ends(appending.ingest([uri])) == dict.fromkeys(FIRST, "failed")
    monkeypatch.undo()
    assert ends(appending.ingest([uri], run="r2")) == dict.fromkeys(FIRST, "committed")
    appending.check_all()


def test_another_try_of_the_same_run_tells_the_same(world):
    uris = [world.pack(FIRST), world.pack({**NEXT, "bad.csv": b"x\n"}, "y.zip")]
    first, again = world.ingest(uris), world.ingest(uris)
    assert (ends(again), again.rules, again.parquet_bytes) == (ends(first), first.rules, first.parquet_bytes)
    assert first.rules == {"clean": 4, "n:less_than": 2}
    world.check_all()


# Crashes


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile"])
def test_a_crash_at_any_step_keeps_one_version_of_every_row(tmp_path_factory, redis_url, after, mend):
    crashes = 0
    for at in range(1, 60):
        world = Packed(tmp_path_factory.mktemp("w"), redis_url, "replace", "tgz")
        world.ingest([world.pack(FIRST), world.pack(FIRST, "y.zip")], run="r0")
        uri = world.pack({**NEXT, "bad.csv": b"other\n1\n"})
        if not crash_then(world, [uri], at, after=after):
            break
        crashes += 1
        if mend == "reconcile":
            reconcile(world.context().lake)
        result = world.ingest([uri])  # what the try that died has committed counts as this run's own
        committed = dict.fromkeys(("b/c.csv", "e.csv"), "committed")
        assert ends(result) == {"a.csv": "unchanged", **committed, "bad.csv": "failed"}
        assert result.rules == {"clean": 2, "n:less_than": 1}
        world.check_all()
    assert crashes > 15


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from(["x.zip", "y.zip"]),
            st.dictionaries(
                st.sampled_from(["a.csv", "b.csv", "c.csv"]),
                st.lists(st.sampled_from([1, 2, 13, 999, 1000]), min_size=1, max_size=4),
                min_size=1,
            ),
            st.one_of(st.none(), st.integers(1, 20)),
            st.booleans(),
        ),
        min_size=2,
        max_size=6,
    ),
    kind=st.sampled_from(sorted(PACKERS)),
)
def test_any_story_of_changes_and_crashes_ends_with_the_last_contents(tmp_path_factory, redis_url, story, kind):
    world = Packed(tmp_path_factory.mktemp("story"), redis_url, "replace", kind)
    for i, (archive, members, at, after) in enumerate(story):
        uri = world.pack(members, archive)
        try:
            world.ingest([uri], FaultInjector(at, after=after) if at else None, run=f"r{i}")
        except Crash:
            continue
    world.ingest(sorted({(world.folder / "sources" / archive).as_uri() for archive, *_ in story}), run="last")
    reconcile(world.context().lake)  # a batch that died before its intent may never come again
    last = {archive: members for archive, members, *_ in story}
    asked = [world.uri(archive, name) for archive, members in last.items() for name in members]
    world.check(asked)
    rows = world.rows("small")
    assert {uri for uri, found in rows.items() if found} <= set(asked)


# Neighbours


def test_an_archive_and_its_members_have_one_lock(world):
    uri = world.pack(FIRST)
    world.ingest([uri])
    assert source_lock("t", "x", world.uri("x.zip", "a.csv")) == source_lock("t", "x", uri)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", world.uri("x.zip", "a.csv"))])
        with pytest.raises(BusySourceError, match=r"x\.zip"):
            world.ingest([uri], run="r2")
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", uri)])
        with pytest.raises(BusySourceError):
            world.replay()


def test_rejects_of_members_are_replayed(world):
    world.ingest([world.pack(FIRST)])
    world.edit("lt(1000)", "lt(9999)")
    assert [(o.tally.rows_in, o.tally.accepted) for o in world.replay().outcomes] == [(1, 0), (1, 1)]
    world.passes = lambda n: n != 13
    world.check_all()
    assert ends(world.ingest([world.pack(FIRST)], run="r3")) == dict.fromkeys(FIRST, "unchanged")


def test_a_replay_that_died_is_mended_by_the_next_job_of_the_archive(tmp_path_factory, redis_url):
    crashes = 0
    for at in range(1, 40):
        world = Packed(tmp_path_factory.mktemp("w"), redis_url, "replace")
        world.ingest([world.pack(FIRST)], run="r0")
        world.edit("lt(1000)", "lt(9999)")
        world.passes = lambda n: n != 13
        try:
            world.replay(FaultInjector(at))
            break
        except Crash:
            crashes += 1
        world.ingest([world.pack(NEXT)], run="r2")
        assert list(world.store.walk(layout.intents())) == []
        reconcile(world.context().lake)  # a batch that died before its intent leaves its staging
        world.check_all()
        assert ends(world.ingest([world.pack(NEXT)], run="r3")) == dict.fromkeys(NEXT, "unchanged")
    assert crashes >= 8


def test_a_big_member_is_the_work_of_several_tasks(tmp_path, redis_url):
    world = Packed(tmp_path, redis_url)
    world.settings = world.settings.model_copy(update={"partition_bytes": 4096})
    numbers = [n % 990 for n in range(5000)]
    world.ingest([world.pack({"a.csv": [1], "big.csv": numbers, "c.csv": [13]})])
    world.check_all()
    (commit,) = manifests(world.store, "default", "small")
    big = world.uri("x.zip", "big.csv")
    assert len({p.target.rsplit("/", 1)[-1] for p in commit.parts if big in p.sources}) > 5


def test_compact_profile_and_a_lost_index_go_on(world):
    world.ingest([world.pack(FIRST)])
    world.ingest([world.pack(NEXT)], run="r2")
    world.ingest([world.pack(FIRST, "y.zip")], run="r3")
    compact("small", world.context())
    world.redis.flushdb()
    assert ends(world.ingest([world.pack(NEXT)], run="r4")) == dict.fromkeys(NEXT, "unchanged")
    world.ingest([world.pack({"d.csv": [7]})], run="r5")
    world.check_all()
    assert reconcile(world.context().lake).clean
    assert Lake(world.settings).profile("small").now["rows"] == Lake(world.settings).table("small").rows


# What was committed when an archive was one source


def test_an_archive_of_old_stays_unchanged_and_is_replaced_by_its_members(tmp_path, redis_url):
    world = Packed(tmp_path, redis_url, "replace")
    world.edit("Archive(reader=", "(")  # a reader that takes the file as one source, as Archive did
    world.edit(', members="*.csv")', ")")
    uri = world.send(text([1, 2, 13]))
    world.expected[uri] = [1, 2, 13]
    world.ingest([uri])
    for path in world.store.walk(layout.logs()):
        old = json.loads(world.store.read(path))
        for record in old["sources"]:
            del record["members"], record["whole"]
        world.store.write(path, json.dumps(old).encode())
        assert Manifest.model_validate(old).sources[0].whole
    world.redis.flushdb()
    world.edit(f"({CSV})", f'Archive(reader={CSV}, members="*.csv")')
    assert ends(world.ingest([uri], run="r2")) == {"x.zip": "unchanged"}
    assert [o.error["fix"][:18] for o in world.replay().outcomes] == ["Ingest the archive"]
    world.check_all()
    world.ingest([world.pack(FIRST)], run="r3")
    world.expected[uri] = []
    world.check_all()


# What people see


def test_files_are_counted_and_listed_by_member(world):
    progress = []
    context = world.context()
    uris = [world.pack({**FIRST, "bad.csv": b"x\n"}), world.pack(FIRST, "y.zip")]
    request = IngestRequest(run="r", pipeline="small", table="t", sources=tuple(Source(uri=u) for u in uris))
    result = ingest(request, context, progress.append)
    assert (progress[-1].files, progress[-1].files_done, progress[-1].failed) == (7, 7, 1)
    assert (progress_of(result).files, progress_of(result).failed) == (7, 1)
    known = {"run": "r", "state": "finished", "outcomes": result.outcomes, "tally": Tally(), "rules": {}}
    page = io.StringIO()
    shown = RunResult(**known, parquet_bytes=0, tables=(), seconds={})
    Console(file=page, width=160).print(files_table(shown))
    assert "x.zip: b/c.csv" in page.getvalue()
    assert Counter(o.status for o in result.outcomes) == {"committed": 6, "failed": 1}


def test_a_record_of_an_archive_says_what_is_in_it(world):
    uri = world.pack({**FIRST, "readme.txt": b"x"})
    world.ingest([uri])
    record = world.context().lake.index("default", "small").known([uri])[uri]
    assert record.members == tuple(head_of(world.uri("x.zip", name)) for name in FIRST)
    assert (record.whole, record.tally, record.facts["skipped"]) == (True, Tally(), "1")
