"""What a search asks of columns: null, and all values that come out of frames, in every store."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.vector_world import ALL, DIM, FULL, model, rows

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus.filters import allowed
from ingestlab.sinks.milvus.memory import MemoryVectors
from ingestlab.sinks.milvus.vector_filters import wishes
from ingestlab.sinks.milvus.vector_values import Collection, Column
from ingestlab.sinks.milvus.vectors import open_vectors

KINDS = ["memory", "lite"]
if FULL in os.environ:
    KINDS.append(pytest.param("full", marks=pytest.mark.milvus))

ID = "12345678-1234-5678-1234-567812345678"
VIENNA = timezone(timedelta(hours=1))
COLUMNS = {
    "name": pa.array(["a", None, "c", ""]),
    "n": pa.array([1, None, 2**53 + 1, -4], pa.int64()),
    "mark": pa.array([0.5, None, float("nan"), 1e22], pa.float64()),
    "new": pa.array([True, None, False, True]),
    "day": pa.array([date(2024, 1, 2), None, date(2024, 2, 29), date(1900, 1, 1)]),
    "at": pa.array([datetime(2024, 1, 2, 3, 4, 5, 6, UTC), None, datetime(2024, 1, 2, tzinfo=UTC), None]),
    "local": pa.array([datetime(2024, 1, 2, 3, 4, 5, 6), None, datetime(2024, 1, 2), None]),
    "clock": pa.array([time(3, 4), None, time(3, 4, 5), time(0)], pa.time64("us")),
    "price": pa.array([Decimal("1.10"), None, Decimal("2.50"), Decimal("-3.00")], pa.decimal128(9, 2)),
    "id": pa.array([ID, None, "x", ""]),
}


class Word(Enum):
    A = "a"


@pytest.fixture(scope="module", params=KINDS)
def find(request):
    """The rows that pass a filter, of four rows."""
    if request.param == "memory":
        store = MemoryVectors()
    else:
        url = request.getfixturevalue("milvus_lite").url if request.param == "lite" else os.environ[FULL]
        store = open_vectors(Settings(milvus_uri=url, milvus_token=os.environ.get(f"{FULL}_TOKEN")))
    payload = tuple(Column.of(pa.field(name, values.type)) for name, values in COLUMNS.items())
    made = Collection(name=f"f_{uuid.uuid4().hex[:8]}", fingerprint=model(), payload=payload)
    store.ensure(made)
    store.upsert(made.name, rows(range(4), **COLUMNS))

    def find(only, where=ALL):
        (hits,) = store.search(made.name, np.ones((1, DIM), np.float32), limit=10, where=where, only=only)
        return sorted(values["row"] for _, _, values, _ in hits)

    find.made = made
    find.rows = lambda: store.search(made.name, np.ones((1, DIM), np.float32), limit=10, where=ALL)[0]
    yield find
    store.drop(store.resolve(made.name))
    store.close()


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ({"name": None}, [1]),
        ({"name": pd.NA}, [1]),
        ({"at": pd.NaT}, [1, 3]),
        ({"mark": float("nan")}, [1, 2]),
        ({"mark": np.nan}, [1, 2]),
        ({"new": None}, [1]),
        ({"price": Decimal("NaN")}, [1]),
        ({"day": np.datetime64("NaT")}, [1]),
        ({"source": None}, []),
        ({"name": ["a", None]}, [0, 1]),
        ({"n": [1, None]}, [0, 1]),
        ({"n": [None]}, [1]),
        ({"n": []}, []),
        ({"name": None, "n": None}, [1]),
        ({"name": None, "n": 1}, []),
        ({"name": ""}, [3]),
    ],
    ids=str,
)
def test_what_stands_for_no_value_is_null(find, only, found):
    assert find(only) == found


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ({"n": np.int64(1)}, [0]),
        ({"n": np.uint8(1)}, [0]),
        ({"n": np.array([1, -4])}, [0, 3]),
        ({"n": np.array(1)}, [0]),
        ({"n": pd.Series([1, None], dtype="Int64")}, [0, 1]),
        ({"n": pd.Index([1.0, -4.0])}, [0, 3]),
        ({"n": {1, -4}}, [0, 3]),
        ({"n": range(2)}, [0]),
        ({"n": {1: "", -4: ""}.keys()}, [0, 3]),
        ({"n": pa.array([1, None])}, [0, 1]),
        ({"n": pa.scalar(1)}, [0]),
        ({"n": 2**53 + 1}, [2]),
        ({"n": float(2**53)}, []),
        ({"n": 1.5}, []),
        ({"n": 2**64}, []),
        ({"n": Decimal(1)}, [0]),
        ({"mark": np.float32(0.5)}, [0]),
        ({"mark": 1e22}, [3]),
        ({"mark": 10**22}, [3]),
        ({"mark": float("inf")}, []),
        ({"new": np.True_}, [0, 3]),
        ({"new": [True, None]}, [0, 1, 3]),
        ({"name": np.str_("a")}, [0]),
        ({"name": np.array(["a", "c"])}, [0, 2]),
        ({"name": pd.Categorical(["a", None])}, [0, 1]),
        ({"name": Word.A}, [0]),
        ({"name": "half \ud800"}, []),
        ({"price": Decimal("1.1")}, [0]),
        ({"price": [Decimal("2.5"), -3]}, [2, 3]),
        ({"id": uuid.UUID(ID)}, [0]),
        ({"id": ID}, [0]),
    ],
    ids=lambda value: str(value).split(" object at ")[0],  # an address would be another one in each process
)
def test_values_of_numpy_pandas_and_arrow_are_pythons(find, only, found):
    assert find(only) == found


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ({"day": date(2024, 1, 2)}, [0]),
        ({"day": [date(1900, 1, 1), "2024-02-29"]}, [2, 3]),
        ({"day": pd.Timestamp("2024-01-02")}, [0]),
        ({"day": np.datetime64("2024-01-02")}, [0]),
        ({"day": np.array(["2024-01-02"], "datetime64[D]")}, [0]),
        ({"at": datetime(2024, 1, 2, 3, 4, 5, 6, UTC)}, [0]),
        ({"at": datetime(2024, 1, 2, 4, 4, 5, 6, VIENNA)}, [0]),
        ({"at": datetime(2024, 1, 2, 3, 4, 5, 6)}, [0]),
        ({"at": pd.Timestamp("2024-01-02 04:04:05.000006", tz="Europe/Vienna")}, [0]),
        ({"at": pd.to_datetime(pd.Series(["2024-01-02T00:00Z"]))}, [2]),
        ({"at": date(2024, 1, 2)}, [2]),
        ({"local": datetime(2024, 1, 2, 3, 4, 5, 6)}, [0]),
        ({"local": pd.Timestamp("2024-01-02 03:04:05.000006")}, [0]),
        ({"local": [date(2024, 1, 2), None]}, [1, 2, 3]),
        ({"local": datetime(2024, 1, 2, tzinfo=UTC)}, []),
        ({"clock": time(3, 4)}, [0]),
        ({"clock": [time(3, 4, 5), time(0)]}, [2, 3]),
    ],
    ids=str,
)
def test_times_are_asked_for_as_payload_has_them(find, only, found):
    assert find(only) == found


@pytest.mark.parametrize("column", COLUMNS)
def test_what_comes_out_goes_in_again(find, column):
    values = {fields["row"]: fields[column] for _, _, fields, _ in find.rows()}
    for value in values.values():
        same = sorted(row for row, other in values.items() if other == value)
        assert find({column: value}) == same
        assert find({column: [value]}) == same
    frame = pa.table({column: list(values.values())}).to_pandas(types_mapper=pd.ArrowDtype)
    assert find({column: frame[column]}) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ({"n": "1"}, "int values for the filter on 'n'; got str '1'"),
        ({"n": True}, "int values for the filter on 'n'; got bool True"),
        ({"name": 1}, "text values for the filter on 'name'; got int 1"),
        ({"name": b"a"}, "text values for the filter on 'name'; got bytes"),
        ({"new": 1}, "bool values for the filter on 'new'; got int 1"),
        ({"day": timedelta(1)}, "text values for the filter on 'day'; got timedelta"),
        ({"mark": {"a": 1}}, "float values for the filter on 'mark'; got dict"),
        ({"n": [[1]]}, "int values for the filter on 'n'; got list"),
        ({"colour": None}, "filter on 'colour'"),
    ],
    ids=str,
)
def test_what_no_row_could_have_is_refused_by_name(find, only, words):
    with pytest.raises(TerminalError) as caught:
        find(only)
    assert words in str(caught.value)


def test_a_server_without_null_refuses_to_look_for_it():
    made = Collection(name="f", fingerprint=model(), payload=(Column(name="name"), Column(name="n", kind="int")))
    assert allowed({"name": [None, "a"]}, made, nullable=True) == '(name == "a" or name is null)'
    assert allowed({"name": "a", "source": None}, made, nullable=False) == 'name == "a" and (row < 0 and row > 0)'
    with pytest.raises(TerminalError, match=r"a server that has null, for the filter on 'n'.*Milvus 2\.5"):
        allowed({"name": "a", "n": [1, None]}, made, nullable=False)


def test_a_value_is_asked_for_once():
    made = Collection(name="f", fingerprint=model(), payload=(Column(name="n", kind="int"),))
    assert wishes({"n": np.array([1.0, 1, 2, np.nan])}, made)["n"].forms == (1, 2)
