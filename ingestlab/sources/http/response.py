"""What an answer says of the file that it brings: facts for its run, and whether it is that file at all."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Mapping

import aiohttp

from ingestlab.core import access
from ingestlab.core.errors import TerminalError

HEAD = 2048  # bytes by which a page is known
_SAYS_NOTHING = ("application/octet-stream", "binary/octet-stream")
_PAGE_NAMES = (".html", ".htm", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp", "")
_BEFORE = re.compile(r"(?:\s|<!--.*?-->|<\?xml.*?\?>)*", re.DOTALL)
_PAGE = re.compile(r"<!doctype\s+html\b|<html\b", re.IGNORECASE)
_PART = re.compile(r"<(?:head|body|title|meta|script|style|div|p|h1|table|form|link|center)\b", re.IGNORECASE)


def facts_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Collect type, charset and the suggested file name from the headers."""
    facts: dict[str, str] = {}
    if "Content-Type" in response.headers:
        if response.content_type not in _SAYS_NOTHING:
            facts["content_type"] = response.content_type[:100]
        if _known_charset(response.charset):
            facts["charset"] = str(response.charset).lower()
    if name := _filename(response):
        facts["filename"] = access.file_name(name)
    return facts


def _known_charset(name: str | None) -> bool:
    """Tell whether Python knows what a header calls its charset."""
    try:
        return bool(name) and codecs.lookup(str(name))._is_text_encoding  # noqa: SLF001 - there is no public name for it
    except (LookupError, ValueError):
        return False


def check_page(head: bytes, facts: Mapping[str, str], uri: str) -> None:
    """Refuse a web page that came where another file was announced.

    Args:
        head: The first bytes of the file.
        facts: What :func:`facts_of` found.
        uri: The source.

    Raises:
        TerminalError: It is a page: of a login, a proxy, an error that calls itself a success.
    """
    if is_page(head, html=facts.get("content_type") in ("text/html", "application/xhtml+xml")):
        raise TerminalError(
            f"{uri} gave a web page where {access.file_name(uri)} was announced: a login page?",
            fix="Open the address in a browser; use a signed URL, or the file's own address. Pages are read by Html().",
            code="wrong_format",
        )


def is_page(head: bytes, *, html: bool) -> bool:
    """Tell whether a file is a web page, by how it begins.

    Args:
        head: Its first bytes.
        html: Whether it was sent as a page.
    """
    text = _BEFORE.sub("", _text(head[:HEAD]), count=1)
    return bool(_PAGE.match(text) or (html and _PART.match(text)))


def page_name(uri: str) -> bool:
    """Tell whether a source has a name as pages have."""
    return access.suffixes(access.file_name(uri)) in _PAGE_NAMES


def _text(head: bytes) -> str:
    marks = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
    for mark, encoding in marks:
        if head.startswith(mark):
            return head[len(mark) :].decode(encoding, "replace")
    return head.decode("latin-1")


def _filename(response: aiohttp.ClientResponse) -> str | None:
    if "Content-Disposition" not in response.headers:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiohttp warns of headers that break the standard; they tell no name then
        disposition = response.content_disposition
    return disposition.filename if disposition else None
