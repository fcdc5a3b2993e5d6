"""HTML from the package's templates, which escape every value that is put into them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from ingestlab.core.archive_uri import label

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Its file, from the package's root: ``stack/templates/folder.html``.
        values: What it shows; ``markupsafe.Markup`` alone is taken for HTML.
    """
    return _environment().get_template(template).render(values)


def macro(template: str, name: str, **values: Any) -> str:
    """Fill one of the parts that a template defines.

    Args:
        template: Its file, from the package's root.
        name: That of the macro.
        values: Its arguments.
    """
    return str(getattr(_environment().get_template(template).module, name)(**values)).strip()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow to import, and seldom needed

    loader = PackageLoader("ingestlab", package_path="")
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(thousands="{:,}".format, label=label, clock=clock, iso=_iso, duration=duration, size=size)
    return env


def clock(at: float) -> str:
    """Write a moment by this machine's clock. The day comes with others than today.

    Args:
        at: Seconds since 1970.
    """
    today = time.localtime(at)[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%d %b %H:%M", time.localtime(at))


def duration(seconds: float | None) -> str:
    """Write how long something took: ``0.4 s``, ``3 min 05 s``, ``2 h 10 min``; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Write a number of bytes: ``812 B``, ``3.4 MB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
