"""Web pages: one record a file, the main text without menus and adverts.

The extractor is trafilatura: kept since 2019, pure Python on lxml, among the best in published comparisons,
and it gives dates. It is an extra, ``ingestlab[html]``, and loaded when the first page is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.models import Piece
from ingestlab.formats.common.bytes import Limits, capped, check_size, decoded, unpack
from ingestlab.formats.common.detection import Encoding, believed, by_mark, detect, mostly_utf8
from ingestlab.formats.common.excerpts import MAX_RAW, shorten
from ingestlab.formats.common.linewise import check_encoding
from ingestlab.formats.common.single import OneRecord, one_record, without_text
from ingestlab.interfaces import Records, Store

SCHEMA = pa.schema(
    [
        ("title", pa.string()),
        ("text", pa.string()),
        ("links", pa.list_(pa.string())),
        ("language", pa.string()),
        ("published", pa.date32()),
        ("characters", pa.int64()),
    ]
)
MAX_TAG = 16 << 10  # bytes of a tag without its quoted values: parsers are slow at thousands of attributes
_VALUE = rb"=\s*+(?:\"[^\"]*+\"|'[^']*+')"  # quotes mean something after a = alone
_TAG = re.compile(rb"<[a-zA-Z](?:[^>=]++|" + _VALUE + rb"|=)*+")
_QUOTED = re.compile(_VALUE)
_SCRIPT = re.compile(rb"(<(script|style)\b[^>]*+>).*?(?=</\2|\Z)", re.IGNORECASE | re.DOTALL)  # holds no tags
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")  # names an encoding that the text no longer has
_HEAD = 4096  # bytes in which browsers too look for the encoding


@dataclass(frozen=True, kw_only=True)
class Html(OneRecord):
    """Read each page as one record.

    Columns: ``title``, ``text`` (the main text), ``links`` (targets as written, each once, without those inside
    the page), ``language`` (as the page declares it, ``en``), ``published`` (a date, where the page tells it)
    and ``characters`` of the text. A page without text is a :class:`~ingestlab.pipeline.pipeline.Bad` record with the
    rule ``empty``.

    Attributes:
        encoding: Any text encoding that Python knows. None takes UTF-8 where the page is valid UTF-8, else what
            the page says of itself if that fits, else what a detector finds.
        max_bytes: Longest page.
        max_elements: Most elements; the extractor's time grows faster than their number.
        limits: How far a compressed file may grow.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm")
    encoding: str | None = None
    max_bytes: int = 8 << 20
    max_elements: int = 50_000
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one page.

        Raises:
            TerminalError: It is empty, damaged, binary, too large, or not in the declared encoding; or the
                extra ``html`` is not installed.
        """
        check_size(store.size(piece.path), piece.name, self.max_bytes)
        data, facts = self._text(piece, store)
        start = data[:MAX_RAW].decode(errors="ignore")
        tree = self._tree(data, piece)
        values = {} if tree is None else _record(tree, piece)
        if not values.get("text"):
            return without_text(SCHEMA, shorten(values.get("title") or "") or None, start, facts)
        return one_record(values, SCHEMA, start, facts)

    def _text(self, piece: Piece, store: Store) -> tuple[bytes, dict[str, str]]:
        limits = capped(self.limits, self.max_bytes)
        data, kind = unpack(piece, store, limits)
        facts: dict[str, str] = {"compression": kind} if kind else {}
        hint = piece.settled.get("charset")
        encoding = Encoding(self.encoding) if self.encoding is not None else _encoding(data, hint)
        if self.encoding is None:
            facts["encoding"] = encoding.fact
        done, damage = decoded(data, encoding.name, piece)
        if damage is not None:
            facts["note"] = damage.note(done)
        return done, facts

    def _tree(self, data: bytes, piece: Piece) -> Any:
        """Parse the page's elements; None where there are none."""
        for tag in _TAG.finditer(_SCRIPT.sub(rb"\1", data)):
            if tag.end() - tag.start() > MAX_TAG and len(_QUOTED.sub(b"", tag[0])) > MAX_TAG:
                raise TerminalError(
                    f"{piece.name} has too long a tag",
                    expected=f"tags of at most {MAX_TAG:,} bytes, quoted values apart",
                    got=f"a longer one: {tag[0][:40].decode(errors='replace')}…",
                    code="limit_exceeded",
                    fix="See what the producer sent: no page has thousands of attributes.",
                )
        lxml, etree = needed("lxml.html", "html", "Html"), needed("lxml.etree", "html", "Html")
        parser = lxml.HTMLParser(encoding="utf-8", no_network=True, huge_tree=False)
        try:
            tree = lxml.document_fromstring(_DECLARATION.sub("", data.decode()).encode(), parser=parser)
        except (etree.ParserError, etree.XMLSyntaxError):  # nothing in it that could be an element
            return None
        count = sum(1 for _ in tree.iter())
        if count > self.max_elements:
            fix = "Raise the reader's max_elements if the page is meant."
            problem, expected = f"{piece.name} is too large", f"at most {self.max_elements:,} elements"
            raise TerminalError(problem, expected=expected, got=f"{count:,}", fix=fix, code="limit_exceeded")
        return tree


def _encoding(data: bytes, charset: str | None) -> Encoding:
    """Choose UTF-8 where it fits. Else take what the server or the page declares, else what is detected."""
    said = _CHARSET.search(data[:_HEAD])
    hints = [charset, said[1].decode().lower() if said else None]
    plain = by_mark(data) or mostly_utf8(data)
    encodings = (believed(hint, [data]) for hint in hints if hint and not plain)
    return next(filter(None, encodings), None) or detect(data)


def _record(tree: Any, piece: Piece) -> dict[str, Any]:
    """Extract the columns of a page; the tree is used up."""
    title = " ".join("".join(tree.xpath("//head/title[1]//text()")).split())
    language = str(tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or "").strip().lower()
    links = [str(href).strip() for href in tree.xpath("//a/@href")]
    page = _extract(tree, piece)
    body = "" if page is None else (page.text or "").strip()
    return {
        "title": title or (page.title if page is not None else None) or None,
        "text": body,
        "links": [link for link in dict.fromkeys(links) if link and not link.startswith("#")],
        "language": language.split("-")[0] or None,
        "published": _date(page.date if page is not None else None),
        "characters": len(body),
    }


def _extract(tree: Any, piece: Piece) -> Any:
    trafilatura = needed("trafilatura", "html", "Html")
    problem = f"{piece.name} is not a page that can be extracted"
    dates = {"extensive_search": False, "original_date": True, "outputformat": "%Y-%m-%d"}
    try:
        return trafilatura.bare_extraction(
            tree, with_metadata=True, include_comments=False, date_extraction_params=dates
        )
    except Exception as error:  # a page may hold anything, and the extractor runs hundreds of rules over it
        raise TerminalError.wrap(error, problem, "See what it holds.", code="bad_file") from error


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
