"""A chat as it is read: both directions, page by page, each message with its life, and the window of 24 hours."""

import time
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.messages import queries
from services.api.messages.queries import Chat, Position
from services.api.schemas.base import MessagePage, OneMessage
from services.inbox.webhook_inbox import Inbox
from services.message import Edit, Incoming, Media, Peer, Reaction, Revocation, Status
from services.outbox.outcome_policy import Result
from tests.support.api import CHAT, COMPANY, KEY, OTHER, OTHER_KEY, outbox, refusal
from tests.support.outbox import execute

HIDDEN = "US.1349"


def get(client, path, key=KEY):
    return client.get(path, headers={"X-Api-Key": key})


def page(client, query="", chat=CHAT):
    answer = get(client, f"/api/v2/messages/{COMPANY}/{chat}?{query}")
    assert answer.status_code == 200, answer.json
    MessagePage.model_validate(answer.json, extra="forbid")
    return answer.json


def one(client, message_id, chat=CHAT):
    answer = get(client, f"/api/v2/messages/{COMPANY}/{chat}/{message_id}")
    assert answer.status_code == 200, answer.json
    OneMessage.model_validate(answer.json, extra="forbid")
    return answer.json


def text(client, message="Hello", chat=CHAT, phone_index=0, **fields):
    path = f"/api/v2/messages/text/{COMPANY}/{chat}"
    body = {"message": message, "phoneIndex": phone_index} | fields
    return client.post(path, json=body, headers={"X-Api-Key": KEY}).json["messageId"]


def finish(connection, **more):
    worker = outbox()
    for number, message in enumerate(worker.claim(connection, 50)):
        wamid = more.get("provider_id", f"wamid.out.{message.id}.{number}")
        done = Result(message.bot_id, message.chat_id, message.id, worker.worker, True, Status.SENT, provider_id=wamid)
        worker.record(connection, [done])


def arrive(connection, *updates):
    execute(connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', 'x')")
    assert Inbox("meta", lambda _: list(updates), "https://bots.example").apply_all(connection) == 1


def said(message="Hi", provider_id="wamid.in.1", at=None, number="1", chat=CHAT, **more):
    sender = Peer(None, HIDDEN, "Aina") if chat == HIDDEN else Peer(chat, None, "Aina")
    moment = time.time() if at is None else at
    return Incoming(number, provider_id, sender, more.pop("kind", "text"), moment, message, **more)


def bodies(found):
    return [message["body"] for message in found["messages"]]


def test_sent_and_received_messages_are_listed_newest_first(client, connection):
    arrive(connection, said("first"))
    text(client, "second")
    finish(connection)
    arrive(connection, said("third", "wamid.in.2", at=time.time() + 1))
    found = page(client)
    assert bodies(found) == ["third", "second", "first"]
    assert [message["direction"] for message in found["messages"]] == ["inbound", "outbound", "inbound"]
    third = found["messages"][0]
    assert (third["fromMe"], third["author"], third["status"]) == (False, "Aina", "received")
    assert (third["providerId"], third["phoneIndex"], third["statuses"]) == ("wamid.in.2", 0, [])
    assert (third["media"], third["reaction"], third["edited"], third["replyTo"]) == (None, None, False, None)


def test_a_message_sent_on_the_phone_is_outbound(client, connection):
    arrive(connection, said("by phone", from_me=True))
    (message,) = page(client)["messages"]
    assert (message["direction"], message["fromMe"], message["status"]) == ("outbound", True, "sent")


def test_reactions_edits_and_revocations_stand_with_their_message(client, connection):
    message_id = text(client)
    finish(connection, provider_id="wamid.out")
    them = Peer(CHAT, None, "Aina")
    arrive(connection, said())
    arrive(
        connection,
        Reaction("1", "wamid.r", them, "wamid.out", "👍", time.time()),
        Edit("1", them, "wamid.in.1", "Hi!", time.time()),
    )
    theirs, ours = page(client)["messages"]
    assert (ours["messageId"], ours["reaction"]) == (message_id, "👍")
    assert (theirs["body"], theirs["edited"]) == ("Hi!", True)
    arrive(connection, Revocation("1", them, "wamid.in.1", time.time()))
    assert one(client, "wamid.in.1")["status"] == "revoked"


def test_our_reactions_and_receipts_are_not_listed_as_messages(client, connection):
    arrive(connection, said())
    headers = {"X-Api-Key": KEY}
    reaction = client.post(f"/api/messages/react/{COMPANY}/wamid.in.1", json={"reaction": "👍"}, headers=headers).json
    finish(connection, provider_id="wamid.reaction")
    client.post(f"/api/messages/read/{COMPANY}/wamid.in.1", headers=headers)
    (message,) = page(client)["messages"]
    assert message["reaction"] == "👍"
    for named in (reaction["messageId"], "wamid.reaction"):
        found = one(client, named)
        assert (found["kind"], found["status"]) == ("reaction", "sent")
        assert found["payload"] == {"reaction": "👍", "targetMessageId": "wamid.in.1"}


def test_files_and_quotes_of_received_messages_are_shown(client, connection):
    photo = Media("media.1", "image/jpeg", "c2hh", "a.jpg", voice=False)
    content = {"type": "image", "image": {"id": "media.1"}}
    arrive(connection, said("Look", kind="image", media=photo, content=content, quoted="wamid.out"))
    (message,) = page(client)["messages"]
    assert message["media"] == {
        "url": f"https://bots.example/api/v2/media/{COMPANY}/{message['messageId']}",
        "mimeType": "image/jpeg", "filename": "a.jpg", "size": None, "sha256": "c2hh", "voice": False,
    }  # fmt: skip
    assert (message["kind"], message["payload"], message["replyTo"]) == ("image", content, {"id": "wamid.out"})


def test_messages_of_the_old_system_are_shown_whatever_they_contain(client, connection):
    execute(
        connection,
        "INSERT INTO messages (message_id, company_id, contact_id, chat_id, content, message_type, media_url,"
        " media_metadata, quoted_message, from_me, direction, status, phone_index, timestamp) VALUES"
        " ('a', '0128', '0128-60123456789', '60123456789@c.us', 'old', NULL, NULL, '[1]', '\"q\"', NULL, NULL,"
        " NULL, NULL, '2024-01-01Z'),"
        " ('b', '0128', '0128-60123456789', NULL, NULL, 'image', 'https://old/a.jpg', '{\"mimetype\": \"image/jpeg\","
        " \"size\": \"big\"}', '{\"id\": 5}', true, 'outbound', 'sent', 0, '2024-01-02Z')",
    )
    second, first = page(client)["messages"]
    assert (first["body"], first["kind"], first["direction"], first["phoneIndex"]) == (
        "old",
        "unknown",
        "inbound",
        None,
    )
    assert (second["media"]["url"], second["media"]["mimeType"]) == ("https://old/a.jpg", "image/jpeg")
    assert second["timestamp"] == "2024-01-02T00:00:00.000Z"


def test_one_message_is_found_by_every_id_of_it(client, connection):
    ours = text(client)
    finish(connection, provider_id="wamid.out/1=")
    arrive(connection, said())
    theirs = page(client)["messages"][0]["messageId"]
    assert one(client, "wamid.out/1=")["messageId"] == one(client, ours)["messageId"] == ours
    assert len(one(client, "wamid.out/1=")["statuses"]) == 2
    assert one(client, "wamid.in.1")["messageId"] == one(client, theirs)["messageId"] == theirs
    for chat, key, company in ((f"{CHAT}0", KEY, COMPANY), (CHAT, OTHER_KEY, OTHER)):
        answer = get(client, f"/api/v2/messages/{company}/{chat}/wamid.in.1", key)
        assert refusal(answer) == (404, "unknown_message")


def test_a_group_is_not_the_number_with_the_same_digits(client, connection):
    execute(
        connection,
        "INSERT INTO messages (message_id, company_id, contact_id, chat_id, content, timestamp) VALUES"
        " ('a', '0128', '0128-60123456789', '60123456789@g.us', 'group', now()),"
        " ('b', '0128', '0128-60123456789', '60123456789@lid', 'hidden', now())",
    )
    assert bodies(page(client)) == []
    assert bodies(page(client, chat=f"{CHAT}@g.us")) == ["group"]
    assert bodies(page(client, chat=f"{CHAT}@lid")) == ["hidden"]
    assert refusal(get(client, f"/api/v2/messages/{COMPANY}/{CHAT}/a")) == (404, "unknown_message")


def test_a_user_who_hides_the_number_has_a_chat(client, connection):
    arrive(connection, said(chat=HIDDEN))
    found = page(client, chat=HIDDEN)
    assert (bodies(found), found["messages"][0]["chatId"], found["window"]["open"]) == (["Hi"], HIDDEN, True)


def test_a_page_of_one_number_has_only_its_messages(client, connection):
    arrive(connection, said("to the second", number="2"))
    text(client, "from the first")
    assert bodies(page(client, "phoneIndex=1")) == ["to the second"]
    assert bodies(page(client, "phoneIndex=0")) == ["from the first"]


# The window


def test_the_window_is_open_for_a_day_after_they_wrote(client, connection):
    assert page(client)["window"] == {"open": False, "expiresAt": None}
    arrive(connection, said(at=1_700_000_000))
    assert page(client)["window"] == {"open": False, "expiresAt": "2023-11-15T22:13:20.000Z"}
    arrive(connection, said("again", "wamid.in.2", number="2"))
    assert page(client)["window"]["open"] is True
    assert page(client, "phoneIndex=1")["window"]["open"] is True
    assert page(client, "phoneIndex=0")["window"]["open"] is False


def test_numbers_of_whatsapp_web_have_no_window(client, connection):
    execute(connection, "UPDATE phone_configs SET connection_type = 'wwebjs' WHERE company_id = '0128'")
    assert page(client)["window"] is None


# Pages


def _seed(connection, ours, theirs):
    """Messages of ours and theirs at these seconds; every other one of ours was sent, and so is history as well."""
    execute(connection, "TRUNCATE outbox, lane, messages")
    for n, at in enumerate(sorted(ours)):
        execute(
            connection,
            "WITH o AS (INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload,"
            " accepted_at) SELECT id, %s, uuid_generate_v4(), company_id, phone_index, 'text',"
            " jsonb_build_object('message', %s::text), to_timestamp(%s) FROM phone_configs"
            " WHERE company_id = '0128' AND phone_index = %s RETURNING *)"
            " INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, from_me, timestamp)"
            " SELECT message_id, message_id::text, company_id, '0128-' || chat_id, chat_id || '@c.us', true,"
            " accepted_at + interval '1 second' FROM o WHERE %s",
            (CHAT, f"o{n}", at, n % 2, n % 3 == 0),
        )
    for n, at in enumerate(sorted(theirs)):
        execute(
            connection,
            "INSERT INTO messages (message_id, company_id, contact_id, chat_id, content, timestamp)"
            " VALUES (%s, '0128', %s, %s, %s, to_timestamp(%s))",
            (f"t{n}", f"0128-{CHAT}", f"{CHAT}@c.us", f"t{n}", at),
        )


@settings(max_examples=15)
@given(st.lists(st.integers(0, 9), max_size=9), st.lists(st.integers(0, 9), max_size=9), st.integers(1, 4))
def test_pages_go_through_a_chat_once_in_the_order_of_time(client, connection, ours, theirs, limit):
    _seed(connection, ours, theirs)
    seen, cursor = [], ""
    while cursor is not None:
        found = page(client, f"limit={limit}{cursor and f'&cursor={cursor}'}")
        assert len(found["messages"]) == limit or found["nextCursor"] is None
        seen += found["messages"]
        cursor = found["nextCursor"]
    assert sorted(message["body"] for message in seen) == sorted(
        [f"o{n}" for n in range(len(ours))] + [f"t{n}" for n in range(len(theirs))]
    )
    moments = [message["timestamp"] for message in seen]
    assert moments == sorted(moments, reverse=True)


def test_messages_that_arrive_while_paging_do_not_change_later_pages(client, connection):
    _seed(connection, [1, 3], [2, 4])
    first = page(client, "limit=2")
    arrive(connection, said("new"))
    text(client, "newer")
    second = page(client, f"limit=2&cursor={first['nextCursor']}")
    assert bodies(first) + bodies(second) == ["t1", "o1", "t0", "o0"]


def test_a_page_of_a_long_chat_reads_little_of_it(connection):
    """The first page may begin anywhere in the chat, and the other side may never have answered."""
    execute(
        connection,
        "WITH o AS (INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload,"
        " accepted_at) SELECT id, %s, uuid_generate_v4(), company_id, phone_index, 'text', '{}',"
        " now() - n * interval '1 minute' FROM phone_configs, generate_series(20000, 1, -1) n"
        " WHERE company_id = '0128' AND phone_index = 0 RETURNING *)"
        " INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, from_me, phone_index, timestamp)"
        " SELECT message_id, message_id::text, company_id, '0128-' || chat_id, chat_id || '@c.us', true, 0,"
        " accepted_at + interval '1 second' FROM o",
        (CHAT,),
    )
    execute(connection, "ANALYZE outbox, messages, phone_configs")
    nth = "SELECT id, accepted_at FROM outbox ORDER BY id LIMIT 1 OFFSET %s"
    for left, expected in ((20_000, 50), (1000, 50), (10, 10)):
        ((number, moment),) = execute(connection, nth, (left - 1,))
        found, rows = _page_and_rows_read(connection, Position(number + 1, moment + timedelta(seconds=2)))
        assert len(found) == expected
        assert len(found) <= rows < 1000


def _page_and_rows_read(connection, position):
    """The chat's page, and how many rows of both tables were read for it."""
    before = _rows_read(connection)
    found, _ = queries.page(connection, Chat(COMPANY, CHAT), position, 50, "")
    return found, _rows_read(connection) - before


def _rows_read(connection):
    execute(connection, "SELECT pg_stat_force_next_flush()")
    counted = "SELECT sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_user_tables WHERE relname = ANY(%s)"
    return execute(connection, counted, (["outbox", "messages"],))[0][0]
