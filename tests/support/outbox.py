"""Bots, messages and claims for tests of the outbox."""

import itertools
from typing import Any

import psycopg2.extensions
from uuid_utils import uuid7

from services.database.connection import Connection, Database
from services.message import Outgoing, Payload, Status, StatusUpdate
from services.outbox.accept import Earlier, Entry, insert
from services.outbox.outcome_policy import Result
from services.outbox.reports import Report, apply_reports
from services.outbox.store import Outbox

WORKER = "host/meta-worker-1/run1"
_numbers = itertools.count(1)


def outbox(worker: str = WORKER, rate: float = 1e6, lease: float = 60) -> Outbox:
    """One worker's view of the outbox, by default without a rate limit."""
    return Outbox("meta", worker, rate, lease)


def add_bot(
    connection: psycopg2.extensions.connection, company: str = "0128", index: int = 0, kind: str = "meta_direct"
) -> int:
    """Add a bot. Returns its id."""
    ((bot,),) = execute(
        connection,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id)"
        " VALUES (%s, %s, %s, %s) RETURNING id",
        (company, index, kind, f"10{company}{index}"),
    )
    return int(bot)


def entry(bot: int, chat: str = "60123456789", text: str | None = None, **extra: Any) -> Entry:
    """A message to accept."""
    payload: Payload = {"message": text or f"text {next(_numbers)}"}
    return Entry(str(uuid7()), "meta", bot, "0128", 0, chat, "text", payload, **extra)


def accept_or_not(connection: Connection, *entries: Entry) -> tuple[set[str], dict[tuple[str, str], Earlier]]:
    """Accept messages. Returns the ids of the new ones, and the earlier messages with the keys of the others."""
    found = insert(connection, list(entries))
    return found.stored, found.earlier


def accept(connection: Connection, *entries: Entry) -> None:
    """Accept messages, which must all be new."""
    stored, earlier = accept_or_not(connection, *entries)
    assert stored == {entry.message_id for entry in entries}
    assert not earlier


def result(message: Outgoing, status: Status | None = Status.SENT, claim: str = WORKER, **extra: Any) -> Result:
    """The result of a claimed message."""
    final = extra.pop("final", status is not None and status is not Status.QUEUED)
    provider_id = f"wamid.{message.id}" if status is Status.SENT else None
    return Result(message.bot_id, message.chat_id, message.id, claim, final, status, provider_id=provider_id, **extra)


def execute(
    connection: psycopg2.extensions.connection, statement: str, values: tuple[Any, ...] | dict[str, Any] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def apply_statuses(connection: Connection, *updates: StatusUpdate) -> list[Any]:
    """Apply status reports, as the inbox does. Returns the events."""
    reports = [Report(n, update, ["0128"]) for n, update in enumerate(updates)]
    return apply_reports(connection, "meta", "", reports)


def status_of(connection: Connection, message_id: str) -> str:
    """A message's status in the outbox."""
    return str(execute(connection, "SELECT status FROM outbox WHERE message_id = %s", (message_id,))[0][0])


def open_database(dsn: str) -> tuple[Database, Connection]:
    """A connection pool, and a connection of the test's own."""
    database = Database(dsn, 4)
    return database, database.connect()
