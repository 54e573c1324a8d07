"""Quotas of companies: each refuses one company with its reason, applies at once, and leaves the others alone."""

import base64
import hashlib
import io
from pathlib import Path

import pytest
import requests

from bisnesctl.database import api_keys
from bisnesctl.database.quotas import Quota
from services.runtime.quotas import Quotas
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, OTHER, OTHER_KEY, add_company, refusal, serving
from tests.support.api import api as serve
from tests.support.database_catalogue import run
from tests.support.file_beginnings import PDF, PNG
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture
def settings(database, environment):
    """Settings that the tool and the API share."""
    add_company(database)
    return environment(DATABASE_URL=database, META_GRAPH_URL="http://127.0.0.1:1", PUBLIC_URL="https://bots.example")


@pytest.fixture
def server(settings):
    with serving(settings) as url:
        yield url


def text(url, company=COMPANY, key=KEY, chat=CHAT, **headers):
    return requests.post(
        f"{url}/api/v2/messages/text/{company}/{chat}", json={"message": "Hello"}, timeout=HANG_SECONDS,
        headers={"X-Api-Key": key} | headers,
    )  # fmt: skip


def files(settings):
    return [each for each in Path(settings.media_dir).rglob("*") if each.is_file()]


def upload(url, fields=(), content=PDF, kind="document", **headers):
    return requests.post(
        f"{url}/api/v2/messages/{kind}/{COMPANY}/{CHAT}", data=dict(fields), timeout=HANG_SECONDS,
        files={"file": ("a.pdf", io.BytesIO(content))}, headers={"X-Api-Key": KEY} | headers,
    )  # fmt: skip


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_and_changes_the_quotas(tool, settings):
    tool("quotas", "set", COMPANY, "meta_numbers=2", "media_mb=7")
    shown = {each["quota"]: each for each in tool("quotas", "list", "--company", COMPANY, "--json").json}
    assert (shown["meta_numbers"]["used"], shown["meta_numbers"]["limit"], shown["meta_numbers"]["own"]) == (2, 2, True)
    assert shown["media_mb"]["limit"] == 7
    assert shown["web_numbers"] | {"used": 0, "limit": 100, "own": False} == shown["web_numbers"]
    assert f"{COMPANY} meta_numbers 2 2 the company" in tool("quotas", "list").text
    tool("quotas", "set", COMPANY, "meta_numbers=default", "media_mb=unlimited")
    shown = {each["quota"]: each for each in tool("quotas", "list", "--company", COMPANY, "--json").json}
    assert (shown["meta_numbers"]["limit"], shown["media_mb"]["limit"]) == (100, None)


@pytest.mark.parametrize("word", ["numbers=3", "media_mb=-1", "media_mb=1.5", "media_mb=", "media_mb", "media_mb=many"])
def test_a_wrong_quota_is_refused_and_nothing_is_changed(tool, settings, word):
    assert "error" in tool("quotas", "set", COMPANY, "web_numbers=3", word, code=2).err
    assert run(settings.database_dsn, "SELECT * FROM company_quota") == []


def test_a_wrong_default_names_the_setting(tool, environment, settings, monkeypatch):
    environment(DATABASE_URL=settings.database_dsn)
    monkeypatch.setenv("QUOTA_MEDIA_MB", "lots")
    assert "QUOTA_MEDIA_MB" in tool("quotas", "list", code=3).err


# --- Over HTTP -------------------------------------------------------------------------------------------------------


def test_a_company_sees_its_quotas_and_their_use_as_the_command_shows_them(tool, settings):
    tool("quotas", "set", COMPANY, "meta_numbers=2", "idempotency_keys=1", "media_mb=unlimited")
    run(
        settings.database_dsn,
        "INSERT INTO idempotency_keys (company_id, key, digest, message_id, created_at)"
        f" VALUES ('{COMPANY}', 'k', '', gen_random_uuid(), '2026-01-01T08:00:00Z')",
    )
    with serve(settings) as (_, client):
        answer = client.get("/api/quotas", headers={"X-Api-Key": KEY})
        other = client.get("/api/quotas", headers={"X-Api-Key": OTHER_KEY}).get_json()
        foreign = client.get(f"/api/quotas?company={COMPANY}", headers={"X-Api-Key": OTHER_KEY})
        whose = client.get("/api/quotas", headers={"X-Api-Key": OPERATOR_KEY})
        named = client.get(f"/api/quotas?company={COMPANY}", headers={"X-Api-Key": OPERATOR_KEY}).get_json()
    body = answer.get_json()
    assert body["company"] == COMPANY
    shown = {each["quota"]: each for each in body["quotas"]}
    commanded = {each["quota"]: each for each in tool("quotas", "list", "--company", COMPANY, "--json").json}
    assert shown.keys() == commanded.keys() == set(Quota)
    for name, each in shown.items():
        about = commanded[name]
        assert (each["used"], each["limit"], each["own"], each["freesUp"], each["freesUpAt"]) == (
            about["used"], about["limit"], about["own"], about["frees_up"], about["frees_up_at"],
        )  # fmt: skip
    assert (shown["meta_numbers"]["used"], shown["meta_numbers"]["limit"], shown["meta_numbers"]["own"]) == (2, 2, True)
    assert (shown["media_mb"]["limit"], shown["requests_per_second"]["used"]) == (None, None)
    assert shown["idempotency_keys"]["freesUpAt"] == "2026-01-08T08:00:00Z"
    assert {each["quota"]: each["used"] for each in other["quotas"]}["meta_numbers"] == 1
    assert refusal(foreign) == (403, "foreign_company")
    assert refusal(whose) == (400, "invalid_request")
    assert named == body


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_a_company_cannot_have_more_numbers_than_its_quota(tool, settings):
    tool("quotas", "set", OTHER, "web_numbers=1")
    with serve(settings) as (_, client):
        headers = {"X-Api-Key": OTHER_KEY}
        for phone in (5, 5):  # the same one again is no further one
            answer = client.post("/api/bots", json={"type": "wwebjs", "phoneIndex": phone}, headers=headers)
            assert answer.status_code in (200, 201)
        answer = client.post("/api/bots", json={"type": "wwebjs", "phoneIndex": 6}, headers=headers)
        assert refusal(answer) == (409, "too_many_numbers")
        answer = client.post("/api/bots", json={"type": "wwebjs", "phoneIndex": 0}, headers=headers)
        assert refusal(answer) == (409, "too_many_numbers"), "a number that changes its channel is a further one"
        answer = client.post("/api/bots", json={"type": "wwebjs", "phoneIndex": 6}, headers={"X-Api-Key": KEY})
        assert answer.status_code == 201, "other companies have their own quotas"
    assert (
        "quotas set 0999 web_numbers=2"
        in tool("bots", "add", "--company", OTHER, "--phone", "7", "--wwebjs", code=6).err
    )


# --- Requests and messages -------------------------------------------------------------------------------------------


def test_requests_beyond_the_rate_are_refused_for_that_company_alone(tool, server):
    tool("quotas", "set", COMPANY, "requests_per_second=3")

    def limited():
        answers = [text(server) for _ in range(8)]
        return any(each.status_code == 429 for each in answers) and answers

    refused = next(each for each in wait_until(limited) if each.status_code == 429)
    assert refusal(refused) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) >= 1
    bots = f"{server}/api/bots/{COMPANY}/0"
    answers = [requests.get(bots, headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS) for _ in range(8)]
    assert 429 in {each.status_code for each in answers}, "all routes count together"
    assert {text(server, OTHER, OTHER_KEY).status_code for _ in range(8)} == {202}
    tool("quotas", "set", COMPANY, "requests_per_second=unlimited")
    wait_until(lambda: all(text(server).status_code == 202 for _ in range(8)))


def test_a_full_backlog_refuses_messages_until_some_have_left(tool, server, settings):
    tool("quotas", "set", COMPANY, "waiting_messages=3")

    def full():
        answer = text(server)
        return [answer] if answer.status_code == 429 else None  # an answer with an error is false

    (answer,) = wait_until(full)
    assert refusal(answer) == (429, "backlog_full")
    assert answer.headers["Retry-After"]
    assert refusal(upload(server)) == (429, "backlog_full")
    assert files(settings) == [], "the file of the refused message is removed"
    assert text(server, OTHER, OTHER_KEY).status_code == 202
    run(settings.database_dsn, "UPDATE lane SET pending = 0, done = 1000")
    wait_until(lambda: text(server).status_code == 202)


def test_used_up_idempotency_keys_refuse_new_ones_but_repeat_the_old(tool, server):
    assert text(server, **{"Idempotency-Key": "first"}).status_code == 202
    tool("quotas", "set", COMPANY, "idempotency_keys=1")

    def used_up():
        answer = text(server, **{"Idempotency-Key": "second"})
        return [answer] if answer.status_code == 429 else None  # an answer with an error is false

    assert refusal(*wait_until(used_up)) == (429, "too_many_idempotency_keys")
    again = text(server, **{"Idempotency-Key": "first"})
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert text(server).status_code == 202, "a message without a key"


def test_tests_and_replays_of_webhooks_are_limited(tool, settings):
    tool("quotas", "set", COMPANY, "webhook_calls_per_minute=2")
    with serve(settings) as (context, client):
        wait_until(lambda: context.quotas.quotas.limit(COMPANY, Quota.WEBHOOK_CALLS_PER_MINUTE) == 2)
        headers = {"X-Api-Key": KEY}
        hook = {"url": "https://example.com/hook", "events": ["*"]}
        made = client.post("/api/webhooks", json=hook, headers=headers).get_json()
        address = f"/api/webhooks/{made['webhook']['id']}"
        assert client.post(f"{address}/test", headers=headers).status_code == 202
        since = {"since": "2026-01-01T00:00:00Z"}
        assert client.post(f"{address}/replay", json=since, headers=headers).status_code == 200
        refused = client.post(f"{address}/test", headers=headers)
        assert refusal(refused) == (429, "rate_limited")
        assert refused.headers["Retry-After"]
        assert refusal(client.post(f"{address}/replay", json=since, headers=headers)) == (429, "rate_limited")
        assert client.get(address, headers=headers).status_code == 200


# --- Wrong keys ------------------------------------------------------------------------------------------------------


def test_wrong_keys_are_looked_up_only_so_often_and_valid_ones_always(settings, monkeypatch):
    settings = settings.copy_with(wrong_keys_per_minute=5)
    with serve(settings) as (context, client):
        wait_until(lambda: context.accounts.is_valid(hashlib.sha256(KEY.encode()).digest()))
        asked, look_up = [], context.accounts.key

        def count(digest):
            asked.append(digest)
            return look_up(digest)

        monkeypatch.setattr(context.accounts, "key", count)
        answers = [client.get("/api/bots", headers={"X-Api-Key": f"bk_{n}"}) for n in range(20)]
        assert [refusal(each)[0] for each in answers] == [401] * 5 + [429] * 15
        assert refusal(answers[-1]) == (429, "too_many_wrong_keys")
        assert answers[-1].headers["Retry-After"]
        assert len(asked) == 5
        assert client.get("/api/bots", headers={"X-Api-Key": KEY}).status_code == 200, "from the same address"


def test_a_key_that_is_created_counts_at_once_although_it_was_refused_before(tool, settings, monkeypatch):
    monkeypatch.setattr(api_keys, "generate", lambda: "bk_guessed")
    with serve(settings) as (context, client):
        wait_until(lambda: context.accounts.is_valid(hashlib.sha256(KEY.encode()).digest()))
        headers = {"X-Api-Key": "bk_guessed"}
        for _ in range(3):
            assert refusal(client.get("/api/bots", headers=headers)) == (401, "invalid_key")
        tool("keys", "create", "--company", COMPANY)
        wait_until(lambda: client.get("/api/bots", headers=headers).status_code == 200)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_files_beyond_the_quota_are_refused_and_not_kept(tool, server, settings):
    tool("quotas", "set", COMPANY, "media_mb=1")
    big = PDF + bytes(700_000)

    def refused():
        answer = upload(server, content=big + str(len(files(settings))).encode())
        return [answer] if answer.status_code != 202 else None

    assert refusal(*wait_until(refused)) == (413, "media_quota_exceeded")
    (kept,) = files(settings)
    assert run(settings.database_dsn, "SELECT bytes FROM media_file") == [(kept.stat().st_size,)]
    assert upload(server, content=kept.read_bytes()).status_code == 202, "the same file takes no further space"
    assert text(server).status_code == 202


REFUSED = {
    "unknown quote": ({"quotedMessageId": "wamid.nobody"}, {}, 404),
    "unknown bot": ({"phoneIndex": "7"}, {}, 404),
    "wrong index": ({"phoneIndex": "x"}, {}, 400),
    "wrong caption": ({"caption": "x" * 5000}, {}, 400),
    "wrong key": ({}, {"Idempotency-Key": "k" * 5000}, 400),
    "wrong wait": ({}, {}, 400),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_the_file_of_a_refused_message_is_not_kept(server, settings, reason):
    fields, headers, status = REFUSED[reason]
    query = "?wait=never" if reason == "wrong wait" else ""
    answer = requests.post(
        f"{server}/api/v2/messages/document/{COMPANY}/{CHAT}{query}", data=fields, timeout=HANG_SECONDS,
        files={"file": ("a.pdf", io.BytesIO(PDF))}, headers={"X-Api-Key": KEY} | headers,
    )  # fmt: skip
    assert answer.status_code == status, answer.text
    assert files(settings) == []
    assert run(settings.database_dsn, "SELECT * FROM media_file") == []


def test_the_file_of_an_idempotency_conflict_is_removed_and_that_of_the_message_stays(server, settings):
    assert upload(server, **{"Idempotency-Key": "order-1"}).status_code == 202
    (kept,) = files(settings)
    answer = upload(server, content=PDF + b"other", **{"Idempotency-Key": "order-1"})
    assert refusal(answer) == (409, "idempotency_conflict")
    assert files(settings) == [kept]
    repeated = upload(server, **{"Idempotency-Key": "order-1"})
    assert (repeated.status_code, repeated.headers["Idempotency-Replayed"]) == (202, "true")
    assert files(settings) == [kept], "the repeated request has the same file"
    assert run(settings.database_dsn, "SELECT uses FROM media_file") == [(1,)]


def test_a_file_that_another_message_has_survives_a_refusal(server, settings):
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    headers = {"X-Api-Key": KEY}
    address = f"{server}/api/v2/messages/image/{COMPANY}/{CHAT}"
    assert requests.post(address, json={"imageUrl": url}, headers=headers, timeout=HANG_SECONDS).status_code == 202
    first = {"Idempotency-Key": "k"}
    assert text(server, **first).status_code == 202
    answer = requests.post(address, json={"imageUrl": url}, headers=headers | first, timeout=HANG_SECONDS)
    assert refusal(answer) == (409, "idempotency_conflict")
    assert len(files(settings)) == 1


def test_a_file_from_before_the_quotas_is_never_removed(server, settings):
    assert upload(server).status_code == 202
    run(settings.database_dsn, "DELETE FROM media_file")
    assert text(server, **{"Idempotency-Key": "k"}).status_code == 202
    assert refusal(upload(server, **{"Idempotency-Key": "k"})) == (409, "idempotency_conflict")
    assert len(files(settings)) == 1


def test_limits_follow_the_table_without_a_restart(settings, tool):
    with serve(settings) as (context, _):
        found: Quotas = context.quotas.quotas
        tool("quotas", "set", COMPANY, "web_sessions=3")
        wait_until(lambda: found.limit(COMPANY, Quota.WEB_SESSIONS) == 3)
        assert found.limit(OTHER, Quota.WEB_SESSIONS) is None
        tool("quotas", "set", COMPANY, "web_sessions=default")
        wait_until(lambda: found.limit(COMPANY, Quota.WEB_SESSIONS) is None)
