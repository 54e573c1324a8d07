"""A disk that fills up: one alert, one recovery, and the cause of what does not work; measured on a real disk."""

import pytest

from bisnesctl.alerts import deliveries
from bisnesctl.alerts.evaluator import Evaluator
from bisnesctl.alerts.state_file import AlertState
from bisnesctl.diagnosis import diagnose
from bisnesctl.diagnosis.targets import BotTarget
from bisnesctl.processes.deployment import Deployment, make_folders, record_start
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.processes.topology import Mode
from bisnesctl.signals.measurement import measure
from bisnesctl.signals.table import BY_NAME
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk
from tests.support.processes.servers import settings_in
from tests.support.remote.alert_receiver import AlertReceiver
from tests.support.waiting import wait_until


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__)


@pytest.fixture
def small(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=32) as found:
        yield found


@mounts
def test_a_full_disk_is_one_alert_and_one_recovery(small, tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "GROUP_SECONDS", 1.0)
    receiver, events = AlertReceiver(), []
    settings = settings_in(
        tmp_path, BISNES_HOME=str(small.folder / "var"), DATABASE_URL="postgresql://127.0.0.1:1/x",
        REDIS_URL="redis://127.0.0.1:1", ALERT_URLS=receiver.url, ALERT_RESOLVE_SECONDS="0",
    )  # fmt: skip
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    deployment = Deployment(settings, Supervisor(settings.run_dir))
    evaluator = Evaluator(measure, BY_NAME, AlertState(), events.append)
    name = f"disk_health[{small.folder}]"

    def has_happened(kind):
        evaluator.evaluate(deployment)
        evaluator.deliver(settings, str(settings.home))
        return any((each.event, each.details["alert"]) == (kind, name) for each in events)

    assert not has_happened("alert_fired")
    small.fill()
    wait_until(lambda: has_happened("alert_fired"))
    wait_until(lambda: has_happened("alert_fired") and any(name in each.body for each in receiver.calls))
    [found] = diagnose.diagnose(deployment, (), [BotTarget("0128", 0)])
    assert found.cause is not None
    assert found.cause.about == f"disk {small.folder}"
    assert f"df -h {small.folder}" in found.steps[0]
    small.free()
    wait_until(lambda: has_happened("alert_resolved"))
    kinds = [each.event for each in events if each.details["alert"] == name]
    assert kinds == ["alert_fired", "alert_resolved"]
    receiver.close()
