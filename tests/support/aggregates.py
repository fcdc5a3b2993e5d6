"""A small lake whose pipeline has aggregates, which must say what the rows say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingestlab.analytics.aggregate_reader import AggregateReader
from ingestlab.analytics.lake import Lake
from ingestlab.lake import layout
from ingestlab.lake.log import live_partials, live_parts, manifests
from ingestlab.maintenance.compact import compact
from ingestlab.pipeline.catalog import Catalog, load
from support.direct import compare
from support.lake import FaultInjector
from support.replay import Mendable

START = """
from ingestlab import Aggregate, Csv, Pipeline
import pandera.pandas as pa

def clean(df):
    n = df["n"]
    kind = n - n // 3 * 3
    df = df.assign(
        even=n // 2 * 2 == n,
        kind=kind.mask(kind == 2),
        x=(n / 7).mask(kind == 1),
        at=(n * 1000).astype("timestamp[s][pyarrow]"),
    )
    return df[df["n"] != 13]

Small = pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(1000))})

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    clean=clean,
    contract=Small,
    partition_by="even",
    max_reject_ratio=1,
    write_disposition="DISPOSITION",
    aggregates={AGGREGATES},
)
"""
BY_KIND = """
    "by_kind": Aggregate(
        by=["kind", "even", "at:hour"],
        measures={
            "rows": "count", "known": ("x", "count"), "sum": ("n", "sum"), "total": ("x", "sum"), "mean": ("x", "mean"),
            "least": ("word", "min"), "greatest": ("n", "max"), "spread": ("n", "std"), "words": ("word", "distinct"),
            "middle": ("n", "median"), "first": ("word", "first", "at"), "last": ("x", "last", "at"),
        },
    ),
"""
ALL = '"all": Aggregate(measures={"rows": "count", "sum": ("n", "sum"), "words": ("word", "distinct")}),'


class Tally(Mendable):
    """A world whose pipeline has aggregates."""

    def __init__(self, folder: Path, redis_url: str, disposition: str = "append", **options: Any) -> None:
        super().__init__(folder, redis_url, disposition, **options)
        self.disposition = disposition
        self.declare(BY_KIND + ALL)

    def declare(self, aggregates: str) -> None:
        text = START.replace("DISPOSITION", self.disposition).replace("AGGREGATES", aggregates)
        (self.folder / "pipelines" / "small.py").write_text(text)

    @property
    def lake(self) -> Lake:
        return Lake(self.settings)

    @property
    def aggregates(self) -> dict[str, Any]:
        return dict(load(Catalog.read(self.settings).named("small")).aggregates)

    def compact(self, faults: FaultInjector | None = None) -> None:
        compact("small", self.context(faults))

    def check(self, uris: Sequence[str]) -> None:
        super().check(uris)
        self.check_answers()
        assert self.parts_without_states() == []

    def check_answers(self) -> None:
        table = self.lake.table("small").arrow()
        for name, aggregate in self.aggregates.items():
            result = AggregateReader(self.store, self.settings, "default", "small").read(name)
            compare(result, table, aggregate)

    def parts_without_states(self) -> list[tuple[str, str]]:
        history = manifests(self.store, "default", "small")
        have = {s.target for s in live_partials(history)}
        parts = [p.target for p in live_parts(history) if "__" not in p.target]
        return [
            (name, part)
            for name, aggregate in self.aggregates.items()
            for part in parts
            if layout.partials_file("default", "small", name, aggregate.code, part) not in have
        ]

    def state_files(self) -> list[str]:
        return [p for p in self.store.walk("tables") if "__" in p and "__rejects" not in p]
