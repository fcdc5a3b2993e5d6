"""What workers do for all jobs of a queue: due retries, the jobs of dead workers, and messages that got lost."""

from __future__ import annotations

import json
import logging
from functools import partial

from ingestlab.core.errors import IngestError, UndecodableJobError
from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import Request, decode
from ingestlab.queue.abandoned import after_a_death
from ingestlab.queue.jobs.queue import Carrier, resend
from ingestlab.queue.jobs.store import JobStore, Turn

log = logging.getLogger("ingestlab.queue.jobs")

EVERY = 900  # ms between two sweeps of a queue, whoever does them
AT_MOST = 10_000  # ms after which a sweep is taken for dead
UNSENT = 10.0  # seconds after which a message that nobody has confirmed is sent again
LOST = 60.0  # seconds that a job has waited at least when its broker has no message at all for the queue


class Sweeper:
    """Looks after the jobs of some queues, one worker at a time.

    Args:
        store: Has the jobs.
        carrier: Carries their messages.
        keep: Ended jobs of a queue to keep.
        worker: Who sweeps.
    """

    def __init__(self, store: JobStore, carrier: Carrier, keep: int, worker: str) -> None:
        self._store, self._carrier, self._keep, self._worker = store, carrier, keep, worker

    def sweep(self, queue: str) -> None:
        """Look after one queue, unless another worker has just done so."""
        client, lock = self._store.client, f"ingestlab:sweep:{queue}"
        if not client.set(lock, self._worker, nx=True, px=AT_MOST):
            return
        try:
            now = self._store.now()
            self._retry(queue, now)
            self._take_over(queue, now)
            self._send_again(queue, now)
            self._store.trim(queue, self._keep)
        finally:
            client.pexpire(lock, EVERY)

    def _retry(self, queue: str, now: float) -> None:
        for job in self._store.members(queue, "retrying", now):
            turn = self._store.requeue(job, "retrying", lapsed=True)
            if turn and not resend(self._store, self._carrier, turn):
                return  # the broker is away: what is due now is due then

    def _take_over(self, queue: str, now: float) -> None:
        """Give the jobs of dead workers to others, or fail them."""
        for job in self._store.members(queue, "running", now):
            worker, turn_name = self._store.fields(job, "worker", "turn")
            dead = Turn(job, queue, turn_name)
            (known,) = self._store.jobs([job]).values() or (None,)
            if known is None:
                continue
            notes, again = after_a_death(known.notes, self._store.stopped(dead), partial(self._request, job))
            if not again:
                self._fail(dead, notes)
            elif turn := self._store.requeue(job, "running", lapsed=True):
                log.warning("worker %s died at job %s: another takes it over", worker, job)
                self._store.note_of(turn, notes)
                if not resend(self._store, self._carrier, turn):
                    return

    def _fail(self, dead: Turn, notes: JobNotes) -> None:
        error = IngestError.from_dict(notes["error"] or {})
        self._store.note_of(dead, notes)
        if self._store.fail(dead, f"{type(error).__name__}: {error}", lapsed=True):
            log.error("job %s has failed: %s", dead.job, error)

    def _send_again(self, queue: str, now: float) -> None:
        """Send messages that were never confirmed, or that the broker has lost."""
        late = [name.split(" ") for name in self._store.members(queue, "unsent", now - UNSENT)]
        turns = [Turn(job, queue, turn) for turn, job in late]
        waits = [] if turns else self._store.members(queue, "queued", now - LOST)
        if waits and self._carrier.waiting(queue) == 0:
            log.warning("the broker has no message for queue %s, where %d jobs wait: sent again", queue, len(waits))
            turns = [turn for job in waits if (turn := self._store.requeue(job, "queued"))]
        for turn in turns:
            if not resend(self._store, self._carrier, turn):
                return

    def _request(self, job: str) -> Request:
        (message,) = self._store.fields(job, "message")
        try:
            return decode(json.loads(message))
        except ValueError:
            raise UndecodableJobError("Job has no request that can be read", got=message[:200]) from None


def sweep_all(sweeper: Sweeper, queues: tuple[str, ...]) -> None:
    """Sweep queues, also those behind one that cannot be swept."""
    for queue in queues:
        try:
            sweeper.sweep(queue)
        except IngestError as error:
            log.warning("sweep of queue %s: %s", queue, error)
