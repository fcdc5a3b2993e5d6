"""What only a Milvus server can do: go away, hang, come back, hold what others made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid

import numpy as np
import pytest
from support.milvus_lite_server import LiteServer
from support.vector_world import ALL, DIM, FULL, PAYLOAD, model, rows
from support.workers import environment

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus.vector_values import Collection, Where
from ingestlab.sinks.milvus.vectors import open_vectors
from ingestlab.stack.valkey import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this file's own; every test leaves it running."""
    pytest.importorskip("milvus_lite", reason="the extra `milvus` is not installed")
    with LiteServer(tmp_path_factory.mktemp("own")) as own:
        yield own


@pytest.fixture
def wanted():
    return Collection(name=f"docs_{uuid.uuid4().hex[:8]}", fingerprint=model(), payload=PAYLOAD)


@pytest.mark.slow("processes killed")
def test_what_a_killed_server_has_answered_is_there_when_it_is_back(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url))
    store.ensure(wanted)
    threads = [
        threading.Thread(target=store.upsert, args=(wanted.name, rows(range(3000), source=str(n)))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.delete(wanted.name, Where(sources=("3",)))
    server.kill()
    server.start()
    assert store.count(wanted.name, ALL) == 9000  # with the connection from before
    assert len(store.search(wanted.name, np.ones((1, DIM)), where=ALL)[0]) == 10
    store.ensure(wanted)
    with pytest.raises(TerminalError, match="tiny"):
        store.ensure(wanted.model_copy(update={"fingerprint": model("other")}))


def test_a_call_outlasts_a_restart(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url))
    store.ensure(wanted)
    server.kill()
    back = threading.Timer(0.3, server.start)
    back.start()
    assert store.upsert(wanted.name, rows("abc")) == 3
    back.join()
    assert store.count(wanted.name, ALL) == 3


def test_a_server_that_is_away_is_transient_and_named(wanted):
    uri = f"http://127.0.0.1:{free_port()}"
    store = open_vectors(Settings(milvus_uri=uri, milvus_attempts=1, milvus_timeout=2))
    with pytest.raises(TransientError, match=rf"Milvus at {uri} to describe_collection.*MILVUS_URI"):
        store.ensure(wanted)


@pytest.mark.slow("processes killed")
def test_a_write_that_a_dying_server_broke_off_is_whole_after_the_retry(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url, milvus_attempts=1))
    store.ensure(wanted)
    table = rows(range(20_000))
    killer = threading.Timer(0.4, server.kill)
    killer.start()
    with pytest.raises(TransientError):
        any(store.upsert(wanted.name, table) == 0 for _ in range(1000))  # until it is killed
    killer.join()
    server.start()
    again = open_vectors(Settings(milvus_uri=server.url))
    assert again.upsert(wanted.name, table) == 20_000
    assert again.count(wanted.name, ALL) == again.count(wanted.name, Where()) == 20_000


def test_a_server_that_hangs_is_given_up_in_time(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url, milvus_timeout=0.5))
    store.ensure(wanted)
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(TransientError, match="INGESTLAB_MILVUS_TIMEOUT"):
            store.upsert(wanted.name, rows("abc"))
        fresh = open_vectors(Settings(milvus_uri=server.url, milvus_timeout=0.5))
        with pytest.raises(TransientError, match="INGESTLAB_MILVUS_TIMEOUT"):
            fresh.count(wanted.name, ALL)
    finally:
        server.signal(signal.SIGCONT)
    assert store.upsert(wanted.name, rows("abc")) == 3
    assert store.count(wanted.name, ALL) == 3


def test_a_collection_that_is_dropped_meanwhile_is_transient_for_its_writer(server, wanted):
    store, other = (open_vectors(Settings(milvus_uri=server.url)) for _ in range(2))
    target = store.ensure(wanted)
    store.upsert(target, rows("a"))
    other.drop(wanted.name)
    with pytest.raises(TransientError, match="not exist"):
        store.upsert(target, rows("b"))
    assert store.ensure(wanted) == target
    assert store.upsert(target, rows("b")) == 1
    assert store.count(wanted.name, ALL) == 1


def test_a_half_made_collection_is_completed(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url))
    target = store.ensure(wanted)
    client = store._link._client()
    client.drop_alias(wanted.name)
    client.release_collection(target)
    client.drop_index(target, "vector")
    assert store.ensure(wanted) == target == store.resolve(wanted.name)
    assert client.list_indexes(target) == ["vector"]


def test_a_collection_of_others_is_refused(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url))
    client = store._link._client()
    client.create_collection(wanted.name, dimension=4)
    with pytest.raises(TerminalError, match=rf"made by ingestlab.*'{wanted.name}' with the fields id, vector"):
        store.ensure(wanted)


def test_an_expression_cannot_leave_its_tenant(server, wanted):
    store = open_vectors(Settings(milvus_uri=server.url))
    store.ensure(wanted)
    for tenant in ("north", "south"):
        store.upsert(wanted.name, rows("abc", tenant=tenant))
    north, ones = Where(tenant="north"), np.ones((1, DIM))
    (hits,) = store.search(wanted.name, ones, where=north, only='year > 2000 or title == "x) or (y"')
    assert [hit.values["tenant"] for hit in hits] == ["north", "north"]
    for bad in ("row == 1) or (row >= 0", "title == 'x", "(row == 1", " "):
        with pytest.raises(TerminalError, match="brackets"):
            store.search(wanted.name, ones, where=north, only=bad)
    with pytest.raises(TerminalError, match="to search"):
        store.search(wanted.name, ones, where=north, only="row ==")


def test_the_client_neither_reads_env_files_nor_logs_what_it_raises(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / ".env").write_text("INGESTLAB_TENANT=of-the-file")
    uri = f"http://127.0.0.1:{free_port()}"
    script.write_text(f"""
import os
from ingestlab.sinks.milvus.vectors import open_vectors
from ingestlab.core.settings import Settings
before = dict(os.environ)
try:
    open_vectors(Settings(milvus_uri={uri!r}, milvus_attempts=1)).about()
except Exception as error:
    print(error.kind, dict(os.environ) == before)
""")
    done = subprocess.run(
        [sys.executable, script], check=False, cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("transient True\n", "")


def test_what_the_settings_name_is_opened_or_said_to_be_missing(monkeypatch):
    with pytest.raises(TerminalError, match="MILVUS_URI"):
        open_vectors(Settings())
    with pytest.raises(TerminalError, match=r"'./milvus.db'"):
        open_vectors(Settings(milvus_uri="./milvus.db"))
    assert open_vectors(Settings(milvus_uri="memory://")) is open_vectors(Settings(milvus_uri="memory://"))
    assert Settings(milvus_uri="http://root:secret@host:1/db").milvus_shown == "http://host:1/db"
    monkeypatch.setattr("ingestlab.sinks.milvus.vectors.find_spec", lambda _name: None)
    with pytest.raises(TerminalError, match=r"pip install 'ingestlab\[milvus\]'"):
        open_vectors(Settings(milvus_uri="http://host:19530"))


@pytest.mark.milvus
def test_a_wrong_token_is_terminal():
    if FULL not in os.environ:
        pytest.skip(f"no full Milvus in {FULL}: run `make test-milvus`")
    store = open_vectors(Settings(milvus_uri=os.environ[FULL], milvus_token="root:wrong"))
    with pytest.raises(TerminalError, match="MILVUS_TOKEN"):
        store.count("docs", ALL)
