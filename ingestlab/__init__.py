"""ingestlab: files announced on a Redis queue become Parquet tables, exactly once.

The names below are the public ones. They load on first use, so that ``import ingestlab`` is instant and a
pipeline file pulls in no more than it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestlab.aggregates import Aggregate
    from ingestlab.driver import submit_notebook
    from ingestlab.embedding import Embedding, Split
    from ingestlab.errors import IngestError, TerminalError, TransientError
    from ingestlab.jobs import Run, submit
    from ingestlab.notebook import Lab
    from ingestlab.pipeline import Pipeline
    from ingestlab.readers.archive import Archive
    from ingestlab.readers.csv import Csv
    from ingestlab.readers.html import Html
    from ingestlab.readers.images import Images
    from ingestlab.readers.jsonlines import JsonLines
    from ingestlab.readers.lines import Lines
    from ingestlab.readers.objects import Objects
    from ingestlab.readers.parquet import Parquet
    from ingestlab.readers.text import Text
    from ingestlab.references import Reference
    from ingestlab.settings import Settings, load_settings

__version__ = "0.1.0"
__all__ = [
    "Aggregate",
    "Archive",
    "Csv",
    "Embedding",
    "Html",
    "Images",
    "IngestError",
    "JsonLines",
    "Lab",
    "Lines",
    "Objects",
    "Parquet",
    "Pipeline",
    "Reference",
    "Run",
    "Settings",
    "Split",
    "TerminalError",
    "Text",
    "TransientError",
    "load_settings",
    "submit",
    "submit_notebook",
]

_HOMES = {
    "Aggregate": "ingestlab.aggregates",
    "Archive": "ingestlab.readers.archive",
    "Csv": "ingestlab.readers.csv",
    "Embedding": "ingestlab.embedding",
    "Html": "ingestlab.readers.html",
    "Images": "ingestlab.readers.images",
    "IngestError": "ingestlab.errors",
    "JsonLines": "ingestlab.readers.jsonlines",
    "Lab": "ingestlab.notebook",
    "Lines": "ingestlab.readers.lines",
    "Objects": "ingestlab.readers.objects",
    "Parquet": "ingestlab.readers.parquet",
    "Pipeline": "ingestlab.pipeline",
    "Reference": "ingestlab.references",
    "Run": "ingestlab.jobs",
    "Settings": "ingestlab.settings",
    "Split": "ingestlab.embedding",
    "TerminalError": "ingestlab.errors",
    "Text": "ingestlab.readers.text",
    "TransientError": "ingestlab.errors",
    "load_settings": "ingestlab.settings",
    "submit": "ingestlab.jobs",
    "submit_notebook": "ingestlab.driver",
}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'ingestlab' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
