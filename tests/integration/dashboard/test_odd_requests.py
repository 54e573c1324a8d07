"""All routes, those that are added later too: each role, each method, odd values, and things of another company."""

import json
import re
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

import flask
import pytest
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.test import Client, TestResponse

from bisnesctl.people.roles import Role
from services.dashboard import command_runs
from services.dashboard.access import access_of
from services.dashboard.actions import ACTIONS
from services.dashboard.app import HEADERS, Dashboard
from services.dashboard.command_runs import FOLDER, CommandRun, CommandRuns
from services.database.connection import Database
from tests.integration.dashboard.conftest import HOST, Visitor
from tests.support.api import CHAT, COMPANY, OPERATOR_KEY, OTHER
from tests.support.two_companies import rows_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
#: The beginnings of views that ask simulators and providers.
OUTSIDE = ("sandbox.", "templates.")
#: A part of every text that only the other company may see.
MARK = "owned-by-another"
#: Values that no form of ours has, as they are sent: percent-encoded.
ODD_VALUES = {
    "empty": "", "spaces": "+++", "NUL": "%00", "NUL inside": "60123%00456", "not UTF-8": "%ff%fe",
    "half a surrogate": "%ed%a0%80", "other scripts": "%E0%B9%90%E2%80%AE%F0%9F%99%82%CC%81",
    "digits of another script": "%D9%A1%D9%A2", "superscript": "%C2%B2", "negative": "-1", "huge": "9" * 40,
    "infinite": "1e999", "not a number": "nan", "percent": "%25%25s", "quotes": "%27%22%60%5C",
    "HTML": "%3Cscript%3Ealert(1)%3C/script%3E", "lines": "a%0D%0ASet-Cookie:+x=y", "path": "../../etc/passwd",
    "option": "--yes", "uuid": "00000000-0000-0000-0000-000000000000", "time": "99999-13-41T99:99:99",
    "JSON": "%7B%22a%22:%5B%5D%7D", "long": "x" * 60_000,
}  # fmt: skip
PEOPLE = {
    "nobody": None, "viewer": (Role.VIEWER, None), "operator": (Role.OPERATOR, None),
    "administrator": (Role.ADMINISTRATOR, None), "viewer of a company": (Role.VIEWER, COMPANY),
    "operator of a company": (Role.OPERATOR, COMPANY),
}  # fmt: skip


@dataclass
class Things:
    """The things of a company, by the kind that an address names."""

    company: str
    message: str
    webhook: str
    run: str

    def value(self, rule, name):
        """The value of a variable in an address. Fails for a variable that nobody has described here."""
        bot, area = f"{self.company}-0", rule.endpoint.partition(".")[0]
        names = {"numbers": bot, "messages": self.message, "processes": "api-0"}
        known = {
            "company": self.company, "chat": CHAT, "message": self.message, "webhook": self.webhook,
            "run_id": self.run, "filename": "dashboard.css",
        }  # fmt: skip
        return names[area] if name == "name" else known[name]

    def subject(self, action):
        """The subject of an action."""
        subjects = {
            "process": "api-0", "program": "meta-worker=1", "bot": f"{self.company}-0", "message": self.message,
            "letter": self.message, "alert": "queue_oldest", "rollout": "rollout",
        }  # fmt: skip
        return subjects[action.kind]

    def addresses(self, app):
        """Every address of the application with its rule, and the action if it is one."""
        adapter = app.url_map.bind("127.0.0.1")
        for rule in app.url_map.iter_rules():
            if {"action", "subject"} <= rule.arguments:
                for name, action in ACTIONS.items():
                    yield f"/ui/do/{name}/{self.subject(action)}", rule, action
            else:
                values = {name: self.value(rule, name) for name in rule.arguments}
                method = "GET" if "GET" in rule.methods else "POST"
                yield adapter.build(rule.endpoint, values, method), rule, None


class Names(ImmutableMultiDict[str, str]):
    """Values of a request, which note the names that a view asks for."""

    seen: ClassVar[dict[str, set[str]]] = {}

    def get(self, key, *arguments, **options):
        self._note(key)
        return super().get(key, *arguments, **options)

    def getlist(self, key, *arguments, **options):
        self._note(key)
        return super().getlist(key, *arguments, **options)

    def __getitem__(self, key):
        self._note(key)
        return super().__getitem__(key)

    def _note(self, key):
        if flask.has_request_context():
            self.seen.setdefault(flask.request.endpoint or "", set()).add(key)


@pytest.fixture
def things(api, rows, settings, monkeypatch):
    """Two companies with a thing of each kind. No command runs."""
    monkeypatch.setattr(CommandRuns, "output_of", lambda self, words: "a preview")
    monkeypatch.setattr(
        CommandRuns, "begin", lambda self, words, person, company, address: CommandRun(
            "0000000000-00000000", tuple(words), person, company, 0.0
        ),
    )  # fmt: skip

    def make(company, text):
        message, hook, run = str(uuid4()), str(uuid4()), f"0000000001-{company:0>8}"
        ((bot,),) = rows("SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = 0", (company,))
        rows(
            "INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, status, error,"
            " error_code) VALUES (%s, %s, %s, %s, 0, 'text', jsonb_build_object('message', %s::text), 'failed', %s,"
            " '131026')", (bot, CHAT, message, company, text, text),
        )  # fmt: skip
        stored = str(uuid4())
        rows(
            "INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, content, message_type, from_me,"
            " direction, author, status, phone_index, timestamp, external_id) VALUES (%s, %s, %s, %s, %s, %s, 'text',"
            " false, 'inbound', %s, 'received', 0, now(), %s)",
            (stored, stored, company, f"{company}-{CHAT}", f"{CHAT}@c.us", text, text, f"wamid.{company}"),
        )
        rows(
            "INSERT INTO contacts (contact_id, company_id, name, chat_id, phone_index, last_message, unread_count)"
            " VALUES (%s, %s, %s, %s, 0, %s, 1)",
            (f"{company}-{CHAT}", company, text, f"{CHAT}@c.us", json.dumps({"body": text, "type": "text"})),
        )
        rows("INSERT INTO event_feed (company_id) VALUES (%s) ON CONFLICT DO NOTHING", (company,))
        rows(
            "INSERT INTO webhook (id, company_id, url, events, secret_encrypted, last_error, failures)"
            " VALUES (%s, %s, %s, '{*}', 'x', %s, 1)", (hook, company, f"https://{text}.example/", text),
        )  # fmt: skip
        record = CommandRun(run, ("queue", "pause", text), text, company, 1.0, 2.0, 0)
        (settings.home / FOLDER).mkdir(exist_ok=True)
        command_runs._store(settings.home / FOLDER / f"{run}.json", record)
        (settings.home / FOLDER / f"{run}.log").write_text(text)
        return Things(company, message, hook, run)

    return make(COMPANY, "a text"), make(OTHER, MARK)


@pytest.fixture
def app(settings, people, api, environment):
    """The application, which notes the names of values; with the pages of the sandbox, but without simulators."""
    environment(
        DATABASE_URL=settings.database_dsn, API_PORT=api.rpartition(":")[2], OPERATOR_KEY=OPERATOR_KEY, SANDBOX="true",
        SANDBOX_PORT="1",
    )  # fmt: skip
    made = Dashboard(settings, Database(settings.database_dsn, 2), people)
    made.request_class = type("NotingRequest", (made.request_class,), {"parameter_storage_class": Names})
    return made


class Walker(Visitor):
    """A person who is signed in again whenever a request ends that."""

    def __init__(self, app, people, name):
        super().__init__(Client(app, TestResponse))
        self._people, self._name, self._csrf = people, name, ""

    def request(self, method, path, query="", form=""):
        """Sends a query and a form, both percent-encoded. The form has the token of the person's pages."""
        if self._name and self._people.of_token(self.token) is None:
            self.token = self._people.begin(self._name, "127.0.0.1", "test")
            self.client.set_cookie("__Host-bisnes", self.token, domain="127.0.0.1")
            self._csrf = self.csrf()
        target = f"{path}?{query}" if query else path
        if method in ("GET", "HEAD"):
            return self.client.open(target, base_url=HOST, method=method)
        return self.client.open(
            target, base_url=HOST, method=method, data=f"csrf={self._csrf}&{form}",
            content_type="application/x-www-form-urlencoded",
        )  # fmt: skip


@pytest.fixture
def walker(app, people, password_hash):
    def make(title):
        known = PEOPLE[title]
        if known is None:
            return Walker(app, people, "")
        name = title.replace(" ", "-")
        people.accept(people.add(name, *known), password_hash)
        return Walker(app, people, name)

    return make


def may(app, endpoint, action, title):
    """Whether these people may open a view."""
    access, known = access_of(app, endpoint), PEOPLE[title]
    if access.role is None or known is None:
        return access.role is None
    role, company = known
    is_allowed = role.includes(access.role) and (access.company or company is None)
    if action is None:
        return is_allowed
    return is_allowed and role.includes(action.role) and (action.company or company is None)


@pytest.mark.parametrize("title", PEOPLE)
def test_every_route_demands_its_role_by_every_method(app, things, walker, title):
    own, _ = things
    visitor = walker(title)
    for path, _, action in own.addresses(app):
        for method in METHODS:
            answer, endpoint = visitor.request(method, path), endpoint_of(app, path, method)
            about = (title, method, path, answer.status_code)
            assert answer.status_code < 500 or may_be_down(answer, endpoint), about
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, about
            if endpoint is None:
                assert answer.status_code in (403, 405), about
            elif method == "OPTIONS":
                assert MARK not in answer.text, about
            elif not may(app, endpoint, action, title):
                wanted = (302, 401) if PEOPLE[title] is None else (403,)
                assert answer.status_code in wanted, about
            elif endpoint != "sign_in.sign_in":
                assert answer.status_code not in (401, 405), about


def may_be_down(answer, endpoint):
    """Whether an answer says that a simulator or a provider is down, which does not run here."""
    return answer.status_code == 503 and (endpoint or "").startswith(OUTSIDE)


def endpoint_of(app, path, method):
    """The view that serves an address by a method; None if it does not accept that."""
    try:
        return app.url_map.bind("127.0.0.1").match(path, method)[0]
    except MethodNotAllowed:
        return None


def odd_addresses(app, own):
    """Every address with each variable replaced by each odd value, one at a time."""
    for rule in app.url_map.iter_rules():
        usual = {"action": "restart", "subject": "api-0"} | {
            name: own.value(rule, name) for name in rule.arguments - {"action", "subject"}
        }
        for name in rule.arguments:
            for title, value in ODD_VALUES.items():
                if value and not (title == "long" and "action" in rule.arguments):
                    yield filled(str(rule.rule), usual | {name: value}), rule, title


def filled(form, values):
    """An address with values in the places of its variables."""
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], form)


def check(answer, rule, about):
    """Fails unless an answer is as every answer has to be."""
    assert answer.status_code < 500 or may_be_down(answer, rule.endpoint), (*about, answer.text[-2000:])
    assert "<script>alert" not in answer.text, about
    assert "Set-Cookie: x" not in str(answer.headers), about
    assert answer.headers.get("Content-Security-Policy") == HEADERS["Content-Security-Policy"], about


@pytest.mark.parametrize("title", ["administrator", "operator of a company", "nobody"])
def test_no_odd_address_fails(app, things, walker, title):
    own, _ = things
    visitor = walker(title)
    for path, rule, odd in odd_addresses(app, own):
        for method in ("GET", "POST"):
            if method in rule.methods:
                check(visitor.request(method, path), rule, (method, rule.rule, odd))


@pytest.mark.parametrize("title", ["administrator", "operator of a company", "nobody"])
def test_no_odd_value_fails(app, things, walker, title):
    own, _ = things
    visitor = walker(title)
    before = rows_snapshot(app)
    for path, rule, action in own.addresses(app):
        if action is not None and action is not ACTIONS["pause"] and action is not ACTIONS["begin-by-itself"]:
            continue  # the others have no other fields than these
        for method in {"GET", "POST"} & rule.methods:
            t0 = __import__("time").time()
            visitor.request(method, path)
            names = sorted(Names.seen.get(rule.endpoint, set()) - {"csrf"})
            print("TIME", method, path, names, __import__("time").time() - t0)
            for odd, value in ODD_VALUES.items():
                values = "&".join(f"{name}={value}" for name in [*names, "no_such_name"])
                check(visitor.request(method, path, query=values), rule, (method, path, "query", odd))
                if method == "POST":
                    check(visitor.request(method, path, form=values), rule, (method, path, "form", odd))
    assert rows_snapshot(app) == before


def rows_snapshot(app):
    """The rows of the other company."""
    with app.extensions["dashboard"].sources.connection() as connection:
        return rows_of(connection, OTHER)


@pytest.mark.parametrize("title", ["viewer of a company", "operator of a company"])
def test_nothing_of_another_company_is_shown_or_changed(app, things, walker, title):
    own, other = things
    visitor, before = walker(title), rows_snapshot(app)
    for path, rule, _ in own.addresses(app):  # its own addresses, asked for what is of the other
        visitor.request("GET", path)
        for name in sorted(Names.seen.get(rule.endpoint, set()) - {"csrf"}):
            for value in (OTHER, f"{OTHER}-0", other.message, other.webhook, f"wamid.{OTHER}", CHAT):
                for method in {"GET", "POST"} & rule.methods:
                    answer = visitor.request(method, path, query=f"{name}={value}", form=f"{name}={value}")
                    assert MARK not in answer.text, (method, path, name, value)
    for path, rule, _ in other.addresses(app):
        is_open = access_of(app, rule.endpoint).role is None
        names_a_thing = rule.arguments & {"company", "message", "webhook", "run_id", "name", "subject"}
        for method in {"GET", "POST"} & rule.methods:
            answer = visitor.request(method, path)
            assert MARK not in answer.text, (method, path)
            assert is_open or not names_a_thing or answer.status_code in (403, 404), (method, path)
    assert rows_snapshot(app) == before
