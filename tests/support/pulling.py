"""A record source without a server: its records are in a file, and it writes down which pages were asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ingestlab.core.errors import TransientError
from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.engine.ingest import ingest
from ingestlab.interfaces import Page, Pull
from support.lake import Crash, FaultInjector, World

PIPELINE = """
from ingestlab import JsonLines, Pipeline
from support.pulling import Shelf
import pandera.pandas as pa

def clean(df):
    return df[df["n"] != 13]

PIPELINE = Pipeline(
    source=Shelf({folder!r}, incremental={incremental}),
    reader=JsonLines(columns={{"n": "int64", "word": "string"}}),
    clean=clean,
    contract=pa.DataFrameSchema({{"n": pa.Column(checks=pa.Check.lt(1000))}}),
    max_reject_ratio=1,
    {more}
)
"""


@dataclass(frozen=True)
class Shelf:
    """Records of ``records.jsonl`` in a folder, five a page; `n` is the cursor."""

    scheme: ClassVar[str] = "rest"
    folder: str
    incremental: bool = True
    step: int = 5

    def check(self, name: str) -> None: ...

    async def pages(self, pull: Pull) -> AsyncIterator[Page]:
        folder = Path(self.folder)
        records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        last = pull.cursor["last"] if pull.cursor else -1
        window = pull.window or {}
        low, high = int(window.get("from", -1)), int(window.get("to", 1 << 60))
        mine = [r for r in records if r["at"] > last and low <= r["at"] < high]
        place = pull.resume["place"] if pull.resume else 0
        while True:
            some = mine[place : place + self.step]
            with (folder / "asked.txt").open("a") as log:
                log.write(f"{place}\n")
            fault = json.loads((folder / "fault.json").read_text()) if (folder / "fault.json").exists() else {}
            if fault.get("place") == place:
                raise {"crash": Crash, "away": TransientError}[fault["kind"]]("away")
            place += self.step
            more = {"place": place} if place < len(mine) else None
            cursor = {"last": max(r["at"] for r in some)} if some else None
            lines = b"".join(json.dumps({k: r[k] for k in ("n", "word")}).encode() + b"\n" for r in some)
            yield Page(lines, len(some), f"GET shelf?place={place}", more, cursor if self.incremental else None)
            if more is None:
                return


class PullWorld(World):
    """A lake with one pipeline, `shop`, whose records are on a shelf."""

    def __init__(
        self, folder: Path, redis_url: str, *, incremental: bool = True, more: str = "", **settings: Any
    ) -> None:
        super().__init__(folder, redis_url, **settings)
        self.shelf = folder / "shelf"
        self.shelf.mkdir()
        text = PIPELINE.format(folder=str(self.shelf), incremental=incremental, more=more)
        (folder / "pipelines" / "shop.py").write_text(text)
        self.records: list[dict[str, Any]] = []

    def stock(self, *numbers: int) -> None:
        """Add records; each has the next number as its cursor."""
        first = len(self.records)
        self.records += [{"at": first + i, "n": n, "word": f"w{n}"} for i, n in enumerate(numbers)]
        self.write()

    def write(self) -> None:
        (self.shelf / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in self.records))

    def fault(self, kind: str = "", place: int = 0) -> None:
        (self.shelf / "fault.json").write_text(json.dumps({"kind": kind, "place": place} if kind else {}))

    def asked(self) -> list[int]:
        """The places that were asked for since the last time."""
        file = self.shelf / "asked.txt"
        places = [int(line) for line in file.read_text().split()] if file.exists() else []
        file.unlink(missing_ok=True)
        return places

    def pull(
        self, faults: FaultInjector | None = None, *, run: str = "r1", uri: str = "rest://shop", force: bool = False
    ) -> IngestResult:
        request = IngestRequest(run=run, sources=(Source(uri=uri),), force=force)
        return ingest(request, self.context(faults), lambda _progress: None)

    def values(self, table: str = "shop") -> list[int]:
        """The published numbers, sorted, as a reader that knows nothing of ingestlab finds them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = [p for p in self.store.walk(f"tables/default/{table}") if p.endswith(".parquet")]
        tables = [pq.ParquetFile(pa.BufferReader(self.store.read(path))).read() for path in paths]
        column = "row" if table.endswith("__rejects") else "n"
        return sorted(value for t in tables for value in t[column].to_pylist())
