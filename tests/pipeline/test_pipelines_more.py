"""The pipelines of web logs and web pages, on generated files of which everything is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.shipped import ingest

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Tally
from ingestlab.stack.samples.pages import page_files
from ingestlab.stack.samples.weblogs import DIRT, weblog_files

LINE = (
    '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 '
    '"http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'
)


def test_every_dirty_line_is_rejected_by_its_rule_and_no_other_is(tmp_path):
    made = weblog_files(tmp_path / "files", files=3, dirty=0.05)
    done = ingest("weblogs", made.files, tmp_path / "lake")
    assert set(made.dirty) == {rule for rule, _, _ in DIRT}
    assert done.receipt.rules == made.dirty
    assert done.tally == Tally(rows_in=made.rows, accepted=made.clean, rejected=made.rejected, out=made.clean)
    days = [re.search(r"day=([\d-]+)/", part.target) for part in done.receipt.parts]
    assert [d[1] for d in days if d] == ["2017-10-23", "2017-10-24", "2017-10-25"]


def test_a_request(tmp_path):
    (tmp_path / "access.log").write_text(LINE + "\n")
    (row,) = ingest("weblogs", [tmp_path / "access.log"], tmp_path / "lake").table.to_pylist()
    assert str(row["time"]) == "2000-10-10 20:55:36+00:00"
    assert (row["method"], row["path"], row["protocol"]) == ("GET", "/apache_pb.gif", "HTTP/1.0")
    assert (row["status"], row["bytes"], row["user"], row["day"]) == (200, 2326, "frank", "2000-10-10")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("2326", "-", {"bytes": None}),
        ("frank", "-", {"user": None}),
        (" HTTP/1.0", "", {"protocol": None}),
        ("Win98", r"\"Win\" 98", {"agent": r"Mozilla/4.08 [en] (\"Win\" 98; I ;Nav)"}),
        ("127.0.0.1", "2001:db8::1", {"host": "2001:db8::1"}),
    ],
)
def test_what_real_logs_have_is_read(tmp_path, old, new, expected):
    (tmp_path / "access.log").write_text(LINE.replace(old, new) + "\n" + LINE)
    row = ingest("weblogs", [tmp_path / "access.log"], tmp_path / "lake").table.to_pylist()[0]
    assert {name: row[name] for name in expected} == expected


def test_every_dirty_page_is_rejected_by_its_rule_and_no_other_is(tmp_path):
    made = page_files(tmp_path / "files", files=30, dirty=0.2)
    done = ingest("pages", made.files, tmp_path / "lake")
    assert done.receipt.rules == made.dirty == {
        "text:empty": 2, "title:not_nullable": 2, "characters:greater_than_or_equal_to": 2
    }  # fmt: skip
    assert done.tally.out == made.clean
    for row in done.table.to_pylist():
        assert not re.search("Ã|Home|rights reserved", row["text"])
        assert row["language"] == "en"
        assert row["links"][-1] == "/imprint"


@pytest.mark.parametrize("make", [weblog_files, page_files])
def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, make):
    one, two, other = make(tmp_path / "1"), make(tmp_path / "2"), make(tmp_path / "3", seed=1)
    assert [f.read_bytes() for f in one.files] == [f.read_bytes() for f in two.files]
    assert [f.read_bytes() for f in one.files] != [f.read_bytes() for f in other.files]


@pytest.mark.parametrize("make", [weblog_files, page_files])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_the_share_of_dirt_is_exact(tmp_path, make, share):
    made = make(tmp_path, files=4, dirty=share)
    total = len(made.files) if make is page_files else made.rows
    assert made.rejected == int(total * share)
    assert made.clean == total - made.rejected


@pytest.mark.parametrize("wrong", [{"files": -1}, {"dirty": 2}, {"start": "yesterday"}])
def test_numbers_out_of_range_are_told(tmp_path, wrong):
    with pytest.raises(TerminalError):
        weblog_files(tmp_path, **wrong)
    if "start" not in wrong:
        with pytest.raises(TerminalError):
            page_files(tmp_path, **wrong)
