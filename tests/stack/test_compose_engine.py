"""docker-compose.yml on a real engine as people use it: up, scaled, killed, down. Run by `make test-compose`."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
from collections.abc import Iterator

import pyarrow.compute as pc
import pytest
import redis
from support.compose_world import World, missing_engine
from support.workers import ROOT, until

from ingestlab.analytics.lake import Lake
from ingestlab.lake.storage.store import open_store
from ingestlab.queue import find_run, submit
from ingestlab.sinks.milvus.search import search
from ingestlab.stack.samples import ensure_samples

WANTED = "INGESTLAB_TEST_COMPOSE" in os.environ
WHY_NOT = missing_engine() if WANTED else "these tests take minutes: `make test-compose` runs them"
pytestmark = [
    pytest.mark.compose,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "an engine is there"),
]
FILES = "s3://samples/bts/*.csv"
OURS = ("scheduler", "dask-worker", "worker", "notebook-worker", "lab")

# Its tasks wait as long as the file `closed` lies beside it.
GATED = """
import time
from pathlib import Path
from ingestlab import Csv, Pipeline

def clean(df):
    while Path("/app/pipelines/closed").exists():
        time.sleep(0.02)
    return df

PIPELINE = Pipeline(table="TABLE", reader=Csv(), clean=clean)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything, up and healthy."""
    world = World(tmp_path_factory.mktemp("compose"))
    world.images()
    try:
        world.compose("up", "--wait", "--build", timeout=900)
        yield world
    finally:
        log = world.compose("logs", "--no-color", check=False)
        (world.folder / "compose.log").write_text(log)
        world.forget()


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Records in the alarm files."""
    folder = ensure_samples(tmp_path_factory.mktemp("samples")) / "bts"
    return sum(len(file.read_bytes().splitlines()) - 1 for file in folder.iterdir())


def once(world: World, table: str, count: int) -> None:
    """Asserts that every record is in the table or among its rejects, and none twice."""
    lake = Lake(world.settings)
    rows, rejects = lake.table(table).arrow(["_source", "_row"]), lake.rejects(table)
    assert rows.num_rows + len(rejects) == count
    pairs = pc.binary_join_element_wise(rows["_source"].cast("string"), rows["_row"].cast("string"), "#")
    kept = {*pairs.to_pylist(), *(rejects["source"].astype(str) + "#" + rejects["row"].astype(str))}
    assert len(kept) == count


def gated(world: World, table: str) -> str:
    """A pipeline whose tasks wait at a gate, and a closed gate."""
    (world.folder / "pipelines" / f"{table}.py").write_text(GATED.replace("TABLE", table))
    (world.folder / "pipelines" / "closed").touch()
    return table


def open_gate(world: World) -> None:
    (world.folder / "pipelines" / "closed").unlink()


def test_all_parts_are_well_and_none_runs_as_root(world):
    for service in ("redis", "s3", "milvus", *OURS):
        containers = world.containers(service)
        assert containers
        assert {one["Health"] for one in containers} == {"healthy"}
    assert world.containers("init")[0]["ExitCode"] == 0
    for service in (*OURS, "redis"):
        assert world.inside(service, "id", "-u").strip() != "0"


def test_alarms_go_through_it_from_this_machine(world, count):
    assert world.cli("doctor").returncode == 0
    done = world.cli("submit", FILES, "--wait").stdout
    assert "24 committed" in done
    once(world, "bts_alarms", count)
    run = find_run(done.split()[1], world.settings)
    assert run.result().state == "finished"
    assert "24 committed" in world.cli("watch", run.id).stdout
    again = submit(FILES, settings=world.settings).wait(60)
    assert again.count("unchanged") == 24


def test_doctor_and_the_command_line_work_in_the_lab_container(world):
    found = json.loads(world.inside("lab", "ingestlab", "doctor", "--json"))
    assert {finding["level"] for finding in found} == {"ok"}
    assert "24" in world.inside("lab", "ingestlab", "submit", "s3://samples/bts/*.csv", "--wait")


def test_a_notebook_runs_as_a_job(world):
    uri = "s3://samples/weblogs/access-2017-10-23.log"
    world.cli("notebook", "run_pipeline.ipynb", "--enqueue", "--wait", "-p", "uri", uri)
    store = open_store(world.settings.lake_url, world.settings.storage_options)
    assert any(name.endswith(".html") for name in store.walk("_ingestlab/notebooks"))
    assert Lake(world.settings).table("weblogs").rows > 0


@pytest.mark.parametrize("where", ["here", "lab"])
def test_the_first_notebook_runs(world, where):
    if where == "lab":
        code = f"{EXECUTE}\nrun('/app/notebooks')"
        assert "3 checks passed" in world.inside("lab", "python", "-", text=code)
    else:
        code = f"{EXECUTE}\nrun('notebooks')"
        assert "3 checks passed" in world.run(sys.executable, "-", text=code).stdout
        assert not (world.folder / ".ingestlab").exists(), "it has started servers of its own"


EXECUTE = """
import nbformat
from nbclient import NotebookClient

def run(folder, name="01_first_ingestion"):
    notebook = nbformat.read(f"{folder}/{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
    said = [o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", [])]
    print(sum("✔" in text for text in said), "checks passed")
"""


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("0[02-8]_*.ipynb")))
def test_the_rest_of_the_course_runs_in_the_lab_container(world, name):
    said = world.inside("lab", "python", "-", text=f"{EXECUTE}\nrun('/app/notebooks', {name!r})")
    assert re.search(r"^[23] checks passed", said, re.MULTILINE)


def test_the_lab_passes_on_the_dashboard(world):
    token = {"Authorization": f"token {world.values['LAB_TOKEN']}"}
    for port, path, headers in (
        ("LAB_PORT", "/proxy/scheduler:8787/ingest", token),
        ("LAB_PORT", "/api/contents/notebooks/01_first_ingestion.ipynb", token),
        ("DASHBOARD_PORT", "/ingest", {}),
    ):
        assert status(world.values[port], path, headers) == 200
    assert status(world.values["LAB_PORT"], "/api/contents", {}) == 403, "nothing without the token"


def status(port: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def test_documents_can_be_searched(world):
    result = submit("s3://samples/documents/packages-r.jsonl", settings=world.settings).wait(120)
    assert not result.failed  # the course may have brought them already
    hits = search("documents", "talk to a redis server", world.settings, limit=5)
    assert "redis" in " ".join(hits["name"]).lower()


def test_the_tutorials_way_of_starting_a_worker(world):
    """`docker run -e QUEUE_NAME=… -e REDIS_URL=… ingestlab worker`, and where its lake is."""
    secret, project = world.values["REDIS_PASSWORD"], f"ingestlab-test-{os.getpid()}"
    variables = {
        "QUEUE_NAME": "elsewhere",
        "REDIS_URL": f"redis://:{secret}@redis:6379/0",
        "INGESTLAB_LAKE": "s3://lake",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "AWS_ACCESS_KEY_ID": "ingestlab",
        "AWS_SECRET_ACCESS_KEY": world.values["S3_SECRET_KEY"],
    }
    flags = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
    name = f"{project}-elsewhere"
    run = submit("s3://samples/weblogs/*.log", settings=world.settings.model_copy(update={"queue": "elsewhere"}))
    world.run(
        "docker", "run", "-d", "--name", name, "--network", f"{project}_default", *flags, "ingestlab:0.2.0", "worker"
    )
    try:
        assert not run.wait(60).failed
        asked = time.monotonic()
        world.run("docker", "stop", "--time", "20", name)
        assert time.monotonic() - asked < 8, "SIGTERM is heard"
        code = world.run("docker", "inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        assert code == "0"
    finally:
        world.run("docker", "rm", "--force", name)


@pytest.mark.parametrize("service", ["worker", "dask-worker", "scheduler", "redis"])
def test_a_part_killed_in_the_middle_of_a_job_costs_nothing_but_time(world, service, count):
    table = gated(world, f"killed_{service.replace('-', '_')}")
    run = submit(FILES, pipeline=table, settings=world.settings)
    until(lambda: run.progress().state == "processing", 60, "a job in the middle")
    if service == "redis":
        time.sleep(1.5)  # its log is flushed every second
    world.compose("kill", "--signal", "KILL", service)
    open_gate(world)
    world.compose("up", "--wait", "--no-recreate")
    result = run.wait(200)
    assert not result.failed
    once(world, table, count)


def test_more_of_a_part_and_then_fewer(world, count):
    world.compose("up", "--wait", "--no-recreate", "--scale", "worker=4", "--scale", "dask-worker=3")
    assert len(world.containers("worker")) == 4
    with redis.Redis.from_url(world.settings.redis) as client:
        until(lambda: client.scard("rq:workers:ingest") >= 4, 30, "four workers that listen")
    said = world.cli("doctor").stdout
    assert "workers: 3" in said
    (world.folder / "pipelines" / "scaled.py").write_text(GATED.replace("TABLE", "scaled"))
    assert not submit(FILES, pipeline="scaled", settings=world.settings).wait(100).failed
    once(world, "scaled", count)
    world.compose("up", "--wait", "--no-recreate")


def test_queue_lake_and_vectors_outlive_down_and_up(world, count):
    world.compose("stop", "worker")
    table = gated(world, "later")
    run = submit(FILES, pipeline=table, settings=world.settings)
    open_gate(world)
    before = Lake(world.settings).table("bts_alarms").rows
    asked = time.monotonic()
    world.compose("down")
    assert time.monotonic() - asked < 30
    world.compose("up", "--wait")
    assert not run.wait(100).failed
    once(world, table, count)
    assert Lake(world.settings).table("bts_alarms").rows == before
    assert len(search("documents", "talk to a redis server", world.settings, limit=5)) == 5


def test_all_roles_end_at_once_when_they_are_asked_to(world):
    asked = time.monotonic()
    world.compose("stop", *OURS)
    assert time.monotonic() - asked < 15
    codes = {service: {one["ExitCode"] for one in world.containers(service)} for service in OURS}
    assert not any(code == 137 for found in codes.values() for code in found), f"killed: {codes}"
