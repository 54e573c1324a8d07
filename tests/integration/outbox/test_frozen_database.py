"""A PostgreSQL that hangs: every caller gets an answer in time, and nothing is stored twice when it continues."""

import contextlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import psycopg2
import pytest
import requests

from bisnesctl.database import migrations, statement_deadline
from services.database.connection import Database, DatabaseUnavailable, clock
from services.inbox.webhook_inbox import WebhookWriter
from services.outbox import accept
from services.outbox.accept import Acceptor
from services.runtime.account_cache import AccountCache
from tests.support.api import CHAT, COMPANY, KEY, Quiet, add_company, serving, settings_for
from tests.support.outbox import add_bot, entry, execute, outbox
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS

#: Seconds that prove that nobody waits for ever, on a busy machine too.
IN_TIME = HANG_SECONDS


@pytest.fixture
def dsn(own_postgres):
    own_postgres.run("CREATE DATABASE frozen")
    migrations.apply(own_postgres.dsn("frozen"))
    yield own_postgres.dsn("frozen")
    own_postgres.run("DROP DATABASE frozen WITH (FORCE)")


@pytest.fixture
def database(dsn):
    with contextlib.closing(Database(dsn)) as database:
        yield database


@pytest.fixture
def bot(database):
    with database.connection() as connection:
        return add_bot(connection)


@pytest.fixture
def intake(database):
    intake = Acceptor(database, Quiet(), seconds=5)
    yield intake
    intake.close()


def stored(dsn):
    """(message id, chat, text) of the outbox, in the order of acceptance."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        return execute(connection, "SELECT message_id::text, chat_id, payload->>'message' FROM outbox ORDER BY id")


def counted(dsn):
    """Rows of the outbox, what the lanes count of them, and idempotency keys."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        [row] = execute(
            connection,
            "SELECT (SELECT count(*) FROM outbox), (SELECT COALESCE(sum(pending), 0) FROM lane),"
            " (SELECT count(*) FROM idempotency_keys)",
        )
    return row


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_statement_ends_in_time_and_says_which_limit_it_was(own_postgres, dsn):
    connection = statement_deadline.connect(dsn, 3, 0.5)
    with own_postgres.frozen(), pytest.raises(statement_deadline.StatementTimeout, match=r"within 0\.5 s"):
        connection.cursor().execute("SELECT 1; SELECT 2")
    assert connection.closed


def test_a_statement_that_cannot_even_be_sent_ends_in_time(own_postgres, dsn):
    connection = statement_deadline.connect(dsn, 3, 0.5)
    with own_postgres.frozen(), pytest.raises(statement_deadline.StatementTimeout):
        connection.cursor().execute("SELECT length(%s)", ("x" * (16 << 20),))


def test_a_commit_ends_in_time_and_so_does_the_end_of_its_block(own_postgres, dsn):
    connection = statement_deadline.connect(dsn, 3, 0.5)
    connection.autocommit = False
    connection.cursor().execute("SELECT 1")
    with own_postgres.frozen(), pytest.raises(statement_deadline.StatementTimeout):
        connection.commit()
    other = statement_deadline.connect(dsn, 3, 0.5)
    other.autocommit = False
    with own_postgres.frozen(), pytest.raises(statement_deadline.StatementTimeout), other:
        other.cursor().execute("SELECT 1")


def test_long_statements_run_on_while_the_server_answers_and_end_when_it_does_not(own_postgres, dsn):
    connection = statement_deadline.connect(dsn, 3, 0.5)
    with statement_deadline.while_answering(connection, dsn, 1):
        connection.cursor().execute("SELECT pg_sleep(2.5)")
        with (
            own_postgres.frozen(),
            pytest.raises(statement_deadline.StatementTimeout, match="stopped answering, even to new connections"),
        ):
            connection.cursor().execute("SELECT pg_sleep(60)")


def test_the_next_statements_of_a_process_fail_at_once_during_an_outage(own_postgres, database):
    def ask(_):
        with contextlib.suppress(DatabaseUnavailable), database.connection() as connection:
            execute(connection, "SELECT 1")
            return True
        return False

    assert ask(0)
    with own_postgres.frozen(), ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, number) for number in range(200)]
        _, late = wait_for(asked, IN_TIME)
    assert not late
    assert not any(each.result() for each in asked)
    eventually(lambda: ask(0))


def test_an_accept_fails_in_time_and_its_message_is_not_stored_afterwards(own_postgres, dsn, intake, bot):
    first = entry(bot)
    assert intake.accept(first).result(IN_TIME).message_id == first.message_id
    with own_postgres.frozen():
        futures = [intake.accept(entry(bot, idempotency_key=f"{n}", digest="aa")) for n in range(300)]
        assert not wait_for(futures, IN_TIME).not_done
        assert {type(future.exception()) for future in futures} == {DatabaseUnavailable}
        assert "5 s" in str(futures[0].exception())
    eventually(lambda: accepted(intake, entry(bot)))
    rows = stored(dsn)
    assert rows[0][0] == first.message_id
    assert len(rows) == 2
    assert counted(dsn) == (2, 2, 0)


def accepted(intake, message):
    try:
        return intake.accept(message).result(IN_TIME).message_id == message.message_id
    except DatabaseUnavailable:
        return False


def test_an_insert_that_begins_too_late_stores_nothing(dsn, database, bot):
    with database.connection() as connection:
        now = clock(connection)
        keyed = entry(bot, idempotency_key="k", digest="aa")
        assert accept.insert(connection, [entry(bot), keyed], now) == accept.Insertion(set(), {}, None)
        assert counted(dsn) == (0, 0, 0)
        assert accept.insert(connection, [keyed], now + 60).stored == {keyed.message_id}


@pytest.mark.parametrize("offset", [-4000.0, 4000.0])
def test_a_database_clock_that_was_set_refuses_no_message(intake, bot, offset):
    assert accepted(intake, entry(bot))
    intake._clock_offset += offset
    assert accepted(intake, entry(bot))
    assert accepted(intake, entry(bot))


def test_a_message_whose_commit_was_not_answered_is_withdrawn(own_postgres, dsn, intake, bot, monkeypatch):
    frozen, real = contextlib.ExitStack(), accept.insert

    def freeze_afterwards(connection, entries, not_after):
        monkeypatch.undo()
        real(connection, entries, not_after)
        frozen.enter_context(own_postgres.frozen())
        clock(connection)  # as if the answer had not come

    assert accepted(intake, entry(bot))
    monkeypatch.setattr(accept, "insert", freeze_afterwards)
    with frozen:
        lost, keyed = entry(bot), entry(bot, idempotency_key="k", digest="aa")
        futures = [intake.accept(lost), intake.accept(keyed)]
        assert {type(future.exception(IN_TIME)) for future in futures} == {DatabaseUnavailable}
    eventually(lambda: not intake._in_doubt)  # by itself: nothing else is accepted meanwhile
    assert lost.message_id not in {row[0] for row in stored(dsn)}
    again = entry(bot, idempotency_key="k", digest="aa")
    promised = intake.accept(again).result(IN_TIME)  # the first one, if it was stored
    assert promised.message_id in (keyed.message_id, again.message_id)
    assert [row[0] for row in stored(dsn)][1:] == [promised.message_id]
    assert counted(dsn) == (2, 2, 1)


def test_a_message_whose_commit_was_not_answered_and_that_a_worker_has_is_left_alone(dsn, database, bot):
    message, later = entry(bot), entry(bot)
    with database.connection() as connection:
        for each in (message, later):
            accept.insert(connection, [each])
        [claimed] = outbox().claim(connection, 10)
        assert claimed.message_id == message.message_id
        assert accept.withdraw(connection, [message.message_id, later.message_id]) == [later.message_id]
    assert counted(dsn) == (1, 1, 0)


def test_one_frozen_backend_delays_nobody_for_long_and_stores_nothing_twice(dsn, intake, bot):
    assert accepted(intake, entry(bot, "60111111111"))
    message = entry(bot, "60222222222", text="once", idempotency_key="k", digest="aa")
    with stopped(intake._connection.get_backend_pid()):
        eventually(lambda: accepted(intake, entry(bot, "60333333333")))
        if not accepted(intake, message):  # a slow machine
            message = entry(bot, "60222222222", text="once", idempotency_key="k", digest="aa")
            eventually(lambda: accepted(intake, message))
    assert accepted(intake, entry(bot, "60222222222", text="afterwards"))
    assert [row[2] for row in stored(dsn) if row[1] == "60222222222"] == ["once", "afterwards"]


def test_waiting_items_are_answered_when_the_process_stops(own_postgres, database, bot):
    intake = Acceptor(database, Quiet())
    with own_postgres.frozen():
        waiting = intake.accept(entry(bot))
        intake._commits._seconds = 0.5  # for `close`
        intake.close()
        assert isinstance(waiting.exception(IN_TIME), DatabaseUnavailable)
        with pytest.raises(DatabaseUnavailable):
            intake.accept(entry(bot))


def test_webhooks_fail_in_time_and_do_not_pile_up(own_postgres, dsn, database):
    letterbox = WebhookWriter("meta", database, Quiet(), seconds=5)
    assert letterbox.put(b"before")
    with own_postgres.frozen(), ThreadPoolExecutor(16) as threads:
        puts = [threads.submit(letterbox.put, b"%d" % number) for number in range(64)]
        assert not wait_for(puts, IN_TIME).not_done
        assert all(isinstance(put.exception(), DatabaseUnavailable) for put in puts)
        assert not letterbox._commits._waiting
    eventually(lambda: quietly(letterbox.put, b"after"))


def quietly(call, *arguments):
    try:
        return call(*arguments)
    except DatabaseUnavailable:
        return None


def test_a_frozen_connection_that_hears_of_changes_is_noticed(dsn, monkeypatch):
    monkeypatch.setattr("services.runtime.account_cache.ROW_VALID_SECONDS", 1e6)  # so that no row expires of itself
    database = Database(dsn, name="listener")
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        bot = add_bot(connection)
        directory = AccountCache(database)
        directory.start()
        pid = eventually(lambda: listening_backend(dsn, "listener"))
        eventually(lambda: directory.bot("0128", 0) and directory.cached_bot("0128", 0))
        with stopped(pid):
            execute(connection, "DELETE FROM phone_configs WHERE id = %s", (bot,))
            eventually(lambda: directory.bot("0128", 0) is None)
        directory.stop()
    database.close()


def listening_backend(dsn, name):
    """The pid of the connection that listens: the first one that is opened."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        rows = execute(
            connection, "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY backend_start", (name,)
        )
    return rows[0][0] if rows else None


class Clients:
    """Posts numbered texts, each client to a chat of its own, one after the other; remembers the answers.

    Every second client gives each text an idempotency key, and posts it again until it is accepted.
    """

    def __init__(self, url, count):
        self.answers, self._ended = [], threading.Event()
        self._threads = [threading.Thread(target=self._post_on, args=(url, number)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _post_on(self, url, client):
        chat, session, number = f"{int(CHAT) + client}", requests.Session(), 0
        keyed, accepted = client % 2 == 1, True
        while not self._ended.is_set() or (keyed and not accepted):
            text = f"{client}/{number}"
            headers = {"X-Api-Key": KEY} | ({"Idempotency-Key": text} if keyed else {})
            answer = session.post(
                f"{url}/api/v2/messages/text/{COMPANY}/{chat}",
                data=json.dumps({"message": text}),
                headers=headers,
                timeout=2 * IN_TIME,
            )
            self.answers.append((answer.status_code, chat, text, answer.json()))
            accepted = answer.status_code == 202
            number += accepted or not keyed

    def count(self, status):
        return sum(answer[0] == status for answer in list(self.answers))

    def end(self):
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * IN_TIME)


def test_posts_under_load_are_answered_while_the_server_is_frozen_and_none_is_stored_twice(own_postgres, dsn, tmp_path):
    add_company(dsn)
    with serving(settings_for(dsn, tmp_path)) as url:
        clients = Clients(url, 12)
        eventually(lambda: clients.count(202) > 200)
        with own_postgres.frozen():
            refused = clients.count(503)
            eventually(lambda: clients.count(503) >= refused + 24)  # each client twice, at least
        before = clients.count(202)
        eventually(lambda: clients.count(202) > before + 200)
        clients.end()
        assert {answer[0] for answer in clients.answers} == {202, 503}
        refusals = [answer[3] for answer in clients.answers if answer[0] == 503]
        assert {refusal["code"] for refusal in refusals} == {"database_unavailable"}
        promised = [(answer[3]["messageId"], answer[1], answer[2]) for answer in clients.answers if answer[0] == 202]

        def exactly_what_was_promised():
            return sorted(stored(dsn)) == sorted(promised)

        eventually(exactly_what_was_promised)
    chats = {}
    for _, chat, text in stored(dsn):
        chats.setdefault(chat, []).append(int(text.partition("/")[2]))
    assert all(numbers == sorted(numbers) for numbers in chats.values())
