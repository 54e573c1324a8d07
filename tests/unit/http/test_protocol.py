"""One connection, driven by hand: the same bytes mean the same however they are cut, and deadlines pass by a clock."""

import asyncio
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from services.http_server.limits import Limits
from services.http_server.protocol import HttpProtocol

LIMITS = Limits(max_connections=3)


class Protocol(HttpProtocol):
    limits = LIMITS


class Transport(asyncio.Transport):
    """A client's end that keeps what it got."""

    def __init__(self):
        super().__init__()
        self.sent, self.closed, self.ended, self.pending = b"", False, False, 0

    def write(self, data):
        assert not self.closed
        self.sent += data

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self):
        return self.pending

    @property
    def answers(self):
        """Status and JSON body of each answer."""
        found, rest = [], self.sent
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            size = int(lines[b"content-length"])
            found.append((int(head.split()[1]), json.loads(rest[:size])))
            rest = rest[size:]
        return found


class Server:
    """The server's side of some connections; its application repeats what it was asked, or never answers."""

    def __init__(self, answers=True):
        self.asked, self._answers = [], answers
        self._config = Config(
            self._app, http=Protocol, ws="none", interface="asgi3", proxy_headers=False, log_config=None
        )
        self.state = ServerState()

    async def _app(self, scope, receive, send):
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event["body"], event["more_body"]
        self.asked.append((scope["path"], list(scope["headers"]), body))
        if not self._answers:
            await asyncio.Event().wait()
        content = json.dumps([scope["path"], len(scope["headers"]), len(body)]).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def connect(self):
        protocol, transport = Protocol(self._config, self.state, {}), Transport()
        protocol.connection_made(transport)
        return protocol, transport


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def cut(data, places):
    """The data in pieces that end at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def answered(data, places=()):
    """The answers to these bytes that come in pieces."""

    async def main():
        server = Server()
        protocol, transport = server.connect()
        for piece in cut(data, places):
            protocol.data_received(piece)
            await asyncio.sleep(0)
        await settle()
        return transport.answers

    return asyncio.run(main())


def request_of(headers, body, chunked):
    lines = [
        b"POST /a HTTP/1.1",
        b"Host: x",
        *(b"N%d: %s" % (number, b"v" * size) for number, size in enumerate(headers)),
    ]
    if chunked:
        content = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in body if part) + b"0\r\nT: u\r\n\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    else:
        content = b"".join(body)
        lines.append(b"Content-Length: %d" % len(content))
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 40), max_size=8),
    st.lists(st.binary(max_size=200), max_size=4),
    st.booleans(),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_a_request_means_the_same_however_it_is_cut(headers, body, chunked, places):
    expected = [(200, ["/a", len(headers) + 2, sum(map(len, body))])]
    assert answered(request_of(headers, body, chunked), places) == expected


@settings(max_examples=150)
@given(
    st.lists(st.binary(max_size=200), max_size=4),
    st.booleans(),
    st.sampled_from([b"h2c", b"websocket"]),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_a_request_that_offers_another_protocol_is_answered_in_this_one(body, chunked, protocol, places):
    offer = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAEAAEAA" % protocol
    request = request_of([1], body, chunked).replace(b"Host: x", offer)
    answer = (200, ["/a", 5, sum(map(len, body))])
    assert answered(request, places) == [answer]

    async def main():
        server = Server()
        connection, transport = server.connect()
        for _ in range(3):
            connection.data_received(request)
            await settle()
        assert transport.answers == [answer] * 3
        assert not transport.closed

    asyncio.run(main())


@pytest.mark.parametrize("rest", [b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"])
def test_nobody_is_connected_through_us(rest):
    ((status, _),) = answered(b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n" + rest + b"\r\n")
    assert status == 400


@settings(max_examples=60)
@given(
    st.sampled_from(
        [(98, 10, 200), (99, 10, 431), (5000, 0, 431), (3, 10_000, 200), (1, 33_000, 431), (4, 9_000, 431)]
    ),
    st.lists(st.integers(0, 200_000), max_size=12),
    st.integers(0, 100_000),
)
def test_limits_of_the_head_hold_however_it_is_cut_and_whatever_follows(case, places, body):
    count, size, status = case
    ((found, _),) = answered(request_of([size] * count, [b"b" * body], False), places)
    assert found == status


@settings(max_examples=40)
@given(st.integers(2, 200), st.lists(st.integers(0, 4000), max_size=8))
def test_only_the_first_of_pipelined_requests_is_answered(count, places):
    async def main():
        server = Server(answers=False)
        protocol, transport = server.connect()
        for piece in cut(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * count, places):
            protocol.data_received(piece)
        await settle()
        assert len(server.asked) == 1
        assert len(server.state.tasks) == 1
        assert not transport.closed
        for task in server.state.tasks:
            task.cancel()

    asyncio.run(main())


def test_requests_one_after_the_other_are_all_answered_and_trailers_reach_none():
    async def main():
        server = Server()
        protocol, transport = server.connect()
        for _ in range(5):
            protocol.data_received(request_of([1], [b"x"], True))
            await settle()
        assert [status for status, _ in transport.answers] == [200] * 5
        assert all(len(headers) == 3 for _, headers, _ in server.asked)

    asyncio.run(main())


@pytest.mark.parametrize("before", [b"", b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a HT"])
def test_a_request_on_its_way_is_answered_when_the_process_is_to_end(before):
    get = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"

    async def main():
        server = Server()
        protocol, transport = server.connect()
        protocol.data_received(before)
        await settle()
        transport.sent = b""
        protocol.shutdown()
        protocol.data_received(get.removeprefix(before) or get)
        await settle()
        assert [status for status, _ in transport.answers] == [200]
        assert b"connection: close\r\n" in transport.sent
        assert transport.closed

    asyncio.run(main())


def test_a_connection_without_a_request_is_closed_when_the_process_is_to_end():
    async def main():
        protocol, transport = Server().connect()
        protocol.shutdown()
        while not transport.closed:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_connection_that_waits_longest_gives_way_and_none_that_is_answered():
    async def main():
        server = Server(answers=False)
        answering = [server.connect() for _ in range(2)]
        for protocol, _ in answering:
            protocol.data_received(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        _, idle = server.connect()
        await settle()
        assert not idle.closed
        newer, _ = server.connect()
        assert idle.closed
        server.state.connections -= {each for each in server.state.connections if each.transport.is_closing()}
        newer.data_received(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        _, refused = server.connect()
        assert [(status, body["code"]) for status, body in refused.answers] == [(503, "too_many_connections")]
        assert not any(transport.closed for _, transport in answering)
        await settle()
        for task in server.state.tasks:
            task.cancel()

    asyncio.run(main())


def at(data, seconds, before=lambda protocol, transport: None, answers=True):
    """The client's end, N seconds after it sent these bytes and nothing more."""

    async def main():
        protocol, transport = Server(answers).connect()
        begin = asyncio.get_running_loop().time()
        if data:
            protocol.data_received(data)
        await settle()
        before(protocol, transport)
        for second in range(int(seconds) + 1):
            protocol.check(begin + second)
        await settle()
        found = copy.copy(transport)  # before the application is cancelled
        for task in protocol.tasks:
            task.cancel()
        return found

    return asyncio.run(main())


HEAD, BODY = b"GET /a HTTP/1.1\r\nHost", b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nxyz"
WHOLE = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(("data", "deadline"), [(HEAD, 10), (b"\r\n", 10), (BODY, 20)])
def test_missing_input_is_waited_for_until_its_deadline(data, deadline):
    assert at(data, deadline - 2).answers == []
    late = at(data, deadline + 2)
    assert [(status, body["code"]) for status, body in late.answers] == [(408, "request_timeout")]
    assert late.ended
    assert at(data, deadline + 6).closed


def test_a_connection_that_was_never_used_is_closed_without_an_answer():
    assert not at(b"", 8).closed
    unused = at(b"", 12)
    assert (unused.closed, unused.answers) == (True, [])


def test_a_connection_without_a_request_is_kept_for_a_while():
    assert not at(WHOLE, LIMITS.keep_alive_seconds - 2).closed
    idle = at(WHOLE, LIMITS.keep_alive_seconds + 2)
    assert idle.closed
    assert len(idle.answers) == 1


def test_an_answer_may_take_its_time():
    assert not at(WHOLE, 3600, answers=False).closed


def test_a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not():
    def fill(protocol, transport):
        transport.pending = 1000

    assert not at(WHOLE, LIMITS.write_timeout_seconds - 2, fill, answers=False).closed
    assert at(WHOLE, LIMITS.write_timeout_seconds + 3, fill, answers=False).closed

    async def main():
        protocol, transport = Server(answers=False).connect()
        protocol.data_received(WHOLE)
        await settle()
        for second in range(500):
            transport.pending = 1000 - second
            protocol.check(asyncio.get_running_loop().time() + second)
        assert not transport.closed
        for task in protocol.tasks:
            task.cancel()

    asyncio.run(main())


def test_a_slow_body_is_accepted_up_to_the_total_time_limit():
    async def main():
        protocol, transport = Server().connect()
        begin = asyncio.get_running_loop().time()
        protocol.data_received(BODY.replace(b"100000", b"100000000"))
        for second in range(10, 4000, 10):
            protocol.data_received(bytes(LIMITS.min_body_bytes_per_window))
            await asyncio.sleep(0)
            protocol.check(begin + second)
            if transport.ended:
                break
        assert LIMITS.body_timeout_seconds < second < LIMITS.body_timeout_seconds + 60
        assert transport.answers[0][0] == 408

    asyncio.run(main())
