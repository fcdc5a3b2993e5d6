"""Small web pages with menus, articles and links; some of them without any text.

What is known of a generated set is exact: how many pages there are, and which rule of the pipeline ``pages``
each dirty one breaks.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from itertools import cycle
from pathlib import Path
from random import Random

from ingestlab.stack.samples.generated import Generated, make_folder

WORDS = (
    "station", "alarm", "battery", "voltage", "engineer", "night", "grid", "network", "sensor", "door", "motion",
    "generator", "temperature", "report", "morning", "threshold", "café", "Müller",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "cp1252")  # of the pages, in turn
DIRT = ("text:empty", "title:not_nullable", "characters:greater_than_or_equal_to")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="{encoding}"><title>{title}</title>
<meta property="article:published_time" content="{day}T06:00:00Z"></head>
<body>
<nav><a href="/">Home</a> <a href="/reports">Reports</a> <a href="#top">Top</a></nav>
<main><article>{article}</article></main>
<footer>All rights reserved. <a href="/imprint">Imprint</a></footer>
</body></html>
"""


class PageSet(Generated):
    """Web pages for the pipeline ``pages``. A record is a page, and a file."""

    __slots__ = ()


def page_files(folder: Path | str, files: int = 30, seed: int = 2017, dirty: float = 0.1) -> PageSet:
    """Write ``page-0000.html``, …, always alike for the same arguments.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
        files: How many pages.
        seed: Seeds the random numbers.
        dirty: Share of the pages, 0 to 1, that break a rule: ``int(files * dirty)`` of them.

    Raises:
        TerminalError: A number is out of its range.
    """
    folder = make_folder(folder, dirty, files=files)
    chance, broken = Random(seed), Counter[str]()  # noqa: S311 - sample data
    rules = dict(zip(sorted(chance.sample(range(files), int(files * dirty))), cycle(DIRT), strict=False))
    paths = tuple(folder / f"page-{number:04}.html" for number in range(files))
    for number, path in enumerate(paths):
        rule = rules.get(number)
        encoding = ENCODINGS[number % len(ENCODINGS)]
        path.write_bytes(_page(chance, number, encoding, rule).encode(encoding))
        if rule:
            broken[rule] += 1
    return PageSet(folder, paths, len(paths), dict(broken))


def _page(chance: Random, number: int, encoding: str, rule: str | None) -> str:
    if rule == "text:empty":
        return "<!DOCTYPE html>\n<html><head></head><body></body></html>\n"
    if rule == "characters:greater_than_or_equal_to":
        return f"<!DOCTYPE html>\n<html><head><title>Page {number}</title></head><body><p>Soon.</p></body></html>\n"
    title = "" if rule == "title:not_nullable" else f"Report {number} of the night"
    article = "\n".join(_paragraph(chance, number, k) for k in range(5))
    day = date(2017, 10, 23) + timedelta(days=number)
    return _PAGE.format(encoding=encoding, title=title, day=day, article=article)


def _paragraph(chance: Random, number: int, place: int) -> str:
    sentences = (" ".join(chance.choices(WORDS, k=12)).capitalize() + "." for _ in range(4))
    return f'<p>{" ".join(sentences)} <a href="/page/{number}/{place}">More</a></p>'
