"""Files are fetched from real servers, within their limits and nowhere near our own network."""

import gzip
import itertools
import zlib
from ipaddress import ip_network

import pycurl
import pytest

from services.http_client import guard
from services.media.fetch import Fetcher, FetchFailed, FetchRefused
from tests.support.remote.file_server import FileServer

OPEN = (ip_network("127.0.0.1/32"),)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(1000)
MB = 1 << 20


@pytest.fixture
def server():
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def fetcher():
    return Fetcher(OPEN, seconds=20)


def refusal(fetcher, url, limit=MB):
    with pytest.raises(FetchRefused) as refused, fetcher.fetch(url, limit):
        pass
    return str(refused.value)


def failure(fetcher, url):
    with pytest.raises(FetchFailed) as failed, fetcher.fetch(url, MB):
        pass
    return str(failed.value)


def test_a_file_comes_with_its_true_type_and_its_name_and_goes_afterwards(server, fetcher):
    with fetcher.fetch(server.offer("album/cat.jpg", JPEG, "text/plain") + "?key=secret", MB) as fetched:
        assert (fetched.path.read_bytes(), fetched.size) == (JPEG, len(JPEG))
        assert (fetched.mime_type, fetched.filename) == ("image/jpeg", "cat.jpg")
    assert not fetched.path.exists()


def test_the_name_that_the_server_gives_counts_without_its_folders(server, fetcher):
    url = server.offer("get", b"a;b", "text/csv", Content_Disposition='attachment; filename="../../sales 1.csv"')
    with fetcher.fetch(url, MB) as fetched:
        assert (fetched.filename, fetched.mime_type) == ("sales 1.csv", "text/csv")
    with fetcher.fetch(server.offer("plain", b"x"), MB) as fetched:
        assert fetched.filename is None


@pytest.mark.parametrize(
    ("path", "disposition", "filename"),
    [
        ("download.php?id=17", 'attachment; filename="Invoice 17.pdf"', "Invoice 17.pdf"),
        ("download.php?id=17", "attachment; filename*=UTF-8''Rechnung%20%C3%BC.pdf", "Rechnung ü.pdf"),
        ("download.php?id=17", "attachment; filename=Invoice", "Invoice.pdf"),
        ("download.php?id=17", "attachment", None),
        ("a.pdf", 'attachment; filename="b.pdf"', "b.pdf"),
        ("a.pdf", "attachment", "a.pdf"),
    ],
)
def test_the_name_of_a_file_is_its_servers_or_that_of_its_address(server, fetcher, path, disposition, filename):
    server.offer(path.partition("?")[0], b"%PDF-1.7", "application/pdf", Content_Disposition=disposition)
    with fetcher.fetch(f"{server.url}/{path}", MB) as fetched:
        assert fetched.filename == filename


def test_a_file_keeps_the_name_of_its_first_address_if_no_later_one_has_any(server, fetcher):
    server.offer("blob", b"%PDF-1.7", "application/pdf")
    with fetcher.fetch(server.lead("a.pdf", f"{server.url}/blob"), MB) as fetched:
        assert fetched.filename == "a.pdf"


def brotli(data):
    """Blocks that are not compressed (RFC 7932, section 9.2)."""
    blocks = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    heads = [(len(block) - 1) << 3 | 1 << 19 for block in blocks]
    heads[0] <<= 1  # behind the size of the window
    encoded = (head.to_bytes(3, "little") + block for head, block in zip(heads, blocks, strict=True))
    return b"".join(encoded) + b"\x03"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_every_usual_encoding_is_decoded_and_a_bomb_is_refused(server, fetcher, encoding):
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli}[encoding]
    url = server.offer("a.pdf", compress(b"%PDF-1.7" + bytes(1000)), "application/pdf", Content_Encoding=encoding)
    with fetcher.fetch(url, MB) as fetched:
        assert (fetched.mime_type, fetched.size) == ("application/pdf", 1008)
    bomb = server.offer("bomb", compress(bytes(50 * MB)), "application/pdf", Content_Encoding=encoding)
    assert f"more than {MB} bytes" in refusal(fetcher, bomb)


def test_a_file_that_is_served_compressed_is_decoded_within_the_limit(server, fetcher):
    url = server.offer("list.csv", gzip.compress(b"a;b\n" * 1000), "text/csv", Content_Encoding="gzip")
    with fetcher.fetch(url, 4000) as fetched:
        assert (fetched.path.read_bytes(), fetched.size) == (b"a;b\n" * 1000, 4000)
    assert "more than 3999 bytes" in refusal(fetcher, url, 3999)
    broken = server.offer("broken", b"not compressed", "text/csv", Content_Encoding="gzip")
    assert "encoding" in failure(fetcher, broken)


def test_redirects_are_followed_and_headers_chosen_for_each_address(server, fetcher):
    target = server.offer("target.jpg", JPEG)
    first = server.lead("first", server.lead("second", target, 307))

    def secret_for(url):
        return ["X-Secret: one"] if url == first else []

    with fetcher.fetch(first, MB, secret_for) as fetched:
        assert fetched.path.read_bytes() == JPEG
        assert fetched.filename == "target.jpg"
    assert server.headers["first"]["X-Secret"] == "one"
    assert "X-Secret" not in server.headers["second"]
    assert "X-Secret" not in server.headers["target.jpg"]


def test_a_redirect_to_a_private_address_is_refused_before_it_is_asked(server, fetcher):
    inner = FileServer("127.0.0.2")
    try:
        inside = inner.offer("inside", b"secret")
        assert "not a public address" in refusal(fetcher, server.lead("way", inside))
        assert not inner.asked
        with Fetcher((ip_network("127.0.0.0/8"),)).fetch(server.url + "/way", MB) as fetched:
            assert fetched.path.read_bytes() == b"secret"
    finally:
        inner.close()


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0", "0", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "127.0.0.1.", "user:word@127.0.0.1", "%6cocalhost",
    "①②⑦.0.0.1",
])  # fmt: skip
def test_no_spelling_of_this_machine_is_reached(server, host):
    server.offer("x", b"secret")
    with pytest.raises((FetchRefused, FetchFailed)), Fetcher(()).fetch(f"http://{host}:{server.port}/x", MB):
        pass
    assert not server.asked


def test_the_metadata_service_of_clouds_is_refused(server, fetcher):
    assert "not a public address" in refusal(fetcher, "http://169.254.169.254/latest/meta-data")
    assert "not a public address" in refusal(fetcher, server.lead("way", "http://[::ffff:169.254.169.254]/"))


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/x", "dict://127.0.0.1", "FILE:///etc/passwd",
])  # fmt: skip
def test_other_protocols_are_refused_at_once_and_as_redirects(server, fetcher, url):
    assert "only http and https" in refusal(fetcher, url)
    assert "only http and https" in refusal(fetcher, server.lead("way", url))


@pytest.mark.parametrize("url", ["", "example", "http://[::1", "http://a b/", "http://a\r\nX: y/", "http://\ud800/"])
def test_a_malformed_url_is_refused(fetcher, url):
    assert refusal(fetcher, url) in ("the address is malformed", "only http and https are fetched")


def test_more_redirects_than_five_are_refused(server, fetcher):
    server.lead("round", "/round")
    assert "5 times" in refusal(fetcher, server.url + "/round")
    assert server.asked["round"] == 6


def test_a_file_that_is_too_large_is_refused_with_or_without_a_declared_length(server, fetcher):
    with fetcher.fetch(server.offer("just", bytes(MB)), MB) as fetched:
        assert fetched.size == MB
    assert str(MB) in refusal(fetcher, server.offer("much", bytes(MB + 1)))
    endless = server.stream("endless", lambda: itertools.repeat(bytes(65536)))
    assert str(MB) in refusal(fetcher, endless)


def test_a_server_that_stalls_is_given_up(server):
    assert "too long" in failure(Fetcher(OPEN, seconds=0.5), server.stall("slow"))


def test_answers_that_will_not_change_are_told_from_passing_ones(server, fetcher):
    with pytest.raises(FetchRefused) as refused, fetcher.fetch(server.offer("gone", b"", status=410), MB):
        pass
    assert refused.value.status == 410
    assert "503" in failure(fetcher, server.offer("busy", b"later", status=503))
    assert "no connection" in failure(fetcher, "http://127.0.0.1:1/x")


def test_the_proxies_of_the_environment_are_not_used(server, fetcher, monkeypatch):
    proxy = FileServer()
    try:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with fetcher.fetch(server.offer("cat.jpg", JPEG), MB) as fetched:
            assert fetched.path.read_bytes() == JPEG
        assert not proxy.asked
    finally:
        proxy.close()


def test_the_guard_holds_for_any_handle_and_survives_what_it_cannot_read(server):
    server.offer("x", b"here")
    handle = pycurl.Curl()
    gate = guard(handle, ())
    handle.setopt(pycurl.URL, f"{server.url}/x")
    with pytest.raises(pycurl.error):
        handle.perform()
    assert gate.refused == "127.0.0.1"
    guard(handle, OPEN)
    assert handle.perform_rb() == b"here"
    handle.close()
    assert gate(pycurl.SOCKTYPE_IPCXN, None) == pycurl.SOCKET_BAD
