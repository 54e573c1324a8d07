"""An end of supervisord without a stop is found at the next start, and told apart from a stop and a reboot."""

import os
import time
from pathlib import Path

import pytest

from bisnesctl.database import event_log
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.database.event_sentences import sentence
from bisnesctl.errors import UsageError
from bisnesctl.health import supervisor_ends
from bisnesctl.health.guard_file import GUARD_FILE
from bisnesctl.host.process_times import boottime
from bisnesctl.processes.deployment import Deployment, record_start, record_stop
from bisnesctl.processes.selection import resolve
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.processes.topology import Mode, expand
from tests.support.processes.servers import settings_in

BOOT = "2026-01-31 12:00:00,000 INFO supervisord started with pid 7\n"
SIGNAL = "2026-01-31 12:00:01,000 WARN received SIGTERM indicating exit request\n"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One that was started, whose supervisord was seen a minute ago and is gone."""
    settings = settings_in(tmp_path)
    for folder in (settings.run_dir, settings.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    (settings.run_dir / "supervisord.pid").write_text("1\n")
    (settings.run_dir / GUARD_FILE).write_text("{}")
    seen(settings.run_dir, time.time() - 60)
    return Deployment(settings, Supervisor(settings.run_dir))


def seen(run_dir: Path, at: float) -> None:
    for name in (GUARD_FILE, "supervisord.pid"):
        os.utime(run_dir / name, (at, at))


def recorded(deployment: Deployment) -> LoggedEvent:
    end = supervisor_ends.find(deployment)
    assert end is not None
    supervisor_ends.record(deployment, end)
    (event,) = event_log.read_spool(deployment.settings)
    return event


def test_a_death_says_when_it_was_seen_and_for_how_long_it_was_down(deployment: Deployment) -> None:
    event = recorded(deployment)
    assert (event.program, event.severity, event.subject) == ("supervisord", "error", "supervisord")
    assert sentence(event).startswith("supervisord ended without a stop; last seen ")
    assert 60 <= event.data["down_seconds"] < 3600


def test_a_restart_of_the_machine_is_told_apart(deployment: Deployment) -> None:
    seen(deployment.settings.run_dir, time.time() - boottime() - 100)
    event = recorded(deployment)
    assert event.severity == "warning"
    assert sentence(event).startswith("the machine was restarted, and supervisord ended with it; last seen ")


def test_a_signal_of_somebody_is_named(deployment: Deployment) -> None:
    (deployment.settings.run_dir / "supervisord.pid").unlink()  # supervisord removes it
    (deployment.settings.log_dir / "supervisord.log").write_text(BOOT + SIGNAL)
    assert sentence(recorded(deployment)).startswith("supervisord ended without a stop: it was sent SIGTERM; last")


def test_a_stop_and_a_failed_start_are_no_deaths(deployment: Deployment) -> None:
    (deployment.settings.run_dir / "supervisord.pid").unlink()
    (deployment.settings.log_dir / "supervisord.log").write_text(BOOT + SIGNAL + BOOT)
    assert supervisor_ends.find(deployment) is None
    (deployment.settings.run_dir / "supervisord.pid").write_text("1\n")
    record_stop(deployment.settings.run_dir)
    assert supervisor_ends.find(deployment) is None


def test_its_name_is_answered_where_programs_are_named(deployment: Deployment) -> None:
    with pytest.raises(UsageError, match="`bisnesctl describe supervisord` shows it"):
        resolve(["supervisord"], expand(deployment.settings))
