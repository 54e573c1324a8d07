"""The program `alerts` works even if one evaluation fails."""

import json
from pathlib import Path

from bisnesctl.alerts import __main__ as program
from bisnesctl.alerts.evaluator import Evaluator
from bisnesctl.alerts.state_file import AlertState
from bisnesctl.database.process_events import LoggedCondition
from bisnesctl.health.probes import Status
from bisnesctl.processes.deployment import Deployment, make_folders
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.signals.table import BY_NAME
from tests.support.processes.servers import settings_in


def test_an_evaluation_that_fails_is_shown_in_the_heartbeat_and_ends_nothing(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    make_folders(settings)
    deployment = Deployment(settings, Supervisor(settings.run_dir))

    def fail(_: Deployment) -> None:
        raise ZeroDivisionError("a mistake")

    evaluator = Evaluator(fail, BY_NAME, AlertState(), lambda event: None)  # type: ignore[arg-type]
    trouble = program._evaluate(evaluator, deployment, LoggedCondition("alerts.a", "alerts.b"))
    assert "a mistake" in trouble
    program.beat(settings, trouble)
    found = json.loads((settings.heartbeat_dir / "alerts.json").read_text())
    assert (found["status"], found["reason"]) == (Status.DEGRADED.value, trouble)
    program.beat(settings)
    assert json.loads((settings.heartbeat_dir / "alerts.json").read_text())["status"] == "healthy"
