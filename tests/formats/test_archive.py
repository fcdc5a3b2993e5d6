"""Archives: their members as files of their own, and what nobody should send."""

from __future__ import annotations

import bz2
import gzip
import lzma
import secrets
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.packing import MEMBERS, PACKERS, damaged, encrypted, tarred, zipped
from support.selection import examples

from ingestlab import Csv, JsonLines, Text
from ingestlab.core.access import file_name, shown
from ingestlab.core.archive_uri import container, head_of, joined, label, member_name, member_uri
from ingestlab.core.errors import StorageError, TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.core.settings import Settings
from ingestlab.engine.dry_run import try_pipeline
from ingestlab.formats.archive import Archive
from ingestlab.formats.common.bytes import Limits
from ingestlab.interfaces import Store
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sources.archives.unpack import Unpacked, unpack
from ingestlab.sources.raw_zone import RawZone

READER = Csv(columns={"n": "int64"})
ARCHIVE = Archive(reader=READER, members="*.csv")
URI = "file:///x.zip"
Go = Callable[..., Unpacked]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def go(store: Store) -> Go:
    return unpacker(store)


def unpacker(store: Store, **limits: int) -> Go:
    zone = RawZone(store, "raw", Settings(_env_file=None, **limits))

    def go(data: bytes, reader: Archive = ARCHIVE) -> Unpacked:
        store.write("x", data)
        file = FetchedFile(uri=URI, path="x", name="x.zip", size=len(data), sha256="0" * 64)
        return unpack(file, reader, store, zone)

    return go


def contents(found: Unpacked, store: Store) -> dict[str | None, bytes | str]:
    """What came out, by name: the bytes, or the error's text."""
    return {
        member_name(uri): store.read(m.path) if isinstance(m, FetchedFile) else str(m)
        for uri, m in found.members.items()
    }


# Names


@pytest.mark.parametrize("archive", [URI, "https://host/x.zip?token=a::b", "s3://bucket/a b.zip"])
@pytest.mark.parametrize(
    "name", ["a.csv", "day1/a.csv", "/etc/x", "../../x", "a::b", "a:", ":", "100%.csv", "ä é.csv", "a\nb", "\udcff", ""]
)
def test_a_member_is_named_and_found_again(archive, name):
    uri = member_uri("zip", name, archive)
    assert member_name(uri) == name.encode("utf-8", "surrogatepass").decode(errors="replace")
    assert container(uri) == archive
    assert joined(head_of(uri), archive) == uri
    assert uri.isprintable()


def test_a_file_is_its_own_container():
    for uri in (URI, "https://host/a::b.zip", "/tmp/x.csv", "s3://zip/tar"):
        assert (member_name(uri), container(uri), head_of(uri)) == (None, uri, uri)


def test_names_for_people_hide_what_must_be_hidden():
    uri = member_uri("zip", "day1/a@b.csv", "https://me:secret@host/in/x.zip")
    assert (file_name(uri), label(uri)) == ("a@b.csv", "x.zip: day1/a@b.csv")
    assert shown(uri) == "zip://day1/a@b.csv::https://…@host/in/x.zip"
    assert label("https://host/a.csv") == "a.csv"


def test_fsspec_opens_a_member_by_its_uri(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped({"day 1/ä.csv": b"n\n1\n"}))
    uri = member_uri("zip", "day 1/ä.csv", (tmp_path / "x.zip").as_uri())
    with fsspec.open(uri) as file:
        assert file.read() == b"n\n1\n"


# What comes out


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("where", ["local", "memory"])
def test_members_become_files_named_by_their_content(tmp_path, kind, where):
    store = open_store(str(tmp_path) if where == "local" else f"memory://{secrets.token_hex(4)}/lake")
    found = unpacker(store)(PACKERS[kind](MEMBERS))
    assert contents(found, store) == {"a.csv": MEMBERS["a.csv"], "sub/b.csv": MEMBERS["sub/b.csv"]}
    assert (found.trouble, found.facts["members"], found.facts["skipped"]) == (None, "2", "1")
    for uri, member in found.members.items():
        assert uri.startswith("zip://" if kind == "zip" else "tar://")
        assert (member.uri, member.path) == (uri, f"raw/{member.sha256}.csv")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_of_zip(go, store, method):
    big = b"n\n" + b"".join(b"%d\n" % i for i in range(400_000))
    assert contents(go(zipped({"a.csv": big, "b.csv": b"n\n"}, method)), store) == {"a.csv": big, "b.csv": b"n\n"}


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_every_compression_of_tar(go, store, pack):
    big = b"n\n" + b"".join(b"%d\n" % i for i in range(400_000))
    found = go(pack(tarred({"a.csv": big, "b.csv": b"n\n"})))
    assert (contents(found, store), found.trouble) == ({"a.csv": big, "b.csv": b"n\n"}, None)


@pytest.mark.parametrize("kind", PACKERS)
def test_patterns_know_neither_case_nor_slash(store, kind):
    names = ["sales-0.csv", "data\\sales-1.csv", "SALES-2.CSV", "data/Sales-3.Csv", "other.csv", "sales.txt"]
    for patterns, count in (("sales-*.csv", 4), ("Sales-*.CSV", 4), ("data\\*", 2), (["DATA/*", "o*"], 3)):
        found = unpacker(store)(
            PACKERS[kind](dict.fromkeys(names, b"n\n1\n")), Archive(reader=READER, members=patterns)
        )
        assert len(found.members) == count, patterns
        assert member_name(next(iter(found.members))) in names  # as it is in the archive
        (fact,) = {m.facts["archive"] for m in found.members.values() if isinstance(m, FetchedFile)}
        assert fact.startswith(f"{6 - count} others passed over: ")


@pytest.mark.parametrize("kind", PACKERS)
def test_what_macos_adds_is_passed_over_in_silence(store, kind):
    double = b"\0\5\x16\7" + b"\0" * 100
    litter = {"__MACOSX/._a.csv": double, "._a.csv": double, "sub/.DS_Store": b"\0\0\0\1Bud1", "sub\\": b"", "d/": b""}
    found = unpacker(store)(PACKERS[kind]({**litter, "a.csv": b"n\n1\n", "._n.csv": b"n\n2\n"}), Archive(reader=READER))
    assert contents(found, store) == {"a.csv": b"n\n1\n", "._n.csv": b"n\n2\n"}
    assert not any(m.facts for m in found.members.values() if isinstance(m, FetchedFile))
    alone = unpacker(store)(PACKERS[kind](litter), Archive(reader=READER))
    assert alone.members == {}
    assert "none (0 others)" in str(alone.trouble)


def test_a_tar_after_a_tar_is_told(go, store):
    """The standard library and GNU tar stop at the end of the first, without a word."""
    for pack in (bytes, gzip.compress):
        found = go(pack(tarred({"a.csv": b"n\n1\n"}) + tarred({"b.csv": b"n\n2\n"})))
        assert "more data after the end of the tar" in str(found.trouble)
        assert contents(found, store) == {"a.csv": b"n\n1\n"}


def test_names_that_lead_elsewhere_are_only_names(go, store, tmp_path):
    found = go(zipped({"../../evil.csv": b"n\n1\n", "/etc/x.csv": b"n\n2\n", "C:\\y.csv": b"n\n3\n"}))
    assert list(contents(found, store)) == ["../../evil.csv", "/etc/x.csv", "C:\\y.csv"]
    assert {p.parent for p in tmp_path.rglob("*") if p.is_file()} == {tmp_path, tmp_path / "raw"}


def test_a_member_in_the_raw_zone_is_not_written_again(go, store, monkeypatch):
    go(zipped(MEMBERS))
    monkeypatch.setattr(type(store), "adopt", lambda *_: pytest.fail("written again"))
    go(tarred(MEMBERS))


# What nobody should send


STORED = zipped({"a.csv": b"n\n1\n", "b.csv": b"n\n" + b"1234\n" * 50, "c.csv": b"n\n3\n"}, zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (damaged(STORED, b"1234\n" * 50), {"b.csv": "CRC", "a.csv": b"n\n1\n", "c.csv": b"n\n3\n"}),
        (encrypted(), {"a.csv": "an encrypted one"}),
        (tarred({"a.csv": b"n\n1\n"}, link="/etc/passwd"), {"a.csv": b"n\n1\n", "link.csv": "a link or device"}),
        (zipped({"a.csv": tarred({"b.csv": b"n\n1\n"}), "c.csv": b"n\n"}), {"a.csv": "a tar archive", "c.csv": b"n\n"}),
        (
            zipped([("a.csv", b"n\n1\n"), ("b.csv", b"n\n"), ("a.csv", b"n\n2\n")]),
            {"a.csv": "two members", "b.csv": b"n\n"},
        ),
        (
            tarred([("a.csv", b"n\n1\n"), ("b.csv", b"n\n"), ("a.csv", b"n\n2\n")]),
            {"a.csv": "two members", "b.csv": b"n\n"},
        ),
        (zipped({"a.csv": b"n\n", "b.csv": b"1\n" * (9 << 20)}), {"a.csv": b"n\n", "b.csv": "decompression bomb"}),
        (zipped({"a" * 5000 + ".csv": b"n\n", "b.csv": b"n\n"}), {"b.csv": b"n\n"}),
    ],
    ids=["damage", "encryption", "a link", "an archive", "a name twice", "in a tar", "a bomb", "a long name"],
)
def test_a_bad_member_fails_alone(go, store, data, says):
    found = go(data, Archive(reader=READER))
    assert found.trouble is None
    got = contents(found, store)
    for name, wanted in says.items():
        assert wanted in got[name] if isinstance(wanted, str) else got[name] == wanted
    assert len(found.members) - len(says) == (1 if says == {"b.csv": b"n\n"} else 0)


GOOD = {"a.csv": b"n\n1\n2\n"}
BOTH = {"a.csv": b"n\n1\n2\n", "sub/b.csv": b"n\nx\n3\n"}
TAR = tarred(MEMBERS)


@pytest.mark.parametrize(
    ("data", "says", "stays"),
    [
        (b"n\n1\n", "a zip or tar archive", {}),
        (b"", "empty file", {}),
        (gzip.compress(b"n\n1\n"), "in gzip", {}),
        (zipped({}), "match '*.csv': none (0 others)", {}),
        (zipped({"readme.txt": b"x"}), "none (1 others: readme.txt)", {}),
        (zipped(MEMBERS)[:-30], "is not whole", {}),
        (TAR[:1500], "a header is cut off", GOOD),
        (TAR[:1536], "unexpected end of data", GOOD),
        (TAR[:1024], "closing blocks are missing", GOOD),
        (TAR[:1024] + b"x" * 512 + TAR[1536:], "invalid header", GOOD),
        (gzip.compress(TAR)[:-6], "Compressed file ended", BOTH),
        (gzip.compress(TAR)[:-8] + b"12345678", "CRC check failed", {}),
        (gzip.compress(tarred({f"{i}.csv": b"1\n" * (1 << 20) for i in range(10)})), "decompression bomb", {}),
    ],
)
def test_a_bad_archive_is_told_and_keeps_what_is_certain(go, store, data, says, stays):
    found = go(data)
    assert says in str(found.trouble)
    assert contents(found, store) == stays


@pytest.mark.parametrize("kind", PACKERS)
def test_limits_can_be_set(go, store, kind):
    data = PACKERS[kind]({f"{i}.csv": b"n\n1\n" for i in range(5)})
    found = go(data, Archive(reader=READER, max_members=4))
    assert "at most 4 members" in str(found.trouble)
    assert found.members == {}
    found = unpacker(store, max_file_bytes=3)(data)
    assert all("at most 3 bytes" in str(m) for m in found.members.values())
    found = go(data, Archive(reader=READER, limits=Limits(max_expanded_bytes=10)))
    errors = [m for m in (*found.members.values(), found.trouble) if isinstance(m, TerminalError)]
    assert all("more than 10 bytes" in str(error) for error in errors)
    assert errors


def test_lists_and_headers_that_are_bombs_take_little_memory(go):
    many = zipped({f"{'x' * 600}{i}": b"" for i in range(20_000)})
    pax = bytearray(tarred({"a.csv": b""}))
    pax[156:157] = b"x"  # a header of 200 MB, and then its checksum
    pax[124:136] = b"%011o\0" % 200_000_000
    pax[148:156] = b" " * 8
    pax[148:156] = b"%06o\0 " % sum(pax[:512])
    for data in (many, gzip.compress(bytes(pax[:512]) + bytes(200_000_000))):
        tracemalloc.start()
        try:
            found = go(data, Archive(reader=READER, max_members=100, limits=Limits(max_expansion=2000)))
            assert tracemalloc.get_traced_memory()[1] < 30 << 20
        finally:
            tracemalloc.stop()
        assert found.trouble is not None


def test_a_tar_that_lies_about_its_size_ends(go):
    lie = bytearray(tarred({"a.txt": b"x"}))
    lie[124:136] = b"\x80" + bytes(3) + (1 << 60).to_bytes(8, "big")
    lie[148:156] = b" " * 8
    lie[148:156] = b"%06o\0 " % sum(lie[:512])
    assert "whole" in str(go(bytes(lie)).trouble)


def test_a_full_lake_is_no_members_fault(go, store, monkeypatch):
    def full(*_: object) -> None:
        raise StorageError("room", "none")

    monkeypatch.setattr(type(store), "adopt", full)
    for kind in PACKERS:
        with pytest.raises(StorageError):
            go(PACKERS[kind](MEMBERS))


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(PACKERS)), data=st.data())
def test_a_damaged_archive_gives_whole_members_and_words(go, store, kind, data):
    whole = bytearray(PACKERS[kind](MEMBERS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    found = go(bytes(whole[:cut]), Archive(reader=READER))
    for uri, member in found.members.items():
        assert container(uri) == URI
        assert isinstance(member, TerminalError) or store.size(member.path) == member.size
    assert found.members or found.trouble


# The reader


def piece(store: Store, data: bytes, name: str = "a.csv") -> Piece:
    store.write(name.replace("/", "-"), data)
    uri = member_uri("zip", name, URI)
    return Piece(uri=uri, path=name.replace("/", "-"), name=file_name(uri), sha256="0" * 64)


def test_rows_carry_their_members_name(store):
    one, two = piece(store, b"n\n1\n2\n"), piece(store, b"n\nx\n3\n", "sub/b.csv")
    done = ARCHIVE.read(two, store)
    assert done.table.to_pydict() == {"n": [3], "member": ["sub/b.csv"]}
    assert [(b.row, b.rule, b.column, b.value) for b in done.bad] == [(0, "type", "n", "x")]
    both = ARCHIVE.read_all([one, two], store)
    assert [r.table["member"].to_pylist() for r in both] == [["a.csv", "a.csv"], ["sub/b.csv"]]
    assert Archive(reader=READER, column=None).read(one, store).table.column_names == ["n"]


def test_members_may_be_compressed_and_of_any_format(store):
    packed = piece(store, gzip.compress(b'{"n":1}\n'), "a.jsonl.gz")
    reader = Archive(reader=JsonLines(columns={"n": "int64"}), column=None)
    assert reader.read(packed, store).table.to_pydict() == {"n": [1]}
    assert reader.read(packed, store).facts["compression"] == "gzip"
    (text,) = Archive(reader=Text()).read_all([piece(store, b"some words")], store)
    assert text.table["member"].to_pylist() == ["a.csv"]


def test_a_big_member_is_cut_as_its_reader_cuts(store):
    data = b"n\n" + b"".join(b"%d\n" % i for i in range(1000))
    one = piece(store, data)
    file = FetchedFile(uri=one.uri, path=one.path, name=one.name, size=len(data), sha256=one.sha256)
    pieces = ARCHIVE.split(file, store, 1000)
    assert len(pieces) == len(READER.split(file, store, 1000)) > 2
    assert pa.concat_tables([ARCHIVE.read(p, store).table for p in pieces])["n"].to_pylist() == list(range(1000))


def test_what_the_reader_refuses(store):
    with pytest.raises(TerminalError, match="`column`"):
        Archive(reader=READER, column="n").read(piece(store, b"n\n1\n"), store)
    old = piece(store, zipped(MEMBERS)).model_copy(update={"uri": URI})
    with pytest.raises(TerminalError, match="--force"):
        ARCHIVE.read(old, store)
    (error,) = ARCHIVE.read_all([old], store)
    assert isinstance(error, TerminalError)


def test_drift_is_the_matter_of_the_members_reader(store):
    reader = Pipeline(reader=ARCHIVE, schema_drift="evolve").named("p").reader
    done = reader.read(piece(store, b"n,new\n2.5,x\n"), store)
    assert done.table.select(["n", "new"]).to_pydict() == {"n": [2.5], "new": ["x"]}
    with pytest.raises(TerminalError, match="knows schema_drift"):
        Pipeline(reader=Archive(reader=Text()), schema_drift="evolve").named("p")


def test_a_pipeline_is_tried_on_the_first_member(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/packed.py").write_text(
        "from ingestlab import Archive, Csv, Pipeline\n"
        "PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={'n': 'int64'}), members='*.csv'))\n"
    )
    (tmp_path / "x.zip").write_bytes(zipped(MEMBERS))
    trial = try_pipeline(
        "packed",
        str(tmp_path / "x.zip"),
        Settings(_env_file=None, home=tmp_path / "home", pipelines=(str(tmp_path / "p"),)),
    )
    assert trial.rows["n"].tolist() == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p", "x.zip"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("d/*.csv", "./d/a.csv"),  # what `tar czf x.tgz .` writes
        ("./d/*.csv", "d/a.csv"),
        ("Gr\u00f6\u00dfe.csv", "Gro\u0308\u00dfe.csv"),  # in parts, as macOS writes it
        ("a[1].csv", "a[1].csv"),
    ],
)
def test_names_that_say_the_same_match(pattern: str, name: str) -> None:
    assert Archive(reader=Csv(), members=pattern).takes(name)
