"""The reactions of a session to its page: single cases, and invariants over any sequence of events."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.browser.page_health import Health
from services.connectors.wwebjs.states import state_machine
from services.connectors.wwebjs.states.relaunch import BACKOFF, MAX_FAILED_LAUNCHES, STEADY_SECONDS, RelaunchPolicy
from services.connectors.wwebjs.states.state_machine import (
    Do,
    End,
    Finish,
    Limits,
    PageState,
    Past,
    Show,
    State,
    StateMachine,
)

LIMITS = Limits(memory_mb=500.0, takeovers=2)
MODES = (
    "QR", "SYNCING", "MAIN", "OFFLINE", "CONFLICT", "PROXYBLOCK", "TOS_BLOCK", "SMB_TOS_BLOCK", "DEPRECATED_VERSION",
    None, "SOMETHING_NEW",
)  # fmt: skip
SOCKETS = ("CONNECTED", "OPENING", "PAIRING", "UNPAIRED", "UNPAIRED_IDLE", "TIMEOUT", "CONFLICT", None)


def health(mode="MAIN", socket="CONNECTED", full=True, authenticated=True, **more):
    told: dict[str, Any] = {"boot": "b", "info": "NORMAL", "online": True, "needs_update": False, "me": "60@c.us"}
    return Health(**told | {"wa_js": "4", "wa_web": "2"} | more, mode=mode, socket=socket, full=full,
                  authenticated=authenticated)  # fmt: skip


MAIN, OFFLINE = health(), health("OFFLINE", "TIMEOUT")
QR, IDLE_QR = (health("QR", socket, authenticated=False) for socket in ("UNPAIRED", "UNPAIRED_IDLE"))
LOADING = health(None, None, full=False, authenticated=None)
CONFLICT, OUTDATED = health("CONFLICT", "CONFLICT"), health("DEPRECATED_VERSION", "DEPRECATED_VERSION")
SYNCING = health("SYNCING", "PAIRING")


class Way:
    """A course, and the time that passes on it."""

    def __init__(self, past=None, linked=False, now=1000.0, opened=True):
        self.now, self.linked = now, linked
        self.past = past or Past()
        self.machine = StateMachine(LIMITS, self.past, self.now)
        if opened:
            self.machine.open(None, self.now)

    def look(self, told, after=0.0):
        self.now += after
        return self.machine.look(told, self.linked, self.now)

    def stay(self, told, seconds):
        """Look whenever it is due for so long; what came out, up to an end."""
        until, actions = self.now + seconds, []
        while self.now < until and not ends(actions):
            self.now = max(self.now, self.machine.due)
            actions += self.look(told)
        return actions

    def hear(self, name, data=None):
        return self.machine.hear(name, data, self.now)


def ends(actions):
    return [each.end for each in actions if isinstance(each, Finish)]


def shown(actions):
    return [each.state for each in actions if isinstance(each, Show)]


def test_a_new_page_shows_its_code_then_works():
    way = Way()
    assert way.look(LOADING) == []
    assert way.look(QR, 1) == [Show(State.SCAN_QR_CODE), Do.SHOW_QR]
    assert shown(way.look(SYNCING, 10)) == [State.STARTING]
    assert way.look(MAIN, 1) == [Show(State.WORKING, None, "ready"), Do.WORK]
    assert (way.machine.works, way.machine.up_at) == (True, 1001.0)


OTHER = health(me="61@c.us")


def test_another_phone_than_the_bots_ends_it_before_anything_works():
    for told in (OTHER, health("SYNCING", "PAIRING", me="61:3@c.us")):
        way = Way()
        way.machine.bound = "60"
        way.look(QR)
        (end,) = way.look(told, 1)
        assert end.end is End.WRONG_NUMBER
        assert "+60" in end.reason
        assert "--new-number" in end.reason
        assert not way.machine.identified


def test_the_bots_own_phone_works_and_binds_the_bot():
    for bound in (None, "60"):
        way = Way()
        way.machine.bound = bound
        assert way.look(MAIN) == [Show(State.WORKING, None, "ready"), Do.WORK]
        assert way.machine.identified
        assert way.machine.bound == "60"
        assert ends(way.look(OTHER, 1)) == [End.WRONG_NUMBER]


@pytest.mark.parametrize("me", [None, "", "123@lid"])
def test_a_bot_with_a_number_does_not_work_until_the_page_says_that_it_is_that_one(me):
    way = Way()
    way.machine.bound = "60"
    assert shown(way.look(health(me=me))) in ([], [State.STARTING])
    assert not way.machine.works
    assert not way.machine.identified
    assert shown(way.look(MAIN, 1)) == [State.WORKING]


def test_a_page_that_cannot_be_reached_is_opened_again_for_as_long_as_it_takes():
    way, pauses = Way(opened=False), []
    for _ in range(state_machine.MAX_OPEN_ATTEMPTS - 1):
        assert shown(way.machine.open("net::ERR_NAME_NOT_RESOLVED", way.now)) == [State.STARTING]
        pauses.append(way.machine.due - way.now)
        way.now = way.machine.due
    assert (pauses, pauses[0], pauses[-1]) == (
        sorted(pauses),
        state_machine.OPEN_BACKOFF.first_seconds,
        state_machine.OPEN_BACKOFF.longest_seconds,
    )
    assert ends(way.machine.open("net::ERR_NAME_NOT_RESOLVED", way.now)) == [End.RENEW]
    recovery = RelaunchPolicy()
    recovery.note(way.now - way.machine.up_at)
    assert recovery.pause == 0.0
    way.machine.open(None, way.now)
    assert shown(way.look(MAIN)) == [State.WORKING]


def test_a_page_that_opens_late_has_all_its_time_to_get_ready():
    way = Way(opened=False)
    way.now += 10 * state_machine.LOADING_TIMEOUT_SECONDS
    way.machine.open(None, way.now)
    assert ends(way.stay(LOADING, state_machine.LOADING_TIMEOUT_SECONDS - 1)) == []


def test_a_start_without_a_connection_to_whatsapp_did_not_fail():
    way = Way()
    assert ends(way.stay(OFFLINE, 2 * state_machine.OFFLINE_TIMEOUT_SECONDS)) == [End.RENEW]
    assert way.machine.up_at is not None


def test_a_code_that_nobody_scanned_in_time_is_replaced():
    way = Way()
    way.look(QR)
    assert way.look(IDLE_QR, 10) == [Do.REFRESH_QR]


def test_a_link_is_marked_once_it_would_survive_a_kill():
    way = Way()
    assert Do.MARK_LINKED not in way.look(MAIN)
    assert way.look(MAIN, state_machine.LINK_DURABLE_SECONDS) == [Do.MARK_LINKED]
    way.linked = True
    assert way.look(MAIN, 10) == []


def test_the_page_is_lost_after_two_looks_without_an_answer():
    way = Way()
    way.look(MAIN)
    assert way.look(None) == []
    assert way.machine.silent
    assert way.machine.due == way.now
    assert way.look(MAIN) == []
    assert way.look(None, 10) == []
    assert ends(way.look(None)) == [End.LOST]


def test_a_page_that_does_not_become_ready_has_failed_or_is_lost_if_it_was_up():
    assert ends(Way().stay(LOADING, 200)) == [End.FAILED]
    way = Way()
    way.look(MAIN)
    assert ends(way.stay(LOADING, 200)) == [End.LOST]


def test_a_phone_with_a_long_history_has_more_time_to_synchronise():
    way = Way()
    way.look(QR)
    assert ends(way.stay(SYNCING, 600)) == []
    assert ends(way.stay(SYNCING, 600)) == [End.LOST]


def test_a_page_without_a_connection_pauses_and_is_renewed():
    way = Way()
    way.look(MAIN)
    assert way.look(OFFLINE, 1) == [Do.REST, Show(State.STARTING, "no connection to WhatsApp", "disconnected")]
    assert ends(way.stay(OFFLINE, 50)) == []
    assert ends(way.stay(OFFLINE, 50)) == [End.RENEW]


def test_one_report_of_a_lost_link_is_not_believed():
    way = Way(linked=True)
    way.look(MAIN)
    assert way.look(QR)[0] is Do.REST
    assert ends(way.look(QR, 1)) == []
    assert way.look(MAIN, 1)[-1] is Do.WORK
    assert ends(way.look(QR, 1)) == []


@pytest.mark.parametrize("linked", [False, True])
def test_a_phone_that_unlinks_ends_the_session_even_right_after_the_link(linked):
    way = Way(linked=linked)
    way.look(MAIN)
    assert ends(way.stay(QR, 20)) == [End.LOGGED_OUT]
    assert ends(Way(linked=linked).stay(QR, 20)) == ([End.LOGGED_OUT] if linked else [])


@pytest.mark.parametrize("mode", ["TOS_BLOCK", "SMB_TOS_BLOCK"])
def test_an_account_that_whatsapp_refuses_ends_at_once_and_says_why(mode):
    way = Way()
    way.look(MAIN)
    (*_, end) = way.look(health(mode, None))
    assert end.end is End.BANNED
    assert "WhatsApp blocked the account" in end.reason


def test_an_event_of_a_ban_ends_the_session():
    (end,) = Way().hear("conn.backend_event", {"event": "account_temporarily_banned"})
    assert end.end is End.BANNED
    assert "temporarily" in end.reason


def test_the_session_is_taken_over_as_often_as_allowed():
    way = Way()
    way.look(MAIN)
    assert Do.TAKE_OVER in way.look(CONFLICT)
    assert way.stay(CONFLICT, 5) == []
    way.look(MAIN, 1)
    assert Do.TAKE_OVER in way.look(CONFLICT)
    way.look(MAIN, 1)
    assert ends(way.look(CONFLICT)) == [End.CONFLICT]
    assert ends(Way(past=way.past, now=way.now + 60).look(CONFLICT)) == [End.CONFLICT]


def test_takeovers_of_more_than_an_hour_ago_do_not_count():
    way = Way(past=Past(takeovers=[10.0, 20.0]), now=20.0 + state_machine.PERIOD_SECONDS)
    assert Do.TAKE_OVER in way.look(CONFLICT)


def test_a_newer_version_is_loaded_when_idle_and_once_an_hour():
    way = Way()
    way.look(health(needs_update=True))
    assert way.machine.works
    assert ends(way.machine.note_idle()) == [End.RENEW]
    after = Way(past=way.past)
    after.look(health(needs_update=True))
    assert after.machine.note_idle() == []


def test_an_outdated_page_is_renewed_when_idle():
    way = Way()
    way.look(MAIN)
    actions = way.look(OUTDATED)
    assert actions[0] is Do.REST
    assert ends(actions) == []
    assert ends(way.machine.note_idle()) == [End.RENEW]


def test_memory_over_the_limit_waits_until_idle_unless_far_over():
    course = Way().machine
    assert course.note_memory(499) == course.note_idle() == []
    assert course.note_memory(600) == []
    assert ends(course.note_idle()) == [End.RENEW]
    assert ends(course.note_memory(626)) == [End.RENEW]


def test_a_gap_in_the_events_starts_a_catch_up_without_a_state_change():
    way = Way()
    assert way.hear("bridge.missed") == []
    way.look(MAIN)
    assert way.hear("bridge.missed") == [Do.REST, Do.WORK]
    actions = way.hear("bridge.loaded")
    assert (actions[0], shown(actions), way.machine.works) == (Do.REST, [State.STARTING], False)


def test_an_event_causes_a_look_soon_but_not_too_often():
    way = Way()
    way.look(MAIN)
    way.hear("chat.new_message")
    assert way.machine.due == way.now + state_machine.STEADY_LOOK_SECONDS
    for _ in range(100):
        way.hear("conn.online", True)
    assert way.machine.due == way.now + state_machine.MIN_LOOK_SECONDS


healths = st.builds(
    health, st.sampled_from(MODES), st.sampled_from(SOCKETS), st.booleans(), st.sampled_from([True, False, None]),
    needs_update=st.sampled_from([True, False, None]),
)  # fmt: skip
EVENTS = ("bridge.loaded", "bridge.missed", "conn.online", "conn.logout", "conn.backend_event", "chat.new_message")
steps = st.lists(
    st.tuples(
        st.floats(0, 120),
        st.one_of(
            st.tuples(st.just("look"), st.one_of(st.none(), healths)),
            st.tuples(st.just("hear"), st.sampled_from(EVENTS)),
            st.tuples(st.just("weigh"), st.floats(0, 1000)),
            st.just(("rest", None)),
        ),
    ),
    max_size=60,
)


def do(way, step, value):
    match step:
        case "look":
            return way.look(value)
        case "hear":
            return way.hear(value)
        case "weigh":
            return way.machine.note_memory(value)
    return way.machine.note_idle()


@given(steps, st.booleans())
def test_invariants_hold_for_any_sequence_of_events(story, linked):
    """The session works exactly while it publishes WORKING; an end comes last; looks never stop."""
    way = Way(linked=linked)
    working, state, told_any = False, State.STARTING, False
    for after, (step, value) in story:
        way.now += after
        actions = do(way, step, value)
        assert not any(isinstance(each, Finish) for each in actions[:-1]), actions
        for action in actions:
            if action in (Do.WORK, Do.REST):
                assert working is (action is Do.REST)
                working = action is Do.WORK
            elif isinstance(action, Show):
                state, told_any = action.state, True
        assert working is way.machine.works
        if working:
            assert state is State.WORKING
        elif told_any:
            assert state is not State.WORKING or ends(actions)
        assert way.machine.due <= way.now + state_machine.STEADY_LOOK_SECONDS
        if ends(actions):
            return


@given(steps, st.booleans())
def test_takeovers_never_exceed_the_limit(story, linked):
    way, times = Way(linked=linked), []
    for after, (step, value) in story:
        way.now += after
        actions = do(way, step, value)
        times += [way.now] * (Do.TAKE_OVER in actions)
        if ends(actions):
            break
    for at in times:
        assert sum(at - state_machine.PERIOD_SECONDS < each <= at for each in times) <= LIMITS.takeovers


@given(healths)
def test_no_state_of_the_page_lasts_forever_without_an_action(told):
    """In no state but WORKING and at a QR code does it stay for ever."""
    way = Way(linked=True)
    actions = way.stay(told, 2 * state_machine.SYNCING_TIMEOUT_SECONDS)
    assert ends(actions) or way.machine.note_idle() or way.machine.page in (PageState.WORKING, PageState.SCAN)


def test_launches_stop_after_too_many_failures():
    recovery, pauses = RelaunchPolicy(), []
    while not recovery.hopeless:
        recovery.note(None)
        pauses.append(recovery.pause)
    assert len(pauses) == MAX_FAILED_LAUNCHES
    assert pauses == sorted(set(pauses))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1))
def test_a_browser_follows_at_once_after_a_steady_one_and_with_a_pause_after_brief_ones(lives):
    recovery = RelaunchPolicy()
    for up in lives:
        recovery.note(up)
        assert 0 <= recovery.pause <= BACKOFF.longest_seconds
        assert (recovery.pause == 0) is (up is not None and up >= STEADY_SECONDS)
        assert not recovery.hopeless or up is None
