"""The bridge between the event loop and WSGI: every thread returns, regardless of clients."""

import asyncio
import io
import tempfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.http_server.body import SPOOL_BYTES, Body, BodyReader
from services.http_server.refusal import Refusal
from services.http_server.wsgi_bridge import WsgiBridge, environ_of

SCOPE = {"type": "http", "method": "POST", "path": "/a", "query_string": b"", "http_version": "1.1", "headers": []}


class App:
    """Answers with these parts, and counts those answers that were closed."""

    def __init__(self, parts=(b"ok",)):
        self.parts, self.closed, self.bodies = parts, 0, []
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        self.bodies.append(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self):
        return iter(self.parts)

    def close(self):
        with self._lock:
            self.closed += 1


async def forever():
    await asyncio.Event().wait()


async def receive_nothing():
    await forever()


async def exchange(bridge, send, receive=receive_nothing, body=b""):
    answer = await bridge.run(SCOPE, Body(io.BytesIO(body), len(body)))
    await bridge.send(answer, receive, send)


def collected(parts):
    """The body that a client gets of an answer in these parts."""

    async def main():
        sent, app = [], App(parts)
        bridge = WsgiBridge(app, 2)

        async def send(event):
            sent.append(event)

        await exchange(bridge, send)
        bridge.close()
        assert sent[-1].get("more_body", False) is False
        assert [event["type"] for event in sent].count("http.response.start") == 1
        return b"".join(event.get("body", b"") for event in sent), app.closed

    return asyncio.run(main())


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1 << 17), max_size=8))
def test_an_answer_arrives_as_it_is_however_it_is_cut(sizes):
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    assert collected(parts) == (b"".join(parts), 1)


@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("error", [RuntimeError, OSError, asyncio.CancelledError])
def test_threads_come_back_from_answers_that_cannot_be_sent(fails_at, error):
    async def main():
        app = App([bytes(1 << 16)] * 20)
        bridge = WsgiBridge(app, 2)

        async def exchange_failing():
            calls = 0

            async def send(event):
                nonlocal calls
                calls += 1
                if calls > fails_at:
                    raise error("unable to perform operation on a closed transport")

            with pytest.raises(error):
                await exchange(bridge, send)

        await asyncio.gather(*(exchange_failing() for _ in range(50)))
        sent = []

        async def send(event):
            sent.append(len(event.get("body", b"")))

        await asyncio.wait_for(exchange(bridge, send), 60)
        assert sum(sent) == 20 << 16
        while app.closed < 51:
            await asyncio.sleep(0.01)
        bridge.close()

    asyncio.run(main())


def test_an_answer_whose_client_went_is_read_no_further():
    async def main():
        read = 0

        def parts():
            nonlocal read
            for _ in range(1000):
                read += 1
                yield bytes(1 << 16)

        class Endless(App):
            def __iter__(self):
                return parts()

        async def gone():
            return {"type": "http.disconnect"}

        async def send(event):
            await asyncio.sleep(0)

        bridge = WsgiBridge(Endless(), 1)
        await exchange(bridge, send, gone)
        bridge.close()
        assert read < 10

    asyncio.run(main())


def test_an_application_that_fails_gives_its_thread_back():
    async def main():
        def app(environ, start_response):
            raise ValueError("no")

        bridge = WsgiBridge(app, 1)
        for _ in range(5):
            with pytest.raises(ValueError):
                await bridge.run(SCOPE, Body(io.BytesIO(), 0))
        bridge.close()

    asyncio.run(main())


def test_headers_with_an_underscore_are_dropped():
    headers = [
        (b"x-api-key", b"a"),
        (b"x_api_key", b"b"),
        (b"content_length", b"9"),
        (b"accept", b"c"),
        (b"accept", b"d"),
    ]
    environ = environ_of({**SCOPE, "headers": headers}, Body(io.BytesIO(b"xyz"), 3))
    assert environ["HTTP_X_API_KEY"] == "a"
    assert environ["HTTP_ACCEPT"] == "c,d"
    assert environ["CONTENT_LENGTH"] == "3"


def receiving(parts):
    """A client's body in these parts."""
    events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    events.append({"type": "http.request", "body": b"", "more_body": False})
    left = iter(events)

    async def receive():
        return next(left)

    return receive


def read(parts, limit=1 << 30):
    async def main():
        reader = BodyReader()
        try:
            body = await reader.read(receiving(parts), limit)
            with body.file:
                return body.file.read(), body.size
        finally:
            reader.close()

    return asyncio.run(main())


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([0, 1, 100, SPOOL_BYTES - 1, SPOOL_BYTES, SPOOL_BYTES + 1, 3 * SPOOL_BYTES]), max_size=6)
)
def test_a_body_arrives_as_it_is_in_memory_or_on_the_disk(sizes):
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    assert read(parts) == (b"".join(parts), sum(sizes))


def test_a_body_that_is_too_large_is_read_no_further():
    _, size = read([bytes(1000)] * 1000, limit=5000)
    assert 5000 < size <= 6000


def test_a_full_disk_refuses_the_request(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(Refusal) as refused:
        read([bytes(SPOOL_BYTES), b"x"])
    assert (refused.value.status, refused.value.code) == (503, "media_unavailable")
    assert read([b"small"]) == (b"small", 5)
