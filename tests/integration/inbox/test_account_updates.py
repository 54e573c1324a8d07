"""Meta's updates of accounts and numbers, as they arrive: they hold numbers, end holds, or only inform."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from services.connectors.meta.translation import incoming
from services.inbox.webhook_inbox import Inbox
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import USUAL_PAUSES, Answer, Fault, Hold
from tests.support.outbox import accept, add_bot, entry, execute, outbox


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def bot(connection):
    """A bot of the account W1, whose company asked for events."""
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    bot = add_bot(connection)
    execute(connection, "UPDATE phone_configs SET meta_waba_id = 'W1'")
    return bot


def events(connection, name=None):
    rows = execute(connection, "SELECT name, payload FROM event WHERE company_id = '0128' ORDER BY seq")
    return rows if name is None else [payload for found, payload in rows if found == name]


def account_update(event, account="W1", **more):
    value = {"event": event, **more}
    return {"object": "whatsapp_business_account", "entry": [
        {"id": account, "changes": [{"field": "account_update", "value": value}]}]}  # fmt: skip


def apply_updates(connection, *updates):
    """Apply webhooks as Meta sends them."""
    for update in updates:
        execute(connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', %s)",
                (psycopg2.Binary(json.dumps(update).encode()),))  # fmt: skip
    Inbox("meta", incoming.parse).apply_all(connection)


def hold_of(connection, bot):
    return execute(connection, "SELECT CASE WHEN held_until > now() THEN hold_code END,"
                   " extract(epoch FROM held_until - now()) FROM bot_pace WHERE bot_id = %s", (bot,))[0]  # fmt: skip


def ban(state):
    return account_update("DISABLED_UPDATE", ban_info={"waba_ban_state": state})


def test_an_account_that_was_disabled_holds_its_numbers_until_it_is_reinstated(connection, bot):
    other = add_bot(connection, index=1)
    apply_updates(connection, ban("DISABLE"))
    assert hold_of(connection, bot)[0] == "account_update.DISABLED_UPDATE"
    assert hold_of(connection, other)[0] is None
    assert [name for name, _ in events(connection)] == ["account.update", "bot.status"]
    accept(connection, entry(bot))
    assert outbox().claim(connection, 10) == []
    apply_updates(connection, ban("REINSTATE"))
    assert len(outbox().claim(connection, 10)) == 1
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting", "active"]
    assert execute(connection, "SELECT event_type, severity FROM process_events ORDER BY id") == [
        ("account.update", "error"), ("bot_waiting", "error"), ("account.update", "info"), ("bot_active", "info"),
    ]  # fmt: skip


def test_a_warning_is_an_event_and_holds_nothing(connection, bot):
    apply_updates(
        connection, ban("SCHEDULE_FOR_DISABLE"), account_update("ACCOUNT_VIOLATION"), account_update("NEW_WORD")
    )
    assert hold_of(connection, bot)[0] is None
    assert [name for name, _ in events(connection)] == ["account.update"] * 3


def test_good_news_ends_a_hold_for_any_cause(connection, bot):
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "368: blocked", code="368")])
    apply_updates(connection, account_update("ACCOUNT_RECONNECTED"))
    assert hold_of(connection, bot)[0] is None


def test_good_news_does_not_end_what_it_says_nothing_about(connection, bot):
    execute(connection, "UPDATE bot_pace SET held_until = 'infinity', held_reason = 'its linking is not finished'")
    apply_updates(connection, account_update("ACCOUNT_RECONNECTED"))
    assert execute(connection, "SELECT held_until = 'infinity' FROM bot_pace") == [(True,)]


def test_an_account_that_its_owner_withdrew_is_found_by_the_id_in_the_update(connection, bot):
    owner = {"waba_id": "W1", "owner_business_id": "520744086200222"}
    apply_updates(connection, account_update("PARTNER_REMOVED", "2949482758682047", waba_info=owner))
    assert hold_of(connection, bot)[0] == "account_update.PARTNER_REMOVED"
    apply_updates(connection, account_update("PARTNER_ADDED", "2949482758682047", waba_info=owner))
    assert hold_of(connection, bot)[0] is None


def test_the_last_word_of_a_batch_counts(connection, bot):
    apply_updates(connection, ban("REINSTATE"), ban("DISABLE"), ban("REINSTATE"), ban("DISABLE"))
    assert hold_of(connection, bot)[0] == "account_update.DISABLED_UPDATE"
    name_approved = {"object": "whatsapp_business_account", "entry": [{"id": "W1", "changes": [
        {"field": "phone_number_name_update", "value": {"decision": "APPROVED"}}]}]}  # fmt: skip
    apply_updates(connection, ban("DISABLE"), name_approved)
    assert hold_of(connection, bot)[0] == "account_update.DISABLED_UPDATE"


def test_a_restricted_account_waits_until_the_restriction_expires(connection, bot):
    until = int(time.time()) + 3600
    restrictions = [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": until}]
    apply_updates(connection, account_update("ACCOUNT_RESTRICTION", restriction_info=restrictions))
    code, seconds = hold_of(connection, bot)
    assert code == "account_update.ACCOUNT_RESTRICTION"
    assert 3000 < seconds <= 3600
    holds.hold(connection, [Hold(bot, Scope.BOT, 5, "130429: too fast", slower=True)])
    holds.note_outages(connection, [Fault(bot, "network", "no", probe=True), Answer(bot, sent=True)], USUAL_PAUSES)
    holds.note_outages(connection, [Fault(bot, "network", "no", probe=True)], USUAL_PAUSES)
    assert hold_of(connection, bot)[0] == code
    assert hold_of(connection, bot)[1] > 3000
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting"]


def restrict(connection, seconds):
    """Restrict the account for `seconds`, which may be over."""
    restrictions = [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": int(time.time()) + 3600}]
    apply_updates(connection, account_update("ACCOUNT_RESTRICTION", restriction_info=restrictions))
    execute(connection, "UPDATE bot_pace SET held_until = now() + %s * interval '1 second'", (seconds,))


def test_a_restriction_that_expires_is_reported_once_like_one_that_is_lifted(connection, bot):
    restrict(connection, 60)
    assert holds.end_expired(connection, outbox()) == 0
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting"]
    execute(connection, "UPDATE bot_pace SET held_until = now() - interval '1 second'")
    assert holds.end_expired(connection, outbox("elsewhere/meta-worker-1/run1")) == 1
    for worker in ("host/meta-worker-1/run1", "host/meta-worker-1/run2"):  # another one, and one that was restarted
        assert holds.end_expired(connection, outbox(worker)) == 0
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting", "active"]
    noted = execute(
        connection, "SELECT event_type, event_data -> 'payload' ->> 'reason' FROM process_events ORDER BY id"
    )
    assert noted[-1][0] == "bot_active"
    assert "ACCOUNT_RESTRICTION" in noted[-1][1]
    assert execute(connection, "SELECT held_reason, hold_code, held_at FROM bot_pace") == [(None, None, None)]
    restrict(connection, 60)
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting", "active", "waiting"]


def test_workers_that_find_an_expired_restriction_together_report_it_once(connection, bot):
    restrict(connection, -1)
    with ThreadPoolExecutor(4) as threads:
        connections = [psycopg2.connect(connection.dsn) for _ in range(4)]
        for each in connections:
            each.autocommit = True
        ended = list(threads.map(lambda each: holds.end_expired(each, outbox()), connections))
    for each in connections:
        each.close()
    assert sorted(ended) == [0, 0, 0, 1]
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting", "active"]


def test_an_outage_after_an_expired_restriction_is_held_as_usual(connection, bot):
    restrict(connection, -1)
    holds.end_expired(connection, outbox())
    holds.note_outages(connection, [Fault(bot, "network", "no", probe=True)], USUAL_PAUSES)
    holds.note_outages(connection, [Answer(bot, sent=True)], USUAL_PAUSES)
    accept(connection, entry(bot))
    assert len(outbox().claim(connection, 10)) == 1
    assert holds.end_expired(connection, outbox()) == 0


def test_a_paused_number_whose_restriction_expires_is_not_called_active(connection, bot):
    restrict(connection, -1)
    execute(connection, "UPDATE bot_pace SET paused_at = now(), paused_until = 'infinity'")
    assert holds.end_expired(connection, outbox()) == 1
    assert [payload["status"] for payload in events(connection, "bot.status")] == ["waiting"]


def test_a_hold_without_an_end_does_not_expire(connection, bot):
    apply_updates(connection, ban("DISABLE"))
    assert holds.end_expired(connection, outbox()) == 0
    assert hold_of(connection, bot)[0] == "account_update.DISABLED_UPDATE"


def test_a_removed_number_holds_no_other_of_its_account(connection, bot):
    sister = add_bot(connection, index=1)
    execute(connection, "UPDATE phone_configs SET meta_waba_id = 'W1', display_phone_number = '+1 555-078-3882'"
            " WHERE id = %s", (sister,))  # fmt: skip
    execute(connection, "UPDATE phone_configs SET display_phone_number = '+1 555-078-3881' WHERE id = %s", (bot,))
    apply_updates(connection, account_update("PHONE_NUMBER_REMOVED", phone_number="15550783881"))
    assert hold_of(connection, bot)[0] == "account_update.PHONE_NUMBER_REMOVED"
    assert hold_of(connection, sister)[0] is None
