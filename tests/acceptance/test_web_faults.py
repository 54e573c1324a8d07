"""WhatsApp Web numbers while their browsers, drivers, processes, the manager and supervisord are killed."""

import collections
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.deployment import alive, descendants
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import COMPANY, PARTS, SESSION_SECONDS, WebDeployment, command_of

pytestmark = pytest.mark.timeout(900)

#: Phone indexes.
SESSIONS = (1, 2)
#: Chats of each session.
CHATS = 5
#: Messages of each chat.
TEXTS = 12
KILL_INTERVAL_SECONDS = 2.5
#: Between two messages of a session.
MESSAGE_INTERVAL_SECONDS = 0.4


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = WebDeployment(
        tmp_path_factory.mktemp("web"), HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1"
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    for index in SESSIONS:
        deployment.add_web_bot(index)
    for index in SESSIONS:
        deployment.link(index)
    yield deployment
    deployment.close()


def accept(deployment, client, index, chat, text):
    """Have one text accepted."""
    answer = client.post(
        f"{deployment.api}/api/v2/messages/text/{COMPANY}/6018000{chat:04}",
        json={"message": text, "phoneIndex": index}, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    time.sleep(MESSAGE_INTERVAL_SECONDS)
    return text


def converse(deployment, index):
    """The messages of one session, its chats in turn."""
    with requests.Session() as client:
        order = [(number, chat) for number in range(TEXTS) for chat in range(CHATS)]
        return [accept(deployment, client, index, chat, f"{index}/{chat}/{number:02}") for number, chat in order]


def kill_in_turn(deployment, finished):
    """SIGKILL one part of a session after the other; returns what was killed."""
    killed = collections.Counter()
    for part, index in zip(itertools.cycle(PARTS), itertools.cycle(SESSIONS), strict=False):
        if finished.wait(KILL_INTERVAL_SECONDS):
            break
        killed[part] += deployment.kill_part(part, index)
    return killed


def test_each_message_arrives_once_and_in_order_while_browsers_drivers_and_sessions_are_killed(deployment):
    finished, killed = threading.Event(), []
    killer = threading.Thread(target=lambda: killed.append(kill_in_turn(deployment, finished)))
    killer.start()
    with ThreadPoolExecutor(len(SESSIONS)) as pool:
        accepted = [text for texts in pool.map(lambda index: converse(deployment, index), SESSIONS) for text in texts]
    finished.set()
    killer.join()
    assert killed[0].total() >= 2, killed
    numbers = deployment.numbers.values()
    wait_until(
        lambda: {text for number in numbers for text in texts_of(deployment, number)} >= set(accepted),
        2 * SESSION_SECONDS, lambda: f"{deployment.statuses()}\n{deployment.logs()}",
    )  # fmt: skip
    assert deployment.duplicates(numbers) == {}
    for number in numbers:
        chats = collections.defaultdict(list)
        for text in texts_of(deployment, number):
            chats[text.rpartition("/")[0]].append(text)
        assert all(texts == sorted(texts) for texts in chats.values()), chats
    wait_until(
        lambda: not {"queued", "waiting", "sending", "unknown", "failed"} & set(deployment.statuses()),
        what=lambda: str(deployment.statuses()),
    )  # fmt: skip
    wait_until(lambda: len(browsers_of(deployment)) == len(SESSIONS), what=lambda: str(browsers_of(deployment)))


def texts_of(deployment, number):
    """The texts that a number sent, in their order."""
    return [each["body"] for each in deployment.arrived(number)]


def test_sessions_survive_a_kill_of_the_manager(deployment):
    before = {index: deployment.part("browser", index) for index in SESSIONS}
    assert all(before.values())
    deployment.kill("wwebjs")
    wait_until(lambda: deployment.status()["wwebjs"]["status"] == "healthy", what=deployment.logs)
    assert {index: deployment.part("browser", index) for index in SESSIONS} == before
    with requests.Session() as client:
        accept(deployment, client, 1, 9999, "still here")
    wait_until(lambda: "still here" in texts_of(deployment, deployment.numbers[SESSIONS[0]]), what=deployment.logs)


def browsers_of(deployment):
    """The pids of all browsers, without their own children, that have a profile of this deployment."""
    return [pid for pid in processes_of(deployment) if not any(word.startswith("--type=") for word in command_of(pid))]


def processes_of(deployment):
    """The pids of all processes that have something to do with a profile of this deployment: every one is looked at."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    folder = f"--user-data-dir={deployment.settings.profile_dir}"
    return [pid for pid in pids if any(word.startswith(folder) for word in command_of(pid)) and alive(pid)]


def test_a_number_never_runs_in_two_sessions(deployment, tmp_path):
    command = [sys.executable, "-m", "services.connectors.wwebjs", COMPANY, str(SESSIONS[0])]
    environment = {**os.environ, "BISNES_ENV": str(deployment.settings.env_file), "SANDBOX": "true"}
    output = tmp_path / "output"
    with output.open("w") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as second:
        try:
            wait_until(lambda: "another process serves this bot" in output.read_text(), 120, output.read_text)
            time.sleep(3)
            assert second.poll() is None  # it waits for the number, which is no failed start
            assert len(browsers_of(deployment)) == len(SESSIONS)
        finally:
            second.terminate()
    assert second.returncode == 0


def test_no_browser_outlives_supervisord(deployment):
    supervisor = int((deployment.settings.run_dir / "supervisord.pid").read_text())
    below = descendants(supervisor)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, below)), what=lambda: f"still there: {[p for p in below if alive(p)]}")
    wait_until(lambda: not processes_of(deployment), what=lambda: "a browser is left")
    deployment.run("start", "--multiprocess", "--sandbox")
    for index in SESSIONS:
        deployment.wait_for("WORKING", index)
