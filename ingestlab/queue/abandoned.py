"""What becomes of a job after the death of its worker, whatever the broker."""

from __future__ import annotations

from collections.abc import Callable

from ingestlab.core.access import shown
from ingestlab.core.archive_uri import label
from ingestlab.core.errors import TerminalError
from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import Request
from ingestlab.core.models import Progress
from ingestlab.queue.job_records import stop_error
from ingestlab.queue.results import subjects_of

DEATHS = 3  # so many workers may die at a job before the job is blamed
NAMED = 5  # files that its error names


def after_a_death(notes: JobNotes, stopped: str | None, read: Callable[[], Request]) -> tuple[JobNotes, bool]:
    """Decide whether another worker gets a job.

    Args:
        notes: Of the job.
        stopped: Who has asked to stop it, and why; None if nobody.
        read: Reads its request.

    Returns:
        What to note, and whether it is tried again.
    """
    deaths = int(notes.get("deaths") or 0) + 1
    if deaths < DEATHS and stopped is None:
        return {"deaths": deaths}, True
    error = _blame(notes, deaths, read) if stopped is None else stop_error(stopped)
    return {"deaths": deaths, "error": error.to_dict()}, False


def _blame(notes: JobNotes, deaths: int, read: Callable[[], Request]) -> TerminalError:
    """Tell what is known of a job that has ended its workers: where it was, and with which files."""
    progress = Progress.from_dict(notes.get("progress") or {})
    uris = subjects_of(read)
    more = f" and {len(uris) - NAMED:,} more" if len(uris) > NAMED else ""
    names = ", ".join(label(shown(uri)) for uri in uris[:NAMED]) + more
    done = f"{progress.files_done:,} of {progress.files or len(uris):,} files were fetched"
    return TerminalError(
        f"Job abandoned: {deaths} workers died while running it (out of memory?)",
        got=f"the last stage was '{progress.state}', {done}; its files are {names}",
        fix="See the worker logs. Submit the files one by one to find the one that does it.",
        code="job_abandoned",
    )
