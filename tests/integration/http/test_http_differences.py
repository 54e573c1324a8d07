"""The hot path and Flask's routes read a request alike, however it is written."""

import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import (
    CHAT,
    COMPANY,
    KEY,
    OPERATOR_KEY,
    OTHER_KEY,
    REVOKED_KEY,
    add_company,
    serving,
    settings_for,
)
from tests.support.processes.http_process import everything, problem
from tests.support.waiting import HANG_SECONDS

#: Bodies that neither a text nor an image may have: they are refused after everything that is common.
BODIES = (
    *(
        b"{}",
        b"",
        b" ",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{",
        b'{"a":1}',
        b'{"phone_index":1}',
        b'{"wait":1}',
        b"\xef\xbb\xbf{}",
    ),
    *(
        b'{"phoneIndex":-1}',
        b'{"phoneIndex":1.0}',
        b'{"phoneIndex":true}',
        b'{"phoneIndex":"\xd9\xa1"}',
        b"a=b",
        b"\xff",
    ),
    *(b'{"userName":"\\u0000"}', b'{"userName":"\\ud800"}', b'{"userName":[]}', b'{"quotedMessageId":7}', b"{}{}"),
    *(b'{"message":"a","message":"b"}', b'{"phoneIndex":0,"phone\\u0049ndex":0}', b'{"a":1,"a" :1}'),
    *(b'{"":1}', b'{"\\u0000":1}', b'{"phoneIndex":NaN}', b'{"phoneIndex":1e999}', b"[" * 2000, b'{"a":' * 1500),
)
#: None: the body has a length. The others are encodings of it.
CODINGS = (None, b"chunked", b"Chunked", b"gzip", b"identity", b"chunked, chunked", b"")
TYPES = (b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"\xff", None)
NAMES = (
    *(b"X-Api-Key", b"x-api-key", b"X_Api_Key", b"X-API-KEY", b"Authorization", b"X-Api-Key2", b"authorization"),
    *(b"Idempotency-Key", b"Idempotency_Key"),
)
VALUES = (
    *(
        KEY.encode(),
        OPERATOR_KEY.encode(),
        OTHER_KEY.encode(),
        REVOKED_KEY.encode(),
        b"Bearer " + KEY.encode(),
        b"bearer  " + KEY.encode(),
    ),
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
        b"?phoneIndex=1",
        b"?wait=0&phoneIndex=1",
        b"?%77ait=0",
        b"?wait=0;x=1",
        b"?&wait=0&",
        b"?=1",
        b"?wait",
        b"?wait=0#x",
        b"?wait=%00",
        b"?%FF=%FF",
        b"?wait=0&%77ait=0",
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
    b"/api/v2/messages/%s/%%1f/60123456789",
    b"/api/v2/messages/%s/%%0a/60123456789",
    b"/api/v2/messages/%s/%%20/60123456789",
    b"/api/v2/messages/%s/" + b"9" * 256 + b"/60123456789",
    b"/api/v2/messages/%s/%%C0%%AF/60123456789",
    b"/api/v2/messages/%s/%%ED%%A0%%80/60123456789",
    b"/api/v2/messages/%s/0128/%%2B60123456789",
    b"/api/v2/messages/%s/0128/+60123456789",
    b"/api/v2/messages/%s/0128/%%D9%%A1%%D9%%A1%%D9%%A1%%D9%%A1%%D9%%A1",
    b"/api/v2/messages/%s/0128/60123456789%%0a",
    b"/api/v2/messages/%s/0128/60123456789;x=1",
    b"/api/v2/messages/%s/0128/0999-60123456789",
    b"/api/v2/messages/%s/0128/%%2560123456789",
    b"/api/v2/messages/%s/0128/%%",
    b"/api/v2/messages/%s/nobody/60123456789",
    b"/api/v2/messages/%s/0128/..",
    b"/api/v2/./messages/%s/0128/60123456789",
    b"http://evil.example/api/v2/messages/%s/0128/60123456789",
)
requests = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from(QUERIES),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)
    | st.sampled_from([[(b"X-Api-Key", KEY.encode())], [(b"X-Api-Key", OPERATOR_KEY.encode())]]),
    st.sampled_from(BODIES),
    st.sampled_from(CODINGS),
    st.sampled_from(TYPES),
)


@pytest.fixture(scope="module")
def port(postgres, tmp_path_factory):
    name = "differences"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE bisnes_migrated")
    add_company(postgres.dsn(name))
    with serving(settings_for(postgres.dsn(name), tmp_path_factory.mktemp("api"), WRONG_KEYS_PER_MINUTE=10**6)) as url:
        yield int(url.rpartition(":")[2])


def ask(port, kind, path, query, headers, body=b"{}", coding=None, content_type=b"application/json"):
    """Status and code of the answer to a POST."""
    lines = [b"POST " + path % kind + query + b" HTTP/1.1", b"Host: evil.example", b"Connection: close"]
    lines += [b"%s: %s" % each for each in headers]
    lines += [b"Content-Type: " + content_type] if content_type is not None else []
    if coding is None:
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines.append(b"Transfer-Encoding: " + coding)
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as client:
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    assert b"\r\nlocation:" not in answer.lower()
    return problem(answer)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(requests)
def test_the_same_request_has_the_same_answer_on_the_hot_path_and_on_flasks(port, request):
    hot, flask = ask(port, b"text", *request), ask(port, b"image", *request)
    assert hot == flask
    assert hot[0] < 500 or hot == (501, "not_implemented")


def test_each_oddity_alone_has_the_same_answer_on_the_hot_path_and_on_flasks(port):
    plain = (PATHS[0], b"", [(b"X-Api-Key", KEY.encode())], b"{}", None, TYPES[0])
    odd: list[Any] = [
        (path, b"", [(b"X-Api-Key", key.encode())], *plain[3:]) for path in PATHS for key in (KEY, OPERATOR_KEY)
    ]
    odd += [(PATHS[0], query, *plain[2:]) for query in QUERIES]
    odd += [(*plain[:3], body, coding, plain[5]) for body in BODIES for coding in CODINGS]
    odd += [(*plain[:3], b"{", None, content_type) for content_type in TYPES]
    differing = [
        (request, answers)
        for request in odd
        if len(set(answers := [ask(port, b"text", *request), ask(port, b"image", *request)])) > 1
    ]
    assert differing == []


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
        (b"/api/v2/messages/%s/%%00/601234567", b"", [(b"X-Api-Key", OPERATOR_KEY.encode())], (400, "invalid_request")),
        (b"/api/v2/messages/%s/nobody/1", b"", [(b"X-Api-Key", OPERATOR_KEY.encode())], (400, "invalid_chat_id")),
        (PATHS[0], b"?wait=0&wait=0", [(b"X-Api-Key", KEY.encode())], (400, "invalid_request")),
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


def status_under(port, path, host, key=None):
    """The status of a GET with this Host."""
    lines = [b"GET " + path + b" HTTP/1.1", b"Host: " + host, b"Connection: close"]
    lines += [b"X-Api-Key: " + key.encode()] if key else []
    with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as client:
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        return everything(client)


@pytest.mark.parametrize("path", [b"/health/all", b"/metrics/api", b"/openapi/openapi.json", b"/openapi/swagger"])
def test_a_web_page_that_rebinds_its_name_reads_no_state(port, path):
    for host in (b"evil.example", b"evil.example:%d" % port):
        assert problem(status_under(port, path, host)) == (403, "unknown_host")
        assert problem(status_under(port, path, host, "bk_nobody")) == (403, "unknown_host")
        assert status_under(port, path, host, KEY).startswith((b"HTTP/1.1 200", b"HTTP/1.1 404", b"HTTP/1.1 302"))
    for host in (b"127.0.0.1:%d" % port, b"localhost", b"api", b"203.0.113.7"):
        assert status_under(port, path, host).startswith((b"HTTP/1.1 200", b"HTTP/1.1 404", b"HTTP/1.1 302"))


@pytest.mark.parametrize("path", [b"/health", b"/api/health", b"/health/live", b"/health/ready"])
def test_probes_are_answered_under_any_name(port, path):
    assert status_under(port, path, b"monitor.example").startswith(b"HTTP/1.1 200")
