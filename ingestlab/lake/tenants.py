"""Where tenants are found: in a file, in a table in Redis, or as mere names of the settings.

Whoever acts for a tenant asks once, by :func:`settings_for`, and goes on with settings that are that tenant's.
"""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import redis

from ingestlab.core.access import check_tenant
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings, tenant_in
from ingestlab.core.tenants import Tenant, parse, read_file
from ingestlab.lake.audit import note
from ingestlab.lake.locks import connect

log = logging.getLogger("ingestlab.lake.tenants")

TABLE = "ingestlab:tenants"  # a hash: the entry of each tenant, as JSON
WEIGHTS, CAPS = "ingestlab:fair:weights", "ingestlab:fair:caps"  # hashes: what turns among tenants go by
_AWAY = (redis.ConnectionError, redis.TimeoutError)


def settings_for(tenant: str, settings: Settings) -> Settings:
    """Give the settings with which to act for a tenant.

    Args:
        tenant: Its name.
        settings: Of this process.

    Returns:
        The same for a tenant that is a mere name, else those that its entry narrows.

    Raises:
        TerminalError: There is no such tenant, or the token of the settings is another's.
        TransientError: Its entry cannot be read.
    """
    return resolve(tenant, settings)[0]


def resolve(tenant: str, settings: Settings) -> tuple[Settings, Tenant | None]:
    """Give what :func:`settings_for` gives, and the tenant's entry if it has one.

    Args:
        tenant: Its name.
        settings: Of this process.

    Raises:
        TerminalError: There is no such tenant, or the token of the settings is another's.
        TransientError: Its entry cannot be read.
    """
    entry = find(tenant, settings)
    if settings.tenant_token:
        _check_token(tenant, entry, settings)
    if entry is not None:
        return entry.settings(settings), entry
    check_tenant(tenant, settings.base)
    return settings.base, None


def own(settings: Settings) -> Settings:
    """Narrow the settings to the token's holder, if one is set.

    Args:
        settings: Of this process.

    Raises:
        TerminalError: The token is not valid.
    """
    return settings_for(settings.tenant, settings) if settings.tenant_token else settings


def is_visible(tenant: str, settings: Settings) -> bool:
    """Tell whether what is a tenant's may be shown: to the holder of a token, its own alone.

    Args:
        tenant: Its name.
        settings: Of this process.
    """
    return not settings.tenant_token or tenant_in(settings.tenant_token) == tenant


def narrowed(tenant: str, settings: Settings) -> Settings:
    """Narrow the settings to a tenant's entry, if there is one.

    Args:
        tenant: Its name, as a record of something past has it.
        settings: Of this process.
    """
    entry = find(tenant, settings)
    return settings if entry is None else entry.settings(settings)


def find(tenant: str, settings: Settings) -> Tenant | None:
    """Find a tenant's entry. None for a mere name, or an unknown one.

    Args:
        tenant: Its name.
        settings: Name the file, or lead to Redis.

    Raises:
        TerminalError: The entry, or the file, cannot be read.
        TransientError: Redis is away, and the settings do not name the tenant.
    """
    if settings.tenants_file:
        return _file(settings).get(tenant)
    if not (settings.redis_url or settings.redis_host):
        return None
    try:
        entry: Any = connect(settings.redis).hget(TABLE, tenant)
    except _AWAY as error:
        if tenant in settings.tenants and not settings.tenant_token:  # reading what is shared needs no Redis
            log.warning("Redis does not answer: tenant %s is taken without its entry, if it has one", tenant)
            return None
        problem, fix = f"No answer from Redis, which has the entry of tenant '{tenant}'", "Try again."
        raise TransientError.wrap(error, problem, fix, code="redis_unavailable") from None
    return parse(tenant, json.loads(entry)) if entry else None


def entries(settings: Settings) -> dict[str, Tenant]:
    """Read all tenants. A mere name has an empty entry.

    Args:
        settings: Name the file or lead to Redis, and have the names.
    """
    if settings.tenants_file:
        known = _file(settings)
    elif settings.redis_url or settings.redis_host:
        raw: Any = connect(settings.redis).hgetall(TABLE)
        known = {name.decode(): parse(name.decode(), json.loads(entry)) for name, entry in raw.items()}
    else:
        known = {}
    names = dict.fromkeys((*settings.tenants, *sorted(known)))
    return {name: known.get(name) or Tenant(name=name) for name in names}


def of_token(token: str, settings: Settings) -> Tenant | None:
    """Find whose token this is; None if it is nobody's.

    Args:
        token: As given by a stranger.
        settings: As of :func:`find`.
    """
    name = tenant_in(token)
    entry = find(name, settings) if name else None
    return entry if entry is not None and entry.has_token(token) else None


def share(tenant: Tenant, client: redis.Redis) -> None:
    """Write where workers take turns what they need of a tenant. The first one makes them take turns.

    Args:
        tenant: The tenant.
        client: Of Redis.
    """
    client.hset(WEIGHTS, tenant.name, repr(tenant.weight))
    if tenant.running_jobs is None:
        client.hdel(CAPS, tenant.name)
    else:
        client.hset(CAPS, tenant.name, tenant.running_jobs)


class TenantTable:
    """The table of tenants in Redis.

    Args:
        settings: Lead to Redis.

    Raises:
        TerminalError: The settings name a file, which alone counts.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.tenants_file:
            problem, fix = f"Tenants are in the file {settings.tenants_file}", "Edit it; it counts at once."
            raise TerminalError(problem, expected="tenants in Redis", fix=fix, code="argument_invalid")
        self._client, self._settings = connect(settings.redis), settings

    def get(self, name: str) -> Tenant:
        """Read an entry; raises TerminalError."""
        entry: Any = self._client.hget(TABLE, name)
        if not entry:
            fix = "`ingestlab tenant list` shows them, `ingestlab tenant add` makes one."
            raise TerminalError(f"There is no entry of a tenant '{name}'", fix=fix, code="tenant_unknown")
        return parse(name, json.loads(entry))

    def add(self, tenant: Tenant) -> None:
        """Add an entry; raises TerminalError if there is one."""
        note("tenant", tenant.name, ["add"], self._settings)
        if not self._client.hsetnx(TABLE, tenant.name, _text(tenant)):
            problem, fix = f"Tenant '{tenant.name}' has an entry", "Change it with `ingestlab tenant set`."
            raise TerminalError(problem, fix=fix, code="argument_invalid")
        share(tenant, self._client)

    def change(self, name: str, **changes: Any) -> Tenant:
        """Change parts of an entry, whoever changes others meanwhile.

        Args:
            name: Of the tenant.
            **changes: By name; None takes one back.
        """
        note("tenant", name, [f"set {field}" for field in changes], self._settings)

        def change(pipe: Any) -> Tenant:
            entry = pipe.hget(TABLE, name)
            known = json.loads(entry) if entry else self.get(name).to_dict()
            tenant = parse(name, {k: v for k, v in {**known, **changes}.items() if v is not None and k != "name"})
            pipe.multi()
            pipe.hset(TABLE, name, _text(tenant))
            share(tenant, pipe)
            return tenant

        changed: Any = self._client.transaction(change, TABLE, value_from_callable=True)  # type: ignore[arg-type]
        return cast("Tenant", changed)

    def change_token(self, name: str, label: str, hashed: str | None) -> bool:
        """Set the hash of a token, or take it back. False if there is none to take.

        Args:
            name: Of the tenant.
            label: Of the token.
            hashed: Its hash; None takes it back.
        """
        tokens = dict(self.get(name).tokens)
        if hashed is None and tokens.pop(label, None) is None:
            return False
        self.change(name, tokens={**tokens, label: hashed} if hashed else tokens)
        return True

    def remove(self, name: str) -> None:
        """Forget an entry; raises TerminalError if there is none. The tenant's data stay."""
        self.get(name)
        note("tenant", name, ["remove"], self._settings)
        with self._client.pipeline() as pipe:
            pipe.hdel(TABLE, name)
            pipe.hset(WEIGHTS, name, "1")
            pipe.hdel(CAPS, name)
            pipe.execute()


def _text(tenant: Tenant) -> str:
    return json.dumps(tenant.model_dump(mode="json", exclude={"name"}, exclude_defaults=True))


def _check_token(tenant: str, entry: Tenant | None, settings: Settings) -> None:
    """Let the holder of a token be that tenant alone."""
    token = settings.tenant_token or ""
    if (own := tenant_in(token)) != tenant:
        problem, fix = f"There is no tenant '{tenant}' for this token", "Leave the tenant out."
        raise TerminalError(problem, expected=f"its own, '{own}'", fix=fix, code="tenant_unknown")
    if entry is None or not entry.has_token(token):
        problem, fix = f"The token of tenant '{tenant}' is not valid", "Ask for a new one: `ingestlab tenant token`."
        raise TerminalError(problem, fix=fix, code="credentials_invalid")


def _file(settings: Settings) -> dict[str, Tenant]:
    path = Path(settings.tenants_file).expanduser()
    try:
        state = path.stat()
    except OSError as error:
        problem, fix = f"The tenants file {path} cannot be read", "Check INGESTLAB_TENANTS_FILE."
        raise TerminalError.wrap(error, problem, fix, code="setting_invalid") from None
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> dict[str, Tenant]:
    return read_file(path.read_text(), str(path))
