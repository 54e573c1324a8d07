"""Bodies of every size, in both directions, through every transport."""

import json
import random
from ipaddress import ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.connectors.meta.upload_request import post_file
from services.http_client import MAX_ANSWER_BYTES, RequestsInFlight
from services.http_exchange import Answered, Broken, HttpRequest
from services.media.fetch import Fetcher, FetchTooLarge
from tests.support.remote.echo_server import digest, echo_server
from tests.support.waiting import wait_until

KIB = 1024
#: Sizes around the buffers of libcurl (16 KiB to read, 64 KiB to send, heads included), of sockets and of servers.
BUFFERS = (0, 1, 16 * KIB, 64 * KIB, 65_090, 128 * KIB, 1 << 20, 1_400_000, 5 << 20)
LOOPBACK = (ip_network("127.0.0.0/8"),)


def sizes(largest=5 << 20):
    """Sizes at and near every buffer, and any others."""
    near = st.builds(
        lambda size, off: max(size + off, 0),
        st.sampled_from([size for size in BUFFERS if size <= largest]),
        st.one_of(st.integers(-1, 1), st.integers(-200, 200)),
    )
    return st.one_of(near, st.integers(0, 300_000)).map(lambda size: min(size, largest))


def content(size):
    """Bytes that differ at every place, the same for the same size."""
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def server():
    with echo_server() as server:
        yield server


@pytest.fixture(scope="module")
def window():
    window = RequestsInFlight(4, 60_000)
    yield window
    window.close()


def send(window, url, body, headers=(), marks=None):
    marks = [] if marks is None else marks
    window.submit(len(body), HttpRequest(url, headers, body), lambda: marks.append(len(body)))
    ended = wait_until(lambda: window.poll(0.1), 120, lambda: "no answer", pause=0)
    assert len(marks) == 1, "a body leaves once"
    return ended[0][1]


@settings(max_examples=60)
@given(sizes())
@example(65_089)
@example(65_090)
@example(65_091)
@example(5 << 20)
def test_a_request_of_any_size_arrives_whole(server, window, size):
    body = content(size)
    answer = send(window, server.url, body)
    assert isinstance(answer, Answered), answer
    assert json.loads(answer.body) == digest(body)


def test_large_bodies_of_many_requests_at_once_do_not_mix(server, window):
    bodies = {n: content(70_000 + n) for n in range(4)}
    for n, body in bodies.items():
        window.submit(n, HttpRequest(server.url, (), body), lambda: None)
    answers = {}
    wait_until(lambda: answers.update(window.poll(0.1)) or len(answers) == len(bodies), pause=0)
    assert {n: json.loads(answer.body) for n, answer in answers.items()} == {n: digest(b) for n, b in bodies.items()}


def test_large_bodies_use_kept_connections(server):
    window, before = RequestsInFlight(1, 60_000), server.connections
    for size in (100_000, 1, 200_000, 65_090, 70_000):
        assert isinstance(send(window, server.url, content(size)), Answered)
    window.close()
    assert server.connections == before + 1


@pytest.mark.parametrize("headers", [(), ("Expect: 100-continue",)])
def test_a_large_body_arrives_with_and_without_a_wait_for_permission(server, window, headers):
    body = content(300_000)
    answer = send(window, server.url, body, headers)
    assert json.loads(answer.body) == digest(body)


def test_a_slow_reader_gets_all_of_it(server, window):
    body = content(2_000_000)
    assert json.loads(send(window, f"{server.url}?pause=0.005", body).body) == digest(body)


def test_an_early_refusal_of_a_large_body_is_an_answer(server, window):
    answer = send(window, f"{server.url}?early=413", content(3 << 20))
    assert answer == Answered(413, b"no")


@pytest.mark.parametrize("size", [10, 65_091, 1_400_000])
def test_a_large_body_whose_reused_connection_is_cut_is_sent_once_and_says_why(server, size):
    window, before = RequestsInFlight(1, 60_000), len(server.bodies)
    send(window, server.url, b"first")
    broken = send(window, f"{server.url}?cut=1", content(size))
    window.close()
    assert isinstance(broken, Broken)
    assert broken.handed
    assert "rewind" not in broken.reason
    assert server.bodies[before:] == [digest(b"first"), digest(content(size))]


def test_a_request_that_cannot_be_marked_does_not_leave_and_reports_why(server, window):
    before = len(server.bodies)

    def full():
        raise OSError(28, "No space left on device")

    for body in (content(10), content(100_000)):
        window.submit("x", HttpRequest(server.url, (), body), full)
        ended = wait_until(lambda: window.poll(0.1), pause=0)
        assert isinstance(ended[0][1], Broken)
        assert not ended[0][1].handed
        assert "No space left" in ended[0][1].reason
    assert len(server.bodies) == before


@settings(max_examples=30)
@given(sizes(), st.sampled_from(["", "&chunked=1"]))
@example(MAX_ANSWER_BYTES, "")
@example(MAX_ANSWER_BYTES + 1, "")
@example(MAX_ANSWER_BYTES + 1, "&chunked=1")
@example(2 << 20, "")
def test_an_answer_of_any_size_has_its_status_and_its_beginning(server, window, size, way):
    answer = send(window, f"{server.url}?status=201&answer={size or 1}{way}", b"x")
    assert answer == Answered(201, b"x" * min(size or 1, MAX_ANSWER_BYTES))


def test_after_an_answer_that_is_too_long_the_next_request_goes_on(server):
    window = RequestsInFlight(1, 60_000)
    for _ in range(3):
        assert send(window, f"{server.url}?answer={3 << 20}", b"x").status == 200
        assert json.loads(send(window, server.url, b"y").body) == digest(b"y")
    window.close()


@pytest.mark.parametrize(("way", "status"), [("head=200", 200), ("head=500", 500), ("cut=1", 0)])
def test_the_status_is_known_if_only_the_answers_head_came(server, way, status):
    window = RequestsInFlight(1, 60_000)
    assert send(window, f"{server.url}?early=503", b"x").status == 503  # not remembered for the next one
    broken = send(window, f"{server.url}?{way}", b"x")
    window.close()
    assert (type(broken), broken.status) == (Broken, status)


@settings(max_examples=15)
@given(sizes())
@example(65_091)
@example(5 << 20)
def test_an_upload_of_any_size_arrives_whole(server, tmp_path_factory, size):
    file, body = tmp_path_factory.mktemp("upload") / "file", content(size)
    file.write_bytes(body)
    before = len(server.bodies)
    status, _ = post_file(server.url, "Authorization: Bearer x", file, "application/pdf", 60_000)
    assert status == 200
    form = server.bodies[before]
    assert 0 < form["length"] - size < 2_000  # the form around it; its boundary is random


def test_an_upload_that_is_answered_at_length_counts_by_its_status(server, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for way in ("", "&chunked=1"):
        status, answer = post_file(
            f"{server.url}?status=400&answer={3 << 20}{way}", "A: b", tmp_path / "file", "image/png", 60_000
        )
        assert (status, len(answer)) == (400, MAX_ANSWER_BYTES)


@settings(max_examples=25)
@given(sizes())
def test_a_file_of_any_size_is_fetched_whole(server, size):
    body = content(size)
    server.files[f"/{size}"] = body
    with Fetcher(LOOPBACK).fetch(f"{server.url}{size}", max(size, 1)) as fetched:
        assert fetched.path.read_bytes() == body
    if size > 1:
        with pytest.raises(FetchTooLarge), Fetcher(LOOPBACK).fetch(f"{server.url}{size}", size - 1):
            pass
