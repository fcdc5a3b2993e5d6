"""Masked columns: no value of them is anywhere but in the downloaded file."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestlab import Csv, Pipeline
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.pipeline.mask import is_masked

SECRET = "zebra"  # in every value that must not be seen
PIPELINE = """
from ingestlab import {reader}, Pipeline
import pandera.pandas as pa
import pandas as pd

def clean(df):
    assert "name" not in df.columns
    if (df["n"] == 99).any():
        raise ValueError("bad: " + df.to_csv())
    return df

class Contract(pa.DataFrameModel):
    n: int = pa.Field(le=1000)

PIPELINE = Pipeline(
    reader={made}, clean=clean, contract=Contract, matches=["people-*"], table="people",
    mask={{"email": "hash", "name": "drop"}},
)
"""
CSV = """id,n,email,name
1,1,ann.zebra@example.org,Ann zebra
2,2,bob.zebra@example.org,Bob zebra
3,1001,ann.zebra@example.org,Ann zebra
4,three,cat.zebra@example.org,Cat zebra
5,5,,Dan zebra
6,6,eve.zebra@example.org,Eve zebra,zebra too many
"""


@pytest.fixture
def base(settings: Callable[..., Settings], redis_url: str, tmp_path: Path) -> Settings:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    declared = '{"id": "int64", "n": "int64", "email": "string", "name": "string"}'
    (folder / "people.py").write_text(PIPELINE.format(reader="Csv", made=f"Csv(columns={declared})"))
    return settings(redis_url=redis_url, pipelines=(str(folder),), executor="threads", tenants=("default", "acme"))


def bring(base: Settings, path: Path, tenant: str = "default") -> IngestResult:
    request = IngestRequest(run="r1", tenant=tenant, pipeline="people", sources=(Source(uri=str(path)),))
    with Services.opened(base) as services:
        return ingest(request, services, lambda _: None)


def everything(lake: Path) -> list[str]:
    """The texts of all that the lake has, but for the downloaded files."""
    found = []
    for path in lake.rglob("*"):
        if path.is_file() and "raw" not in path.relative_to(lake).parts:
            text = path.read_bytes().decode(errors="replace")
            if path.suffix == ".parquet":
                text += str(pq.read_table(path).to_pylist())
            found.append(text)
    return found


def test_no_value_of_a_masked_column_is_kept(base: Settings, tmp_path: Path) -> None:
    file = tmp_path / f"people-{secrets.token_hex(4)}.csv"
    file.write_text(CSV)
    result = bring(base, file)
    assert [o.status for o in result.outcomes] == ["committed"]
    lake = Lake(base)
    rows = lake.table("people").pandas().sort_values("id")
    assert "name" not in rows.columns
    assert rows["id"].tolist() == [1, 2, 5]
    ann, bob, none = rows["email"].tolist()
    assert len(ann) == len(bob) == 32
    assert ann != bob
    assert pd.isna(none)
    rejects = lake.rejects("people")
    assert len(rejects) == 3
    assert rejects["raw"].isna().all()
    assert SECRET not in rejects.to_csv()
    texts = everything(Path(base.lake_url))
    assert len(texts) > 3
    assert not [text for text in texts if SECRET in text.replace(str(file), "")]
    assert any(SECRET in path.read_text() for path in Path(base.lake_url, "raw").rglob("*") if path.is_file())
    again = tmp_path / f"people-{secrets.token_hex(4)}.csv"
    again.write_text("id,n,email,name\n7,7,ann.zebra@example.org,x\n")
    bring(base, again)
    bring(base, again, "acme")
    mine = lake.table("people").pandas().set_index("id")["email"]
    assert mine[7] == ann  # the same value of a tenant is the same text
    assert Lake(base, "acme").table("people").pandas()["email"].tolist() != [ann]  # of another it is not


def test_errors_and_dry_runs_quote_no_value(base: Settings, tmp_path: Path) -> None:
    bad = tmp_path / f"people-{secrets.token_hex(4)}.csv"
    bad.write_text("id,n,email,name\n1,99,ann.zebra@example.org,Ann zebra\n")
    (outcome,) = bring(base, bad).outcomes
    assert outcome.status == "failed"
    assert SECRET not in str(outcome.error)
    other = tmp_path / f"people-{secrets.token_hex(4)}.csv"
    other.write_text("id,n,zebra_mail,name\n1,1,zebra,zebra\n")
    (outcome,) = bring(base, other).outcomes
    assert outcome.status == "failed"
    file = tmp_path / "people-1.csv"
    file.write_text(CSV)
    trial = try_pipeline("people", str(file), base)
    assert SECRET not in trial.rows.to_csv() + trial.rejects.to_csv()


def test_a_mask_is_checked(tmp_path: Path) -> None:
    reader = Csv(columns={"n": "int64"})
    for mask, problem in (({"n": "hide"}, "'hash' or 'drop'"), ({"m": "hash"}, "no declared column")):
        with pytest.raises(TerminalError, match=problem):
            Pipeline(reader=reader, mask=mask).named("x")  # type: ignore[arg-type]
    plain, made = Pipeline(reader=reader).named("x"), Pipeline(reader=reader, mask={"n": "hash"}).named("x")
    assert (is_masked(plain.reader), is_masked(made.reader)) == (False, True)
    assert isinstance(made.reader, Csv)
    assert made.named("x").reader == made.reader
    assert is_masked(Pipeline(reader=reader, mask={"n": "drop"}, schema_drift="evolve").named("x").reader)


@pytest.mark.parametrize("values", [[1, None, 1], ["a", "b", None], [b"\xff", b"", None], [1.5, 2.5, float("nan")]])
def test_values_of_any_plain_type_are_hashed(values: list[Any]) -> None:
    from ingestlab.pipeline.mask import _hashed

    column = pa.chunked_array([pa.array(values), pa.array(values)])
    one, other = _hashed(column, b"salt"), _hashed(column, b"other")
    assert one.type == pa.string()
    assert one.null_count == column.null_count
    texts = one.to_pylist()
    assert texts[:3] == texts[3:]
    assert len({*texts} - {None}) == len({repr(v) for v in values if v is not None})
    assert not {*texts} & {*other.to_pylist()} - {None}
    with pytest.raises(TerminalError, match="nested"):
        _hashed(pa.chunked_array([pa.array([{"a": 1}])]), b"salt")


def test_undeclared_columns_must_be_there(base: Settings, tmp_path: Path) -> None:
    (Path(base.pipelines[0]) / "people.py").write_text(PIPELINE.format(reader="JsonLines", made="JsonLines()"))
    good, bad = tmp_path / "people-a.jsonl", tmp_path / "people-b.jsonl"
    good.write_text('{"n": 1, "email": "zebra@example.org", "name": "zebra"}\n')
    bad.write_text('{"n": 1, "e_mail": "zebra@example.org", "name": "zebra"}\n')
    assert [bring(base, path).outcomes[0].status for path in (good, bad)] == ["committed", "failed"]
    assert not [text for text in everything(Path(base.lake_url)) if "zebra@" in text]
