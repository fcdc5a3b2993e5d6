#!/usr/bin/env bash
# A long stretch of bad records in a CSV file that DuckDB reads with store_rejects.
#
# Guess, written down first: all good records are read, and reject_errors has one row for each bad one, since
# store_rejects says of itself that it is ignore_errors with a memory.
# Seen (duckdb 2.0.1, one thread and two): of 1,000,000 records, of which numbers 500,000 to 599,999 have a text in a
# column of integers, only the first 500,000 good ones are read. The 400,000 good ones behind the stretch are neither in
# the result nor among the rejects, and no error is raised. With ignore_errors alone all 900,000 are read. A stretch of
# 20,000 does no harm.
#
# What it means here: the benchmark of rejects against DuckDB leaves DuckDB out at 100 % bad rows.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.1
"$folder/venv/bin/python" - "$folder/numbers.csv" <<'PY'
import sys

import duckdb

ROWS, path = 1_000_000, sys.argv[1]


def count(begin, end, option, threads):
    with open(path, "w") as file:
        file.write("a,b\n")
        file.writelines(f"{i},{'x' if begin <= i < end else ''}{i}\n" for i in range(ROWS))
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    types = "{'a': 'BIGINT', 'b': 'INTEGER'}"
    query = f"SELECT count(a + b) FROM read_csv('{path}', auto_detect = false, header = true, columns = {types}, {option})"
    ((good,),) = connection.execute(query).fetchall()
    bad = connection.execute("SELECT count(*) FROM reject_errors").fetchone()[0] if "store" in option else None
    print(f"duckdb {duckdb.__version__} | {end - begin:,} bad in a row, {option}, threads {threads}: {good:,} good, {bad} kept")
    return good, bad


for threads in (1, 2):
    good, bad = count(500_000, 600_000, "store_rejects = true", threads)
    assert good == 500_000 and bad <= 100_000
assert count(500_000, 600_000, "ignore_errors = true", 1)[0] == 900_000
assert count(500_000, 520_000, "store_rejects = true", 1) == (980_000, 20_000)
PY
echo "as found: behind a long stretch of bad records the good ones are lost"
