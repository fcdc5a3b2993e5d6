"""Two states of a table compared: what came, went and changed, however many rows there are."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import World
from support.selection import examples

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.maintenance import diff as module
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.diff import diff
from ingestlab.maintenance.rewrite import rewrite

PIPELINE = """
from ingestlab import JsonLines, Pipeline
PIPELINE = Pipeline(reader=JsonLines(), table="things", write_disposition="replace")
"""


@pytest.fixture
def world(tmp_path, redis_url):
    made = World(tmp_path, redis_url, "replace")
    (tmp_path / "pipelines/things.py").write_text(PIPELINE)
    (tmp_path / "sources").mkdir()
    return made


def put(world, run, name, *rows) -> None:
    path = world.folder / f"sources/{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = IngestRequest(run=run, pipeline="things", sources=(Source(uri=path.as_uri()),))
    assert [o.status for o in ingest(request, world.context(), lambda _: None).outcomes] == ["committed"]


def counts(found) -> tuple[int, int, int]:
    return found.came, found.went, found.changed


def test_rows_came_went_and_changed(world):
    put(world, "r1", "a", {"id": 1, "v": "x", "l": [1]}, {"id": 2, "v": None, "l": []}, {"id": 3, "v": "z", "l": None})
    put(world, "r2", "b", {"id": 9, "v": "same", "l": None})
    put(world, "r3", "a", {"id": 3, "v": "z", "l": None}, {"id": 1, "v": "y", "l": [1]}, {"id": 4, "v": "n", "l": [2]})
    plain = diff("things", "r2", None, world.settings)
    assert counts(plain) == (2, 2, 0)
    keyed = diff("things", "r2", "r3", world.settings, key=["id"])
    assert counts(keyed) == (1, 1, 1)
    assert str(keyed) == "things: 1 row came, 1 went, 1 changed by id"
    rows = json.loads(keyed.to_json())["rows"]
    assert rows[0] == {"change": "came", "id": 4, "v": "n", "l": "[2]"}
    assert [tuple(row.values()) for row in rows[1:]] == [
        ("went", 2, None, "[]"),
        ("before", 1, "x", "[1]"),
        ("after", 1, "y", "[1]"),
    ]
    assert not keyed.more
    assert diff("things", "r2", "r3", world.settings, limit=1).more
    assert counts(diff("things", "r3", "r3", world.settings)) == (0, 0, 0)
    compact("things", world.context())
    assert counts(diff("things", "r3", None, world.settings)) == (0, 0, 0)
    with pytest.raises(TerminalError, match="no column 'di'") as raised:
        diff("things", "r2", None, world.settings, key=["di"])
    assert raised.value.code == "column_unknown"


def test_a_table_without_rows_has_no_differences(world):
    put(world, "r1", "a", {"id": 1})
    delete((world.folder / "sources/a.jsonl").as_uri(), world.context())
    compact("things", world.context())
    assert counts(diff("things", 2, None, world.settings, key=["id"])) == (0, 0, 0)
    assert counts(diff("things", 1, None, world.settings, key=["id"])) == (0, 1, 0)


def test_other_types_and_columns_are_compared_by_value(world):
    put(world, "r1", "a", {"id": 1, "v": None}, {"id": 2, "v": None})
    rewrite("things", world.context(), types={"id": "double"})
    assert counts(diff("things", "r1", None, world.settings)) == (0, 0, 0)
    put(world, "r2", "a", {"id": 1, "v": "x"}, {"id": 2, "v": None})
    assert counts(diff("things", "r1", "r2", world.settings, key=["id"])) == (0, 0, 1)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None])), min_size=1, max_size=12)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=ROWS, new=ROWS, size=st.sampled_from([1, 4, 100]))
def test_counts_are_those_of_multisets(tmp_path_factory, redis_url, old, new, size):
    """Also when the rows are cut into many pieces."""
    world = World(tmp_path_factory.mktemp("diff"), redis_url, "replace")
    (world.folder / "pipelines/things.py").write_text(PIPELINE)
    (world.folder / "sources").mkdir()
    put(world, "r1", "a", *({"id": key, "v": value} for key, value in old))
    put(world, "r2", "a", *({"id": key, "v": value} for key, value in [*new, (99, "last")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", size)
        plain = diff("things", "r1", "r2", world.settings)
        keyed = diff("things", "r1", "r2", world.settings, key=["id"])
    came, went = Counter([*new, (99, "last")]) - Counter(old), Counter(old) - Counter([*new, (99, "last")])
    assert counts(plain) == (came.total(), went.total(), 0)
    by_key = [Counter(key for key, _ in side.elements()) for side in (came, went)]
    changed = (by_key[0] & by_key[1]).total()
    assert counts(keyed) == (came.total() - changed, went.total() - changed, changed)
