"""Delivers events to the customers' webhooks: at least once, each chat's in order, a bad receiver harming nobody else.

What is to be delivered stands in PostgreSQL (`services.events.store`); killing the sender at any moment loses nothing.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from bisnesctl.encryption import EncryptionError, decrypt
from bisnesctl.settings import Network, Settings
from services.database.clock import DatabaseClock
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.events import signing, store
from services.events.listener import SWEEP, EventListener
from services.events.store import Result, Task
from services.http_client.in_flight import Answered, Broken, RequestsInFlight
from services.http_client.request import HttpRequest
from services.http_client.ssrf import guard
from services.runtime.heartbeat import worker_name

#: Calls in flight at once, of all webhooks together.
WINDOW = 128
#: Seconds before what could not be recorded, its lane being locked, is recorded again.
LOCKED_PAUSE = 0.02
#: Seconds between two looks at the database's clock.
CLOCK_INTERVAL_SECONDS = 2.0
#: Characters of an error that are kept.
MAX_ERROR = 500
#: "Gone": the receiver says that it will never take this.
GONE = 410
#: Attempts at an event that fail within this process, before it is set aside so that its chat goes on.
INTERNAL_ATTEMPTS = 5

log = structlog.get_logger()


class EventSender:
    """Delivers events on a thread of its own."""

    def __init__(self, settings: Settings, database: Database, instance: str, run: str) -> None:
        """`instance`: this process's name, the same after a restart; `run`: a name of this very start."""
        self.delivered, self.failed = 0, 0
        self._database = database
        self._name = worker_name(instance, run)
        self._earlier = worker_name(instance, "")
        self._key = settings.encryption_key.get_secret_value()
        self._secrets: dict[str, str] = {}  # by what is stored
        self._lease = settings.webhook_lease_seconds
        self._clock, self._clock_due = DatabaseClock(settings), 0.0
        networks = settings.open_networks
        self._window = RequestsInFlight(WINDOW, settings.webhook_timeout_ms, lambda handle: _confine(handle, networks))
        self._bell = EventListener(database, self._wake)
        self._rung, self._stopping, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._unrecorded: list[Result] = []
        self._patience = 0.0  # when the database is asked again

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Take over what an earlier run left, then deliver; waits for the database unless `cancelled`."""
        cancelled = cancelled or self._stopping
        while not cancelled.is_set() and not self._take_over():
            cancelled.wait(SWEEP)
        if not cancelled.is_set():
            self._bell.start()
            self._thread.start()

    def start_in_background(self) -> None:
        """Like `start`, for a process that has more to do than this."""
        threading.Thread(target=self.start, name="events-start", daemon=True).start()

    def stop(self, seconds: float) -> bool:
        """Begin no more calls and finish those in flight within `seconds`; returns whether all were finished.

        What was not is given up, so that it is delivered (once more) by whoever comes next.
        """
        self._bell.stop()
        self._stopping.set()
        self._wake()
        if not self._thread.is_alive():
            return True
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        self._ended.set()
        self._wake()
        self._thread.join(SWEEP)
        self._give_up()
        return False

    def _take_over(self) -> bool:
        try:
            with self._database.connection() as connection:
                return store.release(connection, self._earlier) == 0
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("waiting for the database before the first event is sent", reason=str(error).strip())
            return False

    def _give_up(self) -> None:
        try:
            with self._database.connection() as connection:
                store.release(connection, self._name)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("what is in flight passes on when its lease ends", reason=str(error).strip())

    def _wake(self) -> None:
        self._rung.set()
        self._window.interrupt()

    def _work(self) -> None:
        while not self._ended.is_set() and not self._finished:
            try:
                self._turn()
            except Exception:
                log.exception("delivering events failed, going on in a second")
                self._ended.wait(SWEEP)

    @property
    def _finished(self) -> bool:
        return self._stopping.is_set() and not self._window.in_flight and not self._unrecorded

    def _turn(self) -> None:
        away = time.monotonic() < self._patience
        ended = self._window.poll(LOCKED_PAUSE if self._unrecorded and not away else SWEEP)
        self._unrecorded += [self._judge(task, answer) for task, answer in ended]
        if time.monotonic() >= self._patience:
            self._exchange()

    def _exchange(self) -> None:
        """Tell the database what became of the calls, and ask it for more."""
        if not self._unrecorded and not self._rung.is_set():
            return
        try:
            with self._database.connection() as connection:
                self._record(connection)
                self._rung.clear()
                self._look_at_clock(connection)
                self._claim(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("the database is away, events wait", reason=str(error).strip())
            self._patience = time.monotonic() + SWEEP

    def _record(self, connection: Connection) -> None:
        if self._unrecorded:
            self._unrecorded = store.record(connection, self._name, self._unrecorded)

    def _look_at_clock(self, connection: Connection) -> None:
        if time.monotonic() >= self._clock_due:
            self._clock.look(connection)
            self._clock_due = time.monotonic() + CLOCK_INTERVAL_SECONDS

    def _claim(self, connection: Connection) -> None:
        room = self._window.size - self._window.in_flight
        if self._stopping.is_set() or not room:
            return
        # Where many receivers are slow, each is left one call, so that there is room for the others.
        each = store.EACH if room > self._window.size // 2 else 1
        for task in store.claim(connection, self._name, self._lease, room, each):
            try:
                self._send(task)
            except Exception as error:  # one event must not hold up the others, nor its own chat for ever
                log.exception("an event could not be sent", webhook=task.webhook_id, seq=task.seq)
                self._unrecorded.append(self._internal_failure(task, f"{type(error).__name__}: {error}"))

    def _send(self, task: Task) -> None:
        if task.event is None:
            error = "the event is not kept any more"
            self._unrecorded.append(
                Result(task.webhook_id, task.chat_id, task.seq, "dead", called=False, tried=False, error=error)
            )
            return
        try:
            secret = self._secret(task.secret)
            previous = None if task.previous_secret is None else self._secret(task.previous_secret)
        except EncryptionError as error:
            self._unrecorded.append(self._failure(task, str(error)))
            return
        body = task.event.envelope()
        headers = signing.headers(secret, previous, body, task.attempts + 1)
        self._window.submit(task, HttpRequest(task.url, headers, body), _nothing)

    def _secret(self, stored: str) -> str:
        if stored not in self._secrets:
            self._secrets[stored] = decrypt(self._key, stored)
        return self._secrets[stored]

    def _judge(self, task: Task, answer: Answered | Broken) -> Result:
        """The status decides, whatever became of the answer's body."""
        if isinstance(answer, Broken) and answer.internal:
            return self._internal_failure(task, answer.reason)
        if isinstance(answer, Broken) and not answer.status:
            return self._failure(task, answer.reason)
        if 200 <= answer.status < 300:
            self.delivered += 1
            return Result(task.webhook_id, task.chat_id, task.seq, "delivered", status=answer.status)
        return self._failure(task, f"it answered {answer.status}", answer.status)

    def _failure(self, task: Task, reason: str, status: int | None = None) -> Result:
        self.failed += 1
        error = _storable(reason)
        outcome = "dead" if status == GONE else "pending"
        log.info("a webhook did not take an event", webhook=task.webhook_id, reason=error, attempt=task.attempts + 1)
        return Result(task.webhook_id, task.chat_id, task.seq, outcome, status=status, error=error)  # type: ignore[arg-type]

    def _internal_failure(self, task: Task, reason: str) -> Result:
        """It says nothing of the webhook, so that it does not count against it."""
        self.failed += 1
        error = _storable(f"the event could not be sent by bisnesctl: {reason}")
        outcome = "dead" if task.attempts + 1 >= INTERNAL_ATTEMPTS else "pending"
        return Result(task.webhook_id, task.chat_id, task.seq, outcome, called=False, error=error)  # type: ignore[arg-type]


def _storable(text: str) -> str:
    """The text as PostgreSQL takes it: no NUL, nothing that is not UTF-8."""
    return text.replace("\0", "")[:MAX_ERROR].encode(errors="replace").decode()


def _confine(handle: Any, networks: tuple[Network, ...]) -> Callable[[], str | None]:
    """Whatever a customer's address resolves to, it is no way into our own networks."""
    gate = guard(handle, networks)

    def explain() -> str | None:
        return gate.refused and f"it leads to {gate.refused}, which is not a public address (see ALLOWED_NETWORKS)"

    return explain


def _nothing() -> None:
    """The body may leave at any time: what becomes of it is recorded afterwards."""
