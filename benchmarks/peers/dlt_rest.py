"""dlt: its `rest_api` source, with the page numbers and the total declared, into Parquet on the disk."""

from __future__ import annotations

import os
from pathlib import Path

os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "DATA_WRITER__COMPRESSION": "zstd",
}

import dlt
from common import Done, serve
from dlt.sources.rest_api import rest_api_source


def work(url: str, out: str) -> Done:
    base, _, endpoint = url.rpartition("/")
    source = rest_api_source(
        {
            "client": {
                "base_url": base,
            },
            "resources": [
                {
                    "name": "orders",
                    "write_disposition": "replace",
                    "endpoint": {
                        "path": endpoint,
                        "data_selector": "data",
                        "paginator": _single() if endpoint == "warm" else _numbers(),
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        pipeline_name=f"rest_{Path(out).parent.name}_{Path(out).name}",
        pipelines_dir=f"{out}/state",
        destination=dlt.destinations.filesystem(f"file://{out}/lake"),
        dataset_name="bench",
    )
    pipeline.run(source, loader_file_format="parquet")
    return Done(f"{out}/lake/bench/orders")


def _single() -> dict[str, str]:
    return {"type": "single_page"}


def _numbers() -> dict[str, object]:
    """Count the pages up to the one that the server's number of records ends at."""
    pages = int(os.environ["BENCH_PAGES"])
    return {
        "type": "page_number",
        "base_page": 1,
        "total_path": None,
        "maximum_page": pages,
        "stop_after_empty_page": False,
    }


if __name__ == "__main__":
    serve(work)
