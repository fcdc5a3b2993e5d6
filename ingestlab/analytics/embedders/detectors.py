"""Finding objects in images: what each is, how sure that is, and in which box it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.embedders.images import Box
from ingestlab.analytics.embedders.registry import Embedder, load
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.pipeline.embedding import Model

BOX = ("left", "top", "right", "bottom")
DETECTIONS = pa.schema(
    [
        ("image", pa.int32()),  # which of those given, from 0
        ("label", pa.string()),  # what it is
        ("confidence", pa.float32()),  # from 0 to 1
        *((side, pa.float32()) for side in BOX),  # pixels of the image, as it is meant to be seen
    ]
)
Found = tuple[str, float, Box]  # an object: label, confidence, and box
Detect = Callable[[Sequence[bytes]], pa.Table]


@runtime_checkable
class Detector(Embedder, Protocol):
    """Model that also finds objects in images."""

    def detect(self, images: Sequence[bytes]) -> pa.Table:
        """Find objects in images, given as bytes. The schema is DETECTIONS, by image, the surest first."""
        ...


def detector(model: Model) -> Detect:
    """Load what finds objects in images: a model or a user's function.

    The function takes a list of images as bytes, and gives for each a list of its objects: label, confidence,
    and box (left, top, right, bottom, in pixels).

    Raises:
        TerminalError: There is no such model, it is not installed, or finds no objects.
    """
    if not isinstance(model, str):
        return partial(_asked, model)
    loaded = load(model, "image")
    if not isinstance(loaded, Detector):
        fix = "E.g. 'ultralytics:yolo11n.pt', or a function of your own."
        raise TerminalError(
            "The model finds no objects",
            expected="a model that finds objects",
            got=f"'{model}', which only gives vectors",
            fix=fix,
            code="model_unknown",
        )
    return loaded.detect


def as_table(by_image: Iterable[Iterable[Found]]) -> pa.Table:
    """Build a table of objects of the schema DETECTIONS, the surest first."""
    rows = [
        {"image": image, "label": str(label), "confidence": float(confidence)}
        | dict(zip(BOX, map(float, box), strict=True))
        for image, objects in enumerate(by_image)
        for label, confidence, box in sorted(objects, key=lambda item: -item[1])
    ]
    return pa.Table.from_pylist(rows, schema=DETECTIONS)


def _asked(function: Callable[[list[bytes]], Any], images: Sequence[bytes]) -> pa.Table:
    """Call a user's function, and check what it finds."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    wanted = f"for each of {len(images)} images a list of (label, confidence, (left, top, right, bottom)) from '{name}'"
    try:
        objects = list(function(list(images)))
        table = as_table(objects)
    except (IngestError, MemoryError):
        raise
    except Exception as error:  # it is other people's code
        fix = "Try it on one of the images, outside of a pipeline."
        failure = TerminalError.wrap(error, "The model failed", fix, code="model_failed")
        raise failure.replace(expected=wanted) from error
    if len(objects) != len(images):
        raise TerminalError(
            "The model gave another number of lists",
            expected=wanted,
            got=f"{len(objects)} lists",
            fix="An image without objects has an empty list.",
            code="model_failed",
        )
    if not all(pc.all(pc.is_finite(table[name])).as_py() for name in ("confidence", *BOX) if len(table)):
        raise TerminalError(
            "The model gave unusable objects",
            expected=wanted,
            got="NaN or infinity among them",
            fix="Mend the function, or leave such objects out.",
            code="model_failed",
        )
    return table
