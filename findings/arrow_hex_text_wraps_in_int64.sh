#!/usr/bin/env bash
# Hexadecimal text beyond the range of int64, cast to int64.
#
# Guess, written down first: the error that decimal text of the same number gets ("Failed to parse string").
# Seen (pyarrow 26.0.1): 0xFFFFFFFFFFFFFFFF becomes -1 and 0x8000000000000000 the smallest int64, from a cast and from
# the CSV reader with a declared int64 column alike; 18446744073709551615 in decimal is refused, and so is a hex number
# of 17 digits. The bits are taken for a number with a sign.
#
# What it means here: ingestlab looks for such cells itself and rejects their records by the rule `type`.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PY'
import io

import pyarrow as pa
import pyarrow.csv as pcsv

HEX = ["0xFFFFFFFFFFFFFFFF", "0x8000000000000000", "0x7FFFFFFFFFFFFFFF"]
cast = pa.array(HEX).cast(pa.int64()).to_pylist()
options = pcsv.ConvertOptions(column_types={"n": pa.int64()})
read = pcsv.read_csv(io.BytesIO("\n".join(["n", *HEX, ""]).encode()), convert_options=options)["n"].to_pylist()
refused = []
for text in ("18446744073709551615", "0x1FFFFFFFFFFFFFFFF"):
    try:
        pa.array([text]).cast(pa.int64())
    except pa.ArrowInvalid:
        refused.append(text)
print("pyarrow", pa.__version__, "| cast:", cast, "| read_csv:", read, "| refused:", refused)
assert cast == read == [-1, -(2**63), 2**63 - 1]
assert len(refused) == 2
PY
echo "as found: hex text wraps, decimal text is refused"
