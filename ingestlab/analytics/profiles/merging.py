"""Profiles of some rows and of others, as the profile of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.analytics.profiles import sketches
from ingestlab.analytics.profiles.few import TOP, State
from ingestlab.analytics.profiles.kinds import Kind, common, from_json, recode, to_json
from ingestlab.analytics.profiles.states import MAX_COLUMNS, Profile


def merge(profiles: Iterable[Profile]) -> Profile:
    """Merge profiles. The order matters to the last bits of floats' sums only."""
    several = list(profiles)
    states: dict[str, list[State]] = {}
    for each in several:
        for name, state in each["columns"].items():
            states.setdefault(name, []).append(state)
    # A column that is missing in some rows is null there, unless it was one too many to have a state.
    cut = [each["columns"] for each in several if each["omitted"]]
    names = [name for name in states if all(name in columns for columns in cut)][:MAX_COLUMNS]
    most = max((len(each["columns"]) + each["omitted"] for each in several), default=0)
    return {
        "rows": sum(each["rows"] for each in several),
        "columns": {name: _merge_states(states[name]) for name in names},
        "omitted": max(most, len(states)) - len(names),
    }


def _merge_states(states: Sequence[State]) -> State:
    """Merge the states of a column."""
    if len(states) == 1:
        return states[0]
    full = [state for state in states if state["count"]]
    kind = _kind(full or states)
    merged: State = {"kind": kind, "count": sum(state["count"] for state in full)}
    if not full or kind == "other":
        return merged
    known = [_recoded(state, kind) for state in full]
    for name in ("nan", "inf"):
        if count := sum(state.get(name, 0) for state in known):
            merged[name] = count
    for name, choose in (("short", min), ("long", max), ("min", min), ("max", max)):
        if values := [state[name] for state in known if name in state]:
            merged[name] = choose(values, key=lambda value: from_json(value, kind))
    return merged | _sums(known) | _tops(known) | _sketch(full, known)


def mean(state: State) -> float | None:
    """Return the mean of finite numbers, times in nanoseconds; None without any."""
    return _number(state["sum"]) / _numbers(state) if "sum" in state else None


def deviation(state: State) -> float | None:
    """Return the standard deviation of finite numbers (ddof=1). None for fewer than two."""
    size = _numbers(state)
    return math.sqrt(_number(state["m2"]) / (size - 1)) if "m2" in state and size > 1 else None


def distinct(state: State) -> int:
    """Estimate how many different values a column has, NaN aside. Exact up to 24."""
    if "hll" in state:
        return round(sketches.estimate(sketches.unpack(state["hll"])))
    return len(state.get("top", ()))


def _kind(states: Sequence[State]) -> Kind:
    kind: Kind = "null"
    for state in states:
        kind = common(kind, state["kind"])
    return kind


def _numbers(state: State) -> int:
    """Count a column's finite numbers."""
    return int(state["count"] - state.get("nan", 0) - state.get("inf", 0))


def _number(kept: Any) -> Any:
    return float(kept) if isinstance(kept, str) else kept  # "inf": JSON has no number for it


def _recoded(state: State, kind: Kind) -> State:
    """Convert a state to another kind. Kinds that do not go together leave only the count."""
    old: Kind = state["kind"]
    if old == kind:
        return state
    if kind == "mixed":
        return {"kind": kind, "count": state["count"]}
    ends: State = {name: recode(state[name], old, kind) for name in ("min", "max") if name in state}
    return {**state, **ends, "kind": kind, "top": [[recode(v, old, kind), n] for v, n in state["top"]]}


def _sums(states: Sequence[State]) -> State:
    """Add sums and squared deviations, with those of the means."""
    sums = [(_numbers(s), _number(s["sum"]), _number(s["m2"])) for s in states if "sum" in s]
    if not sums:
        return {}
    total = sum(part for _, part, _ in sums)
    middle = total / sum(size for size, _, _ in sums)
    off = ((size, m2, part / size - middle) for size, part, m2 in sums)
    squares = float(sum(m2 + size * d * d for size, m2, d in off))  # not d**2, which fails where it is infinite
    return {"sum": total if isinstance(total, int) else to_json(total, "float"), "m2": to_json(squares, "float")}


def _tops(states: Sequence[State]) -> State:
    """Merge counts of common values by Misra and Gries' rule."""
    if not any("top" in state for state in states):
        return {}
    counts: dict[Any, int] = {}
    for state in states:
        for value, count in state.get("top", ()):
            counts[value] = counts.get(value, 0) + count
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    over = ranked[TOP][1] if len(ranked) > TOP else 0
    slack = over + sum(state.get("slack", 0) for state in states)
    top = [[value, count - over] for value, count in ranked[:TOP] if count > over]
    return {"top": top} | ({"slack": slack} if slack else {})


def _sketch(states: Sequence[State], known: Sequence[State]) -> State:
    """Merge sketches; none is needed where the commonest values are all."""
    kept = [sketches.unpack(state["hll"]) for state in states if "hll" in state]
    values: dict[Kind, set[Any]] = {}
    for state in states:
        if "hll" not in state:
            values.setdefault(state["kind"], set()).update(value for value, _ in state.get("top", ()))
    if not kept and known[0]["kind"] != "mixed" and len({v for s in known for v, _ in s.get("top", ())}) <= TOP:
        return {}
    kept += [sketches.registers(_hashes(list(kept_values), kind)) for kind, kept_values in values.items()]
    return {"hll": sketches.pack(np.maximum.reduce(kept))}


def _hashes(values: list[Any], kind: Kind) -> sketches.Hashes:
    """Hash kept values, none of which was cut."""
    if kind == "text":
        return sketches.hash_texts(pa.array(values, pa.string()))
    if kind in ("float", "decimal"):
        return sketches.hash_numbers(np.array(values, dtype=np.float64))
    return sketches.hash_numbers(np.array([int(value) & (1 << 64) - 1 for value in values], dtype=np.uint64))
