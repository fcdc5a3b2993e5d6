"""Queue: carries jobs to workers; entry points of `ingestlab.queues`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from ingestlab.core.jobs import BrokerFinding, Job, JobEnding, JobNotes, Listener, QueueSnapshot, QueueState, TryEnd
from ingestlab.core.messages import Request


class Delivery(Protocol):
    """One try of a job, given to the handler by a broker. While it lasts the broker keeps others off the job."""

    @property
    def id(self) -> str:
        """The job's."""
        ...

    @property
    def queue(self) -> str:
        """The name of the queue that it came from."""
        ...

    @property
    def retry_after(self) -> float | None:
        """Seconds to the next try after a transient failure. None if this is the last."""
        ...

    @property
    def notes(self) -> JobNotes:
        """The notes on the job, of this try and earlier ones."""
        ...

    def note(self, notes: JobNotes) -> None:
        """Note facts of the job in Redis, visible at once. Other facts stay."""
        ...

    def stopped(self) -> str | None:
        """Give what :meth:`Queue.cancel` was told since this try began.

        None if it was not called.
        """
        ...


Handler = Callable[[JsonValue, Delivery], TryEnd]
"""Does what a message asks; raises nothing but what ends the process.

The message is plain data, as :meth:`ingestlab.core.messages.Request.to_dict` makes it, or whatever a foreign producer
has sent in its place. The broker carries the answer out.
"""


class Monitor(Protocol):
    """Tell the dashboard of queues, jobs and workers, in few round trips.

    Each call raises redis.RedisError where the broker does not answer.
    """

    def names(self) -> tuple[list[str], list[str]]:
        """Name all queues, and the keys of all workers."""
        ...

    def queues(self, names: Sequence[str], last: int) -> list[QueueSnapshot]:
        """Read queues, with at most `last` ended jobs of each kind.

        Args:
            names: Of the queues.
            last: How many of each kind.
        """
        ...

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """List the registered workers, except those that ended on this machine."""
        ...

    def tenants(self, queues: Iterable[QueueSnapshot]) -> dict[str, Counter[str]]:
        """Count waiting jobs by queue and tenant."""
        ...


class Queue(Protocol):
    """Carry jobs from producers to workers. Made with the settings and a Redis client."""

    def publish(self, queue: str, request: Request, notes: JobNotes | None = None) -> tuple[str, bool]:
        """Put a request on a queue, unless it is queued or running. Gives the job's id, and whether it is new.

        Args:
            queue: Its name.
            request: What is asked.
            notes: What is known of the job from before it was forgotten.
        """
        ...

    def consume(self, queues: Sequence[str], handler: Handler) -> int:
        """Handle jobs, one at a time, until the process is stopped.

        The job of a process that dies is handled by another one within half a minute.

        Args:
            queues: Names, the most urgent first.
            handler: Does the jobs.

        Returns:
            The exit code of the process.
        """
        ...

    def jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        """Look up jobs by id, those that are still known."""
        ...

    def request(self, job: str) -> Request:
        """Read what a job is asked. Raises UndecodableJobError, also for an unknown one."""
        ...

    def ending(self, job: str) -> JobEnding:
        """Read how the last try of a job ended. Empty if it has not."""
        ...

    def wait(self, ids: Iterable[str], seen: dict[str, str], seconds: float) -> list[str]:
        """Sleep until some of these jobs may have ended, or a timeout. Gives those with news.

        Args:
            ids: Of jobs that had not ended.
            seen: Kept from call to call; empty at first.
            seconds: To sleep at most.
        """
        ...

    def cancel(self, job: str, why: str = "") -> bool:
        """Remove a waiting job, or have its worker stop it. False if there was nothing to do.

        Args:
            job: Its id.
            why: Who wishes so, and for which reason; a note of the job.
        """
        ...

    def again(self, job: str) -> None:
        """Queue a failed job once more. An unknown one is left alone."""
        ...

    def names(self) -> set[str]:
        """Name all queues that were ever used."""
        ...

    def state(self, queue: str) -> QueueState:
        """Count what waits and runs on a queue, and who listens."""
        ...

    def is_needed(self, queue: str) -> bool:
        """Tell whether a worker would find something to do, now or later."""
        ...

    def listeners(self, queue: str) -> list[Listener]:
        """List the workers that listen on a queue."""
        ...

    def monitor(self) -> Monitor:
        """Open what the dashboard reads."""
        ...


@runtime_checkable
class Examined(Protocol):
    """A queue that examines its broker for `ingestlab doctor`."""

    def examine(self) -> Iterable[BrokerFinding]:
        """Tell whether the broker answers, and what is wrong with it.

        Raises nothing for a broker that is away.
        """
        ...


class RateLimiter(Protocol):
    """Pace what workers ask of a server together."""

    def reserve(self, name: str, amount: float, rate: float, patience: float) -> float:
        """Take from a bucket, and tell how long to wait first.

        Args:
            name: Of the bucket.
            amount: What to take.
            rate: What comes a second; 0 sets no limit.
            patience: Seconds to wait at most.

        Returns:
            Seconds.

        Raises:
            TransientError: The wait would be longer, and nothing is taken; or the bucket is away.
        """
        ...

    def pause(self, name: str, seconds: float) -> None:
        """Let nobody take from a bucket for some seconds.

        Args:
            name: Of the bucket.
            seconds: From now on.
        """
        ...
