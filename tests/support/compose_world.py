"""The system of docker-compose.yml on a real engine, in a copy of this checkout, with ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ingestlab.core.settings import Settings
from ingestlab.stack.valkey import free_port
from support.workers import ROOT

STANDINS = ROOT / "tests/support/compose"
COPIED = (
    "Dockerfile",
    ".dockerignore",
    "docker-compose.yml",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "LICENSE",
)
FOLDERS = ("ingestlab", "pipelines", "notebooks")
PORTS = ("REDIS_PORT", "S3_PORT", "DASK_PORT", "DASHBOARD_PORT", "MILVUS_PORT", "LAB_PORT")
OWNER = 1000  # of notebooks and pipelines, as the example says


def missing_engine() -> str:
    """Why nothing can be brought up here; empty if it can."""
    if shutil.which("docker") is None:
        return "docker is not installed here"
    for command in (["docker", "info"], ["docker", "compose", "version"], ["docker", "buildx", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"`{' '.join(command)}` says: {done.stderr.strip()[:200]}"
    return ""


class World:
    """One project of docker compose.

    Args:
        folder: Gets a copy of what an image and the services need, and the settings.
        **changes: Values in `.env`.
    """

    def __init__(self, folder: Path, **changes: str) -> None:
        self.folder, self.standins = folder, list[str]()
        for name in COPIED:
            shutil.copy(ROOT / name, folder)
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".ingestlab", "my_*.py", "slow_*.py")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        ports = {name: str(free_port()) for name in PORTS}
        secrets = {name: os.urandom(16).hex() for name in ("REDIS_PASSWORD", "S3_SECRET_KEY", "MILVUS_PASSWORD")}
        self.values = {**ports, **secrets, "LAB_TOKEN": os.urandom(16).hex(), **changes}
        example = (ROOT / ".env.example").read_text().splitlines()
        names = [line.partition("=")[0] for line in example]
        lines = [f"{n}={self.values[n]}" if n in self.values else line for n, line in zip(names, example, strict=True)]
        (folder / ".env").write_text("\n".join([*lines, f"COMPOSE_PROJECT_NAME=ingestlab-test-{os.getpid()}"]))
        if os.getuid() == 0:
            for path in (folder / "notebooks", folder / "pipelines", *folder.glob("notebooks/**/*")):
                os.chown(path, OWNER, OWNER)
        if not self._has_init():
            services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
            without = {"services": {name: {"init": False} for name in services}}
            (folder / "docker-compose.override.yml").write_text(yaml.safe_dump(without))

    @property
    def settings(self) -> Settings:
        """What ingestlab on this machine finds in the folder."""
        return Settings(_env_file=self.folder / ".env", pipelines=(str(self.folder / "pipelines"),))

    def environment(self) -> dict[str, str]:
        """This process's own, less what would beat the folder's `.env`."""
        return {
            k: v for k, v in os.environ.items() if k not in self.values and not k.startswith(("INGESTLAB_", "REDIS_"))
        }

    def compose(self, *arguments: str, timeout: float = 300, check: bool = True) -> str:
        """Runs a compose command; gives what it printed."""
        return self.run("docker", "compose", *arguments, timeout=timeout, check=check).stdout

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs an ingestlab command on this machine, in the folder."""
        return self.run(sys.executable, "-m", "ingestlab", *arguments, timeout=120, check=check)

    def run(
        self, *command: str, timeout: float = 120, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the folder; an error shows what it said."""
        env = {**self.environment(), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        done = subprocess.run(
            command, cwd=self.folder, env=env, input=text, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def images(self) -> None:
        """Gets the servers' images: from a registry, or where none is reached, stand-ins under their names.

        Those are to be forgotten afterwards, so that nobody takes them for the real ones: `forget`.
        """
        for file in sorted(STANDINS.glob("*.dockerfile")):
            services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
            (image,) = [s["image"] for s in services if f"/{file.stem}:" in s["image"]]
            known = self.run("docker", "image", "inspect", image, check=False).returncode == 0
            if not known and self.run("docker", "pull", "--quiet", image, timeout=600, check=False).returncode:
                self.run("docker", "build", "--tag", image, "--file", str(file), str(STANDINS), timeout=600)
                self.standins.append(image)

    def forget(self) -> None:
        """Takes everything down, and the names from the stand-ins."""
        self.compose("down", "--volumes", "--timeout", "5", check=False)
        if self.standins:
            self.run("docker", "image", "rm", "--no-prune", *self.standins, check=False)

    def containers(self, service: str) -> list[dict[str, str]]:
        """The containers of a service: Name, State, Health, ExitCode and more of each."""
        lines = self.compose("ps", "--all", "--format", "json", service).splitlines()
        return [json.loads(line) for line in lines]

    def inside(self, service: str, *command: str, text: str | None = None) -> str:
        """Runs a command in a container of a service."""
        return self.run("docker", "compose", "exec", "-T", service, *command, timeout=200, text=text).stdout

    def _has_init(self) -> bool:
        """Some engines come without the little program that `init: true` wants."""
        name = self.run("docker", "info", "--format", "{{.InitBinary}}").stdout.strip()
        tried = self.run("docker", "run", "--rm", "--init", "python:3.13-slim", "true", check=False)
        return bool(name) and not tried.returncode
