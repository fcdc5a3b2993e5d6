"""Objects in pictures: one row for each that YOLO finds, and its crop embedded, so that alike ones are found.

Submit pictures with ``--pipeline objects``; it wants the extras ``ultralytics`` and ``images``. The weights are
downloaded once into the folder in which workers run. Where nothing can be downloaded, put their file there; or name
``yolo11n.yaml``, whose weights are random and always the same: good for a rehearsal, not for a look at the world.
"""

from typing import Any

import pandera.pandas as pa

from ingestlab import Aggregate, Embedding, Objects, Pipeline


class Object(pa.DataFrameModel):
    """What every published object keeps to. `Any`: the reader gives the types."""

    label: Any = pa.Field(str_length={"min_value": 1})
    confidence: Any = pa.Field(in_range={"min_value": 0.25, "max_value": 1})
    crop: Any


PIPELINE = Pipeline(
    description="Objects in pictures (YOLO): label, confidence and box of each, searchable by how they look",
    reader=Objects(model="ultralytics:yolo11n.pt?confidence=0.1"),  # the doubtful ones become rejects
    contract=Object,
    write_disposition="replace",  # pictures that are looked at again by better weights
    aggregates={
        "by_label": Aggregate(
            by="label",
            measures={"objects": "count", "mean_confidence": ("confidence", "mean"), "pictures": ("path", "distinct")},
        ),
    },
    embedding=Embedding(source="crop", model="hog", payload=["label", "confidence"]),
)
