"""Listeners of an embedded stack: a line in the settings starts them, and they live and end with it."""

from __future__ import annotations

import json
import os
import signal

import pytest
from support.workers import PATIENCE, until

from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import IngestError, StackError
from ingestlab.core.listening import ListenTo
from ingestlab.core.settings import Settings, load_settings
from ingestlab.stack.services import environment as environment_of
from ingestlab.stack.state import running

TOKENS = {"default": "a long random text"}


@pytest.mark.parametrize(
    ("text", "listeners"),
    [
        ("data/inbox, sqs://q", (ListenTo(address="data/inbox"), ListenTo(address="sqs://q"))),
        ('["data/inbox"]', (ListenTo(address="data/inbox"),)),
        ('{"address": "sqs://q", "sync": "s3://b/x"}', (ListenTo(address="sqs://q", sync=("s3://b/x",)),)),
        ('[{"address": "in", "sync": []}]', (ListenTo(address="in", sync=()),)),
        ("", ()),
    ],
)
def test_listeners_are_named_by_words_or_json(text, listeners, monkeypatch):
    monkeypatch.setenv("INGESTLAB_LISTEN", text)
    assert load_settings().listen == listeners


@pytest.mark.parametrize(
    ("text", "says"), [('["a"', "begins like JSON"), ('[{"adress": "a"}]', "adress"), ("[1]", "listen.0")]
)
def test_what_is_no_listener_is_said_to_be_none(text, says, monkeypatch):
    monkeypatch.setenv("INGESTLAB_LISTEN", text)
    with pytest.raises(IngestError, match=says):
        load_settings()


def test_a_folder_is_synced_by_itself_and_a_queue_says_not_which_one():
    assert ListenTo(address="in").folders == ("in",)
    assert ListenTo(address="in", sync=()).folders == ()
    assert ListenTo(address="sqs://q").folders == ()
    assert ListenTo(address="sqs://q", sync="s3://b").folders == ("s3://b",)


def test_other_processes_read_listeners_and_tokens_as_they_are(settings, monkeypatch):
    first = settings(listen=("in", {"address": "sqs://q", "sync": ["s3://b"], "pipeline": "p"}), announce_tokens=TOKENS)
    for name, value in environment_of(first).items():
        monkeypatch.setenv(name, value)
    second = Settings()
    assert second.listen == first.listen
    assert second.announce_tokens == first.announce_tokens


def rows(settings: Settings, name: str) -> int:
    return sum(table.rows for table in Lake(settings).tables() if table.name == name)


@pytest.mark.slow("a stack of its own")
def test_listeners_live_and_end_with_the_stack(settings, tmp_path, cli):
    inbox, home = tmp_path / "in box", tmp_path / "home"
    inbox.mkdir()
    chosen = settings(listen=[str(inbox)], announce_tokens=TOKENS, rest_seconds=0.1, beat=0.5)
    try:
        stacked = embedded.start(chosen, workers=1, dask_workers=1, milvus=False, detach=False)
        state = running(home)
        assert "announce_tokens" not in state.settings
        listener = state.pids["listener-1"]
        assert listener.find()
        (inbox / "dropped.csv").write_text("n,word\n1,a\n2,b\n")
        until(lambda: rows(stacked, "dropped") == 2, PATIENCE, "the rows of a file that was dropped")
        os.kill(listener.pid, signal.SIGKILL)
        (inbox / "meanwhile.csv").write_text("n\n1\n")
        until(lambda: rows(stacked, "meanwhile") == 1, PATIENCE, "the rows of one that came while nobody listened")
        assert running(home).pids["listener-1"] != listener
        told = json.loads(cli("status", "--home", home, "--json").stdout)
        assert "listener-1" in {part["part"] for part in told["parts"]}
        ((name, address),) = {(one["name"], one["address"]) for one in told["listeners"] if not one["gone"]}
        assert (name, address) == ("listener-1", inbox.as_uri())
        assert "listens to" in cli("up", "--home", home, COLUMNS="200").stdout
        second = running(home).pids["listener-1"]
    finally:
        embedded.stop(home)
    assert not second.find()


@pytest.mark.slow("a stack of its own")
def test_a_listener_that_cannot_listen_keeps_the_stack_from_starting(settings, tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(StackError, match=r"listener-1 did not start.*no folder"):
        embedded.start(settings(listen=[str(missing)]), workers=0, dask_workers=1, milvus=False, detach=False)
    assert running(tmp_path / "home") is None
