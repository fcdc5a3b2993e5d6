"""The states of columns of few values: in plain Python, where each call of Arrow or numpy takes longer than all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.analytics.profiles import sketches
from ingestlab.analytics.profiles.kinds import MAX_TEXT, TIMES, Kind, clip, kind_of, to_json, unit

MAX_ROWS = 128
TOP = 24  # values that a state keeps

State = dict[str, Any]
Numbers = np.ndarray[Any, Any]
_BITS = (1 << 64) - 1
_PLAIN = ("int", "float", "bool", "text", *TIMES)


@dataclass
class Few:
    """Columns of few rows. Values to hash are collected, and hashed together by :meth:`finish`."""

    _texts: list[tuple[State, list[str]]] = field(default_factory=list)
    _numbers: list[tuple[State, Numbers]] = field(default_factory=list)

    def state(self, column: pa.ChunkedArray) -> State | None:
        """Describe a column; None where that takes more than plain Python."""
        about = _about(column.type)
        if about is None:
            return None
        kind, factor, whole = about
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        values = _values(array, kind, whole)
        state: State = {"kind": kind, "count": len(values)}
        if not values:
            return state
        if kind == "text":
            state |= self._describe_texts(values, state)
        else:
            state |= self._describe_numbers(values, state, kind, factor)
        return state

    def finish(self) -> None:
        """Sketch how many different values the columns have."""
        if self._texts:
            sizes = [len(texts) for _, texts in self._texts]
            values = pa.array([text for _, texts in self._texts for text in texts], pa.string())
            self._sketch([state for state, _ in self._texts], sizes, sketches.hash_texts(values))
        for floats in (False, True):
            some = [(state, n) for state, n in self._numbers if (n.dtype.kind == "f") is floats]
            if some:
                values = np.concatenate([n for _, n in some])
                self._sketch([state for state, _ in some], [len(n) for _, n in some], sketches.hash_numbers(values))

    @staticmethod
    def _sketch(states: Sequence[State], sizes: Sequence[int], hashes: sketches.Hashes) -> None:
        for state, kept in zip(states, sketches.registers_of_each(hashes, sizes), strict=True):
            state["hll"] = sketches.pack(kept)

    def _describe_texts(self, values: Sequence[str], whole: State) -> State:
        counts = Counter(values)
        lengths = [len(text) for text in counts]
        state: State = {"short": min(lengths), "long": max(lengths), "min": clip(min(counts)), "max": clip(max(counts))}
        if len(counts) > TOP or state["long"] > MAX_TEXT:
            self._texts.append((whole, list(counts)))
        return state | _top(counts, "text", 1)

    def _describe_numbers(self, values: Sequence[Any], whole: State, kind: Kind, factor: int) -> State:
        state: State = {}
        if kind == "float":
            known = [value for value in values if value == value]  # noqa: PLR0124 - NaN alone differs from itself
            if len(known) < len(values):
                state["nan"] = len(values) - len(known)
            if not known:
                return state
            values = known
        counts = Counter(values)
        state |= {"min": to_json(min(counts) * factor, kind), "max": to_json(max(counts) * factor, kind)}
        if len(counts) > TOP:
            self._numbers.append((whole, _scaled(counts, kind, factor)))
        return state | _sums(values, kind, factor) | _top(counts, kind, factor)


def _scaled(values: Iterable[Any], kind: Kind, factor: int) -> Numbers:
    """Give numbers as they are hashed: floats, or the bits of integers."""
    if kind == "float":
        return np.array(list(values), np.float64)
    return np.array([value * factor & _BITS for value in values], np.uint64).view(np.int64)


@lru_cache(maxsize=256)
def _about(type_: pa.DataType) -> tuple[Kind, int, pa.DataType | None] | None:
    """Return kind, factor to nanoseconds, and the integers that times are."""
    kind = kind_of(type_)
    if isinstance(type_, pa.BaseExtensionType) or kind not in _PLAIN or str(type_) in ("halffloat", "string_view"):
        return None
    whole = (pa.int32() if type_.bit_width == 32 else pa.int64()) if kind in TIMES else None
    return kind, unit(type_), whole


def _values(array: pa.Array, kind: Kind, whole: pa.DataType | None) -> list[Any]:
    if array.null_count:
        array = array.drop_null()
    if kind in ("text", "bool"):
        values: list[Any] = array.to_pylist()
        return values
    numbers: list[Any] = (array.view(whole) if whole else array).to_numpy().tolist()
    return numbers


def _sums(values: Sequence[Any], kind: Kind, factor: int) -> State:
    """Sum finite numbers, exactly for integers, and their squared deviations."""
    state: State = {}
    if kind == "float":
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < len(values):
            state["inf"] = len(values) - len(finite)
        if not finite:
            return state
        values = finite
    total = sum(values)
    middle = total / len(values)
    offs = [float(value) - middle for value in values]
    squares = float(sum([off * off for off in offs]))
    if kind == "float":
        return state | {"sum": to_json(total, "float"), "m2": to_json(squares, "float")}
    return state | {"sum": int(total) * factor, "m2": squares * factor * factor}


def _top(counts: Counter[Any], kind: Kind, factor: int) -> State:
    """Summarize the commonest values by Misra and Gries."""
    ranked = counts.most_common(TOP + 1)
    slack = ranked[TOP][1] if len(ranked) > TOP else 0
    top = [
        [value * factor if kind in ("int", *TIMES) else to_json(value, kind), count - slack]
        for value, count in ranked[:TOP]
        if count > slack
    ]
    if kind == "text" and any(len(value) > MAX_TEXT for value, _ in top):  # those that are cut may be alike
        cut: dict[str, int] = {}
        for value, count in top:
            cut[value] = cut.get(value, 0) + count
        top = [[value, count] for value, count in cut.items()]
    return {"top": top, "slack": slack} if slack else {"top": top}
