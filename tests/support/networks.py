"""Small ONNX networks, made here: what exporters write, in a few kilobytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ("[PAD]", "[UNK]", "red", "green", "blue", "storm", "wind", "quiet", "the", "a")
DIM = 4


def write_text_model(folder: Path, *, output: str = "tokens", inputs: tuple[str, ...] = ("input_ids",)) -> Path:
    """A lookup of words: their number, its square, one, and the sine of it. Gives tokens, or a sum of each text."""
    numbers = np.arange(len(WORDS), dtype=np.float32)
    table = np.stack([numbers, numbers**2, np.ones_like(numbers), np.sin(numbers)], axis=1)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])]
    if output == "sentence_embedding":
        nodes.append(helper.make_node("ReduceSum", ["tokens", "axis"], ["sentence_embedding"], keepdims=0))
    shape = ["n", "length", DIM] if output == "tokens" else ["n", DIM]
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"]) for name in inputs]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")]
    _save(folder / "model.onnx", nodes, given, made, constants)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    return folder


def write_image_model(path: Path, *, channels_first: bool = True, side: int | str = 8) -> Path:
    """Gives the image back, as a map of three features."""
    shape = ["n", 3, side, side] if channels_first else ["n", side, side, 3]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("pixels", "features"))
    _save(path, [helper.make_node("Identity", ["pixels"], ["features"])], [given], [made], [])
    return path


def _save(path: Path, nodes: list, given: list, made: list, constants: list) -> None:
    graph = helper.make_graph(nodes, "small", given, made, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))


def _tokenizer() -> dict:
    return {
        "version": "1.0",
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[UNK]"},
        "added_tokens": [],
    }
