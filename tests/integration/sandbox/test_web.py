"""The simulated WhatsApp network, asked as its page and its controls ask it; the page itself: test_wa_page.py."""

import signal
import threading

import pytest
import requests

from tests.support.waiting import HANG_SECONDS
from tests.support.web_page import CHAT, CUSTOMER, Page

NUMBER = "60110000001"


@pytest.fixture
def page(sandbox):
    """A page that is linked, in a network without messages."""
    sandbox.wa("reset")
    page = Page(sandbox)
    sandbox.wa("scan", number=NUMBER, device=page.device)
    yield page
    sandbox.wa("reset")
    sandbox.wa("logout", device=page.device)
    requests.delete(f"{sandbox.url}/_sandbox/wa/behaviour", timeout=HANG_SECONDS)


def told(sandbox, path, **fields):
    return requests.post(f"{sandbox.url}/_sandbox/wa/{path}", json=fields, timeout=HANG_SECONDS)


def test_a_phone_scans_the_given_qr_code(sandbox):
    one, other = Page(sandbox), Page(sandbox)
    assert told(sandbox, "scan", number=NUMBER).status_code == 409
    scanned = sandbox.wa("scan", number=NUMBER, qr=f"{other.state['ref']},noise,identity,adv,1")
    assert scanned["id"] == other.device
    assert told(sandbox, "scan", number=NUMBER, qr=f"{other.state['ref']},noise,identity,adv,1").status_code == 409
    other.poll()
    assert other.state["number"] == NUMBER
    before = one.state["ref"]
    one.ask("ref")
    one.poll()
    assert one.state["ref"] != before
    code = one.ask("code", number="60119999999")["code"]
    assert sandbox.wa("scan", code=f"{code[:4]}-{code[4:]}")["number"] == "60119999999"
    for page in one, other:
        sandbox.wa("logout", device=page.device)


def test_a_message_that_arrives_twice_is_listed_once_with_its_count(sandbox, page):
    key, answer = page.send("Hello", attempt="first")
    assert answer.json() == {"ack": 1}
    page.send("Hello", key, attempt="first")  # the same attempt, whose answer was lost
    assert [each["arrivals"] for each in sandbox.wa_messages()] == [1]
    page.send("Hello", key, attempt="second")
    found = sandbox.wa_get("messages", number=NUMBER)
    assert [(each["body"], each["arrivals"]) for each in found["messages"]] == [("Hello", 2)]
    assert found["doubles"] == [key]
    assert page.keys() == [key]


def test_messages_are_acknowledged_at_the_set_times(sandbox, page):
    sandbox.wa("acks", delivered_ms=50, read_ms=None)
    key, _ = page.send("Hello")
    assert page.next_update("ack") == {"kind": "ack", "key": key, "ack": 2}
    sandbox.wa("ack", number=NUMBER, key=key, ack=3)
    assert page.next_update("ack")["ack"] == 3
    sandbox.wa("ack", number=NUMBER, key=key, ack=2)
    assert sandbox.wa_messages()[0]["ack"] == 3


@pytest.mark.parametrize(
    ("answer", "status", "ack", "arrived"),
    [("unacknowledged", 200, 0, 1), ("ignored", 200, 0, 0), ("refused", 400, None, 0)],
)
def test_rules_refuse_ignore_and_leave_messages_unacknowledged(sandbox, page, answer, status, ack, arrived):
    sandbox.wa("behaviour", match="twice", answer=answer, times=1)
    _, refused = page.send("once or twice", attempt="a")
    assert (refused.status_code, refused.json().get("ack")) == (status, ack)
    assert len(sandbox.wa_messages()) == arrived
    _, taken = page.send("once or twice", attempt="b")
    assert taken.json() == {"ack": 1}


def test_messages_that_arrived_while_the_page_was_closed_are_in_the_history(sandbox, page):
    key, _ = page.send("Hello")
    sandbox.wa_say(NUMBER, text="are you there?", reply_to=key, count=2)
    again = Page(sandbox, page.device)
    history = again.ask("history")
    assert again.state["number"] == NUMBER
    assert [each["body"] for each in history["messages"]] == ["Hello", "are you there? 1", "are you there? 2"]
    assert history["chats"] == [{"chat": CHAT, "unread": 2}]
    again.ask("seen", chat=CHAT)
    assert again.ask("history")["chats"] == [{"chat": CHAT, "unread": 0}]


def test_the_older_page_of_a_device_is_in_conflict_until_it_takes_over(sandbox, page):
    newer = Page(sandbox, page.device)
    page.poll()
    assert (page.state["mode"], newer.state["mode"]) == ("CONFLICT", "MAIN")
    page.ask("takeover")
    page.poll(), newer.poll()
    assert (page.state["mode"], newer.state["mode"]) == ("MAIN", "CONFLICT")
    sandbox.wa("conflict", number=NUMBER)
    page.poll()
    assert page.state["mode"] == "CONFLICT"


def test_an_offline_page_gets_no_answers(sandbox, page):
    sandbox.wa("offline", number=NUMBER)
    assert page.post("updates", seq=0, version=0).status_code == 503
    assert page.send("Hello")[1].status_code == 503
    sandbox.wa("offline", number=NUMBER, offline=False)
    assert page.send("Hello")[1].ok
    assert [each["arrivals"] for each in sandbox.wa_messages()] == [1]


@pytest.mark.parametrize(("control", "mode", "after_reload"), [
    ("update", "DEPRECATED_VERSION", "MAIN"), ("ban", "TOS_BLOCK", "TOS_BLOCK"),
])  # fmt: skip
def test_a_reload_mends_an_outdated_page_but_not_a_ban(sandbox, page, control, mode, after_reload):
    sandbox.wa(control, number=NUMBER)
    page.poll()
    assert page.state["mode"] == mode
    assert Page(sandbox, page.device).state["mode"] == after_reload


def test_a_logout_unlinks_the_number_and_shows_a_qr_code(sandbox, page):
    sandbox.wa("logout", number=NUMBER, reason="user_initiated")
    page.poll()
    assert (page.state["number"], page.state["logout_reason"]) == ("", "user_initiated")
    assert page.state["ref"]
    assert page.send("Hello")[1].status_code == 404
    assert told(sandbox, "hang", number=NUMBER).status_code == 409


def test_edits_revocations_and_reactions_change_the_message(sandbox, page):
    (key,) = sandbox.wa_say(NUMBER, text="Hallo")
    sandbox.wa_say(NUMBER, type="edit", message_id=key, text="Hello")
    sandbox.wa_say(NUMBER, emoji="👍", message_id=key, **{"from": "60129999999"})
    page.ask("react", about=key, text="❤")
    (message,) = sandbox.wa_messages()
    assert (message["body"], message["edited"]) == ("Hello", True)
    assert message["reactions"] == {"60129999999@c.us": "👍", f"{NUMBER}@c.us": "❤"}
    page.ask("react", about=key, text="")
    sandbox.wa_say(NUMBER, type="revoke", message_id=key)
    (message,) = sandbox.wa_messages()
    assert (message["type"], message["body"], list(message["reactions"])) == ("revoked", None, ["60129999999@c.us"])
    assert told(sandbox, "say", type="edit", message_id="false_1@c.us_1", to=NUMBER, text="x").status_code == 409
    assert told(sandbox, "say", type="edit", to=NUMBER, text="x").status_code == 400
    assert [each["kind"] for each in sandbox.wa_get("actions", number=NUMBER)["actions"]] == ["react", "react"]


def test_files_are_uploaded_and_downloaded(sandbox, page):
    sandbox.wa_say(NUMBER, {"file": ("dot.png", b"\x89PNG dot", "image/png")}, text="look")
    file = sandbox.wa_messages()[0]["media"]
    assert (file["mimetype"], file["filename"], file["size"]) == ("image/png", "dot.png", 8)
    answer = requests.get(f"{sandbox.page_url}media/{file['id']}", timeout=HANG_SECONDS)
    assert (answer.content, answer.headers["Content-Security-Policy"]) == (b"\x89PNG dot", "sandbox")
    sent = page.post("media", b"x" * 5000).json()
    page.send("", type="document", caption="doc", media=sent)
    assert [each["type"] for each in sandbox.wa_messages()] == ["image", "document"]


def test_customers_can_hide_their_number_write_in_groups_or_not_exist(sandbox, page):
    sandbox.wa_say(NUMBER, text="hidden", hidden=True)
    sandbox.wa_say(NUMBER, text="together", group="120363")
    sandbox.wa_say(NUMBER, text="by phone", echo=True)
    hidden, together, echo = sandbox.wa_messages()
    assert (hidden["chat"], hidden["pn"]) == ("100060123456789@lid", CHAT)
    assert (together["chat"], together["author"], together["key"].endswith(CHAT)) == ("120363@g.us", CHAT, True)
    assert (echo["chat"], echo["from_me"], echo["arrivals"]) == (CHAT, True, 0)
    sandbox.wa("absent", number=CUSTOMER)
    assert not page.ask("exists", chat=CHAT)["exists"]
    sandbox.wa("absent", number=CUSTOMER, absent=False)
    assert page.ask("exists", chat=CHAT)["exists"]


def test_a_page_gets_calls_presence_and_faults_at_once(sandbox, page):
    sandbox.wa_say(NUMBER, type="call", video=True)
    call = page.next_update("call")
    assert (call["chat"], call["is_video"]) == (CHAT, True)
    sandbox.wa("presence", number=NUMBER, chat=CHAT, state="composing")
    assert page.next_update("presence")["state"] == "composing"
    sandbox.wa("leak", number=NUMBER, mb_per_second=5)
    assert page.next_update("fault")["fault"] == {"kind": "leak", "mb_per_second": 5.0, "limit_mb": 2000.0}


def test_a_restarted_simulator_continues_after_a_kill(sandbox, page):
    key, _ = page.send("before")
    sandbox.end(signal.SIGKILL)
    sandbox.start()
    again = Page(sandbox, page.device)
    assert (again.state["number"], again.keys()) == (NUMBER, [key])


def test_parallel_senders_lose_and_duplicate_nothing(sandbox, page):
    """Eight at a time send the same twenty keys, as after a loss of the network: with the same attempts."""
    keys = [f"true_{CHAT}_{n:020X}" for n in range(20)]
    threads = [threading.Thread(target=lambda: [page.send("x", key, key) for key in keys]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(page.keys()) == keys
    assert sandbox.wa_get("messages", number=NUMBER)["doubles"] == []


def test_the_control_page_shows_devices_and_chats_and_its_forms_work(sandbox, page):
    url = f"{sandbox.url}/_sandbox/wa/"
    waiting = Page(sandbox)
    page.send("<b>Hello</b>")
    said = requests.post(f"{url}say", data={"page": "1", "to": NUMBER, "from": CUSTOMER, "text": "Hi", "group": ""})
    assert (said.status_code, said.url) == (200, url)
    for text in "+60110000001", "&lt;b&gt;Hello", "Hi", "Scan with this phone", "/_wa/code.svg?text=2%40":
        assert text in said.text, text
    picture = requests.get(f"{sandbox.page_url}code.svg", params={"text": waiting.state["ref"]}, timeout=HANG_SECONDS)
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    requests.post(
        f"{url}scan", data={"page": "1", "device": waiting.device, "number": "60117777777"}, timeout=HANG_SECONDS
    )
    assert sandbox.wa_device("60117777777")["id"] == waiting.device
    sandbox.wa("logout", device=waiting.device)


@pytest.mark.parametrize("path", ["/_sandbox/wa/reset", "/_wa/api/hello"])
def test_pages_of_other_sites_are_refused(sandbox, path):
    answer = requests.post(
        f"{sandbox.url}{path}", headers={"Origin": "http://example.com"}, json={}, timeout=HANG_SECONDS
    )
    assert answer.status_code in (400, 403)
    assert "other sites" in answer.text
