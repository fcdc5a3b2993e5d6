"""Brings all parts of a table to one schema and into one set of folders: what `ingestlab rewrite` runs.

One commit, by the protocol of every other: all new parts, or none. Jobs that append meanwhile go on; what they
commit while the new parts are made is rewritten in another round, and a job that would add parts of the old kind
afterwards finds out at its own commit and begins again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ingestlab.core.errors import TerminalError, TransientError, attempt, did_you_mean, unaccounted
from ingestlab.core.models import DataFile, digest
from ingestlab.engine.replacing import replacement
from ingestlab.engine.services import Services
from ingestlab.engine.task.refold import Refold, Refolded, refold
from ingestlab.lake.arrow_schema import parse_type, type_text
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Table, new_run
from ingestlab.lake.table_schema import Schema, exactly, schema_of
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.pipeline.pipeline import Pipeline

_FROM_NAMES = (pa.date32(), pa.int64(), pa.int32(), pa.int16(), pa.int8())  # that folders' names can be read as
_ROUNDS = 20  # at most, while others append parts of the old kind


@dataclass(frozen=True)
class Rewritten:
    """What has become of a table.

    Attributes:
        table: Its name.
        parts: How many were written.
        before: How many there were of those.
        rows: In them.
        folders: The columns that folders name now.
        types: Of the columns, as text.
    """

    table: str
    parts: int = 0
    before: int = 0
    rows: int = 0
    folders: tuple[str, ...] = ()
    types: Mapping[str, str] | None = None

    def __str__(self) -> str:
        if not self.before:
            return f"{self.table}: all parts have one schema already"
        where = f" in folders by {', '.join(self.folders)}" if self.folders else ""
        return f"{self.table}: {self.rows:,} rows, {self.before:,} → {self.parts:,} parts of one schema{where}"


def rewrite(
    table: str, services: Services, *, tenant: str | None = None, types: Mapping[str, str] | None = None
) -> Rewritten:
    """Rewrite a table to one schema, in the folders of its pipeline.

    Args:
        table: Its name.
        services: The connections to use.
        tenant: The tenant of the table.
        types: Types that columns are to have; others have that which the pipeline's reader declares, if all
            values are of it, or else the one in which readers of the table show them.

    Raises:
        TerminalError: There is no such table, type or column; or a value is not of a column's new type.
        TransientError: Another job is replacing parts of this table, or appends without end.
    """
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    asked = {name: type_text(_asked(name, text)) for name, text in (types or {}).items()}
    work = _Work(services.table(tenant, table), asked, services)
    done = Rewritten(table)
    for _ in range(_ROUNDS):
        more = work.round()
        if more is None:
            return done
        done = Rewritten(
            table, done.parts + more.parts, done.before + more.before, done.rows + more.rows, more.folders, more.types
        )
    raise TransientError(f"Table {table} kept changing: commits all the while", fix="Try again.", code="lake_busy")


def _asked(name: str, text: str) -> pa.DataType:
    try:
        return parse_type(text)
    except ValueError as error:
        fix = "E.g. int64, double, string, timestamp[us], decimal128(12, 2)."
        problem = f"Not an Arrow type for column '{name}': {text!r}"
        raise TerminalError(problem, fix=fix, code="argument_invalid") from error


class _Work:
    """One rewriting: a round is a commit."""

    def __init__(self, table: Table, asked: Mapping[str, str], services: Services) -> None:
        self._table, self._asked, self._services = table, asked, services
        self._run = new_run("rewrite")

    def round(self) -> Rewritten | None:
        """Rewrite the parts that are not as wanted; None if all are."""
        with self._table.transaction("rewrite", run=self._run) as transaction:
            history = self._table.history()
            code = self._code(history[-1].pipeline)
            parts = [p for p in live_parts(history) if p.target.startswith(f"{self._table.folder}/")]
            schema = schema_of(self._table.store, self._table.where, history)
            folders = load(code).folders if code else max(schema.folders, key=len, default=())
            kinds = self._kinds(schema, parts, load(code) if code else None, folders)
            old = parts if _is_mixed(schema, kinds, folders) else []
            if not old:
                return None
            names = [p.target for p in old]
            batch = digest({"rewrite": self._table.where, "parts": names, "types": kinds, "by": folders})[:24]
            with transaction.batch(batch):
                new = tuple(part for done in self._refold(batch, old, kinds, folders) for part in done.parts)
                done = replacement(new, names, batch, self._table, code, history, self._services)
                types = {name: (kind,) for name, kind in kinds.items()}
                transaction.commit(done.change(history, types=types))
        return Rewritten(self._table.name, len(new), len(old), sum(p.rows for p in new), folders, kinds)

    def _code(self, name: str) -> PipelineSource | None:
        """Return the present pipeline; None for tables without one."""
        code = Catalog.read(self._services.settings).sources.get(name)
        if code is not None:
            load(code)  # one that does not load says so: its folders are what is asked for
        return code

    def _kinds(
        self, schema: Schema, parts: Sequence[DataFile], pipeline: Pipeline | None, folders: Sequence[str]
    ) -> dict[str, str]:
        """Choose the type of each column: asked for, else declared if it fits, else that of readers."""
        names = schema.types.keys()
        if unknown := sorted(self._asked.keys() - names):
            have = ", ".join(names)
            problem = f"Table {self._table.name} has no column '{unknown[0]}', but {have}"
            raise TerminalError(problem, fix=did_you_mean(unknown[0], names, "Check the name."), code="column_unknown")
        shown = {n: type_text(kind) for n, kind in exactly(schema, self._table.store, parts).items()}
        leaving = set(schema.folder_columns) - set(folders)
        single = {
            name: kinds[0]
            for name, kinds in schema.types.items()
            if len(kinds) == 1 and (name not in leaving or parse_type(kinds[0]) in _FROM_NAMES)
        }
        return {**shown, **single, **self._declared(schema, parts, pipeline), **self._asked}

    def _declared(self, schema: Schema, parts: Sequence[DataFile], pipeline: Pipeline | None) -> dict[str, str]:
        """Pick what the reader declares for other columns, if all values fit."""
        columns = getattr(getattr(pipeline, "reader", None), "columns", None) or {}
        fitting = {}
        for name, said in columns.items():
            kind = attempt(_asked, name, str(said))
            if name in schema.types and not isinstance(kind, TerminalError):
                both = Schema({name: (*schema.types[name], type_text(kind))}, schema.folders)
                if exactly(both, self._table.store, parts)[name] == kind:
                    fitting[name] = type_text(kind)
        return fitting

    def _refold(
        self, batch: str, old: Sequence[DataFile], kinds: Mapping[str, str], folders: Sequence[str]
    ) -> list[Refolded]:
        """Rewrite each part in a task. Rows that are lost, doubled or do not fit end it all."""
        settings = self._services.settings
        work = [
            Refold(part=p, types=dict(kinds), folders=tuple(folders), home=self._table.folder, batch=batch, number=i)
            for i, p in enumerate(old)
        ]
        calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
        keys = [f"refold-{self._table.name}-{batch[:8]}-{i}" for i in range(len(work))]
        done = [Refolded.from_dict(result) for _, result in self._services.cluster.map(refold, calls, keys)]
        for refolded in done:
            if refolded.misfit:
                fix = f"Choose another: `ingestlab rewrite {self._table.name} --type {refolded.misfit}=string`."
                problem = f"Values of column '{refolded.misfit}' are not of type {kinds[refolded.misfit]}"
                raise TerminalError(problem, got=f"e.g. {refolded.value}", fix=fix, code="types_conflict")
        rows, had = sum(p.rows for refolded in done for p in refolded.parts), sum(p.rows for p in old)
        if rows != had:
            raise unaccounted("New data files have another number of rows", f"{had:,}", f"{rows:,}")
        return done


def _is_mixed(schema: Schema, kinds: Mapping[str, str], folders: Sequence[str]) -> bool:
    """Tell whether a part has other folders or types than wanted."""
    if any(tuple(names) != tuple(folders) for names in schema.folders):
        return True
    return any(set(schema.types[name]) != {kind} for name, kind in kinds.items() if name in schema.types)
