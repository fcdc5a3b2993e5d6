"""Listens on a queue of Amazon SQS, to which a bucket sends its events: straight, by SNS or by EventBridge."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import urlsplit

from ingestlab.core.models import digest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Message
from ingestlab.queue.arrival.s3_events import UnknownShapeError, notices
from ingestlab.queue.sqs.client import VISIBLE, open_client, reaching_sqs

log = logging.getLogger("ingestlab.queue.arrival")

_HIDDEN = 12 * 3600 - 60  # seconds: what SQS allows at most
_LONGEST = 20  # seconds that SQS lets one wait
_MOST = 10  # messages of one call
_BATCHES = 10  # calls without waiting, while there is more: 100 messages become one request


class SqsFeed:
    """Receive events of buckets; see :class:`ingestlab.interfaces.Feed`.

    A message that is refused goes to the queue's dead-letter queue, with the reason as an attribute.

    Args:
        address: The URL of the queue, or ``sqs://NAME`` in the region and account of the environment.
        settings: Their ``storage_options`` for ``sqs`` are arguments of botocore's client, such as ``endpoint_url``.
    """

    def __init__(self, address: str, settings: Settings) -> None:
        self._address, self._settings = address, settings
        self.name = f"sqs://{urlsplit(address).path.rpartition('/')[2] or urlsplit(address).netloc}"
        self._url, self._dead = "", ""

    def __enter__(self) -> Self:
        with reaching_sqs(self.name):
            self._client = open_client(self._settings)
            named = self._address.startswith("sqs://")
            name = self.name.removeprefix("sqs://")
            self._url = self._client.get_queue_url(QueueName=name)["QueueUrl"] if named else self._address
            self._dead = self._dead_letters()
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for events."""
        messages: list[Message] = []
        wait = min(_LONGEST, int(seconds))
        for _ in range(_BATCHES):
            page = self._page(wait if not messages else 0)
            messages += [m for m in map(self._read, page) if m]
            if len(page) < _MOST:
                break
        return messages

    def settle(self, messages: Sequence[Message]) -> None:
        """Delete messages."""
        for group in _tens(messages):
            entries = [{"Id": str(i), "ReceiptHandle": m.handle} for i, m in enumerate(group)]
            with reaching_sqs(self.name):
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def postpone(self, message: Message, seconds: float) -> None:
        """Hide a message for some time."""
        with reaching_sqs(self.name):
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=message.handle, VisibilityTimeout=int(seconds)
            )

    def refuse(self, message: Message, reason: str) -> None:
        """Send a message to the dead-letter queue.

        Without one it is hidden until SQS forgets it.
        """
        log.warning("%s: a message is put aside: %s", self.name, reason)
        if not self._dead:
            self.postpone(message, _HIDDEN)
            return
        said = {"DataType": "String", "StringValue": reason[:1024]}
        ordered = {"MessageGroupId": "refused", "MessageDeduplicationId": digest(message.handle)[:64]}
        with reaching_sqs(self.name):
            self._client.send_message(
                QueueUrl=self._dead,
                MessageBody=message.body,
                MessageAttributes={"reason": said},
                **(ordered if self._dead.endswith(".fifo") else {}),
            )
        self.settle([message])

    def keep(self, messages: Sequence[Message]) -> None:
        """Extend the time for which messages are ours."""
        for group in _tens(messages):
            entries = [
                {"Id": str(i), "ReceiptHandle": m.handle, "VisibilityTimeout": VISIBLE} for i, m in enumerate(group)
            ]
            with reaching_sqs(self.name):
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def waiting(self) -> int | None:
        """Count what is in the queue, about."""
        with reaching_sqs(self.name):
            return int(self._attributes("ApproximateNumberOfMessages").get("ApproximateNumberOfMessages", 0))

    def _page(self, wait: int) -> list[dict[str, Any]]:
        with reaching_sqs(self.name):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_MOST,
                WaitTimeSeconds=wait,
                VisibilityTimeout=VISIBLE,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        page: list[dict[str, Any]] = answer.get("Messages", [])
        return page

    def _read(self, got: Mapping[str, Any]) -> Message | None:
        """Read a message; one that tells of nothing is settled."""
        tries = int(got.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        message = Message(got["ReceiptHandle"], (), tries, got["Body"])
        try:
            found = notices(got["Body"])
        except UnknownShapeError as error:
            return replace(message, problem=f"The message tells of no object: {error}")
        if not found:
            log.info("%s: a message without objects is taken off, such as a test event", self.name)
            self.settle([message])
            return None
        return replace(message, notices=found)

    def _dead_letters(self) -> str:
        """Find the URL of the dead-letter queue. Empty if there is none."""
        policy = self._attributes("RedrivePolicy").get("RedrivePolicy")
        if not policy:
            log.warning("%s has no dead-letter queue: what makes no sense stays in it", self.name)
            return ""
        *_, account, name = str(json.loads(policy)["deadLetterTargetArn"]).split(":")
        url: str = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return url

    def _attributes(self, name: str) -> dict[str, str]:
        answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=[name])
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes


def _tens(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    return (messages[i : i + _MOST] for i in range(0, len(messages), _MOST))
