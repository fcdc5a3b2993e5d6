"""Where things are in an answer: a path of names and numbers, such as ``$.data.items[*].order``.

Records are cut out of an answer as they came: no number is read and written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ingestlab.core.errors import TerminalError

Step = str | int | None  # a name, a place in a list (from its end, if negative), or all of a list
_STEP = re.compile(r"""\.?([^.\[\]'"*]+)|\[\s*(-?\d+)\s*\]|\.?\[?(\*)\]?|\[\s*'([^']*)'\s*\]|\[\s*"([^"]*)"\s*\]""")
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()


def parse(path: str, what: str) -> tuple[Step, ...]:
    """Read a path.

    Args:
        path: In the form of JSONPath: names, ``['a name']``, ``[0]``, ``[-1]`` and ``[*]``; ``$`` is all.
        what: It is for, in an error.

    Raises:
        TerminalError: It is none.
    """
    text, place, steps = path.strip().removeprefix("$"), 0, list[Step]()
    while place < len(text):
        match = _STEP.match(text, place)
        if not match:
            fix = "Names are joined by dots; [0], [*] and ['a name'] may follow."
            raise TerminalError(f"Not a path: {what} = {path!r}", fix=fix, code="pipeline_invalid")
        name, number, star, *quoted = match.groups()
        steps.append(int(number) if number else None if star else next((q for q in quoted if q is not None), name))
        place = match.end()
    return tuple(steps)


def find(body: bytes | msgspec.Raw, steps: Sequence[Step]) -> Iterator[msgspec.Raw]:
    """Yield what is at a path; nothing where there is none.

    Args:
        body: JSON.
        steps: Of the path.

    Raises:
        msgspec.DecodeError: It is no JSON.
    """
    here = [msgspec.Raw(body) if isinstance(body, bytes) else body]
    for step in steps:
        here = [part for raw in here for part in _below(raw, step)]
    yield from here


def _below(raw: msgspec.Raw, step: Step) -> list[msgspec.Raw]:
    first = kind_of(raw)
    if isinstance(step, str):
        fields = _FIELDS.decode(raw) if first == "{" else {}
        return [fields[step]] if step in fields else []
    items = _ITEMS.decode(raw) if first == "[" else []
    if step is None:
        return items
    return [items[step]] if -len(items) <= step < len(items) else []


def value_at(body: bytes | msgspec.Raw, steps: Sequence[Step]) -> Any:
    """Read the value at a path; None where there is none."""
    raw = next(find(body, steps), None)
    return None if raw is None else _ANY.decode(raw)


def items_of(raw: msgspec.Raw | bytes) -> list[msgspec.Raw]:
    """Cut a list into its items."""
    return _ITEMS.decode(raw)


def fields_of(raw: msgspec.Raw | bytes) -> dict[str, msgspec.Raw]:
    """Cut an object into its values."""
    return _FIELDS.decode(raw)


def kind_of(raw: msgspec.Raw | bytes) -> str:
    """Return the first character of a JSON value, ``{`` of an object. Empty if there is none."""
    return bytes(memoryview(raw)[:64]).lstrip()[:1].decode("latin-1")
