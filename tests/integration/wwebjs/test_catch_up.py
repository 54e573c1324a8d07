"""Messages that arrived while no session ran are requested from the page and stored, in a real PostgreSQL."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout
from services.connectors.wwebjs.session import catch_up
from services.connectors.wwebjs.session.catch_up import OVERLAP_SECONDS, CatchUp
from services.connectors.wwebjs.session.status_store import StatusStore
from services.message import Status
from tests.support.outbox import execute
from tests.support.web_events import CHAT, WebBot, message, said

KEY = f"true_{CHAT}_3EB001"
RESET = """TRUNCATE phone_configs, wa_session, wa_key, outbox, lane, messages, contacts, chat, event, event_feed,
    webhook_inbox CASCADE"""


class Page:
    """A page that has messages, and answers as messages.js does."""

    def __init__(self):
        self.messages, self.acks, self.asked, self.failure = [], {}, [], None

    def call(self, function, *arguments, deadline):
        if self.failure:
            raise self.failure
        if function == "__wa.acks":
            return [{"id": key, "ack": self.acks[key]} for key in arguments[0] if key in self.acks]
        since, limit = arguments
        self.asked.append(since)
        return sorted((each for each in self.messages if each["t"] >= since), key=lambda each: each["t"])[:limit]

    def has(self, number, at, **more):
        """A customer has said something at that time, whether or not anybody looked."""
        self.messages.append(message(f"false_{CHAT}_3A{number}", body=f"text {number}", **more) | {"t": int(at)})
        return self.messages[-1]


@pytest.fixture
def bot(opened):
    return WebBot(*opened)


def status_of(bot, database):
    return StatusStore(database, bot.id, lambda *_: None)


@pytest.fixture
def filling(bot, opened):
    return CatchUp(status_of(bot, opened[1]), bot.recorder)


def fill(bot, filling, page):
    """Ask for all that was missed, as at the start of a session, and apply it; returns how many pieces it took."""
    filling.begin()
    pieces = 0
    while filling.turn(page):
        pieces += 1
        assert pieces < 100
    bot.inbox.apply_all(bot.connection)
    return pieces


def caught_up(bot, at):
    execute(bot.connection, "UPDATE wa_session SET caught_up_at = to_timestamp(%s)", (at,))


def since(bot):
    ((at,),) = execute(bot.connection, "SELECT extract(epoch FROM caught_up_at)::float FROM wa_session")
    return at


def test_messages_before_the_link_are_not_stored(bot, filling):
    page = Page()
    page.has(1, time.time() - 5)
    fill(bot, filling, page)
    assert bot.history() == []
    page.has(2, time.time() + 5)
    fill(bot, filling, page)
    assert bot.history("content") == [("text 2",)]


def test_messages_of_another_number_before_its_link_are_not_stored(bot, filling):
    now, page = time.time(), Page()
    fill(bot, filling, page)
    caught_up(bot, now - 3600)
    page.has(1, now - 60)
    execute(bot.connection, "UPDATE wa_session SET own_number = '60999'")
    fill(bot, filling, page)
    assert (bot.history(), since(bot) >= now) == ([], True)
    page.has(2, now + 5)
    fill(bot, filling, page)
    assert bot.history("content") == [("text 2",)]


def test_missed_messages_are_stored_and_reported_once(bot, filling, opened):
    now, page = time.time(), Page()
    caught_up(bot, now - 3600)
    page.has(0, now - 7200)
    told = page.has(1, now - 1800)
    page.has(2, now - 60)
    page.has(3, now - 30)
    bot.tell(said(told["id"], "text 1"))
    fill(bot, filling, page)
    fill(bot, CatchUp(status_of(bot, opened[1]), bot.recorder), page)  # of the next process
    assert sorted(text for (text,) in bot.history("content")) == ["text 1", "text 2", "text 3"]
    assert len(bot.events("message")) == 3
    stored = execute(bot.connection, "SELECT count(*) FROM webhook_inbox")
    fill(bot, filling, page)
    assert execute(bot.connection, "SELECT count(*) FROM webhook_inbox") == stored  # nothing has changed there


def test_many_messages_come_in_pieces_even_if_all_have_the_same_second(bot, filling):
    now, page = int(time.time()), Page()
    caught_up(bot, now - 3600)
    for number in range(1200):
        page.has(number, now - 1000 + number // 900)
    assert fill(bot, filling, page) > 2
    assert len({key for (key,) in bot.history("external_id")}) == len(bot.history()) == 1200


def test_acknowledgements_of_our_messages_are_requested(bot, filling):
    read, unknown, unsure = bot.send(KEY), bot.accept(), bot.accept()
    bot.record(bot.begin(f"true_{CHAT}_3EB002"), status=Status.UNKNOWN)
    bot.record(bot.begin(f"true_{CHAT}_3EB003"), status=Status.UNKNOWN)
    page = Page()
    page.acks = {KEY: 3, f"true_{CHAT}_3EB002": 2, f"true_{CHAT}_3EB003": 0}
    fill(bot, filling, page)
    assert [bot.status(each) for each in (read, unknown, unsure)] == ["read", "delivered", "unknown"]


@pytest.mark.parametrize("failure", [CallFailed(None, "no"), CallTimeout("__wa.recent")])
def test_a_failed_catch_up_starts_over(bot, filling, failure, monkeypatch):
    now, page = time.time(), Page()
    caught_up(bot, now - 3600)
    page.has(1, now - 60)
    monkeypatch.setattr(catch_up, "RETRY_SECONDS", 0)
    filling.begin()
    page.failure = failure
    if isinstance(failure, CallTimeout):  # which is the session's to know
        with pytest.raises(CallTimeout):
            filling.turn(page)
    else:
        assert filling.turn(page)
    assert since(bot) == pytest.approx(now - 3600)
    page.failure = None
    while filling.turn(page):
        pass
    bot.inbox.apply_all(bot.connection)
    assert bot.history("content") == [("text 1",)]


def test_a_paused_session_does_not_catch_up(bot, filling):
    page = Page()
    assert not filling.turn(page)
    filling.begin()
    filling.paused()
    assert not filling.turn(page)
    assert page.asked == []


def test_a_later_catch_up_asks_only_for_newer_messages(bot, filling, monkeypatch):
    monkeypatch.setattr(catch_up, "SECOND_AFTER_SECONDS", 0)
    page, before = Page(), time.time()
    caught_up(bot, before - 9000)
    filling.begin()
    assert filling.turn(page)
    assert since(bot) == pytest.approx(before - 9000)
    late = page.has(1, before - 8000)
    assert filling.turn(page)
    assert not filling.turn(page)
    bot.inbox.apply_all(bot.connection)
    assert [text for (text,) in bot.history("content")] == [late["body"]]
    assert before - OVERLAP_SECONDS - 60 <= since(bot) <= time.time() - OVERLAP_SECONDS


# Minutes at which customers write, and what a session does: it receives messages, or it is down and starts again.
lives = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 9), max_size=4)), max_size=6)


@settings(max_examples=20)
@given(lives)
def test_no_message_is_lost_or_doubled_however_often_sessions_die(opened, lives):
    connection, pool = opened
    execute(connection, RESET)
    bot, page, begun = WebBot(connection, pool), Page(), time.time() - 3600
    caught_up(bot, begun)
    for life, (runs, minutes) in enumerate(lives):
        minutes = [begun + life * 600 + minute * 60 for minute in sorted(minutes)]
        texts = [page.has(f"{life}-{n}", minute, ack=n % 2) for n, minute in enumerate(minutes)]
        if runs:
            filling = CatchUp(status_of(bot, pool), bot.recorder)
            fill(bot, filling, page)
            bot.tell(*(said(each["id"], each["body"]) for each in texts[::2]))
    fill(bot, CatchUp(status_of(bot, pool), bot.recorder), page)
    assert sorted(text for (text,) in bot.history("content")) == sorted(each["body"] for each in page.messages)
    assert len(bot.events("message")) == len(page.messages)
    assert bot.aside() == []
