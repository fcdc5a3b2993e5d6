"""How a file in an archive is called: as fsspec chains it, e.g. ``zip://day1/a.csv::https://host/x.zip``."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote

Kind = Literal["zip", "tar"]

_MEMBER = re.compile(r"((?:zip|tar)://(.*?))::(.+)", re.DOTALL)
# What would end the name, or cannot be printed; anything else stays as it is, so that fsspec finds the member.
_SPECIAL = re.compile(r"[%\x00-\x1f\x7f\ud800-\udfff]|:(?=:|\Z)")


def member_uri(kind: Kind, name: str, archive: str) -> str:
    """The URI of a member, by its name in an archive and the archive's URI."""
    return f"{kind}://{_SPECIAL.sub(_quoted, name)}::{archive}"


def member_name(uri: str) -> str | None:
    """The name of a member in its archive; None if the URI is that of no member."""
    found = _MEMBER.fullmatch(uri)
    return unquote(found[2], errors="replace") if found else None


def container(uri: str) -> str:
    """What is fetched, and locked, for the sake of a source: the archive of a member, else the source itself."""
    found = _MEMBER.fullmatch(uri)
    return found[3] if found else uri


def head_of(uri: str) -> str:
    """The URI of a member without its archive, ``zip://day1/a.csv``; :func:`joined` puts it back."""
    found = _MEMBER.fullmatch(uri)
    return found[1] if found else uri


def joined(head: str, archive: str) -> str:
    """The URI of a member, by its head and the archive's URI."""
    return f"{head}::{archive}"


def label(uri: str) -> str:
    """A source as lists of files show it: the end of its URI, and of a member its archive's, ``x.zip: day1/a.csv``."""
    name, last = member_name(uri), container(uri).rsplit("/", 1)[-1]
    return last if name is None else f"{last}: {name}"


def _quoted(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))
