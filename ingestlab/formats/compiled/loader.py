"""The loops over bytes: compiled once on a machine, then loaded by each process.

A process of its own compiles it, which takes seconds, and writes an object file, named for all that it depends on.
To load that takes llvmlite alone and some hundredths of a second: no worker has numba in its memory.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import logging
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from ingestlab.core.errors import TerminalError

CSV, JSON, COUNT = "ingestlab_csv", "ingestlab_json", "ingestlab_count"  # the functions' names in the object file
PACKAGES = ("numba", "llvmlite")
_DONTNEED = 4  # of madvise
_PATIENCE = 300  # seconds that compiling may take
_MUCH = 64 << 20  # bytes

log = logging.getLogger(__name__)
_loading = threading.Lock()
_loaded: Loops | None = None
_read_slowly = 0  # bytes

Loop = Callable[[int], int]


class Loops(NamedTuple):
    """Functions of the address of a job, which hold no interpreter lock."""

    csv: Loop
    json: Loop
    count: Loop


def loops(size: int) -> Loops | None:
    """Return the loops; None where they are not loaded.

    Args:
        size: Bytes that will be read without them then. After many, a process that nobody warmed loads them in the
            background.
    """
    global _read_slowly
    if _loaded is None:
        before, _read_slowly = _read_slowly, _read_slowly + size
        if before < _MUCH <= _read_slowly:
            threading.Thread(target=warm, name="ingestlab-loops", daemon=True).start()
    return _loaded


def warm() -> None:
    """Load the loops. Where no process of this machine has done so before, they are compiled, which takes seconds."""
    global _loaded  # noqa: PLW0603 - one for the process
    if not installed():
        return
    with _loading:
        if _loaded is None:
            try:
                _loaded = load()
            except (TerminalError, OSError, RuntimeError) as error:
                log.warning("%s", error)  # and pyarrow reads all


def installed() -> bool:
    """Tell whether there is what compiles and loads the loop."""
    with suppress(PackageNotFoundError):
        return all(map(version, PACKAGES))
    return False


def load() -> Loops:
    """Load the loops, compiled if no process has done so yet.

    Raises:
        TerminalError: They could not be compiled.
    """
    folder = _folder()
    path = folder / name()
    if not path.exists():
        with _alone(folder):
            if not path.exists():
                _compile(path)
    return _entries(path.read_bytes())


def machine() -> Any:
    """Return LLVM's code generator for this processor."""
    llvm = _llvm()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(_cpu()[0], _cpu()[1], opt=3, codemodel="jitdefault", jit=True)


def _release(library: str) -> None:
    """Release 30 MB of the compiler's code.

    Nobody needs it once the loops are loaded; else it is read again from its file, since no process can write there.
    """
    with suppress(OSError, AttributeError):  # not on Linux
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for mapped in Path("/proc/self/maps").read_text().splitlines():
            places, rights, *_, file = mapped.split(maxsplit=5)
            if rights == "r-xp" and library in file:
                begin, end = (int(place, 16) for place in places.split("-"))
                advise(begin, end - begin, _DONTNEED)


def _entries(code: bytes) -> Loops:
    llvm = _llvm()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    functions = [entry(engine.get_function_address(name)) for name in (CSV, JSON, COUNT)]
    for function in functions:
        function.engine = engine  # type: ignore[attr-defined]  # the code lives as long as it
    _release("libllvmlite")
    return Loops(*functions)


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm  # noqa: PLC0415 - an optional package

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _cpu() -> tuple[str, str]:
    llvm = _llvm()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def name() -> str:
    """Name the object file for all that the code depends on."""
    parts = [path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py"))]
    parts += [text.encode() for text in (*map(version, PACKAGES), *_cpu(), sys.platform)]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"loops-{digest[:32]}.o"


def _compile(path: Path) -> None:
    command = [sys.executable, "-P", "-m", f"{__package__}.loops", str(path)]
    root = str(Path(__file__).parents[len(__package__.split("."))])  # not another ingestlab, of the working folder
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    try:
        subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True, env=env)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError) as error:
        message = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()[-1:]
        problem = "The loops that read CSV and JSON could not be compiled"
        fix = "Files are read without them, at half the speed. See whether numba works here."
        raise TerminalError.wrap(error, f"{problem} ({message})", fix, code="package_missing") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold other processes back: one compiles, the others load."""
    with (folder / "loops.lock").open("ab") as file:
        with suppress(OSError):  # a file system without locks: then each does
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    """Return where compiled code is kept: beside Python's own, else in the user's cache, else among passing files.

    Nobody else may write there: what is in it runs.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    passing = Path(tempfile.gettempdir()) / f"ingestlab-{os.geteuid()}"
    for folder in (Path(__file__).parent / "__pycache__", home / "ingestlab", passing):
        with suppress(OSError, RuntimeError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
            private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if private and os.access(folder, os.W_OK):
                return folder
    raise TerminalError("There is no folder for compiled code", fix="Set XDG_CACHE_HOME.", code="setting_invalid")
