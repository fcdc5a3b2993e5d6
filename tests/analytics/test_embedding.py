"""What a user declares of vectors, and what is refused."""

from __future__ import annotations

import pickle

import pytest

from ingestlab.core.errors import TerminalError
from ingestlab.pipeline.embedding import Embedding, Split, spell


def lengths(texts):
    return [[len(text)] for text in texts]


def test_models_are_spelled_like_urls():
    assert spell("wordllama").scheme == "wordllama"
    timm = spell("timm:resnet18?pretrained=false&seed=3")
    assert (timm.scheme, timm.target, timm.options) == ("timm", "resnet18", {"pretrained": "false", "seed": "3"})
    assert spell("onnx-text:/models/a:b/mini").target == "/models/a:b/mini"


@pytest.mark.parametrize("model", ["", "word2vec", "timm", "timm:", "hog:48", "hog?", "hog?size", "hog?=3"])
def test_a_model_that_is_not_spelled_so_is_refused_with_an_example(model):
    with pytest.raises(TerminalError) as caught:
        Embedding(source="picture", model=model)
    assert repr(model) in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": ""},
        {"source": "file"},  # texts have a column
        {"metric": "cosine"},
        {"index": "FLAT"},
        {"batch": 0},
        {"collection": "my docs"},
        {"collection": "1st"},
        {"key": ["id", "id"]},
        {"payload": [""]},
        {"model": 3},
        {"model": "hog", "split": Split()},
    ],
)
def test_a_declaration_that_cannot_be_is_refused(wrong):
    with pytest.raises(TerminalError) as caught:
        Embedding(**{"source": "text", **wrong})
    assert caught.value.fix


@pytest.mark.parametrize("sizes", [{"size": 0}, {"size": 10, "overlap": 10}, {"overlap": -1}])
def test_chunks_that_would_never_end_are_refused(sizes):
    with pytest.raises(TerminalError, match="overlap"):
        Split(**sizes)


def test_a_declaration_tells_its_columns_kind_and_wishes_without_loading_a_model():
    texts = Embedding(source="body", key="id", payload=("title", "id"), split=Split(prefix=("title", "summary")))
    assert texts.columns == ("body", "title", "summary", "id")
    assert (texts.kind, texts.resources) == ("text", {})
    pictures = Embedding(source="file", model="timm:resnet18")
    assert (pictures.kind, pictures.columns, pictures.resources) == ("image", (), {"GPU": 1})


def test_a_function_may_say_what_it_takes_and_wants():
    assert Embedding(source="text", model=lengths).kind == "text"
    assert Embedding(source="file", model=lengths).kind == "image"

    def pixels(images):
        return lengths(images)

    pixels.kind, pixels.resources = "image", {"GPU": 0.5}
    declared = Embedding(source="thumbnail", model=pixels)
    assert (declared.kind, declared.resources) == ("image", {"GPU": 0.5})
    pixels.kind = "sound"
    with pytest.raises(TerminalError, match="'sound'"):
        Embedding(source="thumbnail", model=pixels)


@pytest.mark.parametrize(
    ("table", "collection"), [("documents", "documents"), ("a.b-c", "a_b_c"), ("2024", "_2024"), ("stürme", "st_rme")]
)
def test_a_collection_is_called_like_its_table_as_far_as_milvus_lets_it(table, collection):
    assert Embedding(source="text").named(table).collection == collection
    assert Embedding(source="text", collection="mine").named(table).collection == "mine"


def test_a_declaration_survives_its_way_to_a_worker():
    declared = Embedding(source="text", split=Split(size=300, overlap=30, prefix="name"), payload=["name"])
    assert pickle.loads(pickle.dumps(declared)) == declared
