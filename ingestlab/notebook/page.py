"""How everything looks in a notebook: a few styles that are calm in light and dark themes alike, and its place there.

Colours are middle ones, text has the theme's own, and nothing is loaded: what is stored stays right.
"""

from __future__ import annotations

from html import escape
from typing import Any

ACCENT, GOOD, BAD, FAINT = "#3f87c6", "#2f9e6e", "#d8572a", "rgba(128,128,128,.28)"
_BOX = f"border:1px solid {FAINT};border-radius:8px;padding:10px 14px;margin:2px 0;max-width:52em;line-height:1.6"
_GRID = "display:grid;grid-template-columns:max-content 1fr;column-gap:1.4em"
_NUMBERS = "font-variant-numeric:tabular-nums"


def box(*content: str) -> str:
    """Content with a thin frame around it."""
    return f"<div style='{_BOX}'>{''.join(content)}</div>"


def title(left: str, right: str = "") -> str:
    """The first line of a box: HTML at the left and at the right."""
    ends = "display:flex;justify-content:space-between;gap:2em;margin-bottom:4px"
    return f"<div style='{ends}'><span>{left}</span><span style='white-space:nowrap'>{right}</span></div>"


def facts(rows: dict[str, str]) -> str:
    """Names and their values, which are HTML, below each other; those without a value are left out."""
    cells = "".join(f"{faint(name)}<span style='{_NUMBERS}'>{value}</span>" for name, value in rows.items() if value)
    return f"<div style='{_GRID}'>{cells}</div>"


def faint(text: str) -> str:
    """Text that steps back."""
    return f"<span style='opacity:.65'>{escape(text)}</span>"


def coloured(text: str, colour: str) -> str:
    """Text that steps forward."""
    return f"<span style='color:{colour}'>{escape(text)}</span>"


def line(text: str, colour: str = "") -> str:
    """One line of text on its own."""
    return f"<div>{coloured(text, colour) if colour else faint(text)}</div>"


def code(text: str) -> str:
    """An address, a path, a name."""
    return f"<code style='background:none;padding:0'>{escape(text)}</code>"


def link(url: str, text: str) -> str:
    """A link that opens beside the notebook."""
    style = f"color:{ACCENT};text-decoration:none"
    return f"<a href='{escape(url)}' target='_blank' rel='noopener' style='{style}'>{escape(text)} ↗</a>"


def bar(share: float, colour: str = ACCENT) -> str:
    """How far something is, from 0 to 1."""
    inner = f"width:{100 * share:.1f}%;height:100%;border-radius:3px;background:{colour}"
    outer = f"height:6px;border-radius:3px;background:{FAINT};margin:4px 0 6px"
    return f"<div style='{outer}'><div style='{inner}'></div></div>"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000: ``7.3 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people: ``8 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def many(count: int, noun: str) -> str:
    """A number of things: ``1 file``, ``1,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shell() -> Any | None:
    """The IPython that this code runs in, if it is one with a kernel, whose displays can be updated; else None."""
    try:
        from IPython.core.getipython import get_ipython  # noqa: PLC0415 - only notebooks have it
    except ImportError:
        return None
    found = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    return found if getattr(found, "kernel", None) is not None else None


def show(html: str, plain: str) -> Any:
    """Shows something where it can be updated; gives its handle."""
    from IPython.display import display  # noqa: PLC0415 - as above

    return display(bundle(html, plain), raw=True, display_id=True)  # type: ignore[no-untyped-call, unused-ignore]


def bundle(html: str, plain: str) -> dict[str, str]:
    """One thing in the two forms that every notebook front end can show one of."""
    return {"text/html": html, "text/plain": plain}
