"""A pipeline with an API as its source, from the API to Parquet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.api import SHOP, ApiServer
from support.lake import Crash, World

from ingestlab.core.models import Again, IngestRequest, IngestResult, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.log import manifests
from ingestlab.maintenance.replay.replay import replay
from ingestlab.maintenance.undo import undo
from ingestlab.queue.replays import with_rejects


def at(n: int) -> str:
    return f"2026-01-{1 + n // 86400:02d}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z"


class Shop(World):
    def __init__(
        self, folder: Any, redis_url: str, api: ApiServer, more: str = "", ahead: int = 1, **settings: Any
    ) -> None:
        super().__init__(folder, redis_url, fetch_delay=0.01, fetch_attempts=2, **settings)
        self.api = api
        self.declare(more, ahead)

    def declare(self, more: str, ahead: int = 1) -> None:
        text = SHOP.replace("URL", self.api.url).replace("MORE", more).replace("AHEAD", str(ahead))
        (self.folder / "pipelines" / "orders.py").write_text(text)

    def pull(self, uri: str = "rest://orders", run: str = "r1", report: Any = lambda _progress: None) -> IngestResult:
        return ingest(IngestRequest(run=run, sources=(Source(uri=uri),)), self.context(), report)

    def ids(self) -> list[int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = [p for p in self.store.walk("tables/default/orders") if p.endswith(".parquet")]
        tables = [pq.ParquetFile(pa.BufferReader(self.store.read(path))).read() for path in paths]
        return sorted(value for table in tables for value in table["id"].to_pylist())

    def cursor(self) -> Any:
        entries = [r for m in manifests(self.store, "default", "orders") for r in m.sources if r.uri == "rest://orders"]
        return json.loads(entries[-1].version) if entries and entries[-1].version else None


@pytest.fixture(scope="module")
def api():
    with ApiServer() as server:
        yield server


@pytest.fixture
def shop(tmp_path, redis_url, api):
    api.records, api.faults = [{"id": n, "at": at(n)} for n in range(95)], {}
    api.asked.clear()
    return Shop(tmp_path, redis_url, api)


def test_an_api_becomes_a_table_and_then_what_is_new(shop, api):
    notes: list[str] = []
    (outcome,) = shop.pull(report=lambda progress: notes.append(progress.note)).outcomes
    assert (outcome.status, outcome.tally.rows_in) == ("committed", 95)
    assert "10 pages, 95 records" in notes
    assert notes[-1] == ""
    api.records += [{"id": n, "at": at(n)} for n in range(95, 103)]
    assert shop.pull(run="r2").outcomes[0].tally.rows_in == 8
    assert shop.pull(run="r3").outcomes[0].status == "unchanged"
    assert shop.ids() == list(range(103))


@pytest.mark.parametrize("fault", ["500", "shape", "html"])
def test_a_retry_asks_for_no_page_twice(shop, api, fault):
    for page in range(1, 10, 3):
        api.fault(page, *[fault] * (1 if fault == "shape" else 2))  # another shape is not asked for again
        shop.pull()
        assert (shop.ids(), shop.cursor()) == ([], None)
    assert shop.pull().outcomes[0].status == "committed"
    assert shop.ids() == list(range(95))
    assert set(api.asked.values()) == {1}


def test_windows_are_sources_of_their_own(shop, api):
    days = [f"rest://orders?from={at(low)}&to={at(low + 40)}" for low in (0, 40, 80)]
    for number, uri in enumerate(days):
        assert shop.pull(uri, run=f"r{number}").outcomes[0].status == "committed"
    assert shop.ids() == list(range(95))
    assert shop.pull(days[1], run="again").outcomes[0].status == "unchanged"


def test_a_null_in_the_cursor_leaves_it_where_it_was(shop, api):
    shop.pull()
    before = shop.cursor()
    api.records += [{"id": n, "at": at(n)} for n in range(95, 120)]
    api.records[110]["at"] = None
    (outcome,) = shop.pull(run="r2").outcomes
    assert outcome.error["code"] == "cursor_invalid"
    assert (shop.cursor(), len(shop.ids())) == (before, 95)
    api.records[110]["at"] = at(110)
    assert shop.pull(run="r3").outcomes[0].status == "committed"
    assert shop.ids() == list(range(120))


def test_rejects_are_replayed_without_the_api_and_the_cursor_stays(shop, api):
    shop.declare('contract=pa.DataFrameSchema({"id": pa.Column(checks=pa.Check.lt(90))}),')
    file = shop.folder / "pipelines/orders.py"
    file.write_text("import pandera.pandas as pa\n" + file.read_text())
    (outcome,) = shop.pull().outcomes
    assert (outcome.tally.accepted, outcome.tally.rejected) == (90, 5)
    cursor, asked = shop.cursor(), len(api.requests)
    shop.declare("")
    sources = tuple(Source(uri=r.uri) for r in with_rejects(manifests(shop.store, "default", "orders")))
    request = IngestRequest(run="r2", table="orders", sources=sources, replay=Again())
    assert [o.status for o in replay(request, shop.context(), lambda _progress: None).outcomes] == ["committed"]
    assert (shop.ids(), shop.cursor(), len(api.requests)) == (list(range(95)), cursor, asked)
    api.records += [{"id": n, "at": at(n)} for n in range(95, 100)]
    assert shop.pull(run="r3").outcomes[0].tally.rows_in == 5
    assert shop.ids() == list(range(100))


def test_an_undone_pull_leaves_the_cursor_of_the_one_before(shop, api):
    shop.pull()
    api.records += [{"id": n, "at": at(n)} for n in range(95, 103)]
    shop.pull(run="r2")
    undo("r2", shop.context())
    assert shop.ids() == list(range(95))
    assert shop.pull(run="r3").outcomes[0].tally.rows_in == 8
    assert shop.ids() == list(range(103))
    undo("r3", shop.context())
    undo("r1", shop.context())
    assert shop.ids() == []
    assert shop.pull(run="r4").outcomes[0].tally.rows_in == 103


def test_records_that_change_are_merged_by_key(shop, api):
    shop.declare('key="id", write_disposition="merge", latest_by="at",')
    shop.pull()
    api.records += [{"id": n % 10, "at": at(n)} for n in range(95, 115)]
    assert shop.pull(run="r2").outcomes[0].tally.rows_in == 20
    assert shop.ids() == list(range(95))


def test_a_lake_on_s3_keeps_pages_and_cursor(tmp_path, redis_url, api, s3, bucket):
    api.records, api.faults = [{"id": n, "at": at(n)} for n in range(95)], {5: ["shape"]}
    api.asked.clear()
    shop = Shop(tmp_path, redis_url, api, lake=f"s3://{bucket}/lake", storage_options={"s3": s3})
    assert shop.pull().outcomes[0].error["code"] == "wrong_format"
    assert shop.cursor() is None
    assert shop.pull().outcomes[0].status == "committed"
    assert shop.ids() == list(range(95))
    assert set(api.asked.values()) == {1}
    api.records += [{"id": n, "at": at(n)} for n in range(95, 103)]
    assert shop.pull(run="r2").outcomes[0].tally.rows_in == 8
    assert shop.ids() == list(range(103))
    assert not [path for path in shop.store.walk("raw") if "_pulls" in path]


@pytest.mark.slow("ten thousand pages")
def test_ten_thousand_pages(tmp_path, redis_url, api):
    api.records, api.faults = [{"id": n, "at": at(n)} for n in range(100_000)], {}
    api.asked.clear()
    shop = Shop(tmp_path, redis_url, api, ahead=8)
    file = tmp_path / "pipelines/orders.py"
    file.write_text(file.read_text().replace('endpoint="since"', 'endpoint="page"'))
    for page in (777, 5000, 9998):
        api.fault(page, "500", "500")
        assert shop.pull().outcomes[0].error["code"] == "http_unavailable"
    (outcome,) = shop.pull().outcomes
    assert (outcome.status, outcome.tally.rows_in) == ("committed", 100_000)
    assert shop.ids() == list(range(100_000))
    assert sum(api.asked.values()) <= 10_000 + 3 * 8  # those that were under way


@pytest.mark.slow("crashes at every step")
def test_a_worker_that_dies_on_any_page_fetches_none_twice(tmp_path_factory, redis_url, api, monkeypatch):
    from ingestlab.sources.pulls.spool import Spool

    add = Spool.add
    for dies in range(1, 11):
        api.records, api.faults = [{"id": n, "at": at(n)} for n in range(95)], {}
        api.asked.clear()
        shop = Shop(tmp_path_factory.mktemp("w"), redis_url, api)

        def dying(spool: Spool, page: Any, dies: int = dies) -> None:
            add(spool, page)
            if spool.pages == dies:
                raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "add", dying)
            with pytest.raises(Crash):
                shop.pull()
        assert shop.pull().outcomes[0].status == "committed"
        assert shop.ids() == list(range(95))
        again = {page: count for page, count in api.asked.items() if count > 1}
        assert not again or again == {9: 2} == {dies - 1: 2}  # the last page has no next one to go on at
