"""Connectors from PyPI: source-faker, and a manifest without code over a local API; beside PyAirbyte; killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pyarrow.parquet as pq
import pytest
from support.airbyte import lay_numbers, pyairbyte, real_home
from support.lake import World
from support.workers import PATIENCE, open_yard, until

from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.storage.store import open_store
from ingestlab.sources.airbyte import source

pytestmark = [pytest.mark.slow("real connectors"), pytest.mark.timeout(900)]

PIPELINE = """
from pyarrow import timestamp
from ingestlab import Airbyte, JsonLines, Pipeline
PIPELINE = Pipeline(
    source=Airbyte(connector={connector!r}, config={config!r}, streams=[{stream!r}], sync_mode={mode!r}),
    {more}
)
"""
USERS = """reader=JsonLines(columns={"id": "int64", "created_at": timestamp("us", "UTC"), "name": "string",
    "updated_at": timestamp("us", "UTC"), "age": "int64", "email": "string", "height": "string", "address": "json"}),"""


class Connected(World):
    """A lake with a pipeline of a real connector."""

    def __init__(self, folder, redis_url):
        super().__init__(folder, redis_url, airbyte_home=real_home())

    def declare(self, name, connector, config, stream, mode, more=""):
        text = PIPELINE.format(connector=connector, config=config, stream=stream, mode=mode, more=more)
        (self.folder / "pipelines" / f"{name}.py").write_text(text)

    def pull(self, name, run="r1"):
        request = IngestRequest(run=run, sources=(Source(uri=f"airbyte://{name}"),))
        [outcome] = ingest(request, self.context(), lambda _progress: None).outcomes
        return outcome

    def rows(self, name, key="id"):
        files = [f for f in self.store.walk(f"tables/default/{name}") if f.endswith(".parquet")]
        tables = [pq.ParquetFile(f"{self.settings.lake_url}/{f}").read() for f in files]
        return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row[key])


@pytest.fixture
def world(tmp_path, redis_url):
    return Connected(tmp_path, redis_url)


def connectors_of(process):
    """The connectors that read for a process, without their guards."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            command = child.cmdline()
            if "read" in command and not any(word.endswith("guard.py") for word in command):
                found.append(child)
    return found


class Killer:
    """Kills the connectors of this process, some time after they have begun to read."""

    def __init__(self, after):
        self.killed, self._after, self._stop = 0, after, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while self._after and not self._stop.wait(0.05):
            for connector in connectors_of(psutil.Process()):
                with suppress(psutil.Error, IndexError):
                    if time.time() - connector.create_time() > self._after[0]:
                        connector.kill()
                        self.killed += 1
                        self._after.pop(0)


def pulled(world, name, run="r1"):
    """Pull until it goes well, as a queue tries again."""
    errors = []
    while (outcome := world.pull(name, run)).status == "failed":
        errors.append(outcome.error)
        assert outcome.error["kind"] == "transient", outcome.error
        assert len(errors) < 10
    return outcome, errors


def test_users_of_source_faker_killed_and_pulled_again(world, monkeypatch):
    monkeypatch.setattr(source, "_PAGE", 20_000)
    config = {"count": 3000, "seed": 1, "records_per_slice": 100}
    merged = f'{USERS} write_disposition="merge", key="id", latest_by="updated_at",'
    world.declare("users", "source-faker", config, "users", "incremental", merged)
    with Killer([random.uniform(1, 4), random.uniform(1, 4)]) as killer:
        outcome, errors = pulled(world, "users")
    assert {error["code"] for error in errors} <= {"connector_failed"}
    assert outcome.status == "committed"
    first = world.rows("users")
    assert [row["id"] for row in first] == list(range(1, 3001))
    assert all(json.loads(row["address"])["city"] for row in first)
    assert all(row["email"].partition("@")[0].endswith(f"+{row['id']}") for row in first)
    assert world.pull("users", "r2").status == "committed"  # it sends all users again, as updated
    second = world.rows("users")
    assert [row["id"] for row in second] == list(range(1, 3001))
    assert min(row["updated_at"] for row in second) > max(row["updated_at"] for row in first)
    assert killer.killed >= min(1, len(errors))


def test_a_full_refresh_of_source_faker_is_what_pyairbyte_reads(world, tmp_path):
    python = pyairbyte()
    config = {"count": 300, "seed": 7, "parallelism": 1}  # one process: the same users each time
    script = tmp_path / "read.py"
    script.write_text("""
import json, sys
import airbyte as ab
executable, config, folder = sys.argv[1:]
for stream in ("users", "products", "purchases"):  # each by a process of its own: its random numbers begin there
    source = ab.get_source("source-faker", config=json.loads(config), local_executable=executable, streams=[stream])
    result = source.read(cache=ab.new_local_cache(stream, folder, cleanup=False), force_full_refresh=True)
    result[stream].to_pandas().to_json(f"{folder}/{stream}.json", orient="records", lines=True, date_unit="us")
""")
    [executable] = Path(world.settings.airbyte_home).glob("source-faker.*/bin/source-faker")
    home = tmp_path / "pyairbyte"
    home.mkdir()
    env = {**os.environ, "AIRBYTE_OFFLINE_MODE": "1", "DO_NOT_TRACK": "1", "HOME": str(home)}
    command = [str(python), str(script), str(executable), json.dumps(config), str(home)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for stream in ("users", "products", "purchases"):
        world.declare(stream, "source-faker", config, stream, "full_refresh")
        assert world.pull(stream).status == "committed"
        theirs = [json.loads(line) for line in (home / f"{stream}.json").read_text().splitlines()]
        ours = [{k: v for k, v in row.items() if not k.startswith("_")} for row in world.rows(stream)]
        assert plain(ours) == plain(sorted(theirs, key=lambda row: row["id"]))
        assert len(ours) == len(theirs) > 0


def plain(rows):
    """Rows without what differs between two reads, and times as microseconds since 1970."""
    kept = []
    for row in rows:
        known = {k: v for k, v in row.items() if k != "updated_at" and not k.startswith("_airbyte")}
        for name, value in known.items():
            if hasattr(value, "timestamp"):
                known[name] = round(value.timestamp() * 1_000_000)
            elif isinstance(value, str) and name == "address":
                known[name] = json.loads(value)
        kept.append(known)
    return kept


PARAMETER = {"type": "RequestOption", "inject_into": "request_parameter"}
MANIFEST = {
    "version": "6.0.0",
    "type": "DeclarativeSource",
    "check": {"type": "CheckStream", "stream_names": ["orders"]},
    "streams": [
        {
            "type": "DeclarativeStream",
            "name": "orders",
            "primary_key": ["id"],
            "schema_loader": {
                "type": "InlineSchemaLoader",
                "schema": {
                    "type": "object",
                    "properties": {"id": {"type": "integer"}, "day": {"type": "string"}, "total": {"type": "number"}},
                },
            },
            "retriever": {
                "type": "SimpleRetriever",
                "record_selector": {
                    "type": "RecordSelector",
                    "extractor": {"type": "DpathExtractor", "field_path": ["orders"]},
                },
                "requester": {
                    "type": "HttpRequester",
                    "url_base": "{{ config['url'] }}",
                    "path": "/orders",
                    "http_method": "GET",
                    "authenticator": {"type": "BearerAuthenticator", "api_token": "{{ config['api_key'] }}"},
                },
            },
            "incremental_sync": {
                "type": "DatetimeBasedCursor",
                "cursor_field": "day",
                "datetime_format": "%Y-%m-%d",
                "cursor_granularity": "P1D",
                "step": "P1D",
                "start_datetime": {"type": "MinMaxDatetime", "datetime": "2026-01-01", "datetime_format": "%Y-%m-%d"},
                "end_datetime": {
                    "type": "MinMaxDatetime",
                    "datetime": "{{ config['until'] }}",
                    "datetime_format": "%Y-%m-%d",
                },
                "start_time_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "from",
                },
                "end_time_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "to"},
            },
        }
    ],
    "spec": {
        "type": "Spec",
        "connection_specification": {
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "until": {"type": "string"},
                "api_key": {"type": "string", "airbyte_secret": True},
            },
        },
    },
}


@pytest.fixture
def orders() -> Iterator[str]:
    """An API with ten orders a day; its answers take a while."""

    class Orders(BaseHTTPRequestHandler):
        def do_GET(self):
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            allowed = self.headers["Authorization"] == "Bearer hunter22"
            days = range(int(query["from"][-2:]), int(query["to"][-2:]) + 1) if allowed else ()
            found = [
                {"id": day * 100 + n, "day": f"2026-01-{day:02d}", "total": n * 1.5} for day in days for n in range(10)
            ]
            time.sleep(0.1)
            body = json.dumps({"orders": found}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Orders) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_manifest_without_code_killed_and_gone_on_with(world, orders, monkeypatch):
    """Without a key: nothing but the state tells what has come."""
    monkeypatch.setattr(source, "_PAGE", 1)
    monkeypatch.setenv("ORDERS_KEY", "hunter22")
    config = {
        "__injected_declarative_manifest": MANIFEST,
        "url": orders,
        "until": "2026-01-20",
        "api_key": {"env": "ORDERS_KEY"},
    }
    world.declare("orders", "source-declarative-manifest", config, "orders", "incremental")
    with Killer([random.uniform(2, 5), random.uniform(2, 5)]):
        _, errors = pulled(world, "orders")
    assert {error["code"] for error in errors} <= {"connector_failed"}
    expected = [day * 100 + n for day in range(1, 21) for n in range(10)]
    assert [row["id"] for row in world.rows("orders")] == expected
    world.declare("orders", "source-declarative-manifest", {**config, "until": "2026-01-25"}, "orders", "incremental")
    monkeypatch.setenv("ORDERS_KEY", "wrong-key")
    refused = world.pull("orders", "r2").error
    assert "wrong-key" not in json.dumps(refused)
    monkeypatch.setenv("ORDERS_KEY", "hunter22")
    assert world.pull("orders", "r3").status == "committed"
    got = [row["id"] for row in world.rows("orders")]
    assert sorted(set(got)) == [day * 100 + n for day in range(1, 26) for n in range(10)]
    again = [number for number in got if got.count(number) > 1]
    assert {number // 100 for number in again} <= {20}  # the last day is asked for again: that is its granularity


def test_a_worker_killed_in_a_pull_costs_its_time_alone(tmp_path):
    with open_yard(tmp_path, None, executor="threads") as yard:
        lay_numbers(yard.settings)
        config = {"count": 200, "pause": 0.03, "every": 10}
        text = PIPELINE.format(connector="source-numbers", config=config, stream="numbers", mode="incremental", more="")
        yard.pipeline("numbers", text)
        yard.workers.have(2)
        run = yard.submit("airbyte://numbers", pipeline=None)
        worker = yard.workers.at_work_on(run.record.jobs[0].id)
        connectors = until(lambda: connectors_of(worker), 30, "a connector that reads")
        time.sleep(random.uniform(0, 4))
        for process in (*worker.children(), worker):
            if not any(word.endswith("guard.py") for word in process.cmdline()):
                with suppress(psutil.Error):
                    process.kill()
        until(lambda: not any(c.is_running() for c in connectors), 20, "a connector that ends with its worker")
        yard.workers.have(1)
        assert run.wait(PATIENCE).count("committed") == 1
        store = open_store(yard.settings.lake_url, {})
        files = [f for f in store.walk("tables/default/numbers") if f.endswith(".parquet")]
        tables = [pq.ParquetFile(f"{yard.settings.lake_url}/{f}").read() for f in files]
        assert sorted(n for table in tables for n in table["n"].to_pylist()) == list(range(200))
        assert "source-numbers: numbers complete" in "\n".join(run.history())
