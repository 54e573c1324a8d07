"""Announcements of accepted messages: workers send them without a sweep, and one worker is on call."""

from dataclasses import replace

import pytest

from services import channel
from services.outbox.accept import announced_on
from services.outbox.on_call import LOCK_SPACE
from tests.support.outbox import entry, execute
from tests.support.outbox_worker import Stage
from tests.support.waiting import HANG_SECONDS

CHAT = "60123456789"


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    stage = Stage(database, tmp_path, monkeypatch)
    yield stage
    stage.close()


@pytest.fixture
def without_sweeps(monkeypatch):
    monkeypatch.setattr(channel, "SWEEP_INTERVAL_SECONDS", 10 * HANG_SECONDS)


def on_call(stage):
    """The server's processes of the workers that are on call."""
    found = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s"
    return [pid for (pid,) in execute(stage.connection, found, (LOCK_SPACE,))]


def worker_on_call(stage, instance):
    """A worker, once it is on call."""
    worker = stage.listening_sender(instance)
    stage.wait_for(lambda: on_call(stage))
    return worker


def other_worker(stage, instance):
    """A worker beside one that is on call, once it listens."""
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_try_advisory_lock%%' AND state = 'idle'"
    worker = stage.listening_sender(instance)
    stage.wait_for(lambda: execute(stage.connection, listening) == [(1,)])
    return worker


def test_accepted_messages_are_sent_without_a_sweep(stage, without_sweeps):
    bot = stage.bot()
    worker_on_call(stage, "meta-worker-1")
    for n in range(3):
        stage.accept(entry(bot, CHAT, f"text {n}"))
        stage.wait_for(lambda n=n: stage.statuses() == {"sent": n + 1})


def test_messages_that_wait_at_the_start_are_sent_without_a_sweep(stage, without_sweeps):
    stage.accept(entry(stage.bot()))
    stage.listening_sender()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})


def test_a_message_that_comes_while_one_of_its_chat_is_in_flight_follows_it(stage, without_sweeps):
    bot = stage.bot()
    worker_on_call(stage, "meta-worker-1")
    stage.provider.delay = 0.1
    texts = [f"text {n}" for n in range(4)]
    for text in texts:
        stage.accept(entry(bot, CHAT, text))
    stage.wait_for(lambda: stage.statuses() == {"sent": 4})
    assert [text for _, text in stage.provider.received] == texts


def test_a_numbers_queue_that_is_longer_than_the_window_is_sent_without_a_sweep(stage, without_sweeps):
    bot = stage.bot()
    stage.accept(*(entry(bot, f"6011111111{n % 60:02}", f"text {n}") for n in range(120)))
    stage.listening_sender()
    stage.wait_for(lambda: stage.statuses() == {"sent": 120})


def test_what_was_accepted_while_the_connection_was_broken_is_sent(stage, without_sweeps):
    bot = stage.bot()
    worker_on_call(stage, "meta-worker-1")
    for n in range(3):
        execute(stage.connection, "SELECT pg_terminate_backend(%s)", (on_call(stage)[0],))
        stage.accept(entry(bot, CHAT, f"text {n}"))
        stage.wait_for(lambda n=n: stage.statuses() == {"sent": n + 1})
        stage.wait_for(lambda: on_call(stage))


def test_one_worker_is_on_call_and_another_takes_over_when_it_ends(stage, without_sweeps):
    bot = stage.bot()
    first = worker_on_call(stage, "meta-worker-1")
    second = other_worker(stage, "meta-worker-2")
    stage.accept(entry(bot, CHAT, "for the first"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    stage.wait_for(lambda: first.delivery.counts["sent"] == 1)
    assert first.stop(HANG_SECONDS)
    stage.accept(entry(bot, CHAT, "for the second"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 2})
    stage.wait_for(lambda: second.delivery.counts["sent"] == 1)


def test_a_worker_that_claims_nothing_lets_another_one_be_on_call(stage, without_sweeps):
    bot = stage.bot()
    first = worker_on_call(stage, "meta-worker-1")
    other_worker(stage, "meta-worker-2")
    first.delivery.paused = True
    stage.accept(entry(bot, CHAT, "for the second"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    assert first.delivery.counts["sent"] == 0


def test_another_worker_sends_what_the_one_on_call_has_no_room_for(stage):
    bot = stage.bot()
    stage.provider.hanging.clear()
    try:
        worker_on_call(stage, "meta-worker-1")
        stage.accept(*(entry(bot, f"6011111111{n:02}", f"hang {n}") for n in range(stage.settings.meta_window)))
        stage.wait_for(lambda: stage.provider.waiting)
        other_worker(stage, "meta-worker-2")
        stage.accept(*(entry(bot, f"6022222222{n:02}", f"text {n}") for n in range(8)))
        stage.wait_for(lambda: stage.statuses().get("sent", 0) >= 8)
    finally:
        stage.provider.hanging.set()
    stage.wait_for(lambda: stage.statuses() == {"sent": 8 + stage.settings.meta_window})


def test_only_messages_of_workers_are_announced(stage):
    bot, announced = stage.bot(), []
    execute(stage.connection, f"LISTEN {announced_on('meta')}")
    for name in ("wwebjs", "meta"):
        stage.accept(replace(entry(bot), channel=name))
        execute(stage.connection, "SELECT 1")  # announcements arrive before its answer
        announced.append(len(stage.connection.notifies))
    assert announced == [0, 1]
