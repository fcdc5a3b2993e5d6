"""The panels of the page as HTML, made from a snapshot by templates, which escape whatever comes from Redis."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from ingestlab.core.errors import IngestError
from ingestlab.core.jobs import Job, Listener
from ingestlab.core.templates import clock, macro
from ingestlab.stack.dashboard.collect import Snapshot

RECENT = 5  # seconds over which a current rate is taken
LISTED = 8  # rows of a panel
SILENT = 20.0  # seconds without a beat after which a worker is in doubt; stock RQ workers beat seldom
SILENT_STOCK = 480.0
HUES = ("blue", "teal", "violet", "gold", "rose", "green")  # of tenants
STATES = {
    "waiting": "grey",
    "running": "blue",
    "retrying": "gold",
    "finished": "green",
    "failed": "rose",
    "canceled": "violet",
}
_NEVER = datetime.min.replace(tzinfo=UTC)
TEMPLATE = "stack/dashboard/templates/panels.html"


def header(snapshot: Snapshot) -> str:
    """Show what the page is about, and how fresh it is."""
    return macro(TEMPLATE, "header", snapshot=snapshot, clock=clock)


def notes(snapshot: Snapshot) -> str:
    """Show warnings, and what to do about them."""
    if isinstance(snapshot.error, IngestError):
        return macro(TEMPLATE, "trouble", error=snapshot.error)
    if not snapshot.at:
        return ""
    served = {name for worker in snapshot.workers for name in worker.queues}
    stuck = [queue for queue in snapshot.queues if queue.waiting and queue.name not in served]
    empty = not snapshot.waiting and not any(n for queue in snapshot.queues for n in queue.counts.values())
    return macro(TEMPLATE, "notes", snapshot=snapshot, stuck=stuck[:3], empty=empty)


def cards(snapshot: Snapshot, dask: str = "") -> str:
    """Show the numbers that one looks at first."""
    history = snapshot.history
    stages = Counter(str(job.progress.get("state", "starting")) for job in snapshot.jobs if job.status == "running")
    running, retrying = snapshot.count("running"), snapshot.count("retrying")
    active = [f"{n} {stage}" for stage, n in stages.items()] + ([f"{retrying} retrying"] if retrying else [])
    rows, rejected = history.total("rows"), history.total("rejected")
    share = f"{rejected / rows:.1%} of the rows" if rejected else "none last hour"
    alive = [worker for worker in snapshot.workers if not doubtful(worker)]
    busy = f"{sum(worker.busy for worker in alive)} busy"
    queues = f"{len(snapshot.queues):,} queue{'' if len(snapshot.queues) == 1 else 's'}"
    numbers = [
        ("waiting", "Jobs waiting", f"{snapshot.waiting:,}", queues, ""),
        ("running", "Jobs running", f"{running:,}", " · ".join(active) or "none", ""),
        *(_rate(snapshot, measure) for measure in ("files", "rows", "bytes")),
        ("rejected", "Rejected rows", short(round(rejected)), share, "some" if rejected else ""),
        ("failed", "Files failed", f"{snapshot.failed:,}", "last hour", "bad" if snapshot.failed else ""),
        ("workers", "Workers", str(len(alive)), f"{busy} · {dask}" if dask else busy, "" if alive else "bad"),
    ]
    return macro(TEMPLATE, "cards", numbers=numbers)


def queues(snapshot: Snapshot) -> str:
    """Show queues with waiting jobs by tenant, and all jobs by state."""
    tenants = Counter[str]()
    for queue in snapshot.queues:
        tenants.update(queue.tenants)
    hues = {tenant: HUES[i % len(HUES)] for i, tenant in enumerate(snapshot.tenants)}
    most = max((1, *(queue.waiting for queue in snapshot.queues)))
    listeners = Counter(name for w in snapshot.workers if not doubtful(w) for name in w.queues)
    rows = []
    for queue in snapshot.queues:
        unit = queue.waiting / most / max(1, sum(queue.tenants.values()))
        parts = [(unit * n, hues[tenant]) for tenant, n in sorted(queue.tenants.items())]
        rows.append((queue, parts, listeners[queue.name]))
    states = [
        (name, snapshot.waiting if name == "waiting" else snapshot.count(name), hue) for name, hue in STATES.items()
    ]
    total = sum(n for _, n, _ in states)
    shares = [(n / total, hue) for _, n, hue in states if n]
    waiting = [(tenant, n, hues[tenant]) for tenant, n in sorted(tenants.items())]
    return macro(TEMPLATE, "queues", rows=rows, tenants=waiting, total=total, shares=shares, states=states)


def jobs(snapshot: Snapshot) -> str:
    """Show running jobs, and those that wait for a retry."""
    first = sorted(snapshot.jobs, key=lambda job: (job.status != "running", job.began or _NEVER))
    rows = [_job(job) for job in first[:LISTED]]
    return macro(TEMPLATE, "jobs", rows=rows, left=len(snapshot.jobs) - len(rows))


def workers(snapshot: Snapshot) -> str:
    """Show the workers, and for how long one has been silent."""
    rows = []
    for worker in snapshot.workers[: 2 * LISTED]:
        dot, word = ("busy", "busy") if worker.busy else ("ok", "idle")
        if doubtful(worker):
            dot, word = "bad", f"silent for {_silence(worker):,.0f} s"
        rows.append((worker, dot, word))
    return macro(TEMPLATE, "workers", rows=rows)


def listeners(snapshot: Snapshot) -> str:
    """Show what is listened to, with its lag. Nothing where nothing is."""
    if not snapshot.listeners:
        return ""
    shown = snapshot.listeners[: 2 * LISTED]
    rows = [(listener, "bad" if listener.gone or listener.trouble else "ok", listener.said()) for listener in shown]
    return macro(TEMPLATE, "listeners", rows=rows, left=len(snapshot.listeners) - len(shown), clock=clock)


def refused(snapshot: Snapshot) -> str:
    """Show the last messages that listeners have put aside."""
    return macro(TEMPLATE, "refused", snapshot=snapshot, clock=clock) if snapshot.refused else ""


def rejects(snapshot: Snapshot) -> str:
    """Show the rejected rows of the last hour by rule."""
    return macro(TEMPLATE, "rejects", rules=snapshot.rules, listed=LISTED)


def failures(snapshot: Snapshot) -> str:
    """Show the last failures, each with its reason and what to do."""
    return macro(TEMPLATE, "failures", snapshot=snapshot, clock=clock)


def assumptions(snapshot: Snapshot) -> str:
    """Show what was assumed when files were read. Nothing where all was declared."""
    return macro(TEMPLATE, "assumptions", snapshot=snapshot, clock=clock) if snapshot.assumptions else ""


def doubtful(worker: Listener) -> bool:
    """Tell whether a worker has been silent for too long."""
    return _silence(worker) > (SILENT if worker.version else SILENT_STOCK)


def short(value: float, unit: str = "") -> str:
    """Give a number in about four characters: 0.4, 12, 3.4 k, 12 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    number = f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
    return f"{number} {unit}".rstrip()


def _rate(snapshot: Snapshot, measure: str) -> tuple[str, ...]:
    unit = "B" if measure == "bytes" else ""
    now = short(snapshot.history.total(measure, RECENT) / RECENT, unit)
    hour = short(round(snapshot.history.total(measure)), unit)
    return measure, f"{measure.capitalize()} a second", now, f"{hour} last hour", ""


def _job(job: Job) -> dict[str, Any]:
    stage = "retrying" if job.status == "retrying" else str(job.progress.get("state", "starting"))
    files, done = job.number("files") or job.files, job.number("files_done")
    total, through = job.number("partitions"), job.number("partitions_done")
    share = {"processing": through / total if total else 0.0, "committing": 1.0}.get(stage, done / max(1, files))
    return {
        "stage": stage,
        "description": job.description,
        "note": str(job.progress.get("note") or "") if stage == "retrying" else "",
        "done": done,
        "files": files,
        "rows": job.number("rows"),
        "share": min(1.0, share),
        "hue": {"fetching": "teal", "retrying": "gold", "committing": "green"}.get(stage, "blue"),
    }


def _silence(worker: Listener) -> float:
    return worker.silence(datetime.now(UTC))
