"""The pages of tables: what they show against what is published, and what is served."""

from __future__ import annotations

import itertools
import urllib.error
import urllib.request

import pytest
from support.workers import PATIENCE, Yard

from ingestlab.analytics.lake import Lake
from ingestlab.queue import submit
from ingestlab.stack.dashboard.tables import COLUMNS, ROWS, TableReader

EVIL = "<img src=x onerror=alert(1)>"
NUMBERS = itertools.count()
STRICT = """
from typing import Any
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

class Row(pa.DataFrameModel):
    m: Any = pa.Field(le=90)

PIPELINE = Pipeline(reader=Csv(columns={"m": "int64", "name": "string"}), contract=Row)
"""


@pytest.fixture
def table(ready: Yard) -> str:
    """A table of 91 rows, with 9 rejects."""
    name = f"shown{next(NUMBERS)}"
    ready.pipeline(name, STRICT)
    text = "m,name\n" + "".join(f"{i},{EVIL if i else ''}\n" for i in range(100))
    assert ready.submit(ready.file(f"{name}.csv", text.encode()), pipeline=name).wait(PATIENCE).tally.rejected == 9
    return name


def test_a_table_is_listed_as_the_lake_has_it(ready, table):
    row = next(row for row in TableReader(lambda: ready.settings).list() if row.name == table)
    known = Lake(ready.settings).table(table)
    assert (row.rows, row.files, row.bytes, row.rejects) == (known.rows, len(known.parts), known.bytes, 9)
    assert (row.tenant, row.run) == ("default", known.manifests[-1].run)
    assert row.beside == (("rejects", f"{table}__rejects"),)


def test_each_view_shows_what_is_published(ready, table):
    reader, known = TableReader(lambda: ready.settings), Lake(ready.settings).table(table)
    preview, schema, files, profile = (
        reader.page("default", table, view) for view in ("preview", "schema", "files", "profile")
    )
    assert preview and schema and files and profile  # noqa: PT018 - for mypy
    first = known.arrow().slice(0, ROWS)
    assert [[cell.text for cell in cells[:2]] for cells in preview.preview] == [
        [str(row["m"]), row["name"] or ""] for row in first.to_pylist()
    ]
    assert (preview.preview[0][0].number, preview.preview[0][1].null) == (True, True)
    assert schema.columns[:2] == (("m", "int64"), ("name", "string"))
    assert [name for name, _ in schema.columns] == known.dataset().schema.names
    assert [(rows, size, sources) for _, rows, size, sources in files.files] == [
        (p.rows, p.size, len(p.sources)) for p in known.parts
    ]
    assert {m["name"]: m["nulls"] for m in profile.measures} == {"m": "0", "name": "1.1%"}


def test_rejects_are_a_table_to_look_at(ready, table):
    reader, name = TableReader(lambda: ready.settings), f"{table}__rejects"
    page = reader.page("default", name, "preview")
    assert page is not None
    assert (page.row.rows, len(page.preview)) == (9, 9)
    profile = reader.page("default", name, "profile")
    assert profile is not None
    assert profile.profile is None


def test_a_table_of_many_columns_shows_the_first_of_them(ready):
    name = f"wide{next(NUMBERS)}"
    columns = ",".join(f"c{i}" for i in range(COLUMNS + 5))
    uri = ready.file(f"{name}.csv", f"{columns}\n{','.join('1' * (COLUMNS + 5))}\n".encode())
    assert submit(uri, table=name, settings=ready.settings).wait(PATIENCE).count("committed") == 1
    page = TableReader(lambda: ready.settings).page("default", name, "preview")
    assert page is not None
    assert len(page.preview[0]) == COLUMNS
    assert page.hidden >= 5


@pytest.mark.parametrize(("tenant", "name"), [("default", "nothing"), ("..", "x"), ("default", "../../etc"), ("a", "")])
def test_there_is_no_page_of_what_is_no_table(ready, tenant, name):
    assert TableReader(lambda: ready.settings).page(tenant, name, "preview") is None


def test_the_pages_are_served_and_escape_what_they_show(stack, tmp_path):
    (tmp_path / "rows.csv").write_text(f"a,b\n1,{EVIL}\n")
    run = submit(str(tmp_path / "rows.csv"), table="served", settings=stack)
    run.wait(PATIENCE)
    base = str(stack.dask_dashboard).removesuffix("/status")

    def get(path: str) -> str:
        with urllib.request.urlopen(f"{base}/{path}", timeout=60) as answer:
            text: str = answer.read().decode()
        assert "onerror=alert(1)>" not in text
        return text

    assert 'href="tables"' in get("status"), "in the navigation bar"
    assert 'href="tables/default/served"' in get("tables")
    assert 'href="../tables/default/served"' in get(f"runs/{run.id}")
    assert "&lt;img" in get("tables/default/served")
    for view in ("schema", "files", "profile", "unheard-of"):
        assert run.id in get(f"tables/default/served?view={view}")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("tables/default/nothing")
