"""The messages of both sides, and the updates that webhooks have to deliver."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from services.sandbox.database import Database

_ADD_MESSAGE = """
INSERT INTO message (at, phone_number_id, recipient, kind, text, target, callback_data, wamid, answer, request)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_INBOUND = """
INSERT INTO inbound (at, phone_number_id, chat, wamid, kind, text, target, media, echo)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_UPDATE = """
INSERT INTO webhook_update (wamid, phone_number_id, status, body, due, field, account) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_DUE = """
SELECT id, phone_number_id, account, field, status, body FROM webhook_update
WHERE delivered_at IS NULL AND due <= ? ORDER BY due, id LIMIT ?"""
_POSTPONE = """
UPDATE webhook_update SET attempts = attempts + 1, due = :now + min(:last, :first * (1 << min(attempts, 20)))
WHERE id = :id"""
_MESSAGES = """
SELECT seq, at, phone_number_id, recipient AS "to", kind AS type, text, target,
       callback_data AS biz_opaque_callback_data, wamid, answer, request,
       (SELECT group_concat(status, ' ') FROM (
           SELECT status FROM webhook_update WHERE wamid = message.wamid AND delivered_at IS NOT NULL
           ORDER BY delivered_at, id)) AS reported
FROM message"""
_CHAT_OF = """
SELECT phone_number_id, chat FROM inbound WHERE wamid = :wamid
UNION ALL SELECT phone_number_id, recipient FROM message WHERE wamid = :wamid"""
_INBOUND = "seq, at, phone_number_id, chat, wamid, kind, text, target, media, read_at"
_MARK_READ = """
UPDATE inbound SET read_at = ? WHERE phone_number_id = ? AND chat = ? AND seq <= ? AND read_at IS NULL"""


class SendRequest(NamedTuple):
    """A request of the business, accepted or not: a row of `message`."""

    at: float  # seconds since the epoch
    phone_number_id: str
    recipient: str
    kind: str
    text: str
    target: str | None
    callback_data: str | None
    wamid: str | None
    answer: str
    request: str


class InboundMessage(NamedTuple):
    """A message of a customer, or, as an echo, of the business with its own phone."""

    at: float
    phone_number_id: str
    chat: str
    wamid: str
    kind: str
    text: str
    target: str | None = None
    media: str | None = None
    echo: bool = False


class WebhookUpdate(NamedTuple):
    """An element of a webhook's `statuses`, or, without a status, the whole value of a change."""

    wamid: str
    phone_number_id: str
    status: str
    body: str
    due: float  # seconds since the epoch
    field: str = "messages"
    account: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects messages of the business. None selects all."""

    phone_number_id: str | None = None
    to: str | None = None
    text: str | None = None  # a part of the message's text
    callback_data: str | None = None
    accepted: bool | None = None
    after: int = 0  # seq
    kind: str | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """A WHERE clause and its values."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return "WHERE " + " AND ".join(_CONDITIONS[name] for name in values), values


_CONDITIONS = {
    "phone_number_id": "phone_number_id = :phone_number_id",
    "to": "recipient = :to",
    "text": "instr(text, :text)",
    "callback_data": "callback_data = :callback_data",
    "accepted": "(wamid IS NOT NULL OR answer = '200') = :accepted",
    "after": "seq > :after",
    "kind": "kind = :kind",
}


class Store:
    """The tables of messages and updates. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, request: SendRequest, updates: Iterable[WebhookUpdate] = ()) -> None:
        """Store a request of the business together with the updates that follow from it."""
        with self._database.transaction() as connection:
            connection.execute(_ADD_MESSAGE, request)
            connection.executemany(_ADD_UPDATE, updates)

    def add_inbound(self, messages: Sequence[InboundMessage], updates: Iterable[WebhookUpdate]) -> None:
        """Store messages of customers together with the updates that deliver them."""
        with self._database.transaction() as connection:
            connection.executemany(_ADD_INBOUND, messages)
            connection.executemany(_ADD_UPDATE, updates)

    def messages(self, which: Filter, limit: int) -> list[dict[str, Any]]:
        """The requests of the business in the order of their arrival."""
        condition, values = which.condition()
        rows = self._database.rows(f"{_MESSAGES} {condition} ORDER BY seq LIMIT {limit:d}", values)
        return list(map(_with_parsed_request, rows))

    def latest_messages(self, limit: int) -> list[dict[str, Any]]:
        """The last requests of the business, the latest first."""
        return list(map(_with_parsed_request, self._database.rows(f"{_MESSAGES} ORDER BY seq DESC LIMIT {limit:d}")))

    def latest_inbound(self, limit: int) -> list[dict[str, Any]]:
        """The last messages of customers, the latest first."""
        return self._database.rows(f"SELECT {_INBOUND} FROM inbound WHERE NOT echo ORDER BY seq DESC LIMIT {limit:d}")

    def accepted_by_callback_data(self, which: Filter) -> dict[str, int]:
        """How many messages were accepted with each callback data: more than one are duplicates."""
        condition, values = which.condition()
        rows = self._database.rows(
            f"SELECT callback_data, count(*) AS n FROM message {condition}"
            " AND callback_data IS NOT NULL AND wamid IS NOT NULL GROUP BY callback_data",
            values,
        )
        return {row["callback_data"]: row["n"] for row in rows}

    def count(self, which: Filter) -> int:
        """How many requests of the business there are."""
        condition, values = which.condition()
        return int(self._database.rows(f"SELECT count(*) AS n FROM message {condition}", values)[0]["n"])

    def is_in_chat(self, wamid: str, phone_number_id: str, chat: str) -> bool:
        """Whether a message of either side belongs to a chat."""
        rows = self._database.rows(_CHAT_OF, {"wamid": wamid})
        return any(row["phone_number_id"] == phone_number_id and row["chat"] == chat for row in rows)

    def last_inbound_at(self, phone_number_id: str, chat: str) -> float | None:
        """When a customer last wrote to a number."""
        query = "SELECT max(at) AS at FROM inbound WHERE phone_number_id = ? AND chat = ? AND NOT echo"
        at: float | None = self._database.rows(query, (phone_number_id, chat))[0]["at"]
        return at

    def mark_read(self, wamid: str, phone_number_id: str, now: float) -> str | None:
        """Mark a message and all earlier ones of its chat as read. Returns the chat; None if the message is unknown."""
        query = "SELECT seq, chat FROM inbound WHERE wamid = ? AND phone_number_id = ? AND NOT echo"
        rows = self._database.rows(query, (wamid, phone_number_id))
        with self._database.transaction() as connection:
            connection.executemany(_MARK_READ, [(now, phone_number_id, row["chat"], row["seq"]) for row in rows])
        return rows[0]["chat"] if rows else None

    def due_updates(self, now: float, limit: int) -> list[dict[str, Any]]:
        """The updates to deliver now, the oldest first."""
        return self._database.rows(_DUE, (now, limit))

    def next_due(self) -> float | None:
        """When the next update is due."""
        query = "SELECT min(due) AS due FROM webhook_update WHERE delivered_at IS NULL"
        due: float | None = self._database.rows(query)[0]["due"]
        return due

    def count_undelivered(self) -> int:
        """How many updates are not delivered."""
        query = "SELECT count(*) AS n FROM webhook_update WHERE delivered_at IS NULL"
        return int(self._database.rows(query)[0]["n"])

    def mark_delivered(self, ids: Iterable[int], now: float) -> None:
        """Record that updates were delivered."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE webhook_update SET delivered_at = ? WHERE id = ?", [(now, update_id) for update_id in ids]
            )

    def postpone(self, ids: Iterable[int], now: float, first: float, last: float) -> None:
        """Retry updates later: `first` seconds after the first attempt, then twice as long each time up to `last`."""
        values = {"now": now, "first": first, "last": last}
        with self._database.transaction() as connection:
            connection.executemany(_POSTPONE, [values | {"id": update_id} for update_id in ids])

    def clear(self) -> None:
        """Delete everything."""
        with self._database.transaction() as connection:
            for table in ("message", "inbound", "webhook_update"):
                connection.execute(f"DELETE FROM {table}")


def _with_parsed_request(row: dict[str, Any]) -> dict[str, Any]:
    try:
        row["request"] = orjson.loads(row["request"])
    except orjson.JSONDecodeError:
        row["request"] = None
    return row
