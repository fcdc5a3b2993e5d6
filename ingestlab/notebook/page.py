"""Quantities as people read them, and the place in a notebook where something is shown."""

from __future__ import annotations

from typing import Any


def size(count: float) -> str:
    """Write bytes for people, in powers of 1000: ``7.3 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """Write seconds for people: ``8 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def many(count: int, noun: str) -> str:
    """Write a number of things: ``1 file``, ``1,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shell() -> Any | None:
    """Give the IPython around this code. None without a kernel for displays."""
    try:
        from IPython.core.getipython import get_ipython  # noqa: PLC0415 - only notebooks have it
    except ImportError:
        return None
    ip = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    return ip if getattr(ip, "kernel", None) is not None else None


def show(html: str, plain: str) -> Any:
    """Show something where it can be updated; give its handle."""
    from IPython.display import display  # noqa: PLC0415 - as above

    return display(bundle(html, plain), raw=True, display_id=True)  # type: ignore[no-untyped-call, unused-ignore]


def bundle(html: str, plain: str) -> dict[str, str]:
    """Bundle HTML and plain text, of which a front end shows one."""
    return {"text/html": html, "text/plain": plain}
