"""Numbers over HTTP: linked, verified, listed and removed, without a credential ever leaving."""

import io
import json

import pytest
import structlog

from bisnesctl.encryption import decrypt
from services.api.openapi import Problem
from services.api.schemas.bots import BotList, LinkedBot, OneBot, VerifiedBot
from services.http_server.error_codes import ErrorCode
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.api import COMPANY, KEY, NOWHERE, OPERATOR_KEY, OTHER, OTHER_KEY, add_company, outbox, settings_for
from tests.support.api import api as serve
from tests.support.outbox import accept, entry, execute
from tests.support.remote.graph_api import ACCOUNT, APP, EXPIRED, NUMBER, WELL, Provider

ENCRYPTION_KEY = "0" * 64
SIGNUP = {"type": "meta_embedded", "phoneNumberId": NUMBER, "wabaId": ACCOUNT, "phoneIndex": 5, "code": "AQ-code"}


@pytest.fixture
def provider():
    found = Provider()
    found.be_well()
    yield found
    found.close()


@pytest.fixture
def serving(database, tmp_path, provider):
    """Serves with other settings; the last one counts."""
    add_company(database)
    lines = {"META_APP_ID": APP, "META_APP_SECRET": "app-secret", "PUBLIC_URL": "https://bots.example.com"}
    return lambda **more: serve(settings_for(database, tmp_path, **provider.settings | lines | more))


@pytest.fixture
def api(serving):
    with serving() as found:
        yield found


def post(client, key=KEY, path="/api/bots", **body):
    return client.post(path, json=body, headers={"X-Api-Key": key})


def link(client, key=KEY, **more):
    fields = {"phoneIndex": 5, "phoneNumberId": NUMBER, "wabaId": ACCOUNT, "token": "EAAG-token"} | more
    return post(client, key, **fields)


def get(client, path="/api/bots", key=KEY):
    return client.get(path, headers={"X-Api-Key": key})


def refusal(answer):
    problem = Problem.model_validate(answer.json)
    assert {each.value: each.status for each in ErrorCode}[problem.code] == answer.status_code
    return problem.code


def stored(connection, index=5):
    found = execute(
        connection,
        "SELECT connection_type, meta_phone_number_id, meta_waba_id, meta_access_token_encrypted, status"
        " FROM phone_configs WHERE company_id = %s AND phone_index = %s",
        (COMPANY, index),
    )
    return [(*row[:3], row[3] and decrypt(ENCRYPTION_KEY, row[3]), row[4]) for row in found]


def test_a_number_is_linked(client, connection, provider):
    answer = link(client)
    assert answer.status_code == 201, answer.json
    LinkedBot.model_validate(answer.json, extra="forbid")
    assert answer.json["verified"] == {"name": "Kedai Aina", "displayNumber": "+60 12-345 6789"}
    assert answer.json["bot"]["displayNumber"] == "+60 12-345 6789"
    assert stored(connection) == [("meta_direct", NUMBER, ACCOUNT, "EAAG-token", "active")]
    assert provider.calls() == [f"/{NUMBER}", f"/{ACCOUNT}/phone_numbers", f"/{ACCOUNT}/subscribed_apps"]
    assert link(client, token="EAAG-renewed").status_code == 200


def test_no_credential_comes_back(client, api):
    said = [link(client).text, get(client).text, get(client, f"/api/bots/{COMPANY}/5").text]
    said.append(post(client, path=f"/api/bots/{COMPANY}/5/verify").text)
    assert not any("EAAG" in text or "app-secret" in text or "v1:" in text for text in said)


def test_a_refused_number_is_answered_with_step_reason_and_advice(client, connection, provider):
    provider.tell(f"/{NUMBER}", EXPIRED, 401)
    answer = link(client)
    assert refusal(answer) == "link_failed"
    assert (answer.json["step"], answer.json["providerCode"], answer.json["kept"]) == ("number", "190", False)
    assert "Session has expired" in answer.json["error"]
    assert "new access token" in answer.json["next"]
    assert stored(connection) == []


def test_an_unavailable_provider_is_a_503(serving):
    with serving(META_GRAPH_URL=NOWHERE) as (_, client):
        answer = link(client)
        assert refusal(answer) == "provider_unavailable"
        assert int(answer.headers["Retry-After"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"phoneNumberId": None}, "invalid_request"),
        ({"token": None}, "invalid_request"),
        ({"token": "two words"}, "invalid_request"),
        ({"token": "line\nbreak"}, "invalid_request"),
        ({"phoneNumberId": "../77"}, "invalid_request"),
        ({"type": "telegram"}, "invalid_request"),
        ({"pin": "12345"}, "invalid_request"),
        ({"rate": -1}, "invalid_request"),
        ({"code": "AQ", "type": "meta_embedded", "pin": "123456"}, "invalid_request"),
        ({"code": "AQ", "token": None, "pin": "123456"}, "invalid_request"),
        ({"code": "AQ", "token": None, "type": "meta_embedded"}, "invalid_request"),
        ({"setWebhook": True}, "not_configured"),  # there is no META_VERIFY_TOKEN
        ({"verify": False}, "foreign_company"),
        ({"company": OTHER}, "foreign_company"),
    ],
)
def test_an_invalid_request_is_refused_before_the_provider_is_asked(client, connection, provider, fields, code):
    assert refusal(link(client, **fields)) == code
    assert stored(connection) == []
    assert provider.asked == []


def test_a_refused_secret_is_not_repeated(client, api):
    for fields in ({"token": "secret word"}, {"pin": "12345x"}, {"code": "secret word"}):
        assert not any(value in link(client, **fields).text for value in fields.values())


def test_a_body_that_is_not_an_object_is_refused(client, api):
    for body in (b"", b"[", b"[]", b'"x"', b"7"):
        answer = client.post("/api/bots", data=body, headers={"X-Api-Key": KEY, "Content-Type": "application/json"})
        assert answer.status_code == 400, answer.json


def test_an_operator_names_the_company_and_may_store_without_a_question(client, connection, provider):
    assert refusal(link(client, OPERATOR_KEY)) == "invalid_request"
    assert link(client, OPERATOR_KEY, company=COMPANY, verify=False).status_code == 201
    assert provider.asked == []
    assert len(stored(connection)) == 1


def test_a_360dialog_number_is_linked(client, connection, provider):
    answer = post(client, phoneIndex=5, type="360dialog", token="d360-key", rate=40)
    assert answer.status_code == 201, answer.json
    url = f"https://bots.example.com/api/360dialog/webhook/{COMPANY}/5"
    assert provider.asked[-1].json["url"] == url
    assert (answer.json["bot"]["phoneNumberId"], answer.json["bot"]["rate"]) == ("3601", 40)


# Embedded signup


def test_a_code_is_exchanged_and_the_number_subscribed_and_registered(client, connection, provider):
    assert post(client, **SIGNUP, pin="123456").status_code == 201
    assert provider.calls("POST") == ["/oauth/access_token", f"/{ACCOUNT}/subscribed_apps", f"/{NUMBER}/register"]
    exchange, *others = provider.asked
    assert exchange.form == {"client_id": APP, "client_secret": "app-secret", "code": "AQ-code"}
    assert exchange.query == {}
    assert {each.headers["Authorization"] for each in others} == {"Bearer EAAG-of-the-signup"}
    assert stored(connection) == [("meta_embedded", NUMBER, ACCOUNT, "EAAG-of-the-signup", "active")]


def test_a_number_in_use_on_a_phone_is_not_registered(client, connection, provider):
    assert post(client, **SIGNUP, coexistence=True).status_code == 201
    assert f"/{NUMBER}/register" not in provider.calls()


def test_an_expired_code_is_reported_and_nothing_is_stored(client, connection, provider):
    old = {"error": {"message": "This authorization code has expired", "code": 100, "error_subcode": 36007}}
    provider.tell("/oauth/access_token", old, method="POST")
    answer = post(client, **SIGNUP, pin="123456")
    assert refusal(answer) == "link_failed"
    assert (answer.json["step"], answer.json["kept"]) == ("exchange", False)
    assert "30 seconds" in answer.json["next"]
    assert stored(connection) == []


@pytest.mark.parametrize(
    ("step", "path", "method"),
    [
        ("subscribe", f"/{ACCOUNT}/subscribed_apps", "POST"),
        ("register", f"/{NUMBER}/register", "POST"),
    ],
)
def test_a_step_that_fails_after_the_exchange_loses_nothing(client, connection, provider, step, path, method):
    worked = provider.answers[method, path]
    provider.tell(path, {"error": {"message": "The PIN is wrong", "code": 133005}}, method=method)
    answer = post(client, **SIGNUP, pin="123456")
    assert refusal(answer) == "link_failed"
    assert (answer.json["step"], answer.json["kept"]) == (step, True)
    assert stored(connection) == [("meta_embedded", NUMBER, ACCOUNT, "EAAG-of-the-signup", "pending")]

    provider.answers[method, path] = worked
    again = {name: value for name, value in SIGNUP.items() if name != "code"}
    assert post(client, **again, pin="123456").status_code == 200
    assert stored(connection)[0][-1] == "active"
    assert provider.calls("POST").count("/oauth/access_token") == 1
    assert provider.calls("POST")[-2:] == [f"/{ACCOUNT}/subscribed_apps", f"/{NUMBER}/register"]


@pytest.mark.parametrize(("step", "path"), [("number", f"/{NUMBER}"), ("account", f"/{ACCOUNT}/phone_numbers")])
def test_ids_that_the_signup_did_not_verify_are_not_stored_with_its_token(client, connection, provider, step, path):
    worked = provider.answers["GET", path]
    provider.tell(path, {"error": {"message": "Unsupported request", "code": 100}})
    answer = post(client, **SIGNUP, pin="123456")
    assert (refusal(answer), answer.json["step"], answer.json["kept"]) == ("link_failed", step, True)
    assert stored(connection) == [("meta_embedded", None, None, "EAAG-of-the-signup", "pending")]
    bot = get(client, f"/api/bots/{COMPANY}/5").json["bot"]
    assert "not finished" in bot["held"]["reason"]

    provider.answers["GET", path] = worked
    again = {name: value for name, value in SIGNUP.items() if name != "code"}
    assert post(client, **again, pin="123456").status_code == 200
    assert stored(connection) == [("meta_embedded", NUMBER, ACCOUNT, "EAAG-of-the-signup", "active")]
    assert get(client, f"/api/bots/{COMPANY}/5").json["bot"]["held"] is None


def test_a_signup_that_proves_nothing_leaves_a_number_that_works_alone(client, connection, provider):
    link(client)
    before = stored(connection)
    provider.tell(f"/{NUMBER}", {"error": {"message": "Unsupported request", "code": 100}})
    assert post(client, **SIGNUP, pin="123456").json["kept"] is False
    assert stored(connection) == before


def test_an_unfinished_link_is_finished_by_the_next_call_without_new_fields(client, connection, provider):
    worked = provider.answers["POST", f"/{ACCOUNT}/subscribed_apps"]
    provider.tell(f"/{ACCOUNT}/subscribed_apps", {"error": {"message": "No", "code": 200}}, method="POST")
    assert post(client, **SIGNUP, coexistence=True).status_code == 422
    provider.answers["POST", f"/{ACCOUNT}/subscribed_apps"] = worked
    assert post(client, phoneIndex=5).status_code == 200
    assert provider.calls("POST").count(f"/{ACCOUNT}/subscribed_apps") == 2


def test_the_embedded_signup_needs_our_app(serving, provider):
    with serving(META_APP_ID="") as (_, client):
        assert refusal(post(client, **SIGNUP, pin="123456")) == "not_configured"
        assert provider.asked == []


def test_nothing_secret_is_logged(client, connection, provider):
    written = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    try:
        post(client, **SIGNUP, pin="123456")
        provider.tell(f"/{NUMBER}", {"error": {"message": "bad token EAAG-of-the-signup", "code": 190}})
        post(client, **SIGNUP, pin="123456")
        link(client)
        post(client, path=f"/api/bots/{COMPANY}/5/verify")
    finally:
        structlog.reset_defaults()
    assert written.getvalue()
    assert not any(word in written.getvalue() for word in ("EAAG", "AQ-code", "123456", "app-secret"))


# Looking


def test_a_company_sees_its_own_numbers(client, api):
    link(client)
    found = get(client)
    BotList.model_validate(found.json, extra="forbid")
    assert [each["phoneIndex"] for each in found.json["bots"]] == [0, 1, 5]
    assert [each["companyId"] for each in get(client, key=OTHER_KEY).json["bots"]] == [OTHER]
    assert len(get(client, key=OPERATOR_KEY).json["bots"]) == 4
    assert len(get(client, f"/api/bots?company={OTHER}", OPERATOR_KEY).json["bots"]) == 1
    assert refusal(get(client, f"/api/bots?company={OTHER}")) == "foreign_company"
    assert refusal(get(client, f"/api/bots/{COMPANY}/0", OTHER_KEY)) == "foreign_company"


def test_a_bot_shows_its_waiting_messages_and_its_hold(client, connection):
    link(client)
    bot = execute(connection, "SELECT id FROM phone_configs WHERE phone_index = 5")[0][0]
    accept(connection, entry(bot))
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired")])
    found = get(client, f"/api/bots/{COMPANY}/5")
    OneBot.model_validate(found.json, extra="forbid")
    shown = found.json["bot"]
    assert (shown["waiting"], shown["held"]) == (1, {"until": "infinity", "reason": "190: expired"})
    assert outbox().claim(connection, 10) == []
    link(client, token="EAAG-renewed")
    assert get(client, f"/api/bots/{COMPANY}/5").json["bot"]["held"] is None
    assert len(outbox().claim(connection, 10)) == 1


def test_verifying_says_what_is_wrong(client, api, provider):
    link(client)
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "LIMITED"}})
    answer = post(client, path=f"/api/bots/{COMPANY}/5/verify")
    VerifiedBot.model_validate(answer.json, extra="forbid")
    assert [(each["level"], each["code"]) for each in answer.json["problems"]] == [("warning", "limited")]
    assert answer.json["report"]["canSend"] == "LIMITED"
    shown = get(client, f"/api/bots/{COMPANY}/5").json["bot"]
    assert shown["check"]["status"] == "warning"
    assert shown["problems"] == answer.json["problems"]


def test_a_whatsapp_web_number_has_no_provider(client, api):
    assert post(client, phoneIndex=5, type="wwebjs").status_code == 201
    assert refusal(post(client, path=f"/api/bots/{COMPANY}/5/verify")) == "unsupported_by_channel"


def test_a_number_is_removed_once_nothing_waits(client, connection):
    link(client)
    bot = execute(connection, "SELECT id FROM phone_configs WHERE phone_index = 5")[0][0]
    accept(connection, entry(bot))
    path, headers = f"/api/bots/{COMPANY}/5", {"X-Api-Key": KEY}
    assert refusal(client.delete(path, headers={"X-Api-Key": OTHER_KEY})) == "foreign_company"
    assert refusal(client.delete(path, headers=headers)) == "messages_waiting"
    assert client.delete(f"{path}?force=true", headers=headers).json == {"success": True, "failedMessages": 1}
    assert refusal(client.delete(path, headers=headers)) == "unknown_bot"
    assert refusal(get(client, path)) == "unknown_bot"
    assert refusal(post(client, path=f"{path}/verify")) == "unknown_bot"


def test_a_phone_index_is_a_number(client, api):
    for index in ("-1", "x", "9999999999"):
        assert refusal(get(client, f"/api/bots/{COMPANY}/{index}")) == "invalid_request"


def test_texts_that_no_database_can_store_are_refused(client, api):
    body = json.dumps({"phoneNumberId": NUMBER, "token": "EAAG", "displayNumber": "\ud800"})
    answer = client.post("/api/bots", data=body, headers={"X-Api-Key": KEY, "Content-Type": "application/json"})
    assert refusal(answer) == "invalid_json"
