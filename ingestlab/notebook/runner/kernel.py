"""A notebook at work: its cells one after the other, in a kernel process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from ingestlab.core.errors import TerminalError, TransientError, in_a_line
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings
from ingestlab.notebook.runner.source import NotebookNode
from ingestlab.stack.services import environment
from ingestlab.stack.state import home_of

LOOK_EVERY = 0.5  # seconds between two looks of who waits
STOP_SECONDS = 20.0  # for a kernel to be gone
START_SECONDS = 120  # for a kernel to answer, on a machine that is busy


def environment_of(settings: Settings) -> dict[str, str]:
    """Give the environment of a kernel: the same settings, whose paths are right from any folder."""
    folders = {
        name: tuple(str(Path(folder).expanduser().resolve()) for folder in getattr(settings, name))
        for name in ("pipelines", "notebooks")
    }
    places = {"home": home_of(settings), "lake": settings.lake_url, **folders}
    return environment(settings.model_copy(update=places))


class Session:
    """One run of a notebook.

    The kernel is driven from a thread, so that signals and time limits reach who waits in :meth:`run`; whatever ends
    the waiting ends the kernel. A kernel whose process has lost its parent ends itself within seconds.

    Args:
        notebook: It gets the outputs, cell by cell.
        folder: Where the kernel works.
        env: Its whole environment.
        timeout: Seconds that one cell may take; None for as long as it takes.

    Attributes:
        begun: How many cells have been begun; the number that Jupyter shows at the last one.
        total: How many cells there are with code in them.

    Raises:
        TerminalError: Jupyter is not installed.
    """

    def __init__(
        self, notebook: NotebookNode, folder: Path, env: Mapping[str, str], timeout: float | None = None
    ) -> None:
        nbclient = needed("nbclient", "lab", "notebooks")
        managers = needed("jupyter_client", "lab", "notebooks")
        needed("ipykernel", "lab", "notebooks")
        self.begun, self.total = 0, sum(c.cell_type == "code" and bool(c.source.strip()) for c in notebook.cells)
        self._env = dict(env)
        self._name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        self._manager = managers.AsyncKernelManager(kernel_name=self._name)
        self._client = nbclient.NotebookClient(
            notebook,
            km=self._manager,
            timeout=timeout,
            startup_timeout=START_SECONDS,
            resources={"metadata": {"path": str(folder)}},
            on_cell_execute=self._begin,
        )
        self._cell: NotebookNode | None = None
        self._ended = Event()  # not Thread.join, after which an exception of a signal takes a living thread for ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, look: Callable[[], None] = lambda: None) -> str:
        """Run all cells, or up to one that fails. Give its error as one line, empty if there was none.

        Args:
            look: Called again and again while the notebook is at work; what it raises ends it.

        Raises:
            TerminalError: There is no such kernel.
            TransientError: The kernel does not come up.
        """
        Thread(target=self._drive, name="notebook", daemon=True).start()
        try:
            while not self._ended.wait(LOOK_EVERY):
                look()
        finally:
            self._stop()
        return self._judged(self._error) if self._error else ""

    def explain(self, why: str) -> None:
        """Show why a cell did not come to its end, below it."""
        if self._cell is not None:
            from nbformat.v4 import new_output  # noqa: PLC0415 - the extra `lab` has it

            said = new_output("error", ename="Ended", evalue=why, traceback=[why])
            self._cell.outputs = [*self._cell.outputs, said]

    def _judged(self, error: BaseException) -> str:
        nbclient, kernels = needed("nbclient", "lab", "notebooks"), needed("jupyter_client", "lab", "notebooks")
        if isinstance(error, nbclient.exceptions.CellExecutionError):
            return in_a_line(error.ename, error.evalue)
        if isinstance(error, nbclient.exceptions.CellTimeoutError):
            why = f"TimeoutError: more than {self._client.timeout} s for one cell"
        elif isinstance(error, nbclient.exceptions.DeadKernelError):
            why = "DeadKernelError: the kernel died; was there memory enough?"
        elif isinstance(error, kernels.kernelspec.NoSuchKernel):
            fix = "Install it, or save the notebook with another; `jupyter kernelspec list` names those that are there."
            raise TerminalError(f"There is no kernel '{self._name}'", fix=fix, code="notebook_invalid") from None
        elif isinstance(error, RuntimeError):
            raise TransientError.wrap(
                error, "The kernel did not start", "Is the machine very busy?", code="kernel_failed"
            ) from error
        else:
            raise error
        self.explain(why)
        return why

    def _begin(self, cell: NotebookNode, cell_index: int) -> None:  # noqa: ARG002 - nbclient names its arguments
        self.begun, self._cell = self.begun + 1, cell

    def _drive(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            self._error = error
        finally:
            self._ended.set()

    async def _work(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopped:
            return
        try:
            await self._client.async_execute(env=self._env, cleanup_kc=True)
        finally:
            if self._client.kc is not None:  # it was stopped before nbclient felt responsible
                self._client.kc.stop_channels()
            if self._manager.has_kernel:
                await self._manager.shutdown_kernel(now=True)

    def _stop(self) -> None:
        """End the kernel at once if it is still there."""
        self._stopped = True
        self._client.shutdown_kernel = "immediate"
        if self._loop and self._task and not self._ended.is_set():
            with suppress(RuntimeError):  # it has come to its end by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._ended.wait(STOP_SECONDS)
