"""The folder of samples that the embedded stack serves."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ingestlab.stack.samples.alarms import alarm_files
from ingestlab.stack.samples.digits import digit_files
from ingestlab.stack.samples.documents import document_files
from ingestlab.stack.samples.flights import flight_months, flight_references
from ingestlab.stack.samples.pages import page_files
from ingestlab.stack.samples.weblogs import weblog_files

SAMPLES: dict[str, Callable[[Path], object]] = {
    "bts": alarm_files,
    "flights": flight_months,
    "weblogs": weblog_files,
    "pages": page_files,
    "references": flight_references,
    "documents": document_files,
    "digits": digit_files,
}
PACKAGES = {"digits": "sklearn"}  # that only some samples need, and large


def ensure_samples(folder: Path | str, kind: str = "") -> Path:
    """Make a folder for each kind of samples, such as ``flights/``.

    What is there stays. A set appears whole or not at all, and several processes may ask at once: one makes it, the
    others wait. Digits are left out where their package is not installed, unless they are asked for.

    Args:
        folder: Where the sets go; made if missing.
        kind: What must be there.

    Returns:
        The folder.

    Raises:
        TerminalError: A package that brings the data is not installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(not (folder / name).is_dir() for name in SAMPLES):
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file closes, or the process dies
            for name, make in SAMPLES.items():
                if name not in PACKAGES or name == kind or find_spec(PACKAGES[name]):
                    _make(folder / name, make)
    return folder


def _make(target: Path, make: Callable[[Path], object]) -> None:
    if target.is_dir():
        return
    unfinished = target.with_name(f".{target.name}")
    if unfinished.exists():
        shutil.rmtree(unfinished)  # its maker was killed: we hold the lock
    make(unfinished)
    unfinished.rename(target)
