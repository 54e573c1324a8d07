"""Webhooks of customers: addresses without secrets, deliveries with results, replays and test events."""

import re
from uuid import uuid4

import pytest
import requests

from bisnesctl.audit import delivery, reading, recorded_calls, trail
from bisnesctl.audit.store import AuditFilter
from bisnesctl.people.roles import Role
from bisnesctl.settings import load
from tests.support.api import COMPANY, OPERATOR_KEY, OTHER
from tests.support.waiting import HANG_SECONDS

URL = "https://user:hunter2@example.com/hooks/a1B2c3D4e5F6g7H8i9?token=opensesame"


@pytest.fixture
def webhook(api, rows):
    """Registers a webhook; returns its id."""

    def register(company=COMPANY, url=URL, active=True, **more):
        name = str(uuid4())
        rows("INSERT INTO event_feed (company_id) VALUES (%s) ON CONFLICT DO NOTHING", (company,))
        rows(
            "INSERT INTO webhook (id, company_id, url, events, secret_encrypted, active)"
            " VALUES (%s, %s, %s, '{*}', %s, %s)",
            (name, company, url, "sealed-secret", active),
        )
        return name

    return register


@pytest.fixture
def delivered(rows):
    """Stores an event and its delivery; returns the id of the event."""

    def store(webhook, status="dead", company=COMPANY, error="HTTP 500", response=500, is_kept=True):
        counted = "UPDATE event_feed SET last_seq = last_seq + 1 WHERE company_id = %s RETURNING last_seq"
        ((number,),) = rows(counted, (company,))
        event = f"evt_{number:026}"
        if is_kept:
            rows(
                "INSERT INTO event (company_id, seq, event_id, name, session, chat_id, payload)"
                " VALUES (%s, %s, %s, 'webhook.test', %s, '', jsonb_build_object('webhookId', %s::text))",
                (company, number, event, f"{company}-0", webhook),
            )
        rows(
            "INSERT INTO webhook_delivery"
            " (webhook_id, chat_id, seq, event_id, status, attempts, response_status, error)"
            " VALUES (%s, '', %s, %s, %s, 7, %s, %s)",
            (webhook, number, event, status, response, error),
        )
        return event

    return store


def audit(settings, who):
    delivery.deliver(settings)
    return [(each["action"], each["company"]) for each in reading.read(settings, AuditFilter(who=who)).records]


def of_api(tmp_path):
    """The actions that the API recorded under the names of keys."""
    return [record.action for _, record in trail.waiting(load(tmp_path / "api" / ".env").home)]


def test_an_action_is_one_record_with_the_name_of_the_person(signed_in, webhook, delivered, settings, tmp_path):
    name, quiet = webhook(), webhook(active=False)
    event, operator = delivered(name), signed_in(Role.OPERATOR, COMPANY, "aisha")
    operator.post(f"/ui/webhooks/{name}/replay", event=event)
    operator.post(f"/ui/webhooks/{name}/test")
    operator.post(f"/ui/webhooks/{quiet}/test")  # which is refused
    delivery.deliver(settings)
    found = reading.read(settings, AuditFilter()).records
    assert [(each["action"], each["actor"], each["outcome"]) for each in found] == [
        ("test webhook", "aisha", "failed"), ("test webhook", "aisha", "ok"), ("replay event", "aisha", "ok")
    ]  # fmt: skip
    assert [each["arguments"]["webhook"] for each in found] == [quiet, name, name]
    assert of_api(tmp_path) == []


@pytest.mark.parametrize("proof", ["", "1", "0" * 64, "\u00e9"])
def test_a_call_of_others_is_recorded_whatever_it_says(api, webhook, tmp_path, proof):
    headers = {"X-Api-Key": OPERATOR_KEY, recorded_calls.HEADER: proof.encode().decode("latin-1")}
    answer = requests.post(f"{api}/api/webhooks/{webhook()}/test", headers=headers, timeout=HANG_SECONDS)
    assert answer.status_code == 202
    assert len(of_api(tmp_path)) == 1


def test_the_lists_show_no_secret(signed_in, webhook, delivered, rows):
    name = webhook()
    delivered(name, error="connection to https://user:hunter2@example.com/ refused")
    rows("UPDATE webhook SET failures = 3, last_error = 'https://user:hunter2@example.com/ is down'")
    visitor = signed_in()
    for page in (visitor.text("/ui/webhooks"), visitor.text(f"/ui/webhooks/{name}")):
        assert "example.com" in page
        assert "failing" in page
        assert "is down" in page
        for secret in ("hunter2", "opensesame", "a1B2c3D4e5F6g7H8i9", "sealed-secret"):
            assert secret not in page


def test_webhooks_come_in_pages_and_by_company(signed_in, webhook):
    names = {webhook(COMPANY if n % 2 else OTHER, f"https://example.com/{n}") for n in range(120)}
    visitor = signed_in(Role.VIEWER)
    for start, expected in (("/ui/webhooks", 120), (f"/ui/webhooks?company={OTHER}", 60)):
        seen, path = [], start
        while path:
            page = visitor.text(path)
            found = re.findall(r'id="row-([^"]+)"', page)
            assert len(found) <= 50
            seen += found
            more = re.search(r'href="(/ui/webhooks\?[^"]*after=[^"]*)"', page)
            path = more.group(1) if more else ""
        assert len(seen) == len(set(seen)) == expected
        assert set(seen) <= names


def test_deliveries_show_their_result_and_can_be_filtered(signed_in, webhook, delivered):
    name = webhook()
    dead, fine = delivered(name), delivered(name, "delivered", error=None, response=200)
    old = [delivered(name, "delivered", error=None, response=204) for _ in range(60)]
    visitor = signed_in(Role.VIEWER)
    page = visitor.text(f"/ui/webhooks/{name}?state=dead")
    assert (dead in page, fine in page, "HTTP 500" in page, ">7<" in page) == (True, False, True, True)
    page = visitor.text(f"/ui/webhooks/{name}")
    assert (old[-1] in page, dead in page) == (True, False)
    older = re.search(r'href="(/ui/webhooks/[^"]*before=[^"]*)"', page).group(1)
    assert dead in visitor.text(older)
    assert "Send again" not in page


def test_a_delivery_is_sent_again(signed_in, webhook, delivered, rows, settings):
    name = webhook()
    event = delivered(name)
    operator = signed_in(Role.OPERATOR, COMPANY, "aisha")
    assert f'value="{event}"' in operator.text(f"/ui/webhooks/{name}")
    for _ in range(2):
        assert operator.post(f"/ui/webhooks/{name}/replay", event=event).location == f"/ui/webhooks/{name}"
    assert rows("SELECT event_id, status, attempts FROM webhook_delivery") == [(event, "pending", 0)]
    assert rows("SELECT pending FROM webhook_lane") == [(1,)]
    assert f'value="{event}"' not in operator.text(f"/ui/webhooks/{name}")
    assert audit(settings, "aisha")[0] == ("replay event", COMPANY)


def test_an_event_that_is_not_kept_any_more_cannot_be_sent_again(signed_in, webhook, delivered):
    name = webhook()
    event = delivered(name, is_kept=False)
    operator = signed_in(Role.OPERATOR, COMPANY)
    assert f'value="{event}"' not in operator.text(f"/ui/webhooks/{name}")
    answer = operator.post(f"/ui/webhooks/{name}/replay", event=event)
    assert answer.status_code == 400
    assert "no longer kept" in answer.text


def test_a_test_event_is_sent(signed_in, webhook, rows, settings):
    name, quiet = webhook(), webhook(active=False)
    operator = signed_in(Role.OPERATOR, COMPANY, "aisha")
    assert operator.post(f"/ui/webhooks/{name}/test").status_code == 302
    assert rows("SELECT name FROM event") == [("webhook.test",)]
    assert audit(settings, "aisha") == [("test webhook", COMPANY)]
    answer = operator.post(f"/ui/webhooks/{quiet}/test")
    assert (answer.status_code, "not active" in answer.text) == (400, True)


def test_the_page_says_that_the_api_is_down(signed_in, webhook, environment, settings):
    name = webhook()
    environment(DATABASE_URL=settings.database_dsn, API_PORT="1", OPERATOR_KEY="bk_operator")
    answer = signed_in(Role.OPERATOR).post(f"/ui/webhooks/{name}/test")
    assert (answer.status_code, "API does not answer" in answer.text) == (503, True)


def test_a_company_sees_and_calls_its_own_webhooks_alone(signed_in, webhook, delivered, rows):
    name = webhook(OTHER, "https://example.com/other")
    event = delivered(name, company=OTHER)
    stranger = signed_in(Role.OPERATOR, COMPANY)
    for path in ("/ui/webhooks", f"/ui/webhooks?company={OTHER}"):
        assert "example.com/other" not in stranger.text(path)
    assert stranger.get(f"/ui/webhooks/{name}").status_code == 404
    assert stranger.post(f"/ui/webhooks/{name}/test").status_code == 404
    assert stranger.post(f"/ui/webhooks/{name}/replay", event=event).status_code == 404
    assert rows("SELECT status FROM webhook_delivery") == [("dead",)]


def test_a_viewer_calls_no_webhook(signed_in, webhook, delivered, rows):
    name = webhook()
    event, viewer = delivered(name), signed_in(Role.VIEWER, COMPANY)
    assert viewer.post(f"/ui/webhooks/{name}/test").status_code == 403
    assert viewer.post(f"/ui/webhooks/{name}/replay", event=event).status_code == 403
    assert signed_in(Role.OPERATOR).post(f"/ui/webhooks/{name}/test", with_token=False).status_code == 403
    assert rows("SELECT status FROM webhook_delivery") == [("dead",)]


@pytest.mark.parametrize("name", ["1", "01934f7e-0000-7000-8000-000000000000"])
def test_what_is_no_webhook_is_not_found(api, signed_in, name):
    assert signed_in().get(f"/ui/webhooks/{name}").status_code == 404
