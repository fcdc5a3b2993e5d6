"""Tasks that begin while their file is still being copied: what comes out is what would have come out without."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.lake import Crash, FaultInjector, Inline, World
from support.workers import until

from ingestlab.core.errors import JobStoppedError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.engine import early
from ingestlab.engine.services import Services
from ingestlab.executors.dask import Cluster
from ingestlab.executors.threads import Threads
from ingestlab.formats.common import linewise
from ingestlab.formats.csv import settling
from ingestlab.lake import layout
from ingestlab.lake.log import manifests
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.sources import filesystems, raw_zone

NUMBERS = [*range(700), 13, 5000, *range(900), 13]
BLOCK, PIECE = 1024, 2048
PATIENCE = 20.0


class EarlyWorld(World):
    """A world whose jobs begin early with files of any size."""

    cluster: Any = Inline()

    def begun(self, size: int) -> None:
        """Waits, in the middle of a copy, until early tasks have begun."""
        if size > 2 * BLOCK and early.LEAST == 0:
            until(lambda: any(self.store.walk(layout.stagings())), PATIENCE, "early tasks begin")

    def context(self, faults: FaultInjector | None = None) -> Services:
        usual = super().context(faults)
        return Services(usual.settings, usual.store, usual.locks, self.cluster)


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch):
    monkeypatch.setattr(early, "LEAST", 0)
    for module in (raw_zone, filesystems):
        monkeypatch.setattr(module, "BUFFER", BLOCK)
    monkeypatch.setattr(linewise, "_READ", BLOCK)
    monkeypatch.setattr(settling, "SAMPLE", BLOCK)


@pytest.fixture
def world(tmp_path, redis_url, copied):
    world = EarlyWorld(tmp_path, redis_url, partition_bytes=PIECE)
    copied.append(world.begun)
    return world


@pytest.fixture
def copied(monkeypatch) -> list[Callable[[int], None]]:
    """What is called after each block that is copied, with the bytes so far."""
    hooks: list[Callable[[int], None]] = []
    take = filesystems._take

    def taken(chunk: bytes, raw: Any) -> None:
        take(chunk, raw)
        for hook in hooks:
            hook(raw.size)

    monkeypatch.setattr(filesystems, "_take", taken)
    return hooks


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield stack


def adopted(world: World) -> bool:
    """Whether the last commit is one that began early: its batch is named by its try."""
    last = manifests(world.store, "default", "small")[-1]
    return len(last.parts) > 2 and last.batch == batches[-1]


batches: list[str] = []


@pytest.fixture(autouse=True)
def plans(monkeypatch):
    """The batches of the plans that were taken from early tasks."""
    batches.clear()
    plan = early.EarlyTasks.plan

    def watched(self, files):
        if made := plan(self, files):
            batches.append(made.batch)
        return made

    monkeypatch.setattr(early.EarlyTasks, "plan", watched)


def rejects(world: World) -> pa.Table:
    paths = [p for p in world.store.walk(layout.table("default", "small__rejects")) if p.endswith(".parquet")]
    return pa.concat_tables(pq.read_table(pa.BufferReader(world.store.read(p))) for p in paths)


def test_a_task_ends_while_its_file_is_still_being_copied(world, copied):
    ended = threading.Event()

    class Telling(Inline):
        def map(self, *args: Any) -> Any:
            for answer in super().map(*args):
                ended.set()
                yield answer

    world.cluster = Telling()
    copied.append(lambda size: size < 3 * PIECE + 2 * BLOCK or ended.wait(PATIENCE) or pytest.fail("no task has ended"))
    uri = world.put("a.csv", NUMBERS)
    result = world.ingest([uri])
    assert result.outcomes[0].status == "committed", result.outcomes
    assert adopted(world)
    world.check([uri])


EXECUTORS = [Inline, lambda: Threads(Settings(_env_file=None)), lambda: Cluster(Settings(_env_file=None))]


@pytest.mark.parametrize("executor", EXECUTORS, ids=["inline", "threads", "dask"])
def test_what_comes_out_is_the_same_as_without(tmp_path, redis_url, monkeypatch, copied, closing, executor):
    tables, records = [], []
    for name, least in (("early", 0), ("usual", 1 << 40)):
        monkeypatch.setattr(early, "LEAST", least)
        world = EarlyWorld(tmp_path / name, redis_url, partition_bytes=PIECE)
        world.cluster = executor()
        closing.callback(getattr(world.cluster, "close", lambda: None))
        copied[:] = [world.begun]
        world.folder = tmp_path  # the same sources
        uri = world.put("a.csv", NUMBERS)
        assert world.ingest([uri]).outcomes[0].status == "committed"
        assert adopted(world) is (least == 0)
        world.check([uri])
        (manifest,) = manifests(world.store, "default", "small")
        tables.append(rejects(world).sort_by("row"))
        records.append([r.model_dump(exclude={"batch", "version"}) for r in manifest.sources])
    assert tables[0].equals(tables[1])
    assert set(tables[0]["sha256"].to_pylist()) == {records[0][0]["sha256"]}
    assert records[0] == records[1]


LINES = r'Lines(pattern=r"(?P<n>\d+) (?P<word>\w+)", columns={"n": "int64"})'


@pytest.mark.parametrize(
    ("reader", "line", "bad"),
    [
        ('JsonLines(columns={"n": "int64", "word": "string"})', '{{"n": {n}, "word": "w{n}"}}\n', '{"n": "x"}\n'),
        (LINES, "{n} w{n}\n", "neither\n"),
    ],
    ids=["json", "lines"],
)
def test_lines_begin_early_as_well_and_give_the_same(tmp_path, redis_url, monkeypatch, copied, reader, line, bad):
    source, seen = tmp_path / "a.txt", []
    lines = [line.format(n=n) for n in NUMBERS]
    source.write_text("".join([*lines[:900], bad, "\n", *lines[900:]]))
    for name, least in (("early", 0), ("usual", 1 << 40)):
        monkeypatch.setattr(early, "LEAST", least)
        world = EarlyWorld(tmp_path / name, redis_url, partition_bytes=PIECE)
        (tmp_path / name / "pipelines" / "small.py").write_text(
            f"from ingestlab import JsonLines, Lines, Pipeline\nPIPELINE = Pipeline(reader={reader}, table='small')\n"
        )
        copied[:] = [world.begun]
        outcome = world.ingest([source.as_uri()]).outcomes[0]
        assert outcome.status == "committed", outcome
        assert adopted(world) is (least == 0)
        rows = [pq.read_table(pa.BufferReader(world.store.read(p.target))) for p in live_parts(world)]
        seen.append((pa.concat_tables(rows).sort_by("_row").select(["n", "word", "_row"]), rejects(world)))
    assert seen[0][0].equals(seen[1][0])
    assert seen[0][0].num_rows == len(NUMBERS)
    assert seen[0][1].equals(seen[1][1])
    assert seen[0][1]["row"].to_pylist() == [900]


def live_parts(world: World) -> list[Any]:
    return list(manifests(world.store, "default", "small")[-1].parts)


def test_a_file_that_changes_meanwhile_is_taken_as_it_is_at_the_end(world, copied):
    uri = world.put("a.csv", NUMBERS)
    changed = []

    def change(size: int) -> None:
        if size > 4 * PIECE and not changed:
            changed.append(world.put("a.csv", list(reversed(NUMBERS))))

    copied.append(change)
    assert world.ingest([uri]).outcomes[0].status == "committed"
    assert changed
    assert batches == []
    world.check([uri])


def test_a_known_file_is_done_the_usual_way_unless_forced(world, copied):
    uri = world.put("a.csv", NUMBERS)
    world.ingest([uri])
    copied.clear()
    os.utime(Path(uri.removeprefix("file://")), (1, 1))
    assert world.ingest([uri], run="r2").outcomes[0].status == "unchanged"
    assert len(batches) == 1
    copied.append(world.begun)
    assert world.ingest([uri], run="r3", force=True).outcomes[0].status == "committed"
    assert adopted(world)
    world.check([uri])


def test_quotes_that_leave_doubts_late_in_a_file_are_read_the_usual_way(world):
    uri = world.put("a.csv", NUMBERS)
    path = Path(uri.removeprefix("file://"))
    path.write_text(path.read_text() + '7,"quoted" and more\n8,x\n')
    assert world.ingest([uri]).outcomes[0].status == "committed"
    assert batches == []
    assert world.rows("small")[uri].total() + world.rows("small__rejects")[uri].total() == len(NUMBERS) + 2


def test_tasks_that_fail_early_are_done_again(world):
    class Failing(Inline):
        failed = False

        def map(self, *args: Any) -> Any:
            for place, answer in super().map(*args):
                if place == 2 and not Failing.failed:
                    Failing.failed = True
                    raise TransientError("Dask workers were lost", code="worker_lost")
                yield place, answer

    world.cluster = Failing()
    uri = world.put("a.csv", NUMBERS)
    assert world.ingest([uri]).outcomes[0].status == "committed"
    world.check([uri])


def test_a_job_that_is_stopped_meanwhile_leaves_nothing_and_its_tasks_hear_of_it(world, copied):
    heard: list[BaseException] = []

    class Hearing(Inline):
        def map(self, *args: Any) -> Any:
            try:
                yield from super().map(*args)
            except JobStoppedError as error:
                heard.append(error)
                raise

    def stop(_number: int, _frame: object) -> None:
        raise JobStoppedError(TransientError("stop", code="cancelled"))

    before = signal.signal(signal.SIGUSR2, stop)
    copied.append(lambda size: size == 6 * BLOCK and signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2))
    world.cluster = Hearing()
    uri = world.put("a.csv", NUMBERS)
    try:
        with pytest.raises(JobStoppedError):
            world.ingest([uri])
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard
    assert list(world.store.walk(layout.stagings())) == []
    copied.clear()
    assert world.ingest([uri]).outcomes[0].status == "committed"
    world.check([uri])


def test_a_crash_at_any_step_of_an_early_job_loses_and_doubles_nothing(tmp_path_factory, redis_url, copied):
    counting = EarlyWorld(tmp_path_factory.mktemp("count"), redis_url, partition_bytes=8192)
    copied.append(counting.begun)
    faults = FaultInjector()
    counting.ingest([counting.put("a.csv", NUMBERS)], faults)
    assert batches
    for at in range(1, faults.count + 1, 3):
        for after in (False, True):
            world = EarlyWorld(tmp_path_factory.mktemp("crash"), redis_url, partition_bytes=8192)
            copied[:] = [world.begun]
            uri = world.put("a.csv", NUMBERS)
            with pytest.raises(Crash):
                world.ingest([uri], FaultInjector(at, after=after))
            assert world.ingest([uri]).outcomes[0].status == "committed"
            reconcile(world.context().lake)
            world.check([uri])
