"""``wordllama``: the mean of word vectors that were learned from large language models; no network to run.

Its weights lie in its wheel, so that it works offline. Words have the same vector wherever they stand: short texts
do well, and long ones are best cut by :class:`ingestlab.Split`. It has no options.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingestlab.analytics.embedders.base import Loaded, chosen, file_version
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

WEIGHTS = "l2_supercat"
DIM = 256
BATCH = 64  # as its makers have it; bigger ones spend more on padding than they save


def build(model: Spelling) -> Loaded:
    """Load the weights of the wheel.

    Raises:
        TerminalError: The extra ``embed`` is not installed, or its weights are not where they were.
    """
    chosen(model)
    package = _imported()
    folder = Path(package.__file__).parent
    try:
        llama = package.WordLlama.load(WEIGHTS, cache_dir=folder, dim=DIM, disable_download=True)
        weights = file_version(folder / "weights" / f"{WEIGHTS}_{DIM}.safetensors")
    except (OSError, ValueError, AttributeError) as error:
        raise TerminalError.wrap(
            error,
            f"The weights {WEIGHTS}_{DIM} are not in the package wordllama {version('wordllama')}",
            "Install it anew: pip install --force-reinstall wordllama.",
            code="model_unknown",
        ) from error

    def run(batch: Sequence[str]) -> Any:
        return llama.embed(list(batch), batch_size=len(batch))

    return Loaded(f"wordllama:{WEIGHTS}_{DIM}", weights, DIM, "text", BATCH, run)


def _imported() -> Any:
    """Import the package without the log handler that it sets up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        return needed("wordllama", "embed", "wordllama")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
