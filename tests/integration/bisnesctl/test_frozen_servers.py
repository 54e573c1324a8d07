"""Commands of the tool while a server stands still: each ends in time and says what did not answer."""

import contextlib
import os
import signal
import socket

import pytest

from bisnesctl.database import postgres
from bisnesctl.errors import DatabaseUnavailable, RedisUnavailable
from bisnesctl.lifecycle import start
from bisnesctl.processes import supervisor
from bisnesctl.processes.deployment import record_start
from bisnesctl.processes.topology import Mode
from tests.support.processes.servers import Redis, settings_in
from tests.support.processes.supervisord import supervised

ASKING_POSTGRES = [
    ("keys", "list"),
    ("keys", "create", "--company", "0128"),
    ("keys", "revoke", "1"),
    ("bots", "list"),
    ("bots", "add", "--company", "0128", "--type", "wwebjs"),
    ("bots", "remove", "--company", "0128"),
    ("bots", "blocked"),
    ("bots", "unblock", "0128"),
    ("bots", "limit", "0128", "--per-hour", "5"),
    ("bots", "verify"),
    ("dead-letters", "list"),
    ("dead-letters", "show", "1"),
    ("dead-letters", "retry", "1"),
    ("migrate",),
    ("migrate", "--status"),
    ("migrate", "--dry-run"),
]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    server = Redis(settings_in(tmp_path_factory.mktemp("redis"), DATABASE_URL="postgresql://unused"))
    server.start()
    yield server
    server.remove()


@pytest.mark.parametrize("words", ASKING_POSTGRES, ids=" ".join)
def test_a_command_that_asks_a_frozen_postgres_ends_and_says_so(environment, tool, own_postgres, monkeypatch, words):
    monkeypatch.setattr("bisnesctl.database.postgres.CONNECT_TIMEOUT_SECONDS", 2)
    environment(DATABASE_URL=own_postgres.dsn())
    with own_postgres.frozen():
        said = tool(*words, code=4)
    assert "PostgreSQL did not accept a connection within 2 s" in said.text


def test_a_command_whose_statement_is_not_answered_ends_and_says_so(environment, tool, own_postgres, monkeypatch):
    environment(DATABASE_URL=own_postgres.dsn())
    tool("migrate")
    monkeypatch.setattr("bisnesctl.database.postgres.STATEMENT_TIMEOUT_SECONDS", 1.0)
    frozen, to_freeze = contextlib.ExitStack(), [own_postgres]
    real = postgres.query

    def freeze_first(*arguments):
        if to_freeze:
            frozen.enter_context(to_freeze.pop().frozen())
        return real(*arguments)

    monkeypatch.setattr("bisnesctl.database.api_keys.query", freeze_first)
    with frozen:
        said = tool("keys", "list", code=4)
    assert "PostgreSQL did not answer a statement within 1 s" in said.text


def test_status_and_health_end_while_both_servers_are_frozen(environment, tool, own_postgres, own_redis):
    settings = environment(DATABASE_URL=own_postgres.dsn(), REDIS_URL=own_redis.url)
    settings.run_dir.mkdir(parents=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    with own_postgres.frozen(), own_redis.frozen():
        tool("status")
        tool("health", code=5)


def test_a_start_with_a_frozen_redis_or_postgres_ends_and_says_so(environment, own_postgres, own_redis):
    settings = environment(DATABASE_URL=own_postgres.dsn(), REDIS_URL=own_redis.url)
    with own_redis.frozen(), pytest.raises(RedisUnavailable, match=r"did not answer within 2 s"):
        start.check_redis(settings)
    with own_postgres.frozen(), pytest.raises(DatabaseUnavailable, match="within 5 s"):
        start.prepare_database(settings, print)


def test_a_command_that_asks_a_frozen_api_ends_and_says_so(environment, tool, monkeypatch):
    monkeypatch.setattr("bisnesctl.clients.api_client.ANSWER_TIMEOUT_SECONDS", 0.5)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        environment(API_PORT=str(port), OPERATOR_KEY="bk_x")
        said = tool("send", "--company", "0128", "--to", "60123456789", "--text", "x", code=4)
    assert f"the API at http://127.0.0.1:{port} did not answer within 0.5 s" in said.text


def test_a_command_that_asks_a_frozen_sandbox_ends_and_says_so(environment, tool, monkeypatch):
    monkeypatch.setattr("bisnesctl.clients.sandbox_client.ANSWER_TIMEOUT_SECONDS", 0.5)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        environment(SANDBOX_PORT=str(silent.getsockname()[1]))
        said = tool("sandbox", "say", "Hello", code=4)
    assert "did not answer within 0.5 s" in said.text


@pytest.mark.parametrize(("words", "code"), [(("status",), 0), (("restart", "api"), 4), (("stop", "api"), 4)])
def test_a_command_that_asks_a_frozen_supervisord_ends_and_says_so(environment, tool, monkeypatch, words, code):
    settings = environment(DATABASE_URL="postgresql://127.0.0.1:1/x")
    with supervised(settings) as started:
        pid = started.pid()
        monkeypatch.setattr(supervisor, "BUSY_CALL_TIMEOUT_SECONDS", 2)
        os.kill(pid, signal.SIGSTOP)
        try:
            said = tool(*words, code=code)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert "supervisord" in said.text
    assert "answer" in said.text
