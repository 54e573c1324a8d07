"""The messages of both sides, as WhatsApp's servers have them. A message that arrives several times is stored once."""

import secrets
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

import orjson

from services.sandbox.database import Database
from services.sandbox.web.page_updates import PageUpdates

#: Messages that a page gets when it is loaded, at most.
MAX_HISTORY_MESSAGES = 2000

# The values of `ack`.
UNSENT = 0
SENT = 1  # WhatsApp's server has the message
DELIVERED = 2  # the customer's phone has it
READ = 3
PLAYED = 4

_ADD = """
INSERT INTO message (number, key, chat, from_me, at, ack, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (number, key) DO NOTHING"""
_ADD_ARRIVAL = "INSERT INTO arrival (number, key, attempt, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_ADD_PENDING_ACK = "INSERT INTO pending_ack (number, key, ack, due) VALUES (?, ?, ?, ?)"
_RAISE_ACK = "UPDATE message SET ack = ? WHERE number = ? AND key = ? AND ack < ?"
_HISTORY = """
SELECT * FROM (SELECT * FROM message WHERE number = ? ORDER BY seq DESC LIMIT ?) ORDER BY seq"""
_UNREAD = """
SELECT chat, count(*) FILTER (WHERE NOT from_me AND NOT seen) AS unread FROM message WHERE number = ? GROUP BY chat"""
_LIST = """
SELECT seq, number, key, chat, from_me, at, ack, seen, body,
       (SELECT count(*) FROM arrival WHERE arrival.number = message.number AND arrival.key = message.key) AS arrivals,
       (SELECT json_group_object(sender, text) FROM reaction
        WHERE reaction.number = message.number AND about = key) AS reactions
FROM message"""
_REACT = """
INSERT INTO reaction (number, about, sender, text) VALUES (?, ?, ?, ?)
ON CONFLICT (number, about, sender) DO UPDATE SET text = excluded.text"""
_ADD_ACTION = "INSERT INTO action (at, number, kind, chat, about, text) VALUES (?, ?, ?, ?, ?, ?)"
_PAGE_COLUMNS = ("key", "chat", "from_me", "ack")


def new_id() -> str:
    """The last part of a new message's key."""
    return f"3A{secrets.token_hex(9).upper()}"


def page_message(row: dict[str, Any]) -> dict[str, Any]:
    """A message as pages get it."""
    body: dict[str, Any] = orjson.loads(row["body"])
    return body | {name: row[name] for name in _PAGE_COLUMNS} | {"from_me": bool(row["from_me"])}


class Chats:
    """The tables of messages and of everything that refers to them. Thread-safe."""

    def __init__(self, database: Database, updates: PageUpdates) -> None:
        self._database = database
        self._updates = updates

    def add_sent(
        self, number: str, message: dict[str, Any], attempt: str, ack: int, pending_acks: Iterable[tuple[int, float]]
    ) -> None:  # fmt: skip
        """Store a message that a page sends, with this `ack`. `pending_acks` follow: (ack, when)."""
        now = time.time()
        with self._database.transaction() as connection:
            connection.execute(_ADD_ARRIVAL, (number, message["key"], attempt, now))
            if self._add(connection, number, message, now, UNSENT):
                rows = [(number, message["key"], pending, due) for pending, due in pending_acks]
                connection.executemany(_ADD_PENDING_ACK, rows)
            connection.execute(_RAISE_ACK, (ack, number, message["key"], ack))
        self._updates.wake()

    def add(self, number: str, messages: Iterable[dict[str, Any]], ack: int) -> None:
        """Store messages of customers, or of the business's own phone."""
        with self._database.transaction() as connection:
            for message in messages:
                self._add(connection, number, message, time.time(), ack)
        self._updates.wake()

    def _add(self, connection: sqlite3.Connection, number: str, message: dict[str, Any], now: float, ack: int) -> bool:
        """Store a message, unless it is known."""
        from_me = message["key"].startswith("true_")
        row = (number, message["key"], message["chat"], from_me, now, ack, orjson.dumps(message).decode())
        if connection.execute(_ADD, row).rowcount != 1:
            return False
        self._updates.add(connection, number, kind="message", message={**message, "from_me": from_me, "ack": ack})
        return True

    def find(self, number: str, key: str) -> dict[str, Any] | None:
        """A message as pages get it."""
        rows = self._database.rows("SELECT * FROM message WHERE number = ? AND key = ?", (number, key))
        return page_message(rows[0]) if rows else None

    def history(self, number: str) -> dict[str, Any]:
        """The latest messages and the chats, for a page that is being loaded."""
        rows = self._database.rows(_HISTORY, (number, MAX_HISTORY_MESSAGES))
        return {"messages": [page_message(row) for row in rows], "chats": self._database.rows(_UNREAD, (number,))}

    def search(self, number: str | None, text: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Messages in the order of their arrival, each with its number of arrivals."""
        condition = "seq > ? AND (? IS NULL OR number = ?) AND (? IS NULL OR instr(body, ?))"
        values = (after, number, number, text, text, limit)
        rows = self._database.rows(f"{_LIST} WHERE {condition} ORDER BY seq LIMIT ?", values)
        return [_listed(row) for row in rows]

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last messages, in the order of their arrival."""
        rows = self._database.rows(f"SELECT * FROM ({_LIST} ORDER BY seq DESC LIMIT ?) ORDER BY seq", (limit,))
        return [_listed(row) for row in rows]

    def acknowledge(self, number: str, key: str, ack: int) -> None:
        """Raise the acknowledgement of a message. It never goes back."""
        with self._database.transaction() as connection:
            self._acknowledge(connection, number, key, ack)
        self._updates.wake()

    def _acknowledge(self, connection: sqlite3.Connection, number: str, key: str, ack: int) -> None:
        if connection.execute(_RAISE_ACK, (ack, number, key, ack)).rowcount:
            self._updates.add(connection, number, kind="ack", key=key, ack=ack)

    def apply_due_acks(self) -> float | None:
        """Apply the acknowledgements that are due. Returns when the next one is."""
        due = self._database.rows("SELECT rowid, * FROM pending_ack WHERE due <= ? ORDER BY due", (time.time(),))
        if due:
            with self._database.transaction() as connection:
                for row in due:
                    # Another thread may have applied it since.
                    if connection.execute("DELETE FROM pending_ack WHERE rowid = ?", (row["rowid"],)).rowcount:
                        self._acknowledge(connection, row["number"], row["key"], row["ack"])
            self._updates.wake()
        next_due: float | None = self._database.rows("SELECT min(due) AS due FROM pending_ack")[0]["due"]
        return next_due

    def change(self, number: str, update: dict[str, Any], **values: Any) -> dict[str, Any]:
        """Edit or revoke the message `update["about"]`: give it these values, and send the update to the pages."""
        key = update["about"]
        message = self.find(number, key)
        with self._database.transaction() as connection:
            if message is not None:
                body = orjson.dumps(message | values).decode()
                connection.execute("UPDATE message SET body = ? WHERE number = ? AND key = ?", (body, number, key))
            self._updates.add(connection, number, kind="message", message=update)
        self._updates.wake()
        return update

    def react(self, number: str, about: str, sender: str, text: str, key: str | None = None) -> None:
        """Add a reaction to a message, or remove it with an empty text. A `key`, as customers' have one, informs the
        pages."""
        with self._database.transaction() as connection:
            connection.execute(_REACT, (number, about, sender, text))
            if key:
                self._updates.add(connection, number, kind="reaction", key=key, about=about, text=text, sender=sender)
        self._updates.wake()

    def mark_seen(self, number: str, chat: str) -> None:
        """Record that the business has read a chat."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE message SET seen = 1 WHERE number = ? AND chat = ?", (number, chat))
            self._updates.add(connection, number, kind="seen", chat=chat)
        self._updates.wake()

    def delete(self, number: str, key: str) -> None:
        """Delete a message for the business alone."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM message WHERE number = ? AND key = ?", (number, key))

    def add_action(self, number: str, kind: str, chat: str = "", about: str = "", text: str = "") -> None:
        """Record an action of a page."""
        with self._database.transaction() as connection:
            connection.execute(_ADD_ACTION, (time.time(), number, kind, chat, about, text))

    def actions(self, number: str | None) -> list[dict[str, Any]]:
        """The actions of a number's pages, or of all pages, in order."""
        return self._database.rows("SELECT * FROM action WHERE ? IS NULL OR number = ? ORDER BY seq", (number, number))


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    reactions = {sender: text for sender, text in orjson.loads(row["reactions"]).items() if text}
    facts = {name: row[name] for name in ("seq", "number", "at", "arrivals")}
    return page_message(row) | facts | {"seen": bool(row["seen"]), "reactions": reactions}
