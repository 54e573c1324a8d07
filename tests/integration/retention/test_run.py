"""A run: alone, in batches, with its record; and the process that runs it."""

import os
import signal
import subprocess
import sys

import psycopg2
import pytest
import structlog.testing

from bisnesctl.database import migrations
from bisnesctl.retention import records, removal, run
from bisnesctl.settings import load_partly
from services.database.connection import Database, DatabaseUnavailable
from services.retention import Retention
from tests.integration.conftest import SECRET_KEY
from tests.support.outbox import accept, add_bot, entry, execute, open_database
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, wait_until

OLD = """
INSERT INTO process_metrics (process_name, metric_name, metric_value, timestamp)
SELECT 'api', 'old', 1, now() - interval '8 days' FROM generate_series(1, %s)"""


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def settings(database, tmp_path):
    return settings_in(tmp_path, DATABASE_URL=database, ENCRYPTION_KEY=SECRET_KEY)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(removal, "BATCH_ROWS", 2)
    monkeypatch.setattr(run, "LONGEST_PAUSE_SECONDS", 0.0)


def left(connection):
    return execute(connection, "SELECT count(*)::int FROM process_metrics")[0][0]


def test_a_run_is_recorded_with_what_it_deleted(connection, settings):
    assert records.last(connection).tried_seconds is None
    execute(connection, OLD, (3,))
    assert run.run(connection, settings).deleted == {"metrics": 3}
    last = records.last(connection)
    assert (last.deleted, last.failed, last.unfinished) == ({"metrics": 3}, {}, False)
    assert not last.is_due
    assert execute(connection, "SELECT event_type, event_data -> 'deleted' FROM process_events") == [
        ("rows_deleted", {"metrics": 3})
    ]
    run.run(connection, settings)
    assert records.last(connection).removed == "nothing"
    assert len(execute(connection, "SELECT 1 FROM process_events")) == 1


def test_a_rule_that_fails_is_named_and_the_others_are_applied(connection, settings):
    execute(connection, OLD, (1,))
    execute(connection, "UPDATE retention_run SET at = now() - interval '5 hours'")
    execute(connection, "ALTER TABLE wa_command RENAME TO elsewhere")
    for _ in range(2):
        outcome = run.run(connection, settings)
        assert outcome.failed.keys() == {"commands"}
    assert left(connection) == 0
    last = records.last(connection)
    assert "wa_command" in last.failed["commands"]
    assert last.age_seconds > 4 * 3600
    events = execute(connection, "SELECT event_type, severity FROM process_events")
    assert events == [("retention_failed", "warning")], "it is reported once"
    execute(connection, "ALTER TABLE elsewhere RENAME TO wa_command")
    run.run(connection, settings)
    assert records.last(connection).age_seconds < 3600


def test_one_process_deletes_at_a_time(connection, settings, opened, small_batches):
    execute(connection, OLD, (4,))
    other = opened[1].connect()
    seen = []

    def meanwhile(_):
        seen.append(run.run(other, settings))
        return False

    assert run.run(connection, settings, pause=meanwhile).deleted == {"metrics": 4}
    assert set(seen) == {None}
    assert run.run(other, settings) is not None
    other.close()


def test_a_run_that_ends_early_says_so_and_the_next_one_continues(connection, settings, small_batches):
    execute(connection, OLD, (5,))
    outcome = run.run(connection, settings, pause=lambda _: True)
    assert (outcome.deleted, outcome.unfinished) == ({"metrics": 2}, True)
    assert records.last(connection).unfinished
    assert run.run(connection, settings).deleted == {"metrics": 3}


def test_a_rule_that_takes_long_leaves_the_rest_and_the_others_have_their_turn(
    connection, settings, small_batches, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(run, "RULE_SECONDS", -1.0)
    execute(connection, OLD, (5,))
    execute(
        connection, "INSERT INTO wa_command (bot_id, command, created_at) VALUES (1, 'x', now() - interval '2 days')"
    )
    outcome = run.run(connection, settings)
    assert outcome.deleted == {"metrics": 2, "commands": 1}
    assert outcome.unfinished


def test_messages_stay_while_a_rule_before_them_is_unfinished(connection, settings, monkeypatch):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    execute(connection, "UPDATE outbox SET status = 'sent', accepted_at = '2020-01-01', updated_at = '2020-01-01',"
                        " message_id = '00000000-0000-7000-8000-000000000001'")  # fmt: skip
    monkeypatch.setattr(run, "RULE_SECONDS", -1.0)
    execute(connection, "INSERT INTO idempotency_keys (company_id, key, digest, message_id, created_at)"
                        " VALUES ('0128', 'k', '', '00000000-0000-7000-8000-000000000001', '2020-01-01')")  # fmt: skip
    outcome = run.run(connection, settings)
    assert {"idempotency keys", "messages"} <= outcome.left, outcome
    assert outcome.deleted == {"idempotency keys": 1}
    monkeypatch.undo()
    assert run.run(connection, settings).deleted == {"messages": 1}


KILLED = """
import sys
from bisnesctl.retention import removal, run
from bisnesctl.settings import load
from bisnesctl.database import postgres
removal.BATCH_ROWS = 2
settings = load()
def wait(_):
    print("batch", flush=True)
    sys.stdin.read()
with postgres.command_connection(settings) as connection:
    run.run(connection, settings, pause=wait)
"""


def test_a_killed_run_is_continued_by_the_next_one(connection, environment, database):
    settings = environment(DATABASE_URL=database)
    execute(connection, OLD, (5,))
    killed = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=os.environ | {"BISNES_ENV": str(settings.env_file)})  # fmt: skip
    assert killed.stdout.readline() == b"batch\n"
    assert run.run(connection, settings) is None
    killed.send_signal(signal.SIGKILL)
    killed.wait(HANG_SECONDS)
    assert left(connection) == 3, "the batch was committed"
    assert wait_until(lambda: run.run(connection, settings), HANG_SECONDS).deleted == {"metrics": 3}
    for pipe in (killed.stdin, killed.stdout):
        pipe.close()


def test_a_connection_that_breaks_ends_the_run_and_the_next_one_continues(connection, settings, opened, small_batches):
    execute(connection, OLD, (5,))
    broken = opened[1].connect()

    def end(_):
        execute(connection, "SELECT pg_terminate_backend(%s)", (broken.server_pid,))
        return False

    with pytest.raises(psycopg2.Error):
        run.run(broken, settings, pause=end)
    assert run.run(connection, settings).deleted == {"metrics": 3}


# --- The process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def retention(settings, opened):
    return Retention(settings, opened[1])


def test_it_runs_when_it_is_due_and_not_before(connection, retention):
    execute(connection, OLD, (1,))
    with structlog.testing.capture_logs() as logged:
        assert retention.run_if_due().deleted == {"metrics": 1}
    assert [each["metrics"] for each in logged if each["event"] == "retention.cleaned_up"] == [1]
    assert retention.run_if_due() is None
    execute(connection, "UPDATE retention_run SET tried_at = now() - interval '61 minutes'")
    assert retention.run_if_due() is not None
    execute(connection, "UPDATE retention_run SET tried_at = now() + interval '1 hour'")
    assert retention.run_if_due() is not None, "the clock was set back"


def test_a_run_of_an_earlier_version_counts(connection, retention):
    """It writes `at` alone; see migration 020."""
    execute(connection, "UPDATE retention_run SET at = now(), deleted = '{}', seconds = 1, host = 'x'")
    assert retention.run_if_due() is not None  # it may do once more what was done


def test_nothing_is_deleted_after_the_clock_was_set_forward(connection, retention, monkeypatch):
    execute(connection, OLD, (1,))
    monkeypatch.setattr(retention._clock, "look", lambda _: True)
    assert retention.run_if_due() is None
    monkeypatch.setattr(retention._clock, "look", lambda _: False)
    assert retention.run_if_due() is None
    assert left(connection) == 1


def test_it_waits_for_the_database_and_ends_when_it_is_told_to(own_postgres, tmp_path, monkeypatch):
    monkeypatch.setattr("services.retention.LOOK_INTERVAL_SECONDS", 0.05)
    own_postgres.run("CREATE DATABASE away")
    migrations.apply(own_postgres.dsn("away"))
    settings = settings_in(tmp_path, DATABASE_URL=own_postgres.dsn("away"))
    database = Database(settings.database_dsn, 2)
    retention = Retention(settings, database)
    own_postgres.stop()
    with pytest.raises(DatabaseUnavailable):
        retention.run_if_due()
    retention.start()
    own_postgres.start()
    pool, connection = open_database(settings.database_dsn)
    wait_until(lambda: records.last(connection).tried_seconds is not None, HANG_SECONDS)
    retention.stop()
    retention._thread.join(HANG_SECONDS)
    assert not retention._thread.is_alive()
    connection.close()
    pool.close()
    database.close()


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_dry_run_counts_and_deletes_nothing(tool, connection, environment, database):
    environment(DATABASE_URL=database, OUTBOX_KEEP_DAYS="30")
    execute(connection, OLD, (3,))
    found = tool("clean-up", "--dry-run", "--json").json
    assert {each["kind"]: each["old"] for each in found["rules"] if each["old"]} == {"metrics": 3}
    [messages] = [each for each in found["rules"] if each["kind"] == "messages"]
    assert (messages["kept_days"], messages["setting"]) == (30, "OUTBOX_KEEP_DAYS")
    assert found["last_run"]["tried_seconds"] is None
    assert left(connection) == 3
    shown = tool("clean-up", "--dry-run", width=80)
    assert "it never ran" in shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    assert len(shown.out.splitlines()) < 24
    assert execute(connection, "SELECT tried_at FROM retention_run") == [(None,)]


def test_the_command_deletes_and_says_what(tool, connection, environment, database):
    environment(DATABASE_URL=database)
    execute(connection, OLD, (3,))
    assert "removed 0 old files, 3 metrics" in tool("clean-up").text
    assert left(connection) == 0
    assert tool("clean-up", "--json").json == {"deleted": {}, "failed": {}, "unfinished": False, "old_files": 0}


def test_the_command_names_what_fails_and_another_run(tool, connection, environment, database):
    settings = environment(DATABASE_URL=database)
    execute(connection, "ALTER TABLE wa_command RENAME TO elsewhere")
    assert "commands: relation" in tool("clean-up", code=1).text
    execute(connection, "SELECT pg_advisory_lock(%s)", (run.LOCK_ID,))
    assert "another process is deleting" in tool("clean-up", code=6).text
    assert "removed 0 old files" in tool("cron", "clean-up").text
    assert settings.outbox_keep_days == 90


def test_the_command_needs_the_database_but_old_files_are_removed_first(tool, environment):
    environment(DATABASE_URL="postgresql://bisnes@127.0.0.1:1/bisnes")
    for words in (["clean-up"], ["cron", "clean-up"]):
        said = tool(*words, code=4).text
        assert "removed 0 old files" in said
        assert "PostgreSQL cannot be reached" in said
    assert "PostgreSQL cannot be reached" in tool("clean-up", "--dry-run", code=4).text


@pytest.mark.parametrize("name", ["OUTBOX_KEEP_DAYS", "INBOX_KEEP_DAYS"])
def test_a_wrong_setting_is_named_with_what_is_allowed(tool, connection, environment, database, name, tmp_path):
    execute(connection, OLD, (1,))
    (tmp_path / ".env").write_text(f"{name}=0\nREDIS_URL=redis://127.0.0.1:1\nDATABASE_URL={database}\n")
    for words in (["clean-up", "--dry-run"], ["clean-up"]):
        said = tool(*words, code=3).text
        assert name in said
        assert str(tmp_path / ".env") in said
        assert "or more (" in said
    assert left(connection) == 1


def test_a_process_deletes_nothing_by_a_setting_that_is_refused(connection, opened, database, tmp_path, monkeypatch):
    """Its default may be shorter than the time that was meant."""
    (tmp_path / ".env").write_text(f"OUTBOX_KEEP_DAYS=3650 d\nDATABASE_URL={database}\n")
    found = load_partly(tmp_path / ".env")
    execute(connection, OLD, (1,))
    outcome = Retention(found.with_defaults(), opened[1], found).run_if_due()
    assert outcome.deleted == {"metrics": 1}
    assert "OUTBOX_KEEP_DAYS" in outcome.failed["messages"]
