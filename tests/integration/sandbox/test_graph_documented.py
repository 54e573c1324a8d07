"""The simulator answers as the Graph API is documented: expectations from the documentation, not from our connector."""

import time

import pytest
import requests

from tests.integration.sandbox.test_meta_channel import (
    BEARER,
    CUSTOMER,
    NUMBER,
    PNG,
    code,
    graph,
    other,
    post,
    receiver,
    sandbox,
    stage,
)
from tests.support.remote.file_server import FileServer
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS

__all__ = ["other", "receiver", "sandbox", "stage"]  # the fixtures

ACCOUNT = "100000000000001"


def changes(receiver, field="messages"):
    """The values of the changes of a field that the receiver got."""
    return [change["value"] for each in receiver.webhooks for entry in each["entry"] for change in entry["changes"]
            if change["field"] == field]  # fmt: skip


def statuses(receiver, answer):
    """The statuses of a message, in the order of their arrival."""
    wamid = answer.json()["messages"][0]["id"]
    return [status for value in changes(receiver) for status in value.get("statuses", []) if status["id"] == wamid]


def failure(receiver, answer):
    """The only error of a message that was accepted and has failed."""
    (failed,) = eventually(lambda: statuses(receiver, answer))
    assert failed["status"] == "failed"
    (error,) = failed["errors"]
    return error


@pytest.mark.parametrize(
    ("given", "whatsapp_id"),
    [
        ("+60123456789", "60123456789"),
        ("60123456789", "60123456789"),
        ("15550109999", "15550109999"),
        ("+1 (555) 010-9999", "15550109999"),
        ("5511999998888", "551199998888"),  # Brazil: the ninth digit is not part of the WhatsApp id
        ("+55 11 99999-8888", "551199998888"),
        ("551199998888", "551199998888"),
        ("525512345678", "5215512345678"),  # Mexico: the id has a 1 that is no longer dialled
        ("5215512345678", "5215512345678"),
        ("541123456789", "5491123456789"),  # Argentina: the id has a 9 that is not always dialled
        ("5491123456789", "5491123456789"),
    ],
)
def test_a_recipient_is_known_under_its_whatsapp_id(sandbox, given, whatsapp_id):
    answer = post(sandbox, "text", {"body": "Hello"}, to=given)
    assert answer.json()["contacts"] == [{"input": given, "wa_id": whatsapp_id}]
    (sent,) = sandbox.messages(to=given.lstrip("+") if given.lstrip("+").isdigit() else whatsapp_id)["messages"]
    assert sent["to"] == whatsapp_id


def test_any_number_can_have_another_whatsapp_id(sandbox, receiver):
    sandbox.control("customer", number="60123456789", wa_id="60129999999")
    answer = post(sandbox, "text", {"body": "Hello"})
    assert answer.json()["contacts"] == [{"input": "+60123456789", "wa_id": "60129999999"}]
    eventually(lambda: len(statuses(receiver, answer)) == 3)
    assert {status["recipient_id"] for status in statuses(receiver, answer)} == {"60129999999"}
    sandbox.say(**{"from": "60123456789"}, to=NUMBER, text="Hi")
    (value,) = eventually(lambda: [value for value in changes(receiver) if "messages" in value])
    assert (value["messages"][0]["from"], value["contacts"][0]["wa_id"]) == ("60129999999",) * 2
    sandbox.control("customer", number="60123456789")
    assert post(sandbox, "text", {"body": "Hello"}).json()["contacts"][0]["wa_id"] == "60123456789"


def test_a_token_is_accepted_as_a_parameter_of_the_address(sandbox):
    body = {"messaging_product": "whatsapp", "to": CUSTOMER, "type": "text", "text": {"body": "Hello"}}
    assert graph(sandbox, "POST", f"{NUMBER}/messages?access_token=t", {}, json=body).status_code == 200
    assert code(graph(sandbox, "POST", f"{NUMBER}/messages", {}, json=body)) == 190
    assert code(graph(sandbox, "POST", f"{NUMBER}/messages?access_token=expired-1", {}, json=body)) == 190
    assert graph(sandbox, "GET", f"{NUMBER}?access_token=t", {}).status_code == 200


def test_a_number_has_a_phone_number_in_two_forms(sandbox, receiver):
    shown = graph(sandbox, "GET", "106540352242922").json()["display_phone_number"]
    assert shown == "+1 555-078-3881"
    other_number = graph(sandbox, "GET", NUMBER).json()["display_phone_number"]
    assert other_number.startswith("+1 555-")
    sandbox.control("number", phone_number_id="2066", display_phone_number="+60 12-345 6789")
    assert graph(sandbox, "GET", "2066").json()["display_phone_number"] == "+60 12-345 6789"
    for number in ("106540352242922", "2066"):
        sandbox.say(**{"from": CUSTOMER}, to=number, text="Hi")
    eventually(lambda: len(changes(receiver)) == 2)
    assert {value["metadata"]["phone_number_id"]: value["metadata"]["display_phone_number"]
            for value in changes(receiver)} == {"106540352242922": "15550783881", "2066": "60123456789"}  # fmt: skip


def test_an_account_lists_its_number_and_those_that_have_sent(sandbox):
    def listed():
        return [each["id"] for each in graph(sandbox, "GET", f"{ACCOUNT}/phone_numbers").json()["data"]]

    assert listed() == ["106540352242922"]
    post(sandbox, "text", {"body": "Hello"})
    assert listed() == ["1055", "106540352242922"]


def pages(sandbox, path, forward=True, **query):
    """All pages of a list, by the links that each has."""
    answer = graph(sandbox, "GET", path, params=query).json()
    found = [answer["data"]]
    while link := answer.get("paging", {}).get("next" if forward else "previous"):
        answer = requests.get(link, headers=BEARER, timeout=HANG_SECONDS).json()
        found.append(answer["data"])
    return found, answer


def test_templates_are_listed_page_by_page_forwards_and_backwards(sandbox):
    path = f"{ACCOUNT}/message_templates"
    whole = graph(sandbox, "GET", path, params={"limit": 200}).json()["data"]
    assert len(whole) == 21
    found, last = pages(sandbox, path, limit=8)
    assert [len(page) for page in found] == [8, 8, 5]
    assert [template for page in found for template in page] == whole
    backwards, first = pages(sandbox, path, forward=False, limit=8, before=last["paging"]["cursors"]["after"])
    assert [template for page in backwards[::-1] for template in page] == whole[:-1]
    assert "previous" not in first["paging"]
    assert len(graph(sandbox, "GET", path).json()["data"]) == 21
    assert code(graph(sandbox, "GET", path, params={"limit": "all"})) == 100
    assert code(graph(sandbox, "GET", path, params={"after": "÷"})) == 100


def test_a_template_has_the_documented_fields(sandbox):
    path = f"{ACCOUNT}/message_templates"
    sandbox.control("template", name="greeting", language="de", body="Hallo {{name}}")
    (named,) = graph(sandbox, "GET", path, params={"name": "greeting"}).json()["data"]
    assert set(named) == {"id", "name", "language", "status", "category", "parameter_format", "components"}
    assert (named["parameter_format"], named["id"].isdigit()) == ("NAMED", True)
    assert graph(sandbox, "GET", named["id"]).json() == named
    (positional,) = graph(sandbox, "GET", path, params={"name": "order_update", "language": "en"}).json()["data"]
    assert positional["parameter_format"] == "POSITIONAL"
    assert len(positional["components"][0]["example"]["body_text"][0]) == 2
    chosen = graph(sandbox, "GET", path, params={"fields": "name,quality_score", "status": "PAUSED"}).json()["data"]
    assert {frozenset(each) for each in chosen} == {frozenset({"name", "id"})}
    assert {each["name"] for each in chosen} == {"paused_template"}
    assert code(graph(sandbox, "GET", path, params={"fields": "colour"})) == 100


def test_a_message_quotes_a_message_of_its_chat_alone(sandbox):
    def quote(wamid, **fields):
        return code(post(sandbox, "text", {"body": "Yes"}, context={"message_id": wamid}, **fields))

    (heard,) = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Shall we?")
    (echoed,) = sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="By phone", echo=True)
    sent = post(sandbox, "text", {"body": "One"}).json()["messages"][0]["id"]
    assert [quote(wamid) for wamid in (heard, echoed, sent)] == [200] * 3
    assert quote("wamid.never-was") == 131009
    assert quote(heard, to="+15550109999") == 131009


def test_a_reaction_to_an_unknown_message_is_accepted_and_fails(sandbox, receiver):
    answer = post(sandbox, "reaction", {"message_id": "wamid.never-was", "emoji": "👍"})
    assert answer.status_code == 200
    assert failure(receiver, answer)["code"] == 131009


@pytest.fixture
def files():
    server = FileServer()
    yield server
    server.close()


def test_links_of_this_machine_are_fetched(sandbox, receiver, files):
    files.offer("cat.png", PNG, "image/png")
    files.offer("page", b"<html>", "text/html")
    cat = post(sandbox, "image", {"link": f"{files.url}/cat.png"})
    assert eventually(lambda: statuses(receiver, cat))[0]["status"] == "sent"
    for path in ("missing.png", "page"):
        answer = post(sandbox, "image", {"link": f"{files.url}/{path}"})
        assert (answer.status_code, failure(receiver, answer)["code"]) == (200, 131053), path
    sandbox.control("media", fetch_links="none")
    missing = post(sandbox, "image", {"link": f"{files.url}/missing.png"})
    assert eventually(lambda: statuses(receiver, missing))[0]["status"] == "sent"


def test_the_link_of_a_templates_header_is_fetched(sandbox, receiver, files):
    files.offer("cat.png", PNG, "image/png")

    def offer(link):
        parameters = [{"type": "text", "parameter_name": name, "text": name} for name in ("offer", "first_name")]
        components = [
            {"type": "header", "parameters": [{"type": "image", "image": {"link": link}}]},
            {"type": "body", "parameters": parameters},
        ]
        return post(
            sandbox,
            "template",
            {"name": "special_offer", "language": {"code": "en"}, "components": components},
        )

    good, bad = offer(f"{files.url}/cat.png"), offer(f"{files.url}/missing.png")
    assert eventually(lambda: statuses(receiver, good))[0]["status"] == "sent"
    error = failure(receiver, bad)
    assert (error["code"], "404" in error["error_data"]["details"]) == (131053, True)
    assert code(offer("https://example.com/unfetchable.png")) == 131053


def test_each_update_has_a_webhook_of_its_own_unless_batches_are_asked_for(sandbox, receiver):
    for _ in range(3):
        post(sandbox, "text", {"body": "Hello"})
    eventually(lambda: sum(len(value["statuses"]) for value in changes(receiver)) == 9)
    assert {len(value["statuses"]) for value in changes(receiver)} == {1}
    assert len(receiver.webhooks) == 9
    receiver.webhooks.clear()
    sandbox.control("webhooks", batch=100, gather_ms=200)
    sandbox.behave(webhook_delay_ms=0)
    post(sandbox, "text", {"body": "Hello"})
    eventually(lambda: sum(len(value["statuses"]) for value in changes(receiver)) == 3)
    assert len(receiver.webhooks) == 1


def test_a_business_profile_is_read_and_changed(sandbox):
    path = f"{NUMBER}/whatsapp_business_profile"
    asked = {"fields": "about,email,websites,vertical"}
    assert graph(sandbox, "GET", path, params=asked).json() == {
        "data": [{"vertical": "OTHER", "messaging_product": "whatsapp"}]
    }
    changed = {"about": "We bake", "websites": ["https://example.com/"], "vertical": "RETAIL"}
    answer = graph(sandbox, "POST", path, json={"messaging_product": "whatsapp"} | changed)
    assert answer.json() == {"success": True}
    assert graph(sandbox, "GET", path, params=asked).json()["data"] == [changed | {"messaging_product": "whatsapp"}]
    for wrong in ({"about": "x" * 140}, {"websites": ["example.com"]}, {"websites": ["https://a"] * 3},
                  {"vertical": "SPACE"}):  # fmt: skip
        assert code(graph(sandbox, "POST", path, json={"messaging_product": "whatsapp"} | wrong)) == 100, wrong
    assert code(graph(sandbox, "POST", path, json={"about": "x"})) == 100
    assert code(graph(sandbox, "GET", path, params={"fields": "colour"})) == 100


def test_customers_are_blocked_listed_and_unblocked(sandbox):
    path = f"{NUMBER}/block_users"

    def change(method, *users):
        named = [{"user": user} for user in users]
        return graph(sandbox, method, path, json={"messaging_product": "whatsapp", "block_users": named})

    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Hi")
    assert change("POST", f"+{CUSTOMER}").json() == {
        "messaging_product": "whatsapp",
        "block_users": {"added_users": [{"input": f"+{CUSTOMER}", "wa_id": CUSTOMER}]},
    }
    partly = change("POST", CUSTOMER, "15550109999")
    assert (partly.status_code, code(partly)) == (400, 139100)
    (failed,) = partly.json()["block_users"]["failed_users"]
    assert (failed["input"], failed["errors"][0]["code"]) == ("15550109999", 131047)
    listed = graph(sandbox, "GET", path).json()["data"]
    assert listed == [{"messaging_product": "whatsapp", "wa_id": CUSTOMER}]
    assert code(post(sandbox, "text", {"body": "Hello"})) == 130403
    said = requests.post(f"{sandbox.url}/_sandbox/say", json={"from": CUSTOMER, "to": NUMBER, "text": "Hi"},
                         timeout=HANG_SECONDS)  # fmt: skip
    assert said.status_code == 403
    assert change("DELETE", CUSTOMER).json()["block_users"] == {
        "removed_users": [{"input": CUSTOMER, "wa_id": CUSTOMER}]
    }
    assert graph(sandbox, "GET", path).json() == {"data": []}
    assert code(post(sandbox, "text", {"body": "Hello"})) == 200


def test_a_group_is_created_joined_written_to_and_deleted(sandbox, receiver):
    created = graph(
        sandbox, "POST", f"{NUMBER}/groups", json={"messaging_product": "whatsapp", "subject": "Bakers"}
    ).json()
    (value,) = eventually(lambda: changes(receiver, "group_lifecycle_update"))
    (group,) = value["groups"]
    assert (group["type"], group["request_id"], group["subject"]) == ("group_create", created["request_id"], "Bakers")
    group_id = group["group_id"]
    assert graph(sandbox, "GET", f"{group_id}/invite_link").json()["invite_link"] == group["invite_link"]

    def write(to=group_id):
        return post(sandbox, "text", {"body": "Hello, all"}, to=to, recipient_type="group")

    assert (code(write()), code(write("unknown"))) == (131020, 131041)
    sandbox.control("join", group_id=group_id, number=CUSTOMER)
    answer = write()
    assert answer.json()["contacts"][0]["input"] == group_id
    (first, *_) = eventually(lambda: statuses(receiver, answer))
    assert (first["recipient_id"], first["recipient_type"]) == (group_id, "group")
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="Hi", group_id=group_id)
    (heard,) = eventually(lambda: [value["messages"][0] for value in changes(receiver) if "messages" in value])
    assert (heard["from"], heard["group_id"]) == (CUSTOMER, group_id)
    (listed,) = graph(sandbox, "GET", f"{NUMBER}/groups").json()["data"]["groups"]
    assert (listed["id"], listed["subject"]) == (group_id, "Bakers")
    described = graph(sandbox, "GET", group_id, params={"fields": "subject,participants,total_participant_count"})
    assert described.json()["participants"][0]["wa_id"] == CUSTOMER
    graph(sandbox, "DELETE", f"{group_id}/participants",
          json={"messaging_product": "whatsapp", "participants": [{"user": CUSTOMER}]})  # fmt: skip
    assert code(write()) == 131020
    graph(sandbox, "DELETE", group_id)
    assert code(graph(sandbox, "GET", group_id)) == 100


def test_a_history_is_shared_in_three_phases(sandbox, receiver):
    now = time.time()
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="today", timestamp=now)
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="last month", timestamp=now - 30 * 86400)
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="long ago", timestamp=now - 120 * 86400)
    post(sandbox, "text", {"body": "our answer"})
    sandbox.settle()
    request = {"messaging_product": "whatsapp", "sync_type": "history"}
    assert graph(sandbox, "POST", f"{NUMBER}/smb_app_data", json=request).json()["request_id"]
    eventually(lambda: len(changes(receiver, "history")) == 3)
    found = {value["history"][0]["metadata"]["phase"]: value["history"][0] for value in changes(receiver, "history")}
    texts = {phase: [message["text"]["body"] for thread in part["threads"] for message in thread["messages"]]
             for phase, part in found.items()}  # fmt: skip
    assert texts == {0: ["today", "our answer"], 1: ["last month"], 2: ["long ago"]}
    assert found[2]["metadata"]["progress"] == 100
    assert {thread["id"] for part in found.values() for thread in part["threads"]} == {CUSTOMER}
    sandbox.control("number", phone_number_id=NUMBER, shares_history=False)
    graph(sandbox, "POST", f"{NUMBER}/smb_app_data", json=request)
    eventually(lambda: len(changes(receiver, "history")) == 4)
    assert changes(receiver, "history")[-1]["history"][0]["errors"][0]["code"] == 2593109
    graph(sandbox, "POST", f"{NUMBER}/smb_app_data", json=request | {"sync_type": "smb_app_state_sync"})
    (value,) = eventually(lambda: changes(receiver, "smb_app_state_sync"))
    assert value["state_sync"][0]["contact"]["phone_number"] == CUSTOMER
    assert code(graph(sandbox, "POST", f"{NUMBER}/smb_app_data", json=request | {"sync_type": "all"})) == 100


def test_messages_can_come_in_the_fields_of_other_senders(sandbox, receiver):
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="to the agent", field="standby")
    sandbox.say(**{"from": CUSTOMER}, to=NUMBER, text="the agent's", field="standby", echo=True)
    eventually(lambda: len(changes(receiver, "standby")) == 2)
    assert [next(name for name in ("messages", "message_echoes") if name in value)
            for value in changes(receiver, "standby")] == ["messages", "message_echoes"]  # fmt: skip
