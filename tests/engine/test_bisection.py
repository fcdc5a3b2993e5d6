"""Rows that make user code raise: found, rejected, and nothing else is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestlab.core.errors import JobStoppedError, TerminalError
from ingestlab.core.models import Piece
from ingestlab.engine.task.culprits import CALLS, PROBES, ROWS_A_CALL, Fault, NoRowError, bisect_rows
from ingestlab.engine.task.frames import Loaded
from ingestlab.engine.task.process import Job
from ingestlab.engine.task.rows import Result, pass_gate
from ingestlab.formats.csv.reader import Csv
from ingestlab.interfaces import Records
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.pipeline.pipeline import Pipeline

READER = Csv(columns={"id": "int64", "v": "string"})


class Panic(BaseException):
    """As a library of another language raises where it has a fault."""


def loaded(values: list[str], uri: str = "mem://a.csv") -> Loaded:
    table = pa.table({"id": pa.array(range(len(values)), pa.int64()), "v": pa.array(values, pa.string())})
    records = Records(table, np.arange(len(values), dtype=np.int64), raw=lambda rows: {r: values[r] for r in rows})
    return Loaded(Piece(uri=uri, path=uri, name=uri, sha256="0"), records)


def judge(values: list[str] | list[Loaded], **options: Any) -> tuple[list[Result], dict[str, Any]]:
    pipeline = Pipeline(reader=READER, **options).named("p")
    job = Job(
        run="run",
        batch="batch",
        tenant="default",
        table="p",
        pipeline=PipelineSource(name="p", origin="p.py", text=""),
        lake="lake",
    )
    found = [v if isinstance(v, Loaded) else None for v in values]
    pieces = [v for v in found if v] or [loaded(values)]  # type: ignore[arg-type]
    return pass_gate(pieces, pipeline, job)


def with_apply(work: Callable[[str], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(w=frame["v"].map(work).astype("str"))


class WordlessError(Exception):
    """An exception of other people's that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def is_wordless(value: str) -> str:
    if value == "x":
        raise WordlessError
    return value


def is_unprintable(value: str) -> str:
    if value == "x":
        raise ValueError("no \ud800")
    return value


def stops_the_job(value: str) -> str:
    if value == "x":
        raise JobStoppedError(TerminalError("a"))
    return value


def exits(value: str) -> str:
    if value == "x":
        raise SystemExit(3)
    return value


def panics(value: str) -> str:
    if value == "x":
        raise Panic("index out of bounds")
    return value


def closes(value: str) -> str:
    if value == "x":
        raise GeneratorExit
    return value


def digs(value: str) -> str:
    return digs(value) if value == "x" else value


def asserts(value: str) -> str:
    assert value != "x", "no x"
    return value


FAULTS = [
    (int, "x", "clean:ValueError", "invalid literal for int() with base 10: 'x'"),
    (json.loads, "{", "clean:JSONDecodeError", None),
    (lambda v: {"1": 1, "2": 2}[v], "x", "clean:KeyError", "'x'"),
    (lambda v: 1 / int(v), "0", "clean:ZeroDivisionError", None),
    (asserts, "x", "clean:AssertionError", None),
    (exits, "x", "clean:SystemExit", "3"),
    (panics, "x", "clean:Panic", "index out of bounds"),
    (closes, "x", "clean:GeneratorExit", None),
    (digs, "x", "clean:RecursionError", None),
    (is_wordless, "x", "clean:WordlessError", "(no text: RuntimeError)"),
    (is_unprintable, "x", "clean:ValueError", "no \\ud800"),
    (lambda v: pd.to_datetime(f"2020-01-0{v}", errors="raise"), "x", "clean:DateParseError", None),
]


@pytest.mark.parametrize(("work", "bad", "rule", "text"), FAULTS)
@pytest.mark.parametrize("places", [{0}, {17}, {99}, {3, 4, 70}])
def test_a_row_that_makes_clean_raise_is_rejected_with_its_reason_and_raw_text(work, bad, rule, text, places) -> None:
    values = [bad if i in places else "1" for i in range(100)]
    (result,), errors = judge(values, clean=with_apply(work))
    assert errors == {}
    assert set(result.rejects["row"].to_pylist()) == places
    assert set(result.rejects["rule"].to_pylist()) == {rule}
    assert set(result.rejects["raw"].to_pylist()) == {bad}
    assert set(result.table["_row"].to_pylist()) == set(range(100)) - places
    if text is not None:
        assert set(result.rejects["value"].to_pylist()) == {text}


def interrupts(value: str) -> str:
    if value == "x":
        raise KeyboardInterrupt
    return value


@pytest.mark.parametrize(("work", "rule"), [(interrupts, "KeyboardInterrupt"), (stops_the_job, "JobStoppedError")])
def test_what_raises_in_the_word_of_ctrl_c_or_cancel_is_a_reject_in_a_task(work, rule) -> None:
    found: list[Any] = []
    task = threading.Thread(target=lambda: found.append(judge([*"11x1111"], clean=with_apply(work))))
    task.start()
    task.join(30)
    ((result,), errors) = found[0]
    assert (errors, result.rejects["rule"].to_pylist()) == ({}, [f"clean:{rule}"])


def test_what_compares_rows_is_computed_without_those_that_go() -> None:
    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        numbers = frame["v"].map(int)
        return frame.assign(share=numbers / numbers.sum())

    (result,), errors = judge(["1", "x", "3", "4", "2"], clean=clean)
    assert errors == {}
    assert result.table["share"].to_pylist() == [0.1, 0.3, 0.4, 0.2]


def test_polars_frames_are_looked_through_alike() -> None:
    def clean(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(n=pl.col("v").str.to_integer())

    (result,), errors = judge(["1", "2", "x", "4", "5", "6"], clean=clean)
    assert (errors, result.rejects["row"].to_pylist()) == ({}, [2])
    assert result.table["n"].to_pylist() == [1, 2, 4, 5, 6]


def test_a_function_that_is_broken_fails_the_file_in_a_few_calls() -> None:
    calls = []

    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        calls.append(len(frame))
        return frame.assign(w=frame["nothing"])

    results, errors = judge(["1"] * 10_000, clean=clean)
    assert results == []
    (error,) = errors.values()
    assert "KeyError: 'nothing'" in str(error)
    assert "every row that was tried by itself fails" in str(error)
    assert len(calls) <= 1 + PROBES


def test_rows_that_fail_only_together_fail_the_file() -> None:
    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        assert frame["v"].is_unique, "keys twice"
        return frame

    results, errors = judge(["1", "2", "3", "2", "5"], clean=clean)
    (error,) = errors.values()
    assert results == []
    assert "AssertionError: keys twice" in str(error)
    assert "together" in str(error)


@pytest.mark.parametrize("size", [6, 40, 200])
@pytest.mark.parametrize("bad", [{3}, {1, 5}])
def test_rows_that_need_others_are_not_taken_for_bad_ones(size: int, bad: set[int]) -> None:
    """All rows look up what the first and the third one say."""

    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        known = dict(zip(frame["id"], frame["v"], strict=True))
        return frame.assign(w=[int(v) + int(known[0]) + int(known[2] if i > 3 else 0) for i, v in known.items()])

    (result,), errors = judge(["x" if i in bad else "1" for i in range(size)], clean=clean)
    assert errors == {}
    text = "invalid literal for int() with base 10: 'x'"
    assert {r["row"]: (r["rule"], r["value"]) for r in result.rejects.to_pylist()} == dict.fromkeys(
        bad, ("clean:ValueError", text)
    )
    assert len(result.table) == size - len(bad)


def test_too_many_bad_rows_fail_the_file_and_are_counted() -> None:
    calls = []

    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        calls.append(len(frame))
        return frame.assign(w=frame["v"].map(int))

    values = ["x" if i % 2 else "1" for i in range(10_000)]
    results, errors = judge(values, clean=clean)
    (error,) = errors.values()
    assert results == []
    assert "rows fail, too many" in str(error)
    assert len(calls) <= 2 + CALLS + 10_000 // ROWS_A_CALL
    assert sum(calls) < 60_000


def test_the_same_file_has_the_same_rejects_whoever_travels_with_it() -> None:
    bad, good, broken = ["1", "x", "3", "4", "5"], ["1", "2"], ["x"] * 9
    alone, _ = judge([loaded(bad)], clean=with_apply(int))
    files = [loaded(good, "mem://g.csv"), loaded(bad), loaded(broken, "mem://b.csv")]
    together, errors = judge(files, clean=with_apply(int))
    rejects = pa.concat_tables([r.rejects for r in together])
    assert rejects.equals(alone[0].rejects)
    assert list(errors) == ["mem://b.csv"]
    assert sum(r.table.num_rows for r in together) == 6


def loud(series: pd.Series[Any]) -> pd.Series[Any]:
    return series.map(lambda v: int(v) > 0)


CHECKS = [
    (pandera.Check(loud), "check:loud:ValueError", "v"),
    (pandera.Check(lambda v: int(v) > 0, element_wise=True, name="positive"), "check:positive:ValueError", "v"),
    (pandera.Check(lambda s: s.map(panics) != "", name="wild"), "check:Panic", None),
]


@pytest.mark.parametrize(("check", "rule", "column"), CHECKS)
def test_a_row_that_makes_a_check_raise_is_rejected(check, rule, column) -> None:
    contract = pandera.DataFrameSchema(
        {"v": pandera.Column(checks=check), "id": pandera.Column(checks=pandera.Check.ge(0))}
    )
    (result,), errors = judge(["1", "2", "x", "4", "5", "6"], contract=contract)
    assert errors == {}
    (reject,) = result.rejects.to_pylist()
    assert (reject["row"], reject["rule"], reject["column"], reject["raw"]) == (2, rule, column, "x")
    assert result.table["id"].to_pylist() == [0, 1, 3, 4, 5]


def test_rows_made_of_one_source_row_go_together_when_a_check_raises_for_one() -> None:
    def clean(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(v=frame["v"].astype(object).str.split(" ")).explode("v")

    contract = pandera.DataFrameSchema({"v": pandera.Column(checks=pandera.Check(loud))})
    (result,), errors = judge(["1 2", "3", "4 x 5", "6", "7", "8"], clean=clean, contract=contract)
    assert errors == {}
    assert result.rejects["row"].to_pylist() == [2]
    assert 2 not in result.table["_row"].to_pylist()


@given(st.integers(1, 400), st.sets(st.integers(0, 399), max_size=12))
def test_exactly_the_bad_places_are_found(size: int, bad: set[int]) -> None:
    bad = {place for place in bad if place < size}

    def fails(places: Any) -> Fault | None:
        return Fault("E") if bad & set(places.tolist()) else None

    if not bad:
        return
    try:
        assert set(bisect_rows(size, fails)) == bad
    except NoRowError:
        probes = {round(i) for i in np.linspace(0, size - 1, min(size, PROBES)).astype(int)}
        assert probes <= bad
