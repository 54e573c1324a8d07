"""Messages accepted for a WhatsApp Web number leave through the real browser, once and in the order of the chat."""

import io
import queue
import threading
import time
from contextlib import suppress
from ipaddress import ip_network
from typing import Unpack

import pytest
from uuid_utils import uuid7

from bisnesctl import wajs
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.page import CallTimeout, PageLost
from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.sending import page_send
from services.connectors.wwebjs.sending.page_sends import PageSends
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.connectors.wwebjs.translation.connector import WwebjsConnector
from services.media.fetch import Fetcher
from services.media.folder import FolderStore
from services.message import Payload
from services.outbox import message_status
from services.outbox.accept import Entry
from services.outbox.delivery import Delivery
from services.outbox.journal import Journal
from services.outbox.outcome_policy import Attempts
from services.outbox.recovery import KeyedRecovery
from services.outbox.store import Outbox
from services.runtime.account_cache import find_bot_by_id
from tests.support.file_beginnings import MP4, OGG, PNG, WEBP
from tests.support.outbox import accept, add_bot, execute, open_database
from tests.support.waiting import Patience

NUMBER = "60110000003"
CHATS = [f"6012345678{n}" for n in range(4)]
CHAT = CHATS[0]
GROUP = "120363000000000001@g.us"


class Surfer:
    """A browser with a profile, which is linked; another one takes its place when it is lost."""

    def __init__(self, sandbox, profile):
        self._options = BrowserOptions(profile, sandbox.page_url, wajs.pinned_path())
        self.launch()
        sandbox.scan(NUMBER)
        self.works()

    def launch(self):
        self.browser = Browser(self._options)
        self.browser.launch()
        self.browser.open()

    @property
    def page(self):
        return self.browser.page

    def works(self):
        patience = Patience(60)
        while (health := self.page.health(30.0)) and not (health.full and health.mode == "MAIN"):
            assert not patience.is_over()
            time.sleep(0.05)

    def renew(self):
        self.browser.kill()
        self.launch()
        self.works()


@pytest.fixture(scope="module")
def surfer(sandbox, tmp_path_factory):
    surfer = Surfer(sandbox, tmp_path_factory.mktemp("profile"))
    yield surfer
    surfer.browser.kill()


class Died(BaseException):
    """Ends the thread of a process that is killed."""


class Session:
    """The sending part of a session, and nothing else."""

    def __init__(self, surfer, database, connection, bot, folder):
        self.surfer, self.database, self.connection, self.bot, self.folder = surfer, database, connection, bot, folder
        self.media = FolderStore(folder / "media")
        self.runs = 0
        self.begin()

    def begin(self):
        """A process begins, which takes over what the one before had in hand."""
        self.runs += 1
        connector = WwebjsConnector(Settings(), self.media, Fetcher((ip_network("127.0.0.1/32"),)))
        self.sends = PageSends(DatabaseSendGuard(self.database, confirm_seconds=0.2), rate=1e4)
        outbox = Outbox("wwebjs", f"host/session/{self.runs}", 1e6, 60, bot_id=self.bot.id)
        journal = Journal(self.folder / f"{self.runs}.journal", self.sends.size)
        journal.begin(str(self.runs))
        attempts = Attempts(3, 0.05)
        self.delivery = Delivery(
            connector, outbox, self.database, lambda _: self.bot, journal, self.sends, attempts
        )  # fmt: skip
        KeyedRecovery(outbox, self.bot.id).of_earlier_runs(self.connection)

    def die(self):
        """The process is gone, and its browser with it; nothing more is written down."""

        def end(*_):
            raise Died

        for name in ("_exchange", "_collect"):  # at any point of its thread
            setattr(self.delivery, name, end)
        while self.delivery.working:
            time.sleep(0.01)
        self.surfer.renew()

    def accept(self, kind="text", chat=CHAT, **payload: Unpack[Payload]):
        entry = Entry(str(uuid7()), "wwebjs", self.bot.id, "0128", 0, chat, kind, payload)
        accept(self.connection, entry)
        return entry.message_id

    def keep(self, data, mime_type):
        """A file of ours, as a payload names it."""
        kept = self.media.put("0128", io.BytesIO(data), mime_type, 1 << 20)
        return {"key": kept.key, "mimeType": mime_type}

    def outcome(self, message_id):
        return message_status.statuses_of(self.connection, [message_id])[message_id]

    def work(self):
        """One turn."""
        threading.Thread(target=self._deliver, daemon=True).start()
        self._hear()
        try:
            if not self.sends.turn(self.surfer.page):
                time.sleep(0.01)
        except PageLost:
            self.surfer.renew()
        except CallTimeout:
            time.sleep(0.1)

    def _hear(self):
        """Pass on the page's reports on calls that send."""
        with suppress(queue.Empty):
            while True:
                event = self.surfer.browser.events.get_nowait()
                if isinstance(event, PageEvent) and event.name == "send.ended":
                    self.sends.hear(event.data)

    def _deliver(self):
        with suppress(Died):
            self.delivery.wake()

    def until(self, condition):
        """Work until the condition holds, and return what it says."""
        patience = Patience(90)
        while not (found := condition()):
            assert not patience.is_over()
            self.work()
        return found

    def settled(self, *message_ids):
        """Work until all of these have their outcome; returns statuses and codes."""
        self.until(lambda: all(self.outcome(each)[0].settled for each in message_ids))
        return [(found.status.value, found.code) for found in map(self.outcome, message_ids)]


@pytest.fixture
def session(surfer, sandbox, database, tmp_path):
    pool, connection = open_database(database)
    number = add_bot(connection, kind="wwebjs")
    bot = find_bot_by_id(connection, number)
    sandbox.wa("reset")
    session = Session(surfer, pool, connection, bot, tmp_path)
    yield session
    session.delivery.stop()
    session.sends.close()
    session.until(lambda: not session.delivery.working)
    connection.close()
    pool.close()


SENT = ("sent", None)


def once(sandbox):
    """The texts that arrived, each of which must have come once."""
    answer = sandbox.wa_get("messages", number=NUMBER)
    assert answer["doubles"] == []
    return [each["body"] or each["caption"] for each in answer["messages"] if each["arrivals"]]


def test_texts_arrive_with_their_key_in_the_order_of_the_chat(sandbox, session):
    ids = [session.accept(message=f"text {n}") for n in range(5)]
    assert session.settled(*ids) == [SENT] * 5
    assert once(sandbox) == [f"text {n}" for n in range(5)]
    keys = [each["key"] for each in sandbox.wa_sent(number=NUMBER)]
    assert [session.outcome(each)[1] for each in ids] == keys


def test_every_kind_arrives(sandbox, session):
    (incoming,) = sandbox.wa_say(NUMBER, text="Hello?", **{"from": CHAT})
    link = f"{sandbox.page_url}client/screen.css"
    ids = [
        session.accept(message="an answer", quoted_provider_id=incoming),
        session.accept(message="see @60123456781", chat=GROUP, mentions=["60123456781"]),
        session.accept("image", media=session.keep(PNG, "image/png"), caption="a picture"),
        session.accept("video", media=session.keep(MP4, "video/mp4")),
        session.accept("audio", media=session.keep(OGG, "audio/ogg")),
        session.accept("audio", media=session.keep(OGG, "audio/ogg"), voice=True),
        session.accept("sticker", media=session.keep(WEBP, "image/webp")),
        session.accept("document", media={"link": link}, filename="screen.css", caption="a document"),
        session.accept("reaction", reaction="👍", target_provider_id=incoming),
        session.accept("read", typing=True, target_provider_id=incoming),
    ]
    assert session.settled(*ids) == [SENT] * len(ids)
    once(sandbox)
    sent = {each["key"]: each for each in sandbox.wa_sent(number=NUMBER)}
    found = [sent[session.outcome(each)[1]] for each in ids[:8]]
    types = ["chat", "chat", "image", "video", "audio", "ptt", "sticker", "document"]
    assert [each["type"] for each in found] == types
    assert found[0]["quoted"] in incoming
    assert found[1]["mentions"] == ["60123456781@c.us"]
    assert (found[2]["caption"], found[7]["caption"]) == ("a picture", "a document")
    assert (found[7]["media"]["filename"], found[5]["media"]["size"]) == ("screen.css", len(OGG))
    kinds = {each["kind"] for each in sandbox.wa_get("actions", number=NUMBER)["actions"]}
    assert {"react", "seen", "typing"} <= kinds


def test_a_message_is_edited_and_deleted(sandbox, session):
    said = session.accept(message="frist")
    session.settled(said)
    key = session.outcome(said)[1]
    edit = session.accept("edit", message="first", target_provider_id=key)
    assert session.settled(edit) == [SENT]
    session.until(lambda: sandbox.wa_sent(number=NUMBER)[0]["body"] == "first")
    deletions = [session.accept("delete", deleteForEveryone=True, target_provider_id=each) for each in (key, f"{key}0")]
    assert session.settled(*deletions) == [SENT, ("failed", "msg_not_found")]
    session.until(lambda: sandbox.wa_sent(number=NUMBER)[0]["type"] == "revoked")


def test_a_received_message_is_deleted_on_our_own_devices_only(sandbox, session):
    (incoming,) = sandbox.wa_say(NUMBER, text="no", **{"from": CHAT})
    session.until(lambda: session.surfer.page.call("__wa.find", incoming))
    everyone = session.accept("delete", deleteForEveryone=True, target_provider_id=incoming)
    assert session.settled(everyone) == [("failed", "deleted_locally")]


def test_a_number_that_is_not_on_whatsapp_is_not_written_to(sandbox, session):
    sandbox.wa("absent", number="60199999999")
    nobody = session.accept(message="anybody?", chat="60199999999")
    somebody = session.accept(message="hello")
    assert session.settled(somebody, nobody) == [SENT, ("failed", "not_on_whatsapp")]
    assert once(sandbox) == ["hello"]
    found = execute(session.connection, "SELECT chat_id, registered FROM wa_number ORDER BY chat_id")
    assert found == [(CHAT, True), ("60199999999", False)]


def test_a_message_that_whatsapp_refused_is_sent_under_another_key(sandbox, session):
    sandbox.wa("behaviour", match="twice", times=1, answer="refused")
    message = session.accept(message="twice")
    assert session.settled(message) == [SENT]
    assert once(sandbox) == ["twice"]
    assert len(execute(session.connection, "SELECT key_id FROM wa_key")) == 2


def test_an_unacknowledged_chat_does_not_delay_others(sandbox, session):
    sandbox.wa("behaviour", match="slow", times=1, answer="unacknowledged")
    slow = session.accept(message="slow")
    after = session.accept(message="after")
    others = [session.accept(message="quick", chat=chat) for chat in CHATS[1:]]
    assert session.settled(*others) == [SENT] * 3
    assert not session.outcome(slow)[0].settled
    key = session.outcome(slow)[1]
    sandbox.wa("ack", number=NUMBER, key=key, ack=2)
    assert session.settled(slow, after) == [SENT] * 2
    assert once(sandbox)[-1] == "after"


def test_a_send_that_timed_out_is_looked_up(sandbox, session, monkeypatch):
    monkeypatch.setattr(page_send, "SEND_TIMEOUT_SECONDS", 1.0)
    session.settled(session.accept(message="before"))
    sandbox.wa("hang", number=NUMBER, milliseconds=4000)
    ids = [session.accept(message=f"text {n}", chat=chat) for n, chat in enumerate(CHATS)]
    assert session.settled(*ids) == [SENT] * 4
    assert sorted(once(sandbox)) == ["before", "text 0", "text 1", "text 2", "text 3"]


def test_no_message_is_lost_with_the_page(sandbox, session):
    ids = [session.accept(message=f"{chat[-1]}.{n}", chat=chat) for n in range(8) for chat in CHATS]
    session.until(lambda: len(sandbox.wa_sent(number=NUMBER)) >= 8)
    sandbox.wa("crash", number=NUMBER)
    assert session.settled(*ids) == [SENT] * len(ids)
    in_order(once(sandbox))


def test_no_message_is_lost_with_the_process(sandbox, session):
    ids = [session.accept(message=f"{chat[-1]}.{n}", chat=chat) for n in range(8) for chat in CHATS]
    session.until(lambda: len(sandbox.wa_sent(number=NUMBER)) >= 10)
    session.die()
    session.begin()
    assert session.settled(*ids) == [SENT] * len(ids)
    in_order(once(sandbox))


def in_order(texts):
    for chat in CHATS:
        assert [text for text in texts if text[0] == chat[-1]] == [f"{chat[-1]}.{n}" for n in range(8)]
