"""A WhatsApp Web bot without its browser: events as its page reports them, and its outbox, in a real PostgreSQL."""

import itertools
import time
from typing import Any, cast

from uuid_utils import uuid7

from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.translation.incoming import parse
from services.database.connection import Connection, Database
from services.inbox.webhook_inbox import Inbox
from services.message import Outgoing, Payload, Status
from services.outbox.accept import Entry
from services.outbox.outcome_policy import Result
from services.outbox.recovery import KeyedRecovery
from services.outbox.store import Outbox
from tests.support.outbox import accept, execute, status_of

CUSTOMER = "60123456789"
OWN = "60111222333"
CHAT = f"{CUSTOMER}@c.us"
GROUP = "120363000000000001@g.us"
_numbers = itertools.count(1)


def event(name: str, data: dict[str, Any] | None, at: float | None = None) -> PageEvent:
    """An event of a page."""
    return PageEvent("boot", next(_numbers), at or time.time(), name, data)


def message(key: str, kind: str = "chat", **more: Any) -> dict[str, Any]:
    """A message as the page reports it."""
    name = None if key.startswith("true") else "Aina"
    return {"id": key, "type": kind, "t": time.time(), "ack": 1, "name": name} | more


def said(key: str, body: str | None = "Hello", **more: Any) -> PageEvent:
    """The event of a new message."""
    return event("chat.new_message", message(key, body=body, **more))


def acked(ack: int, *keys: str) -> PageEvent:
    """The event of a new acknowledgement."""
    return event("chat.msg_ack_change", {"ack": ack, "ids": list(keys), "chat": CHAT})


class WebBot:
    """A linked number whose company has an event feed."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self.connection = connection
        execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128') ON CONFLICT DO NOTHING")
        ((self.id,),) = execute(
            connection,
            "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('0128', 0, 'wwebjs')"
            " RETURNING id",
        )
        execute(connection, "INSERT INTO wa_session (bot_id, own_number) VALUES (%s, %s)", (self.id, OWN))
        self.inbox = Inbox("wwebjs", parse, "https://bots.example", self.id)
        self.guard = DatabaseSendGuard(database)
        self.sent_keys: list[str] = []  # of the messages that the process sends
        self.woken = 0  # how often the inbox was woken
        self.recorder = EventRecorder(
            database, self.id, self.inbox, self._count_wakeup, lambda key: key in self.sent_keys
        )  # fmt: skip
        self.restart()

    def _count_wakeup(self) -> None:
        self.woken += 1

    def restart(self) -> None:
        """Serve the bot from another process, which recovers the messages that the earlier one had claimed."""
        self.outbox = Outbox("wwebjs", f"host/session/{next(_numbers)}", 1e6, 60, bot_id=self.id)
        self.recovery = KeyedRecovery(self.outbox, self.id)
        self.recovery.of_earlier_runs(self.connection)

    def tell(self, *events: PageEvent) -> None:
        """Record events of the page, and apply them."""
        self.recorder.record(list(events))
        self.inbox.apply_all(self.connection)

    def accept(self, kind: str = "text", chat: str = CUSTOMER, **payload: Any) -> str:
        """Accept a message. Returns its id."""
        stored = cast(Payload, payload or {"message": "Hi"})
        entry = Entry(str(uuid7()), "wwebjs", self.id, "0128", 0, chat, kind, stored)
        accept(self.connection, entry)
        return entry.message_id

    def begin(self, key: str | None = None) -> Outgoing:
        """Claim the message that is due and reserve a key for it, as before every send."""
        (claimed,) = self.outbox.claim(self.connection, 1)
        if key:
            self.guard.reserve(claimed, key)
        return claimed

    def record(self, claimed: Outgoing, key: str | None = None, status: Status | None = Status.SENT) -> None:
        """Record the outcome of a claimed message; a status of None: no attempt was made."""
        final = status not in (None, Status.QUEUED)
        result = Result(
            self.id, claimed.chat_id, claimed.id, self.outbox.worker, final, status, provider_id=key if final else None
        )
        self.outbox.record(self.connection, [result])

    def send(self, key: str, kind: str = "text", **payload: Any) -> str:
        """Accept and send a message. Returns its id."""
        message_id = self.accept(kind, **payload)
        self.record(self.begin(key), key)
        return message_id

    def events(self, name: str | None = None) -> list[Any]:
        """The payloads of the customer's events of this name, or (name, payload) of all."""
        rows = execute(self.connection, "SELECT name, payload FROM event WHERE company_id = '0128' ORDER BY seq")
        return rows if name is None else [payload for each, payload in rows if each == name]

    def history(self, columns: str = "content, from_me, status") -> list[tuple[Any, ...]]:
        """The rows of the history."""
        return execute(self.connection, f"SELECT {columns} FROM messages ORDER BY timestamp, external_id")

    def status(self, message_id: str) -> str:
        """The status of a message in the outbox."""
        return status_of(self.connection, message_id)

    def aside(self) -> list[str]:
        """The errors of events that could not be applied."""
        return [error for (error,) in execute(self.connection, "SELECT error FROM webhook_inbox WHERE error <> ''")]
