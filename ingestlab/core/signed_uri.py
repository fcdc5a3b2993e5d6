"""The secrets in addresses, and addresses without them: signatures, tokens and keys name no file.

The same object with a new signature is the same source, so an address without its signature is what the lake, logs and
errors know a source by. Names that are secret by themselves are left out wherever they come. Others, such as
`Expires` or Azure's `sp`, are an address's own unless what makes them part of a signature stands beside them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus

from ingestlab.core.archive_uri import container, head_of, joined
from ingestlab.core.schemes import traits

ALWAYS = (
    *("x-amz-*", "x-goog-*", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id"),
    *("x-oss-signature*", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-security-token"),
    *("sig", "signature", "x-signature", "hmac", "q-signature", "q-ak", "hdnts", "hdnea", "__token__", "__gda__"),
    *("token", "access?token", "accesstoken", "auth?token", "authtoken", "id?token", "refresh?token", "jwt"),
    *("session?token", "security?token", "bearer?token", "sas?token", "private?token", "job?token", "oauth?token"),
    *("x-*-token", "api?key", "apikey", "x-api-key", "app?key", "access?key", "accesskey", "secret?key"),
    *("subscription-key", "ocp-apim-subscription-key", "secret", "client?secret", "password", "passwd", "pwd"),
    *("passphrase", "authorization", "credential", "credentials", "jsessionid", "phpsessid"),
)
_TIMES = ("expires", "expire", "expiry", "expiration", "exp")
_AZURE = (  # of a shared access signature
    *("sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "si", "sip", "sdd", "ses"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid"),
)
_BESIDE = (  # names that are part of a signature where one of the first names stands beside them
    (("key-pair-id",), ("policy", "hash-algorithm")),
    (("x-amz-signature", "x-amz-credential"), ("x-id",)),
    (("q-signature", "q-ak"), ("q-*",)),
)
_MAYBE = ("key", "code", "auth", "sid", "session")  # a file's name, or a secret: by how the value looks
_SECRET = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-~+/=]{16,}", re.ASCII)
_MOMENT = re.compile(r"\d{9,}|\d{4}-\d\d-\d\dT.*", re.ASCII)
_SHORT = 6  # characters; a shorter value would be found in many a word


class _Parameter(NamedTuple):
    """One parameter of a query as written, with the separator before it."""

    before: str
    text: str

    @property
    def name(self) -> str:
        return unquote_plus(self.text.partition("=")[0]).strip().lower()

    @property
    def value(self) -> str:
        return unquote_plus(self.text.partition("=")[2])


def bare(uri: str, secret: Sequence[str] = (), *, whatever: bool = False) -> str:
    """Strip an address of its secrets. Anything else in it stays to the byte.

    Args:
        uri: Of a source; only those of web servers have parameters.
        secret: Names, or patterns, that are secret beside the usual ones; ``-name`` says that it is not.
        whatever: Of whatever scheme; for what is shown of an address that may not be used at all.
    """
    if (archive := container(uri)) != uri:
        return joined(head_of(uri), bare(archive, secret, whatever=whatever))
    if ("?" not in uri and "#" not in uri) or not (whatever or traits(uri.partition("://")[0].lower()).host):
        return uri
    address, mark, fragment = uri.partition("#")
    path, question, query = address.partition("?")
    left = _without(query, tuple(secret))
    part = _without(fragment, tuple(secret)) if "=" in fragment else fragment
    question = question if left or not query else ""
    return f"{path}{question}{left}" + (f"{mark}{part}" if part or not fragment else "")


def scrubbed(text: str, addresses: Iterable[str], secret: Sequence[str] = ()) -> str:
    """Strip a text of addresses' secrets, however a library repeats them.

    Args:
        text: What a library says, e.g. in an error.
        addresses: URIs that may be in it.
        secret: Names of query parameters that are secret beside the usual ones.
    """
    for address in addresses:
        text = text.replace(address, bare(address, secret))
        for value in _secrets(address, tuple(secret)):
            text = text.replace(value, "…")
    return text


def _secrets(uri: str, secret: tuple[str, ...]) -> list[str]:
    """List what must not be repeated, the longest first."""
    values: set[str] = set()
    for query in uri.partition("?")[2].split("#"):
        gone = _secret_ones(_parameters(query), secret)
        for p in gone:
            raw = p.text.partition("=")[2]
            values |= {p.text, *(v for v in (raw, p.value) if len(v) >= _SHORT)}
    return sorted(values, key=len, reverse=True)


@lru_cache(maxsize=4096)
def _without(query: str, secret: tuple[str, ...]) -> str:
    parameters = _parameters(query)
    gone = set(_secret_ones(parameters, secret))
    if not gone:
        return query
    kept = [_masked(p) if p in gone and p.name in _MAYBE else p for p in parameters]
    left = [p for p in kept if p not in gone]
    return "".join(p.before * (place > 0) + p.text for place, p in enumerate(left))


def _parameters(query: str) -> list[_Parameter]:
    words = ["", *re.split(r"([&;])", query)]
    return [_Parameter(before, text) for before, text in zip(words[::2], words[1::2], strict=True)]


def _secret_ones(parameters: Sequence[_Parameter], secret: tuple[str, ...]) -> Iterator[_Parameter]:
    """Yield parameters that are secret, or part of a signature."""
    names = {p.name for p in parameters}
    more = tuple(name.lower() for name in secret if not name.startswith("-"))
    not_so = tuple(name[1:].lower() for name in secret if name.startswith("-"))
    secrets = {p.name for p in parameters if p.text and _is(p.name, (*ALWAYS, *more))}
    secrets |= {name for marks, also in _BESIDE if names & set(marks) for name in names if _is(name, also)}
    if {"sig", "sv"} <= names:
        secrets |= names & set(_AZURE)
    if "md5" in names and names & set(_TIMES):
        secrets.add("md5")  # as nginx signs
    secrets |= {p.name for p in parameters if secrets and p.name in _TIMES and _MOMENT.fullmatch(p.value)}
    secrets |= {p.name for p in parameters if p.name in _MAYBE and _SECRET.fullmatch(p.value)}
    return (p for p in parameters if p.name in secrets and not _is(p.name, not_so))


def _is(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _masked(p: _Parameter) -> _Parameter:
    """Mask a secret value that may tell files apart."""
    name = p.text.partition("=")[0]
    return p._replace(text=f"{name}=~{hashlib.sha256(p.value.encode('utf-8', 'replace')).hexdigest()[:12]}")
