"""Chains of links, and what the names of `bisnesctl why` mean."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.diagnosis import messages, targets
from bisnesctl.diagnosis.chain import Diagnosis, Link, State
from bisnesctl.diagnosis.messages import Message
from bisnesctl.diagnosis.targets import BotTarget, MessageTarget, ProcessTarget
from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import open_deployment
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
        (["wamid.HBgLNjAxMjM"], [MessageTarget("wamid.HBgLNjAxMjM", by_provider=True)]),
        (["true_60123456789@c.us_3EB0ABC"], [MessageTarget("true_60123456789@c.us_3EB0ABC", by_provider=True)]),
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


def message(**fields):
    usual = Message(
        id=ID, company="0128", phone=0, chat="60123456789", kind="text", status="queued", attempts=0, code=None,
        error=None, provider_id=None, accepted_ago=90.0, changed_ago=60.0, claim=None, due_in=-5.0, in_hand=None,
        first=ID, first_status="queued", first_attempts=0, first_code=None, first_error=None, first_ago=90.0, ahead=0,
    )  # fmt: skip
    return replace(usual, **fields)


@pytest.mark.parametrize(
    ("fields", "state", "text", "command"),
    [
        ({}, State.OK, "it is due", ""),
        ({"in_hand": True, "claim": "host/meta-worker-1/x", "due_in": 20.0}, State.DELAYS, "meta-worker-1 on host", ""),
        (
            {"attempts": 2, "code": "131000", "error": "busy", "due_in": 9.0},
            State.DELAYS,
            "2 attempts failed: 131000",
            "",
        ),
        ({"status": "sent"}, State.OK, "it was sent", ""),
        ({"status": "read"}, State.OK, "last report is read", ""),
        ({"status": "unknown", "code": "no_answer"}, State.BLOCKS, "may have been sent", "dead-letters resolve"),
        ({"status": "failed", "code": "131026", "error": "no"}, State.BLOCKS, "it failed", "send it as a new message"),
        ({"status": "failed", "code": "network", "error": "no"}, State.BLOCKS, "it failed", "dead-letters retry"),
    ],
)
def test_the_link_of_a_message(fields, state, text, command):
    link = messages.links(message(**fields))[-1]
    assert (link.state, text in link.text, command in link.command) == (state, True, True), link


def test_a_message_waits_for_its_chats_first():
    link = messages.links(message(ahead=3, first="other", first_code="131056", first_error="too many", due_in=40.0))[0]
    assert link.about == "chat"
    assert "3 messages of its chat must leave before it; the first, other" in link.text
    assert "131056: too many" in link.text
    assert link.next == "the next attempt is in 40s"
    assert link.command == "bisnesctl why other"
