"""Lists with many rows: each page is small, and the pages together have every row once."""

import re
from contextlib import closing
from html import unescape

import psycopg2
import pytest

from bisnesctl.people.roles import Role
from tests.support.dashboard import FAILED, MANY_EVENTS, MANY_FAILED, MANY_NUMBERS

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


def test_a_place_that_is_none_is_refused(visitor):
    for place in ("x", "2026-01-01", "%00", "2026-01-01T00:00:00 messages %00"):
        assert visitor.get(f"/ui/dead-letters?after={place}").status_code in (200, 400, 404)
    assert visitor.get("/ui/messages?text=%00").status_code == 400
