"""The messages of both sides, as WhatsApp's servers have them: each once, however often it comes."""

import secrets
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

import orjson

from services.sandbox.database import Database
from services.sandbox.web.page_updates import PageUpdates

#: Messages that a page gets when it is loaded, at most.
HISTORY = 2000
#: The acknowledgements: none yet, WhatsApp has it, the phone has it, it was read, it was played.
UNSENT, SENT, DELIVERED, READ, PLAYED = 0, 1, 2, 3, 4

_ADD = """
INSERT INTO message (number, key, chat, from_me, at, ack, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (number, key) DO NOTHING"""
_ARRIVE = "INSERT INTO arrival (number, key, attempt, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
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
_ACT = "INSERT INTO action (at, number, kind, chat, about, text) VALUES (?, ?, ?, ?, ?, ?)"
_FIELDS = ("key", "chat", "from_me", "ack")


def new_id() -> str:
    """The part of a message's key that is its own."""
    return f"3A{secrets.token_hex(9).upper()}"


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    """A message as pages are told it."""
    body: dict[str, Any] = orjson.loads(row["body"])
    return body | {name: row[name] for name in _FIELDS} | {"from_me": bool(row["from_me"])}


class Chats:
    """The tables of messages and what is about them. Safe for threads."""

    def __init__(self, database: Database, news: PageUpdates) -> None:
        self._database, self._news = database, news

    def take(
        self, number: str, message: dict[str, Any], attempt: str, ack: int, receipts: Iterable[tuple[int, float]]
    ) -> None:  # fmt: skip
        """A page sends a message, which has this `ack` now; `receipts` are to come of it: (ack, when)."""
        now = time.time()
        with self._database.transaction() as connection:
            connection.execute(_ARRIVE, (number, message["key"], attempt, now))
            if self._add(connection, number, message, now, UNSENT):
                rows = [(number, message["key"], ack, due) for ack, due in receipts]
                connection.executemany("INSERT INTO receipt (number, key, ack, due) VALUES (?, ?, ?, ?)", rows)
            connection.execute(_RAISE_ACK, (ack, number, message["key"], ack))
        self._news.wake()

    def add(self, number: str, messages: Iterable[dict[str, Any]], ack: int) -> None:
        """Messages of customers, or of the business's own phone."""
        with self._database.transaction() as connection:
            for each in messages:
                self._add(connection, number, each, time.time(), ack)
        self._news.wake()

    def _add(
        self, connection: sqlite3.Connection, number: str, message: dict[str, Any], now: float, ack: int
    ) -> bool:  # fmt: skip
        mine = message["key"].startswith("true_")
        row = (number, message["key"], message["chat"], mine, now, ack, orjson.dumps(message).decode())
        if connection.execute(_ADD, row).rowcount != 1:
            return False
        self._news.tell(connection, number, kind="message", message={**message, "from_me": mine, "ack": ack})
        return True

    def find(self, number: str, key: str) -> dict[str, Any] | None:
        """A message as pages are told it."""
        rows = self._database.rows("SELECT * FROM message WHERE number = ? AND key = ?", (number, key))
        return as_told(rows[0]) if rows else None

    def history(self, number: str) -> dict[str, Any]:
        """The latest messages and the chats, for a page that was loaded."""
        rows = self._database.rows(_HISTORY, (number, HISTORY))
        return {"messages": [as_told(row) for row in rows], "chats": self._database.rows(_UNREAD, (number,))}

    def found(self, number: str | None, text: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Messages in the order of their arrival, with how often each came."""
        condition = "seq > ? AND (? IS NULL OR number = ?) AND (? IS NULL OR instr(body, ?))"
        values = (after, number, number, text, text, limit)
        rows = self._database.rows(f"{_LIST} WHERE {condition} ORDER BY seq LIMIT ?", values)
        return [_listed(row) for row in rows]

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last ones, in the order of their arrival."""
        rows = self._database.rows(f"SELECT * FROM ({_LIST} ORDER BY seq DESC LIMIT ?) ORDER BY seq", (limit,))
        return [_listed(row) for row in rows]

    def acknowledge(self, number: str, key: str, ack: int) -> None:
        """A customer's phone says how far a message came; it never goes back."""
        with self._database.transaction() as connection:
            self._acknowledge(connection, number, key, ack)
        self._news.wake()

    def _acknowledge(self, connection: sqlite3.Connection, number: str, key: str, ack: int) -> None:
        if connection.execute(_RAISE_ACK, (ack, number, key, ack)).rowcount:
            self._news.tell(connection, number, kind="ack", key=key, ack=ack)

    def settle(self) -> float | None:
        """The acknowledgements come that are due; returns when the next is."""
        due = self._database.rows("SELECT rowid, * FROM receipt WHERE due <= ? ORDER BY due", (time.time(),))
        if due:
            with self._database.transaction() as connection:
                for row in due:
                    gone = connection.execute("DELETE FROM receipt WHERE rowid = ?", (row["rowid"],)).rowcount
                    if gone:
                        self._acknowledge(connection, row["number"], row["key"], row["ack"])
            self._news.wake()
        found: float | None = self._database.rows("SELECT min(due) AS due FROM receipt")[0]["due"]
        return found

    def change(self, number: str, news: dict[str, Any], **values: Any) -> dict[str, Any]:
        """An edit or a revocation: the message `news["about"]` has these values from now on."""
        message = self.find(number, news["about"])
        with self._database.transaction() as connection:
            if message is not None:
                body = orjson.dumps(message | values).decode()
                connection.execute(
                    "UPDATE message SET body = ? WHERE number = ? AND key = ?", (body, number, news["about"])
                )
            self._news.tell(connection, number, kind="message", message=news)
        self._news.wake()
        return news

    def react(self, number: str, about: str, sender: str, text: str, key: str | None = None) -> None:
        """Somebody reacts to a message; no text takes it back. With a `key`, a customer's, pages are told."""
        with self._database.transaction() as connection:
            connection.execute(_REACT, (number, about, sender, text))
            if key:
                self._news.tell(connection, number, kind="reaction", key=key, about=about, text=text, sender=sender)
        self._news.wake()

    def see(self, number: str, chat: str) -> None:
        """The business has read a chat."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE message SET seen = 1 WHERE number = ? AND chat = ?", (number, chat))
            self._news.tell(connection, number, kind="seen", chat=chat)
        self._news.wake()

    def forget(self, number: str, key: str) -> None:
        """The business deletes a message for itself alone."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM message WHERE number = ? AND key = ?", (number, key))

    def act(self, number: str, kind: str, chat: str = "", about: str = "", text: str = "") -> None:
        """Remember what a page did."""
        with self._database.transaction() as connection:
            connection.execute(_ACT, (time.time(), number, kind, chat, about, text))

    def actions(self, number: str | None) -> list[dict[str, Any]]:
        """What pages did besides sending, in its order."""
        return self._database.rows("SELECT * FROM action WHERE ? IS NULL OR number = ? ORDER BY seq", (number, number))


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    reactions = {sender: text for sender, text in orjson.loads(row["reactions"]).items() if text}
    facts = {name: row[name] for name in ("seq", "number", "at", "arrivals")}
    return as_told(row) | facts | {"seen": bool(row["seen"]), "reactions": reactions}
