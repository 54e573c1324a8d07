"""The connector of WhatsApp Web: what it refuses, what it hands to the page, which files it brings to disk."""

import io
from pathlib import Path
from typing import Unpack

import pytest

from bisnesctl.settings import Settings
from services.connector import LocalFile, PageRequest, Preparation, Unsupported
from services.connectors import limits
from services.connectors.wwebjs.translation import errors
from services.connectors.wwebjs.translation.connector import WwebjsConnector, page_request
from services.media.fetch import Fetcher
from services.media.folder import FolderStore
from services.message import Bot, Outgoing, Payload, Rejected, Retry, StoredFile
from tests.support.file_beginnings import PNG

BOT = Bot(1, "0128", 0, "wwebjs", "wwebjs")
CHAT, GROUP = "60123456789", "120363000000000001@g.us"


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "media")


@pytest.fixture
def connector(store):
    return WwebjsConnector(Settings(), store, Fetcher(()))


def message(kind="text", /, **payload: Unpack[Payload]):
    return Outgoing(7, "m", 1, CHAT, kind, payload, 0)


def test_a_text_becomes_a_call_of_the_page(connector):
    text = message(message="Hi")
    request = connector.request(BOT, text)
    assert isinstance(request, PageRequest)
    (call,) = request.calls
    assert (call.function, call.arguments[:2]) == ("WPP.chat.sendTextMessage", (f"{CHAT}@c.us", "Hi"))
    assert (request.message, request.file) == (text, None)


def test_a_file_is_brought_to_disk_first_and_released_after_the_send(connector, store):
    kept = store.put("0128", io.BytesIO(PNG), "image/png", 1 << 20)
    picture = message("image", media={"key": kept.key, "mimeType": "image/png"})
    preparation = connector.request(BOT, picture)
    assert isinstance(preparation, Preparation)
    assert preparation.run() is None
    request = connector.request(BOT, picture)
    assert request.file.path.read_bytes() == PNG
    assert request.file.mime_type == "image/png"
    request.file.release()
    assert isinstance(connector.request(BOT, picture), Preparation)


@pytest.mark.parametrize(
    ("media", "code"),
    [
        ({"link": "http://127.0.0.1:1/a.png"}, "media_link"),
        ({"key": "0128/2026-01/" + "0" * 64 + ".png", "mimeType": "image/png"}, "media_missing"),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_message(connector, media, code):
    refused = connector.request(BOT, message("image", media=media)).run()
    assert isinstance(refused, Rejected)
    assert refused.code == code


@pytest.mark.parametrize(
    ("kind", "payload"), [("hologram", {}), ("text", {}), ("image", {}), ("edit", {}), ("delete", {})]
)
def test_a_message_that_this_version_does_not_know_is_refused_without_a_preparation(connector, kind, payload):
    refused = connector.request(BOT, message(kind, **payload))
    assert isinstance(refused, Rejected)
    assert kind in refused.reason


@pytest.mark.parametrize(
    ("kind", "chat", "payload"),
    [
        ("template", CHAT, {}),
        ("hologram", CHAT, {}),
        ("text", "US.13491208655302741918", {"message": "x"}),
        ("text", CHAT, {"message": "x" * 4097}),
        ("edit", CHAT, {"message": "x" * 4097}),
        ("text", GROUP, {"message": "x", "mentions": [CHAT] * 101}),
        ("image", CHAT, {"caption": "x" * 1025}),
        ("sticker", CHAT, {"caption": "x"}),
        ("reaction", CHAT, {"reaction": "no"}),
    ],
)
def test_messages_that_whatsapp_web_cannot_send_are_refused(kind, chat, payload):
    with pytest.raises(Unsupported):
        limits.check_wwebjs(kind, chat, payload)


def test_groups_hidden_numbers_and_every_kind_are_accepted():
    for chat in (CHAT, GROUP, "123456789012345@lid"):
        limits.check_wwebjs("text", chat, {"message": "x", "mentions": [CHAT]})
    for kind in ("image", "video", "audio", "document", "sticker", "read", "delete"):
        limits.check_wwebjs(kind, CHAT, {})


def test_a_text_asks_for_no_link_preview_and_leaves_its_chat_unread():
    request = page_request(message(message="https://example.com", quoted_provider_id="q", mentions=[CHAT]))
    chat, text, options = request.calls[0].arguments
    assert (chat, text) == (f"{CHAT}@c.us", "https://example.com")
    assert (options["quotedMsg"], options["mentionedList"]) == ("q", [f"{CHAT}@c.us"])
    assert options["linkPreview"] is options["markIsRead"] is False


def test_voice_messages_and_the_names_of_files():
    media: StoredFile = {"key": "k", "mimeType": "x", "filename": "note.ogg"}
    voice = file_options(message("audio", media=media, voice=True), "audio/ogg; codecs=opus")
    assert (voice["isPtt"], voice["filename"]) == (True, "note.ogg")
    nameless = file_options(message("document", media={"link": "x"}), "application/pdf")
    assert nameless["filename"] == "file.pdf"


@pytest.mark.parametrize(
    ("link", "given", "served", "filename"),
    [
        ("https://example.com/get.php", None, "Invoice 17.pdf", "Invoice 17.pdf"),
        ("https://example.com/a.pdf", "a.pdf", "Invoice 17.pdf", "Invoice 17.pdf"),
        ("https://example.com/a.pdf", "Bill.pdf", "Invoice 17.pdf", "Bill.pdf"),
        ("https://example.com/get.php", None, None, "file.pdf"),
    ],
)
def test_a_file_has_the_callers_name_or_its_servers(link, given, served, filename):
    payload = {"media": {"link": link}} | ({"filename": given} if given else {})
    file = LocalFile(Path("file"), "application/pdf", lambda: None, served)
    (call,) = page_request(message("document", **payload), file).calls
    assert call.arguments[-1]["filename"] == filename


def file_options(sent, mime_type):
    (call,) = page_request(sent, LocalFile(Path("file"), mime_type, lambda: None)).calls
    return call.arguments[-1]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("chat_not_found", Rejected), ("file_too_large", Rejected), ("message_key_remote_id_is_not_same_of_chat", Retry)],
)
def test_the_pages_errors_say_whether_another_try_helps(code, kind):
    refusal = errors.classify(code, "it says no")
    assert isinstance(refusal, kind)
    assert (refusal.code, "it says no" in refusal.reason) == (code, True)
    assert isinstance(errors.classify(None, "x" * 10_000), Retry)
    assert len(errors.classify(None, "x" * 10_000).reason) < 1000
