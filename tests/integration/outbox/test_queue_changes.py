"""Messages that are cancelled, retried and paused while workers claim them: the lanes stay right."""

import contextlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisnesctl.queue import message_changes, pauses, stats, targets
from services.message import Status
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result
from tests.support.waiting import HANG_SECONDS

CHATS = ("1", "2")
#: Rounds of a race.
ROUNDS = 25

MISCOUNTED = """
SELECT l.bot_id, l.chat_id, l.pending FROM lane l WHERE l.pending <> (
    SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.status <= 'sending')
    OR l.accepted <> (SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id)"""


@pytest.fixture
def stage(database):
    pool, connection = open_database(database)
    others = [pool.connect() for _ in range(2)]
    yield connection, others
    for each in (connection, *others):
        each.close()


def together(*works):
    """Do these at the same time; returns their results in this order."""
    found = [None] * len(works)
    begin = threading.Barrier(len(works))

    def run(place, work):
        begin.wait()
        found[place] = work()

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(HANG_SECONDS)
        assert not each.is_alive()
    return found


def test_of_a_cancellation_and_a_claim_exactly_one_wins(stage):
    connection, (first, second) = stage
    bot = add_bot(connection)
    won = {"cancelled": 0, "claimed": 0}
    for _ in range(ROUNDS):
        new = entry(bot)
        accept(connection, new)
        cancelled, claimed = together(
            lambda id=new.message_id: message_changes.cancel(first, [id]), lambda: outbox().claim(second, 10)
        )
        assert len(cancelled) + len(claimed) == 1
        won["cancelled" if cancelled else "claimed"] += 1
        outbox().record(connection, [result(each) for each in claimed])
        assert execute(connection, MISCOUNTED) == []
    assert sum(won.values()) == ROUNDS


def test_two_cancellations_count_a_message_once(stage):
    connection, (first, second) = stage
    bot = add_bot(connection)
    new = [entry(bot, chat) for chat in "12341234"]
    accept(connection, *new)
    ids = [each.message_id for each in new]
    found = together(lambda: message_changes.cancel(first, ids), lambda: message_changes.cancel(second, ids[::-1]))
    assert sorted(found[0] + found[1]) == sorted(ids)
    assert execute(connection, MISCOUNTED) == []


def test_nothing_is_claimed_once_a_pause_returned(stage):
    connection, (first, second) = stage
    bot = add_bot(connection)
    (name,) = targets.find(connection)
    for _ in range(ROUNDS):
        accept(connection, entry(bot))

        def pause():
            pauses.pause(first, [name], "root")
            return outbox("host/meta-worker-2/run1").claim(first, 10)

        after, claimed = together(pause, lambda: outbox().claim(second, 10))
        assert after == []
        outbox().record(connection, [result(each) for each in claimed])  # what was in hand is recorded during a pause
        pauses.resume(connection, [name], "root")
        outbox().record(connection, [result(each) for each in outbox().claim(connection, 10)])
        assert execute(connection, "SELECT sum(pending)::int FROM lane") == [(0,)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("accept", "claim", "send", "later", "fail", "cancel", "retry", "try_now", "pause", "resume")),
        st.integers(0, 30),
    ),
    max_size=40,
)


class Model:
    """A bot with messages in every state, and a worker."""

    def __init__(self, connection):
        self.connection = connection
        self.bot = add_bot(connection)
        (self.name,) = targets.find(connection)
        self.hands, self.ids, self.left, self.paused = [], [], [], False

    def step(self, verb, number):
        getattr(self, verb)(number)
        assert execute(self.connection, MISCOUNTED) == []
        (found,) = stats.of_bots(self.connection)
        statuses = dict(execute(self.connection, "SELECT status::text, count(*)::int FROM outbox GROUP BY 1"))
        counts = found.counts
        assert counts.failed == statuses.get("failed", 0)
        assert counts.completed == statuses.get("sent", 0)
        assert counts.active == len(self.hands)
        assert counts.total == len(self.ids)
        assert min(counts.waiting, counts.delayed) >= 0

    def accept(self, number):
        new = entry(self.bot, CHATS[number % 2])
        accept(self.connection, new)
        self.ids.append(new.message_id)

    def claim(self, number):
        found = outbox().claim(self.connection, 10)
        assert not (found and self.paused)
        self.hands += found

    def _record(self, number, status, **more):
        if self.hands:
            hand = self.hands.pop(number % len(self.hands))
            outbox().record(self.connection, [result(hand, status, **more)])
            if status is Status.SENT:
                self.left.append((hand.chat_id, hand.id))

    def send(self, number):
        self._record(number, Status.SENT)

    def later(self, number):
        self._record(number, Status.QUEUED, after=600.0)

    def fail(self, number):
        self._record(number, Status.FAILED, code="network")

    def cancel(self, number):
        if self.ids:
            message_id = self.ids[number % len(self.ids)]
            in_hand = any(each.message_id == message_id for each in self.hands)
            assert not (message_changes.cancel(self.connection, [message_id]) and in_hand)

    def retry(self, number):
        if self.ids:
            with contextlib.suppress(message_changes.NotRetryable):
                message_changes.retry(self.connection, self.ids[number % len(self.ids)])

    def try_now(self, number):
        if self.ids:
            message_changes.try_now(self.connection, self.ids[number % len(self.ids)])

    def pause(self, number):
        pauses.pause(self.connection, [self.name], "root")
        self.paused = True

    def resume(self, number):
        pauses.resume(self.connection, [self.name], "root")
        self.paused = False

    def finish(self):
        """Everything that is left leaves, each message once."""
        self.resume(0)
        while self.hands:
            self.send(0)
        execute(self.connection, "UPDATE lane SET due = now()")
        while found := outbox().claim(self.connection, 10):
            for chat in CHATS:
                assert len([each for each in found if each.chat_id == chat]) <= 1
            self.hands += found
            while self.hands:
                self.send(0)
        assert execute(self.connection, "SELECT count(*) FROM outbox WHERE status <= 'sending'") == [(0,)]
        assert len(self.left) == len(set(self.left))


@settings(max_examples=40)
@given(STEPS)
def test_lanes_and_counts_stay_right(postgres, steps):
    postgres.run("DROP DATABASE IF EXISTS queue_model")
    postgres.run("CREATE DATABASE queue_model TEMPLATE bisnes_migrated")
    _, connection = open_database(postgres.dsn("queue_model"))
    try:
        model = Model(connection)
        for each in steps:
            model.step(*each)
        model.finish()
    finally:
        connection.close()
