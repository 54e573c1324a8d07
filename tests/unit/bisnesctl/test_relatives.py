"""The programs of a channel belong together: a start names those that stay stopped, a stop those that run on."""

import pytest

from bisnesctl.lifecycle.relatives import still_running, still_stopped
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from tests.support.processes.servers import settings_in


class Supervisor:
    """A supervisord with these processes."""

    def __init__(self, running):
        self.running = set(running)

    def processes(self):
        return {name: Process(name, name, "RUNNING", 7, "", 0) for name in self.running}


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    settings = settings_in(tmp_path, ENABLE_WWEBJS="true")
    settings.run_dir.mkdir(parents=True)
    monkeypatch.setattr(stop_records, "operator", lambda: "root")
    return Deployment(settings, Supervisor(["api-0", "api-1", "meta", "wwebjs"]))  # type: ignore[arg-type]


def chosen(deployment, *names):
    return [each for each in deployment.instances if each.name in names or each.program.name in names]


def test_a_start_names_the_workers_that_stay_stopped_with_the_command(deployment):
    stop_records.add(deployment.settings.run_dir, ["meta-worker-1", "meta-worker-2"])
    said = still_stopped(deployment, chosen(deployment, "meta"))
    assert said.startswith("meta-worker-1, meta-worker-2 are still stopped (by root, ")
    assert said.endswith("): bisnesctl start meta-worker")


def test_a_single_worker_is_named_alone(deployment):
    deployment.supervisor.running.add("meta-worker-1")
    stop_records.add(deployment.settings.run_dir, ["meta-worker-2"])
    said = still_stopped(deployment, chosen(deployment, "meta-worker-1"))
    assert said.startswith("meta-worker-2 is still stopped")
    assert said.endswith("bisnesctl start meta-worker-2")


def test_other_channels_and_deaths_are_not_named(deployment):
    stop_records.add(deployment.settings.run_dir, ["api-1", "meta-worker-1"])
    assert still_stopped(deployment, chosen(deployment, "wwebjs")) == ""
    assert still_stopped(deployment, chosen(deployment, "guard")) == ""
    deployment.supervisor.running.add("meta-worker-1")  # it runs, although its record stayed
    assert still_stopped(deployment, chosen(deployment, "meta")) == ""


def test_a_stop_of_the_receiver_says_that_the_workers_send_on(deployment):
    deployment.supervisor.running |= {"meta-worker-1", "meta-worker-2"}
    said = still_running(deployment, chosen(deployment, "meta"))
    assert said == (
        "meta-worker-1, meta-worker-2 still run (meta-worker: sends messages through Meta): bisnesctl stop meta-worker"
    )
    assert still_running(deployment, chosen(deployment, "meta", "meta-worker")) == ""
    assert still_running(deployment, chosen(deployment, "meta-worker-1")).startswith("meta still runs")
    assert still_running(deployment, chosen(deployment, "api-0")) == ""
