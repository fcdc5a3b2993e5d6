"""``openai:<model>@<base URL>``: a model behind any server that speaks OpenAI's API for embeddings.

Such are OpenAI itself, Mistral, vLLM, Ollama, llama.cpp, LiteLLM and Text Embeddings Inference. Their address
``<base URL>/embeddings`` is asked, if INGESTLAB_SCHEMES, INGESTLAB_ALLOW_HOSTS and INGESTLAB_DENY_NETWORKS allow it.

Options: ``key`` (name of the environment variable with the key, which is kept nowhere), ``dimensions`` (0: as many as
the model has), ``encoding`` (``float``, or ``base64``, which is a third as long), ``batch_tokens`` (8000: of one
request, about: three bytes of text are taken for a token), ``tpm`` and ``rpm`` (0: tokens and requests a minute that
all workers share).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ingestlab.analytics.embedders.base import Loaded, ModelError, Vectors, check, chosen
from ingestlab.analytics.embedders.endpoint import Endpoint
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.core.errors import TerminalError
from ingestlab.pipeline.embedding import Spelling

BATCH = 256  # texts of a request; some servers take no more
BATCH_TOKENS = 8_000
TOKEN_BYTES = 3  # English has four, other languages fewer: a limit is kept rather than met
ENCODINGS = ("float", "base64")


def build(model: Spelling) -> Loaded:
    """Ask the server for a first vector.

    Raises:
        TerminalError: An option cannot be, the server may not be asked, or it refuses.
        TransientError: It is away.
    """
    given = chosen(model, key="", dimensions=0, encoding="float", batch_tokens=BATCH_TOKENS, tpm=0, rpm=0)
    _check(given)
    target, _, base = model.target.rpartition("@")
    said = {"model": target, "encoding_format": given["encoding"]}
    said |= {"dimensions": given["dimensions"]} if given["dimensions"] else {}
    rates = {what: given[option] for what, option in (("tokens", "tpm"), ("requests", "rpm")) if given[option]}
    endpoint = Endpoint(f"{base.rstrip('/')}/embeddings", given["key"], rates)
    name = f"openai:{model.target.rstrip('/')}" + (f"?dimensions={given['dimensions']}" if given["dimensions"] else "")

    def run(texts: Sequence[str]) -> Vectors:
        body = json.dumps({**said, "input": list(texts)}).encode()
        return _vectors(endpoint.ask(body, {"tokens": sum(map(tokens, texts)), "requests": 1}), len(texts), name)

    dim = check(run, [PROBES["text"]], name).shape[1]
    if given["dimensions"] not in (0, dim):
        expected, fix = f"vectors of {given['dimensions']} numbers from '{name}'", "Leave dimensions out."
        raise ModelError("The server pays no heed to dimensions", expected=expected, got=str(dim), fix=fix)
    return Loaded(name, target, dim, "text", BATCH, run, given["batch_tokens"], tokens)


def tokens(text: str) -> int:
    """Estimate the tokens of a text."""
    return -(-len(text.encode(errors="replace")) // TOKEN_BYTES)


def _check(given: Mapping[str, Any]) -> None:
    bounds = {"dimensions": 0, "batch_tokens": 1, "tpm": 0, "rpm": 0}
    low = [name for name, least in bounds.items() if given[name] < least]
    if not low and given["encoding"] in ENCODINGS:
        return
    name = low[0] if low else "encoding"
    expected = f"{name} of at least {bounds[name]}" if low else f"one of {', '.join(ENCODINGS)} as encoding"
    fix = "See docs/how-to/search.md for the options of 'openai'."
    raise TerminalError(
        "The option of a model cannot be used",
        expected=expected,
        got=repr(given[name]),
        fix=fix,
        code="argument_invalid",
    )


def _vectors(answer: bytes, count: int, name: str) -> Vectors:
    """Read the vectors of an answer, in the order of their inputs.

    Raises:
        ModelError: It is none, or has not one vector of one length for each input.
    """
    try:
        items = {int(item["index"]): item["embedding"] for item in json.loads(answer)["data"]}
        vectors = [_numbers(items[i]) for i in range(len(items))]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem, fix = f"The answer of '{name}' has no vectors", "Check that its base URL is that of OpenAI's API."
        raise ModelError.wrap(error, problem, fix, code="model_failed") from error
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != count or len(lengths) > 1:
        raise ModelError(
            f"Model '{name}' gave unusable vectors",
            expected=f"{count} vectors of one length",
            got=f"{len(vectors)} of {', '.join(map(str, sorted(lengths))) or 'no'} numbers",
            fix="The server must give one vector for each input.",
        )
    return np.stack(vectors)


def _numbers(embedding: str | Sequence[float | None]) -> Vectors:
    """Read one vector, of numbers or in base64."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.asarray(embedding, np.float32).reshape(-1)
