"""dlt: loads the rows as they are, with no cleaning, checks or groups.

Arrow batches take dlt's short cut: it writes them as Parquet and moves the file to its destination, with no look at
single rows. The default, one dict a row, is a hundred times slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "false",
    "DATA_WRITER__COMPRESSION": "zstd",
    "DATA_WRITER__FILE_MAX_BYTES": str(64 << 20),
}

import dlt
import pyarrow.csv
from common import Done, serve
from pandas_pyarrow import OPTIONS


@dlt.resource(name="flights", write_disposition="replace")
def flights(csv: str) -> Iterator[Any]:
    with pyarrow.csv.open_csv(
        csv, read_options=pyarrow.csv.ReadOptions(block_size=32 << 20), convert_options=OPTIONS
    ) as batches:
        for batch in batches:
            yield pyarrow.Table.from_batches([batch])


def work(csv: str, out: str) -> Done:
    pipeline = dlt.pipeline(
        pipeline_name=f"bench_{Path(out).name}",
        pipelines_dir=f"{out}/state",
        destination=dlt.destinations.filesystem(f"file://{out}/lake"),
        dataset_name="bench",
    )
    pipeline.run(flights(csv), loader_file_format="parquet")
    return Done(f"{out}/lake/bench/flights")


if __name__ == "__main__":
    serve(work)
