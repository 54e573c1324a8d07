"""From each kind of webhook to its events, its row of the history, its contact and its window."""

import pytest

from tests.support.meta_inbox import AT, MetaInbox
from tests.support.meta_payloads import AINA, Json, message, value, webhook
from tests.support.outbox import execute

OWN, GROUP = "60311112222", "Y2FwaV9ncm91cDoxNzA1NTU1MDEzOToxMjAz"
FILE = {"id": "4490", "mime_type": "audio/ogg; codecs=opus", "sha256": "c2hh"}
AD = {
    "source_url": "https://fb.me/x", "source_id": "1202", "source_type": "ad", "headline": "Chat", "body": "Sale",
    "media_type": "image", "image_url": "https://example.com/a.jpg", "ctwa_clid": "Aff-n8",
    "welcome_message": {"text": "Hi"},
}  # fmt: skip
PRODUCT = {"catalog_id": "c1", "product_retailer_id": "SKU-1"}
MISSING = {"code": 131052, "title": "Media download error", "error_data": {"details": "expired"}}
HELLO = {"body": "Hello"}


@pytest.fixture
def meta(opened):
    return MetaInbox(opened[0])


#: A message, the words of its event and what else its event has.
MESSAGES: dict[str, tuple[Json, str | None, Json]] = {
    "text": (message("text", HELLO), "Hello", {"content": None, "media": None}),
    "reply": (message("text", HELLO, context={"from": "603", "id": "w"}), "Hello", {"replyTo": {"id": "w"}}),
    "advertisement": (message("text", HELLO, referral=AD), "Hello", {"referral": AD}),
    "advertisement, file": (
        message("image", FILE | {"caption": "This?"}, referral=AD), "This?", {"referral": AD, "hasMedia": True},
    ),
    "product": (
        message("text", HELLO, context={"referred_product": PRODUCT}), "Hello", {"referredProduct": PRODUCT},
    ),
    "forwarded": (message("text", HELLO, context={"forwarded": True}), "Hello", {"forwarded": True}),
    "often forwarded": (
        message("video", FILE, context={"frequently_forwarded": True}), None,
        {"forwarded": True, "frequentlyForwarded": True, "hasMedia": True},
    ),
    "lost file": (message("image", FILE, errors=[MISSING]), None, {"errors": [MISSING], "hasMedia": True}),
    "lost file without id": (
        message("image", {"mime_type": "image/jpeg"}, errors=[MISSING]), None, {"errors": [MISSING], "hasMedia": False},
    ),
    "identity": (message("text", HELLO, identity={"hash": "x"}), "Hello", {"content": "identity"}),
    "old voice": (message("voice", FILE), None, {"type": "voice", "hasMedia": True}),
    "new file": (message("hologram", FILE | {"caption": "Look"}), "Look", {"type": "hologram", "hasMedia": True}),
    "file beside its type": (message("unknown", {}, video=FILE), None, {"hasMedia": True}),
    "new text": (message("poem", {"body": "Roses"}), "Roses", {"hasMedia": False}),
    "button": (message("button", {"payload": "yes"}), "yes", {"content": "button"}),
    "button with text": (message("button", {"text": "Yes", "payload": "y"}), "Yes", {"content": "button"}),
    "flow": (
        message("interactive", {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}}), "Sent",
        {"content": "interactive"},
    ),
    "permission": (
        message("interactive", {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}}),
        "accept", {"content": "interactive"},
    ),
    "order": (
        message("order", {"product_items": [{"product_retailer_id": "SKU-1", "quantity": 2}, PRODUCT]}),
        "2 x SKU-1, 1 x SKU-1", {"content": "order"},
    ),
    "place": (message("location", {"latitude": 3.1, "longitude": 101.7}), "3.1, 101.7", {"content": "location"}),
    "person without a name": (
        message("contacts", [{"phones": [{"phone": "+60 1"}]}]), "+60 1", {"content": "contacts"},
    ),
    "company": (message("contacts", [{"org": {"company": "ACME"}}]), "ACME", {"content": "contacts"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_is_stored_and_its_event_says_all(meta, kind):
    said, words, more = MESSAGES[kind]
    meta.say(said)
    (event,) = meta.events("message")
    assert meta.events("message.any") == [event]
    assert event["body"] == words
    for name, expected in more.items():
        shown = event[name]
        assert shown == expected or (name == "content" and expected in shown), name
    assert (event["chatId"], event["from"], event["to"]) == (AINA, AINA, OWN)
    assert meta.rows("contact_id, content, message_type") == [(f"0128-{AINA}", words, said["type"])]
    assert meta.contacts() == [(f"0128-{AINA}", "Aina", 1)]
    assert meta.windows() == [(AINA, None, True)]
    downloads = execute(meta.connection, "SELECT media ->> 'id' FROM media_download")
    assert downloads == ([("4490",)] if event["hasMedia"] else [])


@pytest.mark.parametrize(
    "said",
    [
        message("text", HELLO, group_id=GROUP),
        message("image", FILE, group_id=GROUP),
        message("reaction", {"message_id": "wamid.ours", "emoji": "👍"}, group_id=GROUP),
        message("system", {"body": "changed", "type": "user_changed_number", "wa_id": "60199999"}, group_id=GROUP),
        message("edit", {"original_message_id": "wamid.ours", "message": {"text": HELLO}}, group_id=GROUP),
    ],
    ids=lambda said: said["type"],
)
def test_a_message_of_a_group_touches_no_chat(meta, said):
    ours = meta.send()
    before = (meta.rows("id::text, reaction, content"), meta.contacts(), meta.windows())
    meta.say(said)
    assert (meta.rows("id::text, reaction, content"), meta.contacts(), meta.windows()) == before
    (notice,) = meta.events("provider.update")
    assert notice["value"].items() >= said.items()
    assert notice["value"]["contact"]["profile"] == {"name": "Aina"}
    assert ours
    assert execute(meta.connection, "SELECT count(*) FROM process_events") == [(0,)]


@pytest.mark.parametrize(
    "receipt",
    [
        {"recipient_type": "group", "recipient_id": GROUP},
        {"recipient_type": "group", "recipient_participant_id": AINA},
        {"recipient_id": GROUP},
        {"group_id": GROUP},
    ],
    ids=lambda receipt: "+".join(receipt),
)
def test_the_receipt_of_a_groups_member_does_not_mark_a_message(meta, receipt):
    ours = meta.send()
    meta.report({"id": "wamid.ours", "status": "read", "biz_opaque_callback_data": ours} | receipt)
    assert meta.rows("status") == [("sent",)]
    assert [event["status"] for event in meta.events("message.ack")] == ["sent"]
    assert meta.events("provider.update")[0]["value"]["status"] == "read"


PAST = {"from": OWN, "to": AINA, "id": "wamid.H1", "timestamp": str(AT), "type": "text", "text": {"body": "old"}}


@pytest.mark.parametrize("field", ["history", "standby"])
@pytest.mark.parametrize(
    ("said", "mine", "status"),
    [
        (PAST | {"history_context": {"status": "READ"}}, True, "read"),
        (PAST | {"from": AINA, "to": None}, False, "received"),
        (PAST | {"type": "image", "image": FILE | {"caption": "old"}}, True, "sent"),
        (PAST | {"from": AINA, "to": None, "type": "image", "image": FILE | {"caption": "old"}}, False, "received"),
        (PAST | {"from": "60399", "history_context": {"status": "ERROR", "from_me": True}}, True, "failed"),
    ],
)
@pytest.mark.parametrize("in_thread", [True, False])
def test_the_past_is_history_without_events_unread_or_window(meta, field, said, mine, status, in_thread):
    threads = {"history": [{"metadata": {"phase": 0}, "threads": [{"id": AINA, "messages": [said]}]}]}
    metadata = {"display_phone_number": "+60 3-1111 2222", "phone_number_id": "1055"}
    meta.tell(webhook({"metadata": metadata} | (threads if in_thread else {"messages": [said]}), field=field))
    assert meta.rows("contact_id, content, from_me, status") == [(f"0128-{AINA}", "old", mine, status)]
    assert meta.contacts("contact_id, unread_count") == [(f"0128-{AINA}", 0)]
    assert meta.windows() == []
    assert [name for name, _ in meta.events()] == ["provider.update"]
    files = execute(meta.connection, "SELECT media ->> 'id' FROM media_download")
    assert files == ([("4490",)] if said["type"] == "image" else [])


@pytest.mark.parametrize("order", [1, -1])
def test_the_file_of_the_past_takes_the_place_of_its_placeholder(meta, order):
    placeholder = PAST | {"type": "media_placeholder"}
    with_file = PAST | {"type": "image", "image": FILE | {"caption": "old"}}
    for said in [placeholder, with_file, with_file][::order]:
        meta.say(said, field="history")
    assert meta.rows("message_type, content, from_me") == [("image", "old", True)]
    assert execute(
        meta.connection,
        "SELECT media_url = 'https://bots.example/api/v2/media/0128/' || id, media_metadata ->> 'id',"
        " (SELECT count(*) FROM media_download d WHERE d.message_id = m.id) FROM messages m",
    ) == [(True, "4490", 1)]


def test_the_contacts_of_the_business_app_touch_no_chat(meta):
    synced = {"type": "contact", "contact": {"full_name": "Aina", "phone_number": AINA}, "action": "add"}
    meta.tell(webhook(value(state_sync=[synced], messages=[]), field="smb_app_state_sync"))
    assert (meta.rows(), meta.contacts(), meta.windows()) == ([], [], [])
    assert meta.events("provider.update")[0]["value"]["state_sync"] == [synced]


def test_messages_in_a_field_that_we_do_not_know_touch_no_chat(meta):
    meta.say(message("text", HELLO), field="tomorrows_messages")
    assert (meta.rows(), meta.contacts(), meta.windows()) == ([], [], [])
    assert [name for name, _ in meta.events()] == ["provider.update"]


def test_a_message_of_the_business_phone_is_ours_and_so_are_its_changes(meta):
    echo = {"from": OWN, "to": AINA, "id": "wamid.e", "timestamp": str(AT), "type": "text", "text": HELLO}
    edit = echo | {
        "id": "w2",
        "type": "edit",
        "edit": {"original_message_id": "wamid.e", "message": {"text": {"body": "Hi"}}},
    }
    for said in (echo, edit):
        meta.tell(webhook(value(message_echoes=[said], messages=[]), field="smb_message_echoes"))
    assert meta.rows("content, from_me") == [("Hi", True)]
    assert [name for name, _ in meta.events()] == ["message.any", "message.edited"]
    assert (meta.contacts("unread_count"), meta.windows()) == ([(0,)], [])


def test_a_payment_beside_other_reports_is_a_notice_and_no_status(meta):
    ours = meta.send()
    payment = {"id": "wamid.ours", "type": "payment", "payment": {"reference_id": "order-2"}}
    sent = {"id": "wamid.ours", "status": "sent", "timestamp": str(AT), "pricing": {"billable": True}}
    deleted = {"id": "wamid.other", "status": "deleted"}
    meta.tell(
        webhook(value(statuses=[sent, payment | {"status": "captured"}, payment | {"status": "failed"}, deleted]))
    )
    assert meta.rows("status") == [("sent",)]
    assert [event["value"]["status"] for event in meta.events("provider.update")] == ["captured", "failed", "deleted"]
    assert ours
    assert execute(meta.connection, "SELECT count(*) FROM process_events") == [(0,)]


def test_the_price_of_each_report_is_in_an_event(meta):
    ours = meta.send()
    conversation = {"id": "c1", "expiration_timestamp": str(AT), "origin": {"type": "utility"}}
    billed = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
    sent = {"id": "wamid.ours", "status": "sent", "pricing": billed, "conversation": conversation}
    read = {"id": "wamid.ours", "status": "read"}
    delivered = {"id": "wamid.ours", "status": "delivered", "pricing": billed}  # which comes late
    meta.report(sent, sent, read, delivered, delivered, {"id": "wamid.ours", "status": "played"})
    found = [(event["status"], event.get("pricing"), event.get("played")) for event in meta.events("message.ack")]
    assert found == [
        ("sent", None, None), ("sent", billed, None), ("read", None, None), ("delivered", billed, None),
        ("read", None, True),
    ]  # fmt: skip
    assert meta.events("message.ack")[1]["conversation"] == conversation
    assert meta.events("message.ack")[1]["recipient_id"] == AINA
    ((timeline,),) = execute(meta.connection, "SELECT timeline FROM outbox WHERE message_id = %s", (ours,))
    assert {step["status"]: step.get("pricing") for step in timeline} == {
        "sent": billed,
        "delivered": billed,
        "read": None,
    }


def test_all_errors_of_a_failed_message_are_in_its_event(meta):
    meta.send()
    errors = [{"code": 131049, "title": "Limit", "href": "https://x"}, {"code": 1, "title": "Other"}]
    meta.report({"id": "wamid.ours", "status": "failed", "errors": errors})
    event = meta.events("message.ack")[-1]
    assert (event["status"], event["error"]["code"], event["errors"]) == ("failed", "131049", errors)
