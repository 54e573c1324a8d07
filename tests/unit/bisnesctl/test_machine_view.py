"""The machine of `bisnesctl status`: disks with a forecast if a trend is known."""

import time
from pathlib import Path

import psutil

from bisnesctl.host import machine_memory
from bisnesctl.signals import history
from bisnesctl.views import machine
from tests.support.processes.servers import settings_in

HOUR = 3600.0


def forecast(folder: Path, loss_of_an_hour: float) -> list[float | None]:
    """The forecasts of all disks, each of which lost this number of free bytes in every hour."""
    settings = settings_in(folder)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    now = time.time()
    samples = {
        history.free_space_name(each.mount): [
            (now - hours * HOUR, each.free_bytes + hours * loss_of_an_hour) for hours in range(10, -1, -1)
        ]
        for each in machine.look(settings).disks
        if each.free_bytes is not None
    }
    assert samples
    history.write(settings.run_dir, samples)
    return [each.full_in_seconds for each in machine.look(settings).disks]


def test_a_disk_that_fills_has_a_forecast_and_another_has_none(tmp_path: Path) -> None:
    assert all(each is not None and each > 0 for each in forecast(tmp_path, 1e9))
    assert all(each is None for each in forecast(tmp_path, 0))
    assert all(each is None for each in forecast(tmp_path, -1e9))


def test_without_a_trend_nothing_is_foretold(tmp_path: Path) -> None:
    found = machine.look(settings_in(tmp_path))
    assert found.disks
    assert all(each.full_in_seconds is None for each in found.disks)
    assert 0 < found.memory_used_bytes < found.memory_total_bytes


def test_the_memory_of_the_machine_is_that_of_the_kernel() -> None:
    assert machine_memory.read().total == psutil.virtual_memory().total
    assert 0 < machine_memory.read().available < machine_memory.read().total
