"""Who may be called: which schemes, hosts, networks and folders a source may name.

Checked when a request is submitted, again before its sources are fetched, and for every redirect. No text
made here repeats a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from ingestlab.core.archive_uri import container, head_of, joined, member_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.core.signed_uri import bare

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HOST_PORT = re.compile(r"(\[[^@]*\]|[^@:]*)(:\d*)?")
_NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*", re.ASCII)  # all that a system takes for IPv4
_UNSAFE = re.compile(r"[^\w.\-+=@ ()]")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def check(uri: str, settings: Settings) -> str:
    """Decide by its text alone whether a source may be fetched.

    Names are not resolved here: `check_address` is called with what they resolve to when it comes to
    connecting.

    Args:
        uri: Of the source, or a plain path.
        settings: Which schemes, hosts, networks and folders are allowed.

    Returns:
        The scheme; ``file`` for a plain path.

    Raises:
        TerminalError: It may not; the text says which rule forbids it.
    """
    known = settings.schemes, settings.secret_parameters, settings.allow_hosts, settings.deny_networks
    scheme = _check_uri(uri, *known)
    if settings.deny_sources:
        _check_denied(uri, scheme, settings)
    if traits(scheme).local and not traits(scheme).host:
        local_path(uri, settings)
    return scheme


def _check_denied(uri: str, scheme: str, settings: Settings) -> None:
    """Refuse what is below a denied folder or URL."""
    local = traits(scheme).local and not traits(scheme).host
    place = str(local_path(uri, settings).resolve()) if local else _plain(uri)
    for denied in settings.deny_sources:
        if "://" in denied and not denied.startswith("file://"):
            inside = not local and f"{place}/".startswith(f"{_plain(denied)}/")
        else:
            folder = Path(denied.removeprefix("file://")).expanduser().resolve()
            inside = local and Path(place).is_relative_to(folder)
        if inside:
            problem, fix = f"Files may not be taken from here: {shown(uri)}", "Put the file elsewhere."
            raise TerminalError(problem, fix=fix, code="address_not_allowed")


def _plain(uri: str) -> str:
    """Write a URL as filesystems see it: one name for a scheme, no doubled slashes."""
    scheme, _, rest = uri.partition("://")
    name = {"gcs": "gs", "s3a": "s3"}.get(scheme.lower(), scheme.lower())
    return f"{name}://{re.sub('/+', '/', rest).strip('/')}"


@lru_cache(maxsize=1024)  # a source is checked when its job begins, when it is fetched, and by the client
def _check_uri(
    uri: str, schemes: tuple[str, ...], secret: tuple[str, ...], allow: tuple[str, ...], deny: tuple[str, ...]
) -> str:
    """Check scheme, text and host of a URI; returns the scheme."""
    scheme = scheme_of(uri)
    if scheme not in schemes:
        allowed = ", ".join(schemes)
        raise TerminalError(
            f"Scheme '{scheme}' is not allowed in {shown(uri, secret)}",
            expected=f"one of the schemes {allowed}",
            fix="Check the spelling, or add the scheme to INGESTLAB_SCHEMES.",
            code="scheme_not_allowed",
        )
    _check_text(uri, scheme, secret)
    if traits(scheme).host:
        _check_host(_host(uri, secret), allow, deny)
    return scheme


def check_tenant(tenant: str, settings: Settings) -> None:
    """Decide whether a tenant is known; raises TerminalError.

    Args:
        tenant: Its name.
        settings: Have the known ones.
    """
    if tenant not in settings.tenants:
        known = ", ".join(settings.tenants)
        problem, fix = f"There is no tenant '{tenant}'", "Add it to INGESTLAB_TENANTS."
        raise TerminalError(problem, expected=f"one of the tenants {known}", fix=fix, code="tenant_unknown")


def check_host(host: str, settings: Settings) -> None:
    """Decide by its name whether a host may be called; raises TerminalError.

    Args:
        host: A host's name, or an address.
        settings: Have the allowed hosts.
    """
    _check_host(host, settings.allow_hosts, settings.deny_networks)


def check_address(address: str, settings: Settings) -> None:
    """Decide whether an IP address may be connected to; raises TerminalError.

    Args:
        address: An IPv4 or IPv6 address.
        settings: Have the denied networks.
    """
    _check_address(address, settings.deny_networks)


def local_path(uri: str, settings: Settings) -> Path:
    """Return the absolute file of a plain path or file URI.

    Where the settings name folders, symbolic links are resolved, so that none leads out of them.

    Args:
        uri: A path, or a URI such as ``file:///data/a%20b.csv``.
        settings: `file_roots` are the allowed folders; none means all.

    Raises:
        TerminalError: It is on another machine, or outside of the folders that the settings allow.
    """
    text = uri
    if _SCHEME.match(uri):
        host, _, rest = uri.split("://", 1)[1].partition("/")
        if host not in ("", "localhost"):
            problem, expected = f"File URI names a host: {uri}", "three slashes, file:///folder/file"
            raise TerminalError(problem, expected=expected, fix="Add the third slash.", code="uri_invalid")
        text = os.fsdecode(unquote_to_bytes("/" + rest))
    if not settings.file_roots:
        return Path(os.path.abspath(text))  # noqa: PTH100 - pathlib's would resolve links, one system call each
    path = Path(text).resolve()
    roots = [Path(root).expanduser().resolve() for root in settings.file_roots]
    if not any(path.is_relative_to(root) for root in roots):
        raise TerminalError(
            f"File is outside of the allowed folders: {uri if str(path) == text else f'{uri}, which is {path}'}",
            expected=f"one of the folders {', '.join(map(str, roots))}",
            fix="Move it there, or add its folder to INGESTLAB_FILE_ROOTS.",
            code="address_not_allowed",
        )
    return path


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in lower case. ``file`` for a plain path."""
    if match := _SCHEME.match(uri):
        return match[1].lower()
    return uri.split("://", 1)[0] if "://" in uri else "file"


def shown(uri: str, secret: Sequence[str] = ()) -> str:
    """Return a URI for logs, without user, password, signature and tokens.

    Args:
        uri: Of a source, also a member of an archive.
        secret: Names of query parameters that are secret beside the usual ones.
    """
    if (archive := container(uri)) != uri:
        return joined(head_of(uri), shown(archive, secret))
    maybe_secret = traits(scheme_of(uri)).host or not traits(scheme_of(uri)).known
    head, mark, rest = bare(uri, secret, whatever=maybe_secret).partition("://")
    if not mark:
        return _CONTROL.sub("?", uri)
    authority, _path = _cut(rest)
    if "@" in authority:
        rest = "…@" + rest.rpartition("@")[2]
    elif traits(scheme_of(uri)).host and not _HOST_PORT.fullmatch(authority):  # a password may hold a slash
        rest = "…/" + rest.rpartition("/")[2].rpartition("@")[2]
    return _CONTROL.sub("?", f"{head}://{rest}")


def file_name(uri: str) -> str:
    """Return a source's file name, safe to use: no separators, controls or ``..``."""
    inside = member_name(uri)
    path = uri if inside is None else inside
    if inside is None and "://" in uri:
        path = unquote(_path(_cut(uri.partition("://")[2])[1], scheme_of(uri)))
    name = re.split(r"[/\\]", path.partition("?versionId=")[0])[-1]
    safe = _UNSAFE.sub("_", name).strip(" ")
    return safe[-200:] if safe.strip(".") else "unnamed"


def suffixes(name: str) -> str:
    """Return the suffixes of format and compression, e.g. ``.csv.gz``; empty if none."""
    stem, end = _suffix(name)
    return (_suffix(stem)[1] if end in _PACKED else "") + end


def _suffix(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+)(\.[A-Za-z0-9]{1,12})", name, re.ASCII)
    return (match[1], match[2].lower()) if match else (name, "")


def _check_text(uri: str, scheme: str, secret: Sequence[str]) -> None:
    """Refuse what no URI may hold, whatever its scheme."""
    authority, path = _cut(uri.partition("://")[2]) if "://" in uri else ("", uri)
    if "@" in authority:
        raise TerminalError(
            f"URI has credentials in it: {shown(uri, secret)}",
            expected="a URI without a user and password",
            fix="Use a signed URL, or give the credentials in INGESTLAB_STORAGE_OPTIONS.",
            code="credentials_invalid",
        )
    path = _decoded(_path(path, scheme))
    if not uri.strip() or _CONTROL.search(uri + path) or _SURROGATE.search(uri):
        raise _bad(f"Not a URI of printable characters: {shown(uri, secret)!a}", "Check how it was made.")
    if "::" in uri and not traits(scheme).host:  # fsspec would open one filesystem through another, past these checks
        raise _bad(f"Not a URI of one filesystem, since '::' is in {shown(uri, secret)}", "Name the file itself.")
    if ".." in re.split(r"[/\\]", path):
        raise _bad(f"Not a URI without '..': {shown(uri, secret)}", "Write the path out.")


def _bad(problem: str, fix: str) -> TerminalError:
    return TerminalError(problem, fix=fix, code="uri_invalid")


@lru_cache(maxsize=1024)  # thousands of files come from a few hosts
def _check_host(host: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
    name = host.rstrip(".").lower()
    if not any(fnmatchcase(name, pattern.lower()) for pattern in allow):
        problem, expected = f"Host '{host}' is not allowed", f"a host that matches {', '.join(allow)}"
        fix = "Add it to INGESTLAB_ALLOW_HOSTS."
        raise TerminalError(problem, expected=expected, fix=fix, code="address_not_allowed")
    if ":" in name or _NUMBERS.fullmatch(name):
        _check_address(name, deny)  # an address never passes a resolver


def _check_address(address: str, deny: tuple[str, ...]) -> None:
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:  # such as 2130706433, which the system would read as 127.0.0.1
        problem = f"'{address}' is not an IP address as four numbers or as IPv6, nor a name"
        raise _bad(problem, "Write the address out.") from None
    if any(seen in network for seen in _meanings(ip) for network in _networks(deny)):
        problem, expected = f"Address {address} is not allowed", f"an address outside {', '.join(deny)}"
        fix = "Use another host, or change INGESTLAB_DENY_NETWORKS."
        raise TerminalError(problem, expected=expected, fix=fix, code="address_not_allowed")


def _host(uri: str, secret: Sequence[str]) -> str:
    """Return a web address's host. What two parsers may read differently is refused."""
    try:
        parts = urlsplit(uri)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or re.search(r"[\s\\%<>^`{|}]", host):
        problem = f"Not a URI with a host and, if any, a numeric port: {shown(uri, secret)}"
        raise _bad(problem, "Check its spelling.")
    return host


def _cut(rest: str) -> tuple[str, str]:
    end = re.search(r"[/?#]", rest)
    return (rest[: end.start()], rest[end.start() :]) if end else (rest, "")


def _path(rest: str, scheme: str) -> str:
    """Return what follows the host, without a web address's query and fragment."""
    return re.split(r"[?#]", rest)[0] if traits(scheme).host else rest


def _decoded(text: str) -> str:
    """Percent-decode as often as any server on the way might."""
    for _ in range(3):
        if "%" not in text:
            break
        text = unquote(text)
    return text


def _meanings(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """List what an address stands for: IPv4 wrapped in IPv6, or this machine as 0.0.0.0."""
    seen: list[IPv4Address | IPv6Address] = [address]
    if isinstance(address, IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour]
        if address in IPv6Network("64:ff9b::/96"):
            wrapped.append(IPv4Address(int(address) & 0xFFFFFFFF))
        seen.extend(v4 for v4 in wrapped if v4)
    if any(a.is_unspecified for a in seen):
        seen.extend([IPv4Address("127.0.0.1"), IPv6Address("::1")])
    return seen


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise TerminalError(
            "INGESTLAB_DENY_NETWORKS cannot be read",
            expected="networks such as 10.0.0.0/8",
            got=str(error),
            code="setting_invalid",
        ) from None
