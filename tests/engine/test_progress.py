"""The progress of a job: how much of its fetching is done, by bytes where they are known."""

from __future__ import annotations

from ingestlab.core.models import IngestRequest, Progress, Source
from ingestlab.engine.progress import ProgressTracker
from ingestlab.queue.attempts import share_of


def shares_of(sizes: list[int | None], *reports: tuple[int, int, int]) -> list[float]:
    """How much of a job's fetching is done, as it is reported."""
    seen: list[Progress] = []
    sources = tuple(Source(uri=f"file:///{n}.csv", size=size) for n, size in enumerate(sizes))
    progress = ProgressTracker(IngestRequest(run="r", table="t", sources=sources), seen.append)
    progress.enter("fetching")
    for report in reports:
        progress.fetched(*report)
    progress.enter("processing")
    assert share_of(seen[-1]) == 0.3, "what is fetched is done"
    return [round(share_of(p) / 0.3, 3) for p in seen[1:-1]]


def test_a_big_file_counts_by_its_bytes() -> None:
    assert shares_of([990, 5, 5], (0, 100, 0), (2, 500, 0), (3, 1000, 0)) == [0.1, 0.5, 1.0]


def test_bytes_that_do_not_come_are_not_waited_for() -> None:
    assert shares_of([900, 100], (1, 0, 900), (1, 50, 900), (2, 100, 900)) == [0.0, 0.5, 1.0]
    assert shares_of([900, 100], (2, 0, 1000)) == [1.0]


def test_files_count_where_the_size_of_one_is_unknown() -> None:
    assert shares_of([990, None], (1, 10, 0), (2, 1000, 0)) == [0.5, 1.0]


def test_a_file_that_has_grown_counts_once() -> None:
    assert shares_of([100], (0, 150, 0)) == [1.0]
