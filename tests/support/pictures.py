"""A world of pictures: drawn ones of which everything is known, and photographs, on their way to vectors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.sinks.milvus.memory import MemoryVectors
from ingestlab.sinks.milvus.vector_values import Where
from support.lake import Inline, World

Box = tuple[int, int, int, int]


def drawn(shapes: Sequence[tuple[str, Box]], size: tuple[int, int] = (200, 120)) -> bytes:
    """A PNG with dark shapes on white: ``("square", (left, top, right, bottom))`` or ``("disc", …)``."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for shape, (left, top, right, bottom) in shapes:
        paint = draw.rectangle if shape == "square" else draw.ellipse
        paint((left, top, right - 1, bottom - 1), fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def photographs() -> dict[str, bytes]:
    """A temple and a flower, as JPEG, and pieces of both."""
    photos = {}
    for name, pixels in zip(["temple", "flower"], load_sample_images().images, strict=True):
        for piece, part in {"whole": pixels, "left": pixels[:, :400], "right": pixels[:, 200:]}.items():
            buffer = io.BytesIO()
            Image.fromarray(part).save(buffer, "JPEG", quality=90)
            photos[f"{name}-{piece}.jpg"] = buffer.getvalue()
    return photos


class PictureWorld(World):
    """A world with one pipeline for pictures, and a store of vectors of its own; `vectors.connected` must give it."""

    def __init__(self, folder: Path, redis_url: str, pipeline: str, **options: Any) -> None:
        super().__init__(folder, redis_url, milvus_uri="memory://", **options)
        self.db = MemoryVectors()
        self.write(pipeline)

    def write(self, pipeline: str) -> None:
        (self.folder / "pipelines/small.py").write_text(pipeline)

    def connected(self, _settings: Any) -> MemoryVectors:
        return self.db

    def store_all(self, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Writes source files; gives their URIs by name."""
        (self.folder / "sources").mkdir(exist_ok=True)
        for name, data in pictures.items():
            (self.folder / "sources" / name).write_bytes(data)
        return {name: (self.folder / "sources" / name).as_uri() for name in pictures}

    def run(self, uris: Sequence[str], cluster: Any = None, *, run: str = "r1", force: bool = False) -> IngestResult:
        sources = tuple(Source(uri=uri) for uri in uris)
        request = IngestRequest(run=run, pipeline="small", table="t", sources=sources, force=force)
        context = Services(self.settings, self.store, self.locks, cluster or Inline())
        return ingest(request, context, lambda _progress: None)

    def table(self, name: str = "small") -> pd.DataFrame:
        """What is published, by source and row."""
        parts = [p for p in self.store.walk(layout.table("default", name)) if p.endswith(".parquet")]
        tables = [pq.ParquetFile(pa.BufferReader(self.store.read(part))).read() for part in parts]
        if not tables:
            return pd.DataFrame()
        keys = ["_source", "_row"] if "_source" in tables[0].column_names else ["source", "row"]
        frame = pa.concat_tables(tables).to_pandas()
        return frame.astype({keys[0]: "str"}).sort_values(keys, ignore_index=True)  # not by category

    def kept(self, *columns: str) -> pd.DataFrame:
        """What the store of vectors has, by source and row."""
        frame = self.db.fetch("small", Where(tenant="default"), ["source", "row", *columns]).to_pandas()
        return frame.sort_values(["source", "row"], ignore_index=True)

    def nearest(self, images: Sequence[bytes], model: str, limit: int = 1) -> list[list[Any]]:
        """The rows that look most like some images."""
        vectors: np.ndarray = embed_all(load(model), images)
        return self.db.search("small", vectors, limit=limit, where=Where(tenant="default"))
