"""REST APIs as sources of records."""

from ingestlab.sources.rest.auth import ApiKey, Basic, Bearer, OAuth2
from ingestlab.sources.rest.incremental import Incremental
from ingestlab.sources.rest.paginators import (
    Cursor,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
    SinglePage,
)
from ingestlab.sources.rest.rest import Rest

__all__ = [
    "ApiKey",
    "Basic",
    "Bearer",
    "Cursor",
    "HeaderCursor",
    "HeaderLink",
    "Incremental",
    "JsonLink",
    "OAuth2",
    "Offset",
    "PageNumber",
    "Rest",
    "SinglePage",
]
