"""Every kind of event is caused once by the SQL that builds it; the fixture `database` validates the payloads."""

import psycopg2
import pytest
from pydantic import ValidationError

from services.events import webhooks
from services.events.names import CATALOGUE, TEST
from services.inbox.webhook_inbox import Inbox
from services.message import (
    Call,
    Edit,
    Incoming,
    Media,
    Notice,
    Peer,
    Reaction,
    Renaming,
    Revocation,
    Scope,
    Status,
    StatusUpdate,
)
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.event_schema import check_events
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result

NUMBER, AT = "1001280", 1_700_000_000.0
AINA = Peer("60123456789", "US.1", "Aina")


@pytest.fixture
def connection(database):
    opened, connection = open_database(database)
    yield connection
    connection.close()
    opened.close()


def receive(connection, *updates):
    execute(connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', 'x')")
    assert Inbox("meta", lambda _: list(updates), "https://bots.example").apply_all(connection) == 1


def test_every_event_is_as_its_model_says(connection, database):
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    bot = add_bot(connection)
    execute(connection, "UPDATE phone_configs SET display_phone_number = '+60 3 1', meta_waba_id = 'W1'")
    accept(connection, entry(bot))
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed)])
    sent = f"wamid.{claimed.id}"
    picture = Media("1", "image/jpeg", "0" * 64, filename="a.jpg")
    receive(
        connection,
        StatusUpdate(sent, Status.DELIVERED, AT, number=NUMBER, details={"pricing": {"billable": True}}),
        Incoming(NUMBER, "wamid.1", AINA, "text", AT, "Hello", quoted=sent),
        Incoming(NUMBER, "wamid.2", AINA, "image", AT, "Look", media=picture, content={"type": "image"}),
        Incoming(NUMBER, "wamid.3", AINA, "location", AT, content={"type": "location", "location": {"latitude": 3}}),
        Reaction(NUMBER, "wamid.4", AINA, "wamid.1", "👍", AT),
        Edit(NUMBER, AINA, "wamid.1", "Hello!", AT + 1),
        Revocation(NUMBER, AINA, "wamid.2", AT + 2),
        Call(NUMBER, "call.1", AINA, AT),
        Renaming(NUMBER, AINA, Peer("60198765432"), AT + 3),
        *(
            Notice(name, "a_field", NUMBER, "W1", {"event": "SOMETHING"})
            for name in ("template.status", "account.update", "number.quality", "account.capability")
        ),
        *(Notice(name, "a_field", NUMBER, "W1", {}) for name in ("account.alert", "user.preferences")),
        Notice("provider.update", "a_field", None, "W1", {"a": [1]}),
    )
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "the access token is not valid")])
    execute(connection, "SELECT release_bot(%s)", (bot,))
    execute(connection, "SELECT raise_events(jsonb_build_array(bot_status_event(%s, 'error', 'why')))", (bot,))
    execute(
        connection, "SELECT raise_events(jsonb_build_array(session_status_event(%s, 'SCAN_QR_CODE', NULL)))", (bot,)
    )
    hook = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
    webhooks.register(connection, hook, "0128", "https://shop.example", ["*"], "encrypted")
    webhooks.test(connection, hook, "0128")
    assert {name for (name,) in execute(connection, "SELECT DISTINCT name FROM event")} == {*CATALOGUE, TEST}
    check_events(database)


def test_an_event_that_is_not_as_its_model_says_is_noticed(postgres):
    postgres.run("CREATE DATABASE wrong_event TEMPLATE bisnes_migrated")
    try:
        with psycopg2.connect(postgres.dsn("wrong_event")) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO event_feed (company_id) VALUES ('0128')")
            cursor.execute(
                "INSERT INTO event (company_id, seq, event_id, name, session, chat_id, payload)"
                " VALUES ('0128', 1, 'evt_1', 'webhook.test', '0128-0', '', '{\"webhookId\": \"1\", \"more\": 1}')"
            )
        connection.close()
        with pytest.raises(ValidationError):
            check_events(postgres.dsn("wrong_event"))
    finally:
        postgres.run("DROP DATABASE wrong_event WITH (FORCE)")
