"""What models on torch share: the device, weights by their content, and a torchvision that loads."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ingestlab.analytics.embedders.base import weights_version
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_declared: list[Any] = []  # torch forgets declarations that nobody holds


def device() -> str:
    """Return ``"cuda"`` when torch sees a GPU, else ``"cpu"``."""
    return "cuda" if needed("torch", "timm", "torch").cuda.is_available() else "cpu"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make random weights reproducible inside. Torch's generator goes on unchanged afterwards."""
    torch = needed("torch", "timm", "torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def state_version(state: Mapping[str, Any]) -> str:
    """Name the weights of a torch module, by its ``state_dict()``."""
    torch = needed("torch", "timm", "torch")

    def pieces() -> Iterator[bytes]:
        for name, tensor in state.items():
            yield name.encode()
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return weights_version(pieces())


def with_vision(module: str, extra: str, model: str) -> Any:
    """Import a module that needs torchvision, even an unfit one.

    That is so wherever a CPU build of torch meets the usual torchvision, which is compiled for CUDA: it then
    asks for operators that are not there when it is imported. Models need none of them, so they are declared
    without being made.

    Raises:
        TerminalError: It is not installed; the text names the extra that brings it.
    """
    torch = needed("torch", extra, model)
    while missing := _missing_operator():
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{missing}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
    return needed(module, extra, model)


def _missing_operator() -> str | None:
    """Name the compiled operator that torchvision lacks to be imported, if any."""
    try:
        import_module("torchvision")
    except ImportError:
        return None  # the module that needs it tells what is missing
    except RuntimeError as error:
        if missing := _MISSING.search(str(error)):
            return missing[1]
        raise TerminalError.wrap(
            error, "torchvision does not load", "Install the build that fits torch's.", code="package_missing"
        ) from error
    return None
