"""Acceptance: messages that wait together share one INSERT and one commit, and are answered after it.

A caller that is told "not stored" sends its message again, so the message must not be stored after all when a database
that hung goes on. The INSERT therefore stores nothing if the server gets to it after the first caller of the batch was
told so, by the server's clock, whose distance from ours each answer tells; and statement_timeout ends one in the middle
of which the server hung. If the answer is missing all the same, its outcome is looked up on the next connection before
anything else is stored there, and messages that no caller was given are withdrawn, unless a worker has taken them
already. Those with an idempotency key stay: their callers get their ids with the next request, from any process, and
perhaps did so meanwhile. (INSERT and COMMIT as two steps cost a seventh of the throughput.)

If the server refuses to withdraw messages, they stay in doubt, and new messages are stored nevertheless: one damaged
or locked row must not stop everybody's messages. A server that can store nothing refuses the INSERT as well.
"""

import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    clock,
    end_backends,
    is_broken,
)
from services.database.group_commit import TIDY_INTERVAL_SECONDS, Batch, CallersLeft, GroupCommit
from services.outbox import store
from services.outbox.store import Entry
from services.wakeups.notifier import Notifier
from services.wakeups.session_wakeup import session_queue

#: Messages that share one commit, at most.
MAX_BATCH = 256
#: Seconds from a message's arrival to its commit; afterwards its caller is told that it was not stored.
ACCEPT_SECONDS = 5.0
#: Server-side limit of the connection: milliseconds for a statement.
_LIMITS = "-c statement_timeout=5000"

log = structlog.get_logger()


class IdempotencyConflict(Exception):
    """The idempotency key was used for another request."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is durable. `repeated`: it was so before, under the same idempotency key."""

    message_id: str
    repeated: bool = False


Stored = tuple[set[str], dict[tuple[str, str], store.Earlier]]


class Acceptor:
    """Stores messages for the API."""

    def __init__(self, database: Database, notifier: Notifier, seconds: float = ACCEPT_SECONDS) -> None:
        """Connects with the first message. `seconds`: from a message's arrival to its commit."""
        self._database, self._notifier, self._seconds = database, notifier, seconds
        self._connection: Connection | None = None
        # Messages whose INSERT was not answered, by id, and the backends that may still be at it.
        self._in_doubt: dict[str, Entry] = {}
        self._backends: set[int] = set()
        self._next_withdrawal = 0.0  # the moment before which a batch withdraws nothing, in monotonic seconds
        self._clock_offset = 0.0  # seconds by which the database's clock is ahead of ours that never is set, at least
        self._commits: GroupCommit[Entry, Accepted] = GroupCommit(
            "intake", self._write, seconds, max_items=MAX_BATCH, undo=self._withdraw, tidy=self._tidy
        )

    def accept(self, entry: Entry) -> "Future[Accepted]":
        """Store a message. The future ends when it is durable, or with `IdempotencyConflict`, `DatabaseUnavailable`."""
        return self._commits.submit(entry)

    def close(self) -> None:
        """Commit what waits, then end."""
        self._commits.close()

    def _write(self, batch: Batch[Entry]) -> Sequence[Accepted | Exception]:
        self._notify(batch.items)  # a worker wakes up while the commit is under way …
        stored, earlier = self._store(batch)
        self._notify(batch.items)  # … and looks again in case it looked too early; coalesced with the first otherwise
        return [_answer(entry, stored, earlier) for entry in batch.items]

    def _notify(self, entries: Sequence[Entry]) -> None:
        for queue_name in {_queue(entry) for entry in entries}:
            self._notifier.notify(queue_name)

    def _store(self, batch: Batch[Entry]) -> Stored:
        try:
            return self._store_once(batch)
        except DatabaseError as error:
            if not self._is_closed():
                raise
            log.warning("the database connection broke, trying once more", reason=str(error).strip())
        batch.check()
        try:
            return self._store_once(batch)
        except DatabaseError as error:
            if not self._is_closed():
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
        self._backends.add(connection.get_backend_pid())
        try:
            found = store.accept(connection, entries, batch.deadline + self._clock_offset)
            if found.at is not None:
                self._clock_offset = found.at - time.monotonic()
            elif any(_missing(entry, found.earlier) for entry in entries):  # it was too late, or the clock was set
                self._in_doubt = before
                self._clock_offset = clock(connection) - time.monotonic()
                raise CallersLeft
        except DatabaseError as error:
            if not is_broken(connection, error):
                self._in_doubt = before
            raise
        return found.stored, found.earlier

    def _is_closed(self) -> bool:
        return self._connection is None or bool(self._connection.closed)

    def _connect(self) -> Connection:
        """A connection beside which none of the earlier ones is at work any more."""
        # Many rows are joined with their lanes: by hash, hence not by key.
        connection = self._database.connect(by_key=False, seconds=self._seconds, options=_LIMITS)
        try:
            end_backends(connection, self._backends)
            self._clock_offset = clock(connection) - time.monotonic()
        except DatabaseError as error:
            if is_broken(connection, error):
                connection.close()
                raise DatabaseUnavailable(str(error).strip()) from error
            log.warning("backends of earlier connections cannot be ended", reason=str(error).strip())
        return connection

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _look_up(self, connection: Connection, wanted: Collection[str]) -> set[str]:
        """Which of the `wanted` messages that are in doubt are stored; the others of them are not in doubt any more."""
        asked = [number for number in self._in_doubt if number in wanted]
        there = store.existing(connection, asked) if asked else set()
        for number in asked:
            if number not in there:
                del self._in_doubt[number]
        return there

    def _try_withdraw_others(self, connection: Connection, wanted: Collection[str]) -> None:
        """Withdraw the messages in doubt that are not `wanted`, if the server lets us."""
        if len(self._in_doubt) == len(wanted) or time.monotonic() < self._next_withdrawal:
            return
        try:
            self._withdraw_others(connection, wanted)
        except DatabaseError as error:
            if connection.closed:
                raise
            self._next_withdrawal = time.monotonic() + TIDY_INTERVAL_SECONDS
            log.warning("messages that may have been stored too late are in doubt", reason=str(error).strip())

    def _withdraw_others(self, connection: Connection, wanted: Collection[str]) -> None:
        """Withdraw the messages in doubt that are not `wanted`. None of them is in doubt any more."""
        others = {number: entry for number, entry in self._in_doubt.items() if number not in wanted}
        unkeyed = [number for number, entry in others.items() if entry.idempotency_key is None]
        if unkeyed and (gone := store.withdraw(connection, unkeyed)):
            log.warning("messages that were stored after their time was up were withdrawn", messages=gone)
        for number in others:
            del self._in_doubt[number]

    def _withdraw(self, entries: list[Entry]) -> None:
        """Take back what was stored although its callers were told otherwise."""
        self._in_doubt |= {entry.message_id: entry for entry in entries}
        self._tidy()

    def _tidy(self) -> bool:
        """Whether messages are still in doubt; none of their callers waits any more."""
        if self._in_doubt:
            try:
                self._withdraw_others(self._connected(), ())
            except (DatabaseError, DatabaseUnavailable) as error:
                log.warning("messages that may have been stored too late are in doubt", reason=str(error).strip())
                if self._connection is not None:
                    self._connection.close()
        return bool(self._in_doubt)


def _queue(entry: Entry) -> str:
    """Whom to wake: any worker of the channel, or the one session of a WhatsApp Web bot."""
    return session_queue(entry.bot_id) if entry.process == "wwebjs" else f"{entry.process}-messages"


def _missing(entry: Entry, earlier: dict[tuple[str, str], store.Earlier]) -> bool:
    return (entry.company_id, entry.idempotency_key or "") not in earlier


def _answer(entry: Entry, stored: set[str], earlier: dict[tuple[str, str], store.Earlier]) -> Accepted | Exception:
    if entry.message_id in stored:
        return Accepted(entry.message_id)
    first = earlier[entry.company_id, entry.idempotency_key or ""]
    if first.digest == entry.digest:
        return Accepted(first.message_id, repeated=True)
    return IdempotencyConflict(entry.idempotency_key)
