"""Runs a connector, and ends it with all its processes when whoever wanted it is gone.

A program of its own, started as ``python guard.py FOLDER [ENDING …] -- COMMAND …``. Its standard input is a pipe that
the other end holds open: at its end, however that came, the connector's processes are killed, ENDING is run and FOLDER
is removed. It needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE = 20  # seconds for ENDING


def main(arguments: list[str]) -> int:
    """Run the command. Returns its exit code, 128 and more for a signal.

    Args:
        arguments: As described above.
    """
    mark = arguments.index("--")
    (folder, *ending), command = arguments[:mark], arguments[mark + 1 :]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error}\n")
        return 127
    alone = threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, ending, folder, alone), daemon=True)
    watcher.start()
    code = child.wait()
    if alone.is_set():
        watcher.join()
    _kill(child.pid)  # what it has left behind would hold its output open
    return 128 - code if code < 0 else code


def _watch(group: int, ending: list[str], folder: str, alone: threading.Event) -> None:
    """Wait until nobody holds the other end of standard input."""
    while os.read(0, 1024):
        pass
    alone.set()
    _kill(group)
    if ending:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(ending, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
