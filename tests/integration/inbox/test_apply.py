"""Webhooks applied to a real PostgreSQL: history, contacts, windows, downloads and events."""

import threading
from dataclasses import replace
from typing import Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inbox.webhook_inbox import Inbox
from services.message import (
    Edit,
    Incoming,
    Media,
    Payload,
    Peer,
    Reaction,
    Revocation,
    Scope,
    Status,
    StatusUpdate,
)
from services.outbox import holds
from services.outbox.accept import Entry
from services.outbox.outcome_policy import Hold, Result
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result

NUMBER, CHAT, AT = "1001280", "60123456789", 1_700_000_000.0
AINA = Peer(CHAT, "US.1", "Aina")


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def bot(connection):
    """A bot with the number id 1001280, whose company asked for events."""
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    bot = add_bot(connection)
    execute(connection, "UPDATE phone_configs SET display_phone_number = '+60 3 1', meta_waba_id = 'W1'")
    return bot


def take_in(connection, *updates, bot_id=None, webhooks=1):
    """Store webhooks with the same updates, and apply them."""
    for _ in range(webhooks):
        execute(
            connection, "INSERT INTO webhook_inbox (process_name, body, bot_id) VALUES ('meta', 'x', %s)", (bot_id,)
        )
    assert Inbox("meta", lambda _: list(updates), "https://bots.example").apply_all(connection) == webhooks


def said(text="Hello", wamid="wamid.in.1", sender=AINA, at=AT, **more):
    return Incoming(NUMBER, wamid, sender, more.pop("kind", "text"), at, text, **more)


def report(status, wamid="wamid.out.1", ours=None, code=None, reason=None, **more):
    return StatusUpdate(wamid, status, AT, ours, code, reason, number=more.pop("number", NUMBER), **more)


def events(connection, name=None):
    rows = execute(
        connection, "SELECT name, session, chat_id, payload FROM event WHERE company_id = '0128' ORDER BY seq"
    )
    return [(row[0], row[3]) if name is None else row[3] for row in rows if name in (None, row[0])]


def sent(connection, bot, provider_id="wamid.out.1", **payload: Unpack[Payload]):
    """A message that the provider took; returns its id of ours."""
    new = entry(bot, CHAT, **({"text": "Hi"} if not payload else {}))
    if payload:
        new = Entry(new.message_id, "meta", bot, "0128", 0, CHAT, "image", payload)
    accept(connection, new)
    (claimed,) = outbox().claim(connection, 1)
    done = result(claimed)
    outbox().record(connection, [Result(**{**_fields(done), "provider_id": provider_id})])
    return new.message_id


def _fields(done):
    return {name: getattr(done, name) for name in done.__slots__}


def test_a_text_is_history_a_contact_an_open_window_and_two_events(connection, bot):
    take_in(connection, said(quoted="wamid.out.0"))
    ((number, contact, chat, text, kind, direction, mine, status, quoted, external, phone),) = execute(
        connection,
        "SELECT id::text, contact_id, chat_id, content, message_type, direction, from_me, status, quoted_message,"
        " external_id, phone_index FROM messages",
    )
    assert (contact, chat, text, kind) == ("0128-60123456789", "60123456789@c.us", "Hello", "text")
    assert (direction, mine, status, quoted, external, phone) == (
        "inbound", False, "received", {"id": "wamid.out.0"}, "wamid.in.1", 0
    )  # fmt: skip
    ((name, phone_number, last, unread),) = execute(
        connection, "SELECT name, phone, last_message, unread_count FROM contacts WHERE contact_id = %s", (contact,)
    )
    assert (name, phone_number, last["body"], unread) == ("Aina", "+60123456789", "Hello", 1)
    assert execute(
        connection, "SELECT chat_id, user_id, window_until = to_timestamp(%s) + interval '24 hours' FROM chat", (AT,)
    ) == [(CHAT, "US.1", True)]
    names = [(name, payload["id"], payload["from"], payload["to"]) for name, payload in events(connection)]
    assert names == [(each, number, CHAT, "6031") for each in ("message", "message.any")]
    payload = events(connection, "message")[0]
    assert payload["replyTo"] == {"id": "wamid.out.0"}
    assert (payload["body"], payload["fromMe"], payload["timestamp"], payload["media"]) == ("Hello", False, AT, None)


def test_duplicate_webhooks_count_once(connection, bot):
    take_in(connection, said(), said("Again", "wamid.in.2"), said(), webhooks=2)
    take_in(connection, said())
    assert execute(connection, "SELECT count(*) FROM messages") == [(2,)]
    assert execute(connection, "SELECT unread_count, last_message ->> 'body' FROM contacts") == [(2, "Again")]
    assert len(events(connection, "message")) == 2


def test_media_is_linked_at_once_and_fetched_later(connection, bot):
    photo = Media("media.1", "image/jpeg", "c2hh", "a.jpg")
    take_in(connection, said("Look", kind="image", media=photo, content={"image": {"id": "media.1"}}))
    ((number, link, metadata),) = execute(connection, "SELECT id::text, media_url, media_metadata FROM messages")
    assert link == f"https://bots.example/api/v2/media/0128/{number}"
    assert (metadata["mimeType"], metadata["content"]) == ("image/jpeg", {"image": {"id": "media.1"}})
    assert execute(connection, "SELECT message_id::text, bot_id, media ->> 'id' FROM media_download") == [
        (number, bot, "media.1")
    ]
    assert events(connection, "message")[0]["media"]["url"] == link


def test_a_user_without_a_number_is_a_chat_of_their_own_until_the_number_is_known(connection, bot):
    hidden = Peer(None, "US.1", "Aina")
    take_in(connection, said(sender=hidden))
    assert execute(connection, "SELECT contact_id, chat_id FROM messages") == [("0128-US.1", "US.1")]
    take_in(connection, said(wamid="wamid.in.2"))  # now with the number
    take_in(connection, said(wamid="wamid.in.3", sender=hidden))
    contacts = execute(connection, "SELECT contact_id FROM messages ORDER BY external_id")
    assert contacts == [("0128-US.1",), ("0128-60123456789",), ("0128-60123456789",)]


def test_a_message_sent_by_the_phone_itself_is_ours(connection, bot):
    take_in(connection, said(from_me=True))
    assert execute(connection, "SELECT direction, from_me, contact_id FROM messages") == [
        ("outbound", True, "0128-60123456789")
    ]
    assert execute(connection, "SELECT unread_count FROM contacts") == [(0,)]
    assert execute(connection, "SELECT count(*) FROM chat") == [(0,)]
    ((name, payload),) = events(connection)
    assert (name, payload["fromMe"], payload["to"]) == ("message.any", True, CHAT)


def test_a_reaction_is_stored_with_its_message_and_the_latest_one_wins(connection, bot):
    ours = sent(connection, bot)
    heart = Reaction(NUMBER, "wamid.r1", AINA, "wamid.out.1", "❤", AT + 1)
    gone = Reaction(NUMBER, "wamid.r2", AINA, "wamid.out.1", "", AT + 2)
    take_in(connection, heart, heart)
    assert execute(connection, "SELECT reaction FROM messages") == [("❤",)]
    take_in(connection, gone)
    take_in(connection, heart)  # late and repeated
    assert execute(connection, "SELECT reaction FROM messages") == [(None,)]
    told = [payload["reaction"] for payload in events(connection, "message.reaction")]
    assert [(each["text"], each["messageId"]) for each in told[-1:]] == [("", ours)]
    assert {each["providerId"] for each in told} == {"wamid.out.1"}


def test_a_reaction_to_an_unknown_message_raises_an_event(connection, bot):
    take_in(connection, Reaction(NUMBER, "wamid.r1", AINA, "wamid.elsewhere", "👍", AT))
    (payload,) = events(connection, "message.reaction")
    assert payload["reaction"] == {"text": "👍", "messageId": None, "providerId": "wamid.elsewhere"}


def test_edits_and_revocations_change_the_history_once(connection, bot):
    take_in(connection, said())
    edit = Edit(NUMBER, AINA, "wamid.in.1", "Hello!", AT + 5)
    take_in(connection, edit, webhooks=2)
    take_in(connection, Edit(NUMBER, AINA, "wamid.in.1", "older", AT + 1))
    assert execute(connection, "SELECT content, edited FROM messages") == [("Hello!", True)]
    take_in(connection, Revocation(NUMBER, AINA, "wamid.in.1", AT + 9), webhooks=2)
    assert execute(connection, "SELECT status FROM messages") == [("revoked",)]
    assert [payload["body"] for payload in events(connection, "message.edited")] == ["Hello!"]
    assert len(events(connection, "message.revoked")) == 1


def test_an_update_for_an_unknown_number_is_rejected_and_the_rest_of_the_webhook_applied(connection, bot):
    stranger = Incoming("999", "wamid.x", AINA, "text", AT, "?")
    take_in(connection, stranger, said())
    ((error,),) = execute(connection, "SELECT error FROM webhook_inbox")
    assert "999" in error
    assert execute(connection, "SELECT content FROM messages") == [("Hello",)]


def test_a_bots_own_secret_speaks_for_that_bot_alone(connection, bot):
    other = add_bot(connection, index=1, kind="360dialog")
    ours = sent(connection, bot)
    take_in(connection, said(), report(Status.READ, ours=ours, number=""), bot_id=other)
    assert execute(connection, "SELECT count(*) FROM messages WHERE direction = 'inbound'") == [(0,)]
    assert execute(connection, "SELECT status FROM outbox") == [("sent",)]
    execute(connection, "UPDATE phone_configs SET meta_phone_number_id = NULL WHERE id = %s", (other,))
    take_in(connection, said(wamid="wamid.in.2"), bot_id=other)
    assert execute(connection, "SELECT phone_index FROM messages WHERE direction = 'inbound'") == [(1,)]


def test_reports_become_acknowledgements_each_once_and_forwards(connection, bot):
    ours = sent(connection, bot)
    words = ("read", "delivered", "sent")
    reports = [report(Status(each), ours=ours, details={"pricing": {"category": each}}) for each in words]
    take_in(connection, *reports, webhooks=2)
    acks = [(payload["status"], payload["ack"], payload["id"]) for payload in events(connection, "message.ack")]
    # The API's answer to the send had no price, so `sent` is reported once more with it.
    assert acks == [("sent", 1, ours), ("sent", 1, ours), ("delivered", 2, ours), ("read", 3, ours)]
    assert events(connection, "message.ack")[1]["pricing"] == {"category": "sent"}
    assert events(connection, "message.ack")[2]["pricing"] == {"category": "delivered"}
    ((timeline,),) = execute(connection, "SELECT timeline FROM outbox")
    assert {"category": "read"} in [step.get("pricing") for step in timeline]
    assert [payload["fromMe"] for payload in events(connection, "message.any")] == [True]


def test_a_refusal_raises_an_event_and_an_expired_window_is_closed(connection, bot):
    take_in(connection, said(at=4e9))
    ours = sent(connection, bot)
    take_in(connection, report(Status.FAILED, ours=ours, code="131047", reason="more than 24 hours"))
    ack = events(connection, "message.ack")[-1]
    assert (ack["ack"], ack["error"]) == (-1, {"code": "131047", "reason": "more than 24 hours"})
    assert execute(connection, "SELECT window_until <= now() FROM chat") == [(True,)]


def acks(connection):
    return [(payload["status"], payload["timestamp"]) for payload in events(connection, "message.ack")]


def test_a_step_that_is_reported_late_is_told_once_with_its_price_and_moves_nothing_back(connection, bot):
    ours = sent(connection, bot)
    take_in(connection, replace(report(Status.READ, ours=ours), at=AT + 9))
    priced = replace(report(Status.DELIVERED, ours=ours, details={"pricing": {"billable": True}}), at=AT + 5)
    take_in(connection, priced, webhooks=2)
    take_in(connection, report(Status.SENT, ours=ours), report(Status.FAILED, ours=ours, code="131026"))
    told = events(connection, "message.ack")
    assert acks(connection)[1:] == [("read", AT + 9), ("delivered", AT + 5)]
    assert told[-1]["pricing"] == {"billable": True}
    assert execute(connection, "SELECT status FROM outbox UNION SELECT status::message_status FROM messages") == [
        ("read",)
    ]


@settings(max_examples=20)
@given(st.permutations([Status.SENT, Status.DELIVERED, Status.READ] * 2), st.integers(0, 6))
def test_every_step_is_told_once_in_whatever_order_it_is_known(opened, order, recorded):
    connection = opened[0]
    execute(connection, "TRUNCATE phone_configs, bot_pace, lane, outbox, messages, contacts, event_feed, event CASCADE")
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    message = entry(add_bot(connection), CHAT)
    accept(connection, message)
    (claimed,) = outbox().claim(connection, 1)
    for n, status in enumerate([*order, None]):
        if n == recorded:
            outbox().record(connection, [Result(**{**_fields(result(claimed)), "provider_id": "wamid.out.1"})])
        if status:
            take_in(connection, report(status, ours=message.message_id))
    assert sorted(status for status, _ in acks(connection)) == ["delivered", "read", "sent"]
    assert execute(connection, "SELECT status FROM outbox") == [("read",)]
    assert len(events(connection, "message.any")) == 1


def test_a_link_that_meta_could_not_fetch_is_sent_once_more_from_our_own_copy(connection, bot):
    ours = sent(connection, bot, media={"link": "https://shop.example/a.jpg"})
    later = entry(bot, CHAT)
    refused = report(Status.FAILED, ours=ours, code="131053", reason="no upload", link_refused=True)
    accept(connection, later)
    take_in(connection, refused, webhooks=2)
    (again,) = outbox().claim(connection, 1)
    assert (again.message_id, again.payload["media"]["fetch"]) == (ours, True)
    take_in(connection, refused, report(Status.SENT, ours=ours))  # of the first try: says nothing
    outbox().record(connection, [Result(**{**_fields(result(again)), "provider_id": "wamid.out.2"})])
    assert execute(connection, "SELECT external_id FROM messages") == [("wamid.out.2",)]
    take_in(connection, report(Status.FAILED, "wamid.out.2", ours, "131053", "still not", link_refused=True))
    assert execute(connection, "SELECT status FROM outbox WHERE message_id = %s", (ours,)) == [("failed",)]
    (following,) = outbox().claim(connection, 1)
    assert following.message_id == later.message_id
    assert len(events(connection, "message.any")) == 1


def test_a_throttled_account_pauses_all_its_numbers_and_a_throttled_number_is_slowed(connection, bot):
    sister, stranger = add_bot(connection, index=1), add_bot(connection, index=2)
    execute(connection, "UPDATE phone_configs SET meta_waba_id = 'W1' WHERE id = %s", (sister,))
    holds.hold(connection, [Hold(bot, Scope.ACCOUNT, 300, "80007: too many calls")])
    held = execute(connection, "SELECT bot_id FROM bot_pace WHERE held_until > now() ORDER BY 1")
    assert held == [(bot,), (sister,)]
    holds.hold(connection, [Hold(stranger, Scope.BOT, 0, "130429: too fast", slower=True)])
    holds.hold(connection, [Hold(stranger, Scope.BOT, 0, "130429: too fast", slower=True)])
    assert execute(connection, "SELECT slow_factor FROM bot_pace WHERE bot_id = %s", (stranger,)) == [(0.25,)]


def test_a_new_credential_releases_the_queue_whichever_program_stored_it(connection, bot):
    accept(connection, entry(bot))
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired")])
    assert outbox().claim(connection, 1) == []
    execute(connection, "UPDATE phone_configs SET meta_access_token_encrypted = 'new' WHERE id = %s", (bot,))
    assert len(outbox().claim(connection, 1)) == 1
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting", "active"]


def test_companies_that_never_asked_have_no_events(connection):
    add_bot(connection)
    take_in(connection, said())
    assert execute(connection, "SELECT count(*) FROM event") == [(0,)]
    assert execute(connection, "SELECT count(*) FROM messages") == [(1,)]


def test_several_workers_keep_the_order_in_which_things_came(connection, database, bot):
    for number in range(300):
        execute(
            connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', %s)", (str(number).encode(),)
        )
    pool, _ = open_database(database)

    def work():
        with pool.connection() as own:
            Inbox("meta", lambda body: [said(body.decode(), f"wamid.{body.decode()}")]).apply_all(own)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    pool.close()
    assert [payload["body"] for payload in events(connection, "message")] == [str(number) for number in range(300)]


names = st.sampled_from(["a", "b"])
arrivals = st.one_of(
    st.builds(said, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), names),
    st.builds(Reaction, st.just(NUMBER), names, st.just(AINA), names, st.sampled_from(["", "👍"]), st.floats(1, 9)),
    st.builds(Edit, st.just(NUMBER), st.just(AINA), names, st.just("edited"), st.floats(1, 9)),
    st.builds(Revocation, st.just(NUMBER), st.just(AINA), names, st.floats(1, 9)),
)


@settings(max_examples=30)
@given(st.lists(arrivals, max_size=8))
def test_any_webhook_is_applied_and_a_duplicate_changes_nothing(connection, coming):
    execute(connection, "TRUNCATE phone_configs, messages, contacts, chat, event, event_feed, webhook_inbox CASCADE")
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    add_bot(connection)
    take_in(connection, *coming)
    before = execute(connection, "SELECT external_id, content, reaction, status FROM messages ORDER BY 1")
    take_in(connection, *[each for each in coming if isinstance(each, Incoming)])
    assert execute(connection, "SELECT external_id, content, reaction, status FROM messages ORDER BY 1") == before
    assert execute(connection, "SELECT count(*) FROM webhook_inbox WHERE error IS NOT NULL") == [(0,)]
