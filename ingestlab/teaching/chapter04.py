"""Checks of ``04_aggregate``: measures that can be merged, and one that cannot."""

from __future__ import annotations

import pickle
import statistics
from typing import Any

import numpy as np
import pandas as pd

from ingestlab.teaching.desk import Desk, a, a_number, exercise, expect

STATE = 1000  # bytes that a state may have


@exercise("04.1")
def busiest(answer: Any, desk: Desk) -> str:
    """The carrier with the most flights, and their number."""
    carrier, number = a(answer, tuple, "a pair such as ('AA', 1234)")
    counts = desk.lake.table("flights").pandas(["carrier"])["carrier"].value_counts()
    expect(carrier in counts.index, f"{carrier!r} is no carrier of the table.")
    best = str(counts.index[0])
    expect(carrier == best, f"{carrier} flew {counts[carrier]:,} flights; another one flew more.")
    number = a_number(number, "the number of its flights")
    expect(number == counts[best], f"{best} is right, {number:g} flights is not. Have you added all of its groups?")
    return f"Right: {best}, {int(number):,} flights. The aggregate says what the {counts.sum():,} rows say."


@exercise("04.2")
def deviation(answer: Any, _desk: Desk) -> str:
    """A state of numbers, and what makes their standard deviation of several states."""
    state, finish = a(answer, tuple, "the pair (state, finish)")
    expect(callable(state) and callable(finish), "both of the pair are functions, without brackets.")
    rng = np.random.default_rng()
    values = rng.normal(20, 5, 10_000)
    size = len(pickle.dumps(state(values)))
    expect(size <= STATE, f"the state of 10,000 numbers takes {size:,} bytes; keep a few numbers, not the data.")
    for cuts in ([5000], [10], [1, 400, 9000]):
        got = float(finish([state(piece) for piece in np.split(values, cuts)]))
        text = f"cut in {len(cuts) + 1} pieces your answer is {got:.4f}; numpy says {values.std():.4f}."
        expect(abs(got - values.std()) < 1e-6, text)
    pieces = [state(piece) for piece in np.split(values, [10, 5000])]
    expect(np.isclose(finish(pieces), finish(pieces[::-1])), "the order of the states must not matter.")
    return f"Right, for any cut and order, with states of {size} bytes instead of {values.nbytes:,}."


@exercise("04.3")
def medians(answer: Any, _desk: Desk) -> str:
    """Two lists of one length, whose medians do not tell the median of both."""
    one, other = a(answer, tuple, "a pair of lists")
    one, other = list(one), list(other)
    expect(len(one) == len(other) > 0, f"the lists have {len(one)} and {len(other)} numbers; make them equally long.")
    both, mean = statistics.median(one + other), (statistics.median(one) + statistics.median(other)) / 2
    expect(not pd.isna(both), "there is something in the lists that is no number.")
    expect(both != mean, f"here the median of both is {both:g}, and so is the mean of the medians.")
    return f"The median of both is {both:g}, the mean of the medians {mean:g}. A median has no small exact state."
