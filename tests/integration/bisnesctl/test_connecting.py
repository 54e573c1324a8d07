"""The way to PostgreSQL: options of the URL, encodings, poolers; the same for the tool and the services."""

import contextlib
from urllib.parse import quote

import pytest

from bisnesctl.database import pooler, postgres, statement_deadline
from bisnesctl.database.statement_deadline import UnsuitableServer
from bisnesctl.errors import ConfigError, DatabaseUnavailable
from bisnesctl.health import probes
from services.database.connection import Database, query_value
from tests.support.processes.pooler import Pooler

SECONDS = 30


@pytest.fixture
def pooled(own_postgres, request):
    """A pooler in the mode of the test's parameter."""
    found = Pooler(own_postgres._sockets, request.param)
    yield found
    found.close()


def service_session(dsn, name):
    """A setting of a service's pooled connection."""
    with contextlib.closing(Database(dsn)) as database, database.connection() as connection:
        return query_value(connection, "SELECT current_setting(%s)", (name,))


def tool_session(dsn, name):
    """The same of a connection of the tool."""
    with postgres.connected(dsn, timeout=SECONDS) as connection:
        return postgres.query(connection, "SELECT current_setting(%s)", (name,))[0][0]


@pytest.mark.parametrize("session", [service_session, tool_session])
@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("-c search_path=bots", "search_path", "bots"),
        ("-csearch_path=bots,public", "search_path", "bots,public"),
        ("--search-path=bots", "search_path", "bots"),
        (r"-c bisnes.note=a\ b\\c", "bisnes.note", r"a b\c"),
        ("-c work_mem=9MB -c search_path=bots", "work_mem", "9MB"),
    ],
)
def test_options_of_the_url_count_everywhere(own_postgres, session, options, name, value):
    dsn = f"{own_postgres.dsn()}&options={quote(options, safe='')}"
    assert session(dsn, name) == value


def test_options_of_the_environment_count_too(own_postgres, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c search_path=bots")
    assert service_session(own_postgres.dsn(), "search_path") == "bots"
    assert tool_session(own_postgres.dsn(), "search_path") == "bots"


def test_an_option_that_the_server_refuses_is_named(own_postgres):
    dsn = f"{own_postgres.dsn()}&options=-c%20no_such_option%3D1"
    with pytest.raises(ConfigError, match="no_such_option"), postgres.connected(dsn):
        pass
    with pytest.raises(UnsuitableServer, match="no_such_option"):
        statement_deadline.connect(dsn, SECONDS, SECONDS)


def test_services_connect_with_their_own_settings(own_postgres):
    assert service_session(own_postgres.dsn(), "jit") == "off"
    assert service_session(own_postgres.dsn(), "statement_timeout") == "10s"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_store_every_message_is_refused(own_postgres, encoding):
    name = f"encoded_{encoding.lower()}"
    own_postgres.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    dsn = own_postgres.dsn(name)
    with pytest.raises(ConfigError, match=rf"encoding {encoding}.*ENCODING 'UTF8'"), postgres.connected(dsn):
        pass
    assert encoding in probes.postgres(own_postgres.dsn(name), SECONDS).reason


def test_the_encoding_of_the_client_is_ours(own_postgres, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with postgres.connected(f"{own_postgres.dsn()}&client_encoding=latin1", timeout=SECONDS) as connection:
        assert postgres.query(connection, "SELECT %s::text", ("👍",)) == [("👍",)]


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_a_pooler_of_sessions_works_as_the_server_does(pooled):
    dsn = pooled.dsn("bisnes", "?options=-csearch_path%3Dbots")
    pooler.check(dsn, SECONDS)
    assert service_session(dsn, "search_path") == tool_session(dsn, "search_path") == "bots"
    assert service_session(dsn, "jit") == "off"
    assert probes.postgres(dsn, SECONDS, embedded=False).healthy


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_behind_a_pooler_a_connection_knows_the_process_of_its_server(pooled):
    with contextlib.closing(Database(pooled.dsn("bisnes"))) as database, database.connection() as connection:
        assert query_value(connection, "SELECT pg_backend_pid()") == connection.server_pid


@pytest.mark.parametrize("pooled", ["transaction", "statement"], indirect=True)
def test_a_pooler_of_transactions_is_refused_in_words(pooled, environment, tool):
    dsn = pooled.dsn("bisnes")
    with pytest.raises(UnsuitableServer, match="pool_mode = session"):
        pooler.check(dsn, SECONDS)
    assert "pool_mode = session" in probes.postgres(dsn, SECONDS, embedded=False).reason
    environment(DATABASE_URL=dsn)
    assert "pool_mode = session" in tool("migrate", code=3).err


def test_a_server_without_a_pooler_is_no_pooler(own_postgres):
    pooler.check(own_postgres.dsn(), SECONDS)


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "p?s@s", "p#ss@", "p%ss"])
def test_a_password_that_must_be_encoded_is_explained_and_not_repeated(password):
    dsn = f"postgresql://bisnes:{password}@127.0.0.1:1/bisnes"
    with pytest.raises((ConfigError, DatabaseUnavailable)) as caught, postgres.connected(dsn):
        pass
    assert "%40" in str(caught.value)
    assert password not in str(caught.value)


def test_an_encoded_password_is_not_suspected():
    dsn = "postgresql://bisnes:p%40ss@127.0.0.1:1/bisnes"
    with pytest.raises(DatabaseUnavailable, match="refused"), postgres.connected(dsn):
        pass
