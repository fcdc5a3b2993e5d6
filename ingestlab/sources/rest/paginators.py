"""How an API gives what does not fit into one answer: as frozen values, one a way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ingestlab.core.errors import TerminalError
from ingestlab.sources.http.api import Answer
from ingestlab.sources.http.urls import resolved
from ingestlab.sources.rest.selecting import parse, value_at

State = dict[str, Any]  # JSON-ready: where the next question goes
Place = Literal["query", "body"]


@dataclass
class Draft:
    """A question that is being written."""

    url: str
    params: dict[str, Any]
    headers: dict[str, str]
    json: dict[str, Any] | None = None
    whole: bool = False  # the address has all of it: no parameters of the source are added

    def put(self, name: str, value: Any, place: Place) -> None:
        """Add a parameter, to the address or to the JSON body."""
        if place == "body":
            self.json = {**(self.json or {}), name: value}
        else:
            self.params[name] = value


@dataclass(frozen=True)
class Seen:
    """What is known after an answer.

    Attributes:
        answer: The answer.
        rows: Records in it.
        came: Records so far, these among them.
    """

    answer: Answer
    rows: int
    came: int


class Paginator(Protocol):
    """Say how the next page is asked for."""

    @property
    def total(self) -> str:
        """The path of the number of all records. Empty if the API gives none."""
        ...

    def check(self) -> None:
        """Refuse, with TerminalError, what was declared wrongly."""
        ...

    def start(self) -> State:
        """Give the state of the first page."""
        ...

    def write(self, state: State, draft: Draft) -> None:
        """Write the question for a page."""
        ...

    def follow(self, state: State, seen: Seen) -> State | None:
        """Give the state of the next page. None after the last one."""
        ...

    def ahead(self, state: State) -> State | None:
        """Give the state of the next page, if no answer is needed."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Paginator:
    """What all have in common.

    Attributes:
        has_more: The path of a value that is true where more is to come.
        total: The path of the number of all records; it is held against what came.
    """

    has_more: str = ""
    total: str = ""

    def check(self) -> None:
        """See Paginator."""
        for name in ("has_more", "total", "total_pages", "next"):
            if isinstance(path := getattr(self, name, ""), str):
                parse(path, name)

    def start(self) -> State:
        """See Paginator."""
        return {}

    def ahead(self, state: State) -> State | None:  # noqa: ARG002 - most need the answer
        """See Paginator."""
        return None

    def more(self, seen: Seen) -> bool | None:
        """Tell what `has_more` and `total` say. None if nothing."""
        if self.has_more:
            word = value_at(seen.answer.body, parse(self.has_more, "has_more"))
            if word is None:
                raise _silent("has_more", self.has_more, seen)
            return word not in (False, 0, "false", "False", "", "0")
        if self.total:
            return seen.came < total_of(self.total, seen)
        return None


def total_of(path: str, seen: Seen, name: str = "total") -> int:
    """Read the number of all records, or of all pages.

    Args:
        path: Where it is in the answer.
        seen: The answer.
        name: Of the paginator's word that says so.

    Raises:
        TerminalError: The answer has none.
    """
    try:
        return int(value_at(seen.answer.body, parse(path, name)))
    except (TypeError, ValueError):
        raise _silent(name, path, seen) from None


def _silent(name: str, path: str, seen: Seen) -> TerminalError:
    problem = f"The answer to {seen.answer.request} has no {name}"
    fix = f"Correct the paginator's {name}, or leave it out."
    return TerminalError(problem, expected=f"a value at {path}", got="none", fix=fix, code="wrong_format")


@dataclass(frozen=True, kw_only=True)
class SinglePage(_Paginator):
    """One answer has all records."""

    def write(self, state: State, draft: Draft) -> None:
        """See Paginator."""

    def follow(self, state: State, seen: Seen) -> State | None:  # noqa: ARG002
        """See Paginator."""
        if self.more(seen):
            problem = f"The answer to {seen.answer.request} is not all"
            fix = "Declare the paginator that the API has."
            raise TerminalError(problem, got=f"{seen.came:,} records, and more", fix=fix, code="wrong_format")
        return None


@dataclass(frozen=True, kw_only=True)
class PageNumber(_Paginator):
    """Pages are counted: ``?page=1``, ``?page=2``.

    The last page is known by `total_pages`, `has_more` or `total`; else it is the first with fewer than `size`
    records, or with none.

    Attributes:
        param: The parameter's name.
        first: The number of the first page.
        size: Records a page, sent as `size_param`; 0 leaves it to the API.
        size_param: Of the size.
        total_pages: The path of the number of pages.
        place: Whether the numbers are sent in the address or in the JSON body.
        end_status: A status, such as 404, with which the API answers beyond the last page.
    """

    param: str = "page"
    first: int = 1
    size: int = 0
    size_param: str = "per_page"
    total_pages: str = ""
    place: Place = "query"
    end_status: int = 0

    def start(self) -> State:
        """See Paginator."""
        return {"page": self.first}

    def write(self, state: State, draft: Draft) -> None:
        """See Paginator."""
        draft.put(self.param, state["page"], self.place)
        if self.size:
            draft.put(self.size_param, self.size, self.place)

    def follow(self, state: State, seen: Seen) -> State | None:
        """See Paginator."""
        if self.total_pages:
            pages = total_of(self.total_pages, seen, "total_pages")
            more: bool | None = state["page"] - self.first + 1 < pages
        else:
            more = self.more(seen)
        if more is None:
            more = seen.rows >= max(1, self.size)
        return self.ahead(state) if more and _goes_on(seen) else None

    def ahead(self, state: State) -> State | None:
        """See Paginator."""
        return {"page": state["page"] + 1}


@dataclass(frozen=True, kw_only=True)
class Offset(_Paginator):
    """Records are counted: ``?offset=0&limit=100``, ``?offset=100&limit=100``.

    The last page is known by `has_more` or `total`; else it is the first with fewer than `limit` records.

    Attributes:
        limit: Records a page.
        param: The name of the offset.
        limit_param: The name of the limit.
        first: The first offset.
        place: Whether both are sent in the address or in the JSON body.
        end_status: A status, such as 404, with which the API answers beyond the last page.
    """

    limit: int
    param: str = "offset"
    limit_param: str = "limit"
    first: int = 0
    place: Place = "query"
    end_status: int = 0

    def start(self) -> State:
        """See Paginator."""
        return {"offset": self.first}

    def write(self, state: State, draft: Draft) -> None:
        """See Paginator."""
        draft.put(self.param, state["offset"], self.place)
        draft.put(self.limit_param, self.limit, self.place)

    def follow(self, state: State, seen: Seen) -> State | None:
        """See Paginator."""
        more = self.more(seen)
        if more is None:
            more = seen.rows >= self.limit
        return self.ahead(state) if more and _goes_on(seen) else None

    def ahead(self, state: State) -> State | None:
        """See Paginator."""
        return {"offset": state["offset"] + self.limit}


def _goes_on(seen: Seen) -> bool:
    """Refuse an empty page where more is announced."""
    if not seen.rows:
        problem = f"The answer to {seen.answer.request} has no records, but announces more"
        fix = "Records were removed meanwhile, or the paginator's total or has_more means something else."
        raise TerminalError(problem, got=f"{seen.came:,} records so far", fix=fix, code="pages_conflict")
    return True


@dataclass(frozen=True, kw_only=True)
class _Token(_Paginator):
    """What paginators with a token have in common.

    Attributes:
        param: The parameter that takes the token.
        place: Whether it is sent in the address or in the JSON body.
    """

    param: str = "cursor"
    place: Place = "query"

    def write(self, state: State, draft: Draft) -> None:
        """See Paginator."""
        if "cursor" in state:
            draft.put(self.param, state["cursor"], self.place)


@dataclass(frozen=True, kw_only=True)
class Cursor(_Token):
    """Each answer names the next page by a token in its JSON.

    Attributes:
        next: The path of the token; no token, null or an empty one ends it.
        param: The parameter that takes it.
        place: Whether it is sent in the address or in the JSON body.
    """

    next: str

    def follow(self, state: State, seen: Seen) -> State | None:  # noqa: ARG002
        """See Paginator."""
        token = value_at(seen.answer.body, parse(self.next, "next"))
        return _next(self, {"cursor": token} if token not in (None, "", False) else None, seen)


@dataclass(frozen=True, kw_only=True)
class HeaderCursor(_Token):
    """Each answer names the next page by a token in a header.

    Attributes:
        header: Its name; without it, or where it is empty, the page is the last.
        param: The parameter that takes the token.
        place: Whether it is sent in the address or in the JSON body.
    """

    header: str

    def follow(self, state: State, seen: Seen) -> State | None:  # noqa: ARG002
        """See Paginator."""
        token = seen.answer.headers.get(self.header, "")
        return _next(self, {"cursor": token} if token else None, seen)


@dataclass(frozen=True, kw_only=True)
class _Link(_Paginator):
    """What paginators with an address have in common."""

    def write(self, state: State, draft: Draft) -> None:
        """See Paginator."""
        if "url" in state:
            draft.url, draft.params, draft.whole = state["url"], {}, True


@dataclass(frozen=True, kw_only=True)
class JsonLink(_Link):
    """Each answer has the address of the next page in its JSON.

    Attributes:
        next: The path of the address, whole or relative; null or an empty one ends it.
    """

    next: str = "next"

    def follow(self, state: State, seen: Seen) -> State | None:  # noqa: ARG002
        """See Paginator."""
        link = value_at(seen.answer.body, parse(self.next, "next"))
        if link not in (None, "", False) and not isinstance(link, str):
            problem = f"The answer to {seen.answer.request} has no address at {self.next}"
            fix = "For a token in place of an address, declare Cursor(next=…, param=…)."
            raise TerminalError(problem, got=repr(link)[:100], fix=fix, code="wrong_format")
        return _next(self, {"url": resolved(seen.answer.url, link)} if link else None, seen)


@dataclass(frozen=True, kw_only=True)
class HeaderLink(_Link):
    """The header `Link` has the address of the next page.

    Attributes:
        rel: What the address is called there.
        header: The header's name.
    """

    rel: str = "next"
    header: str = "Link"

    def follow(self, state: State, seen: Seen) -> State | None:  # noqa: ARG002
        """See Paginator."""
        link = link_of(seen.answer.headers, self.rel, self.header)
        return _next(self, {"url": resolved(seen.answer.url, link)} if link else None, seen)


def link_of(headers: Mapping[str, str], rel: str = "next", header: str = "Link") -> str:
    """Read an address from a header `Link`. Empty if there is none.

    Args:
        headers: Of the answer.
        rel: What the address is called.
        header: The header's name.
    """
    values: list[str] = headers.getall(header, []) if hasattr(headers, "getall") else [headers.get(header, "")]
    for part in re.findall(r"<([^>]*)>([^<]*)", ", ".join(values)):
        rels = re.search(r""";\s*rel\s*=\s*(?:"([^"]*)"|([^;,\s]+))""", part[1], re.IGNORECASE)
        if rels and rel.lower() in (rels[1] or rels[2]).lower().split():
            return str(part[0])
    return ""


def _next(paginator: _Paginator, state: State | None, seen: Seen) -> State | None:
    """Hold the next page against what the answer says of more."""
    more = paginator.more(seen) if paginator.has_more else None
    if more is True and state is None:
        problem = f"The answer to {seen.answer.request} announces more, and does not say where"
        fix = "Correct the paginator: where the answer has the next page, or its has_more."
        raise TerminalError(problem, got=f"{seen.came:,} records so far", fix=fix, code="wrong_format")
    return state if more is not False else None


_SIGNS = (  # names, of any case and without '_', by which an answer looks like one page of several
    *("next", "nexturl", "nextlink", "nextpage", "nextpageurl", "nextpagetoken", "nexttoken", "nextcursor"),
    *("@odata.nextlink", "endcursor", "hasmore", "hasnext", "hasnextpage", "more", "morepages"),
)
_HOMES = ("links", "paging", "pagination", "pages", "page", "meta", "metadata", "pageinfo", "cursor")
_TOTALS = ("total", "totalcount", "totalresults", "totalitems", "totalpages", "pagecount", "count")


def looks_paged(answer: Answer, fields: Mapping[str, Any], rows: int) -> str:
    """Tell by what an answer looks like one page of several.

    Args:
        answer: The first one.
        fields: Its values beside the records, if it is an object.
        rows: Records in it.

    Returns:
        What gives it away; empty if nothing does.
    """
    if link_of(answer.headers):
        return "a header Link with rel=next"
    homes = [("", fields)]
    homes += [(f"{n}.", v) for n, v in fields.items() if n.lower().replace("_", "") in _HOMES and isinstance(v, dict)]
    for where, values in homes:
        for name, value in values.items():
            plain = name.lower().replace("_", "").replace("-", "")
            if plain in _SIGNS and value not in (None, False, "", 0, [], {}):
                return f"{where}{name}"
            if plain in _TOTALS and isinstance(value, int) and not isinstance(value, bool) and rows:
                most = 1 if "page" in plain else rows
                if value > most:
                    return f"{where}{name} = {value:,}"
    return ""
