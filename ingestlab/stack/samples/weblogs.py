"""Access logs of a web server in the Combined Log Format, one file a day, any number of any size.

What is known of a generated set is exact: which lines are dirty, and which rule of the pipeline ``weblogs``
each one breaks. The dirt is of the kinds that real logs have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, cycle
from pathlib import Path
from random import Random

from ingestlab.core.errors import TerminalError
from ingestlab.stack.samples.generated import Generated, make_folder

PATHS = ("/", "/index.html", "/stations", "/stations/1161114059", "/alarms?day=2017-10-23", "/static/app.js", "/login")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "curl/8.5.0",
    r"Searcher/2.1 (\"polite\"; +https://example.org/bot)",
    "-",
)
_METHODS = (("GET", 84), ("POST", 10), ("HEAD", 4), ("OPTIONS", 2))
_STATUSES = (("200", 80), ("304", 8), ("404", 7), ("301", 3), ("500", 2))
_USERS = (("-", 90), ("frank", 6), ("ngoc", 4))

# How a line is spoilt: the rule that it then breaks, what is replaced, and by what (None cuts the line there).
DIRT: tuple[tuple[str, str, str | None], ...] = (
    ("pattern", '" "', None),  # the server died while it wrote
    ("pattern", '"{request}"', r'"\x16\x03\x01\x02"'),  # TLS spoken to a plain port
    ("time:type", "[{time}]", "[31/Feb/2017:10:00:00 +0000]"),
    ("time:sensible", "[{time}]", "[01/Jan/1970:00:00:07 +0000]"),  # a clock without a battery
    ("status:in_range", " {status} ", " 999 "),
    ("status:type", " {status} ", " OK "),
    ("method:isin", '"{method} ', '"FETCH '),
    ("bytes:greater_than_or_equal_to", " {status} {bytes} ", " 200 -1 "),
)


class WebLogSet(Generated):
    """Log files, day by day, for the pipeline ``weblogs``. A record is a line."""

    __slots__ = ()


def weblog_files(
    folder: Path | str,
    files: int = 7,
    rows: int = 500,
    seed: int = 2017,
    dirty: float = 0.02,
    start: str = "2017-10-23",
) -> WebLogSet:
    """Write daily files ``access-2017-10-23.log``, …, always alike for the same arguments.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
        files: How many files, one a day.
        rows: Lines in each file (500 are about 80 KB).
        seed: Seeds the random numbers.
        dirty: Share of the lines of each file, 0 to 1, that break a rule: ``int(rows * dirty)`` of them.
        start: First day, in ISO 8601.

    Raises:
        TerminalError: A number is out of its range, or `start` is no day.
    """
    try:
        first = date.fromisoformat(start)
    except ValueError as error:
        problem = "Not the first day as ISO 8601"
        raise TerminalError.wrap(error, problem, "E.g. 2017-10-23.", code="argument_invalid") from error
    folder = make_folder(folder, dirty, files=files, rows=rows)
    chance, ways, broken = Random(seed), cycle(DIRT), Counter[str]()  # noqa: S311 - sample data
    paths = []
    for day in (first + timedelta(days=n) for n in range(files)):
        paths.append(folder / f"access-{day}.log")
        with paths[-1].open("w", encoding="utf-8", newline="\n") as out:
            out.writelines(_day(chance, day, rows, dirty, ways, broken))
    return WebLogSet(folder, tuple(paths), files * rows, dict(broken))


def _day(
    chance: Random,
    day: date,
    rows: int,
    dirty: float,
    ways: Iterator[tuple[str, str, str | None]],
    broken: Counter[str],
) -> Iterator[str]:
    """Yield the lines of a day. Dirty ones are counted."""
    spoilt = set(chance.sample(range(rows), int(rows * dirty)))
    for i in range(rows):
        line = _line(chance, day, i, rows)
        if i in spoilt:
            rule, old, new = next(ways)
            line = _spoil(line, old, new)
            broken[rule] += 1
        yield line["text"] + "\n"


def _line(chance: Random, day: date, number: int, rows: int) -> dict[str, str]:
    """Make a clean line as ``text``, with its parts."""
    # The format's day is the server's, in UTC here, so that a file holds one day of the table.
    moment = datetime.combine(day, time(), UTC) + timedelta(seconds=number * 86_400 // rows)
    method, status = _pick(chance, _METHODS), _pick(chance, _STATUSES)
    parts = {
        "host": f"203.0.113.{chance.randrange(1, 255)}",
        "user": _pick(chance, _USERS),
        "time": f"{moment:%d/%b/%Y:%H:%M:%S +0000}",
        "method": method,
        "request": f"{method} {chance.choice(PATHS)} HTTP/1.1",
        "status": status,
        "bytes": "-" if status == "304" or method == "HEAD" else str(chance.randrange(200, 90_000)),
        "referrer": chance.choice(("-", "-", "https://example.org/", "https://example.org/stations")),
        "agent": chance.choice(AGENTS),
    }
    text = '{host} - {user} [{time}] "{request}" {status} {bytes} "{referrer}" "{agent}"'
    return {"text": text.format(**parts), **parts}


def _spoil(line: dict[str, str], old: str, new: str | None) -> dict[str, str]:
    before, field, after = line["text"].partition(old.format(**line))
    return {"text": before if new is None else before + new + after, "cut": field}


def _pick(chance: Random, weighted: tuple[tuple[str, int], ...]) -> str:
    words = [word for word, _ in weighted]
    return chance.choices(words, cum_weights=list(accumulate(weight for _, weight in weighted)))[0]
