"""Notebooks as jobs: run by a worker of their own in a real kernel, kept however they end; and nothing else is run."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from support.workers import CONTENT, PATIENCE, PLAIN, ROOT, Workers, environment, environment_of, open_gates, until
from typer.testing import CliRunner

from ingestlab import Lab, TerminalError
from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.cli import app
from ingestlab.core.extras import install_command
from ingestlab.core.settings import Settings
from ingestlab.notebook import LabRun
from ingestlab.notebook.run import starving
from ingestlab.notebook.runner import submit_notebook
from ingestlab.notebook.runner.kernel import Session
from ingestlab.notebook.runner.source import name_of
from ingestlab.queue import Run, find_run, submit
from ingestlab.queue.rq.queueing import fetch_job, open_queue
from ingestlab.queue.rq.serializer import JOB_FUNCTION, NOTEBOOK_FUNCTION
from ingestlab.stack import valkey

INGEST = """
from ingestlab import Lab
run = Lab().submit(uri, pipeline="plain")
display({"application/vnd.ingestlab.run+json": {"run": run.id}}, raw=True)
print(run.wait(60).count("committed"), "committed")
"""
GATE = """
import os, time
from pathlib import Path
Path(gate, f"began-{os.getpid()}").touch()
print("before the gate", flush=True)
while not Path(gate, "open").exists():
    time.sleep(0.02)
"""


def write(path: Path, *cells: str, parameters: str = "") -> None:
    """Writes a notebook."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[tagged, *map(new_code_cell, cells)]), path)


@dataclass(frozen=True)
class Desk:
    """A worker for files, one for notebooks, and a folder of notebooks."""

    files: Workers
    notebooks: Workers
    folder: Path

    @property
    def settings(self) -> Settings:
        return self.files.settings

    def submit(self, name: str, /, **parameters: Any) -> Run:
        self.notebooks.have(1)
        return submit_notebook(name, parameters, settings=self.settings)

    def gate(self, name: str) -> Path:
        """A folder in which a notebook says that it has begun, and waits for the file `open`."""
        home = self.folder / "gates"
        home.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))  # another one where the test is tried again

    def kept(self, run: Run) -> tuple[Any, str]:
        """The executed notebook of a run that has ended, and its page."""
        kept = run.result().kept
        assert run.id in Path(kept["notebook"]).parts
        return nbformat.read(kept["notebook"], as_version=4), Path(kept["page"]).read_text()

    def good(self) -> None:
        """A notebook that must go well: the worker is alive."""
        assert self.submit("literals.ipynb").wait(PATIENCE).state == "finished"


@pytest.fixture
def desk(whole_desk: Desk) -> Iterator[Desk]:
    yield whole_desk
    open_gates(whole_desk.folder)


@pytest.fixture(scope="module")
def whole_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "pipelines").mkdir()
    (folder / "pipelines/plain.py").write_text(PLAIN)
    write(folder / "notebooks/ingest.ipynb", INGEST, parameters="uri = None")
    write(folder / "notebooks/gated.ipynb", GATE, "print('behind the gate')", parameters="gate = None")
    write(
        folder / "notebooks/week/failing.ipynb", "print('before')", "1 / zero", "print('after')", parameters="zero = 0"
    )
    write(folder / "notebooks/dying.ipynb", "import os\nos._exit(7)")
    literals = "import json\nprint(json.dumps(value))"
    write(folder / "notebooks/literals.ipynb", literals, parameters="value: object = 5")
    write(folder / "elsewhere/outside.ipynb", f"open({str(folder / 'sprung')!r}, 'w').close()")
    (folder / "notebooks/link.ipynb").symlink_to(folder / "elsewhere/outside.ipynb")
    (folder / "notebooks/linked").symlink_to(folder / "elsewhere")
    (folder / "redis").mkdir()
    with valkey.serve(folder / "redis") as url:
        settings = Settings(
            _env_file=None,
            home=folder / "home",
            redis_url=url,
            pipelines=(str(folder / "pipelines"),),
            notebooks=(str(folder / "notebooks"),),
            beat=0.5,
            retry_delays=(1, 1),
        )
        (folder / "logs").mkdir()
        with (
            Workers(settings, folder) as files,
            Workers(settings, folder / "logs", queue="notebooks") as notebooks,
        ):
            yield Desk(files, notebooks, folder)


def say(desk: Desk, *words: str | Path) -> Any:
    """Runs a command in this process."""
    return CliRunner().invoke(
        app, [str(word) for word in words], env={**environment_of(desk.settings), "COLUMNS": "200"}
    )


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def began(gate: Path, count: int = 1) -> list[int]:
    """The kernels that have come to a gate."""
    found = until(lambda: len(f := sorted(gate.glob("began-*"))) >= count and f, 30, "a notebook that has begun")
    return [int(path.name.removeprefix("began-")) for path in found]


# As it should be


@pytest.mark.slow("notebook jobs")
def test_one_worker_for_files_and_one_for_notebooks_are_enough(desk):
    desk.files.have(1)
    desk.notebooks.have(1)
    source = desk.folder / "plain-1.csv"
    source.write_bytes(CONTENT)
    words = ["notebook", desk.folder / "notebooks/ingest.ipynb", "-p", "uri", source.as_uri(), "--enqueue", "--wait"]
    done = say(desk, *words, "--json")
    assert done.exit_code == 0, done.output
    run = find_run(json.loads(done.stdout)["run"], desk.settings)
    result = run.result()
    assert [(o.uri, o.status) for o in result.outcomes] == [("ingest.ipynb", "executed")]
    assert find_run(result.kept["run"], desk.settings).result().count("committed") == 1
    assert Lake(desk.settings).table("plain").rows == 100
    notebook, page = desk.kept(run)
    (given,) = (cell.source for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert given == f"# given\nuri = {source.as_uri()!r}"
    assert "1 committed" in page
    listed = say(desk, "runs").stdout
    assert any(run.id in line and "notebooks" in line and "finished" in line for line in listed.splitlines())
    shown = say(desk, "show", run.id).stdout
    assert result.kept["page"] in shown
    assert "1 executed" in shown


@pytest.mark.slow("notebook jobs")
@pytest.mark.parametrize(
    "value",
    [
        "');open('sprung','w')#",
        "\n!touch sprung\n%system touch sprung\n'''\\",
        {"a": [None, True, -1.5e300, 10**30, {"b": "ü\u2028\x00"}]},
    ],
    ids=["quotes", "magics", "nested"],
)
def test_a_parameter_is_a_literal_and_never_code(desk, value):
    run = desk.submit("literals.ipynb", value=value)
    assert run.wait(PATIENCE).state == "finished"
    notebook, _ = desk.kept(run)
    (output,) = (output for cell in notebook.cells for output in cell.get("outputs", []))
    assert json.loads(output.text) == value
    assert not (desk.folder / "notebooks/sprung").exists()


def test_a_cell_that_fails_is_named_with_its_error_and_all_is_kept(desk):
    run = desk.submit("week/failing.ipynb", zero=0)
    result = run.wait(PATIENCE)
    assert result.state == "failed"
    error = result.outcomes[0].exception()
    assert error.problem == "Cell [4] of week/failing.ipynb failed"
    assert error.got == "ZeroDivisionError: division by zero"
    assert result.kept["page"] in error.fix
    notebook, page = desk.kept(run)
    assert [bool(cell.outputs) for cell in notebook.cells] == [False, False, True, True, False]
    assert "ZeroDivisionError" in page
    assert "ZeroDivisionError" in LabRun.of(run)._repr_html_()
    assert fetch_job(desk.files.client, run.record.jobs[0].id).retries_left == 0, "it would fail again"

    desk.files.client.delete(f"rq:job:{run.record.jobs[0].id}", f"ingestlab:run:{run.id}")
    remembered = find_run(run.id, desk.settings)
    assert remembered.result().kept == result.kept, "the lake has a record of it, too"
    assert (remembered.record.queue, remembered.progress().state) == ("notebooks", "failed")


@pytest.mark.slow("notebook jobs")
def test_the_same_notebook_with_the_same_parameters_is_one_job(desk):
    gate = desk.gate("twice")
    first = desk.submit("gated.ipynb", gate=str(gate))
    began(gate)
    again = Lab(redis_url=desk.settings.redis, notebooks=desk.settings.notebooks).notebook(
        "gated.ipynb", gate=str(gate)
    )
    assert again.id == first.id
    assert desk.submit("gated.ipynb", gate=f"{gate}/").cancel() == 1, "another value, another job"
    until(
        lambda: (p := first.progress()).note == "cell 3 of 4" and (p.partitions, p.partitions_done) == (4, 2), 5, "it"
    )
    job, wip = first.record.jobs[0].id, "rq:wip:notebooks"
    (entry, before) = desk.files.client.zrange(wip, 0, -1, withscores=True)[0]
    assert entry.decode().startswith(job)
    until(lambda: desk.files.client.zscore(wip, entry) > before, 5, "a beat of its worker's heart")
    (gate / "open").touch()
    assert first.wait(PATIENCE).state == "finished"
    assert len(list(gate.glob("began-*"))) == 1
    fresh = desk.submit("gated.ipynb", gate=str(gate))
    assert fresh.id != first.id, "what has ended makes room"
    assert fresh.wait(PATIENCE).state == "finished"


# Ended before its end


@pytest.mark.slow("notebook jobs")
def test_the_kernel_of_a_killed_worker_ends_and_another_worker_takes_over(desk):
    gate = desk.gate("killed")
    run = desk.submit("gated.ipynb", gate=str(gate))
    (kernel,) = began(gate)
    desk.notebooks.at_work_on(run.record.jobs[0].id).kill()
    until(lambda: gone(kernel), 5, "the end of the kernel")
    desk.notebooks.have(1)
    assert len(began(gate, 2)) == 2
    (gate / "open").touch()
    assert run.wait(PATIENCE).state == "finished"
    assert "behind the gate" in desk.kept(run)[1]


@pytest.mark.slow("notebook jobs")
def test_a_notebook_that_takes_too_long_is_ended_and_kept(desk):
    gate = desk.gate("late")
    desk.good()
    workers = desk.notebooks.pids()
    hasty = desk.settings.model_copy(update={"job_timeout": 8})
    run = submit_notebook("gated.ipynb", {"gate": str(gate)}, settings=hasty)
    (kernel,) = began(gate)
    result = run.wait(PATIENCE)
    error = result.outcomes[0].exception()
    assert error.problem == "Cell [3] of gated.ipynb: Job exceeded its time limit of 8 s"
    assert error.code == "job_timeout"
    assert "INGESTLAB_JOB_TIMEOUT" in error.fix
    assert gone(kernel)
    page = desk.kept(run)[1]
    assert "before the gate" in page
    assert "time limit of 8 s" in page
    desk.good()
    assert desk.notebooks.pids() == workers, "it is alive"


@pytest.mark.slow("notebook jobs")
def test_a_notebook_can_be_cancelled_while_it_runs_and_run_again(desk):
    gate = desk.gate("cancelled")
    run = desk.submit("gated.ipynb", gate=str(gate))
    (kernel,) = began(gate)
    assert run.cancel() == 1
    assert "Cell [3] of gated.ipynb: Job was cancelled by" in str(run.wait(PATIENCE).failed[0].exception())
    assert gone(kernel)
    assert "before the gate" in desk.kept(run)[1]
    assert run.cancel() == 0
    assert run.retry() == 1
    began(gate, 2)
    (gate / "open").touch()
    assert run.wait(PATIENCE).state == "finished", "the wish was about its first try"


@pytest.mark.slow("notebook jobs")
def test_a_kernel_that_dies_is_the_notebooks_failure(desk):
    run = desk.submit("dying.ipynb")
    error = run.wait(30).outcomes[0].exception()
    assert error.problem == "Cell [1] of dying.ipynb failed"
    assert "the kernel died" in error.got
    assert "the kernel died" in desk.kept(run)[1]


def test_a_notebook_that_leaves_early_has_failed(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("import sys\nsys.exit(0)"), new_code_cell("print('behind')")])
    session = Session(notebook, tmp_path, os.environ)
    assert session.run() == "SystemExit: 0"  # papermill takes this for a success
    assert session.begun == 1


@pytest.mark.slow("notebook jobs")
@pytest.mark.parametrize("seconds", [0, 0.3, 0.6])
def test_who_stops_waiting_leaves_nothing_behind(seconds, tmp_path, monkeypatch):
    """Ctrl-C may come before there is a kernel, while it starts, and when it is at work."""
    me, deadline = psutil.Process(), time.monotonic() + seconds
    notebook = new_notebook(cells=[new_code_cell("import time; time.sleep(60)")])
    monkeypatch.setattr("ingestlab.notebook.runner.kernel.LOOK_EVERY", 0.1)
    gc.collect()
    files, threads, children = me.num_fds(), threading.active_count(), me.children()

    def look() -> None:
        if time.monotonic() >= deadline:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Session(notebook, tmp_path, os.environ).run(look)
    assert me.num_fds() <= files
    assert (threading.active_count(), me.children()) == (threads, children)


# Not to be run


def refusal(desk: Desk, payload: dict[str, Any], queue: str = "notebooks", function: str = NOTEBOOK_FUNCTION) -> str:
    """What is said of a message that somebody has put on the queue."""
    (desk.files if queue == "ingest" else desk.notebooks).have(1)
    job = open_queue(desk.files.client, queue).enqueue(function, payload)
    until(lambda: job.get_status().value == "failed", 20, "an end")
    job = fetch_job(desk.files.client, job.id)
    assert not job.retries_left
    assert not (desk.folder / "sprung").exists()
    return str(job.notes["error"])


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd.ipynb", "ABSOLUTE", "../elsewhere/outside.ipynb", "week/../../elsewhere/outside.ipynb"),
        *(
            "./literals.ipynb",
            "week//failing.ipynb",
            "..\\elsewhere\\outside.ipynb",
            ".hidden/x.ipynb",
            "literals.ipynb\n",
        ),
        *("~/outside.ipynb", "$HOME/x.ipynb", "file:///x.ipynb", "literals", "literals.py", "", "x\x00.ipynb", 5, None),
    ],
)
def test_only_a_path_below_the_notebooks_folder_names_a_notebook(desk, name):
    name = str(desk.folder / "elsewhere/outside.ipynb") if name == "ABSOLUTE" else name
    said = refusal(desk, {"run": "r", "notebook": name})
    assert "UndecodableJobError" in said
    assert "Message is no request for a notebook" in said
    assert "notebook: " in said


@pytest.mark.parametrize("name", ["link.ipynb", "linked/outside.ipynb"])
def test_no_link_leads_out_of_the_notebooks_folder(desk, name):
    assert "no job follows a link out of the folder" in refusal(desk, {"run": "r", "notebook": name})
    with pytest.raises(TerminalError, match="no notebook "):
        submit_notebook(name, settings=desk.settings)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"notebook": "litterals.ipynb"}, "Did you mean 'literals.ipynb'?"),
        ({"parameters": {"valu": 1}}, "a parameter of the notebook (value)"),
        ({"parameters": {"value = open('sprung', 'w') #": 1}}, "is no name of a parameter"),
        ({"parameters": {"import": 1}}, "is no name of a parameter"),
        ({"parameters": {"value": float("nan")}}, "not JSON compliant"),
        ({"parameters": ["value"]}, "parameters: "),
        ({"kernel": "bash"}, "kernel: "),
        ({"tenant": "nobody"}, "one of the tenants default"),
        ({"run": "../r"}, "run: "),
    ],
)
def test_what_else_is_wrong_with_a_message_is_said(desk, more, says):
    assert says in refusal(desk, {"run": "r", "notebook": "literals.ipynb", **more}).replace("\\'", "'")


@pytest.mark.slow("notebook jobs")
def test_files_and_notebooks_do_not_wait_for_each_others_workers(desk):
    assert "a notebook on 'ingest'" in refusal(desk, {"run": "r", "notebook": "literals.ipynb"}, queue="ingest")
    files = {"run": "r", "table": "t", "sources": [{"uri": "file:///x.csv"}]}
    assert "files on 'notebooks'" in refusal(desk, files, function=JOB_FUNCTION)
    with pytest.raises(TerminalError, match="Name another queue"):
        submit([(desk.folder / "x.csv").as_uri()], queue="notebooks", settings=desk.settings)
    command = [sys.executable, "-m", "ingestlab.queue.worker", "ingest", "notebooks"]
    env = {**environment(), **environment_of(desk.settings)}
    both = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert both.returncode == 1
    assert "run `ingestlab worker notebooks` beside the other workers" in both.stderr


@pytest.mark.slow("notebook jobs")
def test_a_worker_that_is_asked_to_end_finishes_its_notebook(desk):
    gate = desk.gate("asked")
    run = desk.submit("gated.ipynb", gate=str(gate))
    began(gate)
    worker = desk.notebooks.at_work_on(run.record.jobs[0].id)
    worker.terminate()
    time.sleep(0.5)  # it must not end in this time
    assert not gone(worker.pid)
    (gate / "open").touch()
    assert run.wait(PATIENCE).state == "finished"
    until(lambda: not desk.notebooks.alive(), 10, "the worker's end")


@pytest.mark.slow("notebook jobs")
def test_a_worker_without_jupyter_names_the_extra(desk, tmp_path):
    (tmp_path / "nbclient.py").write_text("raise ModuleNotFoundError('No module named nbclient')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    for process in desk.notebooks.alive():
        process.kill()
    until(lambda: not desk.notebooks.alive(), 10, "the worker's end")
    with Workers(desk.settings, tmp_path, queue="notebooks", PYTHONPATH=path) as bare:
        bare.have(1)
        run = submit_notebook("literals.ipynb", settings=desk.settings)
        error = run.wait(PATIENCE).failed[0].exception()
    assert error.fix == f"Install it with: {install_command('lab')}"
    assert fetch_job(desk.files.client, run.record.jobs[0].id).retries_left == 0


# From the producer's side


def test_a_notebook_is_named_as_its_worker_finds_it(desk, tmp_path, monkeypatch):
    inside, elsewhere = (
        desk.folder / "notebooks",
        desk.settings.model_copy(update={"notebooks": (str(tmp_path / "no"),)}),
    )
    monkeypatch.chdir(inside / "week")
    for path in ("failing.ipynb", "week/failing.ipynb", inside / "week/failing.ipynb"):
        assert name_of(path, desk.settings) == "week/failing.ipynb"
    assert name_of("any/name.ipynb", elsewhere) == "any/name.ipynb", "only the worker knows"
    for path in (desk.folder / "elsewhere/outside.ipynb", "../../elsewhere/outside.ipynb", "faling.ipynb"):
        with pytest.raises(TerminalError, match="INGESTLAB_NOTEBOOKS"):
            name_of(path, desk.settings)
    with pytest.raises(TerminalError, match="INGESTLAB_NOTEBOOKS"):
        name_of(inside / "gated.ipynb", elsewhere)


def test_mistakes_are_told_before_anything_is_queued(desk):
    with pytest.raises(TerminalError, match=r"'urii' is not a parameter of the notebook \(uri\)"):
        submit_notebook("ingest.ipynb", {"urii": "x"}, settings=desk.settings)
    with pytest.raises(TerminalError, match="with plain parameters; got parameters"):
        submit_notebook("ingest.ipynb", {"uri": {1, 2}}, settings=desk.settings)
    done = say(desk, "notebook", "ingest.ipynb", "--wait")
    assert done.exit_code == 2
    assert "--wait goes with --enqueue" in done.output


def test_nobody_who_listens_is_missed(desk):
    nobody = desk.settings.model_copy(update={"notebook_queue": "quiet"})
    assert "run `ingestlab worker quiet`" in starving(nobody, "quiet")


@pytest.mark.slow("a stack of its own")
def test_the_embedded_stack_starts_a_worker_when_a_notebook_is_waiting(stack):
    lab = Lab(home=stack.home)
    assert "notebook-worker" not in embedded.running(stack.home).pids
    run = lab.notebook("run_pipeline.ipynb", uri=lab.samples("bts")[:2], pipeline="bts_alarms", force=True)
    result = run.watch(90).result()
    assert result.state == "finished", result
    assert lab.run(result.kept["run"]).result().count("committed") == 2
    assert "notebook-worker" in embedded.running(stack.home).pids
    lab.scale(workers=1)
    lab.scale(workers=2)
    assert embedded.running(stack.home).pids["notebook-worker"].find(), "who scales leaves it alone"
