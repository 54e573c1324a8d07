"""The tool as it is typed, on settings of the test's own; the API on a database of the test's own."""

import io
import json
import sys
from dataclasses import dataclass

import pytest

from bisnesctl.__main__ import main
from bisnesctl.settings import Settings, load
from bisnesctl.terminal import output
from tests.support.api import add_company, settings_for
from tests.support.api import api as serve
from tests.support.outbox import open_database
from tests.support.processes.servers import Postgres, settings_in
from tests.support.web_page import web_sandbox

SECRET_KEY = "0123456789abcdef" * 4


@dataclass
class Said:
    """The output of a command, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def text(self):
        """All of it in one line, as a narrow terminal would have broken it."""
        return " ".join((self.out + self.err).split())


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory):
    """A server of its own, so that a test may freeze it."""
    server = Postgres(settings_in(tmp_path_factory.mktemp("pg"), REDIS_HOST="unused"))
    server.start()
    yield server
    server.remove()


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Sets variables of `.env`; nothing else is set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("BISNES_API_KEY", raising=False)
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / ".env"))

    def write(**variables):
        lines = {"REDIS_URL": "redis://127.0.0.1:1", "ENCRYPTION_KEY": SECRET_KEY} | variables
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        return load()

    return write


@pytest.fixture
def tool(monkeypatch, capsys):
    """Runs `bisnesctl` with these words in a window of `width` columns."""

    def run(*words, given="", code=0, width=200):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        for console in (output.out, output.err):
            console.cache_clear()
        capsys.readouterr()
        ended = main(words)
        said = Said(ended, *capsys.readouterr())
        assert ended == code, said.out + said.err
        return said

    yield run
    for console in (output.out, output.err):
        console.cache_clear()


@pytest.fixture
def opened(database):
    """A connection to a database of the test's own, and the pool for what is tested."""
    pool, connection = open_database(database)
    yield connection, pool
    connection.close()
    pool.close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """The simulators as a process, WhatsApp Web among them."""
    with web_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def api(database, tmp_path):
    """The context and a client of the API on a database with two companies."""
    add_company(database)
    with serve(settings_for(database, tmp_path)) as found:
        yield found


@pytest.fixture
def context(api):
    """The context of the API."""
    return api[0]


@pytest.fixture
def client(api):
    """A client that sends no key by itself."""
    return api[1]


@pytest.fixture
def connection(api):
    """One of the API's connections."""
    with api[0].database.connection() as connection:
        yield connection
