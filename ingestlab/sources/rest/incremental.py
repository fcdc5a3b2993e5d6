"""What is new of an API's records: by a field that grows, such as the time of the last change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from ingestlab.core.errors import TerminalError
from ingestlab.interfaces import Position, Pull
from ingestlab.sources.rest.selecting import find, parse

Value = str | int | float
MOST_SEEN = 1000  # records at the edge of a pull that are remembered, so that they do not come twice
_LAG = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, kw_only=True)
class Incremental:
    """Ask for records since the last pull, by a field of theirs.

    Attributes:
        field: The path of the field in a record: times in ISO 8601, or numbers.
        param: The parameter that takes from where on. Without one, all is asked for, and what is old is left out.
        until: That which takes the end of a window.
        start: From where on at the first time.
        lag: How far before the last value each pull begins, for records that come late: ``"2h"``, or a number. Records
            that are exactly as they came before do not come again.
        format: How times are sent: as the API writes them, as seconds or milliseconds since 1970, or a pattern
            for strftime.
        missing: What becomes of records without the field: an error, or they are taken each time, or never.
    """

    field: str
    param: str = ""
    until: str = ""
    start: Value | None = None
    lag: str | float = 0
    format: str = ""
    missing: Literal["error", "take", "skip"] = "error"

    def check(self) -> None:
        """Refuse, with TerminalError, what was declared wrongly."""
        parse(self.field, "incremental field")
        if isinstance(self.lag, str) and not _LAG.fullmatch(self.lag):
            raise TerminalError(
                f"Not a lag: {self.lag!r}",
                expected="a number and s, m, h, d or w",
                fix='E.g. lag="2h".',
                code="pipeline_invalid",
            )


class Since:
    """Leave out what is not new.

    Args:
        incremental: As it is declared.
        pull: What is asked.
        state: Of the last page that was kept.
    """

    def __init__(self, incremental: Incremental, pull: Pull, state: Mapping[str, Any] | None) -> None:
        self._how = incremental
        self._steps = parse(incremental.field, "incremental field")
        self._simple = self._steps[0] if len(self._steps) == 1 and isinstance(self._steps[0], str) else None
        self._row: Any = None
        if self._simple:
            fields = [("value", msgspec.Raw, msgspec.field(name=self._simple, default=None))]
            self._row = msgspec.json.Decoder(list[msgspec.defstruct("Row", fields)])  # type: ignore[misc]
        window, cursor = pull.window or {}, pull.cursor
        if cursor and cursor.get("field") != incremental.field:
            raise TerminalError(
                f"The cursor of {pull.name} is of another field",
                expected=f"the last value of {incremental.field}, which the pipeline declares",
                got=f"that of {cursor.get('field')}",
                fix="--force pulls everything from the beginning, in place of all rows.",
                code="cursor_invalid",
            )
        self._window = window
        self._old: Value | None = cursor["last"] if cursor else None
        self._known = frozenset(cursor.get("seen") or ()) if cursor else frozenset()
        self.low: Value | None = window.get("from") or (
            before(self._old, incremental.lag) if self._old is not None else incremental.start
        )
        self.high: Value | None = window.get("to")
        self.last: Value | None = state["last"] if state else self._old
        self._seen: dict[str, Value] = dict(state["seen"]) if state else {}
        self._many = bool(state and state["many"])
        self._tell = pull.tell

    @property
    def params(self) -> dict[str, Any]:
        """Give what the parameters take."""
        sent = {self._how.param: self.low, self._how.until: self.high}
        return {name: written(value, self._how.format) for name, value in sent.items() if name and value is not None}

    def new(self, raws: Sequence[bytes], request: str) -> list[bytes]:
        """Leave out old records, and those outside the window.

        Args:
            raws: The records of a page.
            request: That brought them.

        Raises:
            TerminalError: One lacks the field.
        """
        values, kept = self._values(raws), list[bytes]()
        low = None if self.low is None else order(self.low, request)
        high = None if self.high is None else order(self.high, request)
        last = None if self.last is None else order(self.last, request)
        for number, (raw, value) in enumerate(zip(raws, values, strict=True), 1):
            if value is None:
                if self._how.missing == "error":
                    raise self._missing(number, request)
                if self._how.missing == "take":
                    kept.append(raw)
                continue
            here = order(value, request)
            if (low is not None and _less(here, low, request)) or (high is not None and not _less(here, high, request)):
                continue
            name = blake2b(raw, digest_size=8).hexdigest()
            if name in self._known and not self._window:
                self._edge(name, value)
                continue
            if last is None or _less(last, here, request):
                self.last, last = value, here
            self._edge(name, value)
            kept.append(raw)
        self._trim(request)
        return kept

    def state(self) -> dict[str, Any]:
        """Give what a retry needs to go on."""
        return {"last": self.last, "seen": self._seen, "many": self._many}

    def cursor(self) -> Position | None:
        """Give what the commit is to remember. None if that has not changed."""
        if self.last is None or self._window:
            return None
        seen = sorted(self._seen)
        now = {"field": self._how.field, "last": self.last, "seen": seen}
        if self._many:
            self._tell(
                "Too many records at the edge of this pull to be remembered: some will come again; merge by a key."
            )
        return now

    def _values(self, raws: Sequence[bytes]) -> list[Value | None]:
        if self._row is not None and raws:
            found = [row.value for row in self._row.decode(b"[" + b",".join(raws) + b"]")]
        else:
            found = [next(find(raw, self._steps), None) for raw in raws]
        return [None if raw is None else msgspec.json.decode(raw) for raw in found]

    def _edge(self, name: str, value: Value) -> None:
        """Remember a record that the next pull may bring again."""
        if len(self._seen) < 2 * MOST_SEEN:
            self._seen[name] = value

    def _trim(self, request: str) -> None:
        """Forget records that the next pull does not ask for."""
        if self.last is None or not self._seen:
            return
        edge = order(before(self.last, self._how.lag), request)
        near = {name: v for name, v in self._seen.items() if not _less(order(v, request), edge, request)}
        self._many = len(near) > MOST_SEEN
        self._seen = dict(list(near.items())[-MOST_SEEN:])

    def _missing(self, number: int, request: str) -> TerminalError:
        problem = f"Record {number} of {request} has no {self._how.field}, by which the source is incremental"
        fix = 'Name a field that all records have, or declare missing="take" or "skip".'
        return TerminalError(problem, expected="a time or a number", got="null", fix=fix, code="cursor_invalid")


def order(value: Any, request: str) -> tuple[str, Any]:
    """Give what a value is compared by. Times without a zone are taken for UTC.

    Args:
        value: Of the field.
        request: In an error.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        problem = f"A value of the incremental field cannot be compared in {request}"
        got, fix = f"{type(value).__name__} {str(value)[:80]}", "Name a field with times or numbers."
        raise TerminalError(problem, expected="a time or a number", got=got, fix=fix, code="cursor_invalid")
    if not isinstance(value, str):
        return "number", value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return "text", value
    return "time", moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _less(left: tuple[str, Any], right: tuple[str, Any], request: str) -> bool:
    if left[0] != right[0]:
        left, right = _alike(left, right), _alike(right, left)
    if left[0] != right[0]:
        problem = f"Values of the incremental field are of several kinds in {request}"
        got, fix = f"{left[1]} and {right[1]}", "Name a field with times, or with numbers."
        raise TerminalError(problem, expected="times or numbers alone", got=got, fix=fix, code="cursor_invalid")
    return bool(left[1] < right[1])


def _alike(value: tuple[str, Any], other: tuple[str, Any]) -> tuple[str, Any]:
    """Read the bound of a window as a number or time."""
    if other[0] == "number" and value[0] in ("text", "time"):
        text = value[1] if value[0] == "text" else ""
        if re.fullmatch(r"-?\d+(\.\d+)?", text):
            return "number", float(text)
        if value[0] == "time":  # numbers are seconds, or milliseconds, since 1970
            seconds = value[1].timestamp()
            return "number", seconds * 1000 if abs(other[1]) > 1e11 else seconds
    return value


def before(value: Value, lag: str | float) -> Value:
    """Go back from a value.

    Args:
        value: A number, or a time in ISO 8601.
        lag: How far.
    """
    match = _LAG.fullmatch(str(lag))
    assert match is not None
    amount = float(match[1])
    if not amount:
        return value
    if isinstance(value, int | float):
        seconds = timedelta(**{_UNITS[match[2]]: amount}).total_seconds() if match[2] else amount
        less = seconds * 1000 if match[2] and abs(value) > 1e11 else seconds
        return type(value)(value - less)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    earlier = moment - timedelta(**{_UNITS[match[2] or "s"]: amount})
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return earlier.date().isoformat()
    return earlier.isoformat().replace("+00:00", "Z") if value.endswith("Z") else earlier.isoformat()


def written(value: Value, form: str) -> Any:
    """Write a value as the API takes it."""
    if not form or not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if form == "seconds":
        return int(moment.timestamp())
    if form == "milliseconds":
        return int(moment.timestamp() * 1000)
    return moment.strftime(form)
