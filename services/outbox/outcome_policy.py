"""The meaning of an outcome for a message, for its row in the outbox, and for its number.

Pure decisions of what a worker sees, without the database. `OutagePolicy` decides whose fault it is that a message did
not leave: the message's own, or that of the provider and the way to it. `settle` turns an outcome into a status. The
memory of the policy may be lost at any time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bisnesctl.backoff import Backoff
from services.message import Held, Outcome, Outgoing, Rejected, Retry, Scope, Sent, Status, Unavailable, Unknown

#: Seconds for the longest back-off of a message.
LONGEST_BACKOFF_SECONDS = 300.0
#: The share by which a message's back-off may be shorter.
BACKOFF_JITTER = 0.25
#: Characters of a provider's id, for which `messages.external_id` has room.
MAX_PROVIDER_ID_CHARACTERS = 255
#: Characters of a reason that are kept.
MAX_REASON_CHARACTERS = 2000
#: Seconds before a message that no attempt was made at is due again.
NO_ATTEMPT_SECONDS = 1.0
#: Seconds that a chat waits after a message whose outcome is unknown: the provider may have it and be slow, and the
#: next message must not overtake it there.
UNKNOWN_PAUSE_SECONDS = 3.0
#: Seconds for which a message that met an outage lets those of other chats go first once the pause is over.
TURN_SECONDS = 0.2
#: Seconds for which a success of a number shows that its provider serves it.
RECENT_SECONDS = 2.0
#: Refused messages that are remembered.
MAX_REFUSED = 10_000
#: Seconds that a chat waits after the first attempt that failed; doubles after, up to the pauses' longest.
CHAT_PAUSE_SECONDS = 1.0
#: Refusals for its chat alone, after which the message itself is charged in any case: about 90 minutes.
CHAT_REFUSALS = 100
#: The share of the pauses for which a worker leaves a number that it could not reach to the others.
OWN_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a message is tried, and the seconds of its first back-off."""

    limit: int
    first_seconds: float

    def pause(self, made: int) -> float:
        """Seconds to wait after `made` attempts."""
        return Backoff(self.first_seconds, 2, LONGEST_BACKOFF_SECONDS, BACKOFF_JITTER).pause(made)


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two attempts of a number with an outage, which double each time, and when it is reported."""

    first: float = 1.0
    longest: float = 60.0
    reported_after: float = 5.0  # seconds for which an outage lasts before it is shown and reported

    def backoff(self, first_seconds: float) -> Backoff:
        """The back-off that begins with this pause. Without jitter: one message at a time finds out."""
        return Backoff(first_seconds, 2, self.longest)


#: For every channel.
USUAL_PAUSES = Pauses()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an attempt, for the message's row and its lane.

    `final` frees the chat's next message; without it the message stays the oldest. It is due in `after` seconds.
    A `status` of None means that no attempt was made. If its claim was lost, a result counts only if the message may
    have left under that claim (`marked`).
    """

    bot_id: int
    chat_id: str
    id: int
    claim: str
    final: bool
    status: Status | None
    after: float = 0.0
    provider_id: str | None = None
    code: str | None = None
    error: str | None = None
    fence: int | None = None  # the number of the claim; None: any
    marked: bool = True
    recipient: str | None = None  # the chat as the provider calls it
    kind: str | None = None  # of the message; None: not known


@dataclass(frozen=True, slots=True)
class Hold:
    """A number, or every number of its business account, that sends nothing for a while."""

    bot_id: int
    scope: Scope
    after: float | None  # seconds; None: until an operator acts, or its cause is found to be gone
    reason: str
    slower: bool = False  # its rate is halved for a while as well
    code: str | None = None  # names its cause, which a good update or check ends; None: it ends otherwise


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt failed because of the provider or the way to it."""

    bot_id: int
    code: str
    reason: str
    probe: bool  # whether the attempt was to find out if the outage is over
    least: float = 0.0  # seconds to pause at least


@dataclass(frozen=True, slots=True)
class Answer:
    """An attempt was answered while its number had an outage."""

    bot_id: int
    sent: bool  # it got through; False: it was refused for a reason of its own, or no attempt was made after all


@dataclass(frozen=True, slots=True)
class Postponed:
    """The message waits, and no attempt of it is counted."""

    after: float  # seconds


def settle(message: Outgoing, outcome: Outcome | Postponed | None, attempts: Attempts, claim: str) -> Result:
    """The one place where an outcome becomes a status; None stands for no attempt at all."""
    result = partial(Result, message.bot_id, message.chat_id, message.id, claim, fence=message.fence, kind=message.kind)
    match outcome:
        case Sent(provider_id, recipient):
            return result(True, Status.SENT, provider_id=provider_id, recipient=recipient)
        case Unknown(reason, outage, code):
            return result(True, Status.UNKNOWN, after=UNKNOWN_PAUSE_SECONDS, code=code or outage or None, error=reason)
        case Held(code, reason):
            return result(False, Status.WAITING, code=code, error=reason)
        case Rejected(code, reason):
            return result(True, Status.FAILED, code=code, error=reason)
        case Retry(after=after, counted=False):
            return result(False, None, after=after or attempts.first_seconds)
        case Retry(code, reason, after, limit, growth=growth):
            made = message.attempts + 1
            if made >= (limit or attempts.limit):
                return result(True, Status.FAILED, code=code, error=f"{reason} (gave up after {made} attempts)")
            wait = (
                attempts.pause(made) if after is None else Backoff(after, growth, LONGEST_BACKOFF_SECONDS).pause(made)
            )
            return result(False, Status.QUEUED, after=wait, code=code, error=reason)
        case Postponed(after):
            return result(False, None, after=after)
        case _:
            return result(False, None, after=NO_ATTEMPT_SECONDS)


def hold_of(message: Outgoing, outcome: Outcome | Postponed | None) -> Hold | None:
    """The hold of the whole number or account that the outcome demands, if it does."""
    match outcome:
        case Held(code, reason):
            return Hold(message.bot_id, Scope.BOT, None, f"{code}: {reason}", code=code)
        case Retry(code, reason, after, scope=Scope.BOT | Scope.ACCOUNT as scope, slower=slower):
            return Hold(message.bot_id, scope, after or LONGEST_BACKOFF_SECONDS, f"{code}: {reason}", slower)
    return None


def unstorable(outcome: Outcome | None) -> Outcome | None:
    """An outcome in place of one that the database refuses: it says whether the message may have left."""
    match outcome:
        case Sent() | Unknown():
            return Unknown("its outcome could not be stored; the log of the worker has the reason")
        case None:
            return None
    return Rejected("internal", "its outcome could not be stored; the log of the worker has the reason")


def behind_others(
    message: Outgoing, outcome: Outcome | Postponed | None, held: Mapping[int, float]
) -> Outcome | Postponed | None:
    """The outcome of a message that found out that its number's outage lasts: another chat goes next.

    `held`: seconds for which each number pauses now. The message may be the only one that its provider refuses.
    """
    if message.outage is None or not isinstance(outcome, Postponed):
        return outcome
    return Postponed(max(outcome.after, held.get(message.bot_id, 0.0) + TURN_SECONDS))


Verdict = tuple[Outcome | Postponed | None, Fault | Answer | None]


@dataclass(frozen=True, slots=True)
class _Refused:
    first: float
    last: float
    times: int


class OutagePolicy:
    """One worker's judgement. Not safe for threads."""

    def __init__(self, pauses: Pauses, clock: Callable[[], float] = time.monotonic) -> None:
        self._pauses, self._clock = pauses, clock
        self._sent: dict[int, float] = {}  # by bot: when a message of its last got through
        self._refused: OrderedDict[int, _Refused] = OrderedDict()  # by message: when it was last refused
        self._since_sent: dict[int, int | None] = {}  # by bot: the message refused since then; None: several
        self._unreached: dict[int, _Refused] = {}  # by bot: faults since this worker last got an answer

    def judge(self, message: Outgoing, outcome: Outcome | None) -> Verdict:
        """The outcome as it counts for the message, and the finding about its number's outage, if there is one.

        The texts of both can be stored.
        """
        bot, outcome = message.bot_id, outcome and _storable(outcome)
        if sent := isinstance(outcome, Sent):
            self._sent[bot] = self._clock()
            if self._since_sent:
                self._since_sent.pop(bot, None)
        elif isinstance(outcome, Unavailable):
            return self._unavailable(message, outcome)
        elif isinstance(outcome, Unknown) and outcome.outage:
            fault = Fault(bot, outcome.outage, outcome.reason, message.outage is not None)
            return outcome, None if self._serves(message) else self._noted(fault)
        if message.outage is None and not (sent and bot in self._unreached):
            return outcome, None
        if sent:
            self._unreached.pop(bot, None)
        return outcome, Answer(bot, sent)

    def left_to_others(self) -> Iterable[int]:
        """The numbers that this worker could not reach a moment ago: another one may be able to."""
        if not self._unreached:
            return ()
        now, backoff = self._clock(), self._pauses.backoff(self._pauses.first)
        return [
            bot_id
            for bot_id, fault in self._unreached.items()
            if now < fault.last + OWN_SHARE * backoff.pause(fault.times)
        ]

    def _unavailable(self, message: Outgoing, outcome: Unavailable) -> Verdict:
        refused = self._refused.get(message.id)
        too_often = outcome.scope is Scope.CHAT and refused is not None and refused.times >= CHAT_REFUSALS
        own = outcome.chargeable and (too_often or self._is_refused_alone(message))
        self._remember(message)
        fault = None
        if outcome.scope is Scope.BOT and not self._serves(message) and not (own and message.outage is None):
            fault = self._noted(
                Fault(message.bot_id, outcome.code, outcome.reason, message.outage is not None, outcome.after)
            )
        if own:
            return Retry(outcome.code, outcome.reason, outcome.after or None, outcome.attempts), fault
        times = 1 if fault else self._refused[message.id].times
        return Postponed(max(self._pauses.backoff(CHAT_PAUSE_SECONDS).pause(times), outcome.after)), fault

    def _serves(self, message: Outgoing) -> bool:
        """Whether others of the number's messages got through just now."""
        sent = self._sent.get(message.bot_id)
        return message.outage is None and sent is not None and self._clock() - sent <= RECENT_SECONDS

    def _is_refused_alone(self, message: Outgoing) -> bool:
        """Whether others got through since the message was refused before, and none of them was refused since then."""
        earlier, sent = self._refused.get(message.id), self._sent.get(message.bot_id)
        if earlier is None or sent is None or sent <= earlier.first:
            return False
        return sent > earlier.last or self._since_sent.get(message.bot_id) == message.id

    def _remember(self, message: Outgoing) -> None:
        """Note that a message was refused now."""
        now, bot = self._clock(), message.bot_id
        earlier = self._refused.pop(message.id, None)
        self._refused[message.id] = _Refused(
            earlier.first if earlier else now, now, earlier.times + 1 if earlier else 1
        )
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)
        self._since_sent[bot] = message.id if self._since_sent.get(bot, message.id) == message.id else None

    def _noted(self, fault: Fault) -> Fault:
        earlier = self._unreached.get(fault.bot_id)
        times = (earlier.times if earlier else 0) + (fault.probe or earlier is None)
        now = self._clock()
        self._unreached[fault.bot_id] = _Refused(earlier.first if earlier else now, now, times)
        return fault


def _storable(outcome: Outcome) -> Outcome:
    """The outcome with its provider's texts as PostgreSQL can store them: no NUL, valid UTF-8, limited in length."""
    match outcome:
        case Sent(provider_id):
            if provider_id is None or _storable_text(provider_id, MAX_PROVIDER_ID_CHARACTERS) == provider_id:
                return outcome
            return Unknown("it was sent, but the id that the provider gave it cannot be stored")
        case Unknown(reason):
            return replace(outcome, reason=_storable_text(reason))
        case _:
            return replace(outcome, code=_storable_text(outcome.code), reason=_storable_text(outcome.reason))


def _storable_text(text: str, limit: int = MAX_REASON_CHARACTERS) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()[:limit]
