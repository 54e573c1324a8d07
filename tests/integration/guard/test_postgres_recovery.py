"""A real PostgreSQL whose recovery from a crash fails: it waits for ever, which the guard can tell."""

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from bisnesctl import paths
from bisnesctl.guard import hangs
from tests.support.processes.servers import Postgres, settings_in
from tests.support.waiting import wait_until


@pytest.fixture
def postgres(tmp_path):
    server = Postgres(settings_in(tmp_path))
    server.start()
    yield server, paths.postgres_data(settings_in(tmp_path).server_home)
    server.kill()
    server.remove()


def walwriter(pid):
    """The process that PostgreSQL has as long as it works."""
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            if "walwriter" in " ".join(child.cmdline()):
                return child.pid
    return None


def test_a_failed_recovery_is_detected_and_a_successful_one_is_not(postgres):
    server, data = postgres
    wait_until(lambda: walwriter(server.pid))
    assert not hangs.recovery_failed(server.pid)
    before = walwriter(server.pid)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: walwriter(server.pid) not in (None, before))
    assert not hangs.recovery_failed(server.pid)

    control = Path(data) / "global/pg_control"
    control.chmod(0o400)  # as on a disk that is read-only
    os.kill(walwriter(server.pid), signal.SIGKILL)
    wait_until(lambda: hangs.recovery_failed(server.pid) or not psutil.Process(server.pid).children())
    control.chmod(0o600)
    server.kill()
    server.start()
    assert not hangs.recovery_failed(server.pid)
