import pytest
from uuid_utils import uuid7

from services.database.retention import clean_up
from services.events import store, webhooks
from tests.support.outbox import execute
from tests.support.remote.customer import raise_events

#: Days for which events are kept.
DAYS = 7
#: Days for which the audit trail is kept.
AUDIT_DAYS = 365


@pytest.fixture
def connection(opened):
    return opened[0]


def cleaned(connection):
    """The kinds of rows that a clean-up deleted."""
    return {name: count for name, count in clean_up(connection, DAYS, AUDIT_DAYS, lambda _: 0).items() if count}


def test_old_rows_are_deleted_and_permanent_ones_stay(connection):
    statements = [
        "INSERT INTO webhook_inbox (process_name, body, processed_at, error) VALUES"
        " ('meta', 'old', now() - interval '8 days', NULL), ('meta', 'set aside', now() - interval '8 days', 'why'),"
        " ('meta', 'new', now(), NULL), ('meta', 'waiting', NULL, NULL)",
        "INSERT INTO idempotency_keys (company_id, key, digest, message_id, created_at) VALUES"
        " ('1', 'old', '', uuid_generate_v4(), now() - interval '8 days'), ('1', 'new', '', uuid_generate_v4(), now())",
        "INSERT INTO process_events (process_name, event_type, severity, timestamp) VALUES"
        " ('api', 'old', 'warning', now() - interval '31 days'), ('api', 'grave', 'error', now() - interval '31 days'),"
        " ('api', 'new', 'info', now())",
        "INSERT INTO process_metrics (process_name, metric_name, metric_value, timestamp) VALUES"
        " ('api', 'old', 1, now() - interval '8 days'), ('api', 'new', 1, now())",
        "INSERT INTO wa_command (bot_id, command, created_at) VALUES (1, 'restart', now() - interval '25 hours'),"
        " (1, 'restart', now())",
        "INSERT INTO audit_record (id, at, source, actor, origin, host, action, outcome) VALUES"
        " (uuid_generate_v4(), now() - interval '366 days', 'cli', 'alice', '', '', 'old', 'ok'),"
        " (uuid_generate_v4(), now() - interval '364 days', 'cli', 'alice', '', '', 'new', 'ok')",
        "INSERT INTO wa_sent (bot_id, hour, messages) VALUES (1, now() - interval '49 hours', 3), (1, now(), 4)",
    ]
    for statement in statements:
        execute(connection, statement)
    assert cleaned(connection) == {
        "webhooks": 1, "idempotency keys": 1, "metrics": 1, "events": 1, "commands": 1, "counts of sent": 1,
        "audit records": 1,
    }  # fmt: skip
    assert [bytes(body) for (body,) in execute(connection, "SELECT body FROM webhook_inbox ORDER BY id")] == [
        b"set aside", b"new", b"waiting",
    ]  # fmt: skip
    events = execute(connection, "SELECT event_type FROM process_events ORDER BY id")
    assert events == [("grave",), ("new",), ("rows_deleted",)]
    [(deleted,)] = execute(connection, "SELECT deleted FROM retention_run")
    assert deleted == {
        "webhooks": 1, "idempotency keys": 1, "metrics": 1, "events": 1, "commands": 1, "counts of sent": 1,
        "audit records": 1,
    }  # fmt: skip
    assert cleaned(connection) == {}


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


def test_events_are_deleted_once_they_are_old_and_delivered(connection):
    register(connection)
    raise_events(connection, 1, 2, 3, 4)
    deliver(connection, "delivered", "dead")
    age(connection, "event", "created_at", DAYS + 1, 1, 2, 3)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1, 2)
    assert cleaned(connection) == {"deliveries": 1, "events of companies": 2}
    assert events(connection) == [3, 4]
    assert deliveries(connection) == [(2, "dead"), (3, "pending"), (4, "pending")]
    age(connection, "webhook_delivery", "updated_at", 31, 2)
    assert cleaned(connection) == {"deliveries": 1}


def test_deliveries_that_no_webhook_accepted_in_time_become_dead_letters(connection):
    webhook = register(connection)
    raise_events(connection, 1, 2, 3)
    webhooks.change(connection, webhook, None, None, False)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1, 2)
    age(connection, "event", "created_at", DAYS + 1, 1, 2)
    assert cleaned(connection) == {"failed deliveries": 2, "events of companies": 2}
    assert deliveries(connection) == [(1, "dead"), (2, "dead"), (3, "pending")]
    assert execute(connection, "SELECT pending FROM webhook_lane") == [(1,)]
    webhooks.change(connection, webhook, None, None, True)
    deliver(connection, "delivered")
    assert deliveries(connection)[-1] == (3, "delivered")


def test_calls_in_flight_are_not_released(connection):
    register(connection)
    raise_events(connection, 1)
    assert store.claim(connection, "host/events/1", 60, 100)
    age(connection, "webhook_delivery", "updated_at", DAYS + 1, 1)
    assert cleaned(connection) == {}
