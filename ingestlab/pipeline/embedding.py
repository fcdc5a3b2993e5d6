"""What a user declares of vectors: which text or image of a row, by which model, into which collection.

Models are named the way URLs are: ``scheme:target?option=value``. Nothing is loaded here, so that a pipeline
can be looked at where its model is not installed; :mod:`ingestlab.analytics.embedders.registry` loads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from ingestlab.core.errors import TerminalError

Kind = Literal["text", "image"]
Metric = Literal["COSINE", "IP", "L2"]
Index = Literal["HNSW", "AUTOINDEX"]
Model = str | Callable[[Any], Any]

FILE = "file"  # as a source: the bytes of the source file itself
COLLECTION = r"[A-Za-z_][A-Za-z0-9_]{0,199}"  # Milvus's own rule, with room for a suffix
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "wordllama": "text",
        "sentence-transformers": "text",
        "onnx-text": "text",
        "openai": "text",
        "hog": "image",
        "timm": "image",
        "efficientnet_lite0": "image",
        "onnx-image": "image",
        "ultralytics": "image",
    }
)
_NEEDS_TARGET = ("sentence-transformers", "onnx-text", "openai", "timm", "onnx-image", "ultralytics")
_ON_TORCH = ("sentence-transformers", "timm", "efficientnet_lite0", "ultralytics")
HOSTED = {"openai": r".+@https?://[^@?#]+"}  # of KINDS, those that a server runs, with what their targets are like
DETECTORS = ("ultralytics",)  # of KINDS, those that also find objects


@dataclass(frozen=True)
class Spelling:
    """Parsed name of a model."""

    scheme: str
    target: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def spell(model: str) -> Spelling:
    """Parse ``scheme:target?option=value``.

    Raises:
        TerminalError: The scheme is unknown, a target is missing or too much, or the options are no options.
    """
    name, asked, query = model.partition("?")
    scheme, _, target = name.partition(":")
    if scheme not in KINDS:
        raise _unknown(
            f"There is no model {model!r}",
            f"a model among {', '.join(KINDS)}, or a function",
            repr(model),
            "E.g. 'wordllama', 'timm:resnet18', 'onnx-text:models/mini'.",
        )
    if bool(target) != (scheme in _NEEDS_TARGET):
        raise _unknown(
            "The model's name cannot be read",
            f"'{scheme}:<model or path>'" if scheme in _NEEDS_TARGET else f"'{scheme}' with nothing after it",
            repr(model),
            "See ingestlab.analytics.embedders.registry for how models are named.",
        )
    if scheme in HOSTED and not re.fullmatch(HOSTED[scheme], target):
        raise _unknown(
            "The model's server cannot be read",
            f"'{scheme}:<model>@<base URL>', without a password",
            repr(target.rpartition("@")[2]),
            "E.g. 'openai:text-embedding-3-small@https://api.openai.com/v1?key=OPENAI_API_KEY'.",
        )
    try:
        options = dict(parse_qsl(query, strict_parsing=True))
    except ValueError:
        options = {}
    if bool(asked) != bool(options) or "" in options:
        raise _unknown(
            "The model's options cannot be read",
            "options as name=value, joined by '&'",
            repr(model),
            "E.g. 'hog?size=64'.",
        )
    return Spelling(scheme, target, options)


def resources_of(model: Model) -> dict[str, float]:
    """Return the Dask resources that a model asks for. Clusters may lack them."""
    if isinstance(model, str):
        return {"GPU": 1} if spell(model).scheme in _ON_TORCH else {}
    return dict(getattr(model, "resources", {}))


def _unknown(problem: str, expected: str, got: str, fix: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="model_unknown")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rule that cuts a long text into chunks with own vectors.

    Attributes:
        size: Most characters of the text in one chunk; the prefix comes on top.
        overlap: Most characters that a chunk repeats of the one before it.
        prefix: Columns whose values begin every chunk, e.g. a document's name and summary: a chunk from its
            middle says little by itself of what it is about. Missing ones are left out.

    Raises:
        TerminalError: The sizes make no sense.
    """

    size: int = 1000
    overlap: int = 0
    prefix: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", _columns(self.prefix, "Split.prefix"))
        if self.size < 1 or not 0 <= self.overlap < self.size:
            got = f"size={self.size}, overlap={self.overlap}"
            raise _invalid(
                "The Split has impossible sizes",
                "a size of at least 1 and an overlap from 0 to below it",
                got,
                "E.g. 1000 and 100.",
            )


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Vectors that go with the rows of a table.

    A row whose text is null or blank, or whose file is empty, is published without a vector, and counted among the
    run's rules as ``embedding:no text``. A row of which no vector can be made is a reject: the model raises for it
    (``embed:ValueError``), or gives NaN (``embed:nan``) or zeros, which have no direction (``embed:zero``, where
    vectors are normalised or compared by COSINE); so is one whose key is null or that of another row of its file
    (``vector:key``), or whose text or payload no field can hold (``vector:too long``): docs/reference/embeddings.md.

    Attributes:
        source: The column that holds the texts (or the bytes of images), or ``"file"``: the source file itself.
        model: Its name, e.g. ``"wordllama"`` (texts, offline, 256 numbers), ``"hog"`` (images, offline),
            ``"sentence-transformers:<model or folder>"``, ``"timm:<model>"``; see
                :mod:`ingestlab.analytics.embedders.registry`.
            Or a function of a list of texts (or bytes) that gives as many vectors, as an array or lists. It may
            carry attributes: ``name``, ``version``, ``kind`` ("text" or "image"), ``batch`` (how many it is
            given at a time) and ``resources`` (of Dask, e.g. ``{"GPU": 1}``).
        collection: Name of the collection; made of the table's name if not given.
        key: Columns that tell a row from the others of its source; its number in the source if none is given.
        payload: Columns that go along with the vector.
        truncate: Those of them, and ``"text"``, whose texts may be cut to the 65,535 bytes that Milvus can hold.
        split: How long texts are cut; None embeds each as one.
        normalise: Whether vectors are made one unit long.
        metric: How vectors are compared.
        index: How they are searched.
        batch: Most texts or images at a time; None is what suits the model.

    Raises:
        TerminalError: One of these cannot be.

    Examples:
        >>> from ingestlab import Embedding, Split
        >>> embedding = Embedding(source="text", model="wordllama", split=Split(size=800), key="name")
        >>> embedding.metric
        'COSINE'
    """

    source: str
    model: Model = "wordllama"
    collection: str = ""
    key: str | Sequence[str] = ()
    payload: str | Sequence[str] = ()
    truncate: str | Sequence[str] = ()
    split: Split | None = None
    normalise: bool = True
    metric: Metric = "COSINE"
    index: Index = "HNSW"
    batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("key", "payload", "truncate"):
            object.__setattr__(self, name, _columns(getattr(self, name), f"Embedding.{name}"))
        self._check_words()
        self._check_source()
        if unknown := [name for name in self.truncate if name not in {"text", *self.payload}]:
            raise _invalid(
                "Nothing such can be cut",
                "'text' or columns of its payload as Embedding.truncate",
                repr(unknown[0]),
                "In the lake nothing is cut.",
            )

    @property
    def kind(self) -> Kind:
        """Return what the model takes: texts or the bytes of images."""
        if isinstance(self.model, str):
            return KINDS[spell(self.model).scheme]
        return getattr(self.model, "kind", None) or ("image" if self.source == FILE else "text")

    @property
    def resources(self) -> dict[str, float]:
        """Return the Dask resources that the model asks for; see :func:`resources_of`."""
        return resources_of(self.model)

    @property
    def hosted(self) -> bool:
        """Tell whether a server runs the model."""
        return isinstance(self.model, str) and spell(self.model).scheme in HOSTED

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the table that are needed."""
        source = () if self.source == FILE else (self.source,)
        prefix = self.split.prefix if self.split else ()
        return tuple(dict.fromkeys([*source, *prefix, *self.key, *self.payload]))

    @property
    def inputs(self) -> str:
        """Describe what of a row the model is given."""
        if self.source == FILE:
            return "whole files"
        if not self.split:
            return f"column {self.source}"
        after = f" after {', '.join(self.split.prefix)}" if self.split.prefix else ""
        overlap = f", {self.split.overlap} of them twice" if self.split.overlap else ""
        return f"column {self.source} in chunks of {self.split.size} characters{overlap}{after}"

    def named(self, table: str) -> Embedding:
        """Name the collection, as declared or after the table.

        Args:
            table: Its name.
        """
        name = self.collection or re.sub(r"\W", "_", table, flags=re.ASCII)
        return replace(self, collection=name if re.match(r"[A-Za-z_]", name) else f"_{name}")

    def _check_words(self) -> None:
        if self.metric not in get_args(Metric):
            raise _invalid(
                "The metric is unknown", f"one of {', '.join(get_args(Metric))} as metric", repr(self.metric), _SEE
            )
        if self.index not in get_args(Index):
            raise _invalid(
                "The index is unknown", f"one of {', '.join(get_args(Index))} as index", repr(self.index), _SEE
            )
        if self.batch is not None and self.batch < 1:
            raise _invalid(
                "The batch is too small",
                "at least 1 as batch",
                repr(self.batch),
                "Leave it out for what suits the model.",
            )
        if self.collection and not re.fullmatch(COLLECTION, self.collection):
            raise _invalid(
                "The collection's name cannot be used",
                "a collection's name of letters, digits and '_', no digit first",
                repr(self.collection),
                "That is Milvus's rule.",
            )

    def _check_source(self) -> None:
        if not self.source or not isinstance(self.source, str):
            raise _invalid(
                "The source cannot be read", "a column, or 'file', as source of an Embedding", repr(self.source), _SEE
            )
        if not isinstance(self.model, str) and not callable(self.model):
            raise _invalid(
                "The model is none", "a model's name or a function as model", type(self.model).__name__, _SEE
            )
        if self.kind not in get_args(Kind):
            raise _invalid(
                "The kind is unknown",
                f"one of {', '.join(get_args(Kind))} as kind of a function",
                repr(self.kind),
                _SEE,
            )
        if self.source == FILE and self.kind == "text":
            raise _invalid(
                "The model takes texts",
                "a model of images for the source 'file'",
                f"{self.model!r}",
                "Name the column that holds the text, or another model.",
            )
        if self.split and self.kind == "image":
            raise _invalid(
                "Images cannot be split",
                "a Split with a model of texts",
                f"{self.model!r}",
                "Images stay whole: leave it out.",
            )


_SEE = "See the documentation of ingestlab.Embedding."


def _invalid(problem: str, expected: str, got: str, fix: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="embedding_invalid")


def _columns(names: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Return column names as a tuple, each once."""
    given = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) and name for name in given):
        raise _invalid("Names of columns cannot be read", f"names of columns as {what}", repr(names), _SEE)
    if len(set(given)) < len(given):
        raise _invalid("A column is named twice", f"each column once in {what}", repr(names), "Name each once.")
    return given
