"""A WhatsApp Web bot sends from the number to which it was linked first, and from another one only on purpose."""

import pytest

from bisnesctl.bots import web_sessions
from services.connectors.wwebjs.session.session import ExitStatus
from services.outbox.accept import Entry
from tests.integration.wwebjs.test_session import COMPANY, NUMBER, Stage
from tests.support.outbox import accept, entry, execute
from tests.support.sandbox import eventually
from tests.support.web_page import CUSTOMER, WebSandbox

STRANGER = "60119999999"
EVENTS = """
SELECT payload ->> 'status' FROM event WHERE company_id = %s AND name = 'session.status' ORDER BY seq"""


@pytest.fixture
def sandbox(tmp_path):
    sandbox = WebSandbox(tmp_path / "sandbox")
    yield sandbox
    sandbox.end()


@pytest.fixture
def stage(database, redis_server, sandbox, tmp_path):
    """A bot that was linked to NUMBER, and whose phone logged it out."""
    stage = Stage(database, redis_server.url, tmp_path, sandbox.page_url)
    try:
        execute(stage.connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))
        process = stage.start()
        sandbox.scan(NUMBER)
        stage.becomes("WORKING", process)
        yield stage
    finally:
        stage.end()


def unblock(stage, new_number=False):
    session = web_sessions.find_one(stage.connection, COMPANY, 0)
    if new_number:
        web_sessions.release_number(stage.connection, stage.bot, with_queue=True)
    web_sessions.unblock(stage.connection, session)
    return stage.start()


def scan(stage, sandbox, number):
    """A phone with this number scans the code that the bot shows."""
    qr = eventually(lambda: stage.row("qr"))
    sandbox.scan(number, qr=qr)


def send(stage, text):
    new = entry(stage.bot, CUSTOMER, text)
    accept(stage.connection, Entry(new.message_id, "wwebjs", stage.bot, COMPANY, 0, CUSTOMER, "text", new.payload))


def shown(stage):
    return execute(stage.connection, "SELECT display_phone_number FROM phone_configs")[0][0]


def test_a_phone_with_another_number_is_refused_until_an_operator_accepts_it(stage, sandbox):
    sandbox.wa("logout", number=NUMBER)
    assert stage.processes[-1].wait(60) == ExitStatus.GIVEN_UP
    send(stage, "for the number that was linked")

    process = unblock(stage)
    scan(stage, sandbox, STRANGER)
    assert process.wait(60) == ExitStatus.GIVEN_UP
    assert stage.row("state") == "FAILED"
    reason = stage.row("reason")
    assert f"+{STRANGER}" in reason
    assert f"+{NUMBER}" in reason
    assert "--new-number" in reason
    assert execute(stage.connection, "SELECT kind, until = 'infinity' FROM wa_block") == [("wrong_number", True)]
    assert [status for (status,) in execute(stage.connection, EVENTS, (COMPANY,))][-1] == "FAILED"
    assert sandbox.wa_device(STRANGER) is None, "it was logged out"
    assert sandbox.wa_sent() == []
    assert execute(stage.connection, "SELECT status, attempts FROM outbox") == [("queued", 0)]

    process = unblock(stage, new_number=True)
    scan(stage, sandbox, STRANGER)
    stage.becomes("WORKING", process)
    assert (stage.row("own_number"), stage.row("bound_number"), shown(stage)) == (STRANGER, STRANGER, STRANGER)
    eventually(lambda: [each["body"] for each in sandbox.wa_sent()] == ["for the number that was linked"])


def test_after_a_logout_another_phone_may_be_linked_unless_messages_are_queued(stage, sandbox):
    process = stage.processes[-1]
    assert (stage.row("bound_number"), shown(stage)) == (NUMBER, NUMBER)
    stage.tell("logout")
    scan(stage, sandbox, STRANGER)
    eventually(lambda: stage.row("own_number") == STRANGER)
    stage.becomes("WORKING", process)
    assert (stage.row("bound_number"), shown(stage)) == (STRANGER, STRANGER)

    execute(stage.connection, "UPDATE bot_pace SET held_until = now() + interval '1 hour'")
    send(stage, "for that one")
    stage.tell("logout")
    scan(stage, sandbox, NUMBER)
    assert process.wait(60) == ExitStatus.GIVEN_UP
    assert execute(stage.connection, "SELECT kind FROM wa_block") == [("wrong_number",)]
    assert sandbox.wa_sent() == []
