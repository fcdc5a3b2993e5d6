"""Web pages, one row a page: title, main text without menus, links, language and date."""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from ingestlab import Html, Pipeline


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Puts runs of white space in titles to one blank, and counts the words."""
    title = df["title"].str.replace(r"\s+", " ", regex=True).str.strip()
    return df.assign(title=title, words=df["text"].str.count(r"\S+"))


class Page(pa.DataFrameModel):
    """What every published page keeps to. `Any`: the reader gives the types."""

    title: Any
    text: Any
    characters: Any = pa.Field(ge=50)  # less is a notice, not a page


PIPELINE = Pipeline(
    description="Web pages (HTML): main text, links and date",
    matches=["*.html", "*.htm"],
    reader=Html(),
    clean=clean,
    contract=Page,
)
