"""``ultralytics:<weights or yaml>``: YOLO and its kin. They find objects, and give vectors of whole images.

``ultralytics:yolo11n.pt`` has trained weights, which are downloaded where they are not in the working folder;
``ultralytics:yolo11n.yaml`` has random ones, always the same. The reader :class:`ingestlab.Objects` makes
a row of each object, whose piece of the image any model can embed.

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

from ingestlab.analytics.embedders.base import Loaded, check, chosen, title
from ingestlab.analytics.embedders.detectors import Found, as_table
from ingestlab.analytics.embedders.images import opened
from ingestlab.analytics.embedders.probes import PROBES
from ingestlab.analytics.embedders.torch_utils import device, seeded, state_version, with_vision
from ingestlab.core.errors import TerminalError, let_pass
from ingestlab.core.extras import needed
from ingestlab.pipeline.embedding import Spelling

BATCH = 16


@dataclass(frozen=True)
class Yolo(Loaded):
    """Embedder that also detects."""

    find: Any = None

    def detect(self, images: Sequence[bytes]) -> pa.Table:
        """Find objects in images.

        Args:
            images: The bytes of image files.

        Returns:
            One row an object, of the schema DETECTIONS; an image without any has no row.

        Raises:
            TerminalError: An image cannot be decoded.
        """
        batches = (images[at : at + self.batch] for at in range(0, len(images), self.batch))
        return as_table(_objects(result) for batch in batches for result in self.find(batch))


def build(model: Spelling) -> Yolo:
    """Load the model.

    Raises:
        TerminalError: The extra ``ultralytics`` is not installed, or the weights cannot be had.
    """
    given = chosen(model, size=640, confidence=0.25, iou=0.7, most=300, seed=0)
    name = title(model, "confidence", "iou", "most", "seed")
    library = _imported(name)
    try:
        with seeded(given["seed"]):
            network = library.YOLO(model.target, verbose=False)
    except BaseException as error:  # networks, files and weights fail in many ways
        let_pass(error)
        fix = "Give a file of weights, or a .yaml such as yolo11n.yaml for random weights, which are always the same."
        raise TerminalError.wrap(
            error, f"The ultralytics model '{model.target}' does not load", fix, code="model_unknown"
        ) from error
    alone = Lock()  # its predictor keeps the batch in itself
    common = {"imgsz": given["size"], "device": device(), "rect": False, "verbose": False}
    bounds = {"conf": given["confidence"], "iou": given["iou"], "max_det": given["most"]}

    def run(batch: Sequence[bytes]) -> Any:
        with alone:
            return [vector.float().cpu().numpy() for vector in network.embed(list(map(opened, batch)), **common)]

    def find(batch: Sequence[bytes]) -> Any:
        with alone:
            return network.predict(list(map(opened, batch)), embed=None, **common, **bounds)

    dim = check(run, [PROBES["image"]], name).shape[1]
    return Yolo(name, state_version(network.model.state_dict()), dim, "image", BATCH, run, find=find)


def _objects(result: Any) -> Iterator[Found]:
    boxes = result.boxes
    for kind, confidence, box in zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True):
        yield result.names[int(kind)], confidence, tuple(box)


def _imported(name: str) -> Any:
    """Import the package without its statistics and its installing of packages."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    library = with_vision("ultralytics", "ultralytics", name)
    needed("ultralytics.utils.events", "ultralytics", name).events.enabled = False
    extension = needed("torchvision.extension", "ultralytics", name)
    if not extension._has_ops():  # noqa: SLF001 - nothing public tells it; the compiled part does not fit torch
        own = needed("ultralytics.utils.nms", "ultralytics", name).TorchNMS
        needed("torchvision.ops", "ultralytics", name).nms = own.nms
    return library
