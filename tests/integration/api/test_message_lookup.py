"""Messages that are named by an id: reactions, read receipts, quotes, edits and deletions."""

import pytest

from services.api.schemas.base import Accepted
from services.inbox.webhook_inbox import Inbox
from services.message import Incoming, Peer, Status
from services.outbox.outcome_policy import Result
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, OTHER_KEY, outbox, refusal
from tests.support.outbox import execute

AT = 1_700_000_000.0


def call(client, method, path, fields=None, key=KEY, **headers):
    return client.open(path, method=method, json=fields, headers={"X-Api-Key": key} | headers)


def react(client, message_id, reaction="👍", **more):
    return call(client, "POST", f"/api/messages/react/{COMPANY}/{message_id}", {"reaction": reaction} | more)


def read(client, message_id, **fields):
    return call(client, "POST", f"/api/messages/read/{COMPANY}/{message_id}", fields)


def text(client, phone_index=0, **fields):
    path = f"/api/v2/messages/text/{COMPANY}/{CHAT}"
    return call(client, "POST", path, {"message": "Hello", "phoneIndex": phone_index} | fields)


def sent(client, connection, provider_id="wamid.out/1+=", phone_index=0):
    """A text that the provider took; returns our id of it."""
    message_id = text(client, phone_index).json["messageId"]
    finish(connection, provider_id=provider_id)
    return message_id


def finish(connection, status=Status.SENT, **more):
    worker = outbox()
    for message in worker.claim(connection, 10):
        done = Result(message.bot_id, message.chat_id, message.id, worker.worker, True, status, **more)
        worker.record(connection, [done])


def came_in(connection, provider_id="wamid.in.1", number="1", chat=CHAT):
    """A message that came in; returns our id of it."""
    execute(connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', 'x')")
    arrival = Incoming(number, provider_id, Peer(chat, None, "Aina"), "text", AT, "Hi")
    assert Inbox("meta", lambda _: [arrival]).apply_all(connection) == 1
    return execute(connection, "SELECT id::text FROM messages WHERE external_id = %s", (provider_id,))[0][0]


def stored(connection, answer):
    """Chat, number, kind and payload of an accepted message."""
    assert answer.status_code == 202, answer.json
    Accepted.model_validate(answer.json, extra="forbid")
    statement = "SELECT chat_id, phone_index, kind, payload FROM outbox WHERE message_id = %s"
    return execute(connection, statement, (answer.json["messageId"],))[0]


def test_a_reaction_finds_its_message_by_every_id_of_it(client, connection):
    ours, theirs = sent(client, connection), came_in(connection)
    for named, provider_id in (
        (ours, "wamid.out/1+="), ("wamid.out/1+=", "wamid.out/1+="),
        (theirs, "wamid.in.1"), ("wamid.in.1", "wamid.in.1"),
    ):  # fmt: skip
        assert stored(connection, react(client, named)) == (
            CHAT, 0, "reaction", {"reaction": "👍", "targetMessageId": named, "target_provider_id": provider_id},
        )  # fmt: skip


def test_messages_of_the_old_system_are_found_by_either_of_their_ids(client, connection):
    execute(
        connection,
        "INSERT INTO messages (message_id, external_id, company_id, contact_id, chat_id, from_me, direction)"
        " VALUES ('true_60_3EB0', NULL, '0128', '0128-60123456789', '60123456789@c.us', false, 'inbound'),"
        " ('4711', 'wamid.old', '0128', '0128-60123456789', NULL, NULL, 'inbound')",
    )
    for named, provider_id in (("true_60_3EB0", "true_60_3EB0"), ("4711", "wamid.old"), ("wamid.old", "wamid.old")):
        chat, number, _, payload = stored(connection, react(client, named))
        assert (chat, number, payload["target_provider_id"]) == (CHAT, 0, provider_id)
        assert stored(connection, read(client, named))[2] == "read"


def test_an_empty_reaction_removes_the_reaction(client, connection):
    message_id = sent(client, connection)
    assert stored(connection, react(client, message_id, ""))[3]["reaction"] == ""


def test_a_reaction_is_sent_by_the_bot_of_the_message(client, connection):
    message_id = sent(client, connection, phone_index=1)
    assert stored(connection, react(client, message_id))[1] == 1
    assert stored(connection, react(client, message_id, phoneIndex="1"))[1] == 1
    assert refusal(react(client, message_id, phoneIndex=0)) == (404, "unknown_message")


def test_phone_index_decides_between_messages_with_the_same_id(client, connection):
    """One of our numbers wrote to another: both have the provider's id."""
    sent(client, connection, "wamid.same", phone_index=0)
    came_in(connection, "wamid.same", number="2", chat="60111111111")
    assert refusal(react(client, "wamid.same")) == (409, "ambiguous_message")
    assert stored(connection, react(client, "wamid.same", phoneIndex=0))[:2] == (CHAT, 0)
    assert stored(connection, react(client, "wamid.same", phoneIndex=1))[:2] == ("60111111111", 1)


@pytest.mark.parametrize(
    "fields",
    [{}, {"reaction": None}, {"reaction": 5}, {"reaction": "👍", "phoneIndex": "x"}, {"reaction": "a\0"}],
)
def test_a_wrong_reaction_is_refused(client, connection, fields):
    message_id = sent(client, connection)
    answer = call(client, "POST", f"/api/messages/react/{COMPANY}/{message_id}", fields)
    assert refusal(answer) == (400, "invalid_request")


def test_a_reaction_must_be_an_emoji(client, connection):
    assert refusal(react(client, sent(client, connection), "no")) == (409, "unsupported_by_channel")


def test_a_message_that_was_not_sent_cannot_be_referred_to(client, connection):
    message_id = text(client).json["messageId"]
    assert refusal(react(client, message_id)) == (409, "not_sent")
    assert refusal(text(client, quotedMessageId=message_id)) == (409, "not_sent")
    finish(connection, Status.FAILED, code="131026", error="undeliverable")
    assert refusal(react(client, message_id)) == (409, "not_sent")


@pytest.mark.parametrize("message_id", ["wamid.none", "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4", "1' OR '1'='1", "x/y"])
def test_an_unknown_id_is_a_404(client, message_id):
    assert refusal(react(client, message_id)) == (404, "unknown_message")
    assert refusal(read(client, message_id)) == (404, "unknown_message")
    for method, fields in (("PUT", {"newMessage": "x"}), ("DELETE", {})):
        answer = call(client, method, f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", fields)
        assert refusal(answer) == (404, "unknown_message")


def test_messages_of_other_companies_are_unknown(client, connection):
    ours = sent(client, connection)
    for key in (OTHER_KEY, OPERATOR_KEY):
        answer = call(client, "POST", f"/api/messages/react/0999/{ours}", {"reaction": "👍"}, key)
        assert refusal(answer) == (404, "unknown_message")


def test_a_reaction_cannot_be_reacted_to(client, connection):
    reaction = react(client, sent(client, connection)).json["messageId"]
    assert refusal(react(client, reaction)) == (404, "unknown_message")


def test_a_message_that_came_in_is_marked_as_read(client, connection):
    theirs = came_in(connection)
    chat, _, kind, payload = stored(connection, read(client, theirs, typing=True))
    assert (chat, kind) == (CHAT, "read")
    assert payload == {"typing": True, "targetMessageId": theirs, "target_provider_id": "wamid.in.1"}
    bare = client.post(f"/api/messages/read/{COMPANY}/wamid.in.1", headers={"X-Api-Key": KEY})
    assert stored(connection, bare)[3]["typing"] is False
    assert refusal(read(client, theirs, typing="maybe")) == (400, "invalid_request")


def test_our_own_messages_are_not_marked_as_read(client, connection):
    assert refusal(read(client, sent(client, connection))) == (409, "not_incoming")


def test_reactions_wait_their_turn_in_the_chat(client, connection):
    message_id = sent(client, connection)
    text(client)
    react(client, message_id)
    assert [message.kind for message in outbox().claim(connection, 10)] == ["text"]


def test_the_same_reaction_under_the_same_key_is_one(client, connection):
    path, key = f"/api/messages/react/{COMPANY}/{sent(client, connection)}", {"Idempotency-Key": "r-1"}
    first = call(client, "POST", path, {"reaction": "👍"}, **key)
    again = call(client, "POST", path, {"reaction": "👍"}, **key)
    assert first.json["messageId"] == again.json["messageId"]
    assert refusal(call(client, "POST", path, {"reaction": ""}, **key)) == (409, "idempotency_conflict")


def test_a_quote_finds_its_message_by_every_id_of_it(client, connection):
    theirs = came_in(connection)
    ours = sent(client, connection)
    for named, provider_id in ((ours, "wamid.out/1+="), (theirs, "wamid.in.1"), ("wamid.in.1", "wamid.in.1")):
        payload = stored(connection, text(client, quotedMessageId=named))[3]
        assert (payload["quotedMessageId"], payload["quoted_provider_id"]) == (named, provider_id)
    image = {"imageUrl": "https://example.com/a.jpg", "quotedMessageId": theirs}
    answer = call(client, "POST", f"/api/v2/messages/image/{COMPANY}/{CHAT}", image)
    assert stored(connection, answer)[3]["quoted_provider_id"] == "wamid.in.1"


@pytest.mark.parametrize(("method", "fields"), [("PUT", {"newMessage": "Hi"}), ("DELETE", {"deleteForEveryone": True})])
def test_meta_changes_nothing_and_says_what_to_do_instead(client, connection, method, fields):
    message_id = sent(client, connection)
    answer = call(client, method, f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", fields | {"phoneIndex": "0"})
    assert refusal(answer) == (409, "unsupported_by_channel")
    assert "correction" in answer.json["error"]
    elsewhere = call(client, method, f"/api/v2/messages/{COMPANY}/60111111111/{message_id}", fields)
    assert refusal(elsewhere) == (404, "unknown_message")
    gone = call(client, method, f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", fields | {"phoneIndex": 7})
    assert refusal(gone) == (404, "unknown_bot")


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("PUT", {}, (400, "invalid_request")),
        ("PUT", {"newMessage": ""}, (400, "invalid_request")),
        ("PUT", {"newMessage": "x" * 4097}, (400, "text_too_long")),
        ("PUT", {"newMessage": "x", "phoneIndex": -1}, (400, "invalid_request")),
        ("DELETE", {"deleteForEveryone": "certainly"}, (400, "invalid_request")),
        ("DELETE", [], (400, "invalid_json")),
    ],
)
def test_a_wrong_change_is_refused(client, connection, method, fields, expected):
    path = f"/api/v2/messages/{COMPANY}/{CHAT}/{sent(client, connection)}"
    assert refusal(call(client, method, path, fields)) == expected


def test_a_message_may_be_deleted_without_a_body(client, connection):
    path = f"/api/v2/messages/{COMPANY}/{CHAT}/{sent(client, connection)}"
    assert refusal(client.delete(path, headers={"X-Api-Key": KEY})) == (409, "unsupported_by_channel")
