"""Watches that a trouble of a deployment is one alert and one recovery."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bisnesctl.alerts import evaluator as evaluator_module
from bisnesctl.alerts.evaluator import Evaluator
from bisnesctl.alerts.incidents import Stage
from bisnesctl.alerts.settings_source import SettingsSource
from bisnesctl.alerts.state_file import AlertState
from bisnesctl.host.process_times import boottime
from bisnesctl.processes.deployment import open_deployment
from bisnesctl.setting_fields import SecretStr
from bisnesctl.signals.table import BY_NAME
from tests.support.deployment import Deployment
from tests.support.waiting import wait_until

#: Alerts about the machine of the tests, which is always busy.
BUSY = ("host_load", "host_memory_available", "response_time", "disk_", "heartbeat_age", "clock_offset", "measured")
#: Seconds that the clock of an `AlertWatch` advances with each evaluation, beside those that pass.
STEP_SECONDS = 20.0
#: Patience for an alert or a recovery.
ALERT_SECONDS = 180.0


class SentAlerts:
    """The messages that an ALERT_COMMAND appended to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def command(self) -> str:
        """The ALERT_COMMAND."""
        return f"tee -a {self.file}"

    def events(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.file.read_text().splitlines()]
        return []

    def messages(
        self,
        change: str,
        since: int = 0,
        wanted: tuple[str, ...] = (),
        ignored: tuple[str, ...] = BUSY,
        begun_after: float = 0.0,
    ) -> list[list[str]]:
        """For each message with such a change: its alerts that are wanted, or neither ignored nor from before.

        `wanted` and `ignored` are beginnings of names. `begun_after`: an alert that is older may end meanwhile, even
        one that no message named because its group had one a moment ago.
        """

        def counts(each: dict[str, Any]) -> bool:
            if each["change"] != change:
                return False
            began = datetime.fromisoformat(each["began_at"]).timestamp()
            return each["name"].startswith(wanted) or (began >= begun_after and not each["name"].startswith(ignored))

        found = [[each["name"] for each in event["alerts"] if counts(each)] for event in self.events()[since:]]
        return [names for names in found if names]


class AlertWatch:
    """An evaluator that measures a real deployment and sends real messages, on a clock that hurries.

    The deployment's own evaluator does the same in its own time. Alerts that are there at the beginning are ignored.
    """

    def __init__(self, deployment: Deployment, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        self._sent = SentAlerts(file)
        clock = SimpleNamespace(time=lambda: time.time() + self._ahead)
        monkeypatch.setattr(evaluator_module, "time", clock)
        monkeypatch.setattr(evaluator_module, "boottime", lambda: boottime() + self._ahead)
        monkeypatch.setenv("BISNES_ENV", str(deployment.folder / ".env"))
        self._source = SettingsSource()
        self._evaluator = Evaluator(self._source.measure, BY_NAME, AlertState(), lambda event: None)

    def look(self) -> None:
        """Evaluates once, and waits until what follows from it is delivered."""
        self._ahead += STEP_SECONDS
        own = self._source.read().settings.copy_with(
            alert_urls=SecretStr(""), alert_command=self._sent.command, alert_resolve_seconds=2 * STEP_SECONDS
        )
        self._evaluator.evaluate(open_deployment(own))

        def is_delivered() -> bool:
            self._evaluator.deliver(own, str(own.home))
            return not any(each.sending for each in self._evaluator.state.targets.values())

        wait_until(is_delivered)

    def _look_until(self, condition: Callable[[], object]) -> None:
        def is_met() -> bool:
            self.look()
            return bool(condition())

        wait_until(is_met, ALERT_SECONDS, lambda: f"{self._evaluator.state}\n{self._sent.events()}")

    def _pending(self) -> list[str]:
        """The incidents that will fire if their signals stay bad."""
        found = [each for each in self._evaluator.state.incidents if each.stage is Stage.PENDING]
        return [each.name for each in found if not each.explained_by and not each.name.startswith(BUSY)]

    @contextlib.contextmanager
    def expected(self, *names: str) -> Iterator[Callable[[], None]]:
        """Within it a trouble begins, the call that it yields waits for its alert, and the trouble ends.

        `names`: the beginnings of the names that the message may have.
        """
        self._look_until(lambda: not self._pending())
        present = tuple(each.name for each in self._evaluator.state.incidents if each.active)
        before = len(self._sent.events())

        def messages(change: str) -> list[list[str]]:
            return self._sent.messages(change, before, names, (*BUSY, *present))

        yield lambda: self._look_until(lambda: messages("fired"))
        assert messages("fired"), "the trouble ended without an alert"
        self._look_until(lambda: messages("resolved"))
        for _ in range(3):  # nothing more comes
            self.look()
        fired, resolved = messages("fired"), messages("resolved")
        assert (len(fired), len(resolved)) == (1, 1), (fired, resolved)
        assert all(name.startswith(names) for name in fired[0] + resolved[0]), (fired, resolved)
