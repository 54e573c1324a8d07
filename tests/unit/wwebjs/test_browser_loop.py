"""The loop of the thread that owns a session's browser, with a stand-in of the browser and a clock that a test sets."""

import queue
import threading
from dataclasses import replace
from typing import Any

import pytest

from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost
from services.connectors.wwebjs.browser.page_events import Lost, PageEvent
from services.connectors.wwebjs.session import browser_loop
from services.connectors.wwebjs.session.browser_loop import BrowserLoop, Hooks
from services.connectors.wwebjs.states.state_machine import End, Limits, PageState, State
from services.database.connection import DatabaseUnavailable
from tests.unit.wwebjs.test_state_machine import IDLE_QR, MAIN, QR, health

SHOWN_QR = replace(QR, qr="2@code")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """An idle turn waits for nothing."""
    monkeypatch.setattr(browser_loop, "IDLE_SECONDS", 0.0)


class Browser:
    """A browser whose page reports `says`: a list one item after the other, an error by raising it."""

    def __init__(self, says):
        self.events = queue.Queue()
        self.page, self.lost, self.driver_alive, self.driver_pid = self, None, True, 1
        self.says, self.calls, self.acknowledged = says, [], []
        self.lives = True
        self.refusals = []  # why it cannot be opened, one after the other

    def open(self):
        if self.refusals:
            raise self.refusals.pop(0)

    def answers(self, _deadline):
        return self.lives

    def health(self, _deadline):
        said = self.says.pop(0) if isinstance(self.says, list) and len(self.says) > 1 else self.says
        said = said[0] if isinstance(said, list) else said
        if isinstance(said, Exception):
            raise said
        return said

    def call(self, function, *_, deadline=30.0):
        self.calls.append(function)
        if function == "WPP.conn.refreshQR":
            self.says = SHOWN_QR

    def acknowledge(self, boot, seq):
        self.acknowledged.append((boot, seq))


class Everything:
    """Status store, recorder, profile, hooks and page task of a loop; it keeps what they receive."""

    linked: Any = True  # or the number that it was marked with

    def __init__(self, says=MAIN, turns=30):
        self.browser = Browser(says)
        self.now, self.turns = 100.0, turns
        self.told, self.codes, self.stored, self.working = [], [], [], [False]
        self.away, self.ours, self.idle, self.mb, self.work = 0, True, True, 100.0, lambda: False
        self.command = lambda loop: None
        self.wait, self.reports, self.wakers = 0.0, [], []
        self.bound = None
        hooks = Hooks(
            stopping=self.stopping,
            set_working=self.set_working,
            idle=lambda: self.idle,
            memory_mb=lambda _: self.mb,
            handle_commands=lambda loop: self.command(loop),
            lock_held=lambda: self.ours,
            bound_number=self.bound_number,
            send_ended=self.reports.append,
            woken_by=self.wakers.append,
        )
        browser: Any = self.browser
        rest: Any = self
        self.loop = BrowserLoop(browser, rest, rest, rest, [rest], Limits(500.0, 2), hooks, clock=lambda: self.now)

    def serve(self):
        return self.loop.serve()

    def bound_number(self):
        self.reach_database()
        return self.bound

    def stopping(self):
        self.now += 1.0
        self.turns -= 1
        return self.turns < 0

    def set_working(self, works):
        if works is not self.working[-1]:
            self.working.append(works)

    def turn(self, _page):
        return self.work()

    def wait_seconds(self):
        return self.wait

    def can_wait(self, events):
        return all(each.name == "chat.msg_ack_change" for each in events)

    def change(self, state, reason, event, number):
        self.reach_database()
        self.told.append((state, number))

    def heartbeat(self, works, memory_mb, versions):
        self.reach_database()

    def show_qr(self, text, seconds):
        self.reach_database()
        self.codes.append(text)

    def record(self, events):
        self.reach_database()
        self.stored += [each.seq for each in events]

    def mark_linked(self, number):
        self.linked = number

    def reach_database(self):
        if self.away > 0:
            self.away -= 1
            raise DatabaseUnavailable("away")

    def tell(self, name, seq, data=None):
        self.browser.events.put(PageEvent("boot", seq, 0.0, name, data))


def once(action):
    """Something that is done the first time."""
    left = [action]
    return lambda *given: left.pop()(*given) if left else False


def raising(error):
    def fail(*_):
        raise error

    return fail


def test_the_loop_works_until_the_process_is_to_stop():
    all_ = Everything()
    assert all_.serve()[0] is End.STOP
    assert all_.told == [(State.WORKING, "60")]
    assert all_.working == [False, True, False]


def test_a_page_that_cannot_be_reached_is_tried_again_and_commands_are_carried_out_meanwhile():
    all_ = Everything()
    all_.browser.refusals = [CallFailed(None, "net::ERR_INTERNET_DISCONNECTED"), CallTimeout("load: 60 s")]
    asked = []
    all_.command = lambda loop: asked.append(loop.machine.page)
    assert all_.serve()[0] is End.STOP
    assert all_.told == [(State.STARTING, None), (State.STARTING, None), (State.WORKING, "60")]
    assert PageState.UNREACHABLE in asked


def test_a_browser_that_does_not_answer_while_it_loads_the_page_is_lost():
    all_ = Everything()
    all_.browser.refusals, all_.browser.lives = [CallTimeout("load: 60 s")], False
    assert all_.serve() == (End.LOST, "the browser does not answer while it loads the page")


def test_events_are_stored_before_the_page_may_forget_them():
    all_ = Everything()
    for seq in (1, 2, 3):
        all_.tell("chat.new_message", seq)
    all_.away = 1
    all_.serve()
    assert all_.stored == [1, 2, 3]
    assert all_.browser.acknowledged == [("boot", 3)]


def test_acknowledgements_are_gathered_for_a_moment():
    all_ = Everything()
    all_.serve()  # it works
    all_.loop.clock = lambda: all_.now
    all_.turns, all_.loop.hooks = 0, all_.loop.hooks
    all_.tell("chat.msg_ack_change", 1)
    all_.loop._receive_events()
    all_.loop._store_events()
    assert all_.stored == []
    all_.tell("chat.msg_ack_change", 2)
    all_.now += browser_loop.GATHER_SECONDS
    all_.loop._receive_events()
    all_.loop._store_events()
    assert (all_.stored, all_.browser.acknowledged) == ([1, 2], [("boot", 2)])
    all_.tell("chat.msg_ack_change", 3)
    all_.tell("chat.new_message", 4)
    all_.loop._receive_events()
    all_.loop._store_events()
    assert all_.stored == [1, 2, 3, 4]


def test_reports_of_sends_are_passed_on():
    all_ = Everything()
    all_.tell("send.ended", 1, {"key": "k", "ack": 1})
    all_.serve()
    assert all_.reports == [{"key": "k", "ack": 1}]


def test_a_wake_up_ends_an_idle_wait(monkeypatch):
    monkeypatch.setattr(browser_loop, "IDLE_SECONDS", 600.0)
    all_ = Everything()
    all_.wait, all_.turns = 600.0, 3
    all_.loop.clock = lambda: 100.0  # nothing is ever due
    thread = threading.Thread(target=all_.serve)
    thread.start()
    while thread.is_alive():  # the first turns look at the page and begin to work
        for wake in all_.wakers:
            wake()
        thread.join(0.01)
    assert all_.turns < 0


def test_a_state_is_published_once_the_database_is_back():
    all_ = Everything()
    all_.away = 6
    all_.serve()
    assert all_.told == [(State.WORKING, "60")]


def test_an_expired_qr_code_is_refreshed_and_the_new_one_is_shown():
    all_ = Everything(says=IDLE_QR)
    all_.linked = False
    all_.serve()
    assert "WPP.conn.refreshQR" in all_.browser.calls
    assert set(all_.codes) == {"2@code"}
    assert all_.told == [(State.SCAN_QR_CODE, None)]


def test_a_qr_code_is_shown_as_soon_as_the_page_shows_one():
    all_ = Everything(says=[QR, QR, SHOWN_QR])
    all_.linked = False
    all_.serve()
    assert set(all_.codes) == {"2@code"}
    assert all_.told == [(State.SCAN_QR_CODE, None)]


def test_the_repr_of_a_health_report_hides_the_qr_code():
    assert "2@code" not in repr(SHOWN_QR)


def test_the_profile_is_marked_as_linked_after_a_while():
    all_ = Everything()
    all_.linked = False
    all_.serve()
    assert all_.linked == "60"


@pytest.mark.parametrize("error", [CallTimeout("no answer"), CallFailed(None, "broken")])
def test_a_page_that_does_not_answer_twice_is_lost(error):
    all_ = Everything(says=[MAIN, error])
    assert all_.serve() == (End.LOST, "the page does not answer")


def test_the_page_is_looked_at_after_a_call_that_timed_out():
    all_ = Everything(says=[MAIN, CallTimeout("no answer")], turns=5)
    all_.work = once(raising(CallTimeout("too long")))
    assert all_.serve()[0] is End.LOST


def test_the_loop_goes_on_after_a_driver_that_died_in_a_call():
    all_ = Everything()

    def die(*_):
        all_.browser.driver_alive = False
        raise PageLost("the driver is gone")

    all_.work = once(die)
    assert all_.serve()[0] is End.STOP
    assert all_.working == [False, True, False]


def test_a_browser_whose_driver_cannot_be_attached_again_is_lost():
    all_ = Everything(says=[MAIN, PageLost("no driver")])
    all_.browser.driver_alive = False
    assert all_.serve()[0] is End.LOST


def test_a_browser_is_lost_if_a_page_task_says_so():
    all_ = Everything()
    all_.work = once(raising(PageLost("a call does not end")))
    assert all_.serve() == (End.LOST, "a call does not end")


def test_a_browser_that_is_gone_is_lost():
    all_ = Everything()
    all_.browser.events.put(Lost("Chromium ended with SIGKILL"))
    assert all_.serve() == (End.LOST, "Chromium ended with SIGKILL")


def test_the_loop_ends_if_another_process_serves_the_bot():
    all_ = Everything()
    all_.ours = False
    assert all_.serve()[0] is End.ELSEWHERE


def test_a_browser_over_its_memory_limit_is_renewed_when_idle_or_far_over_it_at_once():
    all_ = Everything()
    all_.mb, all_.idle = 600.0, False
    assert all_.serve()[0] is End.STOP
    all_ = Everything()
    all_.mb = 600.0
    assert all_.serve()[0] is End.RENEW
    all_ = Everything()
    all_.mb, all_.idle = 700.0, False
    assert all_.serve()[0] is End.RENEW


def test_a_command_can_end_the_loop():
    all_ = Everything()
    all_.command = once(lambda loop: loop.request_end(End.FORGET))
    assert all_.serve() == (End.FORGET, "an operator asked for it")


def test_another_phone_is_logged_out_and_its_events_are_dropped():
    all_ = Everything(says=health(me="61@c.us"))
    all_.bound = "60"
    all_.tell("chat.new_message", 1)
    end, reason = all_.serve()
    assert end is End.WRONG_NUMBER
    assert "+61" in reason
    assert "WPP.conn.logout" in all_.browser.calls
    assert all_.working == [False]
    assert all_.stored == []
    assert all_.told == []


def test_the_page_does_not_work_before_the_bound_number_is_known():
    all_ = Everything(says=health(me="61@c.us"))
    all_.bound, all_.away = "60", 3
    assert all_.serve()[0] is End.WRONG_NUMBER
    assert all_.working == [False]
