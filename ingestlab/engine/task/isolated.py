"""A partition whose task took too long, or cost its worker: its files one by one, in child processes that may die.

The child asks other people's code about rows in forks of its own, which have a deadline: so the row that hangs, or
that kills whoever touches it, is found as one that raises is, and rejected.

Run as ``python -m ingestlab.engine.task.isolated FD``: takes its work as JSON from standard
input, and writes a receipt a line to the file descriptor.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pkgutil import resolve_name
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Partition, Receipt
from ingestlab.engine.task.culprits import TRIAL, Fault, Work, in_place
from ingestlab.engine.task.deadline import alive, expendable
from ingestlab.engine.task.job import Job

APART = 100_000  # numbers of partitions that are made of one whose number is its multiple
SEARCH = (2, 32)  # the search for bad rows of one file may take so many times `task_timeout` and `row_timeout`
GRACE = 5.0  # seconds


def scattered(work: Partition) -> list[Partition]:
    """Make a partition of each piece."""
    start = (work.number + 1) * APART
    return [Partition(number=start + i, pieces=(piece,)) for i, piece in enumerate(work.pieces)]


def run_apart(task: str, partition: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a task (``module:function``) for each file of a partition in children. This is a Dask task.

    The file at which a child dies, or ends too late, has failed; another child goes on with the next one.
    """
    parts, limits = scattered(Partition.from_dict(partition)), Job.from_dict(job)
    receipts_so_far: list[dict[str, Any]] = []
    while len(receipts_so_far) < len(parts):
        receipts, trouble = _in_child(task, parts[len(receipts_so_far) :], job, limits)
        receipts_so_far += receipts
        if len(receipts_so_far) < len(parts):
            part = parts[len(receipts_so_far)]
            fix = "See the log of the Dask worker. Correct the pipeline or the file, or set INGESTLAB_TASK_TIMEOUT."
            error = TerminalError(
                "The task's process died",
                expected=f"{part.pieces[0].name} to be worked on in a process that lives",
                got=trouble,
                fix=fix,
                code="task_died",
            )
            receipts_so_far.append(Receipt(number=part.number, errors={part.pieces[0].uri: error.to_dict()}).to_dict())
    return receipts_so_far


def _in_child(
    task: str, parts: Sequence[Partition], job: dict[str, Any], limits: Job
) -> tuple[list[dict[str, Any]], str]:
    """Run one child. Returns its receipts, and how it ended."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "ingestlab.engine.task.isolated", str(write)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[write], start_new_session=True)  # noqa: S603
    os.close(write)
    message = json.dumps({"task": task, "partitions": [part.to_dict() for part in parts], "job": job})
    timeout = limits.task_timeout
    patience = 2 * (SEARCH[0] * timeout + SEARCH[1] * limits.row_timeout) + GRACE
    lines: list[bytes] = []
    rest, began = b"", time.monotonic()
    try:
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin:
            child.stdin.write(message.encode())
        while select.select([read], [], [], patience)[0] and (data := os.read(read, 1 << 16)):
            *whole, rest = (rest + data).split(b"\n")
            lines += whole
            began = time.monotonic() if whole else began
        took = time.monotonic() - began
        code = _end_of(child)
    finally:
        os.close(read)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # with all that it has started
        child.wait()
    late = took >= timeout and code in (1, -signal.SIGKILL)
    got = f"no end within {timeout:g} s (task_timeout)" if late else f"its end with {_named(code)}"
    return [json.loads(line) for line in lines], got


def _end_of(child: subprocess.Popen[bytes]) -> int:
    """Return a child's exit code, killing it if it lives."""
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


class Forked:
    """Runner of other people's code in forks, each with a deadline.

    Args:
        row_timeout: Seconds for one row.
        task_timeout: Seconds for all rows of a file.
    """

    def __init__(self, row_timeout: float, task_timeout: float) -> None:
        self._row, self._all = min(row_timeout, task_timeout), task_timeout
        self._left = self._most = SEARCH[0] * self._all + SEARCH[1] * self._row

    def __call__(self, work: Work, rows: int, size: int) -> Fault | None:
        """Try some work on so many rows of `size`. None if it succeeds."""
        limit = min(max(rows, 1) * self._row, self._row + self._all * rows / max(size, 1))
        if self._left <= 0:
            got = f"rows that take too long, and more of them than are found within {self._most:g} s"
            raise TerminalError(
                "The pipeline's code did not end",
                expected="code of the pipeline that ends",
                got=got,
                fix="Correct it, or set INGESTLAB_TASK_TIMEOUT.",
                code="task_timeout",
            )
        alive(limit)
        began = time.monotonic()
        fault = _in_fork(work, limit)
        self._left -= time.monotonic() - began if fault else 0
        alive()
        return fault


def _in_fork(work: Work, seconds: float) -> Fault | None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends it: whoever asked may be gone by then
        signal.alarm(math.ceil(seconds + GRACE))
        fault = in_place(work)
        os.write(write, json.dumps(fault and [fault.rule, fault.text, fault.column]).encode())
        os._exit(0)
    os.close(write)
    try:
        if not select.select([read], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            return Fault("TimeoutError", f"no end within {seconds:g} s")
        data = os.read(read, 1 << 16)
    finally:
        os.close(read)
        _, status = os.waitpid(pid, 0)
    if not data:
        return Fault("ProcessDied", _named(os.waitstatus_to_exitcode(status)))
    said = json.loads(data)
    return Fault(*said) if said else None


def _named(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def main() -> None:
    """Run the work that standard input describes."""
    expendable()
    said = json.load(sys.stdin)
    task, job = resolve_name(said["task"]), said["job"]
    limits = Job.from_dict(job)
    with os.fdopen(int(sys.argv[1]), "w") as out:
        for partition in said["partitions"]:
            TRIAL.set(Forked(limits.row_timeout, limits.task_timeout))
            print(json.dumps(task(partition, job)), file=out, flush=True)


if __name__ == "__main__":
    main()
