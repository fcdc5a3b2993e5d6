"""Reads the profile of a table: of the rows that it has now, and of what each of its runs has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingestlab.analytics.profiles.files import believed, profile_of
from ingestlab.analytics.profiles.merging import merge
from ingestlab.analytics.profiles.report import RunProfile, TableProfile
from ingestlab.analytics.profiles.states import Profile
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import Manifest
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog, live_parts, manifests
from ingestlab.lake.table_schema import kinds_of

_TRIES = 3


def read_profile(store: Store, tenant: str, table: str, run: str | None = None) -> TableProfile:
    """Read a table's profile, and compare a run with earlier ones.

    Args:
        store: The lake.
        tenant: Whose table it is.
        table: Its name; rejects have no profile.
        run: The run to compare; without it, the last one that published rows.

    Raises:
        TerminalError: The run published nothing into this table, or a part of it is gone.
        TransientError: Parts were replaced as fast as they were looked up.
    """
    known: set[str] = set()
    for _ in range(_TRIES):
        history = manifests(store, tenant, table)
        try:
            past = TransactionLog(store, tenant, table).history()
            return _read_profile(store, layout.table(tenant, table), history, run, past)
        except FileNotFoundError as error:  # a commit has replaced a part since its manifest was read
            if known == (now := {m.batch for m in manifests(store, tenant, table)}):
                raise TerminalError.wrap(
                    error,
                    f"Not all data files of {table} can be read",
                    "`ingestlab reconcile` lists them.",
                    code="lake_damaged",
                ) from error
            known = now
    raise TransientError(f"Table {table} kept changing while it was being read", fix="Try again.", code="lake_busy")


def _read_profile(
    store: Store, home: str, history: Sequence[Manifest], run: str | None, past: Sequence[Manifest]
) -> TableProfile:
    live = [part for part in live_parts(history) if part.target.startswith(f"{home}/")]
    profiles = list(believed(history, live))
    covered = {target for profiled in profiles for target in profiled.parts}
    kinds = kinds_of(history)
    read = {
        part.target: profile_of(store, part.target, part.target[len(home) + 1 :], kinds)
        for part in live
        if part.target not in covered
    }
    return TableProfile(
        table=home.rsplit("/", 1)[1],
        now=merge([*(profiled.profile for profiled in profiles), *read.values()]),
        runs=_runs(past, read, run),
        read=len(read),
    )


def _runs(history: Sequence[Manifest], read: Mapping[str, Profile], run: str | None) -> tuple[RunProfile, ...]:
    """Merge what each run has published, up to the given run. The order is that of their last commits."""
    made: dict[str, list[Profile]] = {}
    ended: dict[str, str] = {}
    for manifest in history:
        if fresh := _published(manifest, read):
            made[manifest.run] = [*made.pop(manifest.run, ()), *fresh]
            ended[manifest.run] = manifest.committed_at
    if run is not None and run not in made:
        last = ", ".join(list(made)[-5:]) or "none"
        raise TerminalError(
            f"Run '{run}' published nothing here",
            expected=f"a run that published rows (the last: {last})",
            got=f"'{run}'",
            fix="`ingestlab runs` lists them.",
            code="run_unknown",
        )
    names = list(made)
    shown = names if run is None else names[: names.index(run) + 1]
    return tuple(RunProfile(name, ended[name], merge(made[name])) for name in shown)


def _published(manifest: Manifest, read: Mapping[str, Profile]) -> list[Profile]:
    """List the profiles of a commit's rows. Without profiles they come from its parts, as far as these were read."""
    if manifest.kind == "compact":
        return []
    if manifest.profile:
        return [profiled.profile for profiled in manifest.profile if not profiled.anew]
    return [read[part.target] for part in manifest.parts if part.target in read]
