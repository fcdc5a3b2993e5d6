"""Photographs go through models on torch, from their files to vectors that are committed and found."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed here: `make test-torch` runs these tests")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a model that is not here must be missed at once

from support.pictures import PictureWorld, photographs
from support.shipped import PIPELINES

from ingestlab.sinks.milvus import commit as module
from ingestlab.sinks.milvus.vector_values import Where

pytestmark = pytest.mark.torch

RESNET = "timm:resnet18?pretrained=false&seed=0"
PICTURES = f"""
from ingestlab import Embedding, Images, Pipeline

PIPELINE = Pipeline(
    reader=Images(),
    write_disposition="replace",
    embedding=Embedding(source="file", model={RESNET!r}, payload=["format", "width"]),
)
"""
TRAINED, RANDOM = "yolo11n.pt?confidence=0.1", "yolo11n.yaml?seed=0&size=160&confidence=0.0001&most=5"


def shipped(model: str) -> str:
    """The pipeline that finds objects, with weights that need no download, whatever they are sure of."""
    text = (Path(PIPELINES) / "objects.py").read_text()
    for old, new in {TRAINED: RANDOM, '"min_value": 0.25': '"min_value": 0', 'model="hog"': f'model="{model}"'}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.fixture
def make(tmp_path, redis_url, monkeypatch):
    def make(pipeline: str) -> PictureWorld:
        world = PictureWorld(tmp_path, redis_url, pipeline)
        monkeypatch.setattr(module, "connected", world.connected)
        return world

    return make


def test_pictures_go_through_a_timm_model_and_each_is_the_nearest_to_itself(make):
    world, photos = make(PICTURES), photographs()
    uris = world.store_all(photos)
    result = world.run(list(uris.values()))
    assert [(o.status, o.error) for o in result.outcomes] == [("committed", None)] * 6
    assert world.db.count("small", Where(tenant="default")) == len(world.table()) == len(photos)
    assert set(world.kept("format")["format"]) == {"JPEG"}
    assert {len(vector) for vector in world.table("small__vectors")["vector"]} == {512}
    for hits, uri in zip(world.nearest(list(photos.values()), RESNET), uris.values(), strict=True):
        assert (hits[0].values["source"], hits[0].score) == (uri, pytest.approx(1, abs=1e-4))


@pytest.mark.parametrize("model", ["hog", "efficientnet_lite0"])
def test_yolos_objects_are_rows_and_their_crops_are_vectors(make, model):
    world, photos = make(shipped(model)), photographs()
    uris = world.store_all({name: photo for name, photo in photos.items() if "whole" in name})
    result = world.run(list(uris.values()))
    assert [(o.status, o.error) for o in result.outcomes] == [("committed", None)] * 2
    rows, kept = world.table(), world.kept("label", "confidence")
    assert set(rows["_source"]) == set(uris.values())
    assert rows["_row"].max() < 5
    assert (rows.groupby("_source", observed=True)["confidence"].diff().dropna() <= 0).all()
    assert (rows[["left", "top"]].to_numpy() >= 0).all()
    assert (rows[["right", "bottom"]].to_numpy() <= rows[["width", "height"]].to_numpy()).all()
    for ours, theirs in zip(["source", "row", "label"], ["_source", "_row", "label"], strict=True):
        assert kept[ours].tolist() == rows[theirs].tolist()
    assert np.allclose(kept["confidence"], rows["confidence"])
    hits = world.nearest(rows["crop"].tolist(), model)
    assert np.allclose([hit[0].score for hit in hits], 1, atol=1e-4)


def test_yolo_finds_the_same_again(make):
    world = make(shipped("hog"))
    uris = list(world.store_all(photographs()).values())
    world.run(uris)
    before, vectors = world.table(), world.table("small__vectors")["vector"].tolist()
    assert [o.status for o in world.run(uris, run="r2", force=True).outcomes] == ["committed"] * 6
    assert world.table().equals(before)
    assert np.array_equal(world.table("small__vectors")["vector"].tolist(), vectors)
