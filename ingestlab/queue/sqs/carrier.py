"""SQS as the carrier of messages, by botocore's client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import JsonValue

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.queue.jobs.store import Turn
from ingestlab.queue.sqs.client import VISIBLE, open_client, reaching_sqs

LARGEST = 240_000  # bytes of a body: SQS takes 256 kB, with attributes. What is larger stays in Redis alone


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
        self._settings = settings
        self._urls: dict[str, str] = {}

    def send(self, turn: Turn, message: JsonValue) -> None:
        """Send a message."""
        body = json.dumps({"job": turn.job, "turn": turn.turn, "request": message})
        if len(body.encode()) > LARGEST:
            body = json.dumps({"job": turn.job, "turn": turn.turn, "request": None})
        # A group of its own: nothing waits for another, also not for a message that a dead worker still has.
        fifo = self._url(turn.queue).endswith(".fifo")
        alone = {"MessageGroupId": turn.turn, "MessageDeduplicationId": turn.turn} if fifo else {}
        self._ask(turn.queue, "send_message", MessageBody=body, **alone)

    def waiting(self, queue: str) -> int | None:
        """Count the messages of a queue, also those that workers have."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        counts = self._ask(queue, "get_queue_attributes", AttributeNames=names)["Attributes"]
        return sum(int(counts.get(name, 0)) for name in names)

    def receive(self, queue: str, seconds: int) -> Arrived | None:
        """Wait for one message. None if none has come."""
        limits = {"MaxNumberOfMessages": 1, "WaitTimeSeconds": seconds, "VisibilityTimeout": VISIBLE}
        answer = self._ask(queue, "receive_message", **limits)
        return next((_read(message) for message in answer.get("Messages", [])), None)

    def keep(self, queue: str, message: Arrived) -> None:
        """Keep a message for some more time."""
        self._ask(queue, "change_message_visibility", ReceiptHandle=message.handle, VisibilityTimeout=VISIBLE)

    def settle(self, queue: str, message: Arrived) -> None:
        """Delete a message."""
        self._ask(queue, "delete_message", ReceiptHandle=message.handle)

    @cached_property
    def _client(self) -> Any:
        return open_client(self._settings)

    def _ask(self, queue: str, action: str, **arguments: Any) -> Any:
        url = self._url(queue)
        with reaching_sqs(f"sqs://{queue}"):
            return getattr(self._client, action)(QueueUrl=url, **arguments)

    def _url(self, queue: str) -> str:
        """Return the URL of a queue, or of its FIFO form.

        Raises:
            TerminalError: There is neither.
        """
        if queue not in self._urls:
            self._urls[queue] = self._find(queue)
        return self._urls[queue]

    def _find(self, queue: str) -> str:
        for name in (queue, f"{queue}.fifo"):
            try:
                with reaching_sqs(f"sqs://{name}"):
                    return str(self._client.get_queue_url(QueueName=name)["QueueUrl"])
            except TerminalError as error:
                if error.code != "not_found":
                    raise
        problem = f"There is no SQS queue {queue}, nor {queue}.fifo"
        fix = f"Create it (`aws sqs create-queue --queue-name {queue}`), or check QUEUE_NAME and the region."
        raise TerminalError(problem, fix=fix, code="not_found")


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
