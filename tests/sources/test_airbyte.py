"""Connectors of Airbyte as sources: the protocol, states and pages, and connectors that die, hang or talk rubbish."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.airbyte import NUMBERS, lay_numbers, numbers, pages_of, pulled_with_retries, rows_of
from support.selection import examples

from ingestlab import Airbyte, TerminalError, TransientError
from ingestlab.interfaces import Pull
from ingestlab.sources.airbyte import source
from ingestlab.sources.airbyte.catalog import Stream
from ingestlab.sources.airbyte.columns import kind_of
from ingestlab.sources.airbyte.config import concealing, filled
from ingestlab.sources.airbyte.messages import RecordCutter, parse
from ingestlab.sources.airbyte.scaffold import Draft, without_secrets


@pytest.fixture
def told():
    return []


@pytest.fixture
def pull(settings, told):
    known = settings(airbyte_timeout=20)
    lay_numbers(known)
    return Pull("numbers", "run", known, tell=told.append)


def got(source, pull):
    return asyncio.run(pages_of(source, pull))


def ns(pages):
    return [row["n"] for row in rows_of(pages)]


def alive(pid):
    with_pid = psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return bool(with_pid)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)


def test_a_pull_brings_the_records_as_they_came_and_the_state(pull, told):
    [page] = got(numbers(25), pull)
    line = '{"n":3,"square":9,"text":"wörd 3","at":"2026-01-01T00:00:00Z","tags":["a"]}\n'
    assert line.encode() in page.lines
    assert ns([page]) == list(range(25))
    assert page.request == "source-numbers 1.0: read numbers, incremental"
    state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "numbers"}, "stream_state": {"next": 25}}}
    assert page.resume is None
    assert page.cursor == {"airbyte": NUMBERS, "stream": "numbers", "states": [state]}
    assert told[0] == "source-numbers: info: from 0 with the key None"
    assert told[-1] == "source-numbers: numbers complete"


@pytest.mark.parametrize("kind", ["STREAM", "GLOBAL", "LEGACY"])
def test_the_next_pull_begins_where_the_last_ended(pull, kind):
    first = got(numbers(25, kind=kind), pull)
    after = replace(pull, cursor=json.loads(json.dumps(first[-1].cursor)))
    assert ns(got(numbers(40, kind=kind), after)) == list(range(25, 40))
    assert got(numbers(25, kind=kind), after) == []


def test_a_full_refresh_brings_everything_and_remembers_nothing(pull):
    pages = got(numbers(25, mode="full_refresh"), pull)
    assert ns(pages) == list(range(25))
    assert {page.cursor for page in pages} == {page.resume for page in pages} == {None}
    assert got(numbers(0, stream="plain", mode="full_refresh"), pull) == []


def test_pages_end_at_states_and_long_ones_without(pull, monkeypatch):
    monkeypatch.setattr(source, "_PAGE", 1000)
    monkeypatch.setattr(source, "_MOST", 3000)
    pages = got(numbers(200, every=20), pull)
    assert ns(pages) == list(range(200))
    assert [page.rows for page in pages] == [20] * 10
    assert [page.cursor["states"][0]["stream"]["stream_state"]["next"] for page in pages] == [*range(20, 201, 20)]
    pages = got(numbers(200, every=150), pull)
    assert ns(pages) == list(range(200))
    come = [sum(page.rows for page in pages[: place + 1]) for place, page in enumerate(pages) if page.cursor]
    assert come in ([150, 200], [200])  # where a state came as a page ended, and at the end
    assert [page.cursor for page in pages[:-1]] == [page.resume for page in pages[:-1]]
    assert len(pages) > 3


def test_killed_at_random_each_record_comes_once(pull, monkeypatch, tmp_path):
    monkeypatch.setattr(source, "_PAGE", 500)
    monkeypatch.setattr(source, "_MOST", 1500)
    faults = {str(n): random.choice(["kill", "exit", "transient_error"]) for n in random.sample(range(300), 6)}
    errors = []
    asked = numbers(300, every=30, once=str(tmp_path), faults=faults)
    pages = asyncio.run(pulled_with_retries(asked, pull, errors))
    assert ns(pages) == list(range(300))
    assert len(errors) == 6
    assert {error.code for error in errors} == {"connector_failed"}
    assert {type(error) for error in errors} == {TransientError}


BAD = {
    "exit": (TransientError, "connector_failed", "source-numbers ended with code 3: Traceback: out of luck"),
    "kill": (TransientError, "connector_failed", "was ended by signal 9. Was there memory enough?"),
    "broken": (TerminalError, "connector_invalid", "a record without an object as its `data`"),
    "half": (TerminalError, "connector_invalid", "sent a broken record"),
    "stranger": (TerminalError, "connector_invalid", "nobody asked for: expected numbers; got others"),
    "config_error": (TerminalError, "connector_refuses", "refuses its configuration: no luck with *** (inside)"),
    "transient_error": (TransientError, "connector_failed", "source-numbers failed: no luck with *** (inside)"),
    "system_error": (TransientError, "connector_failed", "source-numbers failed: no luck with ***"),
    "incomplete": (TransientError, "connector_failed", "could not read all of the stream numbers"),
    "state": (TerminalError, "connector_invalid", "sent a state of an unknown kind"),
}


@pytest.mark.parametrize("how", BAD)
def test_what_goes_wrong_is_said_in_plain_words(how, pull, told, monkeypatch):
    monkeypatch.setenv("NUMBERS_KEY", "hunter22")
    kind, code, text = BAD[how]
    with pytest.raises(kind) as raised:
        got(numbers(20, faults={"5": how}, key={"env": "NUMBERS_KEY"}), pull)
    assert raised.value.code == code
    assert text in str(raised.value)
    assert "hunter22" not in f"{raised.value}{told}"
    assert "with the key ***" in told[0]


def test_lines_of_libraries_are_told_and_harm_nothing(pull, told):
    assert ns(got(numbers(20, faults={"5": "rubbish"}), pull)) == list(range(20))
    assert "source-numbers: <html>nothing of the kind</html>" in told


def test_what_speaks_no_protocol_at_all_is_refused(settings):
    known = settings()
    lay_numbers(known, script="import sys; print('Usage: me'); sys.exit(2)")
    with pytest.raises(TerminalError, match=r"does not speak the Airbyte protocol.*exit code 2, and Usage: me"):
        got(numbers(), Pull("numbers", "run", known))


def test_one_that_hangs_is_ended(pull, tmp_path):
    slow = replace(pull, settings=pull.settings.model_copy(update={"airbyte_timeout": 1.5}))
    probe = tmp_path / "probe"
    with pytest.raises(TransientError, match=r"has said nothing for 1.5 s.*INGESTLAB_AIRBYTE_TIMEOUT") as raised:
        got(numbers(20, faults={"5": "hang"}, probe=str(probe)), slow)
    assert raised.value.code == "connector_failed"
    assert not alive(json.loads(probe.read_text())["pid"])


def test_helpers_that_outlive_a_connector_hold_nothing_up(pull):
    began = time.monotonic()
    assert ns(got(numbers(20, faults={"5": "helper"}), pull)) == list(range(5))
    assert time.monotonic() - began < 15


def test_closed_early_the_connector_is_ended_and_its_files_are_gone(pull, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_PAGE", 500)
    probe = tmp_path / "probe"

    async def first_page():
        async with aclosing(numbers(10**9, probe=str(probe)).pages(pull)) as pages:
            page = await anext(pages)
            assert alive(json.loads(probe.read_text())["pid"])
            return page

    assert asyncio.run(first_page()).rows
    seen = json.loads(probe.read_text())
    assert not alive(seen["pid"])
    assert not Path(seen["folder"]).exists()


def test_a_connector_does_not_outlive_a_worker_that_is_killed(pull, tmp_path):
    probe = tmp_path / "probe"
    work = pickle.dumps((numbers(50, faults={"5": "hang"}, probe=str(probe)), replace(pull, tell=print)))
    code = f"""
import asyncio, pickle
source, pull = pickle.loads({work!r})
async def main():
    async for page in source.pages(pull): pass
asyncio.run(main())
"""
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    reads = lambda: probe.exists() and '"read"' in probe.read_text()  # noqa: E731
    until(reads)
    seen = json.loads(probe.read_text())
    assert alive(seen["pid"])
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    until(lambda: not alive(seen["pid"]) and not Path(seen["folder"]).exists())


def test_a_connector_gets_files_of_its_own_and_no_secret_of_ours(pull, tmp_path, monkeypatch):
    monkeypatch.setenv("INGESTLAB_REDIS_URL", "redis://:secret@host")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NUMBERS_KEY", "hunter22")
    monkeypatch.setenv("WANTED", "yes")
    known = pull.settings.model_copy(update={"airbyte_environment": ("WANTED",)})
    probe = tmp_path / "probe"
    asked = numbers(5, key={"env": "NUMBERS_KEY"}, probe=str(probe))
    got(asked, replace(pull, settings=known))
    seen = json.loads(probe.read_text())
    assert seen["environment"]["WANTED"] == "yes"
    assert seen["environment"]["HOME"] == seen["folder"]
    assert not {name for name, value in seen["environment"].items() if "secret" in value or "hunter22" in value}
    assert not set(seen["environment"]) & {"INGESTLAB_REDIS_URL", "AWS_SECRET_ACCESS_KEY", "NUMBERS_KEY", "VIRTUAL_ENV"}
    assert {mode[-3:] for mode in seen["modes"].values()} == {"600"}
    assert seen["files"]["--config"]["key"] == "hunter22"
    assert "hunter22" not in f"{asked!r}{seen['argv']}"


def test_declarations_that_cannot_be_meant_are_refused():
    refused = {
        "either `connector` or `image`; got neither": Airbyte(streams=["a"]),
        "got both": Airbyte(connector="source-a", image="a/b", streams=["a"]),
        "Not the name of a connector": Airbyte(connector="../a", streams=["a"]),
        "one of full_refresh, incremental as `sync_mode`; got 'dedup'": numbers(mode="dedup"),
        "one stream in `streams`; got 0": Airbyte(connector="source-a"),
        "values of JSON in `config`": Airbyte(connector="source-a", streams=["a"], config={"a": {1, 2}}),
    }
    for text, declared in refused.items():
        with pytest.raises(TerminalError) as raised:
            declared.check("orders")
        assert text in str(raised.value)
    with pytest.raises(TerminalError) as raised:
        Airbyte(connector="source-faker", streams=["users", "products"]).check("shop")
    assert "The Airbyte source of pipeline 'shop' is not declared well: expected one stream" in str(raised.value)
    assert "discover source-faker --config config.json --streams users,products --to pipelines/`" in raised.value.fix
    numbers().check("numbers")
    assert pickle.loads(pickle.dumps(numbers())) == numbers()


def test_what_is_asked_wrongly_is_refused_before_anything_is_read(pull):
    refused = {
        "Did you mean 'numbers'?": numbers(stream="number"),
        "in several namespaces: a.twice, b.twice": numbers(stream="twice", mode="full_refresh"),
        'Say sync_mode="full_refresh"': numbers(stream="plain"),
        'Say cursor_field="…"': numbers(stream="open"),
        "The environment variable NO_SUCH_KEY is not set": numbers(key={"env": "NO_SUCH_KEY"}),
    }
    for text, asked in refused.items():
        with pytest.raises(TerminalError) as raised:
            got(asked, pull)
        assert text in str(raised.value)
    assert ns(got(numbers(5, stream="b.twice", mode="full_refresh"), pull)) == list(range(5))
    assert ns(got(replace(numbers(5, stream="open"), cursor_field="n"), pull)) == list(range(5))
    with pytest.raises(TerminalError, match="has no windows"):
        got(numbers(), replace(pull, window={"from": "2026-01-01"}))


def test_connectors_that_are_not_there_are_named_with_the_command_that_brings_them(pull):
    with pytest.raises(TerminalError, match=r"source-number is not installed.*Did you mean 'source-numbers'") as raised:
        got(Airbyte(connector="source-number", streams=["a"]), pull)
    assert raised.value.fix.endswith("ingestlab airbyte install source-number")
    with pytest.raises(TerminalError, match=r"another version: expected 9\.9; got 1\.0"):
        got(replace(numbers(), connector=f"{NUMBERS}==9.9"), pull)
    known = pull.settings.model_copy(update={"airbyte_container": "no-such-docker"})
    with pytest.raises(TerminalError, match="no program 'no-such-docker' here"):
        got(Airbyte(image="airbyte/source-faker:7.2.1", streams=["a"]), replace(pull, settings=known))


@pytest.mark.parametrize(
    "cursor",
    [
        {"page": 7},
        {"airbyte": "source-other", "stream": "numbers", "states": []},
        {"airbyte": NUMBERS, "stream": "plain", "states": []},
        {"airbyte": NUMBERS, "stream": "numbers", "states": "all"},
    ],
)
def test_a_state_of_another_source_is_refused(pull, cursor):
    with pytest.raises(TerminalError, match="remembers the state of another source") as raised:
        got(numbers(), replace(pull, cursor=cursor))
    assert raised.value.code == "cursor_invalid"


def test_a_container_runs_as_this_user_and_goes_with_the_pull(pull, tmp_path):
    """There is no Docker here: a program in its place runs the connector, and keeps what it was told."""
    engine = tmp_path / "docker"
    script = pull.settings.home / "airbyte" / f"{NUMBERS}.00000000" / "bin" / NUMBERS
    engine.write_text(f"""#!{sys.executable} -SE
import json, os, sys
with open({str(tmp_path / "calls")!r}, "a") as file: file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "run":
    place = sys.argv.index("example/source-numbers:2.0")
    os.execv({str(script)!r}, [{str(script)!r}, *sys.argv[place + 1:]])
""")
    engine.chmod(0o755)
    known = pull.settings.model_copy(update={"airbyte_container": str(engine)})
    image = replace(numbers(5), connector="", image="example/source-numbers:2.0")
    [page] = got(image, replace(pull, settings=known))
    assert ns([page]) == list(range(5))
    assert page.cursor["airbyte"] == NUMBERS  # the same state serves both ways
    hung = replace(pull, settings=known.model_copy(update={"airbyte_timeout": 1.5}))
    with pytest.raises(TransientError):
        got(replace(image, config={"count": 9, "faults": {"5": "hang"}}), hung)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    run = calls[1]
    assert run[:4] == ["run", "-i", "--rm", "--name"]
    assert run[run.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    folder = run[run.index("-v") + 1].partition(":")[0]
    assert run[-5:-2] == ["read", "--config", f"{folder}/config.json"]
    assert run[run.index("-v") + 1] == f"{folder}:{folder}"
    assert calls[-1] == ["rm", "-f", calls[-2][4]]


@settings(max_examples=examples(200), deadline=None)
@given(
    data=st.dictionaries(
        st.text(max_size=8) | st.sampled_from(["emitted_at", "data", "}}", '},"']),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=8)
            | st.sampled_from(['"emitted_at":1}}', "},"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    ),
    order=st.permutations(["stream", "data", "emitted_at"]),
    more=st.sampled_from([{}, {"meta": {"changes": []}}, {"namespace": None}, {"x": {"emitted_at": 5}}]),
    where=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    last=st.booleans(),
)
def test_records_keep_their_bytes_however_a_connector_writes_them(data, order, more, where, separators, last):
    parts = {"stream": "numbers", "data": data, "emitted_at": 1795982870143}
    record = {name: parts[name] for name in order}
    record = {**more, **record} if where else {**record, **more}
    message = {"record": record, "type": "RECORD"} if last else {"type": "RECORD", "record": record}
    line = json.dumps(message, separators=separators, ensure_ascii=False).encode()
    expected = json.dumps(data, separators=separators, ensure_ascii=False).encode()
    cutter = RecordCutter("source-numbers", "numbers")
    for _ in range(2):  # the first record teaches it the form
        found = cutter.cut(line)
        assert (cutter.whole(parse(line), line) if found is None else found) == expected


TYPES = {
    "int64": {"type": ["null", "integer"]},
    "float64": {"type": "number"},
    "bool": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "date32": {"type": "string", "format": "date"},
    "timestamp[us]": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
    "timestamp[us, tz=UTC]": {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
    "json": {"type": ["string", "integer"]},
}
NESTED = [{"type": "object"}, {"type": "array", "items": {"type": "string"}}, {}, True, {"$ref": "#/x"}]


def test_types_come_from_the_json_schema():
    assert {kind: kind_of(schema) for kind, schema in TYPES.items()} == {kind: kind for kind in TYPES}
    assert {kind_of(schema) for schema in NESTED} == {"json"}
    assert kind_of({"type": "number", "airbyte_type": "integer"}) == "int64"
    assert kind_of({"type": "number", "airbyte_type": "big_number"}) == "json"


def test_a_pipeline_of_a_stream_says_what_its_catalogue_says():
    schema = {"properties": {"id": TYPES["int64"], "day": TYPES["date32"], 'a "b"': TYPES["string"]}}
    keyed = {"json_schema": schema, "source_defined_primary_key": [["id"]], "default_cursor_field": ["day"]}
    both = {"supported_sync_modes": ["full_refresh", "incremental"]}
    text = Draft(stream=Stream("or ders", "pub", keyed | both), connector="source-a", config={"k": True}).text()
    assert 'config={"k": True},' in text
    assert 'streams=["pub.or ders"],\n        sync_mode="incremental",' in text
    assert '    write_disposition="merge",\n    key="id",\n    latest_by="day",\n)' in text
    compile(text, "a.py", "exec")
    for path in ([["a", "b"]], [["day"], ["gone"]], []):
        other = Draft(
            stream=Stream("x", "", keyed | both | {"source_defined_primary_key": path}), connector="a", config={}
        ).text()
        assert "No column is named as the key" in other
        assert "merge" not in other
    plain = Draft(stream=Stream("__x__", "", keyed), connector="source-a", config={})
    assert plain.name == "x"
    assert 'sync_mode="full_refresh"' in plain.text()
    assert "merge" not in plain.text()


def test_secrets_of_a_configuration_are_not_written():
    secret = {"type": "string", "airbyte_secret": True}
    ways = {"oneOf": [{"properties": {"token": secret}}, {"properties": {"user": {"type": "string"}}}]}
    spec = {"connectionSpecification": {"properties": {"url": {}, "key": secret, "login": ways}}}
    config = {"url": "https://a", "key": {"env": "MINE"}, "login": {"token": "abc", "user": "u"}}
    assert without_secrets(config, spec, "source-shop") == (
        {**config, "login": {"token": {"env": "SOURCE_SHOP_LOGIN_TOKEN"}, "user": "u"}},
        ["SOURCE_SHOP_LOGIN_TOKEN"],
    )


def test_secrets_are_taken_out_of_texts_in_every_form():
    config = {"a": {"env": "A"}, "password": 'p"w/ö ', "list": [{"env": "B"}], "name": "visible"}
    full = filled(config, {"A": "alpha", "B": "line one\nline two"})
    hide = concealing(config, full)
    shown = hide(f"alpha {json.dumps(full)} p%22w%2F%C3%B6%20 line two visible {full['password']!r}")
    assert "visible" in shown
    assert not [word for word in ("alpha", "w/", "one", "line two", "w%2F") if word in shown]


def test_streams_that_say_nothing_of_themselves_are_read_in_full():
    bare = Stream("x", "", {"name": "x", "json_schema": {}})
    assert bare.modes == ("full_refresh",)
    assert bare.configured("full_refresh")["streams"][0]["sync_mode"] == "full_refresh"
