"""The Flask side of the API: who may ask, what is answered, and how errors look."""

import re

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from services.api.auth import Auth, declared
from services.api.openapi import Problem
from services.api.schemas.base import Accepted, AllHealth, MessagePage, OneMessage
from services.events.names import CATALOGUE
from services.events.sender import signed_headers
from services.message import Status, StatusUpdate
from services.outbox.outcome_policy import Result
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, OTHER, OTHER_KEY, REVOKED_KEY, outbox, refusal
from tests.support.outbox import apply_statuses

SENDS = f"/api/v2/messages/text/{COMPANY}"
CHATS = f"/api/v2/messages/{COMPANY}"


def send(client, text="Hello", chat=CHAT, key=KEY, **options):
    fields = {"message": text} | options.pop("fields", {})
    headers = {"X-Api-Key": key} | options.pop("headers", {})
    return client.post(f"{SENDS}/{chat}", json=fields, headers=headers, **options)


def get(client, path, key=KEY):
    return client.get(path, headers={"X-Api-Key": key})


def life(client, message_id, chat=CHAT):
    found = get(client, f"{CHATS}/{chat}/{message_id}")
    assert found.status_code == 200, found.json
    OneMessage.model_validate(found.json, extra="forbid")
    return found.json


# Authentication


def routes(app):
    return list(app.url_map.iter_rules())


def test_every_route_names_its_auth_and_documents_it(client):
    app = client.application
    documented = app.api_doc["paths"]
    for rule in routes(app):
        auth = declared(app.blueprints.get(rule.endpoint.split(".")[0]))
        assert auth is not None, f"{rule} does not name its auth"
        address = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            if address not in documented:
                assert address.startswith("/openapi"), f"{rule} is not documented"
                continue
            security = documented[address][method.lower()]["security"]
            assert security == ([{}] if auth is Auth.NONE else [{"apiKey": []}, {"bearer": []}])


def test_no_route_answers_without_the_auth_that_it_names(client):
    app = client.application
    for rule in routes(app):
        auth = declared(app.blueprints.get(rule.endpoint.split(".")[0]))
        if auth is not Auth.COMPANY:
            continue
        address = rule.rule.replace("<companyId>", COMPANY).replace("<chatId>", CHAT).replace("<", "").replace(">", "")
        for method in rule.methods:
            if method == "HEAD":
                assert client.open(address, method=method).status_code == 401
                continue
            assert refusal(client.open(address, method=method)) == (401, "no_key")
            foreign = client.open(address, method=method, headers={"X-Api-Key": OTHER_KEY})
            assert refusal(foreign) == (403, "foreign_company")


def test_a_route_that_names_no_auth_is_closed(context):
    from flask import Blueprint

    from services.api.app import create_app

    forgotten = Blueprint("forgotten", __name__)
    forgotten.add_url_rule("/forgotten", view_func=lambda: "secret")
    app = create_app(context)
    app.register_blueprint(forgotten)
    assert refusal(app.test_client().get("/forgotten")) == (500, "internal")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "no_key")),
        ({"X-Api-Key": ""}, (401, "no_key")),
        ({"Authorization": "Basic Ym9iOmJvYg=="}, (401, "no_key")),
        ({"Authorization": "Bearer"}, (401, "no_key")),
        ({"X-Api-Key": "bk_nobody"}, (401, "invalid_key")),
        ({"X-Api-Key": "bk_ключ".encode().decode("latin-1")}, (401, "invalid_key")),
        ({"X-Api-Key": REVOKED_KEY}, (401, "invalid_key")),
        ({"Authorization": f"Bearer {OTHER_KEY}"}, (403, "foreign_company")),
    ],
)
def test_without_a_key_of_the_company_nothing_is_answered(client, headers, expected):
    assert refusal(client.get(f"{CHATS}/{CHAT}", headers=headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY} "},
        {"X-Api-Key": OPERATOR_KEY},
        {"X-Api-Key": KEY, "Authorization": "Bearer bk_nobody"},
    ],
)
def test_a_key_is_read_from_either_header(client, headers):
    assert client.get(f"{CHATS}/{CHAT}", headers=headers).status_code == 200


# Sending


def test_a_sent_text_is_queued_and_found_again(client):
    answer = send(client)
    assert answer.status_code == 202
    Accepted.model_validate(answer.json, extra="forbid")
    found = life(client, answer.json["messageId"])
    assert (found["status"], found["payload"], found["phoneIndex"]) == ("queued", {"message": "Hello"}, 0)
    assert [entry["status"] for entry in found["statuses"]] == ["queued"]
    assert (found["attempts"], found["error"], found["providerId"]) == (0, None, None)


def test_the_same_idempotency_key_gives_the_same_message(client):
    again = {"headers": {"Idempotency-Key": "order-1"}}
    first, second = send(client, **again), send(client, **again)
    assert first.json["messageId"] == second.json["messageId"]
    assert refusal(send(client, "something else", **again)) == (409, "idempotency_conflict")
    assert len(get(client, f"{CHATS}/{CHAT}").json["messages"]) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fields": {"phoneIndex": 7}}, (404, "unknown_bot")),
        ({"fields": {"phoneIndex": "one"}}, (400, "invalid_request")),
        ({"fields": {"message": None}}, (400, "invalid_request")),
        ({"text": "x" * 4097}, (400, "text_too_long")),
        ({"text": "x" * 1_100_000}, (413, "too_large")),
        ({"chat": "nobody"}, (400, "invalid_chat_id")),
        ({"chat": f"{OTHER}-{CHAT}"}, (400, "invalid_chat_id")),
        ({"query_string": {"wait": "31"}}, (400, "invalid_request")),
        ({"headers": {"Idempotency-Key": "x" * 256}}, (400, "invalid_request")),
        ({"fields": {"quotedMessageId": "wamid.unknown"}}, (404, "unknown_message")),
    ],
)
def test_a_wrong_send_is_refused_with_its_code(client, options, expected):
    assert refusal(send(client, **options)) == expected


def test_invalid_json_has_its_own_code(client):
    answer = client.post(f"{SENDS}/{CHAT}", data=b'{"message": ', headers={"X-Api-Key": KEY})
    assert refusal(answer) == (400, "invalid_json")


def test_an_error_names_the_allowed_methods(client):
    answer = client.patch(f"{SENDS}/{CHAT}", headers={"X-Api-Key": KEY})
    assert refusal(answer) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("address", ["/nowhere", "/api/v2/messages", "/static/x", "/health/none"])
def test_an_unknown_route_is_a_404(client, address):
    assert refusal(client.get(address)) == (404, "not_found")


# A message's life


def deliver(context, status, final=True, **more):
    """Claim what is due and record this outcome for each."""
    worker = outbox()
    with context.database.connection() as connection:
        for message in worker.claim(connection, 10):
            result = Result(
                message.bot_id, message.chat_id, message.id, worker.worker, final=final, status=status, **more
            )
            worker.record(connection, [result])


def report(context, message_id, status, at):
    with context.database.connection() as connection:
        apply_statuses(connection, StatusUpdate("wamid.1", status, at, message_id))


def test_a_message_in_hand_is_sending(context, client):
    message_id = send(client).json["messageId"]
    with context.database.connection() as connection:
        outbox().claim(connection, 1)
    assert life(client, message_id)["status"] == "sending"


def test_the_whole_history_is_listed_in_order(context, client):
    message_id = send(client).json["messageId"]
    deliver(context, Status.QUEUED, final=False, code="131000", error="something went wrong")
    retried = life(client, message_id)
    assert retried["error"] == {"code": "131000", "reason": "something went wrong"}
    deliver(context, Status.SENT, provider_id="wamid.1")
    report(context, message_id, Status.READ, 1_900_000_002)
    report(context, message_id, Status.DELIVERED, 1_900_000_001)
    found = life(client, message_id)
    assert (found["status"], found["attempts"], found["providerId"]) == ("read", 2, "wamid.1")
    assert [entry["status"] for entry in found["statuses"]] == ["queued", "queued", "sent", "delivered", "read"]
    assert found["statuses"][1]["reason"] == "something went wrong"
    assert found["statuses"][4]["at"] == "2030-03-17T17:46:42.000Z"


def test_a_refused_message_has_its_reason(context, client):
    message_id = send(client).json["messageId"]
    deliver(context, Status.FAILED, code="131026", error="undeliverable")
    found = life(client, message_id)
    assert (found["status"], found["error"]) == ("failed", {"code": "131026", "reason": "undeliverable"})


def test_a_message_is_found_by_the_id_of_the_provider(context, client):
    message_id = send(client).json["messageId"]
    deliver(context, Status.SENT, provider_id="wamid.HBgL==")
    assert life(client, "wamid.HBgL==")["messageId"] == message_id


@pytest.mark.parametrize("message_id", ["wamid.none", "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4", "1' OR '1'='1"])
def test_an_unknown_message_is_a_404(client, message_id):
    send(client)
    assert refusal(get(client, f"{CHATS}/{CHAT}/{message_id}")) == (404, "unknown_message")


def test_a_message_is_not_shown_in_another_chat_or_company(client):
    message_id = send(client).json["messageId"]
    assert refusal(get(client, f"{CHATS}/60111111111/{message_id}")) == (404, "unknown_message")
    elsewhere = f"/api/v2/messages/{OTHER}/{CHAT}"
    assert refusal(get(client, f"{elsewhere}/{message_id}", OTHER_KEY)) == (404, "unknown_message")
    assert get(client, elsewhere, OPERATOR_KEY).json["messages"] == []


def test_control_characters_in_an_address_are_refused(client):
    assert refusal(get(client, f"{CHATS}/{CHAT}/a%00b", OPERATOR_KEY)) == (400, "invalid_request")
    assert refusal(get(client, f"/api/v2/messages/%00/{CHAT}", OPERATOR_KEY)) == (400, "invalid_request")


# Pages


def test_pages_go_through_a_chat_from_the_newest_without_gaps(client):
    sent = [send(client, f"text {n}", fields={"phoneIndex": n % 2}).json["messageId"] for n in range(7)]
    send(client, "of another chat", chat="60111111111")
    seen, cursor = [], ""
    while cursor is not None:
        answer = get(client, f"{CHATS}/{CHAT}?limit=3{cursor and f'&cursor={cursor}'}").json
        MessagePage.model_validate(answer, extra="forbid")
        seen += [message["messageId"] for message in answer["messages"]]
        cursor = answer["nextCursor"]
    assert seen == sent[::-1]


def test_a_page_that_ends_with_the_chat_is_the_last(client):
    for _ in range(3):
        send(client)
    assert get(client, f"{CHATS}/{CHAT}?limit=3").json["nextCursor"] is None


def test_a_page_of_one_number_has_only_its_messages(client):
    send(client, fields={"phoneIndex": 0})
    second = send(client, fields={"phoneIndex": 1}).json["messageId"]
    found = get(client, f"{CHATS}/{CHAT}?phoneIndex=1").json["messages"]
    assert [message["messageId"] for message in found] == [second]


@pytest.mark.parametrize("form", [CHAT, f"+{CHAT}", f"{CHAT}@c.us", f"{COMPANY}-{CHAT}"])
def test_a_chat_is_the_same_in_every_form(client, form):
    send(client)
    assert len(get(client, f"{CHATS}/{form}").json["messages"]) == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", (400, "invalid_request")),
        ("limit=201", (400, "invalid_request")),
        ("limit=many", (400, "invalid_request")),
        ("cursor=later", (400, "invalid_request")),
        ("cursor=WzEsMiwzXQ", (400, "invalid_request")),
        (f"cursor={'x' * 201}", (400, "invalid_request")),
        ("phoneIndex=-1", (400, "invalid_request")),
        ("phoneIndex=7", (404, "unknown_bot")),
    ],
)
def test_a_wrong_question_is_refused_with_its_code(client, query, expected):
    assert refusal(get(client, f"{CHATS}/{CHAT}?{query}")) == expected


# The document


def test_the_document_is_valid_and_every_example_of_an_error_too(client):
    document = client.get("/openapi/openapi.json").json
    validate(document)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            for response in operation["responses"].values():
                examples = response.get("content", {}).get("application/json", {}).get("examples", {})
                for example in examples.values():
                    Problem.model_validate(example["value"])


def test_the_document_describes_every_event_with_an_example_that_is_valid(client):
    document = client.get("/openapi/openapi.json").json
    schemas = document["components"]["schemas"]
    assert document["webhooks"].keys() == CATALOGUE.keys()
    for name, operations in document["webhooks"].items():
        content = operations["post"]["requestBody"]["content"]["application/json"]
        assert content["example"]["event"] == content["schema"]["properties"]["event"]["const"] == name
        OAS31Validator({"$ref": "#/x", "x": content["schema"], "components": {"schemas": schemas}}).validate(
            content["example"]
        )
        parameters = operations["post"]["parameters"]
        sent = {line.partition(":")[0] for line in signed_headers("secret", "previous", b"", 1)}
        assert {each["name"] for each in parameters} == sent - {"Content-Type", "User-Agent"}


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/openapi/swagger").text
    assert "http://" not in page
    assert "https://" not in page
    for file in ("js/swagger-ui-bundle.js", "js/swagger-ui-standalone-preset.js", "css/swagger-ui.css"):
        assert f"swagger/{file}" in page
        assert client.get(f"/openapi/swagger/{file}").status_code == 200


def test_health_of_all_has_the_documented_form(client):
    answer = client.get("/health/all")
    AllHealth.model_validate(answer.json, extra="forbid")
