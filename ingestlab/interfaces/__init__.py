"""The doors: what a queue, a source, a format, an executor, a sink and a store have to do.

A plug-in is one module that meets one of these Protocols, declared as an entry point of its group, e.g.
``[project.entry-points."ingestlab.sources"]``. The suites in ``tests/contracts/`` say when it is right.
"""

from ingestlab.interfaces.executor import CostlyError, Executor
from ingestlab.interfaces.feed import Feed, Message, Notice
from ingestlab.interfaces.format import (
    Bad,
    DriftReader,
    EarlyReader,
    Format,
    LateError,
    PackReader,
    Records,
    SchemaDrift,
    pieces_of,
)
from ingestlab.interfaces.queue import Delivery, Examined, Handler, Monitor, Queue, RateLimiter
from ingestlab.interfaces.records import Divisible, Page, Position, Pull, RecordSource
from ingestlab.interfaces.sink import (
    MAX_VALUE,
    Destination,
    Dictionary,
    Live,
    Place,
    Places,
    Reason,
    Rebuilding,
    Rows,
    Sink,
    Writer,
    Written,
)
from ingestlab.interfaces.source import Fetch, Listing, RawFile, Source, Unchanged
from ingestlab.interfaces.store import Store

__all__ = [
    "MAX_VALUE",
    "Bad",
    "CostlyError",
    "Delivery",
    "Destination",
    "Dictionary",
    "Divisible",
    "DriftReader",
    "EarlyReader",
    "Examined",
    "Executor",
    "Feed",
    "Fetch",
    "Format",
    "Handler",
    "LateError",
    "Listing",
    "Live",
    "Message",
    "Monitor",
    "Notice",
    "PackReader",
    "Page",
    "Place",
    "Places",
    "Position",
    "Pull",
    "Queue",
    "RateLimiter",
    "RawFile",
    "Reason",
    "Rebuilding",
    "RecordSource",
    "Records",
    "Rows",
    "SchemaDrift",
    "Sink",
    "Source",
    "Store",
    "Unchanged",
    "Writer",
    "Written",
    "pieces_of",
]
