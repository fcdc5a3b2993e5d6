#!/usr/bin/env bash
# A column of text in Parquet's DELTA_BYTE_ARRAY encoding, asked for as a dictionary.
#
# Guess, written down first: the encoding of a file makes no difference to what `read_dictionary` gives.
# Seen (pyarrow 26.0.1, writer and reader): the same column reads as plain text, but with read_dictionary=["s"] it raises
# OSError "Not yet implemented: DecodeArrow of DictAccumulator", for DELTA_BYTE_ARRAY and DELTA_LENGTH_BYTE_ARRAY alike;
# in PLAIN encoding both ways work. Whoever reads other people's files with read_dictionary meets such files.
#
# What it means here: ingestlab reads text of these encodings as text, and makes the dictionary itself.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PY'
import io

import pyarrow as pa
import pyarrow.parquet as pq

TABLE = pa.table({"s": ["north", "north-east", "east"] * 100})
seen = {}
for encoding in ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
    file = io.BytesIO()
    pq.write_table(TABLE, file, use_dictionary=False, column_encoding={"s": encoding})
    assert pq.read_table(io.BytesIO(file.getvalue()))["s"].to_pylist() == TABLE["s"].to_pylist()
    try:
        seen[encoding] = str(pq.read_table(io.BytesIO(file.getvalue()), read_dictionary=["s"])["s"].type)
    except OSError as error:
        seen[encoding] = f"OSError: {error}"
print("pyarrow", pa.__version__, seen)
assert seen["PLAIN"].startswith("dictionary"), seen
assert all("Not yet implemented" in seen[e] for e in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")), seen
PY
echo "as found: text in DELTA encodings is not read as a dictionary"
