"""What all models share once they are loaded, and how their options are understood."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import numpy as np

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import IngestError, TerminalError, let_pass
from ingestlab.pipeline.embedding import Kind, Spelling

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[list[Any]], Any]

BATCH_CHARACTERS = 200_000  # of a batch padded to its longest text: some 100 MB in the smallest model
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Embedder(Protocol):
    """Loaded model.

    Attributes:
        name: Which model, the same on every machine.
        version: Which weights; vectors of two versions must not meet in one collection.
        dim: How many numbers a vector has.
        kind: What it takes: ``"text"`` (str) or ``"image"`` (the bytes of image files).
        batch: How many it likes at a time.
        room: What a batch may hold, each input taken for as large as its largest one.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - documented above
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def room(self) -> float: ...  # noqa: D102

    def size(self, value: Any) -> int:
        """Measure an input, as `room` counts."""
        ...

    def embed(self, batch: Sequence[Any]) -> Vectors:
        """Embed a batch as float32 of shape (n, dim). Thread-safe; says nothing of empty input."""
        ...


@dataclass(frozen=True)
class Loaded:
    """Embedder that the modules of this package make."""

    name: str
    version: str
    dim: int
    kind: Kind
    batch: int
    run: Run
    room: float = BATCH_CHARACTERS
    measure: Callable[[Any], int] = len

    def size(self, value: Any) -> int:
        """Measure an input; images have no size here."""
        return self.measure(value) if self.kind == "text" else 0

    def embed(self, batch: Sequence[Any]) -> Vectors:
        """Embed a batch, and check the result.

        Raises:
            TerminalError: The model failed, or gave something else than `dim` numbers for each.
        """
        return _shaped(self.run, batch, self.name, self.dim)


class ModelError(TerminalError):
    """Raised where a model is at fault, and no input: it gives no vector each, or cannot be asked."""

    code: Code = "model_failed"


def check(run: Run, batch: Sequence[Any], name: str) -> Vectors:
    """Run a model, and require finite float32 of shape (n, dim)."""
    vectors = _shaped(run, batch, name)
    if not np.isfinite(vectors).all():
        wanted = f"{len(batch)} vectors of finite numbers from '{name}'"
        raise TerminalError(
            f"Model '{name}' gave unusable vectors",
            expected=wanted,
            got="NaN or infinity among them",
            fix="Mend the model, or leave such inputs out.",
            code="model_failed",
        )
    return vectors


def _shaped(run: Run, batch: Sequence[Any], name: str, dim: int | None = None) -> Vectors:
    """Run a model, and require float32 of shape (n, dim). Any dim if None."""
    wanted = f"{len(batch)} vectors of {dim or 'some'} finite numbers from '{name}'"
    try:
        with np.errstate(over="ignore"):  # infinity is told
            vectors = np.asarray(run(list(batch)), dtype=np.float32)
    except (IngestError, MemoryError):
        raise
    except BaseException as error:  # models are other people's code, and must not end the process
        let_pass(error)
        raise TerminalError.wrap(
            error,
            f"Model '{name}' failed on {len(batch)} inputs",
            "Try it on one of the inputs, outside of a pipeline.",
            code="model_failed",
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(batch) or vectors.shape[1] != (dim or vectors.shape[1] or -1):
        raise ModelError(
            f"Model '{name}' gave unusable vectors",
            expected=wanted,
            got=f"an array of shape {vectors.shape}",
            fix="It must give one vector for each input.",
        )
    return vectors


def chosen(model: Spelling, **defaults: Any) -> dict[str, Any]:
    """Parse a model's options, each by the type of its default.

    Raises:
        TerminalError: It has no such option, or the option no such value.
    """
    if unknown := sorted(set(model.options) - set(defaults)):
        fix = f"It has {', '.join(defaults)}." if defaults else "It has none."
        raise TerminalError(
            f"Model '{model.scheme}' has no such option",
            expected=f"an option of '{model.scheme}'",
            got=f"{unknown[0]!r}",
            fix=fix,
            code="argument_invalid",
        )
    return {name: _typed(model, name, default) for name, default in defaults.items()}


def title(model: Spelling, *unsaid: str) -> str:
    """Name a model alike on every machine. Files go by their own names, options are told.

    Args:
        model: As it was spelled.
        unsaid: Options that have nothing to do with its vectors, or are told by the version of the weights.
    """
    options = {name: value for name, value in sorted(model.options.items()) if name not in unsaid}
    target = f":{Path(model.target).name}" if model.target else ""
    return f"{model.scheme}{target}" + (f"?{urlencode(options, safe=',')}" if options else "")


def _typed(model: Spelling, name: str, default: Any) -> Any:
    text = model.options.get(name)
    if text is None:
        return default
    try:
        return _TRUTH[text.lower()] if isinstance(default, bool) else type(default)(text)
    except (KeyError, ValueError):
        wanted = f"{type(default).__name__} as option '{name}' of '{model.scheme}'"
        raise TerminalError(
            "The option of a model cannot be read",
            expected=wanted,
            got=repr(text),
            fix=f"It is {default!r} if left out.",
            code="argument_invalid",
        ) from None


def weights_version(pieces: Iterable[bytes | memoryview]) -> str:
    """Name weights by their content."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:16]


def file_version(*paths: Path) -> str:
    """Name weights by the content of their files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
