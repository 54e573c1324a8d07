"""The manager's plan for the programs of sessions, from any state."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots.web_sessions import Ages, Block, WebSession
from services.connectors.wwebjs.manager import plan as manager_plan
from services.connectors.wwebjs.manager.plan import (
    STARTING_SECONDS,
    Program,
    is_elsewhere,
    program_name,
    session_to_recycle,
)

NOW = datetime.now(UTC)
#: Seconds since a start.
JUST_NOW, LONG_AGO = 0.0, 2 * STARTING_SECONDS
STATES = ("STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED")
BLOCK = Block("logged_out", "logged out on the phone", NOW, None)


def session(bot=1, wanted=True, state="STOPPED", reason=None, started=LONG_AGO, memory=None, block=None, host=None):
    ages, at = Ages(LONG_AGO, started, None), None if started is None else NOW
    return WebSession(bot, "0128", bot, wanted, state, reason, NOW, at, None, None, 0, memory, {}, block, host, ages)


def plan(sessions, programs, most, at_once, limit=lambda _: None):
    return manager_plan.plan(sessions, programs, most, at_once, limit)


def program(bot):
    return program_name(session(bot))


@st.composite
def worlds(draw):
    """Sessions, the programs that there are, and how many may run and start."""
    bots = draw(st.lists(st.integers(1, 12), unique=True, max_size=8))
    blocks, times = st.sampled_from([None, BLOCK]), st.sampled_from([None, LONG_AGO, JUST_NOW])
    found = [
        session(bot, draw(st.booleans()), draw(st.sampled_from(STATES)), None, draw(times), block=draw(blocks))
        for bot in bots
    ]
    names = [program(bot) for bot in range(1, 14)]
    programs = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(list(Program))))
    return found, programs, draw(st.integers(1, 6)), draw(st.integers(1, 4))


@given(worlds())
def test_only_wanted_sessions_that_are_not_blocked_run_and_never_too_many(world):
    sessions, programs, most, at_once = world
    todo = plan(sessions, programs, most, at_once)
    able = {program_name(each) for each in sessions if each.wanted and not each.block}
    kept = set(programs) - set(todo.remove)
    started = {program_name(each) for each in todo.start}
    assert kept | started <= able
    assert len(kept | started) <= most
    assert len(started) <= at_once
    assert not started & {name for name, how in programs.items() if how is Program.ACTIVE}


@given(worlds())
def test_all_sessions_that_may_run_do_so_after_some_rounds(world):
    sessions, programs, most, at_once = world
    able = sorted((each for each in sessions if each.wanted and not each.block), key=lambda each: each.bot_id)[:most]
    for _ in range(20):
        todo = plan(sessions, programs, most, at_once)
        programs = {name: how for name, how in programs.items() if name not in todo.remove}
        programs |= {program_name(each): Program.ACTIVE for each in todo.start}
        up = {name for name, how in programs.items() if how is Program.ACTIVE}
        sessions = [_come_up(each) if program_name(each) in up else each for each in sessions]
    ended = {name for name, how in programs.items() if how is Program.ENDED}
    assert {program_name(each) for each in able} == up | ended
    assert not todo.later
    assert not todo.start


def _come_up(each):
    return session(each.bot_id, each.wanted, "WORKING", None, JUST_NOW, block=each.block)


def test_running_sessions_are_not_touched():
    sessions = [session(1, state="WORKING"), session(2), session(3, wanted=False)]
    programs = {program(1): Program.ACTIVE, program(3): Program.ACTIVE}
    todo = plan(sessions, programs, 10, 2)
    assert todo.start == [sessions[1]]
    assert todo.remove == [program(3)]


def test_a_program_that_ended_is_started_only_after_a_request():
    programs = {program(1): Program.ENDED}
    assert plan([session(1, state="FAILED")], programs, 10, 2).start == []
    assert len(plan([session(1, state="FAILED", started=None)], programs, 10, 2).start) == 1


def test_the_oldest_sessions_run_if_there_are_too_many():
    todo = plan([session(3), session(1), session(2)], {}, 2, 5)
    assert [each.bot_id for each in todo.start] == [1, 2]
    assert [(idle.session.bot_id, idle.state) for idle in todo.idle] == [(3, "STOPPED")]
    assert "MAX_SESSIONS" in todo.idle[0].reason
    told = session(3, reason=todo.idle[0].reason)
    assert plan([told, session(1), session(2)], {}, 2, 5).idle == []


def test_browsers_start_a_few_at_a_time():
    sessions = [session(bot, state="STARTING", started=JUST_NOW) for bot in (1, 2)] + [session(3)]
    programs = {program(1): Program.ACTIVE, program(2): Program.ACTIVE}
    waiting = plan(sessions, programs, 10, 2)
    assert (waiting.start, waiting.later) == ([], True)
    sessions[0] = session(1, state="SCAN_QR_CODE", started=JUST_NOW)
    assert plan(sessions, programs, 10, 2).start == [sessions[2]]


def test_a_start_that_hangs_does_not_block_other_starts():
    sessions = [session(1, state="STARTING", started=STARTING_SECONDS + 1), session(2)]
    assert plan(sessions, {program(1): Program.ACTIVE}, 10, 1).start == [sessions[1]]


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (session(state="WORKING", block=BLOCK), ("FAILED", "logged out on the phone")),
        (session(state="FAILED", reason="its own words", block=BLOCK), None),
        (session(state="WORKING", wanted=False), ("STOPPED", "an operator stopped it")),
        (session(state="STOPPED", wanted=False), None),
    ],
)
def test_a_session_that_is_not_to_run_is_published_as_such(found, shown):
    told = [(idle.state, idle.reason) for idle in plan([found], {}, 10, 2).idle]
    assert told == ([shown] if shown else [])


def test_the_browser_with_the_most_memory_and_no_queue_is_renewed_one_at_a_time():
    sessions = [session(1, state="WORKING", memory=500), session(2, state="WORKING", memory=700)]
    sessions.append(session(3, state="FAILED", memory=9000))
    nobody = frozenset()
    assert session_to_recycle(sessions, 1200, nobody, nobody) is None
    assert session_to_recycle(sessions, 1000, nobody, nobody).bot_id == 2
    assert session_to_recycle(sessions, 1000, nobody, frozenset({2})).bot_id == 1
    assert session_to_recycle(sessions, 1000, nobody, frozenset({1, 2})).bot_id == 2
    assert session_to_recycle(sessions, 1000, frozenset({1}), nobody) is None


@pytest.mark.parametrize(
    ("host", "held", "hosts", "other"),
    [
        (None, set(), {"there"}, False),  # it never ran
        ("here", {1}, {"here", "there"}, False),
        ("there", {1}, set(), True),  # its process has the lock
        ("there", set(), {"there"}, True),  # it is restarted there
        ("there", {2}, {"elsewhere"}, False),  # that machine is gone
    ],
)
def test_a_session_of_another_machine_belongs_to_it_while_that_machine_is_alive(host, held, hosts, other):
    assert is_elsewhere(session(1, host=host), "here", held, hosts) is other


@pytest.mark.parametrize("seconds", [-3600.0, -1.0, LONG_AGO])
def test_a_start_in_the_future_does_not_count_as_starting(seconds):
    found = [session(1, state="STARTING", started=seconds), session(2)]
    assert [each.bot_id for each in plan(found, {program(1): Program.ACTIVE}, 9, 1).start] == [2]


def number(bot, company, linked=False):
    ages = Ages(change=LONG_AGO, start=LONG_AGO, beat=None)
    return WebSession(
        bot, company, bot, True, "STOPPED", None, NOW, NOW, None, None, 0, None, {}, None, ages=ages, linked=linked
    )


def started(sessions, places, limit=lambda _: None):
    return [each.bot_id for each in plan(sessions, {}, places, 99, limit).start]


def test_a_company_with_many_numbers_takes_no_place_of_another_company():
    many = [number(bot, "B") for bot in range(1, 51)]
    assert started([*many, number(99, "A")], 2) == [1, 99]
    assert started([*many, number(98, "A"), number(99, "A")], 5) == [1, 98, 2, 99, 3]


def test_a_number_that_was_never_linked_takes_no_place_of_one_in_use():
    sessions = [number(1, "B"), number(2, "A", linked=True), number(3, "A", linked=True)]
    assert started(sessions, 2) == [2, 3]
    assert started(sessions, 3) == [2, 3, 1]


def test_a_company_has_no_more_sessions_than_its_quota_and_is_told_so():
    sessions = [number(1, "A"), number(2, "A"), number(3, "B")]
    found = plan(sessions, {}, 20, 99, {"A": 1}.get)
    assert [each.bot_id for each in found.start] == [1, 3]
    assert [(each.session.bot_id, "web_sessions" in each.reason) for each in found.idle] == [(2, True)]


def test_a_number_that_was_not_moved_is_neither_started_nor_published():
    former = replace(number(1, "A"), moved=False)
    found = plan([former], {"wwebjs-session-A-1": Program.ACTIVE}, 20, 99)
    assert (found.start, found.idle, found.remove) == ([], [], ["wwebjs-session-A-1"])
