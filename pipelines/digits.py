"""Handwritten digits, one PNG file each: their labels from the file names, their pictures searchable in Milvus."""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from ingestlab import Embedding, Images, Pipeline


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Takes the label out of the name: ``digit-0042-7.png`` is a seven."""
    return df.assign(label=df["name"].str.extract(r"-(\d)\.[a-z]+$", expand=False).astype("int8[pyarrow]"))


class Digit(pa.DataFrameModel):
    """What every published digit keeps to. `Any`: the reader gives the types."""

    label: Any = pa.Field(in_range={"min_value": 0, "max_value": 9})  # not null: the name says it
    width: Any = pa.Field(ge=4)
    height: Any = pa.Field(ge=4)


PIPELINE = Pipeline(
    description="Handwritten digits (PNG), embedded for search by picture",
    matches=["digit-*.png"],
    reader=Images(),
    clean=clean,
    contract=Digit,
    embedding=Embedding(source="file", model="hog", payload="label"),
)
