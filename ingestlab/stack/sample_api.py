"""A small web API beside the sample files: the hourly weather at New York's airports, page by page, with a token.

It plays the year 2013: the parameter ``today`` says up to which day there are observations, so that whoever learns may
let time pass. ::

    GET /api/weather?origin=JFK&today=2013-01-31&since=2013-01-15T00:00:00Z&page=1&size=100
    Authorization: Bearer sunshine
"""

from __future__ import annotations

import csv
import functools
import hmac
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from aiohttp import web

PREFIX = "/api/"
TOKEN = "sunshine"  # noqa: S105 - no secret: it is in the course, as the data are
AIRPORTS = ("EWR", "JFK", "LGA")
MOST = 500  # records in an answer
_YEAR = "2013"
_NUMBERS = ("temp", "humid", "wind_speed", "precip", "visib")
Record = dict[str, str | float | None]


def answer(request: web.BaseRequest, folder: Path) -> web.Response:
    """Answer a request of the API.

    Args:
        request: Whose path begins with PREFIX.
        folder: Of the samples, which are there.
    """
    given = request.headers.get("Authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {TOKEN}".encode()):
        return _refused(401, "Send the header 'Authorization: Bearer TOKEN'; notebook 11 has the token.")
    if request.path.rstrip("/") != f"{PREFIX}weather":
        return _refused(404, f"No {request.path} here, but {PREFIX}weather.")
    try:
        chosen = _chosen(_observations(folder / "references" / "weather.csv"), request.query)
        page, size = (_number(request.query, name) for name in ("page", "size"))
    except ValueError as error:
        return _refused(400, str(error))
    data = chosen[(page - 1) * size : page * size]
    return web.json_response({"data": data, "page": page, "pages": -(-len(chosen) // size), "total": len(chosen)})


@functools.cache
def _observations(path: Path) -> tuple[Record, ...]:
    """Read all observations, in the order of their hours."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["time_hour"], row["origin"]))
    return tuple(
        {"origin": row["origin"], "at": row["time_hour"]}
        | {name: None if row[name] == "NA" else float(row[name]) for name in _NUMBERS}
        for row in rows
    )


def _chosen(observations: Sequence[Record], query: Mapping[str, str]) -> list[Record]:
    """Leave out other airports, hours before `since` and days after `today`."""
    unknown = sorted(set(query) - {"origin", "today", "since", "page", "size"})
    if unknown:
        raise ValueError(f"There is no parameter {unknown[0]!r}.")
    origin, since, today = query.get("origin"), query.get("since", ""), query.get("today", f"{_YEAR}-12-31")
    if origin not in (None, *AIRPORTS):
        raise ValueError(f"origin is one of {', '.join(AIRPORTS)}.")
    try:
        last = date.fromisoformat(today).isoformat()
    except ValueError:
        raise ValueError("today is a day, such as 2013-01-31.") from None
    return [
        record
        for record in observations
        if since <= str(record["at"]) and str(record["at"])[:10] <= last and origin in (None, record["origin"])
    ]


def _number(query: Mapping[str, str], name: str) -> int:
    most: Any = MOST if name == "size" else float("inf")
    text = query.get(name, "1" if name == "page" else "100")
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ValueError(f"{name} is a whole number from 1{f' to {MOST}' if name == 'size' else ' on'}.")
    return int(text)


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
