"""How far a column of the last run is from the same column of the runs before: one number, and why.

The number is on the scale of the population stability index, PSI = Σ (p - q) ln(p / q) over shares p and q:
below 0.1 is calm, above 0.25 has moved. It is the largest of three:

- the PSI of null against not null;
- the PSI of the commonest values and all the rest, as far as the summaries' errors do not explain it;
- the squared standardised difference of the means, which is the PSI of two normal distributions as far apart;
  not of times, which move on by nature.

Each is less what chance may make of so many rows (two standard deviations above its mean, as for χ²), and a
value counts by itself only if the smaller side has it five times, or should have: so a run of ten rows does not
look like a change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ingestlab.analytics.profiles.few import State
from ingestlab.analytics.profiles.kinds import TIMES, to_text
from ingestlab.analytics.profiles.merging import deviation, mean
from ingestlab.analytics.profiles.states import Profile

MOVED = 0.25
MOST = 10.0  # a score is not larger
_FEW = 5  # rows


@dataclass(frozen=True)
class Drift:
    """Distance that a column has moved, and what differs most: ``"nulls 0 % → 12 %"``."""

    score: float = 0.0
    what: str = ""

    @property
    def moved(self) -> bool:
        """Tell whether it is worth a look."""
        return self.score > MOVED


def drifts(earlier: Profile, last: Profile) -> dict[str, Drift]:
    """Measure the drift of each column that either profile has."""
    if not earlier["rows"] or not last["rows"]:
        return {}
    names = {**earlier["columns"], **last["columns"]}
    return {name: _drift(name, earlier, last) for name in names}


def share(part: float, whole: float) -> str:
    """Write a share for people.

    Args:
        part: A number.
        whole: What it is a share of, in the same unit.

    Returns:
        Per cent, with a decimal near 0 and 100, as ``12%`` or ``< 0.1 %``.
    """
    value = part / whole if whole else 0.0
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{value:.0%}" if value in (0, 1) or 0.1 <= value < 0.99 else f"{value:.1%}"


def top_of(state: State) -> list[tuple[object, int]]:
    """Return the commonest values with counts: upper bounds, exact for values that always were common."""
    slack = state.get("slack", 0)
    return [(value, count + slack) for value, count in state.get("top", ())]


def _drift(name: str, earlier: Profile, last: Profile) -> Drift:
    old, new = earlier["columns"].get(name), last["columns"].get(name)
    if old is None or new is None:
        cut = (earlier if old is None else last)["omitted"]
        return Drift() if cut else Drift(MOST, "new column" if old is None else "column is gone")
    if old["count"] and new["count"] and old["kind"] != new["kind"]:
        return Drift(MOST, f"{old['kind']} → {new['kind']}")
    signs = [_nulls(old, new, earlier["rows"], last["rows"])]
    if old["count"] and new["count"]:
        signs += [_values(old, new), _means(old, new)]
    worst = max(signs, key=lambda sign: sign.score)
    return worst if worst.score else Drift()


def _nulls(old: State, new: State, before: int, after: int) -> Drift:
    p, q = 1 - old["count"] / before, 1 - new["count"] / after
    score = _psi([(p, q)], before, after)
    return Drift(score, f"nulls {share(p, 1)} → {share(q, 1)}")


def _values(old: State, new: State) -> Drift:
    """Compare shares of values. Each lies between its count and what may have been missed, and overlaps are alike."""
    if "top" not in old or "top" not in new:
        return Drift()
    before, after = old["count"], new["count"]
    known = dict(old["top"]), dict(new["top"])
    pairs, widest, what = [], 0.0, ""
    for value in {**known[0], **known[1]}:
        low = [counts.get(value, 0) / size for counts, size in zip(known, (before, after), strict=True)]
        high = [low[0] + old.get("slack", 0) / before, low[1] + new.get("slack", 0) / after]
        p, q = (low[0], high[1]) if low[0] > high[1] else (high[0], low[1]) if low[1] > high[0] else (low[0], low[0])
        pairs.append((p, q))
        if abs(p - q) > widest:
            widest, what = abs(p - q), f"{to_text(value, old['kind'])} {share(p, 1)} → {share(q, 1)}"
    return Drift(_psi(pairs, before, after), what)


def _means(old: State, new: State) -> Drift:
    before, after = mean(old), mean(new)
    if before is None or after is None or before == after or old["kind"] in TIMES:
        return Drift()
    what = f"mean {to_text(float(before), 'float')} → {to_text(float(after), 'float')}"
    freedom = [max(0, state["count"] - 1) for state in (old, new)]
    widths = [deviation(state) or 0.0 for state in (old, new)]
    spread = sum(d * d * n for d, n in zip(widths, freedom, strict=True)) / max(1, sum(freedom))
    off = float(before - after)
    if not math.isfinite(off) or not math.isfinite(spread):
        return Drift()
    score = off * off / spread if spread else MOST
    return Drift(_beyond_chance(score, 1, old["count"], new["count"]), what)


def _psi(pairs: Iterable[tuple[float, float]], before: int, after: int) -> float:
    """Compute the index of some shares and the rest. 0 counts as half a row."""
    enough = _FEW / min(before, after)
    shares = [(p, q) for p, q in pairs if max(p, q) >= enough]
    rest = [max(0.0, 1 - sum(side)) for side in zip(*shares, strict=True)] if shares else [1.0, 1.0]
    smoothed = [(max(p, 0.5 / before), max(q, 0.5 / after)) for p, q in (*shares, rest)]
    return _beyond_chance(sum((p - q) * math.log(p / q) for p, q in smoothed), len(smoothed) - 1, before, after)


def _beyond_chance(score: float, freedom: int, before: int, after: int) -> float:
    chance = (freedom + 2 * math.sqrt(2 * freedom)) * (1 / before + 1 / after)
    return min(MOST, max(0.0, score - chance))
