"""The judge of a step: figures cost the database time, alarms do not wait for them."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bisnesctl.bots.ownership import Side
from bisnesctl.rollout import judge
from bisnesctl.rollout.judge import MAX_MEASURING_INTERVAL_SECONDS, StepJudge
from bisnesctl.rollout.plan import Step
from bisnesctl.rollout.records import Alarm, AlarmKind
from bisnesctl.rollout.state import Phase, Rollout

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLLOUT = Rollout(
    1, None, Side.LEGACY, Side.MULTIPROCESS, (1, 2), (Step(50.0), Step(100.0)), 0, Phase.FORWARD, False, True, NOW, NOW,
    None, "ann", "", None, (), None, 0, None, 0.0, 1.0,
)  # fmt: skip


class Surroundings:
    """The clock, the alarms and the figures that the judge sees."""

    def __init__(self) -> None:
        self.now = 0.0
        self.measuring_seconds = 0.0
        self.measured: list[float] = []  # when the figures were measured
        self.alarms: list[Alarm] = []

    def measure(self, *_: Any) -> dict[str, Any]:
        """Takes its time, and finds no bots."""
        self.measured.append(self.now)
        self.now += self.measuring_seconds
        return {}


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    made = Surroundings()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(judge, "measure", made.measure)
    monkeypatch.setattr(judge, "trials", lambda *_: {})
    monkeypatch.setattr(judge, "_standing_alarms", lambda *_: made.alarms)
    return made


@pytest.fixture
def step_judge() -> Any:
    settings = SimpleNamespace(rollout_test_chats="", rollout_failure_margin=2.0, rollout_latency_ratio=1.5)
    return StepJudge(SimpleNamespace(settings=settings))  # type: ignore[arg-type]


def test_an_alarm_fails_a_step_at_once_however_long_its_figures_take(around: Surroundings, step_judge: Any) -> None:
    around.measuring_seconds = 20.0
    assert step_judge(None, ROLLOUT)[0] == "hold"
    around.now += 1
    around.alarms = [Alarm(AlarmKind.CRASH_LOOP, "api-0 ends again and again")]
    ruling, reasons = step_judge(None, ROLLOUT)
    assert (ruling, reasons[0]) == ("fail", "api-0 ends again and again")
    assert len(around.measured) == 1


@pytest.mark.parametrize(("seconds", "pause"), [(0.1, 2.0), (0.5, 10.0), (60.0, MAX_MEASURING_INTERVAL_SECONDS)])
def test_figures_are_measured_seldom_if_they_cost_much_but_never_too_seldom(
    around: Surroundings, step_judge: Any, seconds: float, pause: float
) -> None:
    around.measuring_seconds = seconds
    step_judge(None, ROLLOUT)
    around.now += pause - 0.05
    step_judge(None, ROLLOUT)
    assert len(around.measured) == 1
    around.now += 0.1
    step_judge(None, ROLLOUT)
    assert len(around.measured) == 2
