"""Brings all parts of a table to one schema and into one set of folders: what `ingestlab rewrite` runs.

One commit, by the protocol of every other: all new parts, or none. Jobs that append meanwhile go on; what they
commit while the new parts are made is rewritten in another round, and a job that would add parts of the old kind
afterwards finds out at its own commit and begins again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from ingestlab.analytics.aggregates.files import restate_all
from ingestlab.analytics.profiles.files import reprofile
from ingestlab.analytics.table_schema import Schema, exactly, schema_of
from ingestlab.core.access import check_tenant
from ingestlab.core.errors import TerminalError, TransientError, attempt
from ingestlab.core.models import Manifest, Part, Profiled, digest
from ingestlab.engine.commit import all_or_nothing, commit
from ingestlab.engine.ingest import Context
from ingestlab.engine.task.refold import Refold, Refolded, refold
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import parse_type, type_text
from ingestlab.lake.ledger import Lease, batch_lock
from ingestlab.lake.log import live_parts, with_states
from ingestlab.maintenance.compact import history_of, hold
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
    table: str, context: Context, *, tenant: str | None = None, types: Mapping[str, str] | None = None
) -> Rewritten:
    """Rewrites the parts of a table to one schema, in the folders that its pipeline wants now.

    Args:
        table: Its name.
        context: The connections to use.
        tenant: Whose table it is.
        types: Types that columns are to have; others have that which the pipeline's reader declares, if all
            values are of it, or else the one in which readers of the table show them.

    Raises:
        TerminalError: There is no such table, type or column; or a value is not of a column's new type.
        TransientError: Another job is replacing parts of this table, or appends without end.
    """
    tenant = tenant or context.settings.tenant
    check_tenant(tenant, context.settings)
    asked = {name: type_text(_asked(name, text)) for name, text in (types or {}).items()}
    work = _Work((tenant, table), asked, context)
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
        raise TerminalError(
            f"Not a type: {text!r}",
            expected=f"an Arrow type for column '{name}'",
            got=repr(text),
            fix=fix,
            code="argument_invalid",
        ) from error


class _Work:
    """One rewriting: a round is a commit."""

    def __init__(self, where: tuple[str, str], asked: Mapping[str, str], context: Context) -> None:
        self._where, self._asked, self._context = where, asked, context
        self._home = layout.table(*where)
        self._run = f"rewrite-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"

    def round(self) -> Rewritten | None:
        """Rewrites the parts that are not as they are to be; None if there is none."""
        store, ledger, vectors = self._context.store, self._context.ledger, self._context.vectors
        with ledger.lease() as lease:
            hold(self._where, self._context, lease)
            history = history_of(self._where, self._context.store)
            code = self._code(history[-1].pipeline)
            parts = [p for p in live_parts(history) if p.target.startswith(f"{self._home}/")]
            found = schema_of(store, self._where, history)
            folders = load(code).folders if code else max(found.folders, key=len, default=())
            kinds = self._kinds(found, parts, load(code) if code else None, folders)
            old = parts if _is_mixed(found, kinds, folders) else []
            if not old:
                return None
            names = [p.target for p in old]
            batch = digest({"rewrite": self._where, "parts": names, "types": kinds, "by": folders})[:24]
            lease.acquire([batch_lock(batch)])
            with all_or_nothing(*self._where, batch, store, ledger, lease, vectors):
                done = self._refold(batch, old, kinds, folders)
                new = tuple(part for one in done for part in one.parts)
                states, profile = self._states(batch, new, code), self._profile(new, names, history)
                manifest = self._manifest(batch, new, states, profile, names, kinds, history, lease)
                commit(manifest, store, ledger, lease, vectors)
        return Rewritten(self._where[1], len(new), len(old), sum(p.rows for p in new), folders, kinds)

    def _code(self, name: str) -> PipelineSource | None:
        """The pipeline as it is now; None for tables without one."""
        code = Catalog.read(self._context.settings).sources.get(name)
        if code is not None:
            load(code)  # one that does not load says so: its folders are what is asked for
        return code

    def _kinds(
        self, found: Schema, parts: Sequence[Part], pipeline: Pipeline | None, folders: Sequence[str]
    ) -> dict[str, str]:
        """The type of each column: asked for, else declared if it holds all values, else that of readers."""
        names = found.types.keys()
        if unknown := sorted(self._asked.keys() - names):
            have = ", ".join(names)
            raise TerminalError(
                f"There is no column '{unknown[0]}'",
                expected=f"columns of {self._where[1]} ({have})",
                got=f"'{unknown[0]}'",
                fix="Check the name.",
                code="column_unknown",
            )
        shown = {n: type_text(kind) for n, kind in exactly(found, self._context.store, parts).items()}
        leaving = set(found.folder_columns) - set(folders)
        single = {
            name: kinds[0]
            for name, kinds in found.types.items()
            if len(kinds) == 1 and (name not in leaving or parse_type(kinds[0]) in _FROM_NAMES)
        }
        return {**shown, **single, **self._declared(found, parts, pipeline), **self._asked}

    def _declared(self, found: Schema, parts: Sequence[Part], pipeline: Pipeline | None) -> dict[str, str]:
        """What a reader declares, of those columns that have another type and whose values are all of it."""
        columns = getattr(getattr(pipeline, "reader", None), "columns", None) or {}
        fitting = {}
        for name, said in columns.items():
            kind = attempt(_asked, name, str(said))
            if name in found.types and not isinstance(kind, TerminalError):
                both = Schema({name: (*found.types[name], type_text(kind))}, found.folders)
                if exactly(both, self._context.store, parts)[name] == kind:
                    fitting[name] = type_text(kind)
        return fitting

    def _refold(
        self, batch: str, old: Sequence[Part], kinds: Mapping[str, str], folders: Sequence[str]
    ) -> list[Refolded]:
        """One Dask task a part; rows that are lost or doubled on the way, or do not fit, end it all."""
        settings = self._context.settings
        work = [
            Refold(part=p, types=dict(kinds), folders=tuple(folders), home=self._home, batch=batch, number=i)
            for i, p in enumerate(old)
        ]
        calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
        keys = [f"refold-{self._where[1]}-{batch[:8]}-{i}" for i in range(len(work))]
        done = [Refolded.from_dict(found) for _, found in self._context.cluster.map(refold, calls, keys)]
        for one in done:
            if one.misfit:
                fix = f"Choose another: `ingestlab rewrite {self._where[1]} --type {one.misfit}=string`."
                raise TerminalError(
                    "Values do not fit the new type",
                    expected=f"{kinds[one.misfit]} in column '{one.misfit}'",
                    got=f"e.g. {one.value}",
                    fix=fix,
                    code="types_conflict",
                )
        rows, had = sum(p.rows for one in done for p in one.parts), sum(p.rows for p in old)
        if rows != had:
            fix = "Nothing was published. This is a fault in ingestlab or its storage: please report it."
            raise TerminalError(
                "New data files have another number of rows",
                expected=f"{had:,} rows in the new parts",
                got=f"{rows:,}",
                fix=fix,
                code="inconsistent",
            )
        return done

    def _states(self, batch: str, parts: Iterable[Part], code: PipelineSource | None) -> list[Part]:
        if code is None:
            return []
        return restate_all(parts, batch, self._where, code, self._context.cluster, self._context.settings)

    def _profile(self, parts: Sequence[Part], gone: Sequence[str], history: Sequence[Manifest]) -> tuple[Profiled, ...]:
        live, context = list(live_parts(history)), self._context
        return reprofile(parts, gone, history, live, self._home, context.cluster, context.settings)

    def _manifest(
        self,
        batch: str,
        parts: tuple[Part, ...],
        states: Sequence[Part],
        profile: tuple[Profiled, ...],
        gone: Sequence[str],
        kinds: Mapping[str, str],
        history: Sequence[Manifest],
        lease: Lease,
    ) -> Manifest:
        (tenant, table), last = self._where, history[-1]
        return Manifest(
            batch=batch,
            run=self._run,
            tenant=tenant,
            table=table,
            pipeline=last.pipeline,
            code=last.code,
            committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            sources=(),
            parts=parts,
            states=tuple(states),
            profile=profile,
            replaced=with_states(gone, history),
            kind="rewrite",
            owner=lease.token,
            types={name: (kind,) for name, kind in kinds.items()},
        )


def _is_mixed(found: Schema, kinds: Mapping[str, str], folders: Sequence[str]) -> bool:
    """Whether some part is in other folders, or has a column of another type, than is wanted."""
    if any(tuple(names) != tuple(folders) for names in found.folders):
        return True
    return any(set(found.types[name]) != {kind} for name, kind in kinds.items() if name in found.types)
