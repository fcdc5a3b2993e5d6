"""The commands that run one part on a machine of its own: plain, and over TLS."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from support.workers import PATIENCE, environment, until

from ingestlab.core.settings import Settings
from ingestlab.stack import health, valkey

TLS = "DASK_DISTRIBUTED__COMM__TLS__"


@contextmanager
def part(folder: Path, *arguments: str, **env: str) -> Iterator[psutil.Process]:
    """An `ingestlab` command that runs, until it is asked to end; it does so by itself."""
    clean = {
        name: value for name, value in environment(**env).items() if name != "DASK_SCHEDULER_ADDRESS" or name in env
    }
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingestlab", *arguments], env=clean, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, with its key, for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*request.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


def dask_variables(folder: Path) -> dict[str, str]:
    roles = ("CLIENT", "SCHEDULER", "WORKER")
    files = {f"{TLS}{role}__{what.upper()}": str(folder / f"{what}.pem") for role in roles for what in ("cert", "key")}
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls",
        f"{TLS}CA_FILE": str(folder / "cert.pem"),
        **files,
    }


TASK = """
import os
from ingestlab.executors.dask import Cluster
from ingestlab.core.settings import Settings
cluster = Cluster(Settings(_env_file=None))
print([value for _, value in cluster.map(os.getpid, [()], ["pid"])])
"""


@pytest.mark.slow("processes killed")
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_scheduler_and_a_dask_worker(tmp_path, scheme, request):
    more = dask_variables(request.getfixturevalue("certificate")) if scheme == "tls" else {}
    port, page = valkey.free_port(), valkey.free_port()
    more["DASK_SCHEDULER_ADDRESS"] = f"{scheme}://127.0.0.1:{port}"
    place = [f"--port={port}", "--host=127.0.0.1", f"--dashboard-address=127.0.0.1:{page}"]
    with (
        part(tmp_path, "scheduler", *place, **more) as scheduler,
        part(
            tmp_path, "dask-worker", "--dashboard-address", "127.0.0.1:0", "--local-directory", str(tmp_path), **more
        ) as one,
    ):
        until(lambda: health._page(page, "/health") == [], 60, "a scheduler")
        done = subprocess.run(
            [sys.executable, "-c", TASK],
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        (pid,) = [int(number) for number in done.stdout.strip("[]\n").split(",")]
        assert pid in {process.pid for process in one.children(recursive=True)}
        assert "distributed.admin.tick" in subprocess.list2cmdline(sorted(scheduler.environ())).lower().replace(
            "__", "."
        )
        assert health._page(page, "/health") == []
    assert health._page(page, "/health"), "nobody is there"


def test_a_dask_worker_without_an_address_says_what_to_set(tmp_path):
    env = {name: value for name, value in environment().items() if name != "DASK_SCHEDULER_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "ingestlab", "dask-worker"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "DASK_SCHEDULER_ADDRESS" in done.stderr


@contextmanager
def over_tls(port: int, certificate: Path) -> Iterator[int]:
    """Takes TLS on a port of its own, and passes on what is said to another: as stunnel does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.mark.slow("long work")
def test_a_worker_on_redis_over_tls_is_well_while_its_heart_is_heard(tmp_path, certificate):
    with valkey.serve(tmp_path / "redis") as plain, over_tls(urlsplit(plain).port, certificate) as port:
        secret = urlsplit(plain).password
        url = f"rediss://:{secret}@localhost:{port}/0?ssl_ca_certs={certificate / 'cert.pem'}"
        settings = Settings(_env_file=None, redis_url=url, home=tmp_path, queue="secret")
        with part(tmp_path, "worker", "secret", REDIS_URL=url, INGESTLAB_HOME=str(tmp_path)) as worker:
            until(lambda: not health.troubles(settings, worker.pid), 30, "a worker that is well")
            worker.suspend()
            hasty = settings.model_copy(update={"beat": 0.05})
            until(lambda: health.troubles(hasty, worker.pid), 5, "silence")
            worker.resume()
    assert "does not answer" in health._worker(settings, ["secret"])[0]


def test_where_no_role_runs_that_is_said():
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert health.troubles(Settings(_env_file=None), other.pid) == ["None of ingestlab's roles runs here."]
        finally:
            other.kill()
