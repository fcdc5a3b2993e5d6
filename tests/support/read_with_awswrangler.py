"""Reads a table of Glue with awswrangler, in an environment of its own: SERVER DATABASE TABLE. Prints JSON."""

import json
import sys
import warnings

warnings.filterwarnings("ignore")
import awswrangler as wr  # noqa: E402 - its warnings are many

server, database, table = sys.argv[1:]
wr.config.s3_endpoint_url = wr.config.glue_endpoint_url = wr.config.sts_endpoint_url = server


def rows(frame) -> list[list[object]]:
    return [
        [int(n), str(word), str(part)] for n, word, part in zip(frame["n"], frame["word"], frame["part"], strict=True)
    ]


found = wr.s3.read_parquet_table(database=database, table=table)
only = wr.s3.read_parquet_table(database=database, table=table, partition_filter=lambda values: values["part"] == "X")
print(  # noqa: T201 - the answer
    json.dumps(
        {
            "types": wr.catalog.get_table_types(database=database, table=table),
            "partitions": list(wr.catalog.get_partitions(database=database, table=table).values()),
            "rows": rows(found),
            "only x": rows(only),
        }
    )
)
