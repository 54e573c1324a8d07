"""The checks before a message leaves a session: its number, the warm-up limits, its key."""

from typing import Any

import pytest

from services.connectors.wwebjs.browser.page import CallFailed
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.database.connection import DatabaseError
from services.message import Outgoing, Rejected, Retry, Scope, Unavailable
from services.outbox.accept import Entry
from services.outbox.keyed_claims import SpareIds
from services.outbox.store import Outbox
from tests.support.outbox import accept, add_bot, execute

CHAT, KEY = "60123456789", "true_60123456789@c.us_3EB0AA"


class Asked:
    """A page that knows who is on WhatsApp, and generates the same key for every message."""

    def __init__(self, *absent):
        self.absent, self.asked = absent, []
        self.broken = self.keyless = self.dead = False

    def call_directly(self, function, chats, spare):
        assert function == "__wa.admitAll"
        if self.dead:
            raise CallFailed("no_function", "the page is not ready")
        messages = [self.answer(chat, unknown) for chat, unknown in chats]
        return {"messages": messages, "spareIds": [f"3EB0{n}" for n in range(spare)]}

    def answer(self, chat, unknown):
        if unknown:
            self.asked.append(chat)
            if self.broken:
                return {"found": None, "code": None, "message": "no network"}
            if chat.partition("@")[0] in self.absent:
                return {"found": False, "key": None}
        if self.keyless:
            return {"found": True, "code": "chat_not_found", "message": "no such chat"}
        return {"found": True, "key": KEY}


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


class Guard:
    """A guard that is asked about one message at a time."""

    def __init__(self, pool, clock):
        self.guard = DatabaseSendGuard(pool, 16.0, clock)
        self.reserve = self.guard.reserve

    def admit(self, page, message):
        (admitted,) = self.guard.admit(page, [message]).values()
        return admitted


guard = Guard


def message(bot, chat=CHAT, number=1):
    return Outgoing(number, f"01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c{number}", bot, chat, "text", {"message": "x"}, 0)


def test_a_number_is_asked_for_once(pool, bot, clock):
    page, own = Asked(), guard(pool, clock)
    assert own.admit(page, message(bot)) == KEY
    assert own.admit(page, message(bot)) == KEY
    assert guard(pool, clock).admit(page, message(bot)) == KEY
    assert page.asked == [f"{CHAT}@c.us"]


@pytest.mark.parametrize("chat", ["120363000000000001@g.us", "123456789012345@lid"])
def test_groups_and_hidden_numbers_are_not_asked_for(pool, bot, clock, chat):
    page = Asked()
    assert guard(pool, clock).admit(page, message(bot, chat)) == KEY
    assert page.asked == []


def test_a_chat_with_history_is_not_looked_up(pool, connection, bot, clock):
    execute(connection, "INSERT INTO chat (bot_id, chat_id) VALUES (%s, %s)", (bot, CHAT))
    execute(
        connection,
        "INSERT INTO messages (company_id, contact_id, phone_index, message_id) VALUES ('0128', '0128-60111', 0, 'a')",
    )
    page, own = Asked(), guard(pool, clock)
    for chat in (CHAT, "60111"):
        assert own.admit(page, message(bot, chat)) == KEY
    assert page.asked == []


def test_a_number_that_was_not_found_is_asked_for_again_before_the_message_fails(pool, connection, bot, clock):
    page, own = Asked(CHAT), guard(pool, clock)
    first = own.admit(page, message(bot))
    assert (type(first), first.after, first.scope) == (Retry, 16.0, Scope.CHAT)
    clock.now = 16.0
    assert isinstance(own.admit(page, message(bot)), Rejected)
    asked = len(page.asked)
    assert guard(pool, clock).admit(page, message(bot)).code == "not_on_whatsapp"
    assert len(page.asked) == asked
    execute(connection, "UPDATE wa_number SET checked_at = now() - interval '2 days'")
    page.absent = ()
    assert guard(pool, clock).admit(page, message(bot)) == KEY


def test_a_number_that_was_found_the_second_time_is_written_to(pool, bot, clock):
    page, own = Asked(CHAT), guard(pool, clock)
    assert isinstance(own.admit(page, message(bot)), Retry)
    page.absent, clock.now = (), 16.0
    assert own.admit(page, message(bot)) == KEY


def test_a_failed_look_up_postpones_the_message(pool, bot, clock):
    page = Asked()
    page.broken = True
    assert isinstance(guard(pool, clock).admit(page, message(bot)), Unavailable)


def test_a_number_in_warm_up_is_held_to_its_limits(pool, connection, bot, clock):
    execute(connection, "INSERT INTO wa_limit (bot_id, per_day, new_chats_per_day) VALUES (%s, 3, 1)", (bot,))
    page, own = Asked(), guard(pool, clock)
    assert own.admit(page, message(bot)) == KEY
    stranger = own.admit(page, message(bot, "60111111111"))
    assert (stranger.code, stranger.scope) == ("warming_up", Scope.CHAT)
    execute(connection, "INSERT INTO chat (bot_id, chat_id) VALUES (%s, %s)", (bot, CHAT))
    assert [own.admit(page, message(bot)) for _ in range(2)] == [KEY, KEY]
    full = own.admit(page, message(bot))
    assert (full.code, full.scope) == ("warming_up", Scope.BOT)
    assert 0 < full.after <= 86400
    counted = "SELECT sum(messages), sum(new_chats) FROM wa_sent WHERE bot_id = %s"
    assert execute(connection, counted, (bot,)) == [(3, 1)]


def test_messages_are_counted_without_limits_too(pool, connection, bot, clock):
    own = guard(pool, clock)
    for _ in range(3):
        assert own.admit(Asked(), message(bot)) == KEY
    assert execute(connection, "SELECT sum(messages) FROM wa_sent") == [(3,)]


def test_an_admitted_message_has_its_key_in_the_outbox(pool, connection, bot, clock):
    accept(connection, Entry(message(bot).message_id, "wwebjs", bot, "0128", 0, CHAT, "text", {"message": "x"}))
    (claimed,) = Outbox("wwebjs", "host/session/1", 1e6, 60, bot_id=bot).claim(connection, 1)
    assert guard(pool, clock).admit(Asked(), claimed) == KEY
    assert execute(connection, "SELECT provider_id FROM outbox") == [(KEY,)]
    assert execute(connection, "SELECT key_id FROM wa_key") == [("3EB0AA",)]


def test_a_message_without_a_key_is_refused(pool, connection, bot, clock):
    page = Asked()
    page.keyless = True
    assert guard(pool, clock).admit(page, message(bot)).code == "chat_not_found"
    assert execute(connection, "SELECT FROM wa_key") == []


def test_a_message_whose_key_cannot_be_stored_is_not_admitted(pool, connection, bot, clock):
    execute(connection, "ALTER TABLE wa_key ADD CHECK (key_id <> '3EB0AA')")
    with pytest.raises(DatabaseError):
        guard(pool, clock).admit(Asked(), message(bot))


def test_a_key_is_stored_and_removed(pool, connection, bot, clock):
    own = guard(pool, clock)
    own.reserve(message(bot), KEY)
    assert execute(connection, "SELECT key_id FROM wa_key") == [("3EB0AA",)]
    own.reserve(message(bot), None)


def test_messages_of_several_chats_are_admitted_together(pool, connection, bot, clock):
    execute(connection, "INSERT INTO wa_limit (bot_id, new_chats_per_day) VALUES (%s, 2)", (bot,))
    chats = ["60111111111", "60122222222", "60133333333", "60144444444"]
    page: Any = Asked(chats[1])
    found = DatabaseSendGuard(pool, 16.0, clock).admit(
        page, [message(bot, chat, n) for n, chat in enumerate(chats, 1)]
    )  # fmt: skip
    codes = [each if isinstance(each, str) else each.code for each in map(found.get, (1, 2, 3, 4))]
    assert codes == [KEY, "number_check", KEY, "warming_up"]
    assert execute(connection, "SELECT messages, new_chats FROM wa_sent") == [(2, 2)]
    known = execute(connection, "SELECT chat_id FROM wa_number WHERE registered ORDER BY 1")
    assert known == [(chats[0],), (chats[2],), (chats[3],)]


def test_nothing_leaves_while_the_page_is_not_ready(pool, connection, bot, clock):
    page = Asked()
    page.dead = True
    assert isinstance(guard(pool, clock).admit(page, message(bot)), Unavailable)
    execute(connection, "INSERT INTO chat (bot_id, chat_id) VALUES (%s, %s)", (bot, CHAT))
    assert isinstance(guard(pool, clock).admit(page, message(bot)), Retry)
    assert execute(connection, "SELECT FROM wa_sent") == []


def test_spare_ids_are_requested_with_the_keys(pool, bot, clock):
    ids = SpareIds()
    own = DatabaseSendGuard(pool, 16.0, clock, ids)
    page: Any = Asked()
    own.admit(page, [message(bot)])
    assert (ids.missing, ids.take(2)) == (0, ["3EB00", "3EB01"])
    own.admit(page, [message(bot)])
    assert ids.missing == 0
