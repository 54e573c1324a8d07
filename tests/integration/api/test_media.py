"""The files of messages over HTTP: whole and in parts, their companies, and the errors for a missing file."""

import contextlib
import io
import json
import uuid

import pytest
import requests

from services.media.store import media_store
from services.message import Payload
from services.outbox.accept import Entry
from tests.support.api import COMPANY, KEY, OTHER_KEY, add_company, api, serving, settings_for
from tests.support.outbox import accept, add_bot, execute, open_database
from tests.support.waiting import HANG_SECONDS

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2000
AUTH = {"X-Api-Key": KEY}


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path)


@pytest.fixture
def connection(database):
    with contextlib.closing(open_database(database)[1]) as connection:
        yield connection


@pytest.fixture
def client(settings):
    with api(settings) as (_, client):
        yield client


@pytest.fixture
def keep(settings, connection):
    """Puts a message with a file into the history; returns its id."""

    def put(data=JPEG, mime_type="image/jpeg", **facts):
        kept = media_store(settings).put(COMPANY, io.BytesIO(data), mime_type, 1 << 24)
        facts = {"key": kept.key, "mimeType": mime_type, "size": kept.size, "sha256": kept.sha256} | facts
        return message(connection, facts)

    return put


def message(connection, facts, direction="inbound"):
    message_id, provider_id = str(uuid.uuid4()), f"wamid.{uuid.uuid4().hex}"
    execute(
        connection,
        "INSERT INTO messages (id, message_id, external_id, company_id, message_type, media_metadata, direction)"
        " VALUES (%s, %s, %s, %s, 'image', %s, %s)",
        (message_id, provider_id, provider_id, COMPANY, json.dumps(facts), direction),
    )
    return message_id


def ask(client, message_id, headers=(), company=COMPANY):
    return client.get(f"/api/v2/media/{company}/{message_id}", headers=AUTH | dict(headers))


def problem(answer):
    return answer.status_code, answer.json["code"]


def test_a_file_comes_with_its_type_and_nothing_that_a_browser_could_run(client, keep):
    answer = ask(client, keep())
    assert (answer.status_code, answer.data) == (200, JPEG)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert int(answer.headers["Content-Length"]) == len(JPEG)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"].startswith("inline; filename=")
    assert "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(("mime_type", "disposition"), [
    ("image/png", "inline"), ("audio/ogg; codecs=opus", "inline"), ("video/mp4", "inline"),
    ("text/html", "attachment"), ("image/svg+xml", "attachment"), ("application/pdf", "attachment"),
    ("application/xhtml+xml", "attachment"), ("no type\r\nX: y", "attachment"),
])  # fmt: skip
def test_only_images_audio_and_video_are_shown_in_the_browser(client, keep, mime_type, disposition):
    answer = ask(client, keep(b"content", mime_type))
    assert answer.headers["Content-Disposition"].split(";")[0] == disposition
    assert answer.headers["Content-Type"].split(";")[0] in (mime_type.split(";")[0], "application/octet-stream")


@pytest.mark.parametrize(("filename", "header"), [
    ("invoice 1.pdf", '"invoice 1.pdf"'), ("../../etc/x.pdf", '"x.pdf"'),
    ('a"b\r\nX: y.pdf', "filename=\"a_bX: y.pdf\"; filename*=UTF-8''a%22bX%3A%20y.pdf"),
    ("发票.pdf", "filename=\"__.pdf\"; filename*=UTF-8''%E5%8F%91%E7%A5%A8.pdf"),
    ("10\u202f000\u00a0€.pdf", "filename*=UTF-8''10%E2%80%AF000%C2%A0%E2%82%AC.pdf"),
])  # fmt: skip
def test_the_name_of_a_file_is_encoded_in_its_header(client, keep, filename, header):
    disposition = ask(client, keep(b"%PDF-1", "application/pdf", filename=filename)).headers["Content-Disposition"]
    assert header in disposition


def test_a_range_of_a_file_is_sent(client, keep):
    message_id = keep()
    answer = ask(client, message_id, {"Range": "bytes=100-199"})
    assert (answer.status_code, answer.data) == (206, JPEG[100:200])
    assert answer.headers["Content-Range"] == f"bytes 100-199/{len(JPEG)}"
    assert ask(client, message_id, {"Range": "bytes=-10"}).data == JPEG[-10:]
    beyond = ask(client, message_id, {"Range": f"bytes={len(JPEG)}-"})
    assert problem(beyond) == (416, "invalid_range")
    assert beyond.headers["Content-Range"] == f"bytes */{len(JPEG)}"


def test_an_unchanged_file_is_answered_with_304(client, keep):
    message_id = keep()
    etag = ask(client, message_id).headers["ETag"]
    answer = ask(client, message_id, {"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")


def test_head_is_answered_without_the_file(client, keep):
    answer = client.head(f"/api/v2/media/{COMPANY}/{keep()}", headers=AUTH)
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(JPEG)


def test_a_file_is_found_by_the_providers_id(client, keep, connection):
    keep()
    ((provider_id,),) = execute(connection, "SELECT external_id FROM messages")
    assert ask(client, provider_id).data == JPEG


def test_a_message_that_waits_to_be_sent_has_its_file(client, settings, connection):
    kept = media_store(settings).put(COMPANY, io.BytesIO(JPEG), "image/jpeg", 1 << 20)
    bot, message_id = add_bot(connection, COMPANY, 7), str(uuid.uuid4())
    payload: Payload = {"media": {"key": kept.key, "mimeType": "image/jpeg"}}
    accept(connection, Entry(message_id, "meta", bot, COMPANY, 7, "60123456789", "image", payload))
    assert ask(client, message_id).data == JPEG


def test_a_file_is_hidden_from_other_companies_and_without_a_key(client, keep):
    message_id = keep()
    path = f"/api/v2/media/{COMPANY}/{message_id}"
    assert problem(client.get(path)) == (401, "no_key")
    assert problem(client.get(path, headers={"X-Api-Key": OTHER_KEY})) == (403, "foreign_company")
    other = client.get(f"/api/v2/media/0999/{message_id}", headers={"X-Api-Key": OTHER_KEY})
    assert problem(other) == (404, "unknown_message")


def download(connection, message_id, due, error=None):
    execute(
        connection,
        "INSERT INTO media_download (message_id, bot_id, company_id, media, due, error)"
        " VALUES (%s, 1, %s, '{}', %s, %s)",
        (message_id, COMPANY, due, error),
    )


def test_a_file_that_is_still_with_the_provider_is_pending_and_then_perhaps_given_up(client, connection):
    message_id = message(connection, {"id": "990", "mimeType": "image/jpeg"})
    download(connection, message_id, "2026-01-01")
    answer = ask(client, message_id)
    assert problem(answer) == (503, "media_pending")
    assert int(answer.headers["Retry-After"]) > 0
    execute(connection, "UPDATE media_download SET due = 'infinity', error = 'it has expired'")
    answer = ask(client, message_id)
    assert problem(answer) == (410, "media_gone")
    assert "it has expired" in answer.json["error"]
    execute(connection, "DELETE FROM media_download")  # its bot was removed
    assert problem(ask(client, message_id)) == (410, "media_gone")


def test_a_file_whose_copy_was_deleted_is_gone(client, keep, settings, connection):
    message_id = keep()
    ((key,),) = execute(connection, "SELECT media_metadata ->> 'key' FROM messages")
    media_store(settings).delete(key)
    assert problem(ask(client, message_id)) == (410, "media_gone")


def test_messages_without_a_file_and_unknown_messages_have_different_codes(client, connection):
    assert problem(ask(client, message(connection, None))) == (404, "no_media")
    link = message(connection, {"link": "https://example.com/cat.jpg"}, "outbound")
    assert problem(ask(client, link)) == (404, "no_media")
    for unknown in (str(uuid.uuid4()), "wamid.unknown", "a/b"):
        assert problem(ask(client, unknown)) == (404, "unknown_message")


def test_an_unavailable_store_is_a_503(database, tmp_path, connection):
    add_company(database)
    settings = settings_for(
        database, tmp_path, MEDIA_STORE="s3://files", S3_ENDPOINT_URL="http://127.0.0.1:1", S3_ACCESS_KEY_ID="k",
        S3_SECRET_ACCESS_KEY="s",
    )  # fmt: skip
    message_id = message(connection, {"key": f"0128/2026-11/{'a' * 64}.jpg", "mimeType": "image/jpeg"})
    with api(settings) as (_, client):
        answer = ask(client, message_id)
    assert problem(answer) == (503, "media_unavailable")
    assert "Retry-After" in answer.headers


def test_a_large_file_is_streamed_by_the_server(settings, keep):
    data = bytes(range(256)) * 50_000
    message_id = keep(data, "video/mp4")
    with serving(settings) as url:
        answer = requests.get(f"{url}/api/v2/media/{COMPANY}/{message_id}", headers=AUTH, timeout=HANG_SECONDS)
        assert (answer.status_code, answer.content) == (200, data)
        part = requests.get(
            f"{url}/api/v2/media/{COMPANY}/{message_id}", headers=AUTH | {"Range": "bytes=5-9"}, timeout=HANG_SECONDS
        )
        assert (part.status_code, part.content) == (206, data[5:10])
