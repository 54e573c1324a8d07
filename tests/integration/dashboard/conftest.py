"""The dashboard's application on a database of the test's own, and people of each role."""

import contextlib
from dataclasses import dataclass
from html import unescape
from re import search

import psycopg2
import pytest
from werkzeug.test import Client, TestResponse

from bisnesctl.people import passwords
from bisnesctl.people.roles import Role
from bisnesctl.people.store import PeopleStore
from bisnesctl.settings import load
from services.dashboard.app import Dashboard
from services.database.connection import Database
from tests.support.api import OPERATOR_KEY, add_company, serving, settings_for

PASSWORD = "correct horse battery"
HOST = "http://127.0.0.1:3004"


@pytest.fixture(scope="session")
def password_hash():
    return passwords.hash_of(PASSWORD)


@dataclass
class Visitor:
    """A person at a browser."""

    client: Client
    token: str = ""

    def get(self, path, **headers):
        return self.client.get(path, base_url=HOST, headers=headers)

    def post(self, path, headers=None, with_token=True, **form):
        """Sends a form, with the token of the pages that this person sees."""
        known = {"csrf": self.csrf()} if with_token and self.token else {}
        return self.client.post(path, base_url=HOST, data=known | form, headers=headers or {})

    def csrf(self):
        return search(r'name="csrf" value="([0-9a-f]+)"', self.text("/ui/account")).group(1)

    def form_name(self, path):
        """The name of the form in a page."""
        return search(r'name="key" value="([0-9a-f]+)"', self.text(path)).group(1)

    def text(self, path):
        return unescape(self.get(path).text)


@pytest.fixture
def settings(environment, database, tmp_path):
    (tmp_path / "var").mkdir()
    environment(DATABASE_URL=database)
    return load()


@pytest.fixture
def api(settings, environment, tmp_path, monkeypatch):
    """The API on the same database, with two companies and the operator's key in the settings of the dashboard."""
    add_company(settings.database_dsn)
    (tmp_path / "api").mkdir()
    key = settings.encryption_key.get_secret_value()
    own = settings_for(settings.database_dsn, tmp_path / "api", MEDIA_PATH=str(tmp_path / "media"), ENCRYPTION_KEY=key)
    with serving(own) as url:
        port = url.rpartition(":")[2]
        environment(DATABASE_URL=settings.database_dsn, API_PORT=port, OPERATOR_KEY=OPERATOR_KEY)
        yield url


@pytest.fixture
def rows(settings):
    """Runs a statement in the database; returns its rows."""

    def run(statement, values=()):
        with (
            contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def people(settings):
    return PeopleStore(settings.home)


@pytest.fixture
def app(settings, people):
    return Dashboard(settings, Database(settings.database_dsn, 2), people)


@pytest.fixture
def visitor(app):
    """Nobody who is signed in."""
    return Visitor(Client(app, TestResponse))


@pytest.fixture
def signed_in(app, people, password_hash):
    """Signs a new person in; returns the visitor."""

    def enter(role=Role.ADMINISTRATOR, company=None, name=None):
        known = name or f"{role}{company or ''}"
        people.accept(people.add(known, role, company), password_hash)
        made = Visitor(Client(app, TestResponse), people.begin(known, "127.0.0.1", "test"))
        made.client.set_cookie("__Host-bisnes", made.token, domain="127.0.0.1", secure=True)
        made.client.set_cookie("__Host-bisnes", made.token, domain="127.0.0.1")
        return made

    return enter
