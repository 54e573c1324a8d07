"""The disk of the logs is full: everything goes on, restarts included, and the trouble is shown."""

import os
import signal

import pytest
import requests

from bisnesctl.host import volumes
from bisnesctl.processes.deployment import record_start
from bisnesctl.processes.topology import Mode
from tests.support.deployment import PORTS, free_ports
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__, "simulator")


@pytest.fixture
def logs(environment):
    """The disk of the logs, and nothing else is on it."""
    folder = environment().log_dir
    with small_disk(folder, megabytes=4) as found:
        yield found


@pytest.fixture
def configure(environment, logs):
    """Settings of a deployment in the sandbox, on ports of its own."""

    def make(database):
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        more = {"SANDBOX": "true", "API_INSTANCES": "1", "META_INSTANCES": "1", "ENABLE_WWEBJS": "false"}
        return environment(DATABASE_URL=database, HEARTBEAT_INTERVAL="500", **more, **ports)

    return make


def begin(supervisor, name, group=None):
    supervisor.start(f"{group or name}:{name}")
    wait_until(lambda: supervisor.processes()[name].state == "RUNNING")


def shown(tool, logs):
    """`health` names the disk."""
    said = tool("health", "--probe", code=2).text
    return f"disk {logs.folder} unhealthy" in said and "the disk is full" in said


@mounts
def test_a_simulator_and_its_guard_go_on(configure, logs, tool):
    settings = configure("postgresql://127.0.0.1:1/none")
    with supervised(settings) as supervisor:
        record_start(settings.run_dir, Mode.MULTIPROCESS, True, ())
        begin(supervisor, "guard")
        begin(supervisor, "sandbox")
        logs.fill()
        assert shown(tool, logs)
        pid = supervisor.processes()["sandbox"].pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: supervisor.processes()["sandbox"].pid not in (0, pid))
        url = f"http://127.0.0.1:{settings.sandbox_port}/health"
        wait_until(lambda: _answers(url))


def _answers(url):
    try:
        return requests.get(url, timeout=HANG_SECONDS).ok
    except requests.ConnectionError:
        return False


@mounts
def test_messages_are_accepted_and_sent(configure, logs, tool, database):
    settings = configure(database)
    key = tool("keys", "create", "--company", "0128", "--json").json["key"]
    tool("bots", "add", "--company", "0128", "--phone", "0", "--type", "meta_direct", "--phone-number-id", "1001",
         "--token-stdin", "--no-verify", given="sandbox-token\n")  # fmt: skip
    with supervised(settings) as supervisor:
        record_start(settings.run_dir, Mode.MULTIPROCESS, True, ())
        for name, group in (("guard", None), ("sandbox", None), ("api-0", "api"), ("meta-worker-1", None)):
            begin(supervisor, name, group)
        api = f"http://127.0.0.1:{settings.api_port}"
        wait_until(lambda: _answers(f"{api}/health/ready"))
        logs.fill()

        def send(text):
            answer = requests.post(
                f"{api}/api/v2/messages/text/0128/60123456789", json={"message": text}, headers={"X-Api-Key": key},
                timeout=HANG_SECONDS,
            )  # fmt: skip
            assert answer.status_code == 202, answer.text
            wait_until(lambda: text in _received(settings))

        for number in range(20):
            send(f"text {number}")
        assert shown(tool, logs)
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
