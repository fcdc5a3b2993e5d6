"""What the models of onnxruntime share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed


def session(path: Path, model: str) -> Any:
    """Open a network, on a GPU where onnxruntime has one.

    It takes as many threads as ``OMP_NUM_THREADS`` says, which is one on Dask's workers, else all cores.

    Raises:
        TerminalError: The extra ``onnx`` is not installed, or the file is none of its networks.
    """
    runtime = needed("onnxruntime", "onnx", model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    try:
        wanted, there = ("CUDAExecutionProvider", "CPUExecutionProvider"), runtime.get_available_providers()
        return runtime.InferenceSession(str(path), options, providers=[name for name in wanted if name in there])
    except Exception as error:  # its errors have no common class
        raise TerminalError.wrap(
            error, f"Not an ONNX network in {path}", "Give the path of its .onnx file.", code="model_unknown"
        ) from error
