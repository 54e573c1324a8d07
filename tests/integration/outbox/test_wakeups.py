"""WakeupSender through a real Redis."""

import threading
import time

import dramatiq
import pytest

from services.wakeups import ACTORS, NAMESPACE, MarkerClearer, SessionWakeup, WakeupSender, marker, session_queue
from services.waking_broker import WakingBroker
from tests.support.waiting import HANG_SECONDS, Patience, wait_until

QUEUE = "meta-webhooks"


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


def test_each_wakeup_after_a_cleared_marker_wakes_the_worker(broker, served, redis_server):
    hints, clear = WakeupSender(redis_server.url), MarkerClearer(broker.client, QUEUE)
    for _ in range(5):
        hints.notify(QUEUE)
        assert served.acquire(timeout=HANG_SECONDS)
        clear()  # it waits for a moment only
        wait_until(lambda: not broker.client.exists(marker(QUEUE)))


def test_wakeups_are_coalesced_until_the_marker_is_cleared(broker, redis_server):
    hints = WakeupSender(redis_server.url)
    for _ in range(100):
        hints.notify(QUEUE)
    wait_until(lambda: broker.client.llen(f"{broker.namespace}:{QUEUE}"))
    time.sleep(0.2)  # for a second one
    assert broker.client.llen(f"{broker.namespace}:{QUEUE}") == 1


def test_an_unavailable_redis_blocks_nobody_and_is_used_again_later(broker, served, redis_server):
    hints = WakeupSender(redis_server.url)
    redis_server.kill()
    try:
        hints.notify(QUEUE)
        MarkerClearer(broker.client, QUEUE)()
    finally:
        redis_server.start()
    patience = Patience(60)
    while not served.acquire(timeout=1):
        assert not patience.is_over()
        hints.notify(QUEUE)


def test_a_flushed_redis_serves_new_wakeups(broker, served, redis_server):
    hints = WakeupSender(redis_server.url)
    hints.notify(QUEUE)
    assert served.acquire(timeout=HANG_SECONDS)
    broker.client.flushall()
    hints.notify(QUEUE)
    assert served.acquire(timeout=HANG_SECONDS)


def test_a_session_is_woken_only_for_its_own_bot(broker, redis_server):
    hints, bell, other = (
        WakeupSender(redis_server.url),
        SessionWakeup(redis_server.url, 7),
        SessionWakeup(redis_server.url, 8),
    )
    for _ in range(3):
        hints.notify(session_queue(7))
        assert wait_until(lambda: bell.wait(1))
        bell.clear_marker()
        wait_until(lambda: not broker.client.exists(marker(session_queue(7))))
    assert not other.wait(0.05)


def test_wakeups_of_a_session_are_coalesced(broker, redis_server):
    hints, bell = WakeupSender(redis_server.url), SessionWakeup(redis_server.url, 7)
    for _ in range(20):
        hints.notify(session_queue(7))
    assert wait_until(lambda: bell.wait(1))
    assert not bell.wait(0.2)


def test_a_session_waits_without_redis_and_is_woken_again_later(broker, redis_server):
    bell = SessionWakeup(redis_server.url, 7)
    redis_server.kill()
    try:
        assert not bell.wait(0.05)
        bell.clear_marker()
    finally:
        redis_server.start()
    WakeupSender(redis_server.url).notify(session_queue(7))
    assert wait_until(lambda: bell.wait(1))


def test_a_redis_that_hangs_delays_nobody_and_is_used_again_later(broker, served, redis_server):
    hints, clear = WakeupSender(redis_server.url), MarkerClearer(broker.client, QUEUE)
    bell = SessionWakeup(redis_server.url, 7)
    clear()
    bell.clear_marker()
    with redis_server.frozen():
        patience = Patience(60)
        for _ in range(200):  # at a second each that were minutes
            hints.notify(QUEUE)
            hints.notify(session_queue(7))
            clear()
            bell.clear_marker()
            assert not patience.is_over()
        assert not bell.wait(0.05)
    patience = Patience(60)
    while not served.acquire(timeout=1):
        assert not patience.is_over()
        hints.notify(QUEUE)
    hints.notify(session_queue(7))
    assert wait_until(lambda: bell.wait(1))


def test_the_marker_is_cleared_before_the_next_claim(broker):
    clear = MarkerClearer(broker.client, QUEUE)
    for _ in range(50):
        broker.client.set(f"{NAMESPACE}:{QUEUE}.hinted", 1)
        clear()
        assert clear._done.wait(HANG_SECONDS)  # on a busy machine the caller continues before
        assert not broker.client.exists(f"{NAMESPACE}:{QUEUE}.hinted")
