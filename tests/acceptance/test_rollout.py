"""A rollout under load, forward and back: no message is lost, doubled or out of order though processes are killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import requests

from bisnesctl.naming import session_name
from tests.support.deployment import Deployment
from tests.support.two_sides import COMPANY, Writers, add_bots, chat_of
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import WebDeployment

BOTS = int(os.environ.get("ROLLOUT_BOTS", "20"))
#: Messages a second.
RATE = float(os.environ.get("ROLLOUT_RATE", "50"))
SEED = int(os.environ.get("ROLLOUT_SEED", "4711"))
#: Messages that each kill of a worker may leave `unknown`: those that were on their way.
IN_FLIGHT = 64

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", LEASE_SECONDS="12",
        SEND_TIMEOUT_MS="5000", ENABLE_WWEBJS="false", API_INSTANCES="1", META_INSTANCES="2",
    )  # fmt: skip
    deployment.run("start", "--legacy", "--sandbox")
    yield deployment
    deployment.close()


def rollout_status(deployment):
    return json.loads(deployment.run("rollout", "status", "--json").stdout)


def owners(deployment):
    return dict(deployment.rows("SELECT COALESCE(owner, 'none'), count(*) FROM bot_pace GROUP BY 1"))


def begin(deployment, *words):
    """Start a command of `bisnesctl rollout`, without waiting for its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "bisnesctl", "rollout", *words], cwd=deployment.folder, env=deployment.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_some(deployment, random_numbers, names):
    """SIGKILL one of these programs; returns its name."""
    name = random_numbers.choice(names)
    deployment.kill(name)
    return name


def wait_for_share(deployment, share):
    """Until the other side serves this many bots, and the step counts as moved."""

    def moved():
        found = rollout_status(deployment)
        return found["sides"]["multiprocess"]["bots"] == share and found["rollout"]["stepAt"]

    wait_until(moved, 120, lambda: f"{rollout_status(deployment)}\n{deployment.logs()}")


def test_a_rollout_under_load_loses_doubles_and_reorders_nothing_whatever_is_killed(deployment, capsys):
    add_bots(deployment, BOTS)
    numbers, kills = random.Random(SEED), 0
    with Writers(deployment, BOTS, RATE) as writers:
        wait_until(lambda: len(writers.accepted) > BOTS)

        # The tool is killed while it starts the other side; the program alerts continues.
        tool = begin(deployment, "start", "--percent", "10")
        time.sleep(numbers.uniform(0.5, 6))
        tool.kill()
        tool.wait()
        wait_until(lambda: deployment.rows("SELECT 1 FROM rollout") or begin_again(deployment), 60)
        wait_for_share(deployment, max(1, BOTS // 10))
        kills += bool(deployment.kill("meta-worker-1"))
        kill_some(deployment, numbers, ["guard", "alerts"])

        # The second step; a worker of each side is killed while bots move.
        tool = begin(deployment, "advance", "--percent", "50", "--force")
        time.sleep(numbers.uniform(0, 3))
        kills += bool(deployment.kill(numbers.choice(["meta-worker-1", "meta-worker-2"])))
        tool.wait(HANG_SECONDS)
        wait_for_share(deployment, BOTS // 2)

        # Back to the old process at once, and from there to the new side in one go.
        began = time.monotonic()
        deployment.run("rollback")
        rolled_back = time.monotonic() - began
        assert requests.get(
            f"http://127.0.0.1:{deployment.settings.port}/health/ready", timeout=HANG_SECONDS
        ).status_code == 200  # fmt: skip
        assert owners(deployment) == {"legacy": BOTS}
        deployment.run("rollout", "start", "--percent", "100")
        deployment.run("rollout", "advance", "--force")
        wait_until(lambda: rollout_status(deployment)["rollout"]["phase"] == "done", 60,
                   lambda: str(rollout_status(deployment)))  # fmt: skip
        assert owners(deployment) == {"multiprocess": BOTS}
        assert deployment.status().get("legacy", {}).get("pid") is None
    wait_until(lambda: not {"queued", "waiting", "sending"} & set(deployment.statuses()), 60,
               lambda: f"{deployment.statuses()}\n{deployment.logs()}")  # fmt: skip
    found, statuses = writers.arrivals(), deployment.statuses()
    with capsys.disabled():
        print(f"\n{len(writers.accepted)} messages, {statuses}; longest wait {found.longest_wait:.1f} s, longest gap "
              f"of a chat {found.longest_gap:.1f} s; rollback {rolled_back:.1f} s")  # fmt: skip
    assert not writers.wrong
    assert not found.doubled
    assert not found.disordered
    assert len(found.missing) <= statuses.get("unknown", 0) <= kills * IN_FLIGHT
    assert set(statuses) <= {"sent", "delivered", "read", "unknown"}


def begin_again(deployment):
    """The tool was killed before it recorded anything: nothing has changed, and the operator types it again."""
    deployment.run("rollout", "start", "--percent", "10", check=False)


def test_a_frozen_side_is_fenced_by_a_hand_over(deployment):
    add_bots(deployment, 2)
    deployment.run("rollout", "start", "--percent", "100")
    pid = deployment.pid("meta-worker-1")
    other = deployment.pid("meta-worker-2")
    deployment.behave(match="slow", delay_ms=3000)
    with Writers(deployment, 2, 10) as writers:
        writers.words = {0: "slow", 1: ""}
        wait_until(lambda: len(writers.accepted) > 20)
        for each in (pid, other):
            os.kill(each, signal.SIGSTOP)
        try:
            aborted = begin(deployment, "abort")
            wait_until(lambda: owners(deployment) == {"legacy": 2}, 60, lambda: str(rollout_status(deployment)))
        finally:
            for each in (pid, other):
                os.kill(each, signal.SIGCONT)
        aborted.wait(HANG_SECONDS)
    wait_until(lambda: not {"queued", "waiting", "sending", "unknown"} & set(deployment.statuses()), 90,
               lambda: f"{deployment.statuses()}\n{deployment.logs()}")  # fmt: skip
    found = writers.arrivals()
    assert (writers.wrong, found.doubled, found.disordered, found.missing) == ([], [], [], set())


def test_either_side_accepts_messages_of_any_bot(deployment):
    add_bots(deployment, 2)
    deployment.run("rollout", "start", "--percent", "50")
    answers = []
    for port in (deployment.settings.port, deployment.settings.api_port):
        for bot in (0, 1):
            answer = requests.post(
                f"http://127.0.0.1:{port}/api/v2/messages/text/{COMPANY}/{chat_of(bot, 0)}",
                json={"message": f"{port} {bot}", "phoneIndex": bot}, headers={"X-Api-Key": deployment.key},
                params={"wait": 30}, timeout=HANG_SECONDS,
            )  # fmt: skip
            answers.append(answer.status_code)
    assert answers == [200] * 4
    assert len(deployment.received()) == 4
    claims = dict(deployment.rows("SELECT owner, count(*) FROM bot_pace GROUP BY 1"))
    assert claims == {"legacy": 1, "multiprocess": 1}


def test_a_web_session_changes_its_side_without_an_interruption(tmp_path):
    deployment = WebDeployment(tmp_path, HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1")
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_web_bot(1)
        number = deployment.link(1)
        name = session_name(COMPANY, 1)
        pid = deployment.pid(name)
        for side, words in (
            ("legacy", ["rollback"]),
            ("multiprocess", ["rollout", "start", "--type", "wwebjs", "--percent", "100"]),
        ):
            deployment.run(*words)
            assert owners(deployment) == {side: 1}
            ports = (deployment.settings.port, deployment.settings.api_port)
            for port in ports if side == "multiprocess" else ports[:1]:
                answer = requests.post(
                    f"http://127.0.0.1:{port}/api/v2/messages/text/{COMPANY}/60171112222",
                    json={"message": f"{side} {port}", "phoneIndex": 1}, headers={"X-Api-Key": deployment.key},
                    params={"wait": 30}, timeout=HANG_SECONDS,
                )  # fmt: skip
                assert answer.status_code == 200, answer.text
            assert deployment.pid(name) == pid
        texts = [each["body"] for each in deployment.arrived(number)]
        assert len(texts) == len(set(texts)) == 3
    finally:
        deployment.close()
