"""REST APIs as sources of records, against a server that answers in every way."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from support.api import ApiServer

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.rest import (
    ApiKey,
    Basic,
    Bearer,
    Cursor,
    HeaderCursor,
    HeaderLink,
    Incremental,
    JsonLink,
    OAuth2,
    Offset,
    PageNumber,
    Rest,
    SinglePage,
)

SECRET = "s3cr3t-Value-42"
ROWS = [{"id": n, "name": f"wörd {n}"} for n in range(95)]


@pytest.fixture(scope="module")
def shared():
    with ApiServer() as server:
        yield server


@pytest.fixture
def api(shared):
    fresh = ApiServer()
    for name in ("asked", "faults", "guard", "tokens", "token_seconds", "delay", "children"):
        setattr(shared, name, getattr(fresh, name))
    shared.records, shared.size = list(ROWS), 10
    shared.requests.clear()
    return shared


PAGINATORS: dict[str, Callable[[], dict[str, Any]]] = {
    "page": lambda: {"endpoint": "page", "paginator": PageNumber(size=10), "data_selector": "data"},
    "page, total": lambda: {
        "endpoint": "page",
        "paginator": PageNumber(size=10, total="total"),
        "data_selector": "data",
    },
    "page, 404": lambda: {
        "endpoint": "page",
        "paginator": PageNumber(end_status=404),
        "params": {"strict": 1},
        "data_selector": "data",
    },
    "page in the body": lambda: {
        "endpoint": "page",
        "method": "POST",
        "json": {"q": "all"},
        "paginator": PageNumber(size=10, place="body"),
        "data_selector": "data",
    },
    "offset": lambda: {"endpoint": "offset", "paginator": Offset(limit=10), "data_selector": "list.items"},
    "offset, more": lambda: {
        "endpoint": "offset",
        "paginator": Offset(limit=10, has_more="$.list.more"),
        "data_selector": "$.list.items",
    },
    "cursor": lambda: {"endpoint": "cursor", "paginator": Cursor(next="meta.next"), "data_selector": "items"},
    "cursor in the body": lambda: {
        "endpoint": "cursor",
        "method": "POST",
        "paginator": Cursor(next="meta.next", place="body"),
        "data_selector": "items[*]",
    },
    "json link": lambda: {"endpoint": "json-link", "paginator": JsonLink(next="next")},
    "header link": lambda: {"endpoint": "header-link", "paginator": HeaderLink()},
    "header cursor": lambda: {"endpoint": "header-cursor", "paginator": HeaderCursor(header="x-next", param="after")},
    "single": lambda: {"endpoint": "single", "paginator": SinglePage()},
    "none": lambda: {"endpoint": "single"},
}


@pytest.fixture(params=PAGINATORS)
def source(request, api) -> Rest:
    return Rest(base_url=api.url, **PAGINATORS[request.param]())


def settings(**more: Any) -> Settings:
    return Settings(_env_file=None, **{"fetch_delay": 0.01, "fetch_attempts": 3, "read_timeout": 1.0, **more})


def ask(source: Rest, most: int = 10_000, *, told: list[str] | None = None, **more: Any) -> list[Page]:
    """Take up to so many pages."""
    options = more.pop("settings", settings())
    tell = (told if told is not None else []).append

    async def run() -> list[Page]:
        pages: list[Page] = []
        async with aclosing(source.pages(Pull("shop", "r1", options, tell=tell, **more))) as stream:
            async for page in stream:
                pages.append(page)
                if len(pages) == most:
                    break
        return pages

    return asyncio.run(run())


def rows(pages: list[Page]) -> list[dict[str, Any]]:
    assert all(page.lines.count(b"\n") == page.rows for page in pages)
    return [json.loads(line) for page in pages for line in page.lines.splitlines()]


def error_of(source: Rest, **more: Any) -> IngestError:
    source.check("shop")
    with pytest.raises(IngestError) as caught:
        ask(source, **more)
    assert SECRET not in str(caught.value)
    assert caught.value.fix
    return caught.value


def test_all_records_come_once_and_in_order(api, source):
    source.check("shop")
    pages = ask(source)
    assert rows(pages) == ROWS
    assert pages[-1].resume is None
    assert all(page.request.startswith(("GET http", "POST http")) for page in pages if page.rows)


def test_a_pull_goes_on_after_any_page(api, source):
    pages = ask(source)
    for number in range(1, len(pages)):
        rest = ask(source, resume=json.loads(json.dumps(pages[number - 1].resume)))
        assert rows(rest) == rows(pages[number:])


def test_what_is_left_early_lets_go_of_everything(api, source):
    assert rows(ask(source, most=1)) == ROWS[: len(ROWS) if "single" in source.endpoint else 10]


def test_a_source_is_a_plain_value(source):
    assert pickle.loads(pickle.dumps(source)) == source
    assert hash(source) == hash(pickle.loads(pickle.dumps(source)))


@pytest.mark.parametrize("fault", ["500", "cut", "429", "503", "hang", "html"])
def test_an_accident_on_a_page_costs_nothing(api, fault):
    for page in range(1, 4):
        api.fault(page, fault)
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data", ahead=1)
    assert rows(ask(source, settings=settings(read_timeout=0.3))) == ROWS
    assert set(api.asked.values()) <= ({1} if fault != "hang" else {1, 2})


def test_a_server_that_stays_away_is_worth_a_retry(api):
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data")
    api.fault(3, *["500"] * 9)
    error = error_of(source)
    assert isinstance(error, TransientError)
    assert "page=4" in error.problem


def test_another_shape_is_an_error_that_names_what_came(api):
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data")
    api.fault(2, "shape")
    error = error_of(source)
    assert isinstance(error, TerminalError)
    assert (error.code, error.got) == ("wrong_format", "oops")


AUTHS = {
    "bearer": (lambda url: Bearer(env="SHOP_TOKEN"), lambda r: r.headers.get("Authorization") == f"Bearer {SECRET}"),
    "basic": (
        lambda url: Basic(user_env="SHOP_USER", password_env="SHOP_TOKEN"),
        lambda r: r.headers.get("Authorization", "").startswith("Basic bWU6"),
    ),
    "header": (lambda url: ApiKey(env="SHOP_TOKEN"), lambda r: r.headers.get("X-Api-Key") == SECRET),
    "query": (lambda url: ApiKey(env="SHOP_TOKEN", param="appid"), lambda r: r.query.get("appid") == SECRET),
}


@pytest.mark.parametrize("kind", AUTHS)
def test_credentials_come_from_the_environment_and_are_nowhere_else(api, kind, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    monkeypatch.setenv("SHOP_USER", "me")
    make, api.guard = AUTHS[kind]
    source = Rest(base_url=api.url, endpoint="json-link", paginator=JsonLink(), auth=make(api.url))
    pages = ask(source)
    assert rows(pages) == ROWS
    assert SECRET not in f"{source!r}{[(p.request, p.resume) for p in pages]}{pickle.dumps(source)!r}"
    assert rows(ask(source, resume=pages[3].resume)) == rows(pages[4:])
    api.guard = lambda _request: False
    error = error_of(source)
    assert (error.code, isinstance(error, TerminalError)) == ("access_denied", True)
    monkeypatch.delenv("SHOP_TOKEN")
    assert error_of(source).code == "credentials_invalid"


@pytest.mark.parametrize("send", ["body", "header"])
def test_tokens_are_renewed_before_their_end_and_where_they_are_refused(api, send, monkeypatch):
    monkeypatch.setenv("CLIENT", "client")
    monkeypatch.setenv("CLIENT_SECRET", "hush-hush")
    auth = OAuth2(token_url=f"{api.url}/token", client_id_env="CLIENT", client_secret_env="CLIENT_SECRET", send=send)
    source = Rest(base_url=api.url, endpoint="cursor", paginator=Cursor(next="meta.next"), auth=auth)
    api.guard = lambda r: r.headers.get("Authorization", "").startswith("Bearer token-")
    assert rows(ask(source)) == ROWS
    assert api.tokens == 1
    api.token_seconds = 30  # less than the time before its end at which it is renewed
    assert rows(ask(source)) == ROWS
    assert api.tokens == 11
    api.token_seconds = 3600
    api.guard = lambda r: (
        r.headers.get("Authorization") in ("Bearer token-12", "Bearer token-13")
        and (len(api.requests) < 40 or r.headers["Authorization"] == "Bearer token-13")
    )
    assert rows(ask(source)) == ROWS
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    assert error_of(source).code == "access_denied"


def test_numbers_come_as_they_were_written(api):
    api.records = [{"a": "#1.10", "b": "#1e400", "c": "#12345678901234567890123456789"}]
    assert ask(Rest(base_url=api.url, endpoint="single"))[0].lines == (
        b'{"a": 1.10, "b": 1e400, "c": 12345678901234567890123456789}\n'
    )


@pytest.mark.parametrize(
    ("endpoint", "sign"), [("page", "total = 95"), ("json-link", "next"), ("header-link", "Link"), ("offset", "more")]
)
def test_pages_that_nobody_declared_are_an_error(api, endpoint, sign):
    selector = "list.items" if endpoint == "offset" else ""
    error = error_of(Rest(base_url=api.url, endpoint=endpoint, data_selector=selector))
    assert (error.code, isinstance(error, TerminalError)) == ("wrong_format", True)
    assert "paginator" in error.fix
    assert sign in error.got
    assert rows(ask(Rest(base_url=api.url, endpoint="header-link", paginator=SinglePage()))) == ROWS[:10]


def test_a_total_is_held_against_what_came(api):
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(total="total"), data_selector="data", ahead=1)
    real = api._some
    api._some = lambda start, size: real(start, size) if start != 30 else real(start, size)[1:]
    try:
        error = error_of(source)
    finally:
        del api._some
    assert error.code == "pages_conflict"


def test_a_page_that_comes_twice_ends_with_an_error(api):
    source = Rest(base_url=api.url, endpoint="header-link", paginator=PageNumber(param="p"))
    assert error_of(source).code == "pages_conflict"
    looping = Rest(base_url=api.url, endpoint="cursor", paginator=Cursor(next="meta.next", param="c"))
    assert error_of(looping).code == "pages_conflict"


def test_an_endpoint_that_answers_html_is_said_so(api):
    error = error_of(Rest(base_url=api.url, endpoint="html"))
    assert (error.code, "web page" in error.got) == ("wrong_format", True)
    assert error_of(Rest(base_url=api.url, endpoint="nowhere")).code == "not_found"


def test_hosts_that_are_not_allowed_are_not_asked(api):
    source = Rest(base_url=api.url, endpoint="single")
    for rule in ({"deny_networks": ("127.0.0.0/8",)}, {"allow_hosts": ("example.com",)}):
        assert error_of(source, settings=settings(**rule)).code == "address_not_allowed"
    assert api.requests == []


def at(n: int) -> str:
    return f"2026-01-01T00:00:{n:02d}Z"


def since(api, **more: Any) -> Rest:
    cursor = Incremental(field="at", param="since", **more)
    return Rest(
        base_url=api.url,
        endpoint="since",
        paginator=PageNumber(total="total"),
        data_selector="data",
        cursor=cursor,
    )


def test_a_cursor_brings_what_is_new_and_nothing_twice(api):
    api.records = [{"id": n, "at": at(n // 3)} for n in range(40)]
    pages = ask(since(api))
    assert len(rows(pages)) == 40
    cursor = json.loads(json.dumps(pages[-1].cursor))
    assert (cursor["last"], [p.cursor for p in pages[:-1]]) == (at(13), [None] * 3)
    assert rows(ask(since(api), cursor=cursor)) == []
    api.records += [{"id": n, "at": at(n // 3)} for n in range(40, 50)]
    pages = ask(since(api), cursor=cursor)
    assert [row["id"] for row in rows(pages)] == list(range(40, 50))
    assert pages[-1].cursor["last"] == at(16)


def test_a_lag_brings_what_came_late(api):
    api.records = [{"id": n, "at": at(n)} for n in range(20)]
    cursor = ask(since(api, lag="5s"))[-1].cursor
    api.records += [{"id": 100, "at": at(16)}, {"id": 101, "at": at(3)}]
    assert [row["id"] for row in rows(ask(since(api, lag="5s"), cursor=cursor))] == [100]
    assert f"since={at(14)}".replace(":", "%3A") in api.requests[-1]


def test_a_retry_goes_on_with_the_edge_of_the_pages_before(api):
    api.records = [{"id": n, "at": at(7)} for n in range(35)]
    pages = ask(since(api))
    rest = ask(since(api), resume=json.loads(json.dumps(pages[1].resume)))
    assert rest[-1].cursor == pages[-1].cursor
    assert rows(ask(since(api), cursor=rest[-1].cursor)) == []


def test_a_window_brings_its_records_alone(api):
    api.records = [{"id": n, "at": at(n)} for n in range(30)]
    found = [
        [row["id"] for row in rows(ask(since(api, until="until"), window={"from": at(low), "to": at(low + 10)}))]
        for low in (0, 10, 20)
    ]
    assert found == [list(range(low, low + 10)) for low in (0, 10, 20)]


@pytest.mark.parametrize("bad", [None, True, [1]])
def test_a_cursor_that_is_null_or_no_value_is_an_error(api, bad):
    api.records = [{"id": n, "at": at(n)} for n in range(30)]
    numbers = PageNumber()
    source = Rest(
        base_url=api.url, endpoint="page", paginator=numbers, data_selector="data", cursor=Incremental(field="at")
    )
    api.records[15]["at"] = bad
    assert error_of(source).code == "cursor_invalid"
    if bad is None:
        skip = Incremental(field="at", missing="skip")
        left = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(), data_selector="data", cursor=skip)
        assert len(rows(ask(left))) == 29


def test_a_cursor_of_another_field_is_refused(api):
    api.records = [{"id": n, "at": at(n)} for n in range(3)]
    assert error_of(since(api), cursor={"field": "id", "last": 3, "seen": []}).code == "cursor_invalid"


def children(api) -> Rest:
    api.records = [{"id": n, "kind": "post"} for n in range(25)]
    api.children = {n: [{"text": f"{n}.{i}"} for i in range(n % 4 * 7)] for n in range(25)}
    parent = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data")
    return Rest(
        base_url=api.url,
        endpoint="posts/{parent.id}/comments",
        paginator=PageNumber(size=10),
        data_selector="data",
        parent=parent,
        include={"post": "id"},
    )


def test_a_child_is_asked_for_each_record_of_its_parent(api):
    source = children(api)
    source.check("comments")
    pages = ask(source)
    assert rows(pages) == [{"post": n, **row} for n, mine in api.children.items() for row in mine]
    assert pages[-1].resume is None
    for number in range(len(pages) - 1):
        rest = ask(source, resume=json.loads(json.dumps(pages[number].resume)))
        assert rows(rest) == rows(pages[number + 1 :]), number


def test_a_rate_is_kept(api):
    import time

    api.records = [{"id": n} for n in range(300)]
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data", rate=20.0)
    began = time.monotonic()
    ask(source)  # 31 requests; 5 seconds of the rate may come at once: none is held up
    assert time.monotonic() - began < 3


def test_a_server_that_asks_for_a_pause_gets_it(api):
    source = Rest(base_url=api.url, endpoint="page", paginator=PageNumber(size=10), data_selector="data", ahead=1)
    api.fault(2, "429", "429")
    told: list[str] = []
    assert rows(ask(source, told=told)) == ROWS
    assert len(told) == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"base_url": "shop.example.com"}, "base_url"),
        ({"endpoint": "orders?page=1"}, "parameters"),
        ({"headers": {"Authorization": "Bearer x"}}, "secret"),
        ({"params": {"api_key": "x"}}, "secret"),
        ({"data_selector": "a..b"}, "path"),
        ({"json": {}}, "GET"),
        ({"endpoint": "posts/{parent.id}"}, "Parent"),
        ({"cursor": Incremental(field="at", lag="soon")}, "lag"),
        ({"paginator": Cursor(next="a[")}, "path"),
    ],
)
def test_what_is_declared_wrongly_is_refused_before_anyone_is_asked(more, word):
    with pytest.raises(TerminalError, match=word) as caught:
        Rest(**{"base_url": "https://shop.example.com", "endpoint": "orders", **more}).check("shop")
    assert caught.value.code == "pipeline_invalid"
