"""The health of instances that do not run: stopped on purpose, about to start, or down."""

from pathlib import Path

import pytest

from bisnesctl.health.inspection import inspect
from bisnesctl.health.probes import Health, Status
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Deployment, record_start, record_stop
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.processes.topology import Instance, Mode, expand, instance_of, program
from tests.support.processes.servers import settings_in


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One that was started, without its supervisord."""
    settings = settings_in(tmp_path)
    settings.run_dir.mkdir(parents=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    return Deployment(settings, Supervisor(settings.run_dir))


def health(deployment: Deployment, instance: Instance | None = None) -> Health:
    """The health of an instance (default: api-0) that is STOPPED in supervisord."""
    found = instance or next(each for each in expand(deployment.settings) if each.name == "api-0")
    stopped = Process(found.name, found.group, "STOPPED", 0, "", 0)
    return inspect(deployment, [found], {found.name: stopped})[found.name]


def test_an_instance_that_nobody_stopped_is_down(deployment: Deployment) -> None:
    assert health(deployment).status is Status.DOWN
    assert "`bisnesctl start api-0`" in health(deployment).reason


def test_an_instance_that_was_stopped_on_purpose_says_by_whom(deployment: Deployment) -> None:
    stop_records.add(deployment.settings.run_dir, ["api-0"])
    found = health(deployment)
    assert found.status is Status.STOPPED
    assert f"on purpose by {stop_records.operator()}" in found.reason


def test_an_instance_that_a_start_has_not_come_to_is_starting(deployment: Deployment) -> None:
    record_stop(deployment.settings.run_dir)
    assert health(deployment).status is Status.STARTING


def test_a_session_that_the_manager_stopped_is_not_down(deployment: Deployment) -> None:
    session = instance_of(program("wwebjs-session"), "wwebjs-session-0128-2", deployment.settings)
    assert health(deployment, session).status is not Status.DOWN


def test_an_instance_that_supervisord_does_not_know_yet_names_the_command(deployment: Deployment) -> None:
    [api, *_] = [each for each in expand(deployment.settings) if each.program.name == "api"]
    found = inspect(deployment, [api], {})["api-0"]
    assert (found.status, "`bisnesctl start --multiprocess`" in found.reason) == (Status.STOPPED, True)
