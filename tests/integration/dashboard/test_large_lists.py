"""Lists with many rows: each page is small, and the pages together have every row once."""

import re
from contextlib import closing
from html import unescape

import psycopg2
import pytest

from bisnesctl.audit import store
from bisnesctl.database import dead_letters, event_log
from bisnesctl.people.roles import Role
from services.dashboard.chats import contacts
from services.dashboard.pages import messages
from services.database.connection import Database
from services.events import webhooks
from tests.support.dashboard import FAILED, MANY_EVENTS, MANY_FAILED, MANY_NUMBERS, SESSIONS

#: Bytes of a first page, at most.
MAX_BYTES = 100_000


@pytest.fixture
def visitor(settings, signed_in):
    with closing(psycopg2.connect(settings.database_dsn)) as connection, connection, connection.cursor() as cursor:
        for statement in (MANY_NUMBERS, MANY_FAILED, MANY_EVENTS):
            cursor.execute(statement)
    return signed_in(Role.ADMINISTRATOR)


def test_first_pages_are_small(visitor):
    for path in ("/", "/processes", "/numbers", "/messages", "/messages?status=failed", "/queue", "/queue?state=failed",
                 "/dead-letters", "/alerts", "/events", "/rollout", "/commands", "/audit", "/keys"):  # fmt: skip
        answer = visitor.get(f"/ui{path}")
        assert answer.status_code == 200, path
        assert len(answer.data) < MAX_BYTES, (path, len(answer.data))


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/ui/dead-letters?kind=messages", r"/ui/do/retry-letter/([0-9a-f-]{36})\?"),
        ("/ui/messages?status=failed", r'<a href="/ui/messages/([0-9a-f-]{36})"'),
        ("/ui/queue?state=failed", r'<tr id="row-([0-9a-f-]{36})"'),
    ],
)
def test_the_pages_of_a_list_have_each_row_once(visitor, path, row):
    seen, following = [], path
    while following:
        text = visitor.get(following).text
        found = re.findall(row, text)
        assert 0 < len(found) <= 100
        seen += found
        matched = re.search(r'<p><a class="button" href="([^"]+)"', text)
        following = unescape(matched[1]) if matched else ""
    assert len(seen) == len(set(seen)) == FAILED


_CONTACTS = """
INSERT INTO contacts (contact_id, company_id, name, chat_id, phone_index, last_message)
SELECT '0128-' || (60120000000 + n), '0128', CASE WHEN mod(n, 200) = 0 THEN 'Nur ' ELSE 'Aina ' END || n,
    (60120000000 + n) || '@c.us', 0,
    jsonb_build_object('body', 'text ' || n, 'timestamp', 1700000000 + mod(n, 700)) FROM generate_series(1, 2000) n"""
_SENT = """
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)
SELECT c.id, (60120000000 + n)::text, lpad(n::text, 32, '0')::uuid, '0128', 0, 'text',
    jsonb_build_object('message', 'text ' || n) FROM generate_series(1, 100) n, phone_configs c"""
_AUDIT = """
INSERT INTO audit_record (id, at, source, actor, origin, host, company_id, action, outcome, code, message)
SELECT uuid_generate_v4(), now() - (n / 7) * interval '1 second', 'cli', 'aisha', 'pts/0', 'host', '0128', 'restart',
    'ok', '', '' FROM generate_series(1, 1000) n"""
_KEYS = """
INSERT INTO api_keys (key_hash, prefix, company_id)
SELECT decode(md5(n::text), 'hex'), 'bk_' || n, '0128' FROM generate_series(1, 1000) n"""


def pages_of(visitor, path, row):
    """The rows of each page of a list."""
    found, following = [], path
    while following:
        text = visitor.get(following).text
        found.append(re.findall(row, text))
        matched = re.search(r'<p><a class="button" href="([^"]+)"', text)
        following = unescape(matched[1]) if matched else ""
    return found


@pytest.mark.parametrize(
    ("path", "row", "count", "size"),
    [
        ("/ui/chats", r'<tr id="row-([0-9a-f-]{36})"', 2000, 50), ("/ui/audit", r'<tr id="([0-9a-f-]{36})"', 1000, 50),
        ("/ui/keys", r"bk_\d+", 1000, 100),
    ],
)  # fmt: skip
def test_the_pages_of_further_lists_have_each_row_once(signed_in, rows, path, row, count, size):
    for statement in (_CONTACTS, _AUDIT, _KEYS):
        rows(statement)
    pages = pages_of(signed_in(), path, row)
    assert [len(each) for each in pages] == [size] * (count // size)
    assert len({each for page in pages for each in page}) == count


def test_a_search_that_finds_little_continues_where_it_ended(signed_in, rows, monkeypatch):
    rows(_CONTACTS)
    rows(MANY_NUMBERS.replace(f"{SESSIONS - 1}", "0"))
    rows(_SENT)
    visitor = signed_in()
    monkeypatch.setattr(contacts, "MAX_LOOK", 600)
    pages = pages_of(visitor, "/ui/chats?q=nur", r"Nur (\d+)<")
    assert len(pages) == 4
    assert "the newest 600 were searched" in visitor.text("/ui/chats?q=nur")
    assert sorted(int(each) for page in pages for each in page) == [*range(200, 2001, 200)]
    monkeypatch.setattr(messages, "MAX_LOOK", 40)
    link = r'<a href="/ui/messages/([0-9a-f-]{36})"'
    assert [len(each) for each in pages_of(visitor, "/ui/messages?text=text+7", link)] == [10, 0, 1]
    assert pages_of(visitor, "/ui/messages?text=nowhere", link) == [[], [], []]
    assert [len(each) for each in pages_of(visitor, "/ui/messages?chat=60120000007", link)] == [1]


def plans(connection, statement, values):
    """The plan of a statement for a large table: it sorts, or reads a whole table, only if no index has the order."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_sort = off; SET enable_bitmapscan = off; SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}", values)
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.parametrize("company", [None, "0128"])
@pytest.mark.parametrize("wanted", [None, "%Aina%"])
def test_a_page_of_chats_is_read_from_an_index(settings, company, wanted):
    values = {
        "company": company, "wanted": wanted, "number": None, "at": 1_700_000_500.0, "limit": 51, "look": 150,
        "id": "00000000-0000-0000-0000-000000000000",
    }  # fmt: skip
    with Database(settings.database_dsn, 1).connection() as connection:
        for text in (contacts.PAGE, contacts.END):
            plan = plans(connection, contacts.statement(text, company), values)
            assert f"contacts_{'of_company_' if company else ''}active" in plan
            assert "Sort" not in plan
            assert "Index Cond" in plan


def test_pages_of_other_lists_are_read_from_an_index(settings):
    none = dict.fromkeys(("company", "chat", "status", "code", "text", "who", "what", "outcome", "since", "kinds"))
    values = none | {
        "before": None, "look": 100, "limit": 51, "before_id": None, "until": None, "after": None, "named": False,
        "severities": list(event_log.SEVERITIES), "programs": [], "instances": [], "bots": [],
    }  # fmt: skip
    with Database(settings.database_dsn, 1).connection() as connection:
        for text, index in (
            (messages.SEARCH, "outbox_message_id"), (messages.END, "outbox_message_id"),
            (store.FIND, "audit_record_at"), (event_log.READ, "process_events_at"),
        ):  # fmt: skip
            plan = plans(connection, text, values)
            assert index in plan, plan
            assert re.findall(r"(?<!Incremental )Sort\b(?! Key)", plan) == [], plan
        place = {"at": "2026-01-01", "kind": "messages", "id": "x", "company": None, "limit": 51}
        assert "failed_message_at" in plans(connection, dead_letters.statement("messages"), place)
        assert "webhook_delivery_dead" in plans(connection, dead_letters.statement("webhooks-out"), place)
        dead = {"id": "01934f7e-0000-7000-8000-000000000000", "before": 9, "status": "dead", "limit": 51}
        assert "webhook_delivery_dead_of_webhook" in plans(connection, webhooks.DELIVERIES, dead)


def test_a_place_that_is_none_is_refused(visitor):
    for place in ("x", "2026-01-01", "%00", "2026-01-01T00:00:00 messages %00"):
        assert visitor.get(f"/ui/dead-letters?after={place}").status_code in (200, 400, 404)
    assert visitor.get("/ui/messages?text=%00").status_code == 400
