"""Each message leaves WhatsApp Web once and in the order of its chat, despite hangs, failures, losses and deaths."""

import itertools
import math
from contextlib import suppress
from typing import Any, Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.connector import LocalFile
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost
from services.connectors.wwebjs.sending.handover import Handover, Sighting, Step, judge
from services.connectors.wwebjs.sending.page_send import ACK_TIMEOUT_SECONDS, MAX_HANDOVERS
from services.connectors.wwebjs.sending.page_sends import MAX_UNACKNOWLEDGED, PageSends
from services.connectors.wwebjs.translation.connector import page_request
from services.database.connection import DatabaseUnavailable
from services.message import Outgoing, Payload, Rejected, Retry, Scope, Sent, Status, Unavailable, Unknown
from tests.support.web_model import ENDS, QUESTIONS, FakePage, Rows, World, violations

HANDED_OVER = Handover("k", until=100.0)
REFUSED = Rejected("no", "no")


@pytest.mark.parametrize(
    ("ack", "running", "refusal", "now", "verdict"),
    [
        (1, False, None, 0.0, Sent("k")),
        (3, True, REFUSED, 200.0, Sent("k")),
        (None, False, None, 0.0, Step.HAND_OVER),
        (None, False, REFUSED, 0.0, REFUSED),
        (None, True, REFUSED, 0.0, Step.LOOK_AGAIN),
        (None, True, None, 100.0, Step.RENEW_PAGE),
        (0, False, None, 99.9, Step.LOOK_AGAIN),
        (0, True, REFUSED, 99.9, Step.LOOK_AGAIN),
    ],
)
def test_the_sighting_of_a_key_decides_the_outcome_or_the_next_step(ack, running, refusal, now, verdict):
    assert judge(Handover("k", 100.0, refusal), Sighting(ack, running), now) == verdict


def test_a_failed_message_is_retried_and_an_unacknowledged_one_is_unknown():
    assert isinstance(judge(HANDED_OVER, Sighting(-1), 0.0), Retry)
    assert isinstance(judge(HANDED_OVER, Sighting(0), 100.0), Unknown)


@given(st.none() | st.integers(-7, 4), st.booleans(), st.none() | st.just(REFUSED), st.floats(0, 200))
def test_a_message_that_may_be_in_the_chat_is_not_handed_over(ack, running, refusal, now):
    if judge(Handover("k", 100.0, refusal), Sighting(ack, running), now) is Step.HAND_OVER:
        assert (ack, running, refusal) == (None, False, None)


class Stage:
    """Sends through a page of the model, their outbox, and a clock that only the test sets."""

    def __init__(self):
        self.now = 1000.0
        self.world, self.rows = World(), Rows()
        self.page: Any = FakePage(self.world)
        self.hears = True  # whether the page's reports arrive
        self.start()

    def start(self):
        """A process begins: nothing is in hand."""
        self.rows.in_hand.clear()
        self.sends = PageSends(self.rows, rate=1e6, clock=lambda: self.now)

    def claim(self):
        for request in self.rows.claim(self.now):
            self.sends.submit(request.message.id, request, lambda: None)

    def turn(self):
        """One turn of the loop, which reloads a page that is lost; returns whether there was work."""
        self.claim()
        if self.hears:
            reports, self.world.reports = self.world.reports, []
            for report in reports:
                self.sends.hear(report)
        try:
            worked = self.sends.turn(self.page)
        except PageLost:
            self.world.reload()
            worked = True
        except CallTimeout:
            worked = True
        for number, outcome in self.sends.poll(0):
            self.rows.record(number, outcome, self.now)
        return worked

    def settle(self):
        """From now on all goes well: until every message has its outcome."""
        self.page.sends.clear()
        self.page.questions.clear()
        for _ in range(2000):
            if not self.rows.open:
                return
            for key in list(self.world.calls):
                self.world.finish_call(key)
            for key in self.world.waiting():
                self.world.deliver(key)
            self.now += 0.0 if self.turn() else 1.0
        raise AssertionError("messages are left over")

    def happen(self, event, detail):
        """One thing that may happen at any time."""
        world, waiting, calls = self.world, self.world.waiting(), sorted(self.world.calls)
        match event:
            case "accept":
                self.rows.accept(detail)
            case "send":
                self.page.sends.append(detail)
            case "ask":
                self.page.questions.append(detail)
            case "turn":
                self.turn()
                self.now += detail
            case "call ends" if calls:
                world.finish_call(calls[0])
            case "server" if waiting and detail == "takes":
                world.deliver(waiting[-1])
            case "server" if waiting:
                world.refuse(waiting[0])
            case "reports" if detail == "are lost":
                world.reports.clear()
            case "reports":
                self.hears = detail == "arrive"
            case "spare keys":
                self.rows.spare_keys = self.world.new_key if detail else None
            case "session" if detail == "pauses":
                self.sends.paused()
            case "session":
                world.reload()
                if detail == "dies":
                    self.start()


def swallow(stage, count):
    """Send `count` messages that WhatsApp does not acknowledge, one by one; returns whether the page was lost."""
    for _ in range(count):
        stage.rows.accept(f"chat {len(stage.rows.rows)}")
        stage.claim()
        lost = False
        while stage.sends.in_flight:
            try:
                stage.sends.turn(stage.page)
            except PageLost as error:
                assert "acknowledged none of the last" in str(error)
                lost = True
            for number, outcome in stage.sends.poll(0):
                stage.rows.record(number, outcome, stage.now)
            stage.now += ACK_TIMEOUT_SECONDS
    return lost


def test_a_page_without_acknowledgements_is_renewed_less_and_less_often():
    stage = Stage()
    assert [swallow(stage, 1) for _ in range(9)] == [False, False, True, False, False, False, False, False, True]


def test_one_acknowledgement_resets_the_count():
    stage = Stage()
    assert not swallow(stage, MAX_UNACKNOWLEDGED - 1)
    stage.rows.accept("well")
    stage.claim()
    while stage.sends.in_flight:
        stage.sends.turn(stage.page)
        for key in stage.world.waiting():
            stage.world.deliver(key)
        for number, outcome in stage.sends.poll(0):
            stage.rows.record(number, outcome, stage.now)
        stage.now += 1.0
    assert not swallow(stage, MAX_UNACKNOWLEDGED - 1)


EVENTS = st.one_of(
    st.tuples(st.just("accept"), st.sampled_from("AB")),
    st.tuples(st.just("send"), st.sampled_from(ENDS)),
    st.tuples(st.just("ask"), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("turn"), st.sampled_from([0.1, 0.1, 0.1, 0.1, 3.0, ACK_TIMEOUT_SECONDS + 1])),
    st.tuples(st.just("turn"), st.just(0.1)),
    st.tuples(st.just("turn"), st.just(0.1)),
    st.tuples(st.just("call ends"), st.none()),
    st.tuples(st.just("server"), st.sampled_from(["takes", "takes", "refuses"])),
    st.tuples(st.just("reports"), st.sampled_from(["arrive", "are late", "are lost"])),
    st.tuples(st.just("spare keys"), st.booleans()),
    st.tuples(st.just("session"), st.sampled_from(["pauses", "reloads the page", "dies"])),
)


@settings(max_examples=400)
@given(st.lists(EVENTS, min_size=10, max_size=60))
def test_whatever_happens_each_message_leaves_once_in_its_order_and_none_is_lost(events):
    stage = Stage()
    stage.rows.accept("A")
    for event in events:
        stage.happen(*event)
    stage.settle()
    assert violations(stage.world, stage.rows) == []


@pytest.fixture
def stage():
    return Stage()


def status(stage, number=1):
    return stage.rows.rows[number].status


def test_a_message_that_breaks_every_page_fails_in_the_end(stage):
    stage.rows.accept("A")
    for _ in range(MAX_HANDOVERS):
        stage.page.sends.append("lost before")
        stage.turn()
        stage.now += 1
    stage.turn()
    assert status(stage) is Status.FAILED
    assert stage.world.server == []


def test_a_message_that_breaks_every_page_does_not_take_others_with_it(stage):
    for chat in "ABC":
        stage.rows.accept(chat)
    send = stage.page._send

    def break_down(how, chat, body, options):
        return send("lost before" if body == "2" else how, chat, body, options)

    stage.page._send = break_down
    for _ in range(40):
        stage.turn()
        for key in stage.world.waiting():
            stage.world.deliver(key)
        stage.now += 1
    assert [status(stage, number) for number in (1, 2, 3)] == [Status.SENT, Status.FAILED, Status.SENT]
    assert violations(stage.world, stage.rows) == []


def test_a_message_with_which_the_page_cannot_be_asked_does_not_take_others_with_it(stage):
    for chat in "ABC":
        stage.rows.accept(chat)
    admit = stage.rows.admit

    def break_down(page, messages):
        if any(message.payload["message"] == "2" for message in messages):
            raise PageLost("the page crashed")
        return admit(page, messages)

    stage.rows.admit = break_down
    charged, record = set(), stage.rows.record

    def note(number, outcome, now):
        if isinstance(outcome, Unavailable):
            charged.add(number)
        record(number, outcome, now)

    stage.rows.record = note
    for _ in range(40):
        stage.turn()
        for key in stage.world.waiting():
            stage.world.deliver(key)
        stage.now += 1
    assert [status(stage, number) for number in (1, 3)] == [Status.SENT] * 2
    assert charged == {2}


def test_a_page_that_never_answers_is_reloaded_a_few_times(stage):
    stage.rows.accept("A")
    stage.page.sends.append("hangs")
    renewed = 0
    for _ in range(3 * MAX_HANDOVERS):
        stage.claim()
        with suppress(CallTimeout):
            try:
                stage.sends.turn(stage.page)
            except PageLost:  # the page that comes next is as bad
                renewed += 1
        for number, outcome in stage.sends.poll(0):
            stage.rows.record(number, outcome, stage.now)
        stage.now += ACK_TIMEOUT_SECONDS
    assert status(stage) is Status.UNKNOWN
    assert 1 < renewed <= MAX_HANDOVERS


def test_messages_of_other_chats_overtake_an_unacknowledged_one(stage):
    for chat in "AB":
        stage.rows.accept(chat)
    for _ in range(4):
        stage.turn()
        stage.now += 0.01
    (first, second) = stage.world.waiting()
    stage.world.deliver(second)
    for _ in range(50):
        stage.turn()
        stage.now += 0.1
    assert (status(stage, 1), status(stage, 2)) == (Status.QUEUED, Status.SENT)
    stage.now += ACK_TIMEOUT_SECONDS
    stage.turn()
    assert status(stage, 1) is Status.UNKNOWN
    stage.world.deliver(first)
    assert violations(stage.world, stage.rows) == []


def test_a_message_is_requeued_if_the_database_is_unavailable(stage):
    def away(*_):
        raise DatabaseUnavailable("away")

    stage.rows.accept("A")
    stage.rows.reserve, reserve = away, stage.rows.reserve
    stage.turn()
    assert (status(stage), stage.rows.in_hand, stage.world.page) == (Status.QUEUED, set(), {})
    stage.rows.reserve = reserve
    stage.settle()
    assert status(stage) is Status.SENT


def test_no_message_stays_in_hand_while_the_session_is_paused(stage):
    stage.rows.accept("A")
    stage.sends.paused()
    stage.claim()
    assert stage.sends.poll(0) == [(1, None)]
    assert stage.sends.in_flight == 0
    stage.rows.in_hand.clear()
    stage.settle()
    assert status(stage) is Status.SENT


def test_texts_of_several_chats_leave_in_one_call_and_are_not_asked_about(stage):
    for chat in "ABC":
        stage.rows.accept(chat)
    calls, call = [], stage.page.call_directly

    def note(function, *given, **more):
        calls.append(function)
        return call(function, *given, **more)

    stage.page.call_directly = note
    stage.turn()
    for key in stage.world.waiting():
        stage.world.deliver(key)
    stage.turn()
    assert [status(stage, number) for number in (1, 2, 3)] == [Status.SENT] * 3
    assert calls == ["__wa.admitAll", "__wa.sendTexts"]


def test_a_text_that_was_claimed_with_its_key_leaves_in_a_single_call(stage):
    stage.rows.spare_keys = stage.world.new_key
    stage.rows.accept("A")
    stage.page.questions.append("lost")  # the page is not asked
    stage.turn()
    stage.world.deliver(*stage.world.waiting())
    stage.turn()
    assert (status(stage), list(stage.page.questions)) == (Status.SENT, ["lost"])


def test_events_of_a_text_say_nothing_new_unless_its_outcome_is_unknown(stage):
    for chat in "AB":
        stage.rows.accept(chat)
    stage.turn()
    first, second = stage.world.waiting()
    assert (stage.sends.has_sent(first), stage.sends.has_sent("other")) == (True, False)
    stage.world.deliver(first)
    stage.turn()
    stage.now += ACK_TIMEOUT_SECONDS
    stage.turn()
    assert [status(stage, number) for number in (1, 2)] == [Status.SENT, Status.UNKNOWN]
    assert (stage.sends.has_sent(first), stage.sends.has_sent(second)) == (True, False)


def test_a_report_that_is_lost_is_made_up_for_by_a_look(stage):
    stage.rows.accept("A")
    stage.turn()
    stage.world.deliver(*stage.world.waiting())
    stage.world.reports.clear()
    stage.turn()
    assert status(stage) is Status.QUEUED
    stage.now += 1.0
    stage.turn()
    assert status(stage) is Status.SENT


def test_the_rate_limits_how_many_texts_leave_together(stage):
    stage.sends = PageSends(stage.rows, rate=10.0, clock=lambda: stage.now)
    for chat in "ABCDE":
        stage.rows.accept(chat)
    begun = []
    for _ in range(10):
        stage.turn()
        begun.append(len(stage.world.page))
        stage.now += 0.15
    assert begun[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(begun))
    assert begun[-1] == 5


def test_the_loop_is_woken_once_for_messages_that_are_submitted_together(stage):
    woken = itertools.count()
    stage.sends = PageSends(stage.rows, rate=1e6, clock=lambda: stage.now, submitted=lambda: next(woken))
    for chat in "AB":
        stage.rows.accept(chat)
    stage.claim()
    assert stage.sends.wait_seconds() == 0.0
    stage.sends.poll(0)
    stage.sends.poll(0)
    assert next(woken) == 1


def test_the_loop_waits_as_long_as_nothing_is_due(stage):
    assert stage.sends.wait_seconds() == math.inf
    stage.rows.accept("A")
    stage.turn()
    assert stage.sends.wait_seconds() == 1.0


class Acting:
    """A page that answers each call with what is given, an exception by raising it."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def call(self, function, *arguments, deadline=30.0):
        self.calls.append((function, *arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def act(page, kind, attempts=0, **payload: Unpack[Payload]):
    sends = PageSends(Rows(), rate=1e6)
    content: Payload = payload | {"target_provider_id": "k"}
    message = Outgoing(1, "1", 1, "60123456789", kind, content, attempts)
    sends.submit(1, page_request(message), lambda: None)
    with suppress(PageLost, CallTimeout):
        assert sends.turn(page)
    ((_, outcome),) = sends.poll(0)
    assert sends.in_flight == 0
    return outcome


def test_reactions_receipts_edits_and_deletions_are_calls_without_a_key():
    everyone = {"deleteForEveryone": True}
    for kind, payload, answer, function in (
        ("reaction", {"reaction": "👍"}, {"sendMsgResult": "OK"}, ("WPP.chat.sendReactionToMessage", "k", "👍")),
        ("reaction", {"reaction": ""}, None, ("WPP.chat.sendReactionToMessage", "k", False)),
        ("read", {}, {}, ("WPP.chat.markIsRead", "60123456789@c.us")),
        ("delete", everyone, {"isRevoked": True}, ("WPP.chat.deleteMessage", "60123456789@c.us", "k", False, True)),
    ):
        page = Acting(answer)
        assert act(page, kind, **payload) == Sent()
        assert page.calls == [function]
    page = Acting({}, None)
    assert act(page, "read", typing=True) == Sent()
    assert [function for function, *_ in page.calls] == ["WPP.chat.markIsRead", "WPP.chat.markIsComposing"]
    edited = Acting({"id": "k"})
    assert act(edited, "edit", message="new") == Sent()
    assert edited.calls[0][:3] == ("WPP.chat.editMessage", "k", "new")


@pytest.mark.parametrize(
    ("kind", "payload", "answer", "code"),
    [
        ("delete", {"deleteForEveryone": True}, {"isRevoked": False, "isDeleted": True}, "deleted_locally"),
        ("delete", {"deleteForEveryone": True}, CallFailed("msg_not_found", "gone"), "msg_not_found"),
        ("edit", {"message": "x"}, CallFailed("edit_message_error", "Cannot edit"), "edit_message_error"),
    ],
)
def test_a_call_that_whatsapp_rejects_fails_the_message(kind, payload, answer, code):
    outcome = act(Acting(answer), kind, **payload)
    assert isinstance(outcome, Rejected)
    assert outcome.code == code


@pytest.mark.parametrize("answer", [CallTimeout("late"), PageLost("gone"), CallFailed(None, "odd"), "ERROR_UNKNOWN"])
def test_a_call_that_fails_temporarily_is_retried(answer):
    said = {"sendMsgResult": answer} if isinstance(answer, str) else answer
    assert isinstance(act(Acting(said), "reaction", reaction="👍"), Retry)


def test_an_unreachable_network_is_an_outage_of_the_chat():
    outcome = act(Acting({"sendMsgResult": "ERROR_NETWORK"}), "reaction", reaction="👍")
    assert (type(outcome), outcome.scope) == (Unavailable, Scope.CHAT)


def test_a_deletion_that_was_interrupted_finds_its_message_gone():
    answer = CallFailed("msg_not_found", "gone")
    assert act(Acting(answer), "delete", attempts=1, deleteForEveryone=True) == Sent()


def test_a_file_is_released_once_its_message_is_sent(tmp_path):
    path, released = tmp_path / "a.png", []
    path.write_bytes(b"x")
    stage, sent = Stage(), []
    file = LocalFile(path, "image/png", lambda: released.append(True))
    message = Outgoing(1, "1", 1, "A@g.us", "image", {"media": {"link": "x"}, "caption": "Look"}, 0)
    stage.rows.accept("A")
    stage.rows.in_hand.add(1)

    def send_file(chat, path, options, deadline):
        sent.append((path, options["type"], options["caption"], options["mimetype"], options["filename"]))
        return FakePage._send(stage.page, "well", chat, "1", options)

    stage.page.send_file = send_file
    stage.sends.submit(1, page_request(message, file), lambda: None)
    stage.turn()
    assert released == []
    stage.settle()
    assert (sent, released) == ([(path, "image", "Look", "image/png", "file.png")], [True])
