"""Sends to bots of WhatsApp Web: every kind of message, edits, deletions and mentions."""

import io

import pytest

from services.api.schemas.base import Accepted
from services.message import Status
from services.outbox.outcome_policy import Result
from services.outbox.store import Outbox
from tests.support.api import CHAT, COMPANY, KEY, refusal
from tests.support.outbox import execute

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
OURS, THEIRS = f"true_{CHAT}@c.us_3EB0AA", f"false_{CHAT}@c.us_3EB0BB"
GROUP = "120363041234567890@g.us"


@pytest.fixture
def bot(connection):
    """The company's first number becomes one of WhatsApp Web; returns its id."""
    statement = "UPDATE phone_configs SET connection_type = 'wwebjs' WHERE company_id = %s AND phone_index = 0"
    return execute(connection, f"{statement} RETURNING id", (COMPANY,))[0][0]


def call(client, method, path, fields=None, **headers):
    return client.open(path, method=method, json=fields, headers={"X-Api-Key": KEY} | headers)


def text(client, chat=CHAT, **fields):
    return call(client, "POST", f"/api/v2/messages/text/{COMPANY}/{chat}", {"message": "Hello"} | fields)


def edit(client, message_id, chat=CHAT, new="Hello!", **more):
    return call(client, "PUT", f"/api/v2/messages/{COMPANY}/{chat}/{message_id}", {"newMessage": new}, **more)


def delete(client, message_id, chat=CHAT, **fields):
    return call(client, "DELETE", f"/api/v2/messages/{COMPANY}/{chat}/{message_id}", fields)


def finish(connection, bot, key=OURS, status=Status.SENT):
    """Send the waiting message under the key."""
    worker = Outbox("wwebjs", "host/wwebjs-session-0128-0/1", 10_000.0, 60.0, bot_id=bot)
    for message in worker.claim(connection, 10):
        done = Result(message.bot_id, message.chat_id, message.id, worker.worker, True, status, provider_id=key)
        worker.record(connection, [done])


def sent(client, connection, bot):
    message_id = text(client).json["messageId"]
    finish(connection, bot)
    return message_id


def came_in(connection, chat=CHAT, key=THEIRS):
    address = f"{chat}@c.us" if chat.isdigit() else chat
    execute(
        connection,
        "INSERT INTO messages (message_id, external_id, company_id, chat_id, from_me, direction, phone_index)"
        " VALUES (%s, %s, %s, %s, false, 'inbound', 0)",
        (key, key, COMPANY, address),
    )
    return key


def stored(connection, answer):
    """Kind and payload of an accepted message."""
    assert answer.status_code == 202, answer.json
    Accepted.model_validate(answer.json, extra="forbid")
    statement = "SELECT kind, payload FROM outbox WHERE message_id = %s"
    return execute(connection, statement, (answer.json["messageId"],))[0]


def test_every_kind_is_taken(client, connection, bot):
    assert stored(connection, text(client)) == ("text", {"message": "Hello"})
    link = "https://example.com/a"
    for kind in ("image", "video", "audio", "document", "sticker"):
        answer = call(client, "POST", f"/api/v2/messages/{kind}/{COMPANY}/{CHAT}", {f"{kind}Url": link})
        assert stored(connection, answer) == (kind, {"media": {"link": link}})
    form = {"file": (io.BytesIO(PNG), "a.png", "image/png"), "caption": "Look"}
    path = f"/api/v2/messages/image/{COMPANY}/{CHAT}"
    kind, payload = stored(connection, client.post(path, data=form, headers={"X-Api-Key": KEY}))
    assert (kind, payload["caption"], payload["media"]["mimeType"]) == ("image", "Look", "image/png")
    react = call(client, "POST", f"/api/messages/react/{COMPANY}/{came_in(connection)}", {"reaction": "👍"})
    assert stored(connection, react)[0] == "reaction"
    assert stored(connection, call(client, "POST", f"/api/messages/read/{COMPANY}/{THEIRS}", {}))[0] == "read"


def test_groups_and_hidden_numbers_are_written_to(client, connection, bot):
    for chat in (GROUP, "123456789012345@lid"):
        assert stored(connection, text(client, chat))[0] == "text"


def test_what_the_channel_does_not_have_is_refused(client, connection, bot):
    template = {"templateName": "order_ready", "language": "en"}
    answer = call(client, "POST", f"/api/v2/messages/template/{COMPANY}/{CHAT}", template)
    assert refusal(answer) == (409, "unsupported_by_channel")
    assert refusal(text(client, "US.13491208655302741918")) == (409, "unsupported_by_channel")
    react = call(client, "POST", f"/api/messages/react/{COMPANY}/{came_in(connection)}", {"reaction": "no"})
    assert refusal(react) == (409, "unsupported_by_channel")


def test_a_message_is_edited_by_any_id_of_it(client, connection, bot):
    message_id = sent(client, connection, bot)
    expected = ("edit", {"message": "Hello!", "targetMessageId": message_id, "target_provider_id": OURS})
    assert stored(connection, edit(client, message_id)) == expected
    again = edit(client, OURS)
    assert again.json["success"] is True
    assert stored(connection, again) == expected
    assert stored(connection, edit(client, again.json["messageId"])) == expected


@pytest.mark.parametrize("everyone", [True, False])
def test_a_message_is_deleted(client, connection, bot, everyone):
    message_id = sent(client, connection, bot)
    answer = delete(client, message_id, deleteForEveryone=everyone)
    assert answer.json["success"] is True
    expected = {"deleteForEveryone": everyone, "targetMessageId": message_id, "target_provider_id": OURS}
    assert stored(connection, answer) == ("delete", expected)


def test_a_deletion_without_a_body_is_for_everyone(client, connection, bot):
    message_id = sent(client, connection, bot)
    answer = client.delete(f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", headers={"X-Api-Key": KEY})
    assert stored(connection, answer)[1]["deleteForEveryone"] is True


def test_what_came_in_is_not_ours_to_change(client, connection, bot):
    came_in(connection)
    assert refusal(edit(client, THEIRS)) == (409, "not_outgoing")
    assert refusal(delete(client, THEIRS)) == (409, "not_outgoing")
    assert stored(connection, delete(client, THEIRS, deleteForEveryone=False))[0] == "delete"
    in_group = came_in(connection, GROUP, f"false_{GROUP}_3EB0CC_60123456789@c.us")
    assert stored(connection, delete(client, in_group, GROUP))[0] == "delete"


def test_what_is_not_sent_yet_cannot_be_changed(client, connection, bot):
    message_id = text(client).json["messageId"]
    assert refusal(edit(client, message_id)) == (409, "not_sent")
    assert refusal(delete(client, message_id)) == (409, "not_sent")


def test_what_was_deleted_cannot_be_changed(client, connection, bot):
    message_id, key = sent(client, connection, bot), {"Idempotency-Key": "d-1"}
    path = f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}"
    deletion = call(client, "DELETE", path, {}, **key)
    finish(connection, bot)
    for each in (message_id, OURS, deletion.json["messageId"]):
        assert refusal(edit(client, each)) == (409, "message_deleted")
        assert refusal(delete(client, each)) == (409, "message_deleted")
        react = call(client, "POST", f"/api/messages/react/{COMPANY}/{each}", {"reaction": "👍"})
        assert refusal(react) == (409, "message_deleted")
    again = call(client, "DELETE", path, {}, **key)  # a client that lost the answer
    assert again.json["messageId"] == deletion.json["messageId"]
    assert refusal(call(client, "DELETE", path, {}, **{"Idempotency-Key": "d-2"})) == (409, "message_deleted")


def test_what_its_sender_deleted_cannot_be_changed(client, connection, bot):
    came_in(connection)
    execute(connection, "UPDATE messages SET status = 'revoked'")
    assert refusal(delete(client, THEIRS, deleteForEveryone=False)) == (409, "message_deleted")
    react = call(client, "POST", f"/api/messages/react/{COMPANY}/{THEIRS}", {"reaction": "👍"})
    assert refusal(react) == (409, "message_deleted")
    assert call(client, "POST", f"/api/messages/read/{COMPANY}/{THEIRS}", {}).status_code == 202


def test_changes_are_of_the_message_that_is_named(client, connection, bot):
    message_id = sent(client, connection, bot)
    assert refusal(edit(client, message_id, "60111111111")) == (404, "unknown_message")
    assert refusal(delete(client, message_id, phoneIndex=7)) == (404, "unknown_bot")
    execute(connection, "UPDATE phone_configs SET connection_type = 'wwebjs' WHERE phone_index = 1")
    assert refusal(delete(client, message_id, phoneIndex=1)) == (404, "unknown_message")


def test_an_edit_under_a_key_is_one(client, connection, bot):
    message_id, key = sent(client, connection, bot), {"Idempotency-Key": "e-1"}
    first, again = edit(client, message_id, **key), edit(client, message_id, **key)
    assert first.json["messageId"] == again.json["messageId"]
    assert refusal(edit(client, message_id, new="Else", **key)) == (409, "idempotency_conflict")


def test_people_are_mentioned(client, connection, bot):
    answer = text(client, GROUP, mentions=["+60123456789", "60111111111@c.us"])
    assert stored(connection, answer)[1]["mentions"] == ["60123456789", "60111111111"]
    assert "mentions" not in stored(connection, text(client, mentions=[]))[1]
    for wrong, code in (([5], "invalid_request"), ([GROUP], "invalid_request"), (["x"], "invalid_chat_id")):
        assert refusal(text(client, mentions=wrong)) == (400, code)
    assert refusal(text(client, mentions="60123456789")) == (400, "invalid_request")
    assert refusal(text(client, phoneIndex=1, mentions=["60123456789"])) == (409, "unsupported_by_channel")
