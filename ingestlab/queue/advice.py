"""What a person should know of a submission or of how it ended, in the same words wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingestlab.core.access import local_path, scheme_of
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings


def of_submission(sources: Sequence[Source], settings: Settings) -> tuple[str, ...]:
    """Tell what may surprise in the files of a submission.

    Args:
        sources: As they were listed.
        settings: Under which they are submitted.
    """
    unseen = [source.uri for source in sources if source.size is None and scheme_of(source.uri) == "file"]
    if not unseen:
        return ()
    first = Path(local_path(unseen[0], settings))
    return (f"{_and_others(str(first), len(unseen))} not on this machine: queued for workers that may see other disks",)


def _and_others(first: str, count: int) -> str:
    """Name the first of some files, with a verb."""
    return f"{first} is" if count == 1 else f"{first} and {count - 1:,} more are"
