"""A connector as a process: with files of its own, a small environment, and an end in every case."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import psutil

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import MB, Settings
from ingestlab.sources.airbyte import guard
from ingestlab.sources.airbyte.installed import Program
from ingestlab.sources.airbyte.messages import in_line

# What a connector may know of the worker's environment: how to find programs and servers, no secret of ours.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_HERE = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "DOCKER_HOST")
_CHUNK = MB // 4
_LONGEST = 256 * MB  # of a line
_STDERR = 12  # lines that an error shows
_PATIENCE = 10.0  # seconds for an end


@contextmanager
def files(contents: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Write JSON files that only this user can read. Gives their paths, with that of the folder as ``""``.

    Args:
        contents: What goes into each, by name.
    """
    folder = tempfile.mkdtemp(prefix="ingestlab-airbyte-")  # of mode 0700
    try:
        paths = {"": folder}
        for name, content in contents.items():
            path = Path(folder, f"{name}.json")
            path.touch(0o600, exist_ok=False)
            with path.open("w", encoding="utf-8") as file:
                json.dump(content, file)
            paths[name] = str(path)
        yield paths
    finally:
        rmtree(folder, ignore_errors=True)


@dataclass
class Ending:
    """How a connector ended.

    Attributes:
        code: Its exit code; 128 and more for a signal.
        stderr: The last lines of its standard error, as one.
        rest: What came behind the last line feed of its output.
    """

    code: int = 0
    stderr: str = ""
    rest: bytes = b""


class Running:
    """A connector that runs.

    Args:
        process: The guard that runs it.
        program: What it is.
        settings: Have its limits.
    """

    def __init__(self, process: asyncio.subprocess.Process, program: Program, settings: Settings) -> None:
        self._process, self._program, self._silence = process, program, settings.airbyte_timeout
        self._last: deque[bytes] = deque(maxlen=_STDERR)
        self._hearing = asyncio.create_task(self._hear())
        self.ending = Ending()

    async def _hear(self) -> None:
        """Keep the last lines of standard error, and never let it run full."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            self._last.extend(line[:2000] for line in lines if line.strip())
            rest = rest[-_CHUNK:]
        self._last.extend([rest] if rest.strip() else [])

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Yield the lines of its output as they come, some at a time. Then `ending` tells how it ended.

        Raises:
            TransientError: Nothing comes for a long time.
            TerminalError: A line has no end.
        """
        assert self._process.stdout is not None
        parts: list[bytes] = []
        length = 0
        while chunk := await self._chunk(self._process.stdout):
            first, feed, rest = chunk.partition(b"\n")
            parts.append(first)
            length += len(first)
            if length > _LONGEST:
                problem = f"{self._program.connector} sent a line that is too long"
                raise TerminalError(problem, expected=f"at most {_LONGEST >> 20} MB", code="connector_invalid")
            if feed:
                *lines, last = rest.split(b"\n")
                yield [b"".join(parts), *lines]
                parts, length = [last], len(last)
        self.ending = Ending(await self._ended(), rest=b"".join(parts))
        self.ending.stderr = in_line(b" | ".join(line.strip() for line in self._last).decode("utf-8", "replace"))

    async def _chunk(self, output: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(output.read(_CHUNK), self._silence)
        except TimeoutError:
            problem = f"{self._program.connector} has said nothing for {self._silence:g} s, and was ended"
            fix = "Does what it asks answer? INGESTLAB_AIRBYTE_TIMEOUT is the longest silence."
            raise TransientError(problem, fix=fix, code="connector_failed") from None

    async def _ended(self) -> int:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._hearing), _PATIENCE)
        try:
            return await asyncio.wait_for(self._process.wait(), self._silence)
        except TimeoutError:
            problem = f"{self._program.connector} has closed its output and does not end"
            raise TransientError(problem, code="connector_failed") from None

    async def close(self) -> None:
        """End it with all its processes, if it has not ended."""
        self._hearing.cancel()
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()  # the guard does the rest
        try:
            await asyncio.wait_for(self._drained(), _PATIENCE + guard.PATIENCE)
        except TimeoutError:
            with suppress(psutil.Error):
                for child in psutil.Process(self._process.pid).children(recursive=True):
                    child.kill()
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _drained(self) -> None:
        """Read what is left: a process is not over while its output is full."""
        assert self._process.stdout is not None
        while await self._process.stdout.read(_CHUNK):
            pass
        await self._process.wait()


@asynccontextmanager
async def running(
    program: Program, command: str, paths: Mapping[str, str], settings: Settings
) -> AsyncIterator[Running]:
    """Run a command of a connector. It has ended when the context is left.

    Args:
        program: The connector.
        command: ``spec``, ``check``, ``discover`` or ``read``.
        paths: Of its files, by the name of the option; of their folder as ``""``.
        settings: Have its limits.
    """
    folder = paths[""]
    passed = [name for name in (*_PROXIES, *settings.airbyte_environment) if name in os.environ]
    begin, end = program.line(folder, [*passed, "HOME", "TMPDIR"])
    options = [word for name, path in paths.items() if name for word in (f"--{name}", path)]
    watched = [sys.executable, "-I", "-S", guard.__file__, folder, *end, "--", *begin, command, *options]
    process = await asyncio.create_subprocess_exec(
        *watched,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(folder, passed),
        cwd=folder,
        start_new_session=True,
        limit=4 * _CHUNK,
    )
    connector = Running(process, program, settings)
    try:
        yield connector
    finally:
        await connector.close()


def _environment(folder: str, passed: Iterable[str]) -> dict[str, str]:
    """Make a connector's environment."""
    taken = {name: os.environ[name] for name in (*_HERE, *passed) if name in os.environ}
    return {**taken, "HOME": folder, "TMPDIR": folder, "PYTHONUNBUFFERED": "1"}
