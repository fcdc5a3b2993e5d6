"""An index of the committed sources of a table, in Redis.

The log in the lake is the truth. The index answers "is this source committed, with which content?" for
thousands of sources in one round trip; it carries the identity of the Redis server process that it was
built on, so that a restarted, restored or replaced server never serves it: it is rebuilt first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import redis

from ingestlab.core.archive_uri import container, joined
from ingestlab.core.errors import TransientError
from ingestlab.core.models import SourceRecord
from ingestlab.core.signed_uri import bare

_CHUNK = 5000  # records that are written at once
_FORM = 3  # of the index: one that an earlier version built is rebuilt


class SourceIndex:
    """The committed sources of one table, and its columns.

    Args:
        client: A connection to Redis.
        key: Of the index; others begin with it.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client, self._key = client, key

    def known(self, uris: Sequence[str]) -> dict[str, SourceRecord]:
        """Return the committed sources among `uris`; call :meth:`ensure` first."""
        values = self._client.hmget(self._key, list(uris)) if uris else []
        records = {u: SourceRecord.model_validate_json(v) for u, v in zip(uris, values, strict=True) if v}
        return {u: r if r.uri == u else r.model_copy(update={"uri": u}) for u, r in records.items()}

    def scan(self) -> Iterator[SourceRecord]:
        """Yield all records, in no order, some twice; call :meth:`ensure` first."""
        for _uri, text in self._client.hscan_iter(self._key, count=1000):
            yield SourceRecord.model_validate_json(text)

    def below(self, uris: Collection[str]) -> Iterator[SourceRecord]:
        """Yield the records of files below folders, some twice.

        Members of archives are among them. A URI that is no folder of the table costs one look. For one that is, the
        server looks at all names.

        Args:
            uris: Of folders, or of anything else.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for uri in uris:
                pipe.sismember(self._key + ":folders", uri)
            folders = {uri for uri, there in zip(uris, pipe.execute(), strict=True) if there}
        for folder in sorted(f for f in folders if folders.isdisjoint(folders_of(f))):  # the outermost
            pattern = re.sub(r"([*?\[\\])", r"\\\1", folder) + "/*"
            for _uri, text in self._client.hscan_iter(self._key, match=pattern, count=1000):
                record = SourceRecord.model_validate_json(text)
                yield record
                yield from self.known([joined(head, record.uri) for head in record.members]).values()

    def record(self, sources: Iterable[SourceRecord]) -> None:
        """Note sources as committed."""
        known, key = list(sources), self._key
        rows: Any = {s.uri: s.model_dump_json() for s in known}
        if former := _former(known):
            there = zip(former, self._client.hmget(key, list(former)), strict=True)
            rows = {uri: former[uri] for uri, text in there if not text or _uri(text) != uri} | rows
        if rows:
            if folders := {folder for uri in rows for folder in folders_of(container(uri))}:
                self._client.sadd(key + ":folders", *folders)
            self._client.hset(key, mapping=rows)

    def ensure(self, load: Callable[[], Iterable[SourceRecord]]) -> bool:
        """Build the index from the log, unless it stands. True if it did.

        Raises:
            TransientError: Another job has been building it for too long.
        """
        key = self._key
        server = self._server()
        if self._client.get(key + ":built") == server:
            return False
        try:
            with self._client.lock(key + ":building", timeout=600, blocking_timeout=120):
                if self._client.get(key + ":built") != server:
                    self._rebuild(key, load())
                    self._client.set(key + ":built", server)
        except redis.exceptions.LockError as error:
            table = key.rpartition(":")[2]
            raise TransientError.wrap(
                error, f"The index of {table} is being built by another job", code="busy_source"
            ) from error
        return True

    def forget(self) -> None:
        """Drop the index. The next job builds it from the log."""
        self._client.delete(self._key + ":built")

    def schema(self) -> str | bytes | None:
        """Return what :meth:`keep_schema` has kept, if it was on this server."""
        server, schema = self._client.hmget(self._key + ":schema", ["server", "schema"])
        return schema if server == self._server() else None

    def keep_schema(self, schema: str) -> None:
        """Keep the columns of the table; the caller holds :func:`schema_lock`."""
        kept: Any = {"server": self._server(), "schema": schema}
        self._client.hset(self._key + ":schema", mapping=kept)

    def forget_schema(self) -> None:
        """Forget the columns. The next job reads them from the log."""
        self._client.delete(self._key + ":schema")

    def _rebuild(self, key: str, sources: Iterable[SourceRecord]) -> None:
        """Write all records beside the index, which they replace then."""
        new, rest = key + ":new", iter(sources)
        names = {key: new, key + ":folders": new + ":folders"}
        self._client.delete(*names.values())
        while some := list(islice(rest, _CHUNK)):
            rows: Any = {s.uri: s.model_dump_json() for s in some}
            folders = {folder for s in some for folder in folders_of(container(s.uri))}
            with self._client.pipeline(transaction=False) as pipe:
                pipe.hset(new, mapping=rows)
                for uri, text in _former(some).items():
                    pipe.hsetnx(new, uri, text)
                if folders:
                    pipe.sadd(new + ":folders", *folders)
                pipe.execute()
        built = {name: self._client.exists(other) for name, other in names.items()}
        with self._client.pipeline(transaction=True) as pipe:
            for name, other in names.items():
                if built[name]:
                    pipe.rename(other, name)
                else:
                    pipe.delete(name)
            pipe.execute()

    def _server(self) -> bytes:
        """Identity of the server process: another one may have lost writes that this one took."""
        info = self._client.info("server")
        return f"{info['run_id']} {_FORM}".encode()


def folders_of(uri: str) -> Iterator[str]:
    """Yield the folders of a file, the innermost first, its bucket last."""
    scheme, mark, path = uri.rpartition("://")
    while path := path.rpartition("/")[0]:
        yield f"{scheme}{mark}{path}"


def _uri(record: bytes | str) -> str:
    return SourceRecord.model_validate_json(record).uri


def _former(sources: Iterable[SourceRecord]) -> dict[str, str]:
    """By their URI without signature: the records of lakes in which it was part of the URI."""
    return {uri: s.model_dump_json() for s in sources if (uri := bare(s.uri)) != s.uri}
