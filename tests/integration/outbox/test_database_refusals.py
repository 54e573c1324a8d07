"""PostgreSQL answers, but cannot store: its disk is full, or it is read-only. Callers get that reason."""

import contextlib
from types import SimpleNamespace

import psycopg2
import pytest
import requests

from bisnesctl import paths
from bisnesctl.database import migrations
from bisnesctl.health import probes
from services.connectors.meta.receiver import PATH, SIGNATURE_HEADER, Receiver, sign
from services.database import error_reasons
from services.database.connection import Database, DatabaseUnavailable
from services.outbox.accept import Acceptor
from tests.support.api import KEY, Quiet, add_company, serving, settings_for
from tests.support.api import api as serve
from tests.support.outbox import accept, add_bot, entry, execute
from tests.support.processes.disks import mounts, small_disk
from tests.support.processes.servers import Postgres, settings_in
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS

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
            assert (answer.status_code, answer.get_json()["code"]) == (503, "database_unavailable")
            assert "its disk is full (SQLSTATE 53100)" in answer.get_json()["error"]
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "53100" in ready.get_json()["error"]
        webhooks = Receiver(settings_for(dsn, tmp_path), Database(dsn), SimpleNamespace(notify=lambda queue: None))
        ready = webhooks.test_client().get("/health/ready")
        assert ready.status_code == 503
        assert "53100" in ready.get_json()["error"]
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
            assert (answer.status_code, answer.get_json()["code"]) == (503, "database_unavailable")
            assert "read-only" in answer.get_json()["error"]
            assert "25006" in answer.get_json()["error"]
        assert client.get("/health/ready").status_code == 503
        assert "cannot store" in probes.postgres(database).reason
        postgres.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert send(client).status_code == 202
        # A connection that was opened in the meantime stays read-only; the first that is met replaces all the others.
        eventually(lambda: client.get("/health/ready").status_code == 200)
        assert [client.get("/health/ready").status_code for _ in range(20)] == [200] * 20


@contextlib.contextmanager
def refusing(dsn, table, sqlstate, when="true"):
    """PostgreSQL answers each INSERT into a table with this SQLSTATE if the row matches `when`."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        execute(
            connection,
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{sqlstate}'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()""",
        )
        yield
        execute(connection, f"DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()")


#: SQLSTATEs by which PostgreSQL says that it cannot serve now, and what callers read.
SQLSTATES = pytest.mark.parametrize(
    ("sqlstate", "reason"), [("25006", "read-only"), ("53100", "its disk is full"), ("XX001", "its data are damaged")]
)


@SQLSTATES
def test_every_refusal_of_a_message_is_a_503_with_its_reason(database, tmp_path, sqlstate, reason):
    add_company(database)
    settings = settings_for(database, tmp_path)
    with serve(settings) as (_, client), serving(settings) as url, refusing(database, "outbox", sqlstate):
        answer = requests.post(url + SEND, json={"message": "Hello"}, headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS)
        for status, body in ((answer.status_code, answer.json()), ((old := send(client)).status_code, old.json)):
            assert (status, body["code"]) == (503, "database_unavailable"), body
            assert reason in body["error"]


@SQLSTATES
def test_every_refusal_of_a_webhook_is_a_503_with_its_reason(database, tmp_path, sqlstate, reason):
    settings = settings_for(database, tmp_path, META_APP_SECRET="s")
    client = Receiver(settings, Database(database), SimpleNamespace(notify=lambda queue: None)).test_client()
    with refusing(database, "webhook_inbox", sqlstate):
        answer = client.post(PATH, data=b"{}", headers={SIGNATURE_HEADER: sign("s", b"{}")})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "database_unavailable"), answer.json
    assert reason in answer.get_json()["error"]


@pytest.fixture
def connection(database):
    with contextlib.closing(Database(database)) as pool, pool.connection() as connection:
        yield connection


@pytest.fixture
def doubtful(connection, database):
    """An acceptor, and a message that it stored although its caller got an error."""
    with contextlib.closing(Database(database)) as pool, contextlib.closing(Acceptor(pool, Quiet(), 20)) as intake:
        lost = entry(add_bot(connection), "60111111111")
        accept(connection, lost)
        intake._in_doubt[lost.message_id] = lost
        yield intake, lost


def texts(connection):
    return [text for (text,) in execute(connection, "SELECT payload ->> 'message' FROM outbox ORDER BY id")]


def test_a_message_that_cannot_be_withdrawn_holds_up_no_other(connection, database, doubtful):
    intake, lost = doubtful
    with contextlib.closing(psycopg2.connect(database)) as other:
        execute(other, "SELECT FROM lane WHERE chat_id = %s FOR UPDATE", (lost.chat_id,))
        for number in range(3):
            intake.accept(entry(lost.bot_id, "60222222222", f"beside {number}")).result(HANG_SECONDS)
        assert set(intake._in_doubt) == {lost.message_id}
        assert texts(connection) == [lost.payload["message"], "beside 0", "beside 1", "beside 2"]
    eventually(lambda: not intake._in_doubt)
    assert texts(connection) == ["beside 0", "beside 1", "beside 2"]


def test_a_message_stays_in_doubt_on_a_read_only_server_and_others_are_refused_with_the_reason(
    connection, database, postgres, doubtful
):
    intake, lost = doubtful
    name = execute(connection, "SELECT current_database()")[0][0]
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    for _ in range(2):
        refused = intake.accept(entry(lost.bot_id, "60222222222", "refused")).exception(HANG_SECONDS)
        assert isinstance(refused, DatabaseUnavailable)
        assert "25006" in str(error_reasons.why(refused))
    assert lost.message_id in intake._in_doubt
    postgres.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    eventually(lambda: not intake._in_doubt)
    assert texts(connection) == []


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
    assert f"(SQLSTATE {code})" in str(error_reasons.why(error))


def test_an_unknown_error_has_no_reason():
    assert error_reasons.why(DatabaseUnavailable("PostgreSQL did not answer within 3 s")) is None
    with pytest.raises(DatabaseUnavailable) as raised, Database("postgresql://x@127.0.0.1:1/x").connection():
        pass
    assert error_reasons.why(raised.value) is None
