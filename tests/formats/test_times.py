"""Times by a format: what is no day of the calendar is no time, whatever the format looks like."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestlab import Csv, JsonLines, Lines
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common.drift import text_as
from ingestlab.formats.common.times import parse
from ingestlab.interfaces import Records
from ingestlab.lake.storage.store import open_store

FORMATS = (
    "%d/%m/%Y", "%Y%m%d", "%d%m%y %H%M%S", "%y%m%d", "%H:%M:%S %d.%m.%Y", "%b %d %Y %H:%M", "%d %B %y",
    "%A %d %B %Y", "%m%d%Y%H%M", "%I:%M %p %m/%d/%Y", "%d/%b/%Y:%H:%M:%S %z", "%Y%m%d%H%M%S%z", "%z %d %m %Y %H",
    "%d-%m-%Y%z", "100%% %d.%m.%Y",
)  # fmt: skip
DAY = "%d/%m/%Y"
DAYS = ["31/01/2020", "31/02/2020", "29/02/2020", "29/02/2019", "NA", "31/04/2020", "1/3/2020", "32/01/2020", "x"]
FALSE = {1: "31/02/2020", 3: "29/02/2019", 5: "31/04/2020", 7: "32/01/2020", 8: "x"}  # by row


def read(reader: Csv | JsonLines | Lines, folder: Path, text: str) -> Records:
    """The records of a file with this text."""
    (folder / "file").write_text(text)
    return reader.read(Piece(uri="u", path="file", name="file", sha256="0"), open_store(str(folder)))


def csv(values: list[str]) -> str:
    """A file of one column of texts, and one of numbers."""
    return "t,n\n" + "".join(f"{value},{i}\n" for i, value in enumerate(values))


moments = st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 28), timezones=st.just(UTC))
offsets = st.sampled_from([0, 60, -300, 840, -720, 330])  # minutes


@given(st.sampled_from(FORMATS), moments, offsets, st.sampled_from([1, 2, 3, 29, 30, 31]))
@example("%Y%m%d", datetime(2129, 3, 1), 0, 1)  # "21290301": a 30 in it is no day
@example("%b %d %Y", datetime(2030, 3, 1), 0, 1)  # nor is that of the year
@example("%d-%m-%Y%z", datetime(2019, 2, 1), 840, 29)  # in UTC it is February still
def test_only_days_that_there_are_become_times(form: str, moment: datetime, offset: int, day: int) -> None:
    local = moment.replace(day=1, tzinfo=timezone(timedelta(minutes=offset)))
    text = local.strftime(form.replace("%d", "@@")).replace("@@", f"{day:02}")
    (got,) = parse(pa.array([text]), form, "s")
    there = day <= calendar.monthrange(local.year, local.month)[1]
    assert got.is_valid == there, text
    if there:
        wanted = datetime.strptime(text, form)  # noqa: DTZ007 - with a zone where the format has one
        assert got.as_py().timestamp() == wanted.timestamp() if wanted.tzinfo else got.as_py() == wanted


def test_nulls_stay_and_positions_hold() -> None:
    texts = pa.array([None if i % 5 == 0 else ("31/02/2020" if i % 7 == 0 else "28/02/2020") for i in range(1000)])
    wrong = [i for i, time in enumerate(parse(texts, DAY, "us")) if not time.is_valid]
    assert wrong == [i for i in range(1000) if i % 5 == 0 or i % 7 == 0]


class TestCsv:
    """`Csv` with a timestamp_format."""

    def test_a_day_that_its_month_lacks_is_a_reject_with_its_text(self, tmp_path: Path) -> None:
        reader = Csv(columns={"t": "timestamp[s]", "n": "int64"}, timestamp_format=DAY)
        found = read(reader, tmp_path, csv(DAYS))
        assert [(b.row, b.rule, b.column, b.value) for b in found.bad] == [
            (i, "type", "t", text) for i, text in FALSE.items()
        ]
        assert found.table["n"].to_pylist() == found.rows.tolist() == [0, 2, 4, 6]
        assert found.table["t"].to_pylist() == [
            datetime(2020, 1, 31), datetime(2020, 2, 29), None, datetime(2020, 3, 1)
        ]  # fmt: skip
        assert found.raw([1]) == {1: "31/02/2020,1"}

    def test_each_bad_value_of_a_record_is_told(self, tmp_path: Path) -> None:
        reader = Csv(columns={"t": "timestamp[s]", "n": "int64"}, timestamp_format=DAY)
        found = read(reader, tmp_path, "t,n\n31/02/2020,x\n01/03/2020,1\n01/03/2020,y\n30/02/2020,2\n1,2,3\n")
        assert {(b.row, b.rule, b.column, b.value) for b in found.bad} == {
            (0, "type", "t", "31/02/2020"), (0, "type", "n", "x"), (2, "type", "n", "y"),
            (3, "type", "t", "30/02/2020"), (4, "columns", None, "3 fields, expected 2"),
        }  # fmt: skip
        assert found.rows.tolist() == [1]

    @pytest.mark.parametrize(("kind", "form"), [("timestamp[s]", DAY + " %z"), (pa.timestamp("s", "UTC"), DAY)])
    def test_the_type_has_a_zone_where_the_format_has(self, tmp_path: Path, kind: str, form: str) -> None:
        """As pyarrow has it: a format with a zone and a column without one, or the other way, fit nothing."""
        found = read(Csv(columns={"t": kind, "n": "int64"}, timestamp_format=form), tmp_path, csv(["31/01/2020 Z"]))
        assert [b.column for b in found.bad] == ["t"]

    def test_times_with_zones_are_told_in_utc(self, tmp_path: Path) -> None:
        reader = Csv(columns={"t": pa.timestamp("s", "UTC"), "n": "int64"}, timestamp_format=DAY + " %H %z")
        found = read(reader, tmp_path, csv(["31/01/2020 23 -0500", "30/02/2020 01 +14:00"]))
        assert [str(t) for t in found.table["t"]] == ["2020-02-01 04:00:00+00:00"]
        assert [b.value for b in found.bad] == ["30/02/2020 01 +14:00"]

    def test_an_inferred_column_with_such_a_day_is_text(self, tmp_path: Path) -> None:
        reader = Csv(timestamp_format=DAY)
        assert read(reader, tmp_path, csv(["31/01/2020", "NA"])).table["t"].type == pa.timestamp("us")
        false = read(reader, tmp_path, csv(["31/01/2020", "31/02/2020"]))
        assert false.table["t"].to_pylist() == ["31/01/2020", "31/02/2020"]
        assert not false.bad

    def test_under_evolve_the_column_becomes_text_rather_than_another_day(self, tmp_path: Path) -> None:
        reader = Csv(columns={"t": "timestamp[s]", "n": "int64"}, timestamp_format=DAY).drifting("evolve")
        assert read(reader, tmp_path, csv(DAYS[:4])).table["t"].to_pylist() == DAYS[:4]
        reader = reader.drifting("discard_value")
        kept = read(reader, tmp_path, csv(DAYS[:4]))
        assert [t and t.day for t in kept.table["t"].to_pylist()] == [31, None, 29, None]


def test_an_undeclared_column_under_drift_is_read_as_strictly() -> None:
    assert text_as(pa.array(["31/01/2020", None]), None, DAY).type == pa.timestamp("us")
    assert text_as(pa.array(["31/02/2020", None]), None, DAY).to_pylist() == ["31/02/2020", None]


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        (JsonLines(columns={"t": "timestamp[s]"}, timestamp_format=DAY), '{{"t":"{}"}}\n'),
        (Lines(pattern="(?P<t>.*)", columns={"t": "timestamp[s]"}, timestamp_format=DAY), "{}\n"),
        (JsonLines(columns={"t": "date32"}, timestamp_format=DAY), '{{"t":"{}"}}\n'),
    ],
)
def test_all_readers_of_text_agree(reader: JsonLines | Lines, line: str, tmp_path: Path) -> None:
    days = [day for day in DAYS if day != "NA"]
    found = read(reader, tmp_path, "".join(line.format(day) for day in days))
    assert [b.value for b in found.bad] == list(FALSE.values())
    assert len(found.rows) == 3


@pytest.mark.parametrize("reader", [Csv, JsonLines, partial(Lines, pattern="(?P<t>.*)")])
@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("%Y-%m-%d %H:%M:%S %Z", "cannot have names of zones"),
        ("%G-%V-%u", "that strptime knows"),
        ("%s", "that strptime knows"),
    ],
)
def test_formats_that_cannot_be_read_are_refused_when_declared(reader, form: str, words: str) -> None:
    with pytest.raises(TerminalError, match=words):
        reader(columns={"t": "timestamp[us]"}, timestamp_format=form)


@given(st.sampled_from([f for f in FORMATS if "z" not in f]), moments, st.data())
def test_what_becomes_a_time_is_what_python_takes(form: str, moment: datetime, data: st.DataObject) -> None:
    text = list(moment.strftime(form))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 1))] = data.draw(st.text("0123456789 -/:.aA", max_size=1))
        text = text or ["1"]
    (got,) = parse(pa.array(["".join(text)]), form, "s").to_pylist()
    if got is not None:
        assert got == datetime.strptime("".join(text), form)  # noqa: DTZ007


@given(st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%f %d/%m/%y", "%H:%M:%S,%f on %d %b %Y"]), moments)
def test_fractions_are_read(form: str, moment: datetime) -> None:
    text = moment.strftime(form)
    (got,) = parse(pa.array([text]), form, "us").to_pylist()
    assert got == datetime.strptime(text, form)  # noqa: DTZ007


@pytest.mark.parametrize(
    ("form", "text"),
    [("%d%m%y %H%M%S", "21100 130347"), ("%m%d%Y", "1012020")],
)
def test_digits_that_could_be_split_in_two_ways_are_no_time(form: str, text: str) -> None:
    assert parse(pa.array([text]), form, "us").to_pylist() == [None]
