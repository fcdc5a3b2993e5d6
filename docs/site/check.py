"""Check the built site: every link and anchor leads somewhere, and no page loads anything from the network."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "object": "data", "source": "src"}


class Page(HTMLParser):
    """The ids of a page, its links, and what a browser loads for it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the ids and addresses of one element."""
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADED and LOADED[tag] in values and values.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(values[LOADED[tag]])


def problems(site: Path) -> list[str]:
    """Name every broken link and every file from the network, as ``page: address``."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    return [
        f"{path.relative_to(site)}: {address}"
        for path, page in pages.items()
        for address in (*page.links, *page.loaded)
        if not _leads_somewhere(address, path, pages, loaded=address in page.loaded)
    ]


def _leads_somewhere(address: str, path: Path, pages: dict[Path, Page], *, loaded: bool) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return parts.scheme == "data" or not loaded
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    anchor = unquote(parts.fragment)
    return target.is_file() and (not anchor or target not in pages or anchor in pages[target].ids)


if __name__ == "__main__":
    broken = problems(Path(sys.argv[1]).resolve())
    print("\n".join(broken) or "all links lead somewhere, and nothing is loaded from the network")
    sys.exit(bool(broken))
