"""``timm:<model>``: any image model of timm, without its last layer; on a GPU when torch sees one.

Options: ``pretrained`` (true: weights are downloaded, or come from timm's cache), ``seed`` (0: of the random weights
where ``pretrained=false``) and ``checkpoint`` (a file with weights, instead of a download).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestlab.analytics.embedders.base import Loaded, check, chosen, title
from ingestlab.analytics.embedders.images import opened
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.analytics.embedders.torch_utils import device, seeded, state_version, with_vision
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

BATCH = 32


def build(model: Spelling) -> Loaded:
    """Build the model and load its weights.

    Raises:
        TerminalError: The extra ``timm`` is not installed, it knows no such model, or the weights cannot be had.
    """
    given = chosen(model, pretrained=True, seed=0, checkpoint="")
    library = with_vision("timm", "timm", f"timm:{model.target}")
    if ":" not in model.target and not library.is_model(model.target):  # with a ":" it names a hub
        near = ", ".join(library.list_models(f"*{model.target.partition('.')[0][:8]}*")[:5]) or "timm.list_models()"
        raise TerminalError(f"Not a model that timm knows: {model.target!r}", fix=f"See {near}.", code="model_unknown")
    random = not given["pretrained"] or bool(given["checkpoint"])
    try:
        with seeded(given["seed"]):
            network = library.create_model(
                model.target, pretrained=not random, checkpoint_path=given["checkpoint"], num_classes=0
            )
    except Exception as error:  # networks, files and weights fail in many ways
        fix = "Give ?checkpoint=<file>, or ?pretrained=false for random weights, which are always the same."
        raise TerminalError.wrap(
            error, f"The weights of timm's {model.target} do not load", fix, code="model_unknown"
        ) from error
    return of_network(title(model, "pretrained", "seed", "checkpoint"), network)


def of_network(name: str, network: Any) -> Loaded:
    """Wrap a timm network without its last layer. Images are prepared as it was trained."""
    torch, data, where = needed("torch", "timm", name), needed("timm.data", "timm", name), device()
    prepare = data.create_transform(**data.resolve_model_data_config(network), is_training=False)
    network = network.eval().to(where)

    def run(batch: Sequence[bytes]) -> Any:
        with torch.inference_mode():
            tensors = torch.stack([prepare(opened(image)) for image in batch])
            return network(tensors.to(where)).float().cpu().numpy()

    dim = check(run, [PROBES["image"]], name).shape[1]
    return Loaded(name, state_version(network.state_dict()), dim, "image", BATCH, run)
