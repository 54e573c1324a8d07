"""Nothing that a caller sends is ignored: a field or parameter that no code reads is refused by its name."""

import io
import re

import pytest
import requests

from services.api.app import create_app
from services.api.resource import Resource
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, add_company, api, refusal, serving, settings_for
from tests.support.file_beginnings import JPEG
from tests.support.waiting import HANG_SECONDS

BASE = "/api/v2/messages"
HEADERS = {"X-Api-Key": KEY}
#: For every route, also those of operators alone.
OPERATOR = {"X-Api-Key": OPERATOR_KEY}
#: A value for each variable part of an address.
PATH = {
    "companyId": COMPANY, "chatId": CHAT, "messageId": "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4", "phoneIndex": "0",
    "webhookId": "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4", "process": "api",
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(postgres, tmp_path_factory):
    name = "unread_input"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE bisnes_migrated")
    add_company(postgres.dsn(name))
    return settings_for(postgres.dsn(name), tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def client(settings):
    with api(settings) as (_, client):
        yield client


@pytest.fixture(scope="module")
def server(settings):
    with serving(settings) as url:
        yield url


def address(path):
    return re.sub(r"{(\w+)}", lambda match: PATH[match[1]], path)


def operations(client):
    """Every documented operation that needs a key: method, address, and its schema of a JSON body or None."""
    document = create_app(client.application.extensions["bisnes"]).api_doc
    for path, found in document["paths"].items():
        for method, operation in found.items():
            if operation["security"] != [{}]:
                content = operation.get("requestBody", {}).get("content", {})
                yield method, address(path), content.get("application/json")


def documented_fields(operation, schemas):
    """The names in a documented body; None if there is none."""
    if "requestBody" not in operation:
        return None
    found = [each["schema"] for each in operation["requestBody"]["content"].values()]
    whole = [schemas[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in found]
    return {name for schema in whole for name in schema["properties"]}


def test_every_route_reads_the_names_that_the_document_has(client):
    app = client.application
    document = app.api_doc
    checked = 0
    for rule in app.url_map.iter_rules():
        resource = app.blueprints.get(rule.endpoint.partition(".")[0])
        if not isinstance(resource, Resource):
            continue
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            documented = document["paths"][re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)][method.lower()]
            names = {each["name"] for each in documented.get("parameters", ()) if each["in"] == "query"}
            read = resource.operation(rule.rule, method.lower())
            assert read.query == names, (method, rule.rule)
            assert read.body == documented_fields(documented, document["components"]["schemas"]), (method, rule.rule)
            checked += 1
    assert checked > 30


def test_no_route_ignores_a_parameter_of_its_address(client):
    found = list(operations(client))
    assert len(found) > 30
    for method, path, _ in found:
        answer = client.open(f"{path}?nonsens=1", method=method, headers=OPERATOR)
        assert refusal(answer) == (400, "invalid_request"), (method, path)
        assert "nonsens is not a parameter" in answer.json["error"]


def test_no_route_ignores_a_field_of_its_body(client):
    for method, path, content in operations(client):
        answer = client.open(path, method=method, headers=OPERATOR, json={"nonsens": 1})
        assert refusal(answer) == (400, "invalid_request"), (method, path)
        assert "nonsens" in answer.json["error"] or content is None, (method, path)


def test_routes_without_a_body_take_an_empty_one(client):
    for body in ("", "{}", "null"):
        answer = client.get(f"{BASE}/{COMPANY}/{CHAT}", data=body, headers=HEADERS)
        assert answer.status_code == 200
    answer = client.delete(f"/api/bots/{COMPANY}/7", data="force=true", headers=HEADERS)
    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize(
    ("query", "field", "advice"),
    [
        ("", "phone_index", "did you mean phoneIndex?"),
        ("", "phoneindex", "did you mean phoneIndex?"),
        ("", "quoted_message_id", "did you mean quotedMessageId?"),
        ("", "wait", "add it to the address, as ?wait="),
        ("", "zzz", "there are: "),
        ("?phoneIndex=1", None, "phoneIndex is not a parameter of this address; put it into the body"),
        ("?waits=1", None, "did you mean wait?"),
        ("?wait=0&wait=1", None, "wait is given more than once in the address"),
        ("?=1", None, "is not a parameter"),
        ("?" + "wait=1&" * 60, None, "more than 50 parameters"),
        ("?%00%1b=1", None, "?? is not a parameter"),
    ],
)
def test_a_send_that_is_misspelt_names_what_was_meant(server, kind, query, field, advice):
    content = {"text": {"message": "Hello"}, "image": {"imageUrl": "https://example.com/a.jpg"}}[kind]
    body = content | ({field: 1} if field else {})
    answer = requests.post(
        f"{server}{BASE}/{kind}/{COMPANY}/{CHAT}{query}", json=body, headers=HEADERS, timeout=HANG_SECONDS
    )
    assert refusal(answer) == (400, "invalid_request")
    assert advice in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "advice"),
    [
        ("POST", f"{BASE}/template/{COMPANY}/{CHAT}", {"template_name": "x"}, "templateName"),
        ("POST", f"{BASE}/document/{COMPANY}/{CHAT}", {"fileName": "x"}, "filename"),
        ("POST", f"{BASE}/image/{COMPANY}/{CHAT}", {"filename": "x"}, "filename is not a field"),
        ("PUT", f"{BASE}/{COMPANY}/{CHAT}/x", {"new_message": "x"}, "newMessage"),
        ("DELETE", f"{BASE}/{COMPANY}/{CHAT}/x", {"delete_for_everyone": False}, "deleteForEveryone"),
        ("POST", f"/api/messages/react/{COMPANY}/x", {"emoji": "x"}, "emoji is not a field"),
        ("POST", f"/api/messages/read/{COMPANY}/x", {"Typing": True}, "typing"),
        ("POST", "/api/bots", {"phone_number_id": "1"}, "phoneNumberId"),
        ("POST", "/api/webhooks", {"URL": "https://example.com"}, "url"),
        ("PATCH", "/api/webhooks/x", {"enabled": False}, "enabled is not a field"),
        ("POST", "/api/webhooks/x/rotate", {"overlap_seconds": 1}, "overlapSeconds"),
        ("POST", "/api/webhooks/x/replay", {"event_id": "x"}, "eventId"),
        ("POST", f"/api/sessions/{COMPANY}/0/pairing-code", {"phone_number": "60123456789"}, "phoneNumber"),
        ("GET", "/api/bots?companyId=0999", None, "did you mean company?"),
        ("GET", f"{BASE}/{COMPANY}/{CHAT}?phone_index=1", None, "did you mean phoneIndex?"),
        ("GET", f"{BASE}/{COMPANY}/{CHAT}?limit=1&limit=2", None, "limit is given more than once"),
        ("DELETE", f"/api/bots/{COMPANY}/0?Force=true", None, "did you mean force?"),
    ],
)
def test_a_misspelt_field_is_refused_with_the_right_name(client, method, path, body, advice):
    answer = client.open(path, method=method, json=body, headers=HEADERS) if body else client.get(path, headers=HEADERS)
    if method == "DELETE" and body is None:
        answer = client.delete(path, headers=HEADERS)
    assert refusal(answer) == (400, "invalid_request")
    assert advice in answer.json["error"]


@pytest.mark.parametrize(
    ("parts", "advice"),
    [
        ({"file": [(io.BytesIO(JPEG), "a.jpg"), (io.BytesIO(JPEG), "b.jpg")]}, "2 parts file"),
        ({"file": (io.BytesIO(JPEG), "a.jpg"), "caption": ["a", "b"]}, "2 parts caption"),
        ({"file": (io.BytesIO(JPEG), "a.jpg"), "phone_index": "1"}, "did you mean phoneIndex?"),
        ({"image": (io.BytesIO(JPEG), "a.jpg")}, "image is not a field"),
        ({"file": (io.BytesIO(JPEG), "a.jpg"), "caption": (io.BytesIO(b"x"), "c.txt")}, "caption is a file"),
    ],
)
def test_no_part_of_a_form_is_ignored(client, parts, advice):
    answer = client.post(f"{BASE}/image/{COMPANY}/{CHAT}", data=parts, headers=HEADERS)
    assert refusal(answer) == (400, "invalid_request")
    assert advice in answer.json["error"]


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("?event=message", "did you mean events?"),
        ("?events=message&events=session.status", "events is given more than once"),
        ("?last_event_id=seq_1", "did you mean lastEventId?"),
    ],
)
def test_the_stream_ignores_no_parameter(server, query, advice):
    answer = requests.get(f"{server}/api/events{query}", headers=HEADERS, timeout=HANG_SECONDS, stream=True)
    assert refusal(answer) == (400, "invalid_request")
    assert advice in answer.json()["error"]


def test_probes_may_add_parameters(server):
    for path in ("/health", "/api/health", "/health/live", "/health/ready", "/health/all"):
        assert requests.get(f"{server}{path}?_=1700000000000", timeout=HANG_SECONDS).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text", {"message": "Hello", "phoneIndex": 0, "quotedMessageId": "", "userName": "Aina"}),
        ("image", {"imageUrl": "https://example.com/a", "caption": "x", "phoneIndex": 0, "userName": "Aina"}),
        ("video", {"videoUrl": "https://example.com/a", "caption": "x", "phoneIndex": "0", "userName": "Aina"}),
        ("audio", {"audioUrl": "https://example.com/a", "caption": "", "phoneIndex": 0, "userName": "Aina"}),
        ("document", {"documentUrl": "https://example.com/a", "filename": "a.pdf", "caption": "x", "phoneIndex": 0}),
        ("template", {"templateName": "x", "language": "en", "variables": ["1"], "phoneIndex": 0}),
    ],
)
def test_the_bodies_of_the_former_front_ends_are_accepted(server, kind, body):
    answer = requests.post(f"{server}{BASE}/{kind}/{COMPANY}/{CHAT}", json=body, headers=HEADERS, timeout=HANG_SECONDS)
    assert answer.status_code == 202, answer.text
    assert answer.json()["success"] is True
