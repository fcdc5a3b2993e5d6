"""A double of Google Pub/Sub: it speaks its protocol (gRPC, with Google's own messages) and keeps its rules of leases.

Google's emulator is in no registry of Python, npm or Debian, and what is there keeps no deadlines. Its clock can be put
forward, so that no test waits for one.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google import pubsub_v1 as google
from google.protobuf.empty_pb2 import Empty

TOPIC = "projects/p/topics/{}"
SUBSCRIPTION = "projects/p/subscriptions/{}"


@dataclass
class Waiting:
    """A message of a subscription: whose it is until when, and how often it was delivered."""

    message: Any
    handle: str = ""
    until: float = 0.0
    attempts: int = 0


@dataclass
class Subscription:
    """What a subscription has, and what its policy of dead letters is."""

    dead: str = ""
    most: int = 5
    deadline: int = 10
    messages: list[Waiting] = field(default_factory=list)


@dataclass
class PubSub:
    """The server; `denied` are methods that nobody may call, `calls` those that were."""

    url: str = ""
    topics: dict[str, list[str]] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    ahead: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._methods = {
            "GetSubscription": self._get_subscription,
            "Pull": self._pull,
            "Acknowledge": self._acknowledge,
            "ModifyAckDeadline": self._modify_ack_deadline,
        }

    def add(self, name: str, dead: str = "", most: int = 5) -> Subscription:
        """A topic with a subscription of the same name."""
        topic, path = TOPIC.format(name), SUBSCRIPTION.format(name)
        self.topics[topic] = [path]
        self.subscriptions[path] = Subscription(TOPIC.format(dead) if dead else "", most)
        return self.subscriptions[path]

    def send(self, name: str, data: bytes = b"", **attributes: str) -> None:
        with self._changed:
            self._publish(TOPIC.format(name), data, attributes)

    def skip(self, seconds: float) -> None:
        """Put the clock forward."""
        with self._changed:
            self.ahead += seconds
            self._changed.notify_all()

    def _publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        name = str(next(self._numbers))
        for path in self.topics[topic]:
            message = google.PubsubMessage(data=data, attributes=attributes, message_id=name)
            self.subscriptions[path].messages.append(Waiting(message))
        self._changed.notify_all()
        return name

    def call(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            self.calls.append((method, request))
            if method in self.away:
                context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            if method in self.denied:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{method} is denied")
            if method == "Publish":
                if request.topic not in self.topics:
                    context.abort(grpc.StatusCode.NOT_FOUND, "no topic")
                sent = [self._publish(request.topic, m.data, dict(m.attributes)) for m in request.messages]
                return google.PublishResponse(message_ids=sent)
            subscription = self.subscriptions.get(request.subscription)
            if subscription is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "no subscription")
            return self._methods[method](subscription, request, context)

    def _get_subscription(self, subscription: Subscription, request: Any, _: Any) -> Any:
        policy = {"dead_letter_topic": subscription.dead, "max_delivery_attempts": subscription.most}
        return google.Subscription(name=request.subscription, dead_letter_policy=policy if subscription.dead else None)

    def _pull(self, subscription: Subscription, request: Any, context: grpc.ServicerContext) -> Any:
        while context.is_active() and (context.time_remaining() or 0) > 0.02:
            now = time.monotonic() + self.ahead
            ready = [w for w in subscription.messages if w.until <= now][: request.max_messages]
            if ready := [w for w in ready if not self._is_dead(w, subscription)]:
                for each in ready:
                    each.attempts += 1
                    each.handle, each.until = f"{next(self._numbers)}", now + subscription.deadline
                return google.PullResponse(received_messages=[self._received(w, subscription) for w in ready])
            self._changed.wait(0.02)
        return google.PullResponse()

    def _is_dead(self, waiting: Waiting, subscription: Subscription) -> bool:
        """Give a message to the dead-letter topic if it was delivered too often."""
        if not subscription.dead or waiting.attempts < subscription.most:
            return False
        subscription.messages.remove(waiting)
        self._publish(subscription.dead, waiting.message.data, dict(waiting.message.attributes))
        return True

    def _received(self, waiting: Waiting, subscription: Subscription) -> Any:
        attempt = waiting.attempts if subscription.dead else 0
        return google.ReceivedMessage(ack_id=waiting.handle, message=waiting.message, delivery_attempt=attempt)

    def _acknowledge(self, subscription: Subscription, request: Any, _: Any) -> Any:
        subscription.messages[:] = [w for w in subscription.messages if w.handle not in request.ack_ids]
        return Empty()

    def _modify_ack_deadline(self, subscription: Subscription, request: Any, context: grpc.ServicerContext) -> Any:
        if request.ack_deadline_seconds > 600:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "at most 600 seconds")
        for each in subscription.messages:
            if each.handle in request.ack_ids:
                each.until = time.monotonic() + self.ahead + request.ack_deadline_seconds
        self._changed.notify_all()
        return Empty()


_METHODS = {
    "Subscriber": {
        "Pull": google.PullRequest,
        "Acknowledge": google.AcknowledgeRequest,
        "ModifyAckDeadline": google.ModifyAckDeadlineRequest,
        "GetSubscription": google.GetSubscriptionRequest,
    },
    "Publisher": {"Publish": google.PublishRequest},
}


@contextmanager
def serving_pubsub() -> Iterator[PubSub]:
    """The double, on a free port."""
    double = PubSub()

    def handler(method: str, request: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            lambda said, context: double.call(method, said, context),
            request_deserializer=request.deserialize,
            response_serializer=lambda a: a.SerializeToString() if isinstance(a, Empty) else type(a).serialize(a),
        )

    server = grpc.server(ThreadPoolExecutor(8))
    for service, methods in _METHODS.items():
        handlers = {name: handler(name, request) for name, request in methods.items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers),)
        )
    double.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield double
    finally:
        server.stop(0).wait(60)
