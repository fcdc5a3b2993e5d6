"""Rows as documents of MongoDB, on a real server: once each, whatever dies, comes again or is taken out."""

from __future__ import annotations

import random
import signal
import threading

import pymongo
import pytest
from support.lake import Crash, FaultInjector
from support.merging import LATEST, Row
from support.mongodb import MongoWorld, maker, serving
from support.replay import FIRST, SECOND

from ingestlab.core.errors import CollectionError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo
from ingestlab.sinks.mongodb.link import open_documents
from ingestlab.stack.valkey import free_port

SLOW = pytest.mark.slow("crashes at every step")


@pytest.fixture
def make(tmp_path_factory, redis_url, mongodb, monkeypatch):
    return maker(tmp_path_factory, redis_url, mongodb, monkeypatch)


def by_key(world: MongoWorld) -> dict[int, str]:
    """The file of each document, by its key."""
    return {d["_id"]: d["_ingestlab"]["source"].rpartition("/")[2] for d in world.documents.find()}


def test_each_published_row_is_a_document_with_its_origin(make):
    world = make()
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.check([uri])
    document = world.documents.find_one({"n": 2})
    assert document.pop("_id")
    batch = document["_ingestlab"].pop("batch")
    assert len(batch) == 24
    assert document == {
        "n": 2,
        "word": "w2",
        "even": True,
        "_ingestlab": {"table": "small", "source": uri, "row": 1, "run": "r1"},
    }


def test_new_content_stands_beside_the_old_or_replaces_it(make):
    for disposition, left in (("append", 3 + 2), ("replace", 2)):
        world = make(disposition)
        uri, other = world.put("a.csv", [1, 2, 3]), world.put("b.csv", [1, 2, 3])
        world.ingest([uri, other])
        ids = set(world.documents.distinct("_id"))
        world.put("a.csv", [4, 5])
        world.ingest([uri], run="r2")
        assert world.documents.count_documents({"_ingestlab.source": uri}) == left
        assert world.documents.count_documents({"_ingestlab.source": other}) == 3
        assert len(ids & set(world.documents.distinct("_id"))) == {"append": 6, "replace": 5}[disposition]
        assert world.there() == world.rows("small")
        world.verify()


def test_replay_adds_documents_and_delete_and_compaction_keep_to_the_table(make):
    world = make("replace")
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris[:1], run="r0")
    world.ingest(uris[1:], run="r1")
    world.mend(limit=2000)
    world.replay()
    world.check(uris)
    compact("small", world.context())
    world.check(uris)
    delete(uris[0], world.context())
    assert world.there() == world.rows("small")
    world.ingest(uris[:1], run="r2")
    world.check(uris)


def test_reconcile_brings_back_what_others_have_changed(make):
    world = make("replace")
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris)
    before = sorted(world.documents.find(), key=str)
    world.documents.delete_one({"n": 1})
    world.documents.update_one({"n": 7}, {"$set": {"_ingestlab.batch": "another"}})
    world.documents.insert_one({"n": 0, "_ingestlab": {"table": "small", "source": uris[1], "row": 99, "batch": "x"}})
    assert world.reconcile().restored == tuple(sorted(uris))
    assert sorted(world.documents.find(), key=str) == before
    assert world.reconcile().clean
    world.documents.drop()
    world.reconcile()
    world.check(uris)


def test_with_a_key_the_last_commit_has_the_document_and_earlier_rows_come_back(make):
    world = make("replace", key="n")
    a, b = world.put("a.csv", [1, 2, 3, 3]), world.put("b.csv", [3, 4])
    world.ingest([a])
    world.ingest([b], run="r2")
    assert by_key(world) == {1: "a.csv", 2: "a.csv", 3: "b.csv", 4: "b.csv"}
    delete(b, world.context())
    assert by_key(world) == {1: "a.csv", 2: "a.csv", 3: "a.csv"}
    assert world.documents.find_one(3)["_ingestlab"]["row"] == 3, "of two rows of a file, the last"
    world.ingest([b], run="r3")
    world.put("a.csv", [2, 4])
    world.ingest([a], run="r4")
    assert by_key(world) == {2: "a.csv", 3: "b.csv", 4: "a.csv"}
    world.verify()
    compact("small", world.context())
    world.documents.drop()
    world.reconcile()
    assert by_key(world) == {2: "a.csv", 3: "b.csv", 4: "a.csv"}, "a compaction knows the order of commits"
    world.put("a.csv", [2])
    world.ingest([a], run="r5")
    assert by_key(world) == {2: "a.csv", 3: "b.csv", 4: "b.csv"}


def test_keys_of_several_columns_and_copies_of_a_row(make):
    world = make("replace", key="n")
    world.declare("replace", "key=('word', 'n'), collection='pairs'")
    path = world.folder / "pipelines/small.py"
    uri = world.put("a.csv", [1, 2])
    world.ingest([uri])
    pairs = world.documents.database["pairs"]
    assert [d["_id"] for d in pairs.find(sort=[("n", 1)])] == [{"word": "w1", "n": 1}, {"word": "w2", "n": 2}]
    world.declare("replace", "collection='copies'")
    path.write_text(path.read_text().replace("    return df[", "    df = pd.concat([df, df])\n    return df["))
    path.write_text("import pandas as pd\n" + path.read_text())
    world.ingest([uri], run="r2", force=True)
    assert world.documents.database["copies"].count_documents({}) == 4


@SLOW
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("disposition", "key"), [("append", ""), ("replace", ""), ("replace", "n")])
def test_a_crash_at_any_step_leaves_one_document_a_row(make, disposition, key, after):
    crashes = 0
    for at in range(1, 80):
        world = make(disposition, key)
        a, b = world.put("a.csv", [1, 2, 13, 5000]), world.put("b.csv", [2, 3] if key else [7, 8])
        world.ingest([a, b], run="r0")
        world.put("a.csv", [3, 21, 22])
        try:
            world.ingest([a], FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if at % 2:
            assert world.reconcile().restored == (), "what is undone needs no repair"
            world.verify()
            assert key or world.there() == world.rows("small")
        world.ingest([a])
        if key:
            assert by_key(world) == {2: "b.csv", 3: "a.csv", 21: "a.csv", 22: "a.csv"}
            world.verify()
        elif disposition == "replace":
            world.check([a, b])
        else:
            assert world.there() == world.rows("small")
            world.verify()
    assert crashes > 9


@SLOW
@pytest.mark.parametrize("key", ["", "n"])
def test_a_crash_while_deleting_or_replaying_leaves_all_or_nothing(make, key):
    crashes = 0
    for at in range(1, 80):
        world = make("replace", key)
        a, b = world.put("a.csv", [1, 2, 1500]), world.put("b.csv", [2, 3])
        world.ingest([a], run="r0")
        world.ingest([b], run="r1")
        world.mend(limit=2000)
        injector = FaultInjector(at, after=bool(at % 2))
        try:
            world.replay(injector)
            delete(b, world.context(injector))
        except Crash:
            crashes += 1
        else:
            break
        if at % 3:
            assert world.reconcile().restored == (), "what is undone needs no repair"
            world.verify()
        world.replay()
        delete(b, world.context())
        world.reconcile()
        assert sorted(d["n"] for d in world.documents.find()) == [1, 2, 1500]
        world.verify()
    assert crashes > 20


def test_two_jobs_at_once_agree_on_the_documents_of_their_keys(make):
    """Each of several jobs writes all keys; whoever was last in the log has them all."""
    world = make("append", key="n")
    uris = [world.put(f"{name}.csv", range(1, 9)) for name in "abcd"]
    errors: list[BaseException] = []

    def job(uri: str) -> None:
        try:
            world.ingest([uri], run=uri[-5])
        except BaseException as error:  # noqa: BLE001 - the test tells of it
            errors.append(error)

    jobs = [threading.Thread(target=job, args=(uri,)) for uri in uris]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert not errors
    last = world.context().lake.log("default", "small").history()[-1].sources[0].uri
    assert by_key(world) == dict.fromkeys(range(1, 9), last.rpartition("/")[2])
    world.verify()


@pytest.mark.parametrize("key", ["", "n"])
def test_an_undo_brings_back_what_was_replaced_and_deleted(make, key):
    world = make("replace", key)
    b, a = world.put("b.csv", [3, 4]), world.put("a.csv", [1, 3])
    world.ingest([b], run="r1")
    world.ingest([a], run="r2")
    before = sorted(world.documents.find(), key=str)
    world.put("a.csv", [5])
    world.ingest([a], run="r3")
    delete(b, world.context())
    (deletion,) = {m.run for m in world.context().lake.log("default", "small").history()} - {"r1", "r2", "r3"}
    undo(deletion, world.context())
    undo("r3", world.context())
    assert sorted(world.documents.find(), key=str) == before
    world.verify()
    undo("r2", world.context())
    undo("r1", world.context())
    assert list(world.documents.find()) == []
    world.verify()


@pytest.mark.parametrize("key", ["", "id"])
def test_an_undo_of_a_merge_brings_back_documents(make, key):
    world = make("merge", key)
    world.merge("a.csv", [Row(i) for i in range(5)], run="r1")
    before = dict(world.table)
    world.merge("b.csv", [Row(3, at=1), Row(4, at=1, gone=True), Row(9)], run="r2")
    undo("r2", world.context())
    world.table = before
    world.check_documents()
    assert reconcile(world.context().lake).clean


@SLOW
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_while_undoing_leaves_all_or_nothing(make, after):
    crashes = 0
    for at in range(1, 80):
        world = make("replace", "n")
        a, b = world.put("a.csv", [1, 2]), world.put("b.csv", [2, 3])
        world.ingest([a], run="r0")
        world.ingest([b], run="r1")
        world.put("a.csv", [3, 4])
        world.ingest([a], run="r2")
        try:
            undo("r2", world.context(FaultInjector(at, after=after)))
        except Crash:
            crashes += 1
        else:
            break
        if at % 2:
            assert world.reconcile().restored == ()
            world.verify()
        undo("r2", world.context())
        assert by_key(world) == {1: "a.csv", 2: "b.csv", 3: "b.csv"}
        world.verify()
    assert crashes > 10


@pytest.mark.parametrize("key", ["", "id"])
def test_documents_follow_merges(make, key):
    world = make("merge", key)
    world.tell_and_check()


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=SLOW) for n in range(4, 24))])
def test_any_story_of_merges_ends_as_it_does_in_a_dict(make, seed):
    """Files are merged, deleted and compacted, at times by a job that dies and comes again."""
    draw = random.Random(seed)
    world = make("merge", draw.choice(["", "id"]), draw.choice(["", LATEST]))
    for step in range(5):
        faults = FaultInjector(draw.randint(1, 30), after=draw.random() < 0.5) if draw.random() < 0.6 else None
        what, name = (
            draw.choice(["merge", "merge", "merge", "force", "delete", "compact"]),
            draw.choice(["a.csv", "b.csv"]),
        )
        rows = [
            Row(draw.randint(1, 6), draw.choice([None, 0, 1, 2]), draw.random() < 0.3, draw.randint(0, 9))
            for _ in range(draw.randint(1, 6))
        ]
        for injector in (faults, None):
            try:
                _tell(world, what, name, rows, f"r{step}", injector)
                break
            except Crash:
                continue
    world.check_documents()
    reconcile(world.context().lake)
    world.check_merged()


def _tell(world, what, name, rows, run, faults):
    uri = (world.folder / "sources" / name).as_uri()
    if what in ("merge", "force"):
        world.merge(name, rows, faults, run=run, force=what == "force")
    elif what == "delete" and uri in world.contents:
        delete(uri, world.context(faults))
        world.forget(uri)
    elif what == "compact" and world.contents:
        compact("small", world.context(faults))


def test_tenants_have_collections_of_their_own(make, redis_url):
    world = make()
    world.settings = world.settings.model_copy(update={"tenants": ("default", "physics")})
    uri = world.put("a.csv", [1, 2])
    world.ingest([uri])
    request = {"run": "r2", "pipeline": "small", "table": "t", "tenant": "physics", "sources": [{"uri": uri}]}
    from ingestlab.core.models import IngestRequest
    from ingestlab.engine.ingest import ingest

    ingest(IngestRequest.model_validate(request), world.context(), lambda _progress: None)
    assert sorted(world.documents.database.list_collection_names()) == ["physics.small", "small"]
    delete(uri, world.context(), tenant="physics")
    assert world.documents.database["physics.small"].count_documents({}) == 0
    world.check([uri])


def test_a_collection_of_others_is_left_alone(make):
    world = make()
    world.documents.insert_one({"_id": 1, "theirs": True})
    uri = world.put("a.csv", FIRST)
    result = world.ingest([uri]).outcomes[0]
    assert result.error["code"] == "collection_conflict"
    assert "one that ingestlab has not written, _id 1" in str(result.exception())
    assert list(world.documents.find()) == [{"_id": 1, "theirs": True}]
    assert [*world.documents.index_information()] == ["_id_"]
    world.documents.drop()
    world.ingest([uri])
    world.check([uri])


def test_a_collection_with_a_validator_says_so_and_nothing_is_lost(make):
    world = make("replace")
    uri = world.put("a.csv", [1, 2])
    world.ingest([uri])
    world.documents.database.command("collMod", "small", validator={"n": {"$lt": 5}})
    world.put("a.csv", [3, 7])
    outcome = world.ingest([uri], run="r2").outcomes[0]
    assert "validator that refuses rows" in str(outcome.exception())
    world.put("a.csv", [1, 2])
    world.check([uri])


def test_another_key_in_the_same_collection_is_refused(make):
    world = make("replace", key="n")
    uri = world.put("a.csv", [1])
    world.ingest([uri])
    world.declare("replace", "key='word'")
    world.put("a.csv", [2])
    outcome = world.ingest([uri], run="r2").outcomes[0]
    assert "expected key=['n'], by which collection 'small' was made" in str(outcome.exception())
    world.declare("replace", "key='word', collection='by_word'")
    world.ingest([uri], run="r3")
    assert [d["_id"] for d in world.documents.database["by_word"].find()] == ["w2"]


def test_a_server_that_is_away_is_found_before_any_row_is_read(make):
    world = make()
    away = f"mongodb://me:pa55w0rd@127.0.0.1:{free_port()}"
    world.settings = world.settings.model_copy(update={"mongodb_uri": away, "mongodb_timeout": 0.2})
    uri = world.put("a.csv", FIRST)
    with pytest.raises(TransientError, match=r"MongoDB at mongodb://127\.0\.0\.1:") as caught:
        world.ingest([uri])
    assert "pa55w0rd" not in str(caught.value) + repr(world.settings)
    assert list(world.store.walk("_ingestlab/staging")) == []
    world.settings = world.settings.model_copy(update={"mongodb_uri": None})
    outcome = world.ingest([uri]).outcomes[0]
    assert "No MongoDB server is named" in str(outcome.exception())


@pytest.mark.slow("a server of its own")
def test_wrong_credentials_end_a_job_and_a_restart_does_not(make, tmp_path):
    with serving(tmp_path) as server:
        with pymongo.MongoClient(server.url) as client:
            client.admin.command("createUser", "me", pwd="right", roles=["root"])
        world = make("replace")
        world.settings = world.settings.model_copy(
            update={"mongodb_uri": server.url.replace("//", "//me:right@"), "mongodb_timeout": 20}
        )
        server.kill(signal.SIGTERM)
        server.options = ("--auth", "--sync-on-commit")
        server.start()
        uri = world.put("a.csv", FIRST)
        assert world.ingest([uri]).outcomes[0].error is None
        server.kill()
        server.start()
        world.check([uri])
        world.put("a.csv", SECOND)
        good = world.settings
        world.settings = good.model_copy(update={"mongodb_uri": server.url.replace("//", "//me:wr0ng@")})
        error = world.ingest([uri], run="r2").outcomes[0].exception()
        assert isinstance(error, TerminalError)
        assert "Correct user, password and rights" in error.fix
        assert "wr0ng" not in str(error)
        world.settings = good
        world.ingest([uri], run="r2")
        world.check([uri])


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://u:p%2F@h:1,i:2/db?tls=true&x=s", "mongodb://h:1,i:2"),
        ("mongodb+srv://u:p/w@c.example.net/?q=1", "mongodb+srv://c.example.net"),
        ("mongodb://localhost", "mongodb://localhost"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri, shown):
    settings = Settings(mongodb_uri=uri)
    assert settings.mongodb_shown == shown
    assert uri not in repr(settings)


def test_an_address_that_is_none_says_so_without_its_password():
    from ingestlab.core.mongodb import connected, server_of

    for uri in ("mongodb://u:se/cret@h", "http://u:secret@h", "mongodb://u:secret@h:port/"):
        with pytest.raises(TerminalError, match="INGESTLAB_MONGODB_URI") as caught:
            connected(server_of(Settings(mongodb_uri=uri)))
        assert "cret" not in str(caught.value)


def test_without_the_package_the_error_names_the_extra(make, monkeypatch):
    import sys

    for name in ("pymongo", "pymongo.errors", "bson"):
        monkeypatch.setitem(sys.modules, name, None)
    world = make()
    outcome = world.ingest([world.put("a.csv", [1])]).outcomes[0]
    assert "ingestlab[mongodb]" in str(outcome.exception())


def test_a_declaration_that_cannot_be_is_refused():
    from ingestlab import Documents

    for words in ({"key": ["a", "a"]}, {"key": [""]}, {"collection": "a.b"}, {"collection": "$x"}, {"database": "a b"}):
        with pytest.raises(TerminalError, match=r"ingestlab\.Documents"):
            Documents(**words)
    assert Documents().named("9 rows").collection == "_9_rows"
    assert CollectionError.code == "collection_conflict"


def test_a_reader_opens_the_collection_of_a_table_by_its_name(make):
    world = make()
    with pytest.raises(TerminalError, match="has no documents"):
        open_documents("small", world.settings, "default")
    world.ingest([world.put("a.csv", [5])])
    assert open_documents("small", world.settings, "default").find_one()["n"] == 5


def test_doctor_and_card_tell_whether_the_server_answers(make, mongodb, monkeypatch):
    from ingestlab.notebook import card
    from ingestlab.stack import doctor

    settings = make().settings
    away = settings.model_copy(update={"mongodb_uri": f"mongodb://u:pa55w0rd@127.0.0.1:{free_port()}"})
    bad_card, (bad,) = card.look(away).plain(), doctor._mongodb(away)
    monkeypatch.setattr(card, "_SECONDS", 60)  # of a busy machine
    monkeypatch.setattr(doctor, "PATIENCE", 60)
    (good,) = doctor._mongodb(settings)
    assert (good.level, bad.level) == ("ok", "error")
    assert f"answers at {mongodb}." in good.text
    assert "pa55w0rd" not in bad.text + bad.fix + bad_card
    assert list(doctor._mongodb(settings.model_copy(update={"mongodb_uri": None}))) == []
    assert f"{mongodb} - answers" in card.look(settings).plain()


def test_raw_records_are_documents_as_the_reader_gave_them(make):
    world = make("replace")
    world.declare("replace", "raw=True")
    uri = world.put("a.csv", [1, 13, 2, 5000])
    world.ingest([uri])
    there = [(d["n"], d["word"], d["_ingestlab"]["row"], "even" in d) for d in world.documents.find(sort=[("n", 1)])]
    assert there == [(1, "w1", 0, False), (2, "w2", 2, False)]
    world.mend(limit=6000)
    world.replay()
    assert sorted(d["n"] for d in world.documents.find()) == [1, 2, 5000]
    world.verify()
