"""HTTP as it is spoken: addresses to the byte, versions that change under a download, wrappings, pages, names."""

from __future__ import annotations

import gzip
import hashlib
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fetching import failure, one, record
from support.recording import CUT, Recorder, answer

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.engine.plan import file_of
from ingestlab.formats.csv.reader import Csv
from ingestlab.formats.html import Html
from ingestlab.formats.text import Text
from ingestlab.interfaces import pieces_of
from ingestlab.lake.storage.store import LocalStore
from ingestlab.sources.fetch import FetchedFile, Unchanged
from ingestlab.sources.http.response import is_page
from ingestlab.sources.http.urls import exact, resolved

CSV = b"id,value\n" + b"1,2\n" * 20_000
OTHER = b"id,value\n" + b"3,4\n" * 20_000
MANY = CSV * 40  # more than is kept in memory
HALF = len(CSV) // 2


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "lake"))


# Addresses


TARGETS = [
    "/a%2Fb.csv",
    "/a%2fb.csv",
    "/a+b.csv?x=1+2",
    "/a%2Bb.csv?x=1%2B2",
    "/a%20b.csv",
    "/list[1].csv?ids[]=1&ids[]=2",
    "/%5B1%5D.csv?ids%5B%5D=1",
    "//a//b.csv",
    "/a//",
    "/a.csv?",
    "/a.csv?&&x=&=1",
    "/a...",
    "/a.csv.",
    "/./a.csv",
    "/%7Euser/~user/a.csv",
    "/a.csv?x=%zz&y=100%",
    "/a;v=1,2/b.csv;c",
    "/a.csv?q='x'|\"y\"^z`{}<>\\",
    "/a.csv?a=1&b=http://x/y?z=1",
    "/a.csv?sig=ab%2Fc%3D%3D&e=1",
    "/a.csv?t=1:2@3!$*()",
    "/%E4%BD%A0.csv",
    "/%e4%bd%a0.csv",
    "?x=1",
    "",
]


@pytest.mark.parametrize("target", TARGETS)
def test_an_address_is_asked_for_to_the_byte(store, target):
    with Recorder([answer(CSV)]) as server:
        assert isinstance(one(server.url(target), store), FetchedFile)
    assert server.lines == [target if target.startswith("/") else f"/{target}"]


def test_only_what_http_cannot_carry_is_encoded(store):
    with Recorder([answer(CSV)]) as server:
        one(server.url("/dä ta/a%2F b.csv?x=ü+1#part"), store)
    assert server.lines == ["/d%C3%A4%20ta/a%2F%20b.csv?x=%C3%BC+1"]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x%2Fy+z?a[]=%2b&", "/x%2Fy+z?a[]=%2b&"),
        ("//127.0.0.1:{port}//b?", "//b?"),
        ("http://127.0.0.1:{port}/%7E?sig=a%2Fb", "/%7E?sig=a%2Fb"),
        ("?x=1%2B", "/p//q/a.csv?x=1%2B"),
        ("b%2F.csv", "/p//q/b%2F.csv"),
        ("../c.csv?d=../", "/p//c.csv?d=../"),
        ("./", "/p//q/"),
        ("/b.csv#part", "/b.csv"),
        ("/blank name.csv", "/blank%20name.csv"),
        ("/l\xe4tin.csv", "/l%E4tin.csv"),
    ],
)
def test_a_redirect_is_followed_to_the_byte(store, location, target):
    with Recorder([]) as server:
        there = location.format(port=server.port)
        server.answers = [answer(b"", "302 Found", Location=there), answer(CSV)]
        assert isinstance(one(server.url("/p//q/a.csv?old=1"), store), FetchedFile)
    assert server.lines == ["/p//q/a.csv?old=1", target]


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60))
def test_any_target_stays_as_it_is(target):
    assert exact(f"http://example.org/{target}").raw_path_qs == f"/{target}"
    assert exact(resolved("http://example.org/x/y", f"http://example.org/{target}")).raw_path_qs == f"/{target}"


# Going on with another version


V1, V2 = '"v1"', '"v2"'
CUT_OFF = (
    answer(CSV[:HALF], length=len(CSV), ETag=V1, Accept_Ranges="bytes", Last_Modified="Mon, 02 Nov 2026 00:00:00 GMT")
    + CUT
)


def rest(data: bytes, span: str | None = None, **headers: str) -> bytes:
    """The rest of a file from the half on."""
    span = span or f"bytes {HALF}-{len(data) - 1}/{len(data)}"
    return answer(data[HALF:], "206 Partial Content", Content_Range=span, **headers)


@pytest.mark.parametrize(
    ("second", "requests"),
    [
        (rest(OTHER, ETag=V2), 3),
        (rest(OTHER), 3),
        (rest(OTHER, ETag=f"W/{V1}"), 3),
        (rest(OTHER, ETag=V1, Last_Modified="Tue, 03 Nov 2026 00:00:00 GMT"), 3),
        (rest(OTHER, f"bytes {HALF}-{len(OTHER) - 1}/{len(OTHER) + 1}", ETag=V1), 3),
        (rest(OTHER, f"bytes 0-{len(OTHER) - 1}/{len(OTHER)}", ETag=V1), 3),
        (rest(OTHER, f"bytes {HALF}-{HALF + 5}/{len(OTHER)}", ETag=V1), 3),
        (rest(OTHER, "items 1-2/3", ETag=V1), 3),
        (rest(OTHER, ETag=V1, Content_Encoding="gzip"), 3),
        (answer(OTHER, ETag=V2), 2),
    ],
)
def test_another_version_begins_again(store, second, requests):
    with Recorder([CUT_OFF, second, answer(OTHER, ETag=V2)]) as server:
        file = one(server.url("/a.csv"), store)
    assert store.read(file.path) == OTHER
    assert file.version == f"etag:{V2}"
    assert len(server.requests) == requests
    assert f"If-Range: {V1}".encode() in server.requests[1]


def test_the_rest_of_the_same_version_is_taken(store):
    with Recorder([CUT_OFF, rest(CSV, ETag=V1)]) as server:
        assert store.read(one(server.url("/a.csv"), store).path) == CSV
    assert len(server.requests) == 2


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", ""])
def test_what_vouches_for_no_byte_is_no_reason_to_go_on(store, etag):
    first = answer(CSV[:HALF], length=len(CSV), ETag=etag, Accept_Ranges="bytes") + CUT
    with Recorder([first, answer(OTHER)]) as server:
        assert store.read(one(server.url("/a.csv"), store).path) == OTHER
    assert b"Range:" not in server.requests[1]


# Wrappings


def deflated(data: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


def br(data: bytes) -> bytes:
    return pa.Codec("brotli").compress(data).to_pybytes()


WRAPPED = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", lambda data: deflated(data, -15)),
    ("br", br),
    ("zstd", lambda data: pa.Codec("zstd").compress(data).to_pybytes()),
    ("gzip, br", lambda data: br(gzip.compress(data))),
    ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    ("br, deflate", lambda data: zlib.compress(br(data))),
    ("gzip", lambda data: gzip.compress(data[:10]) + gzip.compress(data[10:])),
    ("identity", bytes),
    ("aws-chunked", bytes),
    ("gzip,aws-chunked", gzip.compress),
]


@pytest.mark.parametrize("data", [b"", b"id\n1\n", CSV, MANY], ids=["empty", "short", "one", "many"])
@pytest.mark.parametrize(("name", "wrap"), WRAPPED)
def test_what_was_put_on_for_the_way_is_taken_off(store, name, wrap, data):
    with Recorder([answer(wrap(data), Content_Encoding=name, ETag=V1)]) as server:
        file = one(server.url("/a.csv"), store)
    assert store.read(file.path) == data
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_file_that_is_packed_itself_stays_so(store):
    packed = gzip.compress(CSV)
    with Recorder([answer(gzip.compress(packed), Content_Encoding="gzip")]) as server:
        assert store.read(one(server.url("/a.csv.gz"), store).path) == packed


@pytest.mark.parametrize(("name", "wrap"), [("gzip", gzip.compress), ("br", br), ("deflate", zlib.compress)])
def test_a_wrapped_download_goes_on_where_it_stopped(store, name, wrap):
    noise = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(60_000))
    sent = wrap(noise)
    half = len(sent) // 2
    told = {"ETag": V1, "Content_Encoding": name}
    first = answer(sent[:half], length=len(sent), Accept_Ranges="bytes", **told) + CUT
    span = f"bytes {half}-{len(sent) - 1}/{len(sent)}"
    second = answer(sent[half:], "206 Partial Content", Content_Range=span, **told)
    with Recorder([first, second]) as server:
        assert store.read(one(server.url("/a.bin"), store).path) == noise
    assert f"Range: bytes={half}-".encode() in server.requests[1]


@pytest.mark.parametrize("name", ["compress", "gzip, snappy", "lzma", "dcb"])
def test_an_unknown_wrapping_is_named(store, name):
    with Recorder([answer(CSV, Content_Encoding=name)]) as server:
        assert f"Content-Encoding '{name}'" in failure(server.url("/a.csv"), store, TerminalError)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["gzip", "zstd", "gzip, br"])
def test_a_wrapping_that_is_not_there_is_an_error(store, name):
    with Recorder([answer(CSV, Content_Encoding=name)]) as server:
        failure(server.url("/a.csv"), store, TerminalError if "," not in name else TransientError, fetch_attempts=1)


@pytest.mark.parametrize(("name", "wrap"), [w for w in WRAPPED if w[0] in ("gzip", "deflate", "br", "zstd")])
def test_a_wrapping_that_ends_early_is_an_error_and_tried_again(store, name, wrap):
    told = {"Content_Encoding": name, "ETag": V1, "Accept_Ranges": "bytes"}
    with Recorder([answer(wrap(CSV)[:-3], **told)]) as server:
        text = failure(server.url("/a.csv"), store, TransientError, fetch_attempts=2)
    assert f"Content-Encoding {name}" in text
    assert [b"Range" in request for request in server.requests] == [False, False]
    with Recorder([answer(wrap(CSV)[:-3], **told), answer(wrap(CSV), **told)]) as server:
        assert store.read(one(server.url("/a.csv"), store).path) == CSV


def test_a_wrapped_flood_is_stopped_at_the_limit(store):
    flood = gzip.compress(b"0" * (30 << 20))
    with Recorder([answer(flood, Content_Encoding="gzip")]) as server:
        text = failure(server.url("/a.csv"), store, TerminalError, max_file_bytes=4 << 20)
    assert "at most 4,194,304 bytes" in text


# 304


@pytest.mark.parametrize(
    "said",
    [
        answer(b"", "304 Not Modified"),
        answer(CSV[:50], "304 Not Modified"),
        answer(b"", "304 Not Modified", length=len(CSV)),
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n" + CSV[:50] + CUT,
        answer(answer(OTHER), "304 Not Modified"),
    ],
)
def test_a_304_is_a_304_with_a_body_too(store, said):
    whole = answer(CSV, ETag=V1)
    with Recorder([whole, lambda asked: said if b"If-None-Match" in asked else whole]) as server:
        uri = server.url("/a.csv")
        known = {uri: record(one(uri, store))}
        assert one(uri, store, known, fetch_attempts=1) == Unchanged(uri, f"etag:{V1}")
        assert store.read(one(server.url("/b.csv"), store).path) == CSV, "the connection has no body in it"


def test_what_changed_is_seen_behind_an_unreadable_answer(store):
    with Recorder([answer(CSV, ETag=V1), answer(CSV[:9], "304 Not Modified"), answer(OTHER, ETag=V2)]) as server:
        uri = server.url("/a.csv")
        known = {uri: record(one(uri, store))}
        assert store.read(one(uri, store, known).path) == OTHER


# Pages


PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head><body>Who are you?</body></html>"
LOGINS = [
    (PAGE, "text/html"),
    (PAGE, "text/html; charset=utf-8"),
    (PAGE, "text/csv"),
    (PAGE, "application/octet-stream"),
    (b"\xef\xbb\xbf\r\n  " + PAGE, "text/csv"),
    (b"<!-- proxy -->\n<HTML lang=en>", "text/plain"),
    (b'<?xml version="1.0"?>\n' + PAGE, "application/xhtml+xml"),
    (b"<head><title>Log in</title></head>", "text/html"),
    (b"<script>location='/login'</script>", "text/html"),
    (PAGE.decode().encode("utf-16"), "text/html"),
]


@pytest.mark.parametrize(("body", "kind"), LOGINS)
def test_a_page_where_a_file_was_announced_is_refused(store, body, kind):
    with Recorder([answer(body, Content_Type=kind)]) as server:
        text = failure(server.url("/sales.csv"), store, TerminalError)
    assert "a web page where sales.csv was announced: a login page?" in text
    assert len(server.requests) == 1


def test_a_wrapped_page_is_a_page(store):
    with Recorder([answer(gzip.compress(PAGE), Content_Type="text/html", Content_Encoding="gzip")]) as server:
        assert "a web page" in failure(server.url("/sales.csv"), store, TerminalError)


@pytest.mark.parametrize(
    ("target", "body", "kind"),
    [
        ("/page.html", PAGE, "text/html"),
        ("/page.htm?x=1.csv", PAGE, "text/html"),
        ("/report", PAGE, "text/html"),
        ("/a.csv", CSV, "text/html"),
        ("/a.csv", b"html,<html>\n1,2\n", "text/html"),
        ("/a.csv", b"<a>,b\n1,2\n", "text/csv"),
        ("/feed.xml", b"<?xml version='1.0'?><rss/>", "text/xml"),
    ],
)
def test_what_is_no_page_or_called_one_is_taken(store, target, body, kind):
    with Recorder([answer(body, Content_Type=kind)]) as server:
        assert store.read(one(server.url(target), store).path) == body


def test_a_doctype_of_something_else_is_no_page():
    assert not is_page(b"<!DOCTYPE svg><svg/>", html=False)
    assert not is_page(b"", html=True)


# What the headers tell


@pytest.mark.parametrize(
    ("headers", "facts"),
    [
        ({"Content_Type": "text/csv; charset=ISO-8859-1"}, {"content_type": "text/csv", "charset": "iso-8859-1"}),
        ({"Content_Type": 'text/csv; charset="utf-8"'}, {"content_type": "text/csv", "charset": "utf-8"}),
        ({"Content_Type": "text/csv; charset=klingon"}, {"content_type": "text/csv"}),
        ({"Content_Type": "text/csv; charset=base64"}, {"content_type": "text/csv"}),
        ({"Content_Type": "application/octet-stream"}, {}),
        ({}, {}),
        ({"Content_Disposition": 'attachment; filename="Sales 2026.csv"'}, {"filename": "Sales 2026.csv"}),
        ({"Content_Disposition": "attachment; filename*=UTF-8''M%C3%A4rz.csv"}, {"filename": "März.csv"}),
        ({"Content_Disposition": 'attachment; filename="../../etc/x.csv"'}, {"filename": "x.csv"}),
        ({"Content_Disposition": "attachment"}, {}),
        ({"Content_Disposition": ';;=;"'}, {}),
        ({"Content_Encoding": "identity"}, {}),
    ],
)
def test_headers_are_facts(store, headers, facts):
    with Recorder([answer(CSV, **headers)]) as server:
        file = one(server.url("/a.csv"), store)
    assert file.facts == facts
    assert file.name == "a.csv", "the address names the file, whatever the server would call it"
    assert file.charset == facts.get("charset")


def test_what_a_file_was_wrapped_in_is_a_fact(store):
    with Recorder([answer(gzip.compress(CSV), Content_Encoding="gzip")]) as server:
        assert one(server.url("/a.csv"), store).facts == {"content_encoding": "gzip"}


POLISH = "id,city\n1,Łódź\n2,Zażółć\n"


@pytest.mark.parametrize(
    ("reader", "name", "text"),
    [
        (Csv(columns={"id": "int64", "city": "string"}, encoding=None), "a.csv", POLISH),
        (Text(), "a.txt", "Gęślą jaźń. Łódź."),
        (Html(), "a.html", f"<html><body><p>{'Zażółć gęślą jaźń, Łódź. ' * 5}</p></body></html>"),
    ],
)
def test_the_charset_of_the_header_counts_and_is_known_in_a_replay(store, reader, name, text):
    with Recorder([answer(text.encode("iso8859-2"), Content_Type="text/plain; charset=ISO-8859-2")]) as server:
        file = one(server.url(f"/{name}"), store)
    later = file_of(record(file, facts={**file.facts, "encoding": "iso8859-2"}))
    for fetched in (file, later):
        (piece,) = pieces_of(fetched, reader, store, 1 << 20)
        assert "Łódź" in str(reader.read(piece, store).table.to_pylist())
