"""The questions of an operator at night: each is answered by one command, in a terminal of 80 columns."""

import contextlib
import re
import threading

import psycopg2
import pytest
import requests

from tests.support.deployment import Deployment
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS, wait_until

COMPANY, CHAT = "0128", "60123456789"
#: A company whose number's token has expired.
SILENT = "0199"
COLUMNS = 80
#: Seconds after which the guard has seen the memory of a process, which it measures four times a minute.
MEMORY_KNOWN_SECONDS = 30.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(
        tmp_path_factory.mktemp("questions"), API_INSTANCES="1", META_INSTANCES="1", ENABLE_WWEBJS="false",
        HEARTBEAT_INTERVAL="1000", DATABASE_POOL_API_MAX="2", META_ATTEMPTS="2", META_BACKOFF_MS="100",
    )  # fmt: skip
    deployment.environment["COLUMNS"] = str(COLUMNS)
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot(COMPANY)
        deployment.add_demo_bot(SILENT)
        log = deployment.settings.log_dir / "meta-worker-1.log"
        eventually(lambda: log.read_text().count("bot.check_passed") == 2)  # a check ends the hold of a number
        yield deployment
    finally:
        deployment.close()


def ask(deployment, *words):
    """The answer of one command, whose lines fit the terminal."""
    done = deployment.run(*words, check=False)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 5), said  # 5: it answers, and something is not healthy
    assert [line for line in said.splitlines() if len(line) > COLUMNS] == []
    return " ".join(said.split())


def accepted(deployment, text, company=COMPANY, chat=CHAT):
    answer = deployment.send(company, chat, text)
    assert answer.status_code == 202, answer.text
    return answer.json()["messageId"]


def status_of(deployment, message):
    [(status,)] = deployment.rows(f"SELECT status::text FROM outbox WHERE message_id = '{message}'")
    return status


@pytest.fixture(scope="module")
def silent(deployment):
    """A message of a number whose token has expired."""
    deployment.behave(error_code=190, match="expired")
    message = accepted(deployment, "expired", SILENT)
    eventually(lambda: "190: " in deployment.run("why", f"{SILENT}-0").stdout)  # not a part of a pid
    return message


@pytest.fixture
def paused(deployment):
    """A message of a number that is paused."""
    deployment.run("queue", "pause", f"{COMPANY}/0", "--reason", "wrong price list")
    yield accepted(deployment, "paused")
    deployment.run("queue", "resume", f"{COMPANY}/0")


def test_which_bot_is_silent_and_why(deployment, silent):
    said = ask(deployment, "why")
    assert f"{SILENT}-0 is prevented by: number" in said
    assert "190" in said
    assert f"bisnesctl bots add --company {SILENT}" in said


def test_which_message_is_stuck_and_why(deployment, silent, paused):
    said = ask(deployment, "queue", "list")
    assert silent in said
    assert paused in said
    assert "wrong price list" in said
    assert "190" in ask(deployment, "why", silent)


def test_why_did_a_process_restart(deployment):
    why = re.compile(r"api-0 it was killed.* with \d+ MB; the guard starts it again")

    def killed_and_explained():
        if (deployment.status()["api-0"]["uptime_seconds"] or 0) > MEMORY_KNOWN_SECONDS:
            deployment.kill("api-0")
        return why.search(ask(deployment, "events", "api", "--since", "1h"))

    eventually(killed_and_explained)
    assert "it was killed" in ask(deployment, "describe", "api-0")


def test_what_happened_in_the_last_hour(deployment):
    said = ask(deployment, "events", "--since", "1h")
    assert "api-0" in said
    assert "meta-worker-1" in said
    assert "it starts" in said


def test_how_old_is_the_oldest_message_and_does_the_queue_grow(deployment, paused):
    said = ask(deployment, "queue", "stats")
    assert re.search(r"oldest", said)
    assert re.search(r"meta-messages \d+ \d+", said)


def test_is_the_queue_backing_up(deployment, paused):
    said = ask(deployment, "health", "--only", "outbox_waiting,outbox_oldest,outbox_growth")
    assert re.search(r"meta", said)


def test_who_restarted_it(deployment):
    deployment.run("restart", "meta-worker")
    typed = re.compile(r"typed `bisnesctl restart meta-worker`")
    eventually(lambda: typed.search(ask(deployment, "events", "meta-worker", "--since", "1h")))
    assert "restart meta-worker" in ask(deployment, "audit", "--what", "restart")


def test_is_the_pool_of_connections_exhausted(deployment):
    question = ("health", "--only", "pool_used,postgres_connections_used")
    with webhooks_locked(deployment):
        eventually(lambda: "api-0 uses 100 %" in ask(deployment, *question))
    eventually(lambda: re.search(r"ok api-0 uses \d+ %", ask(deployment, *question)))


@contextlib.contextmanager
def webhooks_locked(deployment):
    """The table of webhooks cannot be read, while requests arrive that read it."""
    ended, url = threading.Event(), f"{deployment.api}/api/webhooks?company={COMPANY}"

    def read():
        while not ended.is_set():
            with contextlib.suppress(OSError):
                requests.get(url, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS)

    connection = psycopg2.connect(deployment.settings.database_dsn)
    readers = [threading.Thread(target=read) for _ in range(6)]
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLE webhook IN ACCESS EXCLUSIVE MODE")
            for each in readers:
                each.start()
            yield
            ended.set()
    finally:
        ended.set()
        connection.close()
        for each in readers:
            if each.ident is not None:
                each.join()


def test_one_bot_is_paused_and_nothing_of_it_leaves(deployment, paused):
    assert status_of(deployment, paused) == "queued"
    assert "wrong price list" in ask(deployment, "why", f"{COMPANY}-0")


def test_a_message_that_waits_is_cancelled(deployment, paused):
    assert f"cancelled {paused}" in ask(deployment, "queue", "cancel", paused)
    assert status_of(deployment, paused) == "failed"


def test_the_log_level_changes_without_a_restart(deployment):
    before = deployment.pid("meta-worker-1")
    ask(deployment, "log-level", "all", "debug", "--for", "10m")
    wait_until(lambda: "log_level.changed" in deployment.run("logs", "meta-worker").stdout, what=deployment.logs)
    assert deployment.pid("meta-worker-1") == before


def test_one_message_is_followed_through_all_logs(deployment):
    deployment.run("log-level", "all", "debug", "--for", "10m")
    message = accepted(deployment, "followed", chat="60100000009")
    eventually(lambda: "message.sent" in deployment.run("logs", "--message", message).stdout)
    said = deployment.run("logs", "--message", message).stdout
    assert "api-0" in said
    assert "meta-worker-1" in said
