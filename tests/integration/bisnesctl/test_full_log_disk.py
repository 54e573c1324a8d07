"""The disk of the logs is full: everything continues, restarts included, and the trouble is shown."""

import os
import signal

import pytest
import requests

from bisnesctl.host import volumes
from bisnesctl.processes.deployment import record_start
from bisnesctl.processes.topology import Mode
from tests.support.deployment import PORTS, free_ports
from tests.support.processes.disks import mounts, small_disk
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture
def logs(environment):
    """The disk of the logs, and nothing else is on it."""
    with small_disk(environment().log_dir, megabytes=4) as found:
        yield found


def begin(supervisor, name, group=None):
    supervisor.start(f"{group or name}:{name}")
    wait_until(lambda: supervisor.processes()[name].state == "RUNNING")


def _answers(url):
    try:
        return requests.get(url, timeout=HANG_SECONDS).ok
    except requests.ConnectionError:
        return False


@mounts
def test_messages_are_accepted_and_sent(environment, logs, tool, database):
    settings = environment(
        DATABASE_URL=database, HEARTBEAT_INTERVAL="500", SANDBOX="true", API_INSTANCES="1", META_INSTANCES="1",
        ENABLE_WWEBJS="false", **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
    )  # fmt: skip
    key = tool("keys", "create", "--company", "0128", "--json").json["key"]
    tool("bots", "add", "--company", "0128", "--phone", "0", "--type", "meta_direct", "--phone-number-id", "1001",
         "--token-stdin", "--no-verify", given="sandbox-token\n")  # fmt: skip
    with supervised(settings) as supervisor:
        record_start(settings.run_dir, Mode.MULTIPROCESS, True, ())
        for name, group in (("guard", None), ("sandbox", None), ("api-0", "api"), ("meta-worker-1", None)):
            begin(supervisor, name, group)
        api = f"http://127.0.0.1:{settings.api_port}"
        for url in (f"{api}/health/ready", f"http://127.0.0.1:{settings.sandbox_port}/health"):
            wait_until(lambda: _answers(url))  # noqa: B023 - waited for here
        logs.fill()

        def send(*texts):
            for text in texts:
                answer = requests.post(
                    f"{api}/api/v2/messages/text/0128/60123456789", json={"message": text}, headers={"X-Api-Key": key},
                    timeout=HANG_SECONDS,
                )  # fmt: skip
                assert answer.status_code == 202, answer.text
            wait_until(lambda: set(texts) <= set(_received(settings)))

        send(*(f"text {number}" for number in range(20)))
        said = tool("health", "--probe", code=2).text
        assert f"disk {logs.folder} unhealthy" in said
        assert "the disk is full" in said
        pid = supervisor.processes()["meta-worker-1"].pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: supervisor.processes()["meta-worker-1"].pid not in (0, pid))
        send("after a restart")
        log = settings.log_dir / "meta-worker-1.log"
        before = log.stat().st_size
        logs.free()
        tool("restart", "meta-worker")
        wait_until(lambda: log.stat().st_size > before)  # it is written again
        assert str(logs.folder) not in {each.mount for each in volumes.troubled(settings)}


def _received(settings):
    answer = requests.get(f"http://127.0.0.1:{settings.sandbox_port}/_sandbox/messages", timeout=HANG_SECONDS)
    return [each["text"] for each in answer.json()["messages"]]
