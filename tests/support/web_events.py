"""A bot of WhatsApp Web without its browser: events as its page tells them, and its outbox, in a real PostgreSQL."""

import itertools
import time

from uuid_utils import uuid7

from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.translation.incoming import parse
from services.inbox.webhook_inbox import Inbox
from services.message import Status
from services.outbox import recovery
from services.outbox.accept import Entry
from services.outbox.outcome_policy import Result
from services.outbox.recovery import KeyedRecovery
from services.outbox.store import Outbox
from tests.support.outbox import accept, execute

CUSTOMER, OWN = "60123456789", "60111222333"
CHAT, GROUP = f"{CUSTOMER}@c.us", "120363000000000001@g.us"
_numbers = itertools.count(1)


def event(name, data, at=None):
    """An event of a page."""
    return PageEvent("boot", next(_numbers), at or time.time(), name, data)


def message(key, kind="chat", **more):
    """A message as the page tells it."""
    name = None if key.startswith("true") else "Aina"
    return {"id": key, "type": kind, "t": time.time(), "ack": 1, "name": name} | more


def said(key, body="Hello", **more):
    return event("chat.new_message", message(key, body=body, **more))


def acked(ack, *keys):
    return event("chat.msg_ack_change", {"ack": ack, "ids": list(keys), "chat": CHAT})


class WebBot:
    """A linked number whose company asked for events."""

    def __init__(self, connection, database):
        self.connection = connection
        execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128') ON CONFLICT DO NOTHING")
        ((self.id,),) = execute(
            connection,
            "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('0128', 0, 'wwebjs')"
            " RETURNING id",
        )
        execute(connection, "INSERT INTO wa_session (bot_id, own_number) VALUES (%s, %s)", (self.id, OWN))
        self.inbox = Inbox("wwebjs", parse, "https://bots.example", self.id)
        self.recorder = EventRecorder(database, self.id, lambda: None)
        self.restart()

    def restart(self):
        """Another process serves the bot; returns nothing before it took over what the one before had in hand."""
        self.outbox = Outbox("wwebjs", f"host/session/{next(_numbers)}", 1e6, 60, bot_id=self.id)
        self.recovery = KeyedRecovery(self.outbox, self.id)
        self.recovery.of_earlier_runs(self.connection)

    def tell(self, *events):
        """The page tells something, and it is applied."""
        self.recorder.record(list(events))
        self.inbox.apply_all(self.connection)

    def accept(self, kind="text", chat=CUSTOMER, **payload):
        """A message to send; returns its id."""
        entry = Entry(str(uuid7()), "wwebjs", self.id, "0128", 0, chat, kind, payload or {"message": "Hi"})
        accept(self.connection, entry)
        return entry.message_id

    def begin(self, key=None):
        """Claim what is due and reserve a key for it, as before every send."""
        (claimed,) = self.outbox.claim(self.connection, 1)
        if key:
            recovery.reserve(self.connection, claimed, key)
        return claimed

    def record(self, claimed, key=None, status=Status.SENT):
        """Write down what became of it; a status of None: no attempt was made."""
        final = status not in (None, Status.QUEUED)
        result = Result(
            self.id, claimed.chat_id, claimed.id, self.outbox.worker, final, status, provider_id=key if final else None
        )
        self.outbox.record(self.connection, [result])

    def send(self, key, kind="text", **payload):
        """A message that was sent; returns its id."""
        message_id = self.accept(kind, **payload)
        self.record(self.begin(key), key)
        return message_id

    def events(self, name=None):
        """The payloads of the customer's events of that name, or (name, payload) of all."""
        rows = execute(self.connection, "SELECT name, payload FROM event WHERE company_id = '0128' ORDER BY seq")
        return rows if name is None else [payload for each, payload in rows if each == name]

    def history(self, columns="content, from_me, status"):
        """The rows of the history."""
        return execute(self.connection, f"SELECT {columns} FROM messages ORDER BY timestamp, external_id")

    def status(self, message_id):
        """Of a message of the outbox."""
        ((status,),) = execute(self.connection, "SELECT status FROM outbox WHERE message_id = %s", (message_id,))
        return status

    def aside(self):
        """Why events were set aside."""
        return [error for (error,) in execute(self.connection, "SELECT error FROM webhook_inbox WHERE error <> ''")]
