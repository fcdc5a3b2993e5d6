"""Configuration of JupyterLab for a stack: where the Dask dashboard is, and a workspace with its panes.

All of it is in the stack's home and reaches JupyterLab by environment variables, so that the settings and
workspaces that somebody has made for themselves stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.stack.state import home_of
from ingestlab.stack.valkey import HOST

WORKSPACE = "ingestlab"
FIRST = Path("first_pipeline.ipynb")  # for a folder that is not the course
LOOPBACK = (HOST, "localhost", "::1")  # what the proxy passes on to unless it is told to do more
# From top to bottom: the tabs of a pane, and its share of the height.
PANES: dict[tuple[str, ...], float] = {("Ingest", "Runs"): 0.46, ("Task Stream",): 0.29, ("Progress",): 0.25}
LAUNCHER = "dask-dashboard-launcher"  # dask-labextension's name for its panel, and what its panes are called after


def prepare(settings: Settings, notebook: str) -> dict[str, str]:
    """Write settings and workspace for JupyterLab. Give the environment by which it finds them.

    A workspace that is there already is kept, for somebody may have arranged it.

    Args:
        settings: Of a stack, or of servers elsewhere with `dask_dashboard`.
        notebook: What to open at the left, relative to the folder that JupyterLab shows.
    """
    folder = home_of(settings) / "jupyter"
    dashboard = pane_url(settings)
    _write(folder / "config/labconfig/default_setting_overrides.json", overrides(dashboard))
    _write(folder / "config/jupyter_server_config.json", server_config(settings))
    file = folder / "workspaces" / _file_name(WORKSPACE)
    if not file.exists():
        _write(file, workspace(dashboard, notebook))
    else:
        _point(file, dashboard)
    paths = [str(folder / "config"), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}


def first_pipeline() -> Path:
    """Write a first notebook into this folder, unless it is there. Give its path."""
    if not FIRST.exists():
        FIRST.write_bytes((Path(__file__).parent / "templates" / FIRST.name).read_bytes())
    return FIRST


def pane_url(settings: Settings) -> str:
    """Give the dashboard's address for panes: through the Jupyter server, for a browser may reach nothing else."""
    page = (settings.dask_dashboard or "").removesuffix("/status")
    return proxied(page) if urlsplit(page).hostname in (HOST, *settings.proxied_hosts) else page


def proxied(url: str) -> str:
    """Give a page's path below a Jupyter server that proxies it."""
    parts = urlsplit(url)
    host = "" if parts.hostname in LOOPBACK else f"{parts.hostname}:"
    return f"proxy/{host}{parts.port or 80}"


def server_config(settings: Settings) -> dict[str, dict[str, Any]]:
    """Configure the Jupyter server: hosts whose pages it may pass on, our extension, and the shell of terminals."""
    shell = os.environ.get("SHELL", "sh")  # not as a login: /etc/profile would take `ingestlab` off the PATH
    return {
        "ServerProxy": {"host_allowlist": [*LOOPBACK, *settings.proxied_hosts]},
        "ServerApp": {
            "jpserver_extensions": {"ingestlab.stack.jupyter_extension": True},
            "terminado_settings": {"shell_command": [shell]},
        },
    }


def overrides(dashboard: str) -> dict[str, dict[str, Any]]:
    """Defaults of JupyterLab's settings, by plugin."""
    panes = [[_route(name) for name in tabs] for tabs in PANES]
    places = [{"mode": "split-right", "ref": None}, *({"mode": "split-bottom", "ref": tabs[0]} for tabs in panes)]
    layout = {tabs[0]: place for tabs, place in zip(panes, places, strict=False)}
    layout |= {tab: {"mode": "tab-after", "ref": tabs[0]} for tabs in panes for tab in tabs[1:]}
    return {
        "dask-labextension:plugin": {"defaultURL": dashboard, "hideClusterManager": True, "defaultLayout": layout},
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},  # its question would cover the panes
    }


def workspace(dashboard: str, notebook: str) -> dict[str, Any]:
    """Lay out a workspace: a notebook left, panes of the dashboard right."""
    left, panes = f"notebook:{notebook}", {_pane(name): name for tabs in PANES for name in tabs}
    right = {
        "type": "split-area",
        "orientation": "vertical",
        "sizes": list(PANES.values()),
        "children": [_tabs(*map(_pane, tabs)) for tabs in PANES],
    }
    dock = {"type": "split-area", "orientation": "horizontal", "sizes": [0.55, 0.45], "children": [_tabs(left), right]}
    folded = {"collapsed": True, "visible": True, "widgets": []}
    data = {
        "layout-restorer:data": {"main": {"dock": dock, "current": left}, "left": folded, "right": folded},
        LAUNCHER: {"url": dashboard, "cluster": ""},
        left: {"data": {"path": notebook, "factory": "Notebook"}},
        **{pane: {"data": {"item": _item(name)}} for pane, name in panes.items()},
    }
    return {"data": data, "metadata": {"id": WORKSPACE}}


def _point(file: Path, dashboard: str) -> None:
    """Tell a workspace where the dashboard is this time."""
    try:
        space = json.loads(file.read_text())
        space["data"][LAUNCHER] = {"url": dashboard, "cluster": ""}
    except (ValueError, KeyError, TypeError) as error:
        raise TerminalError.wrap(
            error, f"Not a JupyterLab workspace in {file}", "Delete the file.", code="bad_file"
        ) from error
    _write(file, space)


def _write(file: Path, data: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=2))


def _file_name(space: str) -> str:
    """Name the file in which JupyterLab looks for this workspace."""
    return f"{space}-{hashlib.sha256(space.encode()).hexdigest()[:4]}.jupyterlab-workspace"


def _route(name: str) -> str:
    return "individual-" + name.lower().replace(" ", "-")


def _pane(name: str) -> str:
    return f"{LAUNCHER}:/{_route(name)}"


def _item(name: str) -> dict[str, str]:
    return {"route": f"/{_route(name)}", "label": name, "key": name}


def _tabs(*widgets: str) -> dict[str, Any]:
    return {"type": "tab-area", "currentIndex": 0, "widgets": list(widgets)}
