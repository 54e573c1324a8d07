"""PostgreSQL answers, but cannot store: its disk is full, or it is read-only. Whoever asks is told so."""

import contextlib
from types import SimpleNamespace

import psycopg2
import pytest

from bisnesctl import paths
from bisnesctl.database import migrations
from bisnesctl.health import probes
from services.connectors.meta.receiver import create_app
from services.database import error_reasons
from services.database.connection import Database, DatabaseUnavailable
from tests.support.api import KEY, add_company, settings_for
from tests.support.api import api as serve
from tests.support.processes.disks import mounts, small_disk
from tests.support.processes.servers import Postgres, settings_in

SEND = "/api/v2/messages/text/0128/60123456789"


@pytest.fixture
def full(tmp_path):
    """A PostgreSQL of which all data is on a small disk: its URL and the disk."""
    settings = settings_in(tmp_path, REDIS_HOST="unused", BISNES_HOME=str(tmp_path / "var"))
    data = paths.postgres_data(settings.server_home)
    with small_disk(settings.server_home, megabytes=160) as disk:
        server = Postgres(settings)
        server.start()
        try:
            assert data.is_dir()
            migrations.apply(server.dsn())
            add_company(server.dsn())
            yield server.dsn(), disk
        finally:
            server.stop()


def send(client, text="Hello"):
    return client.post(SEND, json={"message": text}, headers={"X-Api-Key": KEY})


@mounts
def test_a_full_disk_of_postgresql_is_reported_to_callers(full, tmp_path, monkeypatch):
    monkeypatch.setattr("services.database.write_test.WRITE_TEST_VALID_SECONDS", 0.0)
    dsn, disk = full
    with serve(settings_for(dsn, tmp_path)) as (_, client):
        assert send(client).status_code == 202
        assert client.get("/health/ready").status_code == 200
        disk.fill()
        answers = [send(client, "x" * 4000) for _ in range(100)]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert refused
        for answer in refused:
            assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
            assert "its disk is full (SQLSTATE 53100)" in answer.json["error"]
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "53100" in ready.json["error"]
        webhooks = create_app(settings_for(dsn, tmp_path), Database(dsn), SimpleNamespace(notify=lambda queue: None))
        ready = webhooks.test_client().get("/health/ready")
        assert ready.status_code == 503
        assert "53100" in ready.json["error"]
        health = probes.postgres(dsn)
        assert not health.healthy
        assert "cannot store" in health.reason
        disk.free()
        assert send(client).status_code == 202
        assert client.get("/health/ready").status_code == 200
        assert probes.postgres(dsn).healthy


def test_a_read_only_server_is_reported_and_used_again_later(database, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr("services.database.write_test.WRITE_TEST_VALID_SECONDS", 0.0)
    add_company(database)
    name = database.split("/")[3].split("?")[0]
    with serve(settings_for(database, tmp_path)) as (_, client):
        assert send(client).status_code == 202
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                     f" AND datname = '{name}'")  # fmt: skip
        for answer in (send(client), send(client)):
            assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
            assert "read-only" in answer.json["error"]
            assert "25006" in answer.json["error"]
        assert client.get("/health/ready").status_code == 503
        assert "cannot store" in probes.postgres(database).reason
        postgres.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert send(client).status_code == 202
        assert client.get("/health/ready").status_code == 200


def test_a_user_who_may_make_no_temporary_tables_is_served(database, postgres):
    name = database.split("/")[3].split("?")[0]
    postgres.run(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    postgres.run("CREATE ROLE no_temp LOGIN")
    assert probes.postgres(database.replace("user=bisnes", "user=no_temp")).healthy
    postgres.run("DROP ROLE no_temp")


def test_the_write_test_leaves_nothing(database):
    for _ in range(3):
        assert probes.postgres(database).healthy
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname = 'bisnes_write_test'")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(("said", "code"), [
    ('FATAL:  sorry, too many clients already', "53300"),
    ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "53300"),
    ("FATAL:  the database system is starting up", "57P03"),
    ("FATAL:  the database system is shutting down", "57P01"),
    ('FATAL:  could not write init file: No space left on device', "53100"),
])  # fmt: skip
def test_a_refused_connection_ends_as_broken_and_not_handed_over(said, code):
    error = DatabaseUnavailable(said)
    error.__cause__ = psycopg2.OperationalError(said)
    assert f"(SQLSTATE {code})" in error_reasons.why(error)


def test_an_unknown_error_has_no_reason():
    assert error_reasons.why(DatabaseUnavailable("PostgreSQL did not answer within 3 s")) is None
    with pytest.raises(DatabaseUnavailable) as raised, Database("postgresql://x@127.0.0.1:1/x").connection():
        pass
    assert error_reasons.why(raised.value) is None
