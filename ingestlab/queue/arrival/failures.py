"""Which versions of files have failed for good: a sync submits none of them again before it has changed."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, IngestResult, Source

_KEY = "ingestlab:failures:{}"


def note(request: IngestRequest, result: IngestResult, client: redis.Redis) -> None:
    """Note files that no retry helps. Forget those that went well.

    Args:
        request: What was asked.
        result: How it ended.
        client: The Redis of the queue.
    """
    versions = {source.uri: source.version for source in request.sources if source.version}
    ended = {container(o.uri): isinstance(o.exception(), TerminalError) for o in result.outcomes}
    failed = {uri: versions[uri] for uri, for_good in ended.items() if for_good and uri in versions}
    well = [uri for uri, for_good in ended.items() if not for_good]
    key = _KEY.format(request.tenant)
    if failed:
        client.hset(key, mapping=failed)  # type: ignore[arg-type]
    if well:
        client.hdel(key, *well)


def failed_before(sources: Sequence[Source], tenant: str, client: redis.Redis) -> set[str]:
    """Pick the URIs of files that failed for good as they are.

    Args:
        sources: As a listing gives them.
        tenant: Whose.
        client: The Redis of the queue.
    """
    known = client.hmget(_KEY.format(tenant), [source.uri for source in sources])
    return {s.uri for s, version in zip(sources, known, strict=True) if s.version and version == s.version.encode()}
