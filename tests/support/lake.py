"""A small lake with its locks, and the laws that must hold in it after any crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.core.settings import Settings
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.locks import Locks, connect
from ingestlab.lake.log import live_partials, live_parts, manifests
from ingestlab.lake.storage.store import open_store

PIPELINE = """
from ingestlab import Csv, Pipeline
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
)
"""


class Crash(BaseException):
    """The process dies here: nothing may catch it."""


class Inline:
    """A cluster that is this thread: the real one has its own tests."""

    def map(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        keys: Iterable[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        names = set()
        for i, (call, key) in enumerate(zip(calls, keys, strict=False)):
            assert key not in names
            names.add(key)
            yield i, function(*call)

    def is_local(self) -> bool:
        return True


class Faulty:
    """Wraps a store or locks; at the given one of its changes it crashes, before or after doing it."""

    CHANGES = frozenset({"write", "move", "delete", "hset", "create"})

    def __init__(self, inner: Any, faults: FaultInjector) -> None:
        self._inner, self._faults = inner, faults

    def __getattr__(self, name: str) -> Any:
        if name == "delete_files":  # a store may do some and then die
            return lambda paths: [self.delete(path) for path in paths]
        value = getattr(self._inner, name)
        if name == "client":  # of Redis, in which the index is
            return Faulty(value, self._faults)
        return self._faults.guard(value) if name in self.CHANGES else value


class FaultInjector:
    """Counts changes; the process dies at number `at`, before or after it is done."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.count, self.at, self.after = 0, at, after

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            self.count += 1
            dies = self.count == self.at
            if dies and not self.after:
                raise Crash
            result = function(*args, **options)
            if dies:
                raise Crash
            return result

        return guarded


class World:
    """A lake in a folder or elsewhere, source files in the folder, and a way to ingest them with an accident."""

    def __init__(self, folder: Path, redis_url: str, disposition: str = "append", **settings: Any) -> None:
        pipelines = folder / "pipelines"
        pipelines.mkdir(parents=True)
        (pipelines / "small.py").write_text(PIPELINE.replace("DISPOSITION", disposition))
        self.folder = folder
        self.settings = Settings(
            _env_file=None,
            home=folder / "home",
            redis_url=redis_url,
            pipelines=(str(pipelines),),
            lock_ttl=5,
            **settings,
        )
        self.store: Store = open_store(self.settings.lake_url, self.settings.storage_options)
        self.redis = connect(redis_url)
        self.locks = Locks(self.redis, self.settings.lake_url, ttl=5)
        self.expected: dict[str, list[int]] = {}
        self.passes: Callable[[int], bool] = lambda n: n != 13 and n < 1000

    def put(self, name: str, numbers: Sequence[int]) -> str:
        """Writes a source file; remembers what must become of it."""
        path = self.folder / "sources" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("n,word\n" + "".join(f"{n},w{n}\n" for n in numbers))
        self.expected[path.as_uri()] = list(numbers)
        return path.as_uri()

    def context(self, faults: FaultInjector | None = None) -> Services:
        """What a job works with, and dies of where the injector says so."""
        store: Any = Faulty(self.store, faults) if faults else self.store
        locks: Any = Faulty(self.locks, faults) if faults else self.locks
        return Services(self.settings, store, locks, Inline())  # type: ignore[arg-type]

    def ingest(
        self, uris: Sequence[str], faults: FaultInjector | None = None, *, run: str = "r1", force: bool = False
    ) -> IngestResult:
        request = IngestRequest(
            run=run, pipeline="small", table="t", sources=tuple(Source(uri=u) for u in uris), force=force
        )
        return ingest(request, self.context(faults), lambda _progress: None)

    def check(self, uris: Sequence[str]) -> None:
        """The invariants of the design, for a lake in which all of `uris` were asked for and nothing is at work."""
        history = manifests(self.store, "default", "small")
        named = {p.target for p in (*live_parts(history), *live_partials(history))}
        on_disk = {p for p in self.store.walk("tables") if p.endswith(".parquet")}
        assert on_disk == named, "parts and manifests differ"
        assert list(self.store.walk(layout.intents())) == []
        assert list(self.store.walk(layout.stagings())) == []
        published, rejected = self.rows("small"), self.rows("small__rejects")
        for uri in uris:
            numbers = self.expected[uri]
            good = [i for i, n in enumerate(numbers) if self.passes(n)]
            bad = [i for i, n in enumerate(numbers) if not self.passes(n)]
            assert sorted(published[uri].elements()) == good, f"{uri}: published"
            assert sorted(rejected[uri].elements()) == bad, f"{uri}: rejected"
        last = {s.uri: s for m in history for s in m.sources}
        assert all(last[u].tally.balanced and last[u].tally.rows_in == len(self.expected[u]) for u in uris)

    def rows(self, table: str) -> dict[str, Counter[int]]:
        """Row numbers by source, as a reader that knows nothing of ingestlab finds them."""
        rows: dict[str, Counter[int]] = {uri: Counter() for uri in self.expected}
        for path in self.store.walk(layout.table("default", table)):
            data = pq.ParquetFile(pa.BufferReader(self.store.read(path))).read()
            names = ("_source", "_row") if "_source" in data.column_names else ("source", "row")
            for uri, row in zip(data[names[0]].to_pylist(), data[names[1]].to_pylist(), strict=True):
                rows[uri][row] += 1
        return rows
