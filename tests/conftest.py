"""Fixtures that several test files share: real servers on free loopback ports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ingestlab import stack as embedded
from ingestlab.settings import Settings
from ingestlab.stack import valkey as server
from ingestlab.stack.parts import variables

ROOT = Path(__file__).parent.parent
PIPELINES = str(ROOT / "pipelines")


@pytest.fixture(scope="session", autouse=True)
def _no_developer() -> Iterator[None]:
    """The developer's own environment and .env must not decide what the tests find."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(variables()) | {"RQ_REDIS_URL", "RQ_WORKER_CLASS"}:
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
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A whole embedded stack for all tests: two RQ workers and two Dask workers; gives its settings."""
    home = tmp_path_factory.mktemp("stack") / "home"
    try:
        yield embedded.start(Settings(home=home, pipelines=(PIPELINES,)), workers=2, dask_workers=2, detach=False)
    finally:
        embedded.stop(home)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``ingestlab ARGS…`` as a process of its own in the test's folder; gives what it printed."""

    def run(*args: str | Path, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
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


def environment(**more: str) -> dict[str, str]:
    """An environment in which another process finds this checkout, and prints in full width."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **more}
