"""The simulator as a process: media, templates, the window, customers, numbers, tokens, the signup and 360dialog."""

import base64
import hashlib
import signal
import time
from collections import Counter
from functools import partial

import pytest
import requests

from services.sandbox.meta.customers import user_id_of
from tests.support.sandbox import SECRET, Receiver, Sandbox, eventually, free_port
from tests.support.waiting import HANG_SECONDS

NUMBER = "1055"
CUSTOMER = "60123456789"
KEY = "key-of-a-number"
PNG = b"\x89PNG\r\n\x1a\n" + b"dot" * 40
#: An animated WebP: its extended header says so.
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + b"x" * 30
BEARER = {"Authorization": "Bearer t"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    receiver, other = Receiver(), Receiver()
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), receiver.port, free_port())
    yield sandbox, receiver, other
    sandbox.end()
    receiver.close()
    other.close()


@pytest.fixture
def sandbox(stage):
    sandbox, *receivers = stage
    sandbox.settle()
    sandbox.reset()
    for each in receivers:
        each.webhooks.clear()
        each.headers.clear()
    return sandbox


@pytest.fixture
def receiver(stage):
    return stage[1]


@pytest.fixture
def other(stage):
    """A second receiver, for webhooks that go elsewhere."""
    return stage[2]


def graph(sandbox, method, path, headers=BEARER, **request):
    return requests.request(method, f"{sandbox.url}/v26.0/{path}", headers=headers, timeout=HANG_SECONDS, **request)


def dialog(sandbox, method, path, key=KEY, **request):
    url = f"{sandbox.url}/360dialog/{path}"
    return requests.request(method, url, headers={"D360-API-KEY": key}, timeout=HANG_SECONDS, **request)


def post(sandbox, kind, content, **fields):
    body = {"messaging_product": "whatsapp", "to": f"+{CUSTOMER}", "type": kind, kind: content} | fields
    return graph(sandbox, "POST", f"{NUMBER}/messages", json=body)


def upload(sandbox, data, mime_type, name="file"):
    files = {"file": (name, data, mime_type)}
    form = {"messaging_product": "whatsapp", "type": mime_type}
    return graph(sandbox, "POST", f"{NUMBER}/media", data=form, files=files)


def code(answer):
    return answer.json()["error"]["code"] if answer.status_code != 200 else 200


def said(receiver, field="messages"):
    """The values of all changes of a field that came, but for statuses."""
    entries = [entry for each in list(receiver.webhooks) for entry in each["entry"]]
    found = [change for entry in entries for change in entry["changes"] if change["field"] == field]
    return [change["value"] for change in found if "statuses" not in change["value"]]


def statuses(receiver, wamid):
    changes = [c["value"] for each in list(receiver.webhooks) for entry in each["entry"] for c in entry["changes"]]
    return [each for value in changes for each in value.get("statuses", []) if each["id"] == wamid]


# Media


def test_a_file_is_uploaded_described_downloaded_sent_and_deleted(sandbox):
    media_id = upload(sandbox, PNG, "image/png").json()["id"]
    described = graph(sandbox, "GET", media_id).json()
    assert described["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert (described["mime_type"], described["file_size"], described["id"]) == ("image/png", len(PNG), media_id)
    assert requests.get(described["url"], headers=BEARER, timeout=HANG_SECONDS).content == PNG
    assert requests.get(described["url"], timeout=HANG_SECONDS).status_code == 401
    assert post(sandbox, "image", {"id": media_id, "caption": "a dot"}).status_code == 200
    assert graph(sandbox, "DELETE", media_id).json() == {"success": True}
    assert code(graph(sandbox, "GET", media_id)) == 100
    assert code(requests.get(described["url"], headers=BEARER, timeout=HANG_SECONDS)) == 100
    assert code(post(sandbox, "image", {"id": media_id})) == 131009


def test_urls_and_files_expire(sandbox):
    media_id = upload(sandbox, PNG, "image/png").json()["id"]
    sandbox.control("media", url_seconds=0)
    url = graph(sandbox, "GET", media_id).json()["url"]
    assert requests.get(url, headers=BEARER, timeout=HANG_SECONDS).status_code == 404
    assert requests.get(url.replace("ext=", "ext=9"), headers=BEARER, timeout=HANG_SECONDS).status_code == 404
    sandbox.control("media", media_id=media_id, expires_in=0)
    assert code(graph(sandbox, "GET", media_id)) == 100
    assert code(post(sandbox, "image", {"id": media_id})) == 131009


@pytest.mark.parametrize(
    ("data", "mime_type", "refused"),
    [
        (PNG, "image/png", 200),
        (WEBP + b"x" * 200_000, "image/webp", 200),
        (b"", "image/png", 131053),
        (PNG + b"x" * (5 << 20), "image/png", 131053),
        (b"%PDF-1.7", "image/png", 131053),
        (PNG, "image/gif", 100),
        (b"%PDF-1.7" + b"x" * (6 << 20), "application/pdf", 200),
    ],
)
def test_uploads_with_a_wrong_type_or_size_are_refused(sandbox, data, mime_type, refused):
    assert code(upload(sandbox, data, mime_type)) == refused


def test_a_file_cannot_be_sent_as_another_kind(sandbox):
    picture = upload(sandbox, PNG, "image/png").json()["id"]
    animated = upload(sandbox, WEBP + b"x" * 200_000, "image/webp").json()["id"]
    still = upload(sandbox, b"RIFF\x00\x00\x00\x00WEBPVP8 " + b"x" * 200_000, "image/webp").json()["id"]
    assert [code(post(sandbox, "sticker", {"id": each})) for each in (animated, still, picture)] == [
        200, 131053, 131053,
    ]  # fmt: skip
    assert code(post(sandbox, "video", {"id": picture})) == 131053
    assert code(post(sandbox, "document", {"id": picture, "filename": "dot.png"})) == 200


def test_a_link_that_cannot_be_fetched_fails_at_once_or_later(sandbox, receiver):
    assert code(post(sandbox, "image", {"link": "https://example.com/unfetchable.png"})) == 131053
    answer = post(sandbox, "image", {"link": "https://example.com/unfetchable-later.png"})
    wamid = answer.json()["messages"][0]["id"]
    (failed,) = eventually(lambda: statuses(receiver, wamid))
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131053)


def test_rules_apply_to_calls_that_send_nothing(sandbox):
    media_id = upload(sandbox, PNG, "image/png").json()["id"]
    sandbox.behave(kind="media", error_code=131000, times=1)
    assert [code(graph(sandbox, "GET", media_id)) for _ in range(2)] == [131000, 200]
    sandbox.behave(kind="upload", cut="before_accept", times=1)
    with pytest.raises(requests.ConnectionError):
        upload(sandbox, PNG, "image/png")
    sandbox.behave(kind="management", match="subscribed_apps", error_code=4)
    assert code(graph(sandbox, "GET", "77/subscribed_apps")) == 4
    assert code(graph(sandbox, "GET", NUMBER)) == 200
    sandbox.send("a", "calls' rules hold for no message")
    assert sandbox.messages()["receipts"] == {"a": 1}


# Templates, the window, reactions and read marks


def test_templates_are_listed_filled_and_added(sandbox):
    template = {"name": "greeting", "language": {"code": "de"}}
    assert code(post(sandbox, "template", template)) == 132001
    sandbox.control("template", name="greeting", language="de", body="Hallo {{1}}")
    assert code(post(sandbox, "template", template)) == 132000
    components = [{"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}]
    assert code(post(sandbox, "template", template | {"components": components})) == 200
    assert sandbox.messages(type="template")["messages"][-1]["text"] == "Hallo Ana"
    listed = graph(sandbox, "GET", "77/message_templates?name=greeting").json()["data"]
    assert [(each["name"], each["status"]) for each in listed] == [("greeting", "APPROVED")]


def test_a_customers_message_opens_the_window_if_it_is_enforced(sandbox):
    assert code(post(sandbox, "text", {"body": "before"})) == 200
    sandbox.control("window", enforce=True)
    assert code(post(sandbox, "text", {"body": "closed"})) == 131047
    assert code(post(sandbox, "template", {"name": "hello_world", "language": {"code": "en"}})) == 200
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="long ago", timestamp=time.time() - 90_000)
    assert code(post(sandbox, "text", {"body": "closed again"})) == 131047
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="now")
    assert code(post(sandbox, "text", {"body": "open"})) == 200
    assert code(post(sandbox, "text", {"body": "open"}, to=None, recipient=user_id_of(CUSTOMER))) == 200


def test_a_rule_can_enforce_the_window_for_one_chat(sandbox):
    sandbox.behave(to=CUSTOMER, enforce_window=True)
    assert code(post(sandbox, "text", {"body": "closed"})) == 131047
    assert code(post(sandbox, "text", {"body": "open"}, to="+60123456780")) == 200


def test_a_reaction_is_reported_as_sent_and_fails_without_its_message(sandbox, receiver):
    (heard,) = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Hello")
    wamids = [post(sandbox, "reaction", {"message_id": target, "emoji": "👍"}).json()["messages"][0]["id"]
              for target in (heard, "wamid.unknown")]  # fmt: skip
    good, bad = (eventually(partial(statuses, receiver, each)) for each in wamids)
    assert [each["status"] for each in good] == ["sent"]
    assert [(each["status"], each["errors"][0]["code"]) for each in bad] == [("failed", 131009)]


def test_a_read_mark_covers_a_received_message_and_all_before_it(sandbox):
    first, second, third = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Hello", count=3)
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": second}
    assert graph(sandbox, "POST", f"{NUMBER}/messages", json=mark).json() == {"success": True}
    assert {each["wamid"]: each["read_at"] is not None for each in sandbox.inbound()} == {
        first: True, second: True, third: False,
    }  # fmt: skip
    assert code(graph(sandbox, "POST", "1056/messages", json=mark)) == 131009
    assert code(graph(sandbox, "POST", f"{NUMBER}/messages", json=mark | {"message_id": "wamid.x"})) == 131009


# Customers


def test_a_customers_message_is_delivered_by_signed_webhook_with_retries(sandbox, receiver):
    sandbox.control("webhooks", retry_first_ms=10, retry_last_ms=20)
    receiver.refusals = 3
    (wamid,) = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Hello", name="Ana")
    (value,) = eventually(lambda: said(receiver))
    assert value["metadata"]["phone_number_id"] == NUMBER
    assert (value["messages"][0]["id"], value["messages"][0]["text"]) == (wamid, {"body": "Hello"})
    assert (receiver.unsigned, receiver.refusals) == (0, 0)


def test_a_customers_file_can_be_downloaded(sandbox, receiver):
    sandbox.say({"file": ("dot.png", PNG, "image/png")}, **{"from": CUSTOMER}, to=NUMBER, text="look")
    (value,) = eventually(lambda: said(receiver))
    image = value["messages"][0]["image"]
    assert (image["caption"], base64.b64decode(image["sha256"])) == ("look", hashlib.sha256(PNG).digest())
    described = graph(sandbox, "GET", image["id"]).json()
    assert requests.get(described["url"], headers=BEARER, timeout=HANG_SECONDS).content == PNG


def test_a_thousand_messages_arrive_in_batches_repeated_and_shuffled(sandbox, receiver):
    sandbox.control("webhooks", batch=1000, repeat=1)
    wamids = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="n", count=1000, duplicates=1, shuffle=True)

    def heard():
        return [message["id"] for value in said(receiver) for message in value["messages"]]

    eventually(lambda: len(heard()) >= 4000)
    times = Counter(heard())
    assert min(times[each] for each in wamids) >= 4
    assert set(heard()) == set(wamids)
    assert heard()[:1000] != [each for each in wamids for _ in range(2)][:1000]


def test_notices_of_accounts_arrive_as_webhooks(sandbox, receiver):
    for field in ("message_template_status_update", "account_update", "phone_number_quality_update", "unheard_of"):
        sandbox.control("notice", field=field, account="77", value={"mark": field})
        assert [each["mark"] for each in eventually(partial(said, receiver, field))] == [field]
    assert {entry["id"] for each in receiver.webhooks for entry in each["entry"]} == {"77"}


def test_an_invalid_customer_message_is_refused_with_an_explanation(sandbox):
    answer = requests.post(f"{sandbox.url}/_sandbox/say", json={"to": NUMBER, "text": "x"}, timeout=HANG_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "from" in answer.json()["error"]


# The page


def test_the_page_sends_as_a_customer_and_shows_the_chat(sandbox, receiver):
    form = {"page": "1", "from": CUSTOMER, "to": NUMBER, "name": "Ana", "text": "Where is it?", "reply_to": ""}
    said_it = requests.post(f"{sandbox.url}/_sandbox/say", files={"file": ("", b"")}, data=form, timeout=HANG_SECONDS)
    assert said_it.history[0].status_code == 303
    (value,) = eventually(lambda: said(receiver))
    wamid = value["messages"][0]["id"]
    post(sandbox, "reaction", {"message_id": wamid, "emoji": "🙏"})
    action = {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Oh yes"}}]}
    post(sandbox, "interactive", {"type": "button", "body": {"text": "Shall we?"}, "action": action})
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": wamid}
    graph(sandbox, "POST", f"{NUMBER}/messages", json=mark)
    (revoked, edited) = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="mistake", count=2)
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, type="revoke", message_id=revoked)
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, type="edit", message_id=edited, text="put right")
    page = requests.get(f"{sandbox.url}/_sandbox/", timeout=HANG_SECONDS).text
    for shown in ("Where is it?", "✓✓ read by the business", "Oh yes", "This message was deleted", "put right"):
        assert shown in page
    assert page.count('<span class="reaction" title="the business">🙏</span>') == 1
    assert "mistake 1" not in page


def test_files_are_served_with_headers_that_keep_them_from_running(sandbox):
    html = {"file": ("x.html", b"<script>alert(1)</script>", "text/html")}
    sandbox.say(html, **{"from": CUSTOMER}, to=NUMBER)
    shown = requests.get(f"{sandbox.url}/_sandbox/media/{sandbox.inbound()[0]['media']}", timeout=HANG_SECONDS)
    assert shown.headers["Content-Disposition"].startswith("attachment")
    assert shown.headers["Content-Security-Policy"] == "sandbox"


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_requests_from_pages_of_other_sites_are_refused(sandbox, headers):
    saying = {"from": CUSTOMER, "to": NUMBER, "text": "x"}
    answer = requests.post(f"{sandbox.url}/_sandbox/say", json=saying, headers=headers, timeout=HANG_SECONDS)
    assert answer.status_code == 403
    assert sandbox.inbound() == []


# Numbers, tokens, the signup


def test_a_number_has_the_facts_that_were_set(sandbox):
    fields = "verified_name,quality_rating,status,health_status,throughput"
    assert graph(sandbox, "GET", f"{NUMBER}?fields={fields}").json()["health_status"]["can_send_message"] == "AVAILABLE"
    sandbox.control("number", phone_number_id=NUMBER, quality_rating="RED", can_send_message="BLOCKED")
    found = graph(sandbox, "GET", f"{NUMBER}?fields={fields}").json()
    assert (found["quality_rating"], found["health_status"]["can_send_message"]) == ("RED", "BLOCKED")
    assert found["health_status"]["entities"][0]["errors"][0]["possible_solution"]
    assert code(graph(sandbox, "GET", f"{NUMBER}?fields=nonsense")) == 100
    sandbox.control("number", phone_number_id=NUMBER, exists=False)
    assert graph(sandbox, "GET", NUMBER).json()["error"]["error_subcode"] == 33
    assert code(sandbox.send("a", number=NUMBER)) == 100


def test_an_unregistered_number_cannot_send(sandbox):
    assert graph(sandbox, "POST", f"{NUMBER}/deregister").json() == {"success": True}
    assert code(sandbox.send("a")) == 133010
    good = {"messaging_product": "whatsapp", "pin": "123456"}
    assert code(graph(sandbox, "POST", f"{NUMBER}/register", json=good | {"pin": "12"})) == 100
    assert graph(sandbox, "POST", f"{NUMBER}/register", json=good).json() == {"success": True}
    assert code(graph(sandbox, "POST", f"{NUMBER}/register", json=good | {"pin": "654321"})) == 133005
    assert code(sandbox.send("a")) == 200


def test_a_token_has_the_expiry_and_scopes_that_were_set(sandbox):
    def debugged(token):
        return graph(sandbox, "GET", f"debug_token?input_token={token}").json()["data"]

    assert (debugged("t")["is_valid"], debugged("expired1")["is_valid"]) == (True, False)
    soon = int(time.time()) + 1000
    sandbox.control("token", token="t", expires_at=soon)
    assert (debugged("t")["is_valid"], debugged("t")["expires_at"]) == (True, soon)
    assert code(sandbox.send("a")) == 200
    sandbox.control("token", token="u", expires_at=soon - 2000)
    assert (debugged("u")["is_valid"], code(sandbox.send("a", token="u"))) == (False, 190)
    sandbox.control("token", token="v", scopes=["whatsapp_business_management"])
    assert code(sandbox.send("a", token="v")) == 10
    assert code(graph(sandbox, "GET", NUMBER, headers={"Authorization": "Bearer expired1"})) == 190


def test_an_account_can_unsubscribe_or_override_its_webhook_url(sandbox, receiver, other):
    path = "100000000000001/subscribed_apps"
    assert len(graph(sandbox, "GET", path).json()["data"]) == 1
    try:
        graph(sandbox, "DELETE", path)
        assert graph(sandbox, "GET", path).json() == {"data": []}
        unheard = {"from": CUSTOMER, "to": NUMBER, "text": "x"}
        assert requests.post(f"{sandbox.url}/_sandbox/say", json=unheard, timeout=HANG_SECONDS).status_code == 400
        wrong = {"override_callback_uri": other.url, "verify_token": "wrong"}
        assert code(graph(sandbox, "POST", path, json=wrong)) == 2200
        graph(sandbox, "POST", path, data=wrong | {"verify_token": "verify"})
        assert graph(sandbox, "GET", path).json()["data"][0]["override_callback_uri"] == other.url
        sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="elsewhere")
        eventually(lambda: said(other))
        assert (said(receiver), other.unsigned) == ([], 0)
    finally:
        graph(sandbox, "POST", path)
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="here")
    eventually(lambda: said(receiver))


def test_a_signup_code_is_exchanged_once_and_before_it_expires(sandbox):
    def exchange(code, secret=SECRET, method="GET"):
        asked = {"client_id": "1", "client_secret": secret, "code": code}
        given = {"params": asked} if method == "GET" else {"data": asked}
        return graph(sandbox, method, "oauth/access_token", headers={}, **given)

    made = sandbox.control("code", token="fresh")["code"]
    assert code(exchange(made, "wrong")) == 1
    assert exchange(made).json() == {"access_token": "fresh", "token_type": "bearer"}
    assert exchange(made).json()["error"]["error_subcode"] == 36009
    late = sandbox.control("code", expires_in=0)["code"]
    assert exchange(late).json()["error"]["error_subcode"] == 36007
    assert exchange(sandbox.control("code")["code"], method="POST").json()["access_token"]


# 360dialog


def test_360dialog_sends_and_reports_to_the_numbers_own_url(sandbox, receiver, other):
    setting = {"url": other.url, "headers": {"X-Webhook-Secret": "mine"}}
    assert dialog(sandbox, "POST", "v1/configs/webhook", json=setting).json() == setting
    assert dialog(sandbox, "GET", "v1/configs/webhook").json() == setting
    body = {"messaging_product": "whatsapp", "to": f"+{CUSTOMER}", "text": {"body": "Hello"}}
    wamid = dialog(sandbox, "POST", "messages", json=body).json()["messages"][0]["id"]
    sandbox.say(**{"from": CUSTOMER}, to=KEY, text="hidden")
    eventually(lambda: len(statuses(other, wamid)) == 3 and said(other))
    assert receiver.webhooks == []
    assert {headers["X-Webhook-Secret"] for headers in other.headers} == {"mine"}
    assert all("X-Hub-Signature-256" not in headers for headers in other.headers)
    sandbox.reset()
    assert dialog(sandbox, "GET", "v1/configs/webhook").json() == setting


def test_360dialog_media_are_downloaded_from_its_own_host(sandbox):
    form, files = {"messaging_product": "whatsapp", "type": "image/png"}, {"file": ("dot.png", PNG, "image/png")}
    media_id = dialog(sandbox, "POST", "media", data=form, files=files).json()["id"]
    url = dialog(sandbox, "GET", media_id).json()["url"]
    assert url.startswith("https://lookaside.fbsbx.com/")
    swapped = url.removeprefix("https://lookaside.fbsbx.com/")
    assert dialog(sandbox, "GET", swapped).content == PNG
    assert dialog(sandbox, "GET", swapped, key="invalid").status_code == 401
    assert dialog(sandbox, "DELETE", media_id).json() == {"success": True}


def test_360dialog_errors_have_its_own_form(sandbox):
    for key in ("", "expired-1", "invalid-1"):
        answer = dialog(sandbox, "GET", "health_status", key=key)
        assert (answer.status_code, answer.json()["meta"]["http_code"]) == (401, 401)
    assert dialog(sandbox, "GET", "nowhere").json()["meta"]["http_code"] == 403
    assert dialog(sandbox, "GET", "health_status").json()["health_status"]["can_send_message"] == "AVAILABLE"
    sandbox.control("number", phone_number_id=KEY, can_send_message="LIMITED")
    assert dialog(sandbox, "GET", "health_status").json()["health_status"]["can_send_message"] == "LIMITED"
    sandbox.behave(dialog360_error="Account is disabled", times=1)
    body = {"messaging_product": "whatsapp", "to": f"+{CUSTOMER}", "text": {"body": "Hello"}}
    refused = dialog(sandbox, "POST", "messages", json=body)
    assert (refused.status_code, refused.json()["meta"]["developerMessage"]) == (400, "Account is disabled")
    assert code(dialog(sandbox, "POST", "messages", json={})) == 100


def test_facts_and_customer_messages_survive_a_kill(tmp_path):
    receiver = Receiver()
    sandbox = Sandbox(tmp_path, free_port(), free_port())
    try:
        sandbox.control("number", phone_number_id=NUMBER, quality_rating="RED")
        dialog(sandbox, "POST", "v1/configs/webhook", json={"url": receiver.url})
        (wamid,) = sandbox.say({"file": ("dot.png", PNG, "image/png")}, **{"from": CUSTOMER}, to=NUMBER)
        sandbox.end(signal.SIGKILL)
        sandbox.start()
        assert graph(sandbox, "GET", f"{NUMBER}?fields=quality_rating").json()["quality_rating"] == "RED"
        assert dialog(sandbox, "GET", "v1/configs/webhook").json()["url"] == receiver.url
        assert [each["wamid"] for each in sandbox.inbound()] == [wamid]
        assert code(graph(sandbox, "GET", sandbox.inbound()[0]["media"])) == 200
    finally:
        sandbox.end()
        receiver.close()
