"""How the files of a run are listed, in the terminal and in a notebook."""

from __future__ import annotations

import io

import pandas as pd
from rich.console import Console

from ingestlab.cli.show import files_table
from ingestlab.cli.tables import frame_table
from ingestlab.core.errors import QualityError
from ingestlab.core.models import Outcome, Tally
from ingestlab.notebook import _file_row
from ingestlab.queue.run import RunResult

GOOD = Outcome(
    uri="http://host/files/a[1].csv.gz",
    status="committed",
    tally=Tally(rows_in=1234, accepted=1230, rejected=4, out=1230),
    table="t",
    facts={"encoding": "cp1252", "compression": "gzip", "header": "line 3", "names": "b, b_2"},
)
BAD = Outcome(uri="file:///b.csv", status="failed", error=QualityError("good rows", "bad ones").to_dict())
RESULT = RunResult(
    run="r",
    state="finished",
    outcomes=(GOOD, BAD),
    tally=GOOD.tally,
    rules={},
    parquet_bytes=0,
    tables=("t",),
    seconds={},
)


def test_the_table_of_files_has_a_line_for_each_with_what_was_found() -> None:
    page = io.StringIO()
    Console(file=page, width=200).print(files_table(RESULT))
    heading, good, bad = (line.split() for line in page.getvalue().splitlines() if line.strip())
    assert heading == ["file", "status", "rows", "published", "rejected", "encoding", "compression", "assumed"]
    assert good[:7] == ["a[1].csv.gz", "committed", "1,234", "1,230", "4", "cp1252", "gzip"]
    assert " ".join(good[7:]) == "header: line 3; names: b, b_2"
    assert bad == ["b.csv", "failed", "0", "0", "0"]


def test_a_frame_is_shown_as_it_is_whatever_its_cells_hold() -> None:
    page = io.StringIO()
    Console(file=page, width=120).print(frame_table(pd.DataFrame({"a[b]": ["[/b] of [red]", None]}), "title"))
    assert [line.strip() for line in page.getvalue().splitlines() if "[" in line] == ["a[b]", "[/b] of [red]"]


def test_a_notebook_shows_the_same() -> None:
    good, bad = (_file_row(RESULT, i) for i in range(2))
    assert (good["encoding"], good["compression"], good["error"]) == ("cp1252", "gzip", None)
    assert (good["assumed"], bad["assumed"]) == ("header: line 3; names: b, b_2", None)
    assert (bad["encoding"], bad["compression"], bad["error"]) == (None, None, "expected good rows; got bad ones")
