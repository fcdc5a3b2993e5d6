"""The vectors of any number of inputs, and for each that has none the reason why.

An input for which a model raises, or gives what is no vector, is found and told: its neighbours have theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingestlab.analytics.embedders.base import Embedder, ModelError, Vectors
from ingestlab.core.errors import TerminalError, words_of

MOST_RAISED = 100  # inputs of one call that a model may raise for; one that raises for more is broken
SURELY = 8  # inputs in a row for which it raises, with none before that it takes: so is it then
EXCERPT = 100  # characters of an input that its fault tells
SHORT, LONG = 1e-15, 1e18  # lengths whose squares single precision can hold


@dataclass(frozen=True)
class Fault:
    """Reason why an input has no vector.

    Attributes:
        rule: ``"nan"``, ``"infinity"``, ``"zero"``, or the name of what the model raised.
        value: The input, as far as it can be shown, after what the model said.
        error: What to raise where this must not be.
    """

    rule: str
    value: str
    error: TerminalError


@dataclass(frozen=True)
class Each:
    """Vectors of shape (n, dim), NaN where missing, and faults by place."""

    vectors: Vectors
    faults: Mapping[int, Fault]


def embed_each(
    embedder: Embedder,
    values: Sequence[Any],
    *,
    batch: int | None = None,
    normalise: bool = True,
    directed: bool = True,
    alive: Callable[[], None] = lambda: None,
    works: bool = False,
) -> Each:
    """Embed texts, or images as bytes. None, blank and empty ones have no vector, and that is no fault.

    Args:
        embedder: A model.
        values: What it gets.
        batch: Most of them at a time; None is what suits the model.
        normalise: Whether vectors are made one unit long.
        directed: Whether they are compared by their directions, so that zeros cannot be.
        alive: Is told of every batch that is done: a long task is none that hangs.
        works: Whether the model has made vectors of other inputs: one that raises for all of these is not broken then.

    Raises:
        TerminalError: The model is broken: it raises for too many, or gives vectors of another shape.
    """
    vectors = np.full((len(values), embedder.dim), np.nan, dtype=np.float32)
    some = [i for i, value in enumerate(values) if says_something(value)]
    if embedder.kind == "text":
        some.sort(key=lambda i: embedder.size(values[i]))
    asker = _Asker(embedder, values, vectors, taken=int(works))
    for rows in _batches(some, values, batch or embedder.batch, embedder):
        asker.fill(rows)
        alive()
    if asker.faults and len(asker.faults) == len(some) and not works:
        raise next(iter(asker.faults.values())).error
    made = np.array([i for i in some if i not in asker.faults], np.int64)
    unit, rules = _judged(vectors[made], normalise=normalise, directed=directed)
    vectors[made] = unit
    wanted = f"vectors of {embedder.dim} finite numbers from '{embedder.name}'"
    for place, rule in rules.items():
        shown = excerpt(values[made[place]])
        fix = "Mend the model, or leave such inputs out."
        asker.faults[int(made[place])] = Fault(
            rule,
            shown,
            TerminalError(
                f"Model '{embedder.name}' gave an unusable vector",
                expected=wanted,
                got=f"{rule} for {shown}",
                fix=fix,
                code="model_failed",
            ),
        )
    return Each(vectors, dict(sorted(asker.faults.items())))


def excerpt(value: str | bytes) -> str:
    """Show an input in an error."""
    return repr(value[:EXCERPT]) if isinstance(value, str) else f"{len(value):,} bytes"


@dataclass
class _Asker:
    """Client of a model. Where it raises, inputs are halved until those to blame are alone."""

    embedder: Embedder
    values: Sequence[Any]
    vectors: Vectors
    faults: dict[int, Fault] = field(default_factory=dict)
    taken: int = 0  # inputs of which it made vectors
    again: int = MOST_RAISED  # inputs that it may be asked for once more

    def fill(self, rows: list[int]) -> None:
        """Set the vectors of some rows, or their faults."""
        try:
            self.vectors[rows] = self.embedder.embed([self.values[i] for i in rows])
        except ModelError:
            raise
        except TerminalError as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                self.fill(rows[:middle])
                self.fill(rows[middle:])
                return
            self._blame(rows[0], error)
        else:
            self.taken += len(rows)
            self._ask_again(rows)

    def _ask_again(self, rows: Sequence[int]) -> None:
        """Retry rows without numbers one by one. A model may have spoilt a batch for one of its inputs."""
        odd = [row for row in rows if not np.isfinite(self.vectors[row]).all()] if len(rows) > 1 else []
        for row in odd[: self.again]:
            self.again -= 1
            self.fill([row])

    def _blame(self, row: int, error: TerminalError) -> None:
        if len(self.faults) == MOST_RAISED or (not self.taken and len(self.faults) == SURELY):
            raise error
        cause = error.__cause__ or error
        said = words_of(cause) if error.__cause__ else " ".join((error.got or error.reason).split())
        shown = excerpt(self.values[row])
        self.faults[row] = Fault(type(cause).__name__, f"{said}: {shown}" if said else shown, error)


def _judged(vectors: Vectors, *, normalise: bool, directed: bool) -> tuple[Vectors, dict[int, str]]:
    """Normalize vectors, NaN where missing, and list broken rules by place."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(vectors, axis=1)
    odd = ~((lengths > SHORT) & (lengths < LONG))
    unit = vectors / np.where(odd, 1, lengths)[:, None] if normalise else vectors
    rules: dict[int, str] = {}
    for place in np.flatnonzero(odd).tolist():  # few, if any
        wide = vectors[place].astype(np.float64)
        length = float(np.linalg.norm(wide))
        if not np.isfinite(wide).all():
            rules[place] = "nan" if np.isnan(wide).any() else "infinity"
        elif (normalise and not length) or (directed and not normalise and length <= SHORT):
            rules[place] = "zero"
        elif not normalise and length >= LONG:
            rules[place] = "infinity"  # no metric can take it
        elif normalise:
            unit[place] = wide / length
        if place in rules:
            unit[place] = np.nan
    return unit.astype(np.float32, copy=False), rules


def says_something(value: str | bytes | None) -> bool:
    """Tell whether there is anything to make a vector of."""
    return bool(value) and not (isinstance(value, str) and value.isspace())


def _batches(rows: list[int], values: Sequence[Any], most: int, embedder: Embedder) -> Iterator[list[int]]:
    """Cut rows, smallest first, into batches for which there is room."""
    batch: list[int] = []
    for row in rows:
        if batch and (len(batch) == most or (len(batch) + 1) * embedder.size(values[row]) > embedder.room):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
