"""Rows that make a pipeline's own code raise, and code that is broken for all rows."""

from __future__ import annotations

from typing import Any

from harness import Case

READER = 'Csv(columns={"id": "int64", "v": "string"})'
BASE = "class Panic(BaseException): pass\n"
WITH = "def clean(df): return df.assign(w=df['v'].map(work))\n"
POLARS = "import polars as pl\n"
CONTRACT = "import pandera.pandas as pa\n"


def _data(*values: str) -> bytes:
    return b"id,v\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)).encode()


def _bad(name: str, work: str, rule: str, bad: str = "x", w: Any = 1, good: str = "1") -> Case:
    """A file of six rows whose fourth makes a function of one value raise."""
    return Case(
        name=f"usercode_{name}",
        file="a.csv",
        data=_data(good, good, good, bad, good, good),
        reader=READER,
        code=f"{BASE}{work}\n{WITH}",
        options="clean=clean",
        rows={"id": [0, 1, 2, 4, 5], "v": [good] * 5, "w": [w] * 5},
        rejects=[(3, f"clean:{rule}")],
    )


def _raising(name: str, what: str, rule: str) -> Case:
    return _bad(name, f"def work(v):\n    if v == 'x': raise {what}\n    return int(v)", rule)


CASES = [
    _bad("int_of_text", "work = int", "ValueError"),
    _bad("float_of_text", "work = float", "ValueError", w=1.0),
    _bad("key_of_map", "def work(v): return {'1': 7}[v]", "KeyError", w=7),
    _bad("division", "def work(v): return 6 // int(v)", "ZeroDivisionError", bad="0", w=6),
    _bad("index", "def work(v): return v.split('-')[1]", "IndexError", good="a-b", w="b"),
    _bad("json", "import json\ndef work(v): return json.loads(v)", "JSONDecodeError", bad="{"),
    _bad("attribute", "import re\ndef work(v): return re.match('[0-9]+', v).group()", "AttributeError", w="1"),
    _bad("decimal", "import decimal\ndef work(v): return int(decimal.Decimal(v))", "InvalidOperation"),
    _bad(
        "date",
        "import datetime\ndef work(v): return datetime.date.fromisoformat(v).year",
        "ValueError",
        good="2020-01-02",
        w=2020,
    ),
    _bad(
        "base64",
        "import base64\ndef work(v): return len(base64.b64decode(v, validate=True))",
        "Error",
        good="YQ==",
        bad="YQ=",
    ),
    _bad("recursion", "def work(v): return work(v) if v == 'x' else int(v)", "RecursionError"),
    _raising("assertion", "AssertionError('no x')", "AssertionError"),
    _raising("exit", "SystemExit(2)", "SystemExit"),
    _raising("panic", "Panic('index out of bounds')", "Panic"),
    _raising("memory", "MemoryError", "MemoryError"),
    _raising("generator_exit", "GeneratorExit", "GeneratorExit"),
    _raising("keyboard_interrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
    _raising("stop_iteration", "StopIteration", "StopIteration"),
    Case(
        name="usercode_rows_compared",
        file="a.csv",
        data=_data("1", "x", "3", "4", "2"),
        reader=READER,
        code="def clean(df): return df.assign(share=df['v'].map(int) / df['v'].map(int).sum())",
        options="clean=clean",
        rows={"id": [0, 2, 3, 4], "v": ["1", "3", "4", "2"], "share": [0.1, 0.3, 0.4, 0.2]},
        rejects=[(1, "clean:ValueError")],
    ),
    Case(
        name="usercode_polars",
        file="a.csv",
        data=_data("1", "2", "3", "x", "5", "6"),
        reader=READER,
        code=f"{POLARS}def clean(df: pl.DataFrame): return df.with_columns(n=pl.col('v').str.to_integer())",
        options="clean=clean",
        rows={"id": [0, 1, 2, 4, 5], "v": ["1", "2", "3", "5", "6"], "n": [1, 2, 3, 5, 6]},
        rejects=[(3, "clean:ComputeError")],
    ),
    Case(
        name="usercode_broken",
        file="a.csv",
        data=_data(*"123456"),
        reader=READER,
        code="def clean(df): return df.assign(w=df['nothing'])",
        options="clean=clean",
        error=["KeyError: 'nothing'", "every row that was tried by itself fails"],
    ),
    Case(
        name="usercode_together",
        file="a.csv",
        data=_data(*"123425"),
        reader=READER,
        code="def clean(df):\n    assert df['v'].is_unique, 'keys twice'\n    return df",
        options="clean=clean",
        error=["AssertionError: keys twice", "together"],
    ),
    Case(
        name="usercode_check",
        file="a.csv",
        data=_data("1", "2", "3", "x", "5", "6"),
        reader=READER,
        code=f"{CONTRACT}def positive(s): return s.map(lambda v: int(v) > 0)\n"
        "schema = pa.DataFrameSchema({'v': pa.Column(checks=pa.Check(positive))})",
        options="contract=schema",
        rows={"id": [0, 1, 2, 4, 5], "v": ["1", "2", "3", "5", "6"]},
        rejects=[(3, "v:check:positive:ValueError")],
    ),
    Case(
        name="usercode_check_panics",
        file="a.csv",
        data=_data("1", "2", "3", "x", "5", "6"),
        reader=READER,
        code=f"{CONTRACT}{BASE}def calm(v):\n    if v == 'x': raise Panic('no')\n    return True\n"
        "schema = pa.DataFrameSchema({'v': pa.Column(checks=pa.Check(calm, element_wise=True))})",
        options="contract=schema",
        rows={"id": [0, 1, 2, 4, 5], "v": ["1", "2", "3", "5", "6"]},
        rejects=[(3, "check:Panic")],
    ),
    Case(
        name="usercode_pipeline_exits",
        file="a.csv",
        data=_data("1"),
        reader=READER,
        code=f"{BASE}raise Panic('while it is loaded')",
        error=["Panic", "while it is loaded"],
    ),
]
