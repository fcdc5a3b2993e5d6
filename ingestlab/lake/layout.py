"""The places of everything in a lake; all paths are relative to it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from urllib.parse import quote

_OWN = "_ingestlab"
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_TIMED = re.compile(r"\d{8}-\d{6}-")
_ASCII = re.compile(r"[\x00-\x7f]+")


def raw(tenant: str = "", pipeline: str = "") -> str:
    """Folder of downloaded bytes.

    Args:
        tenant: Whose files; empty for all.
        pipeline: Its name; empty for all.
    """
    return "/".join(p for p in ("raw", tenant, pipeline) if p)


def salt(tenant: str) -> str:
    """File with the secret that a tenant's masked values are hashed with.

    Args:
        tenant: Whose; empty for a dry run's.
    """
    return f"{_OWN}/salts/{tenant or '_'}"


def audit(hour: str = "") -> str:
    """Folder of the audit log: of all of it, or of an hour.

    Args:
        hour: As ``2026-11-29T20``.
    """
    return "/".join(p for p in (_OWN, "audit", hour) if p)


def pulls(tenant: str, pipeline: str, uri: str = "") -> str:
    """Folder of waiting pages: of all record sources, or of one.

    Args:
        tenant: Whose records.
        pipeline: That declares the source.
        uri: Of the source; empty for all.
    """
    name = hashlib.sha256(uri.encode()).hexdigest()[:16] if uri else ""
    return "/".join(p for p in (raw(tenant, pipeline), "_pulls", name) if p)


def table(tenant: str, name: str) -> str:
    """Folder of a table: published parts, and its Delta log if there is one.

    Args:
        tenant: Whose table.
        name: Of the table.
    """
    return f"tables/{tenant}/{name}"


def rejects(name: str) -> str:
    """Name of the table that holds another's rejects."""
    return f"{name}__rejects"


def references(pipeline: str) -> str:
    """Name under which versions of references are remembered. No table has it."""
    return f"{pipeline}__references"


def partials_file(tenant: str, name: str, aggregate: str, code: str, part: str) -> str:
    """File of the partial aggregates of one part.

    Args:
        tenant: Whose table.
        name: Of the table.
        aggregate: Its name.
        code: Names its declaration.
        part: Path of the part.
    """
    return f"{table(tenant, beside(name, aggregate))}/{code}-{part_key(part)}.parquet"


def part_key(part: str) -> str:
    """Return the end of the names of a part's partial aggregates."""
    return hashlib.sha256(part.encode()).hexdigest()[:24]


def partials_key(target: str) -> str:
    """Return the :func:`part_key` of the part of some partial aggregates."""
    return target[-len(".parquet") - 24 : -len(".parquet")]


def iceberg(tenant: str = "", name: str = "") -> str:
    """Folder of the Iceberg metadata of all tables, or of one.

    Args:
        tenant: Whose table; empty for all.
        name: Of the table; empty for all.
    """
    return "/".join(p for p in ("iceberg", tenant, name) if p)


def unregistered(tenant: str = "", name: str = "") -> str:
    """Folder of notes on catalogues that lack commits.

    Args:
        tenant: Whose table; empty for all.
        name: Of the table; empty for all.
    """
    return "/".join(p for p in (_OWN, "unregistered", tenant, name) if p)


def materialized(tenant: str, name: str, aggregate: str) -> str:
    """File of an aggregate that `ingestlab materialize` writes, outside of tables.

    Args:
        tenant: Whose table.
        name: Of the table.
        aggregate: Its name.
    """
    return f"aggregates/{tenant}/{name}/{aggregate}.parquet"


def staging(batch: str) -> str:
    """Folder of a batch's unpublished files. None ends in `.parquet`, which readers look for."""
    return f"{_OWN}/staging/{batch}"


def key_indexes(tenant: str, name: str, columns: Sequence[str]) -> str:
    """Folder of the indexes of a table's keys, outside of the table.

    Args:
        tenant: Whose table.
        name: Of the table.
        columns: Of the key.
    """
    return f"{_OWN}/keys/{tenant}/{name}/{part_key(json.dumps(list(columns)))}"


def key_index(tenant: str, name: str, part: str, columns: Sequence[str]) -> str:
    """File that tells the keys of one data file.

    Args:
        tenant: Whose table.
        name: Of the table.
        part: Path of the data file.
        columns: Of the key.
    """
    return f"{key_indexes(tenant, name, columns)}/{part_key(part)}.keys"


def stagings() -> str:
    """Folder of all staging folders."""
    return f"{_OWN}/staging"


def beside(name: str, what: str) -> str:
    """Name of the folder of a sink beside a table.

    Args:
        name: Of the table.
        what: The sink's own name for it.
    """
    return f"{name}__{what}"


def costly(batch: str = "") -> str:
    """Folder of staged files that outlive a failed try: of a batch, or of all."""
    return "/".join(p for p in (_OWN, "embedded", batch) if p)


def intents(tenant: str = "", name: str = "") -> str:
    """Folder of the intents: of all tables, or of one."""
    return "/".join(p for p in (_OWN, "intents", tenant, name) if p)


def intent(tenant: str, name: str, batch: str) -> str:
    """File that says what a commit is about to do."""
    return f"{intents(tenant, name)}/{batch}.json"


def logs(tenant: str = "", name: str = "") -> str:
    """Folder of the logs: of all tables, or of one."""
    return "/".join(p for p in (_OWN, "log", tenant, name) if p)


def entries(tenant: str, name: str, number: int) -> str:
    """Folder of the hundred log entries around a number."""
    return f"{logs(tenant, name)}/{number // 100:08d}"


def entry(tenant: str, name: str, number: int) -> str:
    """Return the path of the file that makes a commit published.

    Args:
        tenant: Its owner.
        name: The table.
        number: Of the entry in the table's log.
    """
    return f"{entries(tenant, name, number)}/{number:010d}.json"


def checkpoints(tenant: str, name: str) -> str:
    """Folder of the checkpoints of a table's log."""
    return f"{logs(tenant, name)}/checkpoints"


def checkpoint(tenant: str, name: str, number: int) -> str:
    """File with all that is live after an entry."""
    return f"{checkpoints(tenant, name)}/{number:010d}.parquet"


def manifests(tenant: str = "", name: str = "") -> str:
    """Folder of the manifests that versions before 0.2 wrote: of all tables, or of one."""
    return "/".join(p for p in (_OWN, "manifests", tenant, name) if p)


def manifest(tenant: str, name: str, batch: str) -> str:
    """File that made a batch published before 0.2. Since then, the name of a commit in `decided_by`."""
    return f"{manifests(tenant, name)}/{batch}.json"


def frames(hour: str = "") -> str:
    """Folder of published frames that wait for a worker: of an hour, or of all."""
    return "/".join(p for p in (_OWN, "frames", hour) if p)


def kept(tenant: str = "", name: str = "") -> str:
    """Folder of replaced files that are kept: of all tables, or of one.

    Args:
        tenant: Whose table; empty for all.
        name: Of the table; empty for all.
    """
    return "/".join(p for p in (_OWN, "history", tenant, name) if p)


def kept_file(tenant: str, name: str, replaced_at: str, target: str) -> str:
    """Place of a replaced file, in the folder of an hour.

    Args:
        tenant: Whose table.
        name: Of the table.
        replaced_at: When the commit was made that replaced it, as its manifest says.
        target: Where the file was published.
    """
    hour = f"{replaced_at[:10].replace('-', '')}-{replaced_at[11:13]}"
    return f"{kept(tenant, name)}/{hour}/{target.removeprefix(f'tables/{tenant}/')}"


def run_record(run: str, job: str) -> str:
    """File that keeps how a job of a run ended."""
    return f"{run_records(run)}/{job}.json"


def run_records(run: str = "") -> str:
    """Folder of the records of a run, or of all runs. It is in that of its hour where its id tells the time."""
    hour = run[:11] if _TIMED.match(run) else ""
    return "/".join(p for p in (_OWN, "runs", hour, run) if p)


def old_run_records(run: str) -> str:
    """Folder of the records of a run before 0.2."""
    return f"{_OWN}/runs/{run}"


def executed(run: str, name: str) -> str:
    """File that keeps a notebook, or its page, that drove a run.

    Args:
        run: Its id.
        name: Of the file.
    """
    return f"{_OWN}/notebooks/{run}/{name}"


def folder(column: str, value: object) -> str:
    """Hive's name for a partition folder, e.g. ``day=2017-10-23``.

    Letters beyond ASCII stand as they are, as Spark writes them and as all tools read them; readers of ours know
    folders with such letters quoted, too.
    """
    text = NULL_FOLDER if value is None else _ASCII.sub(lambda part: quote(part[0], safe=" "), str(value))
    return f"{column}={text}"
