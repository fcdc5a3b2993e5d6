"""REST APIs as sources of records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

from ingestlab.interfaces import Page, Pull
from ingestlab.sources.rest.declared import Declared


@dataclass(frozen=True, kw_only=True)
class Rest(Declared):
    """The records of an API, page by page.

    A pipeline `orders` with such a source is submitted as ``rest://orders``.

    Attributes:
        base_url: Of the API.
        endpoint: The path after it; ``{parent.id}`` stands for a value of each record of `parent`.
        auth: Who asks: ``Bearer(env="SHOP_TOKEN")``, ``Basic``, ``ApiKey`` or ``OAuth2``.
        paginator: How the API gives further pages. Without one, an answer that looks like one of several is an error.
        data_selector: Where the records are in an answer, ``data.items``. Without it an answer is a list, or has
            one list.
        params: Parameters of the address.
        headers: Headers, without secrets.
        method: Of HTTP.
        json: The body, sent as JSON.
        incremental: How to ask for what is new.
        parent: Another source: this one is asked for each of its records.
        include: Fields of the parent's record that join each record, by the name that they get: ``{"post_id": "id"}``.
        rate: Requests a second to the host, for all workers together; 0 for no limit.
        ahead: Requests at once, where the next page does not depend on the one before.

    Examples:
        >>> from ingestlab.sources.rest import Bearer, PageNumber, Rest
        >>> Rest(base_url="https://api.example.com/v1", endpoint="orders", auth=Bearer(env="SHOP_TOKEN"),
        ...      paginator=PageNumber(size=100), data_selector="data").scheme
        'rest'
    """

    scheme: ClassVar[str] = "rest"

    def __hash__(self) -> int:
        return super().__hash__()

    async def pages(self, pull: Pull) -> AsyncIterator[Page]:
        """See :class:`ingestlab.interfaces.RecordSource`.

        Args:
            pull: What is asked.
        """
        from ingestlab.sources.rest.walking import pages  # noqa: PLC0415 - the client is slow to import

        async for page in pages(self, pull):
            yield page
