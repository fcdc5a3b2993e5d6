"""Objects in images: one record for each that a model finds, with the piece of the image that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.embedders.detectors import BOX, detector
from ingestlab.analytics.embedders.images import crops
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.images import Images, Opened
from ingestlab.interfaces import Records, Store
from ingestlab.pipeline.embedding import DETECTORS, Model, resources_of, spell

SCHEMA = pa.schema(
    [
        ("label", pa.string()),
        ("confidence", pa.float32()),
        *((side, pa.float32()) for side in BOX),
        ("crop", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("path", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Read each object that a model finds as one record.

    Columns: ``label`` (what it is) and ``confidence`` (0 to 1), its box ``left``, ``top``, ``right`` and ``bottom``
    in pixels of the image as it is meant to be seen, ``crop`` (that piece of the image, as the bytes of an image
    file), and of the image its ``width``, its ``height`` and its ``path`` in the lake. An image in which nothing is
    found has no rows. ``Embedding(source="crop", model="hog", payload=["label", "confidence"])`` makes objects
    searchable by how they look; since the crops are published, another model can embed them later.

    Attributes:
        model: What finds them: ``"ultralytics:<weights or yaml>"``, or a function that takes a list of images as
            bytes and gives for each a list of ``(label, confidence, (left, top, right, bottom))``. A function
            may carry an attribute ``resources`` (of Dask, e.g. ``{"GPU": 1}``).
        longest: Most pixels of a crop's longer side; larger ones are made smaller, as models do anyway.
        images: Which images are taken.

    Raises:
        TerminalError: The model is none that finds objects.
    """

    model: Model
    longest: int = 256
    images: Images = field(default_factory=Images)

    def __post_init__(self) -> None:
        finds = spell(self.model).scheme in DETECTORS if isinstance(self.model, str) else callable(self.model)
        if not finds:
            fix = f"E.g. 'ultralytics:yolo11n.pt'. Those that find objects: {', '.join(DETECTORS)}."
            problem = "Not a model that finds objects, or a function"
            raise TerminalError(problem, got=repr(self.model), fix=fix, code="reader_invalid")
        if self.longest < 1:
            problem = "Not at least 1 pixel as longest"
            raise TerminalError(problem, got=repr(self.longest), fix="E.g. 256.", code="reader_invalid")

    @property
    def resources(self) -> dict[str, float]:
        """Return the Dask resources that the model asks for."""
        return resources_of(self.model)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Keep an image whole."""
        return self.images.split(file, store, size)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read the objects in one image.

        Raises:
            TerminalError: It is no image that `images` takes; or the model is not installed, or fails.
        """
        (records,) = self.read_all([piece], store)
        if isinstance(records, TerminalError):
            raise records
        return records

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """Read several images at a time; see :class:`ingestlab.pipeline.pipeline.PackReader`."""
        opened = [attempt(self.images.open, piece, store) for piece in pieces]
        tables = iter(self._find([image.data for image in opened if isinstance(image, Opened)]))
        return [
            image if isinstance(image, TerminalError) else self._records(image, next(tables), piece)
            for image, piece in zip(opened, pieces, strict=True)
        ]

    def _find(self, images: Sequence[bytes]) -> list[pa.Table | TerminalError]:
        """Find the objects of each image, or the model's error for it."""
        if not images:
            return []
        find = attempt(detector, self.model)
        if isinstance(find, TerminalError):
            return [find] * len(images)
        together = attempt(find, images)
        if not isinstance(together, TerminalError):
            return [together.filter(pc.equal(together["image"], i)) for i in range(len(images))]
        return [together] if len(images) == 1 else [attempt(find, [image]) for image in images]

    def _records(self, image: Opened, objects: pa.Table | TerminalError, piece: Piece) -> Records | TerminalError:
        if isinstance(objects, TerminalError):
            return objects
        boxes = list(zip(*(objects[side].to_pylist() for side in BOX), strict=True))
        size = {name: pa.repeat(pa.scalar(image.facts[name], pa.int32()), len(boxes)) for name in ("width", "height")}
        columns = {
            **{name: objects[name] for name in ("label", "confidence", *BOX)},
            "crop": pa.array(crops(image.data, boxes, self.longest), pa.binary()),
            **size,
            "path": pa.repeat(pa.scalar(piece.path), len(boxes)),
        }
        table = pa.table(columns, SCHEMA)
        pages = {"pages": f"{image.pages:,}, the first is read"} if image.pages > 1 else {}
        return Records(
            table, np.arange(len(boxes), dtype=np.int64), raw=lambda rows: _described(table, rows), facts=pages
        )


def _described(objects: pa.Table, rows: Iterable[int]) -> dict[int, str]:
    """Describe objects, by their numbers."""
    known = objects.select(["label", "confidence", *BOX])
    some = {row: known.slice(row, 1).to_pylist()[0] for row in rows if 0 <= row < len(known)}
    return {
        row: f"{fact['label']} ({fact['confidence']:.2f}) at " + ", ".join(f"{fact[side]:.0f}" for side in BOX)
        for row, fact in some.items()
    }
