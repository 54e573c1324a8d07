"""Lists with many rows: each page is small, and the pages together have every row once."""

import re
from contextlib import closing
from html import unescape

import psycopg2
import pytest

from bisnesctl.people.roles import Role

#: Messages that failed, and numbers of WhatsApp Web.
FAILED, SESSIONS = 10_000, 50
#: Bytes of a first page, at most.
MAX_BYTES = 100_000

_BOTS = f"""
INSERT INTO phone_configs (company_id, phone_index, connection_type)
SELECT '0128', n, 'wwebjs' FROM generate_series(0, {SESSIONS - 1}) n;
INSERT INTO wa_session (bot_id, state) SELECT id, 'WORKING' FROM phone_configs"""
_FAILED = f"""
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, status, error_code, error,
    accepted_at, updated_at, attempts)
SELECT c.id, (60120000000 + n)::text, uuid_generate_v4(), '0128', c.phone_index, 'text',
    jsonb_build_object('message', repeat('a long text ', 40)), 'failed', '131026', repeat('why it failed ', 10),
    now() - n / 7 * interval '1 second', now() - n / 7 * interval '1 second', 1
FROM generate_series(1, {FAILED}) n JOIN phone_configs c ON c.phone_index = n % {SESSIONS}"""
_EVENTS = """
INSERT INTO process_events (process_name, event_type, severity, event_data, timestamp)
SELECT 'api', 'process_restarting', 'warning', jsonb_build_object('instance', 'api-0', 'reason', repeat('x', 200)),
    now() - n * interval '1 second' FROM generate_series(1, 10000) n"""


@pytest.fixture
def visitor(settings, signed_in):
    with closing(psycopg2.connect(settings.database_dsn)) as connection, connection, connection.cursor() as cursor:
        for statement in (_BOTS, _FAILED, _EVENTS):
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


def test_a_place_that_is_none_is_refused(visitor):
    for place in ("x", "2026-01-01", "%00", "2026-01-01T00:00:00 messages %00"):
        assert visitor.get(f"/ui/dead-letters?after={place}").status_code in (200, 400, 404)
    assert visitor.get("/ui/messages?text=%00").status_code == 400
