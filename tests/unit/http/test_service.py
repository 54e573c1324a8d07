"""The requests for health of one client leave room for those of the others."""

import asyncio
import threading

import pytest

from services.http_server.admission import MAX_QUEUE
from services.http_server.service import HEALTH_THREADS, Service
from services.runtime.heartbeat import Counters
from tests.support.asgi import scope_of, status_of
from tests.support.waiting import HANG_SECONDS


class Slow:
    """Answers a stranger's requests when they are released, and all others at once."""

    def __init__(self):
        self.counters, self.released = Counters(), threading.Event()

    def __call__(self, environ, start_response):
        if environ["REMOTE_ADDR"].startswith(("203.0.113.", "2001:db8:")):
            assert self.released.wait(HANG_SECONDS)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def requests_of(service, path, addresses):
    return [asyncio.ensure_future(status_of(service, scope_of(path, each))) for each in addresses]


@pytest.mark.parametrize("stranger", ["203.0.113.7", "2001:db8::{:x}"])
@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics/api"])
def test_a_stranger_with_hundreds_of_requests_for_health_refuses_nobody_elses(path, stranger):
    async def main():
        app = Slow()
        service = Service(app, 1000, threads=HEALTH_THREADS + 2)
        strangers = requests_of(service, path, [stranger.format(n) for n in range(MAX_QUEUE + 100)])
        await asyncio.sleep(0)
        others = [address for n in range(20) for address in ("127.0.0.1", f"10.0.0.{n}")]
        try:
            probes = await asyncio.wait_for(asyncio.gather(*requests_of(service, path, others)), HANG_SECONDS)
            assert set(probes) == {200}
        finally:
            app.released.set()
        answers = await asyncio.gather(*strangers)
        assert set(answers) == {200, 429}
        service._bridge.close()
        service._bodies.close()

    asyncio.run(main())
