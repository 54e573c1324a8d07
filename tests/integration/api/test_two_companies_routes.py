"""Every operation of the API with one company's key and every id of another's: nothing is shown, nothing changes.

The operations come from the API's own document, so that a new one is tried as well.
"""

import itertools
import re

import pytest
import requests

from tests.integration.api.test_two_companies import world
from tests.support.api import KEY, OTHER, OTHER_KEY
from tests.support.meta_payloads import message
from tests.support.outbox import execute
from tests.support.two_companies import ACCOUNT, CHAT, COMPANY, MARK, NUMBER, about, bot_id, rows_of, sent
from tests.support.waiting import HANG_SECONDS

__all__ = ["world"]  # the fixture

#: Values for addresses and fields; more are added once the company has them.
PLAIN = {
    "companyId": [COMPANY, OTHER],
    "company": [COMPANY],
    "phoneIndex": [0, 1, 2],
    "chatId": [CHAT, f"{CHAT}@c.us", f"{COMPANY}-{CHAT}"],
    "wabaId": [ACCOUNT],
    "phoneNumberId": [NUMBER],
    "force": ["true"],
    "verify": ["false"],
    "session": [f"{COMPANY}-0"],
}
#: Requests for one operation, at most.
MANY = 60


@pytest.fixture
def owned(world):
    """The ids of everything that the company has, by the names that the API has for them."""
    connection = world.connection
    answer = world.ask("POST", "/api/bots", KEY, json={"type": "wwebjs", "phoneIndex": 2, "displayNumber": MARK})
    assert answer.status_code == 201
    web = bot_id(connection, COMPANY, 2)
    execute(
        connection,
        "UPDATE wa_session SET state = 'SCAN_QR_CODE', qr = %s, qr_expires_at = 'infinity' WHERE bot_id = %s",
        (f"2@{MARK}", web),
    )
    hook = {"url": f"https://customer.example/{MARK}", "events": ["*"]}
    webhook = world.ask("POST", "/api/webhooks", KEY, json=hook).json()["webhook"]["id"]
    bot = bot_id(connection, COMPANY, 0)
    out = sent(connection, bot, f"wamid.out.{MARK}")
    photo = {"id": f"media.{MARK}", "mime_type": "image/jpeg"}
    coming = (message("text", {"body": MARK}, id=f"wamid.in.{MARK}"), message("image", photo, id=f"wamid.pic.{MARK}"))
    world.webhooks.of_meta(("messages", about(NUMBER, messages=list(coming))))
    sending = {"message": MARK, "phoneIndex": 0}
    key = {"X-Api-Key": KEY, "Idempotency-Key": MARK}
    path = f"{world.url}/api/v2/messages/text/{COMPANY}/{CHAT}"
    assert requests.post(path, json=sending, headers=key, timeout=HANG_SECONDS).status_code == 202
    came = [row[0] for row in execute(connection, "SELECT id::text FROM messages WHERE direction = 'inbound'")]
    events = [row[0] for row in execute(connection, "SELECT event_id FROM event WHERE company_id = %s", (COMPANY,))]
    assert len(came) == 2
    assert events
    messages = [out, *came, f"wamid.out.{MARK}", f"wamid.in.{MARK}"]
    named = {"webhookId": [webhook], "eventId": events[:1], "id": [webhook, out], "messageId": messages}
    return PLAIN | named | dict.fromkeys(("quotedMessageId", "replyTo", "targetMessageId"), messages[:2])


def operations(document):
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield method.upper(), path, told


def of(name, owned, otherwise="1"):
    """The values for a name, which addresses may write with underscores."""
    written = re.sub("_(.)", lambda found: found[1].upper(), name)
    return owned.get(written, [otherwise])


def body_of(told, document, owned):
    """A body with another company's ids in every place for one; None if the route accepts no JSON."""
    content = told.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    schema = content["schema"]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    filling = {"message": "x", "token": "EAAG-0999", "url": "https://x.example/", "events": ["*"], "reaction": "x"}
    names = schema.get("properties", {})
    return {name: filling.get(name) or of(name, owned)[0] for name in names if name in filling or name in owned}


def ask(url, method, path, **more):
    """Status and text; a stream is looked at for a moment."""
    with requests.request(method, url + path, stream=True, timeout=(10, 60), allow_redirects=False, **more) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return answer.status_code, ""
        return answer.status_code, answer.text


def tries(method, path, told, document, owned):
    """The requests that are tried for an operation: (path, query, body)."""
    names = re.findall("{(.+?)}", path)
    query = {each["name"]: of(each["name"], owned)[0] for each in told.get("parameters", []) if each["in"] == "query"}
    query = {name: value for name, value in query.items() if name in owned}
    body = body_of(told, document, owned)
    for values in itertools.islice(itertools.product(*(of(name, owned) for name in names)), MANY):
        address = path
        for name, value in zip(names, values, strict=True):
            address = address.replace(f"{{{name}}}", str(value))
        yield from ((address, asked, body) for asked in ({}, query))


def test_no_operation_shows_or_changes_what_is_another_companys(world, owned):
    document = requests.get(f"{world.url}/openapi/openapi.json", timeout=HANG_SECONDS).json()
    before, tried, wrong = rows_of(world.connection), 0, []
    for method, path, told in operations(document):
        for address, query, body in tries(method, path, told, document, owned):
            headers = {"X-Api-Key": OTHER_KEY, "Idempotency-Key": MARK}
            code, text = ask(world.url, method, address, params=query, json=body, headers=headers)
            tried += 1
            echoed = text
            for given in (address, *map(str, query.values()), *map(str, (body or {}).values())):
                echoed = echoed.replace(given.rpartition("/")[2], "")  # what was asked for may be named in the refusal
            if code >= 500 or (MARK in echoed and code < 400) or f"/{MARK}" in echoed:
                wrong.append((method, address, query, body, code, text[:300]))
            if f"/{COMPANY}/" in f"{address}/" and code not in (401, 403, 404, 405):
                wrong.append((method, address, query, body, code, text[:300]))
            assert rows_of(world.connection) == before, (method, address, query, body, code)
    assert wrong == []
    assert tried > 300


def test_the_same_ids_open_everything_to_the_one_whose_they_are(world, owned):
    """Else the test above would prove nothing."""
    for path in (
        f"/api/bots/{COMPANY}/0",
        f"/api/sessions/{COMPANY}/2/qr",
        f"/api/webhooks/{owned['webhookId'][0]}",
        f"/api/v2/messages/{COMPANY}/{CHAT}",
        f"/api/v2/messages/{COMPANY}/{CHAT}/{owned['messageId'][0]}",
    ):
        assert world.ask("GET", path, KEY).status_code == 200, path
    assert MARK in world.ask("GET", f"/api/v2/messages/{COMPANY}/{CHAT}", KEY).text
