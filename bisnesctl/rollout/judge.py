"""The verdict on the current step of a rollout, from the figures of both sides. Each channel is judged by itself."""

import socket
import time
from collections.abc import Mapping, Sequence

from bisnesctl.bots import ownership
from bisnesctl.database.postgres import Connection
from bisnesctl.health.guard_file import guard_status
from bisnesctl.processes.deployment import Deployment
from bisnesctl.rollout import alarms, figures, probes, verdict
from bisnesctl.rollout.figures import Figures, Past, SideFigures, Trial
from bisnesctl.rollout.observation import programs_of
from bisnesctl.rollout.records import Alarm, Criteria, Ruling, Verdict
from bisnesctl.rollout.state import Rollout
from bisnesctl.setting_types import test_chats

#: The share of the time that the database spends on figures.
MEASURING_SHARE = 0.05
#: Seconds between two measurements, at most: on a busy machine the share is larger.
MAX_MEASURING_INTERVAL_SECONDS = 30.0


class StepJudge:
    """Judges the current step of a rollout, and sends the probes for it. It remembers only what does not change."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._past: Past = {}
        self._doubles = alarms.DoubleWatch()
        self._again = 0.0  # the moment of the next measurement, by time.monotonic()
        self._last: tuple[tuple[int, int], Verdict] | None = None  # of a rollout and its step

    def __call__(self, connection: Connection, rollout: Rollout) -> tuple[str, Sequence[str]]:
        """Pass, fail or hold, with the reasons. Alarms that need no figures act at once."""
        step = rollout.id, rollout.step
        if self._last is None or self._last[0] != step or time.monotonic() >= self._again:
            began = time.monotonic()
            self._last = step, self._judge(connection, rollout)
            ended = time.monotonic()
            self._again = ended + min((ended - began) / MEASURING_SHARE, MAX_MEASURING_INTERVAL_SECONDS)
        found = _with_alarms(self._last[1], _standing_alarms(self._deployment, connection, rollout))
        return found.ruling.value, found.reasons

    def _judge(self, connection: Connection, rollout: Rollout) -> Verdict:
        self._send_probes(connection, rollout)
        found = measure(self._deployment, connection, rollout, self._past)
        criteria = criteria_of(self._deployment)
        verdicts = {
            channel: verdict.judge(each.comparison, criteria)
            for channel, each in found.items()
            if each.comparison.moved
        }
        urgent = [
            alarm for trial in trials(connection, rollout).values() for alarm in self._message_alarms(connection, trial)
        ]
        return _with_alarms(verdict.together(verdicts), urgent)

    def _message_alarms(self, connection: Connection, trial: Trial) -> list[Alarm]:
        return [
            *alarms.lost_messages(connection, trial),
            *self._doubles.doubled_messages(connection, trial),
        ]

    def _send_probes(self, connection: Connection, rollout: Rollout) -> None:
        named = test_chats(self._deployment.settings.rollout_test_chats)
        probes.send_due(connection, probes.find_chats(connection, named), rollout.bots)


def criteria_of(deployment: Deployment) -> Criteria:
    """The criteria that the settings have."""
    settings = deployment.settings
    return Criteria(settings.rollout_failure_margin / 100, settings.rollout_latency_ratio)


def trials(connection: Connection, rollout: Rollout) -> dict[str, Trial]:
    """The bots of each channel that the current step of a rollout compares; none while they are handed over."""
    if rollout.step_at is None:
        return {}
    found: dict[str, Trial] = {}
    owners = ownership.find(connection, rollout.bots)
    for channel in dict.fromkeys(each.channel for each in owners):
        own = [each for each in owners if each.channel == channel]
        moved = {each.bot_id: each.since or rollout.step_at for each in own if each.owner is rollout.to_side}
        found[channel] = Trial(rollout.step_at, moved, [each.bot_id for each in own if each.bot_id not in moved])
    return found


def measure(
    deployment: Deployment, connection: Connection, rollout: Rollout, past: Past | None = None
) -> dict[str, Figures]:
    """Both sides' figures since the step began, by channel."""
    named = test_chats(deployment.settings.rollout_test_chats)
    chats = probes.find_chats(connection, named)
    return {
        channel: figures.measure(connection, trial, chats, past=past)
        for channel, trial in trials(connection, rollout).items()
    }


def sides(
    deployment: Deployment, connection: Connection, rollout: Rollout, measured: Mapping[str, Figures]
) -> dict[str, SideFigures]:
    """The figures of all channels together by the names of the sides, with the restarts of their processes."""
    if rollout.step_at is None:
        return {}
    found = {}
    for side in (rollout.to_side, rollout.from_side):
        moved = side is rollout.to_side
        together = sum((each.moved if moved else each.unmoved for each in measured.values()), SideFigures())
        names = [each.name for each in programs_of(deployment, side)]
        found[side.value] = figures.with_restarts(connection, together, rollout.step_at, names)
    return found


def _with_alarms(found: Verdict, urgent: Sequence[Alarm]) -> Verdict:
    if not urgent:
        return found
    return Verdict(Ruling.FAIL, (*(each.text for each in urgent), *found.reasons), found.worse)


def _standing_alarms(deployment: Deployment, connection: Connection, rollout: Rollout) -> list[Alarm]:
    """The alarms of processes and sessions, which cost the database little however many messages there are."""
    if rollout.step_at is None:
        return []
    names = [each.name for each in programs_of(deployment, rollout.to_side)]
    decisions = guard_status(deployment.processes(), deployment.settings).decisions
    max_age = deployment.settings.max_heartbeat_age / 1000
    return [
        *alarms.crash_loops(decisions, names),
        *alarms.silent_instances(connection, names, socket.gethostname(), rollout.step_at, max_age),
        *(alarm for trial in trials(connection, rollout).values() for alarm in alarms.lost_sessions(connection, trial)),
    ]
