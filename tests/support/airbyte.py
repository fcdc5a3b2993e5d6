"""Connectors for tests: a small one that does as it is told, and real ones from PyPI, installed once a machine."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from ingestlab.core.errors import IngestError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.airbyte.installed import Installed, install, installed
from ingestlab.sources.airbyte.source import Airbyte

NUMBERS = "source-numbers"
SCRIPT = '''
"""A connector of whole numbers. Its config says how many, how often it tells its state, and what goes wrong where."""
import json, os, signal, sys, time

def say(kind, **body):
    name = {"CONNECTION_STATUS": "connectionStatus"}.get(kind, kind.lower())
    print(json.dumps({"type": kind, name: body}, separators=(",", ":"), ensure_ascii=False), flush=True)

def trace(kind, **body):
    say("TRACE", type=kind, emitted_at=time.time() * 1000, **{kind.lower(): body})

def fail(how):
    if how == "exit":
        print("Traceback: out of luck", file=sys.stderr); sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(600)
    if how == "helper":  # a process that outlives it, with its output open
        os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600"); sys.exit(0)
    if how == "rubbish":
        print("<html>nothing of the kind</html>", flush=True)
    if how == "broken":
        print('{"type":"RECORD","record":{"stream":"numbers","data":[1],"emitted_at":1}}', flush=True)
    if how == "half":
        print('{"type":"RECORD","record":{"stream":"numbers","data":{"n":', flush=True)
    if how == "stranger":
        say("RECORD", stream="others", data={"n": 1}, emitted_at=1)
    if how in ("config_error", "transient_error", "system_error"):
        trace("ERROR", message=f"no luck with {config.get('key')}", internal_message="inside", failure_type=how)
        sys.exit(1)
    if how == "incomplete":
        trace("STREAM_STATUS", stream_descriptor={"name": "numbers"}, status="INCOMPLETE"); sys.exit(0)
    if how == "state":
        say("STATE", type="NEW", data={})

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
files = {name: json.load(open(path)) for name, path in options.items()}
config = files.get("--config", {})
SCHEMA = {"type": "object", "properties": {
    "n": {"type": "integer"}, "square": {"type": ["null", "number"]}, "text": {"type": "string"},
    "at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
    "tags": {"type": "array", "items": {"type": "string"}}}}
STREAMS = [
    {"name": "numbers", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh", "incremental"],
     "source_defined_cursor": True, "default_cursor_field": ["n"], "source_defined_primary_key": [["n"]]},
    {"name": "plain", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh"]},
    {"name": "open", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh", "incremental"]},
    {"name": "twice", "namespace": "a", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh"]},
    {"name": "twice", "namespace": "b", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh"]},
]
if config.get("probe"):
    seen = {"environment": dict(os.environ), "pid": os.getpid(), "folder": os.getcwd(), "files": files,
            "modes": {path: oct(os.stat(path).st_mode) for path in options.values()}, "argv": sys.argv}
    json.dump(seen, open(config["probe"], "w"))
command = sys.argv[1]
if command == "spec":
    say("SPEC", connectionSpecification={"properties": {"key": {"type": "string", "airbyte_secret": True}}})
elif command == "check":
    good = config.get("key") != "wrong"
    say("CONNECTION_STATUS", status="SUCCEEDED" if good else "FAILED", message=f"the key {config.get('key')} is wrong")
elif command == "discover":
    say("CATALOG", streams=STREAMS)
else:
    [asked] = files["--catalog"]["streams"]
    stream, incremental = asked["stream"], asked["sync_mode"] == "incremental"
    state = files.get("--state", [])
    old = state if isinstance(state, dict) else {}
    for one in state if isinstance(state, list) else ():
        old = one["stream"]["stream_state"] if one["type"] == "STREAM" else one["global"]["shared_state"]
    n, last = old.get("next", 0), config["count"]
    say("LOG", level="INFO", message=f"from {n} with the key {config.get('key')}")
    trace("STREAM_STATUS", stream_descriptor={"name": stream["name"]}, status="STARTED")
    faults = dict(config.get("faults", {}))
    once = config.get("once")  # a folder: each fault happens once
    def tell():
        kind, value = config.get("kind", "STREAM"), {"next": n}
        named = {"name": stream["name"]}
        body = {"STREAM": {"stream": {"stream_descriptor": named, "stream_state": value}}, "LEGACY": {"data": value},
                "GLOBAL": {"global": {"shared_state": value, "stream_states": [{"stream_descriptor": named}]}}}[kind]
        say("STATE", type=kind, **body)
    while n < last:
        how = faults.get(str(n))
        if how and once and os.path.exists(f"{once}/{n}"):
            how = None
        if how:
            if once: open(f"{once}/{n}", "w").close()
            fail(how)
        pause = config.get("pause")
        if pause: time.sleep(pause)
        more = {"namespace": stream["namespace"]} if "namespace" in stream else {}
        data = {"n": n, "square": n * n, "text": f"wörd {n}", "at": "2026-01-01T00:00:00Z", "tags": ["a"]}
        data.update(config.get("more", {}))
        data = config["rows"][n] if "rows" in config else data
        say("RECORD", stream=stream["name"], **more, data=data, emitted_at=1795982870143)
        n += 1
        if n % config.get("every", 10) == 0:
            tell()
    if incremental or config.get("tells", True): tell()
    trace("STREAM_STATUS", stream_descriptor={"name": stream["name"]}, status="COMPLETE")
'''


def lay_numbers(settings: Settings, name: str = NUMBERS, script: str = SCRIPT) -> None:
    """Put a connector where `ingestlab airbyte install` puts one; this needs no pip."""
    folder = settings.home / "airbyte"
    program = folder / f"{name}.00000000" / "bin" / name
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable} -SE\n{script}")
    program.chmod(0o755)
    note = Installed(name, "1.0", "tests", "3", f"{name}.00000000", "2026-01-01")
    (folder / f"{name}.json").write_text(json.dumps(asdict(note)))


def numbers(count: int = 100, stream: str = "numbers", mode: str = "incremental", **config: Any) -> Airbyte:
    """The source of whole numbers."""
    return Airbyte(
        connector=NUMBERS,
        config={"count": count, **config},
        streams=[stream],
        sync_mode=mode,  # type: ignore[arg-type]
    )


async def pages_of(source: Airbyte, pull: Pull) -> list[Page]:
    """All pages of a pull."""
    return [page async for page in source.pages(pull)]


def rows_of(pages: list[Page]) -> list[dict[str, Any]]:
    """The records of pages, each line by line."""
    rows = [json.loads(line) for page in pages for line in page.lines.splitlines()]
    assert len(rows) == sum(page.rows for page in pages)
    return rows


async def pulled_with_retries(source: Airbyte, pull: Pull, errors: list[IngestError]) -> list[Page]:
    """All pages of a pull and its tries: as a lake does, each goes on after the last page that can be resumed."""
    kept: list[Page] = []
    while True:
        try:
            async for page in source.pages(replace(pull, resume=kept[-1].resume if kept else None)):
                kept.append(page)  # noqa: PERF401 - those before an error count
        except IngestError as error:
            errors.append(error)
            while kept and kept[-1].resume is None:
                kept.pop()
        else:
            return kept


REAL = {  # what is installed, by the connector's name
    "source-faker": "airbyte-source-faker==7.2.1",
    "source-declarative-manifest": "airbyte-cdk==6.61.6",
}


@contextmanager
def installing() -> Iterator[Path]:
    """The folder of real connectors, one for all tests of this user on this machine. Nobody else installs now."""
    folder = Path(tempfile.gettempdir(), f"ingestlab-tests-airbyte-{getuser()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def real_home() -> str:
    """Where the connectors of REAL are; it skips the test where they cannot be installed."""
    with installing() as folder:
        settings = Settings(_env_file=None, airbyte_home=str(folder))
        known = {one.connector: one.package for one in installed(settings)}
        for name, package in REAL.items():
            if known.get(name) != package:
                try:
                    install(name, settings, package=package)
                except IngestError as error:
                    pytest.skip(f"{package} cannot be installed here: {error}")
    return str(folder)


def pyairbyte() -> Path:
    """The Python of an environment with PyAirbyte, which shares none with ingestlab: it needs pandas before 3."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("PyAirbyte is installed by uv, which is not here")
    with installing() as folder:
        python = folder / "pyairbyte" / "bin" / "python"
        mark = folder / "pyairbyte" / "complete"
        if not mark.exists():
            make = [uv, "venv", "-q", "--clear", "--no-project", "--python", "3.11", str(folder / "pyairbyte")]
            add = [uv, "pip", "install", "-q", "--python", str(python), "airbyte==0.71.3"]
            for command in (make, add):
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
                if done.returncode:
                    pytest.skip(f"PyAirbyte cannot be installed here: {done.stderr[-300:]}")
            mark.touch()
    return python
