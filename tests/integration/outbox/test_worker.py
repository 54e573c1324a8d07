"""The worker as a process of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.deployment import free_ports
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture
def start(tmp_path):
    """Start a worker with these settings; gives the process."""
    workers = []

    def start(**variables):
        env_file = tmp_path / ".env"
        given = {"REDIS_URL": f"redis://127.0.0.1:{free_ports(1)[0]}/0", "ENCRYPTION_KEY": "0f" * 32} | variables
        env_file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        environment = os.environ | {"BISNES_ENV": str(env_file), "BISNES_INSTANCE": "meta-worker-1"}
        workers.append(subprocess.Popen([sys.executable, "-m", "services.worker", "meta"], env=environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


def heartbeat(tmp_path, status):
    """The worker's heartbeat file, once it says so."""
    path = tmp_path / "var/run/heartbeats/meta-worker-1.json"
    wait_until(lambda: path.exists() and json.loads(path.read_text())["status"] == status)
    return json.loads(path.read_text())


def test_a_worker_without_its_database_is_degraded_and_stops_on_sigterm(start, tmp_path):
    worker = start(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/none")
    assert heartbeat(tmp_path, "degraded")["reason"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(HANG_SECONDS) == 0


def test_a_worker_without_redis_is_healthy_and_a_second_one_of_its_name_refuses(start, tmp_path, database):
    first = start(DATABASE_URL=database)
    assert heartbeat(tmp_path, "healthy")["pid"] == first.pid
    assert start(DATABASE_URL=database).wait(HANG_SECONDS) != 0
    first.send_signal(signal.SIGTERM)
    assert first.wait(HANG_SECONDS) == 0
    assert not (tmp_path / "var/run/heartbeats/meta-worker-1.json").exists()
