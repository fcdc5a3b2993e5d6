"""Addresses without their secrets: what they are, and that nothing of a lake, a log or an answer has them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fetching import one, quick
from support.recording import CUT, Recorder, answer
from support.servers import Server
from support.workers import CONTENT, ONCE, PATIENCE, until

from ingestlab.core.access import check, shown
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import IngestRequest, Source, SourceRecord, Tally
from ingestlab.core.signed_uri import bare, scrubbed
from ingestlab.lake.source_index import SourceIndex
from ingestlab.lake.storage.store import LocalStore
from ingestlab.queue import find_run
from ingestlab.sources.expand import expand
from ingestlab.sources.fetch import Failed

S = "Zm9vYmFyU2VjcmV0" * 2  # what nobody may see
AWS = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={S}&X-Amz-Date=20261128T000000Z&X-Amz-Expires=60"
SIGNED = [
    (f"?{AWS}&X-Amz-SignedHeaders=host&X-Amz-Signature={S}", ""),
    (f"?versionId=7&{AWS}&X-Amz-Signature={S}&x-id=GetObject", "?versionId=7"),
    (f"?AWSAccessKeyId={S}&Signature={S}%3D&Expires=1795886000", ""),
    (f"?X-Goog-Algorithm=GOOG4&X-Goog-Credential={S}&X-Goog-Signature={S}", ""),
    (f"?GoogleAccessId=me%40x&Expires=1795886000&Signature={S}", ""),
    (f"?sv=2024-11-04&st=2026-11-28T00%3A00%3A00Z&se=2026-11-29T00%3A00%3A00Z&sr=b&sp=r&sig={S}%3D", ""),
    (f"?Expires=1795886000&Signature={S}&Key-Pair-Id={S}", ""),
    (f"?Policy={S}&Signature={S}&Key-Pair-Id={S}&part=2", "?part=2"),
    (f"?OSSAccessKeyId={S}&Expires=1795886000&Signature={S}", ""),
    (f"?q-sign-algorithm=sha1&q-ak={S}&q-key-time=1%3B2&q-signature={S}", ""),
    (f"?md5={S}&expires=1795886000", ""),
    (f"?hdnts=exp=1795886000~acl=/*~hmac={S}", ""),
    (f"?token={S}", ""),
    (f"?a=1&access_token={S}&b=2", "?a=1&b=2"),
    (f"?a=1;api_key={S};b=2", "?a=1;b=2"),
    (f"?API-KEY={S}&&x", "?&x"),
    (f"?%74oken={S}&x=%2B", "?x=%2B"),
    (f"?x=1&apikey={S}#access_token={S}", "?x=1"),
    (f"?private_token={S}&ref=main", "?ref=main"),
    (f"?user=me&password={S}", "?user=me"),
    (f"?subscription-key={S}", ""),
]


@pytest.mark.parametrize(("query", "left"), SIGNED)
def test_what_is_secret_is_no_part_of_an_address(query, left):
    uri = f"https://example.org/a%2Fb.csv{query}"
    assert bare(uri) == f"https://example.org/a%2Fb.csv{left}"
    assert bare(f"zip://day/a.csv::{uri}") == f"zip://day/a.csv::https://example.org/a%2Fb.csv{left}"
    assert S not in shown(uri)
    assert S not in scrubbed(f"GET {uri} and {uri.partition('?')[2]}", [uri])


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.csv",
        "https://example.org/a.csv?",
        "https://example.org/a.csv?x=1&&y=&z",
        "https://example.org/list?sp=2&sr=b&se=x&sv=1",
        "https://example.org/a.csv?expires=never",
        "https://example.org/a.csv?exp=12&Policy=x",
        "https://example.org/a.csv?key=reports/2026/a.csv",
        "https://example.org/page?pageToken=abc&next_token=x",
        "https://example.org/token/a.csv#sig",
        "s3://bucket/a.csv?token=1&sig=2",
        "/data/a.csv?token=1",
        "file:///data/a.csv?token=1",
    ],
)
def test_what_is_not_secret_stays(uri):
    assert bare(uri) == uri


def test_a_key_that_looks_secret_is_told_apart_and_not_shown():
    one, two = (bare(f"https://example.org/a.csv?key={key}&x=1") for key in (f"A1{S}", f"B2{S}"))
    assert one != two
    assert S not in one + two
    assert one.endswith("&x=1")


def test_the_settings_name_more_and_fewer():
    uri = "https://example.org/a.csv?ticket=T&token=2&x=1"
    assert bare(uri, ("ticket",)) == "https://example.org/a.csv?x=1"
    assert bare(uri, ("tick*", "-token")) == "https://example.org/a.csv?token=2&x=1"
    (source,) = expand([uri], quick(secret_parameters="ticket"))
    assert (source.uri, source.address) == ("https://example.org/a.csv?x=1", uri)


_TEXTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="&;#=?~…"), min_size=1)
_NAMES = st.sampled_from(["X-Amz-Signature", "sig", "token", "access_token", "api_key", "Signature", "x", "sp", "page"])


@given(st.lists(st.tuples(_NAMES, _TEXTS), max_size=6), _TEXTS)
def test_an_address_is_bared_once_and_keeps_the_rest(parameters, path):
    query = "&".join(f"{name}={value}" for name, value in parameters)
    once = bare(f"https://example.org/{path}?{query}")
    assert bare(once) == once
    kept = [f"{name}={value}" for name, value in parameters if name in ("x", "page")]
    assert [word for word in once.partition("?")[2].split("&") if word.partition("=")[0] in ("x", "page")] == kept
    assert once.startswith(f"https://example.org/{path}")


def test_the_same_signed_anew_is_the_same_job():
    def request(signature):
        source = Source(uri=f"https://example.org/a.csv?x=1&sig={signature}").bared()
        return IngestRequest(run="r", table="t", sources=(source,))

    one, two = request("first"), request("second")
    assert one.job_id == two.job_id
    assert one.to_dict()["sources"][0]["signed"].endswith("sig=first"), "the worker must ask for it"
    foreign = IngestRequest(run="r", table="t", sources=(Source(uri="https://example.org/a.csv?x=1&sig=third"),))
    assert foreign.bared().job_id == one.job_id
    plain = IngestRequest(run="r", table="t", sources=(Source(uri="https://example.org/a.csv"),))
    assert "signed" not in plain.to_dict()["sources"][0], "older workers read it"


def test_the_guard_repeats_no_secret():
    for uri in (
        f"ftp://h/a?token={S}",
        f"https://h:x/a?token={S}",
        f"https://h/../a?sig={S}",
        f"https://h/\x01?sig={S}",
    ):
        with pytest.raises(TerminalError) as caught:
            check(uri, quick())
        assert S not in str(caught.value)


BAD = [
    answer(b"no", "403 Forbidden"),
    answer(b"no", "503 Gone " + S),
    answer(b"", "302 Found", Location=f"ftp://127.0.0.1/x?token={S}"),
    answer(b"", "302 Found", Location=f"http://127.0.0.1:1/x?token={S}"),
    answer(b"", "302 Found", Location=f"http://[/x?token={S}"),
    answer(b"x", Content_Encoding=f"odd {S}"),
    answer(b"x", length=9) + CUT,
    answer(b"<html>", Content_Type="text/html"),
    b"no HTTP at all " + S.encode() + CUT,
    b"HTTP/1.1 200 OK\r\nContent-Length: x" + S.encode() + b"\r\n\r\n" + CUT,
    CUT,
]


@pytest.mark.parametrize("said", BAD)
def test_no_error_repeats_a_secret(said, tmp_path, caplog):
    with Recorder([said]) as server:
        source = Source(uri=server.url(f"/a.csv?x=1&token={S}")).bared()
        result = one(source, LocalStore(str(tmp_path / "lake")), fetch_attempts=2)
    assert server.lines[0] == f"/a.csv?x=1&token={S}"
    assert isinstance(result, Failed)
    assert S not in f"{result.uri} {result.error} {result.error!r} {result.error.to_dict()} {caplog.text}"


# Through a worker, and what is left of it


def everywhere(folder: Path) -> list[str]:
    """The files of a folder in which a secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if S.encode() in path.read_bytes() or S in str(path)]


PACKED = """
from ingestlab import Archive, Csv, Pipeline
PIPELINE = Pipeline(reader=Archive(reader=Csv(columns={"n": "int64", "word": "string"}), members="*.csv"))
"""


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{name}.csv")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.slow("long work")
def test_the_same_object_signed_anew_is_unchanged_and_nothing_has_its_signature(ready, cli):
    ready.pipeline("packed", PACKED)
    bad = b"n,word\nx,1\n" + CONTENT[7:]
    with Server({"plain-s.csv": CONTENT, "bad.csv": bad, "p.tar": archive(a=CONTENT)}) as files:
        first, again = (files.url(f"/files/plain-s.csv?part=1&X-Amz-Signature={S}{n}") for n in "12")
        bad = files.url(f"/files/bad.csv?sig={S}")
        gone = files.url(f"/files/gone.csv?token={S}")
        packed = files.url(f"/files/p.tar?token={S}")
        one = ready.submit(first, bad, gone)
        result = one.wait(PATIENCE)
        assert [o.status for o in result.outcomes] == ["committed", "committed", "failed"]
        assert ready.submit(packed, pipeline="packed").wait(PATIENCE).count("committed") == 1
        assert ready.submit(packed + "anew", pipeline="packed").wait(PATIENCE).count("unchanged") == 1
        assert [o.status for o in ready.submit(again).wait(PATIENCE).outcomes] == ["unchanged"]
    uri = files.url("/files/plain-s.csv?part=1")
    assert result.outcomes[0].uri == uri
    assert ready.rows(uri) == ONCE
    assert S not in json.dumps([o.to_dict() for o in result.outcomes])
    assert S not in "\n".join(one.history())
    assert S not in one.progress().model_dump_json()
    assert everywhere(Path(ready.settings.lake_url)) == []
    assert S not in ready.workers.log.read_text()
    env = {"REDIS_URL": ready.settings.redis, "INGESTLAB_LAKE": ready.settings.lake_url}
    for command in (["show", one.id], ["show", one.id, "--files"], ["show", one.id, "--json"], ["runs"], ["failed"]):
        said = cli(*command, **env)
        assert S not in said.stdout + said.stderr
        assert one.id in said.stdout
    listening = ready.workers.pids()
    ready.client.flushall()
    assert find_run(one.id, ready.settings).result().outcomes == result.outcomes
    until(lambda: ready.workers.pids() == listening, 20, "the workers that Redis has lost to be back")
    ready.good("plain-after-the-loss.csv")


def test_a_lake_in_which_signatures_were_part_of_names_goes_on(redis_url):
    """The record of an earlier version is that of the object, as long as there is no later one."""
    import redis

    old = SourceRecord(
        uri=f"https://h/a.csv?sig={S}", sha256="1" * 64, size=1, raw="r", tally=Tally(), run="r", batch="b"
    )
    with redis.Redis.from_url(redis_url) as client:
        index = SourceIndex(client, "index:t:t")
        index.record([old])
        found = index.known(["https://h/a.csv", old.uri])
        assert {uri: (r.uri, r.sha256) for uri, r in found.items()} == {
            "https://h/a.csv": ("https://h/a.csv", "1" * 64),
            old.uri: (old.uri, "1" * 64),
        }
        index.record([old.model_copy(update={"sha256": ""})])
        assert index.known(["https://h/a.csv"])["https://h/a.csv"].sha256 == "", "what was deleted is new"
        index.record([old.model_copy(update={"uri": "https://h/a.csv", "sha256": "2" * 64})])
        index.record([old])
        assert index.known(["https://h/a.csv"])["https://h/a.csv"].sha256 == "2" * 64
