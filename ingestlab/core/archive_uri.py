"""How a file in an archive is called: as fsspec chains it, e.g. ``zip://day1/a.csv::https://host/x.zip``.

The pages of a pull are called likewise: ``page://3f2a/orders-000001-000200.jsonl::rest://orders``.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote

Kind = Literal["zip", "tar", "page"]

_MEMBER = re.compile(r"((?:zip|tar|page)://(.*?))::(.+)", re.DOTALL)
# What would end the name, or cannot be printed; anything else stays as it is, so that fsspec finds the member.
_SPECIAL = re.compile(r"[%\x00-\x1f\x7f\ud800-\udfff]|:(?=:|\Z)")


def member_uri(kind: Kind, name: str, archive: str) -> str:
    """Build a member's URI from its name and the archive's URI.

    Args:
        kind: Of the archive, which is the scheme.
        name: Of the member in the archive.
        archive: The archive's URI.
    """
    return f"{kind}://{_SPECIAL.sub(_quoted, name)}::{archive}"


def member_name(uri: str) -> str | None:
    """Return the name of a member in its archive. None if the URI names none."""
    match = _MEMBER.fullmatch(uri)
    return unquote(match[2], errors="replace") if match else None


def container(uri: str) -> str:
    """Return what is fetched and locked: a member's archive, else the source itself."""
    match = _MEMBER.fullmatch(uri)
    return match[3] if match else uri


def head_of(uri: str) -> str:
    """Return a member's URI without its archive, ``zip://day1/a.csv``; :func:`joined` puts it back."""
    match = _MEMBER.fullmatch(uri)
    return match[1] if match else uri


def joined(head: str, archive: str) -> str:
    """Join a member's head and the archive's URI.

    Args:
        head: As :func:`head_of` gives it.
        archive: The archive's URI.
    """
    return f"{head}::{archive}"


def label(uri: str) -> str:
    """Label a source in lists of files: the end of its URI, or ``x.zip: day1/a.csv``."""
    name, last = member_name(uri), container(uri).rsplit("/", 1)[-1]
    return last if name is None else f"{last}: {name}"


def _quoted(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def without_name(text: str, uri: str) -> str:
    """Leave the name of a file out of a text about it.

    Args:
        text: Such as an error's.
        uri: Of the file.
    """
    for name in (uri, uri.removeprefix("file://"), label(uri)):
        text = text.replace(name, "…")
    return text
