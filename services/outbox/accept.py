"""Acceptance: messages that wait together share one INSERT and one commit, and are answered after it.

A caller whose message was reported as not stored sends it again. So the message must not be stored after all when a
database that hung continues. Three measures ensure that:

- The INSERT stores nothing if the server begins it after the first caller of the batch was answered. The server
  compares by its own clock; each answer tells us how far that is from ours.
- `statement_timeout` ends an INSERT in the middle of which the server hung.
- If the answer is missing all the same, the outcome is looked up on the next connection before anything else is stored
  there. Messages whose ids no caller got are withdrawn, unless a worker has claimed them. Those with an idempotency key
  stay: their callers get their ids with the next request, from any process, and may have got them already.

If the server refuses to withdraw messages, they stay in doubt, and new messages are stored nevertheless: one damaged or
locked row must not stop all messages. A server that can store nothing refuses the INSERT as well.

(INSERT and COMMIT as two steps cost a seventh of the throughput.)

Lock order: lanes in order of (bot, chat), then outbox rows in order of their key.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import structlog

from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    Statement,
    clock,
    end_backends,
    is_broken,
    query,
    run,
)
from services.database.group_commit import TIDY_INTERVAL_SECONDS, Batch, CallersLeft, GroupCommit
from services.message import Payload
from services.wakeups import Notifier, session_queue

if TYPE_CHECKING:
    import asyncio

#: Milliseconds for which a withdrawal waits for a locked lane: the messages of others wait behind it.
WITHDRAW_LOCK_MILLISECONDS = 500
#: Messages that share one commit, at most.
MAX_BATCH = 256
#: Seconds from a message's arrival to its commit; afterwards its caller gets the answer that it was not stored.
ACCEPT_SECONDS = 5.0
#: The channel whose messages workers send; those of others belong to a session each, which is woken by itself.
WORKERS_CHANNEL = "meta"
#: Server-side limit of the connection: milliseconds for a statement.
SERVER_TIMEOUT = {"statement_timeout": "5000"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """A message to be accepted."""

    message_id: str
    channel: str  # the one that will send it
    bot_id: int
    company_id: str
    phone_index: int
    chat_id: str
    kind: str
    payload: Payload
    idempotency_key: str | None = None
    digest: str | None = None  # SHA-256 in hex of the request, with an idempotency key
    request_id: str | None = None  # of the request that it came with


@dataclass(frozen=True, slots=True)
class Earlier:
    """The message that an idempotency key was first used for, and the digest of that request."""

    digest: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Insertion:
    """The result of one INSERT, which stores either all new messages of a batch or, if it is too late, none."""

    stored: set[str]  # ids of the messages that are new and now durable
    earlier: dict[tuple[str, str], Earlier]  # by company and idempotency key that had been used before
    at: float | None  # the database's time, in seconds since the epoch; None: nothing was stored


class IdempotencyConflict(Exception):
    """The idempotency key was used for another request."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is durable. `repeated`: it was so before, under the same idempotency key."""

    message_id: str
    repeated: bool = False


_INPUT = """
WITH input_rows AS (
    SELECT * FROM ROWS FROM (json_to_recordset(%(rows)s::json) AS (
        message_id uuid, bot_id int, company_id text, phone_index int, chat_id text, kind text, payload jsonb,
        idempotency_key text, digest text, request_id text)) WITH ORDINALITY
    WHERE (SELECT clock_timestamp() < to_timestamp(%(not_after)s))
), """
_NEW_KEYS = """new_keys AS (
    INSERT INTO idempotency_keys (company_id, key, digest, message_id)
    SELECT company_id, idempotency_key, decode(digest, 'hex'), message_id FROM input_rows
    WHERE idempotency_key IS NOT NULL ORDER BY company_id, idempotency_key
    ON CONFLICT DO NOTHING RETURNING message_id
), new_rows AS (
    SELECT * FROM input_rows WHERE idempotency_key IS NULL OR message_id IN (SELECT message_id FROM new_keys)
), """


def _insert_from(rows: str) -> str:
    """SQL that stores the messages of a CTE.

    The lanes are locked before the first id is drawn, so the ids of a chat become visible in their order.
    """
    return f"""locked AS (
    INSERT INTO lane AS l (bot_id, chat_id, pending, accepted)
    SELECT bot_id, chat_id, count(*), count(*) FROM {rows} GROUP BY bot_id, chat_id ORDER BY bot_id, chat_id
    ON CONFLICT (bot_id, chat_id) DO UPDATE
        SET pending = l.pending + excluded.pending, accepted = l.accepted + excluded.accepted,
            due = CASE WHEN l.pending = 0 THEN now() ELSE l.due END
    RETURNING bot_id, chat_id
)
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, request_id)
SELECT bot_id, chat_id, message_id, company_id, phone_index, kind, payload, request_id
FROM {rows} JOIN locked USING (bot_id, chat_id) ORDER BY ordinality
RETURNING message_id::text, extract(epoch FROM clock_timestamp())::float, (
    SELECT pg_notify(%(announced_on)s, '') WHERE %(announced_on)s IS NOT NULL)  -- once, if anything is stored"""


# The time is compared once, when the server begins the statement.
_TYPES = {"rows": "json", "not_after": "float", "announced_on": "text"}
_INSERT = Statement("accept", _INPUT + _insert_from("input_rows"), **_TYPES)
_INSERT_WITH_KEYS = Statement("accept_with_keys", _INPUT + _NEW_KEYS + _insert_from("new_rows"), **_TYPES)

_EARLIER = """
SELECT company_id, key, encode(digest, 'hex'), message_id::text FROM idempotency_keys
WHERE (company_id, key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""

_EXISTING = "SELECT message_id::text FROM outbox WHERE message_id = ANY(%s::uuid[])"

# Messages that a worker has in hand, or had, stay.
_WITHDRAW = f"""
SET LOCAL lock_timeout = {WITHDRAW_LOCK_MILLISECONDS};
WITH found AS (
    SELECT bot_id, chat_id, id FROM outbox
    WHERE message_id = ANY(%s::uuid[]) AND status = 'queued' AND attempts = 0
), locked AS (
    SELECT bot_id, chat_id, done, CASE WHEN claim IS NOT NULL THEN head END AS in_hand FROM lane
    WHERE (bot_id, chat_id) IN (SELECT bot_id, chat_id FROM found) ORDER BY bot_id, chat_id FOR UPDATE
), withdrawn AS (
    DELETE FROM outbox o USING found f JOIN locked l USING (bot_id, chat_id)
    WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id
        AND f.id > l.done AND f.id IS DISTINCT FROM l.in_hand
    RETURNING o.bot_id, o.chat_id, o.message_id
), freed AS (
    UPDATE lane l SET pending = l.pending - w.n
    FROM (SELECT bot_id, chat_id, count(*) AS n FROM withdrawn GROUP BY bot_id, chat_id) w
    WHERE l.bot_id = w.bot_id AND l.chat_id = w.chat_id
)
SELECT message_id::text FROM withdrawn"""


def announced_on(channel: str) -> str:
    """The name under which PostgreSQL announces the accepted messages of a channel."""
    return f"bisnes_{channel}_messages"


def insert(connection: Connection, entries: list[Entry], not_after: float = math.inf) -> Insertion:
    """Store messages in one commit, in their order, unless the database's clock is past `not_after` by then.

    The commit announces those that workers send. `not_after`: seconds since the epoch.
    """
    announced = announced_on(WORKERS_CHANNEL) if any(each.channel == WORKERS_CHANNEL for each in entries) else None
    values = {"rows": orjson.dumps(entries).decode(), "not_after": not_after, "announced_on": announced}
    has_keys = any(each.idempotency_key is not None for each in entries)
    found = run(connection, (_INSERT_WITH_KEYS if has_keys else _INSERT, values))
    stored = {row[0] for row in found}
    earlier: dict[tuple[str, str], Earlier] = {}
    if repeated := [entry for entry in entries if entry.message_id not in stored]:
        names = [entry.company_id for entry in repeated], [entry.idempotency_key for entry in repeated]
        for company, key, digest, message_id in query(connection, _EARLIER, names):
            earlier[company, key] = Earlier(digest, message_id)
    return Insertion(stored, earlier, found[-1][1] if found else None)


def existing(connection: Connection, message_ids: list[str]) -> set[str]:
    """Those of the messages that are stored."""
    return {row[0] for row in query(connection, _EXISTING, (message_ids,))}


def withdraw(connection: Connection, message_ids: list[str]) -> list[str]:
    """Delete messages whose ids no caller got, unless a worker has claimed them; returns the ids of the deleted ones.

    Not for messages with an idempotency key, whose ids a caller may have got meanwhile.
    """
    return sorted(row[0] for row in query(connection, _WITHDRAW, (message_ids,)))


Stored = tuple[set[str], dict[tuple[str, str], Earlier]]


class Acceptor:
    """Stores messages for the API."""

    def __init__(self, database: Database, notifier: Notifier, seconds: float = ACCEPT_SECONDS) -> None:
        """Connects with the first message. `seconds`: from a message's arrival to its commit."""
        self.accepted = 0  # messages, since the start
        self._database, self._notifier, self._seconds = database, notifier, seconds
        self._connection: Connection | None = None
        # Messages whose INSERT was not answered, by id, and the server processes that may still execute it.
        self._in_doubt: dict[str, Entry] = {}
        self._backends: set[int] = set()
        self._next_withdrawal = 0.0  # the moment before which a batch withdraws nothing, in monotonic seconds
        self._clock_offset = 0.0  # seconds by which the database's clock is ahead of our monotonic one, at least
        self._commits: GroupCommit[Entry, Accepted] = GroupCommit(
            "messages", self._write, seconds, max_items=MAX_BATCH, undo=self._withdraw, tidy=self._tidy
        )
        #: Stores a message. The future ends when it is durable, or with `IdempotencyConflict`, `DatabaseUnavailable`.
        self.accept: Callable[[Entry], Future[Accepted]] = self._commits.submit
        #: The same on an event loop.
        self.accept_from_loop: Callable[[Entry], asyncio.Future[Accepted]] = self._commits.submit_from_loop

    def close(self) -> None:
        """Commit what waits, then end."""
        self._commits.close()

    def _write(self, batch: Batch[Entry]) -> Sequence[Accepted | Exception]:
        queue_names = {session_queue(entry.bot_id) for entry in batch.items if entry.channel != WORKERS_CHANNEL}
        for queue_name in queue_names:  # a session wakes up while the commit is under way …
            self._notifier.notify(queue_name)
        stored, earlier = self._store(batch)
        self.accepted += len(stored)
        for queue_name in queue_names:  # … and looks again in case it looked too early; coalesced otherwise
            self._notifier.notify(queue_name)
        return [_answer(entry, stored, earlier) for entry in batch.items]

    def _store(self, batch: Batch[Entry]) -> Stored:
        try:
            return self._store_once(batch)
        except DatabaseError as error:
            if self._connection is not None and not self._connection.closed:
                raise
            log.warning("database.connection_lost", retry=True, reason=str(error).strip())
        batch.check()
        try:
            return self._store_once(batch)
        except DatabaseError as error:
            if self._connection is not None and not self._connection.closed:
                raise
            raise DatabaseUnavailable(str(error).strip()) from error

    def _store_once(self, batch: Batch[Entry]) -> Stored:
        """Store the batch, except what an earlier attempt stored. Closes the connection if it breaks."""
        connection = self._connected()
        try:
            there = self._look_up(connection, {entry.message_id for entry in batch.items})
            self._try_withdraw_others(connection, there)
            batch.check()
            entries = [entry for entry in batch.items if entry.message_id not in there]
            stored, earlier = self._commit(connection, entries, batch)
        except DatabaseError as error:
            if is_broken(connection, error):
                connection.close()
            raise
        for entry in batch.items:
            self._in_doubt.pop(entry.message_id, None)
        self._backends.clear()
        return stored | there, earlier

    def _commit(self, connection: Connection, entries: list[Entry], batch: Batch[Entry]) -> Stored:
        """Store the entries if all callers of the batch still wait. They are in doubt if the connection breaks."""
        if not entries:
            return set(), {}
        before = dict(self._in_doubt)
        self._in_doubt |= {entry.message_id: entry for entry in entries}
        self._backends.add(connection.server_pid)
        try:
            found = insert(connection, entries, batch.deadline + self._clock_offset)
            if found.at is not None:
                self._clock_offset = found.at - time.monotonic()
            elif any((entry.company_id, entry.idempotency_key or "") not in found.earlier for entry in entries):
                self._in_doubt = before  # it was too late, or the clock was set
                self._clock_offset = clock(connection) - time.monotonic()
                raise CallersLeft
        except DatabaseError as error:
            if not is_broken(connection, error):
                self._in_doubt = before
            raise
        return found.stored, found.earlier

    def _connect(self) -> Connection:
        """A connection, after the server processes of all earlier ones have ended."""
        # Many rows are joined with their lanes: by hash, hence not by key.
        connection = self._database.connect(by_key=False, seconds=self._seconds, session=SERVER_TIMEOUT)
        try:
            end_backends(connection, self._backends)
            self._clock_offset = clock(connection) - time.monotonic()
        except DatabaseError as error:
            if is_broken(connection, error):
                connection.close()
                raise DatabaseUnavailable(str(error).strip()) from error
            log.warning("database.backends_not_ended", reason=str(error).strip())
        return connection

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _look_up(self, connection: Connection, wanted: Collection[str]) -> set[str]:
        """Which of the `wanted` messages that are in doubt are stored; the others of them are not in doubt any more."""
        asked = [message_id for message_id in self._in_doubt if message_id in wanted]
        there = existing(connection, asked) if asked else set()
        for message_id in asked:
            if message_id not in there:
                del self._in_doubt[message_id]
        return there

    def _try_withdraw_others(self, connection: Connection, wanted: Collection[str]) -> None:
        """Withdraw the messages in doubt that are not `wanted`, if the server allows it."""
        if len(self._in_doubt) == len(wanted) or time.monotonic() < self._next_withdrawal:
            return
        try:
            self._withdraw_others(connection, wanted)
        except DatabaseError as error:
            if connection.closed:
                raise
            self._next_withdrawal = time.monotonic() + TIDY_INTERVAL_SECONDS
            log.warning("message.in_doubt", messages=len(self._in_doubt), reason=str(error).strip())

    def _withdraw_others(self, connection: Connection, wanted: Collection[str]) -> None:
        """Withdraw the messages in doubt that are not `wanted`. None of them is in doubt any more."""
        others = {message_id: entry for message_id, entry in self._in_doubt.items() if message_id not in wanted}
        unkeyed = [message_id for message_id, entry in others.items() if entry.idempotency_key is None]
        if unkeyed and (gone := withdraw(connection, unkeyed)):
            log.warning("message.withdrawn", messages=gone, reason="stored after its deadline")
        for message_id in others:
            del self._in_doubt[message_id]

    def _withdraw(self, entries: list[Entry]) -> None:
        """Remove messages that were stored although their callers got another answer."""
        self._in_doubt |= {entry.message_id: entry for entry in entries}
        self._tidy()

    def _tidy(self) -> bool:
        """Whether messages are still in doubt; none of their callers waits any more."""
        if self._in_doubt:
            try:
                self._withdraw_others(self._connected(), ())
            except (DatabaseError, DatabaseUnavailable) as error:
                log.warning("message.in_doubt", messages=len(self._in_doubt), reason=str(error).strip())
                if self._connection is not None:
                    self._connection.close()
        return bool(self._in_doubt)


def _answer(entry: Entry, stored: set[str], earlier: dict[tuple[str, str], Earlier]) -> Accepted | Exception:
    if entry.message_id in stored:
        return Accepted(entry.message_id)
    first = earlier[entry.company_id, entry.idempotency_key or ""]
    if first.digest == entry.digest:
        return Accepted(first.message_id, repeated=True)
    return IdempotencyConflict(entry.idempotency_key)
