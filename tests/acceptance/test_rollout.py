"""A rollout under load, forward and back: no message is lost, doubled or out of order though processes are killed."""

import contextlib
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
from bisnesctl.rollout.plan import count
from tests.support.deployment import Deployment, alive
from tests.support.two_sides import COMPANY, Writers, add_bots, chat_of, owners, rollout_phase
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import WebDeployment

#: Meta numbers, and WhatsApp Web numbers beside them.
BOTS = int(os.environ.get("ROLLOUT_BOTS", "20"))
WEB_BOTS = (BOTS, BOTS + 1)
ALL_BOTS = BOTS + len(WEB_BOTS)
#: Messages a second, to Meta and to WhatsApp Web.
RATE = float(os.environ.get("ROLLOUT_RATE", "50"))
WEB_RATE = 1.0
SEED = int(os.environ.get("ROLLOUT_SEED", "4711"))
#: Messages that each kill of a worker may leave `unknown`: those that were on their way.
IN_FLIGHT = 64
#: Latencies may grow as much in a rollout: on a busy machine they do, without any fault of ours.
LATENCY_RATIO = "100"
#: The word, and the code, of messages that the provider refuses.
FAULT, FAULT_CODE = "broken", 131026

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", LEASE_SECONDS="12",
        SEND_TIMEOUT_MS="5000", ENABLE_WWEBJS="false", API_INSTANCES="1", META_INSTANCES="2",
    )  # fmt: skip
    deployment.run("start", "--legacy", "--sandbox")
    yield deployment
    deployment.close()


@pytest.fixture
def full(tmp_path):
    """A deployment with numbers of both channels, all served by the legacy process."""
    deployment = WebDeployment(
        tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", LEASE_SECONDS="12",
        SEND_TIMEOUT_MS="5000", API_INSTANCES="1", META_INSTANCES="2", ROLLOUT_LATENCY_RATIO=LATENCY_RATIO,
    )  # fmt: skip
    deployment.run("start", "--multiprocess", "--sandbox")
    add_bots(deployment, BOTS)
    for index in WEB_BOTS:
        deployment.add_web_bot(index)
    for index in WEB_BOTS:
        deployment.link(index)
    deployment.behave(match=FAULT, error_code=FAULT_CODE)
    deployment.run("rollback")
    yield deployment
    deployment.close()


def rollout_status(deployment):
    return json.loads(deployment.run("rollout", "status", "--json").stdout)


def begin(deployment, *words):
    """Start a command, without waiting for its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "bisnesctl", *words], cwd=deployment.folder, env=deployment.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_some(deployment, random_numbers, names):
    """SIGKILL one of these programs; returns whether it was running."""
    return deployment.kill(random_numbers.choice(names))


def driver_of(deployment):
    """The pid of the process that drives the rollout, or drove it last; None if none does."""
    rows = deployment.rows("SELECT driver FROM rollout WHERE ended_at IS NULL AND driver IS NOT NULL")
    return int(rows[0][0].split("/")[1]) if rows else None


def kill_driver(deployment):
    """SIGKILL the process that drives the rollout, if there is one."""
    if pid := driver_of(deployment):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_share(deployment, share):
    """Until the other side serves this many bots, and the step counts as moved."""
    is_watched = "SELECT step_at IS NOT NULL FROM rollout WHERE ended_at IS NULL"
    wait_until(
        lambda: owners(deployment).get("multiprocess") == share and deployment.rows(is_watched) == [(True,)], 120,
        lambda: f"{rollout_status(deployment)}\n{deployment.logs()}",
    )  # fmt: skip


def wait_for_phase(deployment, phase):
    wait_until(lambda: rollout_phase(deployment) == phase, 180,
               lambda: f"{rollout_status(deployment)}\n{deployment.logs()}")  # fmt: skip


def moved_bots(deployment):
    """The phone indexes of the bots on the new side."""
    rows = deployment.rows(
        "SELECT phone_index FROM phone_configs c JOIN bot_pace p ON p.bot_id = c.id WHERE p.owner = 'multiprocess'"
    )
    return [index for (index,) in rows]


def roll_back(deployment, numbers):
    """Roll back while a worker is killed; returns the seconds that the command took, and whether one was killed."""
    began, tool = time.monotonic(), begin(deployment, "rollback")
    time.sleep(numbers.uniform(0, 3))
    killed = kill_some(deployment, numbers, ["meta-worker-1", "meta-worker-2"])
    tool.wait(5 * HANG_SECONDS)
    return time.monotonic() - began, killed


def reason_of_last(deployment):
    """Why the last rollout went back."""
    return deployment.rows("SELECT reason FROM rollout ORDER BY id DESC LIMIT 1")[0][0]


def complete(deployment):
    """The rollout that comes to its end; returns the reasons of those that went back by themselves before.

    On a machine that is too busy one may rightly do so, because of heartbeats that are missing for example.
    """
    reasons = []
    for _ in range(3):
        deployment.run("rollout", "start", "--percent", "100")
        kill_driver(deployment)
        deployment.run("rollout", "advance", "--force", check=False)
        wait_until(lambda: rollout_phase(deployment) in ("done", "undone"), 180,
                   lambda: f"{rollout_status(deployment)}\n{deployment.logs()}")  # fmt: skip
        if rollout_phase(deployment) == "done":
            return reasons
        reasons.append(reason_of_last(deployment))
    raise AssertionError(f"no rollout came to its end: {reasons}")


def test_a_rollout_under_load_loses_doubles_and_reorders_nothing_whatever_is_killed(full, capsys):
    deployment, numbers, kills = full, random.Random(SEED), 0
    with Writers(deployment, range(BOTS), RATE) as meta, Writers(deployment, WEB_BOTS, WEB_RATE, 2) as web:
        wait_until(lambda: len(meta.accepted) > BOTS and web.accepted)

        # The tool is killed while it starts the other side; the program alerts continues.
        tool = begin(deployment, "rollout", "start", "--percent", "10")
        time.sleep(numbers.uniform(0.5, 6))
        tool.kill()
        tool.wait()
        if rollout_phase(deployment) != "forward":  # it was killed before it recorded anything: it is typed again
            deployment.run("rollout", "start", "--percent", "10", check=False)
        wait_for_share(deployment, count(ALL_BOTS, 10))
        kills += deployment.kill("meta-worker-1")
        kill_some(deployment, numbers, ["guard", "alerts"])

        # The second step; a worker is killed while bots move. Then messages of the moved bots begin to fail.
        tool = begin(deployment, "rollout", "advance", "--percent", "50", "--force")
        time.sleep(numbers.uniform(0, 3))
        kills += kill_some(deployment, numbers, ["meta-worker-1", "meta-worker-2"])
        tool.wait(5 * HANG_SECONDS)
        wait_for_share(deployment, count(ALL_BOTS, 50))
        meta.words = dict.fromkeys(moved_bots(deployment), FAULT)
        broke = time.monotonic()
        time.sleep(numbers.uniform(0, 3))
        kill_driver(deployment)
        wait_for_phase(deployment, "undone")
        went_back = time.monotonic() - broke
        meta.words = {}
        assert str(FAULT_CODE) in reason_of_last(deployment)
        assert owners(deployment) == {"legacy": ALL_BOTS}

        # Another rollout, and back by hand in the middle of it.
        deployment.run("rollout", "start", "--percent", "50")
        rolled_back, killed = roll_back(deployment, numbers)
        kills += killed
        assert owners(deployment) == {"legacy": ALL_BOTS}
        assert requests.get(
            f"http://127.0.0.1:{deployment.settings.port}/health/ready", timeout=HANG_SECONDS
        ).status_code == 200  # fmt: skip

        reasons = complete(deployment)
        assert owners(deployment) == {"multiprocess": ALL_BOTS}
        assert deployment.status().get("legacy", {}).get("pid") is None
    wait_until(lambda: not {"queued", "waiting", "sending"} & set(deployment.statuses()), 120,
               lambda: f"{deployment.statuses()}\n{deployment.logs()}")  # fmt: skip
    statuses, found = deployment.statuses(), {"Meta": meta.arrivals(), "WhatsApp Web": web.arrivals()}
    with capsys.disabled():
        gaps = ", ".join(
            f"{name} {each.longest_gap:.1f} s (longest wait {each.longest_wait:.1f} s)" for name, each in found.items()
        )
        print(f"\n{len(meta.accepted)} messages of Meta, {len(web.accepted)} of WhatsApp Web: {statuses}\n"
              f"longest gap of a chat: {gaps}\nback by itself {went_back:.1f} s after the fault; rollback by hand "
              f"{rolled_back:.1f} s; went back instead of coming to their end: {reasons}")  # fmt: skip
    assert (meta.wrong, web.wrong) == ([], [])
    assert [(each.doubled, each.disordered) for each in found.values()] == [([], [])] * 2
    assert not found["WhatsApp Web"].missing
    # Each text that the provider does not have was refused, or its worker ended before it recorded the answer.
    missing, failed, unknown = found["Meta"].missing, statuses.pop("failed", 0), statuses.get("unknown", 0)
    assert failed <= sum(text.endswith(FAULT) for text in missing)
    assert len(missing) - failed <= unknown <= kills * IN_FLIGHT
    assert set(statuses) <= {"sent", "delivered", "read", "unknown"}


def test_a_frozen_side_is_fenced_by_a_hand_over(deployment):
    add_bots(deployment, 2)
    deployment.run("rollout", "start", "--percent", "100")
    pid = deployment.pid("meta-worker-1")
    other = deployment.pid("meta-worker-2")
    deployment.behave(match="slow", delay_ms=3000)
    with Writers(deployment, range(2), 10) as writers:
        writers.words = {0: "slow", 1: ""}
        wait_until(lambda: len(writers.accepted) > 20)
        for each in (pid, other):
            os.kill(each, signal.SIGSTOP)
        try:
            aborted = begin(deployment, "rollout", "abort")
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
    assert owners(deployment) == {"legacy": 1, "multiprocess": 1}


def test_a_rollout_stands_still_while_everything_is_stopped(deployment):
    add_bots(deployment, 2)
    deployment.run("rollout", "run", "--detach", "50%:1h,100%")
    driver = wait_until(lambda: driver_of(deployment))
    deployment.run("stop")
    wait_until(lambda: not alive(driver))
    deployment.run("start")
    assert owners(deployment) == {"legacy": 1, "multiprocess": 1}
    assert rollout_phase(deployment) == "forward"
    wait_until(lambda: driver_of(deployment) not in (None, driver), what=deployment.logs)


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
