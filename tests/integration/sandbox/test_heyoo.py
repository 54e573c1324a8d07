"""A second client that is not ours, `heyoo`, against the simulator.

It writes recipients without a plus, sends fields that have no value as null, names files by their whole path, and calls
versions of the API that have expired.
"""

import pytest
from heyoo import WhatsApp

from tests.integration.sandbox.test_meta_channel import BEARER, graph, other, receiver, sandbox, stage
from tests.support.sandbox import eventually

__all__ = ["other", "receiver", "sandbox", "stage"]  # the fixtures

PHONE = "1055"
CUSTOMER = "5511955554444"
WHATSAPP_ID = "551155554444"
PDF = b"%PDF-1.7 one page"


@pytest.fixture
def client(sandbox):
    client = WhatsApp(token="token", phone_number_id=PHONE)
    client.base_url, client.v15_base_url = f"{sandbox.url}/v14.0", f"{sandbox.url}/v15.0"
    client.url = f"{client.base_url}/{PHONE}/messages"
    return client


def sent(sandbox):
    return [(each["type"], each["text"], each["answer"]) for each in sandbox.messages()["messages"]]


def test_a_text_reaches_the_number_that_heyoo_writes_without_a_plus(sandbox, receiver, client):
    answer = client.send_message("Hello", CUSTOMER)
    assert answer["contacts"] == [{"input": CUSTOMER, "wa_id": WHATSAPP_ID}]
    client.send_message("Hello", "15550109999")
    assert [each["to"] for each in sandbox.messages()["messages"]] == [WHATSAPP_ID, "15550109999"]
    statuses = eventually(lambda: [status for each in receiver.webhooks for entry in each["entry"]
                                   for change in entry["changes"] for status in change["value"]["statuses"]
                                   if status["id"] == answer["messages"][0]["id"]])  # fmt: skip
    assert {status["recipient_id"] for status in statuses} == {WHATSAPP_ID}


def test_templates_with_right_and_wrong_parameters(sandbox, client):
    values = [{"type": "text", "text": "Ana"}, {"type": "text", "text": "17"}]
    client.send_template("order_update", CUSTOMER, [{"type": "body", "parameters": values}])
    refused = client.send_template("order_update", CUSTOMER, [{"type": "body", "parameters": values[:1]}])
    assert refused["error"]["code"] == 132000
    refused = client.send_template("hello_world", CUSTOMER, [], lang="fr")
    assert refused["error"]["code"] == 132001
    assert sent(sandbox) == [
        ("template", "Hello Ana, your order 17 is on its way.", "200"), ("template", "order_update", "132000"),
        ("template", "hello_world", "132001"),
    ]  # fmt: skip


def test_media_are_sent_by_link_and_by_upload(sandbox, client, tmp_path):
    client.send_image("https://example.com/cat.jpg", CUSTOMER, caption="a cat")
    bill = tmp_path / "bill.pdf"
    bill.write_bytes(PDF)
    file = client.upload_media(str(bill))
    client.send_document(file["id"], CUSTOMER, caption="your bill", link=False)
    assert sent(sandbox) == [("image", "a cat", "200"), ("document", "your bill", "200")]
    assert client.query_media_url(file["id"]).startswith(sandbox.url)
    assert client.delete_media(file["id"]) == {"success": True}
    assert graph(sandbox, "GET", file["id"], BEARER).status_code == 400


def test_a_customers_message_is_answered_reacted_to_and_marked_as_read(sandbox, client):
    (heard,) = sandbox.say(**{"from": CUSTOMER}, to=PHONE, text="Where is it?")
    client.mark_as_read(heard)
    client.send_reaction("👍", heard, CUSTOMER)
    client.reply_to_message(heard, CUSTOMER, "On its way")
    assert [each["target"] for each in sandbox.messages()["messages"]] == [heard] * 3
    assert sandbox.inbound()[0]["read_at"]


def test_buttons_a_location_and_contacts_are_sent(sandbox, client):
    client.send_reply_button(
        recipient_id=CUSTOMER,
        button={
            "type": "button",
            "body": {"text": "Shall we?"},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]},
        },
    )
    client.send_location(lat="3.14", long="101.7", name="Office", address="1 Jalan", recipient_id=CUSTOMER)
    client.send_contacts([{"name": {"formatted_name": "Ana B", "first_name": "Ana"}}], CUSTOMER)
    assert [answer for _, _, answer in sent(sandbox)] == ["200"] * 3


def test_heyoo_reads_what_the_simulator_reports(sandbox, receiver, client):
    sandbox.say(**{"from": CUSTOMER}, to=PHONE, text="Where is it?", name="Ana 👩‍💻")
    (webhook,) = eventually(lambda: [each for each in receiver.webhooks if client.is_message(each)])
    assert (client.get_message(webhook), client.get_name(webhook)) == ("Where is it?", "Ana 👩‍💻")
    assert (client.get_mobile(webhook), client.get_message_type(webhook)) == (WHATSAPP_ID, "text")
