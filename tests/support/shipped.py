"""The pipelines of the project, run as the task that Dask runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ingestlab.core.models import Partition, Piece, Receipt, Tally
from ingestlab.engine.task import process
from ingestlab.lake import layout
from ingestlab.lake.data_files import read_part
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import PipelineSource
from support.workers import ROOT

PIPELINES = ROOT / "pipelines"


class Done(NamedTuple):
    """What the task made of some files."""

    receipt: Receipt
    table: pa.Table
    rejects: pa.Table

    @property
    def tally(self) -> Tally:
        """Of all files together."""
        return sum(self.receipt.tallies.values(), Tally())


def source(name: str) -> PipelineSource:
    """A pipeline of this project."""
    file = PIPELINES / f"{name}.py"
    return PipelineSource(name=name, origin=str(file), text=file.read_text())


def ingest(name: str, files: Sequence[Path], lake: Path) -> Done:
    """Runs the task over files as one partition, and reads back what it staged."""
    store = open_store(str(lake))
    for file in files:
        store.write(f"raw/{file.name}", file.read_bytes())
    pieces = tuple(Piece(uri=f.as_uri(), path=f"raw/{f.name}", name=f.name, sha256="0" * 64) for f in files)
    text = f"from dataclasses import replace\n{source(name).text}\nPIPELINE = replace(PIPELINE, max_reject_ratio=1)\n"
    code = source(name).model_copy(update={"text": text})  # which takes files with nothing but bad rows
    job = process.Job(run="r", batch="b", tenant="default", table=name, pipeline=code, lake=str(lake))
    receipt = Receipt.from_dict(process.run(Partition(number=0, pieces=pieces).to_dict(), job.to_dict()))
    assert not receipt.errors
    read: list[pa.Table] = []
    for table, parts in ((name, receipt.parts), (layout.rejects(name), receipt.rejects)):
        folder = layout.table("default", table)
        for part in parts:
            store.move(part.staged, part.target)
        tables = [read_part(store, folder, part) for part in parts]
        read.append(pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({}))
    return Done(receipt, *read)
