"""Back to the single process of old, from whatever state, and forth again."""

import contextlib
import os
import signal
import threading

import pytest
import requests

from tests.support.deployment import Deployment, alive
from tests.support.waiting import wait_until


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000")
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    yield deployment
    deployment.close()


def legacy_health(deployment):
    return requests.get(f"http://127.0.0.1:{deployment.settings.port}/health/ready", timeout=5).status_code


def send_to_legacy(deployment, text):
    return requests.post(
        f"http://127.0.0.1:{deployment.settings.port}/api/v2/messages/text/0100/60123456789",
        json={"message": text}, headers={"X-Api-Key": deployment.key}, params={"wait": 10}, timeout=20,
    ).status_code  # fmt: skip


def test_what_waits_is_delivered_by_the_old_process_and_the_way_back_is_open(deployment):
    deployment.run("stop", "meta-worker")
    for number in range(20):
        assert deployment.send("0100", f"601200000{number:02}", f"waiting {number}").status_code == 202
    before = [
        row["pid"] for name, row in deployment.status().items() if name.startswith(("api", "meta")) and row["pid"]
    ]
    rolled_back = deployment.run("rollback")
    assert "bisnesctl start --multiprocess" in rolled_back.stdout + rolled_back.stderr
    assert legacy_health(deployment) == 200
    assert not any(map(alive, before))
    wait_until(lambda: deployment.statuses() == {"read": 20}, 20, lambda: str(deployment.statuses()))
    assert sorted(message["text"] for message in deployment.received()) == sorted(f"waiting {n}" for n in range(20))
    assert deployment.run("rollback").returncode == 0
    assert send_to_legacy(deployment, "through the old port") == 200

    deployment.run("start", "--multiprocess", "--sandbox")
    assert deployment.send("0100", "60123456789", "and back", params={"wait": 10}).status_code == 200
    assert deployment.status().get("legacy", {}).get("pid") is None


def keep_killing(deployment, finished):
    """SIGKILL both API processes as soon as they are up again."""
    while not finished.wait(0.5):
        for name, row in deployment.status().items():
            if name.startswith("api") and row["pid"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGKILL)


def test_it_works_with_the_api_crash_looping_and_redis_down(deployment):
    deployment.run("stop", "redis")
    finished = threading.Event()
    killer = threading.Thread(target=keep_killing, args=(deployment, finished))
    killer.start()
    try:
        deployment.run("rollback")
    finally:
        finished.set()
        killer.join()
    assert legacy_health(deployment) == 200
    assert send_to_legacy(deployment, "without Redis") == 200


def test_the_old_process_can_be_started_from_nothing(deployment):
    deployment.run("stop")
    deployment.run("start", "--legacy", "--sandbox")
    assert legacy_health(deployment) == 200
    assert send_to_legacy(deployment, "alone") == 200
