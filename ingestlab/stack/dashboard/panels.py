"""The panels of the page as HTML, made from a snapshot; whatever comes from Redis is escaped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from ingestlab.core.errors import IngestError
from ingestlab.queue.rq.listeners import Listener
from ingestlab.queue.rq.monitor import Job, Queue
from ingestlab.stack.dashboard.collect import Snapshot
from ingestlab.stack.dashboard.failures import Failure

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
SUBMIT = 'ingestlab submit "data/*.csv"'


def header(snapshot: Snapshot) -> str:
    """What the page shows, and how fresh it is."""
    if snapshot.error:
        state, dot = (f"numbers of {_clock(snapshot.at)}" if snapshot.at else "no numbers yet"), "bad"
    else:
        state, dot = (f"live, {_clock(snapshot.at)}" if snapshot.at else "reading …"), "ok" if snapshot.at else ""
    server = f"<span class=soft>{escape(snapshot.server)}</span>" if snapshot.server else ""
    return f"<div class=head><b>Ingest</b><span><i class='dot {dot}'></i>{state}</span>{server}</div>"


def notes(snapshot: Snapshot) -> str:
    """What one should know before one reads the numbers, and what to do about it."""
    if isinstance(error := snapshot.error, IngestError):
        return f"<div class='note alarm'><b>{escape(error.reason)}.</b> {escape(error.fix)}</div>"
    if not snapshot.at:
        return ""
    served = Counter(name for worker in snapshot.workers for name in worker.queues)
    stuck = [queue for queue in snapshot.queues if queue.waiting and not served[queue.name]]
    found = [
        f"<div class='note warn'><b>{_plural(queue.waiting, 'job')} on the queue {escape(queue.name)}, and no worker "
        f"listens there.</b> Start one: <code>ingestlab worker {escape(queue.name)}</code></div>"
        for queue in stuck[:3]
    ]
    if not snapshot.waiting and not any(n for queue in snapshot.queues for n in queue.counts.values()):
        found.append(_welcome(snapshot))
    return "".join(found)


def cards(snapshot: Snapshot, dask: str = "") -> str:
    """The numbers that one looks at first."""
    history = snapshot.history
    stages = Counter(str(job.progress.get("state", "starting")) for job in snapshot.jobs if job.status == "started")
    running, retrying = snapshot.count("running"), snapshot.count("retrying")
    at_it = [*(f"{n} {stage}" for stage, n in stages.items()), *([f"{retrying} retrying"] if retrying else [])]
    rows, rejected = history.total("rows"), history.total("rejected")
    share = f"{rejected / rows:.1%} of the rows" if rejected else "none last hour"
    alive = [worker for worker in snapshot.workers if not doubtful(worker)]
    busy = f"{sum(worker.busy for worker in alive)} busy"
    found = [
        _card("waiting", "Jobs waiting", f"{snapshot.waiting:,}", _plural(len(snapshot.queues), "queue")),
        _card("running", "Jobs at work", f"{running:,}", " · ".join(at_it) or "none"),
        *(_rate(snapshot, *row) for row in (("files", "Files"), ("rows", "Rows"), ("bytes", "Bytes"))),
        _card("rejected", "Rejected rows", short(round(rejected)), share, "some" if rejected else ""),
        _card("failed", "Files failed", f"{snapshot.failed:,}", "last hour", "bad" if snapshot.failed else ""),
        _card("workers", "Workers", str(len(alive)), f"{busy} · {dask}" if dask else busy, "" if alive else "bad"),
    ]
    return f"<div class=cards>{''.join(found)}</div>"


def queues(snapshot: Snapshot) -> str:
    """Every queue, and whose jobs wait there; then all jobs that Redis remembers, by state."""
    if not snapshot.queues:
        return _panel("Queues", "<span class=soft>none yet</span>")
    tenants = Counter[str]()
    for queue in snapshot.queues:
        tenants.update(queue.tenants)
    hues = {tenant: HUES[i % len(HUES)] for i, tenant in enumerate(snapshot.tenants)}
    most = max(1, *(queue.waiting for queue in snapshot.queues))
    listeners = Counter(name for w in snapshot.workers if not doubtful(w) for name in w.queues)
    rows = [_queue(queue, hues, most, listeners[queue.name]) for queue in snapshot.queues]
    heads = ("queue", "waiting", "", "at work", "retrying", "finished", "failed", "workers")
    legend = _legend((f"{escape(tenant)} {n:,}", hues[tenant]) for tenant, n in sorted(tenants.items()))
    table = _table(heads, rows, right=(2, 3, 4, 5, 6, 7))
    return _panel("Queues, waiting jobs by tenant", f"{table}{legend}<br>{_states(snapshot)}")


def jobs(snapshot: Snapshot) -> str:
    """The jobs that are at work, and those that wait for their next try."""
    if not snapshot.jobs:
        return _panel("At work", "<span class=soft>nothing at the moment</span>")
    first = sorted(snapshot.jobs, key=lambda job: (job.status != "started", job.began or 0.0))
    rows = [_job(job) for job in first[:LISTED]]
    left = len(snapshot.jobs) - len(rows)
    more = f"<div class='soft legend'>and {left:,} more</div>" if left > 0 else ""
    return _panel("At work", _table(("stage", "job", "files", "rows", ""), rows, right=(2, 3)) + more)


def workers(snapshot: Snapshot) -> str:
    """Who works on the queues, and since when one was not heard."""
    if not snapshot.workers:
        return _panel("Workers", "<span class=soft>none</span>")
    rows = []
    for worker in snapshot.workers[: 2 * LISTED]:
        silent = doubtful(worker)
        dot = "bad" if silent else "busy" if worker.busy else "ok"
        word = f"silent for {_silence(worker):,.0f} s" if silent else "busy" if worker.busy else "idle"
        where = f"{escape(worker.host)}:{worker.pid}"
        kind = "" if worker.version else " <span class=amber>stock RQ</span>"
        state = f"<i class='dot {dot}'></i>{word}{kind}"
        rows.append((state, where, escape(", ".join(worker.queues)), f"{worker.done:,}"))
    return _panel("Workers", _table(("state", "host and process", "queues", "jobs done"), rows, right=(3,)))


def rejects(snapshot: Snapshot) -> str:
    """Rejected rows of the last hour by rule."""
    if not snapshot.rules:
        return _panel("Rejected rows by rule, last hour", "<span class=soft>none</span>")
    most = max(snapshot.rules.values())
    listed = list(snapshot.rules.items())[:LISTED]
    rows = [
        (f"{n:,}", f"<code>{escape(rule)}</code>", f"<div class=wide>{_bar([(n / most, 'gold')])}</div>")
        for rule, n in listed
    ]
    left = len(snapshot.rules) - len(listed)
    more = f"<div class='soft legend'>and {_plural(left, 'more rule')}</div>" if left else ""
    return _panel("Rejected rows by rule, last hour", _table(("rows", "rule", ""), rows, right=(0,)) + more)


def failures(snapshot: Snapshot) -> str:
    """The last failures, each with its reason and what to do."""
    if not snapshot.failures:
        return _panel("Failures", "<span class=soft>none</span>")
    rows = [_failure(failure) for failure in snapshot.failures]
    table = _table(("when", "what", "why", "what to do"), rows, look="failures")
    by_code = _legend((f"{escape(code)} {n:,}", "red") for code, n in snapshot.codes.items())
    return _panel("Failures, newest first", by_code * bool(snapshot.codes) + table)


def assumptions(snapshot: Snapshot) -> str:
    """What was taken for granted when files were read; nothing where all was declared."""
    if not snapshot.assumptions:
        return ""
    rows = [
        (
            f"<span class=tight>{_clock(one.at)}</span>",
            f"<span class=wrap>{escape(one.what)}</span><div class=soft>{escape(one.run)}</div>",
            f"<div class='wrap three' title='{escape(one.text)}'>{escape(one.text)}</div>",
        )
        for one in snapshot.assumptions
    ]
    return _panel("Assumed, newest first", _table(("when", "file", "what was assumed"), rows, look="failures"))


def doubtful(worker: Listener) -> bool:
    """Whether a worker has been silent for too long to count on it."""
    return _silence(worker) > (SILENT if worker.version else SILENT_STOCK)


def short(value: float, unit: str = "") -> str:
    """A number in about four characters: 0.4, 12, 3.4 k, 12 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    number = f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
    return f"{number} {unit}".rstrip()


def _welcome(snapshot: Snapshot) -> str:
    say = f'Announce files: <code>{escape(SUBMIT)}</code>, or in a notebook <code>lab.submit("data/*.csv")</code>.'
    if snapshot.samples:
        sample = f"{snapshot.samples.rstrip('/')}/flights/flights-2013-01.csv"
        say = f"Try it with a sample: <code>ingestlab submit {escape(sample)}</code>. {say}"
    if not snapshot.workers:
        say += f" No worker listens yet: <code>ingestlab worker {escape(snapshot.home_queue)}</code> starts one."
    return f"<div class=note><b>Nothing has been ingested yet.</b> {say}</div>"


def _card(key: str, name: str, value: str, more: str, mood: str = "") -> str:
    return (
        f"<div class='card {mood}' data-key={key}><div class=name>{name}</div>"
        f"<div class=value>{value}</div><div class=more>{escape(more)}</div></div>"
    )


def _rate(snapshot: Snapshot, measure: str, name: str) -> str:
    unit = "B" if measure == "bytes" else ""
    now = short(snapshot.history.total(measure, RECENT) / RECENT, unit)
    hour = short(round(snapshot.history.total(measure)), unit)
    return _card(measure, f"{name} a second", now, f"{hour} last hour")


def _queue(queue: Queue, hues: Mapping[str, str], most: int, listening: int) -> tuple[str, ...]:
    asked = max(1, sum(queue.tenants.values()))
    width = queue.waiting / most
    bar = _bar((width * n / asked, hues[tenant]) for tenant, n in sorted(queue.tenants.items()))
    failed = f"<span class=red>{queue.counts['failed']:,}</span>" if queue.counts["failed"] else "0"
    others = (f"{queue.counts[name]:,}" for name in ("running", "retrying", "finished"))
    who = str(listening) if listening or not queue.waiting else "<b class=red>0</b>"
    return (f"<b>{escape(queue.name)}</b>", bar, f"{queue.waiting:,}", *others, failed, who)


def _states(snapshot: Snapshot) -> str:
    counts = {name: snapshot.waiting if name == "waiting" else snapshot.count(name) for name in STATES}
    total = sum(counts.values())
    parts = [(n / total, STATES[name]) for name, n in counts.items() if n]
    legend = _legend((f"{name} {n:,}", STATES[name]) for name, n in counts.items())
    return f"<h3>{_plural(total, 'job')} by state</h3>{_bar(parts)}{legend}"


def _job(job: Job) -> tuple[str, ...]:
    stage = "retrying" if job.status == "scheduled" else str(job.progress.get("state", "starting"))
    files, done = job.number("files") or job.files, job.number("files_done")
    total, through = job.number("partitions"), job.number("partitions_done")
    share = {"processing": through / total if total else 0.0, "committing": 1.0}.get(stage, done / max(1, files))
    note = str(job.progress.get("note") or "") if stage == "retrying" else ""
    why = f"<div class='amber two' title='{escape(note)}'>{escape(note)}</div>" if note else ""
    hue = {"fetching": "teal", "retrying": "gold", "committing": "green"}.get(stage, "blue")
    return (
        f"<span class=tight>{escape(stage)}</span>",
        f"<span class=wrap>{escape(job.description)}</span>{why}",
        f"{done:,} / {files:,}",
        f"{job.number('rows'):,}",
        _bar([(min(1.0, share), hue)]),
    )


def _failure(failure: Failure) -> tuple[str, ...]:
    more = f" <span class=soft>and {_plural(failure.more, 'more file')}</span>" if failure.more else ""
    reason = escape(failure.reason)
    where = " · ".join(part for part in (failure.tenant, failure.queue, failure.run) if part)
    return (
        f"<span class=tight>{_clock(failure.at)}</span>",
        f"<span class=wrap>{escape(failure.what)}{more}</span><div class=soft>{escape(where)}</div>",
        f"<div class='wrap three' title='{reason}'><span class=red>{escape(failure.code)}</span> {reason}</div>",
        f"<span class=wrap>{escape(failure.fix)}</span>",
    )


def _panel(title: str, content: str) -> str:
    return f"<div class=panel><h3>{title}</h3>{content}</div>"


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]], right: Iterable[int] = (), look: str = "") -> str:
    """A table; `right` are the columns of numbers."""
    numbers = set(right)

    def cells(tag: str, values: Iterable[str]) -> str:
        return "".join(f"<{tag}{' class=num' if i in numbers else ''}>{v}</{tag}>" for i, v in enumerate(values))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table class='{look}'><tr>{cells('th', heads)}</tr>{body}</table>"


def _bar(parts: Iterable[tuple[float, str]]) -> str:
    """A bar whose parts take these shares of it."""
    return f"<div class=bar>{''.join(f'<i class={hue} style=width:{share:.1%}></i>' for share, hue in parts)}</div>"


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    return f"<div class=legend>{''.join(f'<span><i class={hue}></i>{text}</span>' for text, hue in entries)}</div>"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _silence(worker: Listener) -> float:
    return worker.silence(datetime.now(UTC))


def _clock(at: Any) -> str:
    """A moment as the scheduler's clock shows it, with the day where it is another one."""
    today = time.localtime(at)[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%d %b %H:%M", time.localtime(at))
