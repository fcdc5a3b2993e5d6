#!/usr/bin/env bash
# A column of lists of the type list_view, cast to list.
#
# Expected: the same lists, as from a cast of list to large_list.
# Seen (pyarrow 26.0.1): no error, and lists that have become shorter or empty. [[1, 2], None, [3]], in order and as
# pa.array makes it, comes back as [[1, 2], None, []]; views in another order, [[4, 5, 6], [1, 2], []], as three empty
# lists. The result keeps the offsets of the views, of which there is one less than a list needs: validate(full=True)
# of the result says so where nothing has called it before.
#
# What it means here: ingestlab makes lists of views value by value when it reads Parquet, and never by this cast.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PY'
import pyarrow as pa

LIST = pa.list_(pa.int64())
plain = pa.array([[1, 2], None, [3]], pa.list_view(pa.int64()))
offsets, sizes = pa.array([3, 0, 0], pa.int32()), pa.array([3, 2, 0], pa.int32())
mixed = pa.ListViewArray.from_arrays(offsets, sizes, pa.array([1, 2, 3, 4, 5, 6]))
for views in (plain, mixed):
    views.validate(full=True)
before = [plain.to_pylist(), mixed.to_pylist()]
try:
    plain.cast(LIST).validate(full=True)
    valid = True
except pa.ArrowInvalid:
    valid = False
print("pyarrow", pa.__version__, "| views:", before, "| the cast is valid:", valid)
assert before == [[[1, 2], None, [3]], [[4, 5, 6], [1, 2], []]]
assert not valid
PY
echo "as found: the cast of list_view to list gives an invalid array, without an error"
