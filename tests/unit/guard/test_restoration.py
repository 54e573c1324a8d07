"""The instances that the guard starts after supervisord has read its configuration again."""

from pathlib import Path

import pytest

from bisnesctl.guard.restoration import find_missing
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Deployment, record_start, record_stop
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.processes.topology import Mode, expand
from tests.support.processes.servers import settings_in


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One that was started, without its supervisord."""
    settings = settings_in(tmp_path)
    settings.run_dir.mkdir(parents=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    return Deployment(settings, Supervisor(settings.run_dir))


def missing(deployment: Deployment, running: tuple[str, ...] = (), stopped: tuple[str, ...] = ()) -> list[str]:
    """The names to start if these run, these were stopped over RPC, and all others were never started."""
    there = {}
    for each in expand(deployment.settings):
        state = "RUNNING" if each.name in running else "STOPPED"
        there[each.name] = Process(each.name, each.group, state, 0, "", 0, was_started=each.name in running + stopped)
    return [each.name for each in find_missing(deployment, there)]


SERVERS = ("guard", "postgres", "redis")


def test_servers_come_before_the_programs_that_need_them(deployment: Deployment) -> None:
    assert missing(deployment, ("guard",)) == ["postgres", "redis"]
    started = missing(deployment, SERVERS)
    assert started == ["api-0", "api-1", "meta", "meta-worker-1", "meta-worker-2", "events"]
    assert missing(deployment, (*SERVERS, *started)) == ["wwebjs"]
    assert missing(deployment, (*SERVERS, *started, "wwebjs")) == ["alerts"]


def test_what_was_stopped_on_purpose_or_over_rpc_is_not_missing(deployment: Deployment) -> None:
    stop_records.add(deployment.settings.run_dir, ["redis"])
    assert missing(deployment, ("guard",), ("postgres",))[0] == "api-0"


def test_nothing_is_missing_before_a_start_and_after_a_stop(deployment: Deployment) -> None:
    record_stop(deployment.settings.run_dir)
    assert missing(deployment) == []
    (deployment.settings.run_dir / "mode.json").unlink()
    assert missing(deployment) == []
