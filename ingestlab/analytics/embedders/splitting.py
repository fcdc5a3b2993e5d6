"""Cuts long texts into chunks, by semantic-text-splitter.

It is one Rust wheel that needs nothing else, cuts at paragraphs, sentences and words as Unicode defines them, and
never between the parts of one character. (langchain-text-splitters does a similar job at a similar speed, but
cuts at literal separators only, and brings 30 packages of its framework.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Split


@dataclass(frozen=True)
class Chunks:
    """Chunks of many texts, in their order; all three are equally long."""

    texts: list[str]
    rows: np.ndarray[Any, np.dtype[np.int64]]  # which text
    ordinals: np.ndarray[Any, np.dtype[np.int32]]  # which chunk of it, from 0


def split(text: str | None, how: Split, prefix: str = "") -> list[str]:
    """Split a text into chunks in order, stripped of blanks.

    The same text gives the same chunks, so that their ordinals can be keys.

    Args:
        text: None or blank makes no chunk, but for its prefix, which then is one by itself.
        how: Sizes in characters; the prefix is not counted.
        prefix: What each chunk begins with, on a line of its own.

    Raises:
        TerminalError: The extra ``embed`` is not installed.
    """
    return _with_prefix(_splitter(how.size, how.overlap).chunks(text or ""), prefix)


def split_all(texts: Sequence[str | None], how: Split | None, prefixes: Sequence[Sequence[str | None]] = ()) -> Chunks:
    """Split many texts as :func:`split` does. Without `how`, each text is one chunk.

    Args:
        texts: One a row.
        how: Sizes in characters.
        prefixes: For each column of ``how.prefix`` its values, one a row.
    """
    heads = [join(values) for values in zip(*prefixes, strict=True)] if prefixes else [""] * len(texts)
    known = [text or "" for text in texts]
    pieces = _splitter(how.size, how.overlap).chunk_all(known) if how else [[t] if t.strip() else [] for t in known]
    each = [_with_prefix(chunks, head) for chunks, head in zip(pieces, heads, strict=True)]
    counts = np.fromiter(map(len, each), dtype=np.int64, count=len(each))
    ordinals = np.concatenate([np.arange(n, dtype=np.int32) for n in counts]) if len(counts) else np.empty(0, np.int32)
    return Chunks([chunk for chunks in each for chunk in chunks], np.repeat(np.arange(len(counts)), counts), ordinals)


def join(values: Sequence[str | None]) -> str:
    """Join the values of a prefix that say something, as ``name: summary``."""
    return ": ".join(str(value).strip() for value in values if value is not None and str(value).strip())


def _with_prefix(chunks: list[str], prefix: str) -> list[str]:
    if not prefix:
        return chunks
    return [f"{prefix}\n{chunk}" for chunk in chunks] or [prefix]


@lru_cache(maxsize=8)
def _splitter(size: int, overlap: int) -> Any:
    return needed("semantic_text_splitter", "embed", "Split").TextSplitter(size, overlap=overlap)
