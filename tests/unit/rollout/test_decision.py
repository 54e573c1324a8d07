"""The decisions of a rollout, over random sequences of health, crashes and interruptions."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bisnesctl.bots.ownership import Side
from bisnesctl.rollout import decision
from bisnesctl.rollout.decision import Advance, Finish, GoBack, HandOver, Observation, StartSide, Wait, Watch, decide
from bisnesctl.rollout.plan import Step
from bisnesctl.rollout.state import Phase, Rollout

OLD, NEW = Side.LEGACY, Side.MULTIPROCESS
#: Seconds.
BEGAN, LAPSE, STEP_SECONDS = datetime(2026, 1, 1, tzinfo=UTC), 20, 60


STEPS = (Step(25, STEP_SECONDS), Step(50, STEP_SECONDS), Step(100, 0))


def rollout(bots=4, steps=STEPS, **changes):
    made = Rollout(
        1, None, OLD, NEW, tuple(range(bots)), tuple(steps), 0, Phase.FORWARD, paused=False, automatic=True,
        began_at=BEGAN, step_at=None, ended_at=None, by="test", reason="", ruling=None, reasons=(), judged_at=None,
        failures=0, driver=None, driver_seconds=0.0, step_seconds=None,
    )  # fmt: skip
    return replace(made, **changes)


def seen(new=(), bots=4, running=(OLD, NEW), ruling=None, reasons=()):
    owners = {bot: NEW if bot in new else OLD for bot in range(bots)}
    return Observation(owners, frozenset(running), ruling, tuple(reasons))


def watched(seconds, **changes):
    return rollout(step_at=BEGAN, step_seconds=float(seconds), **changes)


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (rollout(), seen(running=[OLD]), StartSide(NEW)),
        (rollout(), seen(), HandOver((0,), NEW)),
        (rollout(), seen(new=[0]), Watch()),
        (rollout(), seen(new=[0, 1]), HandOver((1,), OLD)),
        (watched(60), seen(new=[0], ruling="pass"), Advance()),
        (watched(60, step=2), seen(new=[0, 1, 2, 3]), Finish(Phase.DONE, NEW, "all steps passed")),
        (watched(10), seen(new=[0], ruling="fail", reasons=["2 of 9 failed"]), GoBack("2 of 9 failed")),
        (rollout(phase=Phase.BACK, reason="why"), seen(new=[0]), HandOver((0,), OLD)),
        (rollout(phase=Phase.BACK, reason="why"), seen(new=[0], running=[NEW]), StartSide(OLD)),
        (rollout(phase=Phase.BACK, reason="why"), seen(), Finish(Phase.UNDONE, OLD, "why")),
        (rollout(failures=2), seen(running=[OLD]), GoBack("multiprocess does not start")),
        (
            rollout(failures=2, reason="api-0 fails"), seen(running=[OLD]),
            GoBack("multiprocess does not start: api-0 fails"),
        ),
        (watched(60, paused=True), seen(new=[0], ruling="fail"), GoBack("the moved bots do worse")),
        (watched(60), seen(new=[0], running=[OLD], ruling="pass"), StartSide(NEW)),
    ],
)  # fmt: skip
def test_each_situation_has_its_action(state, facts, expected):
    assert decide(state, facts) == expected


@pytest.mark.parametrize(
    ("state", "facts", "named"),
    [
        (watched(59), seen(new=[0], ruling="pass"), "watched for"),
        (watched(60), seen(new=[0], ruling="hold", reasons=["only 3 messages"]), "only 3 messages"),
        (watched(60), seen(new=[0]), "no verdict"),
        (watched(60, paused=True), seen(new=[0], ruling="pass"), "paused"),
        (watched(9999, automatic=False), seen(new=[0], ruling="pass"), "does not advance by itself"),
    ],
)
def test_a_step_is_held_without_a_verdict_that_passes_it(state, facts, named):
    action = decide(state, facts)
    assert isinstance(action, Wait)
    assert named in action.reason


def test_a_bot_that_was_removed_holds_up_nothing():
    facts = Observation({1: OLD, 2: OLD, 3: OLD}, frozenset({OLD, NEW}))
    assert decide(rollout(), facts) == Watch()


@dataclass
class Owned:
    """A bot as the database has it."""

    owner: Side = OLD
    epoch: int = 1
    to: Side | None = None
    lapses: int = 0

    def claimed_by(self, now):
        """The sides that may claim its messages."""
        return set() if self.lapses > now else {self.owner}


class Rollouts(RuleBasedStateMachine):
    """A world in which sides die, tools are killed between any two steps, and operators type what they like."""

    @initialize(bots=st.integers(1, 9), steps=st.lists(st.sampled_from([5, 10, 33, 50, 90]), unique=True, max_size=3))
    def begin(self, bots, steps):
        self.now = 0
        self.bots = {number: Owned() for number in range(bots)}
        shares = [*(Step(share, STEP_SECONDS) for share in sorted(steps)), Step(100, 0)]
        self.rollout = rollout(bots, shares)
        self.running = {OLD}
        self.startable = {OLD, NEW}
        self.ruling = None
        self.fenced = {number: set() for number in range(bots)}

    # The driver, which may be killed after each of its effects.

    def _state(self):
        at = self.rollout.step_at
        return replace(self.rollout, step_seconds=None if at is None else self.now - (at - BEGAN).total_seconds())

    def _save(self, changes):
        now = BEGAN + timedelta(seconds=self.now)
        values: dict[str, Any] = {name: now if each == "now" else each for name, each in changes.items()}
        if "reasons" in values:
            values["reasons"] = tuple(values["reasons"])
        self.rollout = replace(self.rollout, **values)

    def _drive(self, effects):
        if self.rollout.ended_at is not None:
            return
        state = self._state()
        owners = {number: each.owner for number, each in self.bots.items()}
        facts = Observation(owners, frozenset(self.running), self.ruling, ("a reason",))
        action = decide(state, facts)
        for number, effect in enumerate(self._effects(action, state)):
            if number >= effects or effect() is False:
                return  # killed, or it failed

    def _effects(self, action, state):
        match action:
            case StartSide(side):
                yield lambda: self._start(side)
            case HandOver(bots, to):
                yield lambda: [self._drain(bot, to) for bot in bots]
                for bot in bots:
                    yield lambda bot=bot: self._complete(bot, to)
            case Finish(_, side, _):
                yield lambda: self._start(side)
                yield lambda: self.running.discard(side.other)
                assert side in self.running
                yield lambda: self._save(decision.changes_of(state, action))
            case _:
                yield lambda: self._save(decision.changes_of(state, action))

    def _start(self, side):
        if side in self.startable:
            self.running.add(side)
            self._save({"failures": 0})
            return True
        self._save({"failures": self.rollout.failures + 1})
        return False

    def _drain(self, number, to):
        bot = self.bots[number]
        if bot.owner is not to:
            bot.to, bot.lapses = to, self.now + LAPSE

    def _complete(self, number: int, to: Side) -> None:
        bot = self.bots[number]
        if bot.to is to and bot.lapses > self.now:
            self.fenced[number].add((bot.owner, bot.epoch))
            bot.owner, bot.epoch = to, bot.epoch + 1
            bot.to, bot.lapses = None, 0

    @rule(effects=st.integers(0, 30))
    def drive(self, effects):
        self._drive(effects)

    @rule(seconds=st.integers(1, 2 * STEP_SECONDS))
    def pass_time(self, seconds):
        self.now += seconds

    @rule(ruling=st.sampled_from([None, "hold", "pass", "pass", "fail"]))
    def judge(self, ruling):
        self.ruling = ruling

    @rule(side=st.sampled_from(list(Side)))
    def kill_side(self, side):
        self.running.discard(side)

    @rule(side=st.sampled_from(list(Side)))
    def break_side(self, side):
        self.startable.discard(side)

    @rule(side=st.sampled_from(list(Side)))
    def repair_side(self, side):
        self.startable.add(side)

    @rule(paused=st.booleans())
    def pause(self, paused):
        if self.rollout.ended_at is None and self.rollout.phase is Phase.FORWARD:
            self._save({"paused": paused})

    @rule()
    def abort(self):
        if self.rollout.ended_at is None:
            self._save(decision.changes_of(self.rollout, GoBack("an operator aborted it")))

    @rule()
    def advance(self):
        if self.rollout.ended_at is None and self.rollout.phase is Phase.FORWARD and not self.rollout.is_last:
            self._save(decision.changes_of(self.rollout, Advance()))

    @invariant()
    def never_two_owners_and_never_none_for_longer_than_a_drain(self):
        for bot in self.bots.values():
            assert len(bot.claimed_by(self.now)) <= 1
            assert len(bot.claimed_by(self.now + LAPSE)) == 1

    @invariant()
    def a_former_owner_is_fenced(self):
        for number, bot in self.bots.items():
            assert (bot.owner, bot.epoch) not in self.fenced[number]

    @invariant()
    def nothing_is_left_to_a_side_that_was_stopped_at_the_end(self):
        if self.rollout.ended_at is not None:
            side = self.rollout.to_side if self.rollout.phase is Phase.DONE else self.rollout.from_side
            assert {bot.owner for bot in self.bots.values()} == {side}

    def teardown(self):
        """The world is well again, and nobody types anything: it ends, and at one of two ends."""
        if not hasattr(self, "rollout"):
            return
        self.startable = {OLD, NEW}
        self.rollout = replace(self.rollout, paused=False)
        if self.ruling != "fail":
            self.ruling = "pass"
        for _ in range(60):
            self._drive(effects=1000)
            self.now += STEP_SECONDS
        assert self.rollout.phase.is_end
        expected = NEW if self.rollout.phase is Phase.DONE else OLD
        assert {bot.owner for bot in self.bots.values()} == {expected}


Rollouts.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestRollouts = Rollouts.TestCase
