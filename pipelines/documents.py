"""What Python packages say of themselves: one row a package, searchable by meaning in Milvus.

Long descriptions are cut into chunks, each with a vector of its own. Every chunk begins with the package's name and
summary, since a piece from the middle of a long text says little of what it is about.
"""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from ingestlab import Embedding, JsonLines, Pipeline, Split

BEGINNING = 3000  # characters that say what a package is for; what follows is usage and history
MARKUP = (  # of Markdown, reStructuredText and HTML, in this order; what a reader would not see goes
    (r"\r\n?", "\n"),
    (r"(?s)```.*?```|~~~.*?~~~", "\n"),  # code
    (r"`([^`<]+?)\s*<[^`>]*>`_+", r"\1"),  # links of reStructuredText
    (r"(?s)<!--.*?-->|<[a-zA-Z/][^>]*>", " "),  # HTML
    (r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])", " "),  # pictures
    (r"\[([^\]]*)\]\([^)]*\)", r"\1"),  # links of Markdown
    (r"\[([^\]]+)\]\[[^\]]*\]", r"\1"),
    (r"(?m)^\s*\[[^\]]+\]:.*$", ""),
    (r"(?m)^\.\. .*(\n+[ \t]+.*)*", ""),  # directives
    (r"::$", ":"),
    (r":[a-z:]+:`([^`<]*)[^`]*`", r"\1"),  # roles
    (r"https?://\S+", " "),
    (r"(?m)^[ \t]*[-=~^*+#\"'.|:]{3,}[-=~^*+#\"'.|: \t]*$", ""),  # lines under titles and in tables
    (r"[*`]+", ""),
    (r"[#|]+", " "),
    (r"[ \t]+", " "),
    (r" ?\n ?", "\n"),
    (r"\n{3,}", "\n\n"),
)


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Makes plain text of the descriptions, and takes their beginnings."""
    text = df["description"].fillna("")
    for pattern, instead in MARKUP:
        text = text.str.replace(pattern, instead, regex=True)
    text = text.str.strip()
    return df.assign(text=text, beginning=text.str.slice(0, BEGINNING)).drop(columns="description")


class Document(pa.DataFrameModel):
    """What every published document keeps to. `Any`: the types are declared once, in the reader."""

    name: Any = pa.Field(str_matches=r"^[a-z0-9][a-z0-9-]*$")
    version: Any = pa.Field(str_length={"min_value": 1})
    summary: Any = pa.Field(nullable=True)
    text: Any = pa.Field(str_length={"max_value": 1_000_000})


PIPELINE = Pipeline(
    description="Descriptions of Python packages (JSON lines), embedded for search",
    matches=["packages-*.jsonl*"],
    reader=JsonLines(
        columns=dict.fromkeys(["name", "version", "summary", "keywords", "type", "description"], "string"),
    ),
    clean=clean,
    contract=Document,
    write_disposition="replace",  # a package that was updated has one description
    embedding=Embedding(
        source="beginning",
        model="wordllama",
        split=Split(size=800, overlap=100, prefix=["name", "summary"]),
        key="name",
        payload=["name", "version", "summary"],
    ),
)
