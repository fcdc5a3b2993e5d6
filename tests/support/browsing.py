"""A real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (  # it runs as root in containers, and calls nobody
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PROGRAMS = ("chromium", "chromium-browser")


def chromium() -> str:
    """The program; a test that wants it is skipped where there is none, unless `INGESTLAB_BROWSER` says "required"."""
    absent = pytest.fail if os.environ.get("INGESTLAB_BROWSER") == "required" else pytest.skip
    if find_spec("playwright") is None:
        absent("playwright is not installed: pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    return program or absent("there is no chromium on this machine: apt-get install chromium")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium, with no window."""
    program = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def screenshot(page: Any, name: str, otherwise: Path) -> Path:
    """Keeps what a page looks like, in the folder of ``INGESTLAB_SCREENSHOTS`` where that is set."""
    path = Path(os.environ.get("INGESTLAB_SCREENSHOTS", otherwise)) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    return path
