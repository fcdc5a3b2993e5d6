"""The compiled loop of :mod:`~ingestlab.formats.csv.kernel`: made once on a machine, then loaded by each process.

A process of its own compiles it, which takes seconds, and writes an object file, named for all that it depends on.
To load that takes llvmlite alone and some hundredths of a second: no worker has numba in its memory.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError

ENTRY = "ingestlab_csv"  # the function's name in the object file
PACKAGES = ("numba", "llvmlite")
_SOURCES = ("kernel.py", "job.py", "compiled.py")
_DONTNEED = 4  # of madvise
_PATIENCE = 300  # seconds that compiling may take


def installed() -> bool:
    """Tell whether there is what compiles and loads the loop."""
    with suppress(PackageNotFoundError):
        return all(map(version, PACKAGES))
    return False


def load() -> Callable[[int], int]:
    """Load the loop, compiled if no process has done so yet.

    Returns:
        A function of the address of a job, which holds no interpreter lock.

    Raises:
        TerminalError: It could not be compiled.
    """
    folder = _folder()
    path = folder / name()
    if not path.exists():
        with _alone(folder):
            if not path.exists():
                _compile(path)
    return _entry(path.read_bytes())


def machine() -> Any:
    """Return LLVM's code generator for this processor."""
    llvm = _llvm()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(_cpu()[0], _cpu()[1], opt=3, codemodel="jitdefault", jit=True)


def _release(library: str) -> None:
    """Release 30 MB of the compiler's code.

    Nobody needs it once the loop is loaded; else it is read again from its file, since no process can write there.
    """
    with suppress(OSError, AttributeError):  # not on Linux
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for mapped in Path("/proc/self/maps").read_text().splitlines():
            places, rights, *_, file = mapped.split(maxsplit=5)
            if rights == "r-xp" and library in file:
                begin, end = (int(place, 16) for place in places.split("-"))
                advise(begin, end - begin, _DONTNEED)


def _entry(code: bytes) -> Callable[[int], int]:
    llvm = _llvm()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(engine.get_function_address(ENTRY))
    function.engine = engine  # type: ignore[attr-defined]  # the code lives as long as it
    _release("libllvmlite")
    return function


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
    parts = [*((Path(__file__).parent / name).read_bytes() for name in _SOURCES)]
    parts += [text.encode() for text in (*map(version, PACKAGES), *_cpu(), sys.platform)]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"csv-{digest[:32]}.o"


def _compile(path: Path) -> None:
    command = [sys.executable, "-P", "-m", f"{__package__}.kernel", str(path)]
    ours = str(Path(__file__).parents[len(__package__.split("."))])  # not another ingestlab, of the working folder
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])}
    try:
        subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True, env=env)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()[-1:]
        problem = "The loop that reads CSV could not be compiled"
        fix = "Files are read without it, at half the speed. See whether numba works here."
        raise TerminalError.wrap(error, f"{problem} ({told})", fix, code="package_missing") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold other processes back: one compiles, the others load."""
    with (folder / "csv.lock").open("ab") as file:
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
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if ours and os.access(folder, os.W_OK):
                return folder
    raise TerminalError("There is no folder for compiled code", fix="Set XDG_CACHE_HOME.", code="setting_invalid")
