"""Approved templates: the list of a number, the form of one with its values, its text, and that it is sent once."""

import re

import pytest
import requests

from bisnesctl.encryption import encrypt_shared
from bisnesctl.people.roles import Role
from tests.support.api import COMPANY, OPERATOR_KEY, OTHER
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_page import web_sandbox

CHAT = "60123456789"
PAGE = f"/ui/chats/{COMPANY}/{CHAT}/templates"
URL = "https://example.com/a.jpg"
ORDER = {"template": "order_update", "language": "en", "phone": "0"}


@pytest.fixture(scope="module")
def simulators(tmp_path_factory):
    with web_sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(simulators, api, settings, environment, rows):
    """Numbers whose providers are the simulators: 0 of Meta, 1 of 360dialog."""
    simulators.reset()
    token = encrypt_shared(settings.encryption_key.get_secret_value(), "EAAG0")
    rows("UPDATE phone_configs SET meta_access_token_encrypted = %s, meta_waba_id = '100000000000002'", (token,))
    rows(
        "UPDATE phone_configs SET connection_type = '360dialog', api_key_encrypted = %s WHERE phone_index = 1", (token,)
    )
    environment(
        DATABASE_URL=settings.database_dsn, API_PORT=api.rpartition(":")[2], OPERATOR_KEY=OPERATOR_KEY,
        META_GRAPH_URL=simulators.url, DIALOG360_URL=f"{simulators.url}/360dialog",
    )  # fmt: skip
    return simulators


@pytest.fixture
def operator(sandbox, signed_in):
    return signed_in(Role.OPERATOR, COMPANY, "aisha")


def outbox(rows):
    return [payload for (payload,) in rows("SELECT payload FROM outbox ORDER BY id")]


@pytest.mark.parametrize("phone", [0, 1])
def test_the_approved_templates_of_a_number_are_listed(operator, sandbox, phone):
    for n in range(250):
        sandbox.control("template", name=f"further_{n:03}", body="One of many")
    page = operator.text(f"{PAGE}?phone={phone}")
    assert page.count("One of many") == 250
    assert "Hello {{1}}, your order {{2}} is on its way." in page
    assert "paused_template" not in page
    found = operator.text(f"{PAGE}?phone={phone}&q=APPOINTMENT")
    assert ("appointment_reminder" in found, "order_update" in found) == (True, False)
    assert "No approved template matches." in operator.text(f"{PAGE}?phone={phone}&q=nothing")


def test_a_template_is_filled_in_shown_and_sent_once(operator, rows, settings):
    page = operator.text(f"{PAGE}?phone=0&template=order_update&language=en")
    assert "Hello {{1}}, your order {{2}} is on its way." in page
    assert "Such as: example 1" in page
    key = re.search(r'name="key" value="([0-9a-f]+)"', page).group(1)
    values = {"value.body.1": "Aina <b>", "value.body.2": "17"}
    shown = operator.post(PAGE, key=key, preview="1", **ORDER, **values)
    assert shown.status_code == 200
    assert "Hello Aina &lt;b&gt;, your order 17 is on its way." in shown.text
    assert f'name="key" value="{key}"' in shown.text
    for _ in range(2):
        assert operator.post(PAGE, key=key, **ORDER, **values).location == f"/ui/chats/{COMPANY}/{CHAT}?phone=0"
    (payload,) = outbox(rows)
    assert (payload["templateName"], payload["language"], payload["userName"]) == ("order_update", "en", "aisha")
    assert payload["components"] == [
        {"type": "body", "parameters": [{"type": "text", "text": "Aina <b>"}, {"type": "text", "text": "17"}]}
    ]


@pytest.mark.parametrize(
    ("template", "values", "components"),
    [
        ("hello_world", {}, None),
        ("special_offer", {"header.file": URL, "body.first_name": "Aina", "body.offer": "tea"}, [
            {"type": "header", "parameters": [{"type": "image", "image": {"link": URL}}]},
            {"type": "body", "parameters": [
                {"parameter_name": "first_name", "type": "text", "text": "Aina"},
                {"parameter_name": "offer", "type": "text", "text": "tea"},
            ]},
        ]),
        ("verification_code", {"body.1": "1234", "button.0": "1234"}, [
            {"type": "body", "parameters": [{"type": "text", "text": "1234"}]},
            {"type": "button", "index": "0", "sub_type": "url", "parameters": [{"type": "text", "text": "1234"}]},
        ]),
    ],
)  # fmt: skip
def test_each_kind_of_value_becomes_a_component_that_meta_accepts(
    operator, rows, sandbox, template, values, components
):
    form = {"template": template, "language": "en", "phone": "0"}
    form |= {f"value.{name}": value for name, value in values.items()}
    assert operator.post(PAGE, **form).status_code == 302
    (payload,) = outbox(rows)
    assert payload.get("components") == components
    content = {"name": template, "language": {"code": "en"}} | ({"components": components} if components else {})
    answer = requests.post(
        f"{sandbox.url}/v26.0/1055/messages", headers={"Authorization": "Bearer t"}, timeout=HANG_SECONDS,
        json={"messaging_product": "whatsapp", "to": "+60123456789", "type": "template", "template": content},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


def test_a_value_that_is_missing_or_that_meta_refuses_is_said(operator, rows):
    for values, expected in (
        ({"value.body.1": "Aina", "value.body.2": " "}, "a value is missing: 2"),
        ({"value.body.1": "Aina", "value.body.2": "1\t7"}, "must not contain line breaks"),
    ):
        answer = operator.post(PAGE, **ORDER, **values)
        assert answer.status_code == 400
        assert expected in answer.text
        assert 'value="Aina"' in answer.text
    answer = operator.post(PAGE, **ORDER | {"template": "paused_template"})
    assert (answer.status_code, "not in the list of approved ones" in answer.text) == (400, True)
    assert outbox(rows) == []


def test_a_list_that_cannot_be_fetched_leaves_the_name(operator, rows, environment, settings, api):
    rows("UPDATE phone_configs SET meta_waba_id = NULL WHERE phone_index = 0")
    page = operator.text(f"{PAGE}?phone=0")
    assert "cannot be fetched: the account of the number is not known: <code>bisnesctl bots verify" in page
    assert f"/ui/chats/{COMPANY}/{CHAT}?phone=0#templates" in page
    rows("UPDATE phone_configs SET meta_waba_id = '100000000000002', meta_access_token_encrypted = 'x'")
    wait_until(lambda: "cannot be decrypted" in operator.text(f"{PAGE}?phone=0"))  # errors are shared for a moment
    rows("UPDATE phone_configs SET connection_type = 'wwebjs' WHERE phone_index = 0")
    wait_until(lambda: "WhatsApp Web has no templates" in operator.text(f"{PAGE}?phone=0"))
    assert operator.post(PAGE, **ORDER).status_code == 503
    assert outbox(rows) == []


def test_a_provider_that_does_not_answer_is_said(operator, environment, settings, api):
    environment(DATABASE_URL=settings.database_dsn, META_GRAPH_URL="http://127.0.0.1:1")
    assert "Meta cannot be reached" in operator.text(f"{PAGE}?phone=0")


def test_who_may_not_write_sees_and_sends_no_template(operator, signed_in, rows):
    viewer, stranger = signed_in(Role.VIEWER, COMPANY), signed_in(Role.OPERATOR, OTHER)
    assert viewer.get(PAGE).status_code == viewer.post(PAGE, **ORDER).status_code == 403
    assert stranger.get(PAGE).status_code == stranger.post(PAGE, **ORDER).status_code == 404
    assert operator.post(PAGE, with_token=False, **ORDER).status_code == 403
    assert outbox(rows) == []
