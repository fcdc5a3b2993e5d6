"""Another model for a table: new vectors from the lake, beside the old ones, then in their place; all or nothing."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.embedding_world import FIRST, SECOND, maker
from support.lake import Crash, FaultInjector, Inline

from ingestlab.core.errors import BusySourceError, TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.lake.locks import shared_lock, source_lock
from ingestlab.lake.log import manifests
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.reembed import reembed
from ingestlab.notebook import Lab
from ingestlab.sinks.milvus.vector_values import Where
from ingestlab.sinks.milvus.vectors import open_vectors

THIRD = [21, 22, 13, 23, 4000, 24]


@pytest.fixture
def make(tmp_path_factory, redis_url, monkeypatch):
    return maker(tmp_path_factory, redis_url, monkeypatch)


def filled(make, disposition="append", **options):
    """A world with two requests' rows and vectors, whose pipeline wants another model now."""
    world = make(disposition, **options)
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    for n, uri in enumerate(uris):
        world.ingest([uri], run=f"r{n}")
    world.edit(DISPOSITION=disposition, VERSION=2)
    world.counter.unlink()
    return world, uris


def again(world, faults=None, **options):
    return reembed(options.pop("table", "small"), world.context(faults), patience=1, **options)


def crashed(world, at, after) -> bool:
    try:
        again(world, FaultInjector(at, after=after))
    except Crash:
        return True
    return False


def versions(world, **where) -> list[float]:
    """By which version of the model the vectors are that searches find."""
    hits = world.db.search("words", np.ones((1, 3), "float32"), 100, Where(**where))[0]
    target = world.db._target("words")
    rows = ((target.vectors[hit.pk], len(hit.values["text"])) for hit in hits)
    return sorted({round(float(vector[2] / vector[0]) * length) for vector, length in rows})


def edit(world, old, new):
    path = world.folder / "pipelines/small.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def keys(world) -> dict[str, tuple[str, int]]:
    rows = world.db.fetch("words", Where(), ["pk", "source", "row"]).to_pylist()
    return {row["pk"]: (row["source"], row["row"]) for row in rows}


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_another_model_makes_all_vectors_anew_under_the_same_keys(make, disposition):
    world, uris = filled(make, disposition)
    before, target = keys(world), world.db.resolve("words")
    report = again(world)
    world.check(uris)
    assert (report.vectors, report.tables) == (5, ("default/small",))
    assert versions(world) == [2]
    assert keys(world) == before
    assert world.db.names() == ["words"]
    assert list(world.db._targets) == [world.db.resolve("words")] != [target]
    assert world.embedded() == {"w5": 1, "w7": 1, "w1": 1, "w2": 1, "w4": 1}


def test_ingestion_goes_on_afterwards_and_replaces_what_was_made_anew(make):
    world, (a, b) = filled(make, "replace")
    again(world)
    world.put("a.csv", THIRD)
    c = world.put("c.csv", [31, 32])
    results = [o.status for o in world.ingest([a, c], run="r5").outcomes]
    assert results == ["committed", "committed"]
    world.check([a, b, c])
    assert versions(world) == [2]
    assert world.reconcile().clean


def test_it_may_be_repeated(make):
    world, uris = filled(make)
    for _ in range(3):
        again(world)
    world.check(uris)
    assert list(world.db._targets) == [world.db.resolve("words")]
    world.edit(VERSION=1)
    again(world)
    world.check(uris)
    assert versions(world) == [1]


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize(("mend", "after"), [("again", False), ("again", True), ("reconcile", True), ("ingest", True)])
def test_a_crash_at_any_step_leaves_the_old_vectors_or_the_new_ones(make, mend, after):
    crashes = 0
    for at in range(1, 60):
        world, uris = filled(make)
        if not crashed(world, at, after):
            break
        crashes += 1
        assert world.db.count("words", Where()) == 5, f"at {at}: searches find everything all the while"
        assert len(versions(world)) == 1, f"at {at}: and of one model"
        staged = any(world.store.walk("_ingestlab/embedded"))
        if mend == "reconcile":
            world.reconcile()
            world.check(uris)
            assert world.reconcile().clean
            assert list(world.db._targets) == [world.db.resolve("words")], f"at {at}: no target is left over"
        if mend == "ingest":
            uris.append(world.put("c.csv", [31]))
            found = world.ingest([uris[-1]], run="r7").outcomes[0]
            if found.status == "failed":
                assert "model" in found.error["expected"]
                uris.pop()
        again(world)
        world.check(uris)
        assert versions(world) == [2]
        assert list(world.db._targets) == [world.db.resolve("words")]
        assert mend == "reconcile" or not staged or max(world.embedded().values()) <= 2
    assert crashes > 10


def test_a_try_that_failed_late_runs_no_model_again(make, monkeypatch):
    world, uris = filled(make)
    monkeypatch.setattr(world.db, "count", lambda *_: 1)
    with pytest.raises(TransientError, match="5 vectors"):
        again(world)
    monkeypatch.undo()
    monkeypatch.setattr("ingestlab.sinks.milvus.commit.connected", world.connected)
    assert versions(world) == [1]
    again(world)
    world.check(uris)
    assert max(world.embedded().values()) == 1


OTHER = "other.py"


def two_tenants(make):
    world, uris = filled(make, tenants=("default", "physics"))
    world.edit(VERSION=1)
    request = IngestRequest(
        run="r9", tenant="physics", pipeline="small", table="t", sources=(Source(uri=world.put("p.csv", THIRD)),)
    )
    ingest(request, world.context(), lambda _: None)
    world.edit(VERSION=2)
    return world, uris


def complete(world) -> bool:
    there = {tenant: world.db.count("words", Where(tenant=tenant)) for tenant in ("default", "physics")}
    return there == {"default": 5, "physics": 4}


def test_tables_that_share_a_collection_are_done_together(make):
    world, _ = two_tenants(make)
    report = again(world)
    assert set(report.tables) == {"default/small", "physics/small"}
    assert complete(world)
    assert versions(world, tenant="physics") == versions(world, tenant="default") == [2]
    assert world.reconcile().clean


@pytest.mark.slow("crashes at every step")
def test_a_crash_does_all_tables_of_a_collection_or_none(make):
    for at in range(1, 80):
        world, _ = two_tenants(make)
        if not crashed(world, at, after=True):
            break
        assert complete(world)
        world.reconcile()
        assert world.reconcile().clean, f"at {at}"
        assert complete(world)
        kinds = [manifests(world.store, tenant, "small")[-1].kind for tenant in ("default", "physics")]
        assert len(set(kinds)) == 1, f"at {at}: one table was done, and one was not"
        assert versions(world) == ([2] if kinds[0] == "reembed" else [1])
        assert list(world.db._targets) == [world.db.resolve("words")]
    assert at > 18


def test_tables_that_want_different_models_are_told_so(make):
    world, _ = filled(make)
    text = (world.folder / "pipelines/small.py").read_text()
    world.edit(VERSION=1)
    text1 = (world.folder / "pipelines/small.py").read_text()
    (world.folder / "pipelines" / OTHER).write_text(text1)
    request = IngestRequest(run="r9", pipeline="other", table="t", sources=(Source(uri=world.put("p.csv", THIRD)),))
    assert ingest(request, world.context(), lambda _: None).outcomes[0].status == "committed"
    (world.folder / "pipelines/small.py").write_text(text)
    with pytest.raises(TerminalError, match="one wish for collection 'words'"):
        again(world)
    assert world.db.count("words", Where()) == 9
    (world.folder / "pipelines" / OTHER).write_text(text)
    assert set(again(world).tables) == {"default/small", "default/other"}
    assert versions(world) == [2]


def test_rows_of_another_lake_in_the_collection_are_not_thrown_away(make):
    world, _ = filled(make)
    other, _ = filled(make)
    world.db = other.db
    with pytest.raises(TerminalError, match="5 others"):
        reembed("small", _tenant_less(world), patience=1)


def _tenant_less(world):
    """The rows of the other lake are told by their table's name."""
    target = world.db._target("words")
    for row in target.rows.values():
        row["table"] = "elsewhere"
    return world.context()


class Backwards(Inline):
    """A cluster that does first what it was given last."""

    def map(self, function, calls, keys, resources=None):
        for i in reversed(range(len(calls))):
            yield i, function(*calls[i])


class During(Inline):
    """A cluster on which something else happens, once, while it works on a kind of task."""

    def __init__(self, kind, what):
        self.kind, self.what = kind, what

    def map(self, function, calls, keys, resources=None):
        if self.what and keys and keys[0].startswith(self.kind):
            what, self.what = self.what, None
            what()
        return super().map(function, calls, keys, resources)


def with_cluster(world, cluster):
    context = world.context()
    return type(context)(context.settings, context.store, context.locks, cluster)


def test_a_job_that_comes_meanwhile_waits_its_turn_and_is_not_lost(make):
    world, uris = filled(make)
    c = world.put("c.csv", [31, 32])
    waited = []

    def come():
        with pytest.raises(BusySourceError, match="'words' is locked"):
            world.ingest([c], run="r5")
        waited.append(c)

    reembed("small", with_cluster(world, During("reembed-", come)))
    assert waited
    world.ingest([c], run="r5")
    world.check([*uris, c])
    assert versions(world) == [2]


def test_a_job_that_began_with_the_old_model_does_not_commit_its_vectors(make):
    world, uris = filled(make)
    c = world.put("c.csv", [31, 32])
    world.edit(VERSION=1)

    def change():
        world.edit(VERSION=2)
        again(world)

    request = IngestRequest(run="r5", pipeline="small", table="t", sources=(Source(uri=c),))
    with pytest.raises(TransientError, match="made again meanwhile"):
        ingest(request, with_cluster(world, During("small-", change)), lambda _: None)
    world.ingest([c], run="r5")
    assert len(world.reconcile().abandoned) == 1, "what was made by the old model"
    world.check([*uris, c])
    assert versions(world) == [2]


def test_a_job_that_is_about_to_commit_waits_as_well(make):
    world, uris = filled(make)
    world.edit(VERSION=1)
    c = world.put("c.csv", [31, 32])
    request = IngestRequest(run="r5", pipeline="small", table="t", sources=(Source(uri=c),))
    with world.locks.lease() as other:
        hold = During("small-", lambda: other.acquire([shared_lock("words")]))
        with pytest.raises(BusySourceError, match="'words' is locked"):
            ingest(request, with_cluster(world, hold), lambda _: None)
    assert list(world.store.walk("_ingestlab/intents")) == []
    world.ingest([c], run="r5")
    world.check([*uris, c])


def test_a_commit_at_work_is_waited_for(make):
    world, uris = filled(make)
    world.edit(VERSION=1)
    c = world.put("c.csv", [31, 32])

    def change():
        world.edit(VERSION=2)
        with pytest.raises(TransientError, match="other jobs commit into collection words"):
            again(world)

    request = IngestRequest(run="r5", pipeline="small", table="t", sources=(Source(uri=c),))
    ingest(request, with_cluster(world, During("vectors-", change)), lambda _: None)
    again(world)
    world.check([*uris, c])
    assert versions(world) == [2]


def test_a_dead_commit_is_settled_first(make):
    world, uris = filled(make)
    world.edit(VERSION=1)
    c = world.put("c.csv", [31, 32])
    with pytest.raises(Crash):
        world.ingest([c], FaultInjector(8, after=True), run="r5")
    world.edit(VERSION=2)
    again(world)
    world.reconcile()
    assert versions(world) == [2]
    world.ingest([c], run="r5")
    world.check([*uris, c])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('payload=["n"]', 'payload=["n", "even"]'),
        ('payload=["n"]', 'payload=["n"], metric="L2"'),
        ('payload=["n"]', 'payload=["n"], normalise=False'),
        ('payload=["n"]', 'payload=["n"], split=Split(size=500)'),
        ("VERSION", "1, 5"),
    ],
    ids=["payload", "metric", "normalise", "split", "dimension"],
)
def test_whatever_else_differs_is_refused_and_made_anew(make, old, new):
    world = make()
    a, c = world.put("a.csv", FIRST), world.put("c.csv", [31, 32])
    world.ingest([a])
    edit(world, old.replace("VERSION", "97, 1"), new.replace("1, 5", "97, 1, 5"))
    (outcome,) = world.ingest([c], run="r2").outcomes
    assert "`ingestlab reembed" in outcome.error["fix"]
    assert outcome.error["expected"] != outcome.error["got"]
    again(world)
    world.check([a])
    assert world.ingest([c], run="r3").outcomes[0].status == "committed"
    world.check([a, c])
    if "even" in new:
        found = world.db.fetch("words", Where(), ["n", "even"]).to_pylist()
        assert {row["n"]: row["even"] for row in found} == {n: n % 2 == 0 for n in (5, 7, 31, 32)}


def test_an_embedding_that_was_declared_late_is_made_for_all_rows(make):
    world = make()
    path = world.folder / "pipelines/small.py"
    text = path.read_text()
    path.write_text(re.sub(r"    embedding=.*\n", "", text))
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    world.ingest(uris)
    with pytest.raises(TerminalError, match="No pipeline of table small has an embedding"):
        again(world)
    path.write_text(text)
    report = again(world)
    assert (report.before, report.vectors) == ("", 5)
    world.check(uris)
    world.ingest([world.put("c.csv", [31])], run="r5")
    world.check([*uris, (world.folder / "sources/c.csv").as_uri()])


def test_a_table_without_rows_takes_another_model(make):
    world = make("replace")
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.put("a.csv", [])  # a header alone
    world.ingest([uri], run="r2")
    world.edit(VERSION=2, DISPOSITION="replace")
    assert again(world).vectors == 0
    world.put("a.csv", SECOND)
    assert world.ingest([uri], run="r3").outcomes[0].status == "committed"
    world.check([uri])
    assert versions(world) == [2]


def test_another_collection_takes_the_vectors_along(make):
    world, _ = filled(make)
    edit(world, 'collection="words"', 'collection="terms"')
    assert "'terms'" in world.ingest([world.put("c.csv", [31])], run="r5").outcomes[0].error["got"]
    again(world)
    assert world.db.names() == ["terms"]
    assert world.db.count("terms", Where()) == 5
    assert world.reconcile().clean
    assert list(world.db._targets) == [world.db.resolve("terms")]


def test_merged_parts_and_both_contents_of_an_appended_source_keep_a_vector_a_row(make):
    world, (a, b) = filled(make)
    world.edit(VERSION=1)
    world.put("a.csv", THIRD)
    world.ingest([a], run="r5")
    world.edit(VERSION=2)
    again(world)
    assert world.there()[a] == world.rows("small")[a] == world.rows("small__vectors")[a]
    compact("small", world.context())
    again(world)
    assert world.there()[a] == world.rows("small")[a] == world.rows("small__vectors")[a]
    assert world.there()[b] == world.rows("small")[b]
    assert world.reconcile().clean


def test_rows_that_clean_made_of_one_record_and_that_went_to_several_folders_keep_their_vectors(make):
    world = make()
    edit(world, "    return df[", "    df = df[")
    edit(world, "def model", "    return pd.concat([df.assign(x=i) for i in range(2)])\n\ndef model")
    edit(world, "import numpy as np", "import numpy as np\nimport pandas as pd")
    edit(world, 'partition_by="even"', 'partition_by="x"')
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    assert world.there()[uri] == {0: 2, 2: 2}
    for _ in range(2):
        again(world)
        assert world.there()[uri] == world.rows("small")[uri] == world.rows("small__vectors")[uri]


def test_rows_of_several_contents_with_one_declared_key_keep_a_vector_each(make):
    world = make()
    edit(world, 'payload=["n"]', 'payload=["n"], key=["word"]')
    uri = world.put("a.csv", [5, 7])
    world.ingest([uri])
    world.put("a.csv", [8, 5])
    world.ingest([uri], run="r2")
    before = keys(world)
    assert world.there()[uri] == world.rows("small")[uri] == {0: 2, 1: 2}
    edit(world, "97, 1", "97, 2")
    reembed("small", with_cluster(world, Backwards()))
    assert keys(world) == before


def test_a_cut_file_and_its_old_parts_without_a_column_are_embedded(make):
    world = make(partition_bytes=1024)
    numbers = list(range(100, 400))
    uri = world.put("a.csv", numbers)
    world.ingest([uri])
    before = keys(world)
    assert len(manifests(world.store, "default", "small")[-1].parts) > 4, "cut, in two folders each"
    edit(world, 'payload=["n"]', 'payload=["n", "late"]')
    edit(world, ".assign(even=", '.assign(late="x", even=')
    (outcome,) = world.ingest([world.put("c.csv", [7])], run="r2").outcomes
    assert outcome.status == "failed"
    with pytest.raises(TerminalError, match="the column 'late'"):
        again(world)
    assert keys(world) == before
    edit(world, 'payload=["n", "late"]', 'payload=["n"]')
    edit(world, "97, 1", "97, 2")
    again(world)
    world.check([uri])
    assert keys(world) == before


FILES = """
from ingestlab import Embedding, Pipeline, Text
import numpy as np
import pandas as pd

def model(images):
    return np.array([[len(image), 1, 97.0 + VERSION] for image in images], dtype="float32")

def clean(df):
    return pd.concat([df.assign(x=i) for i in range(2)])

PIPELINE = Pipeline(
    reader=Text(), clean=clean, partition_by="x", embedding=Embedding(source="file", model=model, collection="words")
)
"""


def test_files_are_embedded_from_the_raw_zone(make):
    world = make()
    path = world.folder / "pipelines/small.py"
    path.write_text(FILES.replace("VERSION", "1"))
    files = [world.folder / "sources" / f"{n}.txt" for n in range(3)]
    for n, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_text("text " * (n + 1))
    uris = [file.as_uri() for file in files]
    world.ingest(uris)
    before = keys(world)
    assert len(before) == 3
    for file in files:
        file.unlink()
    path.write_text(FILES.replace("VERSION", "2"))
    again(world)
    assert keys(world) == before
    (raw,) = [p for p in world.store.walk("raw") if world.store.size(p) == 5]
    world.store.delete(raw)
    path.write_text(FILES.replace("VERSION", "3"))
    with pytest.raises(TerminalError, match="in the raw zone"):
        again(world)
    assert keys(world) == before


def test_other_pipelines_of_a_request_are_committed(make):
    world, _ = filled(make)
    plain = 'from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(reader=Csv(), matches=["plain*"])\n'
    (world.folder / "pipelines/plain.py").write_text(plain)
    path = world.folder / "pipelines/small.py"
    path.write_text(path.read_text().replace("    clean=clean,", '    clean=clean, matches=["c*"],'))
    sources = tuple(Source(uri=world.put(name, [31])) for name in ("c.csv", "plain.csv"))
    result = ingest(IngestRequest(run="r5", table="t", sources=sources), world.context(), lambda _: None)
    assert [o.status for o in result.outcomes] == ["failed", "committed"]


def test_what_cannot_be_made_anew_says_why(make):
    world, _ = filled(make)
    with pytest.raises(TerminalError, match="of tenant default"):
        again(world, table="nothing")
    edit(world, "    embedding=", "    description=str(0) or ")
    with pytest.raises(TerminalError, match="which has made vectors of table small"):
        again(world)
    with world.locks.lease() as other:
        world.edit(VERSION=2)
        other.acquire(["rewrite:default:small", source_lock("default", "small", "x")])
        with pytest.raises(TransientError, match="rewrite:default:small is locked"):
            again(world)
    again(world)


@pytest.fixture
def lite(make, milvus_lite):
    """A world on a real server; its collection has a name of its own."""
    world = make(milvus_uri=milvus_lite.url)
    opened = open_vectors(world.settings)
    world.settings = world.settings.model_copy(update={"milvus_uri": milvus_lite.url})
    world.db = opened
    yield world
    for name in [name for name in opened.names() if name == "words"]:
        opened.drop(name)
    opened.close()


@pytest.mark.slow("Milvus Lite")
def test_a_real_server_switches_and_drops(lite):
    uris = [lite.put("a.csv", FIRST), lite.put("b.csv", SECOND)]
    lite.ingest(uris)
    old = lite.db.resolve("words")
    lite.edit(VERSION=2)
    assert "model" in lite.ingest([lite.put("c.csv", [7])], run="r2").outcomes[0].error["expected"]
    for at in range(1, 40, 3):
        if not crashed(lite, at, after=True):
            break
        assert lite.db.count("words", Where()) == 5
    again(lite)
    assert lite.db.resolve("words") not in {None, old}
    assert lite.db.resolve(old) is None
    lite.check(uris)
    raw = pq.read_table(pa.BufferReader(next(iter(lite.store.read_files(_vectors(lite))))))
    hits = lite.db.search("words", np.array([raw["vector"][0].as_py()], "float32"), 1)
    assert hits[0][0].pk == raw["pk"][0].as_py()


def _vectors(world):
    return [p for p in world.store.walk("tables/default/small__vectors") if p.endswith(".parquet")]


@pytest.mark.slow("a stack of its own")
def test_the_commands_and_the_lab_on_a_real_cluster_and_a_real_server(lite, cli, redis_url):
    uris = [lite.put("a.csv", FIRST), lite.put("b.csv", SECOND)]
    lite.ingest(uris)
    lite.edit(VERSION=2)
    found = {"home": lite.settings.home, "redis_url": redis_url, "lake": lite.settings.lake_url}
    env = {
        "REDIS_URL": redis_url,
        "INGESTLAB_LAKE": lite.settings.lake_url,
        "INGESTLAB_PIPELINES": lite.settings.pipelines[0],
        "MILVUS_URI": lite.settings.milvus_uri,
    }
    done = cli("reembed", "small", "--json", **env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vectors"] == 5
    lite.check(uris)
    lite.edit(VERSION=3)
    lab = Lab(pipelines=lite.settings.pipelines, milvus_uri=lite.settings.milvus_uri, **found)
    assert "5 vectors of default/small" in str(lab.reembed("small"))
    lite.check(uris)
    done = cli("delete", uris[0], "--yes", **env)
    assert done.stdout == "small: 2 rows, 1 rejects, 2 in milvus of 1 source deleted\n", done.stderr
    (gone,) = lab.delete(uris[1], table="small")
    assert gone.rows == 3
    assert lite.db.count("words", Where()) == 0
    done = cli("delete", "nowhere.csv", **env)
    assert (done.returncode, "problem" in done.stderr) == (1, True)
