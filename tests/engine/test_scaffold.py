"""A proposed pipeline ingests the file that it was made from, and says what a person would have said."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Settings, TerminalError
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.engine.scaffold.propose import Proposal, propose, write
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.stack.samples.alarms import alarm_files
from ingestlab.stack.samples.flights import flight_months

Make = Callable[..., Settings]


@pytest.fixture
def bare(settings: Make, tmp_path: Path) -> Settings:
    """Settings under which there is no pipeline yet."""
    return settings(pipelines=(str(tmp_path / "pipelines"),))


def look(bare: Settings, path: Path, content: str | bytes) -> tuple[Proposal, Pipeline]:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = propose(str(path), bare)
    return found, load(PipelineSource(name="p", origin="p.py", text=found.text))


def types(pipeline: Pipeline) -> dict[str, str]:
    return {name: str(kind) for name, kind in pipeline.reader.columns.items()}  # type: ignore[attr-defined]


def assert_ingests(bare: Settings, path: Path) -> None:
    """The pipeline as it is written takes the whole file."""
    name = "again"
    write(propose(str(path), bare, name), bare, force=True)
    trial = try_pipeline(name, str(path), bare, sample=path.stat().st_size)
    assert trial.tally.rejected == 0, trial.rules
    assert trial.tally.rows_in > 0


def test_alarm_files(bare: Settings, tmp_path: Path) -> None:
    made = alarm_files(tmp_path / "a", files=2, rows=400, dirty=0)
    found = propose(str(made.files[0]), bare)
    pipeline = load(PipelineSource(name="p", origin="p.py", text=found.text))
    assert types(pipeline)["start_time"] == "timestamp[us]"
    assert found.name == "alarm"
    assert pipeline.matches == ["alarm-*-vn.csv*"]
    assert pipeline.folders == ("day",)
    assert "Candidate key: id;" in found.text
    assert '"value": [999991.0, 999999.0]' in found.text
    assert found.trial.rows["value"].max() < 1000
    assert_ingests(bare, made.files[0])


def test_a_month_of_flights(bare: Settings, tmp_path: Path) -> None:
    month = flight_months(tmp_path / "f").files[1]
    found = propose(str(month), bare)
    pipeline = load(PipelineSource(name="p", origin="p.py", text=found.text))
    assert pipeline.folders == ("day_of_data",), "the file has a column `day` of its own"
    assert 'isin(["EWR", "JFK", "LGA"])' in found.text
    assert types(pipeline)["dep_time"] == "int64"
    assert_ingests(bare, month)


def several(bare: Settings, folder: Path, files: dict[str, str | bytes], pattern: str) -> tuple[Proposal, Pipeline]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = propose(f"{folder}/{pattern}", bare)
    return found, load(PipelineSource(name="p", origin="p.py", text=found.text))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("n\n1\n2\n", "n\n0.5\n", {"n": "double"}),
        ("n\n1\n2\n", "n\nx\n", {"n": "string"}),
        ("n,e\n1,\n2,\n", "n,e\n1,7\n", {"n": "int64", "e": "int64"}),
        ("d\n24.12.2020\n", "d\n2020-12-24\n", {"d": "string"}),
        ("d\n01/02/2020\n", "d\n31/12/2020\n", {"d": "timestamp[us]"}),
        ("n\n1\n", "n,more\n2,3\n", {"n": "int64", "more": "int64"}),
        ("n;m\n1;2\n3;4\n", "n,m\n5,6\n7,8\n", {"n": "int64", "m": "int64"}),
        ("n,w\n1,ö\n", "n,w\n2,größe\n".encode("cp1252"), {"n": "int64", "w": "string"}),
    ],
    ids=["whole and not", "text", "empty", "time formats", "months first", "missing", "delimiters", "encodings"],
)
def test_types_are_those_of_all_files(bare: Settings, tmp_path: Path, first, second, expected) -> None:
    files = {"a-1.csv": first, "a-2.csv": second}
    found, pipeline = several(bare, tmp_path / "in", files, "*.csv")
    assert types(pipeline) == expected, found.text
    assert found.trial.tally.rejected == 0
    assert pipeline.matches == ["a-*.csv*"]
    assert "as 2 of them looked" in found.text
    for name in files:
        assert_takes(bare, found, tmp_path / "in" / name)


def assert_takes(bare: Settings, found: Proposal, path: Path) -> None:
    write(replace(found, name="taken"), bare, force=True)
    trial = try_pipeline("taken", str(path), bare)
    assert (trial.tally.rejected, trial.tally.rows_in > 0) == (0, True), trial.rules


def test_a_column_that_a_file_lacks_may_be_null(bare: Settings, tmp_path: Path) -> None:
    found, pipeline = several(bare, tmp_path / "in", {"a-1.csv": "n\n1\n", "a-2.csv": "n,more\n2,3\n"}, "*")
    assert pipeline.reader.optional == ("more",)  # type: ignore[attr-defined]
    assert '"more": pa.Column(nullable=True)' in found.text
    assert any("not in all files" in note and "more" in note for note in found.notes)
    lines, pipeline = several(bare, tmp_path / "json", {"a-1.jsonl": '{"n":1}\n', "a-2.jsonl": '{"m":[2]}\n'}, "*")
    assert types(pipeline) == {"n": "int64", "m": "extension<arrow.json>"}
    assert lines.trial.tally.accepted == 2


def test_limits_are_those_of_all_files_with_room_and_a_comment_says_of_how_many_rows(bare, tmp_path) -> None:
    numbers = [[i * 10 + n for n in (*range(10), 4)] for i in range(20)]
    files = {f"a-{i}.csv": "v\n" + "".join(f"{n}\n" for n in some) for i, some in enumerate(numbers)}
    found, _ = several(bare, tmp_path / "in", files, "a-*.csv")
    assert "# Limits from 88 rows of 8 files, with room on either side." in found.text
    assert "pa.Check.in_range(0, 300)" in found.text, "0 to 199 were seen"
    assert any("88 records of 8 of 20 files" in note for note in found.notes)
    assert found.trial.tally.rows_in == 88


def test_files_of_several_formats_are_refused(bare: Settings, tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match=r"several formats.*a\.csv, which Csv reads and b\.jsonl"):
        several(bare, tmp_path / "in", {"a.csv": "n,m\n1,2\n", "b.jsonl": '{"n":1}\n'}, "*")


def test_a_pipeline_is_tried_on_some_files_of_a_pattern(bare: Settings, tmp_path: Path) -> None:
    files = {"a-1.csv": "n\n1\n", "a-2.csv": "n\n2\n", "a-3.csv": "n\nx\n"}
    found, _ = several(bare, tmp_path / "in", files, "a-[12].csv")
    write(replace(found, name="tried"), bare)
    trial = try_pipeline("tried", f"{tmp_path}/in/*.csv", bare)
    assert (trial.tally.rows_in, trial.tally.rejected, trial.rules, trial.whole) == (3, 1, {"n:type": 1}, True)
    assert len(trial.rejects) == 1


def test_what_a_pipeline_of_the_same_name_pattern_exists_for_is_left_to_it(settings: Make, tmp_path: Path) -> None:
    made = alarm_files(tmp_path / "a", files=1, rows=50, dirty=0)
    assert "# matches: another pipeline takes files" in propose(str(made.files[0]), settings()).text


QUIRKS: dict[str, tuple[str, str | bytes, dict[str, str]]] = {
    "tabs": ("a.tsv", "n\tword\n1\tx\n2\ty\n", {"n": "int64", "word": "string"}),
    "semicolons and commas": ("a.csv", "n;v\n1;2,5\n2;3,5\n", {"n": "int64", "v": "string"}),
    "bars": ("a.txt", "n|v\n1|2.5\n2|3\n", {"n": "int64", "v": "double"}),
    "german days": ("a.csv", "d,n\n24.12.2020,1\n31.12.2020,2\n", {"d": "timestamp[us]", "n": "int64"}),
    "american days": ("a.csv", "d\n12/24/2020\n12/31/2020\n", {"d": "timestamp[us]"}),
    "days of two kinds": ("a.csv", "d,e\n24.12.2020,2020-12-24\n", {"d": "timestamp[us]", "e": "string"}),
    "leading zeros": ("a.csv", "zip,n\n01234,1\n98765,2\n", {"zip": "string", "n": "int64"}),
    "dashes for nothing": ("a.csv", "n,m\n1,-\n-,2\n3,4\n", {"n": "int64", "m": "int64"}),
    "NA for nothing": ("a.csv", "n,w\n1,NA\nNA,x\n", {"n": "int64", "w": "string"}),
    "truth": ("a.csv", "b\ntrue\nfalse\n", {"b": "bool"}),
    "an empty column": ("a.csv", "n,e\n1,\n2,\n", {"n": "int64", "e": "string"}),
    "lines within quotes": ("a.csv", 'n,w\n1,"two\nlines"\n2,"a ""b"", c"\n', {"n": "int64", "w": "string"}),
    "a mark at the start": ("a.csv", "\ufeffn,w\n1,ö\n", {"n": "int64", "w": "string"}),
    "cp1252": ("a.csv", "n,w\n1,Käse\n2,Überfluss\n3,größer\n".encode("cp1252"), {"n": "int64", "w": "string"}),
    "utf-16": ("a.csv", "n,w\n1,ö\n2,ü\n".encode("utf-16"), {"n": "int64", "w": "string"}),
    "carriage returns": ("a.csv", "n,w\r\n1,x\r\n2,y\r\n", {"n": "int64", "w": "string"}),
    "one column": ("a.csv", "n\n1\n2\n", {"n": "int64"}),
    "packed": ("a.csv.gz", gzip.compress(b"n,w\n1,x\n2,y\n"), {"n": "int64", "w": "string"}),
    "odd names": ("a.csv", 'a b,"c""d",é,class\n1,2,3,4\n', dict.fromkeys(["a b", 'c"d', "é", "class"], "int64")),
    "numbers too large": ("a.csv", "n\n12345678901234567890123\n1\n", {"n": "string"}),
    "not finite": ("a.csv", "x\ninf\n1.5\n", {"x": "string"}),
    "whole numbers beyond int64": ("a.csv", "n\n12345678901234567890\n1\n", {"n": "uint64"}),
    "codes with an E": ("a.csv", "n\n12E5\n47E3\n", {"n": "string"}),
    "telephone numbers": ("a.csv", "n\n+43123\n+43124\n", {"n": "string"}),
    "versions": ("a.csv", "n\n1.10\n1.100\n", {"n": "string"}),
    "prices": ("a.csv", "n\n12.70\n19.95\n3.00\n", {"n": "double"}),
    "times of day": ("a.csv", "t\n12:30:00\n", {"t": "string"}),
    "parts of a second": ("a.csv", "t\n2020-01-01 10:00:00.5\n", {"t": "timestamp[us]"}),
    "years of two digits": ("a.csv", "d\n31/12/19\n15/03/21\n", {"d": "timestamp[us]"}),
    "american years of two digits": ("a.csv", "d\n12/31/19\n", {"d": "timestamp[us]"}),
    "years of two and four digits": ("a.csv", "d\n31/12/2019\n15/03/21\n", {"d": "string"}),
    "a month by name": ("a.csv", "d\n31-Dec-19\n", {"d": "timestamp[us]"}),
    "day or month first": ("a.csv", "d\n03/04/2021\n", {"d": "string"}),
    "several zones": ("a.csv", "t\n2020-01-01T10:00:00+02:00\n2020-07-01T10:00:00+01:00\n", {"t": "string"}),
    "a strand": ("a.csv", "s,n\n-,1\n+,-\n-,3\n", {"s": "string", "n": "int64"}),
    "long numbers in json": ("a.jsonl", '{"n":12345678901234567890}\n{"n":1}\n', {"n": "uint64"}),
    "longer ones": ("a.jsonl", '{"n":21602730330000060100100000358582}\n', {"n": "extension<arrow.json>"}),
    "times with a zone": ("a.csv", "t\n2020-01-01T10:00:00Z\n", {"t": "timestamp[us, tz=UTC]"}),
    "json": ("a.jsonl", '{"w":"x","f":1.5}\n{"w":null,"f":2}\n', {"w": "string", "f": "double"}),
    "nested json": ("a.jsonl", '{"n":1,"s":{"k":[1]}}\n{"n":2}\n', {"n": "int64", "s": "extension<arrow.json>"}),
    "mixed json": ("a.jsonl", '{"n":1}\n{"n":"x"}\n', {"n": "extension<arrow.json>"}),
    "times in json": ("a.json", '{"t":"2020-01-01T10:00:00"}\n', {"t": "timestamp[us]"}),
    "numbers as text in json": ("a.jsonl", '{"t":"12"}\n{"t":"13"}\n', {"t": "string"}),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirky_files(bare: Settings, tmp_path: Path, quirk: str) -> None:
    name, content, expected = QUIRKS[quirk]
    found, pipeline = look(bare, tmp_path / name, content)
    assert types(pipeline) == expected, found.text
    assert found.trial.tally.rejected == 0
    assert_ingests(bare, tmp_path / name)


def test_parquet_files(bare: Settings, tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2], "t": pa.array([1, None], pa.timestamp("us", "UTC")), "w": ["x", "y"]})
    for name, more in (("plain", table), ("nested", table.append_column("l", pa.array([[1], [2]])))):
        pq.write_table(more, tmp_path / f"{name}.parquet")
        found = propose(str(tmp_path / f"{name}.parquet"), bare)
        assert ("columns=" in found.text) == (name == "plain"), "nested types have no short names"
        assert_ingests(bare, tmp_path / f"{name}.parquet")


def test_files_without_columns_get_the_reader_of_their_suffix(bare: Settings, tmp_path: Path) -> None:
    found, pipeline = look(bare, tmp_path / "story.txt", "Once upon a time.\n\nThe end.\n")
    assert type(pipeline.reader).__name__ == "Text"
    assert found.trial.tally.accepted == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "empty file"),
        ("a.csv", b"PK\x03\x04" + bytes(50), "ZIP"),
        ("a.xyz", b"no columns here\n", "format known by its suffix"),
        ("a.json", b"3\n", "no proposal that takes all of this file: 1 of 1"),
        ("a.zip", b"PK\x05\x06" + bytes(18), r"Archive\(reader="),
        ("a.tar.gz", gzip.compress(bytes(512)), r"Archive\(reader="),
        ("a.csv.gz", gzip.compress(b"n\n1\n")[:-9], "truncated"),
        ("a.parquet", b"PAR1 no", "a whole, plain Parquet file"),
    ],
)
def test_what_is_no_table_is_refused_in_clear_words(bare: Settings, tmp_path: Path, name, content, says) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TerminalError, match=says):
        propose(str(tmp_path / name), bare)


def test_a_broken_record_is_told_and_the_others_are_proposed_for(bare: Settings, tmp_path: Path) -> None:
    found, _ = look(bare, tmp_path / "a.csv", "n,w\n1,x\n2\n3,z\n")
    assert found.trial.rules == {"columns": 1}
    assert any("records are broken" in note for note in found.notes)


def test_that_only_the_beginning_was_looked_at_is_said(bare: Settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ingestlab.engine.scaffold.propose.MOST", 4096)
    table = pa.table({"a": range(4000), "b": ["x"] * 2000 + ["y"] * 2000})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    assert any("only the first 1,000 records" in note for note in propose(str(tmp_path / "a.parquet"), bare).notes)
    monkeypatch.undo()
    assert not propose(str(tmp_path / "a.parquet"), bare).notes


def test_what_stays_text_for_doubt_is_said(bare: Settings, tmp_path: Path) -> None:
    found, _ = look(
        bare, tmp_path / "a.csv", "d,t\n03/04/2021,2020-01-01T10:00:00Z\n05/06/2021,2020-01-01T10:00:00+01:00\n"
    )
    assert any("%d/%m/%Y and %m/%d/%Y" in note for note in found.notes)
    assert any("several zones" in note for note in found.notes)


def test_years_of_two_digits_are_of_their_century(bare: Settings, tmp_path: Path) -> None:
    found, pipeline = look(bare, tmp_path / "a.csv", "d,v\n31/12/19,1\n15/03/21,2\n")
    assert pipeline.reader.timestamp_format == "%d/%m/%y"  # type: ignore[attr-defined]
    assert [day.year for day in found.trial.rows["d"]] == [2019, 2021]


def test_a_dash_is_null_in_numbers_alone(bare: Settings, tmp_path: Path) -> None:
    found, _ = look(bare, tmp_path / "a.csv", "strand,score\n-,1\n+,-\n-,3\n")
    assert found.trial.rows["strand"].tolist() == ["-", "+", "-"]
    assert found.trial.rows["score"].isna().tolist() == [False, True, False]


def test_a_log_is_no_table(bare: Settings, tmp_path: Path) -> None:
    lines = "".join(f"2024-01-01 10:00:{i:02d},123 INFO a, b{', c' * (i % 4)}\n" for i in range(60))
    found, pipeline = look(bare, tmp_path / "app.log", lines)
    assert type(pipeline.reader).__name__ == "Lines"
    assert found.trial.tally.rejected == 0


def test_what_no_proposal_takes_is_refused(bare: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1\n2,3,4\n" * 20 + "5,6\n")
    with pytest.raises(TerminalError, match="no proposal that takes all of this file: 40 of 41"):
        propose(str(tmp_path / "a.csv"), bare)


def test_a_key_is_no_float(bare: Settings, tmp_path: Path) -> None:
    found, _ = look(bare, tmp_path / "a.csv", "id,w\n" + "".join(f"{i}.5,x\n" for i in range(30)))
    assert "Candidate key" not in found.text


def test_a_file_name_cannot_leave_its_place_in_the_text(bare: Settings, tmp_path: Path) -> None:
    name = 'a"""; import os; os.mkdir("x"); """.csv'
    _, pipeline = look(bare, tmp_path / name, '"q"""\n1\n2\n')
    assert types(pipeline) == {'q"': "int64"}
    assert not Path("x").exists()
    assert pipeline.description == f"Files like {name}"


def test_a_pipeline_is_not_overwritten_unasked(bare: Settings, tmp_path: Path) -> None:
    found, _ = look(bare, tmp_path / "a.csv", "n\n1\n")
    path = write(found, bare)
    path.write_text("mine")
    with pytest.raises(TerminalError, match="which is there"):
        write(found, bare)
    assert path.read_text() == "mine"
    write(found, bare, force=True)
    assert path.read_text() == found.text


@pytest.mark.parametrize("name", ["../x", "_x", "", "a/b"])
def test_names_that_lead_elsewhere_are_refused(bare: Settings, tmp_path: Path, name: str) -> None:
    found, _ = look(bare, tmp_path / "a.csv", "n\n1\n")
    with pytest.raises(TerminalError, match="a pipeline name"):
        write(Proposal(name, found.text, found.trial, ()), bare)


CELLS = st.sampled_from(
    [
        *["", "NA", "-", "1", "-2", "007", "2.5", "1e5", "nan", "999999", "true", "x", 'a "b"', "a,b", "two\nlines"],
        *["2020-01-01", "2020-01-01 10:00:00", "31.12.2020", "01/02/2020", "10:00", "0x1F", "inf", " 3", "{}", "\\N"],
    ]
)


@tuned(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS, st.integers(0, 5).map(str)), min_size=1, max_size=8), data=st.data())
def test_whatever_the_cells_the_file_is_ingested(bare: Settings, tmp_path: Path, rows: list[Any], data) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=data.draw(st.sampled_from(",;\t"))).writerows([("a", "b", "n"), *rows])
    found, _ = look(bare, tmp_path / "a.csv", sink.getvalue())
    assert (found.trial.tally.rows_in, found.trial.tally.rejected) == (len(rows), 0), found.text


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.just("2020-01-01"),
    st.dictionaries(st.just("x"), st.integers(0, 3)),
)


@tuned(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES}), min_size=1, max_size=8))
def test_whatever_the_json_the_file_is_ingested(bare: Settings, tmp_path: Path, rows: list[Any]) -> None:
    found, _ = look(bare, tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert (found.trial.tally.rows_in, found.trial.tally.rejected) == (len(rows), 0), found.text


def test_the_commands(cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    (tmp_path / "hours-01.csv").write_text("n,word\n1,x\n2,y\n")
    env = {"INGESTLAB_PIPELINES": str(tmp_path / "mine")}
    shown = cli("check", "hours-01.csv", **env)
    assert shown.returncode == 0, shown.stderr
    assert "PIPELINE = Pipeline(" in shown.stdout
    assert "2 rows in, 2 accepted, 0 rejected" in shown.stdout
    assert "ingestlab new hours --from hours-01.csv" in shown.stdout
    made = cli("new", "hours", "--from", "hours-01.csv", **env)
    assert made.returncode == 0, made.stderr
    tried = cli("check", "hours", "hours-01.csv", **env)
    assert "2 rows in, 2 accepted, 0 rejected" in tried.stdout
    again = cli("new", "hours", "--from", "hours-01.csv", **env)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert cli("new", "hours", "--from", "hours-01.csv", "--force", **env).returncode == 0
    missing = cli("check", "hours", **env)
    assert missing.returncode == 2
    assert "no file" in missing.stderr


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_document(bare: Settings, tmp_path: Path, indent: int | None) -> None:
    text = json.dumps([{"id": i, "tags": ["a"]} for i in range(20)], indent=indent)
    _, pipeline = look(bare, tmp_path / "in" / "doc.json", text)
    assert types(pipeline) == {"id": "int64", "tags": "extension<arrow.json>"}
    assert_ingests(bare, tmp_path / "in" / "doc.json")
