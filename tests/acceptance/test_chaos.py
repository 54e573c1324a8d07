"""Faults of all kinds, one after the other, under traffic in all directions: nothing lost, doubled or out of order.

Their order is another one in each run, and they end after a while. In the environment, `CHAOS_SEED` repeats the order
that a run has printed, `CHAOS_SECONDS` lets them last longer, and with `CHAOS_ROUNDS` each kind comes that often.
"""

import collections
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from services.connectors.meta.receiver import SIGNATURE_HEADER, sign
from tests.support.faults import FAULTS, INDEX
from tests.support.meta_payloads import message, value, webhook
from tests.support.remote.customer import Customer
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import COMPANY, SESSION_SECONDS, WebDeployment

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
#: How often each kind of fault comes; 0: those that come within `SECONDS`, once.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "75"))
#: Faults that come on a slow machine too.
MIN_FAULTS = 10
#: Phone indexes.
META, WEB = 0, INDEX
#: Seconds between two faults.
FAULT_INTERVAL_SECONDS = 1.0
#: Seconds between two messages of a client, by the phone index; a browser takes its time.
MESSAGE_INTERVAL_SECONDS = {META: 0.15, WEB: 3.0}
#: Chats of one client.
CHATS = 10
#: Words in some texts, each with what Meta does with such a message.
TROUBLES: dict[str, dict[str, Any]] = {
    "cut after": {"cut": "after_accept"},
    "cut before": {"cut": "before_accept"},
    "slow": {"delay_ms": 2000},
    "busy": {"error_code": 131000, "times": 2},
    "mixed": {"shuffle_webhooks": True, "duplicate_webhooks": 2},
}
#: Every how many texts such a word comes.
TROUBLE_INTERVAL = 12
#: Faults after which messages that were about to leave may be `unknown`: nobody knows whether they did.
UNCERTAIN = ("worker 1", "worker 2", "supervisord", "stop killed", "rollback killed", "session", "browser", "driver",
             "renderer")  # fmt: skip
#: The fault in which the server may hang in the very commit of a message that is answered with 503 (docs/explanation).
HANGING = "postgres frozen"

pytestmark = pytest.mark.timeout(1200 * max(ROUNDS, 1) + SECONDS)


class Client(threading.Thread):
    """Posts texts to its chats in turn until it is stopped.

    With keys, it repeats a request until it is accepted, as the documentation says. Without, it sends each once:
    `doubtful` are the texts whose request got no answer, `refused` those that were answered with 503.
    """

    def __init__(self, deployment: WebDeployment, name: str, phone: int, keys: bool) -> None:
        super().__init__(name=name, daemon=True)
        self._deployment, self._phone, self.is_keyed = deployment, phone, keys
        self.stopped = threading.Event()
        self.accepted: list[str] = []
        self.doubtful: set[str] = set()
        self.refused: set[str] = set()
        self.ids: dict[str, set[str]] = collections.defaultdict(set)
        self.wrong: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.stopped.wait(MESSAGE_INTERVAL_SECONDS[self._phone]):
            trouble = (
                list(TROUBLES)[number // TROUBLE_INTERVAL % len(TROUBLES)] if number % TROUBLE_INTERVAL == 0 else ""
            )
            self._send(number % CHATS, f"{self.name}/{number % CHATS:02}/{number:05} {trouble}".strip())
            number += 1

    def _send(self, chat: int, text: str) -> None:
        while not self._is_settled(chat, text):
            time.sleep(0.2)

    def _is_settled(self, chat: int, text: str) -> bool:
        deployment, headers = self._deployment, {"X-Api-Key": self._deployment.key}
        if self.is_keyed:
            headers["Idempotency-Key"] = text
        url = f"{deployment.api}/api/v2/messages/text/{COMPANY}/6013{self._phone}{self.is_keyed:d}00{chat:03}"
        body = {"message": text, "phoneIndex": self._phone}
        try:
            answer = requests.post(url, json=body, headers=headers, timeout=HANG_SECONDS)
        except requests.RequestException:
            self.doubtful.add(text)
            return not self.is_keyed
        if answer.status_code == 202:
            self.accepted.append(text)
            self.ids[text].add(answer.json()["messageId"])
            return True
        if answer.status_code != 503:
            self.wrong.append(f"{text}: {answer.status_code} {answer.text}")
            return True
        if text not in self.doubtful:
            self.refused.add(text)
        return not self.is_keyed


class Provider(threading.Thread):
    """Posts customers' texts to the webhook as Meta does: each until it is answered with 200."""

    def __init__(self, deployment: WebDeployment) -> None:
        super().__init__(name="provider", daemon=True)
        self._deployment, self.stopped, self.said = deployment, threading.Event(), 0

    def run(self) -> None:
        while not self.stopped.wait(MESSAGE_INTERVAL_SECONDS[META]):
            chat = self.said % CHATS
            body = said_by(f"601400000{chat:02}", self.said)
            secret = self._deployment.settings.meta_app_secret.get_secret_value()
            url = f"http://127.0.0.1:{self._deployment.settings.meta_port}/api/meta/webhook"
            while not self._delivered(url, body, {SIGNATURE_HEADER: sign(secret, body)}):
                time.sleep(0.2)
            self.said += 1

    def _delivered(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            return requests.post(url, body, headers=headers, timeout=HANG_SECONDS).status_code == 200
        except requests.RequestException:
            return False


def said_by(customer_number: str, number: int) -> bytes:
    """Meta's webhook of a customer's text."""
    text = message("text", {"body": f"{number:05}"}) | {"from": customer_number, "id": f"wamid.in.{number}"}
    found = value(text, contacts=[{"profile": {"name": "Aina"}, "wa_id": customer_number}])
    found["metadata"]["phone_number_id"] = f"10{COMPANY}{META}"
    return orjson.dumps(webhook(found))


@pytest.fixture
def customer() -> Iterator[Customer]:
    customer = Customer()
    yield customer
    customer.close()


@pytest.fixture
def deployment(tmp_path: Path, customer: Customer) -> Iterator[WebDeployment]:
    deployment = WebDeployment(
        tmp_path,
        META_MAX_MESSAGES_PER_SECOND="500",
        HEARTBEAT_INTERVAL="1000",
        LEASE_SECONDS="12",
        SEND_TIMEOUT_MS="5000",
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot(COMPANY, META)
    deployment.add_web_bot(WEB)
    deployment.link(WEB)
    fields = {"company": COMPANY, "url": customer.url, "events": ["message"], "secret": "a secret of the customer"}
    headers = {"X-Api-Key": deployment.key}
    made = requests.post(f"{deployment.api}/api/webhooks", json=fields, headers=headers, timeout=HANG_SECONDS)
    assert made.status_code == 201, made.text
    yield deployment
    deployment.close()


def test_no_kind_of_fault_loses_doubles_or_reorders_a_message(deployment: WebDeployment, customer: Customer) -> None:
    clients = [Client(deployment, f"{'w' if phone else 'm'}{keys:d}", phone, keys)
               for phone in (META, WEB) for keys in (True, False)]  # fmt: skip
    provider = Provider(deployment)
    for word, behaviour in TROUBLES.items():
        deployment.behave(match=word, **behaviour)
    threads: list[Client | Provider] = [*clients, provider]
    for thread in threads:
        thread.start()
    done = cause_faults(deployment)
    for thread in threads:
        thread.stopped.set()
    for thread in threads:
        thread.join()
    wait_until(
        lambda: is_drained(deployment), 2 * SESSION_SECONDS, lambda: f"{deployment.statuses()}\n{deployment.logs()}"
    )

    accepted = [text for client in clients for text in client.accepted]
    assert [each for client in clients for each in client.wrong] == []
    assert all(len(ids) == 1 for client in clients for ids in client.ids.values())
    arrived = [message["text"] for message in deployment.received()]
    arrived += [message["body"] for message in deployment.arrived(deployment.numbers[WEB])]
    assert [text for text, count in collections.Counter(arrived).items() if count > 1] == []
    assert set(deployment.statuses()) <= {"sent", "delivered", "read", "unknown"}, failed(deployment)
    never = set(accepted) - set(arrived)
    unknown = {text for (text,) in deployment.rows("SELECT payload ->> 'message' FROM outbox WHERE status = 'unknown'")}
    assert never <= unknown
    caught = {text for text in never if not text.endswith("cut before")}
    assert len(caught) <= sum(done[name] for name in UNCERTAIN) * 8, caught
    refused = {text for client in clients for text in client.refused - set(client.accepted)}
    late = set(arrived) & refused  # the server hung in their commit, and a worker was faster than their withdrawal
    assert len(late) <= done[HANGING] * sum(not client.is_keyed for client in clients), late
    assert set(arrived) <= set(accepted) | {text for client in clients for text in client.doubtful} | late
    by_chat: dict[str, list[str]] = collections.defaultdict(list)
    for text in arrived:
        by_chat[text.rpartition("/")[0]].append(text)
    assert [texts for texts in by_chat.values() if texts != sorted(texts)] == []
    expect_events(customer, provider.said)


def cause_faults(deployment: WebDeployment) -> collections.Counter[str]:
    """Faults in an order that the seed chooses; returns how often each was caused."""
    done: collections.Counter[str] = collections.Counter()
    print(f"CHAOS_SEED={SEED}", flush=True)
    order, began = random.Random(SEED), time.monotonic()
    for name in [name for _ in range(ROUNDS or 1) for name in order.sample(list(FAULTS), len(FAULTS))]:
        if not ROUNDS and done.total() >= MIN_FAULTS and time.monotonic() > began + SECONDS:
            break
        time.sleep(FAULT_INTERVAL_SECONDS)
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        FAULTS[name](deployment)
        done[name] += 1
    deployment.run("start", "--multiprocess", "--sandbox")
    return done


def is_drained(deployment: WebDeployment) -> bool:
    """Whether no message waits, every webhook was applied, and every event was delivered."""
    waiting = (
        "SELECT (SELECT count(*) FROM webhook_inbox WHERE processed_at IS NULL)"
        " + (SELECT count(*) FROM webhook_delivery WHERE status = 'pending')"
    )
    return not {"queued", "waiting", "sending"} & set(deployment.statuses()) and deployment.rows(waiting) == [(0,)]


def failed(deployment: WebDeployment) -> list[tuple[Any, ...]]:
    """The messages that failed, with their reasons."""
    return deployment.rows("SELECT payload ->> 'message', error_code, error FROM outbox WHERE status = 'failed'")


def expect_events(customer: Customer, said: int) -> None:
    """Each text of the customers was reported, in its chat's order, and always under one id."""
    texts: dict[str, dict[str, set[str]]] = collections.defaultdict(dict)
    for call in customer.taken:
        payload = call.event["payload"]
        texts[payload["chatId"]].setdefault(payload["body"], set()).add(call.event["id"])
    assert {text for each in texts.values() for text in each} == {f"{number:05}" for number in range(said)}
    assert all(list(each) == sorted(each) for each in texts.values())
    assert all(len(ids) == 1 for each in texts.values() for ids in each.values())
