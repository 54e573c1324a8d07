"""The checks before a message leaves a session: its number, the warm-up limits, its key."""

import pytest

from services.connectors.wwebjs.browser.page import CallFailed
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.message import Outgoing, Rejected, Retry, Scope, Unavailable
from tests.support.outbox import add_bot, execute

CHAT, KEY = "60123456789", "true_60123456789@c.us_3EB0AA"


class Asked:
    """A page that knows who is on WhatsApp."""

    def __init__(self, *absent):
        self.absent, self.asked, self.broken = absent, [], False

    def call(self, function, chat, deadline=30.0):
        assert function == "WPP.contact.queryWidExists"
        self.asked.append(chat)
        if self.broken:
            raise CallFailed(None, "no network")
        return None if chat.partition("@")[0] in self.absent else {"wid": chat}


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def pool(opened):
    return opened[1]


@pytest.fixture
def bot(connection):
    return add_bot(connection, kind="wwebjs")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def guard(pool, clock):
    return DatabaseSendGuard(pool, 16.0, clock)


def message(bot, chat=CHAT, kind="text"):
    return Outgoing(1, "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4", bot, chat, kind, {"message": "x"}, 0)


def test_a_number_is_asked_for_once(pool, bot, clock):
    page, own = Asked(), guard(pool, clock)
    assert own.refusal(page, message(bot)) is None
    assert own.refusal(page, message(bot)) is None
    assert guard(pool, clock).refusal(page, message(bot)) is None
    assert page.asked == [f"{CHAT}@c.us"]


@pytest.mark.parametrize("chat", ["120363000000000001@g.us", "123456789012345@lid"])
def test_groups_and_hidden_numbers_are_not_asked_for(pool, bot, clock, chat):
    page = Asked()
    assert guard(pool, clock).refusal(page, message(bot, chat)) is None
    assert page.asked == []


def test_a_chat_with_history_is_not_looked_up(pool, connection, bot, clock):
    execute(connection, "INSERT INTO chat (bot_id, chat_id) VALUES (%s, %s)", (bot, CHAT))
    execute(
        connection,
        "INSERT INTO messages (company_id, contact_id, phone_index, message_id) VALUES ('0128', '0128-60111', 0, 'a')",
    )
    page, own = Asked(), guard(pool, clock)
    for chat in (CHAT, "60111"):
        assert own.refusal(page, message(bot, chat)) is None
    assert page.asked == []


def test_a_number_that_was_not_found_is_asked_for_again_before_the_message_fails(pool, connection, bot, clock):
    page, own = Asked(CHAT), guard(pool, clock)
    first = own.refusal(page, message(bot))
    assert (type(first), first.after, first.scope) == (Retry, 16.0, Scope.CHAT)
    clock.now = 16.0
    assert isinstance(own.refusal(page, message(bot)), Rejected)
    asked = len(page.asked)
    assert guard(pool, clock).refusal(page, message(bot)).code == "not_on_whatsapp"
    assert len(page.asked) == asked
    execute(connection, "UPDATE wa_number SET checked_at = now() - interval '2 days'")
    page.absent = ()
    assert guard(pool, clock).refusal(page, message(bot)) is None


def test_a_number_that_was_found_the_second_time_is_written_to(pool, bot, clock):
    page, own = Asked(CHAT), guard(pool, clock)
    assert isinstance(own.refusal(page, message(bot)), Retry)
    page.absent, clock.now = (), 16.0
    assert own.refusal(page, message(bot)) is None


def test_a_failed_look_up_postpones_the_message(pool, bot, clock):
    page = Asked()
    page.broken = True
    assert isinstance(guard(pool, clock).refusal(page, message(bot)), Unavailable)


def test_a_number_in_warm_up_is_held_to_its_limits(pool, connection, bot, clock):
    execute(connection, "INSERT INTO wa_limit (bot_id, per_day, new_chats_per_day) VALUES (%s, 3, 1)", (bot,))
    page, own = Asked(), guard(pool, clock)
    assert own.refusal(page, message(bot)) is None
    stranger = own.refusal(page, message(bot, "60111111111"))
    assert (stranger.code, stranger.scope) == ("warming_up", Scope.CHAT)
    execute(connection, "INSERT INTO chat (bot_id, chat_id) VALUES (%s, %s)", (bot, CHAT))
    assert [own.refusal(page, message(bot)) for _ in range(2)] == [None, None]
    full = own.refusal(page, message(bot))
    assert (full.code, full.scope) == ("warming_up", Scope.BOT)
    assert 0 < full.after <= 86400
    assert own.refusal(page, message(bot, kind="reaction")) is None
    counted = "SELECT sum(messages), sum(new_chats) FROM wa_sent WHERE bot_id = %s"
    assert execute(connection, counted, (bot,)) == [(3, 1)]


def test_messages_are_counted_without_limits_too(pool, connection, bot, clock):
    own = guard(pool, clock)
    for _ in range(3):
        assert own.refusal(Asked(), message(bot)) is None
    assert execute(connection, "SELECT sum(messages) FROM wa_sent") == [(3,)]


def test_a_key_is_stored_and_removed(pool, connection, bot, clock):
    own = guard(pool, clock)
    own.reserve(message(bot), KEY)
    assert execute(connection, "SELECT key_id FROM wa_key") == [("3EB0AA",)]
    own.reserve(message(bot), None)
