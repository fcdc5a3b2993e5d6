"""The shapes in which AWS tells of objects: from S3 itself, through SNS, and through EventBridge.

Sources: "Event message structure" of Amazon S3's user guide, "Amazon SNS message formats", and "Amazon S3 events" of
EventBridge's reference. Keys come as form data in S3's own records, and as they are in EventBridge's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ingestlab.interfaces import Notice

_CREATED = ("Object Created", "Object Restore Completed")


class UnknownShapeError(ValueError):
    """A message that tells of no object."""


def notices(body: str) -> tuple[Notice, ...]:
    """Read what a message tells of objects.

    A test event tells nothing, nor does a folder's marker.

    Args:
        body: JSON, with or without the envelope of SNS.

    Raises:
        UnknownShapeError: It is something else. The text says what.
    """
    try:
        data = json.loads(body)
    except ValueError:
        raise UnknownShapeError("not JSON") from None
    if isinstance(data, dict) and data.get("Type") == "Notification" and isinstance(data.get("Message"), str):
        return notices(data["Message"])
    if not isinstance(data, dict):
        raise UnknownShapeError(f"a JSON {type(data).__name__}, not an event")
    if data.get("Event") == "s3:TestEvent":
        return ()
    if isinstance(data.get("Records"), list):
        return tuple(n for record in data["Records"] for n in _record(record))
    if data.get("source") == "aws.s3" and isinstance(data.get("detail"), dict):
        return tuple(_bridged(data))
    raise UnknownShapeError(f"an object with the fields {', '.join(map(repr, list(data)[:5]))}")


def _record(record: Any) -> Iterator[Notice]:
    """Read one of S3's own records."""
    try:
        kind, s3 = str(record["eventName"]).removeprefix("s3:"), record["s3"]
        bucket, key = s3["bucket"]["name"], unquote_plus(s3["object"]["key"])
        order = s3["object"].get("sequencer", "")
    except (KeyError, TypeError, AttributeError):
        raise UnknownShapeError("a record without eventName, bucket and key") from None
    removed = kind.startswith(("ObjectRemoved:", "LifecycleExpiration:"))
    if removed or kind.startswith(("ObjectCreated:", "ObjectRestore:Completed")):
        yield from _notice(bucket, key, order, removed=removed)


def _bridged(event: Mapping[str, Any]) -> Iterator[Notice]:
    """Read an event of EventBridge."""
    try:
        kind, detail = event["detail-type"], event["detail"]
        bucket, key = detail["bucket"]["name"], detail["object"]["key"]
        order = detail["object"].get("sequencer", "")
    except (KeyError, TypeError, AttributeError):
        raise UnknownShapeError("an event of EventBridge without bucket and key") from None
    if kind == "Object Deleted" or kind in _CREATED:
        yield from _notice(bucket, key, order, removed=kind == "Object Deleted")


def _notice(bucket: str, key: str, order: str, *, removed: bool) -> Iterator[Notice]:
    if not key.endswith("/"):  # a marker of a folder
        yield Notice(f"s3://{bucket}/{key}", removed, order.ljust(32, "0") if order else "")
