"""Reading the page's events: every kind of event, and any other input."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.translation.incoming import EVENTS
from services.connectors.wwebjs.translation.incoming import parse as parse_body
from services.message import Call, Edit, Incoming, Media, Peer, Reaction, Revocation, Status, StatusUpdate

CHAT, GROUP, LID = "60123456789@c.us", "120363000000000001@g.us", "987654321098765@lid"
AINA, AT = Peer("60123456789", None, "Aina"), 1_790_000_000.0
THEIRS, OURS = f"false_{CHAT}_3A01", f"true_{CHAT}_3EB001"


def tell(name, data, at=AT):
    """The updates in an event."""
    return parse_body(json.dumps({"name": name, "data": data, "at": at, "boot": "b", "seq": 1}).encode())


def message(key=THEIRS, kind="chat", **more):
    name = None if key.startswith("true") else "Aina"
    return {"id": key, "type": kind, "t": AT - 5, "ack": 1, "name": name, "isGif": False} | more


def said(key=THEIRS, kind="chat", **more):
    return tell("chat.new_message", message(key, kind, **more))


def test_a_text_has_its_words_and_the_message_that_it_quotes():
    (text,) = said(body="Hello", quoted=OURS)
    assert text == Incoming("", THEIRS, AINA, "text", AT - 5, "Hello", OURS, plain=True)


@pytest.mark.parametrize(
    ("kind", "ours", "more", "words"),
    [
        ("location", "location", {"lat": 3.1, "lng": 101.7}, "3.1, 101.7"),
        ("location", "location", {"lat": 3.1, "lng": 101.7, "loc": "KLCC"}, "KLCC"),
        ("vcard", "contacts", {"vcards": [{"name": "Aina", "vcard": "…"}]}, "Aina"),
        ("multi_vcard", "contacts", {"vcards": [{"name": "A"}, {"name": "B"}, {"vcard": "…"}]}, "A, B"),
        ("poll_creation", "poll", {"title": "Lunch?"}, "Lunch?"),
        ("buttons_response", "button", {"body": "Yes"}, "Yes"),
        ("list_response", "interactive", {"title": "Large"}, "Large"),
        ("hsm", "hsm", {"body": "Your order is ready", "footer": "Shop"}, "Your order is ready"),
        ("list", "list", {"title": "Menu", "description": "Choose one"}, "Menu"),
        ("list", "list", {"body": "Choose one", "title": "Menu"}, "Choose one"),
        ("buttons", "buttons", {"body": "Yes or no?"}, "Yes or no?"),
        ("template", "template", {"body": "Hello"}, "Hello"),
        ("template_button_reply", "button", {"body": "Stop"}, "Stop"),
        ("interactive", "interactive", {"body": "Pick"}, "Pick"),
        ("interactive_response", "interactive_response", {"body": "Picked"}, "Picked"),
        ("groups_v4_invite", "groups_v4_invite", {"title": "Family"}, "Family"),
        ("event_creation", "event_creation", {"title": "Party"}, "Party"),
        ("product", "product", {"title": "Shoe"}, "Shoe"),
        ("comment", "comment", {"body": "Nice"}, "Nice"),
        ("order", "order", {}, None),
        ("something_new", "something_new", {}, None),
        ("chat", "unsupported", {}, None),
    ],
)
def test_every_kind_has_a_readable_text_and_keeps_its_kind(kind, ours, more, words):
    (found,) = said(kind=kind, **more)
    assert (found.kind, found.text) == (ours, words)
    assert ours == "unsupported" or found.content.items() >= more.items()


@pytest.mark.parametrize(
    ("kind", "ours", "voice"),
    [("image", "image", False), ("ptt", "audio", True), ("audio", "audio", False), ("ptv", "video", False),
     ("document", "document", False), ("sticker", "sticker", False)],
)  # fmt: skip
def test_a_file_is_fetched_by_the_key_of_its_message(kind, ours, voice):
    file = {"mimetype": "x/y; codecs=z", "filename": "a👩‍💻.bin", "filehash": "c2hh", "caption": "Look", "isGif": True}
    (found,) = said(kind=kind, **file)
    assert found.media == Media(THEIRS, "x/y; codecs=z", "c2hh", "a👩‍💻.bin", voice, True)
    assert (found.kind, found.text) == (ours, "Look")


def test_a_message_from_the_phone_is_ours_and_has_its_latest_status():
    sent, report = said(OURS, body="Hi", ack=2)
    assert (sent.from_me, sent.sender) == (True, Peer("60123456789"))
    assert report == StatusUpdate(OURS, Status.DELIVERED, AT - 5, recipient="60123456789")
    assert [type(each) for each in said(OURS, body="Hi", ack=0)] == [Incoming]
    assert said(OURS, body="Hi", ack=-1) == []  # which never left


def test_a_group_message_names_its_author_beside_the_group():
    key = f"false_{GROUP}_3A01_{LID}"
    (found,) = said(key, body="Hi", author=LID, authorPhone=CHAT, chatName="Family", mentioned=[CHAT])
    assert found.sender == Peer(GROUP, None, "Aina")
    assert found.content == {"author": "60123456789", "chatName": "Family", "mentioned": [CHAT]}
    (hidden,) = said(key, body="Hi", author="60123456789:5@c.us")
    assert hidden.content == {"author": "60123456789"}


def test_a_hidden_user_has_a_phone_number_if_whatsapp_knows_it():
    key = f"false_{LID}_3A01"
    assert said(key, body="Hi")[0].sender == Peer(None, LID, "Aina")
    assert said(key, body="Hi", phone=CHAT)[0].sender == Peer("60123456789", LID, "Aina")


@pytest.mark.parametrize("chat", ["status@broadcast", "120363000@newsletter", "1@broadcast", "0@c.us"])
def test_status_posts_channels_and_broadcasts_are_ignored(chat):
    assert said(f"false_{chat}_3A01", body="news") == []


@pytest.mark.parametrize("kind", ["ciphertext", "e2e_notification", "protocol", "gp2", "call_log"])
def test_entries_that_no_person_wrote_are_ignored(kind):
    assert said(kind=kind) == []


@pytest.mark.parametrize(
    ("ack", "status", "details"),
    [(1, Status.SENT, {}), (2, Status.DELIVERED, {}), (3, Status.READ, {}), (4, Status.READ, {"played": True})],
)
def test_acknowledgements_are_statuses(ack, status, details):
    other = f"true_{GROUP}_3EB002_{LID}"
    found = tell("chat.msg_ack_change", {"ack": ack, "ids": [OURS, THEIRS, other]})
    assert found == [
        StatusUpdate(OURS, status, AT, details=details, recipient="60123456789"),
        StatusUpdate(other, status, AT, details=details),
    ]


def test_the_receipt_of_one_member_says_nothing_of_the_others():
    key = f"true_{GROUP}_3EB002_{LID}"
    (found,) = tell("chat.msg_ack_change", {"ack": 3, "ids": [key], "sender": CHAT, "chat": GROUP})
    assert found.status is Status.SENT
    (found,) = tell("chat.msg_ack_change", {"ack": 3, "ids": [OURS], "sender": CHAT, "chat": CHAT})
    assert found.status is Status.READ


def test_forwards_mentions_and_advertisements_are_in_the_event():
    shop = {"source_url": "https://shop.example", "ctwa_clid": "Af"}
    (found,) = said(body="Hi", isForwarded=True, forwardingScore=7, mentioned=[CHAT], referral=shop)
    assert found.details == {
        "forwarded": True, "frequentlyForwarded": True, "mentions": ["60123456789"], "referral": shop,
    }  # fmt: skip
    (found,) = said(body="Hi", isForwarded=True, forwardingScore=1)
    assert found.details == {"forwarded": True}


def test_the_file_of_a_kind_that_we_do_not_know_is_kept():
    (found,) = said(kind="hologram", mimetype="model/x", filehash="c2hh", caption="Look")
    assert (found.media, found.text) == (Media(THEIRS, "model/x", "c2hh"), "Look")
    (found,) = said(kind="hologram", caption="Look")
    assert found.media is None


def test_acknowledgements_below_sent_are_ignored():
    assert tell("chat.msg_ack_change", {"ack": 0, "ids": [OURS]}) == []
    assert tell("chat.msg_ack_change", {"ack": -1, "ids": [OURS]}) == []


def test_reactions_edits_revocations_and_calls():
    reaction = {"id": f"false_{CHAT}_3A09", "msgId": OURS, "text": "❤", "sender": CHAT, "t": AT * 1000}
    assert tell("chat.new_reaction", reaction | {"name": "Aina"}) == [
        Reaction("", f"false_{CHAT}_3A09", AINA, OURS, "❤", AT)
    ]
    assert tell("chat.new_reaction", reaction | {"id": f"true_{CHAT}_3EB9", "text": ""})[0].from_me
    edit = {"chat": "601@c.us", "id": THEIRS, "msg": message(body="Hello!", edited=(AT - 1) * 1000)}
    assert tell("chat.msg_edited", edit) == [Edit("", AINA, THEIRS, "Hello!", AT - 1)]
    assert tell("chat.msg_revoke", {"refId": THEIRS}) == [Revocation("", Peer("60123456789"), THEIRS, AT)]
    call = {"id": "C1", "from": "60123456789:7@c.us", "isVideo": True, "isGroup": False, "t": AT, "name": "Aina"}
    assert tell("call.incoming_call", call) == [Call("", "C1", AINA, AT, video=True)]


def test_a_message_reported_late_comes_with_its_edit_or_revocation():
    text, edit = said(body="Hello!", edited=AT * 1000)
    assert (text.text, edit) == ("Hello!", Edit("", AINA, THEIRS, "Hello!", AT))
    gone, revocation = said(kind="revoked")
    assert (gone.kind, gone.text, revocation) == ("revoked", None, Revocation("", AINA, THEIRS, AT - 5))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("conn.main_ready", {}),
        ("chat.new_message", []),
        ("chat.new_message", {"id": "nonsense", "type": "chat"}),
        ("chat.msg_ack_change", {"ack": 2}),
        ("chat.msg_edited", {"id": THEIRS}),
        ("call.incoming_call", {"id": "C1", "from": "nobody"}),
    ],
)
def test_a_body_that_is_not_an_event_raises_value_error(name, data):
    with pytest.raises(ValueError, match=r"\w"):
        tell(name, data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([THEIRS, OURS, f"false_{GROUP}_3A_{LID}", f"false_{LID}_3A", "true_x@y_", "status@broadcast"])
kinds = st.sampled_from(["chat", "image", "ptt", "location", "vcard", "revoked", "list_response", "poll_creation"])
texts = ["body", "caption", "name", "phone", "author", "authorPhone", "chatName", "quoted", "title", "text", "from"]
others = ["t", "ack", "mimetype", "filename", "filehash", "isGif", "edited", "lat", "lng", "loc", "vcards", "mentioned"]
names = [*texts, *others, "type", "ids", "sender", "isVideo", "isGroup"]
fields = st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))
messages = st.builds(
    lambda found, own: found | {name: value for name, value in own.items() if value is not None},
    fields,
    st.fixed_dictionaries({"id": keys | values, "type": kinds | st.none(), "msgId": keys, "refId": keys | values}),
)
nested = st.builds(lambda found: found | {"msg": found, "ids": [found.get("id")]}, messages)
events = st.fixed_dictionaries(
    {"name": st.sampled_from(sorted(EVENTS)) | values, "at": values}, optional={"data": messages | nested | values}
)


@given(events | values)
def test_any_json_is_read_or_refused(event):
    with contextlib.suppress(ValueError):
        for update in parse_body(json.dumps(event).encode()):
            json.dumps(str(update))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body):
    with contextlib.suppress(ValueError):
        parse_body(body)
