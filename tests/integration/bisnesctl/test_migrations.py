"""Migrations on real databases: from empty, from the old system's, again, side by side, and failing."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from bisnesctl.database import migrations
from bisnesctl.errors import ConfigError, DatabaseUnavailable, MigrationError
from bisnesctl.paths import shipped_folder
from tests.support.database_catalogue import catalogue, run
from tests.support.waiting import HANG_SECONDS

SQL = shipped_folder("sql")
LEGACY = (SQL / "001_legacy.sql").read_text()
ISOLATION = (SQL / "002_process_isolation.sql").read_text()
NAMES = [each.name for each in migrations.available()]

ROWS = """
INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id, status) VALUES
    ('0128', 0, 'wwebjs', NULL, 'ready'), ('0128', 1, NULL, NULL, 'pending'),
    ('0128', 2, 'meta_direct', '77', 'active'),
    ('0200', 0, 'meta_embedded', '78', 'active'), ('0200', 1, '360dialog', NULL, 'disabled');
INSERT INTO phone_status (company_id, phone_index, connection_type, status) VALUES
    ('0128', '0', NULL, 'ready'), ('0128', '2', 'meta_direct', 'active');
INSERT INTO messages (message_id, company_id, contact_id, content, external_id) VALUES
    ('m1', '0128', '0128-60123456789', 'hello', 'wamid.1');
INSERT INTO contacts (contact_id, company_id, name) VALUES ('0128-60123456789', '0128', 'Aina');
"""

PROCESSES = "SELECT company_id, phone_index::text, process_name FROM {} ORDER BY 1, 2"


@pytest.fixture
def legacy(empty_database: str) -> str:
    """A database of the old system with rows in it."""
    run(empty_database, LEGACY)
    run(empty_database, ROWS)
    return empty_database


def write(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return path


def test_migrating_an_empty_database_works_and_repeats_without_changes(empty_database: str) -> None:
    assert migrations.pending(empty_database) == NAMES
    assert migrations.apply(empty_database) == NAMES
    before = catalogue(empty_database)
    assert migrations.apply(empty_database) == []
    assert migrations.pending(empty_database) == []
    assert catalogue(empty_database) == before


def test_schema_sql_equals_all_migrations(empty_database: str, database: str) -> None:
    run(empty_database, (SQL / "schema.sql").read_text())
    assert catalogue(empty_database) == catalogue(database)


def test_a_database_of_the_old_system_keeps_its_rows(legacy: str) -> None:
    assert migrations.apply(legacy) == NAMES
    assert run(legacy, PROCESSES.format("phone_configs")) == [
        ("0128", "0", "wwebjs"),
        ("0128", "1", "wwebjs"),
        ("0128", "2", "meta"),
        ("0200", "0", "meta"),
        ("0200", "1", "meta"),
    ]
    assert run(legacy, PROCESSES.format("phone_status")) == [("0128", "0", "wwebjs"), ("0128", "2", "meta")]
    assert run(legacy, "SELECT content, external_id FROM messages") == [("hello", "wamid.1")]
    assert run(legacy, "SELECT name FROM contacts") == [("Aina",)]
    assert run(legacy, "SELECT count(*) FROM bot_pace JOIN phone_configs c ON c.id = bot_id") == [(5,)]


def test_a_database_of_the_old_system_gets_the_same_schema(legacy: str, database: str) -> None:
    migrations.apply(legacy)
    assert catalogue(legacy) == catalogue(database)


def test_the_isolation_may_be_run_by_hand_at_any_time(database: str, legacy: str) -> None:
    run(legacy, ISOLATION)  # first by hand, on the old database
    run(legacy, ISOLATION)
    assert migrations.apply(legacy) == NAMES
    run(legacy, "UPDATE phone_configs SET process_name = 'meta' WHERE connection_type IS NULL")
    run(legacy, ISOLATION)  # and again afterwards, which also mends what was set wrongly
    assert run(legacy, "SELECT process_name FROM phone_configs WHERE connection_type IS NULL") == [("wwebjs",)]
    assert catalogue(legacy) == catalogue(database)


def test_unverified_ids_are_verified_again(empty_database: str, tmp_path: Path) -> None:
    for name in NAMES[:5]:
        (tmp_path / f"{name}.sql").write_text((SQL / f"{name}.sql").read_text())
    migrations.apply(empty_database, path=tmp_path)
    run(
        empty_database,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id, meta_waba_id)"
        " VALUES ('1', 0, 'wwebjs', '7', '8'), ('1', 1, '360dialog', '7', '9'), ('1', 2, '360dialog', '5', '8'),"
        " ('1', 3, '360dialog', '5', '6'), ('2', 4, 'meta_direct', '7', '8');"
        "INSERT INTO bot_check (bot_id, due) SELECT id, 'infinity' FROM phone_configs;"
        "INSERT INTO wa_session (bot_id, own_number, caught_up_for) VALUES (1, NULL, '601'), (4, '602', '603')",
    )
    migrations.apply(empty_database)
    run(empty_database, (SQL / "006_identity.sql").read_text())  # again by hand
    found = run(empty_database, "SELECT meta_phone_number_id, meta_waba_id FROM phone_configs ORDER BY phone_index")
    assert found == [(None, None), (None, None), (None, None), ("5", "6"), ("7", "8")]
    due = run(empty_database, "SELECT due <= now() FROM bot_check ORDER BY bot_id")
    assert due == [(False,), (True,), (True,), (True,), (True,)]
    assert run(empty_database, "SELECT bound_number FROM wa_session ORDER BY bot_id") == [("601",), ("602",)]


def test_a_pause_that_a_company_made_before_stays_its_own(empty_database: str, tmp_path: Path) -> None:
    for name in [each for each in NAMES if each < "030"]:
        (tmp_path / f"{name}.sql").write_text((SQL / f"{name}.sql").read_text())
    migrations.apply(empty_database, path=tmp_path)
    run(
        empty_database,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('1', 0, 'meta_direct'),"
        " ('1', 1, 'meta_direct'), ('1', 2, 'meta_direct'), ('1', 3, 'meta_direct');"
        "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES ('a', 'own', '1'), ('b', 'operators', NULL);"
        "UPDATE bot_pace SET paused_at = now(), paused_until = 'infinity', paused_by = (ARRAY['key own…',"
        " 'key operators…', 'alice', NULL])[phone_index + 1] FROM phone_configs WHERE id = bot_id",
    )
    migrations.apply(empty_database)
    found = run(empty_database, "SELECT paused_by_company FROM bot_pace ORDER BY bot_id")
    assert found == [(True,), (False,), (False,), (False,)]


def test_an_earlier_form_of_the_view_is_replaced(legacy: str, database: str) -> None:
    run(legacy, ISOLATION)
    run(
        legacy,
        "DROP VIEW v_process_health_overview;"
        "CREATE VIEW v_process_health_overview AS SELECT process_name, 'down' AS computed_status FROM process_health",
    )
    migrations.apply(legacy)
    assert catalogue(legacy)["views"] == catalogue(database)["views"]


def test_the_view_keeps_the_rights_that_were_given_on_it(postgres, database: str) -> None:
    run(database, "DROP ROLE IF EXISTS reader; CREATE ROLE reader; GRANT SELECT ON v_process_health_overview TO reader")
    try:
        run(database, ISOLATION)
        assert run(database, "SELECT has_table_privilege('reader', 'v_process_health_overview', 'select')") == [(True,)]
    finally:
        run(database, "DROP OWNED BY reader; DROP ROLE reader")


def test_a_second_migration_process_waits_for_the_first(empty_database: str) -> None:
    said: list[str] = []
    waits = threading.Event()

    def report(line: str) -> None:
        said.append(line)
        waits.set()

    with contextlib.closing(psycopg2.connect(empty_database)) as first, ThreadPoolExecutor() as pool:
        with first.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (migrations.ADVISORY_LOCK,))
        second = pool.submit(migrations.apply, empty_database, report=report)
        assert waits.wait(HANG_SECONDS)
        assert "waiting" in said[0]
        assert run(empty_database, "SELECT to_regclass('schema_migrations')") == [(None,)]
        with first.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (migrations.ADVISORY_LOCK,))
        assert second.result(60) == NAMES


def test_concurrent_processes_apply_each_migration_once(empty_database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrations.apply(empty_database), range(4)))
    assert sorted(applied) == [[], [], [], NAMES]
    assert run(empty_database, "SELECT name FROM schema_migrations ORDER BY version") == [(name,) for name in NAMES]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("CREATE TABLE b (n int);\n\n-- why\nINSERT INTO b\nVALUES (1 / 0);", "line 4: division by zero"),
        ("CREATE TABLE b (n int);\n\nSELECT\n  nothing;", 'line 4: column "nothing" does not exist'),
        ("CREATE TABLE b (n int);\nCREATE TABLE b (n int);", 'line 2: relation "b" already exists'),
        ("CREATE TABLE b (n int);\n;SELEC 1;", 'line 2: syntax error at or near "SELEC"'),
    ],
)
def test_a_failed_migration_leaves_no_traces(empty_database: str, tmp_path: Path, broken: str, reason: str) -> None:
    path = write(tmp_path, **{"001_a": "CREATE TABLE a (n int);", "002_b": broken, "003_c": "CREATE TABLE c (n int);"})
    with pytest.raises(MigrationError, match=r"002_b\.sql") as error:
        migrations.apply(empty_database, path=path)
    assert reason in str(error.value)
    assert run(empty_database, "SELECT to_regclass('a')::text, to_regclass('b'), to_regclass('c')") == [
        ("a", None, None)
    ]
    write(tmp_path, **{"002_b": "CREATE TABLE b (n int);"})
    assert migrations.apply(empty_database, path=path) == ["002_b", "003_c"]


def test_a_locked_table_is_waited_for_with_a_timeout(legacy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "TABLE_LOCK_TIMEOUT_SECONDS", 0.2)
    with contextlib.closing(psycopg2.connect(legacy)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE phone_status")
        with pytest.raises(
            MigrationError, match=r"002_process_isolation\.sql, line \d+: .*locked.* run `bisnesctl migrate`"
        ):
            migrations.apply(legacy)
    assert migrations.pending(legacy) == NAMES[1:]
    assert migrations.apply(legacy) == NAMES[1:]


def _other_ends_of_deadlocks(dsn: str, times: int, ready: threading.Event, stop: threading.Event) -> None:
    """Each has `b`, and one after the other wants `a` as soon as somebody waits; another one is the victim."""
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(contextlib.closing(psycopg2.connect(dsn, options="-c deadlock_timeout=100s")))
            for _ in range(times)
        ]
        for other in others:
            other.cursor().execute("SELECT * FROM b")
        ready.set()
        for other in others:
            while not stop.is_set() and not run(dsn, waits):
                stop.wait(0.01)
            other.cursor().execute("SELECT * FROM a")
            other.rollback()


def _deadlocks(dsn: str, tmp_path: Path, times: int) -> list[str]:
    """The reports of a migration that meets this number of deadlocks."""
    path = write(tmp_path, **{"001_a": "CREATE TABLE a (n int); CREATE TABLE b (n int);"})
    migrations.apply(dsn, path=path)
    write(tmp_path, **{"002_b": "ALTER TABLE a ADD COLUMN m int;\nALTER TABLE b ADD COLUMN m int;"})
    said: list[str] = []
    ready, stop = threading.Event(), threading.Event()
    other = threading.Thread(target=_other_ends_of_deadlocks, args=(dsn, times, ready, stop))
    other.start()
    try:
        assert ready.wait(HANG_SECONDS)
        patient = psycopg2.extensions.make_dsn(dsn, options="-c deadlock_timeout=3s")
        migrations.apply(patient, path=path, report=said.append)
    finally:
        stop.set()
        other.join(HANG_SECONDS)
    return said


def test_a_deadlock_with_a_running_program_is_tried_again(empty_database: str, tmp_path: Path) -> None:
    said = _deadlocks(empty_database, tmp_path, 1)
    assert len(said) == 2
    assert "002_b.sql and a running program waited for each other's tables (attempt 1)" in said[1]
    assert run(empty_database, "SELECT m FROM a UNION ALL SELECT m FROM b") == []


def test_endless_deadlocks_are_an_error(empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "DEADLOCK_ATTEMPTS", 2)
    with pytest.raises(MigrationError, match=r"002_b\.sql: deadlock detected 2 times.* run `bisnesctl migrate` again"):
        _deadlocks(empty_database, tmp_path, 2)
    assert migrations.pending(empty_database, tmp_path) == ["002_b"]


def test_a_file_that_was_changed_after_it_was_applied_is_reported(empty_database: str, tmp_path: Path) -> None:
    path = write(tmp_path, **{"001_a": "CREATE TABLE a (n int);"})
    migrations.apply(empty_database, path=path)
    write(tmp_path, **{"001_a": "CREATE TABLE a (n bigint);"})
    said: list[str] = []
    assert migrations.apply(empty_database, path=path, report=said.append) == []
    assert "001_a.sql was changed" in said[0]
    assert [state.changed for state in migrations.status(empty_database, path)] == [True]


def test_an_unavailable_server_is_reported_with_the_next_step() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"cannot be reached.*DATABASE_URL"):
        migrations.apply("postgresql://127.0.0.1:1/nowhere")


def test_an_invalid_url_is_reported_without_its_password() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL") as error:
        migrations.status("postgres//me:secret@host/name")
    assert "secret" not in str(error.value)


def test_a_user_without_permission_is_reported(postgres, empty_database: str) -> None:
    run(empty_database, "DROP ROLE IF EXISTS nobody_much; CREATE ROLE nobody_much LOGIN")
    try:
        with pytest.raises(ConfigError, match="DATABASE_URL"):
            migrations.apply(empty_database.replace("user=bisnes", "user=nobody_much"))
    finally:
        run(empty_database, "DROP OWNED BY nobody_much; DROP ROLE nobody_much")
