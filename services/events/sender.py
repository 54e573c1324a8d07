"""Delivers events to the customers' webhooks: at least once, each chat's in order; a bad receiver harms no other.

The deliveries stand in PostgreSQL (`services.events.store`); killing the sender at any moment loses nothing. Each call
is signed by HMAC-SHA512 over its body, with the webhook's secret, so that the customer can verify it.
"""

import hashlib
import hmac
import logging
import math
import threading
import time
from functools import partial
from typing import Any

import orjson
import structlog
from uuid_utils import uuid7

from bisnesctl import __version__
from bisnesctl.encryption import EncryptionError, decrypt
from bisnesctl.host import process_times
from bisnesctl.settings import Settings
from services.database.announcements import IDLE_WAIT_SECONDS, Listener
from services.database.clock import DatabaseClock
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.events import store
from services.events.store import CHANNEL, Result, Task
from services.events.webhooks import secret_row
from services.http_client import RequestsInFlight
from services.http_exchange import Answered, Broken, HttpRequest
from services.runtime.heartbeat import worker_name

#: Calls in flight at once, of all webhooks together.
MAX_CALLS = 128
#: Seconds before a result whose lane is locked is recorded again.
LOCKED_RETRY_SECONDS = 0.02
#: Seconds between two sweeps for events that are due, while some are in hand or PostgreSQL is unavailable.
SWEEP_INTERVAL_SECONDS = 1.0
#: The same, at most, while there is nothing to do: new events are announced, and the time of the next one is known.
IDLE_SWEEP_INTERVAL_SECONDS = 5.0
#: Seconds between two looks at the database's clock.
CLOCK_INTERVAL_SECONDS = 2.0
#: Characters of an error that are kept.
MAX_ERROR_CHARACTERS = 500
#: "Gone": the receiver says that it will never accept this.
GONE_STATUS = 410
#: Attempts at an event that fail within this process, before it becomes a dead letter so that its chat continues.
INTERNAL_ATTEMPTS = 5
#: The algorithm of the signature, as the header names it.
HMAC_ALGORITHM = "sha512"

log = structlog.get_logger()
_logger = logging.getLogger(__name__)  # asked first: lines that are not written cost nothing


class EventSender:
    """Delivers events on a thread of its own."""

    def __init__(self, settings: Settings, database: Database, instance: str, run: str) -> None:
        """`instance`: this process's name, the same after a restart; `run`: a name of this very start."""
        self.delivered, self.failed = 0, 0
        self.last_error: str | None = None
        self._database = database
        self._name = worker_name(instance, run)
        self._earlier = worker_name(instance, "")
        self._keys = settings.decryption_keys
        self._secrets: dict[str, str] = {}  # by their encrypted form
        self._lease = settings.webhook_lease_seconds
        self._clock, self._clock_due = DatabaseClock(settings), 0.0
        self._calls = RequestsInFlight(MAX_CALLS, settings.webhook_timeout_ms, settings.open_networks)
        self._listener = Listener(database, CHANNEL, self._wake, lambda: IDLE_WAIT_SECONDS)
        self._woken = threading.Event()
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work_until_ended, name="events", daemon=True)
        self._unrecorded: list[Result] = []
        self._exchange_due = 0.0  # by time.monotonic(), while the database is unavailable
        self._claim_due = 0.0  # by time.monotonic(): when events may be due that nobody announced

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Release the claims of an earlier run, then deliver; waits for the database until `cancelled`."""
        cancelled = cancelled or self._stopping
        while not cancelled.is_set() and not self._release(self._earlier):
            cancelled.wait(SWEEP_INTERVAL_SECONDS)
        if not cancelled.is_set():
            self._listener.start()
            self._thread.start()

    def start_in_background(self) -> None:
        """Like `start`, for a process that has more to do than this."""
        threading.Thread(target=self.start, name="events-start", daemon=True).start()

    def stop(self, seconds: float) -> bool:
        """Begin no more calls and finish those in flight within `seconds`; returns whether all were finished.

        The claims of the others are released, so that another sender delivers their events, perhaps once more.
        """
        self._listener.stop()
        self._stopping.set()
        self._wake()
        if not self._thread.is_alive():
            return True
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        self._ended.set()
        self._wake()
        self._thread.join(SWEEP_INTERVAL_SECONDS)
        self._release(self._name)
        return False

    def _release(self, name: str) -> bool:
        """Release the claims of senders whose name begins so; returns whether none is left."""
        try:
            with self._database.connection() as connection:
                return store.release(connection, name) == 0
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("claims.not_released", reason=str(error).strip())
            return False

    def _wake(self) -> None:
        self._woken.set()
        self._calls.interrupt()

    def _work_until_ended(self) -> None:
        while not self._ended.is_set():
            if self._stopping.is_set() and not self._calls.in_flight and not self._unrecorded:
                return
            try:
                self._turn()
            except Exception:
                log.exception("event_sender.failed")
                self._ended.wait(SWEEP_INTERVAL_SECONDS)

    def _turn(self) -> None:
        ended = self._calls.poll(self._pause())
        self._unrecorded += [self._judge(task, answer) for task, answer in ended]
        if time.monotonic() >= self._exchange_due:
            self._exchange()

    def _pause(self) -> float:
        """Seconds to wait for the end of a call, at most."""
        now = time.monotonic()
        if now < self._exchange_due:
            return SWEEP_INTERVAL_SECONDS
        if self._unrecorded:
            return LOCKED_RETRY_SECONDS
        return min(max(self._claim_due - now, 0.0), IDLE_SWEEP_INTERVAL_SECONDS)

    def _exchange(self) -> None:
        """Record the results of calls and claim further events."""
        if not self._unrecorded and not self._woken.is_set() and time.monotonic() < self._claim_due:
            return
        try:
            with self._database.connection() as connection:
                if self._unrecorded:
                    self._unrecorded = store.record(connection, self._name, self._unrecorded)
                self._woken.clear()
                if time.monotonic() >= self._clock_due:
                    self._clock.look(connection)
                    self._clock_due = time.monotonic() + CLOCK_INTERVAL_SECONDS
                self._claim(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("events.delayed", reason=str(error).strip())
            self._exchange_due = time.monotonic() + SWEEP_INTERVAL_SECONDS

    def _claim(self, connection: Connection) -> None:
        self._claim_due = time.monotonic() + SWEEP_INTERVAL_SECONDS
        room = self._calls.size - self._calls.in_flight
        if self._stopping.is_set() or not room:
            return
        # If many receivers are slow, each has one call, so that there is room for the others.
        each = store.MAX_CALLS_OF_WEBHOOK if room > self._calls.size // 2 else 1
        until = process_times.boottime() + self._lease
        tasks = store.claim(connection, self._name, self._lease, room, each)
        if not tasks and not self._calls.in_flight:
            seconds = store.next_due(connection)
            if seconds is None or seconds > 0:  # otherwise others have locked it, or call its webhook
                self._claim_due = time.monotonic() + min(seconds or math.inf, IDLE_SWEEP_INTERVAL_SECONDS)
        for task in tasks:
            try:
                self._send(task, until)
            except Exception as error:  # one event must not delay the others, nor its own chat for ever
                log.exception("event.send_failed", webhook=task.webhook_id, seq=task.seq)
                self._unrecorded.append(self._internal_failure(task, f"{type(error).__name__}: {error}"))

    def _send(self, task: Task, until: float) -> None:
        """`until`: by CLOCK_BOOTTIME, when the event may pass to another sender, and so must not leave any more."""
        if task.event is None:
            error = "the event is not kept any more"
            self._unrecorded.append(
                Result(task.webhook_id, task.chat_id, task.seq, "dead", called=False, tried=False, error=error)
            )
            return
        try:
            secret = self._secret(task, task.secret)
            previous = None if task.previous_secret is None else self._secret(task, task.previous_secret)
        except EncryptionError as error:
            self._unrecorded.append(self._failure(task, str(error)))
            return
        body = task.event.envelope()
        headers = signed_headers(secret, previous, body, task.attempts + 1)
        self._calls.submit(task, HttpRequest(task.url, headers, body), partial(_check_claim, until))

    def _secret(self, task: Task, stored: str) -> str:
        if stored not in self._secrets:
            self._secrets[stored] = decrypt(self._keys, stored, secret_row(task.webhook_id))
        return self._secrets[stored]

    def _judge(self, task: Task, answer: Answered | Broken) -> Result:
        """The status decides, even if the answer's body is incomplete."""
        if isinstance(answer, Broken) and answer.internal:
            return self._internal_failure(task, answer.reason)
        if isinstance(answer, Broken) and not answer.status:
            return self._failure(task, answer.reason)
        if 200 <= answer.status < 300:
            self.delivered += 1
            if _logger.isEnabledFor(logging.DEBUG):
                log.debug(
                    "event.delivered", webhook=task.webhook_id, attempt=task.attempts + 1, status=answer.status,
                    **_about(task),
                )  # fmt: skip
            return Result(task.webhook_id, task.chat_id, task.seq, "delivered", status=answer.status)
        return self._failure(task, f"it answered {answer.status}", answer.status)

    def _failure(self, task: Task, reason: str, status: int | None = None) -> Result:
        self.failed += 1
        error = self.last_error = _storable(reason)
        outcome = "dead" if status == GONE_STATUS else "pending"
        log.info(
            "event.not_delivered", webhook=task.webhook_id, reason=error, attempt=task.attempts + 1, **_about(task)
        )
        return Result(task.webhook_id, task.chat_id, task.seq, outcome, status=status, error=error)  # type: ignore[arg-type]

    def _internal_failure(self, task: Task, reason: str) -> Result:
        """A failure that is not the webhook's and does not count against it."""
        self.failed += 1
        error = self.last_error = _storable(f"the event could not be sent by bisnesctl: {reason}")
        outcome = "dead" if task.attempts + 1 >= INTERNAL_ATTEMPTS else "pending"
        return Result(task.webhook_id, task.chat_id, task.seq, outcome, called=False, error=error)  # type: ignore[arg-type]


def _about(task: Task) -> dict[str, Any]:
    """The fields of log lines that say which event it is, and of which message and request."""
    if task.event is None:
        return {"seq": task.seq}
    payload = orjson.loads(task.event.payload) if task.event.name.startswith("message") else {}
    found = {"message_id": payload.get("id") or payload.get("messageId"), "request_id": payload.get("requestId")}
    return {
        "event_id": task.event.event_id,
        "name": task.event.name,
        "company": task.event.company_id,
        "session": task.event.session,
        **{name: value for name, value in found.items() if value},
    }


def _storable(text: str) -> str:
    """The text as PostgreSQL takes it: no NUL, nothing that is not UTF-8."""
    return text.replace("\0", "")[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()


def _check_claim(until: float) -> None:
    """Called before the body leaves. Raises `TimeoutError` if this process slept, so that another sender has the
    event."""
    if process_times.boottime() >= until:
        raise TimeoutError("this process slept, and another sender may have the event")


def signature(secret: str, body: bytes) -> str:
    """The HMAC in lower-case hex."""
    return hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()


def signed_headers(secret: str, previous: str | None, body: bytes, attempt: int) -> tuple[str, ...]:
    """The headers of one attempt, as lines.

    `previous`: the secret that is being replaced, while it is still valid; `attempt`: from 1.
    """
    lines = (
        "Content-Type: application/json",
        f"User-Agent: bisnesctl/{__version__}",
        f"X-Webhook-Request-Id: {uuid7()}",
        f"X-Webhook-Timestamp: {time.time_ns() // 1_000_000}",
        f"X-Webhook-Attempt: {attempt}",
        f"X-Webhook-Hmac-Algorithm: {HMAC_ALGORITHM}",
        f"X-Webhook-Hmac: {signature(secret, body)}",
    )
    return lines if previous is None else (*lines, f"X-Webhook-Hmac-Previous: {signature(previous, body)}")
