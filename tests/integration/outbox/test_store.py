"""The SQL of the outbox against a real PostgreSQL: order, fairness, pace, leases, idempotency, statuses."""

import itertools
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.message import Scope, Status, StatusUpdate
from services.outbox import holds, recovery
from services.outbox.accept import Earlier
from services.outbox.outcome_policy import Hold
from tests.support.outbox import (
    WORKER,
    accept,
    accept_or_not,
    add_bot,
    apply_statuses,
    entry,
    execute,
    open_database,
    outbox,
    result,
    status_of,
)


@pytest.fixture
def connection(opened):
    return opened[0]


def claim(connection, limit=10, **options):
    return outbox(**options).claim(connection, limit)


def test_a_chats_messages_are_claimed_one_after_the_other_in_their_order(connection):
    bot = add_bot(connection)
    accept(connection, *(entry(bot, text=f"{n}") for n in range(5)))
    said = []
    for _ in range(5):
        (message,) = claim(connection)
        assert claim(connection) == []
        said.append(message.payload["message"])
        outbox().record(connection, [result(message)])
    assert said == list("01234")
    assert claim(connection) == []


def test_a_retried_message_holds_back_its_own_chat_and_no_other(connection):
    bot = add_bot(connection)
    accept(connection, entry(bot, "60111111111"), entry(bot, "60111111111"), entry(bot, "60222222222"))
    first, other = sorted(claim(connection), key=lambda message: message.chat_id)
    outbox().record(connection, [result(first, Status.QUEUED, after=60.0), result(other)])
    assert claim(connection) == []
    execute(connection, "UPDATE lane SET due = now()")
    (again,) = claim(connection)
    assert (again.id, again.attempts) == (first.id, 1)


def test_no_attempt_is_counted_for_what_never_left(connection):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    (message,) = claim(connection)
    outbox().record(connection, [result(message, None)])
    (again,) = claim(connection)
    assert (again.id, again.attempts) == (message.id, 0)


def test_a_sent_message_gets_its_history_row_as_the_old_system_wrote_it(connection):
    bot = add_bot(connection)
    sent = entry(bot, text="Hello")
    accept(connection, sent)
    outbox().record(connection, [result(message) for message in claim(connection)])
    columns = "message_id, company_id, contact_id, chat_id, content, message_type, from_me, direction, status, provider"
    (row,) = execute(connection, f"SELECT {columns} FROM messages")
    assert row == (
        sent.message_id, "0128", "0128-60123456789", "60123456789@c.us",
        "Hello", "text", True, "outbound", "sent", "meta",
    )  # fmt: skip


def test_each_bot_gets_its_share_beside_another_bots_backlog(connection):
    busy, quiet = add_bot(connection, index=0), add_bot(connection, index=1)
    accept(connection, *(entry(busy, f"6011{n:07}") for n in range(100)))
    accept(connection, *(entry(quiet, f"6022{n:07}") for n in range(5)))
    claimed = [message.bot_id for message in claim(connection, 20)]
    assert claimed.count(quiet) == 5
    assert claimed.count(busy) == 10


def test_a_rate_below_one_a_second_sends_one_message_in_its_time(connection):
    bot = add_bot(connection)
    accept(connection, *(entry(bot, f"6011{n:07}") for n in range(4)))
    execute(connection, "UPDATE bot_pace SET rate = 0.001")
    assert len(claim(connection, 50)) == 1
    assert claim(connection, 50) == []
    execute(connection, "UPDATE bot_pace SET free_at = now() - interval '600 seconds'")
    assert claim(connection, 50) == []
    execute(connection, "UPDATE bot_pace SET free_at = now() - interval '1000 seconds'")
    assert len(claim(connection, 50)) == 1


def test_a_number_with_next_to_no_rate_stops_no_other(connection):
    slow, usual = add_bot(connection, index=0), add_bot(connection, index=1)
    accept(connection, entry(slow), entry(usual))
    execute(connection, "UPDATE bot_pace SET rate = 1e-30 WHERE bot_id = %s", (slow,))
    assert [message.bot_id for message in claim(connection, 50)] == [usual]


def test_a_bot_sends_no_faster_than_its_rate_with_any_number_of_workers(connection):
    bot = add_bot(connection)
    accept(connection, *(entry(bot, f"6011{n:07}") for n in range(50)))
    claimed = [claim(connection, 50, worker=f"host/w/{n}", rate=8.0) for n in range(3)]
    assert 8 <= sum(map(len, claimed)) <= 9
    execute(connection, "UPDATE bot_pace SET rate = 5, free_at = '-infinity'")
    assert len(claim(connection, 50, rate=8.0)) == 5


def test_a_held_bot_waits_and_others_do_not(connection):
    held, free = add_bot(connection, index=0), add_bot(connection, index=1)
    accept(connection, entry(held), entry(free))
    holds.hold(connection, [Hold(held, Scope.BOT, None, "190: token expired"), Hold(free, Scope.BOT, -5.0, "over")])
    assert [message.bot_id for message in claim(connection)] == [free]
    ((until, reason),) = execute(
        connection, "SELECT held_until::text, held_reason FROM bot_pace WHERE bot_id = %s", (held,)
    )
    assert (until, reason) == ("infinity", "190: token expired")


def test_a_repeated_idempotency_key_returns_its_first_message(connection):
    bot = add_bot(connection)
    first = entry(bot, idempotency_key="k", digest="aa")
    accept(connection, first)
    again, fresh = entry(bot, idempotency_key="k", digest="bb"), entry(bot, idempotency_key="l", digest="cc")
    stored, earlier = accept_or_not(connection, again, fresh)
    assert stored == {fresh.message_id}
    assert earlier == {("0128", "k"): Earlier("aa", first.message_id)}
    twice = [entry(bot, idempotency_key="m", digest="dd") for _ in range(2)]
    stored, earlier = accept_or_not(connection, *twice)
    assert len(stored) == 1
    assert earlier["0128", "m"].message_id in stored


def test_a_result_counts_only_under_the_claim_it_was_made_with(connection):
    bot = add_bot(connection)
    sent = entry(bot)
    accept(connection, sent)
    (message,) = claim(connection)
    outbox("other/w/2").record(connection, [result(message, claim="other/w/2")])
    assert status_of(connection, sent.message_id) == "queued"
    outbox().record(connection, [result(message, Status.UNKNOWN)])
    outbox().record(connection, [result(message)])  # the owner's late word settles what was unknown
    assert status_of(connection, sent.message_id) == "sent"
    assert execute(connection, "SELECT pending, claim FROM lane") == [(0, None)]


def test_expired_leases_are_seen_and_claimed_lanes_are_not_claimed_again(connection):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    (message,) = claim(connection, lease=-1.0)
    assert claim(connection) == []
    (lost,) = recovery.expired(connection, "meta")
    assert (lost.id, lost.claim) == (message.id, WORKER)
    assert recovery.claimed_by(connection, "host/meta-worker-1/") == [lost]
    assert recovery.claimed_by(connection, "host/meta-worker-2/") == []


def test_the_status_types_order_is_the_codes(connection):
    labels = execute(connection, "SELECT unnest(enum_range(NULL::message_status))::text")
    assert [label for (label,) in labels] == [str(status) for status in Status]


numbers = itertools.count()
reported = st.sampled_from([Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED])


@settings(max_examples=40)
@given(st.lists(st.lists(reported, min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_reports_in_any_order_and_number_end_in_the_same_status(connection, batches, echoed):
    number = next(numbers)
    sent = entry(add_bot(connection, index=number), chat=f"60{10**8 + number}")
    accept(connection, sent)
    (message,) = claim(connection)
    outbox().record(connection, [result(message)])
    echo = sent.message_id if echoed else None
    for batch in batches:
        updates = [StatusUpdate(f"wamid.{message.id}", status, 1.0, echo) for status in batch]
        apply_statuses(connection, *updates)
    order = list(Status)
    expected = max((status for batch in batches for status in batch), key=order.index)
    assert status_of(connection, sent.message_id) == expected
    ((history,),) = execute(connection, "SELECT status FROM messages WHERE message_id = %s", (sent.message_id,))
    assert history == expected
    ((timeline,),) = execute(connection, "SELECT timeline FROM outbox WHERE message_id = %s", (sent.message_id,))
    said = [step["status"] for step in timeline]
    assert sorted(said) == sorted({"sent"} | {str(status) for batch in batches for status in batch})


def test_a_report_that_arrives_before_the_outcome_is_not_lost(connection):
    bot = add_bot(connection)
    sent = entry(bot)
    accept(connection, sent)
    (message,) = claim(connection)
    apply_statuses(connection, StatusUpdate("wamid.x", Status.DELIVERED, 1.0, sent.message_id))
    outbox().record(connection, [result(message)])
    assert status_of(connection, sent.message_id) == "delivered"
    assert execute(connection, "SELECT pending, claim FROM lane") == [(0, None)]
    assert execute(connection, "SELECT count(*) FROM messages") == [(1,)]


def test_an_unknown_message_is_settled_by_the_providers_report(connection):
    bot = add_bot(connection)
    sent = entry(bot)
    accept(connection, sent)
    outbox().record(connection, [result(message, Status.UNKNOWN) for message in claim(connection)])
    apply_statuses(connection, StatusUpdate("wamid.y", Status.SENT, 1.0, sent.message_id))
    assert status_of(connection, sent.message_id) == "sent"
    assert execute(connection, "SELECT external_id, status FROM messages") == [("wamid.y", "sent")]


def test_a_report_about_a_message_of_the_old_system_moves_its_history(connection):
    execute(
        connection,
        "INSERT INTO messages (message_id, company_id, external_id, provider, status)"
        " VALUES ('old-1', '0128', 'wamid.old', 'meta', 'sent')",
    )
    for status in (Status.READ, Status.DELIVERED):
        apply_statuses(connection, StatusUpdate("wamid.old", status, 1.0))
    assert execute(connection, "SELECT status FROM messages") == [("read",)]


def test_many_writers_and_workers_lose_nothing_double_nothing_and_keep_each_chats_order(database):
    pool, connection = open_database(database)
    bots = [add_bot(connection, index=n) for n in range(3)]
    chats = [f"6010000000{n}" for n in range(4)]
    accepted: dict[tuple[int, str], list[str]] = {}
    said: dict[tuple[int, str], list[str]] = {}
    lock, writing, failures = threading.Lock(), threading.Event(), []

    def write(writer):
        own = pool.connect(by_key=False)
        for n in range(40):
            rows = [entry(random.choice(bots), random.choice(chats), f"{writer}-{n}-{i}") for i in range(5)]
            accept(own, *rows)
            with lock:
                for row in rows:
                    accepted.setdefault((row.bot_id, row.chat_id), []).append(row.payload["message"])
        own.close()

    def work(worker):
        own, mine, results = pool.connect(), outbox(f"host/{worker}/r"), []
        while True:
            finished = writing.is_set()
            messages = mine.exchange(own, results, 6).claimed
            with lock:
                for message in messages:
                    said.setdefault((message.bot_id, message.chat_id), []).append(message.payload["message"])
            results = [result(message, claim=f"host/{worker}/r") for message in messages]
            if finished and not messages:
                break
        own.close()

    def run(function, name):
        try:
            function(name)
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=run, args=(write, n)) for n in range(3)]
    workers = [threading.Thread(target=run, args=(work, f"w{n}")) for n in range(3)]
    for thread in writers + workers:
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in workers:
        thread.join()
    while messages := outbox().claim(connection, 50):
        outbox().record(connection, [result(message) for message in messages])
        for message in messages:
            said.setdefault((message.bot_id, message.chat_id), []).append(message.payload["message"])
    assert failures == []
    assert {chat: sorted(texts) for chat, texts in said.items()} == {
        chat: sorted(texts) for chat, texts in accepted.items()
    }
    for texts in said.values():  # each writer waits for its commit, so its own messages have an order
        for writer in range(3):
            own = [tuple(map(int, text.split("-")[1:])) for text in texts if text.startswith(f"{writer}-")]
            assert own == sorted(own)
    assert execute(connection, "SELECT count(*) FROM lane WHERE pending > 0 OR claim IS NOT NULL") == [(0,)]
    connection.close()
    pool.close()
