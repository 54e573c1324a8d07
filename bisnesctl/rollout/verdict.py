"""The verdict on a step of a rollout: a pure function of what both sides achieved.

Three results are possible. A step that cannot be judged yet is neither passed nor failed: it is held. The verdict
depends on the data alone, so that looking often, or in another order, changes nothing (see `statistics`).

- An alarm fails at once.
- Bots that were far worse than the others before they were moved are set aside: they are compared with their own past.
- All other bots of both sides are compared with each other, since the step began: shares of failures, the share of each
  code, and latencies, each in relation to what the bot's latencies were before.
- If no bot is left on the other side, the moved bots are compared with their own past.
- No result hinges on one bot of several: the others alone have to point the same way.
- Messages to test chats are compared apart. They may pass a step whose customers write little, and may fail it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bisnesctl.formatting import listed
from bisnesctl.rollout import sentences
from bisnesctl.rollout.records import BotRecord, Comparison, Criteria, Outcomes, Ruling, Verdict
from bisnesctl.rollout.sides import Side, past_side, probes_of, side
from bisnesctl.rollout.statistics import MIN_RANKED, Share, evidence_of_more, evidence_of_no_more, fisher, rank

#: The probability that a step fails although the moved side is not worse, at most, however often somebody looks.
FALSE_ALARM = 0.01
#: The same, that bots of the moved side fail it which cannot send for reasons of their own.
FALSE_ALARM_BOTS = 0.01
#: The probability that a step passes although the moved side is worse by the whole margin, at most.
FALSE_PASS = 0.05
#: Tests among which `FALSE_ALARM` is divided: customers' messages, set-aside bots and probes, each by three measures.
TESTS = 9
#: Codes of errors among which the part of one test is divided.
CODES = 16
#: Evidence that a bot was worse than the others before it was moved.
SET_ASIDE = math.log(10)
#: Moved bots without trouble that are enough to judge a step in spite of one that has trouble.
ENOUGH_BOTS = 2

#: The rulings of parts, the deciding ones first.
ORDER = (Ruling.FAIL, Ruling.HOLD, Ruling.PASS)
#: The criteria unless others are given.
STANDARD = Criteria()

_FAIL_EVIDENCE = math.log(TESTS / FALSE_ALARM)
_FAIL_EVIDENCE_OF_CODE = math.log(TESTS * CODES / FALSE_ALARM)
_PASS_EVIDENCE = -math.log(FALSE_PASS)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one test."""

    ruling: Ruling
    text: str
    leaning: bool = False  # held, and the moved side looks worse


def judge(comparison: Comparison, criteria: Criteria = STANDARD) -> Verdict:
    """The verdict on the step that the comparison is of."""
    aside = _set_aside(comparison, criteria)
    worse = _got_worse(comparison, criteria)
    names = tuple(each.name for each in worse)
    notes = [
        *(f"bot {each.name} got worse: {sentences.past(each.now, each.before)}" for each in worse),
        *(f"bot {each.name} is compared with its own past alone: {sentences.past(each.now, each.before)}"
          for each in (*comparison.moved, *comparison.unmoved) if each.name in aside),
        *(f"bot {each.name} cannot send: {each.trouble}" for each in comparison.moved if each.trouble),
    ]  # fmt: skip
    if comparison.alarms:
        return Verdict(Ruling.FAIL, (*(each.text for each in comparison.alarms), *notes), names)
    findings = [*_judge_messages(comparison, aside, criteria), *_judge_bots(comparison)]
    ruling = _sum_up(findings)
    deciding = [each.text for each in findings if each.ruling is ruling]
    others = [each.text for each in findings if each.ruling is not ruling]
    return Verdict(ruling, tuple(dict.fromkeys([*deciding, *notes, *others])), names)


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict on several channels, by their names. Without any it is held."""
    if not verdicts:
        return Verdict(Ruling.HOLD, ("no bot has moved yet: nothing to compare",))
    ruling = next(each for each in ORDER if each in {found.ruling for found in verdicts.values()})
    reasons = [
        f"{channel}: {text}" if len(verdicts) > 1 else text
        for channel, found in sorted(verdicts.items(), key=lambda each: ORDER.index(each[1].ruling))
        for text in found.reasons
    ]
    return Verdict(ruling, tuple(reasons), tuple(name for found in verdicts.values() for name in found.worse))


def _sum_up(findings: Iterable[Finding]) -> Ruling:
    rulings = {each.ruling for each in findings}
    return next(each for each in ORDER if each in rulings)


# --- Messages ------------------------------------------------------------------------------------------------------


def _judge_messages(comparison: Comparison, aside: set[str], criteria: Criteria) -> list[Finding]:
    usable, own = _divide(comparison.moved, aside)
    others, _ = _divide(comparison.unmoved, aside)
    past = _compare(side(own), past_side(own), criteria, sentences.BEFORE)
    if others and usable:
        customers = _compare(side(usable), side(others), criteria, sentences.OTHER_SIDE)
    elif usable or not own:
        customers = _compare(side(usable), past_side(usable), criteria, sentences.BEFORE)
    else:
        customers = past
    probing = probes_of(usable)
    answering = probes_of(others)
    probes = _compare(probing, answering, criteria, sentences.OTHER_SIDE, "probes")
    if failed := [each for each in (*customers, *past, *probes) if each.ruling is Ruling.FAIL]:
        return failed
    if _sum_up(customers) is Ruling.PASS:
        return customers
    if _sum_up(probes) is Ruling.PASS and not any(each.leaning for each in customers):
        return [*probes, *(Finding(Ruling.PASS, f"customers alone: {each.text}") for each in customers)]
    return [*customers, *(probes if probing.active and answering.active else ())]


def _divide(bots: Sequence[BotRecord], aside: set[str]) -> tuple[list[BotRecord], list[BotRecord]]:
    """The bots that can be compared with the other side, and those that are set aside. Those in trouble are neither."""
    able = [each for each in bots if not each.trouble]
    return [each for each in able if each.name not in aside], [each for each in able if each.name in aside]


def _compare(moved: Side, other: Side, criteria: Criteria, name: str, noun: str = "messages") -> list[Finding]:
    """The findings about failures, codes and latencies; those about codes only if they fail."""
    codes = [_compare_code(moved, other, criteria, code, name, noun) for code in sorted(moved.plain.failures)]
    return [
        _compare_failures(moved, other, criteria, name, noun),
        *(each for each in codes if each),
        _compare_latencies(moved, other, criteria, name, noun),
    ]


def _compare_failures(moved: Side, other: Side, criteria: Criteria, name: str, noun: str) -> Finding:
    one, two, margin = moved.plain.share, other.plain.share, criteria.failure_margin
    words = sentences.failures(moved.plain, other.plain, name, noun)

    def evidence_of_worse(found: Outcomes) -> float:
        return evidence_of_more(found.share, two) if found.share.value - two.value >= margin else -math.inf

    if not one.whole or not two.whole:
        return Finding(Ruling.HOLD, sentences.nothing(one, two, name, noun))
    if evidence_of_worse(moved.plain) >= _FAIL_EVIDENCE:
        if single := moved.hinge(evidence_of_worse):
            return Finding(Ruling.HOLD, f"{words}, but only because of bot {single}", leaning=True)
        return Finding(Ruling.FAIL, f"{words}: too many{sentences.main_code(moved.plain)}")
    if evidence_of_no_more(one, two, margin) >= _PASS_EVIDENCE:
        if single := other.hinge(lambda found: evidence_of_no_more(one, found.share, margin)):
            return Finding(Ruling.HOLD, f"{words}, but without bot {single} the other side would be better")
        return Finding(Ruling.PASS, f"{words}: as good")
    leaning = one.value - two.value >= margin
    return Finding(Ruling.HOLD, f"{words}: {_still_needed(one, two, margin, noun, leaning)}", leaning)


def _compare_code(
    moved: Side, other: Side, criteria: Criteria, code: str, name: str, noun: str
) -> Finding | None:  # fmt: skip
    two = other.plain.share_of(code)

    def evidence_of_worse(found: Outcomes) -> float:
        one = found.share_of(code)
        return evidence_of_more(one, two) if one.value - two.value >= criteria.failure_margin else -math.inf

    if not two.whole or evidence_of_worse(moved.plain) < _FAIL_EVIDENCE_OF_CODE or moved.hinge(evidence_of_worse):
        return None
    return Finding(Ruling.FAIL, sentences.code(code, moved.plain, other.plain, name, noun))


def _compare_latencies(moved: Side, other: Side, criteria: Criteria, name: str, noun: str) -> Finding:
    steps = criteria.latency_steps
    fair = moved.has_levels and other.has_levels
    one, two = (moved.levelled, other.levelled) if fair else (moved.plain, other.plain)
    least = steps if fair else 2 * steps  # bots differ: without their past, a small difference may be theirs

    def evidence_of_slower(found: Outcomes) -> float:
        if rank(found.latencies, two.latencies, least).larger < 0.5:
            return -math.inf
        return rank(found.latencies, two.latencies).evidence_of_larger

    def evidence_of_as_fast(found: Outcomes) -> float:
        return rank(one.latencies, found.latencies, steps).evidence_of_smaller

    if min(sum(each.latencies.values()) for each in (one, two)) < MIN_RANKED:
        return Finding(Ruling.HOLD, f"latencies: fewer than {MIN_RANKED} {noun} were sent on one side")
    words = sentences.latencies(moved.plain, moved.past, other.plain, other.past, name)
    if evidence_of_slower(one) >= _FAIL_EVIDENCE:
        if single := moved.hinge(evidence_of_slower, fair):
            return Finding(Ruling.HOLD, f"{words}, but only because of bot {single}", leaning=True)
        return Finding(Ruling.FAIL, f"{words}: too slow")
    if evidence_of_as_fast(two) >= _PASS_EVIDENCE:
        if single := other.hinge(evidence_of_as_fast, fair):
            return Finding(Ruling.HOLD, f"{words}, but without bot {single} the other side would be faster")
        return Finding(Ruling.PASS, f"{words}: as fast")
    leaning = rank(one.latencies, two.latencies, steps).larger >= 0.5
    return Finding(Ruling.HOLD, f"{words}: too few to be sure", leaning)


def _still_needed(one: Share, two: Share, margin: float, noun: str, leaning: bool) -> str:
    """How many more messages would pass, or fail, if the shares stay as they are."""
    if not leaning and one.value >= two.value + margin * 0.75:
        return "too close to the margin to be sure"
    factor = 1.0
    while factor < 1000:
        factor *= 1.25
        more = Share(round(one.part * factor), round(one.whole * factor))
        others = Share(round(two.part * factor), round(two.whole * factor))
        enough = (
            evidence_of_more(more, others) >= _FAIL_EVIDENCE
            if leaning
            else evidence_of_no_more(more, others, margin) >= _PASS_EVIDENCE
        )
        if enough:
            return f"about {sentences.rounded(more.whole - one.whole)} more {noun} are needed to be sure"
    return "too few to be sure"


# --- Bots ----------------------------------------------------------------------------------------------------------


def _judge_bots(comparison: Comparison) -> list[Finding]:
    """Findings about bots that cannot send, or are not connected. None if all can."""
    moved, unmoved = comparison.moved, comparison.unmoved
    new = [each.name for each in moved if each.trouble and each.trouble_is_new]
    others = [each.name for each in unmoved if each.trouble and each.trouble_is_new]
    findings = []
    if new:
        words = f"{sentences.bots(len(new))} of {len(moved)} moved cannot send since the step began ({listed(new)})"
        one, two = Share(len(new), len(moved)), Share(len(others), len(unmoved))
        if two.whole and one.value > two.value and fisher(one, two) <= FALSE_ALARM_BOTS:
            findings.append(Finding(Ruling.FAIL, f"{words}, {len(others)} of {len(unmoved)} others: too many"))
        elif len(new) > 1 or len([each for each in moved if not each.trouble and each.now.sent]) < ENOUGH_BOTS:
            findings.append(Finding(Ruling.HOLD, f"{words}, {len(others)} of {len(unmoved)} others"))
    absent = [each.name for each in moved if not each.connected and not each.trouble]
    if absent:
        findings.append(Finding(Ruling.HOLD, f"{sentences.bots(len(absent))} not connected yet: {listed(absent)}"))
    return findings


def _set_aside(comparison: Comparison, criteria: Criteria) -> set[str]:
    """The bots whose messages failed more often than those of all better bots before any was moved.

    Only the past decides, on both sides alike, so that it favours neither.
    """
    aside, better = set(), Share(0, 0)
    for each in sorted((*comparison.moved, *comparison.unmoved), key=lambda bot: bot.before.share.value):
        if _is_more(each.before.share, better, criteria.failure_margin, SET_ASIDE):
            aside.add(each.name)
        else:
            better += each.before.share
    return aside


def _got_worse(comparison: Comparison, criteria: Criteria) -> list[BotRecord]:
    """The moved bots whose messages fail more often than before, and than those of the other side now."""
    evidence = math.log(max(len(comparison.moved), 1) / FALSE_ALARM)
    others = sum((each.now.share for each in comparison.unmoved if not each.trouble), Share(0, 0))
    margin = criteria.failure_margin
    return [
        each
        for each in comparison.moved
        if _is_more(each.now.share, each.before.share, margin, evidence)
        and (not others.whole or _is_more(each.now.share, others, margin, 0))
    ]


def _is_more(one: Share, other: Share, margin: float, evidence: float) -> bool:
    if not one.whole or not other.whole or one.value - other.value < margin:
        return False
    return evidence_of_more(one, other) >= evidence
