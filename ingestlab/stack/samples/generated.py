"""What is known of a set of files that were made to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
