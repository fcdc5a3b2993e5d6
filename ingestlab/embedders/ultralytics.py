"""``ultralytics:<weights or yaml>``: YOLO and its kin. They find objects, and give vectors of whole images.

``ultralytics:yolo11n.pt`` has trained weights, which are downloaded where they are not in the working folder;
``ultralytics:yolo11n.yaml`` has random ones, always the same. For vectors of the objects instead of the images, embed
:func:`crops` of what :meth:`Yolo.detect` found.

Options: ``size`` (640: pixels of the longer side that the network sees), ``confidence`` (0.25: what is surer than
that is an object), ``iou`` (0.7: of two boxes that overlap more, the surer one stays), ``most`` (300: objects in an
image) and ``seed`` (0: of random weights).

The library is under the AGPL. It is kept from sending statistics and from installing packages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pyarrow as pa

from ingestlab.embedders.base import Loaded, check, chosen, needed, title
from ingestlab.embedders.canaries import CANARIES
from ingestlab.embedders.pictures import crop, opened
from ingestlab.embedders.torches import device, seeded, state_version, with_vision
from ingestlab.embedding import Spelling
from ingestlab.errors import TerminalError

BATCH = 16
DETECTIONS = pa.schema(
    [
        ("image", pa.int32()),  # which of those given, from 0
        ("detection", pa.int32()),  # which of that image, from 0, the surest first
        ("class", pa.string()),
        ("class_id", pa.int32()),
        ("confidence", pa.float32()),  # from 0 to 1
        ("left", pa.float32()),  # pixels of the image, as it is meant to be seen
        ("top", pa.float32()),
        ("right", pa.float32()),
        ("bottom", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Yolo(Loaded):
    """An Embedder that also detects."""

    find: Any = None

    def detect(self, images: Sequence[bytes]) -> pa.Table:
        """What is found in images.

        Args:
            images: The bytes of image files.

        Returns:
            One row an object, of the schema DETECTIONS; an image without any has no row.

        Raises:
            TerminalError: An image cannot be decoded.
        """
        rows = [row for number, found in enumerate(self.find(images)) for row in _rows(number, found)]
        return pa.Table.from_pylist(rows, schema=DETECTIONS)


def crops(images: Sequence[bytes], detections: pa.Table) -> list[bytes]:
    """The piece of its image in each detection, as PNG."""
    boxes = detections.select(["image", "left", "top", "right", "bottom"]).to_pylist()
    return [crop(images[b["image"]], (b["left"], b["top"], b["right"], b["bottom"])) for b in boxes]


def build(model: Spelling) -> Yolo:
    """Loads the model.

    Raises:
        TerminalError: The extra ``ultralytics`` is not installed, or the weights cannot be had.
    """
    given = chosen(model, size=640, confidence=0.25, iou=0.7, most=300, seed=0)
    name = title(model, "confidence", "iou", "most", "seed")
    library = _imported(name)
    try:
        with seeded(given["seed"]):
            network = library.YOLO(model.target, verbose=False)
    except (Exception, SystemExit) as error:  # networks, files and weights fail in many ways
        fix = "Give a file of weights, or a .yaml such as yolo11n.yaml for random weights, which are always the same."
        raise TerminalError.wrap(error, f"the ultralytics model '{model.target}'", fix) from error
    alone = Lock()  # its predictor keeps the batch in itself
    common = {"imgsz": given["size"], "device": device(), "rect": False, "verbose": False}
    bounds = {"conf": given["confidence"], "iou": given["iou"], "max_det": given["most"]}

    def run(batch: Sequence[bytes]) -> Any:
        with alone:
            return [vector.float().cpu().numpy() for vector in network.embed(list(map(opened, batch)), **common)]

    def find(batch: Sequence[bytes]) -> Any:
        with alone:
            return network.predict(list(map(opened, batch)), embed=None, **common, **bounds) if batch else []

    dim = check(run, [CANARIES["image"]], name).shape[1]
    return Yolo(name, state_version(network.model.state_dict()), dim, "image", BATCH, run, find)


def _rows(image: int, found: Any) -> Iterator[dict[str, Any]]:
    boxes = found.boxes
    each = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
    for number, (kind, confidence, (left, top, right, bottom)) in enumerate(each):
        yield {
            "image": image,
            "detection": number,
            "class": found.names[int(kind)],
            "class_id": int(kind),
            "confidence": confidence,
            "left": left,
            "top": top,
            "right": right,
            "bottom": bottom,
        }


def _imported(name: str) -> Any:
    """The package, without its habits of sending statistics and of installing what it misses."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    library = with_vision("ultralytics", "ultralytics", name)
    needed("ultralytics.utils.events", "ultralytics", name).events.enabled = False
    extension = needed("torchvision.extension", "ultralytics", name)
    if not extension._has_ops():  # noqa: SLF001 - nothing public tells it; the compiled part does not fit torch
        own = needed("ultralytics.utils.nms", "ultralytics", name).TorchNMS
        needed("torchvision.ops", "ultralytics", name).nms = own.nms
    return library
