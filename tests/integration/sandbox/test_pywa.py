"""A client that is not ours, `pywa`, against the simulator: what works with Meta's API works here, both ways."""

import threading
from typing import Any

import httpx
import pytest
import requests
from flask import Flask
from pywa import WhatsApp, errors, types
from pywa.types.templates import BodyText, TemplateLanguage
from werkzeug.serving import make_server

from services.connectors.meta.receiver import SIGNATURE_HEADER, sign
from tests.support.sandbox import SECRET, Receiver, Sandbox, eventually, free_port
from tests.support.waiting import HANG_SECONDS

PHONE = "106540352242922"
CUSTOMER = "+60123456789"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0000000"
    "030001005b1d2a3b0000000049454e44ae426082"
)


class Bot:
    """pywa's client with the simulator as the Graph API, and what its handlers got by webhook."""

    def __init__(self, sandbox, token="token"):
        self.app = Flask("pywa")
        with_simulator = httpx.Client(trust_env=False)
        self.client = WhatsApp(
            PHONE, token, session=with_simulator, server=self.app, verify_token="verify", app_secret=SECRET,
            webhook_endpoint="/api/meta/webhook",
        )  # fmt: skip
        with_simulator.base_url = f"{sandbox.url}/v26.0"  # pywa has set Meta's
        self.messages = []
        self.statuses = []
        self.raw = []
        client: Any = self.client  # pywa's types take the handlers' decorators for functions without `self`
        client.on_raw_update(lambda _, update: self.raw.append(update.value))
        client.on_message(lambda _, message: self.messages.append(message))
        client.on_message_status(lambda _, status: self.statuses.append(status))

    def status_of(self, sent):
        return [each.status for each in self.statuses if each.id == sent.id]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The simulator, and a client's server where it sends webhooks."""
    port = free_port()
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), port, free_port())
    bot = Bot(sandbox)
    server = make_server("127.0.0.1", port, bot.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield sandbox, bot, f"http://127.0.0.1:{port}/api/meta/webhook"
    server.shutdown()
    thread.join()
    server.server_close()
    sandbox.end()


@pytest.fixture
def sandbox(stage):
    sandbox, bot, _ = stage
    sandbox.settle()
    sandbox.reset()
    for kept in (bot.messages, bot.statuses, bot.raw):
        kept.clear()
    return sandbox


@pytest.fixture
def bot(stage, sandbox):
    return stage[1]


@pytest.fixture
def wa(bot):
    return bot.client


def listed(sandbox):
    return [(each["type"], each["text"]) for each in sandbox.messages()["messages"]]


def test_a_text_is_sent_and_its_statuses_are_reported(sandbox, bot, wa):
    sent = wa.send_message(to=CUSTOMER, text="Hello", tracker="order-17")
    eventually(lambda: len(bot.status_of(sent)) == 3)
    assert [each.value for each in bot.status_of(sent)] == ["sent", "delivered", "read"]
    assert {each.tracker for each in bot.statuses if each.id == sent.id} == {"order-17"}
    assert listed(sandbox) == [("text", "Hello")]


def test_media_are_sent_by_link_and_by_upload(sandbox, wa):
    wa.send_image(to=CUSTOMER, image="https://example.com/cat.jpg", caption="a cat")
    wa.send_image(to=CUSTOMER, image=PNG, mime_type="image/png", caption="a dot")
    wa.send_document(to=CUSTOMER, document=b"%PDF-1.7 ", mime_type="application/pdf", filename="bill.pdf")
    assert listed(sandbox) == [("image", "a cat"), ("image", "a dot"), ("document", "bill.pdf")]
    link, upload, _ = [each["request"]["image" if n < 2 else "document"]
                       for n, each in enumerate(sandbox.messages()["messages"])]  # fmt: skip
    assert link["link"] == "https://example.com/cat.jpg"
    assert wa.get_media_url(upload["id"]).get_bytes() == PNG


def test_a_template_is_sent_with_its_variables(sandbox, wa):
    name, language = "order_update", TemplateLanguage.ENGLISH
    # pywa's types ask for a `BodyText` where a value is expected.
    body: Any = BodyText("Hello {{1}}, your order {{2}} is on its way.", "Ana", "17")
    wa.send_template(CUSTOMER, name, language, [body.params("Ben", "18")])
    with pytest.raises(errors.TemplateParamCountMismatch):
        wa.send_template(CUSTOMER, name, language, [])
    with pytest.raises(errors.TemplateNotExists):
        wa.send_template(CUSTOMER, "order_updates", language, [])
    assert listed(sandbox)[0] == ("template", "Hello Ben, your order 18 is on its way.")


def test_a_customers_message_is_received_answered_reacted_to_and_marked_as_read(sandbox, bot, wa):
    sandbox.say(**{"from": CUSTOMER}, to=PHONE, text="Where is it?", name="Ana")
    (heard,) = eventually(lambda: bot.messages)
    assert (heard.text, heard.from_user.name, heard.from_user.wa_id) == ("Where is it?", "Ana", CUSTOMER[1:])
    assert heard.mark_as_read().success
    reaction = wa.send_reaction(CUSTOMER, "👍", heard.id)
    heard.reply("On its way", quote=True)
    eventually(lambda: bot.status_of(reaction))
    assert [each.value for each in bot.status_of(reaction)] == ["sent"]
    read, reacted, replied = sandbox.messages()["messages"]
    assert [each["target"] for each in (read, reacted, replied)] == [heard.id] * 3
    assert sandbox.inbound()[0]["read_at"]
    with pytest.raises(errors.InvalidParameter):
        wa.mark_message_as_read("wamid.never-came")


def test_pywa_parses_what_customers_send_beside_texts(sandbox, bot):
    who = {"from": CUSTOMER, "to": PHONE}
    sandbox.say(files={"file": ("dot.png", PNG, "image/png")}, **who, text="look")
    sandbox.say(**who, type="location", content={"latitude": 3.14, "longitude": 101.7, "name": "Office"})
    sandbox.say(**who, user_id="US.13491208655302741918", text="hidden")
    eventually(lambda: len(bot.messages) == 3)
    found = {each.type.value: each for each in bot.messages}
    assert found["image"].caption == "look"
    assert found["image"].image.get_bytes() == PNG
    assert found["location"].location.name == "Office"
    assert found["text"].from_user.bsuid == "US.13491208655302741918"


def test_a_closed_window_and_an_expired_token_raise_pywas_own_errors(sandbox, bot, wa):
    sandbox.control("window", enforce=True)
    with pytest.raises(errors.ReEngagementMessage) as refused:
        wa.send_message(CUSTOMER, "too late")
    assert refused.value.code == 131047
    sandbox.say(**{"from": CUSTOMER}, to=PHONE, text="Hello")
    eventually(lambda: bot.messages)
    wa.send_message(CUSTOMER, "in time")
    with pytest.raises(errors.ExpiredAccessToken):
        Bot(sandbox, "expired-in-may").client.send_message(CUSTOMER, "Hello")


def test_a_failed_status_has_pywas_own_error_type(sandbox, bot, wa):
    sent = wa.send_image(CUSTOMER, "https://example.com/unfetchable-later.jpg")
    statuses = eventually(lambda: [status for each in bot.raw for status in each.get("statuses", [])
                                   if status["id"] == sent.id])  # fmt: skip
    (failed,) = statuses
    assert failed["status"] == "failed"
    assert isinstance(errors.WhatsAppError.from_dict(failed["errors"][0]), errors.MediaUploadError)


def test_pywa_refuses_a_wrong_signature(stage, sandbox, bot):
    url, body = stage[2], b'{"object":"whatsapp_business_account","entry":[]}'
    unsigned = requests.post(url, body, timeout=HANG_SECONDS)
    forged = requests.post(url, body, headers={SIGNATURE_HEADER: sign("another", body)}, timeout=HANG_SECONDS)
    assert (unsigned.status_code, forged.status_code) == (401, 403)


def test_a_callback_url_is_set_after_it_answers_the_challenge(stage, sandbox, wa):
    another = Receiver()
    with pytest.raises(errors.WhatsAppError):
        wa.override_waba_callback_url(another.url, "a token that it does not know", waba_id="77")
    assert wa.override_waba_callback_url(stage[2], "verify", waba_id="77").success
    another.close()


def test_the_number_is_described(wa):
    number = wa.get_business_phone_number()
    assert isinstance(number, types.BusinessPhoneNumber)
    assert number.id == PHONE
