"""Copies of messages in simulators: what they show, and that none can reach a provider or change anything."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from bisnesctl.errors import StartFailed, Unhealthy
from bisnesctl.rollout import trial
from services.database.connection import Database
from services.message import Status
from tests.support.outbox import accept, add_bot, entry, execute, outbox, result
from tests.support.remote.graph_api import Provider

ALL = 100.0


@pytest.fixture
def provider():
    """The real provider, as far as the settings know."""
    found = Provider()
    yield found
    found.close()


@pytest.fixture
def connection(environment, database, provider):
    settings = environment(DATABASE_URL=database, **provider.settings)
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        yield opened


@pytest.fixture
def bot(connection):
    found = add_bot(connection)
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    return found


def put(connection, bot, kind="text", chat="60123456789", **payload):
    """Accept a message."""
    new = entry(bot, chat)
    accept(connection, new)
    if kind != "text" or payload:
        execute(
            connection, "UPDATE outbox SET kind = %s, payload = payload || %s::jsonb WHERE message_id = %s",
            (kind, json.dumps(payload), new.message_id),
        )  # fmt: skip
    return new.message_id


def began(connection):
    return execute(connection, "SELECT now() - interval '1 hour'")[0][0]


@pytest.fixture(scope="module")
def sender():
    """The simulators for copies, which start once."""
    with trial.simulators() as started:
        yield started


@pytest.fixture
def copy(connection, sender):
    """Copies messages, and returns how many."""
    return lambda percent=ALL, limit=1000: trial.copy_messages(connection, sender, began(connection), percent, limit)


def everything(connection):
    """The rows that copies must not change."""
    tables = (
        "outbox",
        "lane",
        "messages",
        "contacts",
        "event",
        "idempotency_keys",
        "unknown_message",
        "process_events",
    )
    return {table: execute(connection, f"SELECT * FROM {table} ORDER BY 1") for table in tables}


def test_copies_have_outcomes_and_change_nothing_else(connection, bot, provider, copy):
    sent, failed, waits = (
        put(connection, bot, chat="60123456701"),
        put(connection, bot, chat="60123456702"),
        put(connection, bot),
    )
    for message in outbox().claim(connection, 2):
        good = message.message_id == sent
        outbox().record(
            connection, [result(message, Status.SENT if good else Status.FAILED, code=None if good else "1")]
        )
    put(connection, bot, "template", chat="60123456703", templateName="order", language="en", variables=["Ana", "7"])
    put(connection, bot, "image", chat="60123456704", media={"link": "https://example.com/a.png"})
    before = everything(connection)
    assert copy() == 5
    assert everything(connection) == before
    assert provider.asked == []
    rows = dict(execute(connection, "SELECT message_id::text, outcome FROM trial_copy"))
    assert {rows[sent], rows[failed], rows[waits]} == {"sent"}
    found = trial.compare(connection, began(connection))
    assert (found.copied, found.both_sent, found.waiting) == (4, 1, 2)
    assert found.not_copied == {"messages of type image are not copied": 1}
    assert [(each.message_id, each.original_code, each.copy) for each in found.original_failed] == [
        (failed, "1", "sent")
    ]
    assert found.copy_failed == []


def test_a_message_is_copied_once(connection, bot, copy):
    put(connection, bot)
    assert (copy(), copy()) == (1, 0)


def test_a_copy_that_fails_although_its_original_was_sent_is_found(connection, bot, copy):
    message = put(connection, bot, chat="60123456701", message="x" * 5000)  # longer than the API allows
    outbox().record(connection, [result(each) for each in outbox().claim(connection, 1)])
    copy()
    (pair,) = trial.compare(connection, began(connection)).copy_failed
    assert (pair.message_id, pair.original, pair.copy) == (message, "sent", "failed")
    assert pair.copy_code == "100"


def test_a_share_of_the_messages_is_copied_at_most_to_the_limit(connection, bot, copy):
    for number in range(200):
        put(connection, bot, chat=f"6012345{number:04}")
    assert 2 <= copy(percent=10) <= 60
    assert copy(limit=7) == 7


def test_numbers_of_whatsapp_web_and_probes_are_not_copied(connection, bot, copy):
    put(connection, add_bot(connection, "0999", kind="wwebjs"))
    put(connection, bot)
    execute(connection, "UPDATE outbox SET is_probe = true WHERE bot_id = %s", (bot,))
    assert copy() == 0


def test_nothing_is_copied_if_the_simulators_do_not_start(connection, bot, tmp_path, monkeypatch):
    put(connection, bot)
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit('no simulators here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(StartFailed, match=r"did not start, so nothing was copied: no simulators here"),
        trial.simulators() as sender,
    ):
        trial.copy_messages(connection, sender, began(connection), ALL, 10)
    assert execute(connection, "SELECT count(*) FROM trial_copy") == [(0,)]


def test_a_trial_that_loses_its_simulators_ends(connection, bot):
    put(connection, bot)
    with trial.simulators() as sender:
        sender._process.kill()
        with pytest.raises(Unhealthy, match="ended, so nothing more is copied"):
            trial.copy_messages(connection, sender, began(connection), ALL, 10)
    assert execute(connection, "SELECT count(*) FROM trial_copy") == [(0,)]


def test_the_process_of_the_simulators_has_no_secret_no_socket_and_leaves_nothing(connection, bot, monkeypatch):
    put(connection, bot)
    for name in ("DATABASE_URL", "ENCRYPTION_KEY", "META_GRAPH_URL", "OPERATOR_KEY", "BISNES_API_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/secret")
    with trial.simulators() as sender:
        trial.copy_messages(connection, sender, began(connection), ALL, 10)
        process = Path(f"/proc/{sender._process.pid}")
        folder = Path(os.readlink(process / "cwd"))
        assert b"secret" not in (process / "environ").read_bytes()
        assert not [each for each in (process / "fd").iterdir() if os.readlink(each).startswith("socket:")]
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert not process.exists()


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', {port}))",
        "socket.getaddrinfo('graph.facebook.com', 443)",
        "requests.post('http://127.0.0.1:{port}/v26.0/1/messages')",
        "http.client.HTTPConnection('127.0.0.1', {port}).connect()",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    ],
)
def test_a_trial_can_open_no_connection(attempt):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        reached: list[object] = []

        def listen():
            with contextlib.suppress(OSError):
                reached.append(server.accept())

        listener = threading.Thread(target=listen)
        listener.start()
        code = (
            "import http.client, requests, socket\nfrom services import trial\ntrial.refuse_connections()\n"
            f"{attempt.format(port=server.getsockname()[1])}"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        listener.join()
    assert "a trial opens no connections" in done.stderr
    assert done.returncode == 1
    assert reached == []


def test_the_command_compares_and_says_so(connection, bot, provider, tool):
    put(connection, bot, chat="60123456701")
    outbox().record(connection, [result(each) for each in outbox().claim(connection, 1)])
    found = tool("rollout", "compare", "--percent", "100", "--json").json
    assert (found["copied"], found["bothSent"], found["copyFailed"]) == (1, 1, [])
    put(connection, bot, chat="60123456702", message="x" * 5000)
    outbox().record(connection, [result(each) for each in outbox().claim(connection, 1)])
    failed = tool("rollout", "compare", "--percent", "100", code=5)
    assert "copies that failed alone: 1" in failed.text
    assert "copies that failed although their originals were sent: 1" in failed.text
    assert provider.asked == []


def test_copies_are_deleted_after_a_week(connection, bot):
    from bisnesctl.retention.rules import RULES

    (rule,) = [each for each in RULES if each.table == "trial_copy"]
    assert rule.kept == timedelta(days=7).days
