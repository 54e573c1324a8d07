"""The provider becomes unavailable while messages arrive, and recovers. All are sent once, in order.

`OUTAGE_SECONDS` in the environment makes it longer: 600 for the real thing.
"""

import json
import os
import threading
import time

import pytest
import requests

from tests.support.deployment import Deployment
from tests.support.waiting import HANG_SECONDS, wait_until

#: How long the provider is unavailable.
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "10"))
#: Messages a second during the outage.
RATE = 20
CHATS = 40
COMPANY = "0100"


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false"
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot(COMPANY)
    yield deployment
    deployment.close()


class Client(threading.Thread):
    """Posts texts at a rate until it is stopped. It records the accepted ones by chat."""

    def __init__(self, deployment):
        super().__init__(daemon=True)
        self._deployment = deployment
        self.stopped = threading.Event()
        self.accepted = {f"60120000{chat:03}": [] for chat in range(CHATS)}

    def run(self):
        with requests.Session() as session:
            started, number = time.monotonic(), 0
            while not self.stopped.wait(max(0.0, started + number / RATE - time.monotonic())):
                self._post(session, f"60120000{number % CHATS:03}", f"{number:06}")
                number += 1

    def _post(self, session, chat, text):
        url = f"{self._deployment.api}/api/v2/messages/text/{COMPANY}/{chat}"
        answer = session.post(
            url, json={"message": text}, headers={"X-Api-Key": self._deployment.key}, timeout=HANG_SECONDS
        )
        assert answer.status_code == 202, answer.text
        self.accepted[chat].append(text)


def taken(deployment, chat):
    """The texts that the simulator took for a chat, in their order."""
    answer = requests.get(f"{deployment.sandbox}/messages", params={"to": chat}, timeout=HANG_SECONDS).json()
    return [message["text"] for message in answer["messages"] if message["wamid"]]


def told(deployment, *words):
    """The output of a command, with any exit code."""
    return deployment.run(*words, check=False).stdout


def is_named(deployment):
    """Whether both `status` and the probe name the outage, with its cause."""
    probe = deployment.run("health", "--probe", check=False)
    return (
        "nothing has been sent since" in told(deployment, "status")
        and probe.returncode == 2
        and "bot 0100-0 unhealthy (unavailable: nothing has been sent since" in probe.stdout
        and "network: " in probe.stdout
    )


def is_forgotten(deployment):
    """Whether neither `status` nor the probe names an outage any more."""
    words = told(deployment, "status") + told(deployment, "health", "--probe")
    return "nothing has been sent" not in words and "unavailable" not in words


@pytest.mark.timeout(900 + 3 * OUTAGE_SECONDS)
def test_an_outage_of_the_provider_loses_no_message(deployment):
    assert deployment.send(COMPANY, "60123456789", "before", params={"wait": 30}).status_code == 200
    deployment.run("stop", "sandbox")
    client, began = Client(deployment), time.monotonic()
    client.start()
    wait_until(lambda: is_named(deployment), what=deployment.logs)
    noticed = time.monotonic() - began
    (bot,) = json.loads(told(deployment, "bots", "list", "--json"))
    assert bot["outage"]["code"] == "network"
    said = deployment.run("send", "--company", COMPANY, "--to", "60129999999", "--text", "late", "--wait", "--timeout",
                          "2", check=False)  # fmt: skip
    assert "it waits and will be sent automatically: the provider is unavailable since" in " ".join(said.stderr.split())
    time.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))
    wait_until(lambda: is_named(deployment), what=deployment.logs)  # until it ends
    waiting = deployment.statuses()
    deployment.run("restart", "sandbox")
    back = time.monotonic()
    time.sleep(2)
    client.stopped.set()
    client.join()
    wait_until(
        lambda: not {"queued", "waiting", "sending"} & set(deployment.statuses()),
        120, lambda: f"{deployment.statuses()}\n{deployment.logs()}",
    )  # fmt: skip
    drained = time.monotonic() - back
    count = sum(map(len, client.accepted.values()))
    print(f"{count} accepted, {waiting} at the end; reported after {noticed:.1f} s; all sent {drained:.1f} s later")
    for chat, texts in client.accepted.items():
        assert taken(deployment, chat) == texts, deployment.logs()
    assert set(deployment.statuses()) <= {"sent", "delivered", "read"}
    assert deployment.rows("SELECT max(attempts) FROM outbox") == [(1,)]
    wait_until(lambda: is_forgotten(deployment))
