"""Compile the loops for this processor into an object file: ``python -m ingestlab.formats.compiled.loops PATH``.

Importing numba takes half a second and a hundred megabytes. Only the process that
:mod:`~ingestlab.formats.compiled.loader` starts does so: others load what it writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numba

from ingestlab.formats.compiled.loader import COUNT, CSV, JSON, machine, name
from ingestlab.formats.compiled.loops import counting, csv, json


def main(path: str) -> None:
    """Write the object file, whole or not at all."""
    if Path(path).name != name():
        raise SystemExit("another build was asked for")
    os.nice(10)  # others are at it meanwhile, by the slower way
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = _module(csv.read, CSV)
    module.link_in(_module(json.read, JSON))
    module.link_in(_module(counting.count, COUNT))
    unfinished = Path(f"{path}.{os.getpid()}")
    unfinished.write_bytes(machine().emit_object(module))
    unfinished.replace(path)


def _module(loop: Callable[[int], int], entry: str) -> llvm.ModuleRef:
    compiled = numba.cfunc("int64(int64)", nopython=True, error_model="numpy", boundscheck=False)(loop)
    module = llvm.parse_assembly(compiled.inspect_llvm().replace(compiled.native_name, entry))
    module.verify()
    return module


if __name__ == "__main__":
    main(sys.argv[1])
