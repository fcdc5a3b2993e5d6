"""Models that need no torch: real weights, real pictures, small ONNX networks."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.networks import write_image_model, write_text_model
from support.workers import PATIENCE

from ingestlab.analytics.embedders import registry as embedders
from ingestlab.analytics.embedders.base import Loaded
from ingestlab.analytics.embedders.images import crop, opened
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.analytics.embedders.registry import canary, embed_all, fingerprint, has_vector, load
from ingestlab.analytics.embedders.splitting import join, split, split_all
from ingestlab.core.errors import TerminalError
from ingestlab.pipeline.embedding import Split

SUMMARIES = {
    "redis": "Python client for Redis database and key-value store",
    "bokeh": "Interactive plots and applications in the browser from Python",
    "numpy": "Fundamental package for array computing in Python",
    "aiohttp": "Async http client/server framework",
    "pillow": "Python Imaging Library",
}


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def grey(value: int, size: int = 8) -> bytes:
    return png(np.full((size, size, 3), value, dtype=np.uint8))


# Loading


def test_a_model_is_loaded_once_whoever_asks():
    built = []

    def slow(texts):
        built.append(threading.get_ident())
        time.sleep(0.05)  # long enough for the others to ask meanwhile
        return np.ones((len(texts), 3))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load(slow), range(8)))
    assert len(built) == 1
    assert all(embedder is found[0] for embedder in found)
    assert load("wordllama") is load("wordllama")


def test_memory_holds_only_the_latest_models():
    first = load(lambda texts: np.ones((len(texts), 1)))
    for _ in range(embedders.KEPT + 2):
        load(lambda texts: np.ones((len(texts), 1)))
    assert len(embedders._loaded) == embedders.KEPT
    assert first not in embedders._loaded.values()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hog?sides=3", "'sides'"),
        ("hog?size=big", "'big'"),
        ("wordllama?dim=64", "'dim'"),
        ("hog?size=8&cell=16", "hog"),
        ("onnx-text:nowhere", "nowhere"),
        ("onnx-image:nowhere.onnx", "nowhere.onnx"),
    ],
)
def test_wrong_options_and_missing_files_are_named(model, said):
    with pytest.raises(TerminalError, match=said) as caught:
        load(model)
    assert caught.value.fix


def test_looking_at_the_names_loads_no_library():
    code = (
        "import sys, ingestlab.analytics.embedders.registry;"
        "print(sorted({'wordllama', 'skimage', 'PIL', 'torch', 'onnxruntime', 'dask', 'pymilvus'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "[]\n"


# Any number of inputs


def recording(dim: int = 2, batch: int = 3) -> tuple[Loaded, list[list[str]]]:
    """A model of texts that gives their length and one, and what it was given."""
    given: list[list[str]] = []

    def run(texts):
        given.append(texts)
        return [[len(text)] + [1] * (dim - 1) for text in texts]

    return Loaded("recording", "1", dim, "text", batch, run), given


def test_order_is_kept_while_batches_hold_texts_of_like_length():
    texts = ["a" * n for n in (7, 1, 5, 2, 6, 3, 4)]
    embedder, given = recording()
    vectors = embed_all(embedder, texts, normalise=False)
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    assert [[len(text) for text in batch] for batch in given] == [[1, 2, 3], [4, 5, 6], [7]]
    assert (vectors.dtype, vectors.shape) == (np.float32, (7, 2))


def test_long_texts_go_few_at_a_time():
    half = embedders.BATCH_CHARACTERS // 2
    embedder, given = recording(batch=64)
    embed_all(embedder, ["x" * half, "x" * (half + 1), "y", "x" * (3 * half), "z"])
    assert [len(batch) for batch in given] == [2, 1, 1, 1]


def test_the_declared_batch_goes_before_the_models_own():
    embedder, given = recording()
    embed_all(embedder, list("abcdefg"), batch=5)
    assert [len(batch) for batch in given] == [5, 2]


def test_nothing_makes_no_vector():
    embedder, given = recording()
    vectors = embed_all(embedder, ["ab", None, "", " \n\t", "c"])
    assert has_vector(vectors).tolist() == [True, False, False, False, True]
    assert np.allclose(np.linalg.norm(vectors[[0, 4]], axis=1), 1)
    assert given == [["c", "ab"]]
    assert embed_all(embedder, []).shape == (0, 2)
    assert has_vector(embed_all(embedder, [None])).tolist() == [False]


def test_zeros_have_no_direction():
    embedder = Loaded("zeros", "1", 2, "text", 8, lambda texts: np.zeros((len(texts), 2)))
    assert not has_vector(embed_all(embedder, ["a"])).any()
    assert embed_all(embedder, ["a"], normalise=False).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda texts: np.ones((len(texts) + 1, 2)),
        lambda texts: np.ones(len(texts)),
        lambda texts: np.ones((len(texts), 0)),
        lambda texts: [[float("nan"), 1.0] for _ in texts],
        lambda texts: [["a"] for _ in texts],
        lambda texts: 1 / 0,
        lambda texts: sys.exit(),
    ],
)
def test_a_function_that_gives_no_vectors_is_told_so(wrong):
    wrong.name = "mine"
    with pytest.raises(TerminalError, match="'mine'") as caught:
        load(wrong)
    assert caught.value.fix


def test_vectors_of_another_length_than_at_first_are_refused():
    sizes = iter([3, 4])
    embedder = load(lambda texts: np.ones((len(texts), next(sizes))))
    with pytest.raises(TerminalError, match="3 finite numbers"):
        embed_all(embedder, ["a"])


# Fingerprints


def test_a_fingerprint_tells_models_and_their_use_apart():
    wordllama = load("wordllama")
    told = fingerprint(wordllama)
    assert told == fingerprint(wordllama)
    assert (told["model"], told["dim"], told["normalised"]) == ("wordllama:l2_supercat_256", 256, True)
    assert np.isclose(np.linalg.norm(told["canary"]), 1, atol=1e-3)
    raw = fingerprint(wordllama, normalise=False)
    assert raw["canary"] != told["canary"]
    assert canary(load("hog?cell=12"))[:100].tolist() != canary(load("hog"))[:100].tolist()


def test_a_function_says_itself_who_it_is():
    def mine(texts):
        return [[len(text), 2] for text in texts]

    assert fingerprint(load(mine))["version"] == ""
    mine.name, mine.version, mine.batch = "lengths", "7", 2
    embedders._loaded.clear()
    embedder = load(mine)
    assert (embedder.name, embedder.version, embedder.batch, embedder.dim) == ("lengths", "7", 2, 2)


def test_the_canary_image_is_a_picture_for_everyone():
    image = Image.open(io.BytesIO(PROBES["image"]))
    assert (image.size, image.mode) == ((64, 64), "RGB")
    assert image.getpixel((40, 24)) == (250, 240, 30)


# Texts


def test_wordllama_finds_the_package_that_is_meant():
    names, model = list(SUMMARIES), load("wordllama")
    vectors = embed_all(model, [join(both) for both in SUMMARIES.items()])
    questions = embed_all(model, ["talk to a redis server", "draw interactive plots in the browser"])
    assert [names[best] for best in (questions @ vectors.T).argmax(axis=1)] == ["redis", "bokeh"]


def test_a_text_has_the_same_vector_in_any_company():
    model = load("wordllama")
    alone = embed_all(model, ["storm over the sea"])
    among = embed_all(model, ["x " * 300, "storm over the sea", "wind"])
    assert np.allclose(alone[0], among[1], atol=1e-6)


def test_wordllama_leaves_logging_alone():
    code = (
        "import logging; from ingestlab.analytics.embedders.registry import load; load('wordllama');"
        "print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == f"[] {logging.WARNING}\n"


def test_an_onnx_text_model_takes_the_mean_of_a_texts_own_tokens(tmp_path):
    model = load(f"onnx-text:{write_text_model(tmp_path)}")
    vectors = model.embed(["red", "the green storm", "red blue"])
    assert model.dim == 4
    assert np.allclose(vectors[:, 0], [2, (8 + 3 + 5) / 3, 3])
    assert np.allclose(vectors[:, 2], 1)  # padding is not counted


def test_an_onnx_text_model_may_have_a_sentence_output_and_more_inputs(tmp_path):
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    folder = write_text_model(tmp_path, output="sentence_embedding", inputs=inputs)
    model = load(f"onnx-text:{folder / 'model.onnx'}?max_tokens=2")
    assert model.embed(["red green blue"])[0, 0] == 2 + 3  # cut after two tokens
    assert model.name == "onnx-text:model.onnx?max_tokens=2"


def test_the_version_of_an_onnx_model_is_its_content(tmp_path):
    for name in "ab":
        (tmp_path / name / "same").mkdir(parents=True)
        write_text_model(tmp_path / name / "same")
    first, second = (load(f"onnx-text:{tmp_path / name / 'same'}") for name in "ab")
    assert (first.name, first.version) == (second.name, second.version)
    (tmp_path / "c" / "same").mkdir(parents=True)
    other = load(f"onnx-text:{write_text_model(tmp_path / 'c' / 'same', output='sentence_embedding')}")
    assert (other.name, other.version != first.version) == (first.name, True)


# Images


@lru_cache
def digit_vectors() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return embed_all(load("hog"), [png((16 * d).clip(0, 255).astype(np.uint8)) for d in digits.images]), digits.target


def test_hog_puts_digits_beside_their_like():
    """Of the ten nearest of each of 1,797 digits, the share of the same digit; raw pixels give 0.963."""
    vectors, labels = digit_vectors()
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    nearest = np.argpartition(-alike, 10, axis=1)[:, :10]
    precision = (labels[nearest] == labels[:, None]).mean()
    assert precision >= 0.975  # 0.980 on 2026's scikit-image


def test_hog_has_one_length_for_images_of_all_sizes_and_modes():
    hog = load("hog")
    noise = np.random.default_rng(0).integers(0, 255, (70, 33, 4), dtype=np.uint8)
    images = [PROBES["image"], png(noise), png(noise[..., 0]), png(noise[..., :3])]
    vectors = embed_all(hog, images)
    assert (vectors.shape, hog.dim) == ((4, 900), 900)
    assert has_vector(vectors).all()
    assert not has_vector(embed_all(hog, [grey(90), b"", None])).any()  # one colour has no edges


@pytest.mark.parametrize("data", [b"no image", PROBES["image"][:300], b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(TerminalError, match="image"):
        embed_all(load("hog"), [data])


def test_images_are_seen_as_they_are_meant():
    wide = np.zeros((4, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    assert opened(png(wide, exif=exif)).size == (4, 8)
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    assert opened(png(clear)).getpixel((0, 0)) == (255, 255, 255)


def test_an_image_of_too_many_pixels_is_not_decoded(monkeypatch):
    monkeypatch.setattr("ingestlab.analytics.embedders.images.MAX_PIXELS", 63)
    with pytest.raises(TerminalError, match="8 x 8"):
        opened(grey(1))


def test_a_crop_is_the_piece_of_its_image_and_never_empty():
    image = np.zeros((10, 10, 3), dtype=np.uint8)
    image[2:5, 3:7] = (10, 20, 30)
    piece = Image.open(io.BytesIO(crop(png(image), (3, 2, 7, 5))))
    assert (piece.size, np.unique(np.asarray(piece)).tolist()) == ((4, 3), [10, 20, 30])
    assert Image.open(io.BytesIO(crop(png(image), (-5, 9.9, 40, 9.95)))).size == (10, 1)


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("side", [8, "side"])
def test_an_onnx_image_model_gets_colours_as_it_was_trained(tmp_path, channels_first, side):
    path = write_image_model(tmp_path / "net.onnx", channels_first=channels_first, side=side)
    model = load(f"onnx-image:{path}?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=8")
    colours = png(np.full((20, 30, 3), (0, 255, 51), dtype=np.uint8))
    assert np.allclose(model.embed([colours]), [[-1, 1, -0.6]], atol=1e-6)


def test_an_onnx_image_model_has_imagenets_colours_by_default(tmp_path):
    model = load(f"onnx-image:{write_image_model(tmp_path / 'net.onnx')}")
    white = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(model.embed([grey(255)]), [white], atol=1e-5)


def test_a_network_of_texts_is_no_network_of_images(tmp_path):
    write_text_model(tmp_path)
    with pytest.raises(TerminalError, match="input_ids"):
        load(f"onnx-image:{tmp_path / 'model.onnx'}")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(TerminalError, match=r"junk\.onnx"):
        load(f"onnx-image:{tmp_path / 'junk.onnx'}")


# Chunks

STORY = "The storm came at night. " * 40 + "\n\n" + "Nobody had seen it coming. " * 40


def test_chunks_are_no_longer_than_asked_end_with_sentences_and_are_always_the_same():
    chunks = split(STORY, Split(size=200))
    assert max(map(len, chunks)) <= 200
    assert all(chunk.endswith(".") for chunk in chunks)
    assert " ".join(chunks).split() == STORY.split()
    assert chunks == split(STORY, Split(size=200))


def test_chunks_repeat_as_much_as_asked():
    numbered = " ".join(f"Storm {n} came at night." for n in range(100))
    apart, lapped = split(numbered, Split(size=200)), split(numbered, Split(size=200, overlap=60))
    assert all(a.split()[-5:] != b.split()[:5] for a, b in pairwise(apart))
    assert all(b[:20] in a[-60:] for a, b in pairwise(lapped))


def test_each_chunk_begins_with_its_prefix():
    chunks = split(STORY, Split(size=200), prefix="storms: a story")
    assert all(chunk.startswith("storms: a story\n") for chunk in chunks)
    assert split(None, Split(), prefix="storms") == ["storms"]
    assert split(" \n", Split()) == split(None, Split()) == []
    assert join(["redis", None, " ", "a client"]) == "redis: a client"


def test_many_texts_are_split_with_their_rows_and_ordinals():
    how = Split(size=200, prefix=("name", "summary"))
    names, summaries = ["one", "two", None, None], ["a story", None, None, None]
    chunks = split_all([STORY, None, None, "short"], how, [names, summaries])
    story = split(STORY, how, "one: a story")
    assert chunks.texts == [*story, "two", "short"]
    assert chunks.rows.tolist() == [0] * len(story) + [1, 3]
    assert chunks.ordinals.tolist() == [*range(len(story)), 0, 0]
    whole = split_all([STORY, None, " "], None)
    assert (whole.texts, whole.rows.tolist(), whole.ordinals.tolist()) == ([STORY], [0], [0])
    assert split_all([], how, [[], []]).texts == []
