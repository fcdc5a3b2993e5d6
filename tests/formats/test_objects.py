"""Objects in pictures: each is a row with its box, and a vector of its crop; a plain function may find them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.pictures import PictureWorld, drawn, photographs
from support.shipped import PIPELINES

from ingestlab import Archive, Embedding, Images, Objects, Pipeline
from ingestlab.analytics.embedders.detectors import DETECTIONS, detector
from ingestlab.analytics.embedders.images import crops
from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import install_command
from ingestlab.core.models import Piece
from ingestlab.lake.storage.store import LocalStore
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.milvus import commit as module

PIPELINE = '''
import io
from typing import Any
import numpy as np
import pandera.pandas as pa
from PIL import Image
from skimage.measure import label, regionprops
from ingestlab import Embedding, Objects, Pipeline

def find(images):
    """Dark shapes on white, with their edges: what fills its box is a square; the larger, the surer."""
    return [list(shapes(np.asarray(Image.open(io.BytesIO(image)).convert("L")))) for image in images]

def shapes(grey):
    if grey.min() > 100 and grey.max() < 200:
        raise ValueError("fog")
    for one in regionprops(label(grey < 128)):
        top, left, bottom, right = one.bbox
        box = (left - 2, top - 2, right + 2, bottom + 2)
        yield ("square" if one.extent > 0.95 else "disc"), min(1.0, one.area / 4000), box

class Shape(pa.DataFrameModel):
    confidence: Any = pa.Field(ge=0.05)

PIPELINE = Pipeline(
    reader=Objects(model=find),
    contract=Shape,
    write_disposition="replace",
    embedding=Embedding(source="crop", model="hog", payload=["label", "confidence"]),
)
'''
PICTURES = {
    "a.png": [("square", (10, 20, 50, 60)), ("disc", (100, 40, 160, 100))],
    "b.png": [("disc", (5, 5, 35, 35)), ("square", (60, 10, 120, 70)), ("square", (150, 100, 156, 106))],
    "empty.png": [],
}
COLUMNS = ["label", "left", "top", "right", "bottom"]


@pytest.fixture
def world(tmp_path, redis_url, monkeypatch):
    made = PictureWorld(tmp_path, redis_url, PIPELINE)
    monkeypatch.setattr(module, "connected", made.connected)
    return made


@pytest.fixture
def uris(world):
    return world.store_all({name: drawn(shapes) for name, shapes in PICTURES.items()})


def test_each_object_is_a_row_the_surest_first(world, uris):
    result = world.run(list(uris.values()))
    assert [(o.status, o.error) for o in result.outcomes] == [("committed", None)] * 3
    rows = world.table()
    of_a, of_b = (rows[rows["_source"] == uris[name]] for name in ("a.png", "b.png"))
    assert of_a[COLUMNS].to_numpy().tolist() == [["disc", 98, 38, 162, 102], ["square", 8, 18, 52, 62]]
    assert of_b[COLUMNS].to_numpy().tolist() == [["square", 58, 8, 122, 72], ["disc", 3, 3, 37, 37]]
    assert rows["_row"].tolist() == [0, 1, 0, 1]
    assert set(zip(rows["width"], rows["height"], strict=True)) == {(200, 120)}
    assert rows["confidence"].between(0.05, 1).all()


def test_the_crop_shows_the_object_and_its_vector_finds_the_like(world, uris):
    world.run(list(uris.values()))
    rows = world.table()
    sizes = [Image.open(io.BytesIO(crop)).size for crop in rows["crop"]]
    assert sizes == [(64, 64), (44, 44), (64, 64), (34, 34)]
    kept = world.kept("label", "confidence")
    assert kept["label"].tolist() == rows["label"].tolist()
    assert np.allclose(kept["confidence"], rows["confidence"])
    disc = drawn([("disc", (5, 5, 85, 85))], size=(90, 90))
    assert {hit.values["label"] for hit in world.nearest([disc], "hog", limit=2)[0]} == {"disc"}


def test_a_bad_object_is_rejected_alone(world, uris):
    result = world.run([uris["b.png"]])
    assert (result.outcomes[0].tally.rows_in, result.outcomes[0].tally.accepted) == (3, 2)
    (reject,) = world.table("small__rejects").to_dict("records")
    assert (reject["row"], reject["column"], reject["rule"]) == (2, "confidence", "greater_than_or_equal_to")
    assert reject["raw"] == "square (0.01) at 148, 98, 158, 108"


def test_a_picture_without_objects_is_committed_without_rows(world, uris):
    (outcome,) = world.run([uris["empty.png"]]).outcomes
    assert (outcome.status, outcome.tally.rows_in) == ("committed", 0)
    (again,) = world.run([uris["empty.png"]], run="r2").outcomes
    assert again.status == "unchanged"


def test_a_picture_that_has_changed_has_the_objects_of_the_new_one_only(world, uris):
    world.run(list(uris.values()))
    world.store_all({"b.png": drawn(PICTURES["a.png"][:1])})
    world.run([uris["b.png"]], run="r2")
    kept, rows = world.kept("label"), world.table()
    assert kept[kept["source"] == uris["b.png"]]["label"].tolist() == ["square"]
    assert len(kept) == len(rows) == 3


def test_what_is_no_picture_or_no_model_can_look_at_fails_alone(world, uris):
    fog = io.BytesIO()
    Image.new("L", (50, 50), 150).save(fog, "PNG")
    more = world.store_all({"broken.png": drawn(PICTURES["a.png"])[:200], "fog.png": fog.getvalue()})
    result = world.run([uris["a.png"], *more.values(), uris["b.png"]])
    assert [o.status for o in result.outcomes] == ["committed", "failed", "failed", "committed"]
    assert "not a whole image" in str(result.outcomes[1].error)
    assert "fog" in str(result.outcomes[2].error)
    assert len(world.kept()) == len(world.table()) == 4


def test_large_objects_are_cropped_smaller_and_photographs_stay_jpeg():
    photo = photographs()["temple-whole.jpg"]
    small, whole = crops(photo, [(0, 0, 40, 30), (-10, -10, 9000, 9000)], longest=64)
    opened = [Image.open(io.BytesIO(piece)) for piece in (small, whole)]
    assert [(one.format, one.size) for one in opened] == [("JPEG", (40, 30)), ("JPEG", (64, 43))]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([], "0 lists"),
        ([[("x", 0.5, (1, 2, 3))]], "ValueError"),
        ([[("x", float("nan"), (1, 2, 3, 4))]], "NaN"),
        ([[("x", 0.5, (1, 2, float("inf"), 4))]], "NaN or infinity"),
        (None, "TypeError"),
    ],
)
def test_a_function_that_gives_something_else_is_told_what_is_wanted(answer, complaint):
    with pytest.raises(TerminalError, match=complaint) as caught:
        detector(lambda _images: answer)([b"an image"])
    assert "(label, confidence, (left, top, right, bottom))" in caught.value.reason


def test_a_function_that_finds_nothing_gives_no_rows():
    found = detector(lambda images: [[] for _ in images])([b"1", b"2"])
    assert (found.schema, len(found)) == (DETECTIONS, 0)


@pytest.mark.parametrize("wrong", [{"model": "hog"}, {"model": 3}, {"model": len, "longest": 0}])
def test_a_reader_that_cannot_be_is_refused_when_it_is_declared(wrong):
    with pytest.raises(TerminalError) as caught:
        Objects(**wrong)
    assert caught.value.fix


def test_the_shipped_pipeline_loads_without_its_model_and_names_the_extra_when_it_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    file = Path(PIPELINES) / "objects.py"
    pipeline = load(PipelineSource(name="objects", origin=str(file), text=file.read_text()))
    assert pipeline.resources == {"GPU": 1}
    (tmp_path / "f").write_bytes(drawn(PICTURES["a.png"]))
    with pytest.raises(TerminalError, match="ultralytics") as caught:
        pipeline.reader.read(Piece(uri="u", path="f", name="f", sha256="ab"), LocalStore(str(tmp_path)))
    assert caught.value.fix == f"Install it with: {install_command('ultralytics')}"


def test_a_task_wants_what_its_reader_and_its_model_want():
    def find(images): ...
    def model(images): ...

    find.resources, model.resources, model.kind = {"GPU": 1}, {"GPU": 2, "MODEL": 1}, "image"
    embedding = Embedding(source="crop", model=model)
    assert Pipeline(reader=Images()).resources == {}
    assert Pipeline(reader=Objects(model=find)).resources == {"GPU": 1}
    assert Pipeline(reader=Archive(reader=Objects(model=find))).resources == {"GPU": 1}
    assert Pipeline(reader=Objects(model=find), embedding=embedding).resources == {"GPU": 2, "MODEL": 1}


CONTENT = """
import io
import numpy as np
from PIL import Image
from ingestlab import Images, Pipeline

def clean(df):
    grey = [np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean() for data in df["content"]]
    return df.assign(brightness=grey).drop(columns="content")

PIPELINE = Pipeline(reader=Images(content=True), clean=clean)
"""


def test_clean_may_look_at_the_pixels(world, uris):
    world.write(CONTENT)
    world.run(list(uris.values()))
    rows = world.table().set_index("_source")
    assert rows.loc[uris["empty.png"], "brightness"] == 255
    assert rows.loc[uris["a.png"], "brightness"] < 250
    assert "content" not in rows


def test_content_is_the_file_itself(tmp_path):
    data = drawn(PICTURES["a.png"])
    (tmp_path / "f").write_bytes(data)
    table = Images(content=True).read(Piece(uri="u", path="f", name="f", sha256="ab"), LocalStore(str(tmp_path))).table
    assert table["content"].to_pylist() == [data]
    assert table.schema.field("content").type == pa.binary()
