"""Finished messages are deleted while others of their chats are sent: order, counts and look-ups stay right."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from uuid_utils import UUID

from bisnesctl.database import retries
from bisnesctl.queue import stats
from bisnesctl.retention import outbox as old_messages
from bisnesctl.retention import run
from services.message import Status
from services.outbox import accept as acceptance
from tests.support.outbox import accept, add_bot, entry, execute, outbox, result, status_of
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, Patience

KEEP_DAYS = 20
DAY_MILLISECONDS = 86_400_000
MISCOUNTED = """
SELECT l.bot_id, l.chat_id FROM lane l WHERE l.pending <> (
    SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.status <= 'sending')
    OR l.accepted IS DISTINCT FROM (
        SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id)"""

FIRST_FAILED = "SELECT message_id::text FROM outbox WHERE status = 'failed' AND chat_id = %s ORDER BY id LIMIT 1"


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path, OUTBOX_KEEP_DAYS=str(KEEP_DAYS))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "LONGEST_PAUSE_SECONDS", 0.0)


def id_of(days, number):
    """The id of a message that was accepted `days` ago, as the API makes it."""
    milliseconds = int(time.time() * 1000) - days * DAY_MILLISECONDS
    return str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number))


def add_old(connection, bot, *statuses, days=KEEP_DAYS + 1, chat="60123456789"):
    """Messages that ended with these statuses, `days` ago; returns their ids."""
    first = execute(connection, "SELECT COALESCE(max(id), 0) + 1 FROM outbox")[0][0]
    ids = [id_of(days, first + place) for place in range(len(statuses))]
    pending = sum(status in ("queued", "waiting", "sending") for status in statuses)
    execute(connection, "INSERT INTO lane AS l (bot_id, chat_id, pending, accepted) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (bot_id, chat_id) DO UPDATE SET pending = l.pending + excluded.pending,"
        " accepted = l.accepted + excluded.accepted", (bot, chat, pending, len(ids)))  # fmt: skip
    for id, status in zip(ids, statuses, strict=True):
        execute(connection, "INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload,"
            " status, accepted_at, updated_at) SELECT %s, %s, %s, '0128', 0, 'text', '{\"message\": \"x\"}', %s, at, at"
            " FROM (SELECT now() - %s * interval '1 day' AS at) AS age", (bot, chat, id, status, days))  # fmt: skip
        if status == "unknown":
            execute(connection, "INSERT INTO unknown_message (message_id) VALUES (%s)", (id,))
    return ids


def kept(connection):
    return [str(id) for (id,) in execute(connection, "SELECT message_id FROM outbox ORDER BY id")]


def counts(connection):
    return sum((each.counts for each in stats.of_bots(connection)), stats.Counts())


def cleaned(connection, settings):
    outcome = run.run(connection, settings)
    assert outcome.failed == {}
    return outcome.deleted.get("messages", 0)


@pytest.mark.parametrize("status", list(Status))
def test_only_finished_messages_are_deleted(connection, settings, status):
    add_old(connection, add_bot(connection), status.value)
    finished = status in (Status.SENT, Status.FAILED, Status.DELIVERED, Status.READ)
    assert cleaned(connection, settings) == finished
    assert bool(kept(connection)) != finished
    assert execute(connection, MISCOUNTED) == []


def test_messages_are_kept_for_the_days_of_the_setting_after_their_last_change(connection, settings):
    bot = add_bot(connection)
    young = add_old(connection, bot, "sent", days=KEEP_DAYS - 1)
    changed = add_old(connection, bot, "delivered")
    execute(connection, "UPDATE outbox SET updated_at = now() WHERE message_id = %s", (changed[0],))
    add_old(connection, bot, "read")
    assert cleaned(connection, settings) == 1
    assert kept(connection) == young + changed


def test_failed_messages_leave_the_list_of_dead_letters_with_their_rows(connection, settings):
    add_old(connection, add_bot(connection), "failed", "sent", "unknown")
    assert (counts(connection).failed, counts(connection).completed, counts(connection).unknown) == (1, 1, 1)
    assert cleaned(connection, settings) == 2
    found = counts(connection)
    assert (found.failed, found.completed, found.unknown, found.total) == (0, 0, 1, 1)
    assert execute(connection, "SELECT count(*) FROM failed_message") == [(0,)]


def test_a_full_batch_is_followed_by_the_next(connection, settings, monkeypatch):
    monkeypatch.setattr(old_messages, "BATCH_MESSAGES", 3)
    bot = add_bot(connection)
    stays = add_old(connection, bot, "queued", "unknown", "waiting", "unknown")
    add_old(connection, bot, *["sent"] * 7)
    assert cleaned(connection, settings) == 7
    assert kept(connection) == stays


def test_a_chat_in_the_hands_of_another_is_left_to_the_next_run(connection, settings, opened):
    bot = add_bot(connection)
    locked = add_old(connection, bot, "sent")
    add_old(connection, bot, "sent", chat="other")
    other = opened[1].connect()
    with other, other.cursor() as cursor:
        cursor.execute("SELECT FROM lane WHERE chat_id <> 'other' FOR UPDATE")
        assert cleaned(connection, settings) == 1
        assert kept(connection) == locked
    other.close()
    assert cleaned(connection, settings) == 1


def test_a_failed_message_that_is_retried_at_this_moment_stays(connection, settings, opened, monkeypatch):
    """It was found as finished, and is queued again before its chat is locked."""
    bot = add_bot(connection)
    [retried] = add_old(connection, bot, "failed")
    other = opened[1].connect()
    delete = old_messages._delete

    def retry_first(*arguments):
        retries.retry(other, [retried])
        return delete(*arguments)

    monkeypatch.setattr(old_messages, "_delete", retry_first)
    assert cleaned(connection, settings) == 0
    assert status_of(connection, retried) == "queued"
    other.close()


def test_the_order_of_a_chat_holds_while_its_rows_are_deleted(connection, settings, opened):
    """A worker sends new messages of the same chats while old ones are deleted."""
    bot = add_bot(connection)
    chats = ("1", "2", "3")
    for chat in chats:
        add_old(connection, bot, *["sent", "failed"] * 40, chat=chat)
    new = [entry(bot, chat) for _ in range(15) for chat in chats]
    sent, sender, acceptor = [], opened[1].connect(), opened[1].connect()

    def send():
        patience = Patience(HANG_SECONDS)
        while len(sent) < len(new) and not patience.is_over():
            for claimed in outbox().claim(sender, 10):
                sent.append(claimed.message_id)
                outbox().record(sender, [result(claimed)])

    worker = threading.Thread(target=send, daemon=True)
    worker.start()
    remover = threading.Thread(target=lambda: [run.run(connection, settings) for _ in range(3)], daemon=True)
    remover.start()
    for each in new:
        accept(acceptor, each)
    for thread in (worker, remover):
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
    cleaned(connection, settings)
    for chat in chats:
        expected = [each.message_id for each in new if each.chat_id == chat]
        assert [id for id in sent if id in expected] == expected
    assert sorted(kept(connection)) == sorted(each.message_id for each in new)
    assert execute(connection, MISCOUNTED) == []
    sender.close()
    acceptor.close()


def test_a_repeated_request_finds_its_message_as_long_as_its_key_is_kept(connection, tmp_path):
    settings = settings_in(tmp_path, OUTBOX_KEEP_DAYS="7")
    bot = add_bot(connection)
    for days in (6, 8):
        [id] = add_old(connection, bot, "sent", days=days)
        execute(connection, "INSERT INTO idempotency_keys (company_id, key, digest, message_id, created_at)"
            " VALUES ('0128', %s, '', %s, now() - %s * interval '1 day')", (str(days), id, days))  # fmt: skip
    run.run(connection, settings)
    named = execute(connection, "SELECT message_id::text FROM idempotency_keys")
    assert [id for (id,) in named] == kept(connection)
    assert len(named) == 1
    assert acceptance.existing(connection, [named[0][0]]) == {named[0][0]}


def test_messages_stay_if_the_keys_that_name_them_cannot_be_deleted(connection, settings, opened):
    stays = add_old(connection, add_bot(connection), "sent")
    other = opened[1].connect()
    with other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE idempotency_keys")
        outcome = run.run(connection, settings)
    other.close()
    assert outcome.failed.keys() == {"idempotency keys", "messages"}
    assert kept(connection) == stays


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["old", "accept", "send", "fail", "retry", "clean"]), st.sampled_from("12")), max_size=14
)


@hypothesis_settings(max_examples=25)
@given(actions=ACTIONS)
def test_whatever_happens_before_no_unfinished_message_is_lost_and_the_counts_are_right(connection, settings, actions):
    execute(
        connection, "TRUNCATE phone_configs, bot_pace, lane, outbox, failed_message, unknown_message, messages CASCADE"
    )
    bot = add_bot(connection)
    open_messages = set()
    for action, chat in actions:
        match action:
            case "old":
                add_old(connection, bot, "sent", "failed", chat=chat)
            case "accept":
                new = entry(bot, chat)
                accept(connection, new)
                open_messages.add(new.message_id)
            case "send" | "fail":
                status = Status.SENT if action == "send" else Status.FAILED
                for claimed in outbox().claim(connection, 1):
                    outbox().record(connection, [result(claimed, status)])
                    open_messages.discard(claimed.message_id)
            case "retry":
                failed = execute(connection, FIRST_FAILED, (chat,))
                open_messages.update(retries.retry(connection, [id for (id,) in failed]))
            case "clean":
                cleaned(connection, settings)
        assert execute(connection, MISCOUNTED) == []
    cleaned(connection, settings)
    waiting = execute(connection, "SELECT message_id::text FROM outbox WHERE status <= 'sending'")
    assert {id for (id,) in waiting} == open_messages
    assert execute(connection, "SELECT count(*) FROM outbox WHERE updated_at < now() - interval '21 days'") == [(0,)]
    assert execute(connection, "SELECT count(*) FROM failed_message") == execute(
        connection, "SELECT count(*) FROM outbox WHERE status = 'failed'")  # fmt: skip
    assert execute(connection, MISCOUNTED) == []
