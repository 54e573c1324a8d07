"""Accepting and delivering against a real PostgreSQL and a provider over HTTP; no Redis is needed for it."""

import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import psycopg2
import pytest

from services.connector import Preparation
from services.database.connection import DatabaseUnavailable
from services.message import Rejected, Sent, Status
from services.outbox import store
from services.outbox.accept import IdempotencyConflict
from services.outbox.journal import Journal
from services.outbox.journal import path_of as journal_path
from services.runtime.heartbeat import worker_name
from tests.support.outbox import entry, execute, status_of
from tests.support.outbox_worker import Stage
from tests.support.remote.message_provider import ProviderConnector
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    stage = Stage(database, tmp_path, monkeypatch)
    yield stage
    stage.close()


def test_messages_of_any_size_leave_once_and_in_order(stage):
    bot = stage.bot()
    texts = [f"{size} ".ljust(size, "é") for size in (10, 16_384, 32_400, 65_000, 65_090, 65_536, 131_072, 700_000, 10)]
    stage.accept(*(entry(bot, text=text) for text in texts))
    stage.sender()
    eventually(lambda: len(stage.provider.received) == len(texts))
    assert [text for _, text in stage.provider.received] == texts
    statuses = "SELECT DISTINCT status::text FROM outbox"
    eventually(lambda: execute(stage.connection, statuses) == [("sent",)])


def odd_request(connector, text, fault):
    """A connector that fails with `fault` before it has made the request of this text."""
    usual = connector.request

    def request(bot, message):
        if message.payload["message"] == text:
            raise fault
        return usual(bot, message)

    return request


def outcomes_by_text(stage):
    rows = execute(stage.connection, "SELECT payload ->> 'message', status::text, error_code FROM outbox")
    return {text: (status, code) for text, status, code in rows}


def test_a_message_that_no_request_can_be_made_of_fails_alone(stage, monkeypatch):
    bot = stage.bot()
    monkeypatch.setattr(stage.connector, "request", odd_request(stage.connector, "odd", KeyError("media")))
    stage.accept(*(entry(bot, f"601{n}", text) for n, text in enumerate(("odd", "one", "two"))))
    stage.sender()
    eventually(lambda: {status for status, _ in outcomes_by_text(stage).values()} == {"sent", "failed"})
    assert outcomes_by_text(stage) == {"odd": ("failed", "internal"), "one": ("sent", None), "two": ("sent", None)}


def test_a_message_that_the_connector_refuses_fails_alone(stage, monkeypatch):
    usual, refusal = stage.connector.request, Rejected("payload", "an unknown kind")

    def request(bot, message):
        return refusal if message.payload["message"] == "odd" else usual(bot, message)

    bot = stage.bot()
    monkeypatch.setattr(stage.connector, "request", request)
    stage.accept(*(entry(bot, f"601{n}", text) for n, text in enumerate(("odd", "one"))))
    stage.sender()
    eventually(lambda: {status for status, _ in outcomes_by_text(stage).values()} == {"sent", "failed"})
    assert outcomes_by_text(stage) == {"odd": ("failed", "payload"), "one": ("sent", None)}


@pytest.mark.parametrize(
    ("outcome", "stored"),
    [
        (Sent("x" * 256), ("unknown", None)),
        (Sent("\0"), ("unknown", None)),
        (Rejected("1\0", "no\0 \ud800" + "x" * 100_000), ("failed", "1")),
        (ValueError("no JSON of mine"), ("unknown", None)),
    ],
)
def test_an_odd_answer_stops_no_other_message(stage, monkeypatch, outcome, stored):
    usual = stage.connector.outcome

    def odd(message, status, body):
        if message.payload["message"] != "odd":
            return usual(message, status, body)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(stage.connector, "outcome", odd)
    bot = stage.bot()
    stage.accept(*(entry(bot, f"601{n}", text) for n, text in enumerate(("odd", "one", "two"))))
    stage.sender()
    eventually(lambda: {status for status, _ in outcomes_by_text(stage).values()} == {"sent", stored[0]})
    assert outcomes_by_text(stage) == {"odd": stored, "one": ("sent", None), "two": ("sent", None)}


def test_an_outcome_that_the_database_refuses_stops_no_other_message(stage, monkeypatch):
    monkeypatch.setattr("services.outbox.outcome_policy._storable", lambda outcome: outcome)
    monkeypatch.setattr(
        stage.connector, "outcome", lambda message, status, body: Sent("\0" * (message.chat_id == "6010"))
    )
    bot = stage.bot()
    stage.accept(*(entry(bot, f"601{n}", f"text {n}") for n in range(3)))
    stage.sender()
    eventually(lambda: stage.statuses() == {"unknown": 1, "sent": 2})


def test_messages_are_sent_in_their_chats_order(stage):
    bot = stage.bot()
    stage.accept(*(entry(bot, f"6011111111{n % 4}", f"{n:03}") for n in range(60)))
    stage.sender().delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"sent": 60})
    for chat in {chat for chat, _ in stage.provider.received}:
        texts = [text for each, text in stage.provider.received if each == chat]
        assert texts == sorted(texts)
        assert len(texts) == 15


def test_a_wakeup_before_the_start_claims_nothing(stage):
    stage.accept(entry(stage.bot()))
    sender = stage._sender("meta-worker-1", "run1")
    sender.delivery.wake()
    assert (stage.statuses(), sender.delivery.in_hand) == ({"queued": 1}, 0)
    sender.start()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})


def test_due_messages_are_found_without_a_wakeup(stage):
    sender = stage.sender()
    stage.accept(entry(stage.bot()))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    stage.wait_for(lambda: sender.delivery.in_hand == 0)  # the commit is seen before the delivery counts it


def test_each_outcome_gets_its_status(stage):
    bot, held = stage.bot(0), stage.bot(1)
    texts = {"status:400 x": "failed", "status:503 x": "failed", "cut off": "unknown", "fine": "sent"}
    entries = [entry(bot, f"6011111111{n}", text) for n, text in enumerate(texts)]
    entries += [entry(held, "60222222222", "status:401"), entry(held, "60222222222", "after it")]
    stage.accept(*entries)
    stage.sender().delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"failed": 2, "unknown": 1, "sent": 1, "waiting": 1, "queued": 1})
    for each, status in zip(entries, [*texts.values(), "waiting", "queued"], strict=True):
        assert status_of(stage.connection, each.message_id) == status
    ((attempts, error, timeline),) = execute(
        stage.connection,
        "SELECT attempts, error, timeline FROM outbox WHERE message_id = %s",
        (entries[1].message_id,),
    )
    assert (attempts, error) == (3, "busy (gave up after 3 attempts)")
    assert [step["status"] for step in timeline] == ["queued", "queued", "failed"]
    stage.provider.healed = True  # the operator replaced the token
    execute(stage.connection, "UPDATE bot_pace SET held_until = '-infinity', held_reason = NULL")
    stage.wait_for(lambda: stage.statuses() == {"failed": 2, "unknown": 1, "sent": 3})
    assert stage.provider.received.count(("60111111112", "cut off")) == 1


def test_a_bot_without_a_readable_token_waits_for_its_operator(stage):
    bot = stage.bot()
    execute(stage.connection, "UPDATE phone_configs SET meta_access_token_encrypted = 'v1:AAAA'")
    stage.accept(entry(bot))
    stage.sender().delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"waiting": 1})
    ((reason,),) = execute(stage.connection, "SELECT held_reason FROM bot_pace")
    assert "ENCRYPTION_KEY" in reason


def test_a_dead_workers_messages_are_taken_over_by_what_its_journal_says(stage):
    bot = stage.bot()
    entries = [entry(bot, f"6011111111{n}", f"{n}") for n in range(6)]
    stage.accept(*entries)
    name = worker_name("meta-worker-1", "dead")
    outbox = store.Outbox("meta", name, 1e6, 60)
    claimed = outbox.claim(stage.connection, 10)
    journal = Journal(journal_path(stage.settings.journal_dir, "meta-worker-1"), 8)
    journal.begin("dead")
    for slot, message in enumerate(claimed[:2]):
        journal.mark(slot, message.id)
    journal.close()
    stage.sender("meta-worker-1", "next").delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"unknown": 2, "sent": 4})
    marked = {message.payload["message"] for message in claimed[:2]}
    assert sorted(text for _, text in stage.provider.received) == sorted({f"{n}" for n in range(6)} - marked)


def test_a_message_does_not_overtake_one_whose_outcome_is_unknown(stage):
    """The provider may still work on that one. Messages of other chats do not wait."""
    bot = stage.bot()
    stage.accept(entry(bot, "6011", "cut off"), entry(bot, "6011", "next"))
    due = "SELECT due > now() + interval '1 second' FROM lane WHERE chat_id = '6011'"
    name = worker_name("meta-worker-1", "dead")
    [claimed] = store.Outbox("meta", name, 1e6, 60).claim(stage.connection, 10)
    journal = Journal(journal_path(stage.settings.journal_dir, "meta-worker-1"), 8)
    journal.begin("dead")
    journal.mark(0, claimed.id)
    journal.close()
    sender = stage.sender("meta-worker-1", "next")
    assert execute(stage.connection, due) == [(True,)]
    stage.accept(entry(bot, "6012", "of another chat"))
    sender.delivery.wake()
    assert stage.provider.received == [("6012", "of another chat")]
    stage.wait_for(lambda: stage.statuses() == {"unknown": 1, "sent": 2})
    assert stage.provider.received[-1] == ("6011", "next")


def test_a_neighbours_expired_lease_is_settled_once_it_is_dead_and_not_before(stage):
    bot = stage.bot()
    stage.accept(entry(bot, text="late"))
    journal = Journal(journal_path(stage.settings.journal_dir, "meta-worker-2"), 8)
    journal.begin("slow")
    store.Outbox("meta", worker_name("meta-worker-2", "slow"), 1e6, -1).claim(stage.connection, 10)
    sender = stage.sender("meta-worker-1")
    time.sleep(2.5)  # two sweeps
    assert stage.provider.received == []
    journal.close()
    stage.wait_for(lambda: sender.delivery.counts[Status.SENT] == 1)
    assert stage.statuses() == {"sent": 1}


def test_another_hosts_expired_lease_becomes_unknown_since_nothing_is_known_of_it(stage):
    bot = stage.bot()
    stage.accept(entry(bot, text="gone"), entry(bot, text="next"))
    store.Outbox("meta", "elsewhere/meta-worker-1/x", 1e6, -1).claim(stage.connection, 10)
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"unknown": 1, "sent": 1})
    assert [text for _, text in stage.provider.received] == ["next"]


def test_claims_whose_answer_was_lost_with_the_connection_are_given_back(stage):
    bot = stage.bot()
    sender = stage.sender()
    stage.accept(entry(bot))
    sender.outbox.claim(stage.connection, 10)
    sender.delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})


def test_a_stopping_sender_finishes_what_is_in_hand_and_takes_nothing_more(stage):
    bot = stage.bot()
    stage.provider.delay = 0.3
    stage.accept(*(entry(bot, f"6011111{n:04}", f"{n}") for n in range(30)))
    sender = stage.sender()
    threading.Thread(target=sender.delivery.wake).start()
    stage.wait_for(lambda: sender.delivery.in_hand)
    assert sender.stop(HANG_SECONDS)
    assert execute(stage.connection, "SELECT count(*) FROM lane WHERE claim IS NOT NULL") == [(0,)]
    statuses = stage.statuses()
    assert statuses["sent"] == len(stage.provider.received)
    assert statuses["queued"] == 30 - statuses["sent"] > 0


def test_stored_webhooks_are_applied_and_invalid_ones_are_rejected(stage):
    bot = stage.bot()
    stage.accept(entry(bot, text="hello"))
    sender = stage.sender()
    sender.delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    for body in (b"nonsense", b'[{"id": "id of hello", "status": "delivered"}]'):
        execute(stage.connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', %s)", (body,))
    sender.apply_webhooks()
    assert stage.statuses() == {"delivered": 1}
    rows = execute(
        stage.connection, "SELECT processed_at IS NOT NULL, error IS NOT NULL FROM webhook_inbox ORDER BY id"
    )
    assert rows == [(True, True), (True, False)]


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), psycopg2.OperationalError("cut")])
def test_a_wake_up_without_a_database_is_left_to_the_next_sweep(stage, monkeypatch, error):
    sender = stage.sender()
    with monkeypatch.context() as gone:
        gone.setattr(sender.inbox, "apply_all", Mock(side_effect=error))
        sender.apply_webhooks()
    execute(stage.connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', 'nonsense')")
    stage.wait_for(lambda: execute(stage.connection, "SELECT count(*) FROM webhook_inbox WHERE error <> ''") == [(1,)])


def test_acceptance_refuses_another_request_under_a_used_key_and_repeats_the_same(stage):
    bot = stage.bot()
    first = entry(bot, idempotency_key="k", digest="aa")
    assert not stage.intake.accept(first).result(HANG_SECONDS).repeated
    again = stage.intake.accept(entry(bot, idempotency_key="k", digest="aa")).result(HANG_SECONDS)
    assert (again.message_id, again.repeated) == (first.message_id, True)
    with pytest.raises(IdempotencyConflict):
        stage.intake.accept(entry(bot, idempotency_key="k", digest="bb")).result(HANG_SECONDS)
    assert stage.statuses() == {"queued": 1}


def test_one_message_that_cannot_be_stored_does_not_take_the_others_with_it(stage):
    bot = stage.bot()
    good = [entry(bot, f"6011111{n:04}") for n in range(3)]
    bad = replace(entry(bot), payload={"message": "nul \0"})
    futures = [stage.intake.accept(each) for each in (*good[:2], bad, good[2])]
    with pytest.raises(Exception, match=r"NUL|u0000|Unicode"):
        futures.pop(2).result(HANG_SECONDS)
    assert [future.result(HANG_SECONDS).message_id for future in futures] == [each.message_id for each in good]


def test_a_changed_key_or_bot_is_seen_at_once(stage):
    bot = stage.bot()
    execute(stage.connection, "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES ('\\x01', 'bk_', '0128')")
    stage.wait_for(lambda: stage.directory.key(b"\x01") and stage.directory.cached_key(b"\x01"))
    stage.wait_for(lambda: stage.directory.bot("0128", 0) and stage.directory.cached_bot("0128", 0))
    execute(stage.connection, "UPDATE api_keys SET revoked_at = now()")
    stage.wait_for(lambda: stage.directory.key(b"\x01") is None)
    execute(stage.connection, "UPDATE phone_configs SET meta_phone_number_id = 'new' WHERE id = %s", (bot,))
    stage.wait_for(lambda: stage.directory.bot("0128", 0).phone_number_id == "new")


class PreparingConnector(ProviderConnector):
    """Texts that begin with `file` need a preparation first; it fails as often as `failures` says."""

    def __init__(self, url):
        super().__init__(url)
        self.ready, self.failures, self.runs = set(), 0, []
        self.gate = threading.Event()
        self.gate.set()

    def request(self, bot, message):
        text = message.payload["message"]
        if not text.startswith("file") or message.message_id in self.ready:
            return super().request(bot, message)
        return Preparation(lambda: self._prepare(message.message_id, text))

    def _prepare(self, message_id, text):
        self.runs.append(text)
        self.gate.wait(2 * HANG_SECONDS)
        if text.startswith("file refused"):
            return Rejected("131053", "too large")
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the upload broke")
        self.ready.add(message_id)
        return None


@pytest.fixture
def preparing(stage):
    stage.connector = PreparingConnector(stage.provider.url)
    return stage


def test_a_file_is_prepared_before_its_message_leaves(preparing):
    preparing.accept(entry(preparing.bot(), text="file a"))
    preparing.sender().delivery.wake()
    preparing.wait_for(lambda: preparing.statuses() == {"sent": 1})
    assert preparing.provider.received == [("60123456789", "file a")]
    assert preparing.connector.runs == ["file a"]


def test_a_preparation_that_fails_is_tried_again_and_one_that_is_refused_fails_the_message(preparing):
    preparing.connector.failures = 1
    bot = preparing.bot()
    preparing.accept(entry(bot, text="file a"), entry(bot, "60222222222", text="file refused"))
    preparing.sender()
    preparing.wait_for(lambda: preparing.statuses() == {"sent": 1, "failed": 1})
    assert preparing.connector.runs.count("file a") == 2


def test_a_preparation_that_takes_long_delays_only_its_own_chat(preparing):
    preparing.connector.gate.clear()
    bot = preparing.bot()
    preparing.accept(*(entry(bot, f"6011111111{n}", f"file {n}") for n in range(2)), entry(bot, text="plain"))
    preparing.accept(entry(bot, "60111111110", "after the file"))
    sender = preparing.sender()
    preparing.wait_for(lambda: preparing.provider.received == [("60123456789", "plain")])
    assert sender.delivery.preparing == 2
    preparing.connector.gate.set()
    preparing.wait_for(lambda: preparing.statuses() == {"sent": 4})
    chat = [text for to, text in preparing.provider.received if to == "60111111110"]
    assert chat == ["file 0", "after the file"]


def test_a_number_that_hangs_leaves_room_for_the_others(stage):
    """However much waits for the number whose provider does not answer, it gets two thirds of the window at most."""
    stage.settings = stage.settings.copy_with(send_timeout_ms=60_000)
    hanging, lively = stage.bot(0), stage.bot(1)
    stage.provider.hanging.clear()
    stage.accept(*(entry(hanging, f"601111111{n}", f"hang {n}") for n in range(10, 30)))
    sender = stage.sender()
    stage.wait_for(lambda: sender.delivery.in_hand >= 5)
    stage.accept(*(entry(lively, f"602222222{n}", f"quick {n}") for n in range(10, 15)))
    stage.wait_for(lambda: len(stage.provider.received) == 5)
    assert {text[:5] for _, text in stage.provider.received} == {"quick"}
    stage.provider.hanging.set()
    stage.wait_for(lambda: stage.statuses() == {"sent": 25})


def test_a_running_channel_ends_holds_whose_time_is_over(stage):
    stage.bot()
    stage.sender()
    execute(
        stage.connection,
        "UPDATE bot_pace SET held_until = now() - interval '1 second', held_reason = 'restricted',"
        " hold_code = 'account_update.ACCOUNT_RESTRICTION'",
    )
    eventually(lambda: execute(stage.connection, "SELECT hold_code FROM bot_pace") == [(None,)])
    assert execute(stage.connection, "SELECT event_type FROM process_events") == [("bot_active",)]
