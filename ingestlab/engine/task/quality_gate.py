"""The quality gate: a file of which too many rows are rejected, or all of them, fails as a whole.

Rows that `clean` leaves out are what its author wanted: a file of nothing else is committed without a row. Files
that lie whole in one task are judged there, before anything is written. A file that is cut into pieces
is judged when the receipts of all its pieces are in; they carry what its error needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import QualityError
from ingestlab.core.models import Faults, Piece, Receipt, Tally

MOST_VALUES = 100  # different bad values of one piece that a receipt carries, the commonest ones
SHOWN = 5  # of them in an error
LEFT_OUT = "clean"  # the rule of rows that `clean` leaves out
OPEN = 1.0  # the share of a gate that lets every file pass


def refused(
    pieces: Sequence[Piece],
    tallies: Mapping[str, Tally],
    rejects: Iterable[pa.Table],
    most: float | None,
    pipeline: str,
) -> dict[str, QualityError]:
    """Judge whole files among some pieces. Returns errors of those that are too bad, by URI.

    Args:
        pieces: What was processed.
        tallies: Its counts, by URI.
        rejects: What was rejected of it.
        most: Largest share of rejected rows; None where any share may be, as long as some row is left.
        pipeline: Whose share it is.
    """
    bad = {p.uri: p for p in pieces if _whole(p) and p.uri in tallies and _exceeds(tallies[p.uri], most)}
    faults = _faults(rejects, bad) if bad else {}
    wrong = {uri: p for uri, p in bad.items() if most is not None or not _left_out(faults[uri])}
    return {uri: _error(p.name, tallies[uri], faults[uri], most, pipeline) for uri, p in wrong.items()}


def carried(
    pieces: Sequence[Piece], tallies: Mapping[str, Tally], rejects: Iterable[pa.Table], most: float | None
) -> dict[str, Faults]:
    """Collect what receipts need to judge files that are cut."""
    cut = {p.uri for p in pieces if not _whole(p) and (most is not None or _exceeds(tallies.get(p.uri, Tally()), most))}
    return _faults(rejects, cut) if cut else {}


def judged(
    receipts: Sequence[Receipt], names: Mapping[str, str], most: float | None, pipeline: str
) -> dict[str, dict[str, str]]:
    """Judge files that were cut. Returns errors of those that are too bad, by URI.

    Args:
        receipts: Those of all tasks of a batch.
        names: The names of its files, by URI.
        most: Largest share of rejected rows.
        pipeline: Whose share it is.
    """
    cut = {uri for receipt in receipts for uri in receipt.faults}
    errors = {}
    for uri in sorted(cut):
        tally = sum((r.tallies[uri] for r in receipts if uri in r.tallies), Tally())
        faults = sum((r.faults[uri] for r in receipts if uri in r.faults), Faults())
        if _exceeds(tally, most) and (most is not None or not _left_out(faults)):
            errors[uri] = _error(names[uri], tally, faults, most, pipeline).to_dict()
    return errors


def rule_name(column: str | None, rule: str) -> str:
    """Name a rule for counts: ``column:rule``.

    Args:
        column: The one that it is about; none if it is about records.
        rule: Its own name.
    """
    return f"{column}:{rule}" if column else rule


def _whole(piece: Piece) -> bool:
    return piece.start == 0 and piece.stop is None


def _exceeds(tally: Tally, most: float | None) -> bool:
    if most is None:
        return 0 < tally.rows_in == tally.rejected
    return tally.rows_in > 0 and tally.rejected / tally.rows_in > most


def _left_out(faults: Faults) -> bool:
    """Tell whether all faults are rows that `clean` has left out."""
    return set(faults.rules) == {LEFT_OUT}


def _faults(rejects: Iterable[pa.Table], uris: Iterable[str]) -> dict[str, Faults]:
    wanted = pa.array(list(uris), pa.string())
    rules: dict[str, Counter[str]] = {uri: Counter() for uri in wanted.to_pylist()}
    values: dict[str, Counter[str]] = {uri: Counter() for uri in wanted.to_pylist()}
    for table in rejects:
        some = table.filter(pc.is_in(table["source"], wanted)).select(["source", "rule", "column", "value"])
        for uri, rule, column, value in zip(*(c.to_pylist() for c in some.columns), strict=True):
            rules[uri][rule_name(column, rule)] += 1
            if column is not None or value is not None:
                shown = "null" if value is None else repr(value)
                values[uri][f"{shown} in {column}" if column else shown] += 1
    return {uri: Faults(rules=_sorted(rules[uri]), values=_sorted(values[uri], MOST_VALUES)) for uri in rules}


def _sorted(counts: Mapping[str, int], most: int | None = None) -> dict[str, int]:
    """Sort the commonest first, ties by name. So the same file fails in the same words."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


def _error(name: str, tally: Tally, faults: Faults, most: float | None, pipeline: str) -> QualityError:
    share = f"{100 * tally.rejected / tally.rows_in:.4g} % ({tally.rejected:,} of {tally.rows_in:,})"
    limit = f"a row of {name} that can be published"
    if most is not None:
        limit = f"at most {100 * most:.4g} % of the rows of {name} rejected (max_reject_ratio of '{pipeline}')"
    rules = ", ".join(f"{count:,} {rule}" for rule, count in _sorted(faults.rules).items())
    values = ", ".join(f"{value} ({count:,})" for value, count in _sorted(faults.values, SHOWN).items())
    return QualityError(
        "Too many rows are rejected",
        expected=limit,
        got=f"{share}: {rules}" + (f"; commonest bad values: {values}" if values else ""),
        fix="Nothing of it was published. Correct the file or the pipeline; `ingestlab check` shows its rejects.",
    )
