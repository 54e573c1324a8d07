"""Every kind of message over HTTP: by link, as a data URL, uploaded; what is refused before it is accepted."""

import base64
import io
import json

import pytest
import requests

from services.api.schemas.base import Accepted, OneMessage
from services.media.store import media_store
from tests.support.api import CHAT, COMPANY, KEY, add_company, outbox, refusal, serving, settings_for
from tests.support.api import api as serve
from tests.support.database_catalogue import run
from tests.support.file_beginnings import GIF, MP4, OGG, PDF, PNG, WEBP
from tests.support.waiting import HANG_SECONDS

MB = 1 << 20


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path, PUBLIC_URL="https://bots.example")


@pytest.fixture
def client(settings):
    with serve(settings) as (_, client):
        yield client


def path(kind, chat=CHAT):
    return f"/api/v2/messages/{kind}/{COMPANY}/{chat}"


def send(client, kind, fields, chat=CHAT, **headers):
    return client.post(path(kind, chat), json=fields, headers={"X-Api-Key": KEY} | headers)


def upload(client, kind, content, name="a.bin", mime_type=None, fields=(), **headers):
    part = (io.BytesIO(content), name, *([mime_type] if mime_type else []))
    form = dict(fields) | {"file": part}
    headers = {"X-Api-Key": KEY} | headers
    return client.post(path(kind), data=form, headers=headers, content_type="multipart/form-data")


def stored(settings, answer):
    """Kind and payload of an accepted message, as the workers will have them."""
    assert answer.status_code == 202, answer.json
    Accepted.model_validate(answer.json, extra="forbid")
    statement = "SELECT kind, payload FROM outbox WHERE message_id = %s"
    return run(settings.database_dsn, statement, (answer.json["messageId"],))[0]


def data_url(content, mime_type="image/png"):
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def kept(settings, media):
    with media_store(settings).open(media["key"]) as file:
        return file.read()


@pytest.mark.parametrize(
    ("kind", "fields", "payload"),
    [
        ("image", {"imageUrl": "https://example.com/a.jpg", "caption": "Look", "phoneIndex": "1", "userName": "Aina"},
         {"media": {"link": "https://example.com/a.jpg"}, "caption": "Look", "userName": "Aina"}),
        ("video", {"videoUrl": "https://example.com/a.mp4", "caption": ""},
         {"media": {"link": "https://example.com/a.mp4"}}),
        ("audio", {"audioUrl": "https://example.com/a.ogg", "voice": True},
         {"media": {"link": "https://example.com/a.ogg"}, "voice": True}),
        ("document", {"documentUrl": "https://example.com/Invoice%2017.pdf", "caption": "Yours"},
         {"media": {"link": "https://example.com/Invoice%2017.pdf"}, "caption": "Yours", "filename": "Invoice 17.pdf"}),
        ("document", {"documentUrl": "https://example.com/x", "filename": "a/b/c.pdf"},
         {"media": {"link": "https://example.com/x"}, "filename": "c.pdf"}),
        ("sticker", {"stickerUrl": "http://example.com/a.webp"}, {"media": {"link": "http://example.com/a.webp"}}),
        ("template", {"templateName": "order_ready", "language": "en", "variables": ["Aina", 17]},
         {"templateName": "order_ready", "language": "en", "variables": ["Aina", "17"]}),
    ],
)  # fmt: skip
def test_the_legacy_calls_are_accepted(client, settings, kind, fields, payload):
    answer = send(client, kind, fields, chat=f"{COMPANY}-{CHAT}")
    assert stored(settings, answer) == (kind, payload)
    assert answer.json["chatId"] == CHAT


def test_a_data_url_is_kept_and_told_as_a_file(client, settings):
    answer = send(client, "image", {"imageUrl": data_url(PNG), "caption": "Look"})
    _, payload = stored(settings, answer)
    assert kept(settings, payload["media"]) == PNG
    assert (payload["media"]["mimeType"], payload["media"]["size"]) == ("image/png", len(PNG))
    found = client.get(f"/api/v2/messages/{COMPANY}/{CHAT}", headers={"X-Api-Key": KEY}).json
    (message,) = found["messages"]
    number = answer.json["messageId"]
    assert message["media"]["url"] == f"https://bots.example/api/v2/media/{COMPANY}/{number}"
    assert (message["body"], message["media"]["mimeType"]) == ("Look", "image/png")
    assert "key" not in message["payload"]["media"]


@pytest.mark.parametrize(
    ("kind", "content", "name", "mime_type", "expected"),
    [
        ("image", PNG, "a.png", None, "image/png"),
        ("video", MP4, "a.mp4", "video/mp4", "video/mp4"),
        ("audio", OGG, "a.ogg", "audio/ogg", "audio/ogg"),
        ("sticker", WEBP, "a.webp", "image/webp", "image/webp"),
        ("document", PDF + bytes(2 * MB), "Invoice 17.pdf", None, "application/pdf"),
        ("document", b"a;b\n", "notes.txt", None, "text/plain"),
    ],
)
def test_an_upload_is_kept(client, settings, kind, content, name, mime_type, expected):
    fields = {"phoneIndex": "1", "userName": "Aina"}
    _, payload = stored(settings, upload(client, kind, content, name, mime_type, fields))
    assert kept(settings, payload["media"]) == content
    assert (payload["media"]["mimeType"], payload["userName"]) == (expected, "Aina")
    assert payload.get("filename") == (name if kind == "document" else None)


@pytest.mark.parametrize(
    ("content", "name", "mime_type"),
    [
        (b"a;b\n", "table.csv", None), (b"a;b\n", "table", "text/csv"), (b"PK\x03\x04" + bytes(40), "all.zip", None),
        (b"{}", "a.json", "application/json"), (b"anything", "a", None),
    ],
)  # fmt: skip
def test_a_document_that_meta_refuses_is_refused_at_once_with_advice(client, settings, content, name, mime_type):
    answer = upload(client, "document", content, name, mime_type, {"phoneIndex": "1"})
    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media")
    assert all(word in answer.json["error"] for word in ("PDF", "text/plain", "WhatsApp Web"))
    told = upload(client, "document", b"a;b\n", "table.csv", "text/plain", {"phoneIndex": "1"})
    assert told.status_code == 202


def test_a_form_may_say_voice_and_give_a_link(client, settings):
    _, payload = stored(settings, upload(client, "audio", OGG, "a.ogg", fields={"voice": "true"}))
    assert payload["voice"] is True
    form = {"audioUrl": "https://example.com/a.ogg", "voice": "0"}
    answer = client.post(path("audio"), data=form, headers={"X-Api-Key": KEY}, content_type="multipart/form-data")
    assert stored(settings, answer) == ("audio", {"media": {"link": "https://example.com/a.ogg"}})


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("image", {}, (400, "invalid_request")),
        ("image", {"imageUrl": None}, (400, "invalid_request")),
        ("image", {"imageUrl": 5}, (400, "invalid_request")),
        ("image", {"imageUrl": "example.com/a.jpg"}, (400, "invalid_request")),
        ("image", {"imageUrl": "https://user:secret@example.com/a.jpg"}, (400, "invalid_request")),
        ("image", {"imageUrl": "data:image/png;base64,@@@"}, (400, "invalid_request")),
        ("image", {"imageUrl": data_url(GIF, "image/gif")}, (415, "unsupported_media")),
        ("image", {"imageUrl": data_url(b"<svg/>", "image/png")}, (415, "unsupported_media")),
        ("image", {"imageUrl": data_url(b"", "image/png")}, (415, "unsupported_media")),
        ("image", {"imageUrl": data_url(PNG + bytes(5 * MB))}, (413, "media_too_large")),
        ("image", {"imageUrl": data_url(PNG + bytes(12 * MB))}, (413, "media_too_large")),
        ("sticker", {"stickerUrl": data_url(WEBP + bytes(110 << 10), "image/webp")}, (413, "media_too_large")),
        ("document", {"documentUrl": data_url(PDF + bytes(19 * MB))}, (413, "media_too_large")),
        ("audio", {"audioUrl": data_url(b"ID3" + bytes(99), "audio/mpeg"), "voice": True}, (415, "unsupported_media")),
        ("audio", {"audioUrl": "https://example.com/a", "voice": "perhaps"}, (400, "invalid_request")),
        ("image", {"imageUrl": "https://example.com/a", "caption": "x" * 1025}, (400, "text_too_long")),
        ("image", {"imageUrl": "https://example.com/a", "phoneIndex": 7}, (404, "unknown_bot")),
        ("image", {"imageUrl": "https://example.com/a", "quotedMessageId": "wamid.x"}, (404, "unknown_message")),
        ("template", {"templateName": "Order Ready", "language": "en"}, (409, "unsupported_by_channel")),
        ("template", {"templateName": "a", "language": "en", "variables": "x"}, (400, "invalid_request")),
    ],
)
def test_what_cannot_be_sent_is_refused(client, settings, kind, fields, expected):
    assert refusal(send(client, kind, fields)) == expected
    assert run(settings.database_dsn, "SELECT count(*) FROM outbox") == [(0,)]


@pytest.mark.parametrize(
    ("kind", "content", "fields", "expected"),
    [
        ("image", PNG + bytes(5 * MB), {}, (413, "media_too_large")),
        ("image", PNG + bytes(6 * MB), {}, (413, "media_too_large")),
        ("image", GIF, {}, (415, "unsupported_media")),
        ("image", PNG, {"imageUrl": "https://example.com/a"}, (400, "invalid_request")),
        ("image", PNG, {"phoneIndex": "one"}, (400, "invalid_request")),
        ("image", PNG, {"phoneIndex": "7"}, (404, "unknown_bot")),
    ],
)
def test_a_wrong_upload_is_refused(client, kind, content, fields, expected):
    assert refusal(upload(client, kind, content, fields=fields)) == expected


@pytest.mark.parametrize("body", [b"", b"--x\r\nnonsense", b"--x--\r\n"])
def test_a_form_without_a_file_is_refused(client, body):
    headers = {"X-Api-Key": KEY, "Content-Type": "multipart/form-data; boundary=x"}
    assert refusal(client.post(path("image"), data=body, headers=headers)) == (400, "invalid_request")


def test_nothing_is_kept_for_a_number_that_does_not_exist(client, settings):
    assert refusal(upload(client, "image", PNG, fields={"phoneIndex": "7"})) == (404, "unknown_bot")
    assert not list((settings.home / "media").rglob("*.png"))


def test_a_store_that_cannot_be_written_is_a_503(client, settings):
    settings.home.mkdir(exist_ok=True, parents=True)
    (settings.home / "media").write_text("not a folder")
    answer = upload(client, "image", PNG)
    assert refusal(answer) == (503, "media_unavailable")
    assert answer.headers["Retry-After"]


def test_the_same_upload_under_the_same_key_is_one_message(client):
    again = {"Idempotency-Key": "order-1"}
    first = upload(client, "image", PNG, **again)
    second = upload(client, "image", PNG, **again)
    assert first.json["messageId"] == second.json["messageId"]
    assert refusal(upload(client, "image", PNG + b"\0", **again)) == (409, "idempotency_conflict")
    assert refusal(send(client, "image", {"imageUrl": "https://example.com/a"}, **again)) == (
        409, "idempotency_conflict",
    )  # fmt: skip


def test_what_is_accepted_can_be_claimed_by_a_worker(client, settings):
    sent = [
        send(client, "image", {"imageUrl": "https://example.com/a"}, chat="60111111111"),
        upload(client, "document", PDF, "a.pdf"),
    ]
    with serve(settings) as (context, _), context.database.connection() as connection:
        claimed = outbox().claim(connection, 10)
    assert {message.message_id for message in claimed} == {answer.json["messageId"] for answer in sent}


# Over real HTTP, with the server in front


@pytest.fixture
def server(settings):
    with serving(settings) as url:
        yield url


def post(url, **options):
    return requests.post(url, headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS, **options)


def test_large_files_go_through_the_server(server, settings):
    content = PDF + bytes(30 * MB)
    answer = post(server + path("document"), files={"file": ("a.pdf", content, "application/pdf")})
    assert answer.status_code == 202
    message_id = answer.json()["messageId"]
    told = requests.get(
        f"{server}/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS
    )
    OneMessage.model_validate(told.json(), extra="forbid")
    assert told.json()["media"]["size"] == len(content)


def test_a_body_in_chunks_is_taken(server):
    react = f"{server}/api/messages/react/{COMPANY}/wamid.x"
    assert refusal(post(react, data=iter([b'{"reaction":', b'"x"}']))) == (404, "unknown_message")
    body = json.dumps({"imageUrl": data_url(PNG + bytes(2 * MB))}).encode()
    pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    assert post(server + path("image"), data=pieces).status_code == 202
    too_much = (bytes(MB) for _ in range(9))
    assert refusal(post(server + path("image"), data=too_much)) == (413, "media_too_large")


def test_templates_are_served_by_the_hot_path_and_say_the_same(server, client):
    for fields in (
        {"templateName": "a", "language": "en"},
        {"templateName": "a"},
        {"templateName": "A b", "language": "en"},
    ):
        fast, slow = post(server + path("template"), json=fields), send(client, "template", fields)
        assert (fast.status_code, fast.json().get("code")) == (slow.status_code, slow.json.get("code"))


def test_elsewhere_a_body_may_have_one_megabyte(server):
    body = {"reaction": "👍", "more": "x" * MB}
    answer = post(f"{server}/api/messages/react/{COMPANY}/wamid.x", json=body)
    assert refusal(answer) == (413, "too_large")
