"""The page of the sandbox: what it does at the simulators, and that it is there only where they run."""

import io
import json
from urllib.parse import quote

import pytest
import requests

from bisnesctl.audit import delivery, reading
from bisnesctl.audit.store import AuditFilter
from bisnesctl.people.roles import Role
from services.dashboard import texts
from services.dashboard.pages import sandbox as page
from tests.support.api import COMPANY, add_company
from tests.support.file_beginnings import MP4, OGG, PDF, PNG
from tests.support.waiting import HANG_SECONDS
from tests.support.web_page import Page, web_sandbox

FORMS = {
    "say": {"number": f"{COMPANY}-0", "sender": "60123456789", "text": "Hello"},
    "scan": {"number": f"{COMPANY}-2", "phone": "60110000001"},
    "rules": {"failure": "slow"}, "rules/delete": {}, "page": {"linked": "60110000001", "failure": "crash"},
}  # fmt: skip


@pytest.fixture(scope="module")
def simulators(tmp_path_factory):
    with web_sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(simulators, settings, environment, rows):
    """The simulators, empty, as the sandbox of this deployment, which has a number of each channel."""
    simulators.reset()
    for path in ("behaviour", "wa/behaviour"):
        requests.delete(f"{simulators.url}/_sandbox/{path}", timeout=HANG_SECONDS).raise_for_status()
    simulators.wa("reset")
    add_company(settings.database_dsn)
    rows("INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES (%s, 2, 'wwebjs')", (COMPANY,))
    environment(DATABASE_URL=settings.database_dsn, SANDBOX="true", SANDBOX_PORT=str(simulators.port))
    return simulators


def rules(sandbox):
    """The rules in force: those of Meta, and those of WhatsApp Web."""
    found = requests.get(f"{sandbox.url}/_sandbox/behaviour", timeout=HANG_SECONDS).json()
    return found["behaviours"], sandbox.wa_get("behaviour")["behaviours"]


def test_a_customer_writes_to_a_number_of_meta(sandbox, signed_in, settings):
    operator = signed_in(Role.OPERATOR, name="aisha")
    assert operator.post("/ui/sandbox/say", name="Aina", **FORMS["say"]).location == "/ui/sandbox"
    (message,) = sandbox.inbound()
    assert message["text"] == "Hello"
    delivery.deliver(settings)
    (record,) = reading.read(settings, AuditFilter(who="aisha")).records
    assert record["action"] == "sandbox: say as a customer"


def test_a_customer_writes_only_to_a_number_that_can_be_written_to(sandbox, signed_in):
    operator = signed_in(Role.OPERATOR)
    for form, expected in (
        ({"number": f"{COMPANY}-2"}, "is not linked"), ({"number": f"{COMPANY}-9"}, "has no bot 9"),
        ({"text": " "}, "Write a text."), ({"sender": "nobody"}, "the sandbox says"),
    ):  # fmt: skip
        answer = operator.post("/ui/sandbox/say", **FORMS["say"] | form)
        assert answer.status_code == 400
        assert expected in answer.text


#: A linked number of WhatsApp Web, and a customer.
LINKED, CUSTOMER = "60110000009", "60123456789"


@pytest.fixture(params=["meta", "web"])
def spoken_to(request, sandbox, rows):
    """The name of a number that has a message of the customer, and that message's id of the provider."""
    is_web = request.param == "web"
    if is_web:
        shown = Page(sandbox)
        sandbox.scan(LINKED, device=shown.device)
        rows(
            "INSERT INTO wa_session (bot_id, state, own_number) SELECT id, 'WORKING', %s FROM phone_configs"
            " WHERE phone_index = 2", (LINKED,),
        )  # fmt: skip
        (earlier,) = sandbox.wa("say", to=LINKED, **{"from": CUSTOMER}, text="Earlier")["ids"]
    else:
        (earlier,) = sandbox.say(to="1", **{"from": CUSTOMER}, text="Earlier")
    rows(
        "INSERT INTO messages (message_id, company_id, contact_id, chat_id, content, message_type, from_me,"
        " phone_index, timestamp, external_id) VALUES (%s, %s, %s, %s, 'Earlier', 'text', false, %s, now(), %s)",
        (earlier, COMPANY, f"{COMPANY}-{CUSTOMER}", f"{CUSTOMER}@c.us", 2 if is_web else 0, earlier),
    )
    return f"{COMPANY}-{2 if is_web else 0}", earlier


def last(sandbox, name):
    """The last message of the customer: its kind, words, and whether it has a file; and the one that it replies to."""
    if name.endswith("-0"):
        found = sandbox.inbound()[0]
        return found["kind"], found["text"], bool(found["media"]), found["target"]
    found = sandbox.wa_messages(number=LINKED)[-1]
    words = found["body"] or found["caption"] or json.dumps(found["extra"])
    return found["type"], words, bool(found["media"]), found["quoted"]


def test_a_customer_replies_and_sends_files(sandbox, signed_in, spoken_to):
    (name, earlier), operator = spoken_to, signed_in(Role.OPERATOR)
    page = f"/ui/sandbox/customer?number={name}&sender={CUSTOMER}"
    form = {"number": name, "sender": CUSTOMER, "chat": "1"}
    assert "Earlier" in operator.text(page)
    assert "Reply to this message:" in operator.text(f"{page}&reply_to={quote(earlier)}")
    text = "chat" if name.endswith("-2") else "text"
    assert operator.post("/ui/sandbox/say", text="Now", reply_to=earlier, **form).location == page
    assert last(sandbox, name) == (text, "Now", False, earlier)
    for file, content, kind, voice in (
        ("photo.png", PNG, "image", ""), ("offer.pdf", PDF, "document", ""),
        ("clip.mp4", MP4, "video", ""), ("note.ogg", OGG, "audio", ""),
        ("note.ogg", OGG, "audio" if name.endswith("-0") else "ptt", "1"),
    ):  # fmt: skip
        given = {"file": (io.BytesIO(content), file), "text": "Look"} | ({"voice": voice} if voice else {})
        assert operator.post("/ui/sandbox/say", **form, **given).status_code == 302
        assert last(sandbox, name)[:3] == (kind, "Look", True)


def test_a_customer_reacts(sandbox, signed_in, spoken_to):
    (name, earlier), operator = spoken_to, signed_in(Role.OPERATOR)
    form = {"number": name, "sender": CUSTOMER, "chat": "1", "message_id": earlier}
    for emoji in ("👍", ""):
        assert operator.post("/ui/sandbox/say", emoji=emoji, **form).status_code == 302
        if name.endswith("-0"):
            assert last(sandbox, name) == ("reaction", emoji, False, earlier)
        else:
            found = sandbox.wa_messages(number=LINKED)[0]["reactions"]
            assert found == ({f"{CUSTOMER}@c.us": emoji} if emoji else {})


def test_a_customer_sends_a_place_and_answers_buttons_and_lists(sandbox, signed_in, spoken_to):
    (name, earlier), operator = spoken_to, signed_in(Role.OPERATOR)
    form, is_web = {"number": name, "sender": CUSTOMER, "chat": "1", "reply_to": earlier}, name.endswith("-2")
    place = {"latitude": "3,139", "longitude": "101.687", "place": "Kuala Lumpur"}
    assert operator.post("/ui/sandbox/say", **place, **form).status_code == 302
    kind, words, _, about = last(sandbox, name)
    assert (kind, about) == ("location", earlier)
    assert json.loads(words) == (
        {"lat": 3.139, "lng": 101.687, "loc": "Kuala Lumpur"} if is_web
        else {"latitude": 3.139, "longitude": 101.687, "name": "Kuala Lumpur"}
    )  # fmt: skip
    assert operator.post("/ui/sandbox/say", button="Yes", option_id="y", **form).status_code == 302
    assert last(sandbox, name)[:2] == ("buttons_response" if is_web else "interactive", "Yes")
    assert operator.post("/ui/sandbox/say", row="Tea", option_id="t", **form).status_code == 302
    kind, words, _, _ = last(sandbox, name)
    assert kind == ("list_response" if is_web else "interactive")
    assert '"Tea"' in words
    assert '"t"' in words


def test_what_a_customer_cannot_send_is_said(sandbox, signed_in, spoken_to):
    (name, _), operator = spoken_to, signed_in(Role.OPERATOR)
    form = {"number": name, "sender": CUSTOMER, "chat": "1"}
    for given, expected in (
        ({"latitude": "91", "longitude": "0"}, "latitude from -90 to 90"), ({"latitude": "x"}, "latitude"),
        ({"text": " "}, "Write a text."), ({"emoji": "👍", "message_id": ""}, "Write a text."),
    ):  # fmt: skip
        answer = operator.post("/ui/sandbox/say", **form, **given)
        assert (answer.status_code, expected in answer.text) == (400, True), given
    assert operator.get(f"/ui/sandbox/customer?number={name}&sender=nobody").status_code == 400
    assert operator.get(f"/ui/sandbox/customer?number=0777-0&sender={CUSTOMER}").status_code == 404
    assert signed_in(Role.VIEWER).get(f"/ui/sandbox/customer?number={name}&sender={CUSTOMER}").status_code == 403


def test_a_qr_code_is_scanned(sandbox, signed_in, rows):
    shown, operator = Page(sandbox), signed_in(Role.OPERATOR)
    rows(
        "INSERT INTO wa_session (bot_id, state, qr) SELECT id, 'SCAN_QR_CODE', %s FROM phone_configs"
        " WHERE company_id = %s AND phone_index = 2",
        (f"https://wa.me/{shown.state['ref']},x", COMPANY),
    )
    assert "shows a QR code" in operator.text("/ui/sandbox")
    assert operator.post("/ui/sandbox/scan", **FORMS["scan"] | {"phone": "60110000002"}).status_code == 302
    assert sandbox.wa_device("60110000002")["id"] == shown.device
    assert "60110000002" in operator.text("/ui/sandbox")
    assert operator.post("/ui/sandbox/scan", code="AAAA-BBBB").status_code == 400


@pytest.mark.parametrize("failure", [*page.META_FAILURES, *page.WEB_FAILURES])
def test_each_failure_of_messages_is_one_that_the_simulators_know(sandbox, signed_in, failure):
    operator, is_web = signed_in(Role.OPERATOR), failure in page.WEB_FAILURES
    assert operator.post("/ui/sandbox/rules", failure=failure, match="slow", times="2").status_code == 302
    (found,) = rules(sandbox)[is_web]
    assert (found["match"], found["times"]) == ("slow", 2)
    assert "slow" in operator.text("/ui/sandbox")
    assert operator.post("/ui/sandbox/rules/delete").status_code == 302
    assert rules(sandbox) == ([], [])


@pytest.mark.parametrize("failure", page.PAGE_FAILURES)
def test_each_failure_of_a_page_is_one_that_the_simulators_know(sandbox, signed_in, failure):
    shown = Page(sandbox)
    sandbox.scan("60110000001", device=shown.device)
    operator = signed_in(Role.OPERATOR)
    assert operator.post("/ui/sandbox/page", linked="60110000001", failure=failure).status_code == 302


def test_a_page_loses_its_network_and_gets_it_back(sandbox, signed_in):
    shown, operator = Page(sandbox), signed_in(Role.OPERATOR)
    sandbox.scan("60110000003", device=shown.device)
    for failure, expected in (("offline", True), ("online", False)):
        operator.post("/ui/sandbox/page", linked="60110000003", failure=failure)
        assert sandbox.wa_device("60110000003")["offline"] is expected


@pytest.mark.parametrize("failure", ["", "unheard", "../reset"])
def test_other_failures_are_refused(sandbox, signed_in, failure):
    operator = signed_in(Role.OPERATOR)
    assert operator.post("/ui/sandbox/rules", failure=failure).status_code == 400
    assert operator.post("/ui/sandbox/page", linked="60110000001", failure=failure).status_code == 400


def test_every_failure_has_its_text():
    for language in texts.languages():
        known = texts.catalogue(language)
        names = [f"sandbox.{each}" for each in (*page.META_FAILURES, *page.WEB_FAILURES)]
        assert {*names, *(f"sandbox.page_{each}" for each in page.PAGE_FAILURES)} <= known.keys()


def test_who_may_not_use_the_sandbox_changes_nothing(sandbox, signed_in):
    viewer, company = signed_in(Role.VIEWER), signed_in(Role.OPERATOR, COMPANY)
    for path, form in FORMS.items():
        assert viewer.post(f"/ui/sandbox/{path}", **form).status_code == 403
        assert company.post(f"/ui/sandbox/{path}", **form).status_code == 403
        assert signed_in(name=path).post(f"/ui/sandbox/{path}", with_token=False, **form).status_code == 403
    assert company.get("/ui/sandbox").status_code == 403
    assert "<form" not in viewer.text("/ui/sandbox").partition("<main")[2].partition("</main>")[0]
    assert rules(sandbox) == ([], [])


def test_the_page_says_that_the_simulators_are_down(sandbox, environment, settings, signed_in):
    environment(DATABASE_URL=settings.database_dsn, SANDBOX="true", SANDBOX_PORT="1")
    operator = signed_in(Role.OPERATOR)
    assert "no sandbox listens" in operator.text("/ui/sandbox")
    assert operator.post("/ui/sandbox/rules", failure="slow").status_code == 503


def test_without_a_sandbox_there_is_no_page(signed_in, rows):
    administrator = signed_in()
    assert administrator.get("/ui/sandbox").status_code == 404
    assert "/ui/sandbox" not in administrator.text("/ui/account")
    for path, form in FORMS.items():
        assert administrator.post(f"/ui/sandbox/{path}", **form).status_code == 404
