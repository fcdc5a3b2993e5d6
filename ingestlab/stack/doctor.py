"""Checks of a set-up: one a function, each yields findings in plain words."""

from __future__ import annotations

import socket
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import redis
from distributed import Client

from ingestlab.core.errors import IngestError
from ingestlab.core.extras import install_command
from ingestlab.core.jobs import Listener
from ingestlab.core.mongodb import about, server_of
from ingestlab.core.settings import MISSED_BEATS, Settings
from ingestlab.formats.common.nulls import textual
from ingestlab.formats.compiled.loader import installed
from ingestlab.formats.csv.reader import Csv
from ingestlab.interfaces import Examined
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import Catalog, load
from ingestlab.queue.broker import broker
from ingestlab.sinks.catalogues.lag import lags
from ingestlab.sinks.milvus.vectors import open_vectors

Level = Literal["ok", "warning", "error"]
PATIENCE = 3.0  # seconds that a server may take to answer
COMPARED = ("python", "dask", "distributed", "cloudpickle", "pandas", "pyarrow")  # what tasks and results depend on


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        check: What was looked at: ``redis``, ``broker``, ``workers``, ``dask``, ``speed``, ``milvus``,
            ``mongodb``, ``lake``, ``catalogues`` or ``pipelines``.
        level: ``ok``, ``warning`` (it works, but not as well as it could) or ``error``.
        text: What was found, as a sentence.
        fix: What to do about it; empty if all is well.
    """

    check: str
    level: Level
    text: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Check everything that the settings name. It takes some seconds where servers do not answer."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        *(_redis, _dask, _speed, _milvus, _mongodb),
        *(_lake, _catalogues, _pipelines),
    )
    return [finding for check in checks for finding in check(settings)]


def _redis(settings: Settings) -> Iterator[Finding]:
    try:
        address, shown = settings.redis, settings.redis_shown
    except IngestError as error:
        yield Finding("redis", "error", f"{error.reason}.", error.fix)
        return
    with redis.Redis.from_url(address, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
        try:
            persistence = client.info("persistence")
            yield Finding("redis", "ok", f"Redis answers at {shown}.")
            yield from _append_only(persistence)
            queue = broker(settings, client)
            if isinstance(queue, Examined):
                yield from (Finding("broker", *finding) for finding in queue.examine())
            yield from _workers(queue.listeners(settings.queue), settings)
        except redis.AuthenticationError:
            fix = "Correct REDIS_PASSWORD or REDIS_URL."
            yield Finding("redis", "error", f"Redis at {shown} refuses the password.", fix)
        except redis.RedisError as error:
            fix = "Start it (`ingestlab up` for the embedded one), or correct REDIS_URL."
            yield Finding("redis", "error", f"Redis at {shown} cannot be reached: {error}", fix)


def _append_only(persistence: Mapping[str, Any]) -> Iterator[Finding]:
    if persistence.get("aof_enabled"):
        yield Finding("redis", "ok", "Redis keeps queued jobs in an append-only file.")
    else:
        fix = "Set `appendonly yes` in its configuration."
        text = "Redis has no append-only file: jobs that are queued when it dies are lost."
        yield Finding("redis", "warning", text, fix)


def _workers(listeners: list[Listener], settings: Settings) -> Iterator[Finding]:
    queue, now = settings.queue, datetime.now(UTC)
    own_workers = [worker for worker in listeners if worker.version]
    silent = [worker for worker in own_workers if worker.silence(now) > MISSED_BEATS * settings.beat]
    if not listeners:
        fix = "Start one with `ingestlab worker`, or a stack with `ingestlab up`."
        yield Finding("workers", "error", f"No worker listens on the queue '{queue}': jobs will wait.", fix)
    if healthy := len(own_workers) - len(silent):
        yield Finding("workers", "ok", f"Workers that listen on the queue '{queue}': {healthy}.")
    for worker in silent:
        fix = "If it hangs, kill it: another takes its job over. If it is dead, its entry goes within some minutes."
        text = f"Worker {worker.name} on {worker.host} has been silent for {worker.silence(now):.0f} s."
        yield Finding("workers", "warning" if healthy else "error", text, fix)
    for worker in listeners:
        if not worker.version:
            fix = "Start it with RQ_WORKER_CLASS=ingestlab.worker.IngestWorker."
            text = f"Worker {worker.name} on {worker.host} is a plain RQ worker, which cannot run these jobs."
            yield Finding("workers", "warning", text, fix)


def _dask(settings: Settings) -> Iterator[Finding]:
    address = settings.dask_scheduler
    if not address:
        fix = "Set DASK_SCHEDULER_ADDRESS, or start a stack with `ingestlab up`."
        text = "No Dask scheduler is named: every RQ worker processes its files on its own."
        yield Finding("dask", "warning", text, fix)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions elsewhere: told below
            with Client(address, timeout=PATIENCE, set_as_default=False) as client:
                versions = client.get_versions(packages=["pyarrow"])
    except (OSError, TimeoutError, ValueError) as error:
        fix = "Start it, or correct DASK_SCHEDULER_ADDRESS."
        yield Finding("dask", "error", f"The Dask scheduler at {address} cannot be reached: {error}", fix)
        return
    yield from _dask_workers(address, versions, "error" if _works_here(settings) else "warning")


def _works_here(settings: Settings) -> bool:
    """Tell whether this machine's packages send work to Dask: RQ workers run here, or none is known."""
    try:
        with redis.Redis.from_url(settings.redis, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
            listeners = broker(settings, client).listeners(settings.queue)
    except (redis.RedisError, IngestError):
        return True
    return not listeners or any(worker.host == socket.gethostname() for worker in listeners)


def _dask_workers(address: str, versions: dict[str, Any], level: Level) -> Iterator[Finding]:
    workers = versions["workers"]
    if not workers:
        yield Finding("dask", "error", f"The Dask cluster at {address} has no workers.", "Start some: `dask worker`.")
        return
    skews = list(_skew(versions["client"], workers))
    if not skews or level == "warning":
        versions_note = "" if skews else " with our versions"
        yield Finding("dask", "ok", f"Dask answers at {address}; workers{versions_note}: {len(workers)}.")
    fix = "Install the same versions everywhere, and restart the workers."
    if level == "warning":
        fix = "Submitting and reading is fine so; run no RQ worker here, and send no work of your own to Dask."
    for package, here, there, where in skews:
        yield Finding("dask", level, f"{package} is {here} here and {there} on Dask worker {', '.join(where)}.", fix)


def _skew(client: dict[str, Any], workers: dict[str, Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (package, version here, version there, addresses) for every difference."""
    for package in COMPARED:
        here, by_address = _version(client, package), {a: _version(w, package) for a, w in workers.items()}
        for there in sorted({v for v in by_address.values() if v != here}):
            yield package, here, there, [a for a, v in by_address.items() if v == there]


def _version(host: dict[str, Any], package: str) -> str:
    if package == "python":
        return ".".join(str(host["host"]["python"]).split(".")[:3])
    return str(host["packages"].get(package) or "missing")


def _speed(_: Settings) -> Iterator[Finding]:
    if not installed():
        text = "numba is not installed: CSV files with declared columns are read at about a third of the speed."
        yield Finding("speed", "warning", text, f"On the machines of the workers: {install_command('fast')}")


def _milvus(settings: Settings) -> Iterator[Finding]:
    if not settings.milvus_uri:  # which only pipelines with embeddings miss
        return
    try:
        store = open_vectors(settings.model_copy(update={"milvus_timeout": PATIENCE, "milvus_attempts": 1}))
        try:
            yield Finding("milvus", "ok", f"{store.about()} answers at {settings.milvus_shown}.")
        finally:
            store.close()
    except IngestError as error:
        yield Finding("milvus", "error", f"Milvus at {settings.milvus_shown} is of no use: {error.reason}.", error.fix)


def _mongodb(settings: Settings) -> Iterator[Finding]:
    if not settings.mongodb_uri:  # which only pipelines with documents miss
        return
    try:
        version = about(replace(server_of(settings), timeout=PATIENCE))
        yield Finding("mongodb", "ok", f"MongoDB {version} answers at {settings.mongodb_shown}.")
    except IngestError as error:
        problem = f"MongoDB at {settings.mongodb_shown} is of no use: {error.reason}."
        yield Finding("mongodb", "error", problem, error.fix)


def _lake(settings: Settings) -> Iterator[Finding]:
    name = f"_ingestlab/tmp/doctor-{uuid.uuid4().hex}"
    try:
        store = open_store(settings.lake_url, settings.storage_options)
        store.write(name, b"can this be written?")
        store.delete(name)
    except IngestError as error:
        yield Finding("lake", "error", f"The lake at {settings.lake_url} cannot be written: {error.reason}.", error.fix)
    except Exception as error:  # noqa: BLE001 - an object store's client raises what it likes
        fix = "Check INGESTLAB_LAKE and INGESTLAB_STORAGE_OPTIONS."
        yield Finding("lake", "error", f"The lake at {settings.lake_url} cannot be written: {error!r}.", fix)
    else:
        yield Finding("lake", "ok", f"The lake at {settings.lake_url} can be written.")
        named = next((step for step in settings.lake_url.split("/") if step.strip("=").find("=") > 0), "")
        if named:
            column = named.partition("=")[0]
            text = f"The folder '{named}' above the tables is a column '{column}' to DuckDB, in place of a table's own."
            yield Finding("lake", "warning", text, "Choose an INGESTLAB_LAKE without '=' in its folders.")


def _catalogues(settings: Settings) -> Iterator[Finding]:
    """Tell which catalogues lack commits. A lake that cannot be read is another check's."""
    try:
        only = settings.tenant if settings.tenant_token else ""
        behind = list(lags(open_store(settings.lake_url, settings.storage_options), only))
    except Exception:  # noqa: BLE001 - as said
        return
    for lag in behind:
        yield Finding("catalogues", "warning", f"Table {lag}", "Then run `ingestlab reconcile`.")


def _pipelines(settings: Settings) -> Iterator[Finding]:
    sources = Catalog.read(settings).sources
    folders = ", ".join(str(Path(folder).absolute()) for folder in settings.pipelines)
    if not sources:
        fix = "Set INGESTLAB_PIPELINES to the folder that has them."
        text = f"No pipeline in {folders}: files are read as their format says, and nothing is checked."
        yield Finding("pipelines", "warning", text, fix)
    good = []
    for name, source in sorted(sources.items()):
        try:
            load(source)
            good.append(name)
        except IngestError as error:
            yield Finding("pipelines", "error", f"Pipeline '{name}' does not load: {error.reason}.", source.origin)
    if good:
        yield Finding("pipelines", "ok", f"Pipelines: {', '.join(good)}.")
    if texts := [name for name in good if _reads_text_as_it_is(load(sources[name]).reader)]:
        said = "in their columns of text the empty field alone is null; NA, null and NaN stay text, unlike before"
        fix = "Say null_values in their readers where these stand for no value."
        yield Finding("pipelines", "ok", f"Pipelines without null_values: {', '.join(texts)}: {said}.", fix)


def _reads_text_as_it_is(reader: object) -> bool:
    """Tell whether a reader declares text columns, but no null texts."""
    if not isinstance(reader, Csv) or reader.null_values is not None:
        return False
    return any(isinstance(kind, pa.DataType) and textual(kind) for kind in (reader.columns or {}).values())
