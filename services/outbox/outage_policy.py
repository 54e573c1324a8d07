"""Whose fault it is that a message did not leave: its own, or that of what lies between us and its recipient.

A pure state machine over what a worker sees, without database and clock of its own. What it remembers may be lost at
any time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.message import Outcome, Outgoing, Retry, Scope, Sent, Unavailable, Unknown

#: Seconds for which a success of a number shows that its provider serves it.
RECENT_SECONDS = 2.0
#: Refused messages that are remembered.
REMEMBERED = 10_000
#: Seconds that a chat waits after the first attempt that failed; doubles after, up to the pauses' longest.
CHAT_PAUSE_SECONDS = 1.0
#: Refusals for its chat alone, after which a message is charged whatever the others do: about 90 minutes.
CHAT_REFUSALS = 100
#: The share of the pauses for which a worker leaves a number that it could not reach to the others.
OWN_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two attempts of a number with an outage, which double each time, and when it is reported."""

    first: float = 1.0
    longest: float = 60.0
    reported_after: float = 5.0  # seconds for which an outage lasts before it is shown and told


#: For every channel.
USUAL_PAUSES = Pauses()


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
        """What an outcome means for the message, and what it says of its number's outage, if anything."""
        bot = message.bot_id
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
        now = self._clock()
        return [bot for bot, fault in self._unreached.items() if now < fault.last + self._own_pause(fault.times)]

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
        pause = self._pause(CHAT_PAUSE_SECONDS, 0 if fault else self._refused[message.id].times - 1)
        return Postponed(max(pause, outcome.after)), fault

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
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
        self._since_sent[bot] = message.id if self._since_sent.get(bot, message.id) == message.id else None

    def _noted(self, fault: Fault) -> Fault:
        earlier = self._unreached.get(fault.bot_id)
        times = (earlier.times if earlier else 0) + (fault.probe or earlier is None)
        now = self._clock()
        self._unreached[fault.bot_id] = _Refused(earlier.first if earlier else now, now, times)
        return fault

    def _own_pause(self, times: int) -> float:
        return OWN_SHARE * self._pause(self._pauses.first, times - 1)

    def _pause(self, first: float, doublings: int) -> float:
        return min(first * 2.0 ** min(doublings, 30), self._pauses.longest)
