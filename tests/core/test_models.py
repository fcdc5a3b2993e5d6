"""What passes between stages, as versions before wrote it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ingestlab.core.models import DataFile, Manifest, Receipt, Staged, to_json

WHO = {"batch": "b", "run": "r", "tenant": "t", "table": "x", "pipeline": "p", "code": "c", "committed_at": "now"}
FILE = {"target": "a", "staged": "s", "rows": 1, "size": 2}


def test_fields_of_before_sinks_had_names_are_read():
    old = {"parts": [FILE], "rejects": [], "states": [], "vectors": [FILE], "collection": {"name": "words"}}
    manifest = Manifest.model_validate(WHO | old)
    assert manifest.sinks == {
        "parquet": Staged(files=(DataFile(**FILE),)),
        "milvus": Staged(files=(DataFile(**FILE),), note={"name": "words"}),
    }
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert Receipt.model_validate({"number": 0, "parts": [FILE]}).parts == manifest.parts


def test_what_an_old_commit_replaced_may_be_of_any_sink():
    old = {"parts": [], "rejects": [], "states": [], "vectors": [], "collection": None, "replaced": ["a"]}
    assert set(Manifest.model_validate(WHO | old).sinks) == {"parquet", "rejects", "aggregates", "milvus"}
    assert Manifest.model_validate(WHO | old | {"replaced": []}).sinks == {}


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None))


@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_plain_data_comes_back_from_json_even_halves_of_surrogate_pairs(data):
    assert json.loads(to_json(data)) == data
