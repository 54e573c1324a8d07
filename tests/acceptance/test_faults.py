"""Nothing is lost and nothing doubled while processes are killed and Redis forgets everything."""

import collections
import contextlib
import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import requests

from tests.support.deployment import Deployment, alive, descendants, overtaken
from tests.support.waiting import HANG_SECONDS, wait_until

#: The chat of single messages.
CHAT = "60123456701"
CHATS = 200
TEXTS = 10
#: Messages whose connection the simulator cuts after accepting them.
AMBIGUOUS = 15
#: Between two messages of one of the eight clients, so that the kills fall between them.
MESSAGE_INTERVAL_SECONDS = 0.08


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(
        tmp_path_factory.mktemp("faults"),
        META_MAX_MESSAGES_PER_SECOND="500",
        HEARTBEAT_INTERVAL="1000",
        ENABLE_WWEBJS="false",
        LEASE_SECONDS="5",
        SEND_TIMEOUT_MS="3000",
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    yield deployment
    deployment.close()


def accept(deployment, session, chat, number):
    """Send one text and insist until it is accepted; the idempotency key makes that safe."""
    text = f"{'cut ' if number == 4 and chat < AMBIGUOUS else ''}{chat:03}/{number}"
    headers = {"X-Api-Key": deployment.key, "Idempotency-Key": text}
    url = f"{deployment.api}/api/v2/messages/text/0100/60120000{chat:03}"
    for _ in range(200):
        try:
            answer = session.post(url, json={"message": text}, headers=headers, timeout=HANG_SECONDS)
        except requests.RequestException:
            time.sleep(0.1)
            continue
        if answer.status_code == 202:
            time.sleep(MESSAGE_INTERVAL_SECONDS)
            return text
        assert answer.status_code == 503, answer.text
        time.sleep(0.1)
    raise AssertionError(f"{text} was not accepted:\n{deployment.logs()}")


def converse(deployment, chats):
    """The messages of some chats: each chat's in order, the chats in turn."""
    with requests.Session() as session:
        return [accept(deployment, session, chat, number) for number in range(TEXTS) for chat in chats]


def kill_in_turn(deployment, finished):
    """SIGKILL one process after the other, in part its children alone, and flush Redis once; returns what was done."""
    done = collections.Counter()
    names = itertools.cycle(["api-0", "meta-worker-1", "meta", "meta-worker-2", "api-1"])
    for number, name in zip(range(15), names, strict=False):
        if finished.wait(1.5):
            break
        if number == 5:
            redis.Redis.from_url(deployment.settings.redis_dsn).flushall()
        if pid := deployment.status()[name]["pid"]:
            for victim in sorted(descendants(pid)) if number % 2 and "worker" not in name else [pid]:
                with contextlib.suppress(ProcessLookupError):  # it went with the one before
                    os.kill(victim, signal.SIGKILL)
            done[name] += 1
    return done


def test_kills_and_a_flush_lose_and_duplicate_nothing(deployment):
    deployment.behave(match="cut ", cut="after_accept")
    finished, killed = threading.Event(), []
    killer = threading.Thread(target=lambda: killed.append(kill_in_turn(deployment, finished)))
    killer.start()
    with ThreadPoolExecutor(8) as pool:
        shares = [range(first, CHATS, 8) for first in range(8)]
        accepted = [text for texts in pool.map(lambda chats: converse(deployment, chats), shares) for text in texts]
    finished.set()
    killer.join()
    assert len(set(accepted)) == len(accepted) == CHATS * TEXTS
    assert sum(killed[0].values()) >= 3
    wait_until(
        lambda: not {"queued", "waiting", "sending"} & set(deployment.statuses()) and settled(deployment),
        90, lambda: f"{deployment.statuses()}\n{deployment.logs()}",
    )  # fmt: skip

    received = deployment.received()
    counts = collections.Counter(message["text"] for message in received)
    assert [text for text, count in counts.items() if count > 1] == []
    # A message that a kill caught between its journal entry and the socket becomes unknown: it is not resent.
    never = set(accepted) - set(counts)
    unknown = {text for (text,) in deployment.rows("SELECT payload ->> 'message' FROM outbox WHERE status = 'unknown'")}
    assert never <= unknown
    assert len(never) <= killed[0]["meta-worker-1"] + killed[0]["meta-worker-2"]
    assert set(deployment.statuses()) <= {"sent", "delivered", "read", "unknown"}
    by_chat = collections.defaultdict(list)
    for message in received:
        by_chat[message["to"]].append(message["text"].removeprefix("cut "))
    late = set().union(*map(overtaken, by_chat.values()))
    assert late <= {text.removeprefix("cut ") for text in deployment.once_unknown()}
    assert deployment.rows("SELECT count(*) FROM outbox") == [(CHATS * TEXTS,)]


def settled(deployment):
    """Whether every message that the simulator has is reported as read."""
    (count,) = deployment.rows("SELECT count(*) FROM outbox WHERE status = 'read'")[0]
    return count >= len(deployment.received())


def test_no_process_outlives_supervisord(deployment):
    supervisor = int((deployment.settings.run_dir / "supervisord.pid").read_text())
    below = descendants(supervisor)
    assert len(below) >= 10
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, below)), what=lambda: f"still there: {[p for p in below if alive(p)]}")
    deployment.run("start", "--multiprocess", "--sandbox")
    assert deployment.send("0100", "60123456789", "after it", params={"wait": 30}).status_code == 200


def test_an_unavailable_server_loses_no_message(deployment):
    assert deployment.send("0100", CHAT, "before", params={"wait": 30}).status_code == 200
    os.kill(deployment.pid("redis"), signal.SIGKILL)
    assert deployment.send("0100", CHAT, "without Redis", params={"wait": 30}).status_code == 200
    os.kill(deployment.pid("postgres"), signal.SIGQUIT)
    statuses = []

    def sent():
        statuses.append(insist(deployment, "after"))
        return statuses[-1] == 200

    wait_until(sent, what=lambda: str(statuses))
    assert set(statuses) <= {200, 202, 503}, deployment.logs()
    received = [message["text"] for message in deployment.received() if message["to"] == CHAT]
    assert received == ["before", "without Redis", "after"]


def insist(deployment, text):
    """Send a text, or ask again what became of it; returns the HTTP status."""
    headers = {"Idempotency-Key": text}
    answer = deployment.send("0100", CHAT, text, params={"wait": 5}, headers=headers)
    if answer.status_code == 503:
        assert answer.json()["code"] == "database_unavailable"
        assert answer.headers["Retry-After"]
    return answer.status_code
