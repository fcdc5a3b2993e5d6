"""The embedded stack: real processes, started, killed and stopped in every way that people do it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import psutil
import pytest
import redis
from distributed import Client
from rq import Queue, Worker
from support.workers import PATIENCE, environment

from ingestlab import stack as embedded
from ingestlab.core.errors import StackError
from ingestlab.core.settings import Settings, load_settings
from ingestlab.formats.compiled import loader as compiled
from ingestlab.queue.rq.listeners import listeners
from ingestlab.stack import doctor, services, supervisor, valkey
from ingestlab.stack.state import SUPERVISOR, Proc, StackState, read_state, running, sweep

GONE = 8.0  # seconds in which the children of a killed supervisor must have ended


def family(state: StackState) -> list[psutil.Process]:
    """All processes of a stack, grandchildren too."""
    known = [found for proc in state.pids.values() if (found := proc.find())]
    return list({p.pid: p for top in known for p in [top, *top.children(recursive=True)]}.values())


def living(processes: list[psutil.Process], seconds: float = GONE) -> list[psutil.Process]:
    """Those that still run after a while; a zombie whose parent does not ask for it does not run."""
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if _runs(p)]) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    """A stack that `ingestlab up --detach` has started."""
    folder = tmp_path_factory.mktemp("up")
    home = folder / "a home"  # paths with spaces are paths
    command = [sys.executable, "-m", "ingestlab", "up", "--detach", "--dask-workers", "1", "--home", str(home)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert "dashboard" in done.stdout
        assert re.search(r"^✓ dask +\d+\.\d s$", done.stdout, re.MULTILINE)
        assert "ingestlab down" in done.stdout
        yield home
    finally:
        embedded.stop(home)


@pytest.fixture
def state(home: Path) -> StackState:
    found = running(home)
    assert found is not None
    return found


@pytest.mark.slow("a stack of its own")
def test_every_part_serves_where_the_settings_say(home, state):
    found = load_settings(home=home)
    with redis.Redis.from_url(found.redis) as client:
        assert client.info("persistence")["aof_enabled"] == 1
    with Client(found.dask_scheduler, timeout=60, set_as_default=False) as client:
        assert client.submit(os.getpid).result(timeout=PATIENCE) in {p.pid for p in family(state)}
    for url in (found.dask_dashboard, found.samples):
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
    assert found.lake_url == str(home / "lake")


@pytest.mark.slow("a stack of its own")
def test_a_second_up_says_that_it_is_running(home, state, script):
    done = script("up", "--home", home)
    assert done.returncode == 0
    assert "running already" in done.stdout
    assert state.settings["dask_dashboard"] in done.stdout
    assert running(home) == state


@pytest.mark.slow("a stack of its own")
def test_status_lists_the_parts(home, state, script):
    done = script("status", "--home", home, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert {row["part"] for row in told["parts"]} == {
        *("supervisor", "redis", "dask", "samples", "milvus", "worker-1", "worker-2")
    }
    assert all(row["alive"] for row in told["parts"])
    assert told["queue"] == {"name": "ingest", "waiting": 0, "workers": 2}
    assert state.settings["dask_scheduler"] in script("status", INGESTLAB_HOME=str(home)).stdout


@pytest.mark.slow("a stack of its own")
def test_the_secret_is_for_its_owner_only(home, state):
    secret = (home / "secret").read_text()
    for name in ("secret", "stack.json", "redis/valkey.conf"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
        assert secret in (home / name).read_text()
    for process in family(state):
        assert secret not in " ".join(process.cmdline())
    with (
        redis.Redis.from_url(f"redis://{valkey.HOST}:{state.settings['redis_port']}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@pytest.mark.slow("a stack of its own")
def test_all_parts_listen_on_loopback_only(state):
    bound = [c.laddr.ip for p in family(state) for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(bound) >= 5
    assert {ip.removeprefix("::ffff:") for ip in bound} == {"127.0.0.1"}  # gRPC writes IPv4 as IPv6 does


@pytest.mark.slow("a stack of its own")
def test_two_stacks_run_side_by_side(state, stack):
    with redis.Redis.from_url(state.settings["redis_url"]) as one, redis.Redis.from_url(stack.redis) as other:
        one.set("mark", "one")
        assert other.get("mark") is None
    assert state.settings["dask_scheduler"] != stack.dask_scheduler


@pytest.mark.slow("a stack of its own")
def test_stock_rq_works_with_what_env_prints(home, state, tmp_path):
    with redis.Redis.from_url(state.settings["redis_url"]) as client:
        Queue("aside", connection=client).enqueue("os.getpid")
    program = Path(sys.executable).with_name("rq")
    script = f'eval "$({sys.executable} -m ingestlab env)" && {program} info --raw aside ingest'
    script += ' && echo "$INGESTLAB_LAKE $MILVUS_URI"'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(INGESTLAB_HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "queue aside 1" in done.stdout
    assert done.stdout.count("worker ") >= 2
    assert f"{home / 'lake'} {state.settings['milvus_uri']}" in done.stdout


@pytest.mark.slow("a stack of its own")
def test_parts_that_die_are_started_again_in_their_places(home, state):
    names = ("redis", "dask", "samples", "milvus", "worker-1")
    processes = family(state)
    for name in names:
        os.kill(state.pids[name].pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while True:
        now = running(home)
        assert time.monotonic() < deadline, f"back: {now}"
        if all(now.pids[name] != state.pids[name] and now.pids[name].find() for name in names) and _answer(now):
            break
        time.sleep(0.05)
    assert now.settings == state.settings
    orphans = [p for p in processes if p.pid not in {proc.pid for proc in now.pids.values()}]
    assert living(orphans) == [], "Dask workers of the dead cluster live on"


def _answer(state: StackState) -> bool:
    ports = [state.settings["redis_port"], *(int(state.settings[n].rsplit(":")[-1]) for n in ("dask_scheduler",))]
    return all(_listens(port) for port in ports)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((valkey.HOST, port)) == 0


@pytest.mark.slow("a stack of its own")
def test_a_worker_of_ones_own_serves_several_queues_of_the_stack(home, state, tmp_path):
    command = [sys.executable, "-m", "ingestlab", "worker", "urgent", "night", "--home", str(home)]
    with (
        redis.Redis.from_url(state.settings["redis_url"]) as client,
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as process,
    ):
        deadline = time.monotonic() + 60
        while any([w.pid for w in listeners(client, q) if w.version] != [process.pid] for q in ("urgent", "night")):
            assert time.monotonic() < deadline, "it does not listen"
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert listeners(client, "urgent") == []


def test_a_healthy_stack_has_nothing_wrong(stack):
    findings = doctor.examine(stack)
    assert [f for f in findings if f.level == "error"] == []
    assert {"redis", "workers", "dask", "milvus", "lake"} <= {f.check for f in findings if f.level == "ok"}


def test_a_milvus_that_does_not_answer_is_found_and_one_that_is_not_named_is_not_missed(settings):
    uri = f"http://127.0.0.1:{valkey.free_port()}"
    (found,) = doctor._milvus(settings(milvus_uri=uri))
    assert (found.level, uri in found.text, "MILVUS_URI" in found.fix) == ("error", True, True)
    assert list(doctor._milvus(settings())) == []


def test_a_missing_numba_is_named_with_what_installs_it(settings, monkeypatch):
    assert list(doctor._speed(settings())) == []
    monkeypatch.setattr(compiled, "PACKAGES", ("no-such-package",))
    (found,) = doctor._speed(settings())
    assert (found.level, "ingestlab[fast]" in found.fix) == ("warning", True)


def test_a_stack_without_milvus_leaves_the_one_that_is_named(settings, monkeypatch):
    elsewhere = settings(milvus_uri="http://elsewhere:19530", milvus_token="t")
    elsewhere.home.mkdir()
    ports = dict.fromkeys(services.PORTS, 1234)
    own = services.locate(elsewhere, services.Spec().counted(), ports)
    assert (own.milvus_uri, own.milvus_token) == ("http://127.0.0.1:1234", None)
    without = services.Spec(milvus=False).counted()
    assert services.locate(elsewhere, without, ports).milvus_uri == "http://elsewhere:19530"
    assert "milvus" not in {p.name for p in services.services(own, without, ports)}
    monkeypatch.setattr("ingestlab.stack.milvus.installed", lambda: False)
    assert not services.Spec().counted().milvus


@pytest.mark.slow("a stack of its own")
def test_ctrl_c_stops_all_parts_of_a_stack_in_the_foreground(tmp_path):
    home = tmp_path / "home"
    command = [sys.executable, "-m", "ingestlab", "up", "--workers", "1", "--dask-workers", "1", "--home", str(home)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        shown = list(takewhile(lambda line: "Stop it with Ctrl-C" not in line, process.stdout))
        assert {"redis", "samples", "worker-1", "dask"} <= {line.split()[1] for line in shown if line.startswith("✓")}
        processes = family(running(home))
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        assert process.wait(PATIENCE) == 0
    assert len(processes) >= 6
    assert living(processes, 0) == []
    assert not (home / "stack.json").exists()


@pytest.mark.slow("a stack of its own")
def test_jobs_survive_kill_9_and_nothing_else_does(settings, script):
    wanted = settings(queue="work")
    home = wanted.home

    def up(workers: int = 0) -> StackState:
        embedded.start(wanted, workers=workers, dask_workers=1)
        return running(home)

    def check() -> None:
        with redis.Redis.from_url(running(home).settings["redis_url"]) as client:
            assert client.lrange("raw", 0, -1) == [b"1", b"2"]
            assert Queue("aside", connection=client).job_ids == ["job-1"]

    state = up(workers=1)
    with redis.Redis.from_url(state.settings["redis_url"]) as client:
        client.rpush("raw", 1, 2)
        Queue("aside", connection=client).enqueue("os.getpid", job_id="job-1")
    processes = family(state)
    os.kill(state.pids[SUPERVISOR].pid, signal.SIGKILL)
    assert living(processes) == []
    assert running(home) is None
    assert script("status", "--home", home).returncode == 1
    assert load_settings(home=home).redis_url is None, "a stale stack.json is believed"

    again = up()
    check()
    assert again.settings["redis_url"] == state.settings["redis_url"], "old addresses should stay good"
    processes = family(again)
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended with another one
            process.kill()
    assert living(processes) == []

    last = up()
    check()
    processes = family(last)
    assert script("down", "--home", home).returncode == 0
    assert living(processes, 0) == [], "down returns before all is gone"
    assert not (home / "stack.json").exists()


@pytest.mark.slow("a stack of its own")
def test_two_ups_at_once_start_one_stack(tmp_path):
    home = tmp_path / "home"
    command = [sys.executable, "-m", "ingestlab", "up", "-d", "--workers", "0", "--dask-workers", "1"]
    ups = [
        subprocess.Popen(
            [*command, "--home", str(home)], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE)[0] for process in ups]
        assert [process.returncode for process in ups] == [0, 0]
        assert all(running(home).settings["dask_scheduler"] in text for text in said)
        commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
        clusters = [c for c in commands if "ingestlab.stack.cluster" in c and str(home) in c]
        assert len(clusters) == 1
    finally:
        embedded.stop(home)


@pytest.mark.slow("a stack of its own")
def test_a_stack_that_is_tied_ends_with_its_starter(settings, tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from ingestlab.stack import start; "
        "from ingestlab.core.settings import Settings; "
        "start(Settings(home=Path(sys.argv[1])), workers=0, dask_workers=1, detach=False); "
        "print('up', flush=True); sys.stdin.read()"
    )
    home = settings().home
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout.readline() == b"up\n"
        processes = family(running(home))
        starter.kill()
    assert living(processes) == []


def test_a_part_that_does_not_start_is_named_and_the_others_are_stopped(settings):
    wanted = settings()
    with pytest.raises(StackError, match=r"worker-1 did not start.*last words: no such luck.*worker-1\.log"):
        embedded.start(
            wanted, workers=1, dask_workers=1, worker_command=(sys.executable, "-c", "raise SystemExit('no such luck')")
        )
    assert not list(wanted.home.glob("st*.json"))
    assert [p for p in psutil.process_iter(["cmdline"]) if str(wanted.home) in " ".join(p.info["cmdline"] or ())] == []


def test_a_part_that_dies_at_once_again_and_again_is_given_up(settings, monkeypatch):
    monkeypatch.setattr(supervisor, "DELAYS", (0.0, 0.01))
    wanted = settings()
    (wanted.home / "logs").mkdir(parents=True)
    always = {"env": dict(os.environ), "ready": lambda _pid: True, "wave": 0}
    good = services.Service(name="good", command=("sleep", "60"), **always)
    bad = services.Service(name="bad", command=("false",), **always)

    async def live() -> StackState:
        task = asyncio.create_task(supervisor.Supervisor(wanted, [good, bad]).live(lambda _state: None))
        while not ((state := read_state(wanted.home / "stack.json")) and state.given_up):
            assert not task.done()
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        return state

    state = asyncio.run(asyncio.wait_for(live(), 20))
    assert state.given_up == ("bad",)
    assert state.pids["good"].find() is None, "a part that was fine is stopped with the rest"


def test_a_port_that_is_taken_is_no_error(tmp_path):
    first = services.choose_ports(tmp_path)
    assert services.choose_ports(tmp_path) == first
    with socket.socket() as other:
        other.bind((valkey.HOST, first["dask"]))
        other.listen()
        now = services.choose_ports(tmp_path)
    assert now["dask"] != first["dask"]
    assert now["redis"] == first["redis"]
    assert len(set(now.values())) == len(now)


def test_a_process_id_that_was_given_away_is_not_ours(tmp_path):
    stranger = Proc(pid=os.getpid(), created=Proc.of(os.getpid()).created - 1)
    state = StackState(settings={}, pids={SUPERVISOR: stranger, "dask": stranger}, started="", version="")
    (tmp_path / "stack.json").write_text(json.dumps(state.to_dict()))
    assert running(tmp_path) is None
    assert sweep(tmp_path) == []  # and this test goes on


def test_another_process_reads_the_same_settings(settings, tmp_path):
    (tmp_path / ".env").write_text("QUEUE_NAME=other\nINGESTLAB_BEAT=77\nINGESTLAB_TENANTS=x\n")
    wanted = settings(retry_delays=(1, 2.5), storage_options={"s3": {"key": "k,1"}}, tenants=("a", "b"), queue="q 1")
    script = "from ingestlab.core.settings import Settings; print(Settings().model_dump_json())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**environment(), **services.environment(wanted)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Settings.model_validate_json(done.stdout) == wanted


def test_an_error_is_three_lines_without_a_traceback(cli, tmp_path):
    done = cli("env", "--home", tmp_path / "nothing")
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["problem", "expected", "got", "do", "code"]


def test_down_without_a_stack_is_no_error(cli, tmp_path):
    done = cli("down", "--home", tmp_path / "nothing")
    assert done.returncode == 0
    assert "No stack runs" in done.stdout
    assert not (tmp_path / "nothing").exists()


class TestDoctor:
    """What it finds wrong, one fault a test."""

    @staticmethod
    def only(findings: list[doctor.Finding], check: str, level: doctor.Level) -> doctor.Finding:
        """The one finding of this kind, which must say what to do."""
        (found,) = [f for f in findings if (f.check, f.level) == (check, level)]
        assert found.fix
        return found

    @pytest.fixture
    def wrong(self, settings, redis_url) -> Callable[..., list[doctor.Finding]]:
        return lambda **overrides: doctor.examine(settings(**{"redis_url": redis_url, **overrides}))

    def test_a_stopped_redis(self, wrong):
        url = f"redis://{valkey.HOST}:{valkey.free_port()}/0"
        assert "cannot be reached" in self.only(wrong(redis_url=url), "redis", "error").text

    def test_no_redis_named(self, wrong):
        assert "ingestlab up" in self.only(wrong(redis_url=None), "redis", "error").fix

    def test_a_wrong_password_and_none(self, wrong, redis_url):
        for url in (redis_url.replace("://:", "://:x"), "redis://" + redis_url.split("@")[1]):
            assert "password" in self.only(wrong(redis_url=url), "redis", "error").text

    def test_no_append_only_file(self, wrong, redis_url):
        with redis.Redis.from_url(redis_url) as client:
            client.config_set("appendonly", "no")
            try:
                assert "append-only" in self.only(wrong(), "redis", "warning").text
            finally:
                client.config_set("appendonly", "yes")
        assert "append-only" not in str([f for f in wrong() if f.level == "warning"])

    def test_no_worker(self, wrong):
        assert "'lonely'" in self.only(wrong(queue="lonely"), "workers", "error").text

    def test_a_plain_worker(self, wrong, redis_url):
        with redis.Redis.from_url(redis_url) as client:
            Worker(["q"], connection=client, name="plain").register_birth()
            found = self.only(wrong(queue="q"), "workers", "warning")
        assert "plain" in found.text
        assert "RQ_WORKER_CLASS=ingestlab.worker.IngestWorker" in found.fix

    def test_a_silent_worker(self, wrong, redis_url):
        with redis.Redis.from_url(redis_url) as client:
            Worker(["q"], connection=client, name="dumb").register_birth()
            client.hset("rq:worker:dumb", mapping={"ingestlab": "0.1.0", "last_heartbeat": "2020-01-01T00:00:00.0Z"})
            assert "silent" in self.only(wrong(queue="q"), "workers", "error").text
            Worker(["q"], connection=client, name="well").register_birth()
            now = datetime.now(UTC).isoformat()
            client.hset(
                "rq:worker:well", mapping={"ingestlab": "0.1.0", "last_heartbeat": now, "hostname": "elsewhere"}
            )
            assert "silent" in self.only(wrong(queue="q"), "workers", "warning").text, "another does its work"
            client.srem("rq:workers:q", "rq:worker:well")
            client.hset("rq:worker:dumb", "hostname", socket.gethostname())
            client.hset("rq:worker:dumb", "pid", 2**22 + 1)  # no process has this id: it has ended, it is not silent
            assert "No worker" in self.only(wrong(queue="q"), "workers", "error").text

    def test_no_scheduler_and_none_named(self, wrong, monkeypatch):
        monkeypatch.setattr(doctor, "PATIENCE", 0.2)
        url = f"tcp://{valkey.HOST}:{valkey.free_port()}"
        assert "cannot be reached" in self.only(wrong(dask_scheduler=url), "dask", "error").text
        assert "No Dask scheduler" in self.only(wrong(), "dask", "warning").text

    def test_other_versions_on_dask_workers(self):
        def host(python: str, **packages: str | None) -> dict[str, dict[str, str | None]]:
            return {"host": {"python": python}, "packages": {"dask": "1", "pandas": "3", **packages}}

        versions = {
            "client": host("3.11.7.final.0"),
            "workers": {
                "tcp://a": host("3.11.7.candidate.1"),
                "tcp://b": host("3.12.1.final.0", dask="2"),
                "tcp://c": host("3.11.7.final.0", dask="2", pandas=None),
            },
        }
        told = [f.text for f in doctor._dask_workers("tcp://s", versions, "error")]
        assert told == [
            "python is 3.11.7 here and 3.12.1 on Dask worker tcp://b.",
            "dask is 1 here and 2 on Dask worker tcp://b, tcp://c.",
            "pandas is 3 here and missing on Dask worker tcp://c.",
        ]
        elsewhere = list(doctor._dask_workers("tcp://s", versions, "warning"))
        assert [f.level for f in elsewhere] == ["ok", "warning", "warning", "warning"], "no worker of ours runs here"

    def test_a_lake_below_a_folder_that_is_like_a_partition(self, wrong, tmp_path):
        assert "a column 'zone' to DuckDB" in self.only(wrong(lake=f"{tmp_path}/zone=eu/lake"), "lake", "warning").text
        assert [f.level for f in wrong(lake=f"{tmp_path}/lake") if f.check == "lake"] == ["ok"]

    def test_a_lake_that_cannot_be_written(self, wrong, tmp_path):
        (tmp_path / "lake").write_text("a file in the way")
        assert str(tmp_path / "lake") in self.only(wrong(lake=str(tmp_path / "lake")), "lake", "error").text

    def test_a_pipeline_that_does_not_load(self, wrong, tmp_path):
        (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
        found = self.only(wrong(pipelines=(str(tmp_path),)), "pipelines", "error")
        assert "broken" in found.text
        assert "nothing_of_this_name" in found.text
        assert "broken.py" in found.fix

    def test_no_pipelines(self, wrong, tmp_path):
        assert "No pipeline" in self.only(wrong(pipelines=(str(tmp_path / "none"),)), "pipelines", "warning").text

    def test_the_command_says_it_and_exits_with_1(self, cli, redis_url, tmp_path):
        done = cli("doctor", REDIS_URL=redis_url, INGESTLAB_LAKE=str(tmp_path / "lake"))
        assert done.returncode == 1
        assert "✗ No worker listens" in done.stdout
        assert "✓ The lake" in done.stdout


def test_the_sample_files_are_served(stack):
    uri = f"{stack.samples.rstrip('/')}/bts/alarm-2017-10-23-00-vn.csv"
    with urllib.request.urlopen(uri, timeout=60) as answer:  # the server makes them first, if it must
        assert answer.read(10) == b"id,station"
