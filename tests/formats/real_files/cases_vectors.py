"""Rows that go into a collection: those that can have no vector are rejects, and their neighbours are published."""

from __future__ import annotations

from harness import Case

COLUMNS = 'Csv(columns={"id": "string", "text": "string"})'
MODEL = """
import numpy as np

def model(texts):
    if any("raise" in text for text in texts):
        raise ValueError("cannot read this")
    special = {"no number": [np.nan, 1], "endless": [np.inf, 1], "nothing": [0, 0]}
    return [special.get(text, [1, len(text)]) for text in texts]
"""
SHAPES = "def model(texts): return [[1, 2]] if len(texts) == 1 else [[1, 2]] * (len(texts) - 1)"


def embedded(more: str = "", model: str = "model") -> str:
    """The options of a pipeline whose texts go into a collection of the case's own."""
    return f'embedding=Embedding(source="text", model={model}, {more})'


def case(name: str, lines: str, code: str = MODEL, options: str = "", **said: object) -> Case:
    """A case of a CSV file with an id and a text in each row."""
    data = f"id,text\n{lines}".encode()
    return Case(name=f"vectors_{name}", file="a.csv", data=data, reader=COLUMNS, code=code,
                options=options or embedded(), **said)  # fmt: skip


CASES = [
    case("plain", "a,one\nb,two\n", rows={"id": ["a", "b"], "text": ["one", "two"]}),
    case("nan", "a,one\nb,no number\nc,two\n", rows={"id": ["a", "c"], "text": ["one", "two"]},
         rejects=[(1, "embed:nan")]),
    case("infinity", "a,one\nb,endless\n", rows={"id": ["a"], "text": ["one"]}, rejects=[(1, "embed:infinity")]),
    case("zero", "a,nothing\nb,two\n", rows={"id": ["b"], "text": ["two"]}, rejects=[(0, "embed:zero")]),
    case("zero_by_length", "a,nothing\nb,two\n", rows={"id": ["a", "b"], "text": ["nothing", "two"]},
         options=embedded('metric="L2", normalise=False')),
    case("raises", "a,one\nb,raise\nc,two\nd,raise too\n", rows={"id": ["a", "c"], "text": ["one", "two"]},
         rejects=[(1, "embed:ValueError"), (3, "embed:ValueError")]),
    case("raises_for_all", "a,raise\nb,raise it\n", error=["cannot read this"]),
    case("all_without_vector", "a,no number\nb,no number\n", error=["embed:nan"]),
    case("shape", "a,one\nb,two\n", code=SHAPES, error=["one vector for each input"]),
    case("no_text", "a,one\nb,\nc,   \n", rows={"id": ["a", "b", "c"], "text": ["one", None, "   "]},
         facts={"no vector": "rows 1, 2 (no text)"}),
    case("double_key", "a,one\na,two\nb,three\na,four\n", options=embedded('key="id"'),
         rows={"id": ["a", "b"], "text": ["one", "three"]}, rejects=[(1, "vector:key"), (3, "vector:key")]),
    case("double_keys_of_two_columns", "a,one\na,two\na,one\n", options=embedded('key=["id", "text"]'),
         rows={"id": ["a", "a"], "text": ["one", "two"]}, rejects=[(2, "vector:key")]),
    case("long_key", f"a,one\n{'k' * 65_536},two\n", options=embedded('key="id"'),
         rows={"id": ["a"], "text": ["one"]}, rejects=[(1, "vector:key")]),
    case("long_text", f"a,one\nb,{'é' * 32_768}\n", rows={"id": ["a"], "text": ["one"]},
         rejects=[(1, "vector:too long")]),
    case("longest_text", f"a,{'é' * 32_767}\n", rows={"id": ["a"], "text": ["é" * 32_767]}),
    case("long_text_that_may_be_cut", f"a,{'é' * 40_000}\n", options=embedded('truncate="text"'),
         rows={"id": ["a"], "text": ["é" * 40_000]}),
    case("long_payload", f"{'i' * 65_536},one\nb,two\n", options=embedded('payload="id"'),
         rows={"id": ["b"], "text": ["two"]}, rejects=[(0, "vector:too long")]),
    case("long_text_in_chunks", f"a,{'word ' * 20_000}end\n", code="",
         options=embedded("split=Split(size=900)", "'wordllama'"),
         rows={"id": ["a"], "text": ["word " * 20_000 + "end"]}),
]  # fmt: skip
