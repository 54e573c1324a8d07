"""A place that never answers leaves out its own signals alone."""

import threading

import pytest

from bisnesctl.host import volumes
from bisnesctl.processes.deployment import make_folders, open_deployment, record_start, record_stop
from bisnesctl.processes.topology import Mode
from bisnesctl.signals import machine, measurement
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def silence():
    """Something that never answers, until the end of the test."""
    ended = threading.Event()
    yield lambda *_: ended.wait(HANG_SECONDS)
    ended.set()


@pytest.mark.parametrize(
    ("place", "function", "limit", "missing"),
    [
        (machine, "read_certificate", "CERTIFICATE_TIMEOUT_SECONDS", {"certificate_expires_in"}),
        (volumes, "look", "DISK_TIMEOUT_SECONDS", {each.name for each in machine.DISK_SIGNALS}),
    ],
)
def test_what_never_answers_is_left_out(place, function, limit, missing, tmp_path, monkeypatch, silence):
    settings = settings_in(tmp_path)
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    record_stop(settings.run_dir)
    monkeypatch.setattr(place, function, silence)
    monkeypatch.setattr(measurement, limit, 0.1)
    found = measurement.measure(open_deployment(settings))
    assert set(found.unmeasured) == missing
    assert set(found.unmeasured.values()) == {"it does not answer"}
    assert found.readings.of("host_memory_available")
