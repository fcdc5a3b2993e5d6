"""The handler without any broker: what becomes of a job, by how its try went."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import redis

from ingestlab.core.errors import BusySourceError, JobStoppedError, TerminalError, TransientError
from ingestlab.core.jobs import Done, Failed, JobNotes, RetryLater
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.services import Services
from ingestlab.lake.locks import connect
from ingestlab.lake.run_records import RunRecords
from ingestlab.queue import worker
from ingestlab.queue.worker import BUSY_DELAY, JobHandler, prepare
from ingestlab.stack.valkey import free_port

AWAY = TransientError("Server is away", code="http_unavailable")


@dataclass
class Try:
    """A delivery by no broker at all."""

    id: str = "ingest-1"
    queue: str = "files"
    retry_after: float | None = None
    notes: JobNotes = field(default_factory=JobNotes)

    def note(self, notes: JobNotes) -> None:
        self.notes = {**self.notes, **notes}

    def stopped(self) -> str | None:
        return None


@pytest.fixture
def services(settings, redis_url) -> Services:
    return Services.create(
        settings(redis_url=redis_url, queue="files", executor="threads", fetch_attempts=1, fetch_delay=0.01)
    )


@pytest.fixture
def handle(services) -> JobHandler:
    return JobHandler(services)


def asked(*uris: str) -> IngestRequest:
    return IngestRequest(run="r1", table="t", sources=tuple(Source(uri=uri) for uri in uris))


def test_a_job_that_is_done_gives_its_result_and_takes_its_errors_back(handle, services, tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    request, delivery = asked((tmp_path / "a.csv").as_uri()), Try(retry_after=1)
    delivery.note({"error": AWAY.to_dict(), "result": {"run": "r1"}})  # a result that cannot be read
    end = handle(request.to_dict(), delivery)
    assert isinstance(end, Done)
    assert [outcome.status for outcome in end.result.outcomes] == ["committed"]
    assert (delivery.notes["progress"]["state"], delivery.notes["error"], delivery.notes["result"]) == (
        "finished",
        None,
        None,
    )
    assert RunRecords(services.store).read("r1", request.job_id)["queue"] == "files"


def test_some_files_that_may_come_are_tried_again_while_there_are_tries(handle, tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n")
    away = f"http://127.0.0.1:{free_port()}/b.csv"
    message = asked((tmp_path / "a.csv").as_uri(), away).to_dict()
    first = Try(retry_after=7)
    end = handle(message, first)
    assert isinstance(end, RetryLater)
    assert (end.seconds, end.counts, first.notes["progress"]["state"]) == (7, True, "retrying")
    assert [outcome["status"] for outcome in first.notes["result"]["outcomes"]] == ["committed", "failed"]
    last = handle(message, Try())
    assert isinstance(last, Done), "one file is better than none"
    assert [outcome.status for outcome in last.result.outcomes] == ["committed", "failed"], "by the first try"


@pytest.mark.parametrize("message", [None, 5, ["x"], {"run": "r"}, {"notebook": "../x.ipynb", "run": "r"}])
def test_what_is_no_request_fails_at_once(handle, message):
    delivery = Try(retry_after=1)
    end = handle(message, delivery)
    assert isinstance(end, Failed)
    assert (end.error.code, delivery.notes["error"]["code"]) == ("job_invalid", "job_invalid")


@pytest.mark.parametrize(
    ("error", "retry_after", "becomes"),
    [
        (AWAY, 3.0, RetryLater(AWAY, 3.0)),
        (AWAY, None, Failed),
        (BusySourceError("A source is busy"), None, RetryLater),
        (TerminalError("It is bad", code="file_not_found"), 3.0, Failed),
        (JobStoppedError(TerminalError("Job was stopped", code="job_stopped")), 3.0, Failed),
        (redis.ConnectionError("gone"), 3.0, RetryLater),
        (ZeroDivisionError("division by zero"), 3.0, Failed),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_the_whole_job_decides_by_its_kind(handle, services, monkeypatch, error, retry_after, becomes):
    def fails(*_args: object) -> None:
        raise error

    monkeypatch.setattr(worker, "ingest", fails)
    request, delivery = asked("file:///a.csv"), Try(retry_after=retry_after)
    end = handle(request.to_dict(), delivery)
    assert end == becomes if isinstance(becomes, RetryLater) else isinstance(end, becomes)
    assert delivery.notes["error"] == end.error.to_dict()
    archived = RunRecords(services.store).read("r1", request.job_id)
    assert bool(archived) == isinstance(end, Failed), "how it ended is kept once it has"
    if isinstance(error, BusySourceError):
        assert (end.seconds, end.counts) == (BUSY_DELAY, False)
    if isinstance(error, ZeroDivisionError):
        assert end.error.__cause__ is error, "its traceback goes with it"


def test_a_worker_of_notebooks_works_for_no_other_queue(settings, redis_url):
    chosen = settings(redis_url=redis_url, queue="files")
    with pytest.raises(TerminalError, match="has no workers of its own"):
        prepare(["files", chosen.notebook_queue], chosen, connect(redis_url))
