"""The queue backends of the tests: what settings each takes, with its servers running and its queues empty."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from support.rabbitmq import forget

BACKENDS = [
    "rq",
    pytest.param("celery", marks=pytest.mark.slow("RabbitMQ")),
    "sqs",
    pytest.param("sqs.fifo", marks=pytest.mark.slow("queue backends")),
]


def settings_for(backend: str, request: pytest.FixtureRequest, *queues: str) -> dict[str, Any]:
    """Settings that choose a backend.

    Args:
        backend: Its name; `sqs.fifo` has FIFO queues.
        request: Of the test: leads to servers that all tests share.
        *queues: Those that the test uses.
    """
    if backend == "celery":
        url = request.getfixturevalue("rabbitmq")
        forget(url, *queues)
        return {"broker": "celery", "broker_url": url}
    if backend.startswith("sqs"):
        options = sqs_options(request.getfixturevalue("s3"))
        client = botocore.session.Session().create_client("sqs", **options)
        for queue in queues:
            _empty(client, queue, fifo=backend.endswith(".fifo"))
        return {"broker": "sqs", "storage_options": {"sqs": options}}
    return {"broker": backend}


def sqs_options(s3: dict[str, Any]) -> dict[str, Any]:
    """Arguments of botocore's client for the SQS of the S3 server."""
    return {
        "endpoint_url": s3["client_kwargs"]["endpoint_url"],
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }


def _empty(client: Any, queue: str, *, fifo: bool) -> None:
    """Makes a queue, in place of one of either kind."""
    for url in client.list_queues(QueueNamePrefix=queue).get("QueueUrls", []):
        if url.rpartition("/")[2] in (queue, f"{queue}.fifo"):
            client.delete_queue(QueueUrl=url)
    if fifo:
        client.create_queue(QueueName=f"{queue}.fifo", Attributes={"FifoQueue": "true"})
    else:
        client.create_queue(QueueName=queue)
