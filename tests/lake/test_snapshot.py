"""Checkpoints: what is live is what all entries say, and a reader sees no difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, Faulty
from support.selection import examples

from ingestlab.analytics.profiles.files import believed
from ingestlab.core.models import DataFile, Manifest, Profiled, SourceRecord, Tally
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog, last_note, live_partials, live_parts
from ingestlab.lake.snapshot import _checkpoint
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.table_schema import schema_of

WHERE = ("default", "t")


class Writer:
    """Writes commits as jobs would; knows all of them."""

    def __init__(self, folder) -> None:
        self.log = TransactionLog(open_store(str(folder)), *WHERE)
        self.every: list[Manifest] = []

    def commit(self, uris: Sequence[str], *, replace: bool = False, kind: str = "int64", folder: str = "") -> Manifest:
        number = len(self.every) + 1
        batch = f"batch-{number}"
        old = [p for p in live_parts(self.every) if set(p.sources) & set(uris)] if replace else []
        left = sorted({uri for p in old for uri in p.sources} - set(uris))
        names = [f"tables/default/t/{folder}{batch}-{i}.parquet" for i in range(2)]
        parts = [DataFile(target=names[0], staged="s", rows=number, size=1, sources=tuple(uris))]
        parts += [DataFile(target=names[1], staged="s", rows=1, size=1, sources=tuple(left))] if left else []
        made = Manifest(
            batch=batch,
            run=f"r{number}",
            tenant="default",
            table="t",
            pipeline="p",
            code="c",
            committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            owner=batch,
            sources=tuple(
                SourceRecord(uri=u, sha256=batch, size=1, raw="raw", tally=Tally(), run="r", batch=batch) for u in uris
            ),
            parts=tuple(parts),
            states=tuple(DataFile(target=f"{p.target}.state", staged="s", rows=1, size=1) for p in parts),
            replaced=tuple(name for p in old for name in (p.target, f"{p.target}.state")),
            profile=(Profiled(parts=tuple(p.target for p in parts), rows=number, columns={"n": {"kind": "int"}}),),
            types={"n": (kind,)},
            collection={"name": "c"} if number % 7 == 0 else None,
        )
        self.every.append(self.log.append(made, self.log.tip()))
        return self.every[-1]

    def agree(self) -> None:
        """Every question has the answer that all entries give."""
        snapshot = self.log.snapshot()
        folded, every = snapshot.manifests(), self.every
        for live in (live_parts, live_partials):
            assert list(live(folded)) == list(live(every))
        named = [p.target for p in (*live_parts(every), *live_partials(every))]
        assert sorted(snapshot.files["key"].to_pylist()) == sorted(named)
        assert list(believed(folded, live_parts(folded))) == list(believed(every, live_parts(every)))
        assert {s.uri: s for m in folded for s in m.sources} == {s.uri: s for m in every for s in m.sources}
        for of in (lambda h: h[-1].batch, lambda h: last_note(h, "milvus")):
            assert of(folded) == of(every)
        for uri in {s.uri for m in every for s in m.sources}:
            some = snapshot.about(uri.__eq__)
            mine = [p for p in live_parts(every) if uri in p.sources]
            assert [p for p in live_parts(some) if uri in p.sources] == mine
            for without in ((), [p.target for p in mine]):
                short = schema_of(self.log.store, WHERE, snapshot.outline(without), without)
                assert short == schema_of(self.log.store, WHERE, every, without)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr("ingestlab.lake.log.EVERY", 3)


COMMITS = st.lists(
    st.tuples(
        st.sets(st.sampled_from("abcd"), min_size=1, max_size=2),
        st.booleans(),
        st.sampled_from(["int64", "double"]),
        st.sampled_from(["", "day=1/", "day=2/"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=COMMITS)
def test_a_snapshot_says_what_all_entries_say(tmp_path_factory, often, commits):
    writer = Writer(tmp_path_factory.mktemp("lake"))
    for uris, replace, kind, folder in commits:
        writer.commit(sorted(uris), replace=replace, kind=kind, folder=folder)
        writer.log.fold(days=30)
        writer.agree()
    assert bool(list(writer.log.store.children(layout.checkpoints(*WHERE)))) == (len(commits) >= 3)


def test_a_checkpoint_of_before_sinks_had_names_is_read(tmp_path, often):
    """It had a name for each kind of file, and the collection in the text of a commit."""
    writer = Writer(tmp_path)
    for uris in ("a", "b", "c", "d", "e", "a", "b"):
        writer.commit([uris], replace=True)
    writer.log.fold()
    (name,) = writer.log.store.children(layout.checkpoints(*WHERE))
    path = f"{layout.checkpoints(*WHERE)}/{name}"
    checkpoint = pq.read_table(pa.BufferReader(writer.log.store.read(path)))
    names, rows = {"parquet": "parts", "aggregates": "states", "milvus": "vectors"}, checkpoint.to_pylist()
    for row in rows:
        row["item"] = names.get(row["item"], row["item"])
        if row["item"] == "entry":
            head = json.loads(row["text"])
            note = head.pop("sinks").get("milvus", {}).get("note")
            row |= {"text": json.dumps(head | {"collection": note}), "rows": int(note is not None), "uris": None}
    metadata = {k: v for k, v in checkpoint.schema.metadata.items() if k != b"files"}
    old = pa.Table.from_pylist(rows, schema=checkpoint.schema.with_metadata(metadata))
    buffer, start = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(buffer, old.schema) as file:
        for item in (["entry", "parts", "states"], ["sources"], ["profile"]):
            section = old.filter(pc.is_in(old["item"], pa.array(item)))
            file.write_table(section, row_group_size=len(section))
            start += len(section)
    assert start == len(old)
    writer.log.store.write(path, buffer.getvalue().to_pybytes())
    _checkpoint.cache_clear()
    writer.agree()
    writer.commit(["c"], replace=True)
    writer.agree()


def test_what_is_folded_and_old_goes_and_nothing_changes(tmp_path, often, monkeypatch):
    monkeypatch.setattr("ingestlab.lake.log.KEPT", 2)
    writer = Writer(tmp_path)
    for i in range(230):
        writer.commit(["abcde"[i % 5]], replace=True)
        writer.log.fold(days=0 if i > 220 else 30)
    writer.agree()
    assert writer.log.tip() == 230
    assert [m.sequence for m in writer.log.history()] == list(range(200, 231)), "whole folders of entries"
    assert len(writer.log.store.children(layout.checkpoints(*WHERE))) == 2
    assert writer.log.find("batch-230") == writer.every[-1]
    assert writer.log.find("batch-229", after=200) == writer.every[-2]
    assert writer.log.find("batch-3") is None, "nothing of it lives"


def test_the_entry_of_a_commit_that_has_not_ended_stays(tmp_path, often):
    writer = Writer(tmp_path)
    for _ in range(120):
        writer.commit(["a"], replace=True)
    open_ = writer.every[4]
    writer.log.store.write(layout.intent(*WHERE, open_.batch), open_.model_dump_json().encode())
    writer.log.fold(days=30)
    for _ in range(3):
        made = writer.commit(["a"], replace=True)
    writer.log.fold(days=0)
    assert [m.sequence for m in writer.log.history()] == [5, *range(100, made.sequence + 1)]
    assert writer.log.find(open_.batch, after=0) == open_


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_folding_harms_nothing(tmp_path_factory, often, after):
    for at in range(1, 20):
        writer = Writer(tmp_path_factory.mktemp("lake"))
        for _ in range(7):
            writer.commit(["a"], replace=True)
        fragile = TransactionLog(Faulty(writer.log.store, FaultInjector(at, after=after)), *WHERE)  # type: ignore[arg-type]
        try:
            fragile.fold(days=0)
        except Crash:
            writer.agree()
            writer.commit(["b"])
            writer.log.fold(days=0)
            writer.agree()
            continue
        break
    assert at > 1
