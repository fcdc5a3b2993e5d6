"""What a pipeline declares of an API, and whether it can be so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from ingestlab.core.errors import TerminalError
from ingestlab.sources.rest.auth import Auth
from ingestlab.sources.rest.incremental import Incremental
from ingestlab.sources.rest.paginators import Paginator
from ingestlab.sources.rest.selecting import parse

PLACEHOLDER = re.compile(r"\{parent\.([^{}]+)\}")
_SECRET = re.compile(r"authorization|api[-_]?key|token|secret|password|cookie", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a pipeline says of an API; :class:`ingestlab.Rest` has the words."""

    base_url: str
    endpoint: str = ""
    auth: Auth | None = None
    paginator: Paginator | None = None
    data_selector: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "GET"
    json: Mapping[str, Any] | None = None
    cursor: Incremental | None = None
    parent: Declared | None = None
    include: Mapping[str, str] = field(default_factory=dict)
    rate: float = 0.0
    ahead: int = 8

    def __hash__(self) -> int:
        return hash((self.base_url, self.endpoint, self.auth, self.paginator, self.data_selector, self.cursor))

    @property
    def incremental(self) -> bool:
        """Tell whether it has a `cursor`."""
        return self.cursor is not None

    @property
    def url(self) -> str:
        """Return the address without parameters."""
        return "/".join(part.strip("/") if i else part.rstrip("/") for i, part in enumerate(self._parts))

    @property
    def _parts(self) -> list[str]:
        return [self.base_url, *([self.endpoint] if self.endpoint.strip("/") else [])]

    def check(self, name: str) -> None:
        """Refuse what was declared wrongly; see RecordSource.

        Args:
            name: Of the pipeline.
        """
        if urlsplit(self.base_url).scheme not in ("http", "https") or not urlsplit(self.base_url).hostname:
            raise _invalid("base_url is no address", name, "https://host/…", repr(self.base_url))
        if "?" in self.url:
            raise _invalid("The address has parameters", name, "them in params", "a '?'")
        secret = [n for n in (*self.headers, *self.params) if _SECRET.search(n)]
        if secret:
            fix = 'Name an environment variable: auth=ApiKey(env="SHOP_KEY", header="X-Api-Key").'
            raise _invalid("A secret is written into the pipeline", name, "auth=…", f"{secret[0]} in the text", fix)
        parse(self.data_selector, "data_selector")
        for part in (self.paginator, self.cursor):
            if part is not None:
                part.check()
        if self.method == "GET" and self.json is not None:
            raise _invalid("GET has no body", name, 'method="POST" for json', "json alone")
        asked = bool(PLACEHOLDER.search(f"{self.endpoint} {self.params} {self.json}"))
        if asked != (self.parent is not None) or (self.include and not self.parent):
            wanted = "{parent.…} in endpoint, params or json, and a parent"
            raise _invalid("Parent and placeholders do not go together", name, wanted, "one of them")
        if self.parent is not None:
            self.parent.check(name)
            if self.parent.cursor is not None:
                raise _invalid("The parent has a cursor", name, "a cursor of the records alone", "parent.cursor")


def _invalid(problem: str, name: str, expected: str, got: str, fix: str = "Correct the pipeline.") -> TerminalError:
    problem = f"{problem} in the source of pipeline '{name}'"
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="pipeline_invalid")
