"""Listens on a subscription of Google Pub/Sub, to which a bucket of Google Storage sends its notifications.

Source: "Pub/Sub notifications for Cloud Storage" of its reference: all that is needed is in a message's attributes,
whatever its payload. A message that is neither acked nor extended comes again when its deadline is over, which serves
as the delay.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Message, Notice

log = logging.getLogger("ingestlab.queue.arrival")

VISIBLE = 60  # seconds for which a message is ours, and by which `keep` extends it
_LONGEST = 600  # seconds by which Pub/Sub lets one extend
_MOST = 100  # messages of one call, which become one request
_REMEMBERED = 10_000  # messages whose tries are counted here
_CREATED = ("OBJECT_FINALIZE",)
_REMOVED = ("OBJECT_DELETE", "OBJECT_ARCHIVE")  # an archived object is gone, or there is a newer one
_PROBLEMS: dict[str, tuple[str, str, Code]] = {
    "NotFound": ("There is no subscription {name}", "Check its project and its name.", "not_found"),
    "PermissionDenied": (
        "Not allowed to use the subscription {name}",
        "Grant roles/pubsub.subscriber on it, and roles/pubsub.publisher on its dead-letter topic.",
        "access_denied",
    ),
    "Unauthenticated": (
        "No usable credentials for {name}",
        "Check GOOGLE_APPLICATION_CREDENTIALS, and the clock of this machine.",
        "credentials_invalid",
    ),
    "InvalidArgument": ("{name} is no subscription", "Write pubsub://PROJECT/SUBSCRIPTION.", "argument_invalid"),
}


class PubSubFeed:
    """Receive notifications of buckets; see :class:`ingestlab.interfaces.Feed`.

    A message that is refused goes to the dead-letter topic of the subscription, with the reason as an attribute.

    Args:
        address: ``pubsub://PROJECT/SUBSCRIPTION``.
        settings: Their ``storage_options`` for ``pubsub`` are options of Google's client, such as
            ``credentials_file``; ``endpoint_url`` names an emulator, as does ``PUBSUB_EMULATOR_HOST``.

    Raises:
        TerminalError: The address is another one, or Google's client is not installed.
    """

    def __init__(self, address: str, settings: Settings) -> None:
        project, subscription = urlsplit(address).netloc, urlsplit(address).path.strip("/")
        if not project or not subscription or "/" in subscription:
            fix = "Write pubsub://PROJECT/SUBSCRIPTION."
            raise TerminalError(f"This is no address of a subscription: {address}", fix=fix, code="argument_invalid")
        self._google = needed("google.pubsub_v1", "pubsub", "listening to Pub/Sub")
        self._options = dict(settings.storage_options.get("pubsub", {}))
        self._endpoint = str(self._options.pop("endpoint_url", "")).partition("://")[2]
        self.name = f"pubsub://{project}/{subscription}"
        self._path = f"projects/{project}/subscriptions/{subscription}"
        self._dead = ""
        self._held: dict[str, Any] = {}  # messages that are ours, by their handle
        self._tries: OrderedDict[str, int] = OrderedDict()  # where Pub/Sub does not count them

    def __enter__(self) -> Self:
        self._held.clear()
        with self._told():
            self._client = self._connect(self._google.SubscriberClient)
            self._publisher = self._connect(self._google.PublisherClient)
            self._dead = self._dead_letters()
        return self

    def __exit__(self, *error: object) -> None:
        for client in (self._client, self._publisher):
            client.transport.close()

    def receive(self, seconds: float) -> Sequence[Message]:
        """Wait for notifications."""
        from google.api_core.exceptions import DeadlineExceeded  # noqa: PLC0415 - of the same extra

        with self._told():
            try:
                answer = self._client.pull(
                    subscription=self._path, max_messages=_MOST, timeout=max(1.0, seconds), retry=None
                )
            except DeadlineExceeded:  # nothing came
                return []
        received = answer.received_messages
        self._held |= {each.ack_id: each.message for each in received}
        self._extend([each.ack_id for each in received], VISIBLE)
        return [message for message in map(self._read, received) if message]

    def settle(self, messages: Sequence[Message]) -> None:
        """Ack messages."""
        self._ack([message.handle for message in messages])

    def postpone(self, message: Message, seconds: float) -> None:
        """Let a message come again, after ten minutes at most."""
        self._held.pop(message.handle, None)
        self._extend([message.handle], min(_LONGEST, int(seconds)))

    def refuse(self, message: Message, reason: str) -> None:
        """Send a message to the dead-letter topic.

        Where that is not possible it comes again, until Pub/Sub forgets it.
        """
        log.warning("%s: a message is put aside: %s", self.name, reason)
        held = self._held[message.handle]
        if not self._dead:
            self.postpone(message, _LONGEST)
            return
        attributes = {**held.attributes, "reason": reason[:1024]}
        try:
            with self._told():
                self._publisher.publish(topic=self._dead, messages=[{"data": held.data, "attributes": attributes}])
        except IngestError as error:
            log.warning("%s: the dead-letter topic does not take it: %s", self.name, error)
            self.postpone(message, _LONGEST)
            return
        self._ack([message.handle])

    def keep(self, messages: Sequence[Message]) -> None:
        """Extend the deadlines of messages."""
        self._extend([message.handle for message in messages if message.handle in self._held], VISIBLE)

    def waiting(self) -> int | None:
        """Return None: Pub/Sub tells its monitoring alone."""
        return None

    def _read(self, received: Any) -> Message | None:
        """Read a message; None if it changes no file, and is acked."""
        attributes = dict(received.message.attributes)
        tries = received.delivery_attempt or self._count(received.message.message_id)
        body = json.dumps({"attributes": attributes, "data": received.message.data.decode(errors="replace")})
        if missing := [name for name in ("eventType", "bucketId", "objectId") if not attributes.get(name)]:
            problem = f"The message tells of no object: it has no {', '.join(missing)}"
            return Message(received.ack_id, (), tries, body, problem)
        if found := notices(attributes):
            return Message(received.ack_id, found, tries, body)
        log.info("%s: %s is acked, which changes no file", self.name, attributes["eventType"])
        self._ack([received.ack_id])
        return None

    def _count(self, name: str) -> int:
        """Count how often a message came to this listener."""
        tries = self._tries.pop(name, 0) + 1
        self._tries[name] = tries
        if len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)
        return tries

    def _ack(self, handles: Sequence[str]) -> None:
        if not handles:
            return
        with self._told():
            self._client.acknowledge(subscription=self._path, ack_ids=handles)
        for handle in handles:
            if held := self._held.pop(handle, None):
                self._tries.pop(held.message_id, None)

    def _extend(self, handles: Sequence[str], seconds: int) -> None:
        if handles:
            with self._told():
                self._client.modify_ack_deadline(subscription=self._path, ack_ids=handles, ack_deadline_seconds=seconds)

    def _connect(self, kind: Any) -> Any:
        """Make a client."""
        if not self._endpoint:
            return kind(client_options=self._options)
        import grpc  # noqa: PLC0415 - of the same extra

        channel = grpc.insecure_channel(self._endpoint, [("grpc.max_receive_message_length", -1)])
        return kind(transport=kind.get_transport_class("grpc")(channel=channel))

    def _dead_letters(self) -> str:
        """Find the dead-letter topic. Empty if there is none, or nobody may ask."""
        from google.api_core.exceptions import PermissionDenied  # noqa: PLC0415 - of the same extra

        try:
            topic = str(self._client.get_subscription(subscription=self._path).dead_letter_policy.dead_letter_topic)
        except PermissionDenied:  # a subscriber may pull and not look
            log.warning("%s cannot be looked at: grant pubsub.subscriptions.get for its dead letters", self.name)
            return ""
        if not topic:
            log.warning("%s has no dead-letter topic: what makes no sense stays in it", self.name)
        return topic

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Translate errors of Google."""
        from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - of the same extra
        from google.auth.exceptions import (  # noqa: PLC0415 - likewise
            DefaultCredentialsError,
            GoogleAuthError,
            RefreshError,
        )

        try:
            yield
        except (GoogleAPIError, GoogleAuthError) as error:
            refused = isinstance(error, DefaultCredentialsError | RefreshError) and not error.retryable
            name = "Unauthenticated" if refused else type(error).__name__
            if name in _PROBLEMS:
                problem, fix, code = _PROBLEMS[name]
                raise TerminalError.wrap(error, problem.format(name=self.name), fix, code=code) from error
            problem, fix = f"No answer from {self.name}", "It is asked again."
            raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error


def notices(attributes: Mapping[str, str]) -> tuple[Notice, ...]:
    """Read what a notification tells of an object.

    An object's generation grows with each version. The removal of one comes after it, and before the next.

    Args:
        attributes: Of the message.

    Returns:
        None where no file has changed, such as a folder's marker, or metadata.
    """
    kind, name = attributes.get("eventType", ""), attributes.get("objectId", "")
    removed = kind in _REMOVED
    if not (removed or kind in _CREATED) or not name or name.endswith("/"):
        return ()
    generation = attributes.get("objectGeneration", "")
    order = f"{generation:0>20}{int(removed)}" if generation else ""
    return (Notice(f"gs://{attributes.get('bucketId', '')}/{name}", removed, order),)
