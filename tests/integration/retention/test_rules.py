"""Each rule keeps what is just below its age, and deletes what is just above it."""

import pytest
from uuid_utils import uuid7

from bisnesctl.retention import removal, run
from bisnesctl.retention.rules import RULES
from services.events import store, webhooks
from tests.support.outbox import execute
from tests.support.processes.servers import settings_in
from tests.support.remote.customer import raise_events

#: Days for which events are kept.
DAYS = 7


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path, OUTBOX_KEEP_DAYS="20", INBOX_KEEP_DAYS="3", AUDIT_KEEP_DAYS="11")


def hasten(monkeypatch):
    """Runs need no pauses."""
    monkeypatch.setattr(run, "LONGEST_PAUSE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hasten(monkeypatch)


def cleaned(connection, settings):
    """The kinds of rows that a clean-up deleted."""
    outcome = run.run(connection, settings)
    assert outcome.failed == {}
    return outcome.deleted


#: The rows of each kind: how to insert one that is `at` old, and one more that stays regardless of its age.
EVENT = "INSERT INTO process_events (process_name, event_type, severity, timestamp)"
INSTANCE = "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat)"
AUDIT = "INSERT INTO audit_record (id, at, source, actor, origin, host, action, outcome)"
CHANGE = "INSERT INTO message_change (company_id, change_id, kind, target, details, waits, seen_at)"
INBOX = "INSERT INTO webhook_inbox (process_name, body, received_at, processed_at, error)"
INSERTS = {
    "metrics": "INSERT INTO process_metrics (process_name, metric_name, metric_value, timestamp)"
    " VALUES ('api', 'x', 1, {at})",
    "events": f"{EVENT} VALUES ('api', 'x', 'warning', {{at}})",
    "instances": f"{INSTANCE} VALUES ('api', '', {{at}}::text, 1, 'running', now(), {{at}})",
    "commands": "INSERT INTO wa_command (bot_id, command, created_at) VALUES (1, 'restart', {at})",
    "keys": "INSERT INTO wa_key (bot_id, key_id, message_id, created_at)"
    " VALUES (1, {at}::text, gen_random_uuid(), {at})",
    "counts of sent": "INSERT INTO wa_sent (bot_id, hour, messages) VALUES (1, {at}, 3)",
    "changes of messages": f"{CHANGE} VALUES ('1', {{at}}::text, 'edit', '', '{{{{}}}}', false, {{at}})",
    "unknown messages": "INSERT INTO unknown_message (message_id, since) VALUES (gen_random_uuid(), {at})",
    "audit records": f"{AUDIT} VALUES (gen_random_uuid(), {{at}}, 'cli', 'alice', '', '', 'x', 'ok')",
    "trial copies": "INSERT INTO trial_copy (message_id, company_id, kind, outcome, copied_at)"
    " VALUES (gen_random_uuid(), '1', 'text', 'sent', {at})",
    "webhooks": f"{INBOX} VALUES ('meta', 'x', {{at}}, {{at}}, NULL)",
    "idempotency keys": "INSERT INTO idempotency_keys (company_id, key, digest, message_id, created_at)"
    " VALUES ('1', {at}::text, '', gen_random_uuid(), {at})",
}
#: Kinds with tests of their own.
OTHERS = {"failed deliveries", "deliveries", "dead deliveries", "events of companies", "messages"}


def test_every_rule_is_tested():
    assert INSERTS.keys() | OTHERS == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.name in INSERTS], ids=lambda rule: rule.name)
def test_rows_just_below_the_age_stay_and_those_just_above_go(connection, settings, rule):
    days = rule.days(settings)
    for minutes in (-1, 1):
        at = f"(now() - interval '{days} days' - interval '{minutes} minutes')"
        execute(connection, INSERTS[rule.name].format(at=at))
    assert rule.removal.count(connection, {"now": "now", "days": days}) == 1
    assert cleaned(connection, settings) == {rule.name: 1}
    assert execute(connection, f"SELECT count(*) FROM {rule.table}") == [(1 if rule.name != "events" else 2,)]
    assert cleaned(connection, settings) == {}


def test_rows_that_are_kept_for_good_stay(connection, settings):
    execute(connection, f"{EVENT} VALUES ('api', 'x', 'error', now() - interval '1 year')")
    execute(connection, f"{INBOX} SELECT 'meta', 'aside', at, at, 'why' FROM (SELECT now() - interval '1 year') x (at)")
    execute(connection, f"{INBOX} VALUES ('meta', 'waits', now() - interval '1 year', NULL, NULL)")
    assert cleaned(connection, settings) == {}


def test_old_webhooks_behind_those_that_stay_are_found(connection, settings, monkeypatch):
    monkeypatch.setattr(removal, "BATCH_ROWS", 3)
    for error in ("'why'", "NULL") * 4:
        execute(
            connection, f"{INBOX} VALUES ('meta', 'x', now() - interval '4 days', now() - interval '4 days', {error})"
        )
    assert cleaned(connection, settings) == {"webhooks": 4}


def test_more_rows_than_are_found_at_a_time_are_deleted(connection, settings, monkeypatch):
    monkeypatch.setattr(removal, "BATCH_ROWS", 2)
    monkeypatch.setattr(removal, "FOUND_ROWS", 4)
    for _ in range(9):
        execute(connection, INSERTS["metrics"].format(at="now() - interval '8 days'"))
    assert cleaned(connection, settings) == {"metrics": 9}


def test_a_row_that_somebody_has_locked_is_left_to_the_next_run(connection, settings, opened):
    execute(connection, INSERTS["metrics"].format(at="now() - interval '8 days'"))
    other = opened[1].connect()
    with other, other.cursor() as cursor:
        cursor.execute("SELECT FROM process_metrics FOR UPDATE")
        assert cleaned(connection, settings) == {}
    other.close()
    assert cleaned(connection, settings) == {"metrics": 1}


def test_a_record_stays_while_the_outcome_of_its_message_is_unknown(connection, settings):
    columns = "bot_id, chat_id, message_id, company_id, phone_index, kind, payload, status"
    execute(
        connection,
        f"INSERT INTO outbox ({columns}) VALUES (1, '1', gen_random_uuid(), '1', 0, 'text', '{{}}', 'unknown')",
    )
    execute(connection, "INSERT INTO unknown_message (message_id, since)"
                        " SELECT message_id, now() - interval '1 year' FROM outbox")  # fmt: skip
    assert cleaned(connection, settings) == {}
    execute(connection, "UPDATE outbox SET status = 'sent'")
    assert cleaned(connection, settings) == {"unknown messages": 1}


# --- Events of companies ---------------------------------------------------------------------------------------------


def events(connection):
    """The numbers of the events that are kept."""
    return [number for (number,) in execute(connection, "SELECT seq FROM event ORDER BY seq")]


def deliveries(connection):
    """Number and status of each delivery."""
    return execute(connection, "SELECT seq, status FROM webhook_delivery ORDER BY seq")


def age(connection, table, column, days, *numbers):
    execute(
        connection,
        f"UPDATE {table} SET {column} = now() - %s * interval '1 day' WHERE seq = ANY(%s)",
        (days, list(numbers)),
    )


def register(connection):
    return webhooks.register(connection, str(uuid7()), "0128", "https://customer.example/", ["*"], "")["id"]


def deliver(connection, *outcomes):
    """Have one event after the other end so."""
    for outcome in outcomes:
        [task] = store.claim(connection, "host/events/1", 60, 100)
        result = store.Result(task.webhook_id, task.chat_id, task.seq, outcome, called=False)
        assert store.record(connection, "host/events/1", [result]) == []


def test_events_are_deleted_once_they_are_old_and_delivered(connection, settings):
    register(connection)
    raise_events(connection, 1, 2, 3, 4)
    deliver(connection, "delivered", "dead")
    age(connection, "event", "created_at", DAYS + 1, 1, 2, 3)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1, 2)
    assert cleaned(connection, settings) == {"deliveries": 1, "events of companies": 2}
    assert events(connection) == [3, 4]
    assert deliveries(connection) == [(2, "dead"), (3, "pending"), (4, "pending")]
    age(connection, "webhook_delivery", "updated_at", 31, 2)
    assert cleaned(connection, settings) == {"dead deliveries": 1}


def test_dead_deliveries_are_kept_as_long_as_events(connection, tmp_path):
    settings = settings_in(tmp_path, EVENTS_KEEP_DAYS="60")
    register(connection)
    raise_events(connection, 1)
    deliver(connection, "dead")
    age(connection, "webhook_delivery", "updated_at", 59, 1)
    assert cleaned(connection, settings) == {}
    age(connection, "webhook_delivery", "updated_at", 61, 1)
    assert cleaned(connection, settings) == {"dead deliveries": 1}


def test_deliveries_that_no_webhook_accepted_in_time_become_dead_letters(connection, settings):
    webhook = register(connection)
    raise_events(connection, 1, 2, 3)
    webhooks.change(connection, webhook, None, None, False)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1, 2)
    age(connection, "event", "created_at", DAYS + 1, 1, 2)
    assert cleaned(connection, settings) == {"failed deliveries": 2, "events of companies": 2}
    assert deliveries(connection) == [(1, "dead"), (2, "dead"), (3, "pending")]
    assert execute(connection, "SELECT pending FROM webhook_lane") == [(1,)]
    webhooks.change(connection, webhook, None, None, True)
    deliver(connection, "delivered")
    assert deliveries(connection)[-1] == (3, "delivered")


def test_calls_in_flight_are_not_released(connection, settings):
    register(connection)
    raise_events(connection, 1)
    assert store.claim(connection, "host/events/1", 60, 100)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1)
    assert cleaned(connection, settings) == {}
