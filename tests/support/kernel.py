"""A real Jupyter kernel, driven cell by cell, that keeps what a notebook would keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.manager import KernelManager

from support.workers import until


class Kernel:
    """One kernel; `cell` gives the outputs as they stand when the cell has ended."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self._found: dict[str, list[dict[str, Any]]] = {}  # by the message that began a cell
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def cell(self, code: str, seconds: float = 60) -> list[dict[str, Any]]:
        """Runs a cell to its end."""
        return self.outputs(self.begin(code), seconds)

    def begin(self, code: str) -> str:
        """Begins to run a cell; gives what `outputs` wants."""
        return self.client.execute(code)

    def outputs(self, message: str, seconds: float = 60, seen: str | None = None) -> list[dict[str, Any]]:
        """The outputs of a cell at its end, or when a display's text contains `seen`."""
        outputs = self._found.setdefault(message, [])
        while True:
            try:
                answer = self.client.get_iopub_msg(timeout=seconds)
            except Empty:
                raise AssertionError(f"the cell goes on; so far: {outputs}") from None
            if answer["parent_header"].get("msg_id") != message:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return outputs
            if kind == "update_display_data":
                mine = content["transient"]["display_id"]
                next(o for o in outputs if o.get("transient", {}).get("display_id") == mine)["data"] = content["data"]
            elif kind in ("display_data", "execute_result", "stream", "error"):
                outputs.append(dict(content))
            if seen and any(seen in o.get("data", {}).get("text/plain", "") for o in outputs):
                return outputs

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """What the restart button does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()


@contextmanager
def kernel(folder: Path, env: Mapping[str, str]) -> Iterator[Kernel]:
    """A kernel that works in a folder."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env=dict(env))
    try:
        opened = Kernel(manager)
        yield opened
        opened.client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
        until(lambda: not manager.is_alive(), 10, "the end of the kernel")
