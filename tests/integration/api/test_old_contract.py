"""The queries of the former server and of other services still work after the migrations."""

import pytest

from tests.support.database_catalogue import run

#: As the old server registers a number: it knows nothing of processes.
REGISTER = """
INSERT INTO phone_configs (company_id, phone_index, connection_type, display_phone_number, status)
VALUES (%s, %s, %s, '+60 12', 'active')
ON CONFLICT (company_id, phone_index) DO UPDATE SET connection_type = EXCLUDED.connection_type, updated_at = NOW()
RETURNING process_name"""


def register(database: str, kind: str | None, index: int = 0) -> str:
    process_name: str = run(database, REGISTER, ("0128", index, kind))[0][0]
    return process_name


@pytest.mark.parametrize(
    ("kind", "process"),
    [
        ("wwebjs", "wwebjs"),
        (None, "wwebjs"),
        ("meta_direct", "meta"),
        ("meta_embedded", "meta"),
        ("360dialog", "meta"),
    ],
)
def test_a_number_is_known_to_its_process(database: str, kind: str | None, process: str) -> None:
    assert register(database, kind) == process


def test_a_number_that_names_no_type_is_of_wwebjs(database: str) -> None:
    run(database, "INSERT INTO phone_configs (company_id) VALUES ('0128')")
    assert run(database, "SELECT phone_index, connection_type, process_name, status FROM phone_configs") == [
        (0, "wwebjs", "wwebjs", "pending")
    ]


def test_a_change_of_type_changes_the_process(database: str) -> None:
    register(database, "wwebjs")
    assert register(database, "meta_direct") == "meta"
    run(database, "UPDATE phone_configs SET connection_type = 'wwebjs' WHERE company_id = '0128'")
    run(database, "UPDATE phone_configs SET status = 'ready'")
    assert run(database, "SELECT process_name, status FROM phone_configs") == [("wwebjs", "ready")]
    assert run(database, "SELECT process_name FROM bot_pace") == [("wwebjs",)]


def test_the_status_of_a_number_is_kept_beside_it(database: str) -> None:
    run(
        database,
        "INSERT INTO phone_status (company_id, phone_index, status, metadata, connection_type)"
        """ VALUES ('0128', '0', 'qr', '{"qrCode": "2@x"}', 'wwebjs')""",
    )
    run(database, "UPDATE phone_status SET status = 'ready', metadata = '{}', last_seen = NOW(), updated_at = NOW()")
    joined = """
        SELECT c.process_name, s.process_name, s.status FROM phone_configs c
        JOIN phone_status s ON s.company_id = c.company_id AND s.phone_index = c.phone_index::text"""
    register(database, "wwebjs")
    assert run(database, joined) == [("wwebjs", "wwebjs", "ready")]


def test_messages_are_written_and_changed(database: str) -> None:
    write = """
        INSERT INTO messages (message_id, company_id, contact_id, chat_id, content, message_type, from_me, direction,
            author, phone_index, provider, external_id, media_metadata)
        VALUES ('true_60@c.us_3EB0', '0128', '0128-60123456789', '60123456789@c.us', %s, 'text', false, 'inbound',
            NULL, 0, 'wwebjs', NULL, '{"a": 1}')
        ON CONFLICT (message_id, company_id) DO UPDATE SET content = EXCLUDED.content, edited = true, edited_at = NOW()
        RETURNING id"""
    first, second = run(database, write, ("hello",)), run(database, write, ("hello!",))
    assert first == second
    run(database, "UPDATE messages SET reaction = %s, reaction_timestamp = NOW(), status = 'read'", ("👍",))
    assert run(database, "SELECT content, edited, reaction, status FROM messages") == [("hello!", True, "👍", "read")]


def test_contacts_are_written_and_changed(database: str) -> None:
    write = """
        INSERT INTO contacts (contact_id, company_id, name, phone, phone_index, tags, last_message, unread_count)
        VALUES ('0128-60123456789', '0128', 'Aina', '+60123456789', 0, '["vip"]', '{"body": "x"}', 1)
        ON CONFLICT (contact_id, company_id) DO UPDATE SET unread_count = contacts.unread_count + 1"""
    run(database, write)
    run(database, write)
    assert run(database, "SELECT name, tags, unread_count FROM contacts") == [("Aina", ["vip"], 2)]


BEAT = """
INSERT INTO process_health (process_name, status, last_heartbeat, uptime_seconds, memory_usage_mb, cpu_usage_percent,
    active_connections, messages_processed, error_count, last_error)
VALUES (%s, 'healthy', NOW() - %s * INTERVAL '1 second', 12, 101.5, 1.25, 3, 40, 0, NULL)
ON CONFLICT (process_name) DO UPDATE SET status = EXCLUDED.status, last_heartbeat = EXCLUDED.last_heartbeat,
    memory_usage_mb = EXCLUDED.memory_usage_mb, updated_at = NOW()"""


@pytest.mark.parametrize(
    ("age", "status"), [(0, "healthy"), (25, "healthy"), (35, "degraded"), (55, "degraded"), (65, "down")]
)
def test_a_heartbeat_grows_old(database: str, age: int, status: str) -> None:
    run(database, BEAT, ("meta", age))
    found = run(
        database,
        "SELECT computed_status, seconds_since_heartbeat >= %s, memory_usage_mb FROM v_process_health_overview"
        " WHERE process_name = 'meta'",
        (age,),
    )
    assert found == [(status, True, 101.5)]


def test_a_process_that_never_beat_is_down(database: str) -> None:
    assert run(database, "SELECT process_name, computed_status FROM v_process_health_overview ORDER BY 1") == [
        ("api", "down"),
        ("meta", "down"),
        ("wwebjs", "down"),
    ]


def test_the_overview_counts_the_active_bots(database: str) -> None:
    for index, kind in enumerate(["wwebjs", "meta_direct", "360dialog", "meta_direct"]):
        register(database, kind, index)
    run(database, "UPDATE phone_configs SET status = 'pending' WHERE phone_index = 3")
    assert run(database, "SELECT process_name, active_bots FROM v_process_health_overview ORDER BY 1") == [
        ("api", 0),
        ("meta", 2),
        ("wwebjs", 1),
    ]


def test_the_overview_has_every_column_of_the_health(database: str) -> None:
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
    health = {row[0] for row in run(database, columns, ("process_health",))}
    overview = {row[0] for row in run(database, columns, ("v_process_health_overview",))}
    assert overview == health | {"computed_status", "seconds_since_heartbeat", "active_bots"}


def test_metrics_and_events_are_written(database: str) -> None:
    run(
        database,
        "INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, metadata)"
        """ VALUES ('meta', 'messages_sent', 12.5, 'counter', '{"bot": 1}')""",
    )
    for severity in ("info", "warning", "error", "critical"):
        run(
            database,
            "INSERT INTO process_events (process_name, event_type, event_data, severity)"
            " VALUES ('wwebjs', 'crash', '{}', %s)",
            (severity,),
        )
    assert run(database, "SELECT metric_value::float FROM process_metrics") == [(12.5,)]
    assert run(database, "SELECT count(DISTINCT severity) FROM process_events") == [(4,)]
