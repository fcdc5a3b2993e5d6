"""The services of the embedded stack: how each is started, and how one sees that it is ready.

Nothing is started here: a service is a value, and the supervisor gives it life.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import redis
from pydantic import AliasChoices, BaseModel, SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from ingestlab.core.settings import Settings
from ingestlab.queue.arrival.status import listeners
from ingestlab.queue.broker import broker
from ingestlab.stack import milvus, valkey
from ingestlab.stack.state import SCALE_FILE, SERVER, home_of, write_private

DASK, MILVUS = "dask", "milvus"
PORTS = (SERVER, DASK, "dashboard", "samples", MILVUS)
WORKER = (sys.executable, "-m", "ingestlab.queue.worker")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
# The heaps that glibc makes for other threads than the first go back to the system after every task, and each page of
# the next task's memory is a fault again. Where one thread does all tasks, it may as well use the first one's.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
CALM: dict[
    str, str | int
] = {  # Dask's settings: an idle cluster looks at itself 50 to 100 times a second, which takes a tenth of a core
    "distributed.admin.tick.interval": "200ms",
    "distributed.worker.profile.interval": "100ms",
    "distributed.scheduler.allowed_failures": 1,  # a task that ends a second worker is tried apart from them
}


@dataclass(frozen=True)
class Spec:
    """What a stack is made of.

    Args:
        workers: RQ workers.
        dask_workers: Processes of the Dask cluster; 0 means one a core, four at most.
        worker_command: What runs an RQ worker; the queue's name is added.
        tied: Whether the stack ends with the process that started it.
        milvus: Whether Milvus Lite is wanted, where it is installed.
    """

    workers: int = 2
    dask_workers: int = 0
    worker_command: tuple[str, ...] = WORKER
    tied: bool = False
    milvus: bool = True

    @staticmethod
    def from_json(text: str) -> Spec:
        """Give the spec that :meth:`to_json` wrote."""
        data = json.loads(text)
        return Spec(**{**data, "worker_command": tuple(data["worker_command"])})

    def to_json(self) -> str:
        """Give the spec as text, for a command line."""
        return json.dumps(asdict(self))

    def size(self) -> dict[str, int]:
        """Tell what can be changed while the stack runs."""
        return {"workers": self.workers, "dask_workers": self.dask_workers}

    def counted(self) -> Spec:
        """Settle the number of Dask workers, and whether there is a Milvus."""
        dask_workers = self.dask_workers or min(4, len(_cores()))
        return replace(self, dask_workers=dask_workers, milvus=self.milvus and milvus.installed())


@dataclass(frozen=True)
class Service:
    """One child process of the stack.

    Args:
        name: Names its log, and its line in `status`.
        command: Program and arguments.
        env: Its whole environment.
        ready: Told the process id, says whether the service serves now.
        wave: When it is stopped: 0 first.
        grace: Seconds between being asked to end and being killed.
        after: The service that must be ready before this one is started.
        sign: The file that it writes when it is ready; what an earlier life left there does not count.
        needed: Says whether there is work for it, without which it is not started; None: it is always started.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    ready: Callable[[int], bool]
    wave: int
    grace: float = 5.0
    after: str | None = None
    sign: Path | None = None
    needed: Callable[[], bool] | None = None


def variables() -> dict[str, str]:
    """Map the environment variables of Settings to their fields."""
    fields = {}
    for name, info in Settings.model_fields.items():
        alias = info.validation_alias
        keys = alias.choices if isinstance(alias, AliasChoices) else [f"INGESTLAB_{name.upper()}"]
        fields.update({str(key): name for key in keys})
    return fields


def environment(settings: Settings) -> dict[str, str]:
    """Make an environment that gives another process these settings, whatever ``.env`` says."""
    values = {variable: getattr(settings, name) for variable, name in variables().items()}
    inherited = {name: value for name, value in os.environ.items() if name not in values}
    return {**inherited, **{name: _encode(value) for name, value in values.items() if value is not None}}


def locate(settings: Settings, spec: Spec, ports: Mapping[str, int]) -> Settings:
    """Give the settings of a stack on these ports: addresses filled in, every path absolute."""
    home = home_of(settings)
    secret = valkey.password(home)
    changed: dict[str, Any] = {
        "home": home,
        "lake": settings.lake_url,
        "pipelines": tuple(str(Path(p).expanduser().resolve()) for p in settings.pipelines),
        "notebooks": tuple(str(Path(p).expanduser().resolve()) for p in settings.notebooks),
        "redis_url": valkey.url(ports[SERVER], secret),
        "redis_host": valkey.HOST,
        "redis_port": ports[SERVER],
        "redis_password": secret,
        "dask_scheduler": f"tcp://{valkey.HOST}:{ports['dask']}",
        "dask_dashboard": f"http://{valkey.HOST}:{ports['dashboard']}/status",
        "samples": f"http://{valkey.HOST}:{ports['samples']}",
        "listen": tuple(chosen.located() for chosen in settings.listen),
    }
    if spec.milvus:
        changed |= {"milvus_uri": milvus.url(ports[MILVUS]), "milvus_token": None}
    if settings.references and "://" not in settings.references:
        changed["references"] = str(Path(settings.references).expanduser().resolve())
    return settings.model_copy(update=changed)


def choose_ports(home: Path) -> dict[str, int]:
    """Choose free ports. Last time's are taken first, so old addresses stay good."""
    file = home / "ports.json"
    last: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports: dict[str, int] = {}
    for name in PORTS:
        port = valkey.free_port(last.get(name))
        while port in ports.values():
            port = valkey.free_port()
        ports[name] = port
    write_private(file, json.dumps(ports))
    return ports


def services(settings: Settings, spec: Spec, ports: Mapping[str, int]) -> tuple[Service, ...]:
    """List all services of a stack with located settings. Make their folders."""
    home, env = settings.home, environment(settings)
    for folder in ("logs", "run", "dask", "samples"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    server = Service(
        name=SERVER,
        command=valkey.prepare(home / "redis", ports[SERVER], valkey.password(home)),
        env=env,
        ready=lambda _pid: valkey.answers(settings.redis),
        wave=2,
        grace=10.0,
    )
    workers = [_worker(f"worker-{n + 1}", settings.queue, settings, spec, env) for n in range(spec.workers)]
    workers.append(_notebook_worker(settings, spec, env))
    workers += [_listener(number, settings, env) for number in range(1, len(settings.listen) + 1)]
    milvus = [_milvus(home, ports[MILVUS], env)] if spec.milvus else []
    return (server, _cluster(home, spec, ports, env), _files(home, ports, env), *milvus, *workers)


def _cluster(home: Path, spec: Spec, ports: Mapping[str, int], env: dict[str, str]) -> Service:
    ready = home / "run" / "dask.json"
    return Service(
        name=DASK,
        command=(
            *(sys.executable, "-m", "ingestlab.stack.cluster", "--workers", str(spec.dask_workers)),
            *("--port", str(ports["dask"]), "--dashboard-port", str(ports["dashboard"])),
            *("--temp", str(home / "dask"), "--ready", str(ready), "--scale-file", str(home / SCALE_FILE)),
        ),
        env={**env, **ONE_THREAD, **ONE_HEAP},
        ready=lambda _pid: ready.exists(),
        wave=1,
        sign=ready,
    )


def _milvus(home: Path, port: int, env: dict[str, str]) -> Service:
    return Service(
        name=MILVUS,
        command=milvus.command(home / MILVUS, port),
        env={**env, **ONE_THREAD},
        ready=lambda _pid: milvus.listens(port),
        wave=1,
        grace=10.0,
    )


def _files(home: Path, ports: Mapping[str, int], env: dict[str, str]) -> Service:
    ready = home / "run" / "samples.url"
    return Service(
        name="samples",
        command=(
            *(sys.executable, "-m", "ingestlab.stack.files", "--root", str(home / "samples")),
            *("--port", str(ports["samples"]), "--ready", str(ready), "--samples"),
        ),
        env=env,
        ready=lambda _pid: ready.exists(),
        wave=1,
        sign=ready,
    )


def _notebook_worker(settings: Settings, spec: Spec, env: dict[str, str]) -> Service:
    """Give the worker for notebooks, which most stacks never need."""
    queue = settings.notebook_queue
    client = redis.Redis.from_url(settings.redis, socket_timeout=1, retry=Retry(NoBackoff(), 0))

    def needed() -> bool:
        try:
            return broker(settings, client).is_needed(queue)
        except redis.RedisError:
            return False

    return replace(_worker("notebook-worker", queue, settings, spec, env), needed=needed)


def _worker(name: str, queue: str, settings: Settings, spec: Spec, env: dict[str, str]) -> Service:
    def listens(pid: int) -> bool:
        try:
            with redis.Redis.from_url(settings.redis, socket_timeout=1) as client:
                return any(listener.pid == pid for listener in broker(settings, client).listeners(queue))
        except redis.ConnectionError:
            return False

    command = (*spec.worker_command, queue)
    named = {**env, "INGESTLAB_WORKER_NAME": name}  # the same word in its log, in Redis and on pages
    return Service(name=name, command=command, env=named, ready=listens, wave=0, grace=10.0, after=SERVER)


def _listener(number: int, settings: Settings, env: dict[str, str]) -> Service:
    def listens(pid: int) -> bool:
        try:
            with redis.Redis.from_url(settings.redis, socket_timeout=1) as client:
                mine = (listener for listener in listeners(client) if listener.pid == pid and not listener.gone)
                return any(listener.answer or listener.error for listener in mine)  # an outage is sat out
        except redis.ConnectionError:
            return False

    name = f"listener-{number}"
    return Service(
        name=name,
        command=(sys.executable, "-m", "ingestlab.queue.arrival.listener", str(number)),
        env={**env, "INGESTLAB_WORKER_NAME": name},
        ready=listens,
        wave=0,
        grace=10.0,
        after=SERVER,
    )


def _encode(value: Any) -> str:
    if isinstance(value, dict) or (isinstance(value, tuple) and any(isinstance(part, BaseModel) for part in value)):
        return json.dumps(value, default=_plain)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(value: SecretStr | BaseModel) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value.model_dump(exclude_none=True)


def _cores() -> set[int]:
    """Give the cores of this process. A container has fewer than its machine."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
