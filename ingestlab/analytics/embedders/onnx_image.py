"""``onnx-image:<file>``: a network of one image input, of shape (n, 3, height, width) or (n, height, width, 3).

What it gives for an image becomes one vector; maps of features, of shape (n, dim, h, w), are averaged.

Options: ``size`` (what the network says, else 224: images are stretched to this square), ``mean`` and ``std`` (of the
three colours, from 0 to 1; ImageNet's if left out: ``mean=0.5,0.5,0.5&std=0.5,0.5,0.5`` maps to -1 … 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ingestlab.analytics.embedders.base import Loaded, check, chosen, file_version, title
from ingestlab.analytics.embedders.images import pixels
from ingestlab.analytics.embedders.onnx import session
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.core.errors import TerminalError
from ingestlab.pipeline.embedding import Spelling

BATCH = 32
SIZE = 224
MEAN, STD = "0.485,0.456,0.406", "0.229,0.224,0.225"


def build(model: Spelling) -> Loaded:
    """Load the network.

    Raises:
        TerminalError: The extras ``onnx`` and ``images`` are not installed, the file is not there or no network
            of images, or the options make no sense.
    """
    given = chosen(model, size=0, mean=MEAN, std=STD)
    mean, std = _colours("mean", given["mean"]), _colours("std", given["std"])
    path = Path(model.target)
    if not path.is_file():
        raise TerminalError(
            f"There is no ONNX network in {path}: no such file",
            fix="Give the path of its .onnx file.",
            code="model_unknown",
        )
    name = title(model)
    network = session(path, name)
    entry, first, side = _entry(network, name)
    size = given["size"] or side

    def run(batch: Sequence[bytes]) -> Any:
        images = (pixels(batch, size) - mean) / std
        fed = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if first else images
        return _flat(network.run(None, {entry: fed})[0], channels_first=first)

    dim = check(run, [PROBES["image"]], name).shape[1]
    return Loaded(name, file_version(path), dim, "image", BATCH, run)


def _entry(network: Any, name: str) -> tuple[str, bool, int]:
    """Return the input's name, whether colours come first, and its side."""
    inputs = network.get_inputs()
    shape = list(inputs[0].shape)
    if len(inputs) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        wanted = f"one input of shape (n, 3, height, width) or (n, height, width, 3) in '{name}'"
        raise TerminalError(
            "The network has other inputs",
            expected=wanted,
            got=", ".join(f"{i.name} {i.shape}" for i in inputs),
            fix="Export the network that way.",
            code="model_unknown",
        )
    first = shape[1] == 3
    side = shape[2] if first else shape[1]
    return inputs[0].name, first, side if isinstance(side, int) else SIZE


def _flat(output: np.ndarray[Any, Any], *, channels_first: bool) -> Any:
    if output.ndim == 4:
        return output.mean(axis=(2, 3) if channels_first else (1, 2))
    return output.reshape(len(output), -1)


def _colours(name: str, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        red, green, blue = (float(value) for value in text.split(","))
    except ValueError:
        raise TerminalError(
            f"The option {name} cannot be read",
            expected=f"three numbers as {name}",
            got=repr(text),
            fix=f"E.g. {name}={MEAN}.",
            code="argument_invalid",
        ) from None
    return np.array([red, green, blue], dtype=np.float32)
