"""A burst of webhooks through a real receiver: a batch of a thousand updates and fifty posts at once."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg2
import pytest
import requests

from services.connectors.meta.receiver import PATH, SIGNATURE_HEADER, sign
from tests.support.api import settings_for
from tests.support.meta_payloads import message, value, webhook
from tests.support.sandbox import eventually, free_port
from tests.support.waiting import HANG_SECONDS

SECRET = "app-secret"
#: Posts that are under way at the same time.
AT_ONCE = 50


@pytest.fixture
def receiver(database, tmp_path):
    """The URL of a receiver as supervisord runs it, a process of its own under gunicorn."""
    port = free_port()
    settings = settings_for(database, tmp_path, META_APP_SECRET=SECRET)
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "python:services.gunicorn_conf", "--no-control-socket",
         "-b", f"127.0.0.1:{port}", "services.connectors.meta.receiver:create_service()"],
        env=os.environ | {"BISNES_ENV": str(settings.env_file), "BISNES_PROCESS": "meta"},
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: process.poll() is not None or answers(f"{base}/health/ready"))
        assert process.poll() is None
        yield base + PATH
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


def answers(url):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=HANG_SECONDS).status_code == 200
    return False


def texts(name, count):
    """A webhook with N different messages."""
    said = [message("text", {"body": f"{name} {n}"}, id=f"wamid.{name}.{n}") for n in range(count)]
    return orjson.dumps(webhook(value(*said)))


def post(url, body):
    """Do as Meta does: repeat a webhook until it is answered with 200; returns the seconds of the last attempt."""
    while True:
        begin = time.monotonic()
        answer = requests.post(url, body, headers={SIGNATURE_HEADER: sign(SECRET, body)}, timeout=HANG_SECONDS)
        assert answer.status_code in (200, 503)
        if answer.status_code == 200:
            return time.monotonic() - begin


def test_a_burst_is_stored_without_loss_every_body_as_it_was_sent(receiver, database):
    sent = [texts("batch", 1000), *(texts(f"post-{n}", 1 + n % 3) for n in range(4 * AT_ONCE))]
    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        took = [1000 * seconds for seconds in threads.map(lambda body: post(receiver, body), sent)]
    print(f"answered after {statistics.median(took):.0f} ms (median), {max(took):.0f} ms at most")
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT body FROM webhook_inbox")
        assert {bytes(body) for (body,) in cursor.fetchall()} == set(sent)
