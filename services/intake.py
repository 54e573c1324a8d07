"""Acceptance: messages that wait together share one INSERT and one commit, and are answered after it."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import structlog

from services import store
from services.bells import session_queue
from services.store import Connection, Database, DatabaseError, DatabaseUnavailable, Entry

#: Messages that share one commit, at most.
MAX_BATCH = 256

log = structlog.get_logger()


class Notifier(Protocol):
    """Whoever tells the workers of a queue that there is work."""

    def notify(self, queue_name: str) -> None:
        """There is work; never raises, never waits."""


class IdempotencyConflict(Exception):
    """The idempotency key was used for another request."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is durable. `repeated`: it was so before, under the same idempotency key."""

    message_id: str
    repeated: bool = False


class Intake:
    """Stores messages for the API. One thread commits; while it does, the next batch gathers."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database, self._notifier = database, notifier
        self._waiting: list[tuple[Entry, Future[Accepted]]] = []
        self._lock = threading.Lock()
        self._kick = threading.Event()
        self._connection: Connection | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def accept(self, entry: Entry) -> "Future[Accepted]":
        """Store a message. The future ends when it is durable, or with `IdempotencyConflict`, `DatabaseUnavailable`."""
        future: Future[Accepted] = Future()
        future.set_running_or_notify_cancel()  # a caller that hangs up does not take the message back
        with self._lock:
            self._waiting.append((entry, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_on, name="intake", daemon=True)
                self._thread.start()
        self._kick.set()
        return future

    def close(self) -> None:
        """Commit what waits, then end."""
        self._stopped = True
        self._kick.set()
        if self._thread is not None:
            self._thread.join()

    def _commit_on(self) -> None:
        while True:
            self._kick.wait()
            self._kick.clear()
            while self._waiting:
                with self._lock:
                    batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._commit(batch)
            if self._stopped:
                return

    def _commit(self, batch: list[tuple[Entry, "Future[Accepted]"]]) -> None:
        self._notify(batch)  # a worker wakes up while the commit is under way …
        try:
            stored, earlier = self._store([entry for entry, _ in batch])
        except DatabaseUnavailable as error:
            for _, future in batch:
                future.set_exception(error)
        except Exception as error:
            if len(batch) > 1:  # one bad row must not take the others with it
                for pair in batch:
                    self._commit([pair])
                return
            log.exception("a message could not be stored", message_id=batch[0][0].message_id)
            batch[0][1].set_exception(error)
        else:
            self._notify(batch)  # … and looks again in case it looked too early; coalesced with the first otherwise
            for entry, future in batch:
                _answer(entry, future, stored, earlier)

    def _notify(self, batch: list[tuple[Entry, "Future[Accepted]"]]) -> None:
        for queue_name in {_queue(entry) for entry, _ in batch}:
            self._notifier.notify(queue_name)

    def _store(self, entries: list[Entry]) -> "Stored":
        if self._connection is None or self._connection.closed:  # many rows are joined with their lanes: by hash
            self._connection = self._database.connect(by_key=False)
        try:
            return store.accept(self._connection, entries)
        except DatabaseError as error:
            if not store.is_broken(self._connection, error):
                raise
            log.warning("the database connection broke, trying once more", reason=str(error).strip())
            self._connection.close()
        return self._store_again(entries)

    def _store_again(self, entries: list[Entry]) -> "Stored":
        """The commit may have happened just before the connection broke: store only what is not there."""
        self._connection = self._database.connect(by_key=False)
        try:
            there = store.existing(self._connection, [entry.message_id for entry in entries])
            stored, earlier = store.accept(self._connection, [e for e in entries if e.message_id not in there])
        except DatabaseError as error:
            if not store.is_broken(self._connection, error):
                raise
            self._connection.close()
            raise DatabaseUnavailable(str(error).strip()) from error
        return stored | there, earlier


def _queue(entry: Entry) -> str:
    """Whom to wake: any worker of the channel, or the one session of a WhatsApp Web bot."""
    return session_queue(entry.bot_id) if entry.process == "wwebjs" else f"{entry.process}-messages"


Stored = tuple[set[str], dict[tuple[str, str], store.Earlier]]


def _answer(
    entry: Entry,
    future: "Future[Accepted]",
    stored: set[str],
    earlier: dict[tuple[str, str], store.Earlier],
) -> None:
    if entry.message_id in stored:
        future.set_result(Accepted(entry.message_id))
        return
    first = earlier[entry.company_id, entry.idempotency_key or ""]
    if first.digest == entry.digest:
        future.set_result(Accepted(first.message_id, repeated=True))
    else:
        future.set_exception(IdempotencyConflict(entry.idempotency_key))
