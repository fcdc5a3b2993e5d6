"""Who may be called, what a source's file is called, and what tells its version."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingestlab.core import access as guard
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.core.validators import conditions, header_version, listing_version, strong_etag


def settings(**given) -> Settings:
    return Settings(_env_file=None, **given)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("http://example.org/a.csv", "http"),
        ("HTTPS://example.org:8443/a%20b.csv?sig=x%2F..%2F&t=a::b", "https"),
        ("http://[2001:db8::1]:80/a.csv", "http"),
        ("http://example.org/..a/b..c/...", "http"),
        ("s3://bucket/key@2/ü.csv", "s3"),
        ("file:///data/a.csv", "file"),
        ("/data/a.csv", "file"),
        ("data/a#1?.csv", "file"),
        ("memory://x/a.csv", "memory"),
    ],
)
def test_passes_what_is_in_order(uri, scheme):
    assert guard.check(uri, settings()) == scheme


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ftp://example.org/a.csv", "ftp"),
        ("simplecache::http://example.org/a.csv", "simplecache"),
        ("://a.csv", "schemes"),
        ("s3://bucket/a.zip::http://example.org", "::"),
        ("", "printable"),
        ("/data/a\x00.csv", "printable"),
        ("http://example.org/a%00.csv", "printable"),
        ("http://example.org/a\r\nHost: other", "printable"),
        ("/data/\ud800.csv", "printable"),
        ("http://example.org/../a.csv", "without '..'"),
        ("http://example.org/x/%2e%2E/a.csv", "without '..'"),
        ("http://example.org/x/%252e%252e%252fa.csv", "without '..'"),
        ("http://example.org/x\\..\\a.csv", "without '..'"),
        ("s3://bucket/../a.csv", "without '..'"),
        ("/data/../etc/passwd", "without '..'"),
        ("../a.csv", "without '..'"),
        ("http:///a.csv", "a host"),
        ("http://exa mple.org/a.csv", "a host"),
        ("http://good.org\\.evil.org/a.csv", "a host"),
        ("http://example.org:http/a.csv", "numeric port"),
        ("http://example.org:99999/a.csv", "numeric port"),
        ("file://server/share/a.csv", "three slashes"),
        ("http://169.254.169.254/latest/meta-data", "outside 169.254.0.0/16"),
        ("http://[::ffff:169.254.169.254]/", "outside 169.254.0.0/16"),
        ("http://[64:ff9b::a9fe:a9fe]/", "outside 169.254.0.0/16"),
        ("http://[fe80::1]/", "fe80::/10"),
        ("http://2852039166/", "an IP address as four numbers"),
        ("http://169.254.43518/", "an IP address as four numbers"),
        ("http://0xa9fea9fe/", "an IP address as four numbers"),
        ("http://0251.0376.0251.0376/", "an IP address as four numbers"),
    ],
)
def test_refuses_with_the_rule_that_forbids_it(uri, says):
    with pytest.raises(TerminalError) as caught:
        guard.check(uri, settings())
    assert says in str(caught.value)
    assert caught.value.code != "unknown"
    assert caught.value.fix


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hunter2@example.org/a.csv",
        "http://hunter2@example.org/a.csv",
        "http://me:x@hunter2@example.org/a.csv",
        "http://me:hunter2/hunter2@example.org/a.csv",
        "http://me:x@y/hunter2@example.org/a.csv",
        "http://me:hunter2#x@example.org/a.csv",
        "ftp://me:hunter2@example.org/a.csv",
        "s3://key:hunter2@bucket/a.csv",
        "http://me:hunter2@example.org/\x01",
    ],
)
def test_never_repeats_a_password(uri):
    with pytest.raises(TerminalError) as caught:
        guard.check(uri, settings())
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in guard.shown(uri)


def test_shows_an_address_without_credentials_as_it_is():
    assert guard.shown("http://example.org:80/a@b.csv?x=1") == "http://example.org:80/a@b.csv?x=1"
    assert guard.shown("http://me:secret@example.org/a.csv") == "http://…@example.org/a.csv"


def test_hosts_must_match_a_pattern():
    some = settings(allow_hosts="*.example.org, localhost")
    assert guard.check("http://data.EXAMPLE.org./a.csv", some) == "http"
    with pytest.raises(TerminalError, match=r"'example\.org\.evil\.net'.*matches \*\.example\.org, localhost"):
        guard.check("http://example.org.evil.net/a.csv", some)


def test_this_machine_can_be_denied_in_all_its_spellings():
    closed = settings(deny_networks="127.0.0.0/8,::1/128")
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"):
        with pytest.raises(TerminalError, match="outside 127"):
            guard.check(f"http://{host}/a.csv", closed)


def test_a_wrong_network_in_the_settings_is_named():
    with pytest.raises(TerminalError, match="INGESTLAB_DENY_NETWORKS"):
        guard.check("http://10.0.0.1/", settings(deny_networks="10.0.0.0/99"))


def test_files_must_lie_in_a_root_also_behind_links(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    rooted = settings(file_roots=str(inside))
    assert guard.check(f"file://{inside}/a.csv", rooted) == "file"
    for uri in (f"{outside}/a.csv", f"file://{inside}/link/a.csv", f"{inside}-too/a.csv"):
        with pytest.raises(TerminalError, match="INGESTLAB_FILE_ROOTS"):
            guard.check(uri, rooted)


def test_a_file_uri_is_decoded_and_a_path_is_not(tmp_path):
    odd = tmp_path / "a b%20ü#.csv"
    assert guard.local_path(odd.as_uri(), settings()) == odd
    assert guard.local_path(str(odd), settings()) == odd


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://example.org/x/alarm-1.csv?sig=/y.txt#z", "alarm-1.csv"),
        ("http://example.org/a%20b%2Fc.csv", "c.csv"),
        ("http://example.org/x/%2e%2e", "unnamed"),
        ("http://example.org", "unnamed"),
        ("http://[", "unnamed"),
        ("s3://bucket/folder/ü?.csv", "ü_.csv"),
        ("s3://bucket/folder/a.csv.gz?versionId=3sL4kqtJlcpXroDTDmJ", "a.csv.gz"),
        ("/data/a%20b\n.csv", "a_20b_.csv"),
        ("c:\\data\\a.csv", "a.csv"),
        ("x" * 300 + ".csv.gz", "x" * 193 + ".csv.gz"),
    ],
)
def test_the_file_name_is_safe(uri, name):
    assert guard.file_name(uri) == name


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a.csv", ".csv"),
        ("2017-10-23.11.CSV.GZ", ".csv.gz"),
        ("a.b.csv", ".csv"),
        ("a.gz", ".gz"),
        ("a", ""),
        (".bashrc", ""),
        ("a.c_v", ""),
    ],
)
def test_suffixes_tell_format_and_compression(name, end):
    assert guard.suffixes(name) == end


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"ETag": '"abc"', "size": 1, "LastModified": datetime(2020, 1, 1, tzinfo=UTC)}, 'etag:"abc"'),
        ({"etag": "x", "size": 1}, "etag:x"),
        ({"etag": "x", "generation": "17", "size": 1}, "generation:17"),
        ({"size": 5, "mtime_ns": 1_500_000_000_123_456_789}, "size:5 time:1500000000123456789"),
        ({"size": 5, "mtime": 1.5}, "size:5 time:1500000000"),
        ({"size": 0, "LastModified": datetime(2020, 1, 1, tzinfo=UTC)}, "size:0 time:2020-01-01T00:00:00+00:00"),
        ({"size": 5}, None),
        ({"mtime": 1.5}, None),
        ({}, None),
    ],
)
def test_a_listing_tells_the_version(info, version):
    assert listing_version(info) == version


def test_http_versions_become_conditions():
    assert header_version({"ETag": 'W/"a"', "Last-Modified": "Mon"}) == 'etag:W/"a"'
    assert conditions('etag:W/"a"') == {"If-None-Match": 'W/"a"'}
    assert conditions(header_version({"Last-Modified": "Mon"})) == {"If-Modified-Since": "Mon"}
    assert header_version({}) is None
    assert conditions(None) == conditions("size:1 time:2") == {}


def test_only_a_strong_etag_allows_to_go_on():
    assert strong_etag('etag:"a"') == '"a"'
    assert strong_etag('etag:W/"a"') is None
    assert strong_etag("modified:Mon") is None
    assert strong_etag(None) is None


def test_no_secret_of_the_settings_is_shown():
    secrets = {
        "redis_url": "redis://:hush@localhost:1",
        "redis_password": "hush",
        "milvus_token": "root:hush",
        "mongodb_uri": "mongodb://me:hush@localhost",
        "broker_url": "amqp://me:hush@localhost",
        "dashboard_token": "hush" * 4,
        "announce_tokens": {"default": "hush" * 8},
        "storage_options": {"s3": {"key": "k", "secret": "hush"}},
    }
    assert "hush" not in repr(Settings(_env_file=None, **secrets))
