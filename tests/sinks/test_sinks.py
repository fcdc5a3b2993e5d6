"""The sink of rows, and data files in folders: what commit and readers rely on."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pyarrow as pa
import pytest

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Manifest, Staged
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Destination, Rows
from ingestlab.lake import layout
from ingestlab.lake.data_files import MAX_FOLDERS, read_part, stage_table, without_sources
from ingestlab.lake.storage.store import open_store
from ingestlab.sinks.parquet import TableFiles


def rows(*numbers: int, source: str = "a") -> pa.Table:
    sources = pa.array([source] * len(numbers)).dictionary_encode()
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "day": pa.array([None if n == 0 else f"2017-10-{n:02d}" for n in numbers], pa.string()),
            "_source": sources,
            "_row": pa.array(range(len(numbers)), pa.int64()),
        }
    )


class Table:
    """The rows of a table as its sink stages, publishes and undoes them."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url)
        self.sink = TableFiles(Settings(_env_file=None), self.store, None)

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[DataFile]:
        pipeline = SimpleNamespace(folders=folders)
        words = {"run": "r", "batch": "b1", "tenant": "default", "table": "t"}
        writer = self.sink.writer(Destination(pipeline=pipeline, store=self.store, **words))
        return list(writer.stage(Rows(name=name, table=table, rejects=table, pieces={}, raw=self.store)).files)

    def publish(self, *parts: DataFile) -> None:
        self.sink.prepare(manifest(parts))

    def undo(self, *parts: DataFile) -> None:
        self.sink.undo(manifest(parts), list)
        self.store.delete(layout.staging("b1"))

    def read(self, parts: Sequence[DataFile]) -> pa.Table:
        tables = [read_part(self.store, "tables/default/t", part) for part in parts]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def manifest(parts: Sequence[DataFile]) -> Manifest:
    who = {"pipeline": "p", "code": "c", "batch": "b1", "run": "r", "tenant": "default", "table": "t"}
    return Manifest(sinks={"parquet": Staged(files=tuple(parts))}, committed_at="2026-01-01T00:00:00+00:00", **who)


@pytest.fixture(params=["disk", "object store"])
def sink(request, tmp_path) -> Table:
    return Table(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}")


def numbers(sink, parts) -> list[int]:
    return sorted(sink.read(parts)["n"].to_pylist())


def test_what_is_published_is_read_back(sink):
    parts = sink.stage("b1-0", rows(1, 2, 3))
    sink.publish(*parts)
    assert numbers(sink, parts) == [1, 2, 3]
    assert sum(p.rows for p in parts) == 3
    assert all(p.size > 0 and p.sources == ("a",) for p in parts)


def test_staged_rows_are_not_to_be_seen(sink):
    parts = sink.stage("b1-0", rows(1))
    with pytest.raises((FileNotFoundError, KeyError)):
        sink.read(parts)


def test_staging_and_publishing_twice_is_once(sink):
    first = sink.stage("b1-0", rows(1, 2))
    again = sink.stage("b1-0", rows(1, 2))
    assert first == again
    for _ in range(2):
        sink.publish(*first, *again)
    assert numbers(sink, first) == [1, 2]


def test_an_undone_part_is_gone_staged_or_published(sink):
    (staged,) = sink.stage("b1-0", rows(1))
    (published,) = sink.stage("b1-1", rows(2))
    sink.publish(published)
    for _ in range(2):
        sink.undo(staged, published)
    assert list(sink.store.walk("")) == []


def test_what_was_never_staged_cannot_be_published(sink):
    (part,) = sink.stage("b1-0", rows(1))
    sink.undo(part)
    with pytest.raises(FileNotFoundError):
        sink.publish(part)


def test_an_empty_table_makes_no_part(sink):
    assert sink.stage("b1-0", rows()) == []
    assert sink.read([]).num_rows == 0


def test_one_part_for_each_folder_and_null_has_its_own(sink):
    parts = sink.stage("b1-0", rows(1, 2, 0, 1), ["day"])
    sink.publish(*parts)
    folders = sorted(p.target.rsplit("/", 2)[-2] for p in parts)
    assert folders == ["day=2017-10-01", "day=2017-10-02", f"day={layout.NULL_FOLDER}"]
    assert numbers(sink, parts) == [0, 1, 1, 2]


def test_what_went_into_folders_comes_back_as_text(sink):
    parts = sink.stage("b1-0", rows(1, 0), ["day", "n"])
    sink.publish(*parts)
    read = sink.read(parts)
    assert sorted(zip(read["n"].to_pylist(), read["day"].to_pylist(), strict=True)) == [
        ("0", None),
        ("1", "2017-10-01"),
    ]


def test_folder_names_have_a_length_that_file_systems_take(sink):
    table = pa.table({"day": ["x" * 256], "_source": ["a"]})
    with pytest.raises(TerminalError, match=r"too long by partition_by day: expected at most 255 bytes"):
        sink.stage("b1-0", table, ["day"])


def test_a_missing_partition_column_is_named(sink):
    with pytest.raises(TerminalError, match=r"partition_by column 'week'.*columns n, day"):
        sink.stage("b1-0", rows(1), ["week"])


def test_too_many_folders_name_their_column(sink):
    table = pa.table({"n": list(range(MAX_FOLDERS + 1)), "_source": ["a"] * (MAX_FOLDERS + 1)})
    with pytest.raises(
        TerminalError, match=r"too many folders by partition_by n: expected at most 1000; got 1,001 different"
    ):
        sink.stage("b1-0", table, ["n"])


def test_folder_names_are_escaped(sink):
    table = pa.table({"n": [1], "day": ["../x=1/ü"], "_source": ["a"]})
    (part,) = sink.stage("b1-0", table, ["day"])
    assert "/../" not in part.target
    sink.publish(part)
    assert sink.read([part])["n"].to_pylist() == [1]


def test_rows_of_some_sources_can_be_taken_out():
    both = pa.concat_tables([rows(1, 2, source="a"), rows(3, source="b")]).unify_dictionaries()
    assert without_sources(both, ["a"])["n"].to_pylist() == [3]
    assert without_sources(both, ["a", "b"]).num_rows == 0


def test_row_numbers_take_next_to_no_room(tmp_path):
    table = pa.table(
        {"_source": ["a"] * 100_000, "_row": pa.array(range(100_000), pa.int64()), "list": [[1]] * 100_000}
    )
    sizes = {}
    for name, columns in (
        ("plain", ["_source"]),
        ("numbered", ["_source", "_row"]),
        ("nested", ["_source", "list", "_row"]),
    ):
        store = open_store(str(tmp_path))
        (part,) = stage_table(table.select(columns), name, "t", f"s-{name}", store)
        assert read_part(store, "t", part, part.staged).to_pydict() == table.select(columns).to_pydict()
        sizes[name] = part.size
    assert sizes["numbered"] - sizes["plain"] < 5_000  # of 800,000 bytes
