"""What the business sent, what customers said, and what is still to be told by webhook."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from services.sandbox.database import Database

_ADD_MESSAGE = """
INSERT INTO message (at, phone_number_id, recipient, kind, text, target, callback_data, wamid, answer, request)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_INBOUND = """
INSERT INTO inbound (at, phone_number_id, chat, wamid, kind, text, target, media)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_REPORT = """
INSERT INTO report (wamid, phone_number_id, status, body, due, field, account) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_DUE = """
SELECT id, phone_number_id, account, field, status, body FROM report
WHERE delivered_at IS NULL AND due <= ? ORDER BY due, id LIMIT ?"""
_POSTPONE = """
UPDATE report SET attempts = attempts + 1, due = :now + min(:last, :first * (1 << min(attempts, 20)))
WHERE id = :id"""
_MESSAGES = """
SELECT seq, at, phone_number_id, recipient AS "to", kind AS type, text, target,
       callback_data AS biz_opaque_callback_data, wamid, answer, request,
       (SELECT group_concat(status, ' ') FROM (
           SELECT status FROM report WHERE wamid = message.wamid AND delivered_at IS NOT NULL
           ORDER BY delivered_at, id)) AS reported
FROM message"""
_KNOWN = """
SELECT phone_number_id, chat FROM inbound WHERE wamid = :wamid
UNION ALL SELECT phone_number_id, recipient FROM message WHERE wamid = :wamid"""

_MARK_READ = """
UPDATE inbound SET read_at = ? WHERE phone_number_id = ? AND chat = ? AND seq <= ? AND read_at IS NULL"""


class Receipt(NamedTuple):
    """A request that came."""

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


class Inbound(NamedTuple):
    """What a customer said."""

    at: float
    phone_number_id: str
    chat: str
    wamid: str
    kind: str
    text: str
    target: str | None = None
    media: str | None = None


class Report(NamedTuple):
    """Something to tell by webhook: one of `statuses`, or, without a status, the whole value of a change."""

    wamid: str
    phone_number_id: str
    status: str
    body: str
    due: float  # seconds since the epoch
    field: str = "messages"
    account: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are asked for; None asks nothing."""

    phone_number_id: str | None = None
    to: str | None = None
    text: str | None = None  # contained in the message's
    callback_data: str | None = None
    accepted: bool | None = None
    after: int = 0  # seq
    kind: str | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """A WHERE clause and its values."""
        asked = {name: value for name, value in asdict(self).items() if value is not None}
        return "WHERE " + " AND ".join(_CONDITIONS[name] for name in asked), asked


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
    """The tables of messages and reports. Safe for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, receipt: Receipt, reports: Iterable[Report] = ()) -> None:
        """Remember a request and what is to be reported about it, both or neither."""
        with self._database.transaction() as connection:
            connection.execute(_ADD_MESSAGE, receipt)
            connection.executemany(_ADD_REPORT, reports)

    def hear(self, said: Sequence[Inbound], reports: Iterable[Report]) -> None:
        """Remember what customers said, and the webhooks that tell of it, all or nothing."""
        with self._database.transaction() as connection:
            connection.executemany(_ADD_INBOUND, said)
            connection.executemany(_ADD_REPORT, reports)

    def messages(self, asked: Filter, limit: int) -> list[dict[str, Any]]:
        """The requests in the order of their arrival."""
        condition, values = asked.condition()
        return list(map(_read, self._database.rows(f"{_MESSAGES} {condition} ORDER BY seq LIMIT {limit:d}", values)))

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last requests, the latest first."""
        return list(map(_read, self._database.rows(f"{_MESSAGES} ORDER BY seq DESC LIMIT {limit:d}")))

    def inbound(self, limit: int) -> list[dict[str, Any]]:
        """What customers said last, the latest first."""
        return self._database.rows(f"SELECT * FROM inbound ORDER BY seq DESC LIMIT {limit:d}")

    def receipts(self, asked: Filter) -> dict[str, int]:
        """How often each callback data was taken."""
        condition, values = asked.condition()
        rows = self._database.rows(
            f"SELECT callback_data, count(*) AS n FROM message {condition}"
            " AND callback_data IS NOT NULL AND wamid IS NOT NULL GROUP BY callback_data",
            values,
        )
        return {row["callback_data"]: row["n"] for row in rows}

    def count(self, asked: Filter) -> int:
        """How many requests there are."""
        condition, values = asked.condition()
        return int(self._database.rows(f"SELECT count(*) AS n FROM message {condition}", values)[0]["n"])

    def knows(self, wamid: str, phone_number_id: str, chat: str) -> bool:
        """Whether a message of either side belongs to a chat."""
        found = self._database.rows(_KNOWN, {"wamid": wamid})
        return any(row["phone_number_id"] == phone_number_id and row["chat"] == chat for row in found)

    def last_inbound(self, phone_number_id: str, chat: str) -> float | None:
        """When a customer last said something to a number."""
        query = "SELECT max(at) AS at FROM inbound WHERE phone_number_id = ? AND chat = ?"
        found: float | None = self._database.rows(query, (phone_number_id, chat))[0]["at"]
        return found

    def mark_read(self, wamid: str, phone_number_id: str, now: float) -> str | None:
        """The business has read this and what came before it. Returns the chat, None where there is no such message."""
        query = "SELECT seq, chat FROM inbound WHERE wamid = ? AND phone_number_id = ?"
        found = self._database.rows(query, (wamid, phone_number_id))
        with self._database.transaction() as connection:
            connection.executemany(_MARK_READ, [(now, phone_number_id, row["chat"], row["seq"]) for row in found])
        return found[0]["chat"] if found else None

    def due(self, now: float, limit: int) -> list[dict[str, Any]]:
        """The reports to deliver by now."""
        return self._database.rows(_DUE, (now, limit))

    def next_due(self) -> float | None:
        """When the next report is due."""
        query = "SELECT min(due) AS due FROM report WHERE delivered_at IS NULL"
        found: float | None = self._database.rows(query)[0]["due"]
        return found

    def waiting(self) -> int:
        """How many reports are not delivered."""
        query = "SELECT count(*) AS n FROM report WHERE delivered_at IS NULL"
        return int(self._database.rows(query)[0]["n"])

    def mark_delivered(self, ids: Iterable[int], now: float) -> None:
        """These reports arrived."""
        with self._database.transaction() as connection:
            connection.executemany("UPDATE report SET delivered_at = ? WHERE id = ?", [(now, each) for each in ids])

    def postpone(self, ids: Iterable[int], now: float, first: float, last: float) -> None:
        """These reports are tried again later: `first` seconds after the first try, then twice as many each time, at
        most `last`."""
        wait = {"now": now, "first": first, "last": last}
        with self._database.transaction() as connection:
            connection.executemany(_POSTPONE, [wait | {"id": each} for each in ids])

    def clear(self) -> None:
        """Forget everything."""
        with self._database.transaction() as connection:
            for table in ("message", "inbound", "report"):
                connection.execute(f"DELETE FROM {table}")


def _read(row: dict[str, Any]) -> dict[str, Any]:
    """A request as it is listed, with the JSON that came."""
    try:
        row["request"] = orjson.loads(row["request"])
    except orjson.JSONDecodeError:
        row["request"] = None
    return row
