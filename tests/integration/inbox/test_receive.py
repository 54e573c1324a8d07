"""Webhooks that arrive together are stored together, even if PostgreSQL fails meanwhile."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.database.connection import Database, DatabaseUnavailable
from services.inbox.webhook_inbox import STORE_BATCH_BYTES, BotName, WebhookWriter
from tests.support.api import Quiet
from tests.support.outbox import add_bot, execute


@pytest.fixture
def pool(database):
    with contextlib.closing(Database(database)) as pool:
        yield pool


def patient(pool):
    """One that a slow machine does not make give up."""
    return WebhookWriter("meta", pool, Quiet(), seconds=60)


def bodies(pool):
    with pool.connection() as connection:
        return [(bot, bytes(body)) for bot, body in execute(connection, "SELECT bot_id, body FROM webhook_inbox")]


def test_webhooks_that_arrive_together_are_each_stored_once_with_their_bot(pool):
    with pool.connection() as connection:
        bot = add_bot(connection, kind="360dialog")
    names = [None, BotName("0128", 0), BotName("0128", 7)]
    letterbox, sent = patient(pool), [(b"%d\0\xff" % n, names[n % 3]) for n in range(150)]
    with ThreadPoolExecutor(50) as threads:
        taken = list(threads.map(lambda letter: letterbox.put(*letter), sent))
    assert taken == [bot != BotName("0128", 7) for _, bot in sent]
    expected = [(name and bot, body) for body, name in sent if name != BotName("0128", 7)]
    assert sorted(bodies(pool), key=str) == sorted(expected, key=str)


def test_large_bodies_share_no_commit_and_are_all_stored(pool):
    letterbox, large = patient(pool), [bytes([n]) * (STORE_BATCH_BYTES // 2 + 1) for n in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(letterbox.put, large)) == [True] * 4
    assert {body for _, body in bodies(pool)} == set(large)


def test_a_frozen_database_ends_all_waits_and_does_not_pile_up_requests(pool):
    letterbox = WebhookWriter("meta", pool, Quiet(), seconds=1)
    assert patient(pool).put(b"before")
    with frozen(pool), ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: refuses(letterbox, b"during %d" % n), range(8))) == [True] * 8
    assert patient(pool).put(b"after")
    kept = [body for _, body in bodies(pool)]
    assert {b"before", b"after"} <= set(kept)
    assert len(kept) == len(set(kept))


@contextlib.contextmanager
def frozen(pool):
    """The server's process of the pool's one connection stands still."""
    with pool.connection() as connection:
        pid = connection.get_backend_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def refuses(letterbox, body):
    try:
        letterbox.put(body)
    except DatabaseUnavailable:
        return True
    return False
