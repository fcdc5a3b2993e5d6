"""The contract suites know a package of plug-ins as well, which is installed for them."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestlab.core import plugins, schemes
from ingestlab.pipeline import catalog

PLUGIN = Path(__file__).parent / "plugin"


def install(folder: Path) -> Path:
    """Puts the package and its metadata into a folder, as an installer does without a network."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shutil.copytree(PLUGIN / "ingestlab_example", folder / "ingestlab_example")
    info = folder / f"ingestlab_example-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in e.items()) for group, e in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the package of plug-ins is installed."""
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", autouse=True)
def _installed(plugin: Path) -> Iterator[None]:
    """This process finds the plug-ins, as long as a module of contracts runs."""
    _forget()
    sys.path.insert(0, str(plugin))
    yield
    sys.path.remove(str(plugin))
    for name in [name for name in sys.modules if name.partition(".")[0] == "ingestlab_example"]:
        del sys.modules[name]
    _forget()


def _forget() -> None:
    for cached in (plugins.installed, plugins.plugins, plugins.load, schemes.served, catalog.formats):
        cached.cache_clear()
