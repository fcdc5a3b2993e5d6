"""What a tenant may use: its lake, sources, pipelines, tokens, share of the workers and limits.

`Settings.tenants` is the simple form: names, which share everything. An entry in the tenants file, or in the table in
Redis, gives a tenant something of its own; :mod:`ingestlab.lake.tenants` finds it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME, Value
from ingestlab.core.settings import Settings
from ingestlab.core.validation import first_fault

_HASH = r"^[0-9a-f]{64}$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
Hash = Annotated[str, Field(pattern=_HASH)]
Variable = Annotated[str, Field(pattern=_VARIABLE)]
Count = Annotated[int, Field(ge=1)]


class Tenant(Value):
    """What one tenant may use. What is not given is as the settings say, without a limit.

    Attributes:
        name: Of the tenant; the first part of its folders' names.
        lake: Root of its own lake, as `Settings.lake`; empty for the shared one.
        options: fsspec options of its lake and sources by protocol, in place of `Settings.storage_options`.
        credentials: The same with names of environment variables, of which the values are taken.
        schemes: In place of `Settings.schemes`, if any.
        allow_hosts: In place of `Settings.allow_hosts`, if any.
        file_roots: In place of `Settings.file_roots`, if any.
        pipelines: Shell patterns of the pipelines that it may use.
        tokens: SHA-256 of its tokens, by a label.
        weight: Its share of the workers beside those of the others.
        queued_jobs: That wait or run, at most.
        running_jobs: At once, at most.
        bytes_a_day: Of announced files, at most; days are those of UTC.
        files_a_day: Likewise.
        tasks: In flight on Dask, at most; needs `running_jobs`, which share them.
        vectors: That its tables have in the vector store, at most.
    """

    name: str = Field(pattern=NAME)
    lake: str = ""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    credentials: dict[str, dict[str, Variable]] = Field(default_factory=dict)
    schemes: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    file_roots: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ("*",)
    tokens: dict[str, Hash] = Field(default_factory=dict)
    weight: float = Field(default=1.0, gt=0, le=1000)
    queued_jobs: Count | None = None
    running_jobs: Annotated[int, Field(ge=1, le=1000)] | None = None
    bytes_a_day: Count | None = None
    files_a_day: Count | None = None
    tasks: Count | None = None
    vectors: Count | None = None

    @field_validator("tasks")
    @classmethod
    def _shared(cls, tasks: int | None, info: Any) -> int | None:
        running = info.data.get("running_jobs")
        if tasks is not None and (running is None or tasks < running):
            raise ValueError("tasks are shared by the running jobs: give running_jobs, and a task for each at least")
        return tasks

    @property
    def tasks_a_job(self) -> int | None:
        """Tasks that one of its jobs may have in flight."""
        return None if self.tasks is None or self.running_jobs is None else self.tasks // self.running_jobs

    def has_token(self, token: str) -> bool:
        """Tell whether a token is one of its own."""
        given = token_hash(token)
        return any(hmac.compare_digest(given, known) for known in self.tokens.values())

    def settings(self, base: Settings) -> Settings:
        """Narrow the settings to what this tenant may use.

        Args:
            base: Of the installation.

        Raises:
            TerminalError: A variable of its credentials is not set.
        """
        changes: dict[str, Any] = {"tenant": self.name, "tenants": (self.name,), "allow_pipelines": self.pipelines}
        changes |= {n: own for n in ("schemes", "allow_hosts", "file_roots") if (own := getattr(self, n))}
        changes["deny_sources"] = (*base.base.deny_sources, base.base.lake_url)
        if self.lake:
            changes["lake"] = self.lake
        if self.options or self.credentials:
            changes["storage_options"] = self._storage(base)
        return base.narrowed(**changes)

    def _storage(self, base: Settings) -> dict[str, dict[str, Any]]:
        storage = {**base.base.storage_options, **self.options}
        for protocol, variables in self.credentials.items():
            own = {option: _variable(name, self.name) for option, name in variables.items()}
            storage[protocol] = {**self.options.get(protocol, {}), **own}
        return storage


def _variable(name: str, tenant: str) -> str:
    value = os.environ.get(name)
    if value is None:
        problem = f"The environment has no {name}, which tenant '{tenant}' has a credential in"
        fix = "Set it where workers and commands run, or change the tenant's credentials."
        raise TerminalError(problem, fix=fix, code="setting_missing")
    return value


def new_token(tenant: str) -> str:
    """Make a token of a tenant. It has 256 random bits: a plain hash is enough."""
    return f"ingestlab-{tenant}.{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    """Hash a token as it is kept."""
    return hashlib.sha256(token.strip().encode()).hexdigest()


def read_file(text: str, name: str) -> dict[str, Tenant]:
    """Read a tenants file: a table of TOML for each, ``[acme]``.

    Args:
        text: Its content.
        name: Of the file, for errors.

    Raises:
        TerminalError: It is no TOML, or an entry is wrong.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = f"The tenants file {name} is no TOML"
        raise TerminalError(
            problem, got=str(error), fix="See docs/how-to/tenants.md.", code="setting_invalid"
        ) from None
    return {tenant: parse(tenant, entry) for tenant, entry in tables.items()}


def parse(name: str, entry: Any) -> Tenant:
    """Read one tenant's entry.

    Args:
        name: Of the tenant.
        entry: What is given, by name; lists may be texts with commas.

    Raises:
        TerminalError: A value cannot be used.
    """
    if not isinstance(entry, Mapping):
        problem, expected = f"Tenant '{name}' has no entry that can be read", f"a table [{name}] with its limits"
        raise TerminalError(problem, expected=expected, got=f"{entry!r}"[:100], code="setting_invalid")
    words = {"schemes", "allow_hosts", "file_roots", "pipelines"}
    given = {k: _words(v) if k in words else v for k, v in entry.items()}
    try:
        return Tenant.model_validate({"name": name, **given})
    except ValidationError as error:
        field, value, expected = first_fault(error)
        secret = any(word in field for word in ("token", "credential", "option"))
        problem, got = f"Not a usable value for {field or 'a tenant'} of tenant '{name}'", f"{value!r}"[:100]
        fix = f"{expected} See docs/how-to/tenants.md."
        raise TerminalError(problem, got="a secret" if secret else got, fix=fix, code="setting_invalid") from None


def _words(value: Any) -> Any:
    return tuple(w.strip() for w in value.split(",") if w.strip()) if isinstance(value, str) else value
