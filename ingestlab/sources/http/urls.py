"""Addresses as they are sent: to the byte as they were given, redirects too.

Clients like to put URLs in order: they decode what need not be encoded, drop an empty query, join slashes. To a
server each of these may be another file, or break a signature. Only what HTTP cannot carry (blanks, and letters
beyond ASCII) is percent-encoded here.
"""

from __future__ import annotations

import re

from yarl import URL

_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^#]*)", re.ASCII | re.DOTALL)
_UNSENDABLE = re.compile(r"[^\x21-\x7e]+")


def exact(uri: str) -> URL:
    """Build the URL that asks for exactly this.

    Raises:
        ValueError: There is no host.
    """
    match = _PARTS.match(uri)
    if not match:
        raise ValueError("no scheme and host")
    server, target = URL(f"{match[1]}://{match[2]}/"), quoted(match[3])
    host = server.host_subcomponent
    if not host:
        raise ValueError("no host")
    path = target if target.startswith("/") else f"/{target}"
    # All of it as the path: of what is called a query, even an empty one must stay.
    return URL.build(scheme=server.scheme, host=host, port=server.explicit_port, path=path, encoded=True)


def quoted(text: str) -> str:
    """Percent-encode what a request line cannot hold, and nothing else."""
    return _UNSENDABLE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), text)


def resolved(base: str, location: str) -> str:
    """Resolve a redirect from `base`; the location stays as it is.

    Args:
        base: The address that was asked for.
        location: As the server sent it: absolute, or relative in any of its ways.
    """
    match = _PARTS.match(base)
    assert match is not None
    scheme, host, path = match[1], match[2], re.split(r"[?]", match[3])[0]
    location = quoted(location.strip())
    if re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", location, re.ASCII):
        return location
    if location.startswith("//"):
        return f"{scheme}:{location}"
    if location.startswith("/"):
        return f"{scheme}://{host}{location}"
    if location.startswith(("?", "#")):
        return f"{scheme}://{host}{path}{location}"
    step = re.match(r"[^?#]*", location)
    assert step is not None
    folder = path.rpartition("/")[0]
    return f"{scheme}://{host}{_without_dots(f'{folder}/{step[0]}')}{location[step.end() :]}"


def _without_dots(path: str) -> str:
    """Resolve dots in a path; slashes that come twice stay twice."""
    *steps, last = path.split("/")[1:]
    kept: list[str] = []
    for step in (*steps, last):
        if step == ".." and kept:
            kept.pop()
        elif step not in (".", ".."):
            kept.append(step)
    folder = last in (".", "..")
    return "/" + "/".join([*kept, ""] if folder else kept)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # headers that are no UTF-8 are read so
