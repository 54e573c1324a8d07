"""A number of Meta whose webhooks are applied to a real PostgreSQL, with its history and events to look at."""

import json
from typing import Any

import psycopg2

from services.connectors.meta.translation.incoming import parse
from services.database.connection import Connection
from services.inbox.webhook_inbox import Inbox
from services.outbox.outcome_policy import Result
from tests.support.meta_payloads import AINA, value, webhook
from tests.support.outbox import accept, add_bot, entry, execute, outbox

Json = dict[str, Any]
AT = 1_790_000_000


class MetaInbox:
    """The number 1055 of the company 0128, which asked for events."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128') ON CONFLICT DO NOTHING")
        self.bot = add_bot(connection)
        execute(
            connection,
            "UPDATE phone_configs SET meta_phone_number_id = '1055', meta_waba_id = 'W1',"
            " display_phone_number = '+60 3-1111 2222' WHERE id = %s",
            (self.bot,),
        )

    def tell(self, *bodies: Json) -> None:
        """Apply webhooks, each in a transaction of its own."""
        for body in bodies:
            execute(
                self.connection, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', %s)",
                (psycopg2.Binary(json.dumps(body).encode()),),
            )  # fmt: skip
            Inbox("meta", parse, "https://bots.example").apply_all(self.connection)

    def say(self, *messages: Json, field: str = "messages", **more: Any) -> None:
        """Apply a webhook for each of the messages."""
        for message in messages:
            self.tell(webhook(value(message, **more), field=field))

    def report(self, *statuses: Json) -> None:
        """Apply a webhook for each of the status reports."""
        for status in statuses:
            self.tell(webhook(value(statuses=[{"timestamp": str(AT), "recipient_id": AINA} | status])))

    def send(self, wamid: str = "wamid.ours", chat: str = AINA, recipient: str | None = None) -> str:
        """Accept a text and record that it was sent. Returns our id of it."""
        new = entry(self.bot, chat, "Hi")
        accept(self.connection, new)
        (claimed,) = outbox().claim(self.connection, 1)
        sent = Result(self.bot, chat, claimed.id, outbox().worker, True, "sent", provider_id=wamid, recipient=recipient)  # type: ignore[arg-type]
        outbox().record(self.connection, [sent])
        return new.message_id

    def rows(self, columns: str = "contact_id, content, status") -> list[tuple[Any, ...]]:
        """The rows of the history."""
        return execute(self.connection, f"SELECT {columns} FROM messages ORDER BY timestamp, external_id")

    def contacts(self, columns: str = "contact_id, name, unread_count") -> list[tuple[Any, ...]]:
        """The rows of the contacts."""
        return execute(self.connection, f"SELECT {columns} FROM contacts ORDER BY contact_id")

    def windows(self) -> list[tuple[Any, ...]]:
        """The chats, and whether they have a window."""
        return execute(self.connection, "SELECT chat_id, user_id, window_until IS NOT NULL FROM chat ORDER BY chat_id")

    def events(self, name: str | None = None) -> list[Any]:
        """The payloads of the customer's events of this name, or (name, payload) of all."""
        rows = execute(self.connection, "SELECT name, payload FROM event WHERE company_id = '0128' ORDER BY seq")
        return rows if name is None else [payload for each, payload in rows if each == name]

    def aside(self) -> list[str]:
        """The reasons of webhooks that could not be applied."""
        return [row[0] for row in execute(self.connection, "SELECT error FROM webhook_inbox WHERE error IS NOT NULL")]
