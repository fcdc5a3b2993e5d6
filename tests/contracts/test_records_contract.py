"""What every record source does: one suite, with an entry for each."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import warnings
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.airbyte import lay_numbers, numbers
from support.api import ApiServer

from ingestlab import Mongo
from ingestlab.core.mongodb import Server, connected
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Page, Pull, RecordSource
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sources.airbyte import source as airbyte
from ingestlab.sources.mongodb import reading
from ingestlab.sources.records import RecordUri, names_records
from ingestlab.sources.rest import Incremental, PageNumber, Rest

ROWS: list[dict[str, Any]] = [{"id": n, "at": f"2026-01-01T00:{n // 60:02d}:{n % 60:02d}Z"} for n in range(64)]


@pytest.fixture(params=["rest", "rest, incremental", "airbyte", "airbyte, incremental", "mongo", "mongo, incremental"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordSource]:
    """A source with the records of ROWS, in several pages."""
    if "airbyte" in request.param:
        lay_numbers(Settings(_env_file=None, home=tmp_path))
        monkeypatch.setenv("INGESTLAB_HOME", str(tmp_path))
        monkeypatch.setattr(airbyte, "_PAGE", 500)
        monkeypatch.setattr(airbyte, "_MOST", 900)
        mode = "incremental" if "incremental" in request.param else "full_refresh"
        yield numbers(len(ROWS), mode=mode, rows=ROWS)
        return
    if "mongo" in request.param:
        url: str = request.getfixturevalue("mongodb")
        yield collection(url, monkeypatch, incremental="incremental" in request.param)
        return
    with ApiServer(list(ROWS)) as api:
        cursor = Incremental(field="at", param="since", until="until") if "incremental" in request.param else None
        yield Rest(
            base_url=api.url,
            endpoint="since",
            paginator=PageNumber(size=0, total="total"),
            data_selector="data",
            cursor=cursor,
        )


def collection(url: str, patch: pytest.MonkeyPatch, *, incremental: bool) -> Mongo:
    patch.setenv("CONTRACT_MONGODB_URI", url)
    patch.setattr(reading, "PAGE_BYTES", 1_000)
    database = f"c{uuid4().hex[:12]}"
    connected(Server(url, 20))[database]["rows"].insert_many([{"_id": row["id"], **row} for row in ROWS])
    cursor = "at" if incremental else None
    return Mongo(database=database, collection="rows", cursor=cursor, server="CONTRACT_MONGODB_URI")


def identity(line: bytes) -> int:
    """The id of a record; MongoDB's extended JSON has the types of numbers."""
    value = json.loads(line)["id"]
    return int(value["$numberInt"]) if isinstance(value, dict) else value


def pull(**more: Any) -> Pull:
    return Pull("shop", "r1", Settings(_env_file=None, fetch_delay=0.01), tell=lambda _line: None, **more)


def ask(source: RecordSource, most: int = 1000, **more: Any) -> list[Page]:
    async def run() -> list[Page]:
        pages: list[Page] = []
        async with aclosing(source.pages(pull(**more))) as stream:  # type: ignore[type-var]
            async for page in stream:
                pages.append(page)
                if len(pages) >= most:
                    break
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()]
        assert left == []
        return pages

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        pages = asyncio.run(run())
        gc.collect()
    return pages


def lines(pages: list[Page]) -> bytes:
    return b"".join(page.lines for page in pages)


def test_it_is_a_plain_value_that_a_pipeline_takes(source):
    source.check("shop")
    assert pickle.loads(pickle.dumps(source)) == source
    pipeline = Pipeline(source=source).named("shop")
    uri = f"{source.scheme}://shop"
    assert (names_records(uri), str(RecordUri.parse(uri))) == (True, uri)
    assert pipeline.source == source


def test_its_pages_are_json_lines_and_tell_what_was_asked(source):
    pages = ask(source)
    assert len(pages) > 1
    for page in pages:
        assert page.lines.count(b"\n") == page.rows
        assert page.lines.endswith(b"\n") or not page.rows
        assert all(isinstance(json.loads(line), dict) for line in page.lines.splitlines())
        assert page.request or not page.rows
    assert [identity(line) for line in lines(pages).splitlines()] == [row["id"] for row in ROWS]
    json.dumps([[page.resume, page.cursor] for page in pages])


def test_a_pull_goes_on_after_each_page_with_a_position(source):
    pages = ask(source)
    assert pages[-1].resume is None
    for number, page in enumerate(pages):
        if page.resume is not None:
            rest = ask(source, resume=json.loads(json.dumps(page.resume)))
            assert lines(rest) == lines(pages[number + 1 :])
            assert rest[-1].cursor == pages[-1].cursor


def test_closed_early_it_lets_go_of_everything(source):
    first = ask(source)[0]
    assert ask(source, most=1)[0].lines == first.lines


def test_after_the_last_cursor_there_is_nothing_new(source):
    cursors = [page.cursor for page in ask(source) if page.cursor is not None]
    assert bool(cursors) == source.incremental
    if cursors:
        assert sum(page.rows for page in ask(source, cursor=json.loads(json.dumps(cursors[-1])))) == 0
