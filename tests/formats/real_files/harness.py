"""Files as people have them, one line a case: what goes in, and the right values beside it.

A module ``cases_<area>.py`` has a list ``CASES``. Each case is submitted to a running stack, and read by its
reader alone, whole and in pieces; all three must say the same.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile, Outcome, Piece
from ingestlab.interfaces import Records
from ingestlab.lake.storage.store import LocalStore
from ingestlab.pipeline.catalog import generic, load
from ingestlab.pipeline.pipeline import Pipeline

Columns = Mapping[str, Sequence[Any]]
_OWN = ("_source", "_row")


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A file that is in the table before a case's own; its pipeline is the case's own where nothing is said."""

    file: str
    data: bytes
    reader: str | None = None
    options: str | None = None
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file and what is right.

    Attributes:
        name: Of the case: letters, digits and ``_``; its table has the same.
        file: Name of the file, whose suffix says the format where there is no reader.
        data: Its bytes.
        reader: Python of the reader, e.g. ``'Csv(columns={"id": "int64"})'``; empty for no pipeline at all.
        options: Python of further arguments of Pipeline, e.g. ``'partition_by="day"'``.
        code: Python before the pipeline, e.g. a function ``clean``.
        rows: The published values by column, in the order of the file's records; None where the file fails.
        types: Arrow's names for the types of some columns.
        rejects: Number of the record and rule, ``(3, "type")`` or ``(3, "column:type")``, ascending.
        error: Some words of the error, all of which must be in it, where the file fails.
        facts: Words that the facts of that name must hold.
        earlier: Files that are committed to the same table before.
        read: Whether the reader alone must say the same; not where `clean` or a contract has a say.
    """

    name: str
    file: str
    data: bytes = field(repr=False)
    reader: str = ""
    options: str = ""
    code: str = ""
    rows: Columns | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    rejects: Sequence[tuple[int, str]] = ()
    error: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[Earlier] = ()
    read: bool = True

    def __post_init__(self) -> None:
        assert (self.rows is None) == bool(self.error), f"{self.name}: rows, or the words of an error"

    @property
    def by_reader(self) -> bool:
        """Whether the reader alone decides what comes out."""
        return self.read and not (self.code or self.options or self.earlier)

    def pipeline(self, earlier: Earlier | None = None) -> str:
        """Python of the pipeline; empty for none."""
        said = [(getattr(earlier, n) if earlier else None, getattr(self, n)) for n in ("reader", "options", "code")]
        reader, options, code = (mine if other is None else other for other, mine in said)
        if not (reader or options or code):
            return ""
        text = f"from ingestlab import *\n{code}\nPIPELINE = Pipeline(reader={reader or 'Csv()'}, {options})\n"
        return text.replace(", )", ")")

    @property
    def loads(self) -> bool:
        """Whether its pipeline can be loaded."""
        return not isinstance(attempt(self.loaded), TerminalError)

    def loaded(self) -> Pipeline:
        """The pipeline as a worker has it."""
        source = generic(self.file, self.name)
        return load(source.model_copy(update={"text": self.pipeline()}) if self.pipeline() else source)


@cache
def all_cases() -> tuple[Case, ...]:
    """The cases of all areas; their names differ."""
    modules = sorted(p.stem for p in Path(__file__).parent.glob("cases_*.py"))
    cases = tuple(case for name in modules for case in importlib.import_module(name).CASES)
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    return cases


@dataclass(frozen=True)
class Found:
    """What became of a case: values by column and their types, rejects, and the words of the error."""

    rows: pa.Table | None
    rejects: tuple[tuple[int, str | None, str], ...] = ()
    error: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def check(self, case: Case) -> None:
        """Compares with what is right."""
        if case.rows is None:
            assert self.error, f"no error, but {self.rows.to_pylist() if self.rows else None}, {self.rejects}"
            missing = [words for words in case.error if words.lower() not in self.error.lower()]
            assert not missing, f"{missing} not in: {self.error}"
            return
        assert not self.error, self.error
        assert self.rows is not None
        got = {n: self.rows[n].to_pylist() for n in self.rows.column_names if n not in _OWN}
        if self.rows.num_rows == 0 and not got:  # a table without any part knows no columns
            got = {n: [] for n in case.rows}
        assert [(n, list(map(typed, got[n]))) for n in got] == [(n, list(map(typed, case.rows[n]))) for n in case.rows]
        types = {name: str(plain(self.rows.schema.field(name).type)) for name in case.types}
        assert types == dict(case.types)
        rules = [(row, f"{column}:{rule}" if column else rule, rule) for row, column, rule in self.rejects]
        wanted = [(row, rule) for row, rule in case.rejects]
        shown = [(row, full if (row, full) in wanted else rule) for row, full, rule in rules]
        assert shown == wanted
        for name, words in case.facts.items():
            assert words.lower() in self.facts.get(name, "").lower(), dict(self.facts)


def typed(value: Any) -> Any:
    """A value with its type, so that 1, 1.0 and True differ, and NaN is itself."""
    if isinstance(value, list):
        return [typed(v) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return type(value).__name__, value


def plain(kind: pa.DataType) -> pa.DataType:
    """A type without what only says how it is stored."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(kind) else kind


def read_whole(case: Case, folder: Path) -> Found:
    """What the reader makes of the whole file."""
    return _read(case, folder, lambda file, store, reader: [_whole(file)])


def read_in_pieces(case: Case, folder: Path, pieces: int = 3) -> Found:
    """What it makes of the same file, cut if it is one that can be cut."""
    size = max(1, len(case.data) // pieces)
    return _read(case, folder, lambda file, store, reader: reader.split(file, store, size))


def _whole(file: FetchedFile) -> Piece:
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)


def _read(case: Case, folder: Path, split: Callable[[FetchedFile, LocalStore, Any], Sequence[Piece]]) -> Found:
    (folder / case.file).write_bytes(case.data)
    store = LocalStore(str(folder))
    file = FetchedFile(uri=f"file:///{case.file}", path=case.file, name=case.file, size=len(case.data), sha256="0")
    try:
        reader = case.loaded().reader
        records = [reader.read(piece, store) for piece in split(file, store, reader)]
    except TerminalError as error:
        return Found(None, error=str(error))
    return join(records)


def join(pieces: Sequence[Records]) -> Found:
    """Records of all pieces of a file; the pieces must agree on types and on facts."""
    assert len({str(r.table.schema) for r in pieces}) == 1, [r.table.schema for r in pieces]
    assert len({tuple(sorted(r.facts.items())) for r in pieces}) == 1, [dict(r.facts) for r in pieces]
    bad = tuple((b.row, b.column, b.rule) for r in pieces for b in r.bad)
    rows = [row for r in pieces for row in r.rows.tolist()]
    assert rows == sorted(set(rows)), "record numbers"
    assert not set(rows) & {row for row, _, _ in bad}, "a record is a row or a reject"
    table = pa.concat_tables([r.table for r in pieces])
    return Found(table, tuple(sorted(bad, key=lambda b: b[0])), facts=dict(pieces[0].facts))


def published(table: pa.Table, rejects: pa.Table, outcome: Outcome) -> Found:
    """What a run made of a file: its published rows and rejects, as the lake shows them."""
    if outcome.error:
        return Found(None, error=str(outcome.exception()), facts=outcome.facts)
    mine = table.filter(pc.equal(table["_source"].cast(pa.string()), outcome.uri)).sort_by("_row")
    bad = rejects.filter(pc.equal(rejects["source"].cast(pa.string()), outcome.uri)) if rejects.num_rows else rejects
    found = [(r["row"], r["column"], r["rule"]) for r in bad.to_pylist()]
    return Found(mine, tuple(sorted(found, key=lambda b: b[0])), facts=outcome.facts)
