from services.retention import clean_up
from tests.integration.outbox_tools import execute, open_database


def test_old_rows_go_and_what_is_kept_for_good_stays(database):
    pool, connection = open_database(database)
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
    ]
    for statement in statements:
        execute(connection, statement)
    assert clean_up(connection) == {"webhooks": 1, "idempotency keys": 1, "metrics": 1, "events": 1, "instances": 0}
    assert [bytes(body) for (body,) in execute(connection, "SELECT body FROM webhook_inbox ORDER BY id")] == [
        b"set aside", b"new", b"waiting",
    ]  # fmt: skip
    assert execute(connection, "SELECT event_type FROM process_events ORDER BY id") == [("grave",), ("new",)]
    assert sum(clean_up(connection).values()) == 0
    connection.close()
    pool.close()
