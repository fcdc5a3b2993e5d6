"""The command for teachers: ``ingestlab grade``."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer


def grade(folder: Annotated[Path, typer.Argument(help="With the notebooks that students have handed in.")]) -> None:
    """Write as CSV which exercises saved notebooks solve. Nothing is run."""
    from ingestlab.teaching.grading import Grade, grade  # noqa: PLC0415 - slow to import: --help must not wait for it

    grades = grade(folder)
    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Grade)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in grades)
