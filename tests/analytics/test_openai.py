"""Models behind servers: paced over all workers, asked again in bounds, and told no more than they need."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from aiohttp import web
from support.embedding_world import maker
from support.model_server import ModelServer, status, vector
from support.workers import PATIENCE

from ingestlab.analytics.embedders import endpoint, openai
from ingestlab.analytics.embedders.base import ModelError
from ingestlab.analytics.embedders.endpoint import reach
from ingestlab.analytics.embedders.probes import TEXT
from ingestlab.analytics.embedders.registry import embed_all, embed_each, fingerprint
from ingestlab.core.errors import CollectionError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.lake.locks import connect
from ingestlab.lake.rate_limits import BURST, LocalLimiter, RedisLimiter
from ingestlab.pipeline.embedding import Embedding, spell
from ingestlab.sinks.milvus.search import search

SECRET = "sk-T0p-Secret/9"
TEXTS = ["rain", "snow", "an upload of data", "日本語", "x" * 100]


@pytest.fixture
def server():
    with ModelServer() as running:
        yield running


def settings(**more) -> Settings:
    return Settings(_env_file=None, **{"fetch_delay": 0.001, **more})


def load(server: ModelServer, options: str = "", **more):
    """Build the model as a worker does that is told these settings."""
    with reach(settings(**more).outside()):
        return openai.build(spell(f"openai:mini@{server.base}{options}"))


def embedded(server: ModelServer, texts=TEXTS, options: str = "", **more) -> np.ndarray:
    model = load(server, options, **more)
    server.log.clear()
    with reach(settings(**more).outside()):
        return embed_all(model, texts, normalise=False)


def truth(texts=TEXTS) -> np.ndarray:
    return np.stack([vector(text) for text in texts])


# What comes and goes


@pytest.mark.parametrize("options", ["", "?encoding=base64", "?batch_tokens=6"])
@pytest.mark.parametrize("backwards", [False, True])
def test_each_text_has_its_own_vector(server, options, backwards):
    server.change = lambda items: items[::-1] if backwards else items
    assert (embedded(server, options=options) == truth()).all()
    assert sorted(server.texts) == sorted(TEXTS)
    assert {asked.body["model"] for asked in server.log} == {"mini"}


def test_a_server_may_give_numbers_where_base64_was_asked_for(server):
    server.change = lambda items: [{**i, "embedding": vector(TEXT).tolist()} for i in items]
    assert (embedded(server, ["a"], "?encoding=base64") == vector(TEXT)).all()


def test_dimensions_are_asked_for_and_checked(server):
    model = load(server, "?dimensions=8")
    assert (model.dim, server.log[0].body["dimensions"]) == (8, 8)
    server.answer = lambda _n, asked: asked.body.pop("dimensions") and None
    with pytest.raises(ModelError, match=r"8 numbers.*got 4"):
        load(server, "?dimensions=8")


def test_requests_hold_so_many_tokens(server):
    texts = [chr(97 + i % 26) * (1 + i % 60) for i in range(500)]
    embedded(server, texts, "?batch_tokens=100")
    sizes = [sum(map(openai.tokens, asked.texts)) for asked in server.log]
    assert max(sizes) <= 100
    assert np.median(sizes) > 60
    embedded(server, ["a"] * 1000, "?batch_tokens=100000")
    assert max(len(asked.texts) for asked in server.log) == openai.BATCH
    embedded(server, ["x" * 900, "a", "b"], "?batch_tokens=100")
    assert [len(asked.texts) for asked in server.log] == [2, 1]


def test_the_fingerprint_tells_model_server_and_dimensions_and_no_key(server, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", SECRET)
    model = load(server, "?key=MODEL_KEY&dimensions=8&tpm=100000")
    with reach(settings().outside()):
        made = fingerprint(model)
    assert (made["model"], made["version"], made["dim"]) == (f"openai:mini@{server.base}?dimensions=8", "mini", 8)
    assert "KEY" not in str(made)


# Trouble


def test_statuses_that_pass_are_asked_again(server):
    model = load(server)
    server.log.clear()
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    answers = {1: status(429, Retry_After="0"), 2: status(503, Retry_After=past), 3: status(500), 4: status(429)}
    server.answer = lambda number, _asked: answers.get(number)
    with reach(settings().outside()):
        assert (model.embed(["rain"]) == vector("rain")).all()
    assert len(server.log) == 5


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_is_asked_again_when_it_says(server, code, as_date):
    model = load(server)
    server.log.clear()
    later = datetime.now(UTC) + timedelta(seconds=2)  # a date has no fractions of a second
    wait = format_datetime(later, usegmt=True) if as_date else "1"
    server.answer = lambda number, _asked: status(code, Retry_After=wait) if number == 1 else None
    with reach(settings().outside()):
        model.embed(["rain"])
    first, second = server.log
    assert second.at - first.at >= (0.5 if as_date else 1)


def test_one_429_holds_all_workers_back(server, redis_url):
    """Of many workers, only those whose requests are under way see it."""
    told = settings(redis_url=redis_url).outside()
    model = load(server, redis_url=redis_url)
    server.log.clear()
    until = []

    def storm(_number, asked):
        if not until:
            until.append(asked.at + 1)
        return status(429, Retry_After="1") if asked.at < until[0] else None

    def work(n: int) -> np.ndarray:
        with reach(told):
            return model.embed([f"w{n}"])

    server.answer = storm
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(40)))
    assert (np.concatenate(found) == truth([f"w{n}" for n in range(40)])).all()
    assert len([asked for asked in server.log if asked.at < until[0]]) <= 4


@pytest.mark.parametrize(
    ("answer", "attempts", "said"),
    [
        (lambda _n, _a: status(503), endpoint.ATTEMPTS, "status 503"),
        (lambda _n, _a: status(429, Retry_After="3600"), 1, "again in 3600 s"),
        (lambda _n, _a: status(429, "insufficient_quota"), 1, "quota"),
        (lambda _n, _a: status(404, "no such model"), 1, "no such model"),
        (lambda _n, _a: status(302, Location="/elsewhere"), 1, "status 302"),
        (lambda _n, _a: status(200, "<html>welcome"), 1, "has no vectors"),
        (lambda _n, _a: web.json_response({"data": None}), 1, "has no vectors"),
        (lambda _n, _a: web.json_response(["data"]), 1, "has no vectors"),
    ],
)
def test_what_does_not_pass_ends_in_bounds_and_blames_no_input(server, answer, attempts, said):
    model = load(server)
    server.log.clear()
    server.answer = answer
    with reach(settings().outside()), pytest.raises((ModelError, TransientError), match=said):
        embed_all(model, TEXTS)
    assert len(server.log) == attempts


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items[1:],
        lambda items: [*items, {"index": len(items), "embedding": [1, 2, 3, 4]}],
        lambda items: [{**item, "index": 0} for item in items],
        lambda items: [{**item, "embedding": item["embedding"][: 1 + item["index"]]} for item in items],
        lambda items: [{**item, "embedding": item["embedding"][:3]} for item in items],
        lambda items: [{**item, "embedding": "?"} for item in items],
    ],
    ids=["one less", "one more", "one index", "ragged", "another dimension", "no base64"],
)
def test_answers_of_another_shape_are_the_servers_fault(server, change):
    model = load(server)
    server.log.clear()
    server.change = change
    with reach(settings().outside()), pytest.raises(ModelError):
        embed_all(model, TEXTS)
    assert len(server.log) == 1


def test_an_input_that_the_server_refuses_is_found(server):
    model = load(server)
    server.answer = lambda _n, asked: status(400, "too long: 9 tokens") if "bad" in asked.texts else None
    with reach(settings().outside()):
        each = embed_each(model, ["a", "bad", "b", "c"], normalise=False)
    assert (each.vectors[[0, 2, 3]] == truth(["a", "b", "c"])).all()
    assert [(at, f.rule, f.value) for at, f in each.faults.items()] == [
        (1, "RefusedError", "too long: 9 tokens: 'bad'")
    ]


def test_a_number_that_is_missing_is_that_texts_fault_alone(server):
    server.change = lambda items: [
        {**item, "embedding": [None] * 4 if item["embedding"][0] == 4 else item["embedding"]} for item in items
    ]
    model = load(server)
    with reach(settings().outside()):
        assert embed_each(model, ["ab", "abc", "abcd"]).faults[1].rule == "nan"


def test_a_slow_server_is_asked_again(server):
    async def slow() -> None:
        await asyncio.sleep(1)

    model = load(server)
    server.log.clear()
    server.answer = lambda number, _asked: slow() if number == 1 else None
    with reach(settings(read_timeout=0.2).outside()):
        assert (model.embed(["rain"]) == vector("rain")).all()
    assert len(server.log) == 2


def test_an_answer_that_drips_ends(server):
    model = load(server)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    server.answer = lambda _number, asked: drip(asked.request)
    began = time.monotonic()
    with reach(settings(task_timeout=1.5).outside()), pytest.raises(TransientError, match="takes too long"):
        model.embed(["rain"])
    assert time.monotonic() - began < PATIENCE / 2


# The key


def test_the_key_goes_to_the_server_and_nowhere_else(server, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", f"{SECRET}\n")  # as shells and files leave it
    model = load(server, "?key=MODEL_KEY")
    assert server.log[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in f"{model!r} {model.name} {vars(model)}"
    server.answer = lambda number, _asked: status(400 if number % 2 else 401, f"bad key {SECRET}, i.e. sk-T0p***")
    for _ in range(2):
        with reach(settings().outside()), pytest.raises(TerminalError) as caught:
            model.embed(["rain"])
        assert "MODEL_KEY" in str(caught.value) or "bad key …" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert SECRET.encode() not in pickle.dumps(caught.value.to_dict())


@pytest.mark.parametrize("value", [None, "", "two\nlines", "schlüssel", "nul\0"])
def test_a_key_that_cannot_be_is_told_by_its_variable_alone(server, monkeypatch, value):
    if value is None or "\0" in value:
        monkeypatch.delenv("MODEL_KEY", raising=False)
    else:
        monkeypatch.setenv("MODEL_KEY", value)
    with pytest.raises(ModelError, match="variable MODEL_KEY") as caught:
        load(server, "?key=MODEL_KEY")
    assert not value or value not in str(caught.value)
    assert not server.log


@pytest.mark.parametrize("option", [f"?key={SECRET}", "?key=sk_live_abcdef", "?key=openai_key"])
def test_a_key_in_place_of_its_name_is_refused_and_not_repeated(server, option):
    with pytest.raises(TerminalError, match="environment variable") as caught:
        load(server, option)
    assert option[5:] not in str(caught.value)


# Where it may be


@pytest.mark.parametrize(
    "forbidding", [{"deny_networks": "127.0.0.0/8"}, {"allow_hosts": "*.example.org"}, {"schemes": "https,file"}]
)
def test_a_server_is_guarded_like_a_source(server, forbidding):
    with pytest.raises(TerminalError, match="not allowed"):
        load(server, **forbidding)
    assert not server.log


def test_a_name_is_checked_by_what_it_resolves_to(server):
    with (
        reach(settings(deny_networks="127.0.0.0/8,::1/128").outside()),
        pytest.raises(TerminalError, match=r"127\.0\.0\.1|::1"),
    ):
        openai.build(spell(f"openai:mini@http://localhost:{server.port}/v1"))
    assert not server.log


def test_a_server_that_is_away_is_tried_in_bounds():
    with ModelServer() as gone:
        pass
    with pytest.raises(TransientError, match="No answer from http"):
        load(gone)


@pytest.mark.parametrize(
    "model",
    [
        "openai:mini", "openai:mini@", "openai:@http://host/v1", "openai:mini@ftp://host/v1",
        "openai:mini@http://user:pw@host/v1", "openai:mini@http://host/v1#a",
    ],
)  # fmt: skip
def test_a_server_that_is_not_spelled_so_is_refused(model):
    with pytest.raises(TerminalError, match=r"openai:<model>@<base URL>|<model or path>") as caught:
        Embedding(source="text", model=model)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("option", ["encoding=int8", "tpm=-1", "batch_tokens=0", "dimensions=-8", "temperature=1"])
def test_options_that_cannot_be_are_refused(server, option):
    with pytest.raises(TerminalError, match=option.partition("=")[0]):
        load(server, f"?{option}")


# One bucket


@pytest.fixture(params=["local", "redis"])
def limiters(request, redis_url):
    """Several workers' limiters, which share one rate."""
    if request.param == "local":
        return [LocalLimiter()] * 3
    return [RedisLimiter(connect(redis_url)) for _ in range(3)]


def test_workers_share_a_rate_in_the_order_in_which_they_ask(limiters):
    rate = 100.0
    began = time.monotonic()
    waits = [limiters[n % 3].reserve("a", 1, rate, 60) for n in range(int(BURST * rate) + 300)]
    spent = time.monotonic() - began
    assert waits[0] == waits[int(BURST * rate) - 1] == 0
    assert waits[-1] == pytest.approx(3, abs=spent + 0.05)
    assert limiters[1].reserve("another", 1, rate, 60) == 0


def test_more_than_a_burst_waits_for_those_before_alone(limiters):
    assert limiters[0].reserve("big", 1000, 10, 60) == 0  # nobody would ever have so much at once
    with pytest.raises(TransientError, match="within 60 s"):
        limiters[1].reserve("big", 1, 10, 60)
    assert limiters[2].reserve("big", 1, 10, 100) == pytest.approx(95.1, abs=1)


def test_a_wait_that_is_refused_takes_nothing(limiters):
    for _ in range(3):
        limiters[0].reserve("full", 50, 10, 60)
    for _ in range(50):
        with pytest.raises(TransientError):
            limiters[1].reserve("full", 50, 10, 1)
    assert limiters[2].reserve("full", 10, 10, 60) == pytest.approx(11, abs=1)


def test_a_pause_is_for_all_and_those_who_waited_come_one_by_one(limiters):
    limiters[0].pause("p", 2)
    limiters[1].pause("p", 1)  # does not shorten it
    waits = [limiters[n % 3].reserve("p", 100, 100, 60) for n in range(8)]
    assert waits[0] == pytest.approx(2, abs=0.5)
    assert waits[7] - waits[0] == pytest.approx(3, abs=0.5)
    limiters[0].pause("q", 2)
    assert limiters[1].reserve("q", 0, 0, 60) == pytest.approx(2, abs=0.5)  # without a rate


def test_a_redis_that_is_away_is_said():
    with pytest.raises(TransientError, match="rate limits"):
        RedisLimiter(connect("redis://127.0.0.1:1/0")).reserve("a", 1, 1, 1)


WORKER = """
import sys
from ingestlab.analytics.embedders import openai
from ingestlab.analytics.embedders.endpoint import reach
from ingestlab.core.settings import Settings
from ingestlab.pipeline.embedding import spell

with reach(Settings(_env_file=None, redis_url=sys.argv[2]).outside()):
    model = openai.build(spell(sys.argv[1]))
    for n in range(60):
        model.embed([f"w{n}"])
"""


@pytest.mark.slow("processes against a rate")
def test_processes_together_keep_to_one_rate(server, redis_url):
    rate = 20
    model = f"openai:mini@{server.base}?rpm={60 * rate}"
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, model, redis_url]) for _ in range(3)]
    assert [worker.wait(PATIENCE) for worker in workers] == [0, 0, 0]
    times = np.array([asked.at for asked in server.log])
    assert len(times) == 3 * 61
    for start in range(0, len(times), 10):  # of any window
        counts = np.arange(1, len(times) - start + 1)
        assert (counts <= BURST * rate + rate * (times[start:] - times[start] + 0.5) + 3).all()
    assert times[-1] - times[0] >= (len(times) - BURST * rate) / rate - 0.5


# In a pipeline


PIPELINE = """
from ingestlab import Csv, Embedding, Pipeline

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    write_disposition="replace",
    embedding=Embedding(
        source="word", model="openai:mini@BASE?key=MODEL_KEY&tpm=1000000", collection="words", payload=["n"]
    ),
)
"""


@pytest.fixture
def world(tmp_path_factory, redis_url, monkeypatch, server):
    monkeypatch.setenv("MODEL_KEY", SECRET)
    world = maker(tmp_path_factory, redis_url, monkeypatch)(fetch_delay=0.001)
    monkeypatch.setattr("ingestlab.sinks.milvus.search.connected", lambda _settings: world.db)
    (world.folder / "pipelines/small.py").write_text(PIPELINE.replace("BASE", server.base))
    return world


def test_a_table_is_embedded_searched_and_changed_and_the_lake_holds_no_key(world, server):
    uri = world.put("a.csv", [1, 22, 333])
    server.answer = lambda _n, asked: status(400, "no 22") if "w22" in asked.texts else None
    result = world.ingest([uri])
    assert (result.outcomes[0].status, result.rules) == ("committed", {"embed:RefusedError": 1})
    assert search("words", "w333", world.settings, limit=1)["text"].tolist() == ["w333"]
    server.log.clear()
    server.answer = lambda _n, _asked: None
    world.put("a.csv", [1, 4444, 333])
    world.ingest([uri], run="r2")
    assert [text for text in server.texts if text != TEXT] == ["w4444"]
    for path in world.store.walk(""):
        assert SECRET.encode() not in world.store.read(path), path


def test_a_storm_that_lasts_leaves_nothing_and_the_next_try_commits(world, server):
    uri = world.put("a.csv", [1, 22, 333])
    server.answer = lambda number, _asked: status(429) if number > 2 else None
    with pytest.raises(TransientError, match="status 429"):
        world.ingest([uri])
    assert not world.rows("small")[uri]
    server.answer = lambda _n, _asked: None
    world.ingest([uri])
    assert world.there()[uri].total() == 3


def test_another_server_is_another_model(world):
    world.ingest([world.put("a.csv", [1])])
    with ModelServer() as other:
        (world.folder / "pipelines/small.py").write_text(PIPELINE.replace("BASE", other.base))
        (outcome,) = world.ingest([world.put("b.csv", [2])], run="r2").outcomes
    assert outcome.status == "failed"
    assert outcome.error["code"] == CollectionError.code
    assert other.base in str(outcome.error)
