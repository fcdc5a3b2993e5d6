"""``onnx-text:<folder or file>``: a text model as ``model.onnx`` with its ``tokenizer.json`` beside it.

That is what exporters of sentence models write (``onnx/model.onnx`` below the tokenizer is found too). A network that
gives a vector for each token has the mean of them taken; one that names an output ``sentence_embedding`` has that.

Options: ``max_tokens`` (512, or what the tokenizer says: texts are cut there).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ingestlab.analytics.embedders.base import Loaded, check, chosen, file_version, title
from ingestlab.analytics.embedders.onnx import session
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

BATCH = 32
MOST_TOKENS = 512


def build(model: Spelling) -> Loaded:
    """Load network and tokenizer.

    Raises:
        TerminalError: The extra ``onnx`` is not installed, the files are not there, or are something else.
    """
    most = chosen(model, max_tokens=0)["max_tokens"]
    network_file, tokenizer_file = _files(Path(model.target))
    name = title(model)
    tokenizer, network = _tokenizer(tokenizer_file, most, name), session(network_file, name)
    inputs = {given.name for given in network.get_inputs()}
    outputs = [made.name for made in network.get_outputs()]
    output = "sentence_embedding" if "sentence_embedding" in outputs else outputs[0]

    def run(batch: Sequence[str]) -> Any:
        encoded = tokenizer.encode_batch(list(batch))
        fed = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        states = network.run([output], {key: fed[key] for key in fed if key in inputs})[0]
        return _mean(states, fed["attention_mask"]) if states.ndim == 3 else states

    dim = check(run, [PROBES["text"]], name).shape[1]
    return Loaded(name, file_version(network_file, tokenizer_file), dim, "text", BATCH, run)


def _files(path: Path) -> tuple[Path, Path]:
    """Find the network and its tokenizer."""
    networks = [path] if path.suffix == ".onnx" else [path / "model.onnx", path / "onnx" / "model.onnx"]
    for network in networks:
        for folder in (network.parent, network.parent.parent):
            if network.is_file() and (folder / "tokenizer.json").is_file():
                return network, folder / "tokenizer.json"
    fix = "Give the folder that has both, or the path of the network."
    raise TerminalError(
        f"Files of the model are missing in {path}",
        expected=f"model.onnx and tokenizer.json in {path}",
        got="not both of them",
        fix=fix,
        code="model_unknown",
    )


def _tokenizer(path: Path, most: int, model: str) -> Any:
    library = needed("tokenizers", "onnx", model)
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # its errors have no common class
        raise TerminalError.wrap(
            error, f"Not a tokenizer in {path}", "It is written by the tokenizers library.", code="model_unknown"
        ) from error
    if most or not tokenizer.truncation:
        tokenizer.enable_truncation(most or MOST_TOKENS)
    known = tokenizer.padding or {}
    tokenizer.enable_padding(pad_id=known.get("pad_id", 0), pad_token=known.get("pad_token", "[PAD]"))
    return tokenizer


def _mean(tokens: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> Any:
    """Average each text's own tokens. `tokens` is of shape (n, tokens, dim), `mask` of (n, tokens)."""
    weights = mask[..., None].astype(np.float32)
    return (tokens * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
