"""Delivery: claim due messages, send them through their channel's connector, record their outcomes.

The loop below is the hot path. One thread runs it at a time in each worker process; the results of the last round are
recorded and the next messages claimed in one round trip.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import structlog
from psycopg2 import DataError

from bisnesctl.encryption import EncryptionError
from bisnesctl.host import process_times
from services.connector import NO_ANSWER, Again, Connector, HttpConnector, Preparation, Refusal, Request
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.http_exchange import Answered, Broken, InFlight
from services.message import Bot, Held, Outcome, Rejected, Retry, Status, Unavailable, Unknown
from services.outbox import holds, recovery
from services.outbox.in_hand import Departures, Gathered, Gathering, InHand
from services.outbox.journal import Journal
from services.outbox.on_call import OnCall
from services.outbox.outcome_policy import (
    USUAL_PAUSES,
    Attempts,
    Fault,
    OutagePolicy,
    Pauses,
    Result,
    behind_others,
    hold_of,
    settle,
    unstorable,
)
from services.outbox.preparations import Preparations
from services.outbox.store import Outbox
from services.runtime.heartbeat import Counters

#: Seconds between two calls of `before_claim` while messages are in hand: wake-ups in between are coalesced.
WAKEUP_INTERVAL_SECONDS = 0.02
#: Seconds between two claims for each message of the first one, up to `WAKEUP_INTERVAL_SECONDS`: the more there is to
#: do, the more is claimed at once.
CLAIM_SECONDS_PER_MESSAGE = 0.001
#: Seconds after which more is claimed even if less than half of the requests are free.
CLAIM_INTERVAL_SECONDS = 0.05
#: Seconds for which the loop waits for the network at most; a wake-up ends the wait.
POLL_SECONDS = 0.01
#: The same if announcements end the wait too.
LISTENING_POLL_SECONDS = 1.0
#: Seconds between two tries to reach the database.
DATABASE_RETRY_SECONDS = 0.5
#: The code of a message that did not leave, although other workers must assume that it may have.
SUSPENDED = "worker_suspended"
#: Codes of errors that are counted one by one, at most.
MAX_CODES = 100
#: Times that a connector is asked for the next step of one attempt.
MAX_STEPS = 6

log = structlog.get_logger()


class Delivery:
    """Sends one channel's messages. `wake` may be called from any thread; one of them then does the work."""

    def __init__(
        self,
        connector: Connector,
        outbox: Outbox,
        database: Database,
        bot_of: Callable[[int], Bot | None],
        journal: Journal,
        window: InFlight,
        attempts: Attempts,
        before_claim: Callable[[], None] = lambda: None,
        pauses: Pauses = USUAL_PAUSES,
        on_call: OnCall | None = None,
    ) -> None:
        """`bot_of` returns a bot with its token decrypted. `before_claim` clears the pending wake-up marker, so that
        messages accepted from then on trigger another wake-up. With `on_call`, `listen` does all the work."""
        self._connector, self._outbox, self._database = connector, outbox, database
        self._bot_of, self._before_claim, self._attempts = bot_of, before_claim, attempts
        self._journal, self._window = journal, window
        self._pauses, self._policy, self._on_call = pauses, OutagePolicy(pauses), on_call
        self._preparations = Preparations(window.interrupt)
        self._departures = Departures(outbox, journal, window)
        self._free = list(range(window.size))
        self._done = Gathering(may_wait=on_call is not None)
        self._in_hand: dict[int, InHand] = {}  # by slot
        self._together = window.size  # outcomes that are recorded at once; one at a time while one of them is refused
        self._connection: Connection | None = None
        self._recorded = 0.0  # when results were last recorded
        self._claim_from = 0.0  # when more may be claimed while messages are in hand
        self._claims_along = True  # whether recording claims as well, since the last claim left messages
        self._cleared = 0.0  # when `before_claim` was last called
        self._working, self._woken = threading.Lock(), threading.Event()
        self._stopping = False
        self.marks_all = True  # whether all that leaves is marked in the database, for workers on other machines
        self.paused = False  # whether nothing is claimed for now; messages in hand are finished
        self.progressed = time.monotonic()  # when the loop last came round, for the watchdog
        self.counts: Counter[Status] = Counter()
        self.failures: Counter[str] = Counter()  # messages that failed or are unknown, by the error's code
        self.faults = 0  # attempts that failed because of the provider or the way to it
        self.responses = 0  # of the provider
        self.response_seconds = 0.0  # of all responses together
        self.last_error: str | None = None  # of a message that failed, or whose outcome is unknown

    @property
    def in_hand(self) -> int:
        """Messages that are claimed and whose outcome is not yet recorded."""
        return len(self._in_hand)

    def count(self, counters: Counters) -> None:
        """Bring the counters of the process up to date."""
        counters.sent = self.counts[Status.SENT]
        counters.errors = self.counts[Status.FAILED] + self.counts[Status.UNKNOWN] + self.faults
        counters.failures = self.failures
        counters.last_error = self.last_error or counters.last_error
        counters.responses, counters.response_seconds = self.responses, self.response_seconds

    @property
    def in_flight(self) -> int:
        """Requests that the provider has not answered yet."""
        return self._window.in_flight

    @property
    def preparing(self) -> int:
        """Messages in hand whose files are being fetched or uploaded."""
        return self._preparations.pending

    @property
    def working(self) -> bool:
        """Whether a thread is in the loop."""
        return self._working.locked()

    def stop(self) -> None:
        """Claim nothing more; messages in hand are finished."""
        self._stopping = True
        if self._on_call is not None:
            self.wake()

    def wake(self) -> None:
        """Send until nothing is due. Returns at once if another thread is sending: that one then looks again."""
        self._woken.set()
        self._window.interrupt()
        if self._on_call is None:
            self._work()
        else:
            self._on_call.help()

    def listen(self) -> None:
        """Send what is announced, on this thread, until `stop`; the messages in hand are finished."""
        on_call = cast(OnCall, self._on_call)
        while not self._stopping:
            if self._is_announced() or not on_call.is_connected:
                self._woken.set()
            self._work()
            if not self._stopping:
                on_call.wait()
        self._woken.set()
        self._work()
        self._disconnect()

    def _is_announced(self) -> bool:
        """Whether messages were announced, or may have been while the connection was broken."""
        if self._on_call is None:
            return False
        try:
            return self._on_call.is_announced()
        except DatabaseError as error:
            self._wait_for_database(error)
            return True

    def _work(self) -> None:
        while self._woken.is_set() and self._working.acquire(blocking=False):
            try:
                self._send_until_idle()
            finally:
                self._working.release()

    def _send_until_idle(self) -> None:
        looking = woken = False
        while True:
            now = self.progressed = time.monotonic()
            if self._woken.is_set():
                self._woken.clear()
                looking, woken = True, self._on_call is None
            looking = self._is_announced() or looking
            if self._departures.are_waiting:
                self._mark()
            elif self._done.is_due(now, self._window.in_flight) or (looking and self._may_claim(now)):
                looking = self._exchange(looking)
            elif woken and (not self._in_hand or now - self._cleared >= WAKEUP_INTERVAL_SECONDS):
                self._before_claim()
                self._cleared, looking, woken = now, True, False
            elif self._window.in_flight or self._preparations.pending or self._done:
                self._collect(self._patience(looking, now))
            elif not self._woken.is_set():
                return

    def _may_claim(self, now: float) -> bool:
        free = len(self._free) + len(self._done)
        is_late = now - self._recorded >= CLAIM_INTERVAL_SECONDS
        has_room = 2 * free >= self._window.size or (free > 0 and is_late)
        return has_room and (now >= self._claim_from or not self._in_hand)

    def _patience(self, looking: bool, now: float) -> float:
        """Seconds for which the loop may wait."""
        if self._on_call is None:
            return POLL_SECONDS
        longest = LISTENING_POLL_SECONDS
        if looking:  # until there is room, or it is time to claim
            longest = self._claim_from - now if self._claim_from > now else POLL_SECONDS
        return max(0.0, min(longest, self._done.seconds_left(now)))

    def _exchange(self, looking: bool) -> bool:
        """Record the outcomes and claim the next messages; returns whether there may be more at once."""
        idle = self._stopping or self.paused or not self._journal.usable()
        records = not self._free or self._done.go_along(time.monotonic(), self._window.in_flight)
        done = self._done.take(self._together) if records else []
        claims = looking or self._claims_along or any(hand.message.is_followed for hand, _ in done)
        limit = len(self._free) + len(done) if claims and not idle else 0
        try:
            results = self._results(done)
            connection, began = self._connect(), process_times.boottime()
            if idle and self._on_call is not None:
                self._on_call.resign()
            claimed, may_be_more = self._outbox.exchange(
                connection, results, limit, self._staying_in_hand(done), self.marks_all
            )
        except (DatabaseError, DatabaseUnavailable) as error:
            if isinstance(error, DataError) and done:
                return self._isolate_unstorable(done, error)
            self._done.put_back(done)
            return self._wait_for_database(error)
        if not self._done:
            self._together = self._window.size
        self._recorded = time.monotonic()
        for (hand, _), result in zip(done, results, strict=True):
            self._forget(hand)
            self._count_result(hand, result)
        hands = self._departures.in_hand(claimed, self._free, began)
        self._in_hand |= {hand.slot: hand for hand in hands}
        for hand in hands:
            self._begin_step(hand)
        self._collect(0)  # their bytes leave now, before anything else is done
        if not limit:
            return may_be_more and not idle
        pause = min(CLAIM_SECONDS_PER_MESSAGE * len(claimed), WAKEUP_INTERVAL_SECONDS)
        self._claim_from = self._recorded + pause if self._on_call is not None else 0.0
        self._claims_along = may_be_more or self._on_call is None
        if not claimed and not records:  # the announced messages may follow others of their chats
            self._done.hurry()
            return bool(self._done)
        return limit == len(claimed)

    def _count_result(self, hand: InHand, result: Result) -> None:
        hand.log_result(result)
        if result.status is None:
            return
        self.counts[result.status] += 1
        if result.status in (Status.FAILED, Status.UNKNOWN):
            self._count_failure(result.code)
            if result.error is not None:
                self.last_error = f"{result.code}: {result.error}" if result.code else result.error

    def _count_failure(self, code: str | None) -> None:
        known = code or "none"
        self.failures[known if known in self.failures or len(self.failures) < MAX_CODES else "other"] += 1

    def _mark(self) -> None:
        """Let the messages leave that wait for their mark in the database, unless others have taken them over."""
        try:
            ready, lost = self._departures.mark(self._connect())
        except (DatabaseError, DatabaseUnavailable) as error:
            self._wait_for_database(error)
            return
        for hand, request in ready:
            self._send(hand, request)
        for hand in lost:
            log.warning("claim.lost", marked=hand.marked, **hand.about())
            if hand.marked:  # the others count it as unknown
                self._done.add(hand, Rejected(SUSPENDED, "the worker slept, and the message did not leave"))
            else:
                self._forget(hand)
        self._collect(0)

    def _forget(self, hand: InHand) -> None:
        self._journal.clear(hand.slot)
        self._free.append(hand.slot)
        del self._in_hand[hand.slot]

    def _staying_in_hand(self, done: list[Gathered]) -> Counter[int]:
        """How many messages of each number stay in hand when those that are done are recorded.

        A number that is left to other workers counts as one that has all it may.
        """
        counts = Counter(hand.message.bot_id for hand in self._in_hand.values())
        counts.subtract(hand.message.bot_id for hand, _ in done)
        counts.update(dict.fromkeys(self._policy.left_to_others(), 2 * self._window.size))
        return counts

    def _results(self, done: list[Gathered]) -> list[Result]:
        judged = [(hand.message, *self._policy.judge(hand.message, outcome)) for hand, outcome in done]
        paused: dict[int, float] = {}  # by bot: seconds until the next message finds out whether an outage is over
        if findings := [finding for _, _, finding in judged if finding]:
            paused = holds.note_outages(self._connect(), findings, self._pauses)
            for each in {each.bot_id: each for each in findings}.values():
                if isinstance(each, Fault):
                    log.warning("provider.unavailable", bot=each.bot_id, code=each.code, reason=each.reason)
                elif each.sent:
                    log.info("provider.available", bot=each.bot_id)
        if new_holds := [hold for message, outcome, _ in judged if (hold := hold_of(message, outcome))]:
            holds.hold(self._connect(), new_holds)
        results = [
            settle(message, behind_others(message, outcome, paused), self._attempts, self._outbox.worker)
            for message, outcome, _ in judged
        ]
        return [
            result if hand.marked else replace(result, marked=False)
            for (hand, _), result in zip(done, results, strict=True)
        ]

    def _begin_step(self, hand: InHand) -> None:
        """Do what the connector says comes next for a message that has not left."""
        hand.steps += 1
        message = hand.message
        try:
            bot = self._bot_of(message.bot_id)
            if bot is None:
                self._done.add(hand, Rejected("unknown_bot", "the bot was removed"))
                return
            hand.bot = bot
            step: Request | Preparation | Refusal | None = None
            if message.outage is not None and not hand.probed:  # a message might be lost to the outage
                hand.probed = True
                step = self._connector.probe(bot, message.outage)
            step = step or self._connector.request(bot, message)
        except DatabaseUnavailable:
            self._done.add(hand, None)
        except EncryptionError as error:
            self._done.add(hand, Held("credential", str(error)))
        except Exception as error:  # one message must not stop all others
            log.exception("message.request_failed", **hand.about())
            self._done.add(hand, Rejected("internal", f"{type(error).__name__}: {error}"))
        else:
            if isinstance(step, Preparation):
                self._preparations.start(message.bot_id, hand, step)
            elif isinstance(step, Refusal):
                self._end_step(hand, step)
            else:
                self._send(hand, step)

    def _send(self, hand: InHand, request: Request) -> None:
        hand.log_attempt()
        try:
            self._departures.begin(hand, request)
        except OSError:  # it could not be marked, so it must not leave
            self._done.add(hand, None)

    def _collect(self, seconds: float = POLL_SECONDS) -> None:
        answers = self._window.poll(seconds)
        now = time.monotonic() if answers else 0.0
        for hand, answer in answers:
            if hand.expired:
                self._end_step(hand, Again())
                continue
            self.responses += 1
            self.response_seconds += now - hand.left_at
            outcome = self._outcome(hand, answer) if isinstance(answer, Answered | Broken) else answer
            self._end_step(hand, outcome)
        for hand, refusal in self._preparations.done():
            self._end_step(hand, Again() if refusal is None else refusal)

    def _end_step(self, hand: InHand, outcome: Outcome | Again | None) -> None:
        if not isinstance(outcome, Again):
            self.faults += isinstance(outcome, Unavailable)
            self._done.add(hand, outcome)
        elif hand.steps < MAX_STEPS:
            self._journal.clear(hand.slot)
            self._begin_step(hand)
        else:
            self._done.add(hand, Retry("steps", "the message could not be prepared"))

    def _outcome(self, hand: InHand, answer: Answered | Broken) -> Outcome | Again | None:
        match answer:
            case Answered(status, body):
                try:
                    # Only the requests of an HttpConnector get such an answer.
                    return cast(HttpConnector, self._connector).outcome(hand.message, status, body)
                except Exception as error:  # one answer must not stop all others
                    log.exception("message.answer_not_understood", **hand.about())
                    return Unknown(f"the answer could not be understood: {type(error).__name__}")
            case Broken(reason, handed=True):
                return Unknown(reason, NO_ANSWER)
            case Broken() if self._journal.trouble is not None:  # it did not leave, since it could not be marked
                return None
            case Broken(reason, internal=True):
                return Retry("internal", reason)
            case Broken(reason):
                return Unavailable("network", reason)

    def _connect(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect()
            # An exchange whose answer was lost with the connection may have claimed messages in our name.
            claimed = recovery.claimed_by(connection, self._outbox.worker)
            known = {(hand.message.id, hand.message.fence) for hand in self._in_hand.values()}
            recovery.release(connection, self._outbox, [each for each in claimed if (each.id, each.fence) not in known])
            if self._on_call is not None:
                self._on_call.listen(connection)
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._on_call is not None:
            self._on_call.leave()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _isolate_unstorable(self, done: list[Gathered], error: DataError) -> bool:
        """Find the outcome that the database refuses to store, and record as much of it as can be stored."""
        if len(done) > 1:
            self._together = 1
            self._done.put_back(done)
            return False
        hand, outcome = done[0]
        log.error("outcome.not_storable", reason=str(error).strip(), **hand.about())
        self._done.add(hand, unstorable(outcome))
        return self._wait_for_database(error) if outcome == unstorable(outcome) else False

    def _wait_for_database(self, error: Exception) -> bool:
        """Keep the outcomes until the database is available; without any, leave it to the next wake-up."""
        log.warning("outcomes.not_recorded", in_hand=self.in_hand, reason=str(error).strip())
        self._disconnect()
        if self._window.in_flight:
            self._collect()
        if self._in_hand:
            time.sleep(DATABASE_RETRY_SECONDS)
        return False
