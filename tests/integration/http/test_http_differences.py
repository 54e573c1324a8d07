"""The hot path and Flask's routes read a request alike, however it is written."""

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import CHAT, COMPANY, KEY, OTHER_KEY, REVOKED_KEY, add_company, serving, settings_for
from tests.support.processes.http_process import problem

#: A text and an image that are refused for what they lack, after everything that is common.
BODY = b"{}"
NAMES = (
    *(b"X-Api-Key", b"x-api-key", b"X_Api_Key", b"X-API-KEY", b"Authorization", b"X-Api-Key2", b"authorization"),
    *(b"Idempotency-Key", b"Idempotency_Key"),
)
VALUES = (
    *(KEY.encode(), OTHER_KEY.encode(), REVOKED_KEY.encode(), b"Bearer " + KEY.encode(), b"bearer  " + KEY.encode()),
    *(b"Basic " + KEY.encode(), b"", b" ", b"\xe4", b"\tx\t", KEY.encode() + b",x", b"k" * 300),
)
QUERIES = (
    *(
        b"",
        b"?",
        b"?wait=0",
        b"?wait=1_0",
        b"?wait=%D9%A1",
        b"?wait=1e1",
        b"?wait=+1",
        b"?wait=%201",
        b"?wait=",
        b"?wait=31",
    ),
    *(
        b"?wait=0&wait=soon",
        b"?wait=soon&wait=0",
        b"?WAIT=soon",
        b"?wait=-0",
        b"?wait=0.0",
        b"?w=%FF&wait=x",
        b"?wait=nan",
    ),
)
PATHS = (
    b"/api/v2/messages/%s/0128/60123456789",
    b"//api/v2/messages/%s/0128/60123456789",
    b"/api//v2/messages/%s/0128/60123456789",
    b"/api/v2/messages/%s//0128/60123456789",
    b"/api/v2/messages/%s/0128//60123456789",
    b"/api/v2/messages/%s/0128/60123456789/",
    b"/api/v2/messages/%s/0128/",
    b"/api/v2/messages/%s/0999/60123456789",
    b"/api/v2/messages/%s/0%%31%%32%%38/60123456789",
    b"/api/v2/messages/%s/0128%%2F60123456789",
    b"/api/v2/messages/%s/0128/%%FF",
    b"/api/v2/messages/%s/0128/%%00",
    b"/api/v2/messages/%s/%%00/60123456789",
    b"/api/v2/messages/%s/0128/..",
    b"/api/v2/./messages/%s/0128/60123456789",
    b"http://evil.example/api/v2/messages/%s/0128/60123456789",
)
requests = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from(QUERIES),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4),
)


@pytest.fixture(scope="module")
def port(postgres, tmp_path_factory):
    name = "differences"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE bisnes_migrated")
    add_company(postgres.dsn(name))
    with serving(settings_for(postgres.dsn(name), tmp_path_factory.mktemp("api"))) as url:
        yield int(url.rpartition(":")[2])


def ask(port, kind, path, query, headers):
    """The whole answer to a POST of an empty message."""
    lines = [b"POST " + path % kind + query + b" HTTP/1.1", b"Host: evil.example", b"Connection: close"]
    lines += [b"%s: %s" % each for each in headers]
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(BODY)]
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + BODY)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    assert b"\r\nlocation:" not in answer.lower()
    return problem(answer)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(requests)
def test_the_same_request_has_the_same_answer_on_the_hot_path_and_on_flasks(port, request):
    (hot, _), (flask, _) = ask(port, b"text", *request), ask(port, b"image", *request)
    assert hot == flask < 500


@pytest.mark.parametrize("kind", [b"text", b"image"])
@pytest.mark.parametrize(
    ("path", "query", "headers", "expected"),
    [
        (PATHS[0], b"", [(b"X-Api-Key", KEY.encode())], (400, "invalid_request")),
        (PATHS[0], b"", [(b"X-Api-Key", KEY.encode()), (b"X-Api-Key", b"x")], (400, "invalid_request")),
        (PATHS[0], b"", [(b"X_Api_Key", KEY.encode())], (401, "no_key")),
        (PATHS[0], b"?wait=1_0", [(b"X-Api-Key", KEY.encode())], (400, "invalid_request")),
        (PATHS[1], b"", [(b"X-Api-Key", KEY.encode())], (404, "not_found")),
        (PATHS[2], b"", [(b"X-Api-Key", KEY.encode())], (404, "not_found")),
    ],
)
def test_ambiguous_requests_are_refused(port, kind, path, query, headers, expected):
    assert ask(port, kind, path, query, headers) == expected


def test_only_the_exact_path_of_a_route_is_answered(port):
    for path in (b"/openapi//swagger", b"/health/", b"//health", b"/api/v2/messages/x/%s/" + COMPANY.encode(), b"/.."):
        path = path % CHAT.encode() if b"%s" in path else path
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := client.recv(1 << 16):
                answer += part
        assert problem(answer)[0] in (401, 404), path
