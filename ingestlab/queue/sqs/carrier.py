"""SQS as the carrier of messages, by botocore's client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.queue.jobs.store import Turn

LARGEST = 240_000  # bytes of a body: SQS takes 256 kB, with attributes. What is larger stays in Redis alone
VISIBLE = 60  # seconds for which a message is ours, and by which a beat extends it
_MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_PROBLEMS: dict[str, tuple[str, str, Code]] = {
    "AccessDenied": (
        "Not allowed to use the SQS queue {name}",
        "Allow the actions that the guide `Use another queue` names.",
        "access_denied",
    ),
    "InvalidClientTokenId": (
        "No usable AWS credentials for the SQS queue {name}",
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        "credentials_invalid",
    ),
}


@dataclass(frozen=True)
class Arrived:
    """A message that is ours for a while.

    Attributes:
        handle: Names it to SQS.
        request: What is asked, as plain data; None where it is in Redis alone.
        job: The job's id; None for a message of a foreign producer.
        turn: As the message names it, likewise.
    """

    handle: str
    request: JsonValue
    job: str | None
    turn: str | None


class SqsCarrier:
    """See :class:`ingestlab.queue.jobs.queue.Carrier`. A queue may be standard or FIFO, ``NAME.fifo``.

    Args:
        settings: Their ``storage_options`` for ``sqs`` are arguments of botocore's client, such as ``endpoint_url``.
    """

    def __init__(self, settings: Settings) -> None:
        self._options = settings.storage_options.get("sqs", {})
        self._made: Any = None
        self._urls: dict[str, str] = {}

    def send(self, turn: Turn, message: JsonValue) -> None:
        """Send a message."""
        body = json.dumps({"job": turn.job, "turn": turn.turn, "request": message})
        if len(body.encode()) > LARGEST:
            body = json.dumps({"job": turn.job, "turn": turn.turn, "request": None})
        url = self._url(turn.queue)
        # A group of its own: nothing waits for another, also not for a message that a dead worker still has.
        alone = {"MessageGroupId": turn.turn, "MessageDeduplicationId": turn.turn} if url.endswith(".fifo") else {}
        with reaching_sqs(turn.queue):
            self._client.send_message(QueueUrl=url, MessageBody=body, **alone)

    def waiting(self, queue: str) -> int | None:
        """Count the messages of a queue, also those that workers have."""
        names = ("", "NotVisible", "Delayed")
        asked = [f"ApproximateNumberOfMessages{name}" for name in names]
        url = self._url(queue)
        with reaching_sqs(queue):
            counts = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=asked)["Attributes"]
        return sum(int(counts.get(name, 0)) for name in asked)

    def receive(self, queue: str, seconds: int) -> Arrived | None:
        """Wait for one message. None if none has come."""
        url = self._url(queue)
        with reaching_sqs(queue):
            answer = self._client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=seconds, VisibilityTimeout=VISIBLE
            )
        return next((_read(message) for message in answer.get("Messages", [])), None)

    def keep(self, queue: str, message: Arrived) -> None:
        """Keep a message for some more time."""
        url = self._url(queue)
        with reaching_sqs(queue):
            self._client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message.handle, VisibilityTimeout=VISIBLE
            )

    def settle(self, queue: str, message: Arrived) -> None:
        """Delete a message."""
        url = self._url(queue)
        with reaching_sqs(queue):
            self._client.delete_message(QueueUrl=url, ReceiptHandle=message.handle)

    @property
    def _client(self) -> Any:
        if self._made is None:
            import botocore.session  # noqa: PLC0415 - slow to import

            region = {"region_name": "us-east-1"} if self._options.get("endpoint_url") else {}
            self._made = botocore.session.Session().create_client("sqs", **{**region, **self._options})
        return self._made

    def _url(self, queue: str) -> str:
        """Find the URL of a queue, or of its FIFO form.

        Raises:
            TerminalError: There is neither.
        """
        if queue not in self._urls:
            from botocore.exceptions import ClientError  # noqa: PLC0415 - likewise

            for name in (queue, f"{queue}.fifo"):
                with reaching_sqs(queue):
                    try:
                        self._urls[queue] = str(self._client.get_queue_url(QueueName=name)["QueueUrl"])
                        break
                    except ClientError as error:
                        if _code(error) not in _MISSING:
                            raise
            else:
                problem = f"There is no SQS queue {queue}, nor {queue}.fifo"
                fix = f"Create it (`aws sqs create-queue --queue-name {queue}`), or check QUEUE_NAME and the region."
                raise TerminalError(problem, fix=fix, code="not_found")
        return self._urls[queue]


def _read(message: Mapping[str, Any]) -> Arrived:
    """Read a message of ours, or a bare request. What is neither is the job's to refuse."""
    handle, body = message["ReceiptHandle"], message["Body"]
    try:
        data = json.loads(body)
    except ValueError:
        return Arrived(handle, body, None, None)
    if isinstance(data, dict) and isinstance(data.get("job"), str) and isinstance(data.get("turn"), str):
        return Arrived(handle, data.get("request"), data["job"], data["turn"])
    return Arrived(handle, data, None, None)


@contextmanager
def reaching_sqs(queue: str) -> Iterator[None]:
    """Translate errors of AWS."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415 - likewise

    try:
        yield
    except (ClientError, NoCredentialsError) as error:
        code = "InvalidClientTokenId" if isinstance(error, NoCredentialsError) else _code(error)
        if code in _PROBLEMS:
            problem, fix, kind = _PROBLEMS[code]
            raise TerminalError.wrap(error, problem.format(name=queue), fix, code=kind) from error
        problem, fix = f"SQS refuses what is asked of the queue {queue}", "It is asked again."
        raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error
    except BotoCoreError as error:
        problem, fix = f"No answer from SQS for the queue {queue}", "Check the region, the endpoint and the network."
        raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
