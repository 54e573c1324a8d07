"""The bots of one side of a comparison, their messages together, and the bots on which a result would hinge."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bisnesctl.rollout.records import BotRecord, Outcomes, total
from bisnesctl.rollout.statistics import MIN_RANKED, quantile

#: Evidence that all bots of a side but one need for the result of the whole side: odds of five to one.
CONFIRMATION = math.log(5)
#: Bots with messages on a side from which on no result may hinge on one of them.
SEVERAL_BOTS = 3
#: Messages of its past from which on a bot is known.
MIN_PAST = 20


@dataclass(frozen=True)
class Member:
    """The messages of one bot."""

    name: str
    plain: Outcomes
    level: int | None  # the median latency of the bot's past, as a step; None: it is not known
    is_known: bool  # whether its past tells how often its messages fail by themselves
    before: Outcomes  # its past, if these messages are not the past themselves

    @cached_property
    def levelled(self) -> Outcomes:
        """The same messages, with latencies in relation to the bot's past; without latencies if that is not known."""
        if self.level is None:
            return self.plain.without_latencies()
        return self.plain.levelled(self.level)


@dataclass(frozen=True)
class Side:
    """Some bots."""

    members: Sequence[Member]

    @cached_property
    def plain(self) -> Outcomes:
        """The messages of all bots."""
        return total(each.plain for each in self.members)

    @cached_property
    def levelled(self) -> Outcomes:
        """The same with latencies in relation to each bot's past."""
        return total(each.levelled for each in self.members)

    @cached_property
    def past(self) -> Outcomes:
        """The past of all bots."""
        return total(each.before for each in self.members)

    @property
    def has_levels(self) -> bool:
        """Whether the past latencies of any bot are known."""
        return any(each.level is not None for each in self.members)

    @property
    def active(self) -> list[Member]:
        """The bots that had messages."""
        return [each for each in self.members if each.plain.share.whole]

    def hinge(self, evidence: Callable[[Outcomes], float], levelled: bool = False) -> str:
        """The bot without which a result would not be confirmed; empty if there is none.

        One of two bots is enough if its past is not known: it may be bad by itself. `evidence`: for the result, of the
        messages of the other bots.
        """
        active = self.active
        together = self.levelled if levelled else self.plain
        several = len(active) >= SEVERAL_BOTS
        decisive = active if several else [each for each in active if len(active) > 1 and not each.is_known]
        for each in decisive:
            if evidence(together - (each.levelled if levelled else each.plain)) < CONFIRMATION:
                return each.name
        return ""


def side(bots: Sequence[BotRecord]) -> Side:
    """The messages of some bots since the step began."""
    return Side([_member(each, each.now, each.before) for each in bots])


def past_side(bots: Sequence[BotRecord]) -> Side:
    """The past of some bots."""
    return Side([_member(each, each.before, Outcomes()) for each in bots])


def probes_of(bots: Sequence[BotRecord]) -> Side:
    """The messages to test chats, which have no past. They are all alike, so that no result can hinge on a bot."""
    return Side([Member(each.name, each.probes, None, True, Outcomes()) for each in bots])


def _member(bot: BotRecord, outcomes: Outcomes, before: Outcomes) -> Member:
    enough = sum(bot.before.latencies.values()) >= MIN_RANKED
    level = quantile(bot.before.latencies, 0.5) if enough else None
    return Member(bot.name, outcomes, level, bot.before.share.whole >= MIN_PAST, before)
