"""The figures of a rollout from a real outbox: outcomes, latencies, trouble, alarms."""

import contextlib
import json
import secrets
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from bisnesctl.database import postgres
from bisnesctl.health.guard_file import GuardDecision
from bisnesctl.rollout import alarms, figures, outcomes, probes
from bisnesctl.rollout.figures import Trial
from bisnesctl.rollout.outcomes import Span
from bisnesctl.rollout.records import latency_seconds
from services.database.connection import Database
from tests.support.meta_inbox import MetaInbox
from tests.support.outbox import add_bot, execute

CHAT = "60123456789"


@pytest.fixture
def connection(environment, database):
    with postgres.connected(environment(DATABASE_URL=database).database_dsn) as opened:
        yield opened


@pytest.fixture
def present(connection):
    """The database's time, some minutes after the step began."""
    return execute(connection, "SELECT now()")[0][0]


def put(connection, bot, accepted, status="sent", *, after=1.0, code=None, attempts=1, chat=CHAT, **columns):
    """A message that was accepted at a moment, and ended some seconds later."""
    message_id = f"{int(accepted.timestamp() * 1000):012x}7{secrets.token_hex(10)[:19]}"
    message_id = message_id[:16] + "8" + message_id[17:]
    ended = accepted + timedelta(seconds=after)
    steps = [] if status == "queued" else [{"status": status, "at": ended.isoformat(), "attempt": 1}]
    if status in ("delivered", "read"):
        steps = [{"status": "sent", "at": ended.isoformat(), "attempt": 1}, {"status": status, "at": ended.isoformat()}]
    row = {
        "bot_id": bot, "chat_id": chat, "message_id": message_id, "company_id": "0128", "phone_index": 0,
        "kind": "text", "payload": "{}", "status": status, "attempts": attempts, "error_code": code,
        "timeline": json.dumps(steps), "accepted_at": accepted, "updated_at": ended, **columns,
    }  # fmt: skip
    names = ", ".join(row)
    execute(
        connection,
        f"INSERT INTO outbox ({names}) VALUES ({', '.join(f'%({each})s' for each in row)}) RETURNING id",
        row,
    )
    return f"{message_id[:8]}-{message_id[8:12]}-{message_id[12:16]}-{message_id[16:20]}-{message_id[20:]}"


def counted(connection, bot, begins, ends=None, chats=()):
    return outcomes.count(connection, {bot: Span(begins, ends)}, chats).get(bot, outcomes.BotOutcomes())


def minutes(number):
    return timedelta(minutes=number)


def test_messages_are_counted_by_outcome(connection, present):
    bot, step = add_bot(connection), present - minutes(10)
    for status in ("sent", "delivered", "read"):
        put(connection, bot, present - minutes(5), status)
    put(connection, bot, present - minutes(5), "failed", code="131026")
    put(connection, bot, present - minutes(5), "failed", code="131026")
    put(connection, bot, present - minutes(5), "failed", code="cancelled")
    put(connection, bot, present - minutes(5), "sent", kind="read")
    put(connection, bot, present - minutes(20), "failed", code="131000")
    found = counted(connection, bot, step)
    assert (found.customers.sent, found.customers.delivered, found.customers.failures) == (3, 2, {"131026": 2})
    assert found.waiting == 0


def test_latencies_are_those_of_the_providers_answers(connection, present):
    bot = add_bot(connection)
    put(connection, bot, present - minutes(5), "sent", after=2.0)
    put(connection, bot, present - minutes(4), "read", after=0.001)
    put(connection, bot, present - minutes(3), "failed", after=60)
    found = counted(connection, bot, present - minutes(10)).customers
    assert sorted(latency_seconds(step) for step in found.latencies) == pytest.approx([0.1, 2.0], rel=0.03)


def test_messages_that_wait_are_overdue_after_a_while(connection, present):
    bot = add_bot(connection)
    put(connection, bot, present - minutes(5), "queued")
    put(connection, bot, present - minutes(5), "waiting")
    put(connection, bot, present - minutes(1), "queued")
    found = counted(connection, bot, present - minutes(10))
    assert (found.customers.failures, found.waiting) == ({"overdue": 2}, 1)


def test_messages_that_may_have_been_sent_fail_after_a_while(connection, present):
    bot = add_bot(connection)
    put(connection, bot, present - minutes(5), "unknown")
    put(connection, bot, present - timedelta(seconds=20), "unknown")
    found = counted(connection, bot, present - minutes(10))
    assert (found.customers.failures, found.waiting) == ({"unknown": 1}, 1)


def test_a_bot_with_much_to_send_is_neither_slow_nor_overdue(connection, present):
    bot, began = add_bot(connection), present - minutes(8)
    for number in range(120):  # 120 at once, one every 3 seconds
        after = 3.0 * number
        status = "sent" if began + timedelta(seconds=after) < present else "queued"
        put(connection, bot, began, status, after=after, chat=str(number))
    for number in range(120, 140):
        put(connection, bot, began, "queued", chat=str(number))
    put(connection, bot, present - timedelta(seconds=2), "sent", chat="now")
    found = counted(connection, bot, present - minutes(10))
    assert (found.customers.sent, found.customers.failures, found.waiting) == (121, {}, 20)
    assert sum(found.customers.latencies.values()) < 60


def test_probes_are_counted_apart(connection, present):
    bot = add_bot(connection)
    put(connection, bot, present - minutes(5), "sent", is_probe=True)
    put(connection, bot, present - minutes(5), "failed", code="1", chat="60999")
    put(connection, bot, present - minutes(5), "sent")
    found = counted(connection, bot, present - minutes(10), chats=[(bot, "60999")])
    assert (found.customers.sent, found.customers.failed) == (1, 0)
    assert (found.probes.sent, found.probes.failures) == (1, {"1": 1})


def test_the_past_ends_with_the_move(connection, present):
    bot, move = add_bot(connection), present - minutes(10)
    put(connection, bot, move - minutes(5), "sent")
    put(connection, bot, move - minutes(1), "failed", after=120, code="ended after the move")
    put(connection, bot, move - minutes(1), "queued")
    put(connection, bot, move + minutes(1), "sent")
    found = counted(connection, bot, move - minutes(60), move)
    assert (found.customers.sent, found.customers.failed, found.waiting) == (1, 0, 0)


def test_both_sides_are_measured(connection, present):
    moved, unmoved, step = add_bot(connection, index=0), add_bot(connection, index=1), present - minutes(10)
    for bot in (moved, unmoved):
        put(connection, bot, present - minutes(30), "failed", code="131026")
        put(connection, bot, present - minutes(5), "delivered")
    put(connection, moved, present - minutes(5), "failed", code="131000")
    put(connection, moved, present - timedelta(seconds=1), "queued")
    execute(
        connection,
        "INSERT INTO process_events (process_name, event_type, event_data)"
        """ VALUES ('meta', 'process_restarting', '{"instance": "meta-worker-1"}')""",
    )
    trial = Trial(step, {moved: step}, [unmoved])
    found = figures.measure(connection, trial, [])
    assert [each.name for each in found.comparison.moved] == ["0128/0"]
    assert found.comparison.moved[0].before.failures == {"131026": 1}
    own, other = ["meta-worker-1"], ["legacy"]
    restarts = [figures.with_restarts(connection, found.moved, step, names).restarts for names in (own, other)]
    assert restarts == [1, 0]
    assert found.moved.as_json() == {
        "bots": 1, "connected": 1, "restarts": 0, "accepted": 3, "waiting": 1, "sent": 1, "delivered": 1, "failed": 1,
        "errors": {"131000": 1}, "p50Seconds": pytest.approx(1.0), "p99Seconds": pytest.approx(1.0), "probes": 0,
        "failedProbes": 0,
    }  # fmt: skip


def test_the_past_is_measured_once(connection, present):
    bot, step = add_bot(connection), present - minutes(10)
    past: figures.Past = {}
    put(connection, bot, step - minutes(5), "sent")
    trial = Trial(step, {bot: step}, [])
    first = figures.measure(connection, trial, [], past=past)
    put(connection, bot, step - minutes(4), "sent")
    again = figures.measure(connection, trial, [], past=past)
    assert first.comparison.moved[0].before == again.comparison.moved[0].before
    assert first.comparison.moved[0].before.sent == 1


@pytest.mark.parametrize(
    ("changes", "trouble", "is_new"),
    [
        ("held_until = 'infinity', held_reason = 'token expired', held_at = now()",
         "token expired", True),
        ("held_until = 'infinity', held_reason = 'token expired', held_at = now() - interval '1 day'",
         "token expired", False),
        ("paused_until = 'infinity', paused_by = 'root', paused_at = now()", "paused by root", False),
        ("held_until = now() + interval '1 minute', outage_since = now()", "", False),
    ],
)  # fmt: skip
def test_the_trouble_of_a_bot_is_its_own_and_has_an_age(connection, present, changes, trouble, is_new):
    bot, step = add_bot(connection), present - minutes(10)
    execute(connection, f"UPDATE bot_pace SET {changes} WHERE bot_id = %s", (bot,))
    (found,) = figures.measure(connection, Trial(step, {bot: step}, []), []).comparison.moved
    assert (found.trouble, found.trouble_is_new) == (trouble, is_new)


def test_a_whatsapp_web_number_is_connected_once_it_works(connection, present):
    bot, step = add_bot(connection, kind="wwebjs"), present - minutes(10)
    trial = Trial(step, {bot: step}, [])
    execute(connection, "INSERT INTO wa_session (bot_id, state) VALUES (%s, 'STARTING')", (bot,))
    assert figures.measure(connection, trial, []).moved.connected == 0
    execute(connection, "UPDATE wa_session SET state = 'WORKING' WHERE bot_id = %s", (bot,))
    assert figures.measure(connection, trial, []).moved.connected == 1


# --- Alarms --------------------------------------------------------------------------------------------------------


def test_a_message_that_its_chat_left_behind_is_lost(connection, present):
    bot, step = add_bot(connection), present - minutes(10)
    message = put(connection, bot, present - minutes(5), "queued", after=0)
    ((number,),) = execute(connection, "SELECT id FROM outbox WHERE message_id = %s", (message,))
    trial = Trial(step, {bot: step}, [])
    execute(connection, "INSERT INTO lane (bot_id, chat_id, pending, done) VALUES (%s, %s, 1, %s)",
            (bot, CHAT, number - 1))  # fmt: skip
    assert alarms.lost_messages(connection, trial) == []
    execute(connection, "UPDATE lane SET done = %s, pending = 0", (number,))
    (alarm,) = alarms.lost_messages(connection, trial)
    assert alarm.text == f"message {message} waits, but its chat has gone on without it"
    assert alarms.lost_messages(connection, Trial(step, {}, [bot])) == []


@pytest.fixture
def inbox(environment, database):
    with contextlib.closing(Database(environment(DATABASE_URL=database).database_dsn).connect()) as opened:
        yield MetaInbox(opened)


def test_a_message_that_the_provider_has_twice_is_doubled(connection, inbox):
    step = datetime.now(UTC) - minutes(1)
    trial, watch = Trial(step, {inbox.bot: step}, []), alarms.DoubleWatch()
    message = inbox.send("wamid.first")
    inbox.report({"id": "wamid.first", "status": "delivered", "biz_opaque_callback_data": message})
    inbox.report({"id": "wamid.of-another-system", "status": "delivered", "biz_opaque_callback_data": "nothing"})
    assert watch.doubled_messages(connection, trial) == []
    inbox.report({"id": "wamid.second", "status": "sent", "biz_opaque_callback_data": message})
    for _ in range(2):
        (alarm,) = watch.doubled_messages(connection, trial)
        assert alarm.text == f"message {message} was sent twice: the provider reports it under two ids"


def test_what_no_webhook_of_the_number_reports_is_not_doubled(connection, inbox):
    step = datetime.now(UTC) - minutes(1)
    message = inbox.send("wamid.first")
    execute(inbox.connection, "UPDATE phone_configs SET meta_phone_number_id = '2000' WHERE id = %s", (inbox.bot,))
    inbox.report({"id": "wamid.second", "status": "sent", "biz_opaque_callback_data": message})
    for body in (b"\xff", b"[]", b'{"entry": [{"changes": [{"value": {"statuses": [{"id": 1}]}}]}]}'):
        execute(
            inbox.connection,
            "INSERT INTO webhook_inbox (process_name, body, processed_at, error) VALUES ('meta', %s, now(), 'aside')",
            (psycopg2.Binary(body),),
        )
    assert alarms.DoubleWatch().doubled_messages(connection, Trial(step, {inbox.bot: step}, [])) == []


def test_a_session_that_asks_for_a_new_link_is_lost(connection, present):
    bot, step = add_bot(connection, kind="wwebjs"), present - minutes(10)
    trial = Trial(step, {bot: step}, [])
    execute(
        connection,
        "INSERT INTO wa_session (bot_id, state, bound_number, changed_at) VALUES (%s, 'STARTING', '60123', now())",
        (bot,),
    )
    assert alarms.lost_sessions(connection, trial) == []
    execute(connection, "UPDATE wa_session SET state = 'SCAN_QR_CODE'")
    assert [each.text for each in alarms.lost_sessions(connection, trial)] == [
        "the session of bot 0128/0 was lost: SCAN_QR_CODE"
    ]
    execute(connection, "UPDATE wa_session SET changed_at = %s", (step - minutes(1),))
    assert alarms.lost_sessions(connection, trial) == []  # it was so before
    execute(connection, "UPDATE wa_session SET changed_at = now(), bound_number = NULL")
    assert alarms.lost_sessions(connection, trial) == []  # it was never linked


def test_a_process_whose_heartbeat_ended_is_silent(connection, present):
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat)"
        " VALUES ('meta', 'here', 'meta-worker-1', 1, 'healthy', now(), now() - interval '2 minutes'),"
        " ('meta', 'here', 'meta-worker-2', 1, 'healthy', now(), now()),"
        " ('meta', 'there', 'meta-worker-2', 1, 'healthy', now(), now() - interval '2 minutes')",
    )
    names = ["meta-worker-1", "meta-worker-2"]
    found = alarms.silent_instances(connection, names, "here", present - minutes(10), 60)
    assert [each.text for each in found] == ["meta-worker-1 has given no heartbeat for 2m 0s"]
    assert alarms.silent_instances(connection, names, "here", present - minutes(1), 60) == []


def test_a_process_that_ends_again_and_again_is_a_crash_loop():
    decisions = {
        "api-0": GuardDecision("restart", "it ended", 1),
        "meta-worker-1": GuardDecision("restart", "exit code 1", 3),
        "meta-worker-2": GuardDecision("fail", "exit code 1", 5),
        "legacy": GuardDecision("fail", "exit code 1", 5),
    }
    found = alarms.crash_loops(decisions, ["api-0", "meta-worker-1", "meta-worker-2"])
    assert [each.text for each in found] == [
        "meta-worker-1 ends again and again: exit code 1", "meta-worker-2 ends again and again: exit code 1",
    ]  # fmt: skip


# --- Probes --------------------------------------------------------------------------------------------------------


def test_probes_are_accepted_one_at_a_time_and_marked(connection, present):
    bot, other = add_bot(connection, index=0), add_bot(connection, index=1)
    chats = probes.find_chats(connection, [("0128", 0, "60999"), ("0128", 1, "60999"), ("0128", 7, "60999")])
    assert chats == [(bot, "60999"), (other, "60999")]
    assert probes.send_due(connection, chats, [bot]) == 1
    assert probes.send_due(connection, chats, [bot, other]) == 1  # the first one waits
    rows = execute(connection, "SELECT bot_id, chat_id, kind, status, is_probe, payload ->> 'message' FROM outbox")
    assert rows == [(each, "60999", "text", "queued", True, probes.TEXT) for each in (bot, other)]
    assert execute(connection, "SELECT pending, accepted FROM lane") == [(1, 1), (1, 1)]
    execute(connection, "UPDATE lane SET pending = 0")
    assert probes.send_due(connection, chats, [bot]) == 0  # the last one is too recent
    execute(connection, "UPDATE outbox SET accepted_at = now() - interval '1 minute'")
    assert probes.send_due(connection, chats, [bot]) == 1


def test_without_test_chats_there_are_no_probes(connection):
    assert probes.find_chats(connection, []) == []
    assert probes.send_due(connection, [], [1, 2]) == 0
