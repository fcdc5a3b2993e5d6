"""What the models of onnxruntime share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed


def session(path: Path, model: str) -> Any:
    """A network ready to run, on a GPU where onnxruntime has one.

    It takes as many threads as ``OMP_NUM_THREADS`` says, which is one on Dask's workers, else all cores.

    Raises:
        TerminalError: The extra ``onnx`` is not installed, or the file is none of its networks.
    """
    runtime = needed("onnxruntime", "onnx", model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    try:
        return runtime.InferenceSession(str(path), options, providers=_providers(runtime))
    except Exception as error:  # its errors have no common class
        raise TerminalError.wrap(
            error, f"Not an ONNX network in {path}", "Give the path of its .onnx file.", code="model_unknown"
        ) from error


def _providers(runtime: Any) -> list[str]:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    there = runtime.get_available_providers()
    return [provider for provider in wanted if provider in there]
