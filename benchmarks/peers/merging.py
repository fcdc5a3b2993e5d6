"""Rows merged into a table by key, `merging.py NAME` for each peer: the first file makes the table, others change it.

A row replaces that of the same `id` if its `stamp` is not less, and is added where there is none. Each file is one
durable commit. What is told afterwards, rows and sums of the whole table, is not timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Totals = tuple[int, int, int]  # rows, sum of n, sum of stamp


class DuckDB:
    """A table of a database file; no index, which would cost each commit more than it saves."""

    def __init__(self, out: Path) -> None:
        import duckdb  # noqa: PLC0415 - each peer alone

        self._db = duckdb.connect(str(out / "table.db"))

    def load(self, path: str) -> None:
        self._db.execute(f"CREATE TABLE t AS FROM read_parquet('{path}')")

    def merge(self, path: str) -> None:
        self._db.execute(f"""
            MERGE INTO t USING (FROM read_parquet('{path}')) AS s ON t.id = s.id
            WHEN MATCHED AND s.stamp >= t.stamp THEN UPDATE SET stamp = s.stamp, n = s.n, name = s.name, price = s.price
            WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.stamp, s.n, s.name, s.price)
        """)

    def totals(self) -> Totals:
        row = self._db.execute("SELECT count(*), sum(n), sum(stamp) FROM t").fetchone()
        return tuple(map(int, row))


class DuckDBParquet:
    """One Parquet file, which DuckDB reads and writes whole: what other tools can read, as with the others."""

    def __init__(self, out: Path) -> None:
        import duckdb  # noqa: PLC0415

        self._db, self._path = duckdb.connect(), out / "table.parquet"

    def load(self, path: str) -> None:
        self._write(f"FROM read_parquet('{path}')")

    def merge(self, path: str) -> None:
        old, new = f"read_parquet('{self._path}')", f"read_parquet('{path}')"
        self._write(f"""
            SELECT t.* FROM {old} t ANTI JOIN {new} s ON t.id = s.id AND s.stamp >= t.stamp
            UNION ALL
            SELECT s.* FROM {new} s ANTI JOIN (SELECT o.id, o.stamp FROM {old} o SEMI JOIN {new} n ON o.id = n.id) t
            ON t.id = s.id AND t.stamp > s.stamp
        """)

    def _write(self, rows: str) -> None:
        fresh = self._path.with_suffix(".new")
        self._db.execute(f"COPY ({rows}) TO '{fresh}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def totals(self) -> Totals:
        import pyarrow.parquet as pq  # noqa: PLC0415

        return _totals(pq.read_table(self._path))


class Deltalake:
    """A Delta table on the disk."""

    def __init__(self, out: Path) -> None:
        self._path = str(out / "table")

    def load(self, path: str) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415
        from deltalake import write_deltalake  # noqa: PLC0415

        write_deltalake(self._path, pq.read_table(path))

    def merge(self, path: str) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415
        from deltalake import DeltaTable  # noqa: PLC0415

        table = DeltaTable(self._path)
        merging = table.merge(pq.read_table(path), "t.id = s.id", source_alias="s", target_alias="t")
        merging.when_matched_update_all("s.stamp >= t.stamp").when_not_matched_insert_all().execute()

    def totals(self) -> Totals:
        from deltalake import DeltaTable  # noqa: PLC0415

        return _totals(DeltaTable(self._path).to_pyarrow_table())


class Pandas:
    """One Parquet file, read and written whole."""

    def __init__(self, out: Path) -> None:
        self._path = out / "table.parquet"

    def load(self, path: str) -> None:
        import pandas as pd  # noqa: PLC0415

        pd.read_parquet(path, dtype_backend="pyarrow").to_parquet(self._path, index=False)

    def merge(self, path: str) -> None:
        import pandas as pd  # noqa: PLC0415

        old, new = (pd.read_parquet(file, dtype_backend="pyarrow") for file in (self._path, path))
        ages = old.loc[old["id"].isin(new["id"]), ["id", "stamp"]].set_index("id")["stamp"]
        new = new[~(ages.reindex(new["id"]) > new.set_index("id")["stamp"]).fillna(False).to_numpy()]
        fresh = self._path.with_suffix(".new")
        pd.concat([old[~old["id"].isin(new["id"])], new]).to_parquet(fresh, index=False)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def totals(self) -> Totals:
        import pyarrow.parquet as pq  # noqa: PLC0415

        return _totals(pq.read_table(self._path))


def _totals(table: Any) -> Totals:
    import pyarrow.compute as pc  # noqa: PLC0415

    return table.num_rows, pc.sum(table["n"]).as_py(), pc.sum(table["stamp"]).as_py()


PEERS: dict[str, Callable[[Path], Any]] = {
    "DuckDB": DuckDB,
    "DuckDB-Parquet": DuckDBParquet,
    "deltalake": Deltalake,
    "pandas": Pandas,
}


def main(name: str) -> None:
    """Answer ``{"do": "load" | "merge" | "totals", "path": …, "out": …}`` with seconds and totals."""
    answers, peer = os.fdopen(os.dup(1), "w"), None
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        wanted = json.loads(line)
        peer = peer or PEERS[name](Path(wanted["out"]))
        began = time.perf_counter()
        done = peer.totals() if wanted["do"] == "totals" else getattr(peer, wanted["do"])(wanted["path"])
        print(json.dumps({"seconds": time.perf_counter() - began, "totals": done}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
