"""Delivery: claim due messages, send them through their channel's connector, write down what became of them.

The loop below is the hot path. One thread runs it at a time in each worker process; results of the last round are
recorded and the next messages claimed in one round trip.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import structlog
from psycopg2 import DataError

from bisnesctl.encryption import EncryptionError
from services.connectors.base import NO_ANSWER, Again, Connector, HttpConnector, Preparation, Refusal, Request
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.http_client.in_flight import Answered, Broken, InFlight
from services.message import Bot, Held, Outcome, Outgoing, Rejected, Retry, Scope, Sent, Status, Unavailable, Unknown
from services.outbox import outages, store
from services.outbox.outage_policy import USUAL_PAUSES, Answer, Fault, OutagePolicy, Pauses, Postponed
from services.outbox.preparations import Preparations
from services.outbox.send_journal import Journal
from services.outbox.store import Hold, Outbox, Result

#: Seconds that outcomes wait for company before they are recorded.
GATHER = 0.01
#: Seconds between two calls of `before_look` while messages are in hand: hints in between are coalesced.
HINT_PAUSE = 0.02
#: Seconds after which more is claimed even though less than half of the window is free.
PATIENCE = 0.05
#: Seconds that the network is waited for at most; a hint ends the wait.
POLL = 0.01
#: Seconds between two tries to reach a database that is away.
DATABASE_WAIT = 0.5
#: Seconds for the longest back-off.
MAX_BACKOFF = 300.0
#: Characters of a provider's id, as `messages.external_id` has room for, and of a reason.
MAX_PROVIDER_ID, MAX_REASON = 255, 2000
#: Seconds for which a message that met an outage lets those of other chats go first once the pause is over.
TURN_SECONDS = 0.2
#: Times that a connector is asked for the next step of one attempt.
MAX_STEPS = 6

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a message is tried, and the base of its exponential back-off in seconds."""

    limit: int
    base: float

    def backoff(self, made: int) -> float:
        """Seconds to wait after `made` attempts: base, 2·base, 4·base, … with up to a quarter less as jitter."""
        return min(self.base * 2.0 ** (made - 1), MAX_BACKOFF) * random.uniform(0.75, 1.0)  # noqa: S311


@dataclass(slots=True)
class _InHand:
    """A claimed message and the journal's slot that it occupies until its outcome is recorded."""

    message: Outgoing
    slot: int
    steps: int = 0  # how often the connector was asked what to do
    probed: bool = False  # whether it was found out that its number's outage is over


def settle(message: Outgoing, outcome: Outcome | Postponed | None, attempts: Attempts, claim: str) -> Result:
    """The one place where an outcome becomes a status; None stands for no attempt at all."""
    result = Result(message.bot_id, message.chat_id, message.id, claim, final=True, status=Status.FAILED)
    match outcome:
        case Sent(provider_id):
            return replace(result, status=Status.SENT, provider_id=provider_id)
        case Unknown(reason):
            return replace(result, status=Status.UNKNOWN, error=reason)
        case Held(code, reason):
            return replace(result, final=False, status=Status.WAITING, code=code, error=reason)
        case Rejected(code, reason):
            return replace(result, code=code, error=reason)
        case Retry(after=after, counted=False):
            return replace(result, final=False, status=None, after=after or attempts.base)
        case Retry(code, reason, after, limit, growth=growth):
            made = message.attempts + 1
            if made >= (limit or attempts.limit):
                return replace(result, code=code, error=f"{reason} (gave up after {made} attempts)")
            wait = attempts.backoff(made) if after is None else min(after * growth ** (made - 1), MAX_BACKOFF)
            return replace(result, final=False, status=Status.QUEUED, after=wait, code=code, error=reason)
        case Postponed(after):
            return replace(result, final=False, status=None, after=after)
        case _:
            return replace(result, final=False, status=None, after=1.0)


def hold_of(message: Outgoing, outcome: Outcome | Postponed | None) -> Hold | None:
    """How the outcome holds the whole number or account, if it does."""
    match outcome:
        case Held(code, reason):
            return Hold(message.bot_id, Scope.BOT, None, f"{code}: {reason}")
        case Retry(code, reason, after, scope=Scope.BOT | Scope.ACCOUNT as scope, slower=slower):
            return Hold(message.bot_id, scope, after or MAX_BACKOFF, f"{code}: {reason}", slower)
    return None


def storable(outcome: Outcome) -> Outcome:
    """The outcome with what its provider says as PostgreSQL takes it: no NUL, UTF-8, no endless text."""
    match outcome:
        case Sent(provider_id):
            if provider_id is None or (len(provider_id) <= MAX_PROVIDER_ID and _cleaned(provider_id) == provider_id):
                return outcome
            return Unknown("it was sent, but the id that the provider gave it cannot be stored")
        case Unknown(reason):
            return replace(outcome, reason=_cleaned(reason)[:MAX_REASON])
        case _:
            return replace(
                outcome, code=_cleaned(outcome.code)[:MAX_REASON], reason=_cleaned(outcome.reason)[:MAX_REASON]
            )


def _cleaned(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()


def unstorable(outcome: Outcome | None) -> Outcome | None:
    """What is left of an outcome that the database refuses: whether the message may have left."""
    match outcome:
        case Sent() | Unknown():
            return Unknown("its outcome could not be stored; the log of the worker has the reason")
        case None:
            return None
    return Rejected("internal", "its outcome could not be stored; the log of the worker has the reason")


def behind_others(
    message: Outgoing, outcome: Outcome | Postponed | None, held: Mapping[int, float]
) -> Outcome | Postponed | None:
    """The outcome of a message that found out that its number's outage lasts: next time it is another chat's turn.

    `held`: seconds for which each number pauses now. The message may be the only one that its provider does not take.
    """
    if message.outage is None or not isinstance(outcome, Postponed):
        return outcome
    return Postponed(max(outcome.after, held.get(message.bot_id, 0.0) + TURN_SECONDS))


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
        before_look: Callable[[], None] = lambda: None,
        pauses: Pauses = USUAL_PAUSES,
    ) -> None:
        """`bot_of` gives a bot, its token decrypted. `before_look` says to whoever hints that another look comes now,
        so that what is accepted from here on is hinted at again."""
        self._connector, self._outbox, self._database = connector, outbox, database
        self._bot_of, self._before_look, self._attempts = bot_of, before_look, attempts
        self._journal, self._window = journal, window
        self._pauses, self._policy = pauses, OutagePolicy(pauses)
        self._preparations = Preparations(window.interrupt)
        self._free = list(range(window.size))
        self._done: list[tuple[_InHand, Outcome | None]] = []
        self._in_hand: dict[int, _InHand] = {}
        self._together = window.size  # outcomes that are recorded at once; one at a time while one of them is refused
        self._connection: Connection | None = None
        self._recorded = self._announced = 0.0  # when results were last recorded, and before_look last called
        self._working, self._woken = threading.Lock(), threading.Event()
        self._stopping = False
        self.paused = False  # whether nothing is claimed for now; what is in hand goes on
        self.progressed = time.monotonic()  # when the loop last came round, for the watchdog
        self.counts: Counter[Status] = Counter()
        self.faults = 0  # attempts that failed because of the provider or the way to it

    @property
    def in_hand(self) -> int:
        """Messages that are claimed and whose outcome is not yet recorded."""
        return len(self._in_hand)

    @property
    def preparing(self) -> int:
        """Messages in hand whose files are being fetched or uploaded."""
        return self._preparations.pending

    @property
    def working(self) -> bool:
        """Whether a thread is in the loop."""
        return self._working.locked()

    def stop(self) -> None:
        """Claim nothing more; what is in hand is finished."""
        self._stopping = True

    def wake(self) -> None:
        """Send until nothing is due. Returns at once where another thread is at it: that one then looks again."""
        self._woken.set()
        self._window.interrupt()
        while self._woken.is_set() and self._working.acquire(blocking=False):
            try:
                self._send_until_idle()
            finally:
                self._working.release()

    def _send_until_idle(self) -> None:
        looking = hinted = False
        while True:
            now = self.progressed = time.monotonic()
            if self._woken.is_set():
                self._woken.clear()
                looking = hinted = True
            if self._worth_an_exchange(looking):
                looking = self._exchange()
            elif hinted and (not self._in_hand or now - self._announced >= HINT_PAUSE):
                self._before_look()
                self._announced, looking, hinted = now, True, False
            elif self._window.in_flight or self._preparations.pending:
                self._collect()
            elif not self._done and not self._woken.is_set():
                return

    def _worth_an_exchange(self, looking: bool) -> bool:
        now = time.monotonic()
        if self._done and (not self._window.in_flight or now - self._recorded >= GATHER):
            return True
        free = len(self._free) + len(self._done)
        return looking and (2 * free >= self._window.size or (free > 0 and now - self._recorded >= PATIENCE))

    def _exchange(self) -> bool:
        """Record the outcomes and claim the next messages; returns whether there may be more at once."""
        idle = self._stopping or self.paused or not self._journal.usable()
        done, self._done = self._done[: self._together], self._done[self._together :]
        limit = 0 if idle else len(self._free) + len(done)
        try:
            results = self._results(done)
            found = self._outbox.exchange(self._connect(), results, limit, self._held(done))
        except (DatabaseError, DatabaseUnavailable) as error:
            if isinstance(error, DataError) and done:
                return self._refused(done, error)
            self._done = done + self._done
            return self._lost_database(error)
        if not self._done:
            self._together = self._window.size
        self._recorded = time.monotonic()
        for (hand, _), result in zip(done, results, strict=True):
            self._let_go(hand, result)
        for message in found:
            self._submit(message)
        self._collect(0)  # their bytes leave now, before anything else is done
        return 0 < limit == len(found)

    def _refused(self, done: list[tuple[_InHand, Outcome | None]], error: DataError) -> bool:
        """One of the outcomes is nothing that the database can store: find it, and keep what can be kept of it."""
        if len(done) > 1:
            self._together, self._done = 1, done + self._done
            return False
        hand, outcome = done[0]
        log.error("an outcome cannot be stored as it is", message_id=hand.message.message_id, reason=str(error).strip())
        self._done.append((hand, unstorable(outcome)))
        return self._lost_database(error) if outcome == unstorable(outcome) else False

    def _held(self, done: list[tuple[_InHand, Outcome | None]]) -> Counter[int]:
        """How many messages of each number stay in hand when those that are done are recorded.

        A number that is left to other workers counts as one that has all it may.
        """
        counts = Counter(hand.message.bot_id for hand in self._in_hand.values())
        counts.subtract(hand.message.bot_id for hand, _ in done)
        counts.update(dict.fromkeys(self._policy.left_to_others(), 2 * self._window.size))
        return counts

    def _results(self, done: list[tuple[_InHand, Outcome | None]]) -> list[Result]:
        judged = [(hand.message, *self._policy.judge(hand.message, outcome)) for hand, outcome in done]
        findings = [finding for _, _, finding in judged if finding]
        held = self._note(findings) if findings else {}
        holds = [hold for message, outcome, _ in judged if (hold := hold_of(message, outcome))]
        if holds:
            self._outbox.hold_bots(self._connect(), holds)
        return [
            settle(message, behind_others(message, outcome, held), self._attempts, self._outbox.worker)
            for message, outcome, _ in judged
        ]

    def _note(self, findings: list[Fault | Answer]) -> dict[int, float]:
        held = outages.note(self._connect(), findings, self._pauses)
        for each in {each.bot_id: each for each in findings}.values():
            if isinstance(each, Fault):
                log.warning("the provider is not available", bot=each.bot_id, code=each.code, reason=each.reason)
            elif each.sent:
                log.info("the provider is available again", bot=each.bot_id)
        return held

    def _let_go(self, hand: _InHand, result: Result) -> None:
        self._journal.clear(hand.slot)
        self._free.append(hand.slot)
        del self._in_hand[hand.message.id]
        if result.status is not None:
            self.counts[result.status] += 1

    def _submit(self, message: Outgoing) -> None:
        hand = self._in_hand[message.id] = _InHand(message, self._free.pop())
        self._go_on(hand)

    def _go_on(self, hand: _InHand) -> None:
        """Do what the connector says comes next for a message that has not left."""
        hand.steps += 1
        message = hand.message
        try:
            bot = self._bot_of(message.bot_id)
            if bot is None:
                self._done.append((hand, Rejected("unknown_bot", "the bot was removed")))
                return
            step = self._probe(bot, hand) or self._connector.request(bot, message)
        except DatabaseUnavailable:
            self._done.append((hand, None))
        except EncryptionError as error:
            self._done.append((hand, Held("credential", str(error))))
        except Exception as error:  # one message must not stop all others
            log.exception("a message could not be turned into a request", message_id=message.message_id)
            self._done.append((hand, Rejected("internal", f"{type(error).__name__}: {error}")))
        else:
            if isinstance(step, Preparation):
                self._preparations.start(message.bot_id, hand, step)
            elif isinstance(step, Refusal):
                self._take(hand, step)
            else:
                self._hand_over(hand, step)

    def _hand_over(self, hand: _InHand, request: Request) -> None:
        try:
            self._window.submit(hand, request, partial(self._journal.mark, hand.slot, hand.message.id))
        except OSError:  # it could not be marked, so it stays here
            self._done.append((hand, None))

    def _probe(self, bot: Bot, hand: _InHand) -> Preparation | None:
        """What finds out without a message whether its number's outage is over, where a message might be lost to it."""
        if hand.message.outage is None or hand.probed:
            return None
        hand.probed = True
        return self._connector.probe(bot, hand.message.outage)

    def _collect(self, seconds: float = POLL) -> None:
        for hand, answer in self._window.poll(seconds):
            self._take(hand, self._judged(hand.message, answer) if isinstance(answer, Answered | Broken) else answer)
        for hand, refusal in self._preparations.done():
            self._take(hand, Again() if refusal is None else refusal)

    def _take(self, hand: _InHand, outcome: Outcome | Again | None) -> None:
        if not isinstance(outcome, Again):
            self.faults += isinstance(outcome, Unavailable)
            self._done.append((hand, outcome and storable(outcome)))
        elif hand.steps < MAX_STEPS:
            self._journal.clear(hand.slot)
            self._go_on(hand)
        else:
            self._done.append((hand, Retry("steps", "the message could not be made ready")))

    def _judged(self, message: Outgoing, answer: Answered | Broken) -> Outcome | Again | None:
        try:
            return self._outcome(message, answer)
        except Exception as error:  # one answer must not stop all others
            log.exception("an answer could not be understood", message_id=message.message_id)
            return Unknown(f"the answer could not be understood: {type(error).__name__}")

    def _outcome(self, message: Outgoing, answer: Answered | Broken) -> Outcome | Again | None:
        match answer:
            case Answered(status, body):
                # Only the requests of an HttpConnector get such an answer.
                return cast(HttpConnector, self._connector).outcome(message, status, body)
            case Broken(reason, handed=True):
                return Unknown(reason, NO_ANSWER)
            case Broken() if self._journal.trouble is not None:  # it was kept back
                return None
            case Broken(reason, internal=True):
                return Retry("internal", reason)
            case Broken(reason):
                return Unavailable("network", reason)

    def _connect(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect()
            self._release_ghosts(connection)
            self._connection = connection
        return self._connection

    def _release_ghosts(self, connection: Connection) -> None:
        """Give back what was claimed in our name by an exchange whose answer was lost with the connection."""
        ghosts = [lost for lost in store.claimed_by(connection, self._outbox.worker) if lost.id not in self._in_hand]
        self._outbox.record(
            connection, [Result(g.bot_id, g.chat_id, g.id, g.claim, final=False, status=None) for g in ghosts]
        )

    def _lost_database(self, error: Exception) -> bool:
        """Keep the outcomes until the database is back; without any, leave it to the next wake-up."""
        log.warning("outcomes could not be recorded, they are kept", in_hand=self.in_hand, reason=str(error).strip())
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._window.in_flight:
            self._collect()
        if self._in_hand:
            time.sleep(DATABASE_WAIT)
        return False
