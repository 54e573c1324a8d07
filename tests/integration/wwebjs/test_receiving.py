"""Messages of customers, from the simulated network through the real browser to the history."""

import queue
import time

import pytest

from bisnesctl import wajs
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.session.catch_up import CatchUp
from services.connectors.wwebjs.session.media_downloads import MediaDownloads
from services.connectors.wwebjs.session.status_store import StatusStore
from services.media.folder import FolderStore
from tests.support.outbox import execute, open_database
from tests.support.waiting import Patience
from tests.support.web_events import WebBot
from tests.support.web_page import CHAT, CUSTOMER

NUMBER = "60110000002"
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 300
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def browser(sandbox, tmp_path_factory):
    """A browser whose page is linked and works."""
    options = BrowserOptions(tmp_path_factory.mktemp("profile"), sandbox.page_url, wajs.pinned_path())
    browser = Browser(options)
    browser.launch()
    browser.open()
    sandbox.scan(NUMBER)
    works(browser)
    yield browser
    browser.kill()


def works(browser):
    patience = Patience(60)
    while (health := browser.page.health()) and not (health.full and health.mode == "MAIN"):
        assert not patience.is_over()
        time.sleep(0.05)


class Session:
    """The receiving part of a session, and nothing else."""

    def __init__(self, browser, bot, pool, folder):
        self.browser, self.bot, self.page = browser, bot, browser.page
        self.store = FolderStore(folder / "media")
        self.gap = CatchUp(StatusStore(pool, bot.id, lambda *_: None), bot.recorder)
        self.downloads = MediaDownloads(pool, bot.id, self.store, LIMIT, folder / "downloads")
        self.heard = set()
        self.listen()  # what is left of the test before

    def listen(self):
        """Store and apply the events of the page."""
        told = []
        while True:
            try:
                told.append(self.browser.events.get_nowait())
            except queue.Empty:
                break
        events = [each for each in told if isinstance(each, PageEvent)]
        self.bot.recorder.record(events)
        for each in events[-1:]:
            self.browser.acknowledge(each.boot, each.seq)
        self.heard |= {each.name for each in events}
        self.bot.inbox.apply_all(self.bot.connection)

    def until(self, condition):
        """Work until the condition holds, and return what it says."""
        patience = Patience(60)
        while not (found := condition()):
            assert not patience.is_over(), self.bot.events()
            self.listen()
            if not (self.gap.turn(self.page) or self.downloads.turn(self.page)):
                time.sleep(0.02)
        return found

    def told(self, *names):
        """Wait until the customer received as many events, and return their names in order."""
        self.until(lambda: len(self.bot.events()) >= len(names))
        return [name for name, _ in self.bot.events()]

    def kept(self, message_id):
        """The file of a message, once it is kept."""
        found = "SELECT media_metadata FROM messages WHERE id = %s AND media_metadata ? 'key'"
        ((facts,),) = self.until(lambda: execute(self.bot.connection, found, (message_id,)))
        with self.store.open(facts["key"]) as file:
            return file.read()


@pytest.fixture
def session(browser, database, tmp_path):
    """A session of a bot without messages."""
    pool, connection = open_database(database)
    session = Session(browser, WebBot(connection, pool), pool, tmp_path)
    execute(connection, "TRUNCATE messages, contacts, chat, event, webhook_inbox, media_download")
    execute(connection, "UPDATE wa_session SET own_number = %s", (NUMBER,))
    yield session
    connection.close()
    pool.close()


def test_messages_of_customers_are_reported_once_and_in_order(sandbox, session):
    (first,) = sandbox.wa_say(NUMBER, text="Hello", name="Aina")
    sandbox.wa_say(NUMBER, text="And?", reply_to=first)
    sandbox.wa_say(NUMBER, type="location", content={"lat": 3.1, "lng": 101.7, "loc": "KLCC"})
    sandbox.wa_say(NUMBER, text="by phone", echo=True)
    sandbox.wa_say(NUMBER, text="who?", hidden=True, number_known=False, **{"from": "60190000001"})
    sandbox.wa_say(NUMBER, text="me!", hidden=True, **{"from": "60190000002"})
    sandbox.wa_say(NUMBER, text="all", group="120363000000000001", duplicates=2)
    names = session.told(*["message", "message.any"] * 6, "message.any")
    assert (names.count("message"), names.count("message.any"), len(names)) == (6, 7, 13)
    told = session.bot.events("message.any")
    assert [each["body"] for each in told] == ["Hello", "And?", "KLCC", "by phone", "who?", "me!", "all"]
    assert [each["fromMe"] for each in told] == [each["body"] == "by phone" for each in told]
    assert (told[0]["name"], told[0]["to"], told[0]["chatId"]) == ("Aina", NUMBER, CUSTOMER)
    assert told[1]["replyTo"] == {"id": first}
    assert told[4]["chatId"].endswith("@lid")
    assert told[5]["chatId"] == "60190000002"
    assert (told[6]["chatId"], told[6]["author"]) == ("120363000000000001@g.us", CUSTOMER)
    assert session.bot.aside() == []


def test_reactions_edits_revocations_and_calls_are_reported(sandbox, session):
    (first,) = sandbox.wa_say(NUMBER, text="Helo")
    session.told("message", "message.any")
    sandbox.wa_say(NUMBER, type="edit", message_id=first, text="Hello")
    session.told(*"123")
    sandbox.wa_say(NUMBER, emoji="❤", message_id=first)
    session.told(*"1234")
    sandbox.wa_say(NUMBER, type="revoke", message_id=first)
    session.told(*"12345")
    sandbox.wa_say(NUMBER, type="call", video=True)
    assert session.told(*"123456") == [
        "message", "message.any", "message.edited", "message.reaction", "message.revoked", "call"
    ]  # fmt: skip
    ((row,),) = execute(
        session.bot.connection,
        "SELECT jsonb_build_array(content, edited, reaction, status) FROM messages WHERE external_id = %s",
        (first,),
    )
    assert row == ["Hello", True, "❤", "revoked"]
    assert session.bot.events("call")[0]["isVideo"]


def test_files_are_fetched_by_the_page_and_what_is_too_large_is_given_up(sandbox, session):
    sandbox.wa_say(NUMBER, {"file": ("a.jpg", JPEG, "image/jpeg")}, text="Look")
    sandbox.wa_say(NUMBER, {"file": ("a.bin", bytes(LIMIT + 1), "application/octet-stream")})
    session.told(*"1234")
    picture, large = session.bot.events("message")
    assert (picture["body"], picture["hasMedia"], picture["media"]["mimetype"]) == ("Look", True, "image/jpeg")
    assert session.kept(picture["id"]) == JPEG
    ((error,),) = session.until(
        lambda: execute(session.bot.connection, "SELECT error FROM media_download WHERE due = 'infinity'")
    )
    assert str(LIMIT) in error
    assert large["media"]["filename"] == "a.bin"


def test_a_file_that_the_page_does_not_get_is_fetched_later(sandbox, session):
    sandbox.wa_say(NUMBER, {"file": ("a.jpg", JPEG, "image/jpeg")})
    while not session.bot.history():
        session.listen()
    ((key,),) = session.bot.history("external_id")
    change = "UPDATE media_download SET due = now(), media = media || jsonb_build_object('id', %s)"
    execute(session.bot.connection, change, ("false_1@c.us_3A",))
    session.until(lambda: execute(session.bot.connection, "SELECT error FROM media_download WHERE error <> ''"))
    execute(session.bot.connection, change, (key,))
    assert session.kept(session.bot.events("message")[0]["id"]) == JPEG


def test_our_own_message_is_stored_once_whatever_the_page_reports(sandbox, session):
    number = session.bot.accept()
    key = session.page.call("__wa.newKey", CHAT)
    claimed = session.bot.begin(key)
    options = {"messageId": key, "waitForAck": False, "linkPreview": False}
    session.page.call("WPP.chat.sendTextMessage", CHAT, "Hi", options)
    session.until(lambda: session.bot.status(number) == "read")  # before the outcome is written down
    session.bot.record(claimed, key)
    session.gap.begin()
    session.told("message.any", "message.ack", "message.ack", "message.ack")
    assert [payload["id"] for payload in session.bot.events("message.any")] == [number]
    assert session.bot.history("id::text, status") == [(number, "read")]
    assert [each["arrivals"] for each in sandbox.wa_sent(text="Hi")] == [1]


def test_a_new_page_catches_up_on_missed_messages(sandbox, session):
    time.sleep(1)  # messages are dated to the second, and those of other tests are not to be asked for
    execute(session.bot.connection, "UPDATE wa_session SET caught_up_at = now()")
    (first, second) = (sandbox.wa_say(NUMBER, text=text)[0] for text in ("Helo", "Bye"))
    session.told(*"1234")
    number = session.bot.accept()
    key = session.page.call("__wa.newKey", CHAT)
    session.bot.begin(key)
    session.page.call("WPP.chat.sendTextMessage", CHAT, "Hi", {"messageId": key, "waitForAck": True})
    session.browser.page.open("about:blank")
    session.bot.restart()  # the process died without a word of the outcome
    sandbox.wa_say(NUMBER, type="edit", message_id=first, text="Hello")
    sandbox.wa_say(NUMBER, type="revoke", message_id=second)
    sandbox.wa_say(NUMBER, {"file": ("a.jpg", JPEG, "image/jpeg")}, text="Look")
    sandbox.wa_say(NUMBER, text="late", count=120)
    sandbox.wa_say(NUMBER, text="by phone", echo=True)
    session.browser.open()
    works(session.browser)
    for _ in range(2):
        session.gap.begin()
        session.until(lambda: len(session.bot.events("message")) == 123 and session.bot.status(number) == "read")
    assert session.bot.outbox.claim(session.bot.connection, 5) == []  # nothing is sent again
    pictures = [each for each in session.bot.events("message") if each["hasMedia"]]
    assert session.kept(pictures[0]["id"]) == JPEG
    texts = sorted(text for (text,) in session.bot.history("COALESCE(content, '')"))
    assert texts == sorted(["Hello", "Bye", "Hi", "Look", "by phone", *(f"late {n}" for n in range(1, 121))])
    names = [name for name, _ in session.bot.events()]
    assert (names.count("message.edited"), names.count("message.revoked")) == (1, 1)
    assert names.count("message.any") == 125
    assert session.bot.aside() == []
