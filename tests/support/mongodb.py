"""A server that speaks MongoDB's protocol, as a process of its own that can be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from ingestlab.core.mongodb import connected, server_of
from ingestlab.engine.services import Services
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.sinks.mongodb import link
from ingestlab.sinks.mongodb import sink as module
from ingestlab.stack.milvus import listens
from ingestlab.stack.valkey import free_port
from support.lake import FaultInjector
from support.merging import LATEST, MergeWorld
from support.replay import Mendable
from support.workers import until

PIPELINE = """
from ingestlab import Csv, Documents, Pipeline
import pandera.pandas as pa

def clean(df):
    return df[df["n"] != 13].assign(even=df["n"] // 2 * 2 == df["n"])

Small = pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(1000))})

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    clean=clean,
    contract=Small,
    partition_by="even",
    max_reject_ratio=1,
    write_disposition="DISPOSITION",
    documents=Documents(KEY),
)
"""
CHANGES = frozenset({"bulk_write", "delete_many", "create_index"})  # of a collection


class MongoServer:
    """Serves a folder on one port; a block of `with` runs it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.port, self.options = folder, free_port(), options
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.toml").touch()
        command = [
            sys.executable,
            "-m",
            "secantus",
            "--config",
            str(self.folder / "config.toml"),
            "--cache-size",
            "64M",
        ]
        command += ["--port", str(self.port), "--storage-path", str(self.folder / "data"), *self.options]
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: process.poll() is not None or listens(self.port), 60, "a server of MongoDB's protocol")
        assert process.poll() is None, (self.folder / "log").read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[MongoServer]:
    """Run a server; skip the test where its package is not installed."""
    pytest.importorskip("secantus", reason="no wheel of secantusdb for this system")
    with MongoServer(folder, *options) as server:
        yield server


class MongoWorld(Mendable):
    """A world whose rows are documents, in a database of its own, whose writes can die as well."""

    def __init__(self, folder: Path, redis_url: str, url: str, disposition: str = "append", key: str = "") -> None:
        super().__init__(folder, redis_url, mongodb_uri=url, mongodb_database=f"w{uuid4().hex[:12]}")
        self.faults: FaultInjector | None = None
        self.declare(disposition, f"key={key!r}" if key else "")

    def declare(self, disposition: str, documents: str) -> None:
        text = PIPELINE.replace("DISPOSITION", disposition).replace("KEY", documents)
        (self.folder / "pipelines/small.py").write_text(text)

    def context(self, faults: FaultInjector | None = None) -> Services:
        self.faults = faults
        return super().context(faults)

    def reconcile(self) -> Any:
        return reconcile(self.context().lake)

    @property
    def documents(self) -> Any:
        """The collection, as any reader finds it."""
        return connected(server_of(self.settings))[self.settings.mongodb_database]["small"]

    def there(self) -> dict[str, Counter[int]]:
        """Row numbers of documents by source."""
        rows: dict[str, Counter[int]] = {uri: Counter() for uri in self.expected}
        for document in self.documents.find():
            assert document["word"] == f"w{document['n']}"
            assert document["even"] is (document["n"] % 2 == 0)
            rows[document["_ingestlab"]["source"]][document["_ingestlab"]["row"]] += 1
        return rows

    def check(self, uris: Sequence[str]) -> None:
        """The laws of the lake, and: one document a published row, in the lake and in the collection alike."""
        super().check(uris)
        assert self.rows("small__mongodb") == self.rows("small"), "documents in the lake"
        assert self.there() == self.rows("small"), "documents in the collection"
        self.verify()

    def verify(self) -> None:
        lake = self.context().lake
        assert lake.sinks["mongodb"].verify("default", "small", lake.log("default", "small").snapshot()) == []


class Fragile:
    """A collection that dies with the process; some of a write may be done by then."""

    def __init__(self, inner: Any, faults: FaultInjector) -> None:
        self._inner, self._faults = inner, faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._faults.guard(value) if name in CHANGES else value


class MergedDocuments(MergeWorld):
    """A lake whose merged table has documents, in a database of its own, whose writes can die as well."""

    def __init__(self, folder: Path, redis_url: str, url: str, more: str, key: str) -> None:
        declared = f"documents=Documents(key={key!r})," if key else "documents=Documents(),"
        super().__init__(
            folder, redis_url, f"{more} {declared}", mongodb_uri=url, mongodb_database=f"w{uuid4().hex[:12]}"
        )
        self.faults: FaultInjector | None = None

    def limited(self, limit: int) -> None:
        super().limited(limit)
        path = self.folder / "pipelines/small.py"
        path.write_text(path.read_text().replace("import Aggregate, Csv,", "import Aggregate, Csv, Documents,"))

    def context(self, faults: FaultInjector | None = None) -> Services:
        self.faults = faults
        return super().context(faults)

    def check_merged(self) -> None:
        """As before, and: one document for each row, in the lake and in the collection alike."""
        super().check_merged()
        self.check_documents()
        assert list(self.store.walk("_ingestlab/embedded")) == []
        assert reconcile(self.context().lake).clean

    def check_documents(self) -> None:
        """Compare collection and lake with the dict."""
        wanted = sorted((key, uri, row) for key, (uri, row, _) in self.table.items())
        stored = connected(server_of(self.settings))[self.settings.mongodb_database]["small"]
        there = [(d["id"], d["_ingestlab"]["source"], d["_ingestlab"]["row"]) for d in stored.find()]
        assert sorted(there) == wanted
        kept = self.read("small__mongodb").to_pylist() if wanted else []
        assert sorted((row["id"], row["source"], row["row"]) for row in kept) == wanted


def maker(folders: pytest.TempPathFactory, redis_url: str, url: str, patch: pytest.MonkeyPatch) -> Any:
    """What a fixture gives to make worlds with: the last one made is connected."""

    def watched(world: Any) -> Any:
        def collection(*args: Any) -> Any:
            found = link.collection_of(*args)
            return Fragile(found, world.faults) if world.faults else found

        patch.setattr(module, "collection_of", collection)
        return world

    def make(disposition: str = "append", key: str = "", more: str = LATEST) -> Any:
        if disposition == "merge":
            return watched(MergedDocuments(folders.mktemp("m"), redis_url, url, more, key))
        return watched(MongoWorld(folders.mktemp("m"), redis_url, url, disposition, key))

    return make
