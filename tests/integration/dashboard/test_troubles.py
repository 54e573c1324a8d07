"""Pages while something is wrong: each says why it cannot be made, and what to type."""

from dataclasses import replace

import pytest

from bisnesctl.people.roles import Role
from bisnesctl.views.overview import ProcessRow
from services.dashboard import findings, texts
from services.dashboard.findings import overview
from services.database.connection import DatabaseUnavailable

WELL = texts.catalogue("en")["overview.well"]
#: Pages that need PostgreSQL.
NEEDY = (
    "/numbers",
    "/chats",
    "/messages",
    "/queue",
    "/dead-letters",
    "/webhooks",
    "/keys",
    "/numbers/0128-0",
    "/rollout",
)


@pytest.fixture
def no_database(app, monkeypatch):
    """Nothing reaches PostgreSQL."""

    def refuse():
        raise DatabaseUnavailable("the server <closed> the connection\nand more")

    monkeypatch.setenv("DATABASE_URL", "postgresql://bisnes@127.0.0.1:1/bisnes")
    monkeypatch.setattr(app.extensions["dashboard"].sources, "connection", refuse)


def process(name, status, reason):
    return ProcessRow(name, name, status, None, None, None, None, 0, reason)


def with_processes(app, monkeypatch, *rows):
    """Has the overview show these processes in a deployment that runs."""
    with app.test_request_context():
        found = replace(overview(), condition="running", processes=list(rows), database_unavailable="")
    monkeypatch.setattr(findings, "overview", lambda: found)


def test_each_page_says_why_and_what_to_type(signed_in, no_database):
    visitor = signed_in()
    for page in NEEDY:
        answer = visitor.get(f"/ui{page}")
        assert answer.status_code == 503, page
        assert "PostgreSQL does not answer, and this page needs it." in answer.text, page
        assert "type: <code>bisnesctl doctor</code>" in answer.text, page
        assert "Traceback" not in answer.text
    page = visitor.get("/ui/messages").text
    assert "<h1>Messages</h1>" in page
    assert "the server &lt;closed&gt; the connection</p>" in page


def test_other_pages_show_what_they_have(signed_in, no_database):
    visitor = signed_in()
    for page in ("/", "/processes", "/processes/api-0", "/processes/api-0/log", "/alerts", "/events", "/commands",
                 "/audit", "/settings", "/account", "/people"):  # fmt: skip
        assert visitor.get(f"/ui{page}").status_code == 200, page


def test_the_reason_is_that_an_operator_stopped_it_if_that_is_so(app, signed_in, no_database, monkeypatch):
    with_processes(app, monkeypatch, process("postgres", "stopped", "on purpose by aisha; `bisnesctl start postgres`"))
    page = signed_in().get("/ui/messages").text
    assert "postgres stopped: on purpose by aisha; <code>bisnesctl start postgres</code>" in page
    assert "closed" not in page


def test_a_database_that_is_older_than_the_release_needs_migrations(signed_in, rows):
    rows("ALTER TABLE webhook RENAME COLUMN last_error TO another")
    answer = signed_in().get("/ui/webhooks")
    assert answer.status_code == 503
    assert "The database is older than this release." in answer.text
    assert "<code>bisnesctl migrate</code>" in answer.text


def test_a_process_that_was_stopped_on_purpose_is_named(app, signed_in, monkeypatch):
    visitor, well = signed_in(Role.VIEWER), process("api-0", "healthy", "")
    with_processes(app, monkeypatch, well, process("bot", "stopped", ""))
    assert WELL in visitor.text("/ui/")
    stopped = process("redis", "stopped", "on purpose by aisha; `bisnesctl start redis` starts it")
    with_processes(app, monkeypatch, well, stopped)
    page = visitor.get("/ui/").text
    assert WELL not in page
    assert "one process was stopped on purpose" in page
    assert "on purpose by aisha; <code>bisnesctl start redis</code> starts it" in page
    with_processes(app, monkeypatch, process("api-0", "failing", "it was killed by <SIGKILL>"), stopped)
    page = visitor.text("/ui/")
    assert "One thing needs attention." in page
    assert "bisnesctl why api-0" in page
    assert "on purpose by aisha" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see `bisnesctl status`, or `<b>`", "see <code>bisnesctl status</code>, or <code>&lt;b&gt;</code>"),
        ("<i>`", "&lt;i&gt;`"), ("", ""), ("`a\nb`", "`a\nb`"),
    ],
)  # fmt: skip
def test_commands_in_texts_stand_out_and_nothing_else_is_html(app, text, expected):
    assert app.jinja_env.filters["typed"](text) == expected
