"""The pipelines of the project, on real and on generated files, through the task that Dask runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.shipped import Done, ingest, source

from ingestlab.analytics.aggregates.answers import answer
from ingestlab.analytics.aggregates.partials import make, merge
from ingestlab.core.models import Tally
from ingestlab.lake import layout
from ingestlab.pipeline.catalog import load
from ingestlab.stack.samples import AlarmSet, FlightSet, alarm_files, flight_months

ALARM_HEADER = "id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold\n"
FLIGHT_HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,"
    "carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n"
)


def aggregated(pipeline: str, name: str, done: Done) -> pd.DataFrame:
    """An aggregate of what was published, sorted by its keys."""
    aggregate = load(source(pipeline)).aggregates[name]
    return answer(merge(make(done.table, aggregate), aggregate), aggregate).to_pandas()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[AlarmSet, Done]:
    """24 hours of alarms with a known share of dirt, ingested."""
    made = alarm_files(tmp_path_factory.mktemp("alarms"), files=24, dirty=0.05)
    return made, ingest("bts_alarms", made.files, tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlightSet, Done]:
    """All flights of the year, ingested."""
    made = flight_months(tmp_path_factory.mktemp("flights"))
    return made, ingest("flights", made.files, tmp_path_factory.mktemp("lake"))


def alarm(tmp_path: Path, **fields: str) -> Done:
    """One alarm, with some of its fields changed, ingested."""
    row = {
        "id": "10167721",
        "station_id": "1161114059",
        "alarm_id": "308",
        "parameter_id": "121",
        "start_time": "2017-10-23 12:00:25",
        "end_time": "2017-10-23 12:01:26",
        "value": "241",
        "threshold": "240",
    }
    file = tmp_path / "alarm-2017-10-23-12-vn.csv"
    file.write_text(ALARM_HEADER + ",".join((row | fields).values()) + "\n")
    return ingest("bts_alarms", [file], tmp_path / "lake")


def flight(tmp_path: Path, **fields: str) -> Done:
    """One flight, with some of its fields changed, ingested."""
    text = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
    row = dict(zip(FLIGHT_HEADER.strip().split(","), text.split(","), strict=True))
    file = tmp_path / "flights-2013-01.csv"
    file.write_text(FLIGHT_HEADER + ",".join((row | fields).values()) + "\n")
    return ingest("flights", [file], tmp_path / "lake")


def test_every_dirty_alarm_is_rejected_by_its_rule_and_no_other_row_is(generated: tuple[AlarmSet, Done]) -> None:
    made, done = generated
    assert done.receipt.rules == made.dirty
    assert done.tally == Tally(rows_in=made.rows, accepted=made.clean, rejected=made.rejected, out=made.clean)
    assert done.table.num_rows == made.clean
    assert done.rejects.num_rows == made.rejected


def test_every_row_of_every_file_is_published_or_rejected_once(generated: tuple[AlarmSet, Done]) -> None:
    made, done = generated
    published = list(zip(done.table["_source"].to_pylist(), done.table["_row"].to_pylist(), strict=True))
    rejected = list(zip(done.rejects["source"].to_pylist(), done.rejects["row"].to_pylist(), strict=True))
    every = {(f.as_uri(), row) for f in made.files for row in range(194)}
    assert len(published + rejected) == len(every)
    assert set(published + rejected) == every


def test_published_rows_are_those_of_their_line(generated: tuple[AlarmSet, Done]) -> None:
    made, done = generated
    for row in done.table.take(list(range(0, done.table.num_rows, 97))).to_pylist():
        file = next(f for f in made.files if f.as_uri() == row["_source"])
        line = file.read_text().splitlines()[row["_row"] + 1].split(",")
        assert [str(row[name]) for name in ("id", "station_id", "parameter_id")] == [line[0], line[1], line[3]]


def test_alarms_go_to_the_folder_of_their_day(tmp_path: Path) -> None:
    made = alarm_files(tmp_path / "files", files=4, rows=20, dirty=0, start="2017-10-23T22")
    done = ingest("bts_alarms", made.files, tmp_path / "lake")
    assert {part.target.split("/")[-2]: part.rows for part in done.receipt.parts} == {
        "day=2017-10-23": 40,
        "day=2017-10-24": 40,
    }


def test_an_alarm_gets_its_duration_day_and_parameter(tmp_path: Path) -> None:
    (row,) = alarm(tmp_path).table.to_pylist()
    assert (row["duration_s"], row["day"], row["parameter"]) == (61, "2017-10-23", "grid voltage")
    assert (row["value"], row["threshold"]) == (241, 240)


def test_an_open_alarm_is_published_without_duration(tmp_path: Path) -> None:
    (row,) = alarm(tmp_path, end_time="").table.to_pylist()
    assert row["end_time"] is row["duration_s"] is None


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [("999999", "999999", (None, None)), ("999991", "1", (None, 1)), ("28.5", "28", (28.5, 28))],
)
def test_placeholders_of_value_and_threshold_are_null(
    tmp_path: Path, value: str, threshold: str, expected: tuple[float | None, float | None]
) -> None:
    (row,) = alarm(tmp_path, value=value, threshold=threshold).table.to_pylist()
    assert (row["value"], row["threshold"]) == expected


def test_a_placeholder_is_none_in_other_columns(tmp_path: Path) -> None:
    (row,) = alarm(tmp_path, id="999999").table.to_pylist()
    assert row["id"] == 999_999


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"id": ""}, "id:not_nullable"),
        ({"station_id": ""}, "station_id:not_nullable"),
        ({"start_time": ""}, "start_time:not_nullable"),
        ({"start_time": "2017-02-30 00:00:00"}, "start_time:type"),
        ({"end_time": "2017-10-23 12:00:24"}, "duration_s:not_negative"),
        ({"parameter_id": "2"}, "parameter_id:known"),
        ({"value": "-61"}, "value:physical"),
        ({"value": "100001"}, "value:physical"),
        ({"value": "hot"}, "value:type"),
        ({"threshold": "1,2"}, "columns"),
    ],
)
def test_what_an_alarm_may_not_be(tmp_path: Path, fields: dict[str, str], rule: str) -> None:
    done = alarm(tmp_path, **fields)
    assert done.receipt.rules == {rule: 1}
    assert done.table.num_rows == 0


def test_an_alarm_may_end_as_it_starts(tmp_path: Path) -> None:
    assert alarm(tmp_path, end_time="2017-10-23 12:00:25").table["duration_s"].to_pylist() == [0]


def test_all_flights_are_published_but_the_cancelled_ones(flights: tuple[FlightSet, Done]) -> None:
    made, done = flights
    assert done.receipt.rules == {"dep_time:not_nullable": made.cancelled}
    assert done.tally == Tally(rows_in=336_776, accepted=328_521, rejected=8_255, out=328_521)


def test_flights_go_to_the_folder_of_their_month(flights: tuple[FlightSet, Done]) -> None:
    _, done = flights
    by_month = {part.target.split("/")[-2]: part.rows for part in done.receipt.parts}
    assert sorted(by_month) == sorted(f"month={m}" for m in range(1, 13))
    assert by_month["month=1"] == 26_483
    assert sum(by_month.values()) == 328_521


def test_the_flights_are_those_that_pandas_reads(flights: tuple[FlightSet, Done]) -> None:
    made, done = flights
    plain = pd.concat([pd.read_csv(f) for f in made.files]).dropna(subset="dep_time")
    for column in ("dep_delay", "arr_delay", "distance", "flight"):
        ours = pd.Series(done.table[column].to_numpy())
        assert ours.sum() == plain[column].sum()
        assert ours.notna().sum() == plain[column].notna().sum()
    hours = done.table["time_hour"]
    assert hours.type.tz == "UTC"
    assert str(hours[0].as_py()) == "2013-01-01 10:00:00+00:00"


def test_the_flights_by_carrier_are_those_that_pandas_counts(flights: tuple[FlightSet, Done]) -> None:
    made, done = flights
    result = aggregated("flights", "by_carrier", done)
    plain = pd.concat([pd.read_csv(f) for f in made.files]).dropna(subset="dep_time")
    groups = plain.groupby(["carrier", "origin", "month"])
    ours = result.assign(month=result["month"].astype("int64")).set_index(["carrier", "origin", "month"]).sort_index()
    for name, wanted in {
        "flights": groups.size(),
        "miles": groups["distance"].sum(),
        "mean_delay": groups["dep_delay"].mean(),
        "delay_spread": groups["dep_delay"].std(),
        "worst_delay": groups["dep_delay"].max(),
    }.items():
        pd.testing.assert_series_equal(ours[name], wanted, check_names=False, check_dtype=False)
    planes = groups["tailnum"].nunique()
    assert ((ours["planes"] - planes).abs() <= 1 + 0.05 * planes).all()
    assert (len(done.receipt.files("aggregates")), sum(s.rows for s in done.receipt.files("aggregates"))) == (
        12,
        len(result),
    )


def test_the_alarms_of_a_station_are_counted_by_hour(generated: tuple[AlarmSet, Done]) -> None:
    made, done = generated
    result = aggregated("bts_alarms", "by_station_hour", done)
    rows = done.table.to_pandas()
    groups = rows.groupby(["station_id", rows["start_time"].dt.floor("h")])
    ours = result.set_index(["station_id", "start_time_hour"]).sort_index()
    assert int(ours["alarms"].sum()) == made.clean
    pd.testing.assert_series_equal(
        ours["alarms"], groups.size(), check_names=False, check_dtype=False, check_index=False
    )
    pd.testing.assert_series_equal(
        ours["mean_s"], groups["duration_s"].mean(), check_names=False, check_dtype=False, check_index=False
    )
    assert ours["ended"].tolist() == groups["end_time"].count().tolist()
    assert ours["last_parameter"].notna().all()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"dep_time": "NA"}, "dep_time:not_nullable"),
        ({"dep_time": "1760"}, "dep_time:clock"),
        ({"dep_time": "0"}, "dep_time:clock"),
        ({"arr_time": "2401"}, "arr_time:clock"),
        ({"month": "13"}, "month:in_range"),
        ({"origin": "BOS"}, "origin:isin"),
        ({"dest": "IA"}, "dest:str_length"),
        ({"distance": "0"}, "distance:greater_than"),
        ({"air_time": "20"}, "speed_mph:in_range"),
        ({"carrier": "U,A"}, "columns"),
        ({"time_hour": "soon"}, "time_hour:type"),
    ],
)
def test_what_a_flight_may_not_be(tmp_path: Path, fields: dict[str, str], rule: str) -> None:
    done = flight(tmp_path, **fields)
    assert rule in done.receipt.rules
    assert done.tally.rejected == 1


def test_a_diverted_flight_is_published(tmp_path: Path) -> None:
    (row,) = flight(tmp_path, arr_time="NA", arr_delay="NA", air_time="NA").table.to_pylist()
    assert row["speed_mph"] is None


@pytest.mark.parametrize(
    ("name", "files"),
    [("bts_alarms", ["alarm-2017-10-23-12-vn.csv", "alarm-1.csv.gz"]), ("flights", ["flights-2013-01.csv"])],
)
def test_pipelines_say_which_files_they_take(name: str, files: list[str]) -> None:
    from fnmatch import fnmatchcase

    pipeline = load(source(name))
    assert pipeline.description
    assert all(any(fnmatchcase(file, pattern) for pattern in pipeline.matches) for file in files)


@pytest.mark.parametrize("name", ["bts_alarms", "flights"])
def test_the_types_of_a_table_do_not_depend_on_what_is_in_a_file(tmp_path: Path, name: str) -> None:
    """Else the parts of one table would not fit together."""
    one, other = (
        (alarm, {"end_time": "", "value": "", "threshold": ""})
        if name == "bts_alarms"
        else (flight, {"arr_time": "", "arr_delay": "", "air_time": "", "tailnum": ""})
    )
    full, scarce = tmp_path / "full", tmp_path / "scarce"
    full.mkdir()
    scarce.mkdir()
    assert one(full).table.schema == one(scarce, **other).table.schema


def test_staged_parts_are_parquet_that_anyone_reads(generated: tuple[AlarmSet, Done], tmp_path: Path) -> None:
    made, _ = generated
    lake = tmp_path / "lake"
    ingest("bts_alarms", made.files, lake)
    assert pq.read_table(lake / layout.table("default", "bts_alarms")).num_rows == made.clean
