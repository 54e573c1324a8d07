"""Signals of what providers do to messages: they refuse them for now, or are unavailable."""

import pytest

from bisnesctl.signals.measurement import measure
from tests.support.measurement import BOT, WAITING, deployment_of, execute, values

REFUSED = """
UPDATE outbox SET attempts = 1, error_code = '131056', error = 'too many messages to this recipient';
UPDATE lane SET due = now() + interval '16 seconds'"""
THROTTLED = "UPDATE bot_pace SET held_until = now() + interval '5 minutes', held_reason = '80007: too many calls'"


@pytest.fixture
def deployment(database, tmp_path):
    return deployment_of(database, tmp_path)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [(REFUSED, "131056: too many messages to this recipient"), (THROTTLED, "80007: too many calls")],
)
def test_a_message_that_its_provider_refuses_for_now_has_an_age_and_a_reason(deployment, statement, reason):
    execute(deployment, BOT, WAITING, statement)
    measured = measure(deployment)
    for signal in ("outbox_oldest", "outbox_progress"):  # no worker is to blame
        assert values(measured, signal) == {"meta": 0, "wwebjs": 0}
    found = {each.labels["process"]: each for each in measured.readings.of("outbox_refused")}
    assert (1000 <= found["meta"].value < 2000, found["wwebjs"].value) == (True, 0)
    assert found["meta"].reason.endswith(f" of bot 0128-0: {reason}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lane SET due = now() + interval '1 hour'",
        "UPDATE lane SET claim = 'a worker', due = now() + interval '1 minute'; UPDATE outbox SET attempts = 1",
        f"{REFUSED}; UPDATE outbox SET error_code = 'warming_up'",
        f"{REFUSED}; UPDATE bot_pace SET held_until = 'infinity', held_reason = 'no token', hold_code = '190'",
        f"{REFUSED}; UPDATE bot_pace SET paused_until = 'infinity'",
        f"{REFUSED}; UPDATE bot_pace SET outage_since = now(), outage_code = '2', outage_reason = 'unavailable'",
    ],
)
def test_messages_that_wait_for_another_reason_are_not_refused(deployment, statement):
    execute(deployment, BOT, WAITING, statement)
    assert values(measure(deployment), "outbox_refused") == {"meta": 0, "wwebjs": 0}


def test_an_outage_of_the_provider_is_one_trouble_however_many_bots_meet_it(deployment):
    outage = """
UPDATE bot_pace SET outage_since = now() - interval '2 minutes', outage_seen = now(), outage_reported = true,
    outage_code = '2', outage_reason = 'unavailable', held_until = now() + interval '20 seconds'"""
    execute(deployment, BOT, WAITING, outage)
    one, _ = measure(deployment).readings.of("provider_health")
    execute(deployment, BOT.replace("0128", "0099").replace("'1')", "'2')"),
            WAITING.replace("FROM phone_configs", "FROM phone_configs WHERE company_id = '0099'"), outage)  # fmt: skip
    found = measure(deployment)
    more, _ = found.readings.of("provider_health")
    assert (one.name, one.value) == (more.name, more.value) == ("provider_health[meta]", 2)
    assert "bot 0128-0: nothing has been sent" in one.reason
    assert "and 1 more" in more.reason
    assert values(found, "bot_health") == {}
    assert values(found, "bots_in_trouble")["unavailable"] == 2
    execute(deployment, "UPDATE bot_pace SET outage_since = NULL, outage_reported = false, held_until = '-infinity'")
    assert values(measure(deployment), "provider_health") == {"meta": 0, "wwebjs": 0}
