"""`bisnesctl doctor` with real servers: what it finds, its exit code, and that it changes nothing."""

import contextlib
import time

import psycopg2
import pytest

from bisnesctl.doctor import runner, table
from bisnesctl.doctor.finding import Level
from bisnesctl.doctor.subject import Subject


def levels(said):
    """The levels of the findings by the names of the checks."""
    return {each["name"]: each["level"] for each in said.json["checks"]}


def finding(said, name):
    return next(each for each in said.json["checks"] if each["name"] == name)


@pytest.fixture
def environment(environment, tmp_path):
    """The same with a private file, as `init` writes it."""

    def write(**variables):
        found = environment(**variables)
        (tmp_path / ".env").chmod(0o600)
        return found

    (tmp_path / ".env").touch(mode=0o600)
    return write


@pytest.fixture
def on_servers(environment, database, redis_server):
    """The settings of a deployment with a migrated database and Redis, in the sandbox."""
    few = {"API_INSTANCES": 1, "META_INSTANCES": 1, "MAX_SESSIONS": 1}
    pools = dict.fromkeys(("DATABASE_POOL_API_MAX", "DATABASE_POOL_META_MAX", "DATABASE_POOL_WWEBJS_MAX"), 1)
    return environment(DATABASE_URL=database, REDIS_URL=redis_server.url, SANDBOX="true", **few, **pools)


def test_suitable_servers_pass(on_servers, tool):
    found = levels(tool("doctor", "postgresql", "redis", "--json"))
    assert {name: level for name, level in found.items() if level != "ok"} == {}


def test_nothing_is_changed(on_servers, tool, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    tool("doctor", "postgresql", "redis", "setup")
    assert sorted(tmp_path.rglob("*")) == before


def test_pending_migrations_are_an_error_with_the_command(environment, empty_database, tool):
    environment(DATABASE_URL=empty_database)
    said = tool("doctor", "postgresql", "--json", code=3)
    assert finding(said, "postgresql.migrations")["fix"] == "bisnesctl migrate"
    assert levels(said)["postgresql.encoding"] == "ok"


def test_a_database_with_another_encoding_is_an_error(environment, empty_database, tool):
    name, _, rest = empty_database.partition("?")
    base = name.rpartition("/")[0]
    with contextlib.closing(psycopg2.connect(empty_database)) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    try:
        environment(DATABASE_URL=f"{base}/ascii?{rest}")
        said = tool("doctor", "postgresql.encoding", "postgresql.answers", "--json", code=3)
        assert "UTF8" in f"{said.json}"
    finally:
        with contextlib.closing(psycopg2.connect(empty_database)) as connection:
            connection.autocommit = True
            connection.cursor().execute("DROP DATABASE ascii WITH (FORCE)")


def test_a_user_without_privileges_is_an_error(environment, database, tool):
    with contextlib.closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("DROP ROLE IF EXISTS weak")
        cursor.execute("CREATE ROLE weak LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        separator = "&" if "?" in database else "?"
        environment(DATABASE_URL=f"{database}{separator}options=-c%20role%3Dweak")
        said = tool("doctor", "postgresql.privileges", "--json", code=3)
        assert "GRANT CREATE ON SCHEMA public" in finding(said, "postgresql.privileges")["fix"]
    finally:
        with contextlib.closing(psycopg2.connect(database)) as connection:
            connection.autocommit = True
            connection.cursor().execute("DROP OWNED BY weak; DROP ROLE weak")


def test_another_encryption_key_than_that_of_the_credentials_is_an_error(environment, database, tool):
    environment(DATABASE_URL=database)
    tool(
        "bots",
        "add",
        "--company",
        "0128",
        "--phone",
        "0",
        "--phone-number-id",
        "1",
        "--no-verify",
        "--token-stdin",
        given="EAAx\n",
    )
    environment(DATABASE_URL=database, ENCRYPTION_KEY="f" * 64)
    said = tool("doctor", "postgresql.credentials", "--json", code=3)
    assert "is not the key of the stored credentials" in finding(said, "postgresql.credentials")["found"]


def test_a_clock_that_is_wrong_is_reported(on_servers, monkeypatch):
    clock = time.time
    for seconds, level in ((0, Level.OK), (5, Level.WARNING), (-3600, Level.ERROR)):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: clock() + seconds)
        (result,) = runner.run(table.choose(["postgresql.clock"], False), Subject(on_servers))
        assert result.finding.level is level, result.finding
        monkeypatch.undo()


def test_servers_that_are_away_end_with_the_code_of_their_kind(environment, tool):
    environment(DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x", REDIS_URL="redis://:secret@127.0.0.1:1")
    said = tool("doctor", "postgresql", "redis", code=4)
    assert "secret" not in said.out + said.err
    assert "PostgreSQL does not answer" in said.text
    assert "2 errors" in said.text


def test_refused_settings_are_findings(environment, tool, tmp_path):
    environment()
    with (tmp_path / ".env").open("a") as file:
        file.write("API_PORT=none\n")
    said = tool("doctor", "setup", "--json", code=3)
    assert "API_PORT" in finding(said, "setup.settings")["found"]


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_ends_with_what_needs_work(environment, tool, width):
    environment(DATABASE_URL="postgresql://127.0.0.1:1/x", SANDBOX="true")
    lines = tool("doctor", "postgresql", "setup", code=4, width=width).out.rstrip().splitlines()
    assert max(map(len, lines)) <= width
    assert "error" in lines[-1]
    assert "should be:" in " ".join(lines[-12:])


def test_warnings_fail_only_with_strict(environment, tool):
    environment(SANDBOX="true", WA_JS_PATH=__file__)
    tool("doctor", "web.wa-js")
    assert levels(tool("doctor", "web.wa-js", "--strict", "--json", code=5)) == {"web.wa-js": "warning"}


def test_unknown_checks_are_a_usage_error(environment, tool):
    environment()
    assert "there is no check nonsense" in tool("doctor", "nonsense", code=2).err
