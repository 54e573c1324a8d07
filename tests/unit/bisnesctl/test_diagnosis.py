"""Chains of links, and what the names of `bisnesctl why` mean."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots import check_records
from bisnesctl.bots.causes import Cause, Situation, causes_of
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.bots.web_sessions import Block, WebSession
from bisnesctl.diagnosis import diagnose, messages, numbers, surroundings, targets
from bisnesctl.diagnosis.chain import Diagnosis, Link, State
from bisnesctl.diagnosis.surroundings import Surroundings
from bisnesctl.diagnosis.targets import BotTarget, MessageTarget, ProcessTarget
from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import Condition, open_deployment
from bisnesctl.queue import reasons
from bisnesctl.queue.reasons import Place
from tests.support.processes.servers import settings_in

ID = "01a21810-359a-77fc-a341-6aaed94b3d4b"
LINKS = st.builds(Link, st.text(max_size=5), st.sampled_from(State), st.text(max_size=5), command=st.text(max_size=5))


@pytest.fixture
def deployment(tmp_path):
    return open_deployment(settings_in(tmp_path))


@given(st.lists(LINKS))
def test_the_cause_is_the_first_of_the_worst_links(links):
    cause = Diagnosis("x", "", "", links).cause
    worst = [each for state in State if state is not State.OK for each in links if each.state is state]
    assert cause == (worst[0] if worst else None)


@given(st.lists(LINKS))
def test_the_steps_are_the_commands_of_links_as_bad_as_the_cause(links):
    diagnosis = Diagnosis("x", "", "", links)
    expected = [each.command for each in links if diagnosis.cause and each.state is diagnosis.cause.state]
    assert [step for step in dict.fromkeys(expected) if step] == diagnosis.steps


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["0128-0"], [BotTarget("0128", 0)]),
        (["0128", "2"], [BotTarget("0128", 2)]),
        (["0128/2"], [BotTarget("0128", 2)]),
        (["acme-west-12"], [BotTarget("acme-west", 12)]),
        (["wwebjs-session-0128-2"], [BotTarget("0128", 2)]),  # a session that does not run here
        ([ID.upper()], [MessageTarget(ID)]),
        (["wamid.HBgLNjAxMjM"], [MessageTarget("wamid.HBgLNjAxMjM")]),
        (["true_60123456789@c.us_3EB0ABC"], [MessageTarget("true_60123456789@c.us_3EB0ABC")]),
        (["supervisord", "guard"], [ProcessTarget("supervisord"), ProcessTarget("guard")]),
        (["api"], [ProcessTarget("api-0"), ProcessTarget("api-1")]),
        (["bisnesgpt-api"], [ProcessTarget("api-0"), ProcessTarget("api-1")]),
        (["meta-worker-2"], [ProcessTarget("meta-worker-2")]),
    ],
)
def test_names(deployment, words, found):
    assert targets.find(words, deployment) == found


def test_an_unknown_name_suggests_near_ones(deployment):
    with pytest.raises(UsageError, match="did you mean guard"):
        targets.find(["gaurd"], deployment)


def bot(**fields):
    usual = Situation(
        id=1, company="0128", phone=0, channel="meta", rate=None, paused=False, paused_until=None, paused_seconds=None,
        paused_at=None, paused_by=None, paused_reason=None, held=False, held_until=None, held_seconds=None,
        hold_code=None, held_reason=None, outage_since=None, outage=None, no_worker=False,
    )  # fmt: skip
    return replace(usual, **fields)


def place(**fields):
    usual = {
        "id": ID, "status": "queued", "in_hand": False, "claim": None, "lease_over": None, "due": None, "first": None,
        "first_code": None, "first_error": None, "first_in_hand": False, "code": None, "error": None,
        "provider_id": None,
    }  # fmt: skip
    return Place(usual | fields, bot())


DUE = "2026-01-31T08:00:00Z"


@pytest.mark.parametrize(
    ("fields", "state", "text", "command"),
    [
        ({}, State.OK, "it waits for its turn", ""),
        ({"in_hand": True, "claim": "host/meta-worker-1/x"}, State.DELAYS, "meta-worker-1 on host has it in hand", ""),
        ({"in_hand": True, "lease_over": True}, State.DELAYS, "does not answer; another takes it over", ""),
        (
            {"due": DUE, "code": "131000", "error": "busy"}, State.DELAYS,
            f"its next attempt is at {DUE}, after 131000: busy", "queue retry",
        ),
        ({"status": "sent"}, State.OK, "it was sent", ""),
        ({"status": "read"}, State.OK, "last report is read", ""),
        ({"status": "unknown", "code": "no_answer"}, State.BLOCKS, "may have been sent", "dead-letters resolve"),
        ({"status": "unknown"}, State.BLOCKS, "it may have been sent", "dead-letters resolve"),
        ({"status": "failed"}, State.BLOCKS, "it failed: no reason is stored", ""),
        ({"status": "failed", "code": "131026", "error": "no"}, State.BLOCKS, "send it as a new message", ""),
        ({"status": "failed", "code": "network", "error": "no"}, State.BLOCKS, "it failed: network: no", "queue retry"),
    ],
)  # fmt: skip
def test_the_link_of_a_message(fields, state, text, command):
    [link] = messages.of_place(place(**fields), 0)
    assert (link.about, link.state, text in link.text, command in link.command) == ("message", state, True, True), link


def test_a_message_waits_for_its_chats_first():
    waiting = place(first="other", due=DUE, first_code="131056", first_error="too many")
    [link] = messages.of_place(waiting, 3)
    assert (link.about, link.state) == ("chat", State.DELAYS)
    assert link.text == (
        f"it waits for the chat's first message other, tried again at {DUE}, after 131056: too many;"
        " 3 messages of its chat leave before it"
    )
    assert link.command == "bisnesctl why other"


SESSION = WebSession(
    bot_id=1, company="0128", phone=0, wanted=True, state="WORKING", reason=None, changed_at=None, started_at=None,
    number="60123456789", beat_at=None, failed_starts=0, memory_mb=None, versions={}, block=None, linked=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "about", "lasts", "text", "following", "command"),
    [
        (
            {"paused": True, "paused_at": DUE, "paused_by": "alice", "paused_reason": "price list",
             "paused_until": "2026-01-31T09:00:00Z", "paused_seconds": 90.0},
            "pause", False, "bot 0128/0 is paused until 2026-01-31T09:00:00Z since " + DUE + " by alice: price list",
            "it continues in 1m 30s", "bisnesctl queue resume 0128/0",
        ),
        (
            {"held": True, "hold_code": "190", "held_reason": "190: expired"}, "number", True,
            "its number is held: 190: expired", "it ends by itself with a check that finds the number well",
            "bisnesctl bots add --company 0128 --phone 0 --token-stdin",
        ),
        (
            {"held": True, "held_until": DUE, "held_seconds": 5.0, "outage_since": DUE, "outage": "network: refused"},
            "number", True, f"its provider is unavailable since {DUE}: network: refused", "the next attempt is in 5s",
            "bisnesctl bots list",
        ),
        (
            {"held": True, "held_until": DUE, "held_seconds": 60.0, "held_reason": "20 messages an hour"}, "number",
            False, f"its number is limited until {DUE}: 20 messages an hour", "it continues in 1m 0s", None,
        ),
        ({"no_worker": True}, "process", True, "no worker of meta is running", "", "bisnesctl why meta-worker"),
        (
            {"no_worker": True, "owner": "legacy"}, "process", True,
            "the legacy process serves it, and does not run", "", "bisnesctl rollout status",
        ),
        (
            {"owner": "legacy", "next_owner": "multiprocess"}, "process", False,
            "it is being handed over from legacy to multiprocess", "it continues within seconds",
            "bisnesctl rollout status",
        ),
        (
            {"session": replace(SESSION, state="SCAN_QR_CODE")}, "session", True,
            "its session is unlinked: no phone is linked to it", "", "bisnesctl bots link 0128 0",
        ),
        (
            {"session": replace(SESSION, block=Block("banned", "banned", datetime.now(UTC), None))}, "session", True,
            "its session is blocked: until you unblock it: banned", "", "bisnesctl bots unblock 0128 0",
        ),
        (
            {"session": replace(SESSION, wanted=False, state="STOPPED")}, "session", False,
            "its session was stopped on purpose", "", "bisnesctl bots unblock 0128 0",
        ),
        (
            {"session": replace(SESSION, state="STARTING")}, "session", False, "its session is starting",
            "the manager starts it", "bisnesctl logs wwebjs-session-0128-0",
        ),
        (
            {"session": replace(SESSION, moved=False)}, "session", True, "the former server may still run it", "",
            "bisnesctl bots move 0128 0",
        ),
    ],
)  # fmt: skip
def test_the_causes_of_a_bot(fields, about, lasts, text, following, command):
    assert list(causes_of(bot(**fields))) == [Cause(about, lasts, text, following, command)]


def test_nobody_starts_a_session_whose_channel_has_no_process():
    stopped = bot(session=replace(SESSION, state="STOPPED"), channel="wwebjs", no_worker=True)
    assert list(causes_of(stopped)) == [
        Cause("session", False, "its session is stopped", "", None),
        Cause("process", True, "no process of wwebjs is running", "", "bisnesctl status"),
    ]


def test_a_bot_that_sends_has_no_cause():
    assert list(causes_of(bot(session=SESSION))) == []


def test_the_queue_and_the_diagnosis_use_the_same_words():
    held = replace(place(), bot=bot(held=True, hold_code="190", held_reason="190: expired"))
    [cause] = causes_of(held.bot)
    assert reasons.explain(held) == (cause.text, cause.command)
    assert reasons.of_message(held)[0] in messages.of_place(held, 0)[0].text


@pytest.mark.parametrize("fields", [{"no_worker": True}, {"paused": True, "paused_at": DUE}])
def test_a_message_of_a_bot_that_cannot_send_does_not_wait_for_its_rate(fields):
    waiting = replace(place(), bot=bot(**fields))
    [link] = messages.of_place(waiting, 0)
    assert (link.state, link.text) == (State.OK, "it is the next one of its chat")
    assert "rate" not in reasons.explain(waiting)[0]


@pytest.fixture
def troubled(deployment, monkeypatch):
    """The diagnosis of all troubles while these bots have some, of which those of company `gone` were removed since."""

    def look(*bots):
        around = Surroundings(deployment, Condition.RUNNING, {}, [])
        monkeypatch.setattr(surroundings, "observe", lambda deployment, refused: around)
        monkeypatch.setattr(
            check_records,
            "troubled",
            lambda settings: [BotTrouble(company, phone, "error", "") for company, phone in bots],
        )
        number = numbers.Number(1, "meta", "meta_direct", 0, 0, None, None, None, None, None, [])
        monkeypatch.setattr(
            diagnose, "_look", lambda around, bot: diagnose._Seen(None if bot.company == "gone" else number, [])
        )
        return [each.target for each in diagnose.troubles(deployment, [])]

    return look


def test_a_bot_that_is_removed_meanwhile_hides_no_other_trouble(troubled):
    assert troubled(("gone", 0), ("0128", 1)) == ["0128-1"]


def test_of_many_bots_in_trouble_some_are_diagnosed_and_the_rest_counted(troubled):
    found = troubled(*(("0128", number) for number in range(diagnose.MAX_BOTS + 30)))
    assert found == [*(f"0128-{number}" for number in range(diagnose.MAX_BOTS)), "30 more bots"]


def test_an_outcome_without_an_error_does_not_end_with_a_colon():
    for status in ("unknown", "failed"):
        assert not reasons.explain(place(status=status))[0].endswith(": ")
