"""One frozen object with every setting, and the order in which it is found.

Arguments beat environment variables, those beat ``.env``, that beats the running embedded stack, and
defaults come last. The tutorial's names (``REDIS_HOST``, ``REDIS_URL``, ``QUEUE_NAME``, …) work beside
the ``INGESTLAB_`` ones. Nothing is read at import.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import psutil
from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from ingestlab.core.errors import TerminalError
from ingestlab.core.listening import ListenTo
from ingestlab.core.validation import first_fault

STACK_FILE = "stack.json"  # in the home folder: where the running embedded stack is
MB = 1 << 20
SHORTEST_TOKEN = 16  # characters
_TOKEN = re.compile(r"ingestlab-(?P<tenant>[A-Za-z0-9][A-Za-z0-9_.\-]{0,99})\.(?P<secret>[\w\-]{43})", re.ASCII)
OUTSIDE = (  # what concerns tasks that ask servers outside
    *("schemes", "allow_hosts", "deny_networks", "connect_timeout", "read_timeout", "fetch_delay", "task_timeout"),
    *("redis_url", "redis_host", "redis_port", "redis_password"),
)
MISSED_BEATS = 3  # after so many in a row, a worker is taken for dead


def tenant_in(token: str) -> str | None:
    """Read the tenant that a token names. None if it is none of ours.

    Args:
        token: As given by a stranger.
    """
    match = _TOKEN.fullmatch(token.strip())
    return match["tenant"] if match else None


def _env(*names: str) -> AliasChoices:
    return AliasChoices(*names)


Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """All settings; sizes in bytes, times in seconds.

    Examples:
        >>> from ingestlab import Settings
        >>> Settings(queue="night", tenants="physics, chemistry").tenants
        ('physics', 'chemistry')
    """

    model_config = SettingsConfigDict(
        env_prefix="INGESTLAB_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    _base: Settings | None = PrivateAttr(default=None)

    # Where things are
    home: Path = Path(".ingestlab")
    """Folder of the embedded stack."""
    redis_url: str | None = Field(default=None, validation_alias=_env("INGESTLAB_REDIS_URL", "REDIS_URL"), repr=False)
    """Redis server; beats host, port and password."""
    redis_host: str | None = Field(default=None, validation_alias=_env("INGESTLAB_REDIS_HOST", "REDIS_HOST"))
    """Host of the Redis server."""
    redis_port: int = Field(default=6379, validation_alias=_env("INGESTLAB_REDIS_PORT", "REDIS_PORT"))
    """Port of the Redis server."""
    redis_password: str | None = Field(
        default=None, validation_alias=_env("INGESTLAB_REDIS_PASSWORD", "REDIS_PASSWORD"), repr=False
    )
    """Password of the Redis server."""
    dask_scheduler: str | None = Field(
        default=None, validation_alias=_env("INGESTLAB_DASK_SCHEDULER", "DASK_SCHEDULER_ADDRESS")
    )
    """Address of the Dask scheduler; without one, each worker uses threads."""
    executor: Literal["dask", "threads"] = "dask"
    """What runs the tasks of a job: Dask, or threads of the worker itself, for tests and dry runs."""
    dask_dashboard: str | None = None
    """URL of the Dask dashboard, where it differs from the scheduler's answer."""
    dashboard_token: str | None = Field(default=None, min_length=16, repr=False)
    """What a reader of the Runs page has to give before its buttons appear; without one it has none."""
    proxied_hosts: Words = ()
    """Further hosts with pages that the notebook's server passes on to the browser, beside this machine."""
    milvus_uri: str | None = Field(default=None, validation_alias=_env("INGESTLAB_MILVUS_URI", "MILVUS_URI"))
    """Milvus server; without one, pipelines with embeddings are refused."""
    milvus_token: str | None = Field(
        default=None, validation_alias=_env("INGESTLAB_MILVUS_TOKEN", "MILVUS_TOKEN"), repr=False
    )
    """Token of the Milvus server, `user:password`."""
    mongodb_uri: str | None = Field(default=None, repr=False)
    """MongoDB server, `mongodb://user:password@host`; without one, pipelines with documents are refused."""
    mongodb_database: str = ""
    """Database of documents; empty means that of `mongodb_uri`, or `ingestlab`."""
    samples: str | None = None
    """Base URL or bucket of the sample files."""
    lake: str = ""
    """Root of the lake: any fsspec URL or a folder; empty means `<home>/lake`."""
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)
    """fsspec options by protocol, as JSON."""
    iceberg_catalog: dict[str, str] = Field(default_factory=dict, repr=False)
    """Iceberg catalogue as properties of pyiceberg, as JSON; empty means SQLite beside the tables of a local lake."""
    glue_database: str = "{tenant}"
    """Database of AWS Glue for tables with `publish_as="glue"`; `{tenant}` stands for the tenant."""
    pipelines: Words = ("pipelines",)
    """Folders with pipeline files."""
    notebooks: Words = ("notebooks",)
    """Folders with the notebooks that jobs may run, on the machine of their worker."""
    references: str = ""
    """Folder or URL of lookup tables that are not beside their pipeline; empty means the stack's samples."""

    # Airbyte's connectors
    airbyte_home: str = ""
    """Folder of the connectors of Airbyte that are installed; empty means `<home>/airbyte`."""
    airbyte_container: str = "docker"
    """Program that runs connectors in containers: `docker`, `podman` or a path."""
    airbyte_environment: Words = ()
    """Environment variables that connectors get, beside the few that find programs and proxies."""
    airbyte_timeout: float = Field(default=600.0, gt=0)
    """Longest silence of a connector, in seconds; it is taken for one that hangs, and tried again."""

    # Who may ask for what
    broker: str = Field(default="rq", validation_alias=_env("INGESTLAB_QUEUE_BACKEND", "INGESTLAB_BROKER"))
    """Name of the plug-in that carries jobs from producers to workers: `rq`, `celery`, `sqs` or another package's."""
    broker_url: str | None = Field(
        default=None, validation_alias=_env("INGESTLAB_BROKER_URL", "CELERY_BROKER_URL"), repr=False
    )
    """RabbitMQ server of the backend `celery`, as `amqp://user:password@host:5672/`."""
    queue: str = Field(default="ingest", validation_alias=_env("INGESTLAB_QUEUE", "QUEUE_NAME"))
    """Queue of ingestion jobs."""
    notebook_queue: str = "notebooks"
    """Queue of notebook jobs. They wait for ingestion jobs, so they need workers of their own."""
    tenant: str = "default"
    """Tenant of requests that name none."""
    tenants: Words = ("default",)
    """Tenants that may have tables."""
    tenants_file: str = ""
    """File with what each tenant may use, as TOML; empty means the table that `ingestlab tenant` keeps in Redis."""
    tenant_token: str | None = Field(default=None, min_length=16, repr=False)
    """Token of a tenant, as `ingestlab tenant token` makes it; who has one set is that tenant, and no other."""
    audit: bool = False
    """Whether submits, deletions, undos and changes of tenants are noted in the lake, for `ingestlab audit`."""
    allow_pipelines: Words = ("*",)
    """Pipelines that may be used, as shell patterns."""
    schemes: Words = ("http", "https", "file", "s3", "gs", "gcs", "memory", "frame", "rest", "airbyte", "mongo")
    """URL schemes that files may come from."""
    allow_hosts: Words = ("*",)
    """Hosts that files may come from, as shell patterns."""
    deny_networks: Words = ("169.254.0.0/16", "fe80::/10")  # cloud metadata lives on link-local addresses
    """Networks that files may not come from."""
    deny_sources: Words = ()
    """Folders and URLs below which no file may be taken; for a tenant with an entry, also the shared lake."""
    secret_parameters: Words = ()
    """Further secret URL parameters, beside the usual ones (`X-Amz-*`, `sig`, `token` …); `-name` removes one."""
    file_roots: Words = ()
    """Folders that local files may come from; empty means any."""

    # Files that announce themselves
    listen: Annotated[tuple[ListenTo, ...], NoDecode] = ()
    """Folders and queues that the embedded stack listens to: words, or JSON with `address` and `sync`."""
    rest_seconds: float = Field(default=2.0, ge=0)
    """A file in a folder that is listened to is taken when it was written this long ago."""
    announce_tokens: dict[str, SecretStr] = Field(default_factory=dict)
    """Token of each tenant that may announce files by the webhook, as JSON; a token is 16 characters or more."""
    sns_topics: Words = ()
    """ARNs of the topics of Amazon SNS that may announce files by the webhook; empty means none."""
    sync_seconds: float = Field(default=3600.0, gt=0)
    """Between two listings behind a listener: events are lost at times."""
    max_vanish_ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of the known files of a folder that `sync` takes out of tables when a listing lacks them."""

    # How much at once
    request_files: int = Field(default=128, ge=1)
    """Files per job, at most."""
    request_bytes: int = Field(default=64 * MB, ge=1)
    """Bytes per job, about; a larger file is a job of its own."""
    partition_bytes: int = Field(default=32 * MB, ge=1024)
    """Bytes per Dask task, about."""
    connections: int = Field(default=16, ge=1)
    """Simultaneous downloads per worker."""
    max_file_bytes: int = 10 << 30
    """Largest file that is downloaded; most bytes of a pull of records."""
    max_pull_pages: int = Field(default=100_000, ge=1)
    """Most pages of one pull of records: a source that gives more is taken for endless."""

    # How long, how often
    connect_timeout: float = 10.0
    """Seconds to connect to a server."""
    read_timeout: float = 30.0
    """Longest silence on a connection, in seconds."""
    fetch_timeout: float = 900.0
    """Longest time for one download, in seconds."""
    min_speed: int = 1024
    """Slowest download in bytes per second, averaged over `read_timeout`."""
    fetch_attempts: int = Field(default=4, ge=1)
    """Attempts per download, while its server is away."""
    fetch_delay: float = 0.2
    """Seconds before the second attempt; doubled for each further one."""
    milvus_timeout: float = 60.0
    """Seconds for one call to Milvus."""
    milvus_attempts: int = Field(default=7, ge=1)
    """Attempts per call to Milvus while the server is away, within about twelve seconds."""
    mongodb_timeout: float = Field(default=60.0, gt=0)
    """Seconds for one call to MongoDB."""
    retry_delays: Annotated[tuple[float, ...], NoDecode] = (2, 10, 60, 300)
    """Seconds before each retry of a whole job."""
    job_timeout: int = 3600
    """Longest time for one job, in seconds."""
    task_timeout: float = Field(default=900.0, gt=0)
    """Longest step of a Dask task, in seconds: reading, cleaning, a batch of embedding, writing."""
    row_timeout: float = Field(default=10.0, gt=0)
    """Longest time for one row, in seconds, while the rows of a task that hung are tried."""
    result_ttl: int = 3600
    """Seconds that Redis keeps a finished job; the lake keeps its record."""
    failure_ttl: int = 7 * 86400
    """Seconds that Redis keeps a failed job."""
    keep_jobs: int = Field(default=10_000, ge=1)
    """Ended jobs per queue, and runs, that Redis keeps at most."""
    log_days: float = Field(default=30.0, ge=0)
    """Days for which commits are remembered of which nothing is live any more."""
    history_days: float = Field(default=7.0, ge=0)
    """Days for which the lake keeps replaced files, for earlier states and undo; 0 keeps none."""
    run_days: float = Field(default=90.0, ge=0)
    """Days for which the lake keeps the records of runs: how each of their jobs ended."""
    lock_ttl: float = 20.0
    """Seconds after which the locks of a dead job end."""
    beat: float = 5.0
    """Seconds between heartbeats of a worker; three missed ones mean that it is dead."""
    worker_name: str | None = None
    """Name of a worker on pages and in logs; its host and process if not given."""

    @field_validator(
        *(
            "tenants",
            "allow_pipelines",
            "schemes",
            "allow_hosts",
            "deny_networks",
            "deny_sources",
            "file_roots",
            "secret_parameters",
            "sns_topics",
            "pipelines",
            "proxied_hosts",
            "notebooks",
            "airbyte_environment",
        ),
        mode="before",
    )
    @classmethod
    def _words(cls, value: Any) -> Any:
        return tuple(w.strip() for w in value.split(",") if w.strip()) if isinstance(value, str) else value

    @field_validator("listen", mode="before")
    @classmethod
    def _listeners(cls, value: Any) -> Any:
        """Read addresses as words, or a JSON list of addresses and mappings."""
        if not isinstance(value, str):
            return value
        if not value.lstrip().startswith(("[", "{")):
            return cls._words(value)
        try:
            read = json.loads(value)
        except ValueError as error:
            raise ValueError(f"it begins like JSON, and is none: {error}") from None
        return [read] if isinstance(read, dict) else read

    @model_validator(mode="before")
    @classmethod
    def _by_token(cls, data: Any) -> Any:
        """Take the tenant of a token, where no other is named."""
        if not isinstance(data, dict) or data.get("tenant") or data.get("INGESTLAB_TENANT"):
            return data
        own = tenant_in(str(data.get("tenant_token") or ""))
        return {**data, "tenant": own} if own else data

    @field_validator("announce_tokens")
    @classmethod
    def _long(cls, tokens: dict[str, SecretStr]) -> dict[str, SecretStr]:
        """Refuse tokens that can be guessed, and one of two tenants."""
        texts = [token.get_secret_value() for token in tokens.values()]
        if any(len(text) < SHORTEST_TOKEN for text in texts):
            raise ValueError(f"a token has fewer than {SHORTEST_TOKEN} characters")
        if len(set(texts)) < len(texts):
            raise ValueError("two tenants have the same token")
        return tokens

    @field_validator("retry_delays", mode="before")
    @classmethod
    def _delays(cls, value: Any) -> Any:
        return tuple(float(w) for w in value.split(",") if w.strip()) if isinstance(value, str) else value

    @property
    def base(self) -> Settings:
        """Return the installation's settings, which these may narrow."""
        return self._base or self

    def narrowed(self, **changes: Any) -> Settings:
        """Make a tenant's settings of the installation's.

        Args:
            **changes: What is the tenant's own.
        """
        narrowed = self.base.model_copy(update=changes)
        narrowed._base = self.base  # noqa: SLF001 - of the same class
        return narrowed

    def outside(self) -> dict[str, Any]:
        """Give what tasks need that ask servers outside, as plain data."""
        return self.model_dump(mode="json", include=set(OUTSIDE))

    @property
    def redis(self) -> str:
        """Return the Redis URL; raises if none is set or running."""
        if self.redis_url:
            return self.redis_url
        if self.redis_host:
            secret = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
            return f"redis://{secret}{self.redis_host}:{self.redis_port}/0"
        raise TerminalError(
            "No Redis server is named",
            expected="a Redis server in REDIS_URL (or REDIS_HOST), or a running embedded stack",
            got=f"neither, with home {self.home}",
            fix="Start one with `ingestlab up`, or set REDIS_URL.",
            code="setting_missing",
        )

    @property
    def redis_shown(self) -> str:
        """Return the Redis address without its password, for people and logs."""
        parts = urlsplit(self.redis)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"

    @property
    def milvus_shown(self) -> str:
        """Return the Milvus address without its password, for people and logs."""
        parts = urlsplit(self.milvus_uri or "")
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def mongodb_shown(self) -> str:
        """Return the hosts of MongoDB, without password and options."""
        return hosts_of(self.mongodb_uri or "")

    @property
    def lake_url(self) -> str:
        """Return the lake's root: a URL, or an absolute path for a local folder."""
        if "://" in self.lake:
            return self.lake.rstrip("/")
        return str((Path(self.lake) if self.lake else self.home / "lake").expanduser().resolve())

    @property
    def reference_base(self) -> str:
        """Return the base of relative references that are not beside their pipeline."""
        return self.references or (f"{self.samples.rstrip('/')}/references" if self.samples else "")

    @property
    def workers_here(self) -> bool:
        """Tell whether the servers are this home's running stack. Its workers see the same files as this process."""
        return bool(self.redis_url) and _read_stack(self).get("redis_url") == self.redis_url

    def stack_file(self) -> Path:
        """Return where the embedded stack of this home writes its addresses."""
        return self.home / STACK_FILE


def load_settings(**overrides: Any) -> Settings:
    """Read the settings, and fill gaps from their home's running stack.

    Where `home` is an argument and a stack runs there, its addresses beat the environment's. Below a folder
    with pipelines, the default home and pipelines are that folder's.

    Args:
        **overrides: Settings that beat every other source; ``None`` means not given.

    Raises:
        TerminalError: A value cannot be used; the text names the setting.

    Examples:
        >>> from ingestlab import load_settings
        >>> load_settings(queue="night").queue
        'night'
    """
    given = {k: v for k, v in overrides.items() if v is not None}
    root = _project_above()
    read = partial(Settings, _env_file=_env_file(root))
    try:
        settings = read(**given)
        if project := _folders_in(root, settings):
            given = {**project, **given}
            settings = read(**given)
        if (
            overrides.get("home") is not None
            and not {"redis_url", "redis_host"} & set(given)
            and (stack := _read_stack(settings))
        ):
            return read(**{**stack, **given})  # who names a home means the stack that runs in it
        if settings.redis_url or settings.redis_host:
            return settings  # real servers are named: a stack that happens to run here has no say
        return read(
            **{**_read_stack(settings), **{name: getattr(settings, name) for name in settings.model_fields_set}}
        )
    except ValidationError as error:
        name, value, expected = first_fault(error)
        secret = name.endswith(("token", "password"))
        problem, got = f"Not a usable value for the setting {name}", "a secret" if secret else f"{value!r}"
        raise TerminalError(problem, got=got, fix=expected, code="setting_invalid") from None
    except SettingsError as error:  # its text names the setting, and does not repeat the value
        raise TerminalError(
            "Settings cannot be read",
            got=str(error),
            fix='Write it as JSON, e.g. {"s3": {"key": "…"}}.',
            code="setting_invalid",
        ) from None


def _folders_in(root: Path | None, settings: Settings) -> dict[str, Any]:
    """Return home, pipelines and notebooks of a project, where they are defaults."""
    folders = {name: (str(root / name),) for name in ("pipelines", "notebooks")} if root else {}
    defaults = {"home": root / ".ingestlab", **folders} if root else {}
    return {name: value for name, value in defaults.items() if name not in settings.model_fields_set}


def _env_file(root: Path | None) -> Path:
    """Return the working folder's `.env`, or the project's."""
    here = Path(".env")
    return root / ".env" if root and not here.exists() else here


def _project_above() -> Path | None:
    """Find the project around the working folder. None if it is one itself.

    A notebook's kernel works in the notebook's folder, and means the project around it.
    """
    here = Path.cwd()
    if _is_project(here):
        return None
    mine = (folder for folder in here.parents if folder.stat().st_uid == os.getuid())  # others' code is not run
    return next((folder for folder in mine if _is_project(folder)), None)


def _is_project(folder: Path) -> bool:
    return (folder / ".ingestlab").is_dir() or any((folder / "pipelines").glob("*.py"))


def _read_stack(settings: Settings) -> dict[str, Any]:
    """Read the settings that this home's embedded stack has written. Empty without one."""
    try:
        data = json.loads(settings.stack_file().read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return dict(data.get("settings", {})) if _lives(data.get("pids", {}).get("supervisor")) else {}


def _lives(process: dict[str, Any] | None) -> bool:
    """Tell whether the process that wrote the file still runs. A killed one could not take the file away."""
    if process is None:
        return False
    try:
        running = psutil.Process(process["pid"])
        return running.create_time() == float(process["created"]) and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hosts_of(uri: str) -> str:
    """Return an address without password, path and options.

    Args:
        uri: Which may name several hosts.
    """
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{re.split('[/?]', rest.rpartition('@')[2])[0]}" if rest else ""
