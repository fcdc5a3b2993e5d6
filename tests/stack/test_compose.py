"""The container files, as far as they can be judged without an engine; `make test-compose` brings them up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.workers import ROOT

import ingestlab
from ingestlab.core.settings import Settings

COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
STANDINS = sorted((ROOT / "tests/support/compose").glob("*.dockerfile"))
SECRETS = {"REDIS_PASSWORD", "S3_SECRET_KEY", "MILVUS_PASSWORD", "RABBITMQ_PASSWORD", "MONGODB_PASSWORD", "LAB_TOKEN"}


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled(folder: Path) -> Path:
    """An `.env` as a newcomer makes it, with the line that the example gives."""
    (line,) = re.findall(r"^#   (sed -i .*?\.env)", EXAMPLE.read_text(), re.MULTILINE)
    shutil.copy(EXAMPLE, folder / ".env")
    subprocess.run(["bash", "-ec", line], cwd=folder, check=True)
    return folder / ".env"


def config(env: Path) -> subprocess.CompletedProcess[str]:
    """What compose says of the file; without the variables that this process has."""
    command = ["docker", "compose", "--env-file", env, "-f", COMPOSE, "config", "--quiet"]
    here = {name: value for name, value in os.environ.items() if name not in example()}
    return subprocess.run(command, env=here, capture_output=True, text=True, check=False)


def test_compose_accepts_the_file_once_the_secrets_are_filled_and_not_before(tmp_path):
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not installed here")
    empty = config(EXAMPLE)
    assert empty.returncode
    assert "is empty, see .env.example" in empty.stderr
    assert config(filled(tmp_path)).stderr == ""


def test_hadolint_has_nothing_to_say():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed here: its wheels are for Linux on x86-64")
    done = subprocess.run([linter, ROOT / "Dockerfile", *STANDINS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_has_a_tag_that_stays_what_it_is(service):
    name, _, tag = SERVICES[service]["image"].rpartition(":")
    if name == "ingestlab":
        assert tag == ingestlab.__version__
    else:
        assert re.match(r"v?\d+\.\d+\.\d+", tag), f"{name}:{tag} may change"


@pytest.mark.parametrize("file", [ROOT / "Dockerfile", *STANDINS], ids=lambda f: f.name)
def test_the_images_are_built_without_a_registry_but_for_their_base(file):
    text = file.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    assert {base for base in bases if base not in stages} == {"python:3.13-slim"}
    assert set(re.findall(r"(?:--from=|,from=)([^\s,]+)", text)) <= stages
    assert "# syntax" not in text


def test_each_third_party_image_has_a_stand_in_of_its_own():
    third = {s["image"].partition(":")[0].rpartition("/")[2] for s in SERVICES.values() if "/" in s["image"]}
    assert third == {file.stem for file in STANDINS}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_bounded_and_seen_on_this_machine_alone(service):
    what = SERVICES[service]
    assert {"cpus", "memory"} <= set(what["deploy"]["resources"]["limits"])
    assert what["init"] is True
    assert set(what["profiles"]) in ({"full"}, {"core", "full"}, {"celery"}, {"mongodb"})
    assert all(port.startswith("127.0.0.1:") for port in what.get("ports", []))
    assert "no-new-privileges:true" in what["security_opt"]
    assert what["restart"] == ("no" if service == "init" else "unless-stopped")
    waits = what.get("depends_on", {}).values()
    assert all(w["condition"] in ("service_healthy", "service_completed_successfully") for w in waits)


def test_the_core_has_no_milvus_and_no_lab():
    assert {name for name, what in SERVICES.items() if "core" not in what["profiles"]} == {
        "milvus",
        "lab",
        "rabbitmq",
        "mongo",
    }


def test_mongodb_is_left_out_unless_asked_for_and_seen_by_the_other_services_alone(tmp_path):
    what = SERVICES["mongo"]
    assert what["profiles"] == ["mongodb"]
    assert "ports" not in what
    (line,) = re.findall(r"^# (INSIDE_MONGODB_URI=.*)", EXAMPLE.read_text(), re.MULTILINE)
    env = filled(tmp_path)
    env.write_text(f"{env.read_text()}{line.replace('INSIDE_MONGODB_URI', 'INGESTLAB_MONGODB_URI')}\n")
    found = Settings(_env_file=env)
    assert found.mongodb_shown == "mongodb://mongo:27017"
    assert re.match(r"mongodb://ingestlab:[0-9a-f]{32}@mongo:27017/\?authSource=admin", found.mongodb_uri or "")
    users = {name for name, each in SERVICES.items() if "mongo" in each.get("depends_on", {})}
    assert users == {"worker", "dask-worker", "notebook-worker"}
    assert not any(SERVICES[name]["depends_on"]["mongo"]["required"] for name in users)


def test_secrets_have_no_default_and_all_variables_are_explained():
    known = example()
    assert {name for name, value in known.items() if not value} == SECRETS
    used = re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE.read_text())
    assert all(name in known or rest.startswith((":-", "-")) for name, rest in used)
    assert not any(rest.startswith(":-") and rest != ":-" for name, rest in used if name in SECRETS)


def test_tools_on_this_machine_read_the_same_file(tmp_path, monkeypatch):
    for name in ("REDIS_HOST", "REDIS_URL", "REDIS_PASSWORD", "REDIS_PORT"):
        monkeypatch.delenv(name, raising=False)
    found = Settings(_env_file=filled(tmp_path))
    secret = found.redis_password
    assert secret
    assert len(secret) == 32
    assert found.redis == f"redis://:{secret}@127.0.0.1:6379/0"
    assert found.broker_url == f"amqp://ingestlab:{secret}@127.0.0.1:5672/"
    assert found.milvus_token == f"root:{secret}"
    options = found.storage_options["s3"]
    assert options == {"key": "ingestlab", "secret": secret, "endpoint_url": "http://127.0.0.1:9000"}


def test_what_the_image_leaves_out_is_what_git_leaves_out():
    """A pipeline that a student has made in this checkout does not go into an image."""
    ignored = {line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("pipelines/")}
    assert ignored <= set((ROOT / ".dockerignore").read_text().splitlines())
