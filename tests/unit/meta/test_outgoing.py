"""The requests that send every kind of message, and what is refused because Meta could never send it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connector import Unsupported
from services.connectors.limits import check_meta
from services.connectors.meta.connector import body
from services.message import Outgoing, Payload

UUID = "0190c0de-0000-7000-8000-000000000000"
CHAT = "60123456789"
LINK = "https://files.example/a.jpg"


def written(kind, payload, file=None, chat=CHAT):
    return orjson.loads(body(Outgoing(1, UUID, 1, chat, kind, payload, 0), file))


def envelope(kind, content):
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+{CHAT}",
        "type": kind,
        kind: content,
        "biz_opaque_callback_data": UUID,
    }


@pytest.mark.parametrize(
    ("kind", "payload", "file", "content"),
    [
        ("text", {"message": "Grüße 👋"}, None, {"body": "Grüße 👋", "preview_url": True}),
        ("image", {"media": {"link": LINK}}, {"link": LINK}, {"link": LINK}),
        ("image", {"media": {"key": "k"}, "caption": "Hi"}, {"id": "77"}, {"id": "77", "caption": "Hi"}),
        ("video", {"media": {"key": "k"}, "caption": "Hi"}, {"id": "77"}, {"id": "77", "caption": "Hi"}),
        ("audio", {"media": {"key": "k"}}, {"id": "77"}, {"id": "77"}),
        ("audio", {"media": {"key": "k"}, "voice": True}, {"id": "77"}, {"id": "77", "voice": True}),
        ("sticker", {"media": {"key": "k"}}, {"id": "77"}, {"id": "77"}),
        (
            "document",
            {"media": {"link": LINK}, "filename": "Bill.pdf", "caption": "May"},
            {"link": LINK},
            {"link": LINK, "filename": "Bill.pdf", "caption": "May"},
        ),
        ("document", {"media": {"key": "k", "filename": "a.pdf"}}, {"id": "7"}, {"id": "7", "filename": "a.pdf"}),
        ("image", {"media": {"key": "k", "filename": "a.png"}}, {"id": "7"}, {"id": "7"}),
        (
            "template",
            {"templateName": "order_ready", "language": "en_US", "variables": ["Ana", "17:00"]},
            None,
            {
                "name": "order_ready",
                "language": {"code": "en_US"},
                "components": [
                    {
                        "type": "body",
                        "parameters": [{"type": "text", "text": "Ana"}, {"type": "text", "text": "17:00"}],
                    }
                ],
            },
        ),
        (
            "template",
            {"templateName": "hello_world", "language": "ms", "variables": []},
            None,
            {"name": "hello_world", "language": {"code": "ms"}},
        ),
        (
            "template",
            {"templateName": "pay", "language": "en", "variables": ["x"], "components": [{"type": "button"}]},
            None,
            {"name": "pay", "language": {"code": "en"}, "components": [{"type": "button"}]},
        ),
        (
            "reaction",
            {"reaction": "👍", "targetMessageId": "x", "target_provider_id": "wamid.7"},
            None,
            {"message_id": "wamid.7", "emoji": "👍"},
        ),
        (
            "reaction",
            {"reaction": "", "targetMessageId": "x", "target_provider_id": "wamid.7"},
            None,
            {"message_id": "wamid.7", "emoji": ""},
        ),
    ],
)
def test_every_kind_becomes_the_documented_request(kind, payload, file, content):
    assert written(kind, payload, file) == envelope(kind, content)


@pytest.mark.parametrize(
    ("typing", "more"), [(False, {}), (True, {"typing_indicator": {"type": "text"}})], ids=["read", "read and typing"]
)
def test_a_read_receipt_is_no_message(typing, more):
    receipt = written("read", {"targetMessageId": "x", "target_provider_id": "wamid.7", "typing": typing})
    assert receipt == {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.7"} | more


@pytest.mark.parametrize(
    ("kind", "payload", "file"),
    [
        ("text", {"message": "yes"}, None),
        ("image", {"media": {"link": LINK}}, {"link": LINK}),
        ("template", {"templateName": "a", "language": "en"}, None),
    ],
)
def test_a_reply_names_the_message_that_it_answers(kind, payload, file):
    quoting = payload | {"quotedMessageId": "x", "quoted_provider_id": "wamid.7"}
    assert written(kind, quoting, file) == written(kind, payload, file) | {"context": {"message_id": "wamid.7"}}


def test_a_reaction_has_no_context():
    payload = {"reaction": "👍", "target_provider_id": "wamid.7", "quoted_provider_id": "wamid.8"}
    assert "context" not in written("reaction", payload)


def test_a_user_without_a_visible_number_is_addressed_by_the_user_id():
    fields = written("text", {"message": "Hi"}, chat="US.13491208655302741918")
    assert fields["recipient"] == "US.13491208655302741918"
    assert "to" not in fields


@pytest.mark.parametrize(
    ("kind", "payload"), [("poll", {}), ("text", {}), ("reaction", {"reaction": "👍"}), ("image", {})]
)
def test_an_unknown_kind_or_payload_raises_key_error(kind, payload):
    with pytest.raises(KeyError):
        written(kind, payload)


@pytest.mark.parametrize(
    ("kind", "chat", "payload", "says"),
    [
        ("text", "123-456@g.us", {"message": "hi"}, "WhatsApp Web bot"),
        ("image", "987654@lid", {"media": {"link": LINK}}, "phone number"),
        ("poll", CHAT, {}, "they send text, image"),
        ("text", CHAT, {"message": "x" * 4097}, "split"),
        ("image", CHAT, {"caption": "x" * 1025}, "rest as a text"),
        ("video", CHAT, {"caption": "x" * 1025}, "rest as a text"),
        ("document", CHAT, {"caption": "x" * 1025}, "rest as a text"),
        ("audio", CHAT, {"caption": "x"}, "a text of its own"),
        ("sticker", CHAT, {"caption": "x"}, "a text of its own"),
        ("template", CHAT, {"templateName": "Order Ready", "language": "en"}, "lower-case"),
        ("template", CHAT, {"templateName": "a" * 513, "language": "en"}, "lower-case"),
        ("template", CHAT, {"templateName": "", "language": "en"}, "lower-case"),
        ("template", CHAT, {"templateName": "a", "language": "English"}, "en_US"),
        ("template", CHAT, {"templateName": "a", "language": "en-US"}, "en_US"),
        ("template", CHAT, {"templateName": "a", "language": "en", "variables": ["x", ""]}, "empty"),
        ("template", CHAT, {"templateName": "a", "language": "en", "variables": ["x" * 20_000] * 2}, "shorten"),
        ("template", CHAT, {"templateName": "a", "language": "en", "components": [{}]}, "needs a type"),
        (
            "template",
            CHAT,
            {"templateName": "a", "language": "en", "components": [{"type": "x" * 70_000}]},
            "shorten",
        ),
    ],
)
def test_messages_that_meta_cannot_send_are_refused_with_an_alternative(kind, chat, payload, says):
    with pytest.raises(Unsupported, match=says):
        check_meta(kind, chat, payload)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("text", {"message": "é" * 4096}),
        ("image", {"caption": "é" * 1024}),
        ("image", {"caption": None}),
        ("audio", {"caption": ""}),
        ("template", {"templateName": "order_ready_2", "language": "en_US", "variables": ["x"] * 20}),
        ("template", {"templateName": "a", "language": "fil"}),
        ("template", {"templateName": "a", "language": "sr_Latn", "components": [{"type": "body"}]}),
        ("read", {"typing": True}),
    ],
)
@pytest.mark.parametrize("chat", [CHAT, "US.13491208655302741918"])
def test_messages_that_meta_can_send_are_accepted(kind, payload, chat):
    check_meta(kind, chat, payload)


EMOJI = (
    "", "👍", "❤", "❤️", "☝🏽", "👍🏿", "🇲🇾", "1️⃣", "#⃣", "™", "\u2139️", "〰️", "⏰", "⭐", "🅰️", "🈁", "㊙️", "🫩",
    "👨\u200d👩\u200d👧\u200d👦", "👩🏽\u200d❤️\u200d💋\u200d👨🏿", "🏃🏽\u200d♀️\u200d➡️",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
)  # fmt: skip
OTHERS = (
    "ok", "1", "👍👍", "👍 ", " ", "👍!", "é", "好", "🇲", "🇲🇾🇸🇬", "\u200d", "👍\u200d", "\ufe0f", "🏽x", "👍" * 99,
    "\u200d".join("👍" * 20),
)  # fmt: skip


@pytest.mark.parametrize("emoji", EMOJI)
def test_a_reaction_is_any_one_emoji(emoji):
    check_meta("reaction", CHAT, {"reaction": emoji})


@pytest.mark.parametrize("text", OTHERS)
def test_a_reaction_other_than_one_emoji_is_refused(text):
    with pytest.raises(Unsupported, match="one emoji"):
        check_meta("reaction", CHAT, {"reaction": text})


@given(st.sampled_from(["text", "image", "audio", "template", "reaction"]), st.text(), st.text(max_size=40))
def test_an_accepted_payload_can_be_written(kind, chat, said):
    payload: Payload = {
        "message": said, "caption": said, "media": {"link": LINK}, "templateName": said, "language": said,
        "variables": [said], "reaction": said, "target_provider_id": "wamid.7",
    }  # fmt: skip
    try:
        check_meta(kind, chat, payload)
    except Unsupported as refused:
        assert len(str(refused)) > 20
        return
    assert written(kind, payload, {"link": LINK} if kind in ("image", "audio") else None)["type"] == kind
