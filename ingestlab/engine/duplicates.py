"""Keys of vectors that come twice in a file that was cut: no task sees more than its own piece of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Receipt
from ingestlab.engine.plan import Plan
from ingestlab.interfaces import Store

SHOWN = 3  # doubles in an error
_FIX = "Nothing of it was published. Name columns in Embedding.key that tell its rows apart, or mend the file."


def without_doubles(plan: Plan, receipts: Sequence[Receipt], store: Store) -> list[Receipt]:
    """The receipts of a batch, where files whose pieces share declared keys have failed."""
    embedding, names = plan.target.pipeline.embedding, {file.uri: file.name for file in plan.files}
    if embedding is None or not embedding.key:
        return list(receipts)
    pieces = Counter(uri for receipt in receipts for uri in receipt.tallies)
    errors: dict[str, dict[str, str]] = {}
    for uri in [uri for uri, count in pieces.items() if count > 1]:
        if pairs := _pairs(uri, receipts, store):
            shown = "; ".join(f"row {one} and row {two}" for one, two in pairs[:SHOWN])
            more = f"; {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
            wanted = f"one row of {names[uri]} for each {', '.join(embedding.key)}, the key of its vectors"
            errors[uri] = TerminalError(
                "Two sources are the same",
                expected=wanted,
                got=f"the same in {shown}{more}",
                fix=_FIX,
                code="columns_conflict",
            ).to_dict()
    return [_failed(receipt, errors) for receipt in receipts]


def _failed(receipt: Receipt, errors: Mapping[str, dict[str, str]]) -> Receipt:
    mine = {uri: errors[uri] for uri in receipt.tallies if uri in errors}
    return receipt.model_copy(update={"errors": {**receipt.errors, **mine}}) if mine else receipt


def _pairs(uri: str, receipts: Sequence[Receipt], store: Store) -> list[tuple[int, int]]:
    """The rows of a file that have the key of an earlier one, each after that one."""
    paths = [part.staged for receipt in receipts for part in receipt.vectors if uri in part.sources]
    tables = [pq.read_table(pa.BufferReader(store.read(path)), columns=["pk", "row"]) for path in paths]
    rows = pa.concat_tables(tables) if tables else None
    if rows is None or pc.count_distinct(rows["pk"]).as_py() == rows.num_rows:
        return []
    holders: dict[str, int] = {}
    found = {}
    for row, pk in sorted(zip(rows["row"].to_pylist(), rows["pk"].to_pylist(), strict=True)):
        first = holders.setdefault(pk, row)
        if first != row:
            found[row] = first  # chunks of one row have keys of their own, but tell the same
    return [(first, row) for row, first in found.items()]
