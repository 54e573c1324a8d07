"""WakeupSender through a real Redis."""

import threading
import time

import dramatiq
import pytest

from services.wakeups import ACTORS, NAMESPACE, MarkerClearer, SessionWakeup, WakeupSender, WakingBroker, session_queue

QUEUE = "meta-messages"


@pytest.fixture
def broker(redis_server):
    broker = WakingBroker(redis_server.url)
    broker.client.flushall()
    yield broker
    broker.client.close()


@pytest.fixture
def served(broker):
    """A worker whose actor notes its calls: gives the semaphore that each call releases."""
    called = threading.Semaphore(0)
    dramatiq.actor(actor_name=ACTORS[QUEUE], queue_name=QUEUE, broker=broker)(called.release)
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    yield called
    worker.stop(timeout=2000)


def test_a_hint_wakes_a_worker_each_time_it_was_taken_note_of(broker, served):
    hints, clear = WakeupSender(broker), MarkerClearer(broker.client, QUEUE)
    for _ in range(5):
        hints.notify(QUEUE)
        assert served.acquire(timeout=10)
        clear()


def test_hints_that_nobody_has_seen_yet_are_one(broker):
    hints = WakeupSender(broker)
    for _ in range(100):
        hints.notify(QUEUE)
    deadline = time.monotonic() + 5
    while not broker.client.llen(f"{broker.namespace}:{QUEUE}") and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert broker.client.llen(f"{broker.namespace}:{QUEUE}") == 1


def test_a_redis_that_is_away_stops_nobody_and_is_used_again_when_it_is_back(broker, served, redis_server):
    hints = WakeupSender(broker)
    redis_server.kill()
    try:
        hints.notify(QUEUE)
        MarkerClearer(broker.client, QUEUE)()
    finally:
        redis_server.start()
    deadline = time.monotonic() + 30
    while not served.acquire(timeout=1):
        assert time.monotonic() < deadline
        hints.notify(QUEUE)


def test_a_flushed_redis_serves_new_hints(broker, served):
    hints = WakeupSender(broker)
    hints.notify(QUEUE)
    assert served.acquire(timeout=10)
    broker.client.flushall()
    hints.notify(QUEUE)
    assert served.acquire(timeout=10)


def test_a_session_is_woken_by_hints_for_its_own_bot(broker, redis_server):
    hints, bell, other = WakeupSender(broker), SessionWakeup(redis_server.url, 7), SessionWakeup(redis_server.url, 8)
    for _ in range(3):
        hints.notify(session_queue(7))
        assert bell.wait(10)
        bell.clear_marker()
    assert not other.wait(0.05)


def test_hints_for_a_session_that_has_not_looked_yet_ring_once(broker, redis_server):
    hints, bell = WakeupSender(broker), SessionWakeup(redis_server.url, 7)
    for _ in range(20):
        hints.notify(session_queue(7))
    assert bell.wait(10)
    assert not bell.wait(0.2)


def test_a_session_without_redis_waits_and_goes_on(broker, redis_server):
    bell = SessionWakeup(redis_server.url, 7)
    redis_server.kill()
    try:
        assert not bell.wait(0.05)
        bell.clear_marker()
    finally:
        redis_server.start()
    WakeupSender(broker).notify(session_queue(7))
    assert bell.wait(10)


def test_a_redis_that_hangs_holds_up_nobody_and_is_used_again_when_it_goes_on(broker, served, redis_server):
    hints, clear = WakeupSender(broker), MarkerClearer(broker.client, QUEUE)
    bell = SessionWakeup(redis_server.url, 7)
    clear()
    bell.clear_marker()
    with redis_server.frozen():
        begun = time.monotonic()
        for _ in range(200):  # at a second each that were minutes
            hints.notify(QUEUE)
            hints.notify(session_queue(7))
            clear()
            bell.clear_marker()
        assert time.monotonic() - begun < 30
        assert not bell.wait(0.05)
    deadline = time.monotonic() + 60
    while not served.acquire(timeout=1):
        assert time.monotonic() < deadline
        hints.notify(QUEUE)
    hints.notify(session_queue(7))
    assert bell.wait(2)


def test_a_hint_is_cleared_before_the_look_that_follows(broker):
    clear = MarkerClearer(broker.client, QUEUE)
    for _ in range(50):
        broker.client.set(f"{NAMESPACE}:{QUEUE}.hinted", 1)
        clear()
        while not clear._done.is_set():  # on a machine that is too busy for it the caller goes on
            time.sleep(0.01)
        assert not broker.client.exists(f"{NAMESPACE}:{QUEUE}.hinted")
