"""A user's own function as a model: a list of texts (or of images' bytes) in, as many vectors out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingestlab.analytics.embedders.base import Loaded, check
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.pipeline.embedding import Kind


def of_function(function: Callable[[list[Any]], Any], kind: Kind) -> Loaded:
    """Wrap a function as an Embedder. A probe shows how long its vectors are.

    Attributes of the function that are used: ``name`` (else its own), ``version`` (else empty: then the canary
    alone tells one from another) and ``batch`` (else 64).

    Raises:
        TerminalError: It fails, or gives something else than vectors.
    """
    plain = getattr(function, "__qualname__", type(function).__qualname__)
    name = str(getattr(function, "name", f"function:{plain}"))
    dim = check(function, [PROBES[kind]], name).shape[1]
    version, batch = str(getattr(function, "version", "")), int(getattr(function, "batch", 64))
    return Loaded(name, version, dim, kind, batch, function)
