"""Connectors in environments of their own: where they are, how they come there, and how they are started."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LINES = 12  # of an installer's output that an error shows
_TIME = 900  # seconds for an installation


@dataclass(frozen=True)
class Installed:
    """A connector in its environment.

    Attributes:
        connector: Its name, ``source-faker``.
        version: Of its package.
        package: What was installed: a requirement as pip takes it.
        python: Version of its Python.
        folder: Name of the environment, beside the note of this.
        at: When it was installed.
    """

    connector: str
    version: str
    package: str
    python: str
    folder: str
    at: str


@dataclass(frozen=True)
class Program:
    """How a connector is started.

    Attributes:
        connector: As texts name it.
        version: As far as it is known.
        command: The beginning of its command line.
        image: Of a container; empty where it runs in an environment.
    """

    connector: str
    version: str
    command: tuple[str, ...]
    image: str = ""

    def __str__(self) -> str:
        return f"{self.connector} {self.version}".rstrip()

    def line(self, folder: str, variables: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the beginning of the command line, and what ends it.

        Args:
            folder: With its files; in a container it has the same path.
            variables: Of the environment, which a container is to have, too.
        """
        if not self.image:
            return list(self.command), []
        name = f"ingestlab-{secrets.token_hex(6)}"
        engine = self.command[0]
        user = ["--user", f"{os.getuid()}:{os.getgid()}"]  # the files are for this user alone
        known = [word for variable in variables for word in ("-e", variable)]
        run = [engine, "run", "-i", "--rm", "--name", name, *user, *known, "-v", f"{folder}:{folder}", self.image]
        return run, [engine, "rm", "-f", name]


def split(requirement: str) -> tuple[str, str]:
    """Split ``source-faker==7.2.1`` into name and version, which may be empty.

    Args:
        requirement: A connector, with or without a version.

    Raises:
        TerminalError: It is neither.
    """
    name, _, version = requirement.partition("==")
    if not _NAME.fullmatch(name) or (version and not _NAME.fullmatch(version)) or requirement.endswith("=="):
        problem, wanted = "Not the name of a connector", "source-NAME, or source-NAME==VERSION"
        fix = "See https://connectors.airbyte.com for what there is."
        raise TerminalError(problem, expected=wanted, got=repr(requirement), fix=fix, code="argument_invalid")
    return name, version


def home(settings: Settings) -> Path:
    """Return the folder of all environments.

    Args:
        settings: Name it.
    """
    return (
        Path(settings.airbyte_home).expanduser().absolute()
        if settings.airbyte_home
        else (settings.home.expanduser().absolute() / "airbyte")
    )


def installed(settings: Settings) -> list[Installed]:
    """List the connectors that are there, by name.

    Args:
        settings: Name their folder.
    """
    notes = sorted(home(settings).glob("*.json"))
    return [Installed(**json.loads(note.read_text(encoding="utf-8"))) for note in notes]


def program(requirement: str, image: str, settings: Settings) -> Program:
    """Find what starts a connector.

    Args:
        requirement: Its name, perhaps with a version. Empty for a container.
        image: Of its container, in place of that.
        settings: Name the folder of environments, and the program that runs containers.

    Raises:
        TerminalError: It is not there, or in another version.
    """
    if image:
        engine = settings.airbyte_container
        if shutil.which(engine) is None:
            problem = f"The connector {image} runs in a container, and there is no program '{engine}' here"
            fix = "Install Docker or Podman, set INGESTLAB_AIRBYTE_CONTAINER, or use `connector` in place of `image`."
            raise TerminalError(problem, fix=fix, code="connector_missing")
        name, _, tag = image.rpartition("/")[2].partition(":")
        return Program(name, tag, (engine,), image)
    name, version = split(requirement)
    known = {one.connector: one for one in installed(settings)}
    have = known.get(name)
    command = f"ingestlab airbyte install {requirement}"
    if have is None:
        fix = did_you_mean(name, known, f"Install it where the workers run: {command}")
        got = f"{', '.join(known) or 'none'} in {home(settings)}"
        raise TerminalError(f"The connector {name} is not installed", got=got, fix=fix, code="connector_missing")
    if version and version != have.version:
        problem = f"The connector {name} is installed in another version"
        fix = f"Install it: {command}"
        raise TerminalError(problem, expected=version, got=have.version, fix=fix, code="connector_missing")
    script = home(settings) / have.folder / "bin" / name
    if not os.access(script, os.X_OK):
        problem, fix = f"The environment of the connector {name} is damaged", f"Install it again: {command}"
        raise TerminalError(problem, got=f"no program {script}", fix=fix, code="connector_missing")
    return Program(name, have.version, (str(script),))


def install(requirement: str, settings: Settings, *, package: str = "", python: str = "") -> Installed:
    """Install a connector from PyPI into an environment of its own.

    One of another version stays until this one is complete, and for pulls that use it, until the next installation.

    Args:
        requirement: Its name, perhaps with a version.
        settings: Name the folder.
        package: What to install in place of ``airbyte-<name>``, as pip takes it: another package, a path.
        python: Version or path of the Python that it needs; this one by default.

    Raises:
        TerminalError: It cannot be installed, or brings no program of its name.
    """
    name, version = split(requirement)
    wanted = package or f"airbyte-{name}{f'=={version}' if version else ''}"
    place = home(settings)
    place.mkdir(parents=True, exist_ok=True)
    before = {one.connector: one for one in installed(settings)}.get(name)
    folder = f"{name}.{secrets.token_hex(4)}"
    try:
        _make(place / folder, wanted, python, name)
        found = _describe(place / folder, name, wanted)
    except BaseException:
        shutil.rmtree(place / folder, ignore_errors=True)
        raise
    note = place / f"{name}.json"
    fresh = note.with_suffix(f".{secrets.token_hex(4)}")
    fresh.write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
    fresh.replace(note)
    keep = {folder, before.folder if before else folder}
    for old in place.glob(f"{name}.????????"):
        if old.is_dir() and old.name not in keep:
            shutil.rmtree(old, ignore_errors=True)
    return found


def _make(folder: Path, wanted: str, python: str, name: str) -> None:
    """Make an environment, by uv where that is there."""
    if uv := shutil.which("uv"):
        _run([uv, "venv", "-q", "--no-project", "--python", python or sys.executable, str(folder)], name)
        _run([uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(folder / "bin/python"), wanted], name)
        return
    own = sys.executable if not python else shutil.which(python if "/" in python else f"python{python}")
    if own is None:
        problem, fix = f"There is no Python {python} here", "Install it, or install uv, which brings any."
        raise TerminalError(problem, fix=fix, code="argument_invalid")
    _run([own, "-m", "venv", str(folder)], name)
    _run([str(folder / "bin/python"), "-m", "pip", "install", "-q", wanted], name)


def _run(command: Sequence[str], name: str) -> str:
    """Run a program of the installation; returns its output."""
    try:
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIME, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TerminalError.wrap(
            error, f"The connector {name} cannot be installed", code="connector_missing"
        ) from error
    if done.returncode:
        said = " ".join(" ".join(done.stderr.strip().splitlines()[-_LINES:]).split())
        fix = (
            "Check its name at https://connectors.airbyte.com; one that is not in Python runs in a container: `image`."
        )
        raise TerminalError(f"The connector {name} cannot be installed", got=said, fix=fix, code="connector_missing")
    return done.stdout


_DESCRIBE = """
import importlib.metadata as m, json, platform, sys
owner = [p.dist for p in m.entry_points(group="console_scripts", name=sys.argv[1])]
print(json.dumps([owner[0].version if owner else None, platform.python_version()]))
"""


def _describe(folder: Path, name: str, wanted: str) -> Installed:
    version, python = json.loads(_run([str(folder / "bin/python"), "-c", _DESCRIBE, name], name))
    if version is None:
        problem = f"The package {wanted} is no connector {name}"
        wanted_program = f"a program '{name}' in it"
        raise TerminalError(problem, expected=wanted_program, got="none", code="connector_missing")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Installed(name, version, wanted, python, folder.name, at)
