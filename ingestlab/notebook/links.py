"""Links that work where the page is: through jupyter-server-proxy if the notebook's own server has it.

In a container or on JupyterHub the browser reaches nothing but the Jupyter server. VS Code forwards ports by
itself, and a terminal's user sits at the machine: both get the address as it is.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingestlab.notebook.page import shell
from ingestlab.stack.jupyter import LOOPBACK, proxied

_SECONDS = 1.0


def reachable(url: str, environ: Mapping[str, str] | None = None, hosts: Sequence[str] = ()) -> str:
    """Give a page's address for the browser that shows this notebook.

    Args:
        url: The page, as this process sees it.
        environ: The kernel's environment.
        hosts: Other machines whose pages the notebook's server passes on, too.
    """
    parts = urlsplit(url)
    here = shell()
    passed_on = parts.hostname in LOOPBACK or parts.hostname in hosts
    if here is None or not passed_on or "__vsc_ipynb_file__" in here.user_ns:
        return url
    base = proxy_base(os.environ if environ is None else environ)
    return f"{base}{proxied(url)}{parts.path or '/'}" if base else url


def proxy_base(environ: Mapping[str, str]) -> str | None:
    """Give the base URL of this kernel's Jupyter server. None without a proxy."""
    server = _server(environ)
    if server is not None:
        return str(server["base_url"]) if _has_proxy(server) else None
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX")
    return prefix if prefix and find_spec("jupyter_server_proxy") else None


def _server(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Tell what our Jupyter server has written about itself."""
    try:
        from jupyter_core.paths import jupyter_runtime_dir  # noqa: PLC0415 - only notebooks have it
    except ImportError:
        return None
    file = Path(jupyter_runtime_dir(), f"jpserver-{environ.get('JPY_PARENT_PID')}.json")
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return None


def _has_proxy(server: Mapping[str, Any]) -> bool:
    """Ask the server for a page of the extension: without it there is none, and whoever may not see it is told so."""
    address = urlsplit(server["url"])
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "127.0.0.1", address.port, timeout=_SECONDS)
    headers = {"Authorization": f"token {server['token']}"} if server.get("token") else {}
    try:
        connection.request("GET", f"{address.path.rstrip('/')}/server-proxy/servers-info", headers=headers)
        return connection.getresponse().status != http.client.NOT_FOUND
    except (OSError, http.client.HTTPException):
        return find_spec("jupyter_server_proxy") is not None  # it does not answer its own kernel, e.g. for its TLS
    finally:
        connection.close()
