"""Checks of ``04_aggregate``: measures that can be merged, and one that cannot."""

from __future__ import annotations

import math
import pickle
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from ingestlab.teaching.checks import Desk, NotYet, a, a_number, a_pair, exercise, expect, outcome_of

STATE = 1000  # bytes that a state may have
CUTS = ([5000], [10], [1, 400, 9000])  # where 10,000 numbers are cut


@exercise("04.1")
def busiest(answer: Any, desk: Desk) -> str:
    """Accept the carrier with the most flights, and their number."""
    carrier, number = a_pair(answer, "a pair such as ('AA', 1234)")
    carrier = a(carrier, str, "the carrier's name first, such as 'AA'")
    counts = desk.lake.table("flights").pandas(["carrier"])["carrier"].value_counts()
    expect(carrier in counts.index, f"{carrier!r} is no carrier of the table.")
    best = str(counts.index[0])
    expect(carrier == best, f"{carrier} flew {counts[carrier]:,} flights; another one flew more.")
    number = a_number(number, "the number of its flights")
    expect(number == counts[best], f"{best} is right, {number:g} flights is not. Have you added all of its groups?")
    return f"Right: {best}, {int(number):,} flights. The aggregate says what the {counts.sum():,} rows say."


@exercise("04.2")
def deviation(answer: Any, _desk: Desk) -> str:
    """Accept a mergeable state of numbers, and what makes their standard deviation."""
    state, finish = a_pair(answer, "the pair (state, finish)")
    expect(callable(state) and callable(finish), "both of the pair are functions, without brackets.")
    values = np.random.default_rng().normal(20, 5, 10_000)
    size = _size(outcome_of(state, values))
    expect(size <= STATE, f"the state of 10,000 numbers takes {size:,} bytes; keep a few numbers, not the data.")
    truth, sample = float(values.std()), float(values.std(ddof=1))
    for cuts in CUTS:
        got = _finished(state, finish, np.split(values, cuts))
        near_sample = abs(got - sample) < 1e-9 < abs(got - truth)
        expect(not near_sample, "you divide by n - 1, as for a sample; numpy.std() divides by n.")
        text = f"cut in {len(cuts) + 1} pieces your answer is {got:.4f}; numpy says {truth:.4f}."
        expect(abs(got - truth) < 1e-6, text)
    pieces = np.split(values, [10, 5000])
    same = math.isclose(_finished(state, finish, pieces), _finished(state, finish, pieces[::-1]), rel_tol=1e-6)
    expect(same, "the order of the states must not matter.")
    return f"Right, for any cut and order, with states of {size} bytes instead of {values.nbytes:,}."


def _size(state: Any) -> int:
    """Measure a state in bytes on its way to another machine."""
    expect(state is not None, "your state() gives nothing back; does it end with return?")
    try:
        return len(pickle.dumps(state))
    except (pickle.PicklingError, TypeError, AttributeError) as error:  # a generator, a function
        raise NotYet("a state is data that can be sent to another machine; give numbers.") from error


def _finished(state: Callable[[Any], Any], finish: Callable[[Any], Any], pieces: list[np.ndarray]) -> float:
    return a_number(outcome_of(finish, [outcome_of(state, piece) for piece in pieces]), "what finish() gives")


@exercise("04.3")
def medians(answer: Any, _desk: Desk) -> str:
    """Accept two equally long lists. Their medians must not tell the median of both."""
    left, right = (_numbers(half) for half in a_pair(answer, "a pair of lists of numbers"))
    expect(len(left) == len(right) > 0, f"the lists have {len(left)} and {len(right)} numbers; make them equally long.")
    both, mean = statistics.median(left + right), (statistics.median(left) + statistics.median(right)) / 2
    expect(not math.isclose(both, mean), f"here the median of both is {both:g}, and so is the mean of the medians.")
    return f"The median of both is {both:g}, the mean of the medians {mean:g}. A median has no small exact state."


def _numbers(half: Any) -> list[float]:
    wanted = "a pair of lists of numbers"
    expect(hasattr(half, "__iter__") and not isinstance(half, str | dict), f"expected {wanted}.")
    numbers = [a_number(value, f"{wanted}; each value") for value in half]
    expect(all(map(math.isfinite, numbers)), "there is something in the lists that is no number.")
    return numbers
