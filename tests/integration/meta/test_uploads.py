"""Files on their way to Meta: uploaded once, named as the provider takes them, and told apart where they fail."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from services.connector import Again, Preparation, Refusal
from services.connectors.meta.connector import MetaConnector
from services.media.store import media_store
from services.message import Bot, Held, Outgoing, Payload, Rejected, Retry, Secret, Sent, Unavailable, Unknown
from services.outbox.delivery import MAX_STEPS
from tests.support.api import settings_for
from tests.support.refusing_port import refusing_url
from tests.support.remote.file_server import FileServer
from tests.support.remote.media_provider import OK, MediaProvider
from tests.support.sandbox import Sandbox, free_port
from tests.support.waiting import HANG_SECONDS

TOKEN = "EAAGsecretsecretsecret"
BOT = Bot(1, "0128", 0, "meta", "meta_direct", "1055", Secret(TOKEN))
OTHER_BOT = Bot(2, "0128", 1, "meta", "meta_direct", "1056", Secret(TOKEN))
DIALOG360_BOT = Bot(3, "0128", 2, "meta", "360dialog", "", Secret("d360key"))
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(256)) * 40 + b"\xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)


@pytest.fixture
def provider():
    provider = MediaProvider()
    yield provider
    provider.close()


@pytest.fixture
def settings(provider, tmp_path):
    return settings_for(
        "postgresql://nowhere", tmp_path,
        META_GRAPH_URL=provider.url, DIALOG360_URL=f"{provider.url}/360", ALLOWED_NETWORKS="127.0.0.0/8",
        SEND_TIMEOUT_MS=20_000,
    )  # fmt: skip


@pytest.fixture
def store(settings):
    return media_store(settings)


@pytest.fixture
def meta(settings, store):
    return MetaConnector(settings, store)


@pytest.fixture
def stored(store):
    """A file in the store, as a message names it."""
    return keep(store, JPEG)


def keep(store, data, mime_type="image/jpeg"):
    kept = store.put("0128", io.BytesIO(data), mime_type, 1 << 20)
    return {"key": kept.key, "mimeType": mime_type, "size": kept.size}


def image(media, number=1, attempts=0, kind="image"):
    payload: Payload = {"media": media}
    return Outgoing(number, f"0190c0de-0000-7000-8000-{number:012}", BOT.id, "60123456789", kind, payload, attempts)


def deliver(meta, message, bot=BOT):
    """Do what the connector says until there is an outcome, as the delivery does."""
    for _ in range(MAX_STEPS):
        step = meta.request(bot, message)
        if isinstance(step, Preparation):
            outcome = step.run() or Again()
        elif isinstance(step, Refusal):
            outcome = step
        else:
            headers = dict(line.split(": ", 1) for line in step.headers)
            answer = requests.post(step.url, data=step.body, headers=headers, timeout=HANG_SECONDS)
            outcome = meta.outcome(message, answer.status_code, answer.content)
        if not isinstance(outcome, Again):
            return outcome
    raise AssertionError("no outcome")


def test_a_stored_file_is_uploaded_and_sent_by_its_id(meta, provider, stored):
    assert deliver(meta, image(stored)) == Sent("wamid.1")
    (upload,) = provider.uploads
    assert (upload.path, upload.credential, upload.product) == ("v26.0/1055", f"Bearer {TOKEN}", "whatsapp")
    assert (upload.type, upload.part_type, upload.data) == ("image/jpeg", "image/jpeg", JPEG)
    assert provider.sends == [{"id": "media-1"}]


def test_360dialog_gets_the_file_below_its_own_address(meta, provider, stored):
    assert isinstance(deliver(meta, image(stored), DIALOG360_BOT), Sent)
    (upload,) = provider.uploads
    assert (upload.path, upload.credential) == ("360", "d360key")


def test_a_file_for_many_chats_is_uploaded_once_by_each_number(meta, provider, stored):
    for number in range(5):
        assert isinstance(deliver(meta, image(stored, number)), Sent)
    assert len(provider.uploads) == 1
    assert provider.sends == [{"id": "media-1"}] * 5
    other = Outgoing(9, "0190c0de-0000-7000-8000-000000000009", OTHER_BOT.id, "60123", "image", {"media": stored}, 0)
    assert isinstance(deliver(meta, other, OTHER_BOT), Sent)
    assert [upload.path for upload in provider.uploads] == ["v26.0/1055", "v26.0/1056"]


def at_once(meta, messages):
    gate = threading.Barrier(len(messages))

    def run(message):
        gate.wait()
        return deliver(meta, message)

    with ThreadPoolExecutor(len(messages)) as pool:
        return list(pool.map(run, messages))


def test_messages_that_need_the_same_file_at_once_share_one_upload(meta, provider, stored):
    provider.upload_delay = 0.3
    outcomes = at_once(meta, [image(stored, number) for number in range(8)])
    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert len(provider.uploads) == 1


def test_messages_that_share_an_upload_share_its_failure_and_the_next_one_tries_again(meta, provider, stored):
    provider.upload_delay = 0.3
    provider.upload_answers = [(401, {"error": {"code": 190, "message": f"Malformed access token {TOKEN}"}})] * 8
    outcomes = at_once(meta, [image(stored, number) for number in range(8)])
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(Held, "190")}
    assert TOKEN not in repr(outcomes)
    provider.upload_answers = []
    assert isinstance(deliver(meta, image(stored)), Sent)


@pytest.mark.parametrize(
    ("status", "answer", "outcome", "code"),
    [
        (400, {"error": {"code": 131053, "message": "no"}}, Rejected, "131053"),
        (400, {"error": {"code": 100, "message": "no"}}, Rejected, "100"),
        (400, {"error": {"code": 130429, "message": "no"}}, Retry, "130429"),
        (500, {"error": {"code": 131000, "message": "no"}}, Unavailable, "131000"),
        (403, {"error": {"code": 10, "message": "no"}}, Held, "10"),
        (400, {"meta": {"httpCode": 400, "developerMessage": "too many requests"}}, Retry, "360dialog_400"),
        (413, b"<html>", Rejected, "http_413"),
        (404, b"<html>", Unavailable, "http_404"),
        (502, b"<html>", Unavailable, "upload"),
        (200, b"<html>", Unavailable, "upload"),
        (200, {"id": 5}, Unavailable, "upload"),
    ],
)
def test_a_refused_upload_is_judged_by_the_same_table_and_nothing_was_sent(
    meta, provider, stored, status, answer, outcome, code
):
    provider.upload_answers = [(status, answer)]
    found = deliver(meta, image(stored))
    assert (type(found), found.code, provider.sends) == (outcome, code, [])


def test_an_upload_to_an_unavailable_provider_is_retried(settings, stored):
    with refusing_url() as url:
        found = deliver(MetaConnector(settings.copy_with(meta_graph_url=url)), image(stored))
    assert (type(found), found.code, found.chargeable) == (Unavailable, "network", False)


def test_an_upload_that_stalls_is_ended(settings, provider, stored):
    provider.upload_delay = 20
    found = deliver(MetaConnector(settings.copy_with(send_timeout_ms=1000)), image(stored))
    assert (type(found), found.code, found.chargeable) == (Unavailable, "network", True)


def test_a_file_that_is_no_longer_stored_rejects_the_message(meta, store, stored):
    store.delete(stored["key"])
    found = deliver(meta, image(stored))
    assert (type(found), found.code) == (Rejected, "media_missing")


@pytest.mark.parametrize(
    "unknown",
    [
        (131053, "Media upload error"),
        (131009, "Parameter value is not valid: Media ID not found"),
        (100, "Unsupported request: the media has expired"),
    ],
)
def test_a_copy_that_the_provider_no_longer_has_is_uploaded_again(meta, provider, stored, unknown):
    deliver(meta, image(stored))
    provider.copies.clear()
    provider.unknown_copy = unknown
    assert isinstance(deliver(meta, image(stored, 2)), Sent)
    assert [send["id"] for send in provider.sends] == ["media-1", "media-2"]


def test_a_fresh_copy_that_is_refused_is_not_uploaded_again(meta, provider, stored):
    provider.refuses_every_file = True
    found = deliver(meta, image(stored))
    assert (type(found), found.code, len(provider.uploads)) == (Rejected, "131053", 1)


def test_a_parameter_that_is_wrong_otherwise_fails_at_once(meta, provider, stored):
    deliver(meta, image(stored))
    provider.copies.clear()
    provider.unknown_copy = (100, "Invalid recipient")
    found = deliver(meta, image(stored, 2))
    assert (type(found), found.code, len(provider.uploads)) == (Rejected, "100", 1)


def link_to(provider, name="a.jpg", status=200, mime_type="image/jpeg", data=JPEG, **more):
    provider.files[name] = (status, mime_type, data)
    return {"link": f"{provider.url}/files/{name}"} | more


def test_a_link_is_given_to_meta(meta, provider):
    media = link_to(provider)
    assert isinstance(deliver(meta, image(media)), Sent)
    assert (provider.sends, provider.uploads, provider.fetches["a.jpg"]) == ([media], [], 0)


def test_a_link_that_meta_cannot_fetch_is_fetched_and_uploaded_once_for_all(meta, provider):
    provider.fetches_links = False
    media = link_to(provider)
    for number in range(3):
        assert isinstance(deliver(meta, image(media, number)), Sent)
    assert provider.sends == [{"id": "media-1"}] * 3
    assert (provider.fetches["a.jpg"], [(each.type, each.data) for each in provider.uploads]) == (
        1,
        [("image/jpeg", JPEG)],
    )


def test_a_link_that_meta_refused_later_is_fetched_at_once(meta, provider):
    assert isinstance(deliver(meta, image(link_to(provider, fetch=True))), Sent)
    assert provider.sends == [{"id": "media-1"}]


def test_a_link_whose_file_meta_refuses_as_well_fails(meta, provider):
    provider.refuses_every_file = True
    found = deliver(meta, image(link_to(provider)))
    assert (type(found), found.code, len(provider.uploads)) == (Rejected, "131053", 1)


def test_a_link_into_a_private_network_is_not_followed(settings, store, provider):
    provider.fetches_links = False
    closed = MetaConnector(settings.copy_with(allowed_networks=""), store)
    found = deliver(closed, image(link_to(provider)))
    assert (type(found), found.code, provider.fetches["a.jpg"]) == (Rejected, "media_link", 0)


@pytest.mark.parametrize(
    ("status", "mime_type", "data", "kind", "outcome", "code"),
    [
        (404, "text/html", b"gone", "image", Rejected, "media_link"),
        (410, "text/html", b"gone", "image", Rejected, "media_link"),
        (503, "text/html", b"busy", "image", Retry, "media_link"),
        (200, "text/html", b"<html>", "image", Rejected, "unsupported_media"),
        (200, "image/jpeg", JPEG + bytes(5 << 20), "image", Rejected, "media_link"),
        (200, "image/jpeg", JPEG, "video", Rejected, "unsupported_media"),
    ],
)
def test_the_file_behind_a_link_is_checked(meta, provider, status, mime_type, data, kind, outcome, code):
    found = deliver(meta, image(link_to(provider, "x", status, mime_type, data, fetch=True), kind=kind))
    assert (type(found), found.code) == (outcome, code)
    assert provider.uploads == []


def test_one_link_as_two_kinds_is_judged_for_each(meta, provider):
    media = link_to(provider, fetch=True)
    assert isinstance(deliver(meta, image(media, 1, kind="video")), Rejected)
    assert isinstance(deliver(meta, image(media, 2)), Sent)


def test_a_payload_without_a_file_fails_without_a_request(meta):
    assert deliver(meta, image({})).code == "payload"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), free_port(), free_port())
    yield sandbox
    sandbox.end()


@pytest.fixture
def through_sandbox(settings, store, sandbox):
    """The connector whose providers are the simulators."""
    at = {"meta_graph_url": sandbox.url, "dialog360_url": f"{sandbox.url}/360dialog"}
    return MetaConnector(settings.copy_with(**at), store)


FILES = [
    ("image", "image/jpeg", JPEG),
    ("image", "image/png", PNG),
    ("audio", "audio/ogg", b"OggS" + bytes(24) + b"OpusHead" + bytes(64)),
    ("video", "video/mp4", b"\0\0\0\x18ftypmp42" + bytes(64)),
    ("document", "application/pdf", b"%PDF-1.7\n" + bytes(64)),
    ("sticker", "image/webp", b"RIFF\x40\0\0\0WEBPVP8 " + bytes(64)),
]


@pytest.mark.parametrize(("kind", "mime_type", "data"), FILES, ids=[each[1] for each in FILES])
@pytest.mark.parametrize("bot", [BOT, DIALOG360_BOT], ids=["meta", "360dialog"])
def test_the_simulator_takes_the_files_of_every_kind(through_sandbox, store, bot, kind, mime_type, data):
    found = deliver(through_sandbox, image(keep(store, data, mime_type), kind=kind), bot)
    assert isinstance(found, Sent), found


def test_the_simulator_takes_what_was_fetched_for_it(through_sandbox, provider):
    media = link_to(provider, "unfetchable.jpg")
    assert isinstance(deliver(through_sandbox, image(media)), Sent)
    assert provider.fetches["unfetchable.jpg"] == 1


answers = st.sampled_from(
    [
        (200, {"messages": [{"id": "wamid.1"}]}),
        (400, {"error": {"code": 131053, "message": "no"}}),
        (400, {"error": {"code": 131009, "message": "media id"}}),
        (500, {"error": {"code": 131000, "message": "no"}}),
        (200, {"success": True}),
    ]
)
uploads = st.sampled_from([(200, OK), (400, {"error": {"code": 131053, "message": "no"}}), (503, b"")])


@given(
    st.lists(answers, min_size=MAX_STEPS, max_size=MAX_STEPS),
    st.lists(uploads, max_size=3),
    st.sampled_from(["key", "link", "fetch"]),
    st.integers(0, 2),
)
@budget(max_examples=40)
def test_every_message_has_an_outcome_for_any_answer(meta, provider, stored, said, uploaded, named, attempts):
    media = {"key": stored, "link": link_to(provider), "fetch": link_to(provider, fetch=True)}[named]
    message, sent_by = image(media, attempts=attempts), []
    provider.upload_answers = list(uploaded)
    for status, answer in said:
        step = meta.request(BOT, message)
        while isinstance(step, Preparation):
            refusal = step.run()
            if refusal:
                assert isinstance(refusal, Retry | Unavailable | Rejected)
                return
            step = meta.request(BOT, message)
        sent_by.append(step.body)
        outcome = meta.outcome(message, status, json.dumps(answer).encode())
        if not isinstance(outcome, Again):
            assert isinstance(outcome, Sent | Retry | Unavailable | Rejected | Unknown)
            return
        assert answer["error"]["code"] in (131053, 131009)
    raise AssertionError(f"no outcome after {sent_by}")


PDF = b"%PDF-1.7 one page"


def document(url, number=1, filename=None):
    fields: Payload = {"media": {"link": url}}
    if filename:
        fields["filename"] = filename
    return Outgoing(number, f"0190c0de-0000-7000-8000-{number:012}", BOT.id, "60123456789", "document", fields, 0)


@pytest.fixture
def files():
    server = FileServer()
    yield server
    server.close()


def test_a_document_whose_name_only_its_server_knows_is_uploaded_under_that_name(meta, provider, files):
    files.offer("download.php", PDF, "application/pdf", Content_Disposition='attachment; filename="Invoice 17.pdf"')
    for number in (1, 2):
        assert isinstance(deliver(meta, document(f"{files.url}/download.php?id=17", number)), Sent)
    assert [upload.data for upload in provider.uploads] == [PDF]
    assert provider.sends == [{"id": "media-1", "filename": "Invoice 17.pdf"}] * 2


def test_a_document_with_a_name_goes_by_its_link(meta, provider, files):
    link = f"{files.url}/download.php"
    assert isinstance(deliver(meta, document(link, filename="Bill.pdf")), Sent)
    assert isinstance(deliver(meta, document(f"{files.url}/a.pdf", 2, filename="a.pdf")), Sent)
    assert provider.sends == [
        {"link": link, "filename": "Bill.pdf"}, {"link": f"{files.url}/a.pdf", "filename": "a.pdf"},
    ]  # fmt: skip
    assert not files.asked


@pytest.mark.parametrize(("status", "mime_type", "name"), [(404, "text/html", None), (200, "text/csv", "sales.csv")])
def test_a_document_that_cannot_be_uploaded_for_its_name_goes_by_its_link(
    meta, provider, files, status, mime_type, name
):
    link = files.offer("export", b"a;b\n", mime_type, status, Content_Disposition="attachment; filename=sales.csv")
    assert isinstance(deliver(meta, document(link)), Sent)
    assert provider.sends == [{"link": link} | ({"filename": name} if name else {})]
    assert not provider.uploads


def test_a_stored_document_of_a_type_that_meta_refuses_is_not_uploaded(meta, provider, store):
    media = keep(store, b"a;b\n", "text/csv")
    outcome = deliver(meta, Outgoing(1, "0190c0de-0000-7000-8000-000000000001", BOT.id, "60123", "document",
                                     {"media": media}, 0))  # fmt: skip
    assert isinstance(outcome, Rejected)
    assert (outcome.code, "text/plain" in outcome.reason) == ("unsupported_media", True)
    assert not provider.uploads
