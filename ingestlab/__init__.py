"""ingestlab: files announced on a Redis queue become Parquet tables, exactly once.

The names below are the public ones. They load on first use, so that ``import ingestlab`` is instant and a
pipeline file pulls in no more than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestlab import _moved
from ingestlab.core.lazy import lazy
from ingestlab.core.version import VERSION

if TYPE_CHECKING:
    from ingestlab.core.errors import IngestError, TerminalError, TransientError
    from ingestlab.core.settings import Settings, load_settings
    from ingestlab.formats.archive import Archive
    from ingestlab.formats.csv.reader import Csv
    from ingestlab.formats.html import Html
    from ingestlab.formats.images import Images
    from ingestlab.formats.json.reader import JsonLines
    from ingestlab.formats.lines import Lines
    from ingestlab.formats.objects import Objects
    from ingestlab.formats.parquet.reader import Parquet
    from ingestlab.formats.text import Text
    from ingestlab.notebook import Lab
    from ingestlab.notebook.runner import submit_notebook
    from ingestlab.pipeline.aggregate import Aggregate
    from ingestlab.pipeline.documents import Documents
    from ingestlab.pipeline.embedding import Embedding, Split
    from ingestlab.pipeline.pipeline import Pipeline
    from ingestlab.pipeline.reference import Reference
    from ingestlab.queue import Run, submit
    from ingestlab.sources.airbyte.source import Airbyte
    from ingestlab.sources.mongodb.source import Mongo
    from ingestlab.sources.rest.rest import Rest

__version__ = VERSION
_moved.install()
__all__ = [
    "Aggregate",
    "Airbyte",
    "Archive",
    "Csv",
    "Documents",
    "Embedding",
    "Html",
    "Images",
    "IngestError",
    "JsonLines",
    "Lab",
    "Lines",
    "Mongo",
    "Objects",
    "Parquet",
    "Pipeline",
    "Reference",
    "Rest",
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
    "Aggregate": "ingestlab.pipeline.aggregate",
    "Airbyte": "ingestlab.sources.airbyte.source",
    "Archive": "ingestlab.formats.archive",
    "Csv": "ingestlab.formats.csv.reader",
    "Documents": "ingestlab.pipeline.documents",
    "Embedding": "ingestlab.pipeline.embedding",
    "Html": "ingestlab.formats.html",
    "Images": "ingestlab.formats.images",
    "IngestError": "ingestlab.core.errors",
    "JsonLines": "ingestlab.formats.json.reader",
    "Lab": "ingestlab.notebook",
    "Lines": "ingestlab.formats.lines",
    "Mongo": "ingestlab.sources.mongodb.source",
    "Objects": "ingestlab.formats.objects",
    "Parquet": "ingestlab.formats.parquet.reader",
    "Pipeline": "ingestlab.pipeline.pipeline",
    "Reference": "ingestlab.pipeline.reference",
    "Rest": "ingestlab.sources.rest.rest",
    "Run": "ingestlab.queue",
    "Settings": "ingestlab.core.settings",
    "Split": "ingestlab.pipeline.embedding",
    "TerminalError": "ingestlab.core.errors",
    "Text": "ingestlab.formats.text",
    "TransientError": "ingestlab.core.errors",
    "load_settings": "ingestlab.core.settings",
    "submit": "ingestlab.queue",
    "submit_notebook": "ingestlab.notebook.runner",
}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one
    __getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
