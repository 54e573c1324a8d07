"""The simulated WhatsApp Web as a process, the calls to its controls, and a page without a browser."""

import uuid
from contextlib import contextmanager

import requests

from tests.support.sandbox import Sandbox, eventually, free_port

CUSTOMER = "60123456789"
CHAT = f"{CUSTOMER}@c.us"


class WebSandbox(Sandbox):
    """`python -m services.sandbox` on a port of its own; `page_url` is its WhatsApp Web."""

    def __init__(self, folder, meta_port=None, port=None):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, meta_port or free_port(), free_port(), port)
        self.page_url = f"{self.url}/_wa/"

    def wa(self, path, /, files=None, **fields):
        """Call a control: scan, say, ack, acks, logout, conflict, update, ban, offline, hang, crash, leak, reload, …"""
        sent = {"data": fields, "files": files} if files else {"json": fields}
        answer = requests.post(f"{self.url}/_sandbox/wa/{path}", timeout=30, **sent)
        assert answer.ok, answer.text
        return answer.json()

    def wa_get(self, path, **asked):
        """Ask: state, messages, actions, behaviour."""
        return requests.get(f"{self.url}/_sandbox/wa/{path}", params=asked, timeout=30).json()

    def scan(self, number, **which):
        """Scan the QR code that is shown, once one is; returns the device."""

        def scanned():
            answer = requests.post(f"{self.url}/_sandbox/wa/scan", json={"number": number, **which}, timeout=30)
            return answer.json() if answer.ok else None

        return eventually(scanned)

    def wa_say(self, number, files=None, **saying):
        """A customer says something to a linked number; returns the keys of the messages."""
        return self.wa("say", files, to=number, **saying)["ids"]

    def wa_messages(self, **asked):
        """The messages of both sides, each with its `arrivals`; `number`, `text`, `after` choose."""
        return self.wa_get("messages", **asked)["messages"]

    def wa_sent(self, **asked):
        """Those that pages sent."""
        return [each for each in self.wa_messages(**asked) if each["arrivals"]]

    def wa_device(self, number):
        """The device that is linked to a number, or None."""
        return next((each for each in self.wa_get("state")["devices"] if each["number"] == number), None)


class Page:
    """A page as its server sees it: it says what the page in a browser would."""

    def __init__(self, sandbox, device=None):
        self.sandbox, self.device, self.boot = sandbox, device or str(uuid.uuid4()), str(uuid.uuid4())
        self.state = self.ask("hello")

    def post(self, path, data=None, /, **fields):
        asked = {"device": self.device, "boot": self.boot}
        sent = {"json": fields} if data is None else {"data": data}
        return requests.post(f"{self.sandbox.page_url}api/{path}", params=asked, timeout=30, **sent)

    def ask(self, path, /, **fields):
        answer = self.post(path, **fields)
        assert answer.ok, answer.text
        return answer.json()

    def poll(self):
        """The updates since the last poll; waits up to two seconds for one."""
        self.state = self.ask("updates", seq=self.state["seq"], version=self.state["version"])
        return self.state["updates"]

    def next_update(self, kind):
        """The next update of this kind. Updates before it are dropped."""
        return eventually(lambda: next((each for each in self.poll() if each["kind"] == kind), None))

    def send(self, text, key=None, attempt=None, **more):
        message = {
            "key": key or f"true_{CHAT}_3EB0{uuid.uuid4().hex[:16].upper()}", "chat": CHAT, "type": "chat",
            "body": text, "caption": None, "t": 1_700_000_000, "media": None, "attempt": attempt or str(uuid.uuid4()),
        }  # fmt: skip
        return message["key"], self.post("send", **message | more)

    def keys(self):
        return [each["key"] for each in self.ask("history")["messages"]]


@contextmanager
def web_sandbox(folder):
    """It runs for so long."""
    sandbox = WebSandbox(folder)
    try:
        yield sandbox
    finally:
        sandbox.end()
