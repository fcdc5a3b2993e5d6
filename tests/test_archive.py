"""Archives: their members' rows, numbered through, and what nobody should send."""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World

from ingestlab import Csv, JsonLines, Text
from ingestlab.errors import TerminalError
from ingestlab.models import Piece
from ingestlab.pipeline import Pipeline, Records
from ingestlab.readers.archive import Archive
from ingestlab.readers.bytes import Limits
from ingestlab.storage import open_store

MEMBERS = {"a.csv": b"n\n1\n2\n", "sub/b.csv": b"n\nx\n3\n", "readme.txt": b"hello"}
READER = Csv(columns={"n": "int64"})


def zipped(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            with warnings.catch_warnings(action="ignore"):  # of names that come twice
                archive.writestr(name, data)
    return sink.getvalue()


def tarred(members: Mapping[str, bytes], **links: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(f"{name}.csv")
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return sink.getvalue()


PACKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tgz": lambda members: gzip.compress(tarred(members)),
}
Read = Callable[..., Records]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    store = open_store(str(tmp_path))

    def go(data: bytes, reader: Archive | None = None) -> Records:
        (tmp_path / "x").write_bytes(data)
        piece = Piece(uri="file:///x", path="x", name="x.zip", sha256="0" * 64)
        return (reader or Archive(reader=READER, members="*.csv")).read(piece, store)

    return go


@pytest.mark.parametrize("kind", PACKERS)
def test_rows_are_numbered_through_all_members(read: Read, kind: str) -> None:
    done = read(PACKERS[kind](MEMBERS))
    assert done.table.to_pydict() == {"n": [1, 2, 3], "member": ["a.csv", "a.csv", "sub/b.csv"]}
    assert done.rows.tolist() == [0, 1, 3]
    assert [(b.row, b.rule, b.column, b.value) for b in done.bad] == [(2, "type", "n", "x")]
    assert done.raw([0, 2, 3]) == {0: "1", 2: "x", 3: "3"}
    assert done.facts == {"members": "2", "skipped": "1"}


def test_members_may_be_compressed_and_of_any_format(read: Read) -> None:
    data = zipped({"a.jsonl.gz": gzip.compress(b'{"n":1}\n'), "b.jsonl": b'{"n":2}\n'})
    done = read(data, Archive(reader=JsonLines(columns={"n": "int64"}), column=None))
    assert done.table.to_pydict() == {"n": [1, 2]}
    assert done.facts["compression"] == "gzip"
    assert len(read(zipped({"a": b"some words", "b": b"more words"}), Archive(reader=Text())).table) == 2


def test_names_that_lead_elsewhere_are_only_names(read: Read, tmp_path: Path) -> None:
    done = read(zipped({"../../evil.csv": b"n\n1\n", "/etc/x.csv": b"n\n2\n"}))
    assert done.table["member"].to_pylist() == ["../../evil.csv", "/etc/x.csv"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def damaged() -> bytes:
    data = bytearray(zipped({"a.csv": b"n\n" + b"1234\n" * 50}))
    data[40] ^= 0xFF
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zipped({"a.csv": b"n\n1\n"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"n\n1\n", "a zip or tar archive"),
        (b"", "empty file"),
        (zipped({}), "members of x.zip that match"),
        (zipped({"readme.txt": b"x"}), r"none \(1 others\)"),
        (zipped(MEMBERS)[:-30], "whole archive"),
        (damaged(), "whole archive"),
        (tarred(MEMBERS)[:1500], "whole archive"),
        (tarred(MEMBERS)[:1536], "whole archive"),
        (gzip.compress(tarred(MEMBERS))[:-20], "truncated"),
        (encrypted(), "an encrypted one, 'a.csv'"),
        (tarred({}, link="/etc/passwd"), "a link or device"),
        (zipped({"a.csv": zipped({"b.csv": b"n\n1\n"})}), "a.csv"),
        (zipped({"a.csv": tarred({"b.csv": b"n\n1\n"})}), "not followed"),
        (zipped([("a.csv", b"n\n1\n"), ("a.csv", b"n\n2\n")]), "twice 'a.csv'"),
        (zipped({"a.csv": b"n\n1\n", "b.csv": b"m\n1\n"}), "no 'n' among 'm'"),
        (zipped({"a.csv": b"n\n" + b"1\n" * (9 << 20)}), "decompression bomb"),
        (zipped({f"{i}.csv": b"n\n" + b"1\n" * (1 << 20) for i in range(10)}), "decompression bomb"),
    ],
)
def test_what_nobody_should_send_fails_in_clear_words(read: Read, data: bytes, says: str) -> None:
    with pytest.raises(TerminalError, match=says):
        read(data)


def test_limits_can_be_set(read: Read) -> None:
    data = zipped({f"{i}.csv": b"n\n1\n" for i in range(5)})
    with pytest.raises(TerminalError, match="at most 4 members"):
        read(data, Archive(reader=READER, max_members=4))
    with pytest.raises(TerminalError, match="at most 10 bytes"):
        read(data, Archive(reader=READER, limits=Limits(max_expanded_bytes=10)))
    with pytest.raises(TerminalError, match="another `column`"):
        read(data, Archive(reader=READER, column="n"))


def test_drift_is_the_matter_of_the_members_reader(read: Read) -> None:
    data = zipped({"a.csv": b"n\n1\n", "b.csv": b"n,new\n2.5,x\n"})
    reader = Pipeline(reader=Archive(reader=READER), schema_drift="evolve").named("p").reader
    done = read(data, reader)
    assert done.table.select(["n", "new"]).to_pydict() == {"n": [1.0, 2.5], "new": [None, "x"]}
    with pytest.raises(TerminalError, match="knows schema_drift"):
        Pipeline(reader=Archive(reader=Text()), schema_drift="evolve").named("p")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(PACKERS)), data=st.data())
def test_a_damaged_archive_is_read_or_refused(read: Read, kind: str, data: st.DataObject) -> None:
    whole = bytearray(PACKERS[kind](MEMBERS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        done = read(bytes(whole[:cut]))
    except TerminalError:
        return
    assert len(done.rows) == len(done.table)


def test_an_archive_is_one_source_of_exactly_its_rows(tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path, redis_url)
    text = """
from ingestlab import Csv, Pipeline
from ingestlab.readers.archive import Archive
PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={"n": "int64"}), members="*.csv"))
"""
    (tmp_path / "pipelines/small.py").write_text(text)
    (tmp_path / "a.zip").write_bytes(zipped(MEMBERS))
    uri = (tmp_path / "a.zip").as_uri()
    world.expected[uri] = []
    (outcome,) = world.ingest([uri]).outcomes
    assert (outcome.status, outcome.tally.rows_in, outcome.tally.rejected) == ("committed", 4, 1)
    assert outcome.facts == {"members": "2", "skipped": "1"}
    assert sorted(world.rows("small")[uri].elements()) == [0, 1, 3]
    assert sorted(world.rows("small__rejects")[uri].elements()) == [2]
    assert world.ingest([uri], run="r2").outcomes[0].status == "unchanged"
