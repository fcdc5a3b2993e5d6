"""What a user declares of an aggregate; how it is computed is in the modules beside.

Each published part has a small table of *states*, one row a group. States of several parts are merged when
they are read, so nothing is ever added up twice, and what a commit replaces takes its states with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import digest

Unit = Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]
Kind = Literal["count", "sum", "mean", "min", "max", "std", "first", "last", "distinct", "median", "quantile"]
StateKind = Literal["rows", "count", "sum", "moments", "min", "max", "first", "last", "distinct", "quantiles"]
Declared = str | tuple[str, str] | tuple[str, str, str | float]  # of a measure

FORMAT = 1  # of states; a change of what they mean must change it, so that old ones are computed again
AGGREGATE_NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"  # no "__", which parts it from the table's name
TAKEN = ("rejects", "vectors")  # names of what else lies beside a table
ORIGIN = ("_source", "_row")  # which tell rows of the same time apart
_STATES: Mapping[str, tuple[StateKind, ...]] = {
    "sum": ("sum",),
    "mean": ("sum", "count"),
    "std": ("moments", "count"),
    "median": ("quantiles",),
    "quantile": ("quantiles",),
}


@dataclass(frozen=True)
class Key:
    """Column to group by, or its unit of time."""

    column: str
    unit: Unit | None = None

    @property
    def name(self) -> str:
        """Return its name in the result."""
        return f"{self.column}_{self.unit}" if self.unit else self.column


@dataclass(frozen=True)
class State:
    """Partial aggregate of a group that merges with that of another part."""

    kind: StateKind
    column: str = ""
    time: str = ""

    @property
    def name(self) -> str:
        """Return its column among the partials. The names of several start with it."""
        return f"{self.kind}({self.column} by {self.time})" if self.time else f"{self.kind}({self.column})"


@dataclass(frozen=True)
class Measure:
    """One column of the result."""

    name: str
    kind: Kind
    column: str = ""
    argument: str | float | None = None

    @property
    def states(self) -> tuple[State, ...]:
        """Return the partials that it is made of."""
        if not self.column:
            return (State("rows"),)
        if self.kind in ("first", "last"):
            return (State(self.kind, self.column, str(self.argument)),)
        return tuple(State(kind, self.column) for kind in _STATES.get(self.kind, (self.kind,)))  # type: ignore[arg-type]

    def state(self, kind: StateKind) -> State:
        """Return the partial of this kind."""
        return next(s for s in self.states if s.kind == kind)


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Measures of groups of a table's rows, always up to date.

    Nulls and NaN count as missing, as in pandas: every measure but ``"count"`` passes over them. As a key,
    missing is a group of its own. The sum of nothing is 0; every other measure of nothing is null.

    Attributes:
        by: Columns to group by; none makes one group of all rows. ``"start_time:hour"`` cuts a time down to
            its hour (second, minute, hour, day, week from Monday, month, quarter, year; in the time's own
            zone), and is called ``start_time_hour`` in the result.
        measures: What to tell of each group, by the name of its column in the result:

            - ``"count"``: rows; ``("x", "count")``: those where x is not missing.
            - ``("x", "sum")``, of numbers. Whole numbers and decimals are summed exactly: int64 where all
              sums fit, else decimal(38, 0). More than 38 digits are an error.
            - ``("x", "mean")`` and ``("x", "std")`` (of a sample: by n - 1), as float64.
            - ``("x", "min")``, ``("x", "max")``, of anything that has an order.
            - ``("x", "first", "t")``, ``("x", "last", "t")``: x of the row with the least or greatest t, among
              those that have both. Rows of the same time are in the order of ``_source`` and ``_row``.
            - ``("x", "distinct")``: about how many values x has; off by more than 1.6 % in one of three
              cases, by more than 4.9 % in one of three hundred; a few hundred are counted exactly.
            - ``("x", "median")``, ``("x", "quantile", 0.9)``, of numbers: a value whose rank is off by at most
              1.4 % of the group's rows (in 99 of 100 cases); exact for groups of less than 200 rows.

    Raises:
        TerminalError: A measure is none of these.

    Examples:
        >>> from ingestlab import Aggregate
        >>> by_hour = Aggregate(by=["station_id", "start_time:hour"], measures={"alarms": "count"})
        >>> [key.name for key in by_hour.keys]
        ['station_id', 'start_time_hour']
    """

    by: str | Sequence[str] = ()
    measures: Mapping[str, Declared]

    def __post_init__(self) -> None:
        names = [*(key.name for key in self.keys), *(m.name for m in self.answers)]
        if not self.measures:
            raise TerminalError(
                "An aggregate needs at least one measure",
                fix='The simplest is {"rows": "count"}.',
                code="aggregate_invalid",
            )
        twice = [n for n in names if names.count(n) > 1] + [s.name for s in self.states if s.name in names]
        if twice:
            raise _invalid(
                "A name is used twice",
                "a name of its own for each key and measure",
                f"'{twice[0]}' twice",
                "Rename one.",
            )

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """Parse `by`."""
        return tuple(map(_key, (self.by,) if isinstance(self.by, str) else self.by))

    @cached_property
    def answers(self) -> tuple[Measure, ...]:
        """Parse `measures`."""
        return tuple(_measure(name, declared) for name, declared in self.measures.items())

    @cached_property
    def states(self) -> tuple[State, ...]:
        """Return the partials to keep of each part, each once."""
        return tuple(dict.fromkeys(state for measure in self.answers for state in measure.states))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the table that are needed."""
        used = [*(key.column for key in self.keys), *(c for s in self.states for c in (s.column, s.time))]
        origin = ORIGIN if any(s.time for s in self.states) else ()
        return tuple(dict.fromkeys([*filter(None, used), *origin]))

    @cached_property
    def code(self) -> str:
        """Hash what the partials mean. Those of equal codes can be merged, whatever the measures' names."""
        keys = [[key.column, key.unit] for key in self.keys]
        return digest([FORMAT, keys, sorted(state.name for state in self.states)])[:12]

    def to_dict(self) -> dict[str, Any]:
        """Write the declaration as plain data."""
        return {"by": [self.by] if isinstance(self.by, str) else list(self.by), "measures": dict(self.measures)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Aggregate:
        """Restore from :meth:`to_dict`.

        Args:
            data: Of this version or an earlier one.
        """
        return cls(by=tuple(data["by"]), measures=data["measures"])


def check_aggregates(aggregates: Mapping[str, Aggregate], folders: Sequence[str], pipeline: str) -> None:
    """Check that a pipeline can have these aggregates.

    Raises:
        TerminalError: A name cannot be a folder's, or a column of `partition_by` is asked for more than its value.
    """
    for name, aggregate in aggregates.items():
        where = f"aggregate '{name}' of pipeline '{pipeline}'"
        if not re.fullmatch(AGGREGATE_NAME, name) or name in TAKEN:
            taken = " or ".join(map(repr, TAKEN))
            raise _invalid(
                "The aggregate's name cannot be used",
                f"{where} under a name of small letters, digits and single '_', and not {taken}",
                repr(name),
                "It becomes a folder's name.",
            )
        if not isinstance(aggregate, Aggregate):
            raise _invalid(
                "Not an Aggregate", f"an Aggregate as {where}", type(aggregate).__name__, "Write Aggregate(by=…, …)."
            )
        used = {key.column for key in aggregate.keys if key.unit} | {
            column for state in aggregate.states for column in (state.column, state.time)
        }
        if misused := sorted(used & set(folders)):
            raise _invalid(
                "A column of partition_by is measured",
                f"{where} to group by '{misused[0]}' as it is, or to leave it alone",
                "a measure or a unit of time of it",
                "A column of partition_by is a folder's name in the table; let clean add it under another name.",
            )


def _invalid(problem: str, expected: str, got: str, fix: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="aggregate_invalid")


def _key(text: str) -> Key:
    column, colon, unit = text.rpartition(":")
    if not colon:
        return Key(text)
    if unit not in get_args(Unit) or not column:
        raise _invalid(
            "A key of an aggregate cannot be read",
            f"a column, or column:unit with one of {', '.join(get_args(Unit))}, in `by`",
            repr(text),
            "A column with a ':' in its name needs another one first.",
        )
    return Key(column, unit)  # type: ignore[arg-type]


def _measure(name: str, declared: Any) -> Measure:
    """Parse one measure; the only place that knows how they are written."""
    match declared:
        case "count":
            return Measure(name, "count")
        case (str() as column, ("first" | "last") as kind, str() as time) if column and time:
            return Measure(name, kind, column, time)
        case (str() as column, "quantile", int() | float() as share) if column and 0 <= share <= 1:
            return Measure(name, "quantile", column, float(share))
        case (str() as column, "median") if column:
            return Measure(name, "median", column, 0.5)
        case (str() as column, ("count" | "sum" | "mean" | "min" | "max" | "std" | "distinct") as kind) if column:
            return Measure(name, kind, column)
    raise _invalid(
        f"Measure '{name}' cannot be read",
        f'measure \'{name}\' as "count", ("x", "sum"), ("x", "quantile", 0.9) or ("x", "first", "t")',
        repr(declared),
        f"Kinds are {', '.join(get_args(Kind))}; quantiles take a share from 0 to 1, first and last a time column.",
    )
