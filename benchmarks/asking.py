"""Programs that are asked in turns: each answers a line of JSON on its input with one on its output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Asked:
    """A running program.

    Attributes:
        pid: Its process.
    """

    def __init__(self, name: str, popen: subprocess.Popen[str], log: Path) -> None:
        self._name, self._popen, self._log, self.pid = name, popen, log, popen.pid

    def ask(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(wanted) + "\n")
        self._popen.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer; the benchmark ends where there is none."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} has failed:\n{self._log.read_text()[-2000:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextmanager
def asked(name: str, command: Sequence[str], log: Path, folder: Path | None = None) -> Iterator[Asked]:
    """A program, for as long as the block lasts; what it prints on the side is in `log`."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors, cwd=folder, **pipes) as popen:
        try:
            yield Asked(name, popen, log)
        finally:
            assert popen.stdin is not None
            popen.stdin.close()  # it ends at the end of its input
