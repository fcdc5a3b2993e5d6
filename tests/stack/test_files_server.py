"""The sample file server: whole files, conditional requests, ranges, listings, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest


class Reply(NamedTuple):
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server(NamedTuple):
    """A running server and the folder it serves."""

    url: str
    root: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Sends one request exactly as written: no client tidies up the path."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def running(root: Path, ready: Path, *options: str) -> Iterator[Server]:
    """The server as the stack starts it."""
    command = [sys.executable, "-m", "ingestlab.stack.files", "--root", str(root), "--ready", str(ready), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        yield Server(ready.read_text(), root, process)
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that only read."""
    folder = tmp_path_factory.mktemp("served")
    root = folder / "root"
    (root / "bts").mkdir(parents=True)
    (root / "bts" / "a.csv").write_text("id\n1\n2\n")
    (root / "bts" / "a b&c.csv").write_text("x")
    (root / "bts" / "packed.csv.gz").write_bytes(b"\x1f\x8b")
    (root / "bts" / ".hidden").write_text("secret")
    (root / "big.bin").write_bytes(os.urandom(3_000_000))
    (folder / "outside").write_text("secret")
    (root / "way-out").symlink_to(folder / "outside")
    (folder / "root-2").mkdir()
    (folder / "root-2" / "near").write_text("secret")
    with running(root, folder / "ready") as one:
        yield one


def test_listens_on_loopback_alone_and_says_where(server: Server) -> None:
    assert urlsplit(server.url).hostname == "127.0.0.1"
    assert server.url.endswith("/")


def test_a_file_comes_whole_with_a_strong_etag(server: Server) -> None:
    reply = server.get("/bts/a.csv")
    assert (reply.status, reply.body) == (200, b"id\n1\n2\n")
    assert reply.headers["content-type"] == "text/csv"
    assert reply.headers["content-length"] == "7"
    assert reply.headers["etag"].startswith('"')
    assert "last-modified" in reply.headers


@pytest.mark.parametrize("path", ["/bts/a.csv", "/bts/packed.csv.gz", "/bts/a%20b&c.csv", "/big.bin"])
def test_a_file_has_the_same_headers_whichever_way_it_is_answered(server: Server, path: str) -> None:
    names = ("accept-ranges", "content-type", "etag", "last-modified")
    whole, ranged = server.get(path, Accept_Encoding="gzip"), server.get(path, Range="bytes=0-", Accept_Encoding="gzip")
    assert [whole.headers[name] for name in names] == [ranged.headers[name] for name in names]
    assert (whole.body, ranged.status) == (ranged.body, 206)
    assert "content-encoding" not in whole.headers | ranged.headers


def test_a_packed_file_beside_another_does_not_take_its_place(server: Server) -> None:
    (server.root / "twice.csv").write_text("whole")
    (server.root / "twice.csv.gz").write_bytes(b"\x1f\x8b")
    for condition in ({}, {"Range": "bytes=0-"}, {"If_None_Match": '"other"'}):
        assert server.get("/twice.csv", Accept_Encoding="gzip", **condition).body == b"whole"


def test_a_packed_file_comes_as_it_is(server: Server) -> None:
    reply = server.get("/bts/packed.csv.gz")
    assert reply.body == b"\x1f\x8b"
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("path", ["/bts/a.csv", "/big.bin"])
def test_a_file_that_the_client_has_is_not_sent_again(server: Server, path: str) -> None:
    first = server.get(path)
    for name, value in (
        ("If_None_Match", first.headers["etag"]),
        ("If_Modified_Since", first.headers["last-modified"]),
    ):
        again = server.get(path, **{name: value})
        assert (again.status, again.body) == (304, b"")
    assert server.get(path, If_None_Match='"other"').status == 200
    assert server.get(path, If_None_Match='"other", ' + first.headers["etag"]).status == 304


@pytest.mark.parametrize("path", ["/bts/a.csv", "/big.bin"])
def test_ranges(server: Server, path: str) -> None:
    whole = server.get(path)
    part = server.get(path, Range="bytes=3-5", If_Range=whole.headers["etag"])
    assert (part.status, part.body) == (206, whole.body[3:6])
    assert part.headers["content-range"] == f"bytes 3-5/{len(whole.body)}"
    assert server.get(path, Range="bytes=3-5", If_Range='"other"').body == whole.body
    assert server.get(path, Range="bytes=9000000-").status == 416


def test_head_tells_size_and_tag_without_the_bytes(server: Server) -> None:
    for path, size in (("/bts/a.csv", "7"), ("/big.bin", "3000000")):
        reply = server.get(path, "HEAD")
        assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", size)
        assert reply.headers["etag"] == server.get(path).headers["etag"]


def test_a_changed_file_is_served_anew(server: Server) -> None:
    file = server.root / "changing.csv"
    file.write_text("one")
    before = server.get("/changing.csv")
    file.write_text("two!")
    after = server.get("/changing.csv", If_None_Match=before.headers["etag"])
    assert (before.body, after.status, after.body) == (b"one", 200, b"two!")
    file.unlink()
    assert server.get("/changing.csv").status == 404


@pytest.mark.parametrize(
    "path",
    ["/../outside", "/bts/../../outside", "/%2e%2e/outside", "/..%2foutside", "/way-out", "/../root-2/near", "/a%00b"],
)
def test_nothing_outside_the_root_is_served(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 403
    assert b"secret" not in reply.body


@pytest.mark.parametrize("path", ["/none.csv", "/bts/none.csv", "/bts/a.csv/b", "/bts/.hidden"])
def test_what_is_not_there_is_a_404_that_says_so(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 404
    assert b"secret" not in reply.body


def test_only_get_and_head(server: Server) -> None:
    assert server.get("/bts/a.csv", "DELETE").status == 405
    assert (server.root / "bts" / "a.csv").exists()


def test_a_folder_is_a_page_of_links(server: Server) -> None:
    page = server.get("/bts/")
    assert page.headers["content-type"].startswith("text/html")
    assert b'href="a.csv"' in page.body
    assert b'href="a%20b%26c.csv">a b&amp;c.csv<' in page.body
    assert b"hidden" not in page.body
    assert server.get("/bts").headers["location"].endswith("/bts/")


def test_a_folder_as_json_has_sizes_and_tags(server: Server) -> None:
    listed = json.loads(server.get("/bts/?format=json").body)
    assert [entry["name"] for entry in listed] == ["a b&c.csv", "a.csv", "packed.csv.gz"]
    assert listed[1]["size"] == 7
    assert listed[1]["etag"] == server.get("/bts/a.csv").headers["etag"]
    top = json.loads(server.get("/?format=json").body)
    assert {"name": "bts", "kind": "folder"}.items() <= top[1].items()


def test_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "root", tmp_path / "ready") as one:
        keep = http.client.HTTPConnection(urlsplit(one.url).netloc)
        keep.request("GET", "/")
        keep.getresponse().read()
        before = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(60)
        assert time.monotonic() - before < 20, "a connection that is kept alive does not hold it up for a minute"
        keep.close()


def test_who_asks_for_samples_that_are_being_made_waits_for_them(tmp_path: Path) -> None:
    with running(tmp_path / "root", tmp_path / "ready", "--samples") as one, ThreadPoolExecutor(3) as pool:
        paths = ("/flights/flights-2013-12.csv", "/bts/alarm-2017-10-23-00-vn.csv", "/bts/?format=json")
        flights, alarm, listed = pool.map(one.get, paths)
        assert (flights.status, alarm.status) == (200, 200)
        assert alarm.body.startswith(b"id,station_id,")
        assert len(json.loads(listed.body)) == 24
        assert one.get("/flights/none.csv").status == 404


SUN = {"Authorization": "Bearer sunshine"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The server with a small year of weather below its root."""
    root = tmp_path_factory.mktemp("api")
    from ingestlab.stack.samples.samples import SAMPLES

    for kind in SAMPLES:
        (root / kind).mkdir()
    lines = ["origin,time_hour,temp,humid,wind_speed,precip,visib"]
    lines += [f"{place},2013-01-{day:02}T05:00:00Z,{day},NA,1,0,10" for place in ("JFK", "EWR") for day in range(1, 31)]
    (root / "references/weather.csv").write_text("\n".join(lines) + "\n")
    with running(root, root / ".ready", "--samples") as server:
        yield server


def test_the_api_gives_pages_in_order_and_what_is_new(api):
    def ask(query: str) -> dict[str, Any]:
        reply = api.get(f"/api/weather?{query}", **SUN)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    pages = [ask(f"size=25&page={page}") for page in (1, 2, 3, 4)]
    assert [(len(page["data"]), page["pages"], page["total"]) for page in pages] == [
        (n, 3, 60) for n in (25, 25, 10, 0)
    ]
    rows = [(row["at"], row["origin"]) for page in pages for row in page["data"]]
    assert rows == sorted(set(rows))
    assert pages[0]["data"][0]["humid"] is None
    new = ask("origin=JFK&today=2013-01-20&since=2013-01-19T05:00:00Z")
    assert [(row["origin"], row["temp"]) for row in new["data"]] == [("JFK", 19.0), ("JFK", 20.0)]


@pytest.mark.parametrize(
    ("path", "headers", "status", "word"),
    [
        ("/api/weather", {}, 401, "Bearer"),
        ("/api/weather", {"Authorization": "Bearer rain"}, 401, "Bearer"),
        ("/api/winds", SUN, 404, "/api/weather"),
        ("/api/weather?origin=BOS", SUN, 400, "JFK"),
        ("/api/weather?today=tomorrow", SUN, 400, "2013-01-31"),
        ("/api/weather?size=501", SUN, 400, "from 1 to 500"),
        ("/api/weather?page=0", SUN, 400, "from 1 on"),
        ("/api/weather?limit=5", SUN, 400, "'limit'"),
    ],
)
def test_the_api_says_what_is_wrong(api, path, headers, status, word):
    reply = api.get(path, **headers)
    assert (reply.status, word in json.loads(reply.body)["error"]) == (status, True)


def test_without_samples_there_is_no_api(server):
    assert server.get("/api/weather", **SUN).status == 404
