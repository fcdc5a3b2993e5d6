"""Tables in a terminal: one that is too narrow leaves out columns, and cuts no number and no name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ingestlab.cli.common import WHOLE, broken, out

if TYPE_CHECKING:  # slow to import: who calls a function here has it already
    import pandas as pd

_FOLD = 20  # characters that a text in several lines needs at least, or its longest word
_SIDE_BY_SIDE = 160  # characters of a terminal with room for two tables
_PROSE = 40  # characters of a text with blanks in it that a terminal shows of a table's cell
_LONG = 64  # likewise of one without blanks, where it is no number or id


@dataclass(frozen=True)
class Fitting:
    """Rows of texts that take the width they have.

    Attributes:
        headings: One a column.
        rows: Of as many cells.
        right: The headings of columns of numbers.
        folds: The headings of texts that may take several lines. All others stay in one.
        leaves_out: The headings of columns that go where there is no room for all, the first of them first.
        title: What is written above; nothing if empty.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    right: Collection[str] = ()
    folds: Collection[str] = ()
    leaves_out: Sequence[str] = ()
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needs = {name: self._need(place) for place, name in enumerate(self.headings)}
        gone: list[str] = []
        for name in self.leaves_out:
            if _width(needs) <= options.max_width:
                break
            if name in needs:
                gone.append(name)
                del needs[name]
        self._widen(needs, options.max_width - _width(needs))
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for name, width in needs.items():
            table.add_column(
                Text(name), justify="right" if name in self.right else "left", overflow="fold", width=width
            )
        for row in self.rows:
            # names and values of users are no markup
            cells = [cell if isinstance(cell, Text) else Text(cell) for cell in row]
            table.add_row(*(cell for name, cell in zip(self.headings, cells, strict=True) if name in needs))
        if self.title:
            yield Text(f" {self.title}", style="bold")
        yield from console.render(table, options.update(width=max(options.max_width, _width(needs))))
        if gone:
            shown = [name for name in self.headings if name in gone]
            yield from broken(Text(f" not shown here:  {', '.join(shown)}", style="dim"), options.max_width)

    def _need(self, place: int) -> int:
        """Return the characters that a column takes at least."""
        if self.headings[place] not in self.folds:
            return self._most(place)
        words = [cell_len(word) for text in self._texts(place) for word in text.split()]
        return max(*words, min(_FOLD, self._most(place)))

    def _most(self, place: int) -> int:
        """Return the characters of a column's longest text."""
        return max(map(cell_len, self._texts(place)))

    def _texts(self, place: int) -> list[str]:
        return [self.headings[place], *(str(row[place]) for row in self.rows)]

    def _widen(self, widths: dict[str, int], spare: int) -> None:
        """Share the rest of a line among folding texts."""
        wants = {n: self._most(p) - widths[n] for p, n in enumerate(self.headings) if n in widths and n in self.folds}
        for place, (name, want) in enumerate(sorted(wants.items(), key=lambda item: item[1])):
            more = max(0, min(want, spare // (len(wants) - place)))
            widths[name] += more
            spare -= more


def _width(needs: dict[str, int]) -> int:
    return sum(need + 2 for need in needs.values())


def table(
    headings: Iterable[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    folds: Collection[str] = (),
    leaves_out: Sequence[str] = (),
) -> Fitting:
    """Tabulate rows of texts without lines, and without columns that are empty.

    Args:
        headings: As in :class:`Fitting`, as all others.
        rows: Of as many cells.
        right: Headings of columns of numbers.
        folds: Headings of texts that may take several lines.
        leaves_out: Headings of columns that go where there is no room for all.
    """
    lines, names = list(rows), list(headings)
    full = [place for place in range(len(names)) if any(str(line[place]) for line in lines)]
    cells = [[line[place] for place in full] for line in lines]
    return Fitting([names[place] for place in full], cells, right, folds, leaves_out)


def frame_table(frame: pd.DataFrame, title: str, rows: int = 8) -> Fitting:
    """Tabulate a frame's first rows. Nulls are empty; its last columns go first.

    Args:
        frame: Any.
        title: What is written above.
        rows: How many at most.
    """
    head = frame.head(rows)
    pairs = zip(head.itertuples(index=False), head.isna().itertuples(index=False), strict=True)
    cells = [["" if null else short(cell) for cell, null in zip(row, nulls, strict=True)] for row, nulls in pairs]
    headings = list(_different(str(column) for column in frame.columns))
    numbers = [name for name, kind in zip(headings, frame.dtypes, strict=True) if getattr(kind, "kind", "") in "iuf"]
    order = [name for name in reversed(headings[1:]) if not name.startswith("_")]
    # Who reads a table looks for its own columns.
    internal_columns = [name for name in headings[1:] if name.startswith("_")]
    return Fitting(headings, cells, numbers, leaves_out=[*internal_columns, *order], title=title)


def _different(names: Iterable[str]) -> Iterator[str]:
    """Tell columns of one name apart by blanks, which nobody sees."""
    seen: set[str] = set()
    for name in names:
        while name in seen:
            name += " "  # noqa: PLW2901 - it is the same name
        seen.add(name)
        yield name


def short(value: Any) -> str:
    """Write a value in one line. Long texts end in ``…`` on a terminal; numbers, times and ids are whole.

    Args:
        value: Of a table's cell.
    """
    text = " ".join(str(value).split())
    most = _PROSE if " " in text else _LONG
    if not isinstance(value, str | list | dict) or out.width == WHOLE or len(text) <= most:
        return text
    return f"{text[: most - 1]}…"


def side_by_side(left: RenderableType, right: RenderableType) -> RenderableType:
    """Place two things side by side, or stacked without room."""
    if out.width < _SIDE_BY_SIDE or out.width == WHOLE:
        return Group(left, right)
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid
