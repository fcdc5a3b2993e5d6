"""A Milvus Lite server of a test's own, as the embedded stack starts it, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self

from ingestlab.stack import milvus
from ingestlab.stack.valkey import free_port
from support.workers import until


class LiteServer:
    """Serves a folder on one port; a block of `with` runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = milvus.url(self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            command = milvus.command(self.folder / "data", self.port)
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        until(lambda: self._process.poll() is not None or milvus.listens(self.port), 30, "Milvus Lite")
        assert self._process.poll() is None, (self.folder / "log").read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)
