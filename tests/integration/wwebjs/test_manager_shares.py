"""The port of the WhatsApp Web manager: one company's slow requests leave threads for the others and for health."""

import asyncio
import threading

import pytest

from services import wwebjs_manager
from services.api.auth import COMPANY_THREADS
from services.http_server.service import THREADS
from services.wwebjs_manager import Manager
from tests.support.api import COMPANY, KEY, OTHER, OTHER_KEY, add_company
from tests.support.asgi import scope_of, status_of
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def slow(monkeypatch):
    """Make the company's requests wait, once `begin` is set; returns (begin, release, how many run)."""
    begin, release, running, answer = threading.Event(), threading.Event(), [], Manager.__call__

    def called(manager, environ, start_response):
        if begin.is_set() and f"/{COMPANY}/" in environ["PATH_INFO"]:
            running.append(1)
            assert release.wait(HANG_SECONDS)
        return answer(manager, environ, start_response)

    monkeypatch.setattr(Manager, "__call__", called)
    yield begin, release, running
    release.set()


@pytest.fixture
def service(database, environment, monkeypatch):
    """The port as gunicorn serves it, without the keeper of the sessions."""
    add_company(database)
    environment(DATABASE_URL=database, REDIS_URL="redis://127.0.0.1:1/0")
    contexts, usual = [], wwebjs_manager.connect

    def connect(*given):
        contexts.append(usual(*given))
        return contexts[-1]

    monkeypatch.setattr(wwebjs_manager, "connect", connect)
    service = wwebjs_manager.create_service()
    yield service
    service._bridge.close()
    service._bodies.close()
    for each in contexts:
        each.close()


def test_one_companys_requests_leave_threads_for_the_others(service, slow):
    begin, release, running = slow

    def scope(company, key):
        return scope_of(f"/api/sessions/{company}/7", headers=((b"x-api-key", key.encode()),))

    def ask(company, key):
        return asyncio.ensure_future(status_of(service, scope(company, key)))

    async def is_known(company, key):
        assert await ask(company, key) == 404
        return service._share_of(scope(company, key)).caller == f"company:{company}"

    async def main():
        for company, key in ((COMPANY, KEY), (OTHER, OTHER_KEY)):
            while not await is_known(company, key):  # until then it has the few threads of strangers
                await asyncio.sleep(0.05)
        begin.set()
        waiting = [ask(COMPANY, KEY) for _ in range(2 * THREADS)]
        while len(running) < COMPANY_THREADS:
            await asyncio.sleep(0.01)
        others = [ask(OTHER, OTHER_KEY) for _ in range(THREADS)]
        assert set(await asyncio.wait_for(asyncio.gather(*others), HANG_SECONDS)) == {404}
        assert await asyncio.wait_for(status_of(service, scope_of("/health")), HANG_SECONDS) == 200
        assert len(running) == COMPANY_THREADS
        release.set()
        assert set(await asyncio.gather(*waiting)) == {404}

    asyncio.run(asyncio.wait_for(main(), 3 * HANG_SECONDS))
