"""A database whose clock is set back and forth: everything resumes within seconds, and nothing is done twice.

The database has a `now()` and a `clock_timestamp()` of its own, found before PostgreSQL's, so that every statement,
default and function of ours lives by a clock that the test sets.
"""

import contextlib

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisnesctl.database import migrations
from services.database.clock import DatabaseClock
from services.events import store as events
from services.message import Scope, Status
from services.outbox import holds, recovery
from services.outbox.outcome_policy import Hold
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result
from tests.support.outbox_worker import Stage
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS

FAKE = """
CREATE SCHEMA fake;
CREATE TABLE fake.step (by interval NOT NULL);
INSERT INTO fake.step VALUES ('0');
CREATE FUNCTION fake.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + by FROM fake.step';
CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + by FROM fake.step';
"""
CHAT = "60123456789"
MINUTES = st.integers(-4000, 4000)


@pytest.fixture
def dsn(empty_database):
    """The URL of a migrated database that lives by a clock of its own."""
    with contextlib.closing(psycopg2.connect(empty_database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FAKE)
        cursor.execute("SELECT current_database()")
        [(name,)] = cursor.fetchall()
        cursor.execute(f"ALTER DATABASE {name} SET search_path = fake, pg_catalog, public")
    migrations.apply(empty_database)
    return empty_database


@pytest.fixture
def opened(dsn):
    pool, connection = open_database(dsn)
    yield connection, pool
    connection.close()
    pool.close()


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def clock(tmp_path, connection):
    found = DatabaseClock(settings_in(tmp_path, DATABASE_URL="postgresql://unused"))
    found.look(connection)
    return found


@pytest.fixture
def stage(dsn, tmp_path, monkeypatch):
    stage = Stage(dsn, tmp_path, monkeypatch)
    yield stage
    stage.close()


def step(connection, **by):
    """Set the database's clock back or forth."""
    words = " ".join(f"{number} {unit}" for unit, number in by.items())
    execute(connection, "UPDATE fake.step SET by = by + %s::interval", (words,))


def left(connection, what, table):
    """The seconds until a stored moment; minus infinity is None."""
    return execute(connection, f"SELECT extract(epoch FROM {what} - now())::float FROM {table}")[0][0]


def wait_until_looked(stage):
    """Until a process has looked at the clock once more."""
    execute(stage.connection, "UPDATE clock_seen SET at = now() - interval '1 hour'")
    fresh = "SELECT at > now() - interval '30 minutes' FROM clock_seen"
    stage.wait_for(lambda: execute(stage.connection, fresh) == [(True,)])


@pytest.mark.parametrize("minutes", [-70, -3, 70])
def test_messages_go_on_within_seconds_after_the_clock_was_set(stage, minutes):
    bot = stage.bot()
    sender = stage.sender()
    stage.accept(entry(bot, CHAT, "before"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    step(stage.connection, minutes=minutes)
    stage.accept(entry(bot, CHAT, "after"), entry(bot, "60111111111", "in another chat"))
    sender.delivery.wake()
    stage.wait_for(lambda: stage.statuses() == {"sent": 3})
    assert [text for chat, text in stage.provider.received if chat == CHAT] == ["before", "after"]
    assert len(stage.provider.received) == 3


def test_the_clock_was_set_back_while_nothing_ran(stage):
    bot = stage.bot()
    sender = stage.sender()
    wait_until_looked(stage)
    assert sender.stop(HANG_SECONDS)
    stage.accept(entry(bot, CHAT, "waits"))
    execute(stage.connection, "UPDATE bot_pace SET held_until = now() + interval '1 second', free_at = now()")
    execute(stage.connection, "UPDATE lane SET due = now() + interval '1 second'")
    step(stage.connection, hours=-5)
    stage.sender("meta-worker-2")
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})


def test_a_number_of_which_nothing_is_left_to_send_now_is_not_stopped_by_its_pace(connection):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    execute(connection, "UPDATE bot_pace SET free_at = now() + interval '1 hour'")
    assert len(outbox(rate=5).claim(connection, 10)) == 1


@settings(max_examples=20)
@given(st.lists(MINUTES, min_size=1, max_size=4), st.floats(1, 3000))
def test_a_hold_is_never_longer_than_it_was(connection, clock, steps, seconds):
    execute(connection, "DELETE FROM phone_configs")
    execute(connection, "UPDATE clock_seen SET at = now()")
    bot = add_bot(connection)
    accept(connection, entry(bot))
    holds.hold(connection, [Hold(bot, Scope.BOT, seconds, "130429: too many", slower=True)])
    for minutes in steps:
        step(connection, minutes=minutes)
        clock.look(connection)
        assert left(connection, "held_until", "bot_pace") <= seconds + 5
        assert left(connection, "slow_until", "bot_pace") <= holds.SLOW_SECONDS + 5
    if all(minutes < 0 for minutes in steps):
        assert left(connection, "held_until", "bot_pace") > seconds - 60


def test_due_times_keep_their_distance_when_the_clock_is_set_back(connection, clock):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    execute(connection, "UPDATE lane SET due = now() + interval '30 s'")
    execute(connection, "INSERT INTO webhook (id, company_id, url, events, secret_encrypted)"
            " VALUES (uuid_generate_v4(), '0128', 'http://x', '{*}', '')")  # fmt: skip
    execute(connection, "UPDATE webhook SET previous_until = now() + interval '40 s',"
            " paused_until = now() + interval '50 s'")  # fmt: skip
    execute(connection, "INSERT INTO webhook_lane (webhook_id, chat_id, pending, due)"
            " SELECT id, '', 1, now() + interval '60 s' FROM webhook")  # fmt: skip
    execute(connection, "INSERT INTO media_download (message_id, bot_id, company_id, media, due, tried_at)"
            " VALUES (uuid_generate_v4(), %s, '0128', '{}', now() + interval '70 s', now())", (bot,))  # fmt: skip
    execute(connection, "INSERT INTO bot_check (bot_id, due) VALUES (%s, now() + interval '80 s')", (bot,))
    execute(connection, "INSERT INTO wa_block (bot_id, kind, reason, until)"
            " VALUES (%s, 'failed_starts', '', now() + interval '90 s')", (bot,))  # fmt: skip
    execute(connection, "INSERT INTO wa_session (bot_id, qr_expires_at, pairing_expires_at)"
            " VALUES (%s, now() + interval '20 s', now() + interval '25 s')", (bot,))  # fmt: skip
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, hours=-3)
    clock.look(connection)
    moments = {
        ("due", "lane"): 30, ("previous_until", "webhook"): 40, ("paused_until", "webhook"): 50,
        ("due", "webhook_lane"): 60, ("due", "media_download"): 70, ("due", "bot_check"): 80, ("until", "wa_block"): 90,
        ("qr_expires_at", "wa_session"): 20, ("pairing_expires_at", "wa_session"): 25,
        ("tried_at", "media_download"): 0,
    }  # fmt: skip
    found = {moment: left(connection, *moment) for moment in moments}
    assert found == {moment: pytest.approx(seconds, abs=15) for moment, seconds in moments.items()}


def test_a_number_that_waits_for_an_operator_keeps_waiting(connection, clock):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: the token is no good")])
    step(connection, hours=-1)
    clock.look(connection)
    assert execute(connection, "SELECT held_until = 'infinity' FROM bot_pace") == [(True,)]
    assert outbox().claim(connection, 10) == []


def test_a_step_is_repaired_once_whoever_looks(connection, clock, tmp_path):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, hours=-1)
    others = [DatabaseClock(clock_settings) for clock_settings in [settings_in(tmp_path)] * 3]
    clock.look(connection)
    execute(connection, "UPDATE bot_pace SET held_until = now() + interval '50 s'")
    for other in others:
        other.look(connection)
    assert left(connection, "held_until", "bot_pace") == pytest.approx(50, abs=15)


def test_a_lease_of_a_worker_that_is_gone_ends_no_later(connection, clock):
    accept(connection, entry(add_bot(connection)))
    assert len(outbox(lease=60).claim(connection, 10)) == 1
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, hours=-2)
    clock.look(connection)
    assert left(connection, "due", "lane") <= 60
    step(connection, seconds=61)
    assert len(recovery.expired(connection, "meta")) == 1


def test_a_living_workers_messages_are_not_recovered_when_the_clock_is_set_forward(stage):
    sender = stage.sender()
    sender.delivery.paused = True
    stage.accept(entry(stage.bot(), CHAT, "claimed by a worker of another machine"))
    execute(stage.connection, "UPDATE lane SET claim = 'elsewhere/meta-worker-1/run', due = now() + interval '20 min',"
            " head = (SELECT id FROM outbox)")  # fmt: skip
    wait_until_looked(stage)
    step(stage.connection, minutes=70)
    for _ in range(2):  # the other machine's worker renews its lease meanwhile
        wait_until_looked(stage)
    assert stage.statuses() == {"queued": 1}
    assert execute(stage.connection, "SELECT claim FROM lane") == [("elsewhere/meta-worker-1/run",)]


def test_a_worker_renews_its_leases_when_the_clock_is_set_forward(stage):
    sender = stage.sender()
    sender.delivery.paused = True
    stage.accept(entry(stage.bot(), CHAT, "in hand"))
    execute(stage.connection, "UPDATE lane SET claim = %s, due = now() + interval '60 s'", (sender.outbox.worker,))
    wait_until_looked(stage)
    step(stage.connection, minutes=70)
    stage.wait_for(lambda: left(stage.connection, "due", "lane") > 0)


def test_events_go_on_after_the_clock_was_set_back(connection, clock):
    execute(connection, "INSERT INTO webhook (id, company_id, url, events, secret_encrypted)"
            " VALUES (uuid_generate_v4(), '0128', 'http://x', '{*}', '')")  # fmt: skip
    execute(connection, "INSERT INTO event_feed VALUES ('0128')")
    execute(connection, "SELECT raise_events(%s)", ('[{"company": "0128", "session": "0128-0", "event": "message",'
            ' "chat": "60123456789", "payload": {"number": 1}}]',))  # fmt: skip
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, hours=-1)
    assert events.claim(connection, "a/events/1", 60, 100) == []
    clock.look(connection)
    assert len(events.claim(connection, "a/events/1", 60, 100)) == 1


def test_a_heartbeat_of_an_ended_process_is_not_taken_for_alive(connection, clock):
    execute(connection, "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
            " VALUES ('meta', 'h', 'i', 1, 'healthy', now())")  # fmt: skip
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, hours=-1)
    clock.look(connection)
    assert left(connection, "last_heartbeat", "process_instances") <= 0


def test_a_message_that_is_tried_again_keeps_its_pause(connection, clock):
    accept(connection, entry(add_bot(connection)))
    (message,) = outbox().claim(connection, 10)
    outbox().record(connection, [result(message, Status.QUEUED, after=20.0)])
    execute(connection, "UPDATE clock_seen SET at = now()")
    step(connection, days=-3)
    clock.look(connection)
    assert 0 < left(connection, "due", "lane") <= 20


#: Rows with every moment that is compared with the clock, 50 seconds in the future.
AHEAD = """
INSERT INTO lane (bot_id, chat_id, pending, due) VALUES (%(bot)s, 'c', 1, now() + '50 s');
INSERT INTO unknown_message VALUES (uuid_generate_v4(), now() + '50 s', NULL, now() + '50 s');
UPDATE bot_pace SET (free_at, held_until, slow_until, outage_since, outage_seen, held_at, lifted_at, paused_at,
    paused_until, owner_since, drain_until) = (
    SELECT m, m, m, m, m, m, m, m, m, m, m FROM (SELECT now() + interval '50 s' AS m) f);
INSERT INTO rollout (from_side, to_side, bots, steps, automatic, by, began_at, step_at, judged_at, driver_until)
    SELECT 'legacy', 'multiprocess', '{}', '[]', true, '', m, m, m, m FROM (SELECT now() + interval '50 s' AS m) f;
INSERT INTO webhook (id, company_id, url, events, secret_encrypted, previous_until, paused_until)
    VALUES (uuid_generate_v4(), '0128', 'http://x', '{*}', '', now() + '50 s', now() + '50 s');
INSERT INTO webhook_lane SELECT id, 'c', now() + '50 s', 1 FROM webhook;
INSERT INTO webhook_delivery (webhook_id, chat_id, seq, event_id, first_tried_at)
    SELECT id, 'c', 1, 'evt', now() + '50 s' FROM webhook;
INSERT INTO media_download (message_id, bot_id, company_id, media, due, tried_at)
    VALUES (uuid_generate_v4(), %(bot)s, '0128', '{}', now() + '50 s', now() + '50 s');
INSERT INTO bot_check (bot_id, due, checked_at) VALUES (%(bot)s, now() + '50 s', now() + '50 s');
INSERT INTO wa_session (bot_id, changed_at, started_at, beat_at, qr_expires_at, pairing_expires_at, caught_up_at)
    SELECT %(bot)s, m, m, m, m, m, m FROM (SELECT now() + interval '50 s' AS m) f;
INSERT INTO wa_command (bot_id, command, created_at, done_at) VALUES (%(bot)s, 'c', now() + '50 s', now() + '50 s');
INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%(bot)s, 'failed_starts', '', now() + '50 s');
INSERT INTO dialog360_secret VALUES (%(bot)s, '', '', now() + '50 s');
INSERT INTO wa_number (bot_id, chat_id, registered, checked_at) VALUES (%(bot)s, 'c', true, now() + '50 s');
INSERT INTO wa_sent (bot_id, hour, messages) VALUES (%(bot)s, now() + '50 s', 1);
INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat)
    VALUES ('meta', 'h', 'i', 1, 'healthy', now(), now() + '50 s');
UPDATE process_health SET last_heartbeat = now() + '50 s';
UPDATE clock_seen SET at = now();
"""
COMPARED = {
    "lane": {"due"}, "unknown_message": {"since", "reported_at"},
    "bot_pace": {"free_at", "held_until", "slow_until", "outage_since", "outage_seen", "held_at", "lifted_at",
                 "paused_at", "paused_until", "owner_since", "drain_until"},
    "rollout": {"began_at", "step_at", "judged_at", "driver_until"},
    "webhook": {"previous_until", "paused_until"}, "webhook_lane": {"due"}, "webhook_delivery": {"first_tried_at"},
    "media_download": {"due", "tried_at"}, "bot_check": {"due", "checked_at"},
    "wa_session": {"changed_at", "started_at", "beat_at", "qr_expires_at", "pairing_expires_at", "caught_up_at"},
    "wa_command": {"created_at", "done_at"}, "wa_block": {"until"}, "wa_number": {"checked_at"}, "wa_sent": {"hour"},
    "dialog360_secret": {"previous_until"},
    "process_instances": {"last_heartbeat"}, "process_health": {"last_heartbeat"},
}  # fmt: skip
#: Moments that are only shown, or say how old a row is that is deleted after days, or come from a provider.
RECORDED = {
    "phone_configs": {"created_at", "updated_at"}, "phone_status": {"last_seen", "updated_at"},
    "messages": {"reaction_timestamp", "edited_at", "timestamp", "created_at"},
    "contacts": {"created_at", "updated_at", "named_at"}, "message_change": {"seen_at"},
    "chat_alias": {"valid_until"}, "process_metrics": {"timestamp"}, "process_events": {"timestamp"},
    "process_health": {"created_at", "updated_at"}, "process_instances": {"started_at"},
    "outbox": {"accepted_at", "updated_at"}, "api_keys": {"created_at", "revoked_at"},
    "idempotency_keys": {"created_at"}, "webhook_inbox": {"received_at", "processed_at"},
    "chat": {"last_inbound_at", "window_until"}, "media_download": {"created_at"}, "event": {"created_at"},
    "webhook": {"last_delivered_at", "created_at", "updated_at"}, "webhook_delivery": {"created_at", "updated_at"},
    "wa_key": {"created_at"}, "wa_command": {"taken_at"}, "wa_block": {"since"}, "wa_removed": {"removed_at"},
    "clock_seen": {"at"}, "schema_migrations": {"applied_at"}, "media_store": {"since"},
    "former_number": {"since", "moved_at"}, "media_file": {"created_at"}, "process_totals": {"measured_at"},
    "media_upload": {"since"}, "audit_record": {"at", "delivered_at"}, "retention_run": {"at", "tried_at"},
    "rollout": {"ended_at"}, "trial_copy": {"copied_at"}, "failed_message": {"failed_at"},
}  # fmt: skip


def test_every_moment_in_the_database_is_repaired_or_only_recorded(connection):
    """A new column belongs into one of the two lists, and into `repair_clock` and the rows if it is compared."""
    columns = execute(connection, "SELECT table_name, column_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name) WHERE table_schema = current_schema()"
        " AND table_type = 'BASE TABLE' AND starts_with(data_type, 'timestamp')")  # fmt: skip
    known = {(table, column) for lists in (COMPARED, RECORDED) for table in lists for column in lists[table]}
    assert set(columns) == known
    assert not any(COMPARED[table] & RECORDED.get(table, set()) for table in COMPARED)


def test_no_moment_lies_further_ahead_after_the_clock_was_set_back(connection, clock):
    execute(connection, AHEAD, {"bot": add_bot(connection)})
    moments = [(column, table) for table in COMPARED for column in COMPARED[table]]
    assert {moment: left(connection, *moment) for moment in moments} == dict.fromkeys(
        moments, pytest.approx(50, abs=15)
    )
    step(connection, hours=-3)
    clock.look(connection)
    assert {moment: found for moment in moments if (found := left(connection, *moment)) > 60} == {}
