"""Bodies of every size that come in: webhooks and requests, over real servers, up to their limits."""

import contextlib
import json
import os
import random
import subprocess
import sys

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.connectors.meta.receiver import MAX_BODY as MAX_WEBHOOK
from services.connectors.meta.receiver import PATH, SIGNATURE_HEADER, sign
from services.database.connection import Database
from services.http_server.body import MAX_BODY
from tests.support.api import CHAT, COMPANY, KEY, add_company, serving, settings_for
from tests.support.outbox import execute
from tests.support.sandbox import eventually, free_port
from tests.support.waiting import HANG_SECONDS

SECRET = "app-secret"


def sizes(least, largest):
    buffers = [size for size in (16_384, 65_090, 65_536, 131_072, 1 << 20, largest) if size <= largest]
    near = st.builds(lambda size, off: size + off, st.sampled_from(buffers), st.integers(-200, 200))
    return st.one_of(near, st.integers(0, 300_000)).map(lambda size: min(max(size, least), largest))


@pytest.fixture
def connection(database):
    with contextlib.closing(Database(database)) as pool, contextlib.closing(pool.connect(by_key=False)) as connection:
        yield connection


@pytest.fixture
def receiver(database, tmp_path):
    """The address of Meta's webhooks, as gunicorn serves it."""
    port = free_port()
    found = settings_for(database, tmp_path, META_APP_SECRET=SECRET, META_VERIFY_TOKEN="x", BISNES_HOME=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "python:services.gunicorn_conf", "--no-control-socket",
         "-b", f"127.0.0.1:{port}", "services.connectors.meta.receiver:create_service()"],
        env=os.environ | {"BISNES_ENV": str(found.env_file), "BISNES_PROCESS": "meta", "BISNES_INSTANCE": "meta"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: _answers(f"{url}/health/live"))
    yield f"{url}{PATH}"
    process.kill()
    process.wait(60)


def _answers(url):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=HANG_SECONDS).ok


def test_a_webhook_of_any_size_is_stored_whole_up_to_the_limit(receiver, connection):
    session = requests.Session()

    def post(body):
        return session.post(
            receiver, data=body, headers={SIGNATURE_HEADER: sign(SECRET, body)}, timeout=HANG_SECONDS
        ).status_code

    @settings(max_examples=40)
    @given(sizes(1, MAX_WEBHOOK))
    @example(MAX_WEBHOOK)
    def any_size(size):
        body = random.Random(size).randbytes(size)
        assert post(body) == 200
        [(stored,)] = execute(connection, "SELECT body FROM webhook_inbox ORDER BY id DESC LIMIT 1")
        assert bytes(stored) == body

    any_size()
    assert post(bytes(MAX_WEBHOOK + 1)) == 413
    session = requests.Session()  # a refused body is not read to its end, so its connection is closed
    assert post(b"the next one") == 200


def test_a_request_of_any_size_is_understood_up_to_the_limit(database, tmp_path, connection):
    add_company(database)
    session = requests.Session()
    text, webhook = json.dumps({"message": "Hello"}), json.dumps({"url": "ftp://no.example", "events": ["*"]})

    def post(url, body):
        headers = {"X-Api-Key": KEY, "Content-Type": "application/json"}
        return session.post(url, data=body, headers=headers, timeout=HANG_SECONDS).status_code

    with serving(settings_for(database, tmp_path)) as url:
        hot, flask = f"{url}/api/v2/messages/text/{COMPANY}/{CHAT}", f"{url}/api/webhooks"

        @settings(max_examples=40)
        @given(sizes(100, MAX_BODY))
        @example(MAX_BODY)
        def any_size(size):
            assert post(hot, text.ljust(size)) == 202
            assert post(flask, webhook.ljust(size)) == 400  # read to its end, and understood

        any_size()
        assert post(hot, text.ljust(MAX_BODY + 1)) == 413
        assert post(flask, webhook.ljust(MAX_BODY + 1)) == 413
        session = requests.Session()
        assert post(hot, text) == 202
    [(texts,)] = execute(connection, "SELECT array_agg(DISTINCT payload->>'message') FROM outbox")
    assert texts == ["Hello"]
