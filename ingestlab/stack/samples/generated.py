"""Sets of generated files, with exact counts of what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingestlab.core.errors import TerminalError


@dataclass(frozen=True, slots=True)
class Generated:
    """Generated files, and what the set's pipeline must make of them.

    Attributes:
        folder: Where the files lie.
        files: The files, in order.
        rows: Records in all files, headers not counted.
        dirty: Records to be rejected, by rule (``"column:rule"``, or the reader's own); each breaks one rule only.
    """

    folder: Path
    files: tuple[Path, ...]
    rows: int
    dirty: Mapping[str, int]

    @property
    def rejected(self) -> int:
        """Count the records that break a rule."""
        return sum(self.dirty.values())

    @property
    def clean(self) -> int:
        """Count the records that are to be published."""
        return self.rows - self.rejected


def make_folder(folder: Path | str, dirty: float, **counts: int) -> Path:
    """Check the arguments of a generated set, and make its folder.

    Args:
        folder: Where to write; made if missing.
        dirty: Share of the records that break a rule.
        counts: Of files, rows and the like, by name.

    Raises:
        TerminalError: A number is out of its range.
    """
    if min(counts.values()) < 0 or not 0 <= dirty <= 1:
        expected = f"{' and '.join(counts)} of at least 0, and a dirty share from 0 to 1"
        got = ", ".join(f"{name}={value}" for name, value in {**counts, "dirty": dirty}.items())
        raise TerminalError("Arguments are out of range", expected=expected, got=got, code="argument_invalid")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path
