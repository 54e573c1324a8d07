"""Inbound messages reach the customer's webhook although processes are killed: each once, in order."""

import collections
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from services.connectors.meta.receiver import SIGNATURE_HEADER, sign
from tests.support.deployment import Deployment
from tests.support.waiting import HANG_SECONDS, wait_until

CHATS = 10
TEXTS = 20
KILLS = 5
SECRET = "a secret of the customer's"


class Customer:
    """A customer's webhook. While `failing`, it answers 500. It records the events that it answered with 200."""

    def __init__(self):
        self.failing = threading.Event()
        self.told = []
        self.refused = 0
        self.forged = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                status = outer._take(self.rfile.read(int(self.headers["Content-Length"])), self.headers)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, body, headers):
        signature = hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()
        with self._lock:
            self.forged += headers["X-Webhook-Hmac"] != signature
            if self.failing.is_set():
                self.refused += 1
                return 500
            self.told.append(json.loads(body))
            return 200

    @property
    def calls(self):
        """How many calls it answered."""
        return len(self.told) + self.refused

    def texts(self):
        """The texts of each chat in the order of their first delivery."""
        found = collections.defaultdict(dict)
        for event in list(self.told):
            payload = event["payload"]
            found[payload["chatId"]].setdefault(payload["body"], event["id"])
        return found

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def customer():
    customer = Customer()
    yield customer
    customer.close()


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, HEARTBEAT_INTERVAL="1000", LEASE_SECONDS="5", API_INSTANCES="1", ENABLE_WWEBJS="false"
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    yield deployment
    deployment.close()


def register(deployment, url):
    fields = {"company": "0100", "url": url, "events": ["message"], "secret": SECRET}
    answer = requests.post(
        f"{deployment.api}/api/webhooks",
        json=fields,
        headers={"X-Api-Key": deployment.key},
        timeout=HANG_SECONDS,
    )
    assert answer.status_code == 201, answer.text


def webhook(chat, number):
    """Meta's webhook of one text."""
    sender = f"60120000{chat:03}"
    message = {
        "from": sender,
        "id": f"wamid.{chat}.{number}",
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": f"{number:03}"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "60311111111", "phone_number_id": "1001000"},
        "contacts": [{"wa_id": sender, "profile": {"name": f"Customer {chat}"}}],
        "messages": [message],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def deliver(deployment, body):
    """Do as Meta does: repeat the webhook until it is answered with 200."""
    url = f"http://127.0.0.1:{deployment.settings.meta_port}/api/meta/webhook"
    headers = {SIGNATURE_HEADER: sign(deployment.settings.meta_app_secret.get_secret_value(), body)}

    def answered():
        try:
            return requests.post(url, body, headers=headers, timeout=HANG_SECONDS).status_code == 200
        except requests.RequestException:
            return False

    wait_until(answered, what=deployment.logs)


def speak(deployment, numbers):
    """Every customer says the texts with these numbers."""
    for number in numbers:
        for chat in range(CHATS):
            deliver(deployment, webhook(chat, number))


def expect(deployment, customer, texts):
    """Wait until all texts of each chat were delivered, in order, and each under one id."""
    wait_until(
        lambda: len(customer.texts()) == CHATS and all(len(said) == texts for said in customer.texts().values()),
        90,
        lambda: f"{ {chat: len(said) for chat, said in customer.texts().items()} }\n{deployment.logs()}",
    )
    for said in customer.texts().values():
        assert list(said) == [f"{number:03}" for number in range(texts)]
    ids = collections.defaultdict(set)
    for event in customer.told:
        ids[event["payload"]["providerId"]].add(event["id"])
    assert {len(each) for each in ids.values()} == {1}
    assert customer.forged == 0


def kill_again_and_again(deployment, customer, finished):
    """Kills the sender a few times, each time after it called the customer: otherwise it would never come so far."""
    for _ in range(KILLS):
        calls = customer.calls
        while customer.calls == calls:
            if finished.wait(0.1):
                return
        deployment.kill("events")


def test_a_receiver_killed_between_storing_and_parsing_loses_nothing(deployment, customer):
    register(deployment, customer.url)
    deployment.run("stop", "meta-worker")
    speak(deployment, range(3))
    assert deployment.rows("SELECT count(*) FROM webhook_inbox WHERE processed_at IS NULL") == [(3 * CHATS,)]
    deployment.kill("meta")
    speak(deployment, range(3, 5))
    deployment.run("start", "--multiprocess", "--sandbox")
    expect(deployment, customer, 5)
    assert deployment.rows("SELECT count(*) FROM messages WHERE direction = 'inbound'") == [(5 * CHATS,)]


def test_a_killed_sender_and_a_failing_customer_lose_nothing_and_keep_the_order(deployment, customer):
    register(deployment, customer.url)
    finished = threading.Event()
    killer = threading.Thread(target=kill_again_and_again, args=(deployment, customer, finished))
    killer.start()
    speak(deployment, range(TEXTS // 2))
    customer.failing.set()
    speak(deployment, range(TEXTS // 2, TEXTS))
    wait_until(lambda: customer.refused >= 3, what=deployment.logs)
    finished.set()
    killer.join()
    deployment.kill("events")
    customer.failing.clear()
    expect(deployment, customer, TEXTS)
    wait_until(lambda: deployment.rows("SELECT count(*) FROM webhook_delivery WHERE status = 'pending'") == [(0,)])
